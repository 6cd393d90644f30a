//! Whoever leads, everyone gets the answer that comes, and nobody stays. A call that is lost shows as a thread that nobody wakes:
//! loom reports it.

use std::future::poll_fn;
use std::sync::Arc;
use std::task::{Poll, Waker};

use loom::model::Builder;
use loom::sync::Mutex;
use loom::thread;

use super::crew::Crew;
use super::wire::Wire;
use crate::call::{Cancel, Deadline};
use crate::error::{Kind, Result};

/// How much is tried: every interleaving with so many preemptions.
const PREEMPTIONS: usize = 2;

/// A connection: each byte that comes is the answer to who waits for it.
struct Connection {
    crew: Crew,
    wire: Arc<Wire>,
    answers: Answers,
}

/// By number: who waits, and whether it is there.
type Answers = Arc<Mutex<[(Option<Waker>, bool); 3]>>;

impl Connection {
    fn new() -> Arc<Self> {
        let wire = Arc::new(Wire::new());
        let (crew, answers) = (Crew::new(wire.clone()), Arc::new(Mutex::new([const { (None, false) }; 3])));
        let (socket, told): (_, Answers) = (wire.clone(), answers.clone());
        crew.put(poll_fn(move |context| {
            while let Poll::Ready(byte) = socket.poll_read(context) {
                let mut answers = told.lock().unwrap();
                let (waits, is_there) = &mut answers[usize::from(byte)];
                *is_there = true;
                let waits = waits.take();
                drop(answers);
                if let Some(waits) = waits {
                    waits.wake();
                }
            }
            Poll::Pending
        }));
        Arc::new(Connection { crew, wire, answers })
    }

    /// Waits for an answer.
    fn ask(&self, number: usize, cancel: Option<&Cancel>) -> Result<()> {
        let answer = poll_fn(|context| {
            let (waits, is_there) = &mut self.answers.lock().unwrap()[number];
            *waits = Some(context.waker().clone());
            if *is_there { Poll::Ready(()) } else { Poll::Pending }
        });
        self.crew.wait(answer, &Deadline::never(), &[cancel])
    }
}

impl Connection {
    /// Who comes now can lead: were somebody taken to do so, this would wait for ever.
    fn is_left(&self) {
        self.wire.put(2);
        self.ask(2, None).expect("an answer");
        assert_eq!(self.wire.coming(), 0, "who was called has come");
    }
}

fn check(model: impl Fn() + Sync + Send + 'static) {
    let mut builder = Builder::new();
    builder.preemption_bound = Some(PREEMPTIONS);
    builder.check(model);
}

/// So many wait, and their answers come in this order.
pub fn everyone_gets_an_answer(order: &'static [u8]) {
    check(move || {
        let connection = Connection::new();
        let threads: Vec<_> = (0..order.len())
            .map(|number| {
                let connection = connection.clone();
                thread::spawn(move || connection.ask(number, None).expect("an answer"))
            })
            .collect();
        order.iter().for_each(|number| connection.wire.put(*number));
        threads.into_iter().for_each(|thread| thread.join().unwrap());
        connection.is_left();
    });
}

/// One gives up while another's answer comes: that one gets it, whoever led.
pub fn who_gives_up_leaves_the_lead_to_another() {
    check(|| {
        let connection = Connection::new();
        let cancel = Arc::new(Cancel::default());
        let (theirs, token) = (connection.clone(), cancel.clone());
        let gives_up = thread::spawn(move || assert_eq!(theirs.ask(0, Some(&token)).unwrap_err().kind(), Kind::Cancelled));
        let theirs = connection.clone();
        let waits = thread::spawn(move || theirs.ask(1, None).expect("an answer"));
        cancel.cancel();
        connection.wire.put(1);
        gives_up.join().unwrap();
        waits.join().unwrap();
        connection.is_left();
    });
}

/// Who only looks leads meanwhile, and leaves it to who has come to wait.
pub fn who_glances_leaves_the_lead_to_who_waits() {
    check(|| {
        let connection = Connection::new();
        let theirs = connection.clone();
        let waits = thread::spawn(move || theirs.ask(0, None).expect("an answer"));
        connection.crew.glance();
        connection.wire.put(0);
        waits.join().unwrap();
        connection.is_left();
    });
}
