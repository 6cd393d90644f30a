//! What the pool is built on, as loom has it.

use std::ops::{Deref, DerefMut};
use std::time::Duration;

pub(super) use loom::sync::atomic::{AtomicBool, AtomicUsize, Ordering, fence};
pub(super) use loom::sync::{Condvar, Mutex, MutexGuard};
pub(super) use std::sync::PoisonError;

/// The lock of the crate `try-lock`. It swaps where this compares: loom would let a swap that finds it locked hide the unlock
/// after it, which no machine can. A second holder would panic.
pub(super) struct TryLock<T> {
    locked: AtomicBool,
    value: std::sync::Mutex<T>,
}

pub(super) struct Locked<'a, T> {
    locked: &'a AtomicBool,
    value: Option<std::sync::MutexGuard<'a, T>>,
}

impl<T> TryLock<T> {
    pub(super) fn new(value: T) -> Self {
        TryLock { locked: AtomicBool::new(false), value: std::sync::Mutex::new(value) }
    }
}

pub(super) fn lock<T>(lock: &TryLock<T>) -> Option<Locked<'_, T>> {
    lock.locked.compare_exchange(false, true, Ordering::Acquire, Ordering::Relaxed).ok()?;
    Some(Locked { locked: &lock.locked, value: Some(lock.value.try_lock().expect("held twice")) })
}

impl<T> Deref for Locked<'_, T> {
    type Target = T;

    fn deref(&self) -> &T {
        self.value.as_ref().expect("held")
    }
}

impl<T> DerefMut for Locked<'_, T> {
    fn deref_mut(&mut self) -> &mut T {
        self.value.as_mut().expect("held")
    }
}

impl<T> Drop for Locked<'_, T> {
    fn drop(&mut self) {
        self.value = None;
        self.locked.store(false, Ordering::Release);
        // The one order of what is `SeqCst`: loom knows it of fences alone.
        fence(Ordering::SeqCst);
    }
}

/// A clock that stands still: at the start, so that turns are left to whoever comes, or later, so that each is handed over.
pub(super) struct Stopwatch(Duration);

thread_local! {
    /// How long the next pool thinks that it has rested.
    pub(super) static RESTED: std::cell::Cell<Duration> = const { std::cell::Cell::new(Duration::ZERO) };
}

impl Stopwatch {
    pub(super) fn start() -> Self {
        Stopwatch(RESTED.get())
    }

    pub(super) fn elapsed(&self) -> Duration {
        self.0
    }
}

/// All threads begin where the first found its turn: they meet more often so.
pub(super) fn thread_mark() -> usize {
    0
}
