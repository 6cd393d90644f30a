//! One version of a plugin: what a call finds, whole. A reload makes another beside it and puts it in its place.

use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::time::Duration;

use serde_json::Value;
use tokio::sync::Semaphore;

use crate::call::{Call, Deadline, Sink};
use crate::error::Result;
use crate::host::tally::Tally;
use crate::host::{Host, PluginContext};
use crate::manifest::{Manifest, Restart, RuntimeKind};
use crate::plugin::state::Shared;
use crate::plugin::{Environment, info};
use crate::policy::{Policy, Request};
use crate::runner::{Function, Runner, Threads};

/// The most threads that the queued calls of one plugin have at once, unless it may have more instances.
const THREADS_OF_ONE: usize = 32;

/// What all versions of a plugin have in common.
pub(super) struct Origin {
    pub(super) environment: Arc<Environment>,
    pub(super) host: Arc<dyn Host>,
    pub(super) policy: Arc<Policy>,
    pub(super) identity: String,
    /// Made with the first version.
    pub(super) tally: OnceLock<Arc<Tally>>,
}

impl std::fmt::Debug for Origin {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Origin").field("identity", &self.identity).finish_non_exhaustive()
    }
}

/// A version: its manifest, what it was granted, its config, and what runs of it.
#[derive(Debug)]
pub(super) struct Generation {
    /// The context's, at hand for each call.
    serial: u32,
    pub(super) manifest: Arc<Manifest>,
    pub(super) context: Arc<PluginContext>,
    pub(super) requests: Vec<Request>,
    pub(super) runner: Runner,
    /// Its share of the host's threads for calls that are queued: what waits for an instance leaves the rest to other plugins.
    pub(super) threads: Arc<Semaphore>,
    /// The config as it was given; empty: none was.
    config: Mutex<Arc<str>>,
}

impl Generation {
    /// Admits the manifest by the policy, then compiles the module or starts the process. `call` bounds the load.
    pub(super) fn load(origin: &Origin, shared: &Arc<Shared>, manifest: Arc<Manifest>, call: &Call) -> Result<Self> {
        let Origin { environment, host, policy, identity, tally } = origin;
        let admission = policy.check(identity, &manifest, environment.protected())?;
        let audits: Vec<String> = admission.requests().iter().map(|request| info::audit(identity, request)).collect();
        let (grants, requests) = admission.into_grants().inspect_err(|_| {
            for audit in &audits {
                host.event(audit);
            }
        })?;
        let call = Call { deadline: call.deadline.clone().at_most(grants.load_timeout), ..call.clone() };
        let tally = tally.get_or_init(|| Tally::new(&grants)).clone();
        let context = PluginContext::counted(tally, identity, grants, host.clone());
        shared.enlist(&context)?;
        // Told as the plugin's own, as all that is told of it: a detached callback may hear of it when the plugin is there.
        for audit in &audits {
            context.event(audit);
        }
        let on_exit = shared.on_exit(&context, restart(&manifest));
        let threads = Threads { shared: environment.handle().clone(), host_calls: environment.host_calls().clone() };
        let most = THREADS_OF_ONE.max(usize::try_from(context.grants().max_instances).unwrap_or(THREADS_OF_ONE));
        let runner = Runner::load(environment.settings(), &threads, &manifest, context.clone(), on_exit, &call)?;
        let threads = Arc::new(Semaphore::new(most));
        Ok(Generation { serial: context.serial(), manifest, context, requests, runner, threads, config: Mutex::new("".into()) })
    }

    /// A number that no other version of any plugin has.
    #[inline]
    pub(super) fn serial(&self) -> u32 {
        self.serial
    }

    /// Whether it runs in a process of its own.
    pub(super) fn is_process(&self) -> bool {
        self.manifest.runtime == RuntimeKind::Grpc
    }

    /// What happens when its process ends; none: it has no process.
    pub(super) fn restart(&self) -> Option<Restart> {
        restart(&self.manifest)
    }

    /// Checks the config (empty: absent) and takes it; the text that the plugin is to be started with.
    pub(super) fn configure(&self, config: &[u8], deadline: &Deadline) -> Result<Arc<str>> {
        Ok(self.take_config(config, self.manifest.validate_config(config, deadline)?))
    }

