//! The manager: what it starts, how it follows changes, and what becomes of what fails.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    missing_docs,
    reason = "a test fails by panicking"
)]

#[path = "manager/failures.rs"]
mod failures;
#[path = "manager/live.rs"]
mod live;
#[path = "manager/support.rs"]
mod support;
#[path = "manager/table.rs"]
mod table;

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use flowplug::call::{Call, Cancel, Deadline};
use flowplug::error::Kind;
use flowplug::manifest::Manifest;
use flowplug::source::Change;
use serde_json::json;
use support::{Bench, Told, ask, call, put, row};

#[test]
fn everything_is_started_side_by_side_and_told() {
    let bench = Bench::new();
    for n in 0..8 {
        bench.put(&format!("p{n}"), &n.to_string());
    }
    let manager = bench.started("");
    for n in 0..8 {
        let identity = format!("p{n}");
        assert_eq!(ask(&manager, &identity, "version").unwrap(), format!("\"{n}\""));
        for kind in ["discovered", "loaded", "started"] {
            assert_eq!(bench.host.all(kind).iter().filter(|event| event["plugin"] == *identity).count(), 1, "{kind}");
        }
    }
    let started: Vec<_> = bench.host.all("progress").into_iter().filter(|event| event["progress"]["step"] == "start").collect();
    let mut done: Vec<u64> = started.iter().map(|event| event["progress"]["done"].as_u64().unwrap()).collect();
    done.sort_unstable();
    assert_eq!(done, [1, 2, 3, 4, 5, 6, 7, 8]);
    assert!(started.iter().all(|event| event["progress"]["total"] == 8));
    manager.stop(None).unwrap();
    assert_eq!(bench.host.all("stopped").len(), 8);
}

#[test]
fn the_list_has_every_plugin_with_all_its_members() {
    let bench = Bench::new();
    bench.put("b", "2");
    bench.put("a", "1");
    let manager = bench.started("");
    ask(&manager, "a", "version").unwrap();
    let list = manager.list().unwrap();
    let rows = list.as_array().unwrap();
    assert_eq!(rows.iter().map(|row| row["identity"].as_str().unwrap()).collect::<Vec<_>>(), ["a", "b"]);
    let members: Vec<&str> = rows[0].as_object().unwrap().keys().map(String::as_str).collect();
    let all = ["identity", "manifest", "state", "started_at", "last_error", "restarts", "calls", "in_flight", "source", "folder"];
    assert_eq!(members, all);
    assert_eq!(rows[0]["manifest"]["version"], "1");
    assert_eq!((&rows[0]["state"], &rows[0]["last_error"], &rows[0]["in_flight"]), (&json!("running"), &json!(""), &json!(0)));
    assert_eq!((&rows[0]["calls"], &rows[1]["calls"]), (&json!(1), &json!(0)));
    assert!(rows[0]["started_at"].as_str().unwrap().ends_with('Z'));
    assert_eq!(rows[0]["source"], format!("local:{}", bench.plugins().display()));
    assert_eq!(rows[0]["folder"], bench.plugins().join("a").to_str().unwrap());
    let metrics = manager.metrics().unwrap();
    assert!(
        metrics.contains("flowplug_plugin_up{plugin=\"a\"} 1\n") && metrics.contains("flowplug_calls_total{plugin=\"a\"} 1\n"),
        "{metrics}"
    );
}

#[test]
fn each_plugin_gets_its_own_config_with_the_environment_in_it() {
    let bench = Bench::new();
    // Only what is expanded satisfies the schema.
    let path = std::env::var("PATH").unwrap();
    let schema = format!("config_schema: {{type: object, required: [at], properties: {{at: {{const: {}}}}}}}", json!(format!("at {path}")));
    put(&bench.plugins().join("a"), "1", &schema);
    put(&bench.plugins().join("b"), "1", "config_schema: {type: object, properties: {n: {const: 3}}, required: [n]}");
    let manager = bench.started("config: {a: {at: \"at ${env:PATH}\"}, b: {n: 3}}");
    for identity in ["a", "b"] {
        assert_eq!(row(&manager, identity)["state"], "running", "{}", row(&manager, identity));
    }
}

#[test]
fn a_manager_that_is_not_enabled_says_so_and_starts_nothing() {
    let bench = Bench::new();
    bench.put("a", "1");
    let manager = bench.manager("sources: [{type: local, path: PLUGINS}]");
    manager.start(&call()).unwrap();
    bench.host.wait_for("disabled", "");
    assert_eq!(manager.list().unwrap(), json!([]));
}

