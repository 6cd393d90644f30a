//! Plugins that are edited while they run.

use std::fs;
use std::os::unix::fs::symlink;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use flowplug::error::Kind;
use serde_json::json;

use crate::support::{Bench, ask, call, manifest, module, put, row};

#[test]
fn plugins_come_change_and_go_with_their_folders() {
    let bench = Bench::new();
    let manager = bench.started("");
    let folder = bench.put("a", "1");
    bench.host.wait_for("started", "a");
    assert_eq!(ask(&manager, "a", "version").unwrap(), "\"1\"");
    put(&folder, "2", "provides: {module: true}");
    assert_eq!(bench.host.wait_for("reloaded", "a")["provides_changed"], true);
    fs::remove_dir_all(&folder).unwrap();
    bench.host.wait_for("unloaded", "a");
    assert_eq!(ask(&manager, "a", "version").unwrap_err().kind(), Kind::NotFound);
    assert_eq!(manager.list().unwrap(), json!([]));
}

#[test]
fn no_call_is_lost_while_a_plugin_is_edited() {
    let bench = Bench::new();
    let folder = bench.put("a", "0");
    let manager = bench.started("");
    let (over, calls) = (AtomicBool::new(false), AtomicU64::new(0));
    std::thread::scope(|scope| {
        for _ in 0..3 {
            scope.spawn(|| {
                let mut newest = 0;
                while !over.load(Ordering::Relaxed) {
                    let version: u64 = ask(&manager, "a", "version").unwrap().trim_matches('"').parse().unwrap();
                    assert!(version >= newest, "{version} after {newest}");
                    newest = version;
                    calls.fetch_add(1, Ordering::Relaxed);
                }
            });
        }
        for version in 1..=5 {
            // As a build does: another file in the place of the old.
            fs::write(folder.join("new"), module(&version.to_string(), "")).unwrap();
            fs::rename(folder.join("new"), folder.join("plugin.wasm")).unwrap();
            bench.host.wait_for("reloaded", "a");
        }
        over.store(true, Ordering::Relaxed);
    });
    assert_eq!(ask(&manager, "a", "version").unwrap(), "\"5\"");
    assert!(calls.load(Ordering::Relaxed) > 0);
}

#[test]
fn half_written_files_and_those_of_editors_reload_nothing() {
    let bench = Bench::new();
    let folder = bench.put("a", "1");
    let manager = bench.started("");
    for name in [".plugin.yaml.swp", "plugin.yaml~", "4913"] {
        fs::write(folder.join(name), "name: [").unwrap();
    }
    // No manifest, and a moment later one.
    fs::write(folder.join("plugin.yaml"), "name: te").unwrap();
    fs::write(folder.join("plugin.yaml"), manifest("2", "")).unwrap();
    bench.host.wait_for("reloaded", "a");
    bench.put("sentinel", "1");
    bench.host.wait_for("started", "sentinel");
    assert_eq!(bench.host.all("reload_failed").len() + bench.host.all("reloaded").len(), 0, "one reload, which was taken");
    assert_eq!(row(&manager, "a")["manifest"]["version"], "2");
}

#[test]
fn a_link_that_is_swapped_is_another_version() {
    let bench = Bench::new();
    for version in ["1", "2"] {
        put(&bench.root.join(format!("v{version}")), version, "");
    }
    symlink(bench.root.join("v1"), bench.plugins().join("a")).unwrap();
    let manager = bench.started("");
    assert_eq!(ask(&manager, "a", "version").unwrap(), "\"1\"");
    symlink(bench.root.join("v2"), bench.root.join("next")).unwrap();
    fs::rename(bench.root.join("next"), bench.plugins().join("a")).unwrap();
    bench.host.wait_for("reloaded", "a");
    assert_eq!(ask(&manager, "a", "version").unwrap(), "\"2\"");
}

#[test]
fn a_program_and_a_module_take_each_others_place() {
    let bench = Bench::new();
    let folder = bench.copy("bookmark-grpc-go", "bookmarks");
    let manager = bench.started("config: {bookmarks: {user_agent: test}}");
    assert_eq!(row(&manager, "bookmarks")["state"], "running", "{}", row(&manager, "bookmarks"));
    assert!(manager.health("bookmarks").unwrap()["ready"].as_bool().unwrap());
    assert!(ask(&manager, "bookmarks", "rules").unwrap().starts_with('['));
    // The config of before is kept: this schema asks for it, too.
    let schema = "provides: {module: true}\nconfig_schema: {type: object, required: [user_agent]}";
    fs::write(folder.join("plugin.wasm"), module("wasm", "")).unwrap();
    fs::write(folder.join("plugin.yaml"), manifest("2", schema)).unwrap();
    bench.host.wait_for("reloaded", "bookmarks");
    assert_eq!(ask(&manager, "bookmarks", "version").unwrap(), "\"wasm\"");
}

