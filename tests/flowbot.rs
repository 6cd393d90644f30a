//! The same as flowbot: manifests, configs and durations beside what flowbot's code makes of them.
//!
//! `tests/flowbot/` says where the answers come from. A case whose answer is another one here names its reason, which
//! is a row of docs/differences.md; a reason that is none any more fails too.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    missing_docs,
    reason = "a test fails by panicking"
)]

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;
use std::path::{Path, PathBuf};

use flowplug::call::Deadline;
use flowplug::error::Kind;
use flowplug::manifest::Manifest;
use serde_json::{Value, json};

#[path = "flowbot/durations.rs"]
mod durations;

struct Case {
    id: String,
    reason: Option<String>,
    body: Vec<u8>,
    flowbot: Value,
}

fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/flowbot/corpus")
}

/// The cases of `<name>.txt`, each with flowbot's answer of `<name>.jsonl`; cases.go reads the same files.
fn cases(name: &str) -> Vec<Case> {
    let text = std::fs::read_to_string(folder().join(format!("{name}.txt"))).unwrap();
    let answers = std::fs::read_to_string(folder().join(format!("{name}.jsonl"))).unwrap();
    let mut answers: BTreeMap<String, Value> = answers
        .lines()
        .map(|line| serde_json::from_str::<Value>(line).unwrap())
        .map(|answer| (answer["id"].as_str().unwrap().to_owned(), answer["flowbot"].clone()))
        .collect();
    let mut cases = Vec::new();
    for part in format!("\n{}", text.strip_suffix('\n').unwrap()).split("\n=== ").skip(1) {
        let (head, body) = part.split_once('\n').map_or((part, String::new()), |(head, body)| (head, format!("{body}\n")));
        let (words, reason) = head.split_once(" because ").map_or((head, None), |(words, reason)| (words, Some(reason.to_owned())));
        let mut words = words.split(' ');
        let id = words.next().unwrap().to_owned();
        let body = words.fold(body.into_bytes(), changed);
        let flowbot = answers.remove(&id).unwrap_or_else(|| panic!("{id} has no answer"));
        cases.push(Case { id, reason, body, flowbot });
    }
    assert!(answers.is_empty(), "answers to no case: {answers:?}");
    cases
}

fn changed(body: Vec<u8>, word: &str) -> Vec<u8> {
    let text = String::from_utf8(body).unwrap();
    match word {
        "open" => text.strip_suffix('\n').unwrap().as_bytes().to_vec(),
        "crlf" => text.replace('\n', "\r\n").into_bytes(),
        "cr" => text.replace('\n', "\r").into_bytes(),
        "bom" => format!("\u{feff}{text}").into_bytes(),
        "latin1" => text.chars().map(|c| u8::try_from(c).unwrap()).collect(),
        "nul" => text.replace('␀', "\0").into_bytes(),
        "tabs" => text.replace('→', "\t").into_bytes(),
        _ => panic!("nobody knows the word {word:?}"),
    }
}

/// What a manifest comes to here, in the shape of flowbot's answer.
fn answer(text: &[u8]) -> Value {
    let manifest = match Manifest::parse(text, Path::new(""), false) {
        Ok(manifest) => manifest,
        Err(e) => return json!({"refused": e.message()}),
    };
    let json = manifest.to_json();
    let grpc = manifest.grpc.as_ref().map(|grpc| json!({"binary": grpc.binary, "args": grpc.args}));
    let wasm = manifest.wasm.as_ref().map(|wasm| {
        json!({
            "module": wasm.module, "max_instances": wasm.max_instances, "memory": wasm.memory_max,
            "wait_timeout": wasm.wait_timeout.as_nanos() as u64, "timeout": wasm.timeout.as_nanos() as u64,
            "http": wasm.http.iter().map(|pattern| pattern.as_str()).collect::<Vec<_>>(),
            "filesystem": json["wasm"]["permissions"]["filesystem"],
        })
    });
    json!({
        "name": manifest.name, "version": manifest.version, "description": manifest.description, "author": manifest.author,
        "runtime": manifest.runtime.name(), "provides": json["provides"], "config_schema": manifest.config_schema,
        "grpc": grpc, "wasm": wasm,
    })
}

/// Whether both refuse, or both say the same.
fn same(flowbot: &Value, ours: &Value) -> bool {
    match (flowbot.get("refused").and_then(Value::as_str), ours.get("refused").and_then(Value::as_str)) {
        // The text of flowbot's check that failed stands in the error, unless the document is worse off than flowbot saw.
        (Some(check), Some(message)) => message.contains(check) || message.contains("parse manifest") || check == "parse manifest",
        (None, None) => flowbot == ours,
        _ => false,
    }
}

