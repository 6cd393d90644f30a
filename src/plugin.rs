//! One plugin: its state, what starts and ends it, and the calls in between.
//!
//! `loading` (after the load too) → `running` → `stopping` → `stopped`, and `error`. A change is visible to every thread
//! at once and is told to the host as an event.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, PoisonError, Weak};
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::call::{Call, Cancel, Chain, Deadline, Sink};
use crate::error::{Error, Kind, Result};
use crate::host::{Host, PluginContext};
use crate::manifest::Manifest;
use crate::policy::{Admission, Policy, Request};
use crate::runner::{Function, Runner};
use crate::sys;

mod environment;
mod info;
mod state;

pub use environment::Environment;
pub use state::State;
use state::{Over, Shared, Starting};

/// How long a second stop waits for calls that were cancelled.
const ENDED_WITHIN: Duration = Duration::from_secs(10);

/// A loaded plugin. Any number of threads may use it at once.
#[derive(Debug)]
pub struct Plugin {
    environment: Arc<Environment>,
    context: Arc<PluginContext>,
    manifest: Arc<Manifest>,
    requests: Vec<Request>,
    runner: Runner,
    shared: Arc<Shared>,
    starting: AtomicBool,
}

impl Plugin {
    /// Admits the manifest by the policy, then compiles the module or starts the process.
    pub fn load(
        environment: &Arc<Environment>,
        host: Arc<dyn Host>,
        policy: &Policy,
        identity: &str,
        manifest: Arc<Manifest>,
        call: &Call,
    ) -> Result<Arc<Self>> {
        check_identity(identity)?;
        environment.check_open()?;
        let named = |e: Error| e.with_plugin(identity);
        let admission = policy.check(identity, &manifest, environment.protected()).map_err(named)?;
        let audits: Vec<String> = admission.requests().iter().map(|request| info::audit(identity, request)).collect();
        let (grants, requests) = admission.into_grants().map_err(named).inspect_err(|_| {
            for audit in &audits {
                host.event(audit);
            }
        })?;
        let call = Call { deadline: call.deadline.clone().at_most(grants.load_timeout), ..call.clone() };
        let context = PluginContext::new(identity, grants, host);
        // Told as the plugin's own, as all that is told of it: a detached callback may hear of it when the plugin is there.
        for audit in &audits {
            context.event(audit);
        }
        let shared = Arc::new(Shared::new());
        let on_exit = exit_handler(&shared, &context);
        let runner =
            Runner::load(environment.settings(), environment.handle(), &manifest, context.clone(), on_exit, &call).map_err(named)?;
        let (environment_of, starting) = (environment.clone(), AtomicBool::new(false));
        let plugin = Arc::new(Plugin { environment: environment_of, context, manifest, requests, runner, shared, starting });
        if let Err(closed) = environment.add(&plugin) {
            plugin.stop_now();
            return Err(closed);
        }
        plugin.event("loaded", None);
        Ok(plugin)
    }

    /// What [`load`](Self::load) would grant to the manifest under this identity; nothing is loaded, and nothing audited.
    pub fn admit(environment: &Environment, policy: &Policy, identity: &str, manifest: &Manifest) -> Result<Admission> {
        check_identity(identity)?;
        environment.check_open()?;
        policy.check(identity, manifest, environment.protected()).map_err(|e| e.with_plugin(identity))
    }

    /// Checks the config (empty: absent) and hands it to the plugin. A config that is refused leaves it as it was; any other failure is `error`.
    pub fn start(&self, config: &[u8], call: &Call) -> Result<()> {
        self.start_once(config, call).map_err(|e| e.with_plugin(self.identity()))
    }

    fn start_once(&self, config: &[u8], call: &Call) -> Result<()> {
        if self.starting.swap(true, Ordering::AcqRel) {
            return Err(Error::new(Kind::InvalidState, "The plugin is being started by another call; wait for that one."));
        }
        let _started = Starting(&self.starting);
        self.start_exclusively(config, call)
    }

    fn start_exclusively(&self, config: &[u8], call: &Call) -> Result<()> {
        let state = self.state();
        if state != State::Loading {
            return Err(self.wrong_state("started", state));
        }
        let value = self.manifest.validate_config(config, &call.deadline)?;
        // As it was given: written anew, a number past what a double holds would be another.
        let given = std::str::from_utf8(config).ok().filter(|_| !value.is_null());
        let text = given.unwrap_or("null");
        self.context.set_config(value);
        if let Err(e) = self.runner.start(text, call) {
            self.shared.failed(&e);
            if e.kind() != Kind::InvalidConfig && self.shared.advance(&[State::Loading], State::Error).is_ok() {
                self.event("start_failed", Some(e.message()));
            }
            return Err(e);
        }
        self.shared.log().started = Some(Instant::now());
        self.shared.advance(&[State::Loading], State::Running).map_err(|found| self.wrong_state("started", found))?;
        self.event("started", None);
        Ok(())
    }

