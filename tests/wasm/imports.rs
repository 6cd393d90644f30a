//! The `flowbot` imports in all their forms: success, missing, failure, and pointers that lead nowhere.

use flowplug::wasm::Plugin;

use crate::support::*;

/// Every form of every import, as functions that take a key and answer `hex of the result:bytes written`.
const IMPORTS: &str = r#"
  (import "flowbot" "get_config" (func $config (param i32 i32 i32) (result i32)))
  (import "flowbot" "kv_get" (func $kv (param i32 i32 i32) (result i32)))
  (import "flowbot" "kv_set" (func $set (param i32 i32 i32 i32) (result i32)))
  (import "flowbot" "kv_delete" (func $delete (param i32 i32) (result i32)))
  (import "flowbot" "http_request" (func $http (param i32 i32 i32 i32) (result i32)))
  (import "flowbot" "emit_event" (func $emit (param i32 i32) (result i32)))
  (import "flowbot" "log" (func $log (param i32 i32 i32 i32 i32)))
  (import "flowbot" "last_error" (func $last (result i64)))"#;
const BODY: &str = r#"
  (func $number (param i32) (result i64) (call $hex (i64.extend_i32_u (local.get 0)) (i32.const 0) (i32.const 0)))
  (func $written (param $n i32) (result i64)
    (call $hex (i64.extend_i32_u (local.get $n)) (i32.const 8192) (select (i32.const 0) (local.get $n) (i32.lt_s (local.get $n) (i32.const 0)))))
  (func $valued (param $v i64) (result i64)
    (call $hex (i64.and (local.get $v) (i64.const 0xffffffff)) (i32.wrap_i64 (i64.shr_u (local.get $v) (i64.const 32))) (i32.wrap_i64 (local.get $v))))
  (func (export "config") (param i32 i32) (result i64) (call $written (call $config (local.get 0) (local.get 1) (i32.const 8192))))
  (func (export "kv") (param i32 i32) (result i64) (call $written (call $kv (local.get 0) (local.get 1) (i32.const 8192))))
  (func (export "set") (param i32 i32) (result i64) (call $number (call $set (local.get 0) (local.get 1) (i32.const 64) (i32.const 3))))
  (func (export "delete") (param i32 i32) (result i64) (call $number (call $delete (local.get 0) (local.get 1))))
  (func (export "http") (param i32 i32) (result i64) (call $number (call $http (local.get 0) (local.get 1) (i32.const 8192) (i32.const 4096))))
  (func (export "http_small") (param i32 i32) (result i64) (call $number (call $http (local.get 0) (local.get 1) (i32.const 8192) (i32.const 4))))
  (func (export "http_text") (param i32 i32) (result i64) (call $json (i32.const 8192) (call $http (local.get 0) (local.get 1) (i32.const 8192) (i32.const 4096))))
  (func (export "emit") (param i32 i32) (result i64) (call $number (call $emit (local.get 0) (local.get 1))))
  (func (export "log_fields") (param i32 i32) (result i64) (call $log (i32.const 2) (i32.const 64) (i32.const 3) (local.get 0) (local.get 1)) (i64.const 0))
  (func (export "last") (result i64) (call $valued (call $last)))"#;

fn hex(answer: &str) -> (i64, String) {
    let text = answer.trim_matches('"');
    let (number, bytes) = text.split_once(':').unwrap();
    (i64::from(u32::from_str_radix(&number[8..], 16).unwrap().cast_signed()), bytes.to_owned())
}

fn number(plugin: &Plugin, function: &str, params: &str) -> i64 {
    hex(&ask(plugin, function, params).unwrap()).0
}

