//! The committed schema of events.

use std::sync::LazyLock;

/// Every event is what the committed schema says.
pub(crate) fn check_event(event: &str) {
    static SCHEMA: LazyLock<jsonschema::Validator> = LazyLock::new(|| {
        let schema = std::fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/include/event.schema.json")).unwrap();
        jsonschema::validator_for(&serde_json::from_str(&schema).unwrap()).unwrap()
    });
    let parsed = serde_json::from_str(event).unwrap();
    let problems: Vec<String> = SCHEMA.iter_errors(&parsed).map(|e| e.to_string()).collect();
    assert!(problems.is_empty(), "{event}: {problems:?}");
}
