//! What the readers and the desk are built on, as loom has it. Loom keeps one order for fences alone; in the library each
//! operation stands in it that is `SeqCst`. So each of those has its fences.

use loom::cell::UnsafeCell;
use loom::sync::atomic::{self, fence};
use loom::thread;

pub(super) use loom::sync::Mutex;
pub(super) use loom::sync::atomic::Ordering;
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

/// A value that threads hand to each other.
pub(super) struct Shared<T>(UnsafeCell<T>);

impl<T> Shared<T> {
    pub(super) fn new(value: T) -> Self {
        Shared(UnsafeCell::new(value))
    }

    pub(super) fn with<R>(&self, f: impl FnOnce(*mut T) -> R) -> R {
        self.0.with_mut(f)
    }
}

/// What comes of trying for ever is not followed: two who wait for a third, and whom loom lets try in turn.
pub(super) fn pause(tries: &mut u32) {
    *tries += 1;
    if *tries > 2 {
        loom::skip_branch();
    }
    thread::yield_now();
}

fn ordered<R>(order: Ordering, operation: impl FnOnce() -> R) -> R {
    if order != Ordering::SeqCst {
        return operation();
    }
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
        ordered(order, || self.0.load(order))
    }

    pub(super) fn store(&self, value: u64, order: Ordering) {
        ordered(order, || self.0.store(value, order));
    }

    pub(super) fn compare_exchange(&self, current: u64, new: u64, ok: Ordering, failed: Ordering) -> Result<u64, u64> {
        self.0.compare_exchange(current, new, ok, failed)
    }

    pub(super) fn fetch_add(&self, value: u64, order: Ordering) -> u64 {
        ordered(order, || self.0.fetch_add(value, order))
    }

    pub(super) fn fetch_sub(&self, value: u64, order: Ordering) -> u64 {
        ordered(order, || self.0.fetch_sub(value, order))
    }
}

#[derive(Debug)]
pub(super) struct AtomicUsize(atomic::AtomicUsize);

impl AtomicUsize {
    pub(super) fn new(value: usize) -> Self {
        AtomicUsize(atomic::AtomicUsize::new(value))
    }

    pub(super) fn load(&self, order: Ordering) -> usize {
        ordered(order, || self.0.load(order))
    }

    pub(super) fn store(&self, value: usize, order: Ordering) {
        ordered(order, || self.0.store(value, order));
    }
}
