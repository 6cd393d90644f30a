//! What is done to one identity: load, reload, unload, and what a source's change makes of it.

use std::ops::Deref;
use std::path::Path;
use std::sync::Arc;

use serde_json::json;

use crate::call::{Call, Chain, Deadline};
use crate::error::{Error, Kind, Result};
use crate::manager::entry::{Entry, Handed, Next, Row, Task};
use crate::manager::{Inner, env};
use crate::manifest::Manifest;
use crate::plugin::{Plugin, State};
use crate::source::{Change, Found};

/// The turn of an entry. Its end begins what waits for it.
pub(super) struct Turn {
    inner: Arc<Inner>,
    entry: Arc<Entry>,
}

impl Deref for Turn {
    type Target = Entry;

    fn deref(&self) -> &Entry {
        &self.entry
    }
}

impl Drop for Turn {
    fn drop(&mut self) {
        match self.entry.release() {
            Next::Nothing => {}
            Next::Task(task) => self.inner.follow(&self.entry, task),
            Next::Elsewhere(tasks) => {
                for task in tasks {
                    if let Task::Change(source, change) = task {
                        self.inner.changed(source, change);
                    }
                }
                self.inner.fill_places();
            }
        }
    }
}

impl Inner {
    /// The turn of an entry that was just taken or made.
    pub(super) fn turn(self: &Arc<Self>, entry: &Arc<Entry>) -> Turn {
        Turn { inner: self.clone(), entry: entry.clone() }
    }

    /// Waits for the turn of an entry.
    pub(super) fn take(self: &Arc<Self>, entry: &Arc<Entry>, call: &Call) -> Result<Turn> {
        let inside = self.host.is_inside() || !call.chain.is_empty();
        entry.take(call, inside)?;
        Ok(self.turn(entry))
    }

    /// See [`Manager::load`](super::Manager::load).
    pub(super) fn load(self: &Arc<Self>, folder: &Path, config: &str, call: &Call) -> Result<String> {
        let unusable = |why: &str| Error::new(Kind::InvalidArgument, format!("The folder {} {why}.", folder.display()));
        let folder = std::path::absolute(folder).map_err(|e| unusable(&format!("cannot be found: {e}")))?;
        let name = folder.file_name().ok_or_else(|| unusable("has no name, which is to be the plugin's identity"))?;
        let identity = name.to_str().ok_or_else(|| unusable("has a name that is not UTF-8"))?.to_owned();
        let manifest = Arc::new(Manifest::read(&folder, false).map_err(|e| e.with_plugin(&identity))?);
        let row = Row { manifest: Some(manifest.clone()), folder, ..Row::default() };
        let Some(entry) = self.admit(&identity, row)? else {
            let message = "A plugin of this identity is there already; reload it, or unload it first.";
            return Err(Error::new(Kind::InvalidState, message).with_plugin(&identity));
        };
        let turn = self.turn(&entry);
        let bound = super::Bound::new(call, &self.ending);
        let begun =
            if turn.row().refused { Err(self.too_many().with_plugin(&identity)) } else { self.begin(&turn, manifest, config, &bound.call) };
        // Who loads by hand hears of the failure; there is nobody else to show it to.
        begun.inspect_err(|_| self.forget(&turn))?;
        Ok(identity)
    }

    /// Loads and starts what is not there yet. An empty config: that of the manager's config.
    pub(super) fn begin(&self, turn: &Turn, manifest: Arc<Manifest>, config: &str, call: &Call) -> Result<()> {
        let begun = call.check().and_then(|()| self.config_of(turn, config)).and_then(|config| {
            let plugin = Plugin::load(&self.environment, self.host.clone(), &self.policy, &turn.identity, manifest, call)?;
            turn.row_mut().comes(&plugin);
            // Who stops everything may have looked for plugins already.
            let started = self.check_open().and_then(|()| plugin.start(config.as_bytes(), call));
            started.map(|()| config).inspect_err(|_| {
                // A failed one holds no process and no memory.
                turn.row_mut().plugin = None;
                plugin.stop_in_background();
            })
        });
        match begun {
            Ok(config) => {
                turn.row_mut().config = config;
                Ok(())
            }
            Err(e) => {
                e.message().clone_into(&mut turn.row_mut().last_error);
                Err(e.with_plugin(&turn.identity))
            }
        }
    }

    /// The config to start with, as JSON text: the one given, else the one before, else that of the manager's config.
    fn config_of(&self, turn: &Turn, given: &str) -> Result<String> {
        if !given.trim().is_empty() {
            return Ok(given.to_owned());
        }
        let before = turn.row().config.clone();
        if !before.is_empty() {
            return Ok(before);
        }
        let own = self.config.configs.get(&turn.identity).filter(|config| !config.is_null());
        own.map_or(Ok(String::new()), |config| env::expand(config).map(|value| value.to_string()))
    }

