//! Policies: one that is taken is one by its JSON Schema too, and nothing is granted in part without a word.

use std::path::Path;
use std::sync::LazyLock;

use flowplug::error::Kind;
use flowplug::manifest::{self, Manifest};
use flowplug::policy::{self, Policy};
use jsonschema::Validator;
use serde_json::Value;

static SCHEMA: LazyLock<Validator> = LazyLock::new(|| jsonschema::validator_for(&policy::schema()).expect("the schema is one"));

/// It asks for something in each of its fields, none of it a default.
static ASKING: LazyLock<Manifest> = LazyLock::new(|| {
    parsed(
        "{name: n, runtime: wasm, wasm: {module: m, pool: {max_instances: 9}, permissions: {http: [{host: api.example.com}], \
         memory: {max: 65MB}, execution: {timeout: 31s, fuel: 7}}}}",
    )
});
static SILENT: LazyLock<Manifest> = LazyLock::new(|| parsed("{name: n, runtime: wasm, wasm: {module: m}}"));

fn parsed(text: &str) -> Manifest {
    Manifest::parse(text.as_bytes(), Path::new("/folder"), true).expect("it is well-formed")
}

pub(crate) fn check(data: &[u8]) {
    let Ok(value) = manifest::document(data) else { return };
    for read in [Policy::parse, Policy::parse_for_one] {
        match read(&value) {
            Ok(policy) => ["n", "org/reader", "a", "bookmarks"].iter().for_each(|identity| admit(&policy, identity)),
            Err(e) => assert_eq!(e.kind(), Kind::InvalidConfig),
        }
    }
    // A document that is empty is an empty object; the schema has a word for that too.
    if Policy::parse(&value).is_ok() {
        assert!(SCHEMA.is_valid(&value), "{value}: {:?}", SCHEMA.validate(&value));
    }
}

fn admit(policy: &Policy, identity: &str) {
    match policy.admit(identity, &ASKING, &[]) {
        Ok(granted) => {
            assert_eq!((granted.memory, granted.timeout.as_secs(), granted.max_instances), (65 << 20, 31, 9));
            assert_eq!(granted.fuel, Some(7));
            assert!(granted.http.len() == 1 && granted.mounts.is_empty());
        }
        Err(e) => {
            assert_eq!(e.kind(), Kind::PermissionDenied);
            assert!(e.details().get("denials").and_then(Value::as_array).is_some_and(|denials| !denials.is_empty()));
        }
    }
    match policy.admit(identity, &SILENT, &[]) {
        Ok(granted) => {
            assert!(granted.memory <= 64 << 20 && granted.timeout.as_secs() <= 30 && (1..=4).contains(&granted.max_instances));
            assert!(granted.http.is_empty() && granted.mounts.is_empty());
        }
        // What asks for nothing can lack the runtime, or the digest that is required.
        Err(e) => assert_eq!(e.kind(), Kind::PermissionDenied),
    }
}
