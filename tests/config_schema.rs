//! `config_schema` and what it says of a config, from any embedding program's view.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    missing_docs,
    reason = "a test fails by panicking"
)]

use std::path::Path;
use std::time::{Duration, Instant};

use flowplug::call::Deadline;
use flowplug::error::{Error, Kind, Result};
use flowplug::manifest::Manifest;
use serde_json::{Map, Value, json};

#[path = "config_schema/defaults.rs"]
mod defaults;
#[path = "config_schema/drafts.rs"]
mod drafts;

fn load(schema: &Value) -> Result<Manifest> {
    let text = json!({"name": "n", "runtime": "wasm", "wasm": {"module": "m"}, "config_schema": schema}).to_string();
    Manifest::parse(text.as_bytes(), Path::new(""), true)
}

fn check(schema: &Value, config: &str) -> Result<Value> {
    load(schema).unwrap_or_else(|e| panic!("{e}")).validate_config(config.as_bytes(), &Deadline::after(Duration::from_secs(10)))
}

fn violations(error: &Error) -> Vec<(String, String)> {
    let text = |v: &Value| v.as_str().unwrap().to_owned();
    error.details()["violations"].as_array().unwrap().iter().map(|v| (text(&v["instance_path"]), text(&v["schema_path"]))).collect()
}

