//! Every bound: asked below, at and above it, by default, by preset and by identity.

use super::*;

/// A bound that a manifest asks about: the policy's key, the manifest's runtime and field, and texts below, at and above
/// the bound.
struct Asked {
    key: &'static str,
    runtime: &'static str,
    field: &'static str,
    below: Value,
    at: Value,
    above: Value,
}

fn asked() -> Vec<Asked> {
    let row = |key, runtime, field, below: Value, at: Value, above: Value| Asked { key, runtime, field, below, at, above };
    vec![
        row("memory", "wasm", "permissions.memory.max", json!("31MB"), json!("32MB"), json!("33554433B")),
        row("timeout", "wasm", "permissions.execution.timeout", json!("9999ms"), json!("10s"), json!("10000000001ns")),
        row("timeout", "grpc", "call_timeout", json!("9999ms"), json!("10s"), json!("10001ms")),
        row("load_timeout", "grpc", "start_timeout", json!("9s"), json!("10s"), json!("11s")),
        row("max_instances", "wasm", "pool.max_instances", json!(4), json!(5), json!(6)),
        row("fuel", "wasm", "permissions.execution.fuel", json!(99), json!(100), json!(101)),
        row("http_max_response", "wasm", "permissions.http_max_response", json!("1023KB"), json!("1MB"), json!("1025KB")),
        row("http_max_response", "grpc", "permissions.http_max_response", json!("1B"), json!("1MB"), json!("2MB")),
    ]
}

fn manifest(folder: &Folder, runtime: &str, field: &str, value: Value) -> Manifest {
    let nested = field.rsplit('.').fold(value, |inner, name| json!({ name: inner }));
    let mut section = json!({ if runtime == "wasm" { "module" } else { "binary" }: "bin/p.wasm" });
    section.as_object_mut().unwrap().extend(nested.as_object().unwrap().clone());
    folder.manifest(&json!({"runtime": runtime, runtime: section}))
}

fn admit(policy: &Value, manifest: &Manifest) -> Result<Grants> {
    Policy::parse(policy).unwrap().admit("org/p", manifest, &[])
}

#[test]
fn what_is_past_a_bound_is_denied_and_what_is_not_is_granted() {
    let folder = Folder::new();
    for Asked { key, runtime, field, below, at, above } in asked() {
        let manifest = |value: &Value| manifest(&folder, runtime, field, value.clone());
        let strict = json!({"runtimes": ["wasm", "grpc"], key: at});
        let trusted = json!({"preset": "trusted", key: at});
        for policy in [
            json!({"plugins": {"org/p": strict}}),
            json!({"plugins": {"org/p": trusted}}),
            json!({"default": strict}),
            json!({"default": trusted, "plugins": {"org": "strict", "p": "strict"}}),
        ] {
            admit(&policy, &manifest(&below)).unwrap_or_else(|e| panic!("{policy}: {e}"));
            admit(&policy, &manifest(&at)).unwrap_or_else(|e| panic!("{policy}: {e}"));
            let error = admit(&policy, &manifest(&above)).unwrap_err();
            let denied = denials(&error);
            assert_eq!(denied.len(), 1, "{error}");
            assert_eq!(denied[0].0, format!("{runtime}.{field}"));
            // The line that the error names, put into the policy, grants it.
            let line = crate::manifest::document(denied[0].1.as_bytes()).unwrap();
            let mut entry = strict.clone();
            entry[key] = line[key].clone();
            admit(&json!({"plugins": {"org/p": entry}}), &manifest(&above)).unwrap();
        }
        // Another's entry is no matter of this plugin's.
        let other = json!({"plugins": {"org/p": "trusted", "org/q": {key: at}}});
        admit(&other, &manifest(&above)).unwrap();
    }
}

