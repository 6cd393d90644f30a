//! What fails, and what then is seen of it. Each row of docs/failures.md is one of these.

use std::fs;
use std::path::Path;

use flowplug::error::Kind;
use flowplug::manager::Manager;
use flowplug::source::Change;
use serde_json::json;

use crate::support::{Bench, Told, ask, call, manifest, module, put, row};

/// The plugin `bad` is not there, for this reason, and `good` runs beside it.
#[track_caller]
fn is_visible(bench: &Bench, manager: &Manager, cause: &str) {
    let event = bench.host.wait_for("load_failed", "bad");
    assert!(event["cause"].as_str().unwrap().contains(cause), "{event}");
    let row = row(manager, "bad");
    assert_eq!(row["state"], "error");
    assert!(row["last_error"].as_str().unwrap().contains(cause), "{row}");
    let error = ask(manager, "bad", "version").unwrap_err();
    assert_eq!((error.kind(), error.plugin(), error.function()), (Kind::InvalidState, "bad", "version"));
    assert!(error.message().contains(cause), "{error}");
    let health = manager.health("bad").unwrap();
    assert_eq!((&health["ready"], &health["state"]), (&json!(false), &json!("error")));
    assert!(health["last_error"].as_str().unwrap().contains(cause));
    assert_eq!(ask(manager, "good", "version").unwrap(), "\"1\"");
}

/// A start with a plugin that is bad in this way.
#[track_caller]
fn at_start(spoil: impl Fn(&Path), config: &str, cause: &str) {
    let bench = Bench::new();
    bench.put("good", "1");
    let bad = bench.put("bad", "1");
    spoil(&bad);
    let manager = bench.started(config);
    is_visible(&bench, &manager, cause);
    // Mended, it comes by itself, if what was wrong lay in its folder.
    if config.is_empty() {
        put(&bad, "2", "");
        bench.host.wait_for("started", "bad");
        assert_eq!(ask(&manager, "bad", "version").unwrap(), "\"2\"");
        assert_eq!((row(&manager, "bad")["state"].clone(), row(&manager, "bad")["last_error"].clone()), (json!("running"), json!("")));
    }
}

#[test]
fn a_manifest_that_is_no_good_at_the_start() {
    at_start(|bad| fs::write(bad.join("plugin.yaml"), "name: bad\nruntime: jvm\n").unwrap(), "", "runtime");
}

#[test]
fn an_artifact_that_is_missing_at_the_start() {
    at_start(|bad| fs::remove_file(bad.join("plugin.wasm")).unwrap(), "", "plugin.wasm");
}

#[test]
fn a_module_that_is_no_module_at_the_start() {
    at_start(|bad| fs::write(bad.join("plugin.wasm"), "no module").unwrap(), "", "module");
}

#[test]
fn an_init_that_traps_at_the_start() {
    let trap = module("1", "(func (export \"init\") (param i32 i32) (result i64) unreachable)");
    at_start(|bad| fs::write(bad.join("plugin.wasm"), &trap).unwrap(), "", "trapped");
}

#[test]
fn a_config_that_the_schema_refuses_at_the_start() {
    let strict = manifest("1", "config_schema: {type: object, required: [token]}");
    at_start(|bad| fs::write(bad.join("plugin.yaml"), &strict).unwrap(), "config: {bad: {n: 1}}", "token");
}

#[test]
fn a_variable_of_the_environment_that_is_missing() {
    at_start(|_| (), "config: {bad: {token: \"${env:FLOWPLUG_NOT_SET}\"}}", "FLOWPLUG_NOT_SET");
}

#[test]
fn a_folder_whose_name_is_no_identity() {
    let bench = Bench::new();
    bench.put("good", "1");
    bench.put("not an identity", "1");
    let manager = bench.started("");
    let event = bench.host.wait_for("load_failed", "not an identity");
    assert!(event["cause"].as_str().unwrap().contains("use letters"), "{event}");
    assert_eq!(row(&manager, "not an identity")["state"], "error");
    assert_eq!(ask(&manager, "good", "version").unwrap(), "\"1\"");
}

