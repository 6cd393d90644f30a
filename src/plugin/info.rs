//! What a plugin says of itself, as JSON.

use std::time::SystemTime;

use serde_json::{Map, Value, json};

use crate::host::PluginContext;
use crate::manifest::Manifest;
use crate::plugin::State;
use crate::policy::Grants;

/// `{"name", "version", "identity", "runtime", "provides", "config_schema", "granted", "exports"?, "imports"?}`.
pub(super) fn info(manifest: &Manifest, context: &PluginContext, interface: Option<(Vec<String>, Vec<String>)>) -> Value {
    let json = manifest.to_json();
    let mut info = Map::new();
    for name in ["name", "version"] {
        info.insert(name.into(), json.get(name).cloned().unwrap_or_default());
    }
    info.insert("identity".into(), context.identity().into());
    for name in ["runtime", "provides", "config_schema"] {
        info.insert(name.into(), json.get(name).cloned().unwrap_or_default());
    }
    info.insert("granted".into(), granted(context.grants()));
    if let Some((exports, imports)) = interface {
        info.insert("exports".into(), exports.into());
        info.insert("imports".into(), imports.into());
    }
    Value::Object(info)
}

/// The bounds in force, in bytes and nanoseconds.
fn granted(grants: &Grants) -> Value {
    let mounts: Vec<Value> =
        grants.mounts.iter().map(|m| json!({"path": m.guest.first(), "mode": if m.writable { "readwrite" } else { "read" }})).collect();
    json!({
        "http": grants.http.iter().map(|p| p.as_str().to_owned()).collect::<Vec<_>>(),
        "http_max_response": grants.http_max_response,
        "filesystem": mounts,
        "memory": grants.memory,
        "timeout_ns": grants.timeout.as_nanos() as u64,
        "max_instances": grants.max_instances,
        "fuel": grants.fuel,
        "result_size": grants.result_size,
        "message_size": grants.message_size,
        "kv": {"key": grants.kv.key, "value": grants.kv.value, "total": grants.kv.total},
        "rates": {"log": grants.rates.log, "event": grants.rates.event, "output": grants.rates.output},
        "tcp": grants.tcp,
    })
}

/// `{"type", "time", "plugin", "state", "cause"?}`.
pub(super) fn event(kind: &str, identity: &str, state: State, cause: Option<&str>) -> String {
    let time = humantime::format_rfc3339_micros(SystemTime::now()).to_string();
    let mut event = json!({"type": kind, "time": time, "plugin": identity, "state": state.name()});
    if let (Some(cause), Some(members)) = (cause, event.as_object_mut()) {
        members.insert("cause".into(), cause.into());
    }
    event.to_string()
}
