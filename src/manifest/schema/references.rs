//! What a reference inside a schema means. Nothing is ever fetched: it leads into the schema itself, or to a metaschema.

use std::collections::HashMap;

use serde_json::Value;

use crate::error::clean;
use crate::manifest::schema::bounds::children;

/// What every validator knows without fetching it.
const METASCHEMAS: [&str; 2] = ["http://json-schema.org/draft-", "https://json-schema.org/draft/"];

/// The places of a schema that references can name.
#[derive(Debug)]
pub(super) struct References<'a> {
    root: &'a Value,
    anchors: HashMap<&'a str, &'a Value>,
}

impl<'a> References<'a> {
    pub(super) fn new(root: &'a Value) -> Self {
        let mut references = References { root, anchors: HashMap::new() };
        references.collect(root);
        references
    }

    fn collect(&mut self, schema: &'a Value) {
        for name in ["$anchor", "$dynamicAnchor"] {
            if let Some(Value::String(anchor)) = schema.get(name) {
                self.anchors.insert(anchor, schema);
            }
        }
        for child in children(schema) {
            self.collect(child);
        }
    }

    /// Whether `$schema` names one of these drafts (`draft-04`).
    pub(super) fn is_draft(&self, drafts: &[&str]) -> bool {
        self.root.get("$schema").and_then(Value::as_str).is_some_and(|own| drafts.iter().any(|draft| own.contains(draft)))
    }

    /// What a reference means; none for one of the metaschemas, which every validator knows.
    pub(super) fn resolve(&self, reference: &str) -> Result<Option<&'a Value>, String> {
        let Some(fragment) = self.fragment(reference) else {
            if METASCHEMAS.iter().any(|known| reference.starts_with(known)) {
                return Ok(None);
            }
            let shown = clean(reference, 80);
            return Err(format!("the reference {shown:?} leaves the schema; nothing is fetched from the network or from files"));
        };
        let fragment = decoded(fragment);
        let target = if fragment.is_empty() || fragment.starts_with('/') {
            self.root.pointer(&fragment)
        } else {
            self.anchors.get(fragment.as_str()).copied()
        };
        target.map(Some).ok_or_else(|| format!("the reference {:?} leads nowhere", clean(reference, 80)))
    }

    /// What follows the `#` of a reference into this schema; none for a reference to elsewhere.
    fn fragment<'r>(&self, reference: &'r str) -> Option<&'r str> {
        let rest = self.own_id().and_then(|id| reference.strip_prefix(id)).unwrap_or(reference);
        if rest.is_empty() { Some("") } else { rest.strip_prefix('#') }
    }

    pub(super) fn own_id(&self) -> Option<&'a str> {
        let id = ["$id", "id"].iter().find_map(|name| self.root.get(name).and_then(Value::as_str))?;
        Some(id.trim_end_matches('#')).filter(|id| !id.is_empty())
    }
}

/// A fragment with its percent escapes decoded.
fn decoded(fragment: &str) -> String {
    let mut bytes = Vec::with_capacity(fragment.len());
    let mut rest = fragment.as_bytes();
    while let Some((first, after)) = rest.split_first() {
        let hex = after.get(..2).filter(|_| *first == b'%').and_then(|digits| std::str::from_utf8(digits).ok());
        match hex.and_then(|digits| u8::from_str_radix(digits, 16).ok()) {
            Some(byte) => {
                bytes.push(byte);
                rest = after.get(2..).unwrap_or_default();
            }
            None => {
                bytes.push(*first);
                rest = after;
            }
        }
    }
    String::from_utf8_lossy(&bytes).into_owned()
}
