//! Instances that begin where `_initialize` ended once.

use std::thread;
use std::time::{Duration, Instant};

use flowplug::call::{Call, Cancel};
use flowplug::error::{Error, Kind};

use crate::support::*;

fn snapshot(of: &str) -> Setup {
    let mut setup = Setup::new();
    setup.wasm = format!("  pool:\n    instance_per_call: true\n    snapshot: {of}\n");
    setup
}

/// A guest whose `_initialize` counts itself in a global, in memory, and grows the memory by two pages.
const COUNTING: &str = r#"
  (global $runs (mut i32) (i32.const 5)) (global $big (mut i64) (i64.const 1)) (global $small (mut f32) (f32.const 1))
  (global $double (mut f64) (f64.const 1)) (global $wide (mut v128) (v128.const i64x2 1 1)) (global $fixed i32 (i32.const 77))
  (table 4 funcref) (elem (i32.const 1) func $seven $eight)
  (memory $other 1) (data (memory $other) (i32.const 8) "\aa") (data $kept "\bb\cc")
  (func $seven (result i64) (i64.const 7)) (func $eight (result i64) (i64.const 8))
  (func (export "_initialize")
    (global.set $runs (i32.add (global.get $runs) (i32.const 1)))
    (global.set $big (i64.const 0x1122334455667788)) (global.set $small (f32.const nan:0x200001)) (global.set $double (f64.const -0.1))
    (global.set $wide (v128.const i64x2 0x0102030405060708 0x1112131415161718))
    (i32.store (i32.const 600) (i32.add (i32.load (i32.const 600)) (i32.const 1)))
    (drop (memory.grow (i32.const 2)))
    (i32.store8 (i32.sub (i32.mul (memory.size) (i32.const 65536)) (i32.const 1)) (i32.const 0x5a))
    (i32.store8 $other (i32.const 65535) (i32.const 0x77))
    (memory.init $kept (i32.const 604) (i32.const 0) (i32.const 1)))
  (func $answer (param i64) (result i64) (call $hex (local.get 0) (i32.const 0) (i32.const 0)))
  (func (export "runs") (result i64)
    (global.set $runs (i32.add (global.get $runs) (i32.const 100)))
    (i32.store (i32.const 600) (i32.add (i32.load (i32.const 600)) (i32.const 100)))
    (call $answer (i64.or (i64.shl (i64.extend_i32_u (global.get $runs)) (i64.const 32)) (i64.extend_i32_u (i32.load (i32.const 600))))))
  (func (export "big") (result i64) (call $answer (global.get $big)))
  (func (export "small") (result i64) (call $answer (i64.extend_i32_u (i32.reinterpret_f32 (global.get $small)))))
  (func (export "double") (result i64) (call $answer (i64.reinterpret_f64 (global.get $double))))
  (func (export "wide") (result i64) (call $answer (i64x2.extract_lane 1 (global.get $wide))))
  (func (export "fixed") (result i64) (call $answer (i64.extend_i32_u (global.get $fixed))))
  (func (export "pages") (result i64) (call $answer (i64.extend_i32_u (memory.size))))
  (func (export "last") (result i64)
    (call $answer (i64.load8_u (i32.sub (i32.mul (memory.size) (i32.const 65536)) (i32.const 1)))))
  (func (export "other") (result i64)
    (call $answer (i64.or (i64.load8_u $other (i32.const 8)) (i64.shl (i64.load8_u $other (i32.const 65535)) (i64.const 8)))))
  (func (export "kept") (result i64)
    (memory.init $kept (i32.const 605) (i32.const 1) (i32.const 1)) (call $answer (i64.load16_u (i32.const 604))))
  (func (export "table") (result i64)
    (call $answer (i64.add (call_indirect (result i64) (i32.const 2)) (i64.mul (i64.const 16) (call_indirect (result i64) (i32.const 1))))))
"#;

