//! Manifests: one that is taken is the same when it is written out and read again; JSON means what it means as JSON.

use std::path::Path;
use std::time::{Duration, Instant};

use flowplug::error::Kind;
use flowplug::manifest::{self, Manifest};
use serde_json::Value;

/// What no document may take, on the slowest machine with counters in the code.
const LONGEST: Duration = Duration::from_secs(10);

pub(crate) fn check(data: &[u8]) {
    let started = Instant::now();
    taken(data);
    json(data);
    assert!(started.elapsed() < LONGEST, "{:?}", started.elapsed());
}

fn taken(data: &[u8]) {
    let parse = |text: &[u8], strict| Manifest::parse(text, Path::new("/folder"), strict);
    let manifest = match parse(data, false) {
        Ok(manifest) => manifest,
        Err(e) => {
            assert_eq!(e.kind(), Kind::InvalidManifest);
            assert!(!e.message().is_empty() && e.details().get("problems").and_then(Value::as_array).is_some_and(|p| !p.is_empty()));
            parse(data, true).expect_err("strict takes no more");
            return;
        }
    };
    assert_eq!(parse(data, true).is_ok(), manifest.warnings().is_empty(), "{:?}", manifest.warnings());
    let json = manifest.to_json();
    let again = parse(json.to_string().as_bytes(), true).unwrap_or_else(|e| panic!("{e}\n{json}"));
    assert_eq!(again.to_json(), json);
    assert_eq!((&again.name, &again.version, &again.description), (&manifest.name, &manifest.version, &manifest.description));
    assert_eq!((&again.author, again.runtime, &again.provides), (&manifest.author, manifest.runtime, &manifest.provides));
    assert_eq!((&again.grpc, &again.wasm, &again.config_schema), (&manifest.grpc, &manifest.wasm, &manifest.config_schema));
}

/// JSON that YAML's bounds let pass is the same read as YAML.
fn json(data: &[u8]) {
    let Ok(value @ (Value::Object(_) | Value::Array(_))) = serde_json::from_slice::<Value>(data) else { return };
    match manifest::document(&value.to_string().into_bytes()) {
        Ok(read) => assert_eq!(read, value),
        Err(e) => assert!(bounded(&value) || e.message().contains("at most"), "{e}\n{value}"),
    }
    if let Ok(read) = manifest::document(data) {
        assert_eq!(read, value);
    }
}

/// Whether a value has what YAML refuses: a key past its bound, or a NUL.
fn bounded(value: &Value) -> bool {
    match value {
        Value::Object(members) => members.iter().any(|(key, value)| key.len() > 512 || bounded(value)),
        Value::Array(items) => items.iter().any(bounded),
        Value::String(text) => text.contains('\0'),
        _ => false,
    }
}
