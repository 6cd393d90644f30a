//! What the operator grants. A manifest asks; [`Policy::admit`] says what of it is granted, or which line would grant it.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::Duration;

use serde_json::{Value, json};

use crate::error::{Kind, Result};
use crate::manifest::node::{Body, Node};
use crate::manifest::reader::{Field, Reader};
use crate::manifest::{HostPattern, IpRange, Manifest, problem};
use crate::policy::entry::Entry;

mod admit;
mod entry;
mod mounts;
mod schema;
#[cfg(test)]
mod tests;
mod verdict;

pub use schema::schema;
pub use verdict::{Admission, Outcome, Request};

/// What one plugin was granted: its manifest's wishes within the policy's bounds. Both runtimes obey it and know no other bound.
#[derive(Clone, Debug)]
pub struct Grants {
    /// Hosts that `HTTPRequest` may reach.
    pub http: Vec<HostPattern>,
    /// Address ranges that are not public and may be reached all the same.
    pub http_private: Vec<IpRange>,
    /// Bytes of one HTTP response.
    pub http_max_response: u64,
    /// Folders that a wasm guest sees.
    pub mounts: Vec<Mount>,
    /// Bytes of all linear memories of an instance together.
    pub memory: u64,
    /// Wall clock of one call.
    pub timeout: Duration,
    /// Instances of a wasm plugin that may live at once.
    pub max_instances: u32,
    /// Fuel of one call; none: no bound.
    pub fuel: Option<u64>,
    /// Bytes of one answer of a guest.
    pub result_size: u64,
    /// Bytes of one gRPC message.
    pub message_size: u64,
    /// Bytes of a wasm module.
    pub module_size: u64,
    /// Functions of a wasm module.
    pub module_functions: u64,
    /// Wall clock of loading the plugin.
    pub load_timeout: Duration,
    /// What it may store.
    pub kv: KvQuota,
    /// What it may emit.
    pub rates: Rates,
    /// A plugin that listens on TCP without TLS is taken.
    pub tcp: bool,
}

impl Grants {
    /// The bounds in force, in bytes and nanoseconds.
    pub fn to_json(&self) -> Value {
        let texts = |items: &[HostPattern]| items.iter().map(|item| item.as_str().to_owned()).collect::<Vec<_>>();
        let mounts: Vec<Value> = self.mounts.iter().map(|m| json!({"path": m.guest.first(), "mode": m.mode()})).collect();
        json!({
            "http": texts(&self.http),
            "http_private": self.http_private.iter().map(ToString::to_string).collect::<Vec<_>>(),
            "http_max_response": self.http_max_response,
            "filesystem": mounts,
            "memory": self.memory,
            "timeout_ns": self.timeout.as_nanos() as u64,
            "max_instances": self.max_instances,
            "fuel": self.fuel,
            "result_size": self.result_size,
            "message_size": self.message_size,
            "module_size": self.module_size,
            "module_functions": self.module_functions,
            "load_timeout_ns": self.load_timeout.as_nanos() as u64,
            "kv": {"key": self.kv.key, "value": self.kv.value, "total": self.kv.total},
            "rates": {"log": self.rates.log, "event": self.rates.event, "output": self.rates.output},
            "tcp": self.tcp,
        })
    }
}

/// A folder granted to a wasm guest.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Mount {
    /// The folder on the host, absolute, links resolved.
    pub host: PathBuf,
    /// The paths under which the guest sees it.
    pub guest: Vec<String>,
    /// The guest may write in it.
    pub writable: bool,
}

impl Mount {
    /// `read` or `readwrite`.
    pub const fn mode(&self) -> &'static str {
        if self.writable { "readwrite" } else { "read" }
    }
}

/// Bounds of the embedded KV store, in bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct KvQuota {
    /// One key.
    pub key: u64,
    /// One value.
    pub value: u64,
    /// All of a plugin's keys and values together.
    pub total: u64,
}

/// Bounds of what a plugin may emit, per second.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rates {
    /// Log records.
    pub log: u32,
    /// Events.
    pub event: u32,
    /// Lines on standard output and standard error.
    pub output: u32,
}