#[test]
fn a_policy_that_does_not_grant_what_is_asked() {
    let bench = Bench::with_policy(&json!("strict"));
    bench.put("good", "1");
    let asks = manifest("1", "").replace("  pool:", "  permissions: {http: [{host: api.example.com}]}\n  pool:");
    fs::write(bench.put("bad", "1").join("plugin.yaml"), asks).unwrap();
    let manager = bench.started("");
    is_visible(&bench, &manager, "api.example.com");
}

#[test]
fn an_identity_that_two_sources_have() {
    let bench = Bench::new();
    bench.put("a", "1");
    let second = bench.root.join("second");
    put(&second.join("a"), "2", "");
    put(&second.join("b"), "3", "");
    let sources = format!("enabled: true\nsources: [{{type: local, path: PLUGINS}}, {{type: local, path: {}}}]", second.display());
    let manager = bench.manager(&sources);
    manager.start(&call()).unwrap();
    let event = bench.host.wait_for("load_failed", "a");
    assert!(event["cause"].as_str().unwrap().contains("Rename one of the two"), "{event}");
    assert_eq!(manager.list().unwrap().as_array().unwrap().len(), 2);
    assert_eq!((ask(&manager, "a", "version").unwrap(), ask(&manager, "b", "version").unwrap()), ("\"1\"".to_owned(), "\"3\"".to_owned()));
    // Neither a change nor the end of the second one touches the first.
    put(&second.join("a"), "4", "");
    bench.host.wait_for("load_failed", "a");
    fs::remove_dir_all(second.join("a")).unwrap();
    fs::remove_dir_all(second.join("b")).unwrap();
    bench.host.wait_for("unloaded", "b");
    assert_eq!(ask(&manager, "a", "version").unwrap(), "\"1\"");
    let again = manager.load(&bench.plugins().join("a"), "", &call()).unwrap_err();
    assert_eq!((again.kind(), again.message().contains("there already")), (Kind::InvalidState, true), "{again}");
}

#[test]
fn more_plugins_than_there_may_be() {
    let bench = Bench::new();
    (0..4).for_each(|n| drop(bench.put(&format!("p{n}"), "1")));
    let manager = bench.started("max_plugins: 2");
    for n in 0..4 {
        let row = row(&manager, &format!("p{n}"));
        assert_eq!(row["state"], if n < 2 { "running" } else { "error" }, "{row}");
        assert_eq!(row["last_error"].as_str().unwrap().contains("max_plugins is 2"), n >= 2, "{row}");
    }
    bench.host.wait_for("load_failed", "p2");
    let full = manager.load(&put(&bench.root.join("more"), "1", ""), "", &call()).unwrap_err();
    assert_eq!((full.kind(), full.message().contains("max_plugins is 2")), (Kind::InvalidState, true), "{full}");
    assert_eq!(row(&manager, "more"), json!(null));
    assert_eq!(manager.reload("p3", None, "", &call()).unwrap_err().kind(), Kind::InvalidState);
    // A place that comes free is for the next in order, however it comes.
    manager.unload("p0", None, &call()).unwrap();
    bench.host.wait_for("started", "p2");
    assert_eq!((ask(&manager, "p2", "version").unwrap(), row(&manager, "p3")["state"].clone()), ("\"1\"".to_owned(), json!("error")));
    fs::remove_dir_all(bench.plugins().join("p1")).unwrap();
    bench.host.wait_for("started", "p3");
    assert_eq!(ask(&manager, "p3", "version").unwrap(), "\"1\"");
}

