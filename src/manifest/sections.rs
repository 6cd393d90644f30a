//! The `grpc` and `wasm` sections.

use std::collections::BTreeMap;
use std::time::Duration;

use serde_json::{Value, json};

use crate::manifest::hosts::HostPattern;
use crate::manifest::reader::{Field, Reader, Section};
use crate::manifest::{FsPermission, GrpcConfig, Restart, RestartPolicy, Snapshot, Tls, WasmConfig, units};

/// The default of `http_max_response`, in bytes.
const HTTP_MAX_RESPONSE: (&str, u64) = ("10MB", 10 << 20);

/// Reads `grpc`. A field that is wrong has its default; the reader has the problem.
pub(crate) fn grpc(reader: &mut Reader, field: Option<Field<'_>>, needed: bool) -> Option<(GrpcConfig, Value)> {
    let known = ["binary", "args", "env", "permissions", "start_timeout", "call_timeout", "restart", "tls", "sha256"];
    let section = reader.section(field, &known)?;
    let binary = path(reader, &section, "binary", needed, "the path of the program");
    let args = reader.texts(section.field("args"));
    let env = env(reader, section.field("env"));
    let permissions = reader.section(section.field("permissions"), &["http", "http_max_response"]);
    let http = http(reader, permissions.as_ref());
    let (response_text, http_max_response) = http_max_response(reader, permissions.as_ref());
    let (start_text, start_timeout) = limit(reader, Some(&section), "start_timeout", "60s", 60_000);
    let (call_text, call_timeout) = limit(reader, Some(&section), "call_timeout", "30s", 30_000);
    let (restart, restart_json) = restart(reader, section.field("restart"));
    let tls = reader.choice(section.field("tls"), "invalid value", &[("off", Tls::Off), ("required", Tls::Required)]).unwrap_or(Tls::Off);
    let (sha256_text, sha256) = digest(reader, &section).unzip();
    let json = json!({
        "binary": binary, "args": args, "env": env,
        "permissions": {"http": hosts_json(&http), "http_max_response": response_text},
        "start_timeout": start_text, "call_timeout": call_text, "restart": restart_json,
        "tls": match tls { Tls::Off => "off", Tls::Required => "required" },
        "sha256": sha256_text.unwrap_or_default(),
    });
    Some((GrpcConfig { binary, args, env, http, http_max_response, start_timeout, call_timeout, restart, tls, sha256 }, json))
}

/// Reads `wasm`, likewise.
pub(crate) fn wasm(reader: &mut Reader, field: Option<Field<'_>>, needed: bool) -> Option<(WasmConfig, Value)> {
    let section = reader.section(field, &["module", "permissions", "pool", "sha256"])?;
    let module = path(reader, &section, "module", needed, "the path of the .wasm file");
    let pool = reader.section(section.field("pool"), &["max_instances", "wait_timeout", "instance_per_call", "snapshot"]);
    let pool_field = |name: &str| pool.as_ref().and_then(|pool| pool.field(name));
    // Zero is what Go marshals where nothing was set.
    let max_instances = reader.number(pool_field("max_instances"), u32::MAX.into()).filter(|n| *n > 0).map_or(4, |n| n as u32);
    let (wait_text, wait_timeout) = limit(reader, pool.as_ref(), "wait_timeout", "5s", 5_000);
    let instance_per_call = reader.bool(pool_field("instance_per_call")).unwrap_or(false);
    let snapshots = [Snapshot::Off, Snapshot::Strict, Snapshot::SharedSeed].map(|snapshot| (snapshot.name(), snapshot));
    let snapshot = reader.choice(pool_field("snapshot"), "invalid value", &snapshots).unwrap_or_default();
    let known = ["http", "filesystem", "memory", "execution", "http_max_response"];
    let permissions = reader.section(section.field("permissions"), &known);
    let http = http(reader, permissions.as_ref());
    let (response_text, http_max_response) = http_max_response(reader, permissions.as_ref());
    let filesystem = filesystem(reader, permissions.as_ref().and_then(|p| p.field("filesystem")));
    let memory = reader.section(permissions.as_ref().and_then(|p| p.field("memory")), &["max"]);
    let memory = reader.measure(memory.and_then(|memory| memory.field("max")), units::size);
    let (memory_text, memory_max) = memory.unwrap_or(("64MB".to_owned(), 64 << 20));
    let execution = reader.section(permissions.as_ref().and_then(|p| p.field("execution")), &["timeout", "fuel"]);
    let (timeout_text, timeout) = limit(reader, execution.as_ref(), "timeout", "30s", 30_000);
    let fuel = reader.number(execution.and_then(|execution| execution.field("fuel")), i64::MAX as u64).filter(|fuel| *fuel > 0);
    let (sha256_text, sha256) = digest(reader, &section).unzip();
    let json = json!({
        "module": module,
        "pool": {"max_instances": max_instances, "wait_timeout": wait_text, "instance_per_call": instance_per_call, "snapshot": snapshot.name()},
        "permissions": {
            "http": hosts_json(&http),
            "filesystem": filesystem.iter().map(|f| json!({"path": f.path, "mode": f.mode()})).collect::<Vec<_>>(),
            "memory": {"max": memory_text},
            "execution": {"timeout": timeout_text, "fuel": fuel.unwrap_or(0)},
            "http_max_response": response_text,
        },
        "sha256": sha256_text.unwrap_or_default(),
    });
    let config = WasmConfig {
        module,
        max_instances,
        wait_timeout,
        instance_per_call,
        snapshot,
        http,
        http_max_response,
        filesystem,
        memory_max,
        timeout,
        fuel,
        sha256,
    };
    Some((config, json))
}

