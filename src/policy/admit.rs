//! A manifest's wishes against the bounds of its plugin.

use std::path::PathBuf;
use std::time::Duration;

use crate::error::{Error, Kind, Result, clean};
use crate::manifest::{GrpcConfig, HostPattern, Manifest, RuntimeKind, WasmConfig, units};
use crate::policy::entry::Entry;
use crate::policy::verdict::{Admission, Outcome, Request};
use crate::policy::{Grants, mounts};

pub(super) fn admit(entry: &Entry, identity: &str, manifest: &Manifest, protected: &[PathBuf]) -> Result<Admission> {
    let mut requests = vec![runtime(entry, manifest)];
    let mut grants = figures(entry);
    let mut failure = None;
    match (manifest.runtime, &manifest.wasm, &manifest.grpc) {
        (RuntimeKind::Wasm, Some(wasm), _) => {
            admit_wasm(entry, wasm, &mut grants, &mut requests);
            (grants.mounts, failure) = mounts::admit(entry, manifest, wasm, protected, &mut requests);
        }
        (RuntimeKind::Grpc, _, Some(grpc)) => admit_grpc(entry, grpc, &mut grants, &mut requests),
        // A manifest that exists has the section of its runtime.
        _ => return Err(Error::new(Kind::Internal, "The manifest lacks the section of its runtime.")),
    }
    Ok(Admission::new(identity, manifest.runtime, requests, grants, failure))
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

fn admit_wasm(entry: &Entry, wasm: &WasmConfig, grants: &mut Grants, requests: &mut Vec<Request>) {
    grants.http = http(entry, "wasm.permissions.http", &wasm.http, requests);
    let response = response_size("wasm.permissions.http_max_response");
    grants.http_max_response = response.admit(wasm.http_max_response, entry.http_max_response, requests);
    digest(entry, "wasm.sha256", wasm.sha256.as_ref(), requests);
    let memory = Figure { field: "wasm.permissions.memory.max", key: "memory", default: 64 << 20, text: units::size_text };
    grants.memory = memory.admit(wasm.memory_max, entry.memory, requests);
    let timeout = Figure {
        field: "wasm.permissions.execution.timeout",
        key: "timeout",
        default: Duration::from_secs(30),
        text: units::duration_text,
    };
    grants.timeout = timeout.admit(wasm.timeout, entry.timeout, requests);
    let instances = Figure { field: "wasm.pool.max_instances", key: "max_instances", default: 4, text: |n: u32| n.to_string() };
    grants.max_instances = instances.admit(wasm.max_instances, entry.max_instances, requests);
    if let Some(asked) = wasm.fuel {
        let fuel = Figure { field: "wasm.permissions.execution.fuel", key: "fuel", default: 0, text: |n: u64| n.to_string() };
        grants.fuel = Some(fuel.admit(asked, entry.fuel, requests));
    }
}

fn admit_grpc(entry: &Entry, grpc: &GrpcConfig, grants: &mut Grants, requests: &mut Vec<Request>) {
    grants.http = http(entry, "grpc.permissions.http", &grpc.http, requests);
    let response = response_size("grpc.permissions.http_max_response");
    grants.http_max_response = response.admit(grpc.http_max_response, entry.http_max_response, requests);
    digest(entry, "grpc.sha256", grpc.sha256.as_ref(), requests);
    // The grant stays the policy's bound: `call_timeout` is for callers without a deadline of their own.
    let call = Figure { field: "grpc.call_timeout", key: "timeout", default: Duration::from_secs(30), text: units::duration_text };
    call.admit(grpc.call_timeout, entry.timeout, requests);
    let start = Figure { field: "grpc.start_timeout", key: "load_timeout", default: Duration::from_secs(60), text: units::duration_text };
    start.admit(grpc.start_timeout, Some(entry.load_timeout), requests);
}

fn response_size(field: &'static str) -> Figure<u64> {
    Figure { field, key: "http_max_response", default: 10 << 20, text: units::size_text }
}

fn runtime(entry: &Entry, manifest: &Manifest) -> Request {
    let asked = manifest.runtime.name();
    let allowed = entry.runtimes.contains(&manifest.runtime);
    let names: Vec<&str> = entry.runtimes.iter().map(|kind| kind.name()).collect();
    let with: Vec<&str> = names.iter().copied().chain([asked]).collect();
    let native = if manifest.runtime == RuntimeKind::Grpc { " (native code with the rights of the host program)" } else { "" };
    Request {
        what: "runtime",
        field: "runtime".to_owned(),
        asked: format!("{asked}{native}"),
        granted: if names.is_empty() { "none".to_owned() } else { names.join(", ") },
        outcome: outcome(allowed),
        rule: format!("runtimes: [{}]", names.join(", ")),
        grant: if allowed { String::new() } else { format!("runtimes: [{}]", with.join(", ")) },
    }
}

/// The hosts that are granted.
fn http(entry: &Entry, field: &str, asked: &[HostPattern], requests: &mut Vec<Request>) -> Vec<HostPattern> {
    let quoted = |pattern: &HostPattern| format!("{:?}", clean(pattern.as_str(), 100));
    let bound: Option<Vec<String>> = entry.http.as_ref().map(|granted| granted.iter().map(quoted).collect());
    let mut granted = Vec::new();
    for pattern in asked {
        let shown = clean(pattern.as_str(), 100);
        let request = |granted: String, outcome, rule: String, grant: String| Request {
            what: "http",
            field: field.to_owned(),
            asked: shown.clone(),
            granted,
            outcome,
            rule,
            grant,
        };
        let cover = entry.http.iter().flatten().find(|own| own.covers(pattern));
        requests.push(match (&bound, cover) {
            (None, _) => request(shown.clone(), Outcome::Granted, unbounded("http"), String::new()),
            (Some(_), Some(cover)) => request(shown.clone(), Outcome::Granted, format!("http: [{}]", quoted(cover)), String::new()),
            (Some(own), None) => {
                let told = if own.is_empty() { "no host".to_owned() } else { own.join(", ") };
                let with: Vec<String> = own.iter().cloned().chain([quoted(pattern)]).collect();
                let (rule, grant) = (format!("http: [{}]", own.join(", ")), format!("http: [{}]", with.join(", ")));
                request(told, Outcome::Denied, rule, grant)
            }
        });
        if bound.is_none() || cover.is_some() {
            granted.push(pattern.clone());
        }
    }
    granted
}

fn digest(entry: &Entry, field: &str, digest: Option<&String>, requests: &mut Vec<Request>) {
    if !entry.require_digest {
        return;
    }
    requests.push(Request {
        what: "digest",
        field: field.to_owned(),
        asked: format!("to run an artifact {} a digest", if digest.is_some() { "with" } else { "without" }),
        granted: "artifacts with a digest".to_owned(),
        outcome: outcome(digest.is_some()),
        rule: "require_digest: true".to_owned(),
        grant: if digest.is_some() { String::new() } else { "require_digest: false".to_owned() },
    });
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
    fn admit(&self, asked: T, ceiling: Option<T>, requests: &mut Vec<Request>) -> T {
        let granted = ceiling.map_or(asked, |ceiling| asked.min(ceiling));
        let is_default = asked == self.default;
        let denied = granted < asked && !is_default;
        let (asked_text, granted_text) = ((self.text)(asked), (self.text)(granted));
        requests.push(Request {
            what: self.key,
            field: self.field.to_owned(),
            granted: if denied { format!("at most {granted_text}") } else { granted_text },
            outcome: outcome(!denied),
            rule: ceiling.map_or_else(|| unbounded(self.key), |ceiling| format!("{}: {}", self.key, (self.text)(ceiling))),
            grant: if denied { format!("{}: {asked_text}", self.key) } else { String::new() },
            asked: if is_default { format!("{asked_text} (the default)") } else { asked_text },
        });
        granted
    }
}

/// The rule where the policy leaves a bound to the manifest.
pub(super) fn unbounded(key: &str) -> String {
    format!("{key}: as the manifest asks")
}

fn outcome(allowed: bool) -> Outcome {
    if allowed { Outcome::Granted } else { Outcome::Denied }
}