/// What the operator grants, by identity. It never changes; threads can share it.
#[derive(Clone, Debug)]
pub struct Policy {
    default: Entry,
    plugins: BTreeMap<String, Entry>,
}

impl Default for Policy {
    /// `strict` for every plugin.
    fn default() -> Self {
        Policy { default: Entry::strict(), plugins: BTreeMap::new() }
    }
}

impl Policy {
    /// Reads a policy: `"strict"`, `"trusted"`, or an object with `default` and `plugins`; null is the default.
    ///
    /// Errors: `invalid_config`, with a line for every problem and the same in the details' `problems`; a key that
    /// nobody knows is one.
    pub fn parse(value: &Value) -> Result<Policy> {
        parsed(value, |reader, field| {
            if !matches!(field.node.body, Body::Map(_)) {
                return Policy { default: Entry::read(reader, Some(field)), plugins: BTreeMap::new() };
            }
            let section = reader.section(Some(field), &["default", "plugins"]);
            let default = Entry::read(reader, section.as_ref().and_then(|section| section.field("default")));
            let mut plugins = BTreeMap::new();
            if let Some(by_identity) = reader.open(section.and_then(|section| section.field("plugins"))) {
                for (identity, field) in by_identity.fields() {
                    if !is_identity(identity) {
                        reader.invalid(&field, "the key is no identity", "letters, digits and . _ - in parts that / separates");
                    }
                    if !field.node.is_absent() {
                        plugins.insert(identity.to_owned(), Entry::read(reader, Some(field)));
                    }
                }
            }
            Policy { default, plugins }
        })
    }

    /// Reads the policy of a single plugin, whatever its identity: a preset, or what stands under an identity in
    /// `plugins`. Errors: as [`parse`](Self::parse).
    pub fn parse_for_one(value: &Value) -> Result<Policy> {
        parsed(value, |reader, field| Policy { default: Entry::read(reader, Some(field)), plugins: BTreeMap::new() })
    }

    /// What of a manifest's wishes is granted to the plugin of this identity, and what becomes of each. `protected` are
    /// files and folders of the embedding program's own (cache, KV file, sockets) that no mount may hold or lie in.
    /// Nothing is loaded; whether the folders asked for are there is looked up where they are granted.
    ///
    /// A figure that the manifest leaves at its default is no wish: it is lowered to the policy's without a word.
    ///
    /// Errors: `internal`. What is denied stands in the answer.
    pub fn check(&self, identity: &str, manifest: &Manifest, protected: &[PathBuf]) -> Result<Admission> {
        let entry = self.plugins.get(identity).unwrap_or(&self.default);
        admit::admit(entry, identity, manifest, protected)
    }

    /// As [`check`](Self::check), and the grants alone.
    ///
    /// Errors: `permission_denied` with everything that is past the policy, each with the line that would grant it, the
    /// first in the details' `denied` and all in `denials`; `load_failed` if a folder that is granted cannot be used.
    pub fn admit(&self, identity: &str, manifest: &Manifest, protected: &[PathBuf]) -> Result<Grants> {
        self.check(identity, manifest, protected)?.into_grants().map(|(grants, _)| grants)
    }
}

fn parsed(value: &Value, read: impl FnOnce(&mut Reader, Field<'_>) -> Policy) -> Result<Policy> {
    let root = Node::from_json(value);
    if root.is_absent() {
        return Ok(Policy::default());
    }
    let mut reader = Reader::default();
    let policy = read(&mut reader, Field { path: "policy".to_owned(), node: &root });
    let Reader { mut problems, unknown } = reader;
    problems.extend(unknown);
    if problems.is_empty() { Ok(policy) } else { Err(problem::error(Kind::InvalidConfig, "The policy", problems)) }
}

/// Whether a plugin can have this identity at all: a key that never matches is a mistake.
fn is_identity(text: &str) -> bool {
    text.split('/')
        .all(|part| !matches!(part, "" | "." | "..") && part.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'_' | b'-')))
}
