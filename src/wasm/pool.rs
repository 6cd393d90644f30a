//! Who has which instance: at most so many at a time, kept warm, and callers that wait are served by age.
//!
//! Each instance has a slot, and a turn is a slot that is locked: one atomic operation takes it, one gives it back, and
//! threads that return to their own slots share no memory that is written. Only who finds no slot free goes to the
//! [queue], which is woken, never polls, and is passed over by at most [`PASSES`] turns of a slot in a row.
//!
//! A wake-up cannot be lost: who gives back unlocks its slot, then looks for waiters; who waits makes itself known, then
//! looks at the slots. Unlocking and looking stand in the one order of all that is `SeqCst`, and so does a fence between the
//! two steps of who waits: one of them sees the other.

use std::ops::Deref;
use std::time::Duration;

use super::sync::{AtomicBool, AtomicUsize, Condvar, Locked, Mutex, Ordering, PoisonError, Stopwatch, TryLock, fence, lock, thread_mark};
use crate::call::{Cancel, Deadline};
use crate::error::{Error, Kind, Result};

use queue::Queue;
pub(super) use stats::Cause;
pub use stats::Stats;
use stats::{Counts, count};
use upkeep::USED;

mod queue;
mod stats;
#[cfg(test)]
mod tests;
mod upkeep;

/// How often in a row a slot that comes back is left to whoever comes first while others wait. A change of threads costs as
/// much as some ten short calls: so many share its cost, and one that waits waits no more than this many times its share.
const PASSES: u32 = 16;
/// After this long without a hand-over its cost does not matter: the next turn is handed over at once.
const UNSHARED: Duration = Duration::from_micros(50);

/// Instances and those who wait for one.
pub(super) struct Pool<T> {
    slots: Box<[Slot<T>]>,
    gate: Gate,
    /// Where threads found their last turns.
    hints: [AtomicUsize; HINTS],
    queue: Mutex<Queue>,
    drained: Condvar,
    clock: Stopwatch,
    counts: Counts,
}

/// What takers and givers look at. Written only when somebody waits or the pool is closed.
#[repr(align(128))]
struct Gate {
    /// [`CLOSED`], and [`WAITER`] for each that waits.
    state: AtomicUsize,
    /// Waiters that are on their way to look at the slots.
    awake: AtomicUsize,
    /// One of them came and found nothing: the next turn is theirs.
    owed: AtomicBool,
    /// When a turn was last handed over, in microseconds of the pool's clock.
    handed: AtomicUsize,
}

const CLOSED: usize = 1;
const WAITER: usize = 2;

const HINTS: usize = 16;

/// A place for an instance, on cache lines of its own.
#[repr(align(128))]
struct Slot<T> {
    lock: TryLock<Place<T>>,
    /// There is an instance: where to look first.
    warm: AtomicBool,
    /// For those who wait, if anybody does.
    reserved: AtomicBool,
    /// [`USED`], less what was taken note of.
    used: AtomicUsize,
}

struct Place<T> {
    /// Which of the slots it is.
    index: usize,
    item: Option<T>,
    /// Nobody is to use it any more.
    retired: bool,
    /// How often it came back in a row without going to those who waited.
    passed: u32,
}

/// The right to one of the pool's places until it is dropped: with an instance, or to [`put`](Turn::put) one there. What lies
/// there then is kept for the next. Two words, so that it is handed on in registers.
pub(super) struct Turn<'a, T> {
    pool: &'a Pool<T>,
    /// None only when it ends.
    place: Option<Locked<'a, Place<T>>>,
}

impl<T> Deref for Turn<'_, T> {
    type Target = Option<T>;

    #[inline]
    fn deref(&self) -> &Option<T> {
        self.place.as_ref().map_or(&None, |place| &place.item)
    }
}

impl<T> Turn<'_, T> {
    /// The instance, to be used.
    #[inline]
    pub(super) fn item(&mut self) -> Option<&mut T> {
        self.place.as_mut()?.item.as_mut()
    }

    /// Puts a new instance there.
    pub(super) fn put(&mut self, item: T) {
        let Some(place) = &mut self.place else { return };
        place.item = Some(item);
        self.pool.warm_up(place, true);
        count(&self.pool.counts.made);
    }

    /// Ends the instance.
    pub(super) fn discard(&mut self, cause: Cause) {
        let Some(place) = &mut self.place else { return };
        self.pool.warm_up(place, false);
        if place.item.take().is_some() {
            count(self.pool.counts.discarded(cause));
        }
    }
}

