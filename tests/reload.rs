//! Versions in the place of others: while they are called, when they fail, and while something else happens.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    missing_docs,
    reason = "a test fails by panicking"
)]

#[path = "reload/load.rs"]
mod load;
#[path = "reload/processes.rs"]
mod processes;
#[path = "reload/races.rs"]
mod races;
#[path = "reload/states.rs"]
mod states;
#[path = "reload/support.rs"]
mod support;
#[path = "reload/tls.rs"]
mod tls;

use std::sync::mpsc::channel;
use std::sync::{Arc, Mutex};

use flowplug::call::Deadline;
use flowplug::error::Kind;
use flowplug::plugin::State;
use serde_json::Value;
use support::*;

#[test]
fn a_reload_changes_the_module_and_the_config_and_tells() {
    let bench = Bench::new();
    let plugin = bench.started(&bench.manifest(&module(1, ""), "", ""), 1);
    let (first, called) = (plugin.vitals(), plugin.resolve("command").unwrap());
    assert_eq!(version(&ask(&plugin, "command").unwrap()), 1);
    let second = bench.manifest(&module(2, ""), "", "version: 2.0.0\nprovides: { module: true }\n");
    plugin.reload(second, &config(2), &call(), &Deadline::after(LONG)).unwrap();
    assert_eq!(version(&ask(&plugin, "command").unwrap()), 2);
    let mut answer = Vec::new();
    plugin.enter().call_resolved(&called, b"{}", &call(), &mut answer).unwrap();
    assert_eq!(version(&serde_json::from_slice(&answer).unwrap()), 2);
    let events = bench.host.events();
    assert_eq!(events.len(), 1, "{events:?}");
    assert_eq!((&events[0]["type"], &events[0]["state"]), (&"reloaded".into(), &"running".into()));
    assert_eq!((&events[0]["plugin"], &events[0]["provides_changed"]), (&"org/test".into(), &true.into()));
    let info = plugin.info();
    assert_eq!((&info["version"], &info["identity"]), (&"2.0.0".into(), &"org/test".into()));
    let vitals = plugin.vitals();
    assert_eq!((first.calls, vitals.calls, vitals.in_flight), (0, 3, 0));
    assert!(vitals.started_at > first.started_at);
}

#[test]
fn an_empty_config_is_the_one_of_before() {
    let bench = Bench::new();
    let plugin = bench.started(&bench.manifest(&module(7, ""), "", ""), 7);
    let next = bench.manifest(&module(7, "(func (export \"more\"))"), "", "");
    plugin.reload(next.clone(), b"", &call(), &Deadline::after(LONG)).unwrap();
    assert_eq!(version(&ask(&plugin, "command").unwrap()), 7);
    plugin.reload(next.clone(), &config(8), &call(), &Deadline::after(LONG)).unwrap();
    assert_eq!(ask(&plugin, "command").unwrap()["config"]["version"], 8);
    plugin.reload(next, b"", &call(), &Deadline::after(LONG)).unwrap();
    assert_eq!(ask(&plugin, "command").unwrap()["config"]["version"], 8);
    assert!(bench.host.events().iter().all(|event| event["provides_changed"] == false));
}

#[test]
fn what_fails_before_the_exchange_leaves_the_old_as_it_was() {
    let bench = Bench::new();
    let plugin = bench.started(&bench.manifest(&module(1, ""), "", ""), 1);
    let before = plugin.vitals();
    let strict = "config_schema: { type: object, required: [name] }\n";
    let init = "(func (export \"init\") (param i32 i32) unreachable)";
    let traps = module(2, "").replace("(func (export \"init\")", &format!("{init} (func (export \"init_2\")"));
    let unready = module(2, "(func (export \"is_ready\") (result i32) (i32.const 0))");
    let cases = [
        (bench.manifest("(module)", "", ""), Kind::LoadFailed, "is not a plugin"),
        (bench.manifest(&module(2, ""), "", strict), Kind::InvalidConfig, "name"),
        (bench.manifest(&traps, "", ""), Kind::Trap, "unreachable"),
        (bench.manifest(&unready, "", ""), Kind::Timeout, "did not become ready"),
    ];
    for (manifest, kind, said) in cases {
        // Only the one that is never ready takes as long.
        let mut bound = call();
        if kind == Kind::Timeout {
            bound.deadline = Deadline::after(std::time::Duration::from_secs(1));
        }
        let error = plugin.reload(manifest, b"", &bound, &Deadline::after(LONG)).unwrap_err();
        assert_eq!((error.kind(), error.plugin()), (kind, "org/test"), "{error}");
        assert!(error.message().contains(said) && error.message().ends_with("was not reloaded; it is as it was."), "{error}");
        let events = bench.host.events();
        assert_eq!((events.len(), &events[0]["type"], &events[0]["state"]), (1, &"reload_failed".into(), &"running".into()));
        assert!(events[0]["cause"].as_str().unwrap().contains(said), "{events:?}");
        assert_eq!(version(&ask(&plugin, "command").unwrap()), 1);
    }
    assert_eq!(plugin.vitals().started_at, before.started_at);
    assert_eq!(plugin.vitals().last_error, "");
}