#[test]
fn the_presets_bound_what_they_say() {
    let folder = Folder::new();
    for (key, runtime, field, most, past) in [
        ("memory", "wasm", "permissions.memory.max", json!("64MB"), json!("65MB")),
        ("timeout", "wasm", "permissions.execution.timeout", json!("30s"), json!("31s")),
        ("max_instances", "wasm", "pool.max_instances", json!(4), json!(5)),
        ("http_max_response", "wasm", "permissions.http_max_response", json!("10MB"), json!("11MB")),
        ("fuel", "wasm", "permissions.execution.fuel", json!(i64::MAX), json!(null)),
        ("load_timeout", "grpc", "start_timeout", json!("60s"), json!("61s")),
    ] {
        let strict = json!({"default": {"runtimes": ["wasm", "grpc"]}});
        admit(&strict, &manifest(&folder, runtime, field, most.clone())).unwrap();
        if !past.is_null() {
            let past = manifest(&folder, runtime, field, past);
            assert_eq!(denials(&admit(&strict, &past).unwrap_err())[0].0, format!("{runtime}.{field}"));
            // What guards the host itself is the same under both presets.
            assert_eq!(admit(&json!("trusted"), &past).is_err(), key == "load_timeout", "{key}");
        }
    }
}

#[test]
fn what_no_manifest_asks_about_is_the_policys() {
    let folder = Folder::new();
    let manifest = folder.wasm(&json!({}));
    let granted = |policy: Value| admit(&policy, &manifest).unwrap().to_json();
    let (strict, trusted) = (granted(json!("strict")), granted(json!("trusted")));
    for (pointer, key, value, default, set) in [
        ("/result_size", "result_size", json!("1MB"), json!(16 << 20), json!(1 << 20)),
        ("/message_size", "message_size", json!("1MB"), json!(64 << 20), json!(1 << 20)),
        ("/module_size", "module_size", json!("1MB"), json!(64 << 20), json!(1 << 20)),
        ("/module_functions", "module_functions", json!(9), json!(100_000), json!(9)),
        ("/load_timeout_ns", "load_timeout", json!("1s"), json!(60_000_000_000_u64), json!(1_000_000_000)),
        ("/kv/key", "kv", json!({"key": "1B"}), json!(512), json!(1)),
        ("/kv/value", "kv", json!({"value": "1B"}), json!(1 << 20), json!(1)),
        ("/kv/total", "kv", json!({"total": "1B"}), json!(64 << 20), json!(1)),
        ("/rates/log", "rates", json!({"log": 0}), json!(1000), json!(0)),
        ("/rates/event", "rates", json!({"event": 7}), json!(1000), json!(7)),
        ("/rates/output", "rates", json!({"output": 7}), json!(1000), json!(7)),
        ("/tcp", "tcp", json!(true), json!(false), json!(true)),
        ("/http_private", "http_private", json!(["10.0.0.0/8"]), json!([]), json!(["10.0.0.0/8"])),
        ("/fuel", "fuel", json!(5), json!(null), json!(5)),
        ("/memory", "memory", json!("1MB"), json!(64 << 20), json!(1 << 20)),
        ("/timeout_ns", "timeout", json!("1s"), json!(30_000_000_000_u64), json!(1_000_000_000)),
        ("/max_instances", "max_instances", json!(1), json!(4), json!(1)),
        ("/http_max_response", "http_max_response", json!("1MB"), json!(10 << 20), json!(1 << 20)),
    ] {
        assert_eq!((strict.pointer(pointer), trusted.pointer(pointer)), (Some(&default), Some(&default)), "{pointer}");
        for policy in [json!({"plugins": {"org/p": {key: value}}}), json!({"default": {"preset": "trusted", key: value}})] {
            let mut here = granted(policy);
            assert_eq!(here.pointer(pointer), Some(&set), "{pointer}");
            // Nothing else has changed.
            *here.pointer_mut(pointer).unwrap() = default.clone();
            assert_eq!(here, strict, "{pointer}");
        }
    }
}