#[test]
fn plugins_are_loaded_reloaded_and_unloaded_by_hand() {
    let bench = Bench::new();
    let folder = put(&bench.root.join("mine"), "1", "");
    let manager = bench.manager("");
    assert_eq!(manager.load(&folder, "{\"k\":1}", &call()).unwrap(), "mine");
    assert_eq!((ask(&manager, "mine", "version").unwrap(), row(&manager, "mine")["source"].clone()), ("\"1\"".to_owned(), json!("")));
    let held = manager.get("mine").unwrap();
    put(&folder, "2", "");
    manager.reload("mine", None, "", &call()).unwrap();
    assert_eq!(
        (ask(&manager, "mine", "version").unwrap(), row(&manager, "mine")["manifest"]["version"].clone()),
        ("\"2\"".to_owned(), json!("2"))
    );
    let other = put(&bench.root.join("other"), "3", "");
    let manifest = Arc::new(Manifest::read(&other, false).unwrap());
    manager.reload("mine", Some(manifest), "{}", &call()).unwrap();
    assert_eq!(ask(&manager, "mine", "version").unwrap(), "\"3\"");
    manager.unload("mine", None, &call()).unwrap();
    bench.host.wait_for("unloaded", "mine");
    assert_eq!(manager.list().unwrap(), json!([]));
    // A reference outlives it, and says what became of it.
    assert_eq!(held.state().name(), "stopped");
    assert_eq!(held.call("version", b"null", &call(), &mut Vec::new()).unwrap_err().kind(), Kind::InvalidState);
    assert_eq!(manager.load(&folder, "", &call()).unwrap(), "mine");
}

#[test]
fn a_plugin_loaded_by_hand_belongs_to_the_source_that_has_its_folder() {
    let bench = Bench::new();
    let folder = bench.put("a", "1");
    let manager = bench.manager("enabled: true\nsources: [{type: local, path: PLUGINS}]");
    manager.load(&folder, "", &call()).unwrap();
    manager.start(&call()).unwrap();
    assert_eq!(bench.host.all("load_failed"), Vec::<serde_json::Value>::new());
    put(&folder, "2", "");
    bench.host.wait_for("reloaded", "a");
    assert_eq!(ask(&manager, "a", "version").unwrap(), "\"2\"");
}

#[test]
fn a_start_that_is_cancelled_ends_and_shows_what_it_left() {
    let bench = Bench::new();
    for n in 0..20 {
        bench.put(&format!("p{n}"), "1");
    }
    let manager = bench.manager("enabled: true\nsources: [{type: local, path: PLUGINS}]");
    let cancel = Cancel::new();
    cancel.cancel();
    let error = manager.start(&Call { cancel: Some(cancel), ..call() }).unwrap_err();
    assert_eq!(error.kind(), Kind::Cancelled);
    let list = manager.list().unwrap();
    assert!(
        list.as_array().unwrap().iter().all(|row| row["state"] == "error" && !row["last_error"].as_str().unwrap().is_empty()),
        "{list}"
    );
    manager.reload("p3", None, "", &call()).unwrap();
    assert_eq!(ask(&manager, "p3", "version").unwrap(), "\"1\"");
}

#[test]
fn one_identity_has_one_operation_at_a_time() {
    let bench = Bench::new();
    bench.put("a", "1");
    let manager = bench.started("hot_reload: false");
    std::thread::scope(|scope| {
        for n in 0..4 {
            let manager = &manager;
            scope.spawn(move || {
                for _ in 0..10 {
                    if n == 0 {
                        drop(manager.list().unwrap());
                    }
                    manager.reload("a", None, "", &call()).unwrap();
                }
            });
        }
    });
    assert_eq!(bench.host.all("reloaded").len(), 40);
    assert_eq!(bench.host.all("reload_failed").len(), 0);
}

#[test]
fn a_stop_ends_everything_and_again_does_nothing() {
    let bench = Bench::new();
    bench.put("a", "1");
    let manager = bench.started("");
    manager.stop(Some(&Deadline::after(Duration::ZERO))).unwrap();
    manager.stop(None).unwrap();
    bench.put("late", "1");
    for error in [
        manager.start(&call()).unwrap_err(),
        manager.list().unwrap_err(),
        manager.metrics().unwrap_err(),
        manager.health("a").unwrap_err(),
        manager.get("a").unwrap_err(),
        manager.load(&bench.plugins().join("late"), "", &call()).unwrap_err(),
        manager.reload("a", None, "", &call()).unwrap_err(),
        manager.unload("a", None, &call()).unwrap_err(),
        ask(&manager, "a", "version").unwrap_err(),
    ] {
        assert_eq!(error.kind(), Kind::InvalidState, "{error}");
    }
    // One that was never started stops, too.
    bench.manager("").stop(None).unwrap();
}