#[test]
fn a_process_that_crashed_is_back_and_counted() {
    let bench = Bench::new();
    bench.copy("fixture-grpc-go", "fixture");
    let manager = bench.started("config: {fixture: {n: 1}}");
    let command = |content: &str| {
        let (params, mut answer) = (format!("{{\"content\": {content}}}"), Vec::new());
        manager.call("fixture", "command", params.as_bytes(), &call(), &mut answer).map(|()| String::from_utf8(answer).unwrap())
    };
    let crashed = command("{\"do\": \"crash\"}").unwrap_err();
    assert_eq!(crashed.kind(), Kind::Unavailable, "{crashed}");
    bench.host.wait_for("restarted", "fixture");
    assert!(command("{\"do\": \"config\"}").unwrap().contains('1'), "its config came with it");
    let seen = row(&manager, "fixture");
    assert_eq!((&seen["state"], &seen["restarts"]), (&json!("running"), &json!(1)), "{seen}");
    let metrics = manager.metrics().unwrap();
    assert!(metrics.contains("flowplug_restarts_total{plugin=\"fixture\"} 1\n"), "{metrics}");
    manager.stop(None).unwrap();
}

#[test]
fn five_hundred_plugins_come_at_once() {
    let bench = Bench::new();
    let manager = bench.started("max_plugins: 0");
    // One module: what is measured is not the compiler.
    let module = module("1", "");
    for n in 0..500 {
        let folder = bench.plugins().join(format!("p{n}"));
        fs::create_dir(&folder).unwrap();
        fs::write(folder.join("plugin.wasm"), &module).unwrap();
        fs::write(folder.join("plugin.yaml"), manifest("1", "")).unwrap();
    }
    for n in 0..500 {
        let identity = format!("p{n}");
        while row(&manager, &identity)["state"] != "running" {
            bench.host.wait_for_any();
        }
        assert_eq!(ask(&manager, &identity, "version").unwrap(), "\"1\"");
    }
    assert_eq!(bench.host.all("load_failed").len(), 0);
    manager.stop(None).unwrap();
}

#[test]
fn what_is_edited_without_hot_reload_waits_for_a_reload() {
    let bench = Bench::new();
    let folder = bench.put("a", "1");
    let manager = bench.started("hot_reload: false");
    put(&folder, "2", "");
    assert_eq!(ask(&manager, "a", "version").unwrap(), "\"1\"");
    manager.reload("a", None, "", &call()).unwrap();
    assert_eq!((ask(&manager, "a", "version").unwrap(), bench.host.all("reloaded").len()), ("\"2\"".to_owned(), 1));
}

/// A small generator, so that a run can be had again.
struct Dice(u64);

impl Dice {
    fn roll(&mut self, sides: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0 % sides
    }
}

#[test]
fn however_a_folder_was_edited_the_manager_ends_as_the_disk_is() {
    let bench = Bench::new();
    let manager = bench.started("");
    let mut dice = Dice(0x9e37_79b9_7f4a_7c15);
    let names: Vec<String> = (0..6).map(|n| format!("p{n}")).collect();
    let aside = bench.root.join("aside");
    fs::create_dir(&aside).unwrap();
    let gone = |place: &std::path::Path| {
        if place.is_symlink() {
            fs::remove_file(place).unwrap()
        } else if place.exists() {
            fs::remove_dir_all(place).unwrap()
        }
    };
    for step in 0..400 {
        let place = bench.plugins().join(&names[dice.roll(6) as usize]);
        let version = step.to_string();
        match dice.roll(7) {
            0 => gone(&place),
            1 if place.exists() => fs::write(place.join("plugin.yaml"), "name: [").unwrap(),
            2 if place.exists() => fs::write(place.join("plugin.wasm"), "half a modu").unwrap(),
            3 => {
                let target = put(&aside.join(&version), &version, "");
                gone(&place);
                symlink(target, &place).unwrap();
            }
            4 => {
                let whole = put(&bench.plugins().join(".new"), &version, "");
                gone(&place);
                fs::rename(whole, &place).unwrap();
            }
            _ => drop(put(&place, &version, "")),
        }
        if dice.roll(40) == 0 {
            bench.host.wait_for_any();
        }
    }
    // Half of them end well, the others not at all.
    for (n, name) in names.iter().enumerate() {
        let place = bench.plugins().join(name);
        gone(&place);
        if n % 2 == 0 {
            put(&place, &format!("last {n}"), "");
        }
    }
    for (n, name) in names.iter().enumerate() {
        let is_as_the_disk = || match ask(&manager, name, "version") {
            Ok(version) => n % 2 == 0 && version == format!("\"last {n}\""),
            Err(e) => n % 2 == 1 && e.kind() == Kind::NotFound,
        };
        let began = std::time::Instant::now();
        while !is_as_the_disk() {
            assert!(began.elapsed() < crate::support::SOON, "{name}: {:?} {}", ask(&manager, name, "version"), row(&manager, name));
            bench.host.wait_for_any();
        }
    }
    manager.stop(None).unwrap();
}
