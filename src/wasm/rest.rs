//! A thread that rests while there is nothing to do, and those who end its rest at the cost of one load.
//!
//! Whoever begins something takes a lock of it first, then [ends](Rest::end) the rest. Who wants to rest says so, then
//! takes each of those locks, or finds it taken and goes on. So one of the two sees the other, by the lock alone: either who
//! begins held it already, or it was let go before, and what was said before that is seen.

use super::sync::{AtomicBool, Condvar, Mutex, Ordering, PoisonError};

/// On cache lines of its own: read by every call, seldom written.
#[repr(align(128))]
pub(super) struct Rest {
    resting: AtomicBool,
    lock: Mutex<()>,
    ended: Condvar,
}

impl Rest {
    pub(super) fn new() -> Self {
        Rest { resting: AtomicBool::new(false), lock: Mutex::new(()), ended: Condvar::new() }
    }

    /// After something has begun: who rests goes on.
    #[inline]
    pub(super) fn end(&self) {
        if self.resting.load(Ordering::Relaxed) {
            self.wake();
        }
    }

    #[cold]
    fn wake(&self) {
        let lock = self.lock.lock().unwrap_or_else(PoisonError::into_inner);
        self.resting.store(false, Ordering::Relaxed);
        drop(lock);
        self.ended.notify_all();
    }

    /// Rests until something begins, unless there is something to do, which `busy` looks for.
    pub(super) fn take(&self, busy: impl FnOnce() -> bool) {
        self.resting.store(true, Ordering::Relaxed);
        if busy() {
            self.resting.store(false, Ordering::Relaxed);
            return;
        }
        let mut lock = self.lock.lock().unwrap_or_else(PoisonError::into_inner);
        while self.resting.load(Ordering::Relaxed) {
            lock = self.ended.wait(lock).unwrap_or_else(PoisonError::into_inner);
        }
    }
}
