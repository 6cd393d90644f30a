//! What of a schema is refused before it is compiled: size, depth, references that multiply, that leave the schema or
//! that lead back to themselves without a step into the config.

use std::collections::{HashMap, HashSet};

use serde_json::Value;

use crate::manifest::schema::references::References;

/// The largest schema as compact JSON, in bytes.
const SIZE_MAX: usize = 256 * 1024;
/// How deep a schema may nest, references followed.
const DEPTH_MAX: usize = 128;
/// How many values a schema may have, references followed.
const EXPANSION_MAX: u64 = 200_000;

/// Keywords whose members are schemas under names of the author's.
const MAPS: [&str; 6] = ["properties", "patternProperties", "$defs", "definitions", "dependentSchemas", "dependencies"];
/// Keywords whose values are data, not schemas.
const DATA: [&str; 4] = ["enum", "const", "default", "examples"];
/// Keywords that apply schemas to the same value of the config.
const IN_PLACE: [&str; 9] = ["allOf", "anyOf", "oneOf", "not", "if", "then", "else", "dependentSchemas", "dependencies"];
const REFERENCES: [&str; 3] = ["$ref", "$dynamicRef", "$recursiveRef"];
/// Keywords whose cost is not bounded by the schema's size times the config's.
const COSTLY: [&str; 5] = ["pattern", "patternProperties", "unevaluatedProperties", "unevaluatedItems", "uniqueItems"];

/// Refuses a schema that is out of bounds. True: it has no reference and no costly keyword at all.
pub(super) fn check(schema: &Value) -> Result<bool, String> {
    if !matches!(schema, Value::Object(_) | Value::Bool(_)) {
        return Err("a schema is a mapping, true or false".to_owned());
    }
    let size = schema.to_string().len();
    if size > SIZE_MAX {
        return Err(format!("it has {size} bytes as JSON; {SIZE_MAX} is the most"));
    }
    let references = References::new(schema);
    let mut walk = Walk { root: schema, references, weights: HashMap::new(), settled: HashSet::new(), open: HashSet::new(), plain: true };
    if walk.references.own_id().is_some_and(|id| id.to_ascii_lowercase().contains("json-schema.org")) {
        return Err("its $id is that of a metaschema; give it one of its own".to_owned());
    }
    walk.collect(schema);
    let (weight, _) = walk.weigh(schema, 0)?;
    if weight > EXPANSION_MAX {
        return Err(format!("with its references followed it has more than {EXPANSION_MAX} values"));
    }
    walk.loops(schema)?;
    Ok(walk.plain)
}

/// Values are told apart by their addresses: the tree does not move while it is walked.
struct Walk<'a> {
    root: &'a Value,
    references: References<'a>,
    weights: HashMap<*const Value, (u64, usize)>,
    settled: HashSet<*const Value>,
    open: HashSet<*const Value>,
    plain: bool,
}

impl<'a> Walk<'a> {
    /// Notes the keywords.
    fn collect(&mut self, schema: &'a Value) {
        if let Value::Object(members) = schema {
            self.plain &= !members.keys().any(|key| REFERENCES.contains(&key.as_str()) || COSTLY.contains(&key.as_str()));
        }
        for child in children(schema) {
            self.collect(child);
        }
    }

    /// Whether a schema inside this one has an identity of its own: what a reference means would depend on where it stands.
    fn has_identity(&self, schema: &Value) -> bool {
        let Value::Object(members) = schema else { return false };
        if std::ptr::eq(schema, self.root) {
            return false;
        }
        let draft_4 = self.references.is_draft(&["draft-04"]);
        members.get("$id").is_some_and(Value::is_string) || (draft_4 && members.get("id").is_some_and(Value::is_string))
    }

    /// How many values a schema comes to and how deep it nests, references followed, recursion once.
    fn weigh(&mut self, schema: &'a Value, depth: usize) -> Result<(u64, usize), String> {
        if depth > DEPTH_MAX {
            return Err(too_deep());
        }
        if let Some(known) = self.weights.get(&std::ptr::from_ref(schema)) {
            if depth + known.1 > DEPTH_MAX {
                return Err(too_deep());
            }
            return Ok(*known);
        }
        if self.has_identity(schema) {
            return Err("a schema inside it has an $id of its own; only the whole schema may have one".to_owned());
        }
        // What leads back here while this is being weighed counts as one.
        self.weights.insert(schema, (1, 0));
        let (mut weight, mut height) = (1_u64, 0);
        for child in children(schema).into_iter().chain(self.targets(schema)?) {
            let (child_weight, child_height) = self.weigh(child, depth + 1)?;
            weight = weight.saturating_add(child_weight);
            height = height.max(child_height + 1);
        }
        self.weights.insert(schema, (weight, height));
        Ok((weight, height))
    }

    /// Refuses references that lead back to the same schema for the same value of the config: they never end.
    fn loops(&mut self, schema: &'a Value) -> Result<(), String> {
        for child in children(schema) {
            self.loops(child)?;
        }
        self.enter(schema, 0)
    }

    fn enter(&mut self, schema: &'a Value, depth: usize) -> Result<(), String> {
        if self.settled.contains(&std::ptr::from_ref(schema)) {
            return Ok(());
        }
        if depth > DEPTH_MAX {
            return Err(too_deep());
        }
        if !self.open.insert(schema) {
            return Err("a $ref leads back to itself without a step into the config".to_owned());
        }
        for next in self.targets(schema)?.into_iter().chain(in_place(schema)) {
            self.enter(next, depth + 1)?;
        }
        self.open.remove(&std::ptr::from_ref(schema));
        self.settled.insert(schema);
        Ok(())
    }

