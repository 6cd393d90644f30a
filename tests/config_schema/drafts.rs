//! The drafts of JSON Schema, the formats that are asserted, and the references that are not followed.

use serde_json::{Value, json};

use super::{check, load, violations};

const D4: &str = "http://json-schema.org/draft-04/schema#";
const D6: &str = "http://json-schema.org/draft-06/schema#";
const D7: &str = "http://json-schema.org/draft-07/schema#";
const D2019: &str = "https://json-schema.org/draft/2019-09/schema";
const D2020: &str = "https://json-schema.org/draft/2020-12/schema";

fn verdict(draft: &str, mut schema: Value, config: &Value) -> bool {
    schema["$schema"] = json!(draft);
    check(&schema, &config.to_string()).is_ok()
}

/// In which drafts a schema takes a config, in the order of the drafts.
fn drafts(schema: &Value, config: &Value) -> [bool; 5] {
    [D4, D6, D7, D2019, D2020].map(|draft| verdict(draft, schema.clone(), config))
}

#[test]
fn each_draft_has_its_own_keywords() {
    // A keyword that a draft does not know is ignored there, and so takes everything.
    for (schema, refused, by) in [
        (json!({"const": 1}), json!(2), [false, true, true, true, true]),
        (json!({"contains": {"type": "string"}}), json!([1]), [false, true, true, true, true]),
        (json!({"propertyNames": {"maxLength": 1}}), json!({"ab": 1}), [false, true, true, true, true]),
        (json!({"if": true, "then": false}), json!(1), [false, false, true, true, true]),
        (json!({"dependentRequired": {"a": ["b"]}}), json!({"a": 1}), [false, false, false, true, true]),
        (json!({"unevaluatedProperties": false}), json!({"a": 1}), [false, false, false, true, true]),
        (json!({"contains": {"type": "string"}, "minContains": 2}), json!(["a"]), [false, false, false, true, true]),
        (json!({"prefixItems": [{"type": "string"}]}), json!([1]), [false, false, false, false, true]),
        (json!({"dependencies": {"a": ["b"]}}), json!({"a": 1}), [true, true, true, true, true]),
    ] {
        let took = drafts(&schema, &refused);
        for (draft, (took, knows)) in [D4, D6, D7, D2019, D2020].iter().zip(took.into_iter().zip(by)) {
            if schema.get("dependencies").is_none() || !draft.contains("20") {
                assert_eq!(took, !knows, "{draft}: {schema}");
            }
        }
    }
    assert!(!verdict(D4, json!({"minimum": 5, "exclusiveMinimum": true}), &json!(5)));
    assert!(verdict(D4, json!({"id": "http://example.org/s", "type": "integer"}), &json!(5)));
    // A whole number may be written with a fraction of zero since draft 6.
    assert_eq!(drafts(&json!({"type": "integer"}), &json!(1.0)), [false, true, true, true, true]);
    // Lists of schemas under `items` until 2019-09; what stands beside `$ref` counts since then.
    for draft in [D4, D6, D7, D2019] {
        assert!(!verdict(draft, json!({"items": [{"type": "string"}]}), &json!([1])), "{draft}");
    }
    let beside = json!({"definitions": {"any": {}}, "$ref": "#/definitions/any", "type": "string"});
    assert_eq!(drafts(&beside, &json!(1)), [true, true, true, false, false]);
    assert!(verdict(D2019, json!({"$recursiveAnchor": true, "properties": {"next": {"$recursiveRef": "#"}}}), &json!({"next": {}})));
    let dynamic = json!({"$dynamicAnchor": "node", "type": "object", "additionalProperties": {"$dynamicRef": "#node"}});
    assert!(verdict(D2020, dynamic.clone(), &json!({"a": {"b": {}}})) && !verdict(D2020, dynamic, &json!({"a": 3})));
    // Without `$schema` it is 2020-12.
    assert!(check(&json!({"prefixItems": [{"type": "string"}]}), "[1]").is_err());
}

