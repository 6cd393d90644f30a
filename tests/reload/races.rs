//! Reloads beside what else happens to a plugin: calls that take long, other reloads, stops, callbacks.

use std::sync::mpsc::channel;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use flowplug::call::{Call, Cancel, Deadline};
use flowplug::error::{Kind, Result};
use flowplug::plugin::{Plugin, State};
use serde_json::Value;

use super::processes::{kill, pid, process_with};
use super::support::*;

fn in_background(plugin: &Arc<Plugin>, function: &'static str) -> std::thread::JoinHandle<Result<Value>> {
    let plugin = plugin.clone();
    std::thread::spawn(move || ask(&plugin, function))
}

fn until(over: impl Fn() -> bool) {
    let bound = Deadline::after(LONG);
    while !over() {
        assert!(!bound.expired(), "it never came");
        std::thread::yield_now();
    }
}

#[test]
fn a_call_in_flight_ends_on_its_own_version_while_others_see_the_new() {
    let bench = Bench::new();
    let (first, second) = (bench.manifest(&module(1, ""), "", ""), bench.manifest(&module(2, ""), "", ""));
    let plugin = bench.started(&first, 1);
    let gate = gated(&bench.host);
    let long = in_background(&plugin, "ask");
    gate.reached(1);
    assert_eq!(plugin.vitals().in_flight, 1);
    std::thread::scope(|scope| {
        let reload = scope.spawn(|| plugin.reload(second, &config(2), &call(), &Deadline::after(LONG)));
        until(|| plugin.info()["requests"].is_array() && version(&ask(&plugin, "command").unwrap()) == 2);
        assert!(!reload.is_finished() && !long.is_finished());
        gate.open();
        reload.join().unwrap().unwrap();
    });
    assert_eq!(version(&long.join().unwrap().unwrap()), 1);
}

#[test]
fn a_call_past_the_drain_is_cancelled_and_one_that_only_waited_is_made_by_the_new() {
    let bench = Bench::new();
    let patient = |n| bench.manifest(&module(n, ""), "max_instances: 1, wait_timeout: 60s", "");
    let plugin = bench.started(&patient(1), 1);
    let gate = gated(&bench.host);
    let long = in_background(&plugin, "ask");
    gate.reached(1);
    let waits = [in_background(&plugin, "command"), in_background(&plugin, "command")];
    until(|| plugin.health()["pool"]["waiting"] == 2);
    plugin.reload(patient(2), &config(2), &call(), &Deadline::after(Duration::from_millis(1))).unwrap();
    assert_eq!(kind_of(long.join().unwrap()), Kind::Cancelled);
    for call in waits {
        assert_eq!(version(&call.join().unwrap().unwrap()), 2);
    }
    assert_eq!(bench.host.types(), ["reloaded"]);
}

#[test]
fn a_caller_that_cancels_while_it_waits_is_not_served_elsewhere() {
    let bench = Bench::new();
    let patient = |n| bench.manifest(&module(n, ""), "max_instances: 1, wait_timeout: 60s", "");
    let plugin = bench.started(&patient(1), 1);
    let gate = gated(&bench.host);
    let long = in_background(&plugin, "ask");
    gate.reached(1);
    let cancel = Cancel::new();
    let waits = {
        let (plugin, call) = (plugin.clone(), Call { cancel: Some(cancel.clone()), ..call() });
        std::thread::spawn(move || plugin.call("command", b"{}", &call, &mut Vec::new()))
    };
    until(|| plugin.health()["pool"]["waiting"] == 1);
    cancel.cancel();
    plugin.reload(patient(2), &config(2), &call(), &Deadline::after(Duration::from_millis(1))).unwrap();
    assert_eq!(kind_of(waits.join().unwrap()), Kind::Cancelled);
    assert_eq!(kind_of(long.join().unwrap()), Kind::Cancelled);
}

/// A version whose `init` waits at the host's gate.
fn slow(number: u64) -> String {
    let asks = "(drop (call $config (i32.const 2049) (i32.const 8) (i32.const 8192)))";
    module(number, "").replace("(memory.copy (i32.const 2088)", &format!("{asks} (memory.copy (i32.const 2088)"))
}

