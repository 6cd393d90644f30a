//! What is refused when it is loaded, and what the error says.

use std::time::Duration;

use flowplug::call::Cancel;
use flowplug::error::{Error, Kind};

use crate::support::*;

fn refused(wat: &str) -> Error {
    let error = Setup::new().load(wat, &call()).unwrap_err();
    assert_eq!(error.kind(), Kind::LoadFailed, "{}", error.message());
    error
}

#[test]
fn mistyped_and_missing_exports_are_listed() {
    let error = refused(
        r#"(module (memory (export "memory") 1) (func (export "alloc") (result i32) (i32.const 0)) (func (export "init") (param i64))
            (func (export "command") (param i32) (result i64) (i64.const 0)) (func (export "is_ready") (result i64) (i64.const 1)) (global (export "free") i32 (i32.const 0)))"#,
    );
    for part in [
        "exports.alloc is () -> i32, and must be (i32) -> i32",
        "exports.init is (i64)",
        "exports.command is (i32) -> i64",
        "exports.is_ready",
        "exports.free is a global",
    ] {
        assert!(error.message().contains(part), "{part}: {}", error.message());
    }
    assert_eq!(error.details()["problems"].as_array().unwrap().len(), 5);
    assert!(refused("(module)").message().contains("exports.memory is nothing"));
    let no_alloc = r#"(module (memory (export "memory") 1) (func (export "any") (param i32 i32) (result i64) (i64.const 0)))"#;
    assert!(refused(no_alloc).message().contains("because \"any\" takes parameters"));
}

#[test]
fn unknown_imports_are_listed_with_the_types_that_there_are() {
    let error = refused(
        r#"(module (import "env" "abort" (func)) (import "flowbot" "kv_set" (func (param i32))) (import "flowbot" "exec" (func))
            (import "wasi_snapshot_preview1" "fd_fly" (func)) (import "wasi_snapshot_preview1" "fd_close" (func (param i32) (result i32)))
            (import "flowbot" "memory" (memory 1)) (memory (export "memory") 1))"#,
    );
    let text = error.message();
    for part in [
        "5 things",
        "env.abort",
        "flowbot.kv_set (it has another type here: (i32, i32, i32, i32) -> i32)",
        "flowbot.exec",
        "wasi_snapshot_preview1.fd_fly",
        "flowbot.memory",
    ] {
        assert!(text.contains(part), "{part}: {text}");
    }
    assert!(!text.contains("fd_close"));
}