    /// See [`Manager::reload`](super::Manager::reload).
    pub(super) fn reload(&self, turn: &Turn, manifest: Option<Arc<Manifest>>, config: &str, call: &Call) -> Result<()> {
        let folder = turn.row().folder.clone();
        let manifest = manifest.map_or_else(|| Manifest::read(&folder, false).map(Arc::new), Ok);
        self.renew(turn, manifest, config, call)
    }

    /// The same with a manifest that may be no good.
    fn renew(&self, turn: &Turn, manifest: Result<Arc<Manifest>>, config: &str, call: &Call) -> Result<()> {
        let plugin = turn.row().plugin.clone().filter(|plugin| !matches!(plugin.state(), State::Stopping | State::Stopped));
        let renewed = match (manifest, &plugin) {
            (Err(e), None) => Err(e),
            (Err(e), Some(_)) => {
                self.tell_reload_failure(turn, &e);
                Err(e)
            }
            (Ok(_), None) if !self.find_place(turn) => Err(self.too_many()),
            (Ok(manifest), None) => self.begin(turn, manifest.clone(), config, call).map(|()| manifest),
            (Ok(manifest), Some(plugin)) => {
                let drain = Deadline::after(self.config.drain_timeout);
                let reloaded = plugin.reload_or_refuse(manifest.clone(), config.as_bytes(), call, &drain);
                // Of one that is refused the plugin tells nothing, and who follows a source would not hear of it.
                reloaded.inspect_err(|e| self.tell_reload_failure(turn, e)).unwrap_or_else(Err).map(|()| manifest)
            }
        };
        let mut row = turn.row_mut();
        match renewed {
            Ok(manifest) => {
                row.manifest = Some(manifest);
                row.last_error.clear();
                if !config.trim().is_empty() {
                    config.clone_into(&mut row.config);
                }
                Ok(())
            }
            Err(e) => {
                e.message().clone_into(&mut row.last_error);
                drop(row);
                if plugin.is_none() {
                    self.tell_failure(turn, &e);
                }
                Err(e.with_plugin(&turn.identity))
            }
        }
    }

    fn tell_reload_failure(&self, turn: &Turn, e: &Error) {
        self.event("reload_failed", &turn.identity, json!({"state": turn.standing().0.name(), "cause": e.message()}));
    }

    /// The event that a plugin is not there, and why.
    pub(super) fn tell_failure(&self, turn: &Turn, e: &Error) {
        self.event("load_failed", &turn.identity, json!({"state": "error", "cause": e.message()}));
    }

    /// See [`Manager::unload`](super::Manager::unload).
    pub(super) fn unload(&self, turn: &Turn, drain: Option<&Deadline>) -> Result<()> {
        let plugin = turn.row().plugin.clone();
        if let Some(plugin) = plugin {
            let own = Deadline::after(self.config.drain_timeout);
            plugin.stop(drain.unwrap_or(&own))?;
        }
        self.gone(turn);
        Ok(())
    }

    fn gone(&self, turn: &Turn) {
        self.forget(turn);
        self.event("unloaded", &turn.identity, json!({"state": "stopped"}));
    }

    fn forget(&self, turn: &Turn) {
        turn.leave();
        self.registry_mut().entries.remove(&turn.identity);
    }

    /// A source has changed. Does not wait.
    pub(super) fn changed(self: &Arc<Self>, source: usize, change: Change) {
        let identity = match &change {
            Change::Updated(found) => found.identity.clone(),
            Change::Removed(identity) => identity.clone(),
            Change::Lost(_) => {
                let inner = self.clone();
                return self.workers.run(Box::new(move || inner.tell_lost(source, &change)));
            }
        };
        let mut task = Task::Change(source, change);
        // An entry can go while it is asked, and another come while there is none.
        loop {
            if let Ok(entry) = self.entry(&identity) {
                task = match entry.take_for(task) {
                    Handed::Taken(task) => return self.follow(&entry, task),
                    Handed::Waits => return,
                    Handed::Gone(task) => task,
                };
                continue;
            }
            let Task::Change(_, Change::Updated(found)) = &task else { return self.no_more(&identity, source) };
            match self.admit(&identity, Row { new: true, ..row_of(found, source) }) {
                Ok(Some(entry)) => return self.follow(&entry, task),
                Ok(None) => {}
                Err(_) => return,
            }
        }
    }