#[test]
fn one_reload_at_a_time() {
    let bench = Bench::new();
    let (quick, slow) = (bench.manifest(&module(1, ""), "", ""), bench.manifest(&slow(2), "", ""));
    let plugin = bench.started(&quick, 1);
    let gate = gated(&bench.host);
    std::thread::scope(|scope| {
        let reload = scope.spawn(|| plugin.reload(slow, &config(2), &call(), &Deadline::after(LONG)));
        gate.reached(1);
        let other = plugin.reload(quick.clone(), b"", &call(), &Deadline::after(LONG)).unwrap_err();
        assert_eq!((other.kind(), other.message().contains("another call")), (Kind::InvalidState, true), "{other}");
        assert_eq!(kind_of(plugin.start(b"", &call())), Kind::InvalidState);
        assert_eq!(version(&ask(&plugin, "command").unwrap()), 1, "calls go on meanwhile");
        gate.open();
        reload.join().unwrap().unwrap();
    });
    assert_eq!(version(&ask(&plugin, "command").unwrap()), 2);
    assert_eq!(bench.host.types(), ["reloaded"], "a reload that is refused is none");
}

#[test]
fn a_reload_ends_with_its_token_and_its_deadline() {
    let bench = Bench::new();
    let (quick, slow) = (bench.manifest(&module(1, ""), "", ""), bench.manifest(&slow(2), "", ""));
    let plugin = bench.started(&quick, 1);
    let gate = gated(&bench.host);
    let cancel = Cancel::new();
    let how = Call { cancel: Some(cancel.clone()), ..call() };
    std::thread::scope(|scope| {
        let reload = scope.spawn(|| plugin.reload(slow.clone(), &config(2), &how, &Deadline::after(LONG)));
        gate.reached(1);
        cancel.cancel();
        assert_eq!(kind_of(reload.join().unwrap()), Kind::Cancelled);
    });
    let soon = Call::new(Deadline::after(Duration::from_millis(50)));
    assert_eq!(kind_of(plugin.reload(slow, &config(2), &soon, &Deadline::after(LONG))), Kind::Timeout);
    assert_eq!(version(&ask(&plugin, "command").unwrap()), 1);
    assert_eq!(bench.host.types(), ["reload_failed", "reload_failed"]);
}

#[test]
fn a_stop_ends_a_reload_that_brings_up() {
    let bench = Bench::new();
    let (quick, slow) = (bench.manifest(&module(1, ""), "", ""), bench.manifest(&slow(2), "", ""));
    let plugin = bench.started(&quick, 1);
    let gate = gated(&bench.host);
    std::thread::scope(|scope| {
        let reload = scope.spawn(|| plugin.reload(slow, &config(2), &call(), &Deadline::after(LONG)));
        gate.reached(1);
        plugin.stop(&Deadline::after(LONG)).unwrap();
        assert_eq!(plugin.state(), State::Stopped);
        kind_of(reload.join().unwrap());
    });
    assert_eq!(kind_of(ask(&plugin, "command")), Kind::InvalidState);
    assert_eq!(bench.host.types(), ["stopping", "reload_failed", "stopped"]);
}

#[test]
fn a_stop_waits_for_the_drain_of_a_reload_and_bounds_it() {
    let bench = Bench::new();
    let (first, second) = (bench.manifest(&module(1, ""), "", ""), bench.manifest(&module(2, ""), "", ""));
    let plugin = bench.started(&first, 1);
    let gate = gated(&bench.host);
    let long = in_background(&plugin, "ask");
    gate.reached(1);
    std::thread::scope(|scope| {
        let reload = scope.spawn(|| plugin.reload(second, &config(2), &call(), &Deadline::never()));
        until(|| version(&ask(&plugin, "command").unwrap()) == 2);
        plugin.stop(&Deadline::after(Duration::from_millis(1))).unwrap();
        assert!(long.is_finished() || kind_of(long.join().unwrap()) == Kind::Cancelled);
        reload.join().unwrap().unwrap();
    });
    assert_eq!(bench.host.types(), ["reloaded", "stopping", "stopped"]);
}

