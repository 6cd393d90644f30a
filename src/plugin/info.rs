//! What a plugin says of itself, as JSON.

use std::time::SystemTime;

use serde_json::{Map, Value, json};

use crate::error::Error;
use crate::host::PluginContext;
use crate::manifest::Manifest;
use crate::plugin::State;
use crate::policy::Request;
use crate::runner::Stats;

/// `{"name", "version", "identity", "runtime", "provides", "config_schema", "granted", "requests", "exports"?, "imports"?}`.
pub(super) fn info(
    manifest: &Manifest,
    context: &PluginContext,
    requests: &[Request],
    interface: Option<(Vec<String>, Vec<String>)>,
) -> Value {
    let json = manifest.to_json();
    let mut info = Map::new();
    for name in ["name", "version"] {
        info.insert(name.into(), json.get(name).cloned().unwrap_or_default());
    }
    info.insert("identity".into(), context.identity().into());
    for name in ["runtime", "provides", "config_schema"] {
        info.insert(name.into(), json.get(name).cloned().unwrap_or_default());
    }
    info.insert("granted".into(), context.grants().to_json());
    info.insert("requests".into(), requests.iter().map(Request::to_json).collect());
    if let Some((exports, imports)) = interface {
        info.insert("exports".into(), exports.into());
        info.insert("imports".into(), imports.into());
    }
    Value::Object(info)
}

/// The pool of a module's instances.
pub(super) fn pool(stats: &Stats) -> Value {
    let Stats { max, idle, in_use, waiting, made, ref discarded, waits, busy } = *stats;
    let discarded = json!({"broken": discarded.broken, "grown": discarded.grown, "spent": discarded.spent, "idle": discarded.idle});
    json!({
        "max": max, "idle": idle, "in_use": in_use, "waiting": waiting,
        "made": made, "discarded": discarded, "waits": waits, "busy": busy,
    })
}

/// `{"type", "time", "plugin", "state", "cause"?}`.
pub(super) fn event(kind: &str, identity: &str, state: State, cause: Option<&str>) -> String {
    let mut event = json!({"type": kind, "time": now(), "plugin": identity, "state": state.name()});
    if let (Some(cause), Some(members)) = (cause, event.as_object_mut()) {
        members.insert("cause".into(), cause.into());
    }
    event.to_string()
}

/// `{"type": "crashed", "time", "plugin", "state", "cause", "crash": {"exit_status"? | "signal"?, "stderr"}}`.
pub(super) fn crashed(identity: &str, error: &Error) -> String {
    let (state, crash) = (State::Error.name(), error.details());
    json!({"type": "crashed", "time": now(), "plugin": identity, "state": state, "cause": error.message(), "crash": crash}).to_string()
}

/// `{"type": "reloaded", "time", "plugin", "state", "provides_changed"}`.
pub(super) fn reloaded(identity: &str, provides_changed: bool) -> String {
    let state = State::Running.name();
    json!({"type": "reloaded", "time": now(), "plugin": identity, "state": state, "provides_changed": provides_changed}).to_string()
}

/// `{"type": "audit", "time", "plugin", "audit": {"what", "target", "allowed", "rule"}}`: what became of one wish.
pub(super) fn audit(identity: &str, request: &Request) -> String {
    let audit = json!({"what": request.what, "target": request.asked, "allowed": request.allowed(), "rule": request.rule});
    json!({"type": "audit", "time": now(), "plugin": identity, "audit": audit}).to_string()
}

fn now() -> String {
    humantime::format_rfc3339_micros(SystemTime::now()).to_string()
}
