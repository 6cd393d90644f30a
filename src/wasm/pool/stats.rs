//! What the pool has counted.

use std::sync::atomic::{AtomicUsize, Ordering};

use super::{Pool, WAITER, lock};

/// How a pool is this moment, and what has happened in it since the plugin was loaded.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Stats {
    /// The most instances at a time.
    pub max: usize,
    /// Instances that wait for a call.
    pub idle: usize,
    /// Calls that have an instance, or are making one.
    pub in_use: usize,
    /// Calls that wait for one.
    pub waiting: usize,
    /// Instances that were made.
    pub made: usize,
    /// Instances that were ended, by cause.
    pub discarded: Discarded,
    /// Calls that had to wait.
    pub waits: usize,
    /// Calls that waited in vain.
    pub busy: usize,
}

impl Stats {
    /// Of two pools together.
    #[must_use]
    pub fn and(&self, other: &Stats) -> Stats {
        let (ours, theirs) = (&self.discarded, &other.discarded);
        Stats {
            max: self.max + other.max,
            idle: self.idle + other.idle,
            in_use: self.in_use + other.in_use,
            waiting: self.waiting + other.waiting,
            made: self.made + other.made,
            discarded: Discarded {
                broken: ours.broken + theirs.broken,
                grown: ours.grown + theirs.grown,
                spent: ours.spent + theirs.spent,
                idle: ours.idle + theirs.idle,
            },
            waits: self.waits + other.waits,
            busy: self.busy + other.busy,
        }
    }
}

/// Instances that were ended.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Discarded {
    /// After a trap, a timeout, an exit, or an answer that was none.
    pub broken: usize,
    /// Their memory had grown past what is kept warm.
    pub grown: usize,
    /// Each call had one to itself (`instance_per_call`).
    pub spent: usize,
    /// Nobody had used them for a while.
    pub idle: usize,
}

/// Why an instance is ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in super::super) enum Cause {
    Broken,
    Grown,
    Spent,
    Idle,
}

/// Written where time does not matter: no warm call without waiting comes by.
#[derive(Default)]
pub(super) struct Counts {
    pub(super) made: AtomicUsize,
    broken: AtomicUsize,
    grown: AtomicUsize,
    spent: AtomicUsize,
    idle: AtomicUsize,
    pub(super) waits: AtomicUsize,
    pub(super) busy: AtomicUsize,
}

pub(super) fn count(counter: &AtomicUsize) {
    counter.fetch_add(1, Ordering::Relaxed);
}

impl Counts {
    pub(super) fn discarded(&self, cause: Cause) -> &AtomicUsize {
        match cause {
            Cause::Broken => &self.broken,
            Cause::Grown => &self.grown,
            Cause::Spent => &self.spent,
            Cause::Idle => &self.idle,
        }
    }
}

impl<T> Pool<T> {
    /// How it is. Looks at each place in turn: while calls come and go, the numbers need not fit together.
    pub(in super::super) fn stats(&self) -> Stats {
        let read = |counter: &AtomicUsize| counter.load(Ordering::Relaxed);
        let Counts { made, broken, grown, spent, idle, waits, busy } = &self.counts;
        let mut stats = Stats {
            max: self.max(),
            waiting: self.gate.state.load(Ordering::Relaxed) / WAITER,
            made: read(made),
            discarded: Discarded { broken: read(broken), grown: read(grown), spent: read(spent), idle: read(idle) },
            waits: read(waits),
            busy: read(busy),
            ..Stats::default()
        };
        for slot in &self.slots {
            match lock(&slot.lock) {
                Some(place) => {
                    stats.idle += usize::from(place.item.is_some());
                    self.give_back(place);
                }
                None => stats.in_use += 1,
            }
        }
        stats
    }
}
