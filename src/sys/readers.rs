//! Who is inside: something that is replaced or ended while others use it is kept until the last of them has left.
//!
//! Who enters counts itself in on one of several counters, so that two threads seldom share a line of memory that is
//! written. Each counter has two sides, and who enters takes the side that is open. What is retired ends once either side
//! was seen empty after it could no longer be found: the closed side first, then the sides change places, then the other.
//! Whoever enters meanwhile does so on the other side, so the wait ends however busy the counters are.
//!
//! Nothing of it is touched after it may have ended: readers outlive all that they keep, because they are never freed.

use std::sync::atomic::Ordering::SeqCst;

use super::sync::{AtomicU64, AtomicUsize, COUNTERS, Mutex, PoisonError, thread_mark};

/// The lower bits of a counter: how many are inside. Those above: how many ever were, as far as they hold it.
const INSIDE: u64 = ENTERED - 1;
const ENTERED: u64 = 1 << 20;

/// Two cache lines each, because processors fetch them in pairs.
#[derive(Debug)]
#[repr(align(128))]
struct Counter([AtomicU64; 2]);

impl Counter {
    fn side(&self, side: usize) -> &AtomicU64 {
        let [even, odd] = &self.0;
        if side == 0 { even } else { odd }
    }
}

/// What ends when nobody can be using it any more: its `drop` is the end.
pub type Retired = Box<dyn Send>;

/// Those who are inside of something.
pub struct Readers {
    /// The side that is open: 0 or 1.
    open: AtomicUsize,
    counters: [Counter; COUNTERS],
    retired: Mutex<Waiting>,
}

#[derive(Default)]
struct Waiting {
    /// Neither side was seen empty since.
    fresh: Vec<Retired>,
    /// The side that is open now was seen empty since.
    aged: Vec<Retired>,
}

/// How many there are and were.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Visits {
    /// Who is inside now.
    pub inside: u64,
    /// Who has ever entered to be counted.
    pub counted: u64,
}

/// Somebody who is inside, until it is dropped.
pub struct Visit {
    readers: &'static Readers,
    counter: &'static AtomicU64,
    side: usize,
    nth: u64,
}

impl std::fmt::Debug for Readers {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Readers").field("visits", &self.visits()).finish_non_exhaustive()
    }
}

impl Readers {
    /// Readers of something new.
    pub fn new() -> Self {
        let counter = || Counter([AtomicU64::new(0), AtomicU64::new(0)]);
        Readers { open: AtomicUsize::new(0), counters: std::array::from_fn(|_| counter()), retired: Mutex::new(Waiting::default()) }
    }

    /// Enters, and is counted for ever. What can be found from here on stays until the visit ends.
    #[inline]
    pub fn enter(&'static self) -> Visit {
        self.visit(ENTERED + 1)
    }

    /// The same, not to be counted.
    pub fn look(&'static self) -> Visit {
        self.visit(1)
    }

    #[inline]
    fn visit(&'static self, weight: u64) -> Visit {
        let side = self.open.load(SeqCst);
        let [first, ..] = &self.counters;
        let counter = self.counters.get(thread_mark() % COUNTERS).unwrap_or(first).side(side);
        let before = counter.fetch_add(weight, SeqCst);
        Visit { readers: self, counter, side, nth: before / ENTERED }
    }

    /// Ends what nobody can find any more, now or with the last who may have found it before, on that thread.
    pub fn retire(&self, what: Retired) {
        self.retired.lock().unwrap_or_else(PoisonError::into_inner).fresh.push(what);
        self.advance();
    }

    /// How many there are and were; while they come and go, about so many.
    pub fn visits(&self) -> Visits {
        let mut visits = Visits::default();
        for counter in self.counters.iter().flat_map(|counter| &counter.0) {
            let count = counter.load(SeqCst);
            visits.inside += count & INSIDE;
            visits.counted += count / ENTERED;
        }
        visits
    }

    /// Ends what both sides were seen empty since, and changes sides for the rest. After whoever retires, and after the last
    /// to leave the closed side: in the one order of these operations, either that one sees that the sides have changed, or
    /// who changed them sees that it has left.
    #[cold]
    fn advance(&self) {
        let mut over = Vec::new();
        let mut waiting = self.retired.lock().unwrap_or_else(PoisonError::into_inner);
        while !(waiting.fresh.is_empty() && waiting.aged.is_empty()) {
            let open = self.open.load(SeqCst);
            if self.counters.iter().any(|counter| counter.side(1 - open).load(SeqCst) & INSIDE > 0) {
                break;
            }
            over.append(&mut waiting.aged);
            waiting.aged = std::mem::take(&mut waiting.fresh);
            self.open.store(1 - open, SeqCst);
        }
        drop(waiting);
        // Not under the lock: these may retire others.
        drop(over);
    }
}

impl Default for Readers {
    fn default() -> Self {
        Self::new()
    }
}

impl Visit {
    /// How many were counted before it, where it was counted: a number that grows by one with each.
    #[inline]
    pub fn nth(&self) -> u64 {
        self.nth
    }
}

impl Drop for Visit {
    #[inline]
    fn drop(&mut self) {
        let before = self.counter.fetch_sub(1, SeqCst);
        // What the visit kept may be gone from here on.
        if before & INSIDE == 1 && self.readers.open.load(SeqCst) != self.side {
            self.readers.advance();
        }
    }
}
