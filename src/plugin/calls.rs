//! The way of a call to the version of the plugin that is current when it comes.

use std::future::poll_fn;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::pin;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::task::Poll;
use std::time::Instant;

use tokio::sync::{OwnedSemaphorePermit, Semaphore, oneshot};

use crate::call::{Call, Cancel, Sink};
use crate::error::{Error, Kind, Result};
use crate::plugin::generation::Generation;
use crate::plugin::metrics::SAMPLED;
use crate::plugin::{Plugin, State};
use crate::runner::Function;
use crate::sys::swap::Read;

/// Somebody who is about to call a plugin. While it lives, the version that it found stays, and so does what was retired
/// with the plugin's readers.
#[derive(Debug)]
pub struct Entered<'a> {
    plugin: &'a Plugin,
    version: Read<'a, Generation>,
}

/// A function that was found once, by its name: found anew by the first call after a reload.
#[derive(Debug)]
pub struct Resolved {
    name: Box<str>,
    /// The version it was found in, and its number there.
    found: AtomicU64,
}

impl Resolved {
    fn pack(version: &Generation, function: Function) -> u64 {
        u64::from(version.serial()) << 32 | u64::from(function.number())
    }

    /// Where it is in this version.
    #[inline]
    fn within(&self, version: &Generation) -> Result<Function> {
        let found = self.found.load(Ordering::Relaxed);
        if found >> 32 == u64::from(version.serial()) {
            return Ok(Function::from_number(found as u32));
        }
        self.anew(version)
    }

    #[cold]
    fn anew(&self, version: &Generation) -> Result<Function> {
        let function = version.resolve(&self.name)?;
        self.found.store(Self::pack(version, function), Ordering::Relaxed);
        Ok(function)
    }
}

impl Plugin {
    /// Enters, to make a call.
    #[inline]
    pub fn enter(&self) -> Entered<'_> {
        Entered { plugin: self, version: self.current.read() }
    }

    /// Finds a function once, for [`Entered::call_resolved`].
    pub fn resolve(&self, name: &str) -> Result<Resolved> {
        let version = self.current.load();
        let function = version.resolve(name).map_err(|e| self.attribute(e, name))?;
        Ok(Resolved { name: name.into(), found: AtomicU64::new(Resolved::pack(&version, function)) })
    }

    /// Calls a function by name; the answer, one JSON value, goes into `sink`.
    pub fn call(&self, name: &str, params: &[u8], call: &Call, sink: &mut dyn Sink) -> Result<()> {
        self.enter().call(name, params, call, sink)
    }

    /// Calls a function without holding the caller's thread. `done` runs once if this returns ok, on a thread of the
    /// library that may block, unless it is `quick`: then also on one of its workers.
    pub fn call_async(
        self: &Arc<Self>,
        name: &str,
        params: Vec<u8>,
        call: Call,
        quick: bool,
        done: impl FnOnce(Result<Vec<u8>>) + Send + 'static,
    ) -> Result<()> {
        self.check_running(name)?;
        let version = self.current.load();
        let function = version.resolve(name).map_err(|e| self.call_failed(e, name))?;
        let (environment, readers) = (&self.origin.environment, self.current.readers());
        // The wait for a thread is part of the call.
        call.deadline.begin();
        let begun = version.runner.call_async(&version.manifest.provides, function, name, &params, &call);
        let (plugin, name, runtime) = (self.clone(), name.to_owned(), environment.handle().clone());
        let Some(begun) = begun else {
            let call = call.within(version.context.grants().timeout);
            self.call_queued(version.threads.clone(), name, params, call, readers.look(), done);
            return Ok(());
        };
        let (begun, start) = (begun.map_err(|e| self.call_failed(e, &name))?, Instant::now());
        // In one place for good: a future that is handed on by value is copied, and keeps room for each copy.
        let begun = Box::pin(begun);
        let (completions, visit) = (environment.completions().clone(), readers.enter());
        runtime.spawn(async move {
            let result = caught(begun).await;
            // It is made again by a thread that may wait.
            let again = result.as_ref().is_err_and(Error::never_ran);
            let finish = move || {
                drop(visit);
                let result = match result {
                    Err(_) if again => plugin.call_blocking(&name, &params, &call),
                    other => {
                        plugin.meter.took(start.elapsed());
                        other.map_err(|e| plugin.call_failed(e, &name))
                    }
                };
                done(result);
            };
            if quick && !again {
                finish();
            } else {
                drop(completions.spawn_blocking(finish));
            }
        });
        Ok(())
    }

    /// Makes the call on a thread that may block, one of the plugin's share. Who waits for one, while all are taken, waits no
    /// longer than the call may take: such a call is answered without having begun.
    fn call_queued(
        self: &Arc<Self>,
        threads: Arc<Semaphore>,
        name: String,
        params: Vec<u8>,
        call: Call,
        visit: impl Send + 'static,
        done: impl FnOnce(Result<Vec<u8>>) + Send + 'static,
    ) {
        let environment = &self.origin.environment;
        let (begins, begun) = oneshot::channel::<()>();
        // Whoever takes it answers.
        let queued = Arc::new(Mutex::new(Some((visit, begins, params, done))));
        let take = |queued: &Mutex<Option<_>>| queued.lock().unwrap_or_else(PoisonError::into_inner).take();
        let (plugin, own, waiting) = (self.clone(), queued.clone(), (name.clone(), call.clone()));
        let work = move |turn: OwnedSemaphorePermit| {
            let _turn = turn;
            let Some((visit, begins, params, done)) = take(&own) else { return };
            drop((visit, begins));
            done(plugin.call_blocking(&name, &params, &call));
        };
        let (plugin, completions, blocking) = (self.clone(), environment.completions().clone(), environment.handle().clone());
        let later = match threads.clone().try_acquire_owned() {
            Ok(turn) => {
                drop(blocking.spawn_blocking(move || work(turn)));
                None
            }
            Err(_) => Some(work),
        };
        drop(environment.handle().spawn(async move {
            let (name, call) = waiting;
            let begins = async {
                if let Some(work) = later
                    && let Ok(turn) = threads.acquire_owned().await
                {
                    drop(blocking.spawn_blocking(move || work(turn)));
                }
                drop(begun.await);
            };
            tokio::select! {
                () = begins => return,
                () = call.over() => (),
            }
            let Some((visit, .., done)) = take(&queued) else { return };
            drop(completions.spawn_blocking(move || {
                drop(visit);
                let e = call.check().err().unwrap_or_else(panicked);
                plugin.meter.failed(e.kind());
                done(Err(plugin.attribute(e, &name)));
            }));
        }));
    }

    fn call_blocking(&self, name: &str, params: &[u8], call: &Call) -> Result<Vec<u8>> {
        let work = || {
            let mut answer = Vec::new();
            call.check()?;
            self.call(name, params, call, &mut answer).map(|()| answer)
        };
        catch_unwind(AssertUnwindSafe(work)).unwrap_or_else(|_| Err(panicked()))
    }

    #[inline]
    fn check_running(&self, function: &str) -> Result<()> {
        if self.state() == State::Running { Ok(()) } else { self.not_running(function) }
    }

    #[cold]
    fn not_running(&self, function: &str) -> Result<()> {
        match self.wrong_state("called") {
            (State::Running, _) => Ok(()),
            (_, e) => {
                self.meter.failed(e.kind());
                Err(self.attribute(e, function))
            }
        }
    }

    fn attribute(&self, e: Error, function: &str) -> Error {
        e.with_plugin(self.identity()).with_function(function)
    }

    #[cold]
    fn call_failed(&self, e: Error, function: &str) -> Error {
        self.meter.failed(e.kind());
        if matches!(e.kind(), Kind::Trap | Kind::OutOfMemory | Kind::Timeout | Kind::InvalidResponse | Kind::Unavailable) {
            self.shared.failed(&e);
        }
        self.attribute(e, function)
    }
}

