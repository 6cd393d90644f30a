//! What a plugin declares in its `plugin.yaml`.
//!
//! The types carry the fields of the file under the names of the file, defaults filled in, values understood: a
//! [`Manifest`] that exists can be used.

use std::collections::BTreeMap;
use std::io::{self, Read as _};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use serde_json::{Map, Value};

use crate::call::Deadline;
use crate::error::{Error, Kind, Result};
use crate::manifest::config::Config;
use crate::manifest::problem::Problem;
use crate::manifest::reader::Reader;
use crate::manifest::schema::Schema;
use crate::manifest::yaml::DOCUMENT_MAX;
use crate::sys;

mod config;
pub(crate) mod document;
mod fields;
pub mod hosts;
pub(crate) mod node;
pub(crate) mod own_schema;
pub(crate) mod problem;
pub(crate) mod reader;
mod schema;
mod sections;
pub mod units;
mod yaml;

pub use document::document;
pub use hosts::{HostPattern, IpRange};
pub use own_schema::schema;

/// The manifest's name in its folder.
pub const FILE_NAME: &str = "plugin.yaml";

/// The most warnings that are kept.
const WARNINGS_MAX: usize = 100;

/// The execution environment of a plugin.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RuntimeKind {
    /// A subprocess in go-plugin's protocol.
    Grpc,
    /// A WebAssembly module in the sandbox.
    Wasm,
}

impl RuntimeKind {
    /// `grpc` or `wasm`.
    pub const fn name(self) -> &'static str {
        match self {
            RuntimeKind::Grpc => "grpc",
            RuntimeKind::Wasm => "wasm",
        }
    }
}

/// What the plugin implements; all zero gates nothing.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Provides {
    /// The functions of a module: `command`, `form`, `rules`, `help`, `bootstrap`, `input`, `webservice`.
    pub module: bool,
    /// Capabilities that it is a backend of.
    pub abilities: Vec<AbilityDecl>,
    /// There if it is a provider: `webhook_convert`, `oauth_authorize`, `oauth_callback`.
    pub provider: Option<ProviderDecl>,
}

/// A capability and its operations.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct AbilityDecl {
    /// The capability, such as `bookmark`.
    pub capability: String,
    /// Those of its operations that `ability_call` takes.
    pub operations: Vec<String>,
}

/// A provider, with or without OAuth.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ProviderDecl {
    /// The service that it speaks for.
    pub name: String,
    /// Whether it authorises users by OAuth.
    pub oauth: bool,
}

/// The `grpc` section.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct GrpcConfig {
    /// As written. Relative: against the manifest's folder; a bare name: that folder first, then `PATH`.
    pub binary: String,
    /// Arguments of the program, as written.
    pub args: Vec<String>,
    /// Variables beside the child's minimal environment.
    pub env: BTreeMap<String, String>,
    /// Hosts that `HTTPRequest` may reach.
    pub http: Vec<HostPattern>,
    /// Bytes.
    pub http_max_response: u64,
    /// The longest wait for the handshake.
    pub start_timeout: Duration,
    /// The bound of a call without a deadline of its caller's.
    pub call_timeout: Duration,
    /// What happens when the process ends unexpectedly.
    pub restart: Restart,
    /// Whether the connection is encrypted and both ends identified.
    pub tls: Tls,
    /// Lower-case hex.
    pub sha256: Option<String>,
}

/// Supervision of a crashed process.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Restart {
    /// Whether the process is started again at all.
    pub policy: RestartPolicy,
    /// How many times in a row; a minute of health resets the count.
    pub max_restarts: u32,
    /// The wait before the first restart; it grows from there.
    pub backoff: Duration,
}

/// Whether a process that ended is started again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RestartPolicy {
    /// It stays ended.
    Never,
    /// It is started again, unless it was asked to end.
    OnFailure,
}

/// TLS between the host and a gRPC plugin.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Tls {
    /// None: a Unix socket in a private folder goes without.
    Off,
    /// Both ends show certificates, or the plugin is refused.
    Required,
}

