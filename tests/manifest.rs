//! Manifests as a program meets them: what they mean, what is wrong with them, and that a hostile one ends quickly.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    missing_docs,
    reason = "a test fails by panicking"
)]

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use flowplug::call::Deadline;
use flowplug::error::{Error, Kind};
use flowplug::manifest::{self, Manifest, RestartPolicy, RuntimeKind, Snapshot, Tls};
use serde_json::{Value, json};

#[path = "manifest/errors.rs"]
mod errors;
#[path = "manifest/hostile.rs"]
mod hostile;
#[path = "manifest/schema.rs"]
mod schema;

fn golden() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden/manifest")
}

fn parse(text: &str) -> Manifest {
    Manifest::parse(text.as_bytes(), Path::new(""), false).unwrap_or_else(|e| panic!("{e}\n{text}"))
}

fn refused(text: impl AsRef<[u8]>) -> Error {
    let error = Manifest::parse(text.as_ref(), Path::new(""), false).expect_err("it was taken");
    assert_eq!(error.kind(), Kind::InvalidManifest);
    error
}

fn example() -> String {
    std::fs::read_to_string(golden().join("bookmarks.yaml")).unwrap()
}

#[test]
fn golden_manifests_mean_what_stands_beside_them() {
    let mut seen = 0;
    for entry in std::fs::read_dir(golden()).unwrap() {
        let path = entry.unwrap().path();
        if path.extension().is_none_or(|e| e != "yaml") {
            continue;
        }
        seen += 1;
        let manifest = Manifest::read(&path, true).unwrap();
        let expected: Value = serde_json::from_slice(&std::fs::read(path.with_extension("json")).unwrap()).unwrap();
        assert_eq!(manifest.to_json(), expected, "{}", path.display());
        assert!(manifest.warnings().is_empty());
        assert_eq!(manifest.base_dir(), golden());
        // As JSON, with other line ends and with a byte order mark it is the same manifest.
        let text = std::fs::read_to_string(&path).unwrap();
        for other in [
            expected.to_string(),
            format!("{expected:#}"),
            text.replace('\n', "\r\n"),
            format!("\u{feff}{text}"),
            format!("---\n{text}...\n"),
        ] {
            let again = Manifest::parse(other.as_bytes(), &golden(), true).unwrap_or_else(|e| panic!("{e}\n{other}"));
            assert_eq!(again.to_json(), expected, "{other}");
            assert_eq!((&again.grpc, &again.wasm, &again.provides), (&manifest.grpc, &manifest.wasm, &manifest.provides));
        }
    }
    assert_eq!(seen, 3);
}

#[test]
fn the_example_has_its_values() {
    let manifest = parse(&example());
    assert_eq!((manifest.name.as_str(), manifest.version.as_str(), manifest.runtime), ("bookmarks", "1.10", RuntimeKind::Wasm));
    assert_eq!(manifest.provides.abilities[0].operations, ["list", "get", "create"]);
    assert!(manifest.provides.module && manifest.provides.provider.as_ref().unwrap().oauth && manifest.grpc.is_none());
    let wasm = manifest.wasm.as_ref().unwrap();
    assert_eq!((wasm.max_instances, wasm.wait_timeout, wasm.timeout), (4, Duration::from_secs(5), Duration::from_secs(30)));
    assert_eq!((wasm.memory_max, wasm.http_max_response, wasm.fuel, wasm.sha256.as_ref()), (64 << 20, 10 << 20, None, None));
    assert!(
        wasm.http[1].matches("a.example.org", 443)
            && wasm.filesystem[0].writable
            && !wasm.instance_per_call
            && wasm.snapshot == Snapshot::Off
    );
    assert!(manifest.config_schema.is_some());
}

