//! From a file to a compiled module: taken from where it is kept already, else checked, and compiled within bounds.

use std::collections::HashMap;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::sync::{Arc, LazyLock, Mutex, MutexGuard, PoisonError, Weak, mpsc};
use std::task::Waker;
use std::time::SystemTime;

use serde_json::json;
use sha2::{Digest, Sha256};
use wasmtime::Module;

use super::artifact::{Artifact, hex};
use super::bounds::{self, Permit};
use super::cache::Cache;
use super::engine::Machine;
use super::snapshot::{self, Sandbox};
use crate::call::{self, Cancel, Deadline};
use crate::error::{Error, Kind, Result, clean};
use crate::host::{PluginContext, event};
use crate::manifest::Snapshot;
use crate::sys;

/// A compiled module. Whoever loads it again while one of these lives gets the same one.
pub(super) struct Compiled {
    pub(super) module: Module,
    /// It begins where `_initialize` ended.
    pub(super) initialised: bool,
    /// Functions that it has, those imported aside.
    functions: u64,
}

/// On whose behalf a module is compiled, and for how long.
pub(super) struct Order<'a> {
    pub(super) machine: &'static Machine,
    pub(super) context: &'a Arc<PluginContext>,
    pub(super) snapshot: Snapshot,
    pub(super) cache: Option<Cache>,
    pub(super) deadline: &'a Deadline,
    pub(super) cancel: Option<&'a Cancel>,
}

/// The artifact's module: the one of this process, or the one on disk, or a new one.
pub(super) fn compile(order: &Order<'_>, artifact: &Artifact) -> Result<Arc<Compiled>> {
    snapshot::check(order.snapshot, order.context)?;
    let (name, max) = (order.name(artifact), order.context.grants().module_functions);
    let checked = |found: Arc<Compiled>| bounds::check_count(found.functions, max).map(|()| found);
    if let Some(found) = order.kept(&name) {
        return checked(found);
    }
    let mut permit = order.permit()?;
    // What another load has compiled in the meantime.
    if let Some(found) = order.kept(&name) {
        return checked(found);
    }
    let mut bytes = artifact.bytes()?;
    let functions = bounds::check(&bytes, max)?;
    let initialised = order.snapshot != Snapshot::Off;
    if initialised {
        bytes = order.initialised(bytes, permit)?;
        permit = order.permit()?;
    }
    order.progress("compile", 0, functions);
    let (machine, cache) = (order.machine, order.cache.clone());
    let compiled = order.apart(move || {
        let _permit = permit;
        let module = Module::from_binary(&machine.engine, &bytes).map_err(|e| invalid(&e))?;
        if let Some(cache) = cache {
            cache.put(&name, &module, functions);
        }
        Ok(keep(name, Compiled { module, initialised, functions }))
    })??;
    order.progress("compile", functions, functions);
    Ok(compiled)
}

/// Makes a module known; of two under one name, the first.
fn keep(name: String, compiled: Compiled) -> Arc<Compiled> {
    let mut living = living();
    if let Some(first) = living.get(&name).and_then(Weak::upgrade) {
        return first;
    }
    living.retain(|_, module| module.strong_count() > 0);
    let compiled = Arc::new(compiled);
    living.insert(name, Arc::downgrade(&compiled));
    compiled
}