/// The `wasm` section.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct WasmConfig {
    /// As written. Relative: against the manifest's folder.
    pub module: String,
    /// Instances that may live at once, at least 1.
    pub max_instances: u32,
    /// The longest wait for an instance.
    pub wait_timeout: Duration,
    /// A fresh instance for every call.
    pub instance_per_call: bool,
    /// Whether instances begin where `_initialize` ended once.
    pub snapshot: Snapshot,
    /// Hosts that `HTTPRequest` may reach.
    pub http: Vec<HostPattern>,
    /// Bytes.
    pub http_max_response: u64,
    /// Folders that the guest sees.
    pub filesystem: Vec<FsPermission>,
    /// Bytes, of all linear memories of an instance together.
    pub memory_max: u64,
    /// Wall clock of one call, its waiting and its host calls included.
    pub timeout: Duration,
    /// A deterministic bound of one call beside the timeout.
    pub fuel: Option<u64>,
    /// Lower-case hex.
    pub sha256: Option<String>,
}

/// Whether the instances of a wasm plugin begin as copies of one on which `_initialize` has run.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Snapshot {
    /// Each runs it.
    #[default]
    Off,
    /// It ran once, without random numbers, clocks, files and the host: it fails if it asks for any.
    Strict,
    /// The same, but it may read random numbers and the clock, of which every instance then has the same: seeds of hashes
    /// and generators, and the time of its start.
    SharedSeed,
}

impl Snapshot {
    /// `off`, `strict` or `shared_seed`.
    pub const fn name(self) -> &'static str {
        match self {
            Snapshot::Off => "off",
            Snapshot::Strict => "strict",
            Snapshot::SharedSeed => "shared_seed",
        }
    }
}

/// A folder that a wasm plugin asks for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FsPermission {
    /// As written.
    pub path: String,
    /// The mode is `readwrite`, not `read`.
    pub writable: bool,
}

impl FsPermission {
    /// `read` or `readwrite`.
    pub const fn mode(&self) -> &'static str {
        if self.writable { "readwrite" } else { "read" }
    }
}

/// A manifest that can be used. It can be shared by threads and never changes.
#[derive(Debug)]
pub struct Manifest {
    /// A label for people; the identity comes from where the plugin was found.
    pub name: String,
    /// As written, like every text; empty if absent.
    pub version: String,
    /// What the plugin is for.
    pub description: String,
    /// Who made it.
    pub author: String,
    /// Where it runs.
    pub runtime: RuntimeKind,
    /// What it implements.
    pub provides: Provides,
    /// There if `runtime` is [`RuntimeKind::Grpc`].
    pub grpc: Option<GrpcConfig>,
    /// There if `runtime` is [`RuntimeKind::Wasm`].
    pub wasm: Option<WasmConfig>,
    /// A JSON Schema that is valid.
    pub config_schema: Option<Value>,
    base_dir: PathBuf,
    file: Option<PathBuf>,
    schema: Option<Schema>,
    json: Value,
    warnings: Vec<String>,
}

impl Manifest {
    /// Reads a manifest from a file, or from the `plugin.yaml` in a folder. Its folder is that of the file.
    ///
    /// `strict`: fields that nobody knows are errors instead of [`warnings`](Self::warnings).
    /// Errors: `io` if the file cannot be read, else those of [`parse`](Self::parse).
    pub fn read(path: &Path, strict: bool) -> Result<Manifest> {
        let file = if path.is_dir() { path.join(FILE_NAME) } else { path.to_owned() };
        let failed = |e: io::Error| {
            // Whoever ran the program in another folder sees it by the whole path.
            let whole = std::path::absolute(&file).unwrap_or_else(|_| file.clone());
            let text = format!("The manifest {} cannot be read: {e}. Give the file, or the folder with its {FILE_NAME}.", whole.display());
            Error::new(Kind::Io, text)
        };
        let mut text = Vec::new();
        let opened = sys::open_regular(&file).map_err(failed)?;
        // One byte past the limit tells that the file is too large without reading all of it.
        opened.take(DOCUMENT_MAX as u64 + 1).read_to_end(&mut text).map_err(failed)?;
        let mut manifest = Self::parse(&text, file.parent().unwrap_or(Path::new("")), strict)?;
        manifest.file = Some(file);
        Ok(manifest)
    }

