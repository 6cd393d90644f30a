//! The JSON Schema of `plugin.yaml` against the parser, both ways.

use std::path::{Path, PathBuf};

use flowplug::manifest::{self, Manifest};
use jsonschema::Validator;
use serde_json::{Map, Value, json};

use super::{golden, parse};

fn validator() -> Validator {
    jsonschema::draft202012::options().should_validate_formats(true).build(&manifest::schema()).unwrap()
}

/// The manifests of the examples, the fixtures and the golden files.
fn files() -> Vec<PathBuf> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut folders = vec![root.join("examples"), root.join("tests/plugins"), golden()];
    let mut found = Vec::new();
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                folders.push(path);
            } else if path.extension().is_some_and(|end| end == "yaml") {
                found.push(path);
            }
        }
    }
    found
}

/// Every path that the schema names, list items as `[]`.
fn paths(schema: &Value, prefix: &str, found: &mut Vec<(String, Value)>) {
    let object = schema.get("anyOf").map_or(schema, |alternatives| &alternatives[0]);
    let (object, prefix) = match object.get("items") {
        Some(items) => (&items["anyOf"][0], format!("{prefix}[]")),
        None => (object, prefix.to_owned()),
    };
    for (name, field) in object.get("properties").and_then(Value::as_object).into_iter().flatten() {
        let path = if prefix.is_empty() { name.clone() } else { format!("{prefix}.{name}") };
        found.push((path.clone(), field.clone()));
        paths(field, &path, found);
    }
}

fn all_paths() -> Vec<(String, Value)> {
    let mut found = Vec::new();
    paths(&manifest::schema(), "", &mut found);
    found
}

/// A manifest of both sections with one more field at a path; in a list, in its first item.
fn with(path: &str, value: Value) -> Value {
    let mut manifest = json!({"name": "n", "runtime": "wasm", "wasm": {"module": "m"}, "grpc": {"binary": "b"}});
    let mut here = &mut manifest;
    for part in path.split('.') {
        let (name, is_list) = (part.trim_end_matches("[]"), part.ends_with("[]"));
        if here.is_null() {
            *here = json!({});
        }
        let members = here.as_object_mut().unwrap();
        here = members.entry(name).or_insert(Value::Null);
        if is_list {
            if here.is_null() {
                *here = json!([{}]);
            }
            here = &mut here[0];
        }
    }
    *here = value;
    if path.ends_with("filesystem[].mode") {
        manifest["wasm"]["permissions"]["filesystem"][0]["path"] = json!("d");
    }
    manifest
}

fn read(manifest: &Value) -> flowplug::error::Result<Manifest> {
    Manifest::parse(manifest.to_string().as_bytes(), Path::new(""), true)
}

#[test]
fn the_parser_knows_every_field_of_the_schema() {
    let paths = all_paths();
    assert!(paths.len() > 45, "{paths:?}");
    for (path, _) in &paths {
        if let Err(error) = read(&with(path, Value::Null)) {
            let problems = error.details()["problems"].as_array().unwrap();
            assert!(problems.iter().all(|p| p["code"] == "missing" && p["field"] == *path), "{path}: {error}");
        }
        let unknown = with(&format!("{path}x"), Value::Null);
        assert_eq!(read(&unknown).unwrap_err().details()["problems"][0]["code"], "unknown_field", "{path}");
    }
}

#[test]
fn the_schema_knows_every_field_of_the_parser() {
    fn walk(value: &Value, path: &str, known: &[String]) {
        match value {
            Value::Object(members) if path != "grpc.env" && path != "config_schema" => {
                for (name, value) in members {
                    let path = if path.is_empty() { name.clone() } else { format!("{path}.{name}") };
                    assert!(known.contains(&path), "the schema lacks {path}");
                    walk(value, &path, known);
                }
            }
            Value::Array(items) => items.iter().for_each(|item| walk(item, &format!("{path}[]"), known)),
            _ => {}
        }
    }
    let known: Vec<String> = all_paths().into_iter().map(|(path, _)| path).collect();
    for name in ["bookmarks", "grpc", "defaults"] {
        walk(&Manifest::read(&golden().join(format!("{name}.yaml")), true).unwrap().to_json(), "", &known);
    }
}

#[test]
fn defaults_and_words_are_those_of_the_parser() {
    let mut defaults = 0;
    for (path, field) in all_paths() {
        let text = |manifest: &Value| read(manifest).unwrap_or_else(|e| panic!("{path}: {e}")).to_json();
        let (section, is_item) = (path.rsplit_once('.').map_or("", |(section, _)| section), path.contains("[]"));
        let is_required = ["wasm.module", "grpc.binary"].contains(&path.as_str());
        if let Some(default) = field.get("default").filter(|default| !default.is_null() && !is_required) {
            defaults += 1;
            let absent = text(&with(&path, Value::Null));
            assert_eq!(text(&with(&path, default.clone())), absent, "{path} ({section})");
            // An item's own fields stand in no default manifest.
            let pointer = format!("/{}", path.replace('.', "/"));
            if !is_item && !path.starts_with("provides.provider") {
                assert_eq!(absent.pointer(&pointer), Some(default), "{path}");
            }
        }
        for word in field.pointer("/anyOf/0/enum").and_then(Value::as_array).into_iter().flatten() {
            let manifest = text(&with(&path, word.clone()));
            let pointer = format!("/{}", path.replace("[]", "/0").replace('.', "/"));
            assert_eq!(manifest.pointer(&pointer), Some(word), "{path}");
        }
    }
    assert!(defaults > 25, "{defaults}");
}

