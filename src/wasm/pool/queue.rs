//! Those who wait for a turn, oldest first.
//!
//! Whoever is woken comes to look at the slots itself, and what it finds is its own. So nothing is lost when a waiter gives up
//! just then: it wakes the next, who finds the same. While somebody waits and a place is free, somebody is awake.

use std::collections::VecDeque;
use std::task::Waker;
use std::time::Duration;

use super::super::sync::{MutexGuard, Ordering, PoisonError, fence, lock};
use super::{Pool, Turn, WAITER, closed, count};
use crate::call::{self, Cancel, Deadline};
use crate::error::{Error, Kind, Result};

#[derive(Default)]
pub(super) struct Queue {
    waiters: VecDeque<Waiter>,
    next: u64,
}

struct Waiter {
    id: u64,
    waker: Waker,
    /// It is on its way to look.
    awake: bool,
}

impl Queue {
    pub(super) fn is_empty(&self) -> bool {
        self.waiters.is_empty()
    }

    fn push(&mut self, waker: Waker) -> u64 {
        self.next += 1;
        self.waiters.push_back(Waiter { id: self.next, waker, awake: false });
        self.next
    }

    fn find(&self, id: u64) -> Option<usize> {
        self.waiters.binary_search_by_key(&id, |waiter| waiter.id).ok()
    }
}

impl<T> Pool<T> {
    #[cold]
    pub(super) fn wait(&self, patience: Duration, deadline: &Deadline, cancels: &[Option<&Cancel>]) -> Result<Turn<'_, T>> {
        let mut queue = self.queue();
        if self.is_closed() {
            return Err(closed());
        }
        let id = queue.push(call::thread_waker());
        self.gate.state.fetch_add(WAITER, Ordering::Relaxed);
        fence(Ordering::SeqCst);
        if let Some(turn) = self.scan(queue.waiters.len() == 1) {
            self.leave(&mut queue, id);
            return Ok(turn);
        }
        drop(queue);
        count(&self.counts.waits);
        deadline.begin();
        let until = deadline.at_most(patience);
        call::wait(&until, cancels, drop, || self.look(id)).map_err(|error| self.give_up(id, error, deadline, patience))
    }

    /// A turn for a waiter that has been woken, if it finds one.
    fn look(&self, id: u64) -> Option<Turn<'_, T>> {
        let mut queue = self.queue();
        let waiter = queue.find(id).and_then(|at| queue.waiters.get_mut(at)).filter(|waiter| waiter.awake)?;
        waiter.awake = false;
        self.gate.awake.fetch_sub(1, Ordering::Relaxed);
        // Against who gives back: it sees that nobody is awake, or this sees its place.
        fence(Ordering::SeqCst);
        let Some(turn) = self.scan(true) else {
            self.gate.owed.store(true, Ordering::Relaxed);
            return None;
        };
        self.leave(&mut queue, id);
        let next = self.next_for_free(&mut queue);
        drop(queue);
        wake(next);
        Some(turn)
    }

    /// Leaves the queue without a turn; what it was woken for is for the next.
    fn give_up(&self, id: u64, error: Error, deadline: &Deadline, patience: Duration) -> Error {
        let mut queue = self.queue();
        self.leave(&mut queue, id);
        let next = self.next_for_free(&mut queue);
        if queue.is_empty() && self.is_closed() {
            self.drained.notify_all();
        }
        drop(queue);
        wake(next);
        if error.kind() != Kind::Timeout || deadline.expired() {
            return error.of_no_run();
        }
        count(&self.counts.busy);
        Error::new(
            Kind::Busy,
            format!(
                "All {} instances were in use for {patience:?}. Call again later, or raise wasm.pool.max_instances or wasm.pool.wait_timeout.",
                self.max()
            ),
        )
    }

    fn leave(&self, queue: &mut Queue, id: u64) {
        if let Some(waiter) = queue.find(id).and_then(|at| queue.waiters.remove(at)) {
            self.gate.state.fetch_sub(WAITER, Ordering::Relaxed);
            if waiter.awake {
                self.gate.awake.fetch_sub(1, Ordering::Relaxed);
            }
        }
    }

    /// After a place was let go while somebody waited or the pool was closed.
    #[cold]
    pub(super) fn settle(&self, handed: bool) {
        if !handed && self.gate.awake.load(Ordering::SeqCst) != 0 && !self.is_closed() {
            return;
        }
        let mut queue = self.queue();
        let next = if handed || self.gate.awake.load(Ordering::Relaxed) == 0 { self.rouse(&mut queue) } else { None };
        if queue.is_empty() && self.is_closed() {
            self.drained.notify_all();
        }
        drop(queue);
        wake(next);
    }

    /// The oldest that sleeps, if it must be woken because a place is free.
    fn next_for_free(&self, queue: &mut Queue) -> Option<Waker> {
        if queue.is_empty() || self.gate.awake.load(Ordering::Relaxed) != 0 {
            return None;
        }
        fence(Ordering::SeqCst);
        let free = self.slots.iter().any(|slot| lock(&slot.lock).is_some());
        if free { self.rouse(queue) } else { None }
    }

    /// Makes the oldest that sleeps one that is awake; it must be woken.
    fn rouse(&self, queue: &mut Queue) -> Option<Waker> {
        let waiter = queue.waiters.iter_mut().find(|waiter| !waiter.awake)?;
        waiter.awake = true;
        self.gate.awake.fetch_add(1, Ordering::Relaxed);
        Some(waiter.waker.clone())
    }

    pub(super) fn queue(&self) -> MutexGuard<'_, Queue> {
        self.queue.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Outside of the queue's lock, so that who is woken does not run into it.
fn wake(waker: Option<Waker>) {
    if let Some(waker) = waker {
        waker.wake();
    }
}