impl<T> Drop for Turn<'_, T> {
    #[inline]
    fn drop(&mut self) {
        if let Some(place) = self.place.take() {
            self.pool.give_back(place);
        }
    }
}

impl<T> Pool<T> {
    /// An empty pool of at most `max` instances (one at least).
    pub(super) fn new(max: usize) -> Self {
        let slot = |index| Slot {
            lock: TryLock::new(Place { index, item: None, retired: false, passed: 0 }),
            warm: AtomicBool::new(false),
            reserved: AtomicBool::new(false),
            used: AtomicUsize::new(0),
        };
        Pool {
            slots: (0..max.max(1)).map(slot).collect(),
            gate: Gate {
                state: AtomicUsize::new(0),
                awake: AtomicUsize::new(0),
                owed: AtomicBool::new(false),
                handed: AtomicUsize::new(0),
            },
            hints: std::array::from_fn(|_| AtomicUsize::new(0)),
            queue: Mutex::new(Queue::default()),
            drained: Condvar::new(),
            clock: Stopwatch::start(),
            counts: Counts::default(),
        }
    }

    /// The instances that there are. Of two who each put one there and then ask, one at least hears of both.
    pub(super) fn warm(&self) -> usize {
        self.slots.iter().filter(|slot| slot.warm.load(Ordering::SeqCst)).count()
    }

    /// The most instances at a time.
    pub(super) fn max(&self) -> usize {
        self.slots.len()
    }