    /// Goes after a task, on a thread of its own; the turn is its.
    fn follow(self: &Arc<Self>, entry: &Arc<Entry>, task: Task) {
        let turn = self.turn(entry);
        self.workers.run(Box::new(move || {
            let inner = turn.inner.clone();
            if inner.check_open().is_ok() {
                let call = Call { cancel: Some(inner.ending.clone()), ..Call::new(Deadline::never()) };
                Chain::default().scope(|| match task {
                    Task::Change(source, change) => inner.apply(&turn, source, change, &call),
                    Task::Place if turn.row().plugin.is_none() => drop(inner.reload(&turn, None, "", &call)),
                    Task::Place => {}
                });
            }
        }));
    }

    fn apply(self: &Arc<Self>, turn: &Turn, source: usize, change: Change, call: &Call) {
        let owner = turn.row().source;
        if std::mem::take(&mut turn.row_mut().new) {
            self.event_discovered(&turn.identity);
        }
        // What fails is told and stays in the list; the source says when there is something else to try.
        let _told = match change {
            Change::Updated(found) if owner == Some(source) || self.adopt(turn, source, &found) => {
                turn.row_mut().folder.clone_from(&found.folder);
                self.renew(turn, found.manifest, "", call)
            }
            Change::Updated(found) => {
                self.pass_over(source, found);
                Ok(())
            }
            Change::Removed(identity) if owner == Some(source) => {
                let unloaded = self.unload(turn, None);
                // Nobody unloads it again: what is stuck in a callback keeps the identity from nobody.
                if unloaded.is_err() {
                    self.gone(turn);
                }
                self.succeed(&identity);
                unloaded
            }
            Change::Removed(identity) => {
                self.no_more(&identity, source);
                Ok(())
            }
            Change::Lost(_) => Ok(()),
        };
    }

    /// A source has a plugin whose identity is another's: it is told of, and remembered for when that one goes.
    pub(super) fn pass_over(self: &Arc<Self>, source: usize, found: Found) {
        self.tell_duplicate(source, &found);
        let mut registry = self.registry_mut();
        if registry.entries.contains_key(&found.identity) {
            registry.passed_over.insert((found.identity.clone(), source), found);
            return;
        }
        drop(registry);
        self.changed(source, Change::Updated(found));
    }

    /// A source has no such plugin any more.
    fn no_more(&self, identity: &str, source: usize) {
        self.registry_mut().passed_over.remove(&(identity.to_owned(), source));
    }

    /// The folder that had the identity is gone: the next source's takes it up.
    fn succeed(self: &Arc<Self>, identity: &str) {
        let mut registry = self.registry_mut();
        let next = registry.passed_over.keys().find(|(other, _)| other == identity).cloned();
        let next = next.and_then(|key| registry.passed_over.remove_entry(&key));
        drop(registry);
        if let Some(((_, source), found)) = next {
            self.changed(source, Change::Updated(found));
        }
    }

    /// The places that are free go to those that had none, in the order of sources and identities.
    fn fill_places(self: &Arc<Self>) {
        for entry in self.placed() {
            if let Handed::Taken(task) = entry.take_for(Task::Place) {
                self.follow(&entry, task);
            }
        }
    }

    /// A plugin that was loaded by hand belongs to the source that has its folder.
    pub(super) fn adopt(&self, entry: &Entry, source: usize, found: &Found) -> bool {
        let mut row = entry.row_mut();
        let same = row.source.is_none()
            && row.folder.canonicalize().ok().is_some_and(|own| found.folder.canonicalize().is_ok_and(|other| own == other));
        if same {
            row.source = Some(source);
        }
        same
    }

    pub(super) fn event_discovered(&self, identity: &str) {
        self.event("discovered", identity, json!({}));
    }

    fn tell_duplicate(&self, source: usize, found: &Found) {
        let label = self.sources.get(source).map(|source| source.label()).unwrap_or_default();
        let cause = format!(
            "{} of {label} is passed over: a plugin of this identity is there already. Rename one of the two folders, or remove the other.",
            found.folder.display()
        );
        self.event("load_failed", &found.identity, json!({"cause": cause}));
    }

    fn tell_lost(&self, source: usize, change: &Change) {
        if let Change::Lost(e) = change {
            self.tell_source_failed(source, e);
        }
    }

    pub(super) fn tell_source_failed(&self, source: usize, e: &Error) {
        let label = self.sources.get(source).map(|source| source.label()).unwrap_or_default();
        self.event("discover_failed", "", json!({"cause": format!("{label}: {}", e.message())}));
    }
}

pub(super) fn row_of(found: &Found, source: usize) -> Row {
    let manifest = found.manifest.as_ref().ok().cloned();
    Row { manifest, folder: found.folder.clone(), source: Some(source), ..Row::default() }
}
