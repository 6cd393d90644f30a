//! The manager: who is there by which identity, and what happens to it when.
//!
//! It finds plugins in its sources, loads and starts them in parallel, follows their changes, and ends them. For one
//! identity one thing happens at a time; different ones go side by side. No lock is held while a plugin or a callback runs.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::{Arc, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard};
use std::time::SystemTime;

use serde_json::{Value, json};

use crate::call::{Call, Cancel, Deadline, Sink};
use crate::error::{Error, Kind, Result};
use crate::host::{self, Host, Level, LogRecord};
use crate::manifest::Manifest;
use crate::plugin::metrics::{self, Measures};
use crate::plugin::{Environment, Plugin};
use crate::policy::Policy;
use crate::source::{self, Found, Source};

mod config;
mod entry;
mod env;
mod operate;
mod report;
mod start;
mod workers;

pub use config::Config;
use entry::{Bound, Entry, Row, not_found};
use start::Lifecycle;
use workers::Workers;

/// A manager of plugins. Any number of threads may use it at once. Dropped, it stops its plugins in the background, without
/// a drain.
pub struct Manager {
    inner: Arc<Inner>,
}

struct Inner {
    environment: Arc<Environment>,
    host: Arc<dyn Host>,
    policy: Arc<Policy>,
    config: Config,
    sources: Vec<Arc<dyn Source>>,
    registry: RwLock<Registry>,
    workers: Arc<Workers>,
    /// Set when it stops: whatever is under way ends.
    ending: Cancel,
    /// Taken while it starts, and while it stops.
    lifecycle: Lifecycle,
}

#[derive(Default)]
struct Registry {
    phase: Phase,
    entries: BTreeMap<String, Arc<Entry>>,
    /// What sources, by their numbers, have of identities that are others': each as it was told last.
    passed_over: BTreeMap<(String, usize), Found>,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Phase {
    #[default]
    New,
    Started,
    Stopping,
    Stopped,
}

impl std::fmt::Debug for Manager {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        // Not the config: there may be secrets in it.
        f.debug_struct("Manager").field("sources", &self.inner.sources).finish_non_exhaustive()
    }
}

impl Manager {
    /// A manager by flowbot's `plugins:` section. What it does not know in it is told as a warning of the library.
    pub fn new(environment: &Arc<Environment>, host: Arc<dyn Host>, policy: &Arc<Policy>, config: &str) -> Result<Self> {
        let (config, warnings) = Config::parse(config)?;
        environment.check_open()?;
        for warning in &warnings {
            let message = format!("The manager's config: {warning}.");
            host.log(&LogRecord { plugin: "", tag: 0, level: Level::Warn, message: &message, fields: &[] });
        }
        let sources = config.sources.iter().map(source::open).collect();
        Ok(Self::with_sources(environment, host, policy, config, sources))
    }

    /// The same with sources of the caller's own instead of those that the config names.
    pub fn with_sources(
        environment: &Arc<Environment>,
        host: Arc<dyn Host>,
        policy: &Arc<Policy>,
        config: Config,
        sources: Vec<Arc<dyn Source>>,
    ) -> Self {
        let inner = Inner {
            environment: environment.clone(),
            host,
            policy: policy.clone(),
            config,
            sources,
            registry: RwLock::default(),
            workers: Workers::new(),
            ending: Cancel::new(),
            lifecycle: Lifecycle::default(),
        };
        Manager { inner: Arc::new(inner) }
    }

    /// Discovers, loads and starts everything, in parallel, then follows the changes. A plugin that fails stays visible in
    /// the list and stops nobody else.
    ///
    /// Errors: those of a source that fails (its `unsupported`, its `io`), though everything else is started and the manager
    /// runs; `timeout` and `cancelled`, likewise; `invalid state`.
    pub fn start(&self, call: &Call) -> Result<()> {
        self.check_outside("started")?;
        self.inner.start(call)
    }

    /// Loads and starts the plugin in a folder, whose name is its identity, and returns that. An empty config: that of the
    /// manager's config.
    pub fn load(&self, folder: &Path, config: &str, call: &Call) -> Result<String> {
        self.inner.check_open()?;
        self.inner.load(folder, config, call)
    }

    /// Reloads a plugin. Without a manifest: as on disk; an empty config: as before. If it fails, what ran goes on.
    pub fn reload(&self, identity: &str, manifest: Option<Arc<Manifest>>, config: &str, call: &Call) -> Result<()> {
        self.inner.check_open()?;
        let entry = self.inner.entry(identity)?;
        let bound = Bound::new(call, &self.inner.ending);
        let turn = self.inner.take(&entry, &bound.call)?;
        self.inner.reload(&turn, manifest, config, &bound.call)
    }

    /// Drains a plugin, stops it and forgets it. No drain: that of the config.
    pub fn unload(&self, identity: &str, drain: Option<&Deadline>, call: &Call) -> Result<()> {
        self.inner.check_open()?;
        let entry = self.inner.entry(identity)?;
        let bound = Bound::new(call, &self.inner.ending);
        let turn = self.inner.take(&entry, &bound.call)?;
        self.inner.unload(&turn, drain)
    }

    /// All plugins, in the order of their identities.
    pub fn list(&self) -> Result<Value> {
        self.inner.check_open()?;
        let entries: Vec<Arc<Entry>> = self.inner.registry().entries.values().cloned().collect();
        Ok(entries.iter().map(|entry| self.describe(entry)).collect())
    }

