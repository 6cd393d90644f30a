//! A socket as a crew sees it: bytes come, who leads waits for them, and a bell calls who waits.

use std::task::{Context, Poll, Waker};
use std::time::Duration;

use loom::sync::{Condvar, Mutex};

#[derive(Debug)]
pub struct Wire {
    state: Mutex<State>,
    something: Condvar,
}

#[derive(Debug, Default)]
struct State {
    came: Vec<u8>,
    /// There may be something to read: known by a wait, until a read says otherwise.
    readable: bool,
    /// Whether who waits at this moment does so for something to read.
    waited: Option<bool>,
    rung: bool,
    /// Threads that were called and are not there yet.
    coming: isize,
    /// One waits for those.
    briefly: bool,
    reader: Option<Waker>,
}

impl Wire {
    pub fn new() -> Self {
        Wire { state: Mutex::new(State::default()), something: Condvar::new() }
    }

    /// The other side sends.
    pub fn put(&self, byte: u8) {
        self.state.lock().unwrap().came.push(byte);
        self.something.notify_all();
    }

    /// The connection reads.
    pub fn poll_read(&self, context: &Context<'_>) -> Poll<u8> {
        let mut state = self.state.lock().unwrap();
        if state.readable && !state.came.is_empty() {
            return Poll::Ready(state.came.remove(0));
        }
        state.readable = false;
        state.reader = Some(context.waker().clone());
        if state.waited == Some(false) {
            state.rung = true;
            self.something.notify_all();
        }
        Poll::Pending
    }

    pub fn coming(&self) -> isize {
        self.state.lock().unwrap().coming
    }

    pub(super) fn ring(&self) {
        self.state.lock().unwrap().rung = true;
        self.something.notify_all();
    }

    /// A wait for those who come ends by itself, at any time: here at once.
    pub(super) fn wait(&self, limit: Option<Duration>) {
        let mut state = self.state.lock().unwrap();
        let reads = !state.readable;
        state.waited = Some(reads);
        state.briefly = state.coming > 0;
        if state.briefly {
            drop(state);
            loom::thread::yield_now();
            state = self.state.lock().unwrap();
        } else {
            while limit.is_none() && (!reads || state.came.is_empty()) && !state.rung {
                state = self.something.wait(state).unwrap();
            }
        }
        state.briefly = false;
        state.rung = false;
        state.waited = None;
        let found = reads && !state.came.is_empty();
        state.readable |= found;
        let reader = if found { state.reader.take() } else { None };
        drop(state);
        if let Some(reader) = reader {
            reader.wake();
        }
    }

    pub(super) fn glance(&self) {
        self.wait(Some(Duration::ZERO));
    }

    pub(super) fn flush(&self) {}

    pub(super) fn comes(&self) {
        self.state.lock().unwrap().coming += 1;
    }

    pub(super) fn came(&self) {
        self.state.lock().unwrap().coming -= 1;
    }

    pub(super) fn can_wait(&self) -> bool {
        let state = self.state.lock().unwrap();
        state.coming > 0 && state.briefly
    }
}
