//! Plugins whose process ends: what is told of it, and how they come back.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    missing_docs,
    unreachable_pub,
    reason = "a test fails by panicking"
)]

#[path = "restarts/support.rs"]
mod support;

use std::time::{Duration, Instant};

use flowplug::call::Deadline;
use flowplug::error::Kind;
use flowplug::plugin::{State, metrics};
use serde_json::{Value, json};
use support::{Bench, LONG, call, order, types};

#[test]
fn a_plugin_that_crashed_is_back_with_its_config() {
    let bench = Bench::new();
    let plugin = bench.started(&bench.fixture("backoff: 10ms"), r#"{"n": 1.10}"#);
    let first = order(&plugin, json!({"do": "pid"})).unwrap();
    let waiting = {
        let plugin = plugin.clone();
        std::thread::spawn(move || order(&plugin, json!({"do": "sleep", "ms": 60_000})))
    };
    while plugin.vitals().in_flight == 0 {
        std::thread::yield_now();
    }
    for error in [order(&plugin, json!({"do": "crash"})).unwrap_err(), waiting.join().unwrap().unwrap_err()] {
        assert_eq!((error.kind(), &error.details()["exit_status"]), (Kind::Unavailable, &json!(3)), "{error}");
    }
    let events = bench.host.wait_for("restarted", 1);
    assert_eq!(types(&events), ["crashed", "restarted"]);
    assert_eq!((&events[0]["state"], &events[0]["crash"]["exit_status"]), (&json!("error"), &json!(3)));
    assert!(events[0]["crash"]["stderr"].is_array(), "{events:#?}");
    assert_eq!(events[1]["state"], "running");
    assert_ne!(order(&plugin, json!({"do": "pid"})).unwrap(), first);
    assert_eq!(order(&plugin, json!({"do": "config"})).unwrap(), json!({"n": 1.10}));
    assert_eq!(order(&plugin, json!({"do": "calls"})).unwrap()["calls"], 3);
    let health = plugin.health();
    assert_eq!((&health["restarts"], &health["state"], &health["crash"]["exit_status"]), (&json!(1), &json!("running"), &json!(3)));
    assert_eq!((plugin.vitals().restarts, bench.processes().len()), (1, 1));
    let counted = || metrics::text([("p".to_owned(), plugin.measures())]);
    assert!(counted().contains("flowplug_restarts_total{plugin=\"p\"} 1\n"), "{}", counted());
    plugin.reload(plugin.manifest(), b"", &call(), &Deadline::after(LONG)).unwrap();
    assert!(counted().contains("flowplug_restarts_total{plugin=\"p\"} 1\n"), "{}", counted());
    while bench.sockets() > 1 {
        std::thread::yield_now();
    }
}

#[test]
fn tries_that_fail_count_until_one_is_well() {
    for (what, from, to, restarts) in [("fails-at-once", 2, 4, 1), ("fails-in-init", 2, 3, 1), ("fails-in-call", 1, 3, 3)] {
        let bench = Bench::new();
        let plugin = bench.started(&bench.failing(what, from, to, "backoff: 1ms"), "null");
        let mut heard = Vec::new();
        match what {
            "fails-in-call" => {
                for _ in 0..3 {
                    assert_eq!(order(&plugin, Value::Null).unwrap_err().kind(), Kind::Unavailable);
                    heard.extend(types(&bench.host.wait_for("restarted", 1)));
                }
            }
            _ => {
                bench.kill();
                heard = types(&bench.host.wait_for("restarted", 1));
            }
        }
        let failed = heard.iter().filter(|kind| *kind == "restart_failed").count();
        assert_eq!(failed, if what == "fails-in-call" { 0 } else { (to - from + 1) as usize }, "{what}: {heard:?}");
        assert_eq!(order(&plugin, Value::Null).unwrap(), Value::Null, "{what}");
        assert_eq!(plugin.health()["restarts"], restarts, "{what}");
    }
}

#[test]
fn past_the_last_try_it_stays_in_error_until_it_is_reloaded() {
    let bench = Bench::new();
    let plugin = bench.started(&bench.failing("fails-at-once", 2, 4, "backoff: 1ms, max_restarts: 3"), "null");
    bench.kill();
    let heard = types(&bench.host.wait_for("restart_failed", 3));
    assert_eq!(heard, ["crashed", "restart_failed", "restart_failed", "restart_failed"]);
    let error = order(&plugin, Value::Null).unwrap_err();
    assert_eq!((error.kind(), plugin.state()), (Kind::Unavailable, State::Error), "{error}");
    for part in ["after 3 restarts", "grpc.restart.max_restarts", "reload it", "exit status 5"] {
        assert!(error.message().contains(part), "{part}: {error}");
    }
    let health = plugin.health();
    assert_eq!((&health["ready"], &health["restarts"], &health["crash"]["signal"]), (&json!(false), &json!(0), &json!(9)));
    assert!(bench.processes().is_empty());
    // The fifth process is well, and its crashes are counted from the first.
    plugin.reload(plugin.manifest(), b"", &call(), &Deadline::after(LONG)).unwrap();
    assert_eq!(order(&plugin, Value::Null).unwrap(), Value::Null);
    for _ in 0..3 {
        bench.kill();
        bench.host.wait_for("restarted", 1);
    }
    bench.kill();
    bench.host.wait_for("crashed", 1);
    assert!(order(&plugin, Value::Null).unwrap_err().message().contains("after 3 restarts"));
}

#[test]
fn a_plugin_that_is_not_to_be_started_again_is_not() {
    let bench = Bench::new();
    let plugin = bench.started(&bench.failing("fails-at-once", 0, 0, "policy: never, backoff: 1ms"), "null");
    bench.kill();
    bench.host.wait_for("crashed", 1);
    let error = order(&plugin, Value::Null).unwrap_err();
    assert_eq!(error.kind(), Kind::Unavailable, "{error}");
    assert!(error.message().contains("reload it") && error.message().contains("signal 9"), "{error}");
    // Nor one that was loaded and never started.
    let loaded = bench.load(&bench.failing("fails-at-once", 0, 0, "backoff: 1ms"));
    bench.kill();
    bench.host.wait_for("crashed", 1);
    assert_eq!(loaded.start(b"", &call()).unwrap_err().kind(), Kind::Unavailable);
    assert!(bench.processes().is_empty());
    assert!(bench.host.types().is_empty());
}

/// A plugin that waits for its next try, which is half a minute away.
fn waiting(bench: &Bench) -> std::sync::Arc<flowplug::plugin::Plugin> {
    let plugin = bench.started(&bench.failing("fails-at-once", 0, 0, "backoff: 5m"), "null");
    bench.kill();
    bench.host.wait_for("crashed", 1);
    let error = order(&plugin, Value::Null).unwrap_err();
    assert_eq!(error.kind(), Kind::Unavailable, "{error}");
    assert!(error.message().contains("it is started again in ") && error.message().contains("try 1 of 5"), "{error}");
    plugin
}

/// Half of the wait: what ends it at once ends long before.
const AT_ONCE: Duration = Duration::from_secs(15);

#[test]
fn what_ends_a_plugin_ends_its_wait_for_another_try() {
    let bench = Bench::new();
    let begun = Instant::now();
    let plugin = waiting(&bench);
    plugin.stop(&Deadline::after(LONG)).unwrap();
    assert_eq!((plugin.state(), bench.sockets()), (State::Stopped, 0));
    let plugin = waiting(&bench);
    plugin.reload(plugin.manifest(), b"", &call(), &Deadline::after(LONG)).unwrap();
    assert_eq!(order(&plugin, Value::Null).unwrap(), Value::Null);
    assert_eq!((plugin.health()["restarts"].as_u64(), bench.processes().len()), (Some(0), 1));
    plugin.stop(&Deadline::after(LONG)).unwrap();
    let plugin = waiting(&bench);
    let freed = std::sync::Arc::downgrade(&plugin);
    drop(plugin);
    while freed.upgrade().is_some() {
        assert!(begun.elapsed() < AT_ONCE, "the wait keeps the plugin");
        std::thread::yield_now();
    }
    waiting(&bench);
    bench.environment.close(&Deadline::after(LONG));
    assert!(begun.elapsed() < AT_ONCE, "{:?}", begun.elapsed());
}

#[test]
fn a_try_that_hangs_is_ended_by_a_stop_and_by_a_reload() {
    for stop in [true, false] {
        let bench = Bench::new();
        let plugin = bench.started(&bench.failing("hangs-at-once", 2, 2, "backoff: 1ms"), "null");
        bench.kill();
        bench.host.wait_for("crashed", 1);
        bench.wait_for_processes(2);
        let begun = Instant::now();
        assert!(order(&plugin, Value::Null).unwrap_err().message().contains("it is being started again"));
        if stop {
            plugin.stop(&Deadline::after(LONG)).unwrap();
            assert!(bench.processes().is_empty());
        } else {
            plugin.reload(plugin.manifest(), b"", &call(), &Deadline::after(LONG)).unwrap();
            assert_eq!(order(&plugin, Value::Null).unwrap(), Value::Null);
            assert_eq!(bench.host.types(), ["reloaded"]);
        }
        // The manifest gives it a minute.
        assert!(begun.elapsed() < AT_ONCE, "{:?}", begun.elapsed());
    }
}

#[test]
fn plugins_whose_starts_hang_do_not_hold_up_another() {
    let bench = Bench::new();
    let hanging = bench.failing("hangs-at-once", 9, u32::MAX, "backoff: 1ms");
    let plugins: Vec<_> = (0..8).map(|_| bench.started(&hanging, "null")).collect();
    bench.kill_all();
    bench.host.wait_for("crashed", plugins.len());
    bench.wait_for_processes(16);
    let begun = Instant::now();
    let other = bench.started(&bench.fixture("backoff: 1ms"), "{}");
    order(&other, json!({"do": "crash"})).unwrap_err();
    bench.host.wait_for("restarted", 1);
    // The manifest gives those that hang a minute.
    assert!(begun.elapsed() < AT_ONCE, "{:?}", begun.elapsed());
    assert!(plugins.iter().all(|plugin| plugin.state() == State::Error));
}
