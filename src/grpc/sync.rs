//! What a crew is built on. A model of the crew brings its own.

use std::time::Duration;

pub(super) use std::sync::atomic::{AtomicBool, AtomicU8, Ordering, fence};
pub(super) use std::sync::{Mutex, MutexGuard, PoisonError, TryLockError};
pub(super) use std::thread::{Thread, current};
pub(super) use std::thread_local;

/// Sleeps until somebody calls this thread, or for so long.
pub(super) fn park(limit: Option<Duration>) {
    match limit {
        Some(limit) => std::thread::park_timeout(limit),
        None => std::thread::park(),
    }
}