    /// The same for a config that was checked: what came of it is `value`.
    pub(super) fn take_config(&self, config: &[u8], value: Value) -> Arc<str> {
        // As it was given: written anew, a number past what a double holds would be another.
        let given: Arc<str> = std::str::from_utf8(config).unwrap_or_default().into();
        let text = if value.is_null() { "null".into() } else { given.clone() };
        self.context.set_config(value);
        *self.config.lock().unwrap_or_else(PoisonError::into_inner) = given;
        text
    }

    /// The config as it was given.
    pub(super) fn config(&self) -> Arc<str> {
        self.config.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    pub(super) fn resolve(&self, name: &str) -> Result<Function> {
        self.runner.resolve(&self.manifest.provides, name)
    }

    #[inline(always)]
    pub(super) fn call(&self, function: Function, name: &str, params: &[u8], call: &Call, sink: &mut dyn Sink) -> Result<()> {
        self.runner.call(&self.manifest.provides, function, name, params, call, sink)
    }

    /// Ends it without a drain: calls in flight end with `cancelled`.
    pub(super) fn end(&self) {
        // No caller of it is waited for: it never was the current one.
        let _ended = self.runner.stop(&Deadline::after(Duration::ZERO));
    }
}

fn restart(manifest: &Manifest) -> Option<Restart> {
    manifest.grpc.as_ref().filter(|_| manifest.runtime == RuntimeKind::Grpc).map(|grpc| grpc.restart)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::error::{Error, Kind};
    use crate::host::{Caller, HttpRequest, HttpResponse, LogRecord};
    use crate::plugin::State;
    use crate::plugin::state::What;
    use std::path::Path;

    /// Of what has no code nobody is asked.
    struct Unasked;

    impl Host for Unasked {
        fn get_config(&self, _: &Caller<'_>, _: &str) -> Result<Option<Vec<u8>>> {
            unreachable!()
        }
        fn kv_get(&self, _: &Caller<'_>, _: &str) -> Result<Option<Vec<u8>>> {
            unreachable!()
        }
        fn kv_set(&self, _: &Caller<'_>, _: &str, _: &[u8]) -> Result<()> {
            unreachable!()
        }
        fn kv_delete(&self, _: &Caller<'_>, _: &str) -> Result<()> {
            unreachable!()
        }
        fn http_request(&self, _: &Caller<'_>, _: &HttpRequest<'_>) -> Result<HttpResponse> {
            unreachable!()
        }
        fn emit_event(&self, _: &Caller<'_>, _: &str) -> Result<()> {
            unreachable!()
        }
        fn log(&self, _: &LogRecord<'_>) {}
        fn event(&self, _: &str) {}
    }

    fn version() -> Arc<PluginContext> {
        let manifest = Manifest::parse(b"name: p\nruntime: wasm\nwasm: { module: ./p.wasm }", Path::new("/"), true).unwrap();
        let admission = Policy::parse(&"trusted".into()).unwrap().check("p", &manifest, &[]).unwrap();
        PluginContext::new("p", admission.into_grants().unwrap().0, Arc::new(Unasked))
    }

    #[test]
    fn the_end_of_a_version_that_drains_hides_that_of_one_that_comes_from_nobody() {
        let (shared, [drains, runs, comes]) = (Arc::new(Shared::new()), [version(), version(), version()]);
        let ends = |context, why| shared.on_exit(context, None)(Error::new(Kind::Unavailable, why));
        shared.enlist(&drains).unwrap();
        shared.advance(&[State::Loading], State::Running).unwrap();
        let changing = shared.change(What::Reload).unwrap();
        shared.enlist(&runs).unwrap();
        let _draining = changing.exchange(runs.serial(), || ()).unwrap();
        drop(changing);
        let changing = shared.change(What::Reload).unwrap();
        shared.enlist(&comes).unwrap();
        ends(&comes, "the one that comes");
        ends(&drains, "the one that drains");
        let lost = changing.exchange(comes.serial(), || ()).map(drop).unwrap_err();
        assert_eq!((lost.message(), shared.state()), ("the one that comes", State::Running));
    }
}