    /// Finds a function once, for [`call_function`](Self::call_function).
    pub fn function(&self, name: &str) -> Result<Function> {
        self.runner.resolve(&self.manifest.provides, name).map_err(|e| self.attribute(e, name))
    }

    /// Calls a function by name; the answer, one JSON value, goes into `sink`.
    pub fn call(&self, name: &str, params: &[u8], call: &Call, sink: &mut dyn Sink) -> Result<()> {
        self.check_running(name)?;
        self.call_function(self.function(name)?, name, params, call, sink)
    }

    /// Calls a function that was found by this name before.
    pub fn call_function(&self, function: Function, name: &str, params: &[u8], call: &Call, sink: &mut dyn Sink) -> Result<()> {
        self.check_running(name)?;
        if call.cancel.as_ref().is_some_and(Cancel::is_set) {
            return Err(self.attribute(Error::new(Kind::Cancelled, "The call was cancelled before it began."), name));
        }
        let result = self.runner.call(&self.manifest.provides, function, name, params, call, sink);
        result.map_err(|e| self.call_failed(e, name))
    }

    /// Calls a function without holding the caller's thread. `done` runs once if this returns ok, on a thread of the
    /// library that may block.
    pub fn call_async(
        self: &Arc<Self>,
        name: &str,
        params: Vec<u8>,
        call: Call,
        done: impl FnOnce(Result<Vec<u8>>) + Send + 'static,
    ) -> Result<()> {
        self.check_running(name)?;
        let function = self.function(name)?;
        let (plugin, name) = (self.clone(), name.to_owned());
        let handle = self.environment.handle();
        let Some((process, target)) = self.runner.process(function) else {
            // The wait for a thread is part of the call.
            call.deadline.moment();
            drop(handle.spawn_blocking(move || {
                let work = || {
                    let mut answer = Vec::new();
                    call.check()?;
                    plugin.call_function(function, &name, &params, &call, &mut answer).map(|()| answer)
                };
                done(catch_unwind(AssertUnwindSafe(work)).unwrap_or_else(|_| Err(panicked())));
            }));
            return Ok(());
        };
        function.check_operation(&self.manifest.provides, &params).map_err(|e| self.attribute(e, &name))?;
        let (runtime, completions) = (handle.clone(), self.environment.completions().clone());
        handle.spawn(async move {
            let called = runtime.spawn(process.call_async(target, &name, params, call)).await;
            let result = called.unwrap_or_else(|_| Err(panicked())).map_err(|e| plugin.call_failed(e, &name));
            drop(completions.spawn_blocking(move || done(result)));
        });
        Ok(())
    }

    /// How the plugin is; in every state, and never a failure.
    pub fn health(&self) -> Value {
        let state = self.state();
        let asked = (state == State::Running).then(|| self.runner.health());
        let log = self.shared.log();
        let uptime = log.started.filter(|_| state == State::Running).map_or(0, |at| at.elapsed().as_nanos() as u64);
        let ready = asked.as_ref().is_some_and(|h| h.ready);
        let last_error = asked.map(|h| h.last_error).filter(|e| !e.is_empty()).unwrap_or_else(|| log.last_error.clone());
        let mut health = json!({"ready": ready, "last_error": last_error, "uptime_ns": uptime, "state": state.name(), "restarts": 0});
        if let (Some(stats), Some(members)) = (self.runner.stats(), health.as_object_mut()) {
            members.insert("pool".into(), info::pool(&stats));
        }
        health
    }

    /// What the plugin is and what it was granted.
    pub fn info(&self) -> Value {
        info::info(&self.manifest, &self.context, &self.requests, self.runner.interface())
    }

    /// Where it stands.
    pub fn state(&self) -> State {
        self.shared.state()
    }

    /// Who it is.
    pub fn identity(&self) -> &str {
        self.context.identity()
    }

    /// Refuses new calls, waits for those in flight until `drain`, ends the rest with `cancelled`. Again: waits until it is over.
    pub fn stop(&self, drain: &Deadline) -> Result<()> {
        if Chain::current().holds(self.context.serial()) > 0 || self.context.is_telling() {
            let message = "A plugin cannot be stopped from inside a callback of its own call: it would wait for itself. Free it, or stop it from another thread.";
            return Err(Error::new(Kind::InvalidState, message).with_plugin(self.identity()));
        }
        if self.shared.advance(&[State::Loading, State::Running, State::Error], State::Stopping).is_err() {
            return self.wait_stopped(drain);
        }
        self.event("stopping", None);
        let over = Over(&self.shared);
        self.runner.stop(drain);
        drop(over);
        self.event("stopped", None);
        Ok(())
    }

