//! AutoMTLS: with plugins on go-plugin, and with servers that are not what their handshake says.

use std::io::{Read, Write};
use std::os::unix::net::UnixStream;
use std::path::PathBuf;
use std::time::Duration;

use flowplug::call::{Call, Deadline};
use flowplug::error::Kind;
use serde_json::{Value, json};

use crate::counterparts::{REQUIRED, tonic};
use crate::support::{Bench, SOON, built_with, call, comes_true, order, soon};

/// The sockets of a plugin's folder whose name starts like this.
fn sockets(bench: &Bench, prefix: &str) -> Vec<PathBuf> {
    let folders = bench.left_behind();
    let all = folders.iter().flat_map(|folder| std::fs::read_dir(folder).unwrap()).map(|entry| entry.unwrap().path());
    all.filter(|path| path.file_name().unwrap().to_str().unwrap().starts_with(prefix)).collect()
}

#[test]
fn plugins_turn_tls_on_by_themselves() {
    for name in ["fixture-grpc-go", "fixture-grpc-plain", "fixture-grpc-python"] {
        let bench = Bench::new("mtls");
        let (plugin, _exits) = bench.load_manifest(&built_with(name, REQUIRED), Deadline::after(SOON)).unwrap();
        // A thread with little stack connects, and so agrees on TLS, as any other.
        let own = plugin.clone();
        let small = std::thread::Builder::new().stack_size(256 << 10).spawn(move || own.start("null", &soon()));
        small.unwrap().join().unwrap().unwrap();
        assert!(comes_true(|| plugin.health().ready), "{:?}", plugin.health());
        // By the thread that calls, by many of them, and by nobody's.
        let said = json!({"do": "echo", "x": "ä".repeat(100_000)});
        assert_eq!(order(&plugin, said.clone(), &soon()).unwrap(), said);
        std::thread::scope(|scope| {
            for n in 0..4 {
                let plugin = &plugin;
                scope.spawn(move || {
                    (0..25)
                        .for_each(|i| assert_eq!(order(plugin, json!({"do": "echo", "n": [n, i]}), &soon()).unwrap()["n"], json!([n, i])))
                });
            }
        });
        let command = plugin.resolve("command").unwrap();
        let answer = bench.runtime.block_on(plugin.call_async(command, "command", br#"{"content":{"do":"echo"}}"#, &soon()));
        assert_eq!(answer.unwrap(), br#"{"do":"echo"}"#);
        // A client that comes without TLS, and so without the certificate, is shown the door.
        let mut stranger = UnixStream::connect(&sockets(&bench, "plugin")[0]).unwrap();
        stranger.set_read_timeout(Some(SOON)).unwrap();
        stranger.write_all(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0").unwrap();
        let mut said = Vec::new();
        drop(stranger.read_to_end(&mut said));
        assert!(said.is_empty() || said[0] == 0x15, "a TLS alert or nothing: {said:?}");
        plugin.stop(&Deadline::after(SOON));
        assert!(bench.left_behind().is_empty());
    }
}

#[test]
fn a_plugin_on_tcp_is_taken_with_tls() {
    let bench = Bench::new("tcp");
    let plain = bench.load_manifest(&tonic(", args: [tcp]"), Deadline::after(SOON)).map(|_| ()).unwrap_err();
    assert_eq!(plain.kind(), Kind::PermissionDenied, "{plain}");
    let (plugin, _exits) = bench.start_manifest(&tonic(", args: [tcp], tls: required"), "null");
    assert_eq!(order(&plugin, json!({"do": "echo", "x": 1.10}), &soon()).unwrap(), json!({"do": "echo", "x": 1.10}));
    assert_eq!(call(&plugin, "help", &Value::Null, &soon()).unwrap_err().kind(), Kind::UnknownFunction);
    plugin.stop(&Deadline::after(SOON));
}

#[test]
fn calls_over_tls_end_and_ask_as_all_others() {
    let bench = Bench::new("mtls-ends");
    let (plugin, exits) = bench.start_manifest(&built_with("fixture-grpc-go", REQUIRED), r#"{"api_key": "k"}"#);
    let late = Call::new(Deadline::after(Duration::from_millis(100)));
    assert_eq!(order(&plugin, json!({"do": "sleep", "ms": 60_000}), &late).unwrap_err().kind(), Kind::Timeout);
    let asked = order(&plugin, json!({"do": "host", "fn": "get_config", "args": {"key": "api_key"}}), &soon());
    assert_eq!(asked.unwrap(), json!({"value": "k"}));
    let error = order(&plugin, json!({"do": "crash"}), &soon()).unwrap_err();
    assert_eq!((error.kind(), &error.details()["exit_status"]), (Kind::Unavailable, &json!(3)));
    assert_eq!(exits.recv_timeout(SOON).unwrap().kind(), Kind::Unavailable);
    plugin.stop(&Deadline::after(SOON));
}

#[test]
fn the_broker_of_go_plugin_leads_to_the_host() {
    for (name, more) in [("broker", ""), ("broker-mtls", REQUIRED)] {
        let bench = Bench::new(name);
        let manifest = built_with("fixture-grpc-plain", more);
        let (plugin, _exits) = bench.start_manifest(&manifest, r#"{"api_key": "k", "idle_ms": 20}"#);
        let ask = |content: Value| call(&plugin, "command", &json!({"content": content}), &soon());
        assert_eq!(ask(json!({"ask": "get_config", "key": "api_key"})).unwrap(), "k");
        assert_eq!(ask(json!({"ask": "kv_get", "key": "k"})).unwrap(), Value::Null);
        assert_eq!(ask(json!({"ask": "kv_set", "key": "k", "value": "v"})).unwrap(), Value::Null);
        assert_eq!(ask(json!({"ask": "kv_get", "key": "k"})).unwrap(), "v");
        assert_eq!(bench.host.kv.lock().unwrap().keys().collect::<Vec<_>>(), [&format!("plugin:{name}:k")]);
        let error = ask(json!({"ask": "kv_set", "key": "fail", "value": ""})).unwrap_err();
        assert!(error.plugin_message().contains("The store is on fire."), "{error:?}");
        let error = ask(json!({"ask": "emit_event", "value": "[1]"})).unwrap_err();
        assert!(error.plugin_message().contains("must be a JSON object"), "{error:?}");
        // A connection that went idle dials again.
        for _ in 0..3 {
            assert_eq!(ask(json!({"ask": "idle"})).unwrap(), Value::Null);
            assert_eq!(ask(json!({"ask": "kv_get", "key": "k"})).unwrap(), "v");
        }
        plugin.stop(&Deadline::after(SOON));
        assert!(bench.left_behind().is_empty());
    }
}

#[test]
fn what_tls_and_the_broker_open_is_closed_again() {
    // In a process of its own, where no other test opens anything.
    const ROLE: &str = "FLOWPLUG_TEST_COUNTS";
    if std::env::var_os(ROLE).is_none() {
        let mut alone = std::process::Command::new(std::env::current_exe().unwrap());
        alone.args(["--exact", "tls::what_tls_and_the_broker_open_is_closed_again"]).env(ROLE, "1");
        return assert!(alone.status().unwrap().success());
    }
    let mut bench = Bench::new("counts");
    let mut once = || {
        let (plugin, _exits) = bench.start_manifest(&built_with("fixture-grpc-plain", REQUIRED), "null");
        let ask = json!({"content": {"ask": "kv_get", "key": "k"}});
        assert_eq!(call(&plugin, "command", &ask, &soon()).unwrap(), Value::Null);
        plugin.stop(&Deadline::after(SOON));
        bench.again();
    };
    let open = || std::fs::read_dir("/proc/self/fd").unwrap().count();
    (0..3).for_each(|_| once());
    let before = open();
    (0..10).for_each(|_| once());
    assert!(comes_true(|| open() <= before), "{} open, {before} before", open());
}
