//! What the pool is built on. A model of the pool brings its own.

use std::time::{Duration, Instant};

pub(super) use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering, fence};
pub(super) use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
pub(super) use try_lock::{Locked, TryLock};

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

/// A number that threads seldom share, by where their stacks lie: cheaper than a thread's own variable in a shared library,
/// and good enough for a hint.
#[inline]
pub(super) fn thread_mark() -> usize {
    let here = 0u8;
    (&raw const here as usize >> 18).wrapping_mul(0x9e37_79b9) >> 24
}
