//! What happens to instances between the calls: replaced, counted, shared by many, never waited for in vain.

use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, mpsc};
use std::thread;
use std::time::Duration;

use flowplug::call::{Call, Chain, Deadline};
use flowplug::error::Kind;
use flowplug::wasm::{Plugin, Stats};

use crate::support::*;

const ASKS: &str = r#"(import "flowbot" "get_config" (func $config (param i32 i32 i32) (result i32)))"#;
/// An `init` that traps if the host does not know the key, and a function that always does.
const PARTS: &str = r#"
    (func (export "init") (param i32 i32)
        (if (i32.le_s (call $config (local.get 0) (local.get 1) (i32.const 8192)) (i32.const 0)) (then unreachable)))
    (func (export "die") (result i64) unreachable)
    (func (export "ask") (param i32 i32) (result i64)
        (call $hex (i64.extend_i32_u (call $config (local.get 0) (local.get 1) (i32.const 8192))) (i32.const 0) (i32.const 0)))"#;

/// A plugin of which each run of `init` is reported.
fn reporting(setup: &Setup) -> (Arc<Plugin>, mpsc::Receiver<String>, Arc<AtomicBool>) {
    let (sender, inits) = mpsc::channel();
    let (sender, fails) = (Mutex::new(sender), Arc::new(AtomicBool::new(false)));
    let failing = Arc::clone(&fails);
    setup.host.on_config(move |caller, _| {
        drop(sender.lock().unwrap().send(caller.function.to_owned()));
        Ok((!failing.load(Ordering::SeqCst)).then(|| b"x".to_vec()))
    });
    let plugin = setup.started(&guest(ASKS, PARTS));
    assert_eq!(inits.recv_timeout(LONG).unwrap(), "init");
    (plugin, inits, fails)
}

fn until(plugin: &Plugin, what: impl Fn(&Stats) -> bool) -> Stats {
    let over = Deadline::after(LONG);
    loop {
        let stats = plugin.stats();
        if what(&stats) {
            return stats;
        }
        assert!(!over.expired(), "{stats:?}");
        thread::yield_now();
    }
}

#[test]
fn what_broke_is_replaced_before_anybody_calls() {
    let setup = Setup::new();
    let (plugin, inits, _) = reporting(&setup);
    for round in 1..=3 {
        assert_eq!(kind_of(ask(&plugin, "die", "")), Kind::Trap);
        assert_eq!(inits.recv_timeout(LONG).unwrap(), "init", "without a call");
        let stats = until(&plugin, |stats| stats.idle == 1 && stats.in_use == 0);
        assert_eq!((stats.made, stats.discarded.broken), (1 + round, round));
    }
    assert_eq!(ask(&plugin, "echo", "1").unwrap(), "1");
    assert_eq!(plugin.stats().made, 4, "the call found what was made for it");
    plugin.stop(&Deadline::never());
    let stats = plugin.stats();
    assert_eq!((stats.idle, stats.in_use), (0, 0));
}

#[test]
fn where_the_replacement_fails_the_next_call_tries_and_says_why() {
    let setup = Setup::new();
    let (plugin, inits, fails) = reporting(&setup);
    fails.store(true, Ordering::SeqCst);
    assert_eq!(kind_of(ask(&plugin, "die", "")), Kind::Trap);
    assert_eq!(inits.recv_timeout(LONG).unwrap(), "init");
    until(&plugin, |stats| stats.discarded.broken == 2 && stats.in_use == 0);
    let error = ask(&plugin, "echo", "1").unwrap_err();
    assert_eq!((error.kind(), error.function()), (Kind::Trap, "init"));
    fails.store(false, Ordering::SeqCst);
    assert_eq!(ask(&plugin, "echo", "1").unwrap(), "1");
}

#[test]
fn an_instance_of_each_call_is_not_replaced() {
    let mut setup = Setup::new();
    setup.wasm = "  pool:\n    instance_per_call: true\n".to_owned();
    let plugin = setup.started(&guest("", PARTS_PLAIN));
    let before = plugin.stats().made;
    for _ in 0..5 {
        ask(&plugin, "echo", "1").unwrap();
    }
    assert_eq!(kind_of(ask(&plugin, "die", "")), Kind::Trap);
    let stats = plugin.stats();
    assert_eq!((stats.discarded.spent, stats.discarded.broken, stats.idle), (5, 1, 0), "{stats:?}");
    assert_eq!(stats.made, before + 5, "the first call had the instance of the start");
}

const PARTS_PLAIN: &str = r#"(func (export "die") (result i64) unreachable)"#;

#[test]
fn a_chain_through_another_plugin_is_busy_at_once() {
    let mut setup = Setup::new();
    setup.grants.max_instances = 1;
    setup.wasm = "  pool:\n    wait_timeout: 60s\n".to_owned();
    let plain = PARTS.replace(r#"(export "init")"#, "");
    let (first, second) = (setup.started(&guest(ASKS, &plain)), setup.started(&guest(ASKS, &plain)));
    let (weak, results) = ((Arc::downgrade(&first), Arc::downgrade(&second)), mpsc::channel());
    let sender = Mutex::new(results.0);
    setup.host.on_config(move |_, key| {
        let (first, second) = (weak.0.upgrade().unwrap(), weak.1.upgrade().unwrap());
        let nested = if key == "1" { ask(&second, "ask", "2") } else { ask(&first, "echo", "3") };
        sender.lock().unwrap().send((key.to_owned(), nested.map(drop).map_err(|e| e.kind()))).unwrap();
        Ok(Some(b"x".to_vec()))
    });
    ask(&first, "ask", "1").unwrap();
    assert_eq!(results.1.recv().unwrap(), ("2".to_owned(), Err(Kind::Busy)), "the first plugin's one instance is held by the chain");
    assert_eq!(results.1.recv().unwrap(), ("1".to_owned(), Ok(())));
    assert_eq!(first.stats().waits, 0, "nobody waited for what could not come");
    assert!(Chain::current().is_empty());
}

#[test]
fn sixty_four_threads_on_four_instances_are_all_served() {
    const ROUNDS: usize = 100;
    let mut setup = Setup::new();
    setup.wasm = "  pool:\n    wait_timeout: 60s\n".to_owned();
    let plugin = setup.started(&guest("", PARTS_PLAIN));
    let (echo, served) = (plugin.resolve("echo").unwrap(), AtomicUsize::new(0));
    thread::scope(|s| {
        for number in 0..64 {
            let (plugin, served) = (&plugin, &served);
            s.spawn(move || {
                let mut answer = Vec::new();
                for round in 0..ROUNDS {
                    // Some are in a hurry, and give up in the middle of the crowd.
                    let hurried = number % 16 == 0 && round % 10 == 0;
                    let call = if hurried { Call::new(Deadline::after(Duration::from_micros(50))) } else { call() };
                    let result = plugin.call(echo, "echo", b"[1]", &call, &mut answer);
                    match result {
                        Ok(()) => assert_eq!(answer, b"[1]"),
                        Err(error) => assert_eq!((hurried, error.kind()), (true, Kind::Timeout)),
                    }
                    served.fetch_add(1, Ordering::Relaxed);
                }
            });
        }
    });
    assert_eq!(served.into_inner(), 64 * ROUNDS);
    let stats = until(&plugin, |stats| stats.in_use == 0);
    assert_eq!((stats.max, stats.waiting, stats.busy), (4, 0, 0));
    assert!(stats.idle <= 4 && stats.made - stats.discarded.broken == stats.idle, "{stats:?}");
    plugin.stop(&Deadline::never());
}
