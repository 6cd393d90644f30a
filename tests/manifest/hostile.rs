//! Hostile manifests: each is refused with a clear error, in bounded time and memory.
//!
//! Each runs in a process of its own, whose high-water mark the kernel keeps.

use std::process::Command;
use std::time::{Duration, Instant};

use flowplug::call::Deadline;
use flowplug::error::Kind;
use serde_json::{Map, Value, json};

use super::{Manifest, Path};

/// What the children find in their environment: which of the inputs is theirs.
const INDEX: &str = "FLOWPLUG_TEST_HOSTILE";

/// Ten times what a manifest may take, in hundredths of a second of processor time: how busy the machine is does not count.
const TICKS_MAX: u64 = 50;
/// What a manifest may take beyond what the process had.
const MEMORY_MAX_KIB: u64 = 64 * 1024;

fn with_schema(schema: &Value) -> Vec<u8> {
    json!({"name": "n", "runtime": "wasm", "wasm": {"module": "m"}, "config_schema": schema}).to_string().into_bytes()
}

/// A name, the manifest, and what its error says.
fn inputs() -> Vec<(&'static str, Vec<u8>, &'static str)> {
    let mut bomb = "name: n\na0: &a0 [x, x, x, x, x, x, x, x, x]\n".to_owned();
    let mut merges = "name: n\na0: &a0 { k: v }\n".to_owned();
    for i in 1..12 {
        bomb += &format!("a{i}: &a{i} [{}]\n", vec![format!("*a{}", i - 1); 9].join(", "));
        merges += &format!("a{i}: &a{i} {{ <<: [{}] }}\n", vec![format!("*a{}", i - 1); 9].join(", "));
    }
    let doubling = |keyword: &str| {
        let mut definitions = Map::new();
        for i in 0..25 {
            let next = json!({"$ref": format!("#/$defs/d{}", i + 1)});
            definitions.insert(format!("d{i}"), json!({keyword: [next, next]}));
        }
        definitions.insert("d25".to_owned(), json!({"type": "string"}));
        with_schema(&json!({"$defs": definitions, "$ref": "#/$defs/d0"}))
    };
    let deep_schema = format!("{}{}", "{\"not\":".repeat(10_000), "}".repeat(10_000));
    vec![
        ("aliases that multiply", bomb.into_bytes(), "alias"),
        ("merges that multiply", merges.into_bytes(), "parse manifest"),
        ("a long text, many times", format!("author: &a {}\nx: [{}]\n", "t".repeat(700_000), "*a,".repeat(99_000)).into_bytes(), "alias"),
        (
            "double keys at a long place",
            format!("? {}\n: {{{}}}\n", "k".repeat(500_000), "a: 1,".repeat(90_000)).into_bytes(),
            "each key once",
        ),
        ("an alias of itself", b"name: &a [*a]\n".to_vec(), "parse manifest"),
        ("nesting", format!("name: n\nx: {}", "[".repeat(10_000)).into_bytes(), "parse manifest"),
        ("nesting of keys", "? ".repeat(5000).into_bytes(), "parse manifest"),
        ("size", vec![b'a'; 2 << 20], "at most 1 MiB"),
        ("as many keys as fit", (0..118_000).map(|i| format!("{i:x}:\n")).collect::<String>().into_bytes(), "parse manifest"),
        ("300,000 keys", (0..300_000).map(|i| format!("{i}:\n")).collect::<String>().into_bytes(), "at most 1 MiB"),
        ("not UTF-8", b"name: \xff\xfe\n".to_vec(), "UTF-8"),
        ("UTF-16", b"\xff\xfen\0a\0m\0e\0".to_vec(), "UTF-8"),
        ("NUL", b"name: a\0b\n".to_vec(), "parse manifest"),
        ("NUL by an escape", b"name: \"a\\0b\"\nruntime: wasm\nwasm: { module: m }\n".to_vec(), "without NUL"),
        ("several documents", b"name: a\n---\nname: b\n".to_vec(), "parse manifest"),
        ("$refs that double in allOf", doubling("allOf"), "more than 200000 values"),
        ("$refs that double in anyOf", doubling("anyOf"), "more than 200000 values"),
        ("a schema that nests", with_schema(&json!(deep_schema)), "config_schema is invalid"),
        ("a schema of itself", with_schema(&json!({"allOf": [{"$ref": "#"}]})), "leads back to itself"),
        ("a large schema", with_schema(&json!({"description": "x".repeat(300 * 1024)})), "262144 is the most"),
        ("a large pattern", with_schema(&json!({"pattern": "(a{1000}){1000}{1000}"})), "config_schema is invalid"),
    ]
}