#[test]
fn versions_drain_beside_each_other_up_to_a_bound() {
    let bench = Bench::new();
    let mut versions: Vec<_> = (1..=6).map(|n| bench.manifest(&module(n, ""), "", "")).collect();
    versions[4] = process_with("max_restarts: 1, backoff: 1ms");
    let plugin = bench.started(&versions[0], 1);
    let gate = gated(&bench.host);
    std::thread::scope(|scope| {
        let (mut calls, mut reloads) = (Vec::new(), Vec::new());
        for (came, number) in (1..=4).zip(2..) {
            calls.push(in_background(&plugin, "ask"));
            gate.reached(came);
            let (plugin, next) = (&plugin, versions[came].clone());
            let reloaded = bench.heard("reloaded");
            reloads.push(scope.spawn(move || plugin.reload(next, &config(number), &call(), &Deadline::never())));
            reloaded.recv_timeout(LONG).unwrap();
        }
        let refused = plugin.reload(versions[5].clone(), &config(6), &call(), &Deadline::never()).unwrap_err();
        assert_eq!((refused.kind(), refused.message().contains("drained")), (Kind::Busy, true), "{refused}");
        assert_eq!(bench.host.types(), ["reloaded"; 4], "a reload that is refused is none");
        assert_eq!((plugin.state(), plugin.vitals().in_flight), (State::Running, 4));
        // What does not run is back all the same, and can be replaced.
        let restarted = bench.heard("restarted");
        kill(&pid(&plugin));
        restarted.recv_timeout(LONG).unwrap();
        assert_eq!(kind_of(plugin.reload(versions[5].clone(), &config(6), &call(), &Deadline::never())), Kind::Busy);
        let crashed = bench.heard("crashed");
        kill(&pid(&plugin));
        crashed.recv_timeout(LONG).unwrap();
        plugin.reload(versions[5].clone(), &config(6), &call(), &Deadline::after(LONG)).unwrap();
        assert_eq!(version(&ask(&plugin, "command").unwrap()), 6);
        gate.open();
        reloads.into_iter().for_each(|reload| reload.join().unwrap().unwrap());
        let answers: Vec<u64> = calls.into_iter().map(|call| version(&call.join().unwrap().unwrap())).collect();
        assert_eq!(answers, [1, 2, 3, 4]);
    });
    plugin.reload(versions[5].clone(), &config(6), &call(), &Deadline::after(LONG)).unwrap();
    assert_eq!(version(&ask(&plugin, "command").unwrap()), 6);
}

#[test]
fn a_stop_says_that_callbacks_of_any_versions_have_not_returned_and_waits_for_all_of_them_together() {
    let bench = Bench::new();
    let versions: Vec<_> = (1..=5).map(|n| bench.manifest(&module(n, ""), "", "")).collect();
    let plugin = bench.started(&versions[0], 1);
    let (entered, inside) = channel();
    let (frees, freed) = channel::<()>();
    let (entered, freed) = (Mutex::new(entered), Mutex::new(freed));
    *bench.host.on_config.lock().unwrap() = Some(Arc::new(move |_, _| {
        entered.lock().unwrap().send(()).unwrap();
        freed.lock().unwrap().recv().unwrap_err();
        Ok(None)
    }));
    let none = || Deadline::after(Duration::ZERO);
    let mut calls = Vec::new();
    std::thread::scope(|scope| {
        for (next, number) in versions[1..].iter().zip(2..) {
            calls.push(in_background(&plugin, "ask"));
            inside.recv_timeout(LONG).unwrap();
            let reloaded = bench.heard("reloaded");
            let plugin = &plugin;
            // Which waits for the callback of the version before for as long as it may.
            scope.spawn(move || plugin.reload(next.clone(), &config(number), &call(), &none()).unwrap());
            reloaded.recv_timeout(LONG).unwrap();
        }
    });
    for _ in 0..2 {
        let begun = Instant::now();
        let stuck = plugin.stop(&none()).unwrap_err();
        assert_eq!((stuck.kind(), stuck.message().contains("stop the plugin again")), (Kind::Timeout, true), "{stuck}");
        assert_eq!(plugin.state(), State::Stopped);
        // Five seconds for the four of them; one after the other it would be twenty.
        assert!(begun.elapsed() < Duration::from_secs(15), "{:?}", begun.elapsed());
    }
    let events = bench.host.events();
    assert!(events.last().unwrap()["cause"].as_str().unwrap().contains("A callback has not returned"), "{events:?}");
    drop(frees);
    plugin.stop(&Deadline::after(LONG)).unwrap();
    calls.into_iter().for_each(|call| assert_eq!(kind_of(call.join().unwrap()), Kind::Cancelled));
    assert_eq!(events.len(), 6, "{events:?}");
    assert!(bench.host.events().is_empty(), "it was told once");
}