#[test]
fn every_violation_is_told_and_no_value() {
    let schema = json!({
        "type": "object",
        "properties": {"api_key": {"type": "string", "maxLength": 3}, "port": {"type": "integer"}, "mode": {"enum": ["a", "b"]}, "pin": {"const": 4}},
        "required": ["api_key", "url"],
        "additionalProperties": false,
    });
    let error = check(&schema, r#"{"api_key": "hunter2", "port": "hunter2", "mode": "hunter2", "pin": "hunter2", "extra": "hunter2"}"#)
        .unwrap_err();
    assert_eq!(error.kind(), Kind::InvalidConfig);
    assert!(error.message().starts_with("plugin config validation failed"), "{error}");
    assert!(!format!("{error:?}").contains("hunter2"), "{error:?}");
    let mut told = violations(&error);
    told.sort();
    let told: Vec<(&str, &str)> = told.iter().map(|(a, b)| (a.as_str(), b.as_str())).collect();
    assert_eq!(
        told,
        [
            ("", "/additionalProperties"),
            ("", "/required"),
            ("/api_key", "/properties/api_key/maxLength"),
            ("/mode", "/properties/mode/enum"),
            ("/pin", "/properties/pin/const"),
            ("/port", "/properties/port/type"),
        ]
    );
    assert_eq!(check(&schema, r#"{"api_key": "abc", "url": null}"#).unwrap_err().details()["violations"].as_array().unwrap().len(), 1);
}

#[test]
fn secrets_do_not_come_back_through_any_keyword() {
    let secret = "hunter2-hunter2";
    for schema in [
        json!({"type": "integer"}),
        json!({"pattern": "^a+$"}),
        json!({"format": "email"}),
        json!({"minLength": 100}),
        json!({"not": {"type": "string"}}),
        json!({"anyOf": [{"type": "integer"}, {"maxLength": 1}]}),
        json!({"oneOf": [{"type": "string"}, {"minLength": 1}]}),
        json!({"const": "x"}),
        json!({"enum": [1, 2]}),
        json!({"if": true, "then": false}),
        json!({"contentEncoding": "base64"}),
        json!({"$ref": "#/$defs/s", "$defs": {"s": {"type": "null"}}}),
        json!(false),
    ] {
        if let Err(error) = check(&schema, &json!(secret).to_string()) {
            assert!(!format!("{error:?}").contains("hunter2"), "{schema}: {error:?}");
        }
        for wrapped in [json!([secret]), json!({"k": secret}), json!([[secret], [secret]])] {
            let mut schema = json!({"$defs": schema["$defs"], "items": schema, "additionalProperties": schema, "uniqueItems": true, "contains": {"type": "null"}});
            if schema["$defs"].is_null() {
                schema.as_object_mut().unwrap().remove("$defs");
            }
            if let Err(error) = check(&schema, &wrapped.to_string()) {
                assert!(!format!("{error:?}").contains("hunter2"), "{schema}: {error:?}");
            }
        }
    }
}

#[test]
fn an_absent_config_is_checked_as_an_object_only_where_the_schema_says_object() {
    let required = json!({"type": "object", "required": ["a"]});
    assert_eq!(check(&required, "").unwrap_err().kind(), Kind::InvalidConfig);
    assert_eq!(check(&json!({"type": "object"}), "").unwrap(), Value::Null);
    assert_eq!(check(&json!({"type": "null"}), "").unwrap(), Value::Null);
    assert_eq!(check(&json!({"type": "string"}), "").unwrap_err().kind(), Kind::InvalidConfig);
    assert_eq!(check(&json!({"type": "object"}), "null").unwrap_err().kind(), Kind::InvalidConfig);
    assert_eq!(check(&json!({"type": ["object", "null"]}), "").unwrap(), Value::Null);
    assert_eq!(check(&json!({"type": "object"}), "{}").unwrap(), json!({}));
}

#[test]
fn schemas_that_are_not_valid_are_refused_with_the_manifest() {
    for schema in [
        json!({"type": "strin"}),
        json!({"type": 3}),
        json!([1]),
        json!(3),
        json!("{"),
        json!("\"text\""),
        json!({"pattern": "("}),
        json!({"$schema": "https://example.com/my-own-draft"}),
        json!({"$schema": "http://127.0.0.1:1/schema"}),
        json!({"$ref": "https://example.com/x.json"}),
        json!({"$ref": "file:///etc/hostname"}),
        json!({"$ref": "#/nowhere"}),
        json!({"required": "a"}),
    ] {
        let error = load(&schema).expect_err(&schema.to_string());
        assert_eq!(error.kind(), Kind::InvalidManifest);
        assert!(error.message().contains("config_schema is invalid"), "{schema}: {error}");
        assert_eq!(error.details()["problems"][0]["field"], "config_schema");
    }
    assert!(load(&json!("{\"type\": \"object\"}")).unwrap().config_schema.is_some());
}

#[test]
fn hostile_schemas_end_in_time_and_the_next_check_works() {
    let mut doubling = Map::new();
    for i in 0..60 {
        let next = format!("#/$defs/d{}", i + 1);
        doubling.insert(format!("d{i}"), json!({"allOf": [{"$ref": next}, {"$ref": next}]}));
    }
    doubling.insert("d60".to_owned(), json!({"type": "string"}));
    let deep = (0..90).fold(json!({}), |inner, _| json!({"not": inner}));
    let patterns: Vec<Value> = (0..2000).map(|i| json!({"pattern": format!("(a{{1000}}){{1000}}{i}")})).collect();
    for schema in [
        json!({"$defs": doubling, "$ref": "#/$defs/d0"}),
        json!({"$ref": "#"}),
        json!({"allOf": [{"$ref": "#"}]}),
        json!({"pattern": "(a{1000}){1000}{1000}"}),
        json!({"allOf": patterns}),
        json!({"description": "x".repeat(300 * 1024)}),
        deep,
    ] {
        let start = Instant::now();
        if let Ok(manifest) = load(&schema) {
            let _ = manifest.validate_config(b"{\"a\": 1}", &Deadline::after(Duration::from_millis(500)));
        }
        assert!(start.elapsed() < Duration::from_secs(60), "{:.60}", schema.to_string());
    }
    // Exponential in the depth of the config: nothing but the deadline ends it.
    let twice = json!({"anyOf": [{"properties": {"x": {"$ref": "#"}, "y": false}, "required": ["z"]}, {"properties": {"x": {"$ref": "#"}}, "required": ["w"]}]});
    let config = (0..100).fold("{}".to_owned(), |inner, _| format!("{{\"x\": {inner}}}"));
    let manifest = load(&twice).unwrap();
    let start = Instant::now();
    let error = manifest.validate_config(config.as_bytes(), &Deadline::after(Duration::from_millis(200))).unwrap_err();
    assert!(matches!(error.kind(), Kind::Timeout | Kind::InvalidConfig), "{error}");
    assert!(start.elapsed() < Duration::from_secs(2), "{:?}", start.elapsed());
    check(&json!({"type": "object"}), "{}").unwrap();
    check(&json!({"properties": {"next": {"$ref": "#"}}, "type": "object"}), "{\"next\": {}}").unwrap();
}

#[test]
fn a_small_stack_is_enough() {
    let schema = (0..45).fold(json!({"type": "string"}), |inner, _| json!({"properties": {"x": inner}}));
    let config = (0..45).fold("3".to_owned(), |inner, _| format!("{{\"x\": {inner}}}"));
    let small = std::thread::Builder::new().stack_size(128 * 1024);
    let kind = small.spawn(move || check(&schema, &config).unwrap_err().kind()).unwrap().join().unwrap();
    assert_eq!(kind, Kind::InvalidConfig);
}