#[test]
fn every_valid_manifest_is_valid_by_the_schema() {
    let validator = validator();
    let check = |document: &Value, whose: &str| {
        let errors: Vec<String> = validator.iter_errors(document).map(|e| format!("{}: {e}", e.instance_path())).collect();
        assert!(errors.is_empty(), "{whose}: {errors:?}");
    };
    let files = files();
    assert!(files.len() >= 10, "{files:?}");
    for file in files {
        let text = std::fs::read(&file).unwrap();
        let manifest = Manifest::parse(&text, Path::new(""), false).unwrap_or_else(|e| panic!("{}: {e}", file.display()));
        check(&manifest::document(&text).unwrap(), &file.display().to_string());
        check(&manifest.to_json(), &file.display().to_string());
    }
    for line in [
        "version: 1.10",
        "version: true",
        "x-mine: { any: thing }",
        "provides: { module: TRUE, abilities: [null, { capability: a, operations: [1, true, ''] }] }",
        "config_schema: '{\"type\": \"object\"}'",
        "config_schema: true",
        "grpc: { args: [1, x] }",
        "grpc: { env: { A: 1, '': null } }",
        "grpc: { restart: { max_restarts: '7', backoff: .5s } }",
    ] {
        let text = format!("name: n\nruntime: wasm\nwasm: {{ module: m }}\n{line}\n");
        parse(&text);
        check(&manifest::document(text.as_bytes()).unwrap(), &text);
    }
    for (field, values) in [
        ("wasm.pool.max_instances", json!([0, 4, "7", "0x10", "010", "089", 4.0, "1_0", "+3", null, ""])),
        ("wasm.pool.wait_timeout", json!(["300ms", "1h30m", "+1.5h", "1µs", "1\u{3bc}s"])),
        ("wasm.permissions.memory.max", json!([65536, "64MB", "64 mib", "1b", "0064KB", " 4  GB\n"])),
        ("wasm.permissions.http[].host", json!(["a.org", "*.a.org:8080", "[::1]:80", "bücher.example", "A.ORG.", "127.0.0.1", "", null])),
        ("wasm.permissions.filesystem[].mode", json!(["read", "readwrite", "", null])),
        ("wasm.sha256", json!(["aB".repeat(32), ""])),
        ("name", json!([1.5, true, "n"])),
    ] {
        for value in values.as_array().unwrap() {
            let manifest = with(field, value.clone());
            read(&manifest).unwrap_or_else(|e| panic!("{field} {value}: {e}"));
            check(&manifest, field);
        }
    }
}

#[test]
fn a_single_fault_that_a_schema_can_say_is_found_by_both() {
    let validator = validator();
    let mut faults: Vec<Value> = Vec::new();
    for (field, values) in [
        ("name", json!([null, "", [], {}])),
        ("runtime", json!([null, "", "docker", "WASM", 3, []])),
        ("provides", json!([[], "x", true])),
        ("provides.module", json!(["perhaps", "yes", "true", [], 3])),
        ("provides.abilities", json!([{}, "x", ["x"]])),
        ("provides.abilities[].operations", json!(["list", [{}]])),
        ("provides.provider", json!(["x", []])),
        ("grpc", json!([[], "x", 3])),
        ("grpc.args", json!(["x", {}, [[]]])),
        ("grpc.env", json!([[], "x", {"A=B": "c"}, {"A": {}}])),
        ("grpc.tls", json!(["on", true, []])),
        ("grpc.restart.policy", json!(["always"])),
        ("grpc.restart.max_restarts", json!([-1, 1_000_001, "x", 1.5])),
        ("grpc.start_timeout", json!(["0s", "5", 5, "-1s", "1 s"])),
        ("wasm.module", json!([null, "", [], "a\0b"])),
        ("wasm.pool.max_instances", json!([-1, 1.5, "many", true, 4_294_967_296_u64])),
        ("wasm.permissions.memory.max", json!([0, -1, "0MB", "64 megs", "1.5MB", true, 4_294_967_297_u64])),
        ("wasm.permissions.http", json!(["a.org", ["a.org"]])),
        (
            "wasm.permissions.http[].host",
            json!(["*", "http://a.org", "a.org:", "a.org:0", "a..org", ".a.org", "a b", "::1", "a.org/x", "u@a.org"]),
        ),
        ("wasm.permissions.filesystem[].mode", json!(["write", true])),
        ("wasm.permissions.execution.fuel", json!([-1, "x", 0.5])),
        ("wasm.sha256", json!(["abc", "g".repeat(64)])),
        ("config_schema", json!([[], 3, "x", "[]"])),
    ] {
        faults.extend(values.as_array().unwrap().iter().map(|value| with(field, value.clone())));
    }
    let without = |name: &str| {
        let mut manifest = with("author", Value::Null);
        manifest.as_object_mut().unwrap().remove(name);
        manifest
    };
    faults.extend([without("name"), without("runtime"), without("wasm")]);
    faults.push(json!({"name": "n", "runtime": "grpc", "wasm": {"module": "m"}}));
    faults.push(json!({"name": "n", "runtime": "grpc", "grpc": {"args": []}}));
    faults.push(with("wasm.permissions.filesystem", json!([{"mode": "read"}])));
    faults.extend([json!([]), json!("x"), json!(3)]);
    for fault in faults {
        read(&fault).expect_err(&fault.to_string());
        assert!(!validator.is_valid(&fault), "the schema takes {fault}");
    }
}

#[test]
fn unknown_fields_are_the_parsers_warnings_and_no_fault() {
    let mut manifest = with("x-mine", json!([1]));
    manifest["wasm"]["excution"] = json!(Map::new());
    assert!(validator().is_valid(&manifest));
    assert_eq!(parse(&manifest.to_string()).warnings().len(), 2);
}
