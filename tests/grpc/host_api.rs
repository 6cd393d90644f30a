//! What a plugin asks of its host, by every way there is: the token and the broker, with TLS and without, from each language.

use std::io::{ErrorKind, Read, Write};
use std::os::unix::net::UnixStream;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use flowplug::call::{Call, Deadline};
use flowplug::error::Kind;
use serde_json::{Value, json};

use flowplug::grpc::Plugin;
use flowplug::grpc::pb::flowbot::{KvGetRequest, host_service_client::HostServiceClient};

use crate::counterparts::{Way, all};
use crate::support::{Bench, SOON, comes_true, grants, order, soon};

#[test]
fn each_plugin_sees_its_own_store_and_config_alone() {
    for counterpart in all() {
        let (title, manifest) = (counterpart.title(), counterpart.manifest());
        let one = Bench::new(&format!("{title}-1"));
        let two = one.beside(&format!("{title}-2"));
        let (first, _exits) = one.start_manifest(&manifest, r#"{"api_key": "first's"}"#);
        let (second, _exits) = two.start_manifest(&manifest, r#"{"api_key": "second's", "more": 1}"#);
        let ask = |plugin, function, args| counterpart.ask(plugin, function, args, &soon()).unwrap_or_else(|e| panic!("{title}: {e}"));
        assert_eq!(ask(&first, "get_config", json!({"key": "api_key"})), "first's", "{title}");
        assert_eq!(ask(&second, "get_config", json!({"key": "api_key"})), "second's", "{title}");
        assert_eq!(ask(&first, "get_config", json!({"key": "more"})), "", "{title}");
        ask(&first, "kv_set", json!({"key": "k", "value": "v"}));
        assert_eq!(ask(&first, "kv_get", json!({"key": "k"})), "v", "{title}");
        for key in ["k".to_owned(), format!("plugin:{title}-1:k"), format!("../{title}-1:k"), format!(":{title}-1:k")] {
            assert_eq!(ask(&second, "kv_get", json!({"key": key})), Value::Null, "{title}: {key}");
            ask(&second, "kv_delete", json!({"key": key}));
        }
        assert_eq!(one.host.kv.lock().unwrap().keys().collect::<Vec<_>>(), [&format!("plugin:{title}-1:k")]);
        first.stop(&Deadline::after(SOON));
        second.stop(&Deadline::after(SOON));
    }
}

#[test]
fn no_error_of_the_host_is_swallowed() {
    for counterpart in all() {
        let title = counterpart.title();
        let bench = Bench::new(&format!("err-{title}"));
        let (plugin, _exits) = bench.start_manifest(&counterpart.manifest(), "null");
        for (function, args, says) in [
            ("get_config", json!({"key": "fail"}), "The config is on fire."),
            ("kv_get", json!({"key": "fail"}), "The store is on fire."),
            ("kv_set", json!({"key": "fail", "value": ""}), "The store is on fire."),
            ("kv_set", json!({"key": "", "value": ""}), "key"),
            ("kv_set", json!({"key": "k", "bytes": 2 << 20}), "bytes"),
            ("kv_delete", json!({"key": "fail"}), "The store is on fire."),
            ("emit_event", json!({"value": "{\"how\": \"fail\"}"}), "The events are on fire."),
        ] {
            let error = counterpart.ask(&plugin, function, args, &soon()).unwrap_err();
            assert!(error.contains(says), "{title} {function}: {error}");
        }
        assert_eq!(counterpart.ask(&plugin, "emit_event", json!({"value": "{\"n\": 1}"}), &soon()), Ok(Value::Null), "{title}");
        let event: Value = serde_json::from_str(&bench.host.events.lock().unwrap()[0]).unwrap();
        assert_eq!(event["data"]["n"], 1, "{title}: {event}");
        plugin.stop(&Deadline::after(SOON));
    }
}

#[test]
fn many_ask_at_once_and_each_for_its_own_call() {
    for counterpart in all() {
        let title = counterpart.title();
        let bench = Bench::new(&format!("many-{title}"));
        let (plugin, _exits) = bench.start_manifest(&counterpart.manifest(), "null");
        std::thread::scope(|scope| {
            for n in 0..8u64 {
                let (plugin, counterpart) = (&plugin, &counterpart);
                scope.spawn(move || {
                    let mut how = soon();
                    how.tag = n + 1;
                    for i in 0..10 {
                        let (key, value) = (format!("k{n}"), format!("{n}-{i}"));
                        counterpart.ask(plugin, "kv_set", json!({"key": key, "value": value}), &how).unwrap();
                        assert_eq!(counterpart.ask(plugin, "kv_get", json!({"key": key}), &how).unwrap(), value);
                    }
                });
            }
        });
        // Who hands the id of its call back is known by it; who has never heard of it asks for nobody.
        let asked = bench.host.asked.lock().unwrap();
        assert_eq!(asked.len(), 160, "{title}");
        for what in asked.iter() {
            let key = what.split(':').nth(2).unwrap().split(' ').next().unwrap();
            let tag = key[1..].parse::<u64>().unwrap() + 1;
            let by = if counterpart.way == Way::Broker { "by \"\" tag 0".to_owned() } else { format!("by \"command\" tag {tag} ") };
            assert!(what.contains(&by), "{title}: {what}");
        }
        drop(asked);
        plugin.stop(&Deadline::after(SOON));
    }
}

#[test]
fn a_deadline_reaches_the_plugin_and_comes_back_with_its_host_calls() {
    for counterpart in all() {
        let title = counterpart.title();
        let bench = Bench::new(&format!("late-{title}"));
        let (plugin, _exits) = bench.start_manifest(&counterpart.manifest(), "null");
        // The way is there, so that the time goes to the call alone.
        counterpart.ask(&plugin, "kv_get", json!({"key": "k"}), &soon()).unwrap();
        let asks = match counterpart.way {
            Way::Sdk => json!({"do": "host", "fn": "kv_get", "args": {"key": "wait"}}),
            Way::Broker | Way::Token => json!({"ask": "kv_get", "key": "wait"}),
        };
        let reached = || bench.host.asked.lock().unwrap().iter().any(|what| what.contains("wait"));
        // The longer one where the machine is too busy for the call to come to asking.
        for limit in [500, 8000].map(Duration::from_millis) {
            let begun = Instant::now();
            let error = order(&plugin, asks.clone(), &Call::new(Deadline::after(limit))).unwrap_err();
            assert_eq!(error.kind(), Kind::Timeout, "{title}");
            // Not by the 30 seconds that a host call without a deadline has.
            assert!(comes_true(|| bench.host.waiting.load(Ordering::SeqCst) == 0), "{title}");
            assert!(begun.elapsed() < limit + Duration::from_secs(10), "{title}: {:?}", begun.elapsed());
            if reached() {
                break;
            }
        }
        assert!(reached(), "{title}");
        plugin.stop(&Deadline::after(SOON));
    }
}

#[test]
fn large_bodies_go_both_ways() {
    let mut large = grants();
    (large.message_size, large.kv.value, large.kv.total) = (64 << 20, 48 << 20, 100 << 20);
    // So much takes a busy machine a while.
    large.timeout = Duration::from_secs(600);
    let how = Call::new(Deadline::after(large.timeout));
    for counterpart in all() {
        let title = counterpart.title();
        let bench = Bench::with(&format!("big-{title}"), large.clone());
        let (plugin, _exits) = bench.start_manifest(&counterpart.manifest(), "null");
        // go-plugin's own server takes 4 MiB, whatever a host would send.
        let bytes = if counterpart.way == Way::Broker { 3 << 20 } else { 20 << 20 };
        let said = json!({"do": "echo", "text": "x".repeat(bytes)});
        assert_eq!(order(&plugin, said.clone(), &how).unwrap(), said, "{title}");
        let bytes = 40 << 20;
        assert_eq!(counterpart.ask(&plugin, "kv_set", json!({"key": "k", "bytes": bytes}), &how).map(drop), Ok(()), "{title}");
        assert_eq!(bench.host.kv.lock().unwrap()[&format!("plugin:big-{title}:k")].len(), bytes, "{title}");
        let got = counterpart.ask(&plugin, "kv_get", json!({"key": "k"}), &how).unwrap();
        assert_eq!(got.as_str().unwrap().len(), bytes, "{title}");
        plugin.stop(&Deadline::after(SOON));
    }
}

/// What every HTTP/2 client says first.
const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0";

#[test]
fn connections_to_the_host_are_bounded_and_end_with_the_plugin() {
    let bench = Bench::new("door");
    let (plugin, _exits) = bench.start("fixture-grpc-python", r#"{"api_key": "k"}"#);
    let socket = bench.left_behind()[0].join("host.sock");
    let greeted = || {
        let mut stream = UnixStream::connect(&socket).unwrap();
        stream.write_all(PREFACE).unwrap();
        stream.set_read_timeout(Some(SOON)).unwrap();
        stream
    };
    let mut open: Vec<UnixStream> = (0..64).map(|_| greeted()).collect();
    for stream in &mut open {
        stream.read_exact(&mut [0; 9]).unwrap();
    }
    let mut one_more = greeted();
    one_more.set_read_timeout(Some(Duration::from_millis(100))).unwrap();
    let waits = one_more.read(&mut [0; 9]).unwrap_err();
    assert!(matches!(waits.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut), "{waits}");
    // It has its turn when another has gone; and so has the plugin's own.
    drop(open.split_off(60));
    one_more.set_read_timeout(Some(SOON)).unwrap();
    one_more.read_exact(&mut [0; 9]).unwrap();
    let asked = order(&plugin, json!({"do": "host", "fn": "get_config", "args": {"key": "api_key"}}), &soon());
    assert_eq!(asked.unwrap(), json!({"value": "k"}));
    plugin.stop(&Deadline::after(SOON));
    // Whoever holds them: what left the plugin's group may.
    for stream in &mut open {
        assert!(stream.read_to_end(&mut Vec::new()).map_or_else(|e| e.kind() == ErrorKind::ConnectionReset, |_| true));
    }
}

/// A variable of the plugin's environment.
fn variable(plugin: &Plugin, name: &str) -> String {
    let environment = std::fs::read(format!("/proc/{}/environ", plugin.pid())).unwrap();
    let mut all = environment.split(|byte| *byte == 0).filter_map(|line| std::str::from_utf8(line).unwrap().split_once('='));
    all.find(|(own, _)| *own == name).unwrap().1.to_owned()
}

#[test]
fn host_calls_are_bounded_over_all_connections() {
    let bench = Bench::new("room");
    let (plugin, _exits) = bench.start("fixture-grpc-plain", "null");
    let (address, token) = (variable(&plugin, "FLOWBOT_HOST_ADDRESS"), variable(&plugin, "FLOWBOT_HOST_TOKEN"));
    bench.runtime.block_on(async {
        let mut calls = tokio::task::JoinSet::new();
        for _ in 0..3 {
            let connection = tonic::transport::Endpoint::from_shared(address.clone()).unwrap().connect().await.unwrap();
            for _ in 0..20 {
                let mut request = tonic::Request::new(KvGetRequest { key: "wait".into() });
                request.metadata_mut().insert("authorization", format!("Bearer {token}").parse().unwrap());
                let mut client = HostServiceClient::new(connection.clone());
                calls.spawn(async move { client.kv_get(request).await });
            }
        }
        let host = bench.host.clone();
        let full = move || host.waiting.load(Ordering::SeqCst) == 32;
        assert!(tokio::task::spawn_blocking(move || comes_true(full)).await.unwrap());
    });
    plugin.stop(&Deadline::after(SOON));
    assert!(comes_true(|| bench.host.waiting.load(Ordering::SeqCst) == 0));
    assert_eq!(bench.host.most.load(Ordering::SeqCst), 32);
}
