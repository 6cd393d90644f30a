//! What the plugins of one host share: a runtime, settings, and the end.

use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};

use tokio::runtime::{Handle, Runtime};
use tokio::sync::Semaphore;

use crate::call::Deadline;
use crate::error::{Error, Kind, Result};
use crate::plugin::Plugin;
use crate::plugin::supervise::TRIES;
use crate::runner::Settings;
use crate::{runtime, sys};

/// One tokio runtime and the plugins on it. Once closed, nothing is loaded any more.
#[derive(Debug)]
pub struct Environment {
    runtime: Background,
    completions: Background,
    host_calls: Background,
    settings: Settings,
    protected: Vec<PathBuf>,
    plugins: Mutex<Plugins>,
    /// The turns of plugins that are started again.
    tries: Arc<Semaphore>,
}

#[derive(Debug, Default)]
struct Plugins {
    closed: bool,
    loaded: Vec<Weak<Plugin>>,
}

/// A runtime that is left behind when it is dropped, because the last owner may be one of its own threads.
#[derive(Debug)]
struct Background(Option<Runtime>, Handle);

impl Background {
    fn new(runtime: Runtime) -> Self {
        let handle = runtime.handle().clone();
        Background(Some(runtime), handle)
    }
}

impl Drop for Background {
    fn drop(&mut self) {
        if let Some(runtime) = self.0.take() {
            runtime.shutdown_background();
        }
    }
}

impl Environment {
    /// Starts the runtime. `protected`: folders that no plugin may be given (the cache, the KV file, the sockets).
    pub fn new(worker_threads: usize, settings: Settings, protected: Vec<PathBuf>) -> Result<Arc<Self>> {
        let runtime = Background::new(runtime::shared(worker_threads)?);
        let completions = Background::new(runtime::completions()?);
        let host_calls = Background::new(runtime::host_calls()?);
        let (plugins, tries) = (Mutex::default(), Arc::new(Semaphore::new(TRIES)));
        Ok(Arc::new(Environment { runtime, completions, host_calls, settings, protected, plugins, tries }))
    }

    /// The shared runtime.
    pub fn handle(&self) -> &Handle {
        &self.runtime.1
    }

    /// Where completions run: not where a host callback may wait for one.
    pub fn completions(&self) -> &Handle {
        &self.completions.1
    }

    /// Where the host calls of gRPC plugins are answered: not where anything else has to wait for a plugin whose calls hang.
    pub fn host_calls(&self) -> &Handle {
        &self.host_calls.1
    }

    /// The turns of plugins that are started again.
    pub(super) fn tries(&self) -> Arc<Semaphore> {
        self.tries.clone()
    }

    /// What the host sets for all plugins.
    pub fn settings(&self) -> &Settings {
        &self.settings
    }

    /// Folders that no plugin may be given.
    pub fn protected(&self) -> &[PathBuf] {
        &self.protected
    }

    /// `invalid state` once it is closed.
    pub fn check_open(&self) -> Result<()> {
        if self.plugins().closed { Err(closed()) } else { Ok(()) }
    }

    /// Takes note of a plugin, so that closing ends it; `invalid state` once it is closed.
    pub(super) fn add(&self, plugin: &Arc<Plugin>) -> Result<()> {
        let mut plugins = self.plugins();
        if plugins.closed {
            return Err(closed());
        }
        plugins.loaded.retain(|p| p.strong_count() > 0);
        plugins.loaded.push(Arc::downgrade(plugin));
        Ok(())
    }

    /// The plugins that are alive.
    pub fn plugins_alive(&self) -> Vec<Arc<Plugin>> {
        self.plugins().loaded.iter().filter_map(Weak::upgrade).collect()
    }

    /// Loads nothing any more, and stops every plugin, all at once, each with the same drain.
    pub fn close(&self, drain: &Deadline) {
        self.plugins().closed = true;
        let plugins = self.plugins_alive();
        std::thread::scope(|scope| {
            for plugin in &plugins {
                let stop = move || {
                    sys::block_signals();
                    drop(plugin.stop(drain));
                };
                if std::thread::Builder::new().name("flowplug-stop".into()).spawn_scoped(scope, stop).is_err() {
                    drop(plugin.stop(drain));
                }
            }
        });
    }

    fn plugins(&self) -> MutexGuard<'_, Plugins> {
        self.plugins.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn closed() -> Error {
    Error::new(Kind::InvalidState, "The host is closed; make a new one.")
}
