//! What a plugin declares in its `plugin.yaml`.
//!
//! The types carry the fields of the file under the names of the file, defaults filled in, values understood: a
//! [`Manifest`] that exists can be used.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::Duration;

use serde_json::Value;

use crate::call::Deadline;
use crate::error::{Error, Kind, Result};

/// The execution environment of a plugin.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RuntimeKind {
    /// A subprocess in go-plugin's protocol.
    Grpc,
    /// A WebAssembly module in the sandbox.
    Wasm,
}

/// What the plugin implements; all zero gates nothing.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Provides {
    pub module: bool,
    pub abilities: Vec<AbilityDecl>,
    pub provider: Option<ProviderDecl>,
}

/// A capability and its operations.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct AbilityDecl {
    pub capability: String,
    pub operations: Vec<String>,
}

/// A provider, with or without OAuth.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ProviderDecl {
    pub name: String,
    pub oauth: bool,
}

/// The `grpc` section.
#[derive(Clone, Debug)]
pub struct GrpcConfig {
    /// As written. Relative: against the manifest's folder; a bare name: that folder first, then `PATH`.
    pub binary: String,
    pub args: Vec<String>,
    pub env: BTreeMap<String, String>,
    pub http: Vec<HostPattern>,
    /// Bytes.
    pub http_max_response: u64,
    pub start_timeout: Duration,
    pub call_timeout: Duration,
    pub restart: Restart,
    pub tls: Tls,
    /// Lower-case hex.
    pub sha256: Option<String>,
}

/// Supervision of a crashed process.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Restart {
    pub policy: RestartPolicy,
    pub max_restarts: u32,
    pub backoff: Duration,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RestartPolicy {
    Never,
    OnFailure,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Tls {
    Off,
    Required,
}

/// The `wasm` section.
#[derive(Clone, Debug)]
pub struct WasmConfig {
    /// As written. Relative: against the manifest's folder.
    pub module: String,
    pub max_instances: u32,
    pub wait_timeout: Duration,
    pub instance_per_call: bool,
    pub http: Vec<HostPattern>,
    /// Bytes.
    pub http_max_response: u64,
    pub filesystem: Vec<FsPermission>,
    /// Bytes, of all linear memories of an instance together.
    pub memory_max: u64,
    pub timeout: Duration,
    pub fuel: Option<u64>,
    /// Lower-case hex.
    pub sha256: Option<String>,
}

/// A folder that a wasm plugin asks for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FsPermission {
    /// As written.
    pub path: String,
    pub writable: bool,
}

pub mod hosts;
pub use hosts::{HostPattern, IpRange};

/// A manifest that can be used.
#[derive(Debug)]
pub struct Manifest {
    pub name: String,
    pub version: String,
    pub description: String,
    pub author: String,
    pub runtime: RuntimeKind,
    pub provides: Provides,
    pub grpc: Option<GrpcConfig>,
    pub wasm: Option<WasmConfig>,
    pub config_schema: Option<Value>,
    base_dir: PathBuf,
}

impl Manifest {
    /// Reads a manifest; a folder's is its `plugin.yaml`.
    pub fn read(path: &Path, strict: bool) -> Result<Manifest> {
        let _ = (path, strict);
        Err(Error::new(Kind::Unsupported, "interim"))
    }
    /// Reads a manifest from bytes.
    pub fn parse(text: &[u8], base_dir: &Path, strict: bool) -> Result<Manifest> {
        let _ = (text, base_dir, strict);
        Err(Error::new(Kind::Unsupported, "interim"))
    }
    /// Seed field names, defaults filled in.
    pub fn to_json(&self) -> Value {
        Value::Null
    }
    /// What was not understood and let pass.
    pub fn warnings(&self) -> &[String] {
        &[]
    }
    /// Checks a config.
    pub fn validate_config(&self, config: &[u8], deadline: &Deadline) -> Result<Value> {
        let _ = (config, deadline);
        Err(Error::new(Kind::Unsupported, "interim"))
    }
    /// The folder that its relative paths start from.
    pub fn base_dir(&self) -> &Path {
        &self.base_dir
    }
}