#[test]
fn a_source_whose_folder_is_missing() {
    let bench = Bench::new();
    bench.put("good", "1");
    let manager = bench.manager("enabled: true\nsources: [{type: local, path: PLUGINS/missing}, {type: local, path: PLUGINS}]");
    let error = manager.start(&call()).unwrap_err();
    assert_eq!((error.kind(), error.message().contains("1 of 2 sources")), (Kind::Io, true), "{error}");
    let event = bench.host.wait_for("discover_failed", "");
    assert!(event["cause"].as_str().unwrap().contains("missing"), "{event}");
    assert_eq!(ask(&manager, "good", "version").unwrap(), "\"1\"");
}

#[test]
fn sources_of_a_type_that_is_not_there_yet() {
    let bench = Bench::new();
    bench.put("good", "1");
    let sources = "enabled: true\nsources: [{type: git, repos: [{url: \"https://example.com/o/r\"}]}, {type: oci, registry: r.example}, {type: local, path: PLUGINS}]";
    let manager = bench.manager(sources);
    let error = manager.start(&call()).unwrap_err();
    assert_eq!((error.kind(), error.message().contains("2 of 3 sources")), (Kind::Unsupported, true), "{error}");
    let causes: Vec<String> = bench.host.all("discover_failed").iter().map(|e| e["cause"].as_str().unwrap().to_owned()).collect();
    assert!(causes[0].contains("git are not supported yet") && causes[1].contains("oci are not supported yet"), "{causes:?}");
    assert_eq!(ask(&manager, "good", "version").unwrap(), "\"1\"");
}

#[test]
fn the_next_of_an_identity_comes_when_the_one_before_goes() {
    let bench = Bench::new();
    let [first, second, third] = ["1", "2", "3"].map(|version| Told::new(put(&bench.root.join(version).join("a"), version, "")));
    // It waits for the place of `a`, which it gets when all is done that the end of an `a` leads to.
    let last = Told::new(put(&bench.root.join("last").join("b"), "4", ""));
    let manager = bench.of("max_plugins: 1", &[&first, &second, &third, &last]);
    assert_eq!((ask(&manager, "a", "version").unwrap(), bench.host.all("load_failed").len()), ("\"1\"".to_owned(), 3));
    first.tell(Change::Removed("a".into()));
    bench.host.wait_for("unloaded", "a");
    bench.host.wait_for("started", "a");
    assert_eq!(ask(&manager, "a", "version").unwrap(), "\"2\"");
    // It is its own source's from here on, and one that is gone itself does not come.
    second.tell(Change::Updated(second.found()));
    bench.host.wait_for("reloaded", "a");
    third.tell(Change::Removed("a".into()));
    second.tell(Change::Removed("a".into()));
    bench.host.wait_for("unloaded", "a");
    bench.host.wait_for("started", "b");
    assert_eq!((row(&manager, "a"), row(&manager, "b")["state"].clone()), (json!(null), json!("running")));
}

#[test]
fn a_change_that_meets_an_unload_is_not_lost() {
    let bench = Bench::new();
    let source = Told::new(bench.put("a", "1"));
    let manager = bench.of("", &[&source]);
    for _ in 0..100 {
        std::thread::scope(|scope| {
            scope.spawn(|| manager.unload("a", None, &call()).unwrap());
            source.tell(Change::Updated(source.found()));
        });
        // Either it was reloaded before, or it comes after.
        if bench.host.all("reloaded").is_empty() {
            bench.host.wait_for("started", "a");
        } else {
            bench.host.wait_for("unloaded", "a");
            source.tell(Change::Updated(source.found()));
            bench.host.wait_for("started", "a");
        }
    }
}

