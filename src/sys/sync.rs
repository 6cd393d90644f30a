//! What the readers are built on. A model of them brings its own.

pub(super) use std::sync::atomic::{AtomicU64, AtomicUsize};
pub(super) use std::sync::{Mutex, PoisonError};

pub(super) use super::thread_mark;

/// Counters: two threads that enter at the same time rarely share one.
pub(super) const COUNTERS: usize = 8;
