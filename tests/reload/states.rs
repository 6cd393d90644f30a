//! Every operation in every state: what it answers, and which events tell of it.

use std::sync::Arc;
use std::time::Duration;

use flowplug::call::{Call, Cancel, Deadline};
use flowplug::error::Kind;
use flowplug::plugin::{Plugin, State};

use super::support::*;

/// What an operation ends with (none: success), the state after it, and the events that it makes.
type Outcome = (Option<Kind>, State, &'static [&'static str]);

const OPERATIONS: [&str; 5] = ["start", "call", "reload", "reload badly", "stop"];

fn expected(state: State, operation: &str) -> Outcome {
    let refused = (Some(Kind::InvalidState), state, [].as_slice());
    match (state, operation) {
        (State::Loading, "start") => (None, State::Running, &["started"]),
        (State::Running, "call") => (None, state, &[]),
        (State::Running | State::Error, "reload") => (None, State::Running, &["reloaded"]),
        (State::Running | State::Error, "reload badly") => (Some(Kind::LoadFailed), state, &["reload_failed"]),
        (State::Loading | State::Running | State::Error, "stop") => (None, State::Stopped, &["stopping", "stopped"]),
        (State::Stopped, "stop") => (None, state, &[]),
        _ => refused,
    }
}

struct Table {
    bench: Bench,
}

impl Table {
    fn plugin(&self, state: State) -> Arc<Plugin> {
        let bench = &self.bench;
        let trap = "(func (export \"init\") (param i32 i32) unreachable)";
        let traps = module(1, "").replace("(func (export \"init\")", &format!("{trap} (func (export \"init_2\")"));
        let plugin = bench.load(&bench.manifest(&if state == State::Error { traps } else { module(1, "") }, "", ""));
        match state {
            State::Loading => {}
            State::Error => assert_eq!(kind_of(plugin.start(&config(1), &call())), Kind::Trap),
            _ => plugin.start(&config(1), &call()).unwrap(),
        }
        if matches!(state, State::Stopping | State::Stopped) {
            plugin.stop(&Deadline::after(LONG)).unwrap();
        }
        assert!(plugin.state() == state || state == State::Stopping);
        bench.host.events();
        plugin
    }

    fn perform(&self, plugin: &Plugin, operation: &str) -> Option<Kind> {
        let (bench, drain) = (&self.bench, Deadline::after(LONG));
        let result = match operation {
            "start" => plugin.start(&config(1), &call()),
            "call" => ask(plugin, "command").map(drop),
            "reload" => plugin.reload(bench.manifest(&module(1, ""), "", ""), &config(1), &call(), &drain),
            "reload badly" => plugin.reload(bench.manifest("(module)", "", ""), b"", &call(), &drain),
            "stop" => plugin.stop(&Deadline::after(Duration::ZERO)),
            other => panic!("{other}"),
        };
        let refused = result.err()?;
        if refused.kind() == Kind::InvalidState {
            assert!(refused.message().contains(plugin.state().name()), "it names the state: {refused}");
        }
        Some(refused.kind())
    }
}

#[test]
fn every_operation_in_every_state() {
    let table = Table { bench: Bench::new() };
    for state in [State::Loading, State::Running, State::Error, State::Stopped] {
        for operation in OPERATIONS {
            let plugin = table.plugin(state);
            let outcome = table.perform(&plugin, operation);
            let (kind, after, events) = expected(state, operation);
            assert_eq!((outcome, plugin.state()), (kind, after), "{operation} in {}", state.name());
            assert_eq!(table.bench.host.types(), events, "{operation} in {}", state.name());
            // In every state, and never a failure.
            assert_eq!(plugin.health()["state"], after.name());
            assert_eq!(plugin.info()["identity"], "org/test");
            plugin.stop(&Deadline::after(Duration::ZERO)).unwrap();
            table.bench.host.events();
        }
    }
}

