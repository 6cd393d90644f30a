//! Calls and their answers.

use flowplug::error::Kind;
use flowplug::wasm::Settings;

use crate::support::*;

#[test]
fn an_answer_comes_back_byte_for_byte_on_every_kind_of_engine() {
    for signals in [true, false] {
        for fuel in [None, Some(1_000_000)] {
            let mut setup = Setup::new();
            setup.settings = Settings { signals, ..Settings::default() };
            setup.grants.fuel = fuel;
            let plugin = setup.started(&guest("", ""));
            for params in [r#"{"a": [1, 2.50, "ü"]}"#, "null", "1", &format!("\"{}\"", "x".repeat(90_000))] {
                assert_eq!(ask(&plugin, "echo", params).unwrap(), params);
            }
        }
    }
}

#[test]
fn functions_without_parameters_and_bare_ones_are_called_by_their_type() {
    let body = r#"
        (data (i32.const 200) "[1]")
        (func (export "command") (result i64) (call $json (i32.const 200) (i32.const 3)))
        (func (export "rules") (result i64) (call $json (i32.const 200) (i32.const 3)))
        (func (export "help") (param i32 i32) (result i64) (call $hex (call $pack (local.get 0) (local.get 1)) (i32.const 0) (i32.const 0)))
        (func (export "nothing") (result i64) (i64.const 0))"#;
    let plugin = Setup::new().started(&guest("", body));
    assert_eq!(ask(&plugin, "command", "{}").unwrap(), "[1]");
    assert_eq!(ask(&plugin, "rules", "ignored").unwrap(), "[1]");
    assert_eq!(ask(&plugin, "help", "ignored").unwrap(), "\"0000000000000000:\"");
    assert_eq!(ask(&plugin, "nothing", "").unwrap(), "null");
}

#[test]
fn a_module_of_functions_without_parameters_needs_no_alloc() {
    let wat = r#"(module (memory (export "memory") 1) (data (i32.const 8) "{\"data\":true}") (func (export "rules") (param i32 i32) (result i64) (i64.const 0x80000000d)))"#;
    let plugin = Setup::new().started(wat);
    assert_eq!(ask(&plugin, "rules", "").unwrap(), "true");
}

#[test]
fn what_cannot_be_called_is_unknown_and_says_why() {
    let body = r#"
        (func (export "odd") (param f64) (result i64) (i64.const 0))
        (func (export "_hidden") (result i64) (i64.const 0))
        (global (export "number") i32 (i32.const 1))"#;
    let plugin = Setup::new().started(&guest("", body));
    for (name, text) in [
        ("odd", "(f64) -> i64"),
        ("_hidden", "reserved"),
        ("alloc", "reserved"),
        ("memory", "reserved"),
        ("number", "no function"),
        ("input", "no function"),
    ] {
        let error = plugin.resolve(name).unwrap_err();
        assert_eq!(error.kind(), Kind::UnknownFunction);
        assert!(error.message().contains(text), "{}", error.message());
    }
    assert_eq!(plugin.exports(), ["echo"]);
}

/// Answers with the parameters as they are: the test writes the envelope.
const RAW: &str = r#"(func (export "raw") (param i32 i32) (result i64) (call $pack (local.get 0) (local.get 1)))"#;

