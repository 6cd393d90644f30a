//! What the readers and the desk are built on. A model of them brings its own.

use std::cell::UnsafeCell;
use std::time::Duration;

pub(super) use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
pub(super) use std::sync::{Mutex, PoisonError};

pub(super) use super::thread_mark;

/// Counters: two threads that enter at the same time rarely share one.
pub(super) const COUNTERS: usize = 8;

/// A value that threads hand to each other.
pub(super) struct Shared<T>(UnsafeCell<T>);

impl<T> Shared<T> {
    pub(super) const fn new(value: T) -> Self {
        Shared(UnsafeCell::new(value))
    }

    #[inline]
    pub(super) fn with<R>(&self, f: impl FnOnce(*mut T) -> R) -> R {
        f(self.0.get())
    }
}

/// Between two tries at what another thread has for a moment; it may have been interrupted just then.
#[cold]
pub(super) fn pause(tries: &mut u32) {
    *tries += 1;
    match *tries {
        ..32 => std::hint::spin_loop(),
        32..64 => std::thread::yield_now(),
        _ => {
            *tries = 64;
            std::thread::sleep(Duration::from_micros(50));
        }
    }
}
