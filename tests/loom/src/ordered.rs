//! What the readers are built on, as loom has it. Loom keeps one order for fences alone; in the library each operation here
//! stands in it, because all of them are `SeqCst`. So each has its fences.

use loom::sync::atomic::{self, Ordering, fence};

pub(super) use loom::sync::Mutex;
pub(super) use std::sync::PoisonError;

/// Two: one is shared, and one is not looked at by everybody.
pub(super) const COUNTERS: usize = 2;

thread_local! {
    /// Which counter a thread takes.
    pub(super) static MARK: std::cell::Cell<usize> = const { std::cell::Cell::new(0) };
}

pub(super) fn thread_mark() -> usize {
    MARK.get()
}

fn ordered<R>(operation: impl FnOnce() -> R) -> R {
    fence(Ordering::SeqCst);
    let result = operation();
    fence(Ordering::SeqCst);
    result
}

#[derive(Debug)]
pub(super) struct AtomicU64(atomic::AtomicU64);

impl AtomicU64 {
    pub(super) fn new(value: u64) -> Self {
        AtomicU64(atomic::AtomicU64::new(value))
    }

    pub(super) fn load(&self, order: Ordering) -> u64 {
        ordered(|| self.0.load(order))
    }

    pub(super) fn fetch_add(&self, value: u64, order: Ordering) -> u64 {
        ordered(|| self.0.fetch_add(value, order))
    }

    pub(super) fn fetch_sub(&self, value: u64, order: Ordering) -> u64 {
        ordered(|| self.0.fetch_sub(value, order))
    }
}

#[derive(Debug)]
pub(super) struct AtomicUsize(atomic::AtomicUsize);

impl AtomicUsize {
    pub(super) fn new(value: usize) -> Self {
        AtomicUsize(atomic::AtomicUsize::new(value))
    }

    pub(super) fn load(&self, order: Ordering) -> usize {
        ordered(|| self.0.load(order))
    }

    pub(super) fn store(&self, value: usize, order: Ordering) {
        ordered(|| self.0.store(value, order));
    }
}
