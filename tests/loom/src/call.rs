//! Waiting as the library does it: no time passes, and a token can be set.

use std::sync::Arc;
use std::task::{Wake, Waker};
use std::time::Duration;

use loom::sync::Mutex;
use loom::sync::atomic::{AtomicBool, Ordering};
use loom::thread;

use crate::error::{Error, Kind, Result};

/// Never, or over already.
#[derive(Clone)]
pub struct Deadline(bool);

impl Deadline {
    pub const fn never() -> Self {
        Deadline(false)
    }

    pub const fn over() -> Self {
        Deadline(true)
    }

    pub fn begin(&self) {}

    /// The pool's patience never ends.
    pub fn at_most(&self, _: Duration) -> Self {
        self.clone()
    }

    pub fn remaining(&self) -> Option<Duration> {
        self.0.then_some(Duration::ZERO)
    }

    pub fn expired(&self) -> bool {
        self.0
    }
}

#[derive(Default)]
pub struct Cancel {
    set: AtomicBool,
    waiting: Mutex<Vec<Waker>>,
}

impl Cancel {
    pub fn cancel(&self) {
        self.set.store(true, Ordering::SeqCst);
        for waker in std::mem::take(&mut *self.waiting.lock().unwrap()) {
            waker.wake();
        }
    }
}

impl Cancel {
    pub fn wake(&self, waker: Waker) {
        self.waiting.lock().unwrap().push(waker.clone());
        if self.is_set() {
            waker.wake();
        }
    }

    pub fn is_set(&self) -> bool {
        self.set.load(Ordering::SeqCst)
    }
}

pub fn check(deadline: &Deadline, cancels: &[Option<&Cancel>]) -> Result<()> {
    match () {
        () if cancels.iter().flatten().any(|cancel| cancel.is_set()) => Err(Error::new(Kind::Cancelled, "")),
        () if deadline.expired() => Err(Error::new(Kind::Timeout, "")),
        () => Ok(()),
    }
}

struct Unpark(thread::Thread);

impl Wake for Unpark {
    fn wake(self: Arc<Self>) {
        self.0.unpark();
    }
}

pub fn thread_waker() -> Waker {
    Waker::from(Arc::new(Unpark(thread::current())))
}

pub fn wait<T>(deadline: &Deadline, cancels: &[Option<&Cancel>], _: impl FnOnce(Waker), mut ready: impl FnMut() -> Option<T>) -> Result<T> {
    for cancel in cancels.iter().flatten() {
        cancel.waiting.lock().unwrap().push(thread_waker());
    }
    loop {
        if let Some(value) = ready() {
            return Ok(value);
        }
        if cancels.iter().flatten().any(|cancel| cancel.set.load(Ordering::SeqCst)) {
            return Err(Error::new(Kind::Cancelled, ""));
        }
        if deadline.expired() {
            return Err(Error::new(Kind::Timeout, ""));
        }
        thread::park();
    }
}