impl Entered<'_> {
    /// As [`Plugin::call`].
    pub fn call(&self, name: &str, params: &[u8], call: &Call, sink: &mut dyn Sink) -> Result<()> {
        self.run(name, params, call, sink, |version| version.resolve(name))
    }

    /// Calls a function that was found before.
    #[inline(always)]
    pub fn call_resolved(&self, function: &Resolved, params: &[u8], call: &Call, sink: &mut dyn Sink) -> Result<()> {
        self.run(&function.name, params, call, sink, |version| function.within(version))
    }

    #[inline(always)]
    fn run(
        &self,
        name: &str,
        params: &[u8],
        call: &Call,
        sink: &mut dyn Sink,
        find: impl Fn(&Generation) -> Result<Function>,
    ) -> Result<()> {
        self.plugin.check_running(name)?;
        let begin = |version: &Generation| {
            let function = find(version)?;
            if call.cancel.as_ref().is_some_and(Cancel::is_set) {
                return Err(Error::new(Kind::Cancelled, "The call was cancelled before it began."));
            }
            Ok(function)
        };
        let timed = self.version.nth().is_multiple_of(SAMPLED) || self.version.runner.pid().is_some();
        let start = timed.then(Instant::now);
        // Written twice, so that the first becomes part of this function.
        let result = match begin(&self.version).and_then(|function| self.version.call(function, name, params, call, sink)) {
            Ok(()) => Ok(()),
            Err(e) => self.failed(e, name, call, &mut |version| version.call(begin(version)?, name, params, call, sink)),
        };
        if let Some(start) = start {
            self.plugin.meter.took(start.elapsed());
        }
        result
    }

    /// A call that an old version refused because it had begun to end is made again on the one that took its place.
    #[cold]
    fn failed(&self, e: Error, name: &str, call: &Call, again: &mut dyn FnMut(&Generation) -> Result<()>) -> Result<()> {
        let (mut error, mut tried) = (e, self.version.serial());
        while error.never_ran() && error.kind() != Kind::Timeout && !call.cancel.as_ref().is_some_and(Cancel::is_set) {
            let next = self.plugin.current.load();
            if next.serial() == tried {
                break;
            }
            self.plugin.check_running(name)?;
            tried = next.serial();
            match again(&next) {
                Ok(()) => return Ok(()),
                Err(e) => error = e,
            }
        }
        Err(self.plugin.call_failed(error, name))
    }
}

/// A call whose panic is its own end alone.
async fn caught(call: impl Future<Output = Result<Vec<u8>>>) -> Result<Vec<u8>> {
    let mut call = pin!(call);
    poll_fn(|context| {
        let polled = catch_unwind(AssertUnwindSafe(|| call.as_mut().poll(context)));
        polled.unwrap_or_else(|_| Poll::Ready(Err(panicked())))
    })
    .await
}

#[cold]
fn panicked() -> Error {
    Error::new(Kind::Internal, "A fault of flowplug itself ended the call; please report it.")
}
