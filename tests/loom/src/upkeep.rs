//! What goes on beside the calls: what broke is replaced, and nobody works in a pool whose ticker rests.

use loom::sync::{Arc, Condvar, Mutex};
use loom::thread;

use super::model::{check, take};
use super::pool::{Cause, Pool};
use super::refill::Refill;
use super::rest::Rest;

/// Makes an instance in the background, if there is a place for it.
fn replace(pool: &Pool<u32>, refill: &Refill) -> bool {
    let Some(mut turn) = pool.try_vacant() else { return false };
    turn.put(1);
    refill.gained();
    true
}

/// A call whose instance breaks.
fn breaks(pool: &Pool<u32>, refill: &Refill) {
    let mut turn = take(pool, None).expect("a turn");
    if turn.is_none() {
        turn.put(1);
        refill.gained();
    }
    turn.discard(Cause::Broken);
    drop(turn);
    if refill.lost() {
        refill.run(|| replace(pool, refill));
    }
}

/// Two calls break theirs at the same time: when all is quiet there is an instance, and nobody thinks that one is being made.
pub fn what_broke_is_replaced() {
    check(|| {
        let both = Arc::new((Pool::new(2), Refill::new()));
        let theirs = both.clone();
        let other = thread::spawn(move || breaks(&theirs.0, &theirs.1));
        let (pool, refill) = &*both;
        breaks(pool, refill);
        other.join().unwrap();
        assert!(pool.warm() > 0, "nothing was made for what broke last");
        assert!(refill.lost(), "somebody is still making");
    });
}

/// How often a ticker has come to the end of a round: after a rest, or because it is needed.
#[derive(Default)]
struct Rounds {
    count: Mutex<usize>,
    changed: Condvar,
}

/// A ticker would rest, twice, while there are two calls. The second waits for its ticks, as one does that never ends; the first
/// is over soon.
pub fn who_is_called_has_ticks() {
    check(|| {
        let all = Arc::new((Pool::new(1), Rest::new(), Rounds::default()));
        let theirs = all.clone();
        let ticker = thread::spawn(move || {
            let (pool, rest, rounds) = &*theirs;
            for _ in 0..2 {
                rest.take(|| !pool.is_idle());
                *rounds.count.lock().unwrap() += 1;
                rounds.changed.notify_all();
            }
        });
        let (pool, rest, rounds) = &*all;
        for waits_for in [0, 2] {
            let turn = take(pool, None).expect("a turn");
            rest.end();
            let mut count = rounds.count.lock().unwrap();
            while *count < waits_for {
                count = rounds.changed.wait(count).unwrap();
            }
            drop(count);
            drop(turn);
        }
        ticker.join().unwrap();
    });
}