#[test]
fn flowbots_forms() {
    let setup = Setup::new();
    let plugin = setup.started(&guest(IMPORTS, BODY));
    let bytes = |function: &str, params: &str| hex(&ask(&plugin, function, params).unwrap());
    assert_eq!(bytes("config", "k"), (10, "value of k".to_owned()));
    assert_eq!(setup.host.taken(), ["get_config config 7 k"], "the host knows the call");
    for (key, result) in [("missing", 0), ("empty", 0), ("fail", 0)] {
        assert_eq!(number(&plugin, "config", key), result);
    }
    assert_eq!(number(&plugin, "set", "a"), 1);
    assert_eq!(bytes("kv", "a"), (3, "012".to_owned()));
    assert_eq!(number(&plugin, "set", "fail"), 0);
    assert!(bytes("last", "").1.contains("The host said no"));
    assert_eq!(number(&plugin, "delete", "a"), 1);
    assert_eq!(number(&plugin, "kv", "a"), 0);
    assert_eq!(number(&plugin, "delete", "fail"), 0);
    assert!(setup.host.taken().contains(&"kv_set plugin:org/test:a 012".to_owned()), "keys are namespaced");
    assert_eq!(number(&plugin, "emit", r#"{"event_type":"x"}"#), 1);
    assert_eq!(number(&plugin, "emit", "no event"), 0);
    assert_eq!(number(&plugin, "kv", &"k".repeat(600)), 0, "a key past the quota");
    ask(&plugin, "log_fields", r#"{"b":"1","a":"2"}"#).unwrap();
    assert!(setup.host.taken().contains(&r#"log warn 7 012 [("b", "1"), ("a", "2")]"#.to_owned()));
}

#[test]
fn http_is_json_with_a_base64_body_behind_the_allowlist() {
    let setup = Setup::new();
    let plugin = setup.started(&guest(IMPORTS, BODY));
    let request = r#"{"method":"POST","url":"https://api.example.com/x","headers":{"A":"b"},"body":"aGk="}"#;
    let response = r#"{"status":201,"headers":{"X-A":"b"},"body":"aGVsbG8="}"#;
    assert_eq!(ask(&plugin, "http_text", request).unwrap(), response);
    assert_eq!(setup.host.taken(), [r#"http POST https://api.example.com/x [("A", "b")] hi"#]);
    assert_eq!(number(&plugin, "http", request), response.len() as i64);
    assert_eq!(number(&plugin, "http", r#"{"url":"https://api.example.com/","headers":null,"body":null}"#), response.len() as i64);
    setup.host.taken();
    assert_eq!(number(&plugin, "http_small", request), 0, "it does not fit");
    setup.host.taken();
    for request in
        ["{", r#"{"method":"GET"}"#, r#"{"url":"https://evil.example.com/"}"#, r#"{"url":"https://api.example.com/","body":"*"}"#]
    {
        assert_eq!(number(&plugin, "http", request), 0, "{request}");
    }
    assert!(setup.host.taken().is_empty(), "what is denied never reaches the host");
    assert!(hex(&ask(&plugin, "last", "").unwrap()).1.contains("base64"));
}

#[test]
fn a_url_that_parsers_read_differently_never_reaches_the_host() {
    let setup = Setup::new();
    let plugin = setup.started(&guest(IMPORTS, BODY));
    for url in [
        r"https://api.example.com\\@evil.example.com/",
        r"https://api.example.com\\.evil.example.com/",
        r"https:\\\\evil.example.com/",
        r"https://evil.example.com\t/",
        r"https://evil.example.com/ https://api.example.com/",
        "https://api.example.com@evil.example.com/",
        "https://evil.example.com#@api.example.com/",
        "https://api.example.com.evil.example.com/",
        "https://api.example.com:443@evil.example.com/",
        "file://api.example.com/etc/passwd",
        "https://xn--api-.example.com/",
    ] {
        assert_eq!(number(&plugin, "http", &format!(r#"{{"url":"{url}"}}"#)), 0, "{url}");
    }
    assert!(setup.host.taken().is_empty());
    // What is granted reaches it in the one form that was checked.
    assert!(number(&plugin, "http", r#"{"url":"HTTPS://API.example.com:443/a/../b"}"#) > 0);
    assert_eq!(setup.host.taken(), ["http GET https://api.example.com/b [] "]);
}

#[test]
fn by_value_and_checked_forms() {
    let by_value = IMPORTS
        .replace("$config (param i32 i32 i32) (result i32)", "$config (param i32 i32) (result i64)")
        .replace("$kv (param i32 i32 i32) (result i32)", "$kv (param i32 i32) (result i64)")
        .replace("$http (param i32 i32 i32 i32) (result i32)", "$http (param i32 i32) (result i64)");
    let body = format!(
        "{} {}",
        r#"(func (export "config") (param i32 i32) (result i64) (call $valued (call $config (local.get 0) (local.get 1))))
           (func (export "has") (param i32 i32) (result i64) (call $number (i64.ne (i64.const 0) (call $config (local.get 0) (local.get 1)))))
           (func (export "http") (param i32 i32) (result i64) (call $number (i32.wrap_i64 (call $http (local.get 0) (local.get 1)))))"#,
        BODY.lines()
            .filter(|line| !line.contains("$config (") && !line.contains("$kv (") && !line.contains("$http ("))
            .collect::<Vec<_>>()
            .join("\n")
    );
    let plugin = Setup::new().started(&guest(&by_value, &body));
    assert_eq!(hex(&ask(&plugin, "config", "k").unwrap()), (10, "value of k".to_owned()));
    for (key, there) in [("k", 1), ("empty", 1), ("missing", 0), ("fail", 0)] {
        assert_eq!(number(&plugin, "has", key), there, "{key}");
    }
    assert!(number(&plugin, "http", r#"{"url":"https://api.example.com/"}"#) > 0);
    assert_eq!(number(&plugin, "http", "{}"), 0);

    let checked = r#"(import "flowbot" "kv_get" (func $kv (param i32 i32 i32 i32) (result i32)))"#;
    let body = |cap: i32, out: i32| {
        format!(
            r#"(data (i32.const 8192) "--") (func (export "kv") (param i32 i32) (result i64) (call $hex (i64.extend_i32_u (call $kv (local.get 0) (local.get 1) (i32.const {out}) (i32.const {cap}))) (i32.const 8192) (i32.const 2)))"#
        )
    };
    let setup = Setup::new();
    setup.host.kv.lock().unwrap().insert("plugin:org/test:k".to_owned(), b"xyz".to_vec());
    let enough = setup.started(&guest(checked, &body(3, 8192)));
    assert_eq!(hex(&ask(&enough, "kv", "k").unwrap()), (3, "xy".to_owned()));
    assert_eq!((number(&enough, "kv", "other"), number(&enough, "kv", "fail")), (-1, -2));
    let little = setup.started(&guest(checked, &body(2, 8192)));
    assert_eq!(hex(&ask(&little, "kv", "k").unwrap()), (3, "--".to_owned()), "the size alone");
    let outside = setup.started(&guest(checked, &body(3, -2)));
    assert_eq!(number(&outside, "kv", "k"), -2);
}

#[test]
fn pointers_that_lead_nowhere_fail_the_host_call_alone() {
    let wild = [("-1", "1"), ("0", "-1"), ("262143", "2"), ("-2147483648", "-2147483648"), ("262144", "1")];
    let mut body = String::new();
    for (i, (ptr, len)) in wild.iter().enumerate() {
        let (p, n) = (format!("(i32.const {ptr})"), format!("(i32.const {len})"));
        for (name, call) in [
            ("kv", format!("(call $kv {p} {n} (i32.const 8192))")),
            ("set", format!("(i32.add (call $set {p} {n} (i32.const 64) (i32.const 1)) (call $set (i32.const 64) (i32.const 1) {p} {n}))")),
            ("delete", format!("(call $delete {p} {n})")),
            ("http", format!("(call $http {p} {n} (i32.const 8192) (i32.const 8192))")),
            ("emit", format!("(call $emit {p} {n})")),
        ] {
            body += &format!(r#"(func (export "{name}{i}") (result i64) (call $number {call}))"#);
        }
        body += &format!(r#"(func (export "log{i}") (result i64) (call $log (i32.const 1) {p} {n} {p} {n}) (i64.const 0))"#);
        body += &format!(r#"(func (export "out{i}") (result i64) (call $number (call $config (i32.const 64) (i32.const 1) {p})))"#);
    }
    let setup = Setup::new();
    let plugin = setup.started(&guest(IMPORTS, &format!("{BODY} {body}")));
    for (i, pointer) in wild.iter().enumerate() {
        for name in ["kv", "set", "delete", "http", "emit"] {
            assert_eq!(number(&plugin, &format!("{name}{i}"), ""), 0, "{name} {pointer:?}");
        }
        assert!(setup.host.taken().is_empty(), "the host hears nothing of it");
        ask(&plugin, &format!("log{i}"), "").unwrap();
        assert!(setup.host.taken().is_empty());
    }
    // A value that would not fit inside memory is not written at all.
    for (i, result) in [(0, 0), (2, 0), (3, 0), (4, 0)] {
        assert_eq!(number(&plugin, &format!("out{i}"), ""), result, "{:?}", wild[i]);
    }
    assert_eq!(number(&plugin, "kv", "\u{0}"), 0);
}

#[test]
fn text_that_is_not_utf8_fails_the_host_call() {
    let body =
        r#"(data (i32.const 300) "\ff\fe") (func (export "bad") (result i64) (call $number (call $delete (i32.const 300) (i32.const 2))))"#;
    let setup = Setup::new();
    let plugin = setup.started(&guest(IMPORTS, &format!("{BODY} {body}")));
    assert_eq!(number(&plugin, "bad", ""), 0);
    assert!(setup.host.taken().is_empty());
    assert!(hex(&ask(&plugin, "last", "").unwrap()).1.contains("UTF-8"));
}

#[test]
fn a_trap_of_the_guests_alloc_in_a_host_call_ends_the_call() {
    let import = r#"(import "flowbot" "get_config" (func $config (param i32 i32) (result i64)))"#;
    let body = r#"(func (export "ask") (result i64) (call $config (i32.const 64) (i32.const 1)))"#;
    let wat = guest(import, body).replace(
        r#"(func $alloc (export "alloc") (param $n i32) (result i32)"#,
        r#"(func (export "alloc") (param i32) (result i32) unreachable) (func $alloc (param $n i32) (result i32)"#,
    );
    let plugin = Setup::new().started(&wat);
    assert_eq!(kind_of(ask(&plugin, "ask", "")), flowplug::error::Kind::Trap);
    let wat = wat.replace("(result i32) unreachable)", "(result i32) (i32.const 0))");
    let plugin = Setup::new().started(&wat);
    assert_eq!(ask(&plugin, "ask", "").unwrap(), "null", "0 is failed");
    assert_eq!(kind_of(ask(&plugin, "echo", "1")), flowplug::error::Kind::OutOfMemory);
}

#[test]
fn host_calls_in_a_start_section_work_but_for_alloc() {
    let imports = r#"(import "flowbot" "log" (func $log (param i32 i32 i32))) (import "flowbot" "get_config" (func $config (param i32 i32) (result i64)))"#;
    let body = r#"(func $begin (call $log (i32.const 1) (i32.const 64) (i32.const 3)) (drop (call $config (i32.const 64) (i32.const 1)))) (start $begin)"#;
    let setup = Setup::new();
    setup.started(&guest(imports, body));
    assert_eq!(setup.host.taken()[0], "log info 7 012 []");
}

#[test]
fn an_alloc_that_asks_the_host_for_a_value_ends_with_its_stack() {
    let import = r#"(import "flowbot" "get_config" (func $config (param i32 i32) (result i64)))"#;
    let wat = guest(import, "").replace(
        "(local.set $p (global.get $next))",
        "(drop (call $config (i32.const 64) (i32.const 1))) (local.set $p (global.get $next))",
    );
    let plugin = Setup::new().started(&wat);
    for _ in 0..2 {
        let error = ask(&plugin, "echo", "1").unwrap_err();
        assert_eq!(error.details()["kind"], "stack_overflow", "{error:?}");
    }
}
