//! A schema and a config, a NUL between them: an answer in time, the same each time, and the config as it was given.

use std::path::Path;
use std::time::{Duration, Instant};

use flowplug::call::Deadline;
use flowplug::error::Kind;
use flowplug::manifest::Manifest;
use serde_json::{Value, json};

/// What a check may take.
const DEADLINE: Duration = Duration::from_secs(2);
/// What compiling (bounded at 5 s) and two checks may take, with the counters in the code.
const LONGEST: Duration = Duration::from_secs(25);

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
}
