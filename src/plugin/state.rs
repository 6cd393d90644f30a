//! Where a plugin stands, and what of it outlives a call into it.

use std::sync::atomic::{AtomicU8, AtomicU64, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError, Weak};
use std::time::{Duration, Instant, SystemTime};

use crate::call::Deadline;
use crate::error::{Error, Kind, Result};
use crate::host::PluginContext;
use crate::manifest::Restart;
use crate::plugin::info::{self, Moment};
use crate::plugin::supervise::Supervision;

/// Where a plugin stands in its life; the numbers are those of `FLOWPLUG_STATE_*`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum State {
    /// Loaded, or being loaded or started.
    Loading,
    /// It can be called.
    Running,
    /// It is being drained.
    Stopping,
    /// It failed; the last error says why.
    Error,
    /// Over.
    Stopped,
}

impl State {
    /// `loading`, `running`, `stopping`, `error` or `stopped`.
    pub fn name(self) -> &'static str {
        match self {
            State::Loading => "loading",
            State::Running => "running",
            State::Stopping => "stopping",
            State::Error => "error",
            State::Stopped => "stopped",
        }
    }

    fn from_number(n: u8) -> Self {
        [State::Loading, State::Running, State::Stopping, State::Error].into_iter().find(|s| *s as u8 == n).unwrap_or(State::Stopped)
    }
}

/// What outlives a call into the plugin: its process can end at any time.
#[derive(Debug)]
pub(super) struct Shared {
    /// Which load of a plugin in this process it is.
    load: u64,
    state: AtomicU8,
    log: Mutex<Log>,
    changed: Condvar,
}

/// What is known of a plugin beside its state.
#[derive(Debug, Default)]
pub(super) struct Log {
    pub(super) started: Option<(Instant, SystemTime)>,
    pub(super) last_error: String,
    /// Its process ended without having been asked to.
    pub(super) crashed: bool,
    /// What follows a crash.
    pub(super) supervision: Supervision,
    /// It is being started, reloaded or restarted.
    changing: Option<What>,
    /// The versions that were replaced and have not ended yet.
    drains: usize,
    /// The serial number of the version that calls find.
    current: u32,
    /// A version that is being loaded, to become the current one.
    coming: Option<u32>,
    /// A version whose process ended before it was current, and why.
    lost: Option<(u32, String)>,
    /// The versions that are there: the current one, one that is coming, those that are going.
    versions: Vec<Weak<PluginContext>>,
    /// How much has been told of it.
    told: u64,
}

impl Log {
    fn check_lost(&self, serial: u32) -> Result<()> {
        match &self.lost {
            Some((lost, why)) if *lost == serial => Err(Error::new(Kind::Unavailable, why.clone())),
            _ => Ok(()),
        }
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum What {
    Start,
    Reload,
    Restart,
}

/// The most versions that are being drained: past it, no reload takes the place of one that runs.
const DRAINS_MAX: usize = 4;

/// A start, a reload or a restart in progress.
pub(super) struct Changing<'a>(&'a Shared);

/// A version that was replaced and has not ended yet. The next change need not wait for it, but a stop does.
pub(super) struct Draining<'a>(&'a Shared);

impl Drop for Draining<'_> {
    fn drop(&mut self) {
        self.0.log().drains -= 1;
        self.0.changed.notify_all();
    }
}

impl Drop for Changing<'_> {
    fn drop(&mut self) {
        let mut log = self.0.log();
        (log.changing, log.coming) = (None, None);
        drop(log);
        self.0.changed.notify_all();
    }
}

impl<'a> Changing<'a> {
    /// Makes a version the current one by `exchange`, from where the plugin is not being stopped: then it runs, and what it
    /// replaced is drained.
    pub(super) fn exchange<T>(&self, serial: u32, exchange: impl FnOnce() -> T) -> Result<(T, Draining<'a>, Moment)> {
        let mut log = self.0.log();
        log.check_lost(serial)?;
        if !matches!(self.0.state(), State::Running | State::Error) {
            return Err(stopped());
        }
        let exchanged = exchange();
        // After it: who finds the plugin running finds a version that is.
        self.0.state.store(State::Running as u8, Ordering::Release);
        let anew = log.changing != Some(What::Restart);
        log.supervision.runs(anew);
        *log = Log {
            current: serial,
            coming: None,
            started: Some((Instant::now(), SystemTime::now())),
            last_error: String::new(),
            crashed: false,
            // Under the same lock as the exchange: a stop sees the one or the other.
            drains: log.drains + 1,
            ..std::mem::take(&mut log)
        };
        Ok((exchanged, Draining(self.0), self.0.moment_under(&mut log)))
    }
}

