//! Instances among callers: the pool, siblings, nested calls and the end.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Barrier, mpsc};
use std::time::Duration;

use flowplug::call::{Call, Deadline};
use flowplug::error::Kind;

use crate::support::*;

const ASKS: &str = r#"(import "flowbot" "get_config" (func $config (param i32 i32 i32) (result i32)))"#;
/// Asks the host for the config of the key it is given.
const ASK: &str = r#"(func (export "ask") (param i32 i32) (result i64)
    (call $hex (i64.extend_i32_u (call $config (local.get 0) (local.get 1) (i32.const 8192))) (i32.const 0) (i32.const 0)))"#;
const SPIN: &str = r#"(func (export "spin") (result i64) (loop $l (br $l)) (i64.const 0))"#;

#[test]
fn eight_threads_share_four_instances() {
    let setup = Setup::new();
    let plugin = setup.started(&guest(ASKS, ASK));
    let (now, most) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicUsize::new(0)));
    let (inside, peak) = (Arc::clone(&now), Arc::clone(&most));
    setup.host.on_config(move |_, _| {
        peak.fetch_max(inside.fetch_add(1, Ordering::SeqCst) + 1, Ordering::SeqCst);
        std::thread::yield_now();
        inside.fetch_sub(1, Ordering::SeqCst);
        Ok(None)
    });
    std::thread::scope(|s| {
        for thread in 0..8 {
            let plugin = &plugin;
            s.spawn(move || {
                for round in 0..500 {
                    let text = format!("[{thread},{round}]");
                    assert_eq!(ask(plugin, "echo", &text).unwrap(), text);
                    ask(plugin, "ask", "k").unwrap();
                }
            });
        }
    });
    assert!(most.load(Ordering::SeqCst) <= 4, "{most:?} calls ran at once");
}

#[test]
fn a_timeout_of_one_never_touches_another() {
    let plugin = Setup::new().started(&guest("", SPIN));
    let other = Setup::new().started(&guest("", SPIN));
    let done = AtomicUsize::new(0);
    std::thread::scope(|s| {
        for _ in 0..2 {
            s.spawn(|| {
                for _ in 0..5 {
                    assert_eq!(kind_of(ask_with(&plugin, "spin", "", &within(Duration::from_millis(30)))), Kind::Timeout);
                }
                done.fetch_add(1, Ordering::SeqCst);
            });
        }
        while done.load(Ordering::SeqCst) < 2 {
            assert_eq!(ask(&plugin, "echo", "1").unwrap(), "1");
            assert_eq!(ask(&other, "echo", "2").unwrap(), "2");
        }
    });
}

#[test]
fn who_finds_no_instance_is_busy_or_out_of_time() {
    let mut setup = Setup::new();
    setup.grants.max_instances = 1;
    setup.wasm = "  pool:\n    wait_timeout: 50ms\n".to_owned();
    let plugin = setup.started(&guest(ASKS, ASK));
    let (entered, wait) = (Arc::new(Barrier::new(2)), Arc::new(Barrier::new(2)));
    let (inside, release) = (Arc::clone(&entered), Arc::clone(&wait));
    setup.host.on_config(move |_, _| {
        inside.wait();
        release.wait();
        Ok(None)
    });
    std::thread::scope(|s| {
        let holder = s.spawn(|| ask(&plugin, "ask", "k"));
        entered.wait();
        assert_eq!(kind_of(ask(&plugin, "echo", "1")), Kind::Busy);
        assert_eq!(kind_of(ask_with(&plugin, "echo", "1", &within(Duration::from_millis(5)))), Kind::Timeout);
        assert!(plugin.health().ready, "the last answer stands while every instance is in use");
        wait.wait();
        holder.join().unwrap().unwrap();
    });
    assert_eq!(ask(&plugin, "echo", "1").unwrap(), "1");
}

#[test]
fn a_plugin_called_back_from_its_own_host_call() {
    let mut setup = Setup::new();
    setup.grants.max_instances = 2;
    let plugin = setup.started(&guest(ASKS, ASK));
    let (weak, results) = (Arc::downgrade(&plugin), mpsc::channel());
    let sender = std::sync::Mutex::new(results.0);
    setup.host.on_config(move |_, key| {
        let plugin = weak.upgrade().unwrap();
        let nested = if key == "1" { ask(&plugin, "ask", "2") } else { ask(&plugin, "echo", "3") };
        sender.lock().unwrap().send(nested.map_err(|e| e.kind())).unwrap();
        Ok(Some(b"x".to_vec()))
    });
    assert!(ask(&plugin, "ask", "1").unwrap().contains("1:"));
    let inner = results.1.recv().unwrap();
    assert_eq!(inner, Err(Kind::Busy), "the third call of the chain finds both instances held, at once");
    assert!(results.1.recv().unwrap().unwrap().contains("1:"), "the second had the other instance");
    assert_eq!(ask(&plugin, "echo", "1").unwrap(), "1");
}

#[test]
fn an_instance_for_each_call() {
    let counter = r#"(global $n (mut i64) (i64.const 0)) (func (export "count") (result i64)
        (global.set $n (i64.add (global.get $n) (i64.const 1))) (call $hex (global.get $n) (i32.const 0) (i32.const 0)))"#;
    let mut setup = Setup::new();
    let kept = setup.started(&guest("", counter));
    ask(&kept, "count", "").unwrap();
    assert!(ask(&kept, "count", "").unwrap().ends_with("2:\""));
    setup.wasm = "  pool:\n    instance_per_call: true\n".to_owned();
    let fresh = setup.started(&guest("", counter));
    for _ in 0..20 {
        assert!(ask(&fresh, "count", "").unwrap().ends_with("1:\""));
    }
}

#[test]
fn stop_drains_and_then_cancels() {
    let setup = Setup::new();
    let plugin = setup.started(&guest(ASKS, &format!("{ASK} {SPIN}")));
    let (entered, wait) = (Arc::new(Barrier::new(2)), Arc::new(Barrier::new(2)));
    let (inside, release) = (Arc::clone(&entered), Arc::clone(&wait));
    setup.host.on_config(move |_, _| {
        inside.wait();
        release.wait();
        Ok(None)
    });
    std::thread::scope(|s| {
        let asking = s.spawn(|| ask(&plugin, "ask", "k"));
        entered.wait();
        let stopping = s.spawn(|| plugin.stop(&Deadline::never()));
        while ask(&plugin, "echo", "1").is_ok() {
            std::thread::yield_now();
        }
        assert!(!asking.is_finished() && !stopping.is_finished());
        wait.wait();
        asking.join().unwrap().unwrap();
        stopping.join().unwrap();
    });
    assert_eq!(kind_of(ask(&plugin, "echo", "1")), Kind::InvalidState);
    assert!(!plugin.health().ready);
    plugin.stop(&Deadline::never());

    let plugin = Setup::new().started(&guest("", SPIN));
    std::thread::scope(|s| {
        let spinning = s.spawn(|| ask_with(&plugin, "spin", "", &Call::new(Deadline::never())));
        let stopping = s.spawn(|| plugin.stop(&Deadline::after(Duration::from_millis(20))));
        stopping.join().unwrap();
        let kind = kind_of(spinning.join().unwrap());
        assert!(matches!(kind, Kind::Cancelled | Kind::InvalidState), "{kind:?}");
    });
}