fn path(reader: &mut Reader, section: &Section<'_>, name: &str, needed: bool, expected: &str) -> String {
    let field = section.field(name);
    if field.is_none() && needed {
        reader.missing(section, name, &format!("missing {name}"), expected);
    }
    reader.text(field).unwrap_or_default()
}

fn env(reader: &mut Reader, field: Option<Field<'_>>) -> BTreeMap<String, String> {
    let Some(section) = reader.open(field) else { return BTreeMap::new() };
    let mut env = BTreeMap::new();
    for (name, field) in section.fields().filter(|(_, field)| !field.node.is_null()) {
        if name.is_empty() || name.contains(['=', '\0']) {
            reader.invalid(&field, "invalid name of a variable", "a name without `=` and NUL");
            continue;
        }
        if let Some(value) = reader.text(Some(field)) {
            env.insert(name.to_owned(), value);
        }
    }
    env
}

fn http(reader: &mut Reader, permissions: Option<&Section<'_>>) -> Vec<HostPattern> {
    let mut hosts = Vec::new();
    for item in reader.list(permissions.and_then(|permissions| permissions.field("http"))) {
        let host = reader.section(Some(item), &["host"]).and_then(|entry| entry.field("host"));
        hosts.extend(reader.scalar(host, "a host", |scalar| HostPattern::parse(&scalar.text)));
    }
    hosts
}

fn hosts_json(hosts: &[HostPattern]) -> Value {
    hosts.iter().map(|host| json!({"host": host.as_str()})).collect()
}

fn http_max_response(reader: &mut Reader, permissions: Option<&Section<'_>>) -> (String, u64) {
    let field = permissions.and_then(|permissions| permissions.field("http_max_response"));
    let (text, bytes) = HTTP_MAX_RESPONSE;
    reader.measure(field, units::size).unwrap_or((text.to_owned(), bytes))
}

fn filesystem(reader: &mut Reader, field: Option<Field<'_>>) -> Vec<FsPermission> {
    let mut folders = Vec::new();
    for item in reader.list(field) {
        let Some(entry) = reader.section(Some(item), &["path", "mode"]) else { continue };
        let (path_field, mode_field) = (entry.field("path"), entry.field("mode"));
        if path_field.is_none() && mode_field.is_none() {
            continue;
        }
        let path = path(reader, &entry, "path", true, "a folder");
        let writable = reader.choice(mode_field, "invalid value", &[("read", false), ("readwrite", true)]).unwrap_or(false);
        folders.push(FsPermission { path, writable });
    }
    folders
}

fn limit(reader: &mut Reader, section: Option<&Section<'_>>, name: &str, default: &str, default_ms: u64) -> (String, Duration) {
    let field = section.and_then(|section| section.field(name));
    reader.measure(field, units::limit).unwrap_or_else(|| (default.to_owned(), Duration::from_millis(default_ms)))
}

fn restart(reader: &mut Reader, field: Option<Field<'_>>) -> (Restart, Value) {
    let section = reader.section(field, &["policy", "max_restarts", "backoff"]);
    let field = |name: &str| section.as_ref().and_then(|section| section.field(name));
    let choices = [("never", RestartPolicy::Never), ("on_failure", RestartPolicy::OnFailure)];
    let policy = reader.choice(field("policy"), "invalid value", &choices).unwrap_or(RestartPolicy::OnFailure);
    // Zero is what Go marshals where nothing was set; none at all is `policy: never`.
    let max_restarts = reader.number(field("max_restarts"), 1_000_000).filter(|n| *n > 0).unwrap_or(5) as u32;
    let (backoff_text, backoff) = limit(reader, section.as_ref(), "backoff", "200ms", 200);
    let name = match policy {
        RestartPolicy::Never => "never",
        RestartPolicy::OnFailure => "on_failure",
    };
    (Restart { policy, max_restarts, backoff }, json!({"policy": name, "max_restarts": max_restarts, "backoff": backoff_text}))
}

/// `sha256`, as written and in lower case.
fn digest(reader: &mut Reader, section: &Section<'_>) -> Option<(String, String)> {
    reader.measure(section.field("sha256"), |text| {
        if text.len() == 64 && text.bytes().all(|b| b.is_ascii_hexdigit()) {
            Ok(text.to_ascii_lowercase())
        } else {
            Err("the artifact's SHA-256 in 64 hexadecimal digits".to_owned())
        }
    })
}