    /// Reads a manifest from YAML or JSON. `base_dir` is the folder that its relative paths start from; empty is the
    /// working directory.
    ///
    /// Errors: `invalid_manifest`, with a line for every problem and the same in the details' `problems`.
    pub fn parse(text: &[u8], base_dir: &Path, strict: bool) -> Result<Manifest> {
        let mut reader = Reader::default();
        let root = yaml::parse(text, &mut reader.problems);
        let document = root.and_then(|root| fields::read(&mut reader, &root));
        let Reader { mut problems, unknown } = reader;
        for problem in &mut problems {
            if problem.code.is_of_the_document() {
                problem.what = format!("parse manifest: {}", problem.what);
            }
        }
        let mut warnings = Vec::new();
        if strict {
            problems.extend(unknown);
        } else if !problems.is_empty() {
            problems.extend(problem::mistyped(&problems, unknown));
        } else {
            warnings.extend(unknown.iter().take(WARNINGS_MAX).map(Problem::text));
        }
        let Some(document) = document.filter(|_| problems.is_empty()) else {
            return Err(problem::error(Kind::InvalidManifest, "The manifest", problems));
        };
        Ok(Manifest {
            name: document.name,
            version: document.version,
            description: document.description,
            author: document.author,
            runtime: document.runtime,
            provides: document.provides,
            grpc: document.grpc,
            wasm: document.wasm,
            config_schema: document.schema.as_ref().map(|schema| schema.value().clone()),
            base_dir: base_dir.to_owned(),
            file: None,
            schema: document.schema,
            json: document.json,
            warnings,
        })
    }

    /// The folder that its relative paths start from, as it was given; empty is the working directory.
    pub fn base_dir(&self) -> &Path {
        &self.base_dir
    }

    /// The file it was read from, if it was.
    pub fn file(&self) -> Option<&Path> {
        self.file.as_deref()
    }

    /// The manifest as JSON: the fields of the file, nested as in the file, all present, defaults filled in, texts as
    /// they were written. Parsed again it gives the same manifest.
    pub fn to_json(&self) -> Value {
        self.json.clone()
    }

    /// What was not understood and let pass, one sentence each.
    pub fn warnings(&self) -> &[String] {
        &self.warnings
    }

    /// Checks a config, JSON text, against `config_schema` and returns it parsed; an empty text is an absent config,
    /// which is `null`, and is checked as `{}` where the schema's type is `object`.
    ///
    /// The check ends at the deadline, and after half a minute at the latest. Errors: `invalid_config`, with the
    /// violations in the details; `timeout`; `busy` if too many checks that do not end run already.
    pub fn validate_config(&self, config: &[u8], deadline: &Deadline) -> Result<Value> {
        let given = Config::parse(config)?;
        let Some(schema) = &self.schema else { return Ok(given.value) };
        let stands_for_object = given.raw.is_none() && schema.is_of_objects();
        let checked = Arc::new(if stands_for_object { Value::Object(Map::new()) } else { given.value });
        schema.check(&checked, config.len(), deadline)?;
        if given.raw.is_none() { Ok(Value::Null) } else { Ok(Arc::unwrap_or_clone(checked)) }
    }

    /// Puts the `default`s of `config_schema` into a config, JSON text, where it lacks them, checks the outcome, and
    /// returns it as JSON text; what was given keeps its text. An absent config starts as the schema's own `default`, or
    /// as `{}` where its type is `object`, else it is `null`.
    ///
    /// Members are added by `properties`, through `items`, `prefixItems`, `additionalProperties`, `allOf` and local
    /// `$ref`s; never by `anyOf`, `oneOf`, `if` or patterns. Errors: as [`validate_config`](Self::validate_config), and
    /// `invalid_config` where the defaults would add more than 1 MiB or nest the config too deep.
    pub fn fill_config(&self, config: &[u8], deadline: &Deadline) -> Result<String> {
        let given = Config::parse(config)?;
        let Some(schema) = &self.schema else { return Ok(given.text()) };
        let Some(raw) = given.raw else {
            let start = schema.value().get("default").cloned();
            let empty = || if schema.is_of_objects() { Value::Object(Map::new()) } else { Value::Null };
            return schema.fill(start.unwrap_or_else(empty), deadline).map(|filled| filled.to_string());
        };
        let filled = schema.fill(given.value.clone(), deadline)?;
        Ok(config::text(raw, &given.value, &filled))
    }
}
