//! A config filled from the defaults of its schema.

use std::time::Duration;

use flowplug::call::Deadline;
use flowplug::error::{Error, Kind};
use serde_json::{Value, json};

use super::{load, violations};

fn fill(schema: &Value, config: &str) -> Result<String, Error> {
    load(schema).unwrap_or_else(|e| panic!("{e}")).fill_config(config.as_bytes(), &Deadline::after(Duration::from_secs(60)))
}

#[track_caller]
fn filled(schema: &Value, config: &str, expected: &Value) {
    let text = fill(schema, config).unwrap_or_else(|e| panic!("{schema}: {e}"));
    assert_eq!(&serde_json::from_str::<Value>(&text).unwrap(), expected, "{schema} {config}");
    // What is filled stays as it is.
    assert_eq!(fill(schema, &text).unwrap(), text);
}

#[test]
fn missing_members_have_their_defaults() {
    let schema = json!({
        "type": "object",
        "properties": {
            "host": {"type": "string", "default": "localhost"},
            "port": {"type": "integer", "default": 80},
            "tls": {"type": "object", "default": {}, "properties": {"on": {"default": true}, "name": {}}},
            "deep": {"type": "object", "properties": {"x": {"default": 1}}},
            "nothing": {"default": null},
        },
    });
    let tls = json!({"on": true});
    filled(&schema, "{}", &json!({"host": "localhost", "port": 80, "tls": tls, "nothing": null}));
    filled(&schema, "", &json!({"host": "localhost", "port": 80, "tls": tls, "nothing": null}));
    filled(&schema, r#"{"deep": {}, "port": 1}"#, &json!({"deep": {"x": 1}, "port": 1, "host": "localhost", "tls": tls, "nothing": null}));
    // A null and an empty text are values.
    filled(&schema, r#"{"host": "", "nothing": 3}"#, &json!({"host": "", "nothing": 3, "port": 80, "tls": tls}));
    let error = fill(&schema, r#"{"host": null}"#).unwrap_err();
    assert_eq!(violations(&error), [("/host".to_owned(), "/properties/host/type".to_owned())]);
}

#[test]
fn defaults_come_through_items_references_and_all_of() {
    let item = json!({"type": "object", "properties": {"mode": {"default": "read"}}});
    filled(&json!({"items": item}), r#"[{}, {"mode": "w"}, 3]"#.replace(", 3", "").as_str(), &json!([{"mode": "read"}, {"mode": "w"}]));
    filled(
        &json!({"prefixItems": [item], "items": {"properties": {"x": {"default": 1}}}}),
        "[{}, {}]",
        &json!([{"mode": "read"}, {"x": 1}]),
    );
    let old = json!({"$schema": "http://json-schema.org/draft-07/schema#", "items": [item], "additionalItems": {"properties": {"x": {"default": 1}}}});
    filled(&old, "[{}, {}]", &json!([{"mode": "read"}, {"x": 1}]));
    filled(&json!({"additionalProperties": item}), r#"{"a": {}}"#, &json!({"a": {"mode": "read"}}));
    let local = json!({"$defs": {"port": {"default": 80}, "entry": item}, "properties": {"p": {"$ref": "#/$defs/port"}, "e": {"$ref": "#/$defs/entry", "default": {}}}});
    filled(&local, "{}", &json!({"p": 80, "e": {"mode": "read"}}));
    let anchored = json!({"$defs": {"p": {"$anchor": "port", "default": 80}}, "properties": {"p": {"$ref": "#port"}}});
    filled(&anchored, "{}", &json!({"p": 80}));
    filled(
        &json!({"allOf": [{"properties": {"a": {"default": 1}}}, {"properties": {"a": {"default": 2}, "b": {"default": 3}}}]}),
        "{}",
        &json!({"a": 1, "b": 3}),
    );
    filled(&json!({"properties": {"a": {"allOf": [{"type": "integer"}, {"default": 7}]}}}), "{}", &json!({"a": 7}));
    // A reference stands alone in the older drafts.
    let beside =
        |draft: &str| json!({"$schema": draft, "definitions": {"p": {}}, "properties": {"p": {"$ref": "#/definitions/p", "default": 1}}});
    filled(&beside("http://json-schema.org/draft-07/schema#"), "{}", &json!({}));
    filled(&beside("https://json-schema.org/draft/2019-09/schema"), "{}", &json!({"p": 1}));
    let members = json!({"$schema": "http://json-schema.org/draft-04/schema#", "definitions": {"o": {}}, "properties": {"o": {"$ref": "#/definitions/o", "properties": {"x": {"default": 1}}}}});
    filled(&members, r#"{"o":{}}"#, &json!({"o": {}}));
    filled(&json!({"$schema": "https://json-schema.org/draft/2019-09/schema", "items": item}), "[{}]", &json!([{"mode": "read"}]));
    // A tree that refers to itself is filled as deep as the config goes.
    let tree = json!({"properties": {"name": {"default": "?"}, "child": {"$ref": "#"}}});
    filled(&tree, r#"{"child": {"child": {}}}"#, &json!({"child": {"child": {"name": "?"}, "name": "?"}, "name": "?"}));
}

#[test]
fn nothing_is_filled_where_a_branch_may_not_be_meant() {
    let branch = json!({"properties": {"a": {"default": 1}}});
    for schema in [
        json!({"anyOf": [branch]}),
        json!({"oneOf": [branch]}),
        json!({"if": branch, "then": branch}),
        json!({"not": {"type": "null", "properties": {"a": {"default": 1}}}}),
        json!({"dependentSchemas": {"x": branch}}),
        json!({"patternProperties": {"^x": {"properties": {"a": {"default": 1}}}}, "additionalProperties": {"properties": {"a": {"default": 1}}}}),
        json!({"properties": {"x": {"anyOf": [{"default": {}}]}}}),
        json!({"items": {"default": 1}}),
    ] {
        for config in [r#"{"x":{}}"#, "{}", "[]"] {
            assert_eq!(fill(&schema, config).unwrap(), config, "{schema}");
        }
    }
}

#[test]
fn an_absent_config_starts_from_what_the_schema_says() {
    filled(&json!({"type": "object", "default": {"a": 1}, "properties": {"b": {"default": 2}}}), " ", &json!({"a": 1, "b": 2}));
    filled(&json!({"properties": {"b": {"default": 2}}}), "", &Value::Null);
    filled(&json!({"type": "string", "default": "x"}), "", &json!("x"));
    filled(&json!({"type": "object", "properties": {"b": {"default": 2}}}), "\n", &json!({"b": 2}));
    assert_eq!(fill(&json!({"type": "string"}), "").unwrap_err().kind(), Kind::InvalidConfig);
    assert_eq!(fill(&json!({"type": "object", "required": ["a"]}), "").unwrap_err().kind(), Kind::InvalidConfig);
    let without =
        flowplug::manifest::Manifest::parse(b"name: n\nruntime: wasm\nwasm: { module: m }", std::path::Path::new(""), true).unwrap();
    let never = Deadline::never();
    assert_eq!(without.fill_config(b"", &never).unwrap(), "null");
    assert_eq!(without.fill_config(b" { \"a\": 1e2 } ", &never).unwrap(), "{ \"a\": 1e2 }");
    assert_eq!(without.fill_config(b"{", &never).unwrap_err().kind(), Kind::InvalidConfig);
}

#[test]
fn what_was_given_keeps_its_text() {
    let schema = json!({"properties": {"new": {"default": 1}, "in": {"properties": {"new": {"default": [1]}}}, "list": {"items": {"properties": {"new": {"default": ""}}}}}});
    let config = r#"{ "n": 12345678901234567890123, "f": 1.10, "in": {"e": 1E+2, "t": "\u0041"}, "list": [ {"x": 0.10}, {"new": 1.0} ] }"#;
    assert_eq!(
        fill(&schema, config).unwrap(),
        r#"{"n":12345678901234567890123,"f":1.10,"in":{"e":1E+2,"t":"\u0041","new":[1]},"list":[{"x":0.10,"new":""},{"new": 1.0}],"new":1}"#
    );
    // Of two members of one name the last counts, and stays the only one.
    assert_eq!(fill(&schema, r#"{"n": 1, "n": 2.50}"#).unwrap(), r#"{"n":2.50,"new":1}"#);
}

#[test]
fn defaults_that_do_not_fit_or_never_end_are_errors() {
    let error = fill(&json!({"type": "object", "properties": {"port": {"type": "integer", "default": "80"}}}), "{}").unwrap_err();
    assert_eq!(violations(&error), [("/port".to_owned(), "/properties/port/type".to_owned())]);
    let endless = json!({"properties": {"next": {"$ref": "#", "default": {}}}});
    let error = fill(&endless, "{}").unwrap_err();
    assert_eq!(error.kind(), Kind::InvalidConfig);
    assert!(
        error.message().contains("plugin config cannot be filled: the defaults of config_schema would nest it more than 127 deep"),
        "{error}"
    );
    let twofold = json!({"properties": {"a": {"$ref": "#", "default": {}}, "b": {"$ref": "#", "default": {}}}});
    assert_eq!(fill(&twofold, "{}").unwrap_err().kind(), Kind::InvalidConfig);
    let large = json!({"items": {"properties": {"x": {"default": "y".repeat(100_000)}}}});
    let error = fill(&large, &format!("[{}]", vec!["{}"; 100].join(","))).unwrap_err();
    assert!(error.message().contains("would add more than 1048576 bytes"), "{error}");
    let wide: Value = (0..200).map(|_| json!({"properties": {"x": {"allOf": [{"type": "object"}]}}})).collect();
    let error = fill(&json!({"items": {"allOf": wide}}), &format!("[{}]", vec![r#"{"x":{}}"#; 5_000].join(","))).unwrap_err();
    assert!(error.message().contains("steps"), "{error}");
}
