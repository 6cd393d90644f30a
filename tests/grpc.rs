//! gRPC plugins, against real ones: Go on hashicorp/go-plugin and Python on grpcio, built by `make plugins`.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    missing_docs,
    unreachable_pub,
    reason = "a test fails by panicking"
)]

#[path = "grpc/counterparts.rs"]
mod counterparts;
#[path = "grpc/ends.rs"]
mod ends;
#[path = "grpc/host_api.rs"]
mod host_api;
#[path = "grpc/hostile.rs"]
mod hostile;
#[path = "grpc/processes.rs"]
mod processes;
#[path = "grpc/streams.rs"]
mod streams;
#[path = "grpc/support.rs"]
mod support;
#[path = "grpc/tls.rs"]
mod tls;
#[path = "grpc/tls_hostile.rs"]
mod tls_hostile;

use std::sync::Arc;
use std::time::Duration;

use flowplug::call::{Call, Cancel, Deadline};
use flowplug::error::Kind;
use flowplug::host::Level;
use serde_json::{Value, json};
use support::{Bench, SOON, built, call, comes_true, order, soon, within};

#[test]
fn a_go_plugin_answers_every_function() {
    let bench = Bench::new("go-functions");
    let (plugin, _exits) = bench.start("fixture-grpc-go", r#"{"api_key": "k", "n": 1.10}"#);
    assert!(comes_true(|| plugin.health().ready), "{:?}", plugin.health());
    assert_eq!(order(&plugin, json!({"do": "echo", "x": [1, "ä"]}), &soon()).unwrap(), json!({"do": "echo", "x": [1, "ä"]}));
    assert_eq!(order(&plugin, json!({"do": "config"}), &soon()).unwrap(), json!({"api_key": "k", "n": 1.10}));
    let as_text = json!({"context": "{\"platform\":\"p\"}", "content": "{\"do\":\"echo\",\"n\":1.50}"});
    assert_eq!(call(&plugin, "command", &as_text, &soon()).unwrap()["n"], json!(1.50));
    let form = call(&plugin, "form", &json!({"context": {"platform": "web"}, "values": {"a": "x", "b": [1]}}), &soon()).unwrap();
    assert_eq!((&form["title"], &form["model"]), (&json!("web"), &json!({"a": "x", "b": "[1]"})));
    assert!(call(&plugin, "rules", &Value::Null, &soon()).unwrap().is_array());
    assert_eq!(call(&plugin, "help", &json!({"ignored": 1}), &soon()).unwrap(), json!({"fixture": ["echo", "error"]}));
    assert_eq!(call(&plugin, "bootstrap", &Value::Null, &soon()).unwrap(), Value::Null);
    let ability = call(&plugin, "ability_call", &json!({"operation": "echo", "params": {"q": 1}}), &soon()).unwrap();
    assert_eq!(ability["data"], json!({"q": 1}));
    let events = call(&plugin, "webhook_convert", &json!({"payload": "aGVsbG8="}), &soon()).unwrap();
    assert_eq!(events[0]["data"]["payload"], "hello");
    let url = call(&plugin, "oauth_authorize", &json!({"state": "s1"}), &soon()).unwrap();
    assert_eq!(url["url"], "https://login.example.com/authorize?state=s1");
    assert_eq!(call(&plugin, "oauth_callback", &json!({"state": "s", "code": "c"}), &soon()).unwrap()["access_token"], "token-for-c");
    for name in ["input", "webservice", "init", "nonsense", ""] {
        assert_eq!(plugin.resolve(name).unwrap_err().kind(), Kind::UnknownFunction, "{name}");
    }
    let error = order(&plugin, json!({"do": "error", "text": "no such thing\u{1b}"}), &soon()).unwrap_err();
    assert_eq!((error.kind(), error.plugin_message()), (Kind::Plugin, "no such thing\u{fffd}"));
    plugin.stop(&Deadline::after(SOON));
}

#[test]
fn a_plugin_of_plain_go_plugin_works_unchanged() {
    let bench = Bench::new("plain");
    let (plugin, _exits) = bench.start("fixture-grpc-plain", "null");
    assert!(comes_true(|| plugin.health().ready));
    assert_eq!(call(&plugin, "command", &json!({"content": {"a": 1}}), &soon()).unwrap(), json!({"a": 1}));
    let error = call(&plugin, "command", &json!({}), &soon()).unwrap_err();
    assert_eq!((error.kind(), error.plugin_message()), (Kind::Plugin, "say something"));
    assert_eq!(call(&plugin, "help", &Value::Null, &soon()).unwrap_err().kind(), Kind::UnknownFunction);
    assert!(bench.host.wait_for_log(|seen| seen.message == "plain is starting" && seen.level == Level::Info));
    plugin.stop(&Deadline::after(SOON));
}

#[test]
fn a_python_plugin_answers_calls_from_many_threads() {
    let bench = Bench::new("python");
    let (plugin, _exits) = bench.start("fixture-grpc-python", r#"{"a": 1}"#);
    assert!(comes_true(|| plugin.health().ready));
    std::thread::scope(|scope| {
        for n in 0..8 {
            let plugin = &plugin;
            scope.spawn(move || {
                for i in 0..20 {
                    let said = json!({"do": "echo", "n": n * 100 + i});
                    assert_eq!(order(plugin, said.clone(), &soon()).unwrap(), said);
                }
            });
        }
    });
    let error = order(&plugin, json!({"do": "raise", "text": "oops"}), &soon()).unwrap_err();
    assert_eq!(error.kind(), Kind::Plugin, "{error}");
    let big = order(&plugin, json!({"do": "big", "bytes": 3 << 20}), &soon()).unwrap();
    assert!(big.as_str().unwrap().len() > 2 << 20);
    plugin.stop(&Deadline::after(SOON));
}

#[test]
fn host_calls_belong_to_the_call_that_made_them() {
    let bench = Bench::new("asks");
    let (plugin, _exits) = bench.start("fixture-grpc-go", r#"{"api_key": "secret", "limit": 5}"#);
    let trace = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";
    let mut how = soon();
    (how.tag, how.traceparent) = (77, trace.into());
    let ask = |function: &str, args: Value| order(&plugin, json!({"do": "host", "fn": function, "args": args}), &how).unwrap();
    assert_eq!(ask("get_config", json!({"key": "api_key"})), json!({"value": "secret"}));
    assert_eq!(ask("get_config", json!({"key": "limit"})), json!({"value": "5"}));
    assert_eq!(ask("get_config", json!({"key": "nothing"}))["error"], Value::Null);
    assert!(ask("get_config", json!({"key": "fail"}))["error"].as_str().unwrap().contains("on fire"));
    assert_eq!(ask("kv_get", json!({"key": "k"})), json!({"missing": true}));
    assert_eq!(ask("kv_set", json!({"key": "k", "value": "v"})), json!({"done": true}));
    assert_eq!(ask("kv_get", json!({"key": "k"})), json!({"value": "v"}));
    assert_eq!(ask("kv_set", json!({"key": "empty", "value": ""})), json!({"done": true}));
    assert_eq!(ask("kv_get", json!({"key": "empty"})), json!({"value": ""}));
    assert!(ask("kv_get", json!({"key": "fail"}))["error"].as_str().unwrap().contains("on fire"));
    assert!(ask("kv_set", json!({"key": "fail"}))["error"].as_str().unwrap().contains("on fire"));
    assert_eq!(ask("kv_delete", json!({"key": "k"})), json!({"done": true}));
    assert_eq!(bench.host.kv.lock().unwrap().keys().collect::<Vec<_>>(), ["plugin:asks:empty"]);
    let response = ask("http_request", json!({"method": "POST", "url": "http://127.0.0.1:1/x", "body": "ping"}));
    assert_eq!((&response["value"]["status"], &response["value"]["body"]), (&json!(201), &json!("ping")));
    assert!(ask("http_request", json!({"method": "GET", "url": "http://example.com/"}))["error"].as_str().unwrap().contains("example.com"));
    ask("emit_event", json!({"event_type": "bookmark.created", "source": "asks", "data": {"id": 1}}));
    let event: Value = serde_json::from_str(&bench.host.events.lock().unwrap()[0]).unwrap();
    assert_eq!((&event["event_type"], &event["source"]), (&json!("bookmark.created"), &json!("asks")));
    assert_eq!(event["data"]["id"], 1);
    ask("log", json!({"level": 2, "message": "careful", "fields": {"a": "b"}}));
    let fits = |seen: &support::Seen| seen.message == "careful" && seen.level == Level::Warn && seen.tag == 77;
    assert!(bench.host.wait_for_log(|seen| fits(seen) && seen.fields == [("a".to_owned(), "b".to_owned())]));
    let asked = bench.host.asked.lock().unwrap();
    assert!(asked.iter().all(|what| what.ends_with(&format!("by \"command\" tag 77 trace {trace:?}"))), "{asked:#?}");
    plugin.stop(&Deadline::after(SOON));
}

#[test]
fn a_host_call_ends_with_the_call_it_belongs_to() {
    let bench = Bench::new("waits");
    let (plugin, _exits) = bench.start("fixture-grpc-go", "null");
    let asks = json!({"do": "host", "fn": "kv_get", "args": {"key": "wait"}});
    assert!(within(Duration::from_secs(3), || {
        let error = order(&plugin, asks.clone(), &Call::new(Deadline::after(Duration::from_millis(200)))).unwrap_err();
        assert_eq!(error.kind(), Kind::Timeout, "{error}");
    }));
    plugin.stop(&Deadline::after(SOON));
}

#[test]
fn a_call_inside_a_host_callback_reaches_the_same_plugin() {
    let bench = Bench::new("nested");
    let (plugin, _exits) = bench.start("fixture-grpc-go", "null");
    let own = plugin.clone();
    let answer = bench.runtime.block_on(bench.runtime.spawn_blocking(move || order(&own, json!({"do": "echo"}), &soon()))).unwrap();
    assert_eq!(answer.unwrap(), json!({"do": "echo"}));
    plugin.stop(&Deadline::after(SOON));
}

#[test]
fn a_timeout_and_a_cancel_end_one_call_and_no_other() {
    let bench = Bench::new("ends");
    let (plugin, _exits) = bench.start("fixture-grpc-go", "null");
    let (other, cancel) = (plugin.clone(), Cancel::new());
    let long = std::thread::spawn(move || order(&other, json!({"do": "sleep", "ms": 1500}), &soon()));
    assert!(within(Duration::from_secs(1), || {
        let soon = Call::new(Deadline::after(Duration::from_millis(100)));
        let error = order(&plugin, json!({"do": "sleep", "ms": 60_000}), &soon).unwrap_err();
        assert_eq!(error.kind(), Kind::Timeout, "{error}");
    }));
    let mut how = soon();
    how.cancel = Some(cancel.clone());
    let other = plugin.clone();
    let ended = std::thread::spawn(move || order(&other, json!({"do": "sleep", "ms": 60_000}), &how));
    cancel.cancel();
    assert_eq!(ended.join().unwrap().unwrap_err().kind(), Kind::Cancelled);
    let mut how = soon();
    how.cancel = Some(cancel);
    assert_eq!(order(&plugin, json!({"do": "echo"}), &how).unwrap_err().kind(), Kind::Cancelled);
    assert_eq!(long.join().unwrap().unwrap(), json!({"slept": 1500}));
    assert_eq!(order(&plugin, json!({"do": "echo"}), &soon()).unwrap(), json!({"do": "echo"}));
    plugin.stop(&Deadline::after(SOON));
}

#[test]
fn calls_that_nobody_waits_for_are_answered_too() {
    let bench = Bench::new("async");
    let (plugin, _exits) = bench.start("fixture-grpc-go", "null");
    let command = plugin.resolve("command").unwrap();
    let ask = |content: &str, how: Call| {
        let params = format!("{{\"content\": {content}}}").into_bytes();
        bench.runtime.spawn(plugin.call_async(command, "command", &params, &how))
    };
    let answers: Vec<_> = (0..50).map(|n| ask(&format!("{{\"do\":\"echo\",\"n\":{n}}}"), soon())).collect();
    for (n, answer) in answers.into_iter().enumerate() {
        let answer = bench.runtime.block_on(answer).unwrap().unwrap();
        assert_eq!(serde_json::from_slice::<Value>(&answer).unwrap()["n"], n);
    }
    let cancel = Cancel::new();
    let mut how = soon();
    how.cancel = Some(cancel.clone());
    let slow = ask(r#"{"do": "sleep", "ms": 60000}"#, how);
    cancel.cancel();
    assert_eq!(bench.runtime.block_on(slow).unwrap().unwrap_err().kind(), Kind::Cancelled);
    plugin.stop(&Deadline::after(SOON));
    let late = ask(r#"{"do": "echo"}"#, soon());
    assert_eq!(bench.runtime.block_on(late).unwrap().unwrap_err().kind(), Kind::InvalidState);
}

#[test]
fn a_plugin_is_given_so_many_calls_at_once_and_the_rest_waits() {
    let bench = Bench::new("many");
    let (plugin, _exits) = bench.start("fixture-grpc-go", "null");
    let command = plugin.resolve("command").unwrap();
    let cancels: Vec<_> = (0..128).map(|_| Cancel::new()).collect();
    let sleepers: Vec<_> = cancels
        .iter()
        .map(|cancel| {
            let how = Call { cancel: Some(cancel.clone()), ..soon() };
            bench.runtime.spawn(plugin.call_async(command, "command", br#"{"content": {"do": "sleep", "ms": 60000}}"#, &how))
        })
        .collect();
    let briefly = || Call::new(Deadline::after(Duration::from_millis(100)));
    let mut last = String::new();
    let full = || {
        last = order(&plugin, json!({"do": "echo"}), &briefly()).map_or_else(|e| e.to_string(), |_| String::new());
        last.contains("waited for its turn")
    };
    assert!(comes_true(full), "{last}");
    // From inside a callback it does not wait: what is in flight may wait for it.
    let nested = Call { chain: flowplug::call::Chain::default().enter(u32::MAX).unwrap(), ..soon() };
    assert_eq!(order(&plugin, json!({"do": "echo"}), &nested).unwrap(), json!({"do": "echo"}));
    assert!(plugin.health().ready);
    cancels[0].cancel();
    assert_eq!(order(&plugin, json!({"do": "echo"}), &soon()).unwrap(), json!({"do": "echo"}));
    cancels.iter().for_each(Cancel::cancel);
    for sleeper in sleepers {
        assert_eq!(bench.runtime.block_on(sleeper).unwrap().unwrap_err().kind(), Kind::Cancelled);
    }
    plugin.stop(&Deadline::after(SOON));
}

#[test]
fn the_host_is_asked_only_by_who_knows_the_token() {
    use flowplug::grpc::pb::flowbot::{KvGetRequest, KvSetRequest, host_service_client::HostServiceClient};
    let bench = Bench::new("token");
    let (plugin, _exits) = bench.start("fixture-grpc-plain", "null");
    let environment = std::fs::read(format!("/proc/{}/environ", plugin.pid())).unwrap();
    let variable = |name: &str| {
        let all = environment.split(|byte| *byte == 0).map(|line| std::str::from_utf8(line).unwrap());
        all.filter_map(|line| line.split_once('=')).find(|(own, _)| *own == name).unwrap().1.to_owned()
    };
    let (socket, token) = (variable("FLOWBOT_HOST_ADDRESS"), variable("FLOWBOT_HOST_TOKEN"));
    bench.runtime.block_on(async {
        let connection = tonic::transport::Endpoint::from_shared(socket).unwrap().connect().await.unwrap();
        let mut client = HostServiceClient::new(connection);
        let with = |token: &str| {
            let mut request = tonic::Request::new(KvGetRequest { key: "k".into() });
            request.metadata_mut().insert("authorization", format!("Bearer {token}").parse().unwrap());
            request
        };
        for request in [tonic::Request::new(KvGetRequest { key: "k".into() }), with(""), with(&token[1..]), with(&"0".repeat(64))] {
            assert_eq!(client.kv_get(request).await.unwrap_err().code(), tonic::Code::Unauthenticated);
        }
        assert!(bench.host.asked.lock().unwrap().is_empty());
        let mut request = with(&token);
        request.metadata_mut().insert("flowplug-call", "ffff".parse().unwrap());
        assert!(client.kv_get(request).await.unwrap().into_inner().missing);
        assert_eq!(bench.host.asked.lock().unwrap()[0], "kv_get plugin:token:k by \"\" tag 0 trace \"\"");
        let mut request = tonic::Request::new(KvSetRequest { key: String::new(), value: Vec::new() });
        request.metadata_mut().insert("authorization", format!("Bearer {token}").parse().unwrap());
        assert_eq!(client.kv_set(request).await.unwrap_err().code(), tonic::Code::InvalidArgument);
    });
    plugin.stop(&Deadline::after(SOON));
}

#[test]
fn a_config_that_the_plugin_refuses_fails_its_start() {
    for name in ["fixture-grpc-go", "fixture-grpc-python"] {
        let bench = Bench::new("refuses");
        let (plugin, _exits) = bench.load_manifest(&built(name), Deadline::after(SOON)).unwrap();
        let error = plugin.start(r#"{"fail": "no key"}"#, &soon()).unwrap_err();
        assert_eq!(error.kind(), Kind::StartFailed, "{error}");
        assert!(error.plugin_message().contains("no key"), "{error:?}");
        plugin.stop(&Deadline::after(SOON));
    }
}

#[test]
fn what_a_plugin_prints_reaches_the_log_and_a_flood_is_cut() {
    let bench = Bench::new("prints");
    let (plugin, _exits) = bench.start("fixture-grpc-go", "null");
    order(&plugin, json!({"do": "output", "lines": 3}), &soon()).unwrap();
    assert!(bench.host.wait_for_log(|seen| seen.message == "out 2"));
    assert!(bench.host.wait_for_log(|seen| seen.message == "err 2"));
    assert!(bench.host.wait_for_log(|seen| {
        seen.message == "from hclog" && seen.level == Level::Warn && seen.fields.contains(&("answer".to_owned(), "42".to_owned()))
    }));
    for _ in 0..5 {
        order(&plugin, json!({"do": "output", "lines": 20_000}), &soon()).unwrap();
    }
    assert!(bench.host.wait_for_log(|seen| seen.message.contains("were dropped")));
    assert_eq!(order(&plugin, json!({"do": "echo"}), &soon()).unwrap(), json!({"do": "echo"}));
    plugin.stop(&Deadline::after(SOON));
}

#[test]
fn messages_are_bounded_both_ways() {
    let mut small = support::grants();
    small.message_size = 64 << 10;
    let bench = Bench::with("bounded", small);
    let (plugin, _exits) = bench.start("fixture-grpc-go", "null");
    let error = order(&plugin, json!({"do": "big", "bytes": 100 << 10}), &soon()).unwrap_err();
    assert_eq!(error.kind(), Kind::InvalidResponse, "{error}");
    let error = order(&plugin, json!({"do": "echo", "x": "x".repeat(100 << 10)}), &soon()).unwrap_err();
    assert_eq!(error.kind(), Kind::InvalidArgument, "{error}");
    assert_eq!(order(&plugin, json!({"do": "echo"}), &soon()).unwrap(), json!({"do": "echo"}));
    plugin.stop(&Deadline::after(SOON));
}

#[test]
fn threads_share_one_plugin() {
    let bench = Bench::new("threads");
    let (plugin, _exits) = bench.start("fixture-grpc-go", "null");
    let threads: Vec<_> = (0..16)
        .map(|n| {
            let plugin: Arc<_> = plugin.clone();
            std::thread::spawn(move || (0..100).all(|i| order(&plugin, json!({"do": "echo", "n": n, "i": i}), &soon()).unwrap()["i"] == i))
        })
        .collect();
    assert!(threads.into_iter().all(|thread| thread.join().unwrap()));
    plugin.stop(&Deadline::after(SOON));
}