    /// A turn; waits for one at most `patience` (then `busy`), to the deadline (`timeout`) or until a token is set.
    pub(super) fn take(&self, patience: Duration, deadline: &Deadline, cancels: &[Option<&Cancel>]) -> Result<Turn<'_, T>> {
        match self.take_again() {
            Some(turn) => Ok(turn),
            None => self.search(patience, deadline, cancels),
        }
    }

    /// The instance that this thread had last, if nobody has or waits for it: what [`take`](Self::take) tries first.
    #[inline(always)]
    pub(super) fn take_again(&self) -> Option<Turn<'_, T>> {
        if self.gate.state.load(Ordering::Relaxed) != 0 {
            return None;
        }
        let slot = self.slots.get(self.hint().load(Ordering::Relaxed)).filter(|slot| slot.is_warm())?;
        self.hold_for_use(slot)
    }

    #[cold]
    #[inline(never)]
    fn search(&self, patience: Duration, deadline: &Deadline, cancels: &[Option<&Cancel>]) -> Result<Turn<'_, T>> {
        if self.is_closed() {
            return Err(closed());
        }
        match self.scan(!self.is_waited_for()) {
            Some(turn) => Ok(turn),
            None => self.wait(patience, deadline, cancels),
        }
    }

    /// A place that nobody holds, rather one with an instance; those that are reserved for who is `entitled`.
    fn scan(&self, entitled: bool) -> Option<Turn<'_, T>> {
        let hint = self.hint();
        let start = hint.load(Ordering::Relaxed).min(self.slots.len());
        let (before, from) = self.slots.split_at_checked(start)?;
        let order = || (start..).zip(from).chain((0..).zip(before)).filter(|(_, slot)| entitled || !slot.is_reserved());
        let warm = order().filter(|(_, slot)| slot.is_warm());
        let (index, turn) = warm.chain(order()).find_map(|(index, slot)| Some((index, self.hold_for_use(slot)?)))?;
        if index != start {
            hint.store(index, Ordering::Relaxed);
        }
        Some(turn)
    }

    /// For a caller, not for the pool's own upkeep.
    #[inline(always)]
    fn hold_for_use<'a>(&'a self, slot: &'a Slot<T>) -> Option<Turn<'a, T>> {
        let turn = self.hold(slot)?;
        if slot.used.load(Ordering::Relaxed) != USED {
            slot.used.store(USED, Ordering::Relaxed);
        }
        Some(turn)
    }

    #[inline(always)]
    fn hold<'a>(&'a self, slot: &'a Slot<T>) -> Option<Turn<'a, T>> {
        let place = lock(&slot.lock)?;
        if slot.is_reserved() {
            slot.reserved.store(false, Ordering::Relaxed);
        }
        if place.retired {
            // Like any other: a drain may have found it locked.
            self.give_back(place);
            return None;
        }
        Some(Turn { pool: self, place: Some(place) })
    }

    #[inline]
    fn give_back(&self, mut place: Locked<'_, Place<T>>) {
        let state = self.gate.state.load(Ordering::Relaxed);
        let handed = if state == 0 {
            place.passed = 0;
            false
        } else {
            self.decide(state, &mut place)
        };
        drop(place);
        if self.gate.state.load(Ordering::SeqCst) != 0 {
            self.settle(handed);
        }
    }

    /// Whether to look there first.
    fn warm_up(&self, place: &Place<T>, warm: bool) {
        if let Some(slot) = self.slots.get(place.index) {
            slot.warm.store(warm, Ordering::SeqCst);
        }
    }

    /// Where this thread found its last turn, or another that shares the mark.
    #[inline]
    fn hint(&self) -> &AtomicUsize {
        let [first, ..] = &self.hints;
        self.hints.get(thread_mark() % HINTS).unwrap_or(first)
    }

    /// Before a place is let go while somebody waits or the pool is closed: whether it is handed to those who wait.
    #[cold]
    fn decide(&self, state: usize, place: &mut Place<T>) -> bool {
        if state == CLOSED {
            place.item = None;
            self.warm_up(place, false);
            return false;
        }
        if state < WAITER {
            return false;
        }
        let gate = &self.gate;
        let passed = place.passed;
        place.passed += 1;
        let now = || usize::try_from(self.clock.elapsed().as_micros()).unwrap_or(usize::MAX);
        // The clock costs as much as a short call's turn: it is not read each time.
        let rested =
            || passed.is_multiple_of(4) && now().saturating_sub(gate.handed.load(Ordering::Relaxed)) >= UNSHARED.as_micros() as usize;
        let owed = gate.owed.load(Ordering::Relaxed);
        if owed || passed >= PASSES || rested() {
            if owed {
                gate.owed.store(false, Ordering::Relaxed);
            }
            gate.handed.store(now(), Ordering::Relaxed);
            place.passed = 0;
            if let Some(slot) = self.slots.get(place.index) {
                slot.reserved.store(true, Ordering::Relaxed);
            }
            return true;
        }
        false
    }

    /// Refuses whoever comes from now on; those in the queue are still served.
    pub(super) fn close(&self) {
        let queue = self.queue();
        self.gate.state.fetch_or(CLOSED, Ordering::Relaxed);
        drop(queue);
    }

    /// Waits until nobody has a turn or waits for one, and ends the instances; whether that was before the deadline. The
    /// pool must be closed.
    pub(super) fn drain(&self, deadline: &Deadline) -> bool {
        let mut queue = self.queue();
        // Against who gives back: it sees that the pool is closed, or this sees its place.
        fence(Ordering::SeqCst);
        while !(queue.is_empty() && self.retire()) {
            queue = match deadline.remaining() {
                Some(Duration::ZERO) => return false,
                Some(left) => self.drained.wait_timeout(queue, left).unwrap_or_else(PoisonError::into_inner).0,
                None => self.drained.wait(queue).unwrap_or_else(PoisonError::into_inner),
            };
        }
        true
    }

    /// Ends what nobody holds; whether that was everything.
    fn retire(&self) -> bool {
        let mut all = true;
        for slot in &self.slots {
            match lock(&slot.lock) {
                Some(mut place) => {
                    place.retired = true;
                    place.item = None;
                    slot.warm.store(false, Ordering::Relaxed);
                }
                None => all = false,
            }
        }
        all
    }

    /// Whether new callers are refused.
    pub(super) fn is_closed(&self) -> bool {
        self.gate.state.load(Ordering::Relaxed) & CLOSED != 0
    }

    fn is_waited_for(&self) -> bool {
        self.gate.state.load(Ordering::Relaxed) >= WAITER
    }
}

impl<T> Slot<T> {
    #[inline]
    fn is_warm(&self) -> bool {
        self.warm.load(Ordering::Relaxed)
    }

    #[inline]
    fn is_reserved(&self) -> bool {
        self.reserved.load(Ordering::Relaxed)
    }
}

#[cold]
fn closed() -> Error {
    Error::new(Kind::InvalidState, "The plugin has been stopped. Load it again to call it.").of_no_run()
}