#[test]
fn what_is_null_or_empty_has_its_default() {
    let defaults = Manifest::read(&golden().join("defaults.yaml"), true).unwrap().to_json();
    for absent in ["null", "~", "\"\"", ""] {
        let text = format!(
            "name: least\nversion: {absent}\ndescription: {absent}\nauthor: {absent}\nruntime: wasm\nprovides: {absent}\ngrpc: {absent}\nconfig_schema: {absent}\nwasm:\n  module: p.wasm\n  sha256: {absent}\n  pool: {absent}\n  permissions: {absent}\n"
        );
        assert_eq!(parse(&text).to_json(), defaults, "{text}");
        let deeper = format!(
            "name: least\nruntime: wasm\nprovides:\n  module: {absent}\n  abilities: {absent}\n  provider: {absent}\nwasm:\n  module: p.wasm\n  pool:\n    max_instances: {absent}\n    wait_timeout: {absent}\n    instance_per_call: {absent}\n    snapshot: {absent}\n  permissions:\n    http: {absent}\n    filesystem: {absent}\n    memory: {absent}\n    execution:\n      timeout: {absent}\n      fuel: {absent}\n    http_max_response: {absent}\n"
        );
        assert_eq!(parse(&deeper).to_json(), defaults, "{deeper}");
        let grpc = format!(
            "name: g\nruntime: grpc\ngrpc:\n  binary: b\n  args: {absent}\n  env: {absent}\n  permissions: {absent}\n  start_timeout: {absent}\n  call_timeout: {absent}\n  restart: {absent}\n  tls: {absent}\n  sha256: {absent}\n"
        );
        let grpc = parse(&grpc).grpc.unwrap();
        assert_eq!((grpc.start_timeout.as_secs(), grpc.call_timeout.as_secs(), grpc.tls), (60, 30, Tls::Off));
        assert_eq!((grpc.restart.policy, grpc.restart.max_restarts, grpc.restart.backoff.as_millis()), (RestartPolicy::OnFailure, 5, 200));
        assert!(grpc.args.is_empty() && grpc.env.is_empty() && grpc.http.is_empty() && grpc.sha256.is_none());
    }
    // A Go struct marshalled as it is.
    let go = r#"{"name":"least","version":"","description":"","author":"","runtime":"wasm","provides":{"module":false,"abilities":null,"provider":null},
        "grpc":null,"wasm":{"module":"p.wasm","permissions":{"http":null,"filesystem":[],"memory":{"max":""},"execution":null},
        "pool":{"max_instances":0,"wait_timeout":""}},"config_schema":null}"#;
    assert_eq!(parse(go).to_json(), defaults);
}

#[test]
fn scalars_are_taken_as_gos_parsers_take_them() {
    let with = |line: &str| parse(&format!("name: n\nruntime: wasm\nwasm:\n  module: m\n{line}\n"));
    for (written, meant) in [
        ("1.10", "1.10"),
        ("0x10", "0x10"),
        ("true", "true"),
        ("1e3", "1e3"),
        ("2020-01-01", "2020-01-01"),
        ("!!str 1.10", "1.10"),
        ("!!binary aGk=", "hi"),
    ] {
        assert_eq!(with(&format!("version: {written}")).version, meant);
    }
    for (word, meant) in [("true", true), ("True", true), ("TRUE", true), ("FALSE", false), ("null", false), ("\"\"", false)] {
        assert_eq!(with(&format!("provides: {{ module: {word} }}")).provides.module, meant, "{word}");
    }
    for (number, meant) in [("4.0", 4), ("\"7\"", 7), ("0x10", 16), ("010", 8), ("1_0", 10), ("+3", 3), ("0", 4)] {
        let manifest = parse(&format!("name: n\nruntime: wasm\nwasm: {{ module: m, pool: {{ max_instances: {number} }} }}"));
        assert_eq!(manifest.wasm.unwrap().max_instances, meant, "{number}");
    }
    let merged = parse("x-base: &base { module: a, pool: { max_instances: 2 } }\nname: n\nruntime: wasm\nwasm: { <<: *base, module: b }\n");
    assert_eq!((merged.wasm.as_ref().unwrap().module.as_str(), merged.wasm.as_ref().unwrap().max_instances), ("b", 2));
    let listed = parse("name: n\nruntime: grpc\ngrpc: { binary: b, args: [1.10, true, null, '', x] }");
    assert_eq!(listed.grpc.unwrap().args, ["1.10", "true", "", "", "x"]);
}

#[test]
fn flowbots_own_checks_keep_their_texts() {
    for (text, message) in [
        ("runtime: grpc\ngrpc: { binary: b }", "missing name"),
        ("name: ''\nruntime: grpc\ngrpc: { binary: b }", "missing name"),
        ("name: a\nruntime: invalid", "invalid runtime"),
        ("name: a", "invalid runtime"),
        ("name: a\nruntime: grpc", "grpc config required"),
        ("name: a\nruntime: wasm\ngrpc: { binary: b }", "wasm config required"),
        ("name: [a", "parse manifest"),
        ("name: [a]\nruntime: wasm\nwasm: { module: m }", "parse manifest"),
        ("just text", "parse manifest: the document is not a mapping"),
        ("- a\n- b", "parse manifest"),
    ] {
        let error = refused(text);
        assert!(error.message().contains(message), "{text}: {error}");
    }
    let empty = refused("");
    assert!(empty.message().contains("missing name") && empty.message().contains("invalid runtime"), "{empty}");
}

