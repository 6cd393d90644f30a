//! A module as it is when `_initialize` has run once: its instances begin there, and none runs it again.
//!
//! It runs in a store of its own in which the host answers nothing: a snapshot lives on disk and in every instance, so it
//! must hold no answer, no open file and no secret. Under `strict` it must not hold chance and time either. Under
//! `shared_seed` it may: runtimes that seed the hashes of their maps there (Go's) have the same seeds in every instance
//! then, as long as the snapshot is kept.

use std::sync::Arc;
use std::time::{SystemTime, UNIX_EPOCH};

use rewrite::{PAGE, Parts, Reached};
use wasmtime::{Caller, Extern, ExternType, Func, ImportType, Instance, Linker, Module, Store};

use super::bounds::Permit;
use super::engine::Machine;
use super::module::{Interface, Start};
use super::state::{Current, Guest, Running, State, tick};
use super::{blueprint, memory, trap, wasi};
use crate::call::{Call, Cancel, Deadline};
use crate::error::{Error, Kind, Result, clean};
use crate::host::PluginContext;
use crate::host::rate::Rate;
use crate::manifest::Snapshot;

mod rewrite;

/// What of WASI tells nothing but what is the same each time, and changes nothing: no folder is open here.
const ALLOWED: [&str; 12] = [
    "args_get",
    "args_sizes_get",
    "clock_res_get",
    "environ_get",
    "environ_sizes_get",
    "fd_fdstat_get",
    "fd_fdstat_set_flags",
    "fd_prestat_dir_name",
    "fd_prestat_get",
    "fd_write",
    "proc_exit",
    "sched_yield",
];

const RANDOM: &str = "random_get";
const CLOCK: &str = "clock_time_get";

/// The monotonic clock of a snapshot: before every moment of the instances that begin there.
const BEFORE: u64 = 1;

/// Where and for whom `_initialize` runs.
pub(super) struct Sandbox {
    pub(super) machine: &'static Machine,
    pub(super) context: Arc<PluginContext>,
    pub(super) snapshot: Snapshot,
    pub(super) deadline: Deadline,
    pub(super) cancel: Option<Cancel>,
}

/// Refuses what a snapshot would break: a guest looks for its folders while it is initialised.
pub(super) fn check(snapshot: Snapshot, context: &PluginContext) -> Result<()> {
    if snapshot == Snapshot::Off || context.grants().mounts.is_empty() {
        return Ok(());
    }
    let text = "A plugin that has folders cannot begin from a snapshot, which knows none of them. Remove wasm.pool.snapshot or wasm.permissions.filesystem.";
    Err(Error::new(Kind::InvalidManifest, text))
}

impl Sandbox {
    /// Runs the module's start and `_initialize`, as long as a call may take, and returns the module that begins after them.
    pub(super) fn take(mut self, bytes: &[u8], permit: Permit) -> Result<Vec<u8>> {
        let parts = Parts::of(bytes).map_err(|why| unfit(&why))?;
        let module = Module::from_binary(&self.machine.engine, &parts.opened()).map_err(|e| unfit(&format!("{e:#}")))?;
        // Others may compile while a guest runs, which may do so for as long as it likes.
        drop(permit);
        self.deadline = self.deadline.at_most(self.context.grants().timeout);
        let interface = Interface::of(&module)?;
        if interface.start == Some(Start::Start) {
            return Err(unfit("it has _start and no _initialize; build it as a reactor"));
        }
        let initialize = interface.start.is_some();
        // Ticks until the guest has ended, also where nobody waits for it any more.
        let _ticking = self.machine.tick()?;
        let _surroundings = wasi::enter()?;
        let mut store = self.store(interface)?;
        let started = self.instance(&mut store, &module);
        let ended = started.and_then(|instance| {
            if initialize {
                instance.get_typed_func::<(), ()>(&mut store, "_initialize")?.call(&mut store, ())?;
            }
            Ok(instance)
        });
        if let Some(output) = &store.data().output {
            output.flush();
        }
        let instance = ended.map_err(|e| trap::failure(e, store.data()).with_function("_initialize"))?;
        let reached = reached(&parts, &mut store, &instance)?;
        self.check_size(&reached)?;
        Ok(parts.rewritten(&reached))
    }

    /// What memory holds becomes part of the module, and is bounded with it.
    fn check_size(&self, reached: &Reached) -> Result<()> {
        let pages = reached.memories.iter().flat_map(|memory| memory.chunks(PAGE));
        let held = (pages.filter(|page| page.iter().any(|byte| *byte != 0)).count() * PAGE) as u64;
        let max = self.context.grants().module_size;
        if held <= max {
            return Ok(());
        }
        let text = format!(
            "After _initialize the plugin's memory holds {held} bytes, which a snapshot makes part of the module; the policy grants {max} (module_size). Raise it, or set wasm.pool.snapshot to off."
        );
        Err(Error::new(Kind::PermissionDenied, text))
    }

