//! What must hold however the threads run. A wake-up that is lost shows as a thread that nobody wakes: loom reports it.

use std::time::Duration;

use loom::model::Builder;
use loom::sync::{Arc, Condvar, Mutex};
use loom::thread;

use super::pool::{Pool, Turn};
use super::sync::RESTED;
use crate::call::{Cancel, Deadline};
use crate::error::{Kind, Result};

/// How much is tried: every interleaving with so many preemptions, of which the known faults of such pools need two.
const PREEMPTIONS: usize = 2;

/// Runs a model twice: turns are left to whoever comes, and turns are handed over.
pub(super) fn check(model: impl Fn() + Sync + Send + Clone + 'static) {
    for rested in [Duration::ZERO, Duration::from_secs(1)] {
        let mut builder = Builder::new();
        builder.preemption_bound = Some(PREEMPTIONS);
        let model = model.clone();
        builder.check(move || {
            RESTED.set(rested);
            model();
        });
    }
}

pub(super) fn take<'a>(pool: &'a Pool<u32>, cancel: Option<&Cancel>) -> Result<Turn<'a, u32>> {
    pool.take(Duration::MAX, &Deadline::never(), &[cancel])
}

/// A call: makes the instance if there is none, and leaves it.
fn call(pool: &Pool<u32>) {
    let mut turn = take(pool, None).expect("a turn");
    if turn.is_none() {
        turn.put(1);
    }
}

/// So many threads call so often on so few places: all are served.
pub fn all_are_served(threads: usize, rounds: usize, places: usize) {
    check(move || {
        let pool = Arc::new(Pool::new(places));
        let others: Vec<_> = (1..threads)
            .map(|_| {
                let pool = pool.clone();
                thread::spawn(move || (0..rounds).for_each(|_| call(&pool)))
            })
            .collect();
        (0..rounds).for_each(|_| call(&pool));
        others.into_iter().for_each(|other| other.join().unwrap());
        assert!(pool.try_take().is_some(), "what came back is kept");
    });
}

/// A waiter gives up while what it waits for comes back: another, who waits too, gets it.
pub fn who_gives_up_takes_nothing_along() {
    check(|| {
        let pool = Arc::new(Pool::new(1));
        let cancel = Arc::new(Cancel::default());
        let turn = take(&pool, None).expect("a turn");
        let (theirs, token) = (pool.clone(), cancel.clone());
        let gives_up = thread::spawn(move || match take(&theirs, Some(&token)) {
            Ok(turn) => drop(turn),
            Err(error) => assert_eq!(error.kind(), Kind::Cancelled),
        });
        let theirs = pool.clone();
        let waits = thread::spawn(move || call(&theirs));
        cancel.cancel();
        drop(turn);
        gives_up.join().unwrap();
        waits.join().unwrap();
        assert!(pool.try_take().is_some());
    });
}

/// Two places come back while two wait: both are served at the same time.
pub fn two_places_serve_two() {
    check(|| {
        let pool = Arc::new(Pool::new(2));
        let inside = Arc::new((Mutex::new(0), Condvar::new()));
        let turns = [take(&pool, None), take(&pool, None)];
        let calls: Vec<_> = (0..2)
            .map(|_| {
                let (pool, inside) = (pool.clone(), inside.clone());
                thread::spawn(move || {
                    let _turn = take(&pool, None);
                    let mut count = inside.0.lock().unwrap();
                    *count += 1;
                    inside.1.notify_all();
                    while *count < 2 {
                        count = inside.1.wait(count).unwrap();
                    }
                })
            })
            .collect();
        drop(turns);
        calls.into_iter().for_each(|call| call.join().unwrap());
    });
}

/// The pool is closed and drained while one is in use and another is asked for: the drain ends, and nobody has a turn after.
pub fn a_drain_ends_after_the_last_turn() {
    check(|| {
        let pool = Arc::new(Pool::new(1));
        let calls: Vec<_> = (0..2)
            .map(|_| {
                let pool = pool.clone();
                thread::spawn(move || match take(&pool, None) {
                    Ok(mut turn) => turn.put(1),
                    Err(error) => assert_eq!(error.kind(), Kind::InvalidState),
                })
            })
            .collect();
        pool.close();
        assert!(pool.drain(&Deadline::never()));
        assert!(take(&pool, None).is_err(), "after the end there are no turns");
        assert!(pool.try_take().is_none(), "after the end there are no instances");
        calls.into_iter().for_each(|call| call.join().unwrap());
    });
}

/// A drain whose time is over says so, and a later one ends.
pub fn a_drain_can_be_tried_again() {
    check(|| {
        let pool = Arc::new(Pool::new(1));
        let theirs = pool.clone();
        let turn = thread::spawn(move || drop(take(&theirs, None)));
        pool.close();
        if !pool.drain(&Deadline::over()) {
            assert!(pool.drain(&Deadline::never()));
        }
        turn.join().unwrap();
    });
}