#[test]
fn a_function_is_found_anew_where_it_is_and_missed_where_it_is_not() {
    let bench = Bench::new();
    let one = r#"(func (export "answer") (result i64) (call $json (i32.const 64) (i32.const 1)))"#;
    let first = bench.manifest(&module(1, one), "", "");
    let elsewhere = format!("(func (export \"aaa\") (result i64) (i64.const 0)) {}", one.replace("64) (i32.const 1)", "65) (i32.const 1)"));
    let (without, second) = (bench.manifest(&module(1, ""), "", ""), bench.manifest(&module(1, &elsewhere), "", ""));
    let plugin = bench.started(&first, 1);
    let answer = plugin.resolve("answer").unwrap();
    let ask = || {
        let mut out = Vec::new();
        plugin.enter().call_resolved(&answer, b"", &call(), &mut out).map(|()| String::from_utf8(out).unwrap())
    };
    assert_eq!(ask().unwrap(), "0");
    plugin.reload(without, b"", &call(), &Deadline::after(LONG)).unwrap();
    for _ in 0..2 {
        let error = ask().unwrap_err();
        assert_eq!((error.kind(), error.function()), (Kind::UnknownFunction, "answer"), "{error}");
    }
    plugin.reload(second, b"", &call(), &Deadline::after(LONG)).unwrap();
    assert_eq!(ask().unwrap(), "1");
    let gated = bench.manifest(&module(1, one), "", "provides: { abilities: [{ capability: a, operations: [b] }] }\n");
    let command = plugin.resolve("command").unwrap();
    plugin.reload(gated, b"", &call(), &Deadline::after(LONG)).unwrap();
    let refused = plugin.enter().call_resolved(&command, b"", &call(), &mut Vec::new()).unwrap_err();
    assert_eq!(refused.kind(), Kind::NotFound, "{refused}");
}