#[cold]
fn stopped() -> Error {
    Error::new(Kind::InvalidState, "The plugin has been stopped meanwhile.")
}

impl Shared {
    pub(super) fn new() -> Self {
        static LOADS: AtomicU64 = AtomicU64::new(0);
        let load = LOADS.fetch_add(1, Ordering::Relaxed) + 1;
        Shared { load, state: AtomicU8::new(State::Loading as u8), log: Mutex::default(), changed: Condvar::new() }
    }

    pub(super) fn state(&self) -> State {
        State::from_number(self.state.load(Ordering::Acquire))
    }

    /// This moment, to tell of; who tells of a change takes its own.
    pub(super) fn moment(&self) -> Moment {
        self.moment_under(&mut self.log())
    }

    fn moment_under(&self, log: &mut Log) -> Moment {
        log.told += 1;
        Moment { load: self.load, seq: log.told, at: SystemTime::now(), state: self.state() }
    }

    /// Moves from one of `from` to `to`; the state found otherwise.
    pub(super) fn advance(&self, from: &[State], to: State) -> Result<Moment, State> {
        self.advance_under(&mut self.log(), from, to)
    }

    /// The same for who holds the lock: every change of the state is made under it.
    fn advance_under(&self, log: &mut Log, from: &[State], to: State) -> Result<Moment, State> {
        let found = self.state();
        if !from.contains(&found) {
            return Err(found);
        }
        self.state.store(to as u8, Ordering::Release);
        Ok(self.moment_under(log))
    }

    pub(super) fn log(&self) -> MutexGuard<'_, Log> {
        self.log.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn failed(&self, error: &Error) {
        error.message().clone_into(&mut self.log().last_error);
    }

