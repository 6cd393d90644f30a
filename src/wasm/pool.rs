//! Who has which instance: at most so many at a time, kept warm, and callers that wait are served by age.
//!
//! A short call may take an instance that is free this moment, but one who has waited for [`PATIENCE`] is handed the next
//! that comes back. A turn is never lost: whoever gives up hands on what came too late.

use std::collections::VecDeque;
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use std::task::Waker;
use std::time::{Duration, Instant};

use crate::call::{self, Cancel, Deadline};
use crate::error::{Error, Kind, Result};

/// How long one waits before nobody younger is served first.
const PATIENCE: Duration = Duration::from_millis(1);

/// Instances and those who wait for one.
pub(super) struct Pool<T> {
    state: Mutex<State<T>>,
    drained: Condvar,
    max: usize,
}

struct State<T> {
    idle: Vec<T>,
    /// Turns that somebody has: instances in use or being made.
    out: usize,
    waiting: VecDeque<Waiter>,
    /// Turns handed to waiters that have not looked yet.
    handed: Vec<(u64, Turn<T>)>,
    next: u64,
    closed: bool,
}

struct Waiter {
    id: u64,
    since: Instant,
    waker: Waker,
}

/// What a caller got.
pub(super) enum Turn<T> {
    /// An instance.
    Ready(T),
    /// The right to make one.
    Make,
}

impl<T> Pool<T> {
    /// An empty pool of at most `max` instances (one at least).
    pub(super) fn new(max: usize) -> Self {
        let state = State { idle: Vec::new(), out: 0, waiting: VecDeque::new(), handed: Vec::new(), next: 0, closed: false };
        Pool { state: Mutex::new(state), drained: Condvar::new(), max: max.max(1) }
    }

    /// The most instances at a time.
    pub(super) fn max(&self) -> usize {
        self.max
    }

    /// A turn; waits for one at most `patience` (then `busy`), to the deadline (`timeout`) or until a token is set. What is
    /// taken must be given back by [`Pool::give`] or [`Pool::discard`].
    pub(super) fn take(&self, patience: Duration, deadline: &Deadline, cancels: &[Option<&Cancel>]) -> Result<Turn<T>> {
        let mut state = self.state();
        if state.closed {
            return Err(closed());
        }
        if let Some(turn) = state.turn(self.max) {
            return Ok(turn);
        }
        let (id, since) = (state.next, Instant::now());
        state.next += 1;
        // Queued before the lock is let go: who closes and drains must see it. An early wake-up is kept by the thread.
        state.waiting.push_back(Waiter { id, since, waker: call::thread_waker() });
        drop(state);
        self.wait(id, since, patience, deadline, cancels)
    }

    /// An idle instance, if there is one this moment.
    pub(super) fn try_take(&self) -> Option<T> {
        let mut state = self.state();
        let item = state.idle.pop()?;
        state.out += 1;
        Some(item)
    }

    #[cold]
    fn wait(&self, id: u64, since: Instant, patience: Duration, deadline: &Deadline, cancels: &[Option<&Cancel>]) -> Result<Turn<T>> {
        let until = match (deadline.moment(), since.checked_add(patience)) {
            (Some(end), Some(busy)) => Deadline::at(end.min(busy)),
            (Some(end), None) | (None, Some(end)) => Deadline::at(end),
            (None, None) => Deadline::never(),
        };
        call::wait(&until, cancels, drop, || self.state().turn_of(id, self.max))
            .or_else(|error| self.give_up(id, error, deadline, patience))
    }

    /// Leaves the queue, unless a turn has come in the meantime.
    fn give_up(&self, id: u64, error: Error, deadline: &Deadline, patience: Duration) -> Result<Turn<T>> {
        let mut state = self.state();
        if let Some(turn) = state.handed_to(id) {
            return Ok(turn);
        }
        state.waiting.retain(|waiter| waiter.id != id);
        let next = state.could_serve(self.max);
        let drained = state.drained();
        drop(state);
        if let Some(waker) = next {
            waker.wake();
        }
        if drained {
            self.drained.notify_all();
        }
        if error.kind() != Kind::Timeout || deadline.expired() {
            return Err(error);
        }
        Err(Error::new(
            Kind::Busy,
            format!(
                "All {} instances were in use for {patience:?}. Call again later, or raise wasm.pool.max_instances or wasm.pool.wait_timeout.",
                self.max
            ),
        ))
    }

