//! `plugin.yaml` as a JSON Schema, for editors that complete and check it.
//!
//! One table of fields; a test holds it against the parser both ways. What a schema cannot say (a host's own syntax to
//! the letter, a figure past its bound in quotes, a folder that is not there) is left to the parser.

use serde_json::{Map, Value, json};

/// What a field is written as. Null and the empty text are taken beside it, but where it is required.
enum Form {
    Section,
    Sections,
    Text,
    RequiredText,
    Texts,
    Variables,
    Flag,
    Whole(u64),
    Duration,
    Size,
    Host,
    Digest,
    Runtime,
    Choice(&'static [&'static str]),
    Schema,
}

/// A field: its path, its form, its default as JSON (empty: none), and what it is for.
type Field = (&'static str, Form, &'static str, &'static str);

const ENVELOPE: [Field; 18] = [
    ("name", Form::RequiredText, "", "A label for people. The identity comes from where the plugin was found."),
    ("version", Form::Text, r#""""#, "The plugin's own version, as written."),
    ("description", Form::Text, r#""""#, "What the plugin is for."),
    ("author", Form::Text, r#""""#, "Who made it."),
    ("runtime", Form::Runtime, "", "Where it runs: as a process (grpc) or as a WebAssembly module in the sandbox (wasm)."),
    ("provides", Form::Section, "null", "What the plugin implements. Absent or all zero: nothing is gated."),
    ("provides.module", Form::Flag, "false", "command, form, rules, help, bootstrap, input and webservice can be called."),
    ("provides.abilities", Form::Sections, "[]", "Capabilities that it is a backend of."),
    ("provides.abilities[].capability", Form::Text, r#""""#, "The capability, such as bookmark."),
    ("provides.abilities[].operations", Form::Texts, "[]", "The operations that ability_call takes."),
    ("provides.provider", Form::Section, "null", "webhook_convert, oauth_authorize and oauth_callback can be called."),
    ("provides.provider.name", Form::Text, r#""""#, "The service that it speaks for."),
    ("provides.provider.oauth", Form::Flag, "false", "Whether it authorises users by OAuth."),
    ("grpc", Form::Section, "null", "How the process is run; required if runtime is grpc."),
    ("wasm", Form::Section, "null", "How the module is run; required if runtime is wasm."),
    (
        "config_schema",
        Form::Schema,
        "null",
        "The JSON Schema of the plugin's config, as YAML or as a JSON text; draft 2020-12 unless $schema says otherwise. No $ref out of it is followed.",
    ),
    ("wasm.permissions", Form::Section, "null", "What the plugin asks for; the operator's policy says what of it is granted."),
    ("grpc.permissions", Form::Section, "null", "What of the host's services the process may use. It does not bound the process itself."),
];

const GRPC: [Field; 15] = [
    ("grpc.binary", Form::Text, r#""""#, "The program; relative to the manifest's folder. A bare name: that folder first, then PATH."),
    ("grpc.args", Form::Texts, "[]", "Arguments of the program."),
    ("grpc.env", Form::Variables, "{}", "Variables beside the child's minimal environment."),
    ("grpc.permissions.http", Form::Sections, "[]", "Hosts that HTTPRequest may reach; none if empty."),
    ("grpc.permissions.http[].host", Form::Host, r#""""#, "A host or *.suffix, each with an optional :port."),
    ("grpc.permissions.http_max_response", Form::Size, r#""10MB""#, "The most of one HTTP response."),
    ("grpc.start_timeout", Form::Duration, r#""60s""#, "The longest wait for the handshake."),
    ("grpc.call_timeout", Form::Duration, r#""30s""#, "The bound of a call without a deadline of its caller's."),
    ("grpc.restart", Form::Section, "null", "What happens when the process ends unexpectedly."),
    ("grpc.restart.policy", Form::Choice(&["never", "on_failure"]), r#""on_failure""#, "Whether the process is started again."),
    ("grpc.restart.max_restarts", Form::Whole(1_000_000), "5", "How many times in a row; 0 is the default."),
    ("grpc.restart.backoff", Form::Duration, r#""200ms""#, "The wait before the first restart; it grows from there."),
    ("grpc.tls", Form::Choice(&["off", "required"]), r#""off""#, "Whether the connection is encrypted and both ends identified."),
    ("grpc.sha256", Form::Digest, r#""""#, "The program's SHA-256, checked before it is run."),
    ("wasm.sha256", Form::Digest, r#""""#, "The module's SHA-256, checked before it is run."),
];

const WASM: [Field; 17] = [
    ("wasm.module", Form::Text, r#""""#, "The .wasm file; relative to the manifest's folder."),
    ("wasm.pool", Form::Section, "null", "How many instances there are."),
    ("wasm.pool.max_instances", Form::Whole(u32::MAX as u64), "4", "Instances that may live at once; 0 is the default."),
    ("wasm.pool.wait_timeout", Form::Duration, r#""5s""#, "The longest wait for an instance."),
    ("wasm.pool.instance_per_call", Form::Flag, "false", "A fresh instance for every call."),
    (
        "wasm.pool.snapshot",
        Form::Choice(&["off", "strict", "shared_seed"]),
        r#""off""#,
        "Instances begin as copies of one on which _initialize has run: strict without random numbers and clocks, shared_seed with the same of them for all.",
    ),
    ("wasm.permissions.http", Form::Sections, "[]", "Hosts that HTTPRequest may reach; none if empty."),
    ("wasm.permissions.http[].host", Form::Host, r#""""#, "A host or *.suffix, each with an optional :port."),
    ("wasm.permissions.http_max_response", Form::Size, r#""10MB""#, "The most of one HTTP response."),
    ("wasm.permissions.filesystem", Form::Sections, "[]", "Folders that the guest sees; none if empty."),
    ("wasm.permissions.filesystem[].path", Form::Text, r#""""#, "A folder; relative to the manifest's folder. It must exist."),
    ("wasm.permissions.filesystem[].mode", Form::Choice(&["read", "readwrite"]), r#""read""#, "What the guest may do in it."),
    ("wasm.permissions.memory", Form::Section, "null", "A bound on memory."),
    ("wasm.permissions.memory.max", Form::Size, r#""64MB""#, "All linear memories of one instance together, growth included."),
    ("wasm.permissions.execution", Form::Section, "null", "Bounds on one call."),
    ("wasm.permissions.execution.timeout", Form::Duration, r#""30s""#, "Wall clock, waiting and host calls included."),
    ("wasm.permissions.execution.fuel", Form::Whole(i64::MAX as u64), "0", "A deterministic bound beside the timeout; 0 is none."),
];

/// The JSON Schema (draft 2020-12) of `plugin.yaml`. Fields that it does not name are allowed, as the parser allows them.
pub fn schema() -> Value {
    let section = |name: &str, member: &str| {
        json!({
            "if": {"required": ["runtime"], "properties": {"runtime": {"const": name}}},
            "then": {
                "required": [name],
                "properties": {name: {"type": "object", "required": [member], "properties": {member: {"not": {"$ref": "#/$defs/absent"}}}}},
            },
        })
    };
    let mut schema = json!({
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": "flowplug plugin manifest",
        "description": "plugin.yaml: what a plugin is, where it runs, and what it asks for.",
        "type": "object",
        "required": ["name", "runtime"],
        "properties": {},
        "allOf": [section("grpc", "binary"), section("wasm", "module")],
        "$defs": definitions(),
    });
    for (path, form, default, description) in ENVELOPE.iter().chain(&GRPC).chain(&WASM) {
        let (parent, name) = path.rsplit_once('.').unwrap_or(("", path));
        let mut place = "/properties".to_owned();
        for part in parent.split('.').filter(|part| !part.is_empty()) {
            let items = if part.ends_with("[]") { "/items/anyOf/0" } else { "" };
            place += &format!("/{}/anyOf/0{items}/properties", part.trim_end_matches("[]"));
        }
        if let Some(Value::Object(members)) = schema.pointer_mut(&place) {
            members.insert(name.to_owned(), field(form, default, description));
        }
    }
    let folder = "/properties/wasm/anyOf/0/properties/permissions/anyOf/0/properties/filesystem/anyOf/0/items/anyOf/0";
    if let Some(Value::Object(folder)) = schema.pointer_mut(folder) {
        let there = |name: &str| json!({"required": [name], "properties": {name: {"not": {"$ref": "#/$defs/absent"}}}});
        folder.insert("if".to_owned(), there("mode"));
        folder.insert("then".to_owned(), there("path"));
    }
    schema
}

fn field(form: &Form, default: &str, description: &str) -> Value {
    let mut field = Map::new();
    field.insert("description".to_owned(), json!(description));
    if let Ok(default) = serde_json::from_str::<Value>(default) {
        field.insert("default".to_owned(), default);
    }
    match form {
        Form::Runtime => field.insert("enum".to_owned(), json!(["grpc", "wasm"])),
        Form::RequiredText => {
            field.insert("not".to_owned(), json!({"$ref": "#/$defs/absent"}));
            field.insert("$ref".to_owned(), json!("#/$defs/text"))
        }
        _ => field.insert("anyOf".to_owned(), json!([written(form), {"$ref": "#/$defs/absent"}])),
    };
    Value::Object(field)
}

fn written(form: &Form) -> Value {
    let defined = |name: &str| json!({"$ref": format!("#/$defs/{name}")});
    let list = |item: Value| json!({"type": "array", "items": {"anyOf": [item, {"type": "null"}]}});
    match form {
        Form::Section => json!({"type": "object", "properties": {}}),
        Form::Sections => list(json!({"type": "object", "properties": {}})),
        Form::Text | Form::RequiredText => defined("text"),
        Form::Texts => list(defined("text")),
        // A variable that is null is not set.
        Form::Variables => json!({
            "type": "object", "patternProperties": {"^[^=\\u0000]+$": {"anyOf": [defined("text"), {"type": "null"}]}},
            "additionalProperties": {"type": "null"},
        }),
        Form::Flag => json!({"type": "boolean"}),
        Form::Whole(max) => json!({"anyOf": [{"type": "integer", "minimum": 0, "maximum": max}, defined("whole")]}),
        Form::Duration => defined("duration"),
        Form::Size => defined("size"),
        Form::Host => defined("host"),
        Form::Digest => json!({"type": "string", "pattern": "^[0-9A-Fa-f]{64}$"}),
        Form::Runtime => json!({"enum": ["grpc", "wasm"]}),
        Form::Choice(words) => json!({"enum": words}),
        Form::Schema => {
            json!({"anyOf": [{"type": ["object", "boolean"]}, {"type": "string", "pattern": "^\\s*(\\{|true\\s*$|false\\s*$)"}]})
        }
    }
}

fn definitions() -> Value {
    let label = r"[^\s\u0000-\u0020.:/?#@%*<>^|\[\]\\]+";
    json!({
        "absent": absent(),
        "text": {"type": ["string", "number", "boolean"], "pattern": "^[^\\u0000]*$"},
        "whole": {
            "description": "A whole number in quotes, or in another base.",
            "type": "string",
            "pattern": "^[+]?(0[xX][0-9A-Fa-f_]+|0[oO][0-7_]+|0[0-9_]*|0[bB][01_]+|[1-9_][0-9_]*(\\.0*)?([eE][+]?[0-9]+)?)$",
        },
        "duration": duration(),
        "size": size(),
        "host": {"anyOf": [
            {"type": "number"},
            {"type": "string", "pattern": format!(r"^((\*\.)?{label}(\.{label})*\.?|\[[0-9A-Fa-f:.]+\])(:0*[1-9][0-9]{{0,4}})?$")},
        ]},
    })
}

/// Null and the empty text are absent everywhere.
pub(crate) fn absent() -> Value {
    json!({"enum": [null, ""]})
}

pub(crate) fn size() -> Value {
    json!({
        "description": "Bytes, or a number with B, KB, MB or GB (powers of 1024).",
        "anyOf": [
            {"type": "integer", "minimum": 1, "maximum": super::units::SIZE_MAX},
            {"type": "string", "pattern": "^\\s*0*[1-9][0-9]*\\s*([KkMmGg][Ii]?[Bb]|[Bb])?\\s*$"},
        ],
    })
}

pub(crate) fn duration() -> Value {
    json!({
        "description": "A positive duration in Go's syntax, such as 300ms or 1h30m.",
        "type": "string",
        "pattern": "^\\+?(([0-9]+(\\.[0-9]*)?|\\.[0-9]+)(ns|us|\u{b5}s|\u{3bc}s|ms|s|m|h))+$",
        "allOf": [{"pattern": "[1-9]"}],
    })
}