#[test]
fn every_problem_is_told_with_its_place() {
    let error = refused(
        "name: n\nruntime: wsm\nprovides:\n  module: maybe\n  abilities: none\nwasm:\n  pool: { max_instances: -1, wait_timeout: 5 }\n  permissions:\n    http: [{ host: 'http://x' }, { host: '*' }]\n    filesystem: [{ mode: write }]\n    memory: { max: 64 mega }\n    execution: { timeout: 0s, fuel: x }\n  sha256: abc\n  module: p.wasm\n  module: q.wasm\n",
    );
    let problems = error.details()["problems"].as_array().unwrap();
    let told: Vec<(&str, u64, u64)> =
        problems.iter().map(|p| (p["field"].as_str().unwrap(), p["line"].as_u64().unwrap(), p["column"].as_u64().unwrap())).collect();
    assert_eq!(
        told,
        [
            ("runtime", 2, 10),
            ("provides.module", 4, 11),
            ("provides.abilities", 5, 14),
            ("wasm.pool.max_instances", 7, 26),
            ("wasm.pool.wait_timeout", 7, 44),
            ("wasm.permissions.http[0].host", 9, 20),
            ("wasm.permissions.http[1].host", 9, 42),
            ("wasm.permissions.filesystem[0].path", 10, 18),
            ("wasm.permissions.filesystem[0].mode", 10, 26),
            ("wasm.permissions.memory.max", 11, 20),
            ("wasm.permissions.execution.timeout", 12, 27),
            ("wasm.permissions.execution.fuel", 12, 37),
            ("wasm.sha256", 13, 11),
            ("wasm.module", 15, 3),
        ]
    );
    assert_eq!(problems[0]["suggestion"], "wasm");
    assert_eq!((problems[3]["found"].as_str(), problems[9]["found"].as_str()), (Some("\"-1\""), Some("\"64 mega\"")));
    assert_eq!(error.message().lines().count(), 1 + problems.len(), "{error}");
    assert!(
        error
            .message()
            .contains("line 2, column 10: runtime: invalid runtime, expected grpc or wasm, found \"wsm\"; did you mean \"wasm\"?"),
        "{error}"
    );
}

#[test]
fn unknown_fields_are_warnings_or_where_it_is_asked_errors() {
    let text = "name: n\nruntime: wasm\nx-mine: 1\nwasm:\n  module: m\n  permissions:\n    excution: { timeout: 1s }\n";
    let warnings = parse(text).warnings().join("\n");
    assert!(warnings.contains("line 3, column 1: x-mine: unknown field"), "{warnings}");
    assert!(warnings.contains("line 7, column 5: wasm.permissions.excution: unknown field; did you mean \"execution\"?"), "{warnings}");
    let error = Manifest::parse(text.as_bytes(), Path::new(""), true).unwrap_err();
    assert_eq!(error.details()["problems"][1]["suggestion"], "execution");
}

#[test]
fn no_error_shows_a_secret() {
    for text in [
        "name: n\nruntime: grpc\ngrpc: { binary: b, env: { API: [hunter2] } }",
        "name: n\nruntime: grpc\ngrpc: { binary: b, env: { 'A=hunter': x, B: \"hunter2\\0\" } }",
        "name: n\nruntime: wasm\nwasm: { module: m, sha256: hunter2hunter2hunter2hunter2 }",
        "name: n\nruntime: wasm\nwasm: { module: m, permissions: { http: [{ host: 'https://me:hunter2@example.com' }] } }",
        "name: n\nruntime: wasm\nwasm: { module: m }\nconfig_schema: { type: hunter2 }",
        "name: n\nruntime: wasm\nwasm: { module: m }\nconfig_schema: 'hunter2'",
        "name: n\nruntime: wasm\nwasm: { module: m }\nconfig_schema: { const: .inf, default: hunter2 }",
        "name: n\npassword: hunter2\n  x",
        "name: \"hunter2",
        "api_token: hunter2\nname: n",
    ] {
        let error = refused(text);
        assert!(!format!("{error:?}").contains("hunter2"), "{error:?}");
    }
}