#[test]
fn envelopes_are_checked() {
    let plugin = Setup::new().started(&guest("", RAW));
    for (envelope, data) in [("{}", "null"), (r#"{"error":null,"data":{"x":1}}"#, r#"{"x":1}"#), (r#" {"data" : 5 } "#, "5")] {
        assert_eq!(ask(&plugin, "raw", envelope).unwrap(), data);
    }
    let error = ask(&plugin, "raw", r#"{"error":"no \u001b[31msuch thing"}"#).unwrap_err();
    assert_eq!((error.kind(), error.plugin_message(), error.function()), (Kind::Plugin, "no \u{fffd}[31msuch thing", "raw"));
    for envelope in ["x", "[null,1]", r#"{"data":1"#, r#"{"data":1}{}"#] {
        let error = ask(&plugin, "raw", envelope).unwrap_err();
        assert_eq!(error.kind(), Kind::InvalidResponse);
        assert!(error.message().contains("envelope"), "{}", error.message());
    }
    let mut trusting = call();
    trusting.trust_json = true;
    assert_eq!(ask_with(&plugin, "raw", r#"{"data":{not json}}"#, &trusting).unwrap(), "{not json}");
    assert_eq!(kind_of(ask_with(&plugin, "raw", r#"{"error":"x","data":null}"#, &trusting)), Kind::Plugin);
}

#[test]
fn buffers_are_freed_once_each() {
    let log = r#"(import "flowbot" "log" (func $log (param i32 i32 i32)))"#;
    let wat = guest(log, RAW).replace(
        r#"(func (export "free") (param i32) (global.set $next (i32.const 65536)))"#,
        r#"(func (export "free") (param i32) (call $log (i32.const 0) (i32.const 64) (i32.const 1)) (global.set $next (i32.const 65536)))"#,
    );
    let setup = Setup::new();
    let plugin = setup.started(&wat);
    ask(&plugin, "raw", "{}").unwrap();
    assert_eq!(setup.host.taken().len(), 1, "the buffer that came back is the one that was given");
    ask(&plugin, "echo", "{}").unwrap();
    assert_eq!(setup.host.taken().len(), 2);
}

#[test]
fn dealloc_is_free_with_the_size() {
    let wat = guest("", "").replace(
        r#"(func (export "free") (param i32) (global.set $next (i32.const 65536)))"#,
        r#"(func (export "dealloc") (param i32 i32) (if (i32.eqz (local.get 1)) (then unreachable)) (global.set $next (i32.const 65536)))"#,
    );
    let plugin = Setup::new().started(&wat);
    for _ in 0..3 {
        assert_eq!(ask(&plugin, "echo", "[1]").unwrap(), "[1]");
    }
}

#[test]
fn init_gets_the_config_in_either_form_on_every_instance() {
    let import = r#"(import "flowbot" "log" (func $log (param i32 i32 i32)))"#;
    for result in [false, true] {
        let ending = if result {
            "(result i64) (call $log (i32.const 1) (local.get 0) (local.get 1)) (i64.const 0)"
        } else {
            "(call $log (i32.const 1) (local.get 0) (local.get 1))"
        };
        let body = format!(r#"(func (export "init") (param i32 i32) {ending}) (func (export "die") (result i64) unreachable)"#);
        let setup = Setup::new();
        let plugin = setup.load(&guest(import, &body), &call()).unwrap();
        assert_eq!(kind_of(ask(&plugin, "echo", "1")), Kind::InvalidState);
        plugin.start(r#"{"k":1}"#, &call()).unwrap();
        assert_eq!(setup.host.taken(), [r#"log info 7 {"k":1} []"#]);
        assert_eq!(kind_of(ask(&plugin, "die", "")), Kind::Trap);
        assert_eq!(ask(&plugin, "echo", "1").unwrap(), "1");
        let records = setup.host.taken();
        assert!(!records.is_empty(), "the fresh instance had its init");
        assert!(records.iter().all(|record| record.ends_with(r#" {"k":1} []"#)), "{records:?}");
    }
}

#[test]
fn an_error_of_init_fails_the_start_with_the_plugins_text() {
    let body = r#"
        (data (i32.const 200) "{\"error\":\"no api_key\"}")
        (func (export "init") (param i32 i32) (result i64) (call $pack (i32.const 200) (i32.const 22)))"#;
    let plugin = Setup::new().load(&guest("", body), &call()).unwrap();
    let error = plugin.start("{}", &call()).unwrap_err();
    assert_eq!((error.kind(), error.plugin_message()), (Kind::StartFailed, "no api_key"));
    assert!(!plugin.health().ready && plugin.health().last_error.contains("no api_key"));
}

#[test]
fn health_is_what_is_ready_says() {
    assert!(Setup::new().started(&guest("", "")).health().ready, "without is_ready a started plugin is ready");
    for (answer, ready) in [
        ("(i32.const 1)", true),
        ("(i32.const 0)", false),
        ("(i32.const 2)", false),
        ("unreachable", false),
        ("(loop $l (br $l)) (i32.const 1)", false),
    ] {
        let body = format!(r#"(func (export "is_ready") (result i32) {answer})"#);
        let plugin = Setup::new().load(&guest("", &body), &call()).unwrap();
        assert!(!plugin.health().ready, "not before it is started");
        plugin.start("null", &call()).unwrap();
        let health = plugin.health();
        assert_eq!(health.ready, ready, "{answer}");
        assert_eq!(health.last_error.is_empty(), !answer.contains("un") && !answer.contains("loop"), "{answer} {health:?}");
        assert_eq!(ask(&plugin, "echo", "1").unwrap(), "1");
    }
}