#[test]
fn runtimes_and_hosts_are_lists() {
    let folder = Folder::new();
    let grpc = folder.manifest(&json!({"runtime": "grpc", "grpc": {"binary": "b"}}));
    let wasm = folder.wasm(&json!({}));
    for (runtimes, takes_wasm, takes_grpc) in
        [(json!(["wasm"]), true, false), (json!(["grpc"]), false, true), (json!(["wasm", "grpc"]), true, true), (json!([]), false, false)]
    {
        let policy = json!({"plugins": {"org/p": {"preset": "trusted", "runtimes": runtimes}}});
        assert_eq!((admit(&policy, &wasm).is_ok(), admit(&policy, &grpc).is_ok()), (takes_wasm, takes_grpc), "{policy}");
    }
    let http = json!({"http": ["a.org", "*.b.org:443", "[::1]:80"]});
    for (host, granted) in [
        ("a.org", true),
        ("A.ORG.", true),
        ("a.org:8080", true),
        ("x.a.org", false),
        ("*.a.org", false),
        ("x.b.org:443", true),
        ("*.b.org:443", true),
        ("*.x.b.org:443", true),
        ("b.org:443", false),
        ("x.b.org", false),
        ("x.b.org:444", false),
        ("[::1]:80", true),
        ("[::1]", false),
    ] {
        let manifest = folder.wasm(&json!({"http": [{"host": host}]}));
        let result = admit(&json!({"default": http}), &manifest);
        assert_eq!(result.is_ok(), granted, "{host}");
        assert!(admit(&json!("trusted"), &manifest).is_ok() && admit(&json!("strict"), &manifest).is_err(), "{host}");
    }
}

#[test]
fn the_report_has_every_wish_and_what_became_of_it() {
    let folder = Folder::new();
    let manifest = folder.wasm(&json!({
        "http": [{"host": "a.org"}, {"host": "b.org"}], "memory": {"max": "128MB"}, "execution": {"timeout": "5s"},
        "filesystem": [{"path": "data"}, {"path": "nowhere"}, {"path": "bin"}],
    }));
    let root = folder.0.join("plugin");
    let policy = json!({"plugins": {"org/p": {"http": ["a.org"], "filesystem": [{"root": root}], "require_digest": true}}});
    let admission = Policy::parse(&policy).unwrap().check("org/p", &manifest, &[]).unwrap();
    assert!(!admission.allowed());
    let report = admission.to_json();
    assert_eq!((&report["allowed"], &report["identity"], &report["runtime"]), (&json!(false), &json!("org/p"), &json!("wasm")));
    let told: Vec<(&str, bool)> =
        report["requests"].as_array().unwrap().iter().map(|r| (r["field"].as_str().unwrap(), r["allowed"].as_bool().unwrap())).collect();
    assert_eq!(
        told,
        [
            ("runtime", true),
            ("wasm.permissions.http", true),
            ("wasm.permissions.http", false),
            ("wasm.permissions.http_max_response", true),
            ("wasm.sha256", false),
            ("wasm.permissions.memory.max", false),
            ("wasm.permissions.execution.timeout", true),
            ("wasm.pool.max_instances", true),
            ("wasm.permissions.filesystem[0]", true),
            ("wasm.permissions.filesystem[1]", false),
            ("wasm.permissions.filesystem[2]", false),
        ]
    );
    let by = |i: usize| &report["requests"][i];
    assert_eq!((&by(1)["rule"], &by(1)["grant"]), (&json!("http: [\"a.org\"]"), &Value::Null));
    assert_eq!((&by(2)["asked"], &by(2)["grant"]), (&json!("b.org"), &json!("http: [\"a.org\", \"b.org\"]")));
    assert_eq!((&by(3)["asked"], &by(3)["granted"]), (&json!("10MB (the default)"), &json!("10MB")));
    assert_eq!(
        (&by(5)["granted"], &by(5)["rule"], &by(5)["grant"]),
        (&json!("at most 64MB"), &json!("memory: 64MB"), &json!("memory: 128MB"))
    );
    assert!(by(9)["granted"].as_str().unwrap().contains("cannot be mounted"), "{}", by(9));
    assert!(by(10)["rule"].as_str().unwrap().contains("what the plugin is made of") && by(10)["grant"].is_null());
    assert_eq!((&report["granted"]["http"], &report["granted"]["memory"]), (&json!(["a.org"]), &json!(64 << 20)));
    assert_eq!(report["granted"]["filesystem"], json!([{"path": "data", "mode": "read"}]));
    assert_eq!(denials(&admission.into_grants().unwrap_err()).len(), 4);
}

#[test]
fn a_refusal_lists_a_bounded_number_of_wishes() {
    let folder = Folder::new();
    let hosts: Vec<Value> = (0..120).map(|i| json!({"host": format!("h{i}.org")})).collect();
    let error = admit(&json!("strict"), &folder.wasm(&json!({"http": hosts}))).unwrap_err();
    assert!(error.message().ends_with("\nand 70 more") && error.message().lines().count() == 52, "{error}");
    assert_eq!(denials(&error).len(), 120);
}