    /// One start or reload at a time.
    pub(super) fn change(&self, what: What) -> Result<Changing<'_>> {
        self.change_under(self.log(), what)
    }

    fn change_under(&self, mut log: MutexGuard<'_, Log>, what: What) -> Result<Changing<'_>> {
        // What does not run is no version more that drains for long: none of its calls goes on.
        if what == What::Reload && log.drains >= DRAINS_MAX && self.state() != State::Error {
            let text = format!("{DRAINS_MAX} older versions of the plugin are still being drained; reload it when one of them has ended.");
            return Err(Error::new(Kind::Busy, text));
        }
        if log.changing.is_some() {
            return Err(Error::new(Kind::InvalidState, "The plugin is being started or reloaded by another call; wait for that one."));
        }
        log.changing = Some(what);
        Ok(Changing(self))
    }

    /// `unavailable` for a version whose process ended before it was current.
    pub(super) fn check_lost(&self, serial: u32) -> Result<()> {
        self.log().check_lost(serial)
    }

    /// The plugin is being stopped: a version that is coming ends at once. Nothing is exchanged any more.
    pub(super) fn end_coming(&self) {
        let coming = self.log().coming;
        for version in self.versions().into_iter().filter(|version| coming == Some(version.serial())) {
            version.ending.cancel();
        }
    }

    /// Waits until no reload or restart is in progress, and no version is being drained; false if that takes longer.
    pub(super) fn settled_within(&self, limit: Option<Duration>) -> bool {
        self.wait(limit, |log| log.drains == 0 && !matches!(log.changing, Some(What::Reload | What::Restart)))
    }

    /// Takes note of a version that is about to be loaded; the first is the current one.
    pub(super) fn enlist(&self, context: &Arc<PluginContext>) -> Result<()> {
        let mut log = self.log();
        if matches!(self.state(), State::Stopping | State::Stopped) {
            return Err(stopped());
        }
        log.versions.retain(|version| version.strong_count() > 0);
        log.versions.push(Arc::downgrade(context));
        if log.current == 0 {
            log.current = context.serial();
        } else {
            log.coming = Some(context.serial());
        }
        Ok(())
    }

    /// The versions that are there.
    pub(super) fn versions(&self) -> Vec<Arc<PluginContext>> {
        self.log().versions.iter().filter_map(Weak::upgrade).collect()
    }

    /// What a version does when its process ends unexpectedly: that is the plugin's end only if it is the current one, and
    /// then it is started again as `restart` says.
    pub(super) fn on_exit(self: &Arc<Self>, context: &Arc<PluginContext>, restart: Option<Restart>) -> Box<dyn FnOnce(Error) + Send> {
        let (shared, context) = (Arc::downgrade(self), context.clone());
        Box::new(move |error| {
            let Some(shared) = shared.upgrade() else { return };
            let mut log = shared.log();
            if log.current != context.serial() {
                // One that drains is nobody's loss.
                if log.coming == Some(context.serial()) {
                    log.lost = Some((context.serial(), error.message().to_owned()));
                }
                return;
            }
            error.message().clone_into(&mut log.last_error);
            log.crashed = true;
            let ran = log.started.filter(|_| shared.state() == State::Running).map(|(at, _)| at.elapsed());
            let Ok(moment) = shared.advance_under(&mut log, &[State::Loading, State::Running], State::Error) else { return };
            let pause = log.supervision.crashed(ran, &error, restart);
            let plugin = log.supervision.plugin.upgrade();
            drop(log);
            context.event(&info::crashed(&moment, context.identity(), &error));
            if let (Some(pause), Some(plugin)) = (pause, plugin) {
                plugin.restart_later(context.serial(), pause);
            }
        })
    }

    /// Whether the plugin is the version with this number, whose process ended.
    pub(super) fn is_lost(&self, serial: u32) -> bool {
        let log = self.log();
        self.state() == State::Error && log.current == serial && log.crashed
    }

    /// A try to start it again failed; what `next` says of the next one. None if it has been stopped meanwhile.
    pub(super) fn restart_failed<T>(&self, error: &Error, next: impl FnOnce(&mut Supervision) -> T) -> Option<(T, Moment)> {
        let mut log = self.log();
        if self.state() != State::Error {
            return None;
        }
        error.message().clone_into(&mut log.last_error);
        Some((next(&mut log.supervision), self.moment_under(&mut log)))
    }

    /// Begins a reload, in the place of a restart that is in progress: that one is ended, for which it waits a bounded time.
    pub(super) fn change_over_restart(&self, limit: Option<Duration>) -> Result<Changing<'_>> {
        let deadline = limit.map_or(const { Deadline::never() }, Deadline::after);
        loop {
            let log = self.log();
            if log.changing != Some(What::Restart) || deadline.expired() {
                // Under the lock it was looked at: the timer of the next restart cannot come between.
                return self.change_under(log, What::Reload);
            }
            drop(log);
            self.end_coming();
            self.wait(deadline.remaining(), |log| log.changing != Some(What::Restart));
        }
    }

    /// Waits until the state is `stopped`; false if that takes longer.
    pub(super) fn stopped_within(&self, limit: Option<Duration>) -> bool {
        self.wait(limit, |_| self.state() == State::Stopped)
    }

    fn wait(&self, limit: Option<Duration>, over: impl Fn(&Log) -> bool) -> bool {
        let limit = limit.unwrap_or(Duration::MAX);
        let waited = self.changed.wait_timeout_while(self.log(), limit, |log| !over(log));
        !waited.unwrap_or_else(PoisonError::into_inner).1.timed_out()
    }
}

/// Past this, a stop is over even if its runner panicked.
pub(super) struct Over<'a>(pub(super) &'a Shared);

impl Drop for Over<'_> {
    fn drop(&mut self) {
        let log = self.0.log();
        self.0.state.store(State::Stopped as u8, Ordering::Release);
        drop(log);
        self.0.changed.notify_all();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_state_advances_only_from_where_it_may() {
        let shared = Shared::new();
        assert_eq!(shared.advance(&[State::Running], State::Stopping).unwrap_err(), State::Loading);
        let moment = shared.advance(&[State::Error, State::Loading], State::Running).unwrap();
        assert_eq!((shared.state(), moment.state, moment.seq), (State::Running, State::Running, 1));
        assert_eq!(shared.moment().seq, 2);
    }

    #[test]
    fn a_reload_finds_its_turn_however_often_a_restart_begins() {
        let shared = Shared::new();
        let over = std::sync::atomic::AtomicBool::new(false);
        std::thread::scope(|scope| {
            scope.spawn(|| {
                while !over.load(Ordering::Relaxed) {
                    drop(shared.change(What::Restart));
                    std::thread::yield_now();
                }
            });
            let refused = (0..10_000).filter(|_| shared.change_over_restart(Some(Duration::from_secs(60))).is_err()).count();
            over.store(true, Ordering::Relaxed);
            assert_eq!(refused, 0);
        });
    }
}
