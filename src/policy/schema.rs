//! The policy as a JSON Schema, for editors and for operators' own checks.

use serde_json::{Map, Value, json};

use crate::manifest::own_schema;

/// The JSON Schema (draft 2020-12) of what [`Policy::parse`](super::Policy::parse) takes. It says everything that a
/// schema can say; hosts, address ranges and figures past their bounds are left to the parser.
pub fn schema() -> Value {
    json!({
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": "flowplug policy",
        "description": "What the operator grants to plugins: a preset for all, or bounds by identity.",
        "anyOf": [
            {"$ref": "#/$defs/absent"},
            {"$ref": "#/$defs/preset"},
            {
                "type": "object",
                "properties": {
                    "default": optional("What a plugin gets that is not named below.", json!({"$ref": "#/$defs/entry"})),
                    "plugins": optional("Bounds by identity.", json!({
                        "type": "object",
                        "propertyNames": {
                            "pattern": "^[A-Za-z0-9._-]+(/[A-Za-z0-9._-]+)*$",
                            "not": {"pattern": "(^|/)\\.\\.?(/|$)"},
                        },
                        "additionalProperties": {"anyOf": [{"$ref": "#/$defs/entry"}, {"$ref": "#/$defs/absent"}]},
                    })),
                },
                "additionalProperties": false,
            },
        ],
        "$defs": {
            "absent": own_schema::absent(),
            "preset": {"enum": ["strict", "trusted"]},
            "mode": {"enum": ["read", "readwrite"]},
            "size": own_schema::size(),
            "duration": own_schema::duration(),
            "entry": {"anyOf": [{"$ref": "#/$defs/preset"}, {"type": "object", "properties": bounds(), "additionalProperties": false}]},
        },
    })
}

fn bounds() -> Value {
    let size = || json!({"$ref": "#/$defs/size"});
    let duration = || json!({"$ref": "#/$defs/duration"});
    let rate = || optional("", json!({"type": "integer", "minimum": 0, "maximum": u32::MAX}));
    let mut bounds = Map::new();
    for (name, description, schema) in [
        ("preset", "Where what is not named here comes from; strict by default.", json!({"$ref": "#/$defs/preset"})),
        (
            "runtimes",
            "Runtimes that are granted. A gRPC plugin is native code with the host's rights.",
            list(json!({"enum": ["wasm", "grpc"]})),
        ),
        (
            "http",
            "Hosts that HTTPRequest may reach: exact, or *.suffix, each with an optional :port.",
            list(json!({"type": "string", "minLength": 1})),
        ),
        (
            "http_private",
            "Address ranges that are not public and may be reached all the same.",
            list(json!({"type": "string", "pattern": "^[0-9A-Fa-f:.]+(/[0-9]{1,3})?$"})),
        ),
        ("http_max_response", "One HTTP response.", size()),
        ("filesystem", "Folders below which mounts are granted.", list(root())),
        ("memory", "Linear memories of one wasm instance together.", size()),
        ("timeout", "Wall clock of one call.", duration()),
        ("max_instances", "Instances of a wasm plugin.", json!({"type": "integer", "minimum": 1, "maximum": u32::MAX})),
        ("fuel", "Fuel of one wasm call; 0 is no bound.", json!({"type": "integer", "minimum": 0})),
        ("result_size", "One answer of a guest.", size()),
        ("message_size", "One gRPC message.", size()),
        ("module_size", "A wasm module.", size()),
        ("module_functions", "Functions of a wasm module.", json!({"type": "integer", "minimum": 1, "maximum": u32::MAX})),
        ("load_timeout", "Loading a plugin.", duration()),
        ("kv", "Stored data.", object(&[("key", optional("", size())), ("value", optional("", size())), ("total", optional("", size()))])),
        ("rates", "What a plugin may emit, per second.", object(&[("log", rate()), ("event", rate()), ("output", rate())])),
        ("tcp", "A plugin that listens on TCP without TLS is taken.", json!({"type": "boolean"})),
        ("require_digest", "The manifest must have the artifact's sha256.", json!({"type": "boolean"})),
    ] {
        bounds.insert(name.to_owned(), optional(description, schema));
    }
    Value::Object(bounds)
}

fn root() -> Value {
    json!({
        "type": "object",
        "properties": {"root": {"type": "string", "pattern": "^/"}, "mode": optional("", json!({"$ref": "#/$defs/mode"}))},
        "required": ["root"],
        "additionalProperties": false,
    })
}

fn object(members: &[(&str, Value)]) -> Value {
    let members: Map<String, Value> = members.iter().map(|(name, schema)| ((*name).to_owned(), schema.clone())).collect();
    json!({"type": "object", "properties": members, "additionalProperties": false})
}

fn list(item: Value) -> Value {
    json!({"type": "array", "items": {"anyOf": [item, {"type": "null"}]}})
}

/// Null and the empty text are absent everywhere.
fn optional(description: &str, schema: Value) -> Value {
    let mut members = Map::new();
    if !description.is_empty() {
        members.insert("description".to_owned(), json!(description));
    }
    members.insert("anyOf".to_owned(), json!([schema, {"$ref": "#/$defs/absent"}]));
    Value::Object(members)
}