/// A field of /proc/self/status, in KiB.
fn status(name: &str) -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix(name)).unwrap();
    line.trim_start_matches(':').trim().trim_end_matches(" kB").parse().unwrap()
}

/// What this process has had of the processor, in hundredths of a second.
fn ticks() -> u64 {
    let stat = std::fs::read_to_string("/proc/self/stat").unwrap();
    let fields: Vec<&str> = stat.rsplit(')').next().unwrap().split_whitespace().collect();
    fields[11].parse::<u64>().unwrap() + fields[12].parse::<u64>().unwrap()
}

/// What a child does: parses one input and says how long that took and what it cost.
fn measure(index: usize) {
    let (_, input, expected) = inputs().swap_remove(index);
    let before = status("VmRSS");
    let (start, used) = (Instant::now(), ticks());
    let error = Manifest::parse(&input, Path::new(""), false).expect_err("it was taken");
    let took = start.elapsed();
    assert_eq!(error.kind(), Kind::InvalidManifest);
    assert!(error.message().contains(expected) && error.message().len() < 20_000, "{error}");
    assert!(!error.details()["problems"].as_array().unwrap().is_empty());
    assert!(ticks() - used < TICKS_MAX, "{took:?}");
    let grown = status("VmHWM").saturating_sub(before);
    assert!(grown < MEMORY_MAX_KIB, "{grown} KiB");
    println!("measured {} us, {grown} KiB", took.as_micros());
}

#[test]
fn hostile_manifests_are_refused_in_time_and_memory() {
    if let Ok(index) = std::env::var(INDEX) {
        return measure(index.parse().unwrap());
    }
    let name = std::thread::current().name().unwrap().to_owned();
    for (index, (input, ..)) in inputs().iter().enumerate() {
        let mut child = Command::new(std::env::current_exe().unwrap());
        child.args(["--exact", &name, "--nocapture", "--test-threads=1"]).env(INDEX, index.to_string());
        let output = child.output().unwrap();
        let told = format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
        assert!(output.status.success() && told.contains("measured "), "{input}: {told}");
        let figures = told.lines().find(|line| line.contains("measured ")).unwrap();
        println!("{input}: {}", figures.rsplit("measured ").next().unwrap());
    }
}

#[test]
fn a_hostile_schema_that_is_taken_ends_with_the_calls_deadline() {
    let twice = json!({"anyOf": [
        {"properties": {"x": {"$ref": "#"}, "y": false}, "required": ["z"]},
        {"properties": {"x": {"$ref": "#"}}, "required": ["w"]},
    ]});
    let config = (0..100).fold("{}".to_owned(), |inner, _| format!("{{\"x\": {inner}}}"));
    let manifest = Manifest::parse(&with_schema(&twice), Path::new(""), true).unwrap();
    let deadline = || Deadline::after(Duration::from_millis(200));
    for fill in [false, true] {
        let start = Instant::now();
        let error = if fill {
            manifest.fill_config(config.as_bytes(), &deadline()).unwrap_err()
        } else {
            manifest.validate_config(config.as_bytes(), &deadline()).unwrap_err()
        };
        assert_eq!(error.kind(), Kind::Timeout, "{error}");
        assert!(start.elapsed() < Duration::from_secs(2), "{:?}", start.elapsed());
    }
}
