//! What a plugin says of itself, as JSON.

use std::time::SystemTime;

use serde_json::{Map, Value, json};

use crate::error::Error;
use crate::host::{PluginContext, event};
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

/// When something happened to the plugin: taken under the lock under which it did.
#[derive(Clone, Copy, Debug)]
pub(super) struct Moment {
    /// Of two loads, the later one's is larger.
    pub(super) load: u64,
    /// Of two within one load, the later one's is larger.
    pub(super) seq: u64,
    pub(super) at: SystemTime,
    /// Where the plugin stood from then on.
    pub(super) state: State,
}

impl Moment {
    /// `{"type", "time", "plugin", "state", "load", "seq", …}`.
    fn event(&self, kind: &str, identity: &str, more: Value) -> String {
        let mut own = json!({"state": self.state.name(), "load": self.load, "seq": self.seq});
        if let (Value::Object(more), Some(members)) = (more, own.as_object_mut()) {
            members.extend(more);
        }
        event::text(kind, identity, self.at, &own)
    }
}

/// `{…, "cause"?}`.
pub(super) fn event(moment: &Moment, kind: &str, identity: &str, cause: Option<&str>) -> String {
    moment.event(kind, identity, cause.map_or_else(|| json!({}), |cause| json!({ "cause": cause })))
}

/// `{…, "cause", "crash": {"exit_status"? | "signal"?, "stderr"}}`.
pub(super) fn crashed(moment: &Moment, identity: &str, error: &Error) -> String {
    moment.event("crashed", identity, json!({"cause": error.message(), "crash": error.details()}))
}

/// `{…, "provides_changed"}`.
pub(super) fn reloaded(moment: &Moment, identity: &str, provides_changed: bool) -> String {
    moment.event("reloaded", identity, json!({ "provides_changed": provides_changed }))
}

/// `{"type": "audit", …, "audit": {"what", "target", "allowed", "rule"}}`: what became of one wish.
pub(super) fn audit(identity: &str, request: &Request) -> String {
    let audit = json!({"what": request.what, "target": request.asked, "allowed": request.allowed(), "rule": request.rule});
    event::text("audit", identity, SystemTime::now(), &json!({ "audit": audit }))
}
