//! Versions that are processes: each has a certificate, and a broker, of its own.

use std::path::Path;
use std::sync::Arc;

use flowplug::call::Deadline;
use flowplug::manifest::Manifest;
use serde_json::json;

use crate::support::{Bench, LONG, call};

fn manifest(more: &str) -> Arc<Manifest> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("target/plugins/fixture-grpc-plain");
    assert!(folder.join("plugin.yaml").exists(), "{} is not there: run `make plugins`", folder.display());
    let text = std::fs::read_to_string(folder.join("plugin.yaml")).unwrap() + more;
    Arc::new(Manifest::parse(text.as_bytes(), &folder, true).unwrap())
}

#[test]
fn each_version_has_a_certificate_and_a_broker_of_its_own() {
    let bench = Bench::new();
    *bench.host.on_config.lock().unwrap() = Some(Arc::new(|_, key| Ok(Some(format!("the {key}").into_bytes()))));
    let plugin = bench.started(&manifest(""), 1);
    let asks = json!({"content": {"ask": "get_config", "key": "address"}}).to_string();
    for (version, more) in [(2, "  tls: required\n"), (3, "  tls: required\n"), (4, "")] {
        let mut answer = Vec::new();
        plugin.call("command", asks.as_bytes(), &call(), &mut answer).unwrap();
        assert_eq!(answer, br#""the address""#, "before version {version}");
        plugin.reload(manifest(more), b"", &call(), &Deadline::after(LONG)).unwrap();
    }
    let mut answer = Vec::new();
    plugin.call("command", asks.as_bytes(), &call(), &mut answer).unwrap();
    assert_eq!(answer, br#""the address""#);
    plugin.stop(&Deadline::after(LONG)).unwrap();
}
