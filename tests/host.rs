//! The bounds of a policy that hold for what a plugin asks the host, whichever its runtime.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    missing_docs,
    reason = "a test fails by panicking"
)]
#![allow(dead_code, reason = "the tests of the wasm runner use the rest of its support")]

#[path = "wasm/support.rs"]
mod support;

use std::sync::Arc;
use std::time::Duration;

use flowplug::call::{Chain, Deadline};
use flowplug::error::Kind;
use flowplug::host::kv::MemoryKv;
use flowplug::host::{Caller, EVENT_MAX, HttpRequest, Level, PluginContext};
use flowplug::manifest::HostPattern;
use flowplug::policy::Grants;
use support::{Setup, TestHost, call, grants};

/// Asks as a plugin with these grants would.
fn with<R>(grants: Grants, ask: impl FnOnce(&Caller<'_>, &TestHost) -> R) -> R {
    let host = Arc::new(TestHost::default());
    let context = PluginContext::new("p", grants, host.clone());
    let deadline = Deadline::never();
    let caller =
        Caller { context: &context, function: "f", tag: 0, traceparent: "", deadline: &deadline, cancel: None, chain: Chain::default() };
    ask(&caller, &host)
}

#[test]
fn keys_values_and_their_sum_are_bounded() {
    let mut small = grants();
    (small.kv.key, small.kv.value, small.kv.total) = (4, 10, 200);
    with(small, |caller, host| {
        caller.kv_set("four", &[0; 10]).unwrap();
        let long = caller.kv_set("five5", b"").unwrap_err();
        assert_eq!((long.kind(), long.message().contains("1 to 4 bytes")), (Kind::InvalidArgument, true), "{long}");
        let large = caller.kv_set("four", &[0; 11]).unwrap_err();
        assert_eq!((large.kind(), large.message().contains("kv.value")), (Kind::PermissionDenied, true), "{large}");
        assert_eq!(host.taken().len(), 1, "what is refused does not reach the host");

        let store = MemoryKv::default();
        store.set(caller, "plugin:p:a", &[1; 100]).unwrap();
        let full = store.set(caller, "plugin:p:b", &[2; 100]).unwrap_err();
        assert_eq!((full.kind(), full.message().contains("kv.total")), (Kind::PermissionDenied, true), "{full}");
        assert_eq!((store.get("plugin:p:a").unwrap().len(), store.get("plugin:p:b")), (100, None));
        store.delete(caller, "plugin:p:a");
        store.set(caller, "plugin:p:b", &[2; 100]).unwrap();
    });
}

#[test]
fn events_are_bounded_in_number_and_size() {
    let mut few = grants();
    few.rates.event = 2;
    with(few, |caller, host| {
        let refused: Vec<_> = (0..50).filter_map(|_| caller.emit_event("{}").err()).collect();
        // A second may begin in between.
        assert!((40..=48).contains(&refused.len()), "{}", refused.len());
        assert!(refused.iter().all(|e| e.kind() == Kind::PermissionDenied && e.message().contains("rates.event")));
        assert_eq!(host.taken().len(), 50 - refused.len());
    });
    with(grants(), |caller, host| {
        let large = caller.emit_event(&format!("{{\"data\":\"{}\"}}", "x".repeat(EVENT_MAX))).unwrap_err();
        assert_eq!(large.kind(), Kind::InvalidArgument);
        assert!(host.taken().is_empty());
    });
}

#[test]
fn records_past_the_rate_are_dropped_and_counted() {
    let mut few = grants();
    few.rates.log = 3;
    with(few, |caller, host| {
        (0..100).for_each(|n| caller.log(Level::Info, &format!("line {n}"), &[]));
        let met = host.taken();
        // Those of a second, or of two if one begins in between, and then what was dropped before it.
        assert!((3..=7).contains(&met.len()), "{met:?}");
        assert!(met[0].contains("line 0") && met[2].contains("line 2"), "{met:?}");
    });
}

#[test]
fn a_response_past_the_bound_is_not_handed_on() {
    let mut small = grants();
    let request = HttpRequest { method: "GET", url: "https://api.example.com/", headers: &[], body: b"" };
    small.http_max_response = 4;
    with(small.clone(), |caller, _| {
        let large = caller.http_request(&request).unwrap_err();
        assert_eq!((large.kind(), large.message().contains("http_max_response")), (Kind::PermissionDenied, true), "{large}");
    });
    small.http_max_response = 5;
    with(small, |caller, _| assert_eq!(caller.http_request(&request).unwrap().body, b"hello"));
}

#[test]
fn a_load_ends_at_the_granted_time() {
    let mut setup = Setup::new();
    setup.grants.load_timeout = Duration::from_nanos(1);
    let late = setup.load("(module (memory (export \"memory\") 1) (func (export \"f\") (result i64) i64.const 0))", &call()).unwrap_err();
    assert_eq!(late.kind(), Kind::Timeout, "{late}");
}

/// What was told: `what target allowed rule`.
fn audits(host: &TestHost) -> Vec<String> {
    let events = host.events.lock().unwrap();
    let audit = |event: &String| {
        let event: serde_json::Value = serde_json::from_str(event).unwrap();
        assert_eq!((event["type"].as_str(), event["plugin"].as_str()), (Some("audit"), Some("p")));
        let text = |name: &str| event["audit"][name].as_str().unwrap().to_owned();
        format!("{} {} {} {}", text("what"), text("target"), event["audit"]["allowed"], text("rule"))
    };
    events.iter().map(audit).collect()
}

#[test]
fn what_a_plugin_is_refused_and_reaches_is_told() {
    let mut small = grants();
    (small.kv.value, small.http_max_response) = (10, 5);
    with(small, |caller, host| {
        let get = |url: &str| caller.http_request(&HttpRequest { method: "GET", url, headers: &[], body: b"" });
        get("https://api.example.com/a").unwrap();
        get("https://api.example.com/b").unwrap();
        get("http://API.example.com/").unwrap();
        get("https://evil.org/").unwrap_err();
        get("ftp://api.example.com/").unwrap_err();
        get("https://user@api.example.com/").unwrap_err();
        get("no url").unwrap_err();
        caller.kv_set("k", &[0; 11]).unwrap_err();
        let store = MemoryKv::default();
        store.set(caller, "plugin:p:k", &[0; 10]).unwrap();
        assert_eq!(
            audits(host),
            [
                "http api.example.com:443 true http: [\"api.example.com\"]",
                "http api.example.com:80 true http: [\"api.example.com\"]",
                "http evil.org:443 false permissions.http",
                "http ftp://api.example.com/ false only http and https",
                "http api.example.com false no user name or password in a URL",
                "kv plugin:p:k false kv.value",
            ]
        );
    });
}

/// Whatever is wrong with a request that goes nowhere, no event says that its server was allowed, and none is kept from being told.
#[test]
fn a_server_that_was_not_gone_to_is_not_told_of_as_reached() {
    with(grants(), |caller, host| {
        let ask = |method: &str, url: &str, headers: &[(&str, &str)]| caller.http_request(&HttpRequest { method, url, headers, body: b"" });
        for n in 0..300 {
            ask("A B", &format!("http://169.254.169.254:{n}/"), &[]).unwrap_err();
            ask("GET", &format!("https://forged{n}.org/"), &[("a b", "c")]).unwrap_err();
            ask("GET", &format!("https://{}{n}/", "a".repeat(10_000)), &[]).unwrap_err();
            ask("A B", &format!("https://api.example.com:{n}/"), &[]).unwrap_err();
        }
        ask("GET", "https://api.example.com/", &[("hOst", "evil.org")]).unwrap_err();
        ask("GET", "https://api.example.com/", &[("Transfer-Encoding", "chunked")]).unwrap_err();
        assert_eq!(
            audits(host),
            ["http hOst: evil.org false no Host header", "http Transfer-Encoding: chunked false no header that says where a request ends",]
        );
        ask("GET", "https://api.example.com/", &[]).unwrap();
        assert_eq!(audits(host).last().unwrap(), "http api.example.com:443 true http: [\"api.example.com\"]");
    });
}

#[test]
fn servers_past_a_bound_are_told_as_such_once() {
    let wide = Grants { http: vec![HostPattern::parse("*.example.com").unwrap()], ..grants() };
    with(wide, |caller, host| {
        let get =
            |n| caller.http_request(&HttpRequest { method: "GET", url: &format!("https://h{n}.example.com/"), headers: &[], body: b"" });
        for n in (0..300).chain(0..300) {
            get(n).unwrap();
        }
        let told = audits(host);
        assert_eq!(told.len(), 257);
        assert_eq!(told[255], "http h255.example.com:443 true http: [\"*.example.com\"]");
        assert_eq!(told[256], "http  true 256 servers of this plugin have been told; it reaches more, which are not");
    });
}

#[test]
fn a_plugin_that_is_refused_all_the_time_is_told_of_now_and_then() {
    with(grants(), |caller, host| {
        let refused = HttpRequest { method: "GET", url: "https://evil.org/", headers: &[], body: b"" };
        (0..1000).for_each(|_| drop(caller.http_request(&refused).unwrap_err()));
        // Those of a second, or of some if the machine is slow.
        let told = audits(host).len();
        assert!((20..=200).contains(&told), "{told}");
    });
}
