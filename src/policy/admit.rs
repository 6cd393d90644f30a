//! A manifest's wishes against the bounds of its plugin.

use std::fmt::Write as _;
use std::path::PathBuf;
use std::time::Duration;

use serde_json::{Value, json};

use crate::error::{Error, Kind, Result, clean};
use crate::manifest::{GrpcConfig, HostPattern, Manifest, RuntimeKind, WasmConfig, units};
use crate::policy::Grants;
use crate::policy::entry::Entry;
use crate::policy::mounts;

/// One wish past the policy.
#[derive(Debug)]
pub(super) struct Denial {
    pub(super) what: &'static str,
    /// The manifest's field.
    pub(super) field: String,
    pub(super) asked: String,
    pub(super) granted: String,
    /// The policy's line that would grant it; empty where none does.
    pub(super) grant: String,
}

pub(super) fn admit(entry: &Entry, identity: &str, manifest: &Manifest, protected: &[PathBuf]) -> Result<Grants> {
    let mut denials = Vec::new();
    runtime(entry, manifest, &mut denials);
    let mut grants = figures(entry);
    let mut mounted = Ok(Vec::new());
    match (manifest.runtime, &manifest.wasm, &manifest.grpc) {
        (RuntimeKind::Wasm, Some(wasm), _) => {
            admit_wasm(entry, wasm, &mut grants, &mut denials);
            mounted = mounts::admit(entry, manifest, wasm, protected, &mut denials);
        }
        (RuntimeKind::Grpc, _, Some(grpc)) => admit_grpc(entry, grpc, &mut grants, &mut denials),
        // A manifest that exists has the section of its runtime.
        _ => return Err(Error::new(Kind::Internal, "The manifest lacks the section of its runtime.")),
    }
    if !denials.is_empty() {
        return Err(denied(identity, &denials));
    }
    grants.mounts = mounted?;
    Ok(grants)
}

fn figures(entry: &Entry) -> Grants {
    Grants {
        http: Vec::new(),
        http_private: entry.http_private.clone(),
        http_max_response: 0,
        mounts: Vec::new(),
        memory: entry.memory.unwrap_or(units::SIZE_MAX),
        timeout: entry.timeout.unwrap_or(units::DURATION_MAX),
        max_instances: 1,
        fuel: entry.fuel,
        result_size: entry.result_size,
        message_size: entry.message_size,
        module_size: entry.module_size,
        module_functions: entry.module_functions,
        load_timeout: entry.load_timeout,
        kv: entry.kv,
        rates: entry.rates,
        tcp: entry.tcp,
    }
}

fn admit_wasm(entry: &Entry, wasm: &WasmConfig, grants: &mut Grants, denials: &mut Vec<Denial>) {
    http(entry, "wasm.permissions.http", &wasm.http, denials);
    digest(entry, "wasm.sha256", wasm.sha256.as_ref(), denials);
    grants.http.clone_from(&wasm.http);
    grants.http_max_response = wasm.http_max_response;
    let memory = Figure { field: "wasm.permissions.memory.max", key: "memory", default: 64 << 20, text: units::size_text };
    grants.memory = memory.admit(wasm.memory_max, entry.memory, denials);
    let timeout = Figure {
        field: "wasm.permissions.execution.timeout",
        key: "timeout",
        default: Duration::from_secs(30),
        text: units::duration_text,
    };
    grants.timeout = timeout.admit(wasm.timeout, entry.timeout, denials);
    let instances = Figure { field: "wasm.pool.max_instances", key: "max_instances", default: 4, text: |n: u32| n.to_string() };
    grants.max_instances = instances.admit(wasm.max_instances, entry.max_instances, denials);
    if let Some(asked) = wasm.fuel {
        let fuel = Figure { field: "wasm.permissions.execution.fuel", key: "fuel", default: 0, text: |n: u64| n.to_string() };
        grants.fuel = Some(fuel.admit(asked, entry.fuel, denials));
    }
}

fn admit_grpc(entry: &Entry, grpc: &GrpcConfig, grants: &mut Grants, denials: &mut Vec<Denial>) {
    http(entry, "grpc.permissions.http", &grpc.http, denials);
    digest(entry, "grpc.sha256", grpc.sha256.as_ref(), denials);
    grants.http.clone_from(&grpc.http);
    grants.http_max_response = grpc.http_max_response;
    // The grant stays the policy's bound: `call_timeout` is for callers without a deadline of their own.
    let call = Figure { field: "grpc.call_timeout", key: "timeout", default: Duration::from_secs(30), text: units::duration_text };
    call.admit(grpc.call_timeout, entry.timeout, denials);
    let start = Figure { field: "grpc.start_timeout", key: "load_timeout", default: Duration::from_secs(60), text: units::duration_text };
    start.admit(grpc.start_timeout, Some(entry.load_timeout), denials);
}