#[test]
fn a_stop_names_what_is_stuck_in_a_callback() {
    let bench = Bench::new();
    let manager = bench.manager("");
    let (frees, freed) = std::sync::mpsc::channel();
    *bench.host.stuck.lock().unwrap() = Some(("loaded", freed));
    let folder = bench.put("stuck", "1");
    std::thread::scope(|scope| {
        let load = scope.spawn(|| manager.load(&folder, "", &call()));
        bench.host.wait_for("loaded", "stuck");
        let error = manager.stop(Some(&Deadline::after(Duration::ZERO))).unwrap_err();
        assert_eq!((error.kind(), error.message().contains("stuck has not ended")), (Kind::Timeout, true), "{error}");
        drop(frees);
        assert_eq!(load.join().unwrap().unwrap_err().kind(), Kind::InvalidState);
    });
    manager.stop(None).unwrap();
}

/// A plugin whose `ask` asks the host for its config.
fn asks(folder: &Path) {
    let import = r#"(import "flowbot" "get_config" (func $config (param i32 i32 i32) (result i32)))"#;
    let own = r#"(data (i32.const 2048) "key")
        (func (export "ask") (param i32 i32) (result i64)
            (drop (call $config (i32.const 2048) (i32.const 3) (i32.const 8192)))
            (call $json (i32.const 2048) (i32.const 0)))"#;
    let wat = include_str!("wasm/guest.wat").replace(";; IMPORTS", import).replace(";; BODY", own);
    std::fs::write(folder.join("plugin.wasm"), wat::parse_str(wat).unwrap()).unwrap();
}

#[test]
fn a_call_that_is_stuck_in_a_callback_is_said_by_unload_and_stop() {
    let bench = Bench::new();
    let (stays, goes) = (bench.put("stays", "1"), bench.put("goes", "1"));
    [&stays, &goes].into_iter().for_each(|folder| asks(folder));
    let source = Told::new(goes);
    let manager = bench.of("drain_timeout: 1ms", &[&source]);
    manager.load(&stays, "", &call()).unwrap();
    std::thread::scope(|scope| {
        let stuck = |identity: &'static str| {
            let (frees, freed) = std::sync::mpsc::channel();
            *bench.host.stuck.lock().unwrap() = Some(("get_config", freed));
            let manager = &manager;
            let asked = scope.spawn(move || ask(manager, identity, "ask"));
            bench.host.wait_for("asked", identity);
            (frees, asked)
        };
        let (stuck_there, stuck_gone) = (stuck("stays"), stuck("goes"));
        // Nobody can say it of what a source has no more: its identity is free.
        source.tell(Change::Removed("goes".into()));
        let error = manager.unload("stays", None, &call()).unwrap_err();
        let said = error.message().contains("A callback has not returned");
        assert_eq!((error.kind(), error.plugin(), said), (Kind::Timeout, "stays", true), "{error}");
        assert_eq!(row(&manager, "stays")["state"], "stopped");
        bench.host.wait_for("unloaded", "goes");
        assert_eq!(row(&manager, "goes"), json!(null));
        let error = manager.stop(None).unwrap_err();
        assert_eq!((error.kind(), error.message().contains("stays has not ended")), (Kind::Timeout, true), "{error}");
        for (frees, asked) in [stuck_there, stuck_gone] {
            drop(frees);
            assert_eq!(asked.join().unwrap().unwrap_err().kind(), Kind::Cancelled);
        }
        manager.stop(None).unwrap();
    });
}

#[test]
fn a_manager_that_is_dropped_stops_its_plugins_in_the_background() {
    let bench = Bench::new();
    bench.put("a", "1");
    let manager = bench.started("");
    let held = manager.get("a").unwrap();
    drop(manager);
    bench.host.wait_for("stopped", "a");
    assert_eq!(held.state().name(), "stopped");
}

#[test]
fn a_host_that_is_closed_ends_its_managers() {
    let bench = Bench::new();
    bench.put("a", "1");
    let manager = bench.started("");
    bench.environment.close(&Deadline::after(Duration::ZERO));
    for error in [manager.list().unwrap_err(), manager.get("a").unwrap_err(), ask(&manager, "a", "version").unwrap_err()] {
        assert_eq!(error.kind(), Kind::InvalidState, "{error}");
    }
    manager.stop(None).unwrap();
}

#[test]
fn what_a_config_has_that_nobody_knows_is_a_warning() {
    let bench = Bench::new();
    bench.manager("enabeld: true");
    assert!(bench.host.records().iter().any(|record| record.contains("did you mean \"enabled\"?")), "{:?}", bench.host.records());
}
