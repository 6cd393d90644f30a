//! What a manifest costs: a typical one parsed and checked, its config checked and filled, and hostile ones refused.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    missing_docs,
    unreachable_pub,
    reason = "a benchmark fails by panicking"
)]

#[path = "support/rounds.rs"]
mod rounds;

use std::hint::black_box;
use std::path::Path;

use flowplug::call::Deadline;
use flowplug::manifest::Manifest;
use flowplug::policy::Policy;
use rounds::Group;
use serde_json::{Map, Value, json};

const TYPICAL: &str = "\
name: bookmarks
version: 1.10
description: Bookmark backend
author: dev@example.com
runtime: wasm
provides:
  module: true
  abilities:
    - capability: bookmark
      operations: [list, get, create]
  provider: { name: my-service, oauth: true }
wasm:
  module: ./plugin.wasm
  pool: { max_instances: 4, wait_timeout: 5s }
  permissions:
    http: [{ host: api.example.com }, { host: \"*.example.org\" }, { host: \"localhost:8080\" }]
    memory: { max: 64MB }
    execution: { timeout: 30s }
config_schema:
  type: object
  properties: { api_key: { type: string }, limit: { type: integer, default: 20 } }
  required: [api_key]
";
const CONFIG: &[u8] = br#"{"api_key": "abc"}"#;

fn parse(text: &[u8]) -> flowplug::error::Result<Manifest> {
    Manifest::parse(black_box(text), Path::new(""), false)
}

fn times(mut run: impl FnMut()) -> impl FnMut(u64) {
    move |count| (0..count).for_each(|_| run())
}

/// Those of the hostile inputs of tests/manifest/hostile.rs that cost the most.
fn hostile() -> Vec<(&'static str, Vec<u8>)> {
    let mut bomb = "name: n\na0: &a0 [x, x, x, x, x, x, x, x, x]\n".to_owned();
    for i in 1..12 {
        bomb += &format!("a{i}: &a{i} [{}]\n", vec![format!("*a{}", i - 1); 9].join(", "));
    }
    let with =
        |schema: &Value| json!({"name": "n", "runtime": "wasm", "wasm": {"module": "m"}, "config_schema": schema}).to_string().into_bytes();
    let mut doubling = Map::new();
    for i in 0..25 {
        let next = json!({"$ref": format!("#/$defs/d{}", i + 1)});
        doubling.insert(format!("d{i}"), json!({"allOf": [next, next]}));
    }
    doubling.insert("d25".to_owned(), json!({}));
    vec![
        ("aliases that multiply", bomb.into_bytes()),
        ("as many keys as 1 MiB holds", (0..118_000).map(|i| format!("{i:x}:\n")).collect::<String>().into_bytes()),
        ("2 MiB", vec![b'a'; 2 << 20]),
        ("10,000 open lists", format!("x: {}", "[".repeat(10_000)).into_bytes()),
        ("$refs that double", with(&json!({"$defs": doubling, "$ref": "#/$defs/d0"}))),
        ("a schema of 300 KiB", with(&json!({"description": "x".repeat(300 * 1024)}))),
        ("a pattern that is too large", with(&json!({"pattern": "(a{1000}){1000}{1000}"}))),
    ]
}

fn main() {
    let manifest = parse(TYPICAL.as_bytes()).unwrap();
    let policy = Policy::parse(&json!("trusted")).unwrap();
    let without = TYPICAL.split("config_schema").next().unwrap();
    let deadline = || Deadline::after(std::time::Duration::from_secs(10));
    Group::new("A typical manifest of 21 lines")
        .case("parse and check, its schema compiled", times(|| drop(black_box(parse(TYPICAL.as_bytes()).unwrap()))))
        .case("the same without config_schema", times(|| drop(black_box(parse(without.as_bytes()).unwrap()))))
        .case("admit it by a policy", times(|| drop(black_box(policy.admit("p", &manifest, &[]).unwrap()))))
        .case("check a config", times(|| drop(black_box(manifest.validate_config(CONFIG, &deadline()).unwrap()))))
        .case("fill a config", times(|| drop(black_box(manifest.fill_config(CONFIG, &deadline()).unwrap()))))
        .measure(9, 50.0);
    let inputs = hostile();
    let mut group = Group::new("Hostile manifests, refused; beside the typical one")
        .case("parse and check the typical one", times(|| drop(black_box(parse(TYPICAL.as_bytes()).unwrap()))));
    for (name, input) in &inputs {
        group = group.case(*name, times(|| drop(black_box(parse(input).unwrap_err()))));
    }
    group.measure(9, 50.0);
}
