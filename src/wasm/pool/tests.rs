use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc;
use std::thread;

use super::*;

const LONG: Duration = Duration::from_secs(60);

fn take(pool: &Pool<usize>, patience: Duration) -> Result<Turn<'_, usize>> {
    pool.take(patience, &Deadline::never(), &[])
}

fn until_waited_for(pool: &Pool<usize>, waiters: usize) {
    while pool.gate.state.load(Ordering::Relaxed) / WAITER < waiters {
        thread::yield_now();
    }
}

#[test]
fn the_bound_holds_and_what_comes_back_is_reused() {
    let pool = Pool::new(1);
    let mut turn = take(&pool, Duration::ZERO).unwrap();
    assert_eq!(*turn, None);
    assert_eq!(take(&pool, Duration::from_millis(1)).err().unwrap().kind(), Kind::Busy);
    let expired = pool.take(LONG, &Deadline::after(Duration::ZERO), &[]);
    assert_eq!(expired.err().unwrap().kind(), Kind::Timeout);
    assert!(pool.try_take().is_none());
    let stats = pool.stats();
    assert_eq!((stats.max, stats.in_use, stats.idle, stats.waiting, stats.waits, stats.busy), (1, 1, 0, 0, 2, 1));
    turn.put(7);
    drop(turn);
    assert_eq!(*pool.try_take().unwrap(), Some(7));
    let mut turn = take(&pool, Duration::ZERO).unwrap();
    assert_eq!(turn.item(), Some(&mut 7));
    turn.discard(Cause::Broken);
    drop(turn);
    assert!(pool.try_take().is_none(), "what was discarded is not idle");
    assert_eq!(*take(&pool, Duration::ZERO).unwrap(), None);
}

#[test]
fn an_idle_instance_is_taken_before_another_is_made() {
    let pool = Pool::new(3);
    let mut turns: Vec<_> = (0..3).map(|_| take(&pool, Duration::ZERO).unwrap()).collect();
    turns[1].put(1);
    drop(turns);
    assert_eq!(*take(&pool, Duration::ZERO).unwrap(), Some(1));
    let elsewhere = thread::scope(|s| s.spawn(|| *take(&pool, Duration::ZERO).unwrap()).join().unwrap());
    assert_eq!(elsewhere, Some(1));
}

#[test]
fn a_cancelled_wait_ends_and_loses_nothing() {
    let pool = Pool::new(1);
    let (cancel, never) = (Cancel::new(), Deadline::never());
    let mut turn = take(&pool, Duration::ZERO).unwrap();
    thread::scope(|s| {
        let waiter = s.spawn(|| pool.take(LONG, &never, &[Some(&cancel)]).err());
        until_waited_for(&pool, 1);
        cancel.cancel();
        assert_eq!(waiter.join().unwrap().unwrap().kind(), Kind::Cancelled);
    });
    turn.put(1);
    drop(turn);
    assert_eq!(*take(&pool, Duration::ZERO).unwrap(), Some(1));
}

#[test]
fn close_serves_the_queue_and_drain_waits_for_it() {
    let pool = Pool::new(1);
    let mut turn = take(&pool, Duration::ZERO).unwrap();
    thread::scope(|s| {
        let waiter = s.spawn(|| *take(&pool, LONG).unwrap());
        until_waited_for(&pool, 1);
        pool.close();
        assert_eq!(take(&pool, LONG).err().unwrap().kind(), Kind::InvalidState);
        assert!(!pool.drain(&Deadline::after(Duration::from_millis(1))));
        turn.put(3);
        drop(turn);
        assert_eq!(waiter.join().unwrap(), Some(3));
    });
    assert!(pool.drain(&Deadline::never()));
    assert!(pool.try_take().is_none());
    assert_eq!(take(&pool, LONG).err().unwrap().kind(), Kind::InvalidState);
}