    fn store(&self, interface: Interface) -> Result<Store<State>> {
        let call = Call { cancel: self.cancel.clone(), ..Call::new(self.deadline.clone()) };
        let current = Current::new(&call, Running::Own("_initialize"), self.deadline.clone());
        let rate = Arc::new(Rate::new(self.context.grants().rates.output));
        let state = blueprint::state(&self.context, &Arc::new(interface), Some((&rate, &Vec::new())), current)?;
        let mut store = Store::new(&self.machine.engine, state);
        store.limiter(|state| &mut state.limits);
        store.epoch_deadline_callback(tick);
        blueprint::begin(&mut store)?;
        Ok(store)
    }

    fn instance(&self, store: &mut Store<State>, module: &Module) -> wasmtime::Result<Instance> {
        let mut linker = Linker::new(&self.machine.engine);
        wasi::define(&mut linker)?;
        let imports: Vec<Extern> = module.imports().filter_map(|import| self.import(store, &linker, &import)).collect();
        let instance = Instance::new(&mut *store, module, &imports)?;
        let memory = instance.get_memory(&mut *store, "memory");
        store.data_mut().guest = Guest { memory, alloc: None };
        Ok(instance)
    }

    /// What stands behind an import: the real thing, or the end of it.
    fn import(&self, store: &mut Store<State>, wasi: &Linker<State>, import: &ImportType<'_>) -> Option<Extern> {
        let ExternType::Func(ty) = import.ty() else { return None };
        let (module, name) = (import.module(), import.name());
        let seeds = self.snapshot == Snapshot::SharedSeed;
        if module == wasi::MODULE && seeds && name == CLOCK {
            return Some(Func::wrap(store, clock).into());
        }
        if module == wasi::MODULE && (ALLOWED.contains(&name) || seeds && name == RANDOM) {
            return wasi.get_by_import(store, import);
        }
        let (module, name) = (module.to_owned(), name.to_owned());
        Some(Func::new(store, ty, move |_, _, _| Err(refused(&module, &name).into())).into())
    }
}

/// `clock_time_get`: the time as it is, and a monotonic clock that has just begun.
fn clock(mut caller: Caller<'_, State>, id: i32, _precision: i64, out: i32) -> i32 {
    const SUCCESS: i32 = 0;
    const FAULT: i32 = 21;
    const INVALID: i32 = 28;
    let now = match id {
        0 => SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| u64::try_from(since.as_nanos()).unwrap_or(u64::MAX)),
        1 => BEFORE,
        _ => return INVALID,
    };
    let Some(memory) = caller.get_export("memory").and_then(Extern::into_memory) else { return FAULT };
    memory::write(memory.data_mut(&mut caller), out, &now.to_le_bytes()).map_or(FAULT, |()| SUCCESS)
}

fn reached(parts: &Parts<'_>, store: &mut Store<State>, instance: &Instance) -> Result<Reached> {
    let lost = || Error::new(Kind::Internal, "An export of the module that was made for its snapshot is missing.");
    let (memories, globals) = parts.names();
    let memories = memories.iter().map(|name| {
        let memory = instance.get_memory(&mut *store, name).ok_or_else(lost)?;
        Ok(memory.data(&*store).to_vec())
    });
    let memories = memories.collect::<Result<_>>()?;
    let globals = globals.iter().map(|name| Ok(instance.get_global(&mut *store, name).ok_or_else(lost)?.get(&mut *store)));
    Ok(Reached { memories, globals: globals.collect::<Result<_>>()? })
}

fn unfit(why: &str) -> Error {
    let why = clean(why, 500);
    Error::new(Kind::LoadFailed, format!("The module cannot begin from a snapshot: {why}. Remove wasm.pool.snapshot from the manifest."))
}

fn refused(module: &str, name: &str) -> Error {
    let shown = clean(&format!("{module}.{name}"), 200);
    let text = if module == wasi::MODULE && [RANDOM, CLOCK].contains(&name) {
        format!(
            "The module calls {shown} while it is initialised, and a strict snapshot holds neither chance nor time. Set wasm.pool.snapshot to shared_seed if every instance may have the same seeds, or to off."
        )
    } else {
        format!(
            "The module calls {shown} while it is initialised, which a snapshot cannot keep: each instance would have to ask for itself. Move the call into init or later, or set wasm.pool.snapshot to off."
        )
    };
    Error::new(Kind::LoadFailed, text)
}
