//! The events as they are documented.
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

use serde_json::Value;

const DOCS: &str = include_str!("../docs/events.md");

#[test]
fn each_kind_is_documented_and_no_other() {
    let rows = DOCS.lines().filter_map(|line| line.strip_prefix("| `")?.split_once(" |"));
    let mut documented: Vec<&str> = rows.flat_map(|(kinds, _)| kinds.split("`, `")).map(|kind| kind.trim_end_matches('`')).collect();
    let schema = flowplug::host::event::schema();
    let mut kinds: Vec<&str> =
        schema["oneOf"].as_array().unwrap().iter().map(|k| k["properties"]["type"]["const"].as_str().unwrap()).collect();
    documented.sort_unstable();
    kinds.sort_unstable();
    assert_eq!(documented, kinds);
}

#[test]
fn the_example_is_one_that_the_library_makes() {
    let example = DOCS.split("```json\n").nth(1).unwrap().split("\n```").next().unwrap();
    support::check_event(example);
    let mut shown: Value = serde_json::from_str(example).unwrap();
    let text = |name: &str| shown["audit"][name].as_str().unwrap();
    let plugin = shown["plugin"].as_str().unwrap();
    let made = flowplug::host::audit::event(plugin, text("what"), text("target"), false, text("rule"));
    let made: Value = serde_json::from_str(&made).unwrap();
    shown["time"] = made["time"].clone();
    assert_eq!(shown, made);
}
