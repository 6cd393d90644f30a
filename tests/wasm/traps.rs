//! What a trap says: its kind, where in the guest it was, whose it was, which bound was met and what was refused before it.

use flowplug::error::{Error, Kind};
use flowplug::policy::Mount;

use crate::support::*;

/// Mangled as the compilers of Rust (both manglings) and C++ do; `$x` is the function that traps.
const NAMES: [(&str, &str); 5] = [
    ("_ZN4core9panicking5panic17h0123456789abcdefE", "core::panicking::panic::h0123456789abcdef"),
    ("_RNvC6_123foo3bar", "123foo::bar"),
    ("_ZN5space3fooEibc", "space::foo(int, bool, char)"),
    ("_ZNSt6vectorIiSaIiEE9push_backEOi", "std::vector<int, std::allocator<int> >::push_back(int&&)"),
    ("runtime.panicIndex", "runtime.panicIndex"),
];

#[test]
fn the_backtrace_holds_the_names_as_they_were_written() {
    let mut body = String::from("(func $x0 unreachable)");
    for (i, (mangled, _)) in NAMES.iter().enumerate() {
        body += &format!(r#"(func $x{} (@name "{mangled}") (call $x{i}))"#, i + 1);
    }
    body += &format!(r#"(func (export "trap") (result i64) (call $x{}) (i64.const 0))"#, NAMES.len());
    let error = ask(&Setup::new().started(&guest("", &body)), "trap", "").unwrap_err();
    let frames: Vec<&str> = error.details()["backtrace"].as_array().unwrap().iter().map(|name| name.as_str().unwrap()).collect();
    let mut expected = vec!["x0"];
    expected.extend(NAMES.iter().map(|(_, written)| *written));
    assert_eq!(&frames[..expected.len()], expected);
    assert_eq!((error.kind(), error.function()), (Kind::Trap, "trap"));
}

/// Names that would unfold to gigabytes, or take the reader minutes: the call ends as soon as any other.
#[test]
fn a_hostile_name_is_no_weapon() {
    let mut unfolds = String::from("_Z1f1PIiiE");
    for digit in "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZ".chars() {
        unfolds += &format!("S_IS{digit}_S{digit}_E");
    }
    let doubles = format!("_Z{}{}", "SaI".repeat(24), "A1_gs".repeat(80));
    let nests = format!("_Z1f{}i", "P".repeat(400));
    let long = "x".repeat(1 << 20);
    for name in [unfolds, doubles, nests, long] {
        let body = format!(
            r#"(func $f (@name "{name}") (param i32) (result i32) (i32.add (i32.const 1) (call $f (local.get 0))))
               (func (export "trap") (result i64) (drop (call $f (i32.const 0))) (i64.const 0))"#
        );
        let plugin = Setup::new().started(&guest("", &body));
        let timer = Timer::start();
        let error = ask(&plugin, "trap", "").unwrap_err();
        let took = timer.elapsed();
        assert!(took < std::time::Duration::from_secs(1), "{name:.40} took {took:?}");
        let backtrace = error.details()["backtrace"].as_array().unwrap();
        assert_eq!(backtrace.len(), 32);
        assert!(backtrace.iter().all(|frame| frame.as_str().unwrap().len() < 300));
        assert_eq!(ask(&plugin, "echo", "1").unwrap(), "1");
    }
}

#[test]
fn functions_without_names_have_numbers() {
    let wat = r#"(module (memory (export "memory") 1) (func (export "trap") (result i64) unreachable))"#;
    let error = ask(&Setup::new().started(wat), "trap", "").unwrap_err();
    assert_eq!(error.details()["backtrace"][0], "<wasm function 0>");
}

const HTTP: &str = r#"(import "flowbot" "http_request" (func $http (param i32 i32) (result i64)))
    (import "flowbot" "kv_set" (func $set (param i32 i32 i32 i32) (result i32)))
    (import "flowbot" "get_config" (func $config (param i32 i32) (result i64)))"#;
const INSIST: &str = r#"
    (func (export "fetch") (param i32 i32) (result i64) (if (i64.eqz (call $http (local.get 0) (local.get 1))) (then unreachable)) (i64.const 0))
    (func (export "keep") (param i32 i32) (result i64)
        (if (i32.eqz (call $set (i32.const 64) (i32.const 1) (local.get 0) (local.get 1))) (then unreachable)) (i64.const 0))
    (func (export "config") (param i32 i32) (result i64) (if (i64.eqz (call $config (local.get 0) (local.get 1))) (then unreachable)) (i64.const 0))"#;

#[test]
fn a_trap_after_a_refusal_says_what_was_refused_and_why() {
    let mut setup = Setup::new();
    setup.grants.kv.value = 10;
    let plugin = setup.started(&guest(HTTP, INSIST));
    let error = ask(&plugin, "fetch", r#"{"url":"https://evil.example.com/"}"#).unwrap_err();
    assert_eq!((error.kind(), error.details()["kind"].as_str()), (Kind::Trap, Some("unreachable")));
    let denied = &error.details()["denied"];
    assert_eq!((denied["what"].as_str(), denied["target"].as_str()), (Some("http"), Some("evil.example.com:443")));
    assert!(denied["why"].as_str().unwrap().contains("permissions.http"), "{denied}");
    assert!(error.message().contains("may not reach") && error.message().contains("evil.example.com"), "{}", error.message());

    let error = ask(&plugin, "keep", &"x".repeat(11)).unwrap_err();
    assert!(error.details()["denied"]["why"].as_str().unwrap().contains("kv.value"), "{:?}", error.details());
    // What failed without being refused, and what was refused to an earlier call, is no cause.
    for (function, params) in [("config", "missing"), ("config", "fail")] {
        let error = ask(&plugin, function, params).unwrap_err();
        assert!(error.kind() == Kind::Trap && !error.details().contains_key("denied"), "{:?}", error.details());
    }
    assert_eq!(ask(&plugin, "keep", "x").unwrap(), "null");
}

#[test]
fn a_trap_after_a_file_was_refused_names_the_file() {
    let import = r#"(import "wasi_snapshot_preview1" "path_open" (func $open (param i32 i32 i32 i32 i32 i64 i64 i32 i32) (result i32)))"#;
    let body = r#"(func (export "open") (param i32 i32) (result i64)
        (if (call $open (i32.const 3) (i32.const 1) (local.get 0) (local.get 1) (i32.const 0) (i64.const 2) (i64.const 0) (i32.const 0) (i32.const 512)) (then unreachable))
        (i64.const 0))"#;
    let mut setup = Setup::new();
    let data = setup.folder.0.join("data");
    std::fs::create_dir(&data).unwrap();
    setup.grants.mounts = vec![Mount { host: data, guest: vec!["data".to_owned()], writable: true }];
    let plugin = setup.started(&guest(import, body));
    let error = ask(&plugin, "open", "../plugin.wasm").unwrap_err();
    let denied = &error.details()["denied"];
    assert_eq!((denied["what"].as_str(), denied["target"].as_str()), (Some("filesystem"), Some("../plugin.wasm")), "{:?}", error.details());
    assert!(error.message().contains("wasm.permissions.filesystem"), "{}", error.message());
    let error = ask(&plugin, "open", "missing").unwrap_err();
    assert!(!error.details().contains_key("denied"), "a file that is not there was not refused");
}

/// The member `limit` of the details, and the message.
fn bound(error: &Error) -> (&str, &str) {
    (error.details().get("limit").and_then(|limit| limit.as_str()).unwrap_or_default(), error.message())
}

#[test]
fn each_limit_has_its_code_and_says_what_to_raise() {
    let body = r#"
        (memory $second 0) (table $t 1 funcref)
        (func (export "memory_one") (result i64) (drop (memory.grow 0 (i32.const 200))) unreachable)
        (func (export "memory_two") (result i64) (drop (memory.grow 0 (i32.const 60))) (drop (memory.grow 1 (i32.const 100))) unreachable)
        (func (export "table") (result i64) (drop (table.grow $t (ref.null func) (i32.const 1000000))) unreachable)
        (func $deep (param i64) (result i64) (i64.add (i64.const 1) (call $deep (local.get 0))))
        (func (export "stack") (result i64) (call $deep (i64.const 0)))
        (func (export "fuel") (result i64) (loop $l (br $l)) (i64.const 0))
        (func (export "result") (result i64) (i64.const 200000))
        (func (export "polite") (result i64) (drop (memory.grow (i32.const 200))) (i64.const 0))"#;
    let mut setup = Setup::new();
    (setup.grants.memory, setup.grants.result_size, setup.grants.fuel) = (8 << 20, 100_000, Some(5_000_000));
    let plugin = setup.started(&guest("", body));
    for (function, kind, limit, says) in [
        ("memory_one", Kind::OutOfMemory, "wasm.permissions.memory.max", "asked for 13369344"),
        ("memory_two", Kind::OutOfMemory, "wasm.permissions.memory.max", "asked for 10747904"),
        ("table", Kind::OutOfMemory, "tables", "1000001 elements"),
        ("stack", Kind::Trap, "stack", "512 KiB"),
        ("fuel", Kind::Trap, "wasm.permissions.execution.fuel", "Raise wasm.permissions.execution.fuel"),
    ] {
        let error = ask(&plugin, function, "").unwrap_err();
        assert_eq!((error.kind(), bound(&error).0), (kind, limit), "{function}: {error:?}");
        assert!(error.message().contains(says), "{}", error.message());
        assert_eq!(ask(&plugin, "echo", "1").unwrap(), "1");
    }
    let error = ask(&plugin, "result", "").unwrap_err();
    assert_eq!((error.kind(), bound(&error).0), (Kind::InvalidResponse, "result_size"), "{error:?}");
    assert_eq!(ask(&plugin, "polite", "").unwrap(), "null", "a denied growth is -1 to the guest");
}

#[test]
fn what_a_module_starts_with_is_bounded_too() {
    let module = |parts: &str| format!(r#"(module (memory (export "memory") 1) {parts} (func (export "f") (result i64) (i64.const 0)))"#);
    let mut setup = Setup::new();
    setup.grants.memory = 8 << 20;
    for (wat, kind, says) in [
        (r#"(module (memory (export "memory") 129))"#.to_owned(), Kind::OutOfMemory, "asked for 8454144"),
        (r#"(module (memory (export "memory") 65536))"#.to_owned(), Kind::OutOfMemory, "asked for 4294967296"),
        (module("(memory 64) (memory 64)"), Kind::OutOfMemory, "asked for 8454144"),
        (module("(memory 0) (memory 0) (memory 0) (memory 0)"), Kind::LoadFailed, "memories"),
        (module(&"(table 1 funcref)".repeat(9)), Kind::LoadFailed, "tables"),
        (module("(table 262144 funcref) (table 1 funcref)"), Kind::OutOfMemory, "262145 elements"),
        (module("(table 262145 funcref)"), Kind::LoadFailed, "262144"),
    ] {
        let error = setup.load(&wat, &call()).unwrap_err();
        assert_eq!(error.kind(), kind, "{wat}: {}", error.message());
        assert!(error.message().contains(says), "{wat}: {}", error.message());
    }
    setup.load(&module("(memory 63) (memory 64) (table 262144 funcref)"), &call()).unwrap();
}
