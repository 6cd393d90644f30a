//! The calls of a plugin that are in flight: what its host calls belong to, and what its end has to wait for.

use std::collections::HashMap;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::{Semaphore, SemaphorePermit};

use crate::call::{Call, Deadline};
use crate::error::{Error, Kind, Result};

/// The calls that a process is given at once; more wait for their turn, in their order. An answer is held whole before it is
/// handed on, so that this also bounds what a process can make its host hold.
const AT_ONCE: usize = 128;

/// The calls that wait, at most; more are refused.
const WAITING: usize = 16 * 1024;

/// One call in flight.
#[derive(Debug)]
pub(super) struct InFlight {
    /// The function as the caller named it.
    pub(super) function: Box<str>,
    pub(super) call: Call,
}

/// All of a plugin's.
#[derive(Debug)]
pub(super) struct Calls {
    state: Mutex<State>,
    left: Condvar,
    turns: Semaphore,
}

#[derive(Debug, Default)]
struct State {
    closed: bool,
    next: u64,
    live: HashMap<u64, Arc<InFlight>>,
}

/// A call's place among them, given up when it is dropped.
#[derive(Debug)]
pub(super) struct Entered {
    calls: Arc<Calls>,
    id: u64,
}

impl Default for Calls {
    fn default() -> Self {
        Calls { state: Mutex::default(), left: Condvar::new(), turns: Semaphore::new(AT_ONCE) }
    }
}

impl Calls {
    /// For a call that is none of the plugin's: its id is none that another would have.
    pub(super) fn apart() -> Arc<Self> {
        let state = Mutex::new(State { next: 1 << 63, ..State::default() });
        Arc::new(Calls { state, ..Calls::default() })
    }

    /// Takes a call in; `invalid_state` once the plugin is stopping, `busy` where far too many wait.
    pub(super) fn enter(self: &Arc<Self>, function: &str, call: &Call) -> Result<Entered> {
        let flight = Arc::new(InFlight { function: function.into(), call: call.clone() });
        let mut state = self.state();
        if state.closed {
            return Err(Error::new(Kind::InvalidState, "The plugin is stopping; it takes no calls.").of_no_run());
        }
        if state.live.len() >= AT_ONCE + WAITING {
            let text = format!("{AT_ONCE} calls of this plugin are in flight and {WAITING} wait; call it again when some are answered.");
            return Err(Error::new(Kind::Busy, text));
        }
        state.next += 1;
        let id = state.next;
        state.live.insert(id, flight);
        Ok(Entered { calls: self.clone(), id })
    }

    /// A call's turn to be sent, in the order of their coming, for as long as the permit lives.
    pub(super) async fn turn(&self) -> Option<SemaphorePermit<'_>> {
        self.turns.acquire().await.ok()
    }

    /// The call of an id that the plugin handed back.
    pub(super) fn find(&self, id: &str) -> Option<Arc<InFlight>> {
        self.state().live.get(&u64::from_str_radix(id, 16).ok()?).cloned()
    }

    /// Takes no more calls; false if that was so already.
    pub(super) fn close(&self) -> bool {
        !std::mem::replace(&mut self.state().closed, true)
    }

    /// Waits until no call is in flight; false if the time passes first.
    pub(super) fn drained(&self, deadline: &Deadline) -> bool {
        let mut state = self.state();
        while !state.live.is_empty() {
            let left = deadline.remaining().unwrap_or(Duration::from_secs(3600));
            if left.is_zero() {
                return false;
            }
            state = self.left.wait_timeout(state, left).unwrap_or_else(PoisonError::into_inner).0;
        }
        true
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Entered {
    /// The id as it is sent to the plugin.
    pub(super) fn id(&self) -> String {
        format!("{:x}", self.id)
    }
}

impl Drop for Entered {
    fn drop(&mut self) {
        let mut state = self.calls.state();
        state.live.remove(&self.id);
        if state.closed && state.live.is_empty() {
            self.calls.left.notify_all();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn calls_past_the_queue_are_refused() {
        let (calls, call) = (Arc::new(Calls::default()), Call::new(Deadline::never()));
        let entered: Vec<_> = (0..AT_ONCE + WAITING).map(|_| calls.enter("f", &call).unwrap()).collect();
        assert_eq!(calls.enter("f", &call).unwrap_err().kind(), Kind::Busy);
        drop(entered);
        calls.enter("f", &call).unwrap();
    }
}
