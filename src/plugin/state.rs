//! Where a plugin stands, and what of it outlives a call into it.

use std::sync::atomic::{AtomicBool, AtomicU8, Ordering};
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Instant;

use crate::error::{Error, Result};

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
    pub(super) state: AtomicU8,
    pub(super) log: Mutex<Log>,
    pub(super) stopped: Condvar,
}

#[derive(Debug, Default)]
pub(super) struct Log {
    pub(super) started: Option<Instant>,
    pub(super) last_error: String,
    /// Its process ended without having been asked to.
    pub(super) crashed: bool,
}

impl Shared {
    pub(super) fn new() -> Self {
        Shared { state: AtomicU8::new(State::Loading as u8), log: Mutex::default(), stopped: Condvar::new() }
    }

    pub(super) fn state(&self) -> State {
        State::from_number(self.state.load(Ordering::Acquire))
    }

    /// Moves from one of `from` to `to`; the state found otherwise.
    pub(super) fn advance(&self, from: &[State], to: State) -> Result<(), State> {
        let mut found = self.state();
        while from.contains(&found) {
            match self.state.compare_exchange(found as u8, to as u8, Ordering::AcqRel, Ordering::Acquire) {
                Ok(_) => return Ok(()),
                Err(other) => found = State::from_number(other),
            }
        }
        Err(found)
    }

    pub(super) fn log(&self) -> MutexGuard<'_, Log> {
        self.log.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn failed(&self, error: &Error) {
        error.message().clone_into(&mut self.log().last_error);
    }
}

/// A start in progress.
pub(super) struct Starting<'a>(pub(super) &'a AtomicBool);

impl Drop for Starting<'_> {
    fn drop(&mut self) {
        self.0.store(false, Ordering::Release);
    }
}

/// Past this, a stop is over even if its runner panicked.
pub(super) struct Over<'a>(pub(super) &'a Shared);

impl Drop for Over<'_> {
    fn drop(&mut self) {
        self.0.state.store(State::Stopped as u8, Ordering::Release);
        drop(self.0.log());
        self.0.stopped.notify_all();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_state_advances_only_from_where_it_may() {
        let shared = Shared::new();
        assert_eq!(shared.advance(&[State::Running], State::Stopping), Err(State::Loading));
        shared.advance(&[State::Error, State::Loading], State::Running).unwrap();
        assert_eq!(shared.state(), State::Running);
    }
}
