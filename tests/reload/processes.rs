//! Versions whose processes end by themselves: when that is the plugin's end, and when it is not.

use std::path::Path;
use std::process::Command;
use std::sync::Arc;
use std::time::Duration;

use flowplug::call::Deadline;
use flowplug::error::{Kind, Result};
use flowplug::manifest::Manifest;
use flowplug::plugin::{Plugin, State};
use serde_json::Value;

use super::support::*;

/// One that nobody starts again by itself.
fn process() -> Arc<Manifest> {
    process_with("policy: never")
}

pub(crate) fn process_with(restart: &str) -> Arc<Manifest> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("target/plugins/fixture-grpc-go");
    assert!(folder.join("plugin.yaml").exists(), "{} is not there: run `make plugins`", folder.display());
    let text = std::fs::read_to_string(folder.join("plugin.yaml")).unwrap() + &format!("  restart: {{ {restart} }}\n");
    Arc::new(Manifest::parse(text.as_bytes(), &folder, true).unwrap())
}

fn order(plugin: &Plugin, content: &str) -> Result<Value> {
    let mut answer = Vec::new();
    plugin.call("command", format!("{{\"content\": {content}}}").as_bytes(), &call(), &mut answer)?;
    Ok(serde_json::from_slice(&answer).unwrap())
}

pub(crate) fn pid(plugin: &Plugin) -> String {
    order(plugin, r#"{"do": "pid"}"#).unwrap()["pid"].to_string()
}

pub(crate) fn kill(pid: &str) {
    assert!(Command::new("kill").args(["-9", pid]).status().unwrap().success());
}

#[test]
fn a_reload_brings_back_what_crashed() {
    let bench = Bench::new();
    let plugin = bench.started(&process(), 1);
    let crashed = bench.heard("crashed");
    kill(&pid(&plugin));
    crashed.recv_timeout(LONG).unwrap();
    assert_eq!((plugin.state(), kind_of(order(&plugin, r#"{"do": "pid"}"#))), (State::Error, Kind::Unavailable));
    assert!(!plugin.vitals().last_error.is_empty());
    plugin.reload(process(), b"", &call(), &Deadline::after(LONG)).unwrap();
    assert_eq!((plugin.state(), plugin.vitals().last_error.as_str()), (State::Running, ""));
    assert_eq!(order(&plugin, r#"{"do": "config"}"#).unwrap()["version"], 1, "the config of before");
    assert_eq!(bench.host.types(), ["crashed", "reloaded"]);
}

#[test]
fn the_end_of_an_old_process_is_not_the_plugins() {
    let bench = Bench::new();
    let plugin = bench.started(&process(), 1);
    let (old, reloaded) = (pid(&plugin), bench.heard("reloaded"));
    std::thread::scope(|scope| {
        let sleeps = scope.spawn(|| order(&plugin, r#"{"do": "sleep", "ms": 600000}"#));
        // The process counts its commands: this one, the first, and the one that sleeps.
        let bound = Deadline::after(LONG);
        let mut asked = 1;
        while order(&plugin, r#"{"do": "calls"}"#).unwrap()["calls"].as_u64().unwrap() < asked + 2 {
            asked += 1;
            assert!(!bound.expired());
        }
        let reload = scope.spawn(|| plugin.reload(process(), &config(2), &call(), &Deadline::never()));
        reloaded.recv_timeout(LONG).unwrap();
        kill(&old);
        assert_eq!(kind_of(sleeps.join().unwrap()), Kind::Unavailable);
        reload.join().unwrap().unwrap();
    });
    assert_eq!((plugin.state(), order(&plugin, r#"{"do": "config"}"#).unwrap()), (State::Running, serde_json::json!({"version": 2})));
    assert_eq!(bench.host.types(), ["reloaded"]);
}

#[test]
fn a_new_process_that_crashes_is_back_while_the_old_one_drains() {
    let bench = Bench::new();
    let manifest = process_with("backoff: 1ms");
    let plugin = bench.started(&manifest, 1);
    let reloaded = bench.heard("reloaded");
    std::thread::scope(|scope| {
        let sleeps = scope.spawn(|| order(&plugin, r#"{"do": "sleep", "ms": 600000}"#));
        while plugin.vitals().in_flight == 0 {
            std::thread::yield_now();
        }
        let reload = scope.spawn(|| plugin.reload(manifest.clone(), &config(2), &call(), &Deadline::never()));
        reloaded.recv_timeout(LONG).unwrap();
        let (new, restarted) = (pid(&plugin), bench.heard("restarted"));
        kill(&new);
        restarted.recv_timeout(LONG).unwrap();
        assert_ne!(pid(&plugin), new);
        assert_eq!((plugin.state(), plugin.vitals().restarts), (State::Running, 1));
        assert!(!sleeps.is_finished() && !reload.is_finished(), "the first version still drains");
        plugin.stop(&Deadline::after(Duration::ZERO)).unwrap();
        reload.join().unwrap().unwrap();
        assert_eq!(kind_of(sleeps.join().unwrap()), Kind::Cancelled);
    });
    let events = bench.host.events();
    let kinds: Vec<&str> = events.iter().map(|event| event["type"].as_str().unwrap()).collect();
    assert_eq!(kinds, ["reloaded", "crashed", "restarted", "stopping", "stopped"]);
    let numbers: Vec<u64> = events.iter().map(|event| event["seq"].as_u64().unwrap()).collect();
    assert_eq!(numbers, [3, 4, 5, 6, 7], "after what told that it was loaded and started");
}

#[test]
fn nothing_of_an_old_process_is_left() {
    let bench = Bench::new();
    let plugin = bench.started(&process(), 1);
    let folders = || std::fs::read_dir(&bench.folder).unwrap().filter(|entry| entry.as_ref().unwrap().path().is_dir()).count();
    let (one, mut last) = (folders(), pid(&plugin));
    for version in 2..5 {
        plugin.reload(process(), &config(version), &call(), &Deadline::after(LONG)).unwrap();
        assert!(!Path::new("/proc").join(&last).exists(), "the old process is gone when the reload returns");
        assert_eq!(folders(), one);
        last = pid(&plugin);
    }
    // One that cannot be started leaves none either.
    let error = plugin.reload(process(), br#"{"fail": "I will not"}"#, &call(), &Deadline::after(LONG)).unwrap_err();
    assert_eq!((error.kind(), error.plugin_message()), (Kind::StartFailed, "I will not"));
    assert_eq!((folders(), pid(&plugin)), (one, last));
}
