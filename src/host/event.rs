//! What the library tells the embedding program: events, each a JSON object, and the schema that describes them.

use std::time::SystemTime;

use serde::Serialize;
use serde_json::{Map, Value, json};

/// The members that every event has, and its own after them.
#[derive(Serialize)]
struct Event<'a, M> {
    #[serde(rename = "type")]
    kind: &'a str,
    time: String,
    plugin: &'a str,
    #[serde(flatten)]
    more: &'a M,
}

/// The text of an event: `{"type", "time", "plugin"}`, and the members of `more`, a struct or a JSON object.
pub fn text<M: Serialize>(kind: &str, plugin: &str, at: SystemTime, more: &M) -> String {
    let event = Event { kind, time: time(at), plugin, more };
    // Nothing of it can fail to be written but a map whose keys are no text, and there is none.
    serde_json::to_string(&event).unwrap_or_default()
}

/// A moment as events and lists have it.
pub fn time(at: SystemTime) -> String {
    humantime::format_rfc3339_micros(at).to_string()
}

/// A kind of event: its name, the members that it always has beside `type`, `time` and `plugin`, those that it may have, and
/// when it comes.
type Kind = (&'static str, &'static [&'static str], &'static [&'static str], &'static str);

const KINDS: [Kind; 18] = [
    ("discovered", &[], &[], "A source of a manager has a plugin that was not there before."),
    ("discover_failed", &["cause"], &[], "A source of a manager could not be read. `plugin` is empty."),
    ("loaded", &["state", "load", "seq"], &[], "A module is compiled, or a process has shaken hands; the plugin can be started."),
    ("load_failed", &["cause"], &["state"], "A manager could not load or start a plugin that a source has."),
    ("started", &["state", "load", "seq"], &[], "The plugin has its config and can be called."),
    ("start_failed", &["state", "load", "seq", "cause"], &[], "The plugin refused to start, or could not."),
    ("reloaded", &["state", "load", "seq", "provides_changed"], &["cause"], "Another version of the plugin has taken its place."),
    ("reload_failed", &["state", "cause"], &["load", "seq"], "It could not; what was there before runs on, untouched."),
    ("crashed", &["state", "load", "seq", "cause", "crash"], &[], "A plugin's process ended and nobody had asked it to."),
    ("restarted", &["state", "load", "seq"], &[], "A process that ended was started again, and has its config."),
    ("restart_failed", &["state", "load", "seq", "cause"], &[], "It could not be; the next try is later, or there is none."),
    ("stopping", &["state", "load", "seq"], &["cause"], "New calls are refused; those in flight have until the drain time ends."),
    ("stopped", &["state", "load", "seq"], &["cause"], "Nothing of the plugin runs any more."),
    ("unloaded", &["state"], &["cause"], "A manager has forgotten the plugin."),
    ("disabled", &["cause"], &["state"], "A manager, or a plugin of it, is switched off by its config."),
    ("progress", &["progress"], &[], "Work that takes time has begun, goes on, or is done: `step` says which."),
    ("audit", &["audit"], &[], "The plugin was allowed something, or refused it."),
    ("emitted", &["data"], &[], "The plugin emitted an event, and there is no emit_event callback. `data` is what the plugin says."),
];

/// The JSON Schema (draft 2020-12) of an event, as of this version: a later one may have more kinds and more members.
pub fn schema() -> Value {
    let kinds: Vec<Value> = KINDS.iter().map(kind).collect();
    json!({
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": "flowplug event",
        "description": "What the event callback is given. A later version may have more kinds and more members: read on past what you do not know.",
        "type": "object",
        "oneOf": kinds,
        "$defs": {
            "time": {
                "description": "When it happened, in UTC.",
                "type": "string",
                "pattern": "^[0-9]{4}-[0-9]{2}-[0-9]{2}T[0-9]{2}:[0-9]{2}:[0-9]{2}\\.[0-9]{6}Z$",
            },
            "plugin": {"description": "The identity of the plugin; empty where it is about none.", "type": "string"},
            "state": {"description": "The state of the plugin, after it.", "enum": ["loading", "running", "stopping", "error", "stopped"]},
            "load": number("Which load of a plugin it is about: of two of one identity, the one with the larger number was begun later. A number that no other load in this process has."),
            "seq": number("Which of the changes since that load it is, from 1 on: of two, the one with the larger number happened later, in whatever order they are told."),
            "cause": {"description": "Why, in a sentence.", "type": "string"},
            "provides_changed": {"description": "The new version provides something else than the old.", "type": "boolean"},
            "crash": {
                "description": "How the process ended, by itself or by a signal, and what it printed last to its standard error: all of it from a crash message on, within a bound.",
                "type": "object",
                "properties": {
                    "exit_status": {"type": "integer"},
                    "signal": {"type": "integer"},
                    "stderr": {"type": "array", "items": {"type": "string"}},
                },
                "required": ["stderr"],
                "additionalProperties": false,
            },
            "progress": {
                "type": "object",
                "properties": {
                    "step": {"description": "compile, start, …", "type": "string"},
                    "done": {"type": "integer", "minimum": 0},
                    "total": {"description": "Of so many; 0 where that is not known.", "type": "integer", "minimum": 0},
                },
                "required": ["step", "done", "total"],
                "additionalProperties": false,
            },
            "audit": {
                "type": "object",
                "properties": {
                    "what": {"description": "http, filesystem, kv, event, memory, …", "type": "string"},
                    "target": {"description": "What it was about: a host, a path, a key, a figure.", "type": "string"},
                    "allowed": {"type": "boolean"},
                    "rule": {"description": "What decided: a line of the policy or of the manifest, or a rule that is fixed.", "type": "string"},
                },
                "required": ["what", "target", "allowed", "rule"],
                "additionalProperties": false,
            },
            "data": {"description": "A DataEvent, as the plugin wrote it.", "type": "object"},
        },
    })
}

fn number(description: &str) -> Value {
    json!({"description": description, "type": "integer", "minimum": 1})
}

fn kind((name, always, perhaps, when): &Kind) -> Value {
    let mut properties = Map::from_iter([("type".to_owned(), json!({"const": name}))]);
    let common = ["time", "plugin"];
    for member in common.iter().chain(*always).chain(*perhaps) {
        properties.insert((*member).to_owned(), json!({"$ref": format!("#/$defs/{member}")}));
    }
    let required: Vec<&str> = ["type"].iter().chain(&common).chain(*always).copied().collect();
    json!({"description": when, "properties": properties, "required": required, "additionalProperties": false})
}
