//! What a manager says of its plugins: the list.

use serde_json::{Value, json};

use crate::host::event::time;
use crate::manager::Manager;
use crate::manager::entry::Entry;
use crate::plugin::Vitals;

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