#[test]
fn the_usual_formats_are_asserted() {
    for (format, good, bad) in [
        ("date", "2020-02-29", "2021-02-29"),
        ("date-time", "2020-01-01T00:00:00Z", "2020-01-01 00:00"),
        ("time", "12:30:00Z", "25:00:00Z"),
        ("duration", "P1DT2H", "1d"),
        ("email", "a@example.com", "a"),
        ("idn-email", "ä@example.com", "@"),
        ("hostname", "example.com", "-a"),
        ("idn-hostname", "bücher.example", "-ü"),
        ("ipv4", "127.0.0.1", "127.1"),
        ("ipv6", "::1", "::g"),
        ("uri", "https://example.com/", "x y"),
        ("uri-reference", "/a?b#c", "\\a"),
        ("iri", "https://bücher.example/", "x y"),
        ("iri-reference", "/ü", "\\ü"),
        ("uri-template", "/a/{b}", "/a/{b"),
        ("uuid", "123e4567-e89b-12d3-a456-426614174000", "123"),
        ("json-pointer", "/a/~0", "/a/~2"),
        ("relative-json-pointer", "1/a", "/a"),
        ("regex", "^a$", "("),
    ] {
        for draft in [D2019, D2020] {
            assert!(verdict(draft, json!({"format": format}), &json!(good)), "{draft} {format} {good}");
            assert!(!verdict(draft, json!({"format": format}), &json!(bad)), "{draft} {format} {bad}");
        }
        let told = check(&json!({"properties": {"x": {"format": format}}}), &json!({"x": bad}).to_string()).unwrap_err();
        assert_eq!(violations(&told), [("/x".to_owned(), "/properties/x/format".to_owned())]);
    }
    for (draft, format, bad) in
        [(D4, "date-time", "x"), (D4, "ipv4", "x"), (D6, "uri-template", "{"), (D7, "time", "x"), (D7, "regex", "(")]
    {
        assert!(!verdict(draft, json!({"format": format}), &json!(bad)), "{draft} {format}");
    }
    // A format that nobody knows asserts nothing.
    assert!(verdict(D2020, json!({"format": "my-own"}), &json!("x")));
}

#[test]
fn only_references_into_the_schema_itself_are_followed() {
    for reference in [
        "https://example.com/x.json",
        "http://127.0.0.1:1/x",
        "file:///etc/hostname",
        "other.json",
        "other.json#/a",
        "/etc/hostname",
        "//host/x",
        "urn:example:x",
    ] {
        for schema in [json!({"$ref": reference}), json!({"properties": {"a": {"items": {"$ref": reference}}}})] {
            let error = load(&schema).expect_err(reference);
            let text = error.message();
            assert!(
                text.contains("config_schema is invalid") && text.contains("nothing is fetched from the network or from files"),
                "{text}"
            );
        }
    }
    let local = json!({"$defs": {"p": {"type": "integer", "maximum": 9}}, "properties": {"port": {"$ref": "#/$defs/p"}}});
    check(&local, r#"{"port": 8}"#).unwrap();
    let told = violations(&check(&local, r#"{"port": 10}"#).unwrap_err());
    assert_eq!(told[0].0, "/port");
    assert!(told[0].1.ends_with("/maximum"), "{told:?}");
}

#[test]
fn each_violation_has_both_paths_however_deep() {
    let schema = json!({
        "type": "object",
        "properties": {"servers": {"type": "array", "items": {"type": "object", "properties": {"port": {"maximum": 9}}, "required": ["host"]}}},
    });
    let mut told = violations(&check(&schema, r#"{"servers": [{"port": 10}, {"host": "a", "port": 11}]}"#).unwrap_err());
    told.sort();
    let item = |rest: &str| format!("/properties/servers/items/{rest}");
    assert_eq!(
        told,
        [
            ("/servers/0".to_owned(), item("required")),
            ("/servers/0/port".to_owned(), item("properties/port/maximum")),
            ("/servers/1/port".to_owned(), item("properties/port/maximum")),
        ]
    );
}
