//! The work of one connection, done by the threads that wait for it: no runtime, no thread of its own.
//!
//! Whoever is here does what can be done at once, sends its own request above all. Of those who then have to wait, one
//! leads: it waits for the socket and does what comes of it, the answers of the others included, who sleep until
//! theirs is there. When its own is there, it leaves the lead to another. While nobody waits, nothing is done.

use std::collections::{HashMap, VecDeque};
use std::future::Future;
use std::pin::{Pin, pin};
use std::sync::atomic::{AtomicBool, AtomicU8, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::task::{Context, Poll, Wake, Waker};
use std::thread::Thread;
use std::time::Duration;

use crate::call::{Cancel, Deadline, check};
use crate::error::Result;
use crate::grpc::wire::Wire;

/// Those who wait for one connection.
#[derive(Debug)]
pub(super) struct Crew {
    wire: Arc<Wire>,
    tasks: Arc<Tasks>,
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
        Crew { wire, tasks: Arc::default(), watch: Mutex::default() }
    }

    /// Takes in what the connection wants done.
    pub(super) fn tasks(&self) -> Spawner {
        Spawner(Arc::downgrade(&self.tasks))
    }

    /// Waits for a future of this connection, the deadline (`timeout`) or a token (`cancelled`).
    pub(super) fn wait<T>(&self, work: impl Future<Output = T>, deadline: &Deadline, cancels: &[Option<&Cancel>]) -> Result<T> {
        let member = Arc::new(Member { thread: std::thread::current(), wire: self.wire.clone(), mood: AtomicU8::new(AWAKE) });
        let waker = Waker::from(member.clone());
        let _calls = cancels.iter().map(|cancel| cancel.map(|cancel| cancel.wake(waker.clone()))).collect::<Vec<_>>();
        let mut context = Context::from_waker(&waker);
        // Made before the work is pinned, so that it is dropped after it: what its end leaves to be done is done on the way out.
        let mut place = Place { crew: self, member, leads: false };
        let mut work = pin!(work);
        loop {
            // Before the work is looked at: who calls from now on is heard.
            place.member.mood.swap(AWAKE, Ordering::AcqRel);
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
        match self.tasks.run() {
            Ran::All => self.wire.flush(),
            Ran::Enough => {
                self.wire.flush();
                self.wire.ring();
            }
            Ran::Elsewhere => {}
        }
    }

    /// Gives up the lead, and sees to it that somebody has it.
    fn leave(&self, led: bool) {
        let mut watch = self.watch();
        if led {
            watch.led = false;
        }
        // Who came last waits longest. Who is called already comes by itself.
        let next = if watch.led { None } else { watch.asleep.iter().rposition(|member| member.mood.load(Ordering::Acquire) != CALLED) };
        let next = next.map(|place| watch.asleep.swap_remove(place));
        drop(watch);
        if let Some(next) = next {
            next.call();
        }
    }

    fn watch(&self) -> MutexGuard<'_, Watch> {
        self.watch.lock().unwrap_or_else(PoisonError::into_inner)
    }
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
        if mood.compare_exchange(AWAKE, resting, Ordering::AcqRel, Ordering::Acquire).is_ok() {
            match left {
                _ if self.leads => self.crew.wire.wait(left),
                Some(left) => std::thread::park_timeout(left),
                None => std::thread::park(),
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
        self.call();
    }

    fn wake_by_ref(self: &Arc<Self>) {
        self.call();
    }
}

/// The most that a thread does in one go before it looks after itself.
const BATCH: usize = 64;

/// What a connection consists of: futures, polled by whoever is here, one thread at a time.
#[derive(Debug, Default)]
struct Tasks {
    running: Mutex<()>,
    waiting: AtomicUsize,
    ready: Mutex<VecDeque<Arc<Task>>>,
    live: Mutex<HashMap<usize, Arc<Task>>>,
}

/// What came of the work.
enum Ran {
    /// There is none left.
    All,
    /// There is more, but this thread has done its share.
    Enough,
    /// Another thread is at it, and does what has come since.
    Elsewhere,
}

struct Task {
    work: Mutex<Option<Work>>,
    queued: AtomicBool,
    tasks: Weak<Tasks>,
}

type Work = Pin<Box<dyn Future<Output = ()> + Send>>;

/// Where a connection puts its futures.
#[derive(Clone, Debug)]
pub(super) struct Spawner(Weak<Tasks>);

impl<F: Future<Output = ()> + Send + 'static> hyper::rt::Executor<F> for Spawner {
    fn execute(&self, work: F) {
        let Some(tasks) = self.0.upgrade() else { return };
        let task = Arc::new(Task { work: Mutex::new(Some(Box::pin(work))), queued: AtomicBool::new(false), tasks: self.0.clone() });
        lock(&tasks.live).insert(task.key(), task.clone());
        task.wake();
    }
}

impl Tasks {
    /// Does what can be done now, unless another thread is at it.
    fn run(&self) -> Ran {
        if self.waiting.load(Ordering::Acquire) == 0 {
            return Ran::All;
        }
        let mut left = BATCH;
        loop {
            let Ok(running) = self.running.try_lock() else { return Ran::Elsewhere };
            while let Some(task) = self.next() {
                task.run(self);
                left -= 1;
                if left == 0 {
                    return Ran::Enough;
                }
            }
            drop(running);
            // Who found the lock taken, and left, had put something here before.
            if lock(&self.ready).is_empty() {
                return Ran::All;
            }
        }
    }

    fn next(&self) -> Option<Arc<Task>> {
        let mut ready = lock(&self.ready);
        let task = ready.pop_front();
        self.waiting.store(ready.len(), Ordering::Release);
        task
    }
}

impl Drop for Tasks {
    fn drop(&mut self) {
        // Each is kept by the wakers that it holds itself.
        for task in std::mem::take(&mut *lock(&self.live)).into_values() {
            let work = lock(&task.work).take();
            drop(work);
        }
    }
}

impl Task {
    fn key(self: &Arc<Self>) -> usize {
        Arc::as_ptr(self).addr()
    }

    fn run(self: Arc<Self>, tasks: &Tasks) {
        // Before it is polled: a wake from now on is for the next time.
        self.queued.store(false, Ordering::Release);
        let waker = Waker::from(self.clone());
        let mut work = lock(&self.work);
        let done = work.as_mut().is_some_and(|work| work.as_mut().poll(&mut Context::from_waker(&waker)).is_ready());
        if done {
            *work = None;
            lock(&tasks.live).remove(&self.key());
        }
    }
}

impl Wake for Task {
    fn wake(self: Arc<Self>) {
        if self.queued.swap(true, Ordering::AcqRel) {
            return;
        }
        if let Some(tasks) = self.tasks.upgrade() {
            let mut ready = lock(&tasks.ready);
            ready.push_back(self);
            tasks.waiting.store(ready.len(), Ordering::Release);
        }
    }
}

impl std::fmt::Debug for Task {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Task").finish_non_exhaustive()
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