#[test]
fn a_command_is_refused_with_how_to_build_a_reactor() {
    let error = refused(r#"(module (memory (export "memory") 1) (func (export "_start")))"#);
    assert!(error.message().contains("reactor"), "{}", error.message());
}

#[test]
fn features_that_are_off_are_refused() {
    for wat in [
        r#"(module (memory (export "memory") 1 1 shared))"#,
        r#"(module (memory (export "memory") i64 1))"#,
        r#"(module (memory (export "memory") 1) (type (struct)))"#,
        r#"(component)"#,
    ] {
        assert!(refused(wat).message().contains("not valid WebAssembly"), "{wat}");
    }
}

#[test]
fn the_module_is_bounded_and_its_digest_is_checked() {
    let wat = guest("", "");
    let mut setup = Setup::new();
    setup.grants.module_size = 100;
    assert_eq!(kind_of(setup.load(&wat, &call())), Kind::PermissionDenied);
    let mut setup = Setup::new();
    setup.grants.module_functions = 3;
    assert_eq!(kind_of(setup.load(&wat, &call())), Kind::PermissionDenied);
    let mut setup = Setup::new();
    setup.wasm = format!("  sha256: {}\n", "0".repeat(64));
    let error = setup.load(&wat, &call()).unwrap_err();
    assert_eq!(error.kind(), Kind::LoadFailed);
    let digest = error.message().split("SHA-256 ").nth(1).unwrap()[..64].to_owned();
    setup.wasm = format!("  sha256: {digest}\n");
    setup.load(&wat, &call()).unwrap();
    let mut setup = Setup::new();
    setup.grants.memory = 3 << 16;
    assert_eq!(kind_of(setup.load(&wat, &call())), Kind::OutOfMemory);
}

#[test]
fn loading_ends_at_its_deadline_or_by_a_cancel() {
    // Enough to compile that no machine ends before the deadline.
    let function =
        format!("(func (param i32) (result i32) (local.get 0) {})", "(i32.mul (i32.const 3)) (i32.add (local.get 0))".repeat(400));
    let wat = guest("", &function.repeat(1500));
    assert_eq!(kind_of(Setup::new().load(&wat, &within(Duration::from_millis(20)))), Kind::Timeout);
    let cancel = Cancel::new();
    cancel.cancel();
    let mut cancelled = call();
    cancelled.cancel = Some(cancel);
    assert_eq!(kind_of(Setup::new().load(&guest("", ""), &cancelled)), Kind::Cancelled);
}

#[test]
fn start_runs_once_and_an_exit_of_zero_in_it_is_success() {
    let import = r#"(import "wasi_snapshot_preview1" "proc_exit" (func $exit (param i32))) (import "flowbot" "log" (func $log (param i32 i32 i32)))"#;
    let body = |status: i32| {
        format!(r#"(func (export "_start") (call $log (i32.const 1) (i32.const 64) (i32.const 4)) (call $exit (i32.const {status})))"#)
    };
    let setup = Setup::new();
    let plugin = setup.started(&guest(import, &body(0)));
    assert_eq!(ask(&plugin, "echo", "1").unwrap(), "1");
    assert_eq!(setup.host.taken().len(), 1);
    let error = Setup::new().load(&guest(import, &body(3)), &call()).unwrap_err();
    assert_eq!((error.kind(), error.details()["exit_status"].as_i64()), (Kind::Trap, Some(3)));
    let both = format!(r#"{} (func (export "_initialize"))"#, body(3));
    Setup::new().load(&guest(import, &both), &call()).unwrap();
}

#[test]
fn a_bounded_address_space_is_no_obstacle() {
    // The pool's reservation fails in the child, and every call there runs on instances made on demand.
    let child = std::process::Command::new("sh")
        .args(["-c", r#"ulimit -v 3000000 && exec "$0" --exact calls::an_answer_comes_back_byte_for_byte_on_every_kind_of_engine"#])
        .arg(std::env::current_exe().unwrap())
        .output()
        .unwrap();
    let text = String::from_utf8_lossy(&child.stdout);
    assert!(child.status.success() && text.contains("1 passed"), "{text}");
}

/// In a child, whose instances are its own: other tests need some meanwhile.
#[test]
fn a_process_holds_so_many_instances_and_says_so() {
    const ALONE: &str = "FLOWPLUG_TEST_ALONE";
    if std::env::var_os(ALONE).is_none() {
        let mut child = std::process::Command::new(std::env::current_exe().unwrap());
        let child = child.args(["--exact", "load::a_process_holds_so_many_instances_and_says_so"]).env(ALONE, "1").output().unwrap();
        let text = String::from_utf8_lossy(&child.stdout);
        assert!(child.status.success() && text.contains("1 passed"), "{text}");
        return;
    }
    let setup = Setup::new();
    // As many tables as a module may have, of which there are as many as instances: so the end is near.
    let wat = guest("", &"(table 1 funcref)".repeat(8));
    let mut plugins = vec![setup.started(&wat)];
    let error = loop {
        match setup.load(&wat, &call()) {
            Ok(plugin) => plugins.push(plugin),
            Err(error) => break error,
        }
    };
    let is_full =
        |error: &Error| error.kind() == Kind::Busy && error.details()["limit"] == "instances" && error.message().contains("max_instances");
    assert!(is_full(&error) && plugins.len() == 125, "{} plugins: {error:?}", plugins.len());
    let plain = guest("", "");
    assert!(is_full(&setup.load(&guest("", "(table 1 funcref)"), &call()).unwrap_err()));
    assert_eq!(ask(&setup.started(&plain), "echo", "1").unwrap(), "1", "one that needs no table");
    assert_eq!(ask(&plugins[0], "echo", "2").unwrap(), "2", "those that are there go on");
    plugins.pop();
    setup.load(&wat, &call()).unwrap();
}