/// The modules of this process that some plugin still has. Engines differ by their settings, and so do the names.
fn living() -> MutexGuard<'static, HashMap<String, Weak<Compiled>>> {
    static LIVING: LazyLock<Mutex<HashMap<String, Weak<Compiled>>>> = LazyLock::new(Mutex::default);
    LIVING.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Order<'_> {
    /// The name under which a module is kept: all that what it was compiled to depends on.
    fn name(&self, artifact: &Artifact) -> String {
        let mut hasher = DefaultHasher::new();
        self.machine.engine.precompile_compatibility_hash().hash(&mut hasher);
        let name = format!("{}-{:016x}", artifact.digest, hasher.finish());
        if self.snapshot == Snapshot::Off {
            return name;
        }
        // What an initialised module can know: its plugin's identity, by its arguments, and how far it could grow and go; and
        // how large it may be, which is looked at when it is made.
        let grants = self.context.grants();
        let bounds = format!("{} {:?} {}", grants.memory, grants.fuel, grants.module_size);
        let known = [env!("CARGO_PKG_VERSION"), self.snapshot.name(), self.context.identity(), &bounds].join("\n");
        format!("{name}-{}", hex(&Sha256::digest(known)))
    }

    fn kept(&self, name: &str) -> Option<Arc<Compiled>> {
        if let Some(found) = living().get(name).and_then(Weak::upgrade) {
            return Some(found);
        }
        let (module, functions) = self.cache.as_ref()?.get(&self.machine.engine, name)?;
        Some(keep(name.to_owned(), Compiled { module, initialised: self.snapshot != Snapshot::Off, functions }))
    }

    /// The module that begins where `_initialize` ended.
    fn initialised(&self, bytes: Vec<u8>, permit: Permit) -> Result<Vec<u8>> {
        // Of the guest's time too, which goes on where nobody waits for it any more.
        self.deadline.begin();
        let (machine, context, snapshot) = (self.machine, Arc::clone(self.context), self.snapshot);
        let sandbox = Sandbox { machine, context, snapshot, deadline: self.deadline.clone(), cancel: self.cancel.cloned() };
        self.progress("snapshot", 0, 1);
        let bytes = self.apart(move || sandbox.take(&bytes, permit))??;
        self.progress("snapshot", 1, 1);
        Ok(bytes)
    }

    fn cancels(&self) -> [Option<&Cancel>; 2] {
        [self.cancel, Some(&self.context.ending)]
    }

    fn permit(&self) -> Result<Permit> {
        Permit::take(self.deadline, &self.cancels())
    }

    /// Does the work on a thread that is left behind, permit and all, if the deadline passes or the call is cancelled first.
    fn apart<R: Send + 'static>(&self, work: impl FnOnce() -> R + Send + 'static) -> Result<R> {
        let (sender, receiver) = mpsc::channel();
        let waker: Arc<Mutex<Option<Waker>>> = Arc::default();
        let wake = WakeAtEnd(Arc::clone(&waker));
        let on_thread = move || {
            // Declared first, so dropped last, also if the compiler panics: whoever is woken finds the answer or its absence.
            let _wake = wake;
            let sender = sender;
            sys::block_signals();
            drop(sender.send(work()));
        };
        std::thread::Builder::new().name("flowplug-compile".to_owned()).stack_size(sys::STACK_SIZE).spawn(on_thread).map_err(|e| {
            Error::new(Kind::Io, format!("The system refused a thread to compile the module: {e}. Check the limit on processes."))
        })?;
        let arm = |w| *waker.lock().unwrap_or_else(PoisonError::into_inner) = Some(w);
        let answer = || match receiver.try_recv() {
            Ok(answer) => Some(Some(answer)),
            Err(mpsc::TryRecvError::Disconnected) => Some(None),
            Err(mpsc::TryRecvError::Empty) => None,
        };
        let answer = call::wait(self.deadline, &self.cancels(), arm, answer)?;
        answer.ok_or_else(|| Error::new(Kind::LoadFailed, "The compiler failed on this module."))
    }

    /// Tells the host how far it is. The engine compiles many functions at once and does not say how many it has done, so
    /// there is a beginning and, where it succeeds, an end.
    fn progress(&self, step: &str, done: u64, total: u64) {
        let progress = json!({"progress": {"step": step, "done": done, "total": total}});
        self.context.event(&event::text("progress", self.context.identity(), SystemTime::now(), &progress));
    }
}

/// Wakes who waits for the compiler when its thread ends.
struct WakeAtEnd(Arc<Mutex<Option<Waker>>>);

impl Drop for WakeAtEnd {
    fn drop(&mut self) {
        if let Some(waker) = self.0.lock().unwrap_or_else(PoisonError::into_inner).take() {
            waker.wake();
        }
    }
}

fn invalid(error: &wasmtime::Error) -> Error {
    let text = clean(&format!("{error:#}"), 1000);
    Error::new(
        Kind::LoadFailed,
        format!("The module is not valid WebAssembly for this host (core modules of wasm32, without threads, memory64 and GC): {text}."),
    )
}