#[test]
fn nobody_is_passed_over_for_long() {
    let pool = Pool::new(1);
    let mut turn = take(&pool, Duration::ZERO).unwrap();
    turn.put(0);
    let (release, held) = mpsc::channel::<()>();
    thread::scope(|s| {
        let (theirs, waiting) = (&pool, move || held.recv());
        let waiter = s.spawn(move || {
            let mut turn = take(theirs, LONG).unwrap();
            let _ = waiting();
            *turn.item().unwrap()
        });
        until_waited_for(&pool, 1);
        let mut served = 0;
        loop {
            *turn.item().unwrap() += 1;
            drop(turn);
            match take(&pool, Duration::ZERO) {
                Ok(again) => turn = again,
                Err(error) => break assert_eq!(error.kind(), Kind::Busy),
            }
            served += 1;
            assert!(served <= PASSES, "it was passed over {served} times");
        }
        release.send(()).unwrap();
        assert!(waiter.join().unwrap() <= PASSES as usize + 1);
    });
}

#[test]
fn many_threads_share_few_instances_and_all_end() {
    const THREADS: usize = 16;
    const ROUNDS: usize = 2000;
    const MAX: usize = 2;
    let (pool, made, used) = (Pool::new(MAX), AtomicUsize::new(0), AtomicUsize::new(0));
    thread::scope(|s| {
        for thread in 0..THREADS {
            let (pool, made, used) = (&pool, &made, &used);
            s.spawn(move || {
                for round in 0..ROUNDS {
                    let hurried = thread == 0 && round % 8 == 0;
                    let Ok(mut turn) = take(pool, if hurried { Duration::ZERO } else { LONG }) else {
                        assert!(hurried);
                        continue;
                    };
                    if turn.is_none() {
                        turn.put(made.fetch_add(1, Ordering::SeqCst));
                    }
                    assert!(used.fetch_add(1, Ordering::SeqCst) < MAX);
                    used.fetch_sub(1, Ordering::SeqCst);
                    if (thread + round).is_multiple_of(64) {
                        turn.discard(Cause::Spent);
                    }
                }
            });
        }
    });
    let gate = &pool.gate;
    assert_eq!((gate.state.load(Ordering::Relaxed), gate.awake.load(Ordering::Relaxed)), (0, 0));
    assert!(pool.queue().is_empty());
    let stats = pool.stats();
    assert_eq!((stats.made, stats.idle, stats.in_use), (made.into_inner(), stats.made - stats.discarded.spent, 0));
    pool.close();
    assert!(pool.drain(&Deadline::after(Duration::ZERO)), "a place was left in use");
}

#[test]
fn what_nobody_uses_is_swept_away_but_one() {
    let pool = Pool::new(4);
    let mut turns: Vec<_> = (0..3).map(|_| take(&pool, Duration::ZERO).unwrap()).collect();
    turns.iter_mut().zip(0..).for_each(|(turn, number)| turn.put(number));
    assert!(pool.sweep(), "what is in use stays");
    drop(turns);
    assert!(pool.sweep(), "they were used since the last sweep");
    assert_eq!(pool.stats().idle, 3);
    drop(take(&pool, Duration::ZERO).unwrap());
    assert!(!pool.sweep());
    let stats = pool.stats();
    assert_eq!((stats.idle, stats.discarded.idle), (1, 2));
    assert!(!pool.sweep() && pool.stats().idle == 1, "one is kept for the next call");
}

#[test]
fn a_vacant_place_is_one_beside_another_that_calls_can_have() {
    let pool = Pool::<usize>::new(2);
    let mut turn = take(&pool, Duration::ZERO).unwrap();
    assert!(pool.try_vacant().is_none(), "the other is all that is left");
    turn.put(1);
    drop(turn);
    assert!(pool.try_vacant().is_some_and(|turn| turn.is_none()));
    take(&pool, Duration::ZERO).unwrap().discard(Cause::Grown);
    assert!(pool.try_vacant().is_some());
    pool.close();
    assert!(pool.try_vacant().is_none());
    assert_eq!(pool.stats().discarded.grown, 1);
    assert!(Pool::<usize>::new(1).try_vacant().is_none());
}