fn runtime(entry: &Entry, manifest: &Manifest, denials: &mut Vec<Denial>) {
    if entry.runtimes.contains(&manifest.runtime) {
        return;
    }
    let names: Vec<&str> = entry.runtimes.iter().map(|kind| kind.name()).collect();
    let mut with: Vec<&str> = names.clone();
    with.push(manifest.runtime.name());
    let native = if manifest.runtime == RuntimeKind::Grpc { " (native code with the rights of the host program)" } else { "" };
    denials.push(Denial {
        what: "runtime",
        field: "runtime".to_owned(),
        asked: format!("{}{native}", manifest.runtime.name()),
        granted: if names.is_empty() { "none".to_owned() } else { names.join(", ") },
        grant: format!("runtimes: [{}]", with.join(", ")),
    });
}

fn http(entry: &Entry, field: &str, asked: &[HostPattern], denials: &mut Vec<Denial>) {
    let Some(granted) = &entry.http else { return };
    let quoted = |pattern: &HostPattern| format!("{:?}", clean(pattern.as_str(), 100));
    for pattern in asked.iter().filter(|asked| !granted.iter().any(|granted| granted.covers(asked))) {
        let granted: Vec<String> = granted.iter().map(quoted).collect();
        let with: Vec<String> = granted.iter().cloned().chain([quoted(pattern)]).collect();
        denials.push(Denial {
            what: "http",
            field: field.to_owned(),
            asked: clean(pattern.as_str(), 100),
            granted: if granted.is_empty() { "no host".to_owned() } else { granted.join(", ") },
            grant: format!("http: [{}]", with.join(", ")),
        });
    }
}

fn digest(entry: &Entry, field: &str, digest: Option<&String>, denials: &mut Vec<Denial>) {
    if entry.require_digest && digest.is_none() {
        denials.push(Denial {
            what: "digest",
            field: field.to_owned(),
            asked: "to run an artifact without a digest".to_owned(),
            granted: "artifacts with a digest".to_owned(),
            grant: "require_digest: false".to_owned(),
        });
    }
}

/// A number with a ceiling.
struct Figure<T> {
    field: &'static str,
    key: &'static str,
    default: T,
    text: fn(T) -> String,
}

impl<T: Copy + Ord> Figure<T> {
    /// What is granted. A default is no wish, so a lower ceiling lowers it; anything else above the ceiling is denied.
    fn admit(&self, asked: T, ceiling: Option<T>, denials: &mut Vec<Denial>) -> T {
        let Some(ceiling) = ceiling.filter(|ceiling| asked > *ceiling) else { return asked };
        if asked != self.default {
            denials.push(Denial {
                what: self.key,
                field: self.field.to_owned(),
                asked: (self.text)(asked),
                granted: format!("at most {}", (self.text)(ceiling)),
                grant: format!("{}: {}", self.key, (self.text)(asked)),
            });
        }
        ceiling
    }
}

fn denied(identity: &str, denials: &[Denial]) -> Error {
    let place = clean(identity, 100);
    let mut message = format!("The policy does not grant what the plugin {place:?} asks for:");
    for denial in denials {
        let Denial { field, asked, granted, grant, .. } = denial;
        let how = if grant.is_empty() {
            "no policy grants it".to_owned()
        } else {
            format!("to grant it, set `{grant}` in the policy for {place:?}")
        };
        // Writing to a String cannot fail.
        let _ = write!(message, "\n{field}: asked for {asked}, granted: {granted}; {how}");
    }
    let json = |denial: &Denial| {
        json!({
            "what": denial.what, "target": denial.asked, "rule": denial.granted, "grant": denial.grant,
            "field": denial.field, "asked": denial.asked, "granted": denial.granted,
        })
    };
    let error = Error::new(Kind::PermissionDenied, message).with_plugin(identity);
    let error = match denials.first() {
        Some(first) => error.with_detail("denied", json(first)).with_detail("field", first.field.clone()),
        None => error,
    };
    error.with_detail("denials", denials.iter().map(json).collect::<Value>())
}