/// The reasons that docs/differences.md knows: the first column of its last table.
fn documented() -> BTreeSet<String> {
    let docs = std::fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/differences.md")).unwrap();
    let (_, table) = docs.split_once("\n| reason | flowbot | here | why |\n|---|---|---|---|\n").unwrap();
    table.lines().map_while(|line| line.strip_prefix("| ")?.split_once(" | ")).map(|(reason, _)| reason.to_owned()).collect()
}

/// Holds each case against flowbot's answer, and counts by reason: what flowbot alone takes, what is taken here alone, the rest.
fn compare(name: &str, ours: impl Fn(&[u8]) -> Value, same: impl Fn(&Value, &Value) -> bool) -> BTreeMap<String, [usize; 3]> {
    let (mut wrong, mut counts) = (String::new(), BTreeMap::new());
    for case in cases(name) {
        let ours = ours(&case.body);
        let who = match (case.flowbot.get("refused"), ours.get("refused")) {
            (None, Some(_)) => 0,
            (Some(_), None) => 1,
            _ => 2,
        };
        let reason = match (same(&case.flowbot, &ours), case.reason) {
            (true, None) => "the same".to_owned(),
            (false, Some(reason)) => reason,
            (true, Some(reason)) => {
                writeln!(wrong, "{}: is the same, and has a reason to differ: {reason}", case.id).unwrap();
                continue;
            }
            (false, None) => {
                writeln!(wrong, "{}:\n  flowbot {}\n  here    {ours}", case.id, case.flowbot).unwrap();
                continue;
            }
        };
        let count: &mut [usize; 3] = counts.entry(reason).or_default();
        count[who] += 1;
    }
    assert!(wrong.is_empty(), "\n{wrong}");
    counts
}

/// Manifests come to what they come to in flowbot, configs are judged as there, and the table of results is today's.
#[test]
fn what_differs_has_its_reason_and_stands_in_the_table_of_results() {
    let manifests = compare("manifests", answer, same);
    let schemas = compare("configs", judged, |flowbot, ours| flowbot == ours);
    let total = |counts: &BTreeMap<String, [usize; 3]>| counts.values().flatten().sum::<usize>();
    assert!(total(&manifests) >= 500 && total(&schemas) >= 150);
    let mut table = String::new();
    for (reason, [flowbot, here, both]) in &manifests {
        writeln!(table, "| {reason} | {flowbot} | {here} | {both} | |").unwrap();
    }
    for (reason, [_, _, judged]) in &schemas {
        writeln!(table, "| {reason} | | | | {judged} |").unwrap();
    }
    let docs = std::fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/evidence.md")).unwrap();
    assert!(docs.contains(&format!("---|\n{table}\n")), "docs/evidence.md has another table than\n{table}");
}

/// The schema for editors takes what the parser takes.
#[test]
fn what_is_taken_is_valid_by_the_schema_of_manifests() {
    let validator = jsonschema::draft202012::options().should_validate_formats(true).build(&flowplug::manifest::schema()).unwrap();
    let mut taken = 0;
    for case in cases("manifests") {
        // A document may hold what JSON cannot say (`.inf`) where nobody reads it.
        let Ok(document) = flowplug::manifest::document(&case.body) else { continue };
        if Manifest::parse(&case.body, Path::new(""), false).is_ok() {
            taken += 1;
            let errors: Vec<String> = validator.iter_errors(&document).map(|e| format!("{}: {e}", e.instance_path())).collect();
            assert!(errors.is_empty(), "{}: {errors:?}", case.id);
        }
    }
    assert!(taken > 250, "{taken}");
}

/// What each config, a line, is by the schema in the first line.
fn judged(text: &[u8]) -> Value {
    let text = std::str::from_utf8(text).unwrap().trim_end_matches('\n');
    let (schema, configs) = text.split_once('\n').unwrap();
    let manifest = json!({"name": "n", "runtime": "grpc", "grpc": {"binary": "b"}, "config_schema": schema});
    let parsed = Manifest::parse(manifest.to_string().as_bytes(), Path::new(""), true);
    let judge = |config: &str| {
        let config = if config == "-" { "" } else { config };
        let Ok(manifest) = &parsed else { return "invalid schema" };
        match manifest.validate_config(config.as_bytes(), &Deadline::never()) {
            Ok(_) => "valid",
            Err(e) if e.message().contains("not valid JSON") => "not JSON",
            Err(e) if e.kind() == Kind::InvalidConfig => "invalid config",
            Err(e) => panic!("{e}"),
        }
    };
    configs.split('\n').map(judge).collect()
}

#[test]
fn every_reason_to_differ_is_documented_and_used() {
    let used: BTreeSet<String> = ["manifests", "configs"].into_iter().flat_map(cases).filter_map(|case| case.reason).collect();
    assert_eq!(used, documented());
}