    fn targets(&self, schema: &'a Value) -> Result<Vec<&'a Value>, String> {
        let references = REFERENCES.iter().filter_map(|name| schema.get(name).and_then(Value::as_str));
        let mut targets = Vec::new();
        for reference in references {
            targets.extend(self.references.resolve(reference)?);
        }
        Ok(targets)
    }
}

fn too_deep() -> String {
    format!("with its references followed it is nested more than {DEPTH_MAX} deep")
}

/// The schemas directly inside a value.
pub(super) fn children(schema: &Value) -> Vec<&Value> {
    match schema {
        Value::Array(items) => items.iter().collect(),
        Value::Object(members) => {
            let mut found = Vec::new();
            for (key, value) in members {
                match value {
                    Value::Object(named) if MAPS.contains(&key.as_str()) => found.extend(named.values()),
                    _ if DATA.contains(&key.as_str()) => {}
                    _ => found.push(value),
                }
            }
            found
        }
        _ => Vec::new(),
    }
}

fn in_place(schema: &Value) -> Vec<&Value> {
    let mut found = Vec::new();
    for name in IN_PLACE {
        match schema.get(name) {
            Some(Value::Array(items)) => found.extend(items),
            Some(Value::Object(named)) if MAPS.contains(&name) => found.extend(named.values().filter(|value| value.is_object())),
            Some(one) => found.push(one),
            None => {}
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn refused(schema: &Value) -> String {
        check(schema).expect_err(&schema.to_string())
    }

    #[test]
    fn honest_schemas_pass() {
        for (schema, plain) in [
            (
                json!({"type": "object", "properties": {"id": {"type": "string"}, "$ref": {"type": "string"}, "const": {"enum": [{"$ref": "#/x"}]}}}),
                true,
            ),
            (json!({"type": "object", "properties": {"next": {"$ref": "#"}}}), false),
            (json!({"$defs": {"tree": {"items": {"$ref": "#/$defs/tree"}}}, "$ref": "#/$defs/tree"}), false),
            (json!({"$defs": {"a b": {"$anchor": "here"}}, "allOf": [{"$ref": "#here"}, {"$ref": "#/$defs/a%20b"}]}), false),
            (
                json!({"$id": "https://example.org/s.json", "properties": {"a": {"$ref": "https://example.org/s.json#/properties/b"}, "b": {}}}),
                false,
            ),
            (json!({"properties": {"schema": {"$ref": "https://json-schema.org/draft/2020-12/schema"}}}), false),
            (json!({"not": {"items": {"$ref": "#"}}, "propertyNames": {"pattern": "^a"}}), false),
            (json!(true), true),
        ] {
            assert_eq!(check(&schema), Ok(plain), "{schema}");
        }
    }

    #[test]
    fn references_that_leave_or_lead_nowhere_are_refused() {
        for reference in ["https://example.org/x.json", "file:///etc/passwd", "other.json#/a", "//host/x", "http://169.254.169.254/"] {
            assert!(refused(&json!({"$ref": reference})).contains("nothing is fetched"), "{reference}");
        }
        assert!(refused(&json!({"$ref": "#/nowhere"})).contains("leads nowhere"));
        assert!(refused(&json!({"$dynamicRef": "#anchor"})).contains("leads nowhere"));
        assert!(refused(&json!({"items": {"$id": "http://example.org/", "$ref": "#"}})).contains("$id"));
        assert!(refused(&json!({"$ref": "#/default", "default": {"not": {"$id": "x"}}})).contains("$id"));
        assert!(refused(&json!({"$id": "HTTP://JSON-SCHEMA.ORG/draft-07/schema"})).contains("metaschema"));
    }

    #[test]
    fn references_that_never_end_are_refused() {
        for schema in [
            json!({"$ref": "#"}),
            json!({"allOf": [{"$ref": "#"}]}),
            json!({"anyOf": [{"not": {"if": true, "then": {"$recursiveRef": "#"}}}]}),
            json!({"$defs": {"a": {"$ref": "#/$defs/b"}, "b": {"oneOf": [{"$ref": "#/$defs/a"}]}}, "properties": {"x": {"$ref": "#/$defs/a"}}}),
            json!({"dependentSchemas": {"x": {"$dynamicRef": "#me"}}, "$dynamicAnchor": "me"}),
            json!({"properties": {"const": {"$ref": "#/properties/const"}}}),
        ] {
            assert!(refused(&schema).contains("leads back to itself"), "{schema}");
        }
    }

    #[test]
    fn references_that_multiply_or_pile_up_are_refused() {
        let mut doubling = serde_json::Map::new();
        for i in 0..60 {
            let next = format!("#/$defs/d{}", i + 1);
            doubling.insert(format!("d{i}"), json!({"allOf": [{"$ref": next}, {"$ref": next}]}));
        }
        doubling.insert("d60".to_owned(), json!({"type": "string"}));
        assert!(refused(&json!({"$defs": doubling, "$ref": "#/$defs/d0"})).contains("more than"));
        let chain: serde_json::Map<_, _> =
            (0..5000).map(|i| (format!("d{i}"), json!({"$ref": format!("#/$defs/d{}", (i + 1) % 5000)}))).collect();
        assert!(refused(&json!({"$defs": chain})).contains("deep"));
        assert!(refused(&json!({"description": "x".repeat(SIZE_MAX)})).contains("bytes"));
        assert!(refused(&json!([])).contains("mapping"));
    }
}