    /// An instance comes back clean.
    pub(super) fn give(&self, item: T) {
        drop(self.back(Turn::Ready(item)));
    }

    /// A turn ends without an instance: it was discarded, or could not be made.
    pub(super) fn discard(&self) {
        drop(self.back(Turn::Make));
    }

    /// Hands the turn on, or keeps it; what is returned is to be dropped outside of the lock.
    fn back(&self, turn: Turn<T>) -> Option<T> {
        let mut state = self.state();
        if state.waiting.front().is_some_and(|oldest| oldest.since.elapsed() >= PATIENCE) {
            if let Some(oldest) = state.waiting.pop_front() {
                state.handed.push((oldest.id, turn));
                drop(state);
                oldest.waker.wake();
            }
            return None;
        }
        state.out -= 1;
        let unused = match turn {
            Turn::Ready(item) if state.closed && state.waiting.is_empty() => Some(item),
            Turn::Ready(item) => {
                state.idle.push(item);
                None
            }
            Turn::Make => None,
        };
        let next = state.could_serve(self.max);
        let drained = state.drained();
        drop(state);
        if let Some(waker) = next {
            waker.wake();
        }
        if drained {
            self.drained.notify_all();
        }
        unused
    }

    /// Refuses whoever comes from now on; those in the queue are still served.
    pub(super) fn close(&self) {
        let mut state = self.state();
        state.closed = true;
        let idle = if state.waiting.is_empty() { std::mem::take(&mut state.idle) } else { Vec::new() };
        drop(state);
        drop(idle);
    }

    /// Waits until nobody has a turn or waits for one; whether that was before the deadline.
    pub(super) fn drain(&self, deadline: &Deadline) -> bool {
        let mut state = self.state();
        while !(state.out == 0 && state.waiting.is_empty()) {
            state = match deadline.remaining() {
                Some(Duration::ZERO) => return false,
                Some(left) => self.drained.wait_timeout(state, left).unwrap_or_else(PoisonError::into_inner).0,
                None => self.drained.wait(state).unwrap_or_else(PoisonError::into_inner),
            };
        }
        let idle = std::mem::take(&mut state.idle);
        drop(state);
        drop(idle);
        true
    }

    /// Whether new callers are refused.
    pub(super) fn is_closed(&self) -> bool {
        self.state().closed
    }

    fn state(&self) -> MutexGuard<'_, State<T>> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl<T> State<T> {
    /// A turn for whoever asks this moment.
    fn turn(&mut self, max: usize) -> Option<Turn<T>> {
        let turn = match self.idle.pop() {
            Some(item) => Turn::Ready(item),
            None if self.out < max => Turn::Make,
            None => return None,
        };
        self.out += 1;
        Some(turn)
    }

    /// A turn for a waiter: what was handed to it, or what is free.
    fn turn_of(&mut self, id: u64, max: usize) -> Option<Turn<T>> {
        if let Some(turn) = self.handed_to(id) {
            return Some(turn);
        }
        let turn = self.turn(max)?;
        self.waiting.retain(|waiter| waiter.id != id);
        Some(turn)
    }

    fn handed_to(&mut self, id: u64) -> Option<Turn<T>> {
        let place = self.handed.iter().position(|(waiter, _)| *waiter == id)?;
        Some(self.handed.swap_remove(place).1)
    }

    /// The oldest waiter, where something is free for it: it must be woken, or nobody may come to look.
    fn could_serve(&self, max: usize) -> Option<Waker> {
        let free = !self.idle.is_empty() || self.out < max;
        self.waiting.front().filter(|_| free).map(|oldest| oldest.waker.clone())
    }

