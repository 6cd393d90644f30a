//! The work of one connection, done by the threads that wait for it: no runtime, no thread of its own.
//!
//! Whoever is here does what can be done at once, sends its own request above all. Of those who then have to wait, one
//! leads: it waits for the socket and does what comes of it, the answers of the others included, who sleep until
//! theirs is there. When its own is there, it leaves the lead to another. While nobody waits, nothing is done.

use std::cell::RefCell;
use std::future::Future;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::pin;
use std::sync::Arc;
use std::task::{Context, Poll, Wake, Waker};
use std::time::Duration;

use crate::call::{Cancel, Deadline, check};
use crate::error::{Error, Kind, Result};
use crate::grpc::sync::{AtomicU8, Mutex, MutexGuard, Ordering, Thread, current, park, thread_local};
use crate::grpc::task::{Ran, Task, lock};
use crate::grpc::wire::Wire;

/// Those who wait for one connection.
#[derive(Debug)]
pub(super) struct Crew {
    wire: Arc<Wire>,
    task: Task,
    watch: Mutex<Watch>,
}

#[derive(Debug, Default)]
struct Watch {
    /// Somebody leads.
    led: bool,
    asleep: Vec<Arc<Member>>,
}

/// One thread that waits.
#[derive(Debug)]
struct Member {
    thread: Thread,
    wire: Arc<Wire>,
    mood: AtomicU8,
}

const AWAKE: u8 = 0;
const ASLEEP: u8 = 1;
const LEADING: u8 = 2;
const CALLED: u8 = 3;

impl Crew {
    /// For the connection over this socket.
    pub(super) fn new(wire: Arc<Wire>) -> Self {
        Crew { wire, task: Task::default(), watch: Mutex::new(Watch::default()) }
    }

    /// Takes in the connection itself, as the future that does its work.
    pub(super) fn put(&self, connection: impl Future<Output = ()> + Send + 'static) {
        self.task.put(connection);
    }

    /// Waits for a future of this connection, the deadline (`timeout`) or a token (`cancelled`). A panic, in this or in the
    /// connection's own work, ends the connection for all who wait for it (`unavailable`).
    pub(super) fn wait<T>(&self, work: impl Future<Output = T>, deadline: &Deadline, cancels: &[Option<&Cancel>]) -> Result<T> {
        catch_unwind(AssertUnwindSafe(|| self.attend(work, deadline, cancels))).unwrap_or_else(|_| {
            self.task.give_up();
            self.wire.ring();
            Err(broken())
        })
    }

    /// Whether a panic has left it of no use.
    pub(super) fn is_broken(&self) -> bool {
        self.task.is_broken()
    }

    fn attend<T>(&self, work: impl Future<Output = T>, deadline: &Deadline, cancels: &[Option<&Cancel>]) -> Result<T> {
        let member = Arc::new(Member { thread: current(), wire: self.wire.clone(), mood: AtomicU8::new(AWAKE) });
        let waker = Waker::from(member.clone());
        let _calls = cancels.iter().map(|cancel| cancel.map(|cancel| cancel.wake(waker.clone()))).collect::<Vec<_>>();
        let mut context = Context::from_waker(&waker);
        // Made before the work is pinned, so that it is dropped after it: what its end leaves to be done is done on the way out.
        let mut place = Place { crew: self, member, leads: false };
        let mut work = pin!(work);
        loop {
            // Before the work is looked at: who calls from now on is heard.
            place.member.mood.swap(AWAKE, Ordering::AcqRel);
            // The work may share a lock with what panicked.
            if self.is_broken() {
                return Err(broken());
            }
            if let Poll::Ready(value) = work.as_mut().poll(&mut context) {
                return Ok(value);
            }
            self.run();
            check(&Deadline::never(), cancels)?;
            let left = deadline.remaining();
            if left.is_some_and(|left| left.is_zero()) {
                check(deadline, cancels)?;
            }
            place.rest(left);
            self.run();
        }
    }

    /// Does what there is to do, without waiting.
    pub(super) fn glance(&self) {
        let mut watch = self.watch();
        if watch.led {
            return;
        }
        watch.led = true;
        drop(watch);
        self.wire.glance();
        self.run();
        self.leave(true);
    }

