//! The defaults of a schema, put into a config that lacks them.
//!
//! A `default` is only a note to a validator. Here it is a value to take where it says without doubt which member it is
//! for: in `properties`, in what `items`, `prefixItems` and `additionalProperties` say of values that are there, and in
//! what a local `$ref` or `allOf` adds to them. Never from a branch that may not be meant (`anyOf`, `oneOf`, `if`, `not`,
//! `dependentSchemas`), nor for a member whose name only a pattern knows. A null is a value, and stays.

use serde_json::{Map, Value};

use crate::manifest::schema::references::References;

/// How many bytes, as JSON, defaults may add to a config.
const ADDED_MAX: usize = 1 << 20;
/// How deep a config may nest once it is filled: what its readers take.
const DEPTH_MAX: usize = 127;
/// How many schemas are looked at: what defaults add grows with the config, and what they cost with its schema too.
const STEPS_MAX: usize = 1_000_000;

/// Puts in what is missing; the error says why that cannot be done, as the end of a sentence.
pub(super) fn fill(schema: &Value, config: &mut Value) -> Result<(), String> {
    let references = References::new(schema);
    let mut filler = Filler {
        ref_alone: references.is_draft(&["draft-04", "draft-06", "draft-07"]),
        old_items: references.is_draft(&["draft-04", "draft-06", "draft-07", "2019-09"]),
        references,
        added: 0,
        steps: 0,
    };
    filler.fill(schema, config, 0)
}

struct Filler<'a> {
    references: References<'a>,
    /// What stands beside a `$ref` counts for nothing in the older drafts.
    ref_alone: bool,
    /// `items` may be a list, as `prefixItems` is since.
    old_items: bool,
    added: usize,
    steps: usize,
}

impl<'a> Filler<'a> {
    /// `depth` is how deep in the config `value` is.
    fn fill(&mut self, schema: &'a Value, value: &mut Value, depth: usize) -> Result<(), String> {
        self.step()?;
        let Value::Object(keywords) = schema else { return Ok(()) };
        for same in self.in_place(keywords)? {
            self.fill(same, value, depth)?;
        }
        if self.ref_alone && keywords.contains_key("$ref") {
            return Ok(());
        }
        match value {
            Value::Object(members) => self.members(keywords, members, depth),
            Value::Array(items) => self.items(keywords, items, depth),
            _ => Ok(()),
        }
    }

    fn members(&mut self, keywords: &'a Map<String, Value>, members: &mut Map<String, Value>, depth: usize) -> Result<(), String> {
        let properties = keywords.get("properties").and_then(Value::as_object);
        for (name, schema) in properties.into_iter().flatten() {
            if !members.contains_key(name)
                && let Some(default) = self.default_of(schema)?
            {
                self.count(name, default, depth + 1)?;
                members.insert(name.clone(), default.clone());
            }
            if let Some(member) = members.get_mut(name) {
                self.fill(schema, member, depth + 1)?;
            }
        }
        let Some(others) = keywords.get("additionalProperties").filter(|_| !keywords.contains_key("patternProperties")) else {
            return Ok(());
        };
        for (_, member) in members.iter_mut().filter(|(name, _)| !properties.is_some_and(|known| known.contains_key(*name))) {
            self.fill(others, member, depth + 1)?;
        }
        Ok(())
    }

    fn items(&mut self, keywords: &'a Map<String, Value>, items: &mut [Value], depth: usize) -> Result<(), String> {
        let (first, rest) = match keywords.get("items") {
            Some(Value::Array(first)) if self.old_items => (first.as_slice(), keywords.get("additionalItems")),
            rest if self.old_items => (&[][..], rest),
            rest => (keywords.get("prefixItems").and_then(Value::as_array).map_or(&[][..], Vec::as_slice), rest),
        };
        for (i, item) in items.iter_mut().enumerate() {
            if let Some(schema) = first.get(i).or(rest) {
                self.fill(schema, item, depth + 1)?;
            }
        }
        Ok(())
    }

    /// The default that a schema has by itself, by its `$ref` or by its `allOf`, in this order.
    fn default_of(&mut self, schema: &'a Value) -> Result<Option<&'a Value>, String> {
        self.step()?;
        let Value::Object(keywords) = schema else { return Ok(None) };
        let alone = self.ref_alone && keywords.contains_key("$ref");
        if let Some(default) = keywords.get("default").filter(|_| !alone) {
            return Ok(Some(default));
        }
        for same in self.in_place(keywords)? {
            if let Some(default) = self.default_of(same)? {
                return Ok(Some(default));
            }
        }
        Ok(None)
    }

    /// The schemas that hold for the same value beyond doubt.
    fn in_place(&self, keywords: &'a Map<String, Value>) -> Result<Vec<&'a Value>, String> {
        let mut found = Vec::new();
        if let Some(reference) = keywords.get("$ref").and_then(Value::as_str) {
            found.extend(self.references.resolve(reference)?);
            if self.ref_alone {
                return Ok(found);
            }
        }
        found.extend(keywords.get("allOf").and_then(Value::as_array).into_iter().flatten());
        Ok(found)
    }

    fn step(&mut self) -> Result<(), String> {
        self.steps += 1;
        if self.steps > STEPS_MAX { Err(format!("more than {STEPS_MAX} steps are needed")) } else { Ok(()) }
    }

    fn count(&mut self, name: &str, default: &Value, depth: usize) -> Result<(), String> {
        self.added += name.len() + default.to_string().len();
        if depth + nesting(default) > DEPTH_MAX {
            return Err(format!("the defaults of config_schema would nest it more than {DEPTH_MAX} deep"));
        }
        if self.added > ADDED_MAX {
            return Err(format!("the defaults of config_schema would add more than {ADDED_MAX} bytes"));
        }
        Ok(())
    }
}

/// How many lists and mappings stand inside each other.
fn nesting(value: &Value) -> usize {
    match value {
        Value::Array(items) => 1 + items.iter().map(nesting).max().unwrap_or(0),
        Value::Object(members) => 1 + members.values().map(nesting).max().unwrap_or(0),
        _ => 0,
    }
}
