//! What the pool is built on. A model of the pool brings its own.

use std::time::{Duration, Instant};

pub(super) use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering, fence};
pub(super) use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
pub(super) use try_lock::{Locked, TryLock};

pub(super) use crate::sys::thread_mark;

/// Takes a lock, if it is free. Letting it go stands in the one order of all that is `SeqCst`: one instruction, which is as
/// good as a fence after it and costs half.
#[inline]
pub(super) fn lock<T>(lock: &TryLock<T>) -> Option<Locked<'_, T>> {
    lock.try_lock_explicit(Ordering::SeqCst, Ordering::SeqCst)
}

/// Time since some moment.
pub(super) struct Stopwatch(Instant);

impl Stopwatch {
    pub(super) fn start() -> Self {
        Stopwatch(Instant::now())
    }

    pub(super) fn elapsed(&self) -> Duration {
        self.0.elapsed()
    }
}