#[test]
fn a_stop_ends_every_version_that_drains() {
    let bench = Bench::new();
    let versions: Vec<_> = (1..=3).map(|n| bench.manifest(&module(n, ""), "", "")).collect();
    let plugin = bench.started(&versions[0], 1);
    let gate = gated(&bench.host);
    std::thread::scope(|scope| {
        let (mut calls, mut reloads) = (Vec::new(), Vec::new());
        for (came, number) in (1..=2).zip(2..) {
            calls.push(in_background(&plugin, "ask"));
            gate.reached(came);
            let (plugin, next) = (&plugin, versions[came].clone());
            reloads.push(scope.spawn(move || plugin.reload(next, &config(number), &call(), &Deadline::never())));
            until(|| version(&ask(plugin, "command").unwrap()) == number);
        }
        plugin.stop(&Deadline::after(Duration::from_millis(1))).unwrap();
        assert_eq!(bench.host.types(), ["reloaded", "reloaded", "stopping", "stopped"]);
        reloads.into_iter().for_each(|reload| reload.join().unwrap().unwrap());
        calls.into_iter().for_each(|call| assert_eq!(kind_of(call.join().unwrap()), Kind::Cancelled));
    });
}

#[test]
fn closing_the_host_ends_a_reload() {
    let bench = Bench::new();
    let (quick, slow) = (bench.manifest(&module(1, ""), "", ""), bench.manifest(&slow(2), "", ""));
    let plugin = bench.started(&quick, 1);
    let gate = gated(&bench.host);
    std::thread::scope(|scope| {
        let reload = scope.spawn(|| plugin.reload(slow, &config(2), &call(), &Deadline::after(LONG)));
        gate.reached(1);
        bench.environment.close(&Deadline::after(LONG));
        kind_of(reload.join().unwrap());
    });
    assert_eq!(plugin.state(), State::Stopped);
    let again = bench.manifest(&module(1, ""), "", "");
    assert_eq!(kind_of(plugin.reload(again, b"", &call(), &Deadline::after(LONG))), Kind::InvalidState);
}

#[test]
fn no_reload_from_inside_of_the_plugin() {
    let bench = Bench::new();
    let manifest = bench.manifest(&module(1, ""), "", "");
    let plugin = bench.started(&manifest, 1);
    let (sender, refused) = channel();
    let (inside, again, sender) = (plugin.clone(), manifest.clone(), Mutex::new(sender));
    let reload = move || {
        let result = inside.reload(again.clone(), b"", &call(), &Deadline::after(LONG));
        sender.lock().unwrap().send(result.map_err(|e| e.kind())).unwrap();
    };
    let reload = Arc::new(reload);
    let in_call = reload.clone();
    *bench.host.on_config.lock().unwrap() = Some(Arc::new(move |caller, _| {
        caller.chain.scope(|| in_call());
        Ok(None)
    }));
    ask(&plugin, "ask").unwrap();
    assert_eq!(refused.try_recv().unwrap(), Err(Kind::InvalidState));
    *bench.host.on_event.lock().unwrap() = Some(Arc::new(move |_| reload()));
    plugin.reload(manifest, b"", &call(), &Deadline::after(LONG)).unwrap();
    assert_eq!(refused.try_recv().unwrap(), Err(Kind::InvalidState));
    *bench.host.on_event.lock().unwrap() = None;
    *bench.host.on_config.lock().unwrap() = None;
}

#[test]
fn an_old_version_counts_as_inside_until_its_calls_are_over() {
    let bench = Bench::new();
    let (first, second) = (bench.manifest(&module(1, ""), "", ""), bench.manifest(&module(2, ""), "", ""));
    let plugin = bench.started(&first, 1);
    let gate = gated(&bench.host);
    let (sender, stopped) = channel();
    let (theirs, inside, sender) = (gate.clone(), plugin.clone(), Mutex::new(sender));
    *bench.host.on_config.lock().unwrap() = Some(Arc::new(move |caller, _| {
        theirs.pass(caller)?;
        caller.chain.scope(|| {
            let result = (inside.stop(&Deadline::after(LONG)).map_err(|e| e.kind()), ask(&inside, "command").map(|a| version(&a)));
            drop(sender.lock().unwrap().send(result));
        });
        Ok(None)
    }));
    let long = in_background(&plugin, "ask");
    gate.reached(1);
    std::thread::scope(|scope| {
        let reload = scope.spawn(|| plugin.reload(second, &config(2), &call(), &Deadline::after(LONG)));
        until(|| version(&ask(&plugin, "command").unwrap()) == 2);
        gate.open();
        reload.join().unwrap().unwrap();
    });
    let (stop, nested) = stopped.recv_timeout(LONG).unwrap();
    assert_eq!((stop, nested.unwrap()), (Err(Kind::InvalidState), 2), "its nested call finds the new version");
    assert_eq!(version(&long.join().unwrap().unwrap()), 1);
    *bench.host.on_config.lock().unwrap() = None;
}
