//! What a manager says of its plugins: events and the list.

use std::time::SystemTime;

use serde_json::{Map, Value, json};

use crate::manager::Manager;
use crate::manager::entry::Entry;
use crate::plugin::Vitals;

/// `{"type", "time", "plugin"}`, and what else there is to tell.
pub(super) fn event(kind: &str, plugin: &str, more: Value) -> String {
    let mut event = Map::new();
    event.insert("type".into(), kind.into());
    event.insert("time".into(), time(SystemTime::now()).into());
    event.insert("plugin".into(), plugin.into());
    if let Value::Object(more) = more {
        event.extend(more);
    }
    Value::Object(event).to_string()
}

fn time(at: SystemTime) -> String {
    humantime::format_rfc3339_micros(at).to_string()
}

impl Manager {
    /// A line of the list; asks no plugin anything.
    pub(super) fn describe(&self, entry: &Entry) -> Value {
        let (state, last_error, vitals) = entry.standing();
        let number = |of: fn(&Vitals) -> u64| vitals.as_ref().map_or(0, of);
        let row = entry.row();
        let source = row.source.and_then(|n| self.inner.sources.get(n)).map(|source| source.label()).unwrap_or_default();
        let manifest = row.plugin.as_ref().map(|plugin| plugin.manifest()).or_else(|| row.manifest.clone());
        json!({
            "identity": entry.identity,
            "manifest": manifest.as_ref().map(|manifest| manifest.to_json()),
            "state": state.name(),
            "started_at": vitals.as_ref().and_then(|vitals| vitals.started_at).map(time),
            "last_error": last_error,
            "restarts": number(|vitals| vitals.restarts.into()),
            "calls": number(|vitals| vitals.calls),
            "in_flight": number(|vitals| vitals.in_flight),
            "source": source,
            "folder": row.folder.to_string_lossy(),
        })
    }
}