    /// Waits for the stop that another thread began; past `drain` its drain is over too.
    fn wait_stopped(&self, drain: &Deadline) -> Result<()> {
        let mut log = self.shared.log();
        let mut bound = drain.clone();
        while self.state() != State::Stopped {
            let left = bound.remaining().unwrap_or(Duration::from_secs(3600));
            if left.is_zero() && self.context.ending.is_set() && bound.limit() == Some(ENDED_WITHIN) {
                return Err(Error::new(
                    Kind::Timeout,
                    "The plugin has not ended yet: a callback of its calls has not returned. Stop it again.",
                )
                .with_plugin(self.identity()));
            }
            if left.is_zero() {
                self.context.ending.cancel();
                bound = Deadline::after(ENDED_WITHIN);
            }
            log = self.shared.stopped.wait_timeout(log, left).unwrap_or_else(PoisonError::into_inner).0;
        }
        Ok(())
    }

    /// Stops without a drain, wherever it is called.
    fn stop_now(&self) {
        Chain::default().scope(|| drop(self.stop(&Deadline::after(Duration::ZERO))));
    }

    /// Stops without a drain, on a thread of the library: for owners that let go and must not wait.
    pub fn stop_in_background(self: &Arc<Self>) {
        let plugin = self.clone();
        if self.state() != State::Stopped {
            let stop = move || {
                sys::block_signals();
                plugin.stop_now();
            };
            let own = std::thread::Builder::new().name("flowplug-stop".into());
            if own.spawn(stop).is_err() {
                let plugin = self.clone();
                drop(self.environment.handle().spawn_blocking(move || plugin.stop_now()));
            }
        }
    }

    fn check_running(&self, function: &str) -> Result<()> {
        let state = self.state();
        if state == State::Running { Ok(()) } else { Err(self.attribute(self.wrong_state("called", state), function)) }
    }

    #[cold]
    fn wrong_state(&self, what: &str, state: State) -> Error {
        let hint = match state {
            State::Loading => "start it first",
            State::Running => "it runs already",
            State::Stopping | State::Stopped => "load it anew",
            State::Error => "see its last error; stop it and load it anew",
        };
        let (cause, crashed) = {
            let log = self.shared.log();
            (log.last_error.clone(), log.crashed)
        };
        let cause = if state == State::Error && !cause.is_empty() { format!(" ({cause})") } else { String::new() };
        // A process that ended is not the caller's mistake.
        let kind = if state == State::Error && crashed { Kind::Unavailable } else { Kind::InvalidState };
        Error::new(kind, format!("The plugin cannot be {what} in the state {:?}: {hint}{cause}.", state.name()))
    }

    fn attribute(&self, e: Error, function: &str) -> Error {
        e.with_plugin(self.identity()).with_function(function)
    }

    #[cold]
    fn call_failed(&self, e: Error, function: &str) -> Error {
        if matches!(e.kind(), Kind::Trap | Kind::OutOfMemory | Kind::Timeout | Kind::InvalidResponse | Kind::Unavailable) {
            self.shared.failed(&e);
        }
        self.attribute(e, function)
    }

    fn event(&self, kind: &str, cause: Option<&str>) {
        self.context.event(&info::event(kind, self.identity(), self.state(), cause));
    }
}

#[cold]
fn panicked() -> Error {
    Error::new(Kind::Internal, "A fault of flowplug itself ended the call; please report it.")
}

fn exit_handler(shared: &Arc<Shared>, context: &Arc<PluginContext>) -> Box<dyn FnOnce(Error) + Send> {
    let (shared, context): (Weak<Shared>, Arc<PluginContext>) = (Arc::downgrade(shared), context.clone());
    Box::new(move |error| {
        let Some(shared) = shared.upgrade() else { return };
        shared.failed(&error);
        shared.log().crashed = true;
        if shared.advance(&[State::Loading, State::Running], State::Error).is_ok() {
            context.event(&info::event("crashed", context.identity(), State::Error, Some(error.message())));
        }
    })
}

/// An identity is a relative path of plain components: it names folders and prefixes keys.
fn check_identity(identity: &str) -> Result<()> {
    let plain = |c: &str| !matches!(c, "" | "." | "..") && c.bytes().all(|b| b.is_ascii_alphanumeric() || b"._-".contains(&b));
    if identity.len() <= 255 && identity.split('/').all(plain) {
        return Ok(());
    }
    Err(Error::new(
        Kind::InvalidArgument,
        format!(
            "{identity:?} is not an identity: use letters, digits, '.', '_', '-' and '/' between components, at most 255 bytes, no component empty, '.' or '..'."
        ),
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn identities_are_plain_relative_paths() {
        for good in ["bookmarks", "org/repo", "a.b_c-d/E9"] {
            check_identity(good).unwrap();
        }
        for bad in ["", "/a", "a/", "a//b", ".", "a/../b", "a b", "ä", "a:b", &"x".repeat(256)] {
            assert_eq!(check_identity(bad).unwrap_err().kind(), Kind::InvalidArgument, "{bad:?}");
        }
    }
}
