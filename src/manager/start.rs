//! The start of everything, and its end.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Condvar, Mutex, PoisonError, mpsc};
use std::time::Duration;

use serde_json::json;

use crate::call::{Call, Chain, Deadline};
use crate::error::{Error, Kind, Result};
use crate::manager::entry::{Bound, Entry};
use crate::manager::operate::{Turn, row_of};
use crate::manager::{Inner, Phase, stopped};
use crate::source::Found;
use crate::sys;

impl Inner {
    /// See [`Manager::start`](super::Manager::start).
    pub(super) fn start(self: &Arc<Self>, call: &Call) -> Result<()> {
        self.environment.check_open()?;
        let _starting = self.lifecycle.take(&call.deadline).ok_or_else(busy)?;
        {
            let mut registry = self.registry_mut();
            match registry.phase {
                Phase::New => registry.phase = Phase::Started,
                Phase::Started => return Err(Error::new(Kind::InvalidState, "The manager is started already.")),
                Phase::Stopping | Phase::Stopped => return Err(stopped()),
            }
        }
        if !self.config.enabled {
            self.event("disabled", "", json!({"cause": "The config does not say enabled: true."}));
            return Ok(());
        }
        let bound = Bound::new(call, &self.ending);
        let (found, failed) = self.discover();
        self.begin_all(found, &bound.call);
        let watched = self.watch();
        self.check_open()?;
        bound.call.check()?;
        failed.or(watched.err()).map_or(Ok(()), Err)
    }

    /// What all sources have, each with the number of its source; and the failure of the first that has one.
    fn discover(&self) -> (Vec<(usize, Found)>, Option<Error>) {
        let (mut found, mut failed) = (Vec::new(), Vec::new());
        for (number, source) in self.sources.iter().enumerate() {
            match source.discover() {
                Ok(some) => found.extend(some.into_iter().map(|one| (number, one))),
                Err(e) => {
                    self.tell_source_failed(number, &e);
                    failed.push((source.label(), e));
                }
            }
        }
        let count = failed.len();
        let first = failed.into_iter().next().map(|(label, e)| {
            let all = self.sources.len();
            let message = format!("{count} of {all} sources cannot be used; what the others have is started. {label}: {}", e.message());
            e.with_message(message)
        });
        (found, first)
    }

    /// Loads and starts them, side by side, and returns when each has come or failed.
    fn begin_all(self: &Arc<Self>, found: Vec<(usize, Found)>, call: &Call) {
        let mut jobs: Vec<(Turn, Found)> = Vec::new();
        for (source, found) in found {
            match self.admit(&found.identity, row_of(&found, source)) {
                Ok(Some(entry)) => {
                    self.event_discovered(&found.identity);
                    jobs.push((self.turn(&entry), found));
                }
                // One that was loaded by hand is its source's from here on.
                Ok(None) if self.entry(&found.identity).is_ok_and(|entry| self.adopt(&entry, source, &found)) => {}
                Ok(None) => self.pass_over(source, found),
                Err(_) => return,
            }
        }
        let (total, done) = (jobs.len(), Arc::new(AtomicUsize::new(0)));
        let (over, all_over) = mpsc::channel::<()>();
        for (turn, found) in jobs {
            let (inner, call, done, over) = (self.clone(), call.clone(), done.clone(), over.clone());
            self.workers.run(Box::new(move || {
                Chain::default().scope(|| inner.begin_found(&turn, found, &call));
                let done = done.fetch_add(1, Ordering::AcqRel) + 1;
                inner.event("progress", &turn.identity, json!({"progress": {"step": "start", "done": done, "total": total}}));
                drop((turn, over));
            }));
        }
        drop(over);
        // Ends when the last job has dropped its end, whatever became of it.
        let _all = all_over.recv();
    }

    fn begin_found(&self, turn: &Turn, found: Found, call: &Call) {
        let begun = match found.manifest {
            _ if turn.row().refused => Err(self.too_many()),
            Ok(manifest) => self.begin(turn, manifest, "", call),
            Err(e) => Err(e),
        };
        if let Err(e) = begun {
            e.message().clone_into(&mut turn.row_mut().last_error);
            self.tell_failure(turn, &e);
        }
    }

    /// Follows the changes of every source from here on.
    fn watch(self: &Arc<Self>) -> Result<()> {
        if !self.config.hot_reload {
            return Ok(());
        }
        let mut failed = Ok(());
        for (number, source) in self.sources.iter().enumerate() {
            let inner = Arc::downgrade(self);
            let watched = source.watch(Box::new(move |change| {
                if let Some(inner) = inner.upgrade() {
                    inner.changed(number, change);
                }
            }));
            if let Err(e) = watched {
                self.tell_source_failed(number, &e);
                failed = failed.and(Err(e));
            }
        }
        failed
    }