#[test]
fn instances_begin_where_initialize_ended_once() {
    for of in ["off", "strict", "shared_seed"] {
        let plugin = snapshot(of).started(&guest("", COUNTING));
        for _ in 0..2 {
            for (function, value) in [
                ("runs", "0000006a00000065"),
                ("big", "1122334455667788"),
                ("small", "000000007fa00001"),
                ("double", "bfb999999999999a"),
                ("wide", "1112131415161718"),
                ("fixed", "000000000000004d"),
                ("pages", "0000000000000006"),
                ("last", "000000000000005a"),
                ("other", "00000000000077aa"),
                ("kept", "000000000000ccbb"),
                ("table", "0000000000000078"),
            ] {
                assert_eq!(ask(&plugin, function, "").unwrap(), format!("\"{value}:\""), "{function}, {of}");
            }
        }
        assert!(!plugin.exports().iter().any(|name| name.contains("flowplug")));
    }
}

#[test]
fn initialize_runs_once_for_all_instances_and_loads() {
    let import = r#"(import "wasi_snapshot_preview1" "fd_write" (func $write (param i32 i32 i32 i32) (result i32)))"#;
    let body = r#"
      (data (i32.const 700) "\d0\02\00\00\05\00\00\00") (data (i32.const 720) "hello")
      (func $hello (drop (call $write (i32.const 1) (i32.const 700) (i32.const 1) (i32.const 712))))
      (func $start (call $hello)) (start $start)
      (func (export "_initialize") (call $hello))
      (func (export "_start") unreachable)"#;
    for (of, each) in [("off", true), ("strict", false)] {
        let mut setup = snapshot(of);
        setup.settings.cache_dir = Some(setup.folder.0.join("cache"));
        let hellos = || setup.host.taken().iter().filter(|record| record.contains("hello")).count();
        let plugin = setup.started(&guest(import, body));
        assert_eq!(hellos(), 1, "{of}");
        ask(&plugin, "echo", "1").unwrap();
        ask(&plugin, "echo", "1").unwrap();
        drop(plugin);
        let plugin = setup.started(&guest(import, body));
        ask(&plugin, "echo", "1").unwrap();
        assert_eq!(hellos() > 0, each, "{of}");
    }
}

#[test]
fn each_way_is_kept_apart_and_told() {
    let mut setup = snapshot("strict");
    setup.settings.cache_dir = Some(setup.folder.0.join("cache"));
    let steps = |setup: &Setup| {
        let events = std::mem::take(&mut *setup.host.events.lock().unwrap());
        let event = |text: &String| serde_json::from_str::<serde_json::Value>(text).unwrap()["progress"]["step"].clone();
        events.iter().map(event).collect::<Vec<_>>()
    };
    let wat = guest("", &format!("{COUNTING} (func (export \"apart\"))"));
    drop(setup.started(&wat));
    assert_eq!(steps(&setup), ["snapshot", "snapshot", "compile", "compile"]);
    drop(setup.started(&wat));
    assert!(steps(&setup).is_empty());
    for of in ["off", "shared_seed"] {
        setup.wasm = format!("  pool:\n    snapshot: {of}\n");
        drop(setup.started(&wat));
        assert!(!steps(&setup).is_empty(), "{of}");
    }
    // Nor is one taken that was made where more was granted.
    setup.wasm = "  pool:\n    snapshot: strict\n".to_owned();
    setup.grants.module_size = 8192;
    let error = setup.load(&wat, &call()).unwrap_err();
    assert!(error.kind() == Kind::PermissionDenied && error.message().contains("snapshot"), "{error}");
}

fn refused(setup: &Setup, import: &str, body: &str) -> Error {
    let error = setup.load(&guest(import, body), &call()).unwrap_err();
    assert_eq!(error.kind(), Kind::LoadFailed, "{error}");
    error
}

