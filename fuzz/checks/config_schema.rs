//! A schema and a config, a NUL between them: an answer in time, the same each time, and the config as it was given.

use std::path::Path;
use std::time::{Duration, Instant};

use flowplug::call::Deadline;
use flowplug::error::Kind;
use flowplug::manifest::Manifest;
use serde_json::{Value, json};

/// What a check may take.
const DEADLINE: Duration = Duration::from_secs(2);
/// What compiling (bounded at 5 s) and a few checks may take, with the counters in the code.
const LONGEST: Duration = Duration::from_secs(28);

pub(crate) fn check(data: &[u8]) {
    let (schema, config) = match data.iter().position(|b| *b == 0) {
        Some(at) => (&data[..at], &data[at + 1..]),
        None => (data, &b"{}"[..]),
    };
    let Ok(schema) = serde_json::from_slice::<Value>(schema) else { return };
    let started = Instant::now();
    with(&schema, config);
    assert!(started.elapsed() < LONGEST, "{:?}", started.elapsed());
}

fn with(schema: &Value, config: &[u8]) {
    let document = json!({"name": "n", "runtime": "grpc", "grpc": {"binary": "b"}, "config_schema": schema});
    let manifest = match Manifest::parse(document.to_string().as_bytes(), Path::new(""), true) {
        Ok(manifest) => manifest,
        Err(e) => return assert_eq!(e.kind(), Kind::InvalidManifest),
    };
    let verdict = manifest.validate_config(config, &Deadline::after(DEADLINE));
    match &verdict {
        Ok(value) => {
            let given = serde_json::from_slice(config).unwrap_or(Value::Null);
            assert_eq!(*value, given, "a config is not changed by being checked");
        }
        Err(e) if e.kind() == Kind::InvalidConfig => {
            let violations = e.details().get("violations").and_then(Value::as_array);
            assert!(violations.is_some_and(|v| !v.is_empty()) || e.message().contains("not valid JSON"), "{e}");
        }
        Err(e) => return assert!(matches!(e.kind(), Kind::Timeout | Kind::Busy | Kind::Internal), "{e}"),
    }
    let again = manifest.validate_config(config, &Deadline::after(DEADLINE));
    let settled = !again.as_ref().is_err_and(|e| matches!(e.kind(), Kind::Timeout | Kind::Busy));
    assert!(!settled || again.is_ok() == verdict.is_ok(), "{again:?}");
    filled(&manifest, config);
}

/// A filled config has all that was given, is valid, and has nothing left to fill.
fn filled(manifest: &Manifest, config: &[u8]) {
    let fill = |config: &[u8]| manifest.fill_config(config, &Deadline::after(DEADLINE));
    let text = match fill(config) {
        Ok(text) => text,
        Err(e) => return assert!(matches!(e.kind(), Kind::InvalidConfig | Kind::Timeout | Kind::Busy | Kind::Internal), "{e}"),
    };
    let value: Value = serde_json::from_str(&text).expect("it is JSON");
    if let Ok(given) = serde_json::from_slice(config) {
        assert!(keeps(&given, &value), "{given} became {value}");
    }
    match manifest.validate_config(text.as_bytes(), &Deadline::after(DEADLINE)) {
        Ok(read) => assert_eq!(read, value),
        Err(e) => assert!(matches!(e.kind(), Kind::Timeout | Kind::Busy), "{text}: {e}"),
    }
    match fill(text.as_bytes()) {
        Ok(again) => assert_eq!(again, text),
        Err(e) => assert!(matches!(e.kind(), Kind::Timeout | Kind::Busy), "{text}: {e}"),
    }
}

fn keeps(given: &Value, filled: &Value) -> bool {
    match (given, filled) {
        (Value::Object(given), Value::Object(filled)) => {
            given.iter().all(|(name, value)| filled.get(name).is_some_and(|filled| keeps(value, filled)))
        }
        (Value::Array(given), Value::Array(filled)) => {
            given.len() == filled.len() && given.iter().zip(filled).all(|(given, filled)| keeps(given, filled))
        }
        _ => given == filled,
    }
}