    /// See [`Manager::stop`](super::Manager::stop).
    pub(super) fn stop(&self, drain: Option<&Deadline>) -> Result<()> {
        let own = Deadline::after(self.config.drain_timeout);
        let drain = drain.unwrap_or(&own);
        if !self.end() {
            return Ok(());
        }
        // A start under way has heard that it is to end.
        let _stopping = self.lifecycle.take(&ended_after(drain)).ok_or_else(|| not_ended("A start of the manager"))?;
        self.sources.iter().for_each(|source| source.close());
        let entries: Vec<Arc<Entry>> = self.registry().entries.values().cloned().collect();
        let left = Mutex::new(Vec::new());
        let end = |entry: &Entry| {
            if !end_entry(entry, drain) {
                left.lock().unwrap_or_else(PoisonError::into_inner).push(entry.identity.clone());
            }
        };
        std::thread::scope(|scope| {
            for entry in &entries {
                let stop = move || {
                    sys::block_signals();
                    end(entry);
                };
                if std::thread::Builder::new().name("flowplug-stop".into()).spawn_scoped(scope, stop).is_err() {
                    end(entry);
                }
            }
        });
        let mut left = left.into_inner().unwrap_or_else(PoisonError::into_inner);
        if !left.is_empty() {
            left.sort_unstable();
            return Err(not_ended(&format!("What is done with {}", left.join(", "))));
        }
        if !self.workers.wait_idle(&Deadline::after(ENDED_WITHIN)) {
            return Err(not_ended("A change of a plugin"));
        }
        let mut registry = self.registry_mut();
        registry.phase = Phase::Stopped;
        registry.entries.clear();
        registry.passed_over.clear();
        Ok(())
    }

    /// Lets nothing begin any more; false if everything has ended already.
    fn end(&self) -> bool {
        let mut registry = self.registry_mut();
        let over = registry.phase == Phase::Stopped;
        if !over {
            registry.phase = Phase::Stopping;
        }
        drop(registry);
        self.ending.cancel();
        !over
    }

    /// Stops everything in the background, without a drain.
    pub(super) fn abandon(&self) {
        if !self.end() {
            return;
        }
        let sources = self.sources.clone();
        let entries: Vec<Arc<Entry>> = {
            let mut registry = self.registry_mut();
            registry.phase = Phase::Stopped;
            std::mem::take(&mut registry.entries).into_values().collect()
        };
        let stop = move || {
            sys::block_signals();
            sources.iter().for_each(|source| source.close());
            for entry in entries {
                // An operation under way has heard that everything ends.
                entry.wait_free(&Deadline::after(ENDED_WITHIN));
                entry.plugin().iter().for_each(|plugin| plugin.stop_in_background());
            }
        };
        // Without a thread the plugins end with the host.
        drop(std::thread::Builder::new().name("flowplug-stop".into()).spawn(stop));
    }
}

/// How long what was cancelled may take to end.
const ENDED_WITHIN: Duration = Duration::from_secs(10);

/// Whether the manager is being started or stopped.
#[derive(Default)]
pub(super) struct Lifecycle {
    taken: Mutex<bool>,
    freed: Condvar,
}

/// Ends with what it stands for.
struct Taken<'a>(&'a Lifecycle);

impl Lifecycle {
    /// Waits until it is neither; none if that takes longer.
    fn take(&self, deadline: &Deadline) -> Option<Taken<'_>> {
        let mut taken = self.taken.lock().unwrap_or_else(PoisonError::into_inner);
        while *taken {
            let left = deadline.remaining().unwrap_or(Duration::from_secs(3600));
            if left.is_zero() {
                return None;
            }
            taken = self.freed.wait_timeout(taken, left).unwrap_or_else(PoisonError::into_inner).0;
        }
        *taken = true;
        Some(Taken(self))
    }
}

impl Drop for Taken<'_> {
    fn drop(&mut self) {
        *self.0.taken.lock().unwrap_or_else(PoisonError::into_inner) = false;
        self.0.freed.notify_all();
    }
}

fn busy() -> Error {
    Error::new(Kind::Timeout, "The manager is being started or stopped by another call, which has not ended in time.")
}

fn not_ended(what: &str) -> Error {
    Error::new(Kind::Timeout, format!("{what} has not ended yet: a callback has not returned. Stop the manager again."))
}

/// The moment by which what was told to end has to have ended.
fn ended_after(drain: &Deadline) -> Deadline {
    drain.remaining().map_or(const { Deadline::never() }, |left| Deadline::after(left + ENDED_WITHIN))
}

/// False if what is under way, or a stop that another thread began, has not ended in time.
fn end_entry(entry: &Entry, drain: &Deadline) -> bool {
    let stop = |entry: &Entry| entry.plugin().map_or(Ok(()), |plugin| plugin.stop(drain));
    // What is under way first loses its plugin, then ends.
    let _stopped = stop(entry);
    let free = entry.wait_free(&Deadline::after(ENDED_WITHIN));
    stop(entry).is_ok() && free
}
