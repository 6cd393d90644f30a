//! Threads that wait for one connection, and what ends their wait.

use super::*;
use crate::grpc::wire::Stream;
use std::collections::HashMap;
use std::io::Write;
use std::os::unix::net::UnixStream;
use std::pin::Pin;
use tokio::io::{AsyncRead, ReadBuf};

/// At which the connection panics.
const PANICS: u8 = 200;

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
                Poll::Ready(_) if byte[0] == PANICS => panic!("the connection's own"),
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
        let late: Vec<_> = (4..8).map(|byte| scope.spawn(move || wait(byte, Deadline::after(Duration::from_millis(20)), &[]))).collect();
        let answered = scope.spawn(move || wait(9, Deadline::after(long), &[]));
        assert!(late.into_iter().all(|thread| thread.join().unwrap() == Err(Kind::Timeout)));
        cancel.cancel();
        assert!(cancelled.into_iter().all(|thread| thread.join().unwrap() == Err(Kind::Cancelled)));
        (&theirs).write_all(&[9]).unwrap();
        assert_eq!(answered.join().unwrap(), Ok(()));
    });
}

#[test]
fn a_panic_ends_the_connection_for_all_who_wait_and_nothing_else() {
    for own in [false, true] {
        let (crew, answers, theirs) = crew();
        std::thread::scope(|scope| {
            let (crew, answers) = (&crew, &answers);
            let wait = move |byte| crew.wait(answers.of(byte), &Deadline::after(Duration::from_secs(60)), &[]).map_err(|e| e.kind());
            let waiting: Vec<_> = (0..4).map(|byte| scope.spawn(move || wait(byte))).collect();
            (&theirs).write_all(&[9]).unwrap();
            assert_eq!(wait(9), Ok(()));
            // In a call's own future, as its place is left the connection's panics too; or in that alone.
            (&theirs).write_all(&[PANICS]).unwrap();
            if own {
                let panics = async { panic!("a call's own") };
                assert_eq!(crew.wait(panics, &Deadline::never(), &[]).unwrap_err().kind(), Kind::Unavailable);
            }
            assert!(waiting.into_iter().all(|thread| thread.join().unwrap() == Err(Kind::Unavailable)));
            assert!(crew.is_broken());
            assert_eq!(wait(9), Err(Kind::Unavailable));
        });
    }
}

#[test]
fn a_thread_that_ends_can_still_call() {
    struct Calls(std::sync::mpsc::Sender<Result<()>>);
    impl Drop for Calls {
        fn drop(&mut self) {
            let (crew, answers, theirs) = crew();
            (&theirs).write_all(&[3]).unwrap();
            self.0.send(crew.wait(answers.of(3), &Deadline::after(Duration::from_secs(60)), &[])).unwrap();
        }
    }
    std::thread_local! {
        static BEFORE: RefCell<Option<Calls>> = const { RefCell::new(None) };
        static AFTER: RefCell<Option<Calls>> = const { RefCell::new(None) };
    }
    let (told, calls) = std::sync::mpsc::channel();
    std::thread::spawn(move || {
        // One of the two is dropped when what a crew keeps for the thread is gone.
        BEFORE.set(Some(Calls(told.clone())));
        drop(Held::new());
        AFTER.set(Some(Calls(told)));
    });
    assert_eq!(calls.iter().map(|called| called.unwrap()).count(), 2);
}

#[test]
fn what_a_crew_held_is_dropped_with_it() {
    let (crew, answers, _theirs) = crew();
    crew.glance();
    assert_eq!(Arc::strong_count(&answers), 2);
    drop(crew);
    assert_eq!(Arc::strong_count(&answers), 1);
}
