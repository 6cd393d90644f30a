//! A question is settled once, whoever settles and ends it at the same time, and only by its own number; who waits is woken.
//! Loom reports an access to what lies there beside another.

use std::sync::{Arc, Mutex};

use loom::model::Builder;
use loom::thread::{self, Thread};

use super::desk::Seat;

const PREEMPTIONS: usize = 3;

#[derive(Default)]
struct Question {
    answer: Option<usize>,
    waits: Option<Thread>,
}

fn check(model: impl Fn() + Sync + Send + 'static) {
    let mut builder = Builder::new();
    builder.preemption_bound = Some(PREEMPTIONS);
    builder.check(model);
}

/// Keeps an answer; whether it was the first.
fn answer(place: &super::desk::Place<Question>, number: u64, with: usize) -> bool {
    let keep = |question: &mut Question| {
        question.answer = Some(with);
        Ok::<_, ()>(question.waits.take())
    };
    let Some(Ok(waits)) = place.settle(number, keep) else { return false };
    if let Some(thread) = waits {
        thread.unpark();
    }
    true
}

/// So many answer the same question; who asked waits, or gives up at once, and asks another in the same place.
pub fn one_answer_is_taken(answers: usize, waits: bool) {
    check(move || {
        let asked = Seat::alone().ask(Question::default());
        let (place, number) = (asked.place(), asked.number());
        let taken = Arc::new(Mutex::new(Vec::new()));
        let others: Vec<_> = (0..answers)
            .map(|with| {
                let taken = taken.clone();
                thread::spawn(move || {
                    if answer(place, number, with) {
                        taken.lock().unwrap().push(with);
                    }
                })
            })
            .collect();
        if waits {
            place.with(number, |question| question.waits = Some(thread::current()));
            while !asked.is_settled() {
                thread::park();
            }
        }
        let (ended, seat) = asked.end();
        let next = seat.ask(Question::default());
        assert!(!answer(place, number, 9), "a number that is void was answered");
        others.into_iter().for_each(|other| other.join().unwrap());
        assert!(!next.is_settled());
        assert!(answer(place, next.number(), 7) && next.end().0.unwrap().answer == Some(7));
        let taken = taken.lock().unwrap().clone();
        assert_eq!(ended.unwrap().answer.into_iter().collect::<Vec<_>>(), taken, "who was told that it answered has answered");
        assert!(!waits || taken.len() == 1);
    });
}