#[test]
fn what_a_snapshot_must_not_hold_is_refused() {
    let wasi = |name: &str, ty: &str| format!(r#"(import "wasi_snapshot_preview1" "{name}" (func $f {ty}))"#);
    let initialize = |args: &str| format!(r#"(func (export "_initialize") (drop (call $f {args})))"#);
    let four = "(i32.const 0) (i32.const 0) (i32.const 0) (i32.const 0)";
    let open = format!("{four} (i32.const 0) (i64.const 0) (i64.const 0) (i32.const 0) (i32.const 0)");
    for (import, args, name) in [
        (wasi("path_open", "(param i32 i32 i32 i32 i32 i64 i64 i32 i32) (result i32)"), open.as_str(), "path_open"),
        (wasi("poll_oneoff", "(param i32 i32 i32 i32) (result i32)"), four, "poll_oneoff"),
        (r#"(import "flowbot" "kv_set" (func $f (param i32 i32 i32 i32) (result i32)))"#.to_owned(), four, "flowbot.kv_set"),
    ] {
        for of in ["strict", "shared_seed"] {
            let setup = snapshot(of);
            let error = refused(&setup, &import, &initialize(args));
            assert!(error.message().contains(name) && error.message().contains("off"), "{}", error.message());
            assert!(setup.host.taken().is_empty());
            // Where it is called later there is nothing wrong with it.
            let later =
                format!(r#"(func (export "_initialize")) (func (export "later") (result i64) (drop (call $f {args})) (i64.const 0))"#);
            setup.load(&guest(&import, &later), &call()).unwrap();
        }
    }
    let strict = snapshot("strict");
    let random = (wasi("random_get", "(param i32 i32) (result i32)"), "(i32.const 512) (i32.const 8)");
    let clock = (wasi("clock_time_get", "(param i32 i64 i32) (result i32)"), "(i32.const 1) (i64.const 0) (i32.const 512)");
    for (import, args) in [&random, &clock] {
        assert!(refused(&strict, import, &initialize(args)).message().contains("shared_seed"));
    }
    // The start section is no way around it.
    let start = format!("(func $start (drop (call $f {}))) (start $start)", random.1);
    assert!(refused(&strict, &random.0, &start).message().contains("random_get"));
    let shown = r#"(func (export "seed") (result i64) (call $hex (i64.load (i32.const 512)) (i32.const 0) (i32.const 0)))"#;
    let seeded = |(import, args): &(String, &str)| {
        let plugin = snapshot("shared_seed").started(&guest(import, &(initialize(args) + shown)));
        [ask(&plugin, "seed", "").unwrap(), ask(&plugin, "seed", "").unwrap()]
    };
    let [first, second] = seeded(&random);
    assert!(first == second && first != format!("\"{}:\"", "0".repeat(16)), "{first}");
    assert_ne!(seeded(&random)[0], first, "a new snapshot has a new seed");
    assert_eq!(seeded(&clock)[0], "\"0000000000000001:\"", "before every moment of an instance");
}

#[test]
fn what_cannot_begin_from_a_snapshot_is_refused() {
    let strict = snapshot("strict");
    let table = "(table 1 funcref) (func (export \"_initialize\") (drop (table.grow (ref.null func) (i32.const 1))))";
    assert!(refused(&strict, "", table).message().contains("table.grow"));
    assert!(refused(&strict, "", r#"(func (export "_start"))"#).message().contains("_start"));
    let error = strict.load(&guest("", r#"(func (export "_initialize") unreachable)"#), &call()).unwrap_err();
    assert_eq!((error.kind(), error.function()), (Kind::Trap, "_initialize"));
    let endless = guest("", r#"(func (export "_initialize") (loop (br 0)))"#);
    assert_eq!(kind_of(strict.load(&endless, &within(std::time::Duration::from_millis(100)))), Kind::Timeout);
    let mut small = snapshot("strict");
    small.grants.memory = 5 << 16;
    let growing = r#"(func (export "_initialize") (if (i32.eq (memory.grow (i32.const 2)) (i32.const -1)) (then unreachable)))"#;
    assert_eq!(kind_of(small.load(&guest("", growing), &call())), Kind::OutOfMemory);
    small.grants.fuel = Some(1000);
    assert_eq!(small.load(&endless, &call()).unwrap_err().details()["kind"], "out_of_fuel");
    let mut folders = snapshot("strict");
    let mount = flowplug::policy::Mount { host: folders.folder.0.clone(), guest: vec!["/data".to_owned()], writable: false };
    folders.grants.mounts.push(mount);
    let error = folders.load(&guest("", ""), &call()).unwrap_err();
    assert!(error.kind() == Kind::InvalidManifest && error.message().contains("folders"), "{error}");
    // Without `_initialize` there is only the start section to run, if there is one.
    strict.started(&guest("", ""));
}

#[test]
fn a_guest_that_is_initialised_for_ever_ends_in_its_time_and_holds_up_no_other_load() {
    let import = r#"(import "wasi_snapshot_preview1" "fd_write" (func $write (param i32 i32 i32 i32) (result i32)))"#;
    let body = r#"
      (data (i32.const 700) "\d0\02\00\00\06\00\00\00") (data (i32.const 720) "begun\n")
      (func (export "_initialize")
        (drop (call $write (i32.const 1) (i32.const 700) (i32.const 1) (i32.const 712))) (loop (br 0)))"#;
    let mut brief = snapshot("strict");
    brief.grants.timeout = Duration::from_millis(100);
    let start = Instant::now();
    assert_eq!(kind_of(brief.load(&guest(import, body), &call())), Kind::Timeout);
    assert!(start.elapsed() < LONG / 2, "a load may take longer than what it runs");

    // More than may compile at once.
    let setups: Vec<Setup> = (0..=thread::available_parallelism().map_or(2, |n| n.get().max(2))).map(|_| snapshot("strict")).collect();
    let cancel = Cancel::new();
    thread::scope(|s| {
        let loads: Vec<_> = setups
            .iter()
            .zip(0..)
            .map(|(setup, n)| {
                let (wat, call) =
                    (guest(import, &format!("{body} (global i32 (i32.const {n}))")), Call { cancel: Some(cancel.clone()), ..call() });
                s.spawn(move || kind_of(setup.load(&wat, &call)))
            })
            .collect();
        for (setup, load) in setups.iter().zip(&loads) {
            while !setup.host.taken().iter().any(|record| record.contains("begun")) {
                assert!(!load.is_finished());
                thread::yield_now();
            }
        }
        let other = guest("", r#"(func (export "beside") (result i64) (i64.const 0))"#);
        Setup::new().load(&other, &within(LONG / 2)).unwrap();
        cancel.cancel();
        for load in loads {
            assert_eq!(load.join().unwrap(), Kind::Cancelled);
        }
    });
}

#[test]
fn a_go_plugin_begins_from_a_snapshot_that_may_hold_its_seeds() {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/target/plugins/fixture-wasm-go/plugin.wasm");
    let module = std::fs::read(path).expect("run `make plugins` first");
    let error = snapshot("strict").load_module(&module, &call()).unwrap_err();
    assert!(error.kind() == Kind::LoadFailed && error.message().contains("shared_seed"), "{error}");
    let setup = snapshot("shared_seed");
    let plugin = setup.load_module(&module, &call()).unwrap();
    plugin.start(r#"{"some":"config"}"#, &call()).unwrap();
    let order = |content: &str| ask(&plugin, "command", &format!(r#"{{"context":{{}},"content":{content}}}"#)).unwrap();
    for _ in 0..3 {
        assert_eq!(order(r#"{"do":"calls"}"#), r#"{"calls":1}"#, "each call has an instance of its own");
        assert_eq!(order(r#"{"do":"config"}"#), r#"{"some":"config"}"#);
        assert_eq!(order(r#"{"do":"sleep","ms":2}"#), r#"{"slept":2}"#);
        assert_eq!(order(r#"{"do":"big","bytes":3000000}"#).len(), 3_000_000);
    }
    assert_eq!(order(r#"{"do":"host","fn":"get_config","args":{"key":"a"}}"#), r#"{"value":"value of a"}"#);
}