#[test]
fn hostile_documents_are_refused_in_time() {
    let mut bomb = "name: n\na0: &a0 [x, x, x, x, x, x, x, x, x]\n".to_owned();
    for i in 1..12 {
        bomb += &format!("a{i}: &a{i} [{}]\n", vec![format!("*a{}", i - 1); 9].join(", "));
    }
    let keys: String = (0..300_000).map(|i| format!("{i}:\n")).collect();
    let open = format!("name: n\nx: {}", "[".repeat(10_000));
    let deep_schema =
        format!("name: n\nruntime: wasm\nwasm: {{ module: m }}\nconfig_schema: '{}{}'", "{\"not\":".repeat(10_000), "}".repeat(10_000));
    for hostile in [
        bomb.into_bytes(),
        keys.into_bytes(),
        open.into_bytes(),
        deep_schema.into_bytes(),
        b"name: a\0b\n".to_vec(),
        b"name: \xff\xfe\n".to_vec(),
        vec![b'a'; 2 << 20],
        vec![b' '; 2 << 20],
        vec![0; 4096],
        "\u{feff}\u{feff}name: a".into(),
        b"\xff\xfen\0a\0m\0e\0".to_vec(),
        "%YAML 9.9\n---\nname: a".into(),
        "name: &a *a".into(),
        "? ".repeat(5000).into_bytes(),
        "\"".repeat(100_001).into_bytes(),
        "a: b: c: d".into(),
        format!("name: {}", "\u{85}\u{2028}".repeat(1000)).into_bytes(),
    ] {
        let start = Instant::now();
        let error = refused(&hostile);
        assert!(error.message().len() < 20_000);
        assert!(start.elapsed() < Duration::from_secs(10), "{:?}", &hostile[..hostile.len().min(40)]);
    }
}

#[test]
fn mutated_manifests_never_panic() {
    let (text, mut seed) = (example().into_bytes(), 0x2545_f491_4f6c_dd1d_u64);
    let mut next = |below: usize| {
        seed ^= seed << 13;
        seed ^= seed >> 7;
        seed ^= seed << 17;
        usize::try_from(seed >> 33).unwrap() % below
    };
    let alphabet = b"{}[]:,-&*!|>'\"%@`#?~ \n\t\r\0a09.\xff\xc3";
    for _ in 0..3000 {
        let mut mutated = text.clone();
        for _ in 0..=next(4) {
            let at = next(mutated.len());
            match next(3) {
                0 => mutated[at] = alphabet[next(alphabet.len())],
                1 => mutated.insert(at, alphabet[next(alphabet.len())]),
                _ => drop(mutated.drain(at..(at + next(20)).min(text.len() / 2).max(at))),
            }
        }
        if let Ok(manifest) = Manifest::parse(&mutated, Path::new(""), false) {
            let json = manifest.to_json();
            let again = parse(&json.to_string());
            assert_eq!((again.to_json(), again.wasm, again.grpc), (json, manifest.wasm, manifest.grpc));
        }
    }
}

#[test]
fn files_and_folders_are_read() {
    let folder = std::env::temp_dir().join(format!("flowplug-manifest-{}", std::process::id()));
    std::fs::create_dir_all(&folder).unwrap();
    std::fs::write(folder.join(manifest::FILE_NAME), example()).unwrap();
    let manifest = Manifest::read(&folder, false).unwrap();
    assert_eq!((manifest.base_dir(), manifest.file()), (folder.as_path(), Some(folder.join("plugin.yaml").as_path())));
    std::fs::remove_file(folder.join(manifest::FILE_NAME)).unwrap();
    for missing in [folder.clone(), folder.join("plugin.yaml"), folder.join("nowhere/plugin.yaml"), PathBuf::from("/dev/zero")] {
        assert_eq!(Manifest::read(&missing, false).unwrap_err().kind(), Kind::Io, "{}", missing.display());
    }
    std::fs::remove_dir_all(&folder).unwrap();
}

#[test]
fn other_documents_are_read_within_the_same_bounds() {
    assert_eq!(manifest::document(b"policy: strict\nn: 1.5\nb: yes\n").unwrap(), json!({"policy": "strict", "n": 1.5, "b": "yes"}));
    assert_eq!(manifest::document(b"").unwrap(), json!({}));
    for bad in ["a: 1\na: 2", "[", "a: .nan"] {
        let error = manifest::document(bad.as_bytes()).unwrap_err();
        assert_eq!(error.kind(), Kind::InvalidConfig);
        assert!(!error.message().contains("manifest"), "{error}");
    }
}

#[test]
fn configs_without_a_schema_pass_if_they_are_json() {
    let manifest = parse("name: n\nruntime: wasm\nwasm: { module: m }");
    let never = Deadline::never();
    for (config, value) in
        [("", Value::Null), (" \n", Value::Null), ("{\"a\": 1}", json!({"a": 1})), ("null", Value::Null), ("3", json!(3))]
    {
        assert_eq!(manifest.validate_config(config.as_bytes(), &never).unwrap(), value);
    }
    for config in ["{", "hunter2", "{\"hunter2\": 1,}", "\u{0}"] {
        let error = manifest.validate_config(config.as_bytes(), &never).unwrap_err();
        assert_eq!(error.kind(), Kind::InvalidConfig);
        assert!(error.message().contains("plugin config is not valid JSON") && !error.message().contains("hunter2"), "{error}");
    }
}