    fn drained(&self) -> bool {
        self.closed && self.out == 0 && self.waiting.is_empty()
    }
}

#[cold]
pub(super) fn closed() -> Error {
    Error::new(Kind::InvalidState, "The plugin has been stopped. Load it again to call it.")
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::atomic::{AtomicUsize, Ordering};

    fn take(pool: &Pool<u32>, patience: Duration) -> Result<Turn<u32>> {
        pool.take(patience, &Deadline::never(), &[])
    }

    #[test]
    fn the_bound_holds_and_what_comes_back_is_reused() {
        let pool = Pool::new(1);
        assert!(matches!(take(&pool, Duration::ZERO), Ok(Turn::Make)));
        assert_eq!(take(&pool, Duration::from_millis(1)).err().unwrap().kind(), Kind::Busy);
        let expired = pool.take(Duration::from_secs(60), &Deadline::after(Duration::ZERO), &[]);
        assert_eq!(expired.err().unwrap().kind(), Kind::Timeout);
        pool.give(7);
        assert!(matches!(take(&pool, Duration::ZERO), Ok(Turn::Ready(7))));
        pool.discard();
        assert!(matches!(take(&pool, Duration::ZERO), Ok(Turn::Make)));
    }

    #[test]
    fn a_cancelled_wait_ends_and_loses_nothing() {
        let pool = Pool::new(1);
        let (cancel, never) = (Cancel::new(), Deadline::never());
        let _turn = take(&pool, Duration::ZERO).unwrap();
        std::thread::scope(|s| {
            let waiter = s.spawn(|| pool.take(Duration::from_secs(60), &never, &[Some(&cancel)]));
            while pool.state().waiting.is_empty() {
                std::thread::yield_now();
            }
            cancel.cancel();
            assert_eq!(waiter.join().unwrap().err().unwrap().kind(), Kind::Cancelled);
        });
        pool.give(1);
        assert!(matches!(take(&pool, Duration::ZERO), Ok(Turn::Ready(1))));
    }

    #[test]
    fn close_serves_the_queue_and_drain_waits_for_it() {
        let pool = Pool::new(1);
        let _turn = take(&pool, Duration::ZERO).unwrap();
        std::thread::scope(|s| {
            let waiter = s.spawn(|| take(&pool, Duration::from_secs(60)));
            while pool.state().waiting.is_empty() {
                std::thread::yield_now();
            }
            pool.close();
            assert_eq!(take(&pool, Duration::ZERO).err().unwrap().kind(), Kind::InvalidState);
            assert!(!pool.drain(&Deadline::after(Duration::from_millis(1))));
            pool.give(3);
            assert!(matches!(waiter.join().unwrap(), Ok(Turn::Ready(3))));
            pool.give(3);
        });
        assert!(pool.drain(&Deadline::never()));
        assert!(pool.state().idle.is_empty());
    }

    #[test]
    fn many_threads_share_few_instances_and_all_end() {
        const THREADS: usize = 16;
        const ROUNDS: usize = 2000;
        let (pool, made, used) = (Pool::new(2), AtomicUsize::new(0), AtomicUsize::new(0));
        std::thread::scope(|s| {
            for thread in 0..THREADS {
                let (pool, made, used) = (&pool, &made, &used);
                s.spawn(move || {
                    for round in 0..ROUNDS {
                        let item = match take(pool, Duration::from_secs(60)).unwrap() {
                            Turn::Ready(item) => item,
                            Turn::Make => u32::try_from(made.fetch_add(1, Ordering::SeqCst)).unwrap(),
                        };
                        assert!(used.fetch_add(1, Ordering::SeqCst) < 2);
                        used.fetch_sub(1, Ordering::SeqCst);
                        if (thread + round) % 64 == 0 { pool.discard() } else { pool.give(item) }
                    }
                });
            }
        });
        assert_eq!(pool.state().out, 0);
        assert!(pool.state().idle.len() <= 2 && pool.state().waiting.is_empty() && pool.state().handed.is_empty());
    }
}