    /// Does what can be done at once; but not without end what others bring meanwhile: that is for who leads.
    fn run(&self) {
        if self.wire.can_wait() {
            return;
        }
        let held = Held::new();
        let ran = self.task.run();
        drop(held);
        match ran {
            Ran::All => self.wire.flush(),
            Ran::Enough => {
                self.wire.flush();
                self.wire.ring();
            }
            Ran::Elsewhere => {}
            // Who leads sees it, leaves, and calls the next, who does the same.
            Ran::Broken => self.wire.ring(),
        }
    }

    /// Gives up the lead, and sees to it that somebody has it.
    fn leave(&self, led: bool) {
        let mut watch = self.watch();
        if led {
            watch.led = false;
        }
        // Who is called already comes by itself, and sees to it in turn.
        let cared_for = watch.led || watch.asleep.iter().any(|member| member.mood.load(Ordering::Acquire) == CALLED);
        // Who came last waits longest.
        let next = if cared_for { None } else { watch.asleep.pop() };
        drop(watch);
        if let Some(next) = next {
            next.call();
        }
    }

    fn watch(&self) -> MutexGuard<'_, Watch> {
        lock(&self.watch)
    }
}

fn broken() -> Error {
    Error::new(Kind::Unavailable, "a panic in the host's own code ended it; the next call makes another")
}

/// A thread's place in the crew, left when it is dropped.
struct Place<'a> {
    crew: &'a Crew,
    member: Arc<Member>,
    leads: bool,
}

impl Place<'_> {
    /// Sleeps, or leads if nobody does, until there is something to do or the time has passed.
    fn rest(&mut self, left: Option<Duration>) {
        let mood = &self.member.mood;
        if !self.leads {
            let mut watch = self.crew.watch();
            if watch.led {
                watch.asleep.push(self.member.clone());
            } else {
                watch.led = true;
                self.leads = true;
            }
        }
        let resting = if self.leads { LEADING } else { ASLEEP };
        // Behind the lock: who left because it is broken was there before, or calls this one.
        if !self.crew.is_broken() && mood.compare_exchange(AWAKE, resting, Ordering::AcqRel, Ordering::Acquire).is_ok() {
            if self.leads {
                self.crew.wire.wait(left)
            } else {
                park(left)
            }
            let called = mood.compare_exchange(resting, AWAKE, Ordering::AcqRel, Ordering::Acquire).is_err();
            if called && !self.leads {
                self.crew.wire.came();
            }
        }
        if !self.leads {
            self.crew.watch().asleep.retain(|member| !Arc::ptr_eq(member, &self.member));
        }
    }
}

impl Drop for Place<'_> {
    fn drop(&mut self) {
        self.crew.run();
        self.crew.leave(self.leads);
    }
}

thread_local! {
    /// Whether this thread does a connection's work, and whom it has answers for.
    static ANSWERED: RefCell<(bool, Vec<Arc<Member>>)> = RefCell::default();
}

/// While it lives, whom this thread would call is kept: an answer comes in three pieces, and who is called for the first would find
/// no more, sleep, and be called again. They are called when it ends.
struct Held;

impl Held {
    fn new() -> Self {
        // A thread that is ending, and has no such place any more, keeps nothing.
        let _ = ANSWERED.try_with(|answered| answered.borrow_mut().0 = true);
        Held
    }

    /// Keeps a member, if this thread is to; false where it has to be called at once.
    fn keep(member: &Arc<Member>) -> bool {
        let kept = ANSWERED.try_with(|own| {
            let (held, answered) = &mut *own.borrow_mut();
            if *held && !answered.iter().any(|kept| Arc::ptr_eq(kept, member)) {
                answered.push(member.clone());
            }
            *held
        });
        kept.unwrap_or(false)
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        let Ok(mut answered) = ANSWERED.try_with(|own| std::mem::take(&mut own.borrow_mut().1)) else { return };
        answered.drain(..).for_each(|member| member.call());
        // With its room, for the next time.
        let _ = ANSWERED.try_with(|own| *own.borrow_mut() = (false, answered));
    }
}

impl Member {
    fn call(&self) {
        match self.mood.swap(CALLED, Ordering::AcqRel) {
            ASLEEP => {
                self.wire.comes();
                self.thread.unpark();
            }
            LEADING => self.wire.ring(),
            _ => {}
        }
    }
}

impl Wake for Member {
    fn wake(self: Arc<Self>) {
        self.wake_by_ref();
    }

    fn wake_by_ref(self: &Arc<Self>) {
        if !Held::keep(self) {
            self.call();
        }
    }
}

#[cfg(test)]
mod tests;