#[test]
fn a_server_that_was_reached_is_told_once_over_all_versions() {
    let bench = Bench::new();
    let url = r#"{"method":"GET","url":"http://example.com/"}"#;
    let reach = format!(
        r#"(data (i32.const 3000) "{}")
        (func (export "reach") (result i64)
            (drop (call $http (i32.const 3000) (i32.const {}) (i32.const 8192) (i32.const 4096)))
            (call $json (i32.const 2048) (global.get $end)))"#,
        url.replace('"', "\\22"),
        url.len()
    );
    let http = r#"(import "flowbot" "http_request" (func $http (param i32 i32 i32 i32) (result i32))) (import "flowbot" "get_config""#;
    let reaches = |number, host: &str| {
        let wat = module(number, &reach).replace(r#"(import "flowbot" "get_config""#, http);
        bench.manifest(&wat, "", &format!("  permissions: {{ http: [{{ host: \"{host}\" }}] }}\n"))
    };
    let plugin = bench.started(&reaches(1, "example.com"), 1);
    let reached = || bench.host.audits.lock().unwrap().iter().filter(|audit| audit["target"] == "example.com:80").count();
    for (version, host, times) in [(2, "example.com", 1), (3, "example.com", 1), (4, "*.com", 2), (5, "example.com", 2)] {
        ask(&plugin, "reach").unwrap();
        plugin.reload(reaches(version, host), &config(version), &call(), &Deadline::after(LONG)).unwrap();
        ask(&plugin, "reach").unwrap();
        assert_eq!(reached(), times, "version {version}: {:?}", bench.host.audits.lock().unwrap());
    }
}

#[test]
fn what_is_told_late_says_when_it_was() {
    let bench = Bench::new();
    let plugin = bench.load(&bench.manifest(&module(1, ""), "", ""));
    let (told, (entered, inside), (frees, freed)) = (Arc::new(Mutex::new(Vec::new())), channel(), channel::<()>());
    let (ours, entered, freed) = (told.clone(), Mutex::new(entered), Mutex::new(freed));
    *bench.host.on_event.lock().unwrap() = Some(Arc::new(move |event| {
        if event["type"] == "started" {
            entered.lock().unwrap().send(()).unwrap();
            freed.lock().unwrap().recv().unwrap_err();
        }
        ours.lock().unwrap().push(event.clone());
    }));
    std::thread::scope(|scope| {
        let start = scope.spawn(|| plugin.start(&config(1), &call()));
        inside.recv_timeout(LONG).unwrap();
        plugin.stop(&Deadline::after(LONG)).unwrap();
        drop(frees);
        start.join().unwrap().unwrap();
    });
    let mut told = told.lock().unwrap().clone();
    told.sort_by_key(|event| event["seq"].as_u64().unwrap());
    let of = |event: &Value| (event["type"].as_str().unwrap().to_owned(), event["state"].as_str().unwrap().to_owned());
    let expected = [("started", "running"), ("stopping", "stopping"), ("stopped", "stopped")];
    assert_eq!(told.iter().map(of).collect::<Vec<_>>(), expected.map(|(kind, state)| (kind.to_owned(), state.to_owned())));
    assert!(told.is_sorted_by_key(|event| event["time"].as_str().unwrap()), "{told:?}");
}

/// What a table of plugins has at the end that was told this, by the rule of docs/events.md.
fn table(told: &[Value]) -> (u64, String) {
    let number = |event: &Value, name: &str| event[name].as_u64().unwrap();
    let order = |event: &&Value| (number(event, "load"), number(event, "seq"));
    let last = told.iter().reduce(|last, event| if order(&event) < order(&last) { last } else { event }).unwrap();
    (number(last, "load"), last["state"].as_str().unwrap().to_owned())
}

#[test]
fn of_two_loads_of_an_identity_the_later_one_is_known_by_its_events() {
    let bench = Bench::new();
    let manifest = bench.manifest(&module(1, ""), "", "");
    let [old, new] = [(), ()].map(|()| bench.load(&manifest));
    old.start(&config(1), &call()).unwrap();
    new.start(&config(1), &call()).unwrap();
    let before = bench.host.events();
    old.stop(&Deadline::after(LONG)).unwrap();
    let after = bench.host.events();
    let kinds = |events: &[Value]| events.iter().map(|event| event["type"].as_str().unwrap().to_owned()).collect::<Vec<_>>();
    assert_eq!(
        (kinds(&before), kinds(&after)),
        (["loaded", "loaded", "started", "started"].map(String::from).to_vec(), ["stopping", "stopped"].map(String::from).to_vec(),)
    );
    assert_eq!(before[0]["load"], after[1]["load"]);
    assert!(before[0]["load"].as_u64() < before[1]["load"].as_u64());
    let told = [before, after].concat();
    assert_eq!(table(&told), (told[1]["load"].as_u64().unwrap(), "running".to_owned()), "{told:?}");
    assert_eq!((new.state(), told.last().unwrap()["state"].as_str()), (State::Running, Some("stopped")));
}

#[test]
fn what_the_pool_counts_goes_on_over_the_versions() {
    let bench = Bench::new();
    let plugin = bench.started(&bench.manifest(&module(1, ""), "", ""), 1);
    ask(&plugin, "command").unwrap();
    let made = || plugin.health()["pool"]["made"].as_u64().unwrap();
    let first = made();
    plugin.reload(bench.manifest(&module(2, ""), "", ""), &config(2), &call(), &Deadline::after(LONG)).unwrap();
    ask(&plugin, "command").unwrap();
    assert!(made() > first, "{} after {first}", made());
    assert_eq!(made(), plugin.measures().pool.unwrap().made as u64);
}

#[test]
fn a_reload_leads_out_of_error() {
    let bench = Bench::new();
    let init = "(func (export \"init\") (param i32 i32) unreachable)";
    let traps = module(1, "").replace("(func (export \"init\")", &format!("{init} (func (export \"init_2\")"));
    let plugin = bench.load(&bench.manifest(&traps, "", ""));
    assert_eq!(
        kind_of(plugin.reload(bench.manifest(&module(2, ""), "", ""), &config(2), &call(), &Deadline::after(LONG))),
        Kind::InvalidState
    );
    assert_eq!(kind_of(plugin.start(&config(2), &call())), Kind::Trap);
    assert_eq!(plugin.state(), State::Error);
    assert_eq!(kind_of(ask(&plugin, "command")), Kind::InvalidState);
    // The config that was tried is the one of before.
    plugin.reload(bench.manifest(&module(2, ""), "", ""), b"", &call(), &Deadline::after(LONG)).unwrap();
    assert_eq!((plugin.state(), version(&ask(&plugin, "command").unwrap())), (State::Running, 2));
    assert_eq!((plugin.vitals().last_error, plugin.health()["last_error"].as_str()), (String::new(), Some("")));
    assert_eq!(bench.host.types(), ["loaded", "start_failed", "reloaded"]);
}
