//! The threads that start plugins and follow their changes, while there is work: two for each processor, and eight at least,
//! because most of what they do is wait, for a process that starts or for calls that drain.

use std::collections::VecDeque;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};

use crate::call::Deadline;
use crate::sys;

pub(super) type Job = Box<dyn FnOnce() + Send>;

/// A queue and its threads. A thread ends when it finds the queue empty.
pub(super) struct Workers {
    max: usize,
    state: Mutex<State>,
    idle: Condvar,
}

#[derive(Default)]
struct State {
    queue: VecDeque<Job>,
    threads: usize,
}

impl Workers {
    pub(super) fn new() -> Arc<Self> {
        let processors = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
        let max = (2 * processors).max(8);
        Arc::new(Workers { max, state: Mutex::default(), idle: Condvar::new() })
    }

    /// Runs a job on a thread of the library, in its turn.
    pub(super) fn run(self: &Arc<Self>, job: Job) {
        let mut state = self.state();
        state.queue.push_back(job);
        if state.threads >= self.max {
            return;
        }
        state.threads += 1;
        drop(state);
        let own = self.clone();
        let work = move || {
            sys::block_signals();
            own.work();
        };
        let thread = std::thread::Builder::new().name("flowplug-manager".into()).stack_size(sys::STACK_SIZE);
        if thread.spawn(work).is_err() {
            // Better here than never.
            self.work();
        }
    }

    /// Waits until there is nothing to do; false if that takes longer.
    pub(super) fn wait_idle(&self, deadline: &Deadline) -> bool {
        let mut state = self.state();
        while state.threads > 0 {
            let left = deadline.remaining().unwrap_or(std::time::Duration::from_secs(3600));
            if left.is_zero() {
                return false;
            }
            state = self.idle.wait_timeout(state, left).unwrap_or_else(PoisonError::into_inner).0;
        }
        true
    }

    fn work(&self) {
        loop {
            let mut state = self.state();
            let Some(job) = state.queue.pop_front() else {
                state.threads -= 1;
                drop(state);
                self.idle.notify_all();
                return;
            };
            drop(state);
            // A fault of one job is not the end of the others.
            drop(catch_unwind(AssertUnwindSafe(job)));
        }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