    /// A plugin.
    pub fn get(&self, identity: &str) -> Result<Arc<Plugin>> {
        self.inner.check_open()?;
        self.inner.entry(identity)?.plugin()
    }

    /// Calls a function of a plugin; the answer, one JSON value, goes into `sink`.
    pub fn call(&self, identity: &str, function: &str, params: &[u8], call: &Call, sink: &mut dyn Sink) -> Result<()> {
        let plugin = self.get(identity).map_err(|e| e.with_function(function))?;
        plugin.call(function, params, call, sink)
    }

    /// How a plugin is.
    pub fn health(&self, identity: &str) -> Result<Value> {
        self.inner.check_open()?;
        let entry = self.inner.entry(identity)?;
        if let Ok(plugin) = entry.plugin() {
            return Ok(plugin.health());
        }
        let (state, last_error, _) = entry.standing();
        Ok(json!({"ready": false, "last_error": last_error, "uptime_ns": 0, "state": state.name(), "restarts": 0}))
    }

    /// Prometheus text of its plugins.
    pub fn metrics(&self) -> Result<String> {
        self.inner.check_open()?;
        let entries: Vec<Arc<Entry>> = self.inner.registry().entries.values().cloned().collect();
        // One that failed is there too, and is not up.
        let measures = |entry: &Entry| entry.plugin().map_or_else(|_| Measures::default(), |plugin| plugin.measures());
        Ok(metrics::text(entries.iter().map(|entry| (entry.identity.clone(), measures(entry)))))
    }

    /// Ends whatever is under way, follows no change any more, drains and stops all plugins, all at once. No drain: that of
    /// the config. Again does nothing.
    pub fn stop(&self, drain: Option<&Deadline>) -> Result<()> {
        self.check_outside("stopped")?;
        self.inner.stop(drain)
    }

    /// Stops its plugins in the background, without a drain, and is over.
    pub fn abandon(&self) {
        self.inner.abandon();
    }

    fn check_outside(&self, what: &str) -> Result<()> {
        if !self.inner.host.is_inside() {
            return Ok(());
        }
        let message =
            format!("A manager cannot be {what} from inside a callback of its host: it would wait for itself. Do it from another thread.");
        Err(Error::new(Kind::InvalidState, message))
    }
}

impl Drop for Manager {
    fn drop(&mut self) {
        self.abandon();
    }
}

impl Inner {
    fn registry(&self) -> RwLockReadGuard<'_, Registry> {
        self.registry.read().unwrap_or_else(PoisonError::into_inner)
    }

    fn registry_mut(&self) -> RwLockWriteGuard<'_, Registry> {
        self.registry.write().unwrap_or_else(PoisonError::into_inner)
    }

    fn entry(&self, identity: &str) -> Result<Arc<Entry>> {
        self.registry().entries.get(identity).cloned().ok_or_else(|| not_found(identity))
    }

    fn check_open(&self) -> Result<()> {
        self.environment.check_open()?;
        match self.registry().phase {
            Phase::New | Phase::Started => Ok(()),
            Phase::Stopping | Phase::Stopped => Err(stopped()),
        }
    }

    fn event(&self, kind: &str, plugin: &str, more: Value) {
        self.host.event(&host::event::text(kind, plugin, SystemTime::now(), &more));
    }

    /// Makes an entry, with its turn, unless there is one already; one that finds no place is marked so.
    fn admit(&self, identity: &str, row: Row) -> Result<Option<Arc<Entry>>> {
        let mut registry = self.registry_mut();
        if matches!(registry.phase, Phase::Stopping | Phase::Stopped) {
            return Err(stopped());
        }
        if registry.entries.contains_key(identity) {
            return Ok(None);
        }
        if let Some(source) = row.source {
            registry.passed_over.remove(&(identity.to_owned(), source));
        }
        let refused = !registry.has_place(self.config.max_plugins);
        let entry = Entry::new(identity, Row { refused, ..row });
        registry.entries.insert(identity.to_owned(), entry.clone());
        Ok(Some(entry))
    }

    /// Gives an entry a place that had none; false if there still is none.
    fn find_place(&self, entry: &Entry) -> bool {
        let registry = self.registry_mut();
        if !entry.row().refused {
            return true;
        }
        let place = registry.has_place(self.config.max_plugins);
        entry.row_mut().refused = !place;
        place
    }

    /// Gives the places that are free to entries that had none, and says to which.
    fn placed(&self) -> Vec<Arc<Entry>> {
        let (registry, Some(max)) = (self.registry_mut(), self.config.max_plugins) else { return Vec::new() };
        let mut refused: Vec<Arc<Entry>> = registry.entries.values().filter(|entry| entry.row().refused).cloned().collect();
        refused.sort_by_key(|entry| entry.row().source);
        refused.truncate((max + refused.len()).saturating_sub(registry.entries.len()));
        refused.iter().for_each(|entry| entry.row_mut().refused = false);
        refused
    }

    fn too_many(&self) -> Error {
        let max = self.config.max_plugins.unwrap_or_default();
        let message = format!("There are as many plugins as there may be: max_plugins is {max}. Raise it, or unload one.");
        Error::new(Kind::InvalidState, message)
    }
}

impl Registry {
    fn has_place(&self, max: Option<usize>) -> bool {
        max.is_none_or(|max| self.entries.values().filter(|entry| !entry.row().refused).count() < max)
    }
}

fn stopped() -> Error {
    Error::new(Kind::InvalidState, "The manager is stopped; make a new one.")
}