#[test]
fn every_operation_while_it_stops() {
    let table = Table { bench: Bench::new() };
    let plugin = table.plugin(State::Running);
    let gate = gated(&table.bench.host);
    std::thread::scope(|scope| {
        let long = scope.spawn(|| ask(&plugin, "ask"));
        gate.reached(1);
        let stop = scope.spawn(|| plugin.stop(&Deadline::never()));
        let bound = Deadline::after(LONG);
        while plugin.state() != State::Stopping {
            assert!(!bound.expired());
            std::thread::yield_now();
        }
        for operation in OPERATIONS.into_iter().filter(|operation| *operation != "stop") {
            assert_eq!(table.perform(&plugin, operation), Some(Kind::InvalidState), "{operation}");
        }
        assert_eq!(plugin.health()["state"], "stopping");
        // A second stop whose drain is over ends the first one's.
        assert_eq!(table.perform(&plugin, "stop"), None);
        stop.join().unwrap().unwrap();
        assert_eq!(kind_of(long.join().unwrap()), Kind::Cancelled);
    });
    assert_eq!(plugin.state(), State::Stopped);
    assert_eq!(table.bench.host.types(), ["stopping", "stopped"]);
}

#[test]
fn an_asynchronous_call_that_comes_to_no_thread_ends_by_its_deadline_or_its_cancel() {
    let bench = Bench::new();
    let plugin = bench.started(&bench.manifest(&module(1, ""), "", ""), 1);
    // Every thread is taken, until this is dropped.
    let (taken, ends) = std::sync::mpsc::channel::<()>();
    let ends = Arc::new(std::sync::Mutex::new(ends));
    for _ in 0..256 {
        let ends = ends.clone();
        drop(bench.environment.handle().spawn_blocking(move || ends.lock().unwrap().recv().unwrap_err()));
    }
    let called = |call: Call| {
        let (sender, answered) = std::sync::mpsc::channel();
        plugin.call_async("command", b"{}".to_vec(), call, false, move |answer| sender.send(answer).unwrap()).unwrap();
        answered
    };
    let cancel = Cancel::new();
    let late = called(Call::new(Deadline::after(Duration::from_millis(50))));
    let cancelled = called(Call { cancel: Some(cancel.clone()), ..Call::new(Deadline::never()) });
    let patient = called(call());
    assert_eq!(late.recv_timeout(LONG).unwrap().unwrap_err().kind(), Kind::Timeout);
    cancel.cancel();
    assert_eq!(cancelled.recv_timeout(LONG).unwrap().unwrap_err().kind(), Kind::Cancelled);
    drop(taken);
    patient.recv_timeout(LONG).unwrap().unwrap();
    // Answered once.
    assert!(late.recv().is_err() && cancelled.recv().is_err());
}

#[test]
fn asynchronous_calls_that_wait_for_their_plugin_leave_threads_to_others() {
    let bench = Bench::new();
    let held = bench.started(&bench.manifest(&module(1, ""), "max_instances: 1, wait_timeout: 1h", ""), 1);
    let other = bench.started(&bench.manifest(&module(2, ""), "", ""), 2);
    let gate = gated(&bench.host);
    let (sender, answers) = std::sync::mpsc::channel();
    for _ in 0..300 {
        let sender = sender.clone();
        held.call_async("ask", b"{}".to_vec(), call(), false, move |answer| sender.send(answer).unwrap()).unwrap();
    }
    gate.reached(1);
    let (done, answered) = std::sync::mpsc::channel();
    other.call_async("command", b"{}".to_vec(), call(), false, move |answer| done.send(answer).unwrap()).unwrap();
    answered.recv_timeout(LONG).unwrap().unwrap();
    assert!(answers.try_recv().is_err());
    gate.open();
    for _ in 0..300 {
        answers.recv_timeout(LONG).unwrap().unwrap();
    }
}

#[test]
fn every_asynchronous_call_is_answered_when_the_host_is_closed() {
    let bench = Bench::new();
    let held = bench.started(&bench.manifest(&module(1, ""), "max_instances: 1, wait_timeout: 1h", ""), 1);
    let gate = gated(&bench.host);
    let (sender, answers) = std::sync::mpsc::channel();
    for _ in 0..300 {
        let sender = sender.clone();
        held.call_async("ask", b"{}".to_vec(), call(), false, move |answer| sender.send(answer).unwrap()).unwrap();
    }
    gate.reached(1);
    bench.environment.close(&Deadline::after(Duration::ZERO));
    for _ in 0..300 {
        let kind = answers.recv_timeout(LONG).unwrap().unwrap_err().kind();
        assert!(matches!(kind, Kind::Cancelled | Kind::InvalidState), "{kind:?}");
    }
}
