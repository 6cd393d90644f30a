//! The work of one connection, done by the threads that wait for it: no runtime, no thread of its own.
//!
//! Whoever is here does what can be done at once, sends its own request above all. Of those who then have to wait, one
//! leads: it waits for the socket and does what comes of it, the answers of the others included, who sleep until
//! theirs is there. When its own is there, it leaves the lead to another. While nobody waits, nothing is done.

use std::cell::RefCell;
use std::future::Future;
use std::pin::pin;
use std::sync::Arc;
use std::task::{Context, Poll, Wake, Waker};
use std::time::Duration;

use crate::call::{Cancel, Deadline, check};
use crate::error::Result;
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

    /// Waits for a future of this connection, the deadline (`timeout`) or a token (`cancelled`).
    pub(super) fn wait<T>(&self, work: impl Future<Output = T>, deadline: &Deadline, cancels: &[Option<&Cancel>]) -> Result<T> {
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
        ANSWERED.with(|answered| answered.borrow_mut().0 = true);
        Held
    }

    /// Keeps a member, if this thread is to; false where it has to be called at once.
    fn keep(member: &Arc<Member>) -> bool {
        ANSWERED.with(|own| {
            let (held, answered) = &mut *own.borrow_mut();
            if *held && !answered.iter().any(|kept| Arc::ptr_eq(kept, member)) {
                answered.push(member.clone());
            }
            *held
        })
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        let mut answered = ANSWERED.with(|own| std::mem::take(&mut own.borrow_mut().1));
        answered.drain(..).for_each(|member| member.call());
        // With its room, for the next time.
        ANSWERED.with(|own| *own.borrow_mut() = (false, answered));
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
mod tests {
    use super::*;
    use crate::error::Kind;
    use crate::grpc::wire::Stream;
    use std::collections::HashMap;
    use std::io::Write;
    use std::os::unix::net::UnixStream;
    use std::pin::Pin;
    use tokio::io::{AsyncRead, ReadBuf};

    /// Each byte that comes is the answer to who waits for it.
    #[derive(Default)]
    struct Answers(Mutex<HashMap<u8, Option<Waker>>>);

    impl Answers {
        async fn of(&self, byte: u8) {
            std::future::poll_fn(|context| match lock(&self.0).insert(byte, Some(context.waker().clone())) {
                Some(None) => Poll::Ready(()),
                _ => Poll::Pending,
            })
            .await;
        }
    }

    fn crew() -> (Arc<Crew>, Arc<Answers>, UnixStream) {
        let (ours, theirs) = UnixStream::pair().unwrap();
        ours.set_nonblocking(true).unwrap();
        let wire = Arc::new(Wire::new(ours.into()).unwrap());
        let (crew, answers) = (Arc::new(Crew::new(wire.clone())), Arc::new(Answers::default()));
        let (mut stream, told) = (Stream(wire), answers.clone());
        crew.put(std::future::poll_fn(move |context| {
            loop {
                let mut byte = [0];
                let mut room = ReadBuf::new(&mut byte);
                match Pin::new(&mut stream).poll_read(context, &mut room) {
                    Poll::Pending => return Poll::Pending,
                    Poll::Ready(read) if read.is_err() || room.filled().is_empty() => return Poll::Ready(()),
                    Poll::Ready(_) => drop(lock(&told.0).insert(byte[0], None).flatten().map(Waker::wake)),
                }
            }
        }));
        (crew, answers, theirs)
    }

    #[test]
    fn everyone_gets_an_answer_whoever_leads() {
        let (crew, answers, theirs) = crew();
        for order in [0, 100, 7, 255] {
            lock(&answers.0).clear();
            std::thread::scope(|scope| {
                for byte in 0..64u8 {
                    let (crew, answers) = (&crew, &answers);
                    scope.spawn(move || crew.wait(answers.of(byte), &Deadline::after(Duration::from_secs(60)), &[]).unwrap());
                }
                for byte in 0..64u8 {
                    (&theirs).write_all(&[(byte ^ order) & 63]).unwrap();
                }
            });
        }
        let watch = crew.watch();
        assert!(!watch.led && watch.asleep.is_empty());
    }

    #[test]
    fn deadlines_and_tokens_end_those_who_lead_and_those_who_sleep() {
        let (crew, answers, theirs) = crew();
        let token = Cancel::new();
        let ask = |byte, deadline, cancels: &[Option<&Cancel>]| crew.wait(answers.of(byte), &deadline, cancels).map_err(|e| e.kind());
        let (wait, cancel, long) = (&ask, &token, Duration::from_secs(60));
        std::thread::scope(|scope| {
            let cancelled: Vec<_> = (0..4).map(|byte| scope.spawn(move || wait(byte, Deadline::never(), &[Some(cancel), None]))).collect();
            let late: Vec<_> =
                (4..8).map(|byte| scope.spawn(move || wait(byte, Deadline::after(Duration::from_millis(20)), &[]))).collect();
            let answered = scope.spawn(move || wait(9, Deadline::after(long), &[]));
            assert!(late.into_iter().all(|thread| thread.join().unwrap() == Err(Kind::Timeout)));
            cancel.cancel();
            assert!(cancelled.into_iter().all(|thread| thread.join().unwrap() == Err(Kind::Cancelled)));
            (&theirs).write_all(&[9]).unwrap();
            assert_eq!(answered.join().unwrap(), Ok(()));
        });
    }

    #[test]
    fn what_a_crew_held_is_dropped_with_it() {
        let (crew, answers, _theirs) = crew();
        crew.glance();
        assert_eq!(Arc::strong_count(&answers), 2);
        drop(crew);
        assert_eq!(Arc::strong_count(&answers), 1);
    }
}
