//! What moves the epoch of an engine, behind every deadline: a thread that ticks while a plugin is loaded, and rests while none
//! of its instances is in use.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::time::Duration;

use super::engine::Machine;
use super::rest::Rest;
use crate::error::{Error, Kind, Result};
use crate::sys;

/// How often the epoch moves: a deadline is late by this much at most.
const TICK: Duration = Duration::from_millis(1);

/// Ticks between two looks whether there is anything to tick for: to end a rest costs a call a few microseconds.
const AWAKE: u32 = 100;

/// What needs no ticks while it is idle.
pub(super) trait Idle: Send + Sync {
    /// Whether nothing runs, by taking the lock of everything that could. Who turns out to be the last owner ends it on another thread.
    fn is_idle(self: Arc<Self>) -> bool;
}

/// Drops what may be the last owner, on a thread of its own if it is: its end may take long, and run what the program registered.
/// The ticker has no room for that, and whoever calls meanwhile would have no deadline.
pub(super) fn let_go<T: Send + Sync + 'static>(known: Arc<T>) {
    if let Some(last) = Arc::into_inner(known) {
        let own = std::thread::Builder::new().name("flowplug-stop".to_owned()).stack_size(sys::STACK_SIZE);
        drop(own.spawn(move || drop(last)));
    }
}

/// The ticker of one engine.
pub(super) struct Ticker {
    state: Mutex<State>,
    rest: Rest,
}

#[derive(Default)]
struct State {
    holders: usize,
    /// Those of the holders that say when they are idle.
    known: Vec<Weak<dyn Idle>>,
    running: bool,
}

/// While one of these lives, the epoch of its machine moves, but for rests.
pub(super) struct Ticking(&'static Machine);

/// Moves with every epoch: whether a tick has passed is known without reading the clock. Never 0.
pub(super) fn ticks() -> u64 {
    TICKS.load(Ordering::Relaxed)
}

static TICKS: AtomicU64 = AtomicU64::new(1);

impl Ticker {
    pub(super) fn new() -> Self {
        Ticker { state: Mutex::default(), rest: Rest::new() }
    }

    /// After an instance was taken into use, which needs ticks.
    #[inline]
    pub(super) fn needed(&self) {
        self.rest.end();
    }

    /// Whether somebody needs ticks, for all that is known.
    fn is_needed(&self) -> bool {
        let state = self.state();
        if state.known.len() != state.holders {
            return true;
        }
        let known: Vec<Arc<dyn Idle>> = state.known.iter().filter_map(Weak::upgrade).collect();
        drop(state);
        // All of them are asked, because asking also lets go.
        known.into_iter().map(|known| known.is_idle()).filter(|idle| !idle).count() > 0
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Machine {
    /// Starts the ticker if it does not run yet.
    pub(super) fn tick(&'static self) -> Result<Ticking> {
        let mut state = self.ticker.state();
        if !state.running {
            std::thread::Builder::new().name("flowplug-ticker".to_owned()).stack_size(64 << 10).spawn(|| self.run()).map_err(|e| {
                Error::new(Kind::Io, format!("The system refused a thread for the wasm deadlines: {e}. Check the limit on processes."))
            })?;
            state.running = true;
        }
        state.holders += 1;
        drop(state);
        self.ticker.needed();
        Ok(Ticking(self))
    }

    fn run(&self) {
        sys::block_signals();
        let mut awake = 0;
        loop {
            std::thread::sleep(TICK);
            self.engine.increment_epoch();
            TICKS.fetch_add(1, Ordering::Relaxed);
            awake += 1;
            if awake == AWAKE {
                awake = 0;
                self.ticker.rest.take(|| self.ticker.is_needed() || self.ticker.state().holders == 0);
            }
            let mut state = self.ticker.state();
            if state.holders == 0 {
                state.running = false;
                return;
            }
        }
    }
}

impl Ticking {
    /// Who holds this needs ticks only while it is not idle.
    pub(super) fn unless(&self, idle: Weak<dyn Idle>) {
        self.0.ticker.state().known.push(idle);
    }
}

impl Drop for Ticking {
    fn drop(&mut self) {
        let mut state = self.0.ticker.state();
        state.holders -= 1;
        // With its holder, which is gone.
        state.known.retain(|known| known.strong_count() > 0);
        drop(state);
        self.0.ticker.needed();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::mpsc::{Sender, channel};
    use std::thread::{ThreadId, current};

    struct Told(Sender<ThreadId>);

    impl Drop for Told {
        fn drop(&mut self) {
            self.0.send(current().id()).unwrap();
        }
    }

    #[test]
    fn the_last_owner_ends_on_another_thread() {
        let (told, ended) = channel();
        let first = Arc::new(Told(told));
        let_go(Arc::clone(&first));
        assert!(ended.try_recv().is_err(), "it has an owner");
        let_go(first);
        assert_ne!(ended.recv().unwrap(), current().id());
    }
}
