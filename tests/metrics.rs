//! What is counted of plugins.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    missing_docs,
    reason = "a test fails by panicking"
)]
#![allow(dead_code, reason = "the tests of reloads use the rest of its support")]

#[path = "reload/support.rs"]
mod support;

use flowplug::call::Deadline;
use flowplug::plugin::{Plugin, metrics};
use support::*;

/// The values of a series, by its name and labels beside the plugin.
fn value(plugin: &Plugin, series: &str) -> Option<u64> {
    let text = metrics::text([(plugin.identity().to_owned(), plugin.measures())]);
    let (name, labels) = series.split_once('{').unwrap_or((series, "}"));
    let start = format!("{name}{{plugin=\"org/test\"{}{labels} ", if labels == "}" { "" } else { "," });
    text.lines().find_map(|line| line.strip_prefix(&start)).map(|value| value.parse().unwrap())
}

#[test]
fn calls_errors_times_reloads_memory_and_instances_are_counted() {
    let bench = Bench::new();
    let plugin = bench.started(&bench.manifest(&module(1, ""), "max_instances: 3", ""), 1);
    for _ in 0..200 {
        ask(&plugin, "command").unwrap();
    }
    for _ in 0..3 {
        ask(&plugin, "nothing").unwrap_err();
    }
    for (series, expected) in [
        ("flowplug_plugin_up", 1),
        ("flowplug_calls_total", 203),
        ("flowplug_calls_in_flight", 0),
        ("flowplug_call_errors_total{code=\"unknown_function\"}", 3),
        ("flowplug_reloads_total", 0),
        ("flowplug_instances{state=\"idle\"}", 1),
        ("flowplug_instances_max", 3),
    ] {
        assert_eq!(value(&plugin, series), Some(expected), "{series}");
    }
    assert_eq!(value(&plugin, "flowplug_call_errors_total{code=\"timeout\"}"), None);
    // One in 64, from wherever the counters of the calls before stood.
    let timed = value(&plugin, "flowplug_call_duration_seconds_count").unwrap();
    assert!((3..=4).contains(&timed), "{timed}");
    assert_eq!(value(&plugin, "flowplug_call_duration_seconds_bucket{le=\"+Inf\"}"), Some(timed));
    let memory = value(&plugin, "flowplug_memory_bytes").unwrap();
    assert!(memory >= 65536 && memory.is_multiple_of(65536), "{memory}");

    let made = value(&plugin, "flowplug_instances_made_total").unwrap();
    assert!(made > 0);
    plugin.reload(bench.manifest(&module(2, ""), "", ""), &config(2), &call(), &Deadline::after(LONG)).unwrap();
    plugin.reload(bench.manifest("(module)", "", ""), b"", &call(), &Deadline::after(LONG)).unwrap_err();
    assert!(value(&plugin, "flowplug_instances_made_total").unwrap() > made, "what the old version had counted stays");
    assert_eq!(value(&plugin, "flowplug_instances_max"), Some(4), "what is of the new one alone");
    assert_eq!(value(&plugin, "flowplug_reloads_total"), Some(1));
    assert_eq!(value(&plugin, "flowplug_reload_failures_total"), Some(1));
    ask(&plugin, "command").unwrap();
    assert_eq!(value(&plugin, "flowplug_calls_total"), Some(204));

    plugin.stop(&Deadline::after(LONG)).unwrap();
    ask(&plugin, "command").unwrap_err();
    assert_eq!(value(&plugin, "flowplug_plugin_up"), Some(0));
    assert_eq!(value(&plugin, "flowplug_memory_bytes"), Some(0));
    assert_eq!(value(&plugin, "flowplug_call_errors_total{code=\"invalid_state\"}"), Some(1));
}

#[test]
fn each_series_is_documented_and_no_other() {
    let docs = include_str!("../docs/metrics.md");
    let rows = docs.lines().filter_map(|line| line.strip_prefix("| `")?.split_once(" |"));
    let mut documented: Vec<&str> = rows.flat_map(|(names, _)| names.split("`, `")).map(|name| name.trim_end_matches('`')).collect();
    let text = metrics::text([]);
    let mut declared: Vec<&str> = text.lines().filter_map(|line| line.strip_prefix("# TYPE ")?.split(' ').next()).collect();
    documented.sort_unstable();
    declared.sort_unstable();
    assert_eq!(documented, declared);
}
