//! What the operator grants. A manifest asks; [`Policy::admit`] says what of it is granted, or which line would grant it.

use std::path::PathBuf;
use std::time::Duration;

use serde_json::Value;

use crate::error::{Error, Kind, Result};
use crate::manifest::{HostPattern, IpRange, Manifest};

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
    pub max_instances: u32,
    /// Fuel of one call; none: no bound.
    pub fuel: Option<u64>,
    /// Bytes of one answer of a guest.
    pub result_size: u64,
    /// Bytes of one gRPC message.
    pub message_size: u64,
    /// Bytes of a wasm module.
    pub module_size: u64,
    pub module_functions: u64,
    pub load_timeout: Duration,
    pub kv: KvQuota,
    pub rates: Rates,
    /// A plugin that listens on TCP without TLS is taken.
    pub tcp: bool,
}

/// A folder granted to a wasm guest.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Mount {
    /// The folder on the host, absolute, links resolved.
    pub host: PathBuf,
    /// The paths under which the guest sees it.
    pub guest: Vec<String>,
    pub writable: bool,
}

/// Bounds of the embedded KV store, in bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct KvQuota {
    pub key: u64,
    pub value: u64,
    pub total: u64,
}

/// Bounds of what a plugin may emit, per second.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rates {
    pub log: u32,
    pub event: u32,
    pub output: u32,
}

/// What the operator grants, by identity.
#[derive(Clone, Debug, Default)]
pub struct Policy {}

impl Policy {
    /// `"strict"`, `"trusted"` or `{default, plugins}`.
    pub fn parse(value: &Value) -> Result<Policy> {
        let _ = value;
        Ok(Policy {})
    }
    /// A preset or one entry of `plugins`, for any identity.
    pub fn parse_for_one(value: &Value) -> Result<Policy> {
        let _ = value;
        Ok(Policy {})
    }
    /// What of the manifest's wishes is granted.
    pub fn admit(&self, identity: &str, manifest: &Manifest, protected: &[PathBuf]) -> Result<Grants> {
        let _ = (identity, manifest, protected);
        Err(Error::new(Kind::Unsupported, "interim"))
    }
}

/// The JSON Schema of a policy.
pub fn schema() -> Value {
    Value::Null
}