#[test]
fn a_plugin_loaded_by_hand_that_fails_leaves_nothing() {
    let bench = Bench::new();
    let manager = bench.manager("");
    let folder = put(&bench.root.join("mine"), "1", "");
    fs::write(folder.join("plugin.wasm"), "no module").unwrap();
    let error = manager.load(&folder, "", &call()).unwrap_err();
    assert_eq!((error.kind(), error.plugin()), (Kind::LoadFailed, "mine"), "{error}");
    assert_eq!(manager.list().unwrap(), json!([]));
    assert_eq!(manager.load(&bench.root.join("missing"), "", &call()).unwrap_err().kind(), Kind::Io);
    assert_eq!(manager.load(Path::new("/"), "", &call()).unwrap_err().kind(), Kind::InvalidArgument);
    put(&folder, "2", "");
    manager.load(&folder, "", &call()).unwrap();
}

#[test]
fn an_identity_that_nobody_has() {
    let bench = Bench::new();
    let manager = bench.started("");
    for error in [
        manager.get("nobody").unwrap_err(),
        ask(&manager, "nobody", "version").unwrap_err(),
        manager.health("nobody").unwrap_err(),
        manager.reload("nobody", None, "", &call()).unwrap_err(),
        manager.unload("nobody", None, &call()).unwrap_err(),
    ] {
        assert_eq!((error.kind(), error.message().contains("\"nobody\"")), (Kind::NotFound, true), "{error}");
    }
}

/// A running plugin is edited into something that is no good: the old one goes on.
#[track_caller]
fn at_an_edit(spoil: impl Fn(&Path), cause: &str) {
    let bench = Bench::new();
    let folder = bench.put("a", "1");
    let manager = bench.started("");
    spoil(&folder);
    let event = bench.host.wait_for("reload_failed", "a");
    assert!(event["cause"].as_str().unwrap().contains(cause), "{event}");
    assert_eq!(ask(&manager, "a", "version").unwrap(), "\"1\"");
    // The list is written after the event.
    let by_hand = manager.reload("a", None, "", &call()).unwrap_err();
    assert!(by_hand.message().contains(cause), "{by_hand}");
    let seen = row(&manager, "a");
    assert_eq!((&seen["state"], &seen["manifest"]["version"]), (&json!("running"), &json!("1")));
    assert!(seen["last_error"].as_str().unwrap().contains(cause), "{seen}");
    put(&folder, "2", "");
    bench.host.wait_for("reloaded", "a");
    manager.reload("a", None, "", &call()).unwrap();
    assert_eq!((ask(&manager, "a", "version").unwrap(), row(&manager, "a")["last_error"].clone()), ("\"2\"".to_owned(), json!("")));
}

#[test]
fn an_edit_that_breaks_the_manifest() {
    at_an_edit(|folder| fs::write(folder.join("plugin.yaml"), "name: [").unwrap(), "line 1");
}

#[test]
fn an_edit_that_breaks_the_module() {
    at_an_edit(|folder| fs::write(folder.join("plugin.wasm"), "no module").unwrap(), "module");
}

#[test]
fn an_edit_whose_init_traps() {
    let trap = module("2", "(func (export \"init\") (param i32 i32) (result i64) unreachable)");
    at_an_edit(|folder| fs::write(folder.join("plugin.wasm"), &trap).unwrap(), "trapped");
}

#[test]
fn an_edit_whose_schema_refuses_the_config() {
    let strict = manifest("2", "config_schema: {type: object, required: [token]}");
    at_an_edit(|folder| fs::write(folder.join("plugin.yaml"), &strict).unwrap(), "token");
}

#[test]
fn a_root_that_cannot_be_read_any_more() {
    let bench = Bench::new();
    bench.put("a", "1");
    let manager = bench.started("");
    fs::rename(bench.plugins(), bench.root.join("aside")).unwrap();
    bench.host.wait_for("discover_failed", "");
    assert_eq!(ask(&manager, "a", "version").unwrap(), "\"1\"");
    fs::rename(bench.root.join("aside"), bench.plugins()).unwrap();
    bench.put("a", "2");
    bench.host.wait_for("reloaded", "a");
    assert_eq!(ask(&manager, "a", "version").unwrap(), "\"2\"");
}
