//! Holds the house together: who may import what, how long a file may be, which folders there are.
//!
//! The rules and their reasons stand in ARCHITECTURE.md; this is where they are enforced.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    missing_docs,
    reason = "a test fails by panicking"
)]

use std::fs;
use std::path::{Path, PathBuf};

/// Each module and those of this crate that it may import, itself aside.
const LAYERS: &[(&str, &[&str])] = &[
    ("error", &[]),
    ("sys", &[]),
    ("runtime", &["error", "sys"]),
    ("call", &["error", "sys"]),
    ("manifest", &["error", "sys", "call"]),
    ("policy", &["error", "sys", "call", "manifest"]),
    ("host", &["error", "sys", "call", "manifest", "policy"]),
    ("source", &["error", "sys", "runtime", "call", "manifest", "policy"]),
    ("wasm", &["error", "sys", "runtime", "call", "manifest", "policy", "host"]),
    ("grpc", &["error", "sys", "runtime", "call", "manifest", "policy", "host"]),
    ("runner", &["error", "sys", "runtime", "call", "manifest", "policy", "host", "wasm", "grpc"]),
    ("plugin", &["error", "sys", "runtime", "call", "manifest", "policy", "host", "runner"]),
    ("manager", &["error", "sys", "runtime", "call", "manifest", "policy", "host", "source", "runner", "plugin"]),
    ("ffi", &["error", "sys", "runtime", "call", "manifest", "policy", "host", "source", "runner", "plugin", "manager"]),
];

/// Where a path that starts like this may stand, and what it stands for.
const OUTSIDE: &[(&[&str], &[&str], &str)] = &[
    (&["wasmtime*"], &["wasm"], "the wasm engine"),
    (&["tonic*"], &["grpc"], "gRPC"),
    (&["prost*"], &["grpc"], "gRPC"),
    (&["h2"], &["grpc"], "HTTP/2 towards plugins"),
    (&["tower*"], &["grpc", "host"], "gRPC, and the HTTP client's connector"),
    (&["hyper*"], &["host"], "the HTTP client"),
    (&["rustls*"], &["grpc", "host"], "TLS"),
    (&["redb"], &["host"], "the KV file"),
    (&["notify"], &["source"], "the watching of folders"),
    (&["std", "process"], &["grpc", "sys"], "child processes"),
    (&["tokio", "process"], &[], "child processes"),
    (&["libc"], &["ffi", "sys"], "C types"),
    (&["std", "os", "raw"], &["ffi", "sys"], "C types"),
    (&["std", "ffi", "c_*"], &["ffi", "sys"], "C types"),
    (&["std", "ffi", "C*"], &["ffi", "sys"], "C types"),
    (&["core", "ffi"], &["ffi", "sys"], "C types"),
    (&["tokio", "runtime", "Builder"], &["runtime"], "the making of tokio runtimes"),
    (&["tokio", "runtime", "Runtime", "new"], &[], "the making of tokio runtimes"),
    (&["tokio", "runtime", "*"], &["runtime"], "the making of tokio runtimes (name what you import)"),
    (&["tokio", "main"], &[], "the making of tokio runtimes"),
];

/// What a rule above would forbid by its start and does not mean.
const HARMLESS: &[&[&str]] = &[&["std", "process", "id"]];

/// What may lie at the top, beside files and folders whose name starts with a dot.
const TOP: &[&str] = &["benches", "bindings", "docs", "examples", "fuzz", "include", "proto", "sdk", "src", "target", "tests"];

/// The most lines of a file that a person writes.
const LINES_MAX: usize = 400;

#[test]
fn every_import_follows_the_layers() {
    let found: Vec<String> = files("src", &["rs"]).iter().flat_map(|path| violations(&name(path), &read(path))).collect();
    assert!(found.is_empty(), "\n{}", found.join("\n"));
}

#[test]
fn every_module_has_its_layer() {
    let lib = read(&root().join("src/lib.rs"));
    let tokens = tokens(&lib);
    let declared: Vec<&str> = tokens.windows(2).filter(|w| w[0].1 == "mod").map(|w| w[1].1).filter(|m| *m != "tests").collect();
    assert!(declared.len() > 3, "{declared:?}");
    for module in declared {
        assert!(LAYERS.iter().any(|(layer, _)| *layer == module), "src/lib.rs declares `{module}`, which has no layer in {}", file!());
    }
}

#[test]
fn a_violation_is_found() {
    let bad = [
        ("src/error.rs", "use crate::call::Call;"),
        ("src/manifest/yaml.rs", "fn f() { crate::policy::admit() }"),
        ("src/manifest/yaml.rs", "use super::super::policy;"),
        ("src/host.rs", "use super::{error::Error, wasm::Engine};"),
        ("src/wasm/pool.rs", "use crate::{call::{Call, Deadline}, grpc::{self, Plugin}};"),
        ("src/runner.rs", "use crate::ffi::status;"),
        ("src/host/kv.rs", "pub(crate) use wasmtime_wasi::p1;"),
        ("src/plugin.rs", "use ::tonic as t;"),
        ("src/wasm.rs", "fn f() -> Result<(), prost::DecodeError> { todo() }"),
        ("src/policy.rs", "std::process::Command::new(\"sh\");"),
        ("src/host.rs", "fn f(x: std::ffi::c_int) {}"),
        ("src/grpc.rs", "use std::ffi::{CString, OsStr};"),
        ("src/grpc.rs", "let r = tokio::runtime::Builder::new_current_thread();"),
        ("src/wasm.rs", "use tokio::runtime::*;"),
        ("src/plugin.rs", "use tokio::runtime::{Handle, Builder as B};"),
        ("src/elsewhere.rs", "fn f() {}"),
    ];
    for (path, text) in bad {
        assert_eq!(violations(path, text).len(), 1, "{path}: {text}: {:?}", violations(path, text));
    }
    let good = [
        ("src/host/kv.rs", "use super::config::X; use super::super::policy::Grants; use crate::error::Error;"),
        ("src/wasm/pool.rs", "use wasmtime::Engine; // use crate::grpc::Plugin;\nconst T: &str = \"crate::grpc::x\"; /* tonic::x */"),
        ("src/call.rs", "#[cfg(test)] mod tests { use crate::ffi::x; } fn f<'a>(c: char) { let q = '\"'; crate::error::g(q) }"),
        ("src/wasm.rs", "let id = std::process::id();"),
        ("src/wasm.rs", "fn f() -> Option<Result<impl Sized + use<>>> { g() }"),
        ("src/host.rs", "use std::ffi::OsStr; use tokio::runtime::Handle;"),
        ("src/sys/process.rs", "use std::process::Command; use libc::pid_t;"),
    ];
    for (path, text) in good {
        assert!(violations(path, text).is_empty(), "{path}: {text}: {:?}", violations(path, text));
    }
}

#[test]
fn files_are_short_and_named_after_their_module() {
    let mut found = Vec::new();
    for folder in ["src", "tests", "benches", "examples", "sdk", "bindings", "fuzz"] {
        for path in files(folder, &["rs", "go", "c", "h", "py", "sh", "proto"]) {
            let lines = read(&path).lines().count();
            if lines > LINES_MAX && !generated(&name(&path)) {
                found.push(format!("{}: {lines} lines; past {LINES_MAX} it asks to be split", name(&path)));
            }
            if path.ends_with("mod.rs") && name(&path) != "src/ffi/mod.rs" && !generated(&name(&path)) {
                found.push(format!("{}: a module is name.rs beside name/", name(&path)));
            }
        }
    }
    assert!(found.is_empty(), "\n{}", found.join("\n"));
}

#[test]
fn the_top_level_is_the_agreed_one() {
    for entry in fs::read_dir(root()).unwrap() {
        let entry = entry.unwrap();
        let name = entry.file_name().into_string().unwrap();
        let known = name.starts_with('.') || TOP.contains(&name.as_str());
        assert!(known || !entry.file_type().unwrap().is_dir(), "`{name}`: a new top-level folder needs its reason in ARCHITECTURE.md");
    }
}

#[test]
fn every_dependency_has_its_reason() {
    let manifest = read(&root().join("Cargo.toml"));
    let reasons = read(&root().join("ARCHITECTURE.md"));
    let mut section = "";
    let mut seen = 0;
    for line in manifest.lines() {
        if line.starts_with('[') {
            section = line;
        } else if section.ends_with("dependencies]")
            && let Some((dependency, _)) = line.split_once(" = ")
            && !dependency.starts_with(' ')
        {
            seen += 1;
            assert!(reasons.contains(&format!("`{dependency}`")), "ARCHITECTURE.md does not say why `{dependency}` is needed");
        }
    }
    assert!(seen > 10, "the dependencies were not found");
}

/// What a source file of this crate names that it may not, one sentence each. Its tests are free.
fn violations(path: &str, text: &str) -> Vec<String> {
    let module: Vec<&str> = path.trim_start_matches("src/").trim_end_matches(".rs").split('/').filter(|part| *part != "mod").collect();
    if module == ["lib"] {
        return Vec::new();
    }
    let Some((own, below)) = LAYERS.iter().find(|(layer, _)| *layer == module[0]) else {
        return vec![format!("{path}: `{}` has no layer", module[0])];
    };
    let mut found = Vec::new();
    for (line, path_named) in paths(&without_tests(tokens(text))) {
        if let Some(other) = inside(&module, &path_named)
            && other != *own
            && !below.contains(&other)
        {
            found.push(format!("{path}:{line}: `{own}` may not import `{other}`"));
        }
        for (pattern, allowed, what) in OUTSIDE {
            if matches(pattern, &path_named) && !allowed.contains(own) && !HARMLESS.contains(&path_named.as_slice()) {
                found.push(format!("{path}:{line}: `{}` belongs to {allowed:?}: {what}", path_named.join("::")));
                break;
            }
        }
    }
    found.dedup();
    found
}

/// The module of this crate that a path leads to, if it leads to one.
fn inside<'a>(module: &[&str], path: &[&'a str]) -> Option<&'a str> {
    let supers = path.iter().take_while(|part| **part == "super").count();
    let target = match path[0] {
        "crate" => path.get(1),
        "super" if supers == module.len() => path.get(supers),
        _ => None,
    };
    target.copied().filter(|name| LAYERS.iter().any(|(layer, _)| layer == name))
}

/// Whether a path starts with the pattern; a `*` ends a part that may go on, and alone stands for itself.
fn matches(pattern: &[&str], path: &[&str]) -> bool {
    path.len() >= pattern.len()
        && pattern.iter().zip(path).all(|(p, part)| match p.strip_suffix('*') {
            Some(start) if !start.is_empty() => part.starts_with(start),
            _ => p == part,
        })
}

/// The paths that a file names, with their lines: each leaf of a `use`, and each `a::b` elsewhere.
fn paths<'a>(tokens: &[(usize, &'a str)]) -> Vec<(usize, Vec<&'a str>)> {
    let mut found = Vec::new();
    let mut at = 0;
    while at < tokens.len() {
        let (line, text) = tokens[at];
        // `use<…>` at the end of a type says which lifetimes it captures.
        if text == "use" && tokens.get(at + 1).is_some_and(|t| t.1 != "<") {
            at = use_tree(tokens, at + 1, &[], &mut found);
        } else if is_name(text) && tokens.get(at + 1).is_some_and(|t| t.1 == "::") {
            let mut path = vec![text];
            while tokens.get(at + 1).is_some_and(|t| t.1 == "::") && tokens.get(at + 2).is_some_and(|t| is_name(t.1)) {
                path.push(tokens[at + 2].1);
                at += 2;
            }
            found.push((line, path));
            at += 1;
        } else {
            at += 1;
        }
    }
    found
}

/// Reads one tree of a `use` that starts at `at`; returns where it ends.
fn use_tree<'a>(tokens: &[(usize, &'a str)], mut at: usize, before: &[&'a str], found: &mut Vec<(usize, Vec<&'a str>)>) -> usize {
    let mut path = before.to_vec();
    while let Some(&(line, text)) = tokens.get(at) {
        match text {
            "::" => at += 1,
            "{" => {
                at += 1;
                while tokens.get(at).is_some_and(|t| t.1 != "}") {
                    at = use_tree(tokens, at, &path, found);
                    at += usize::from(tokens.get(at).is_some_and(|t| t.1 == ","));
                }
                return at + 1;
            }
            "as" => at += 2,
            "," | ";" | "}" => {
                found.push((line, path));
                return at;
            }
            part => {
                path.push(part);
                at += 1;
            }
        }
    }
    at
}

/// The tokens without what stands under `#[cfg(test)]`.
fn without_tests(tokens: Vec<(usize, &str)>) -> Vec<(usize, &str)> {
    const MARK: [&str; 7] = ["#", "[", "cfg", "(", "test", ")", "]"];
    let mut kept = Vec::with_capacity(tokens.len());
    let mut at = 0;
    while at < tokens.len() {
        if !tokens[at..].iter().map(|t| t.1).take(MARK.len()).eq(MARK) {
            kept.push(tokens[at]);
            at += 1;
            continue;
        }
        let mut depth = 0usize;
        for (_, text) in &tokens[at..] {
            at += 1;
            match *text {
                "{" => depth += 1,
                "}" => depth -= 1,
                _ => {}
            }
            if depth == 0 && matches!(*text, "}" | ";") {
                break;
            }
        }
    }
    kept
}

/// Names and punctuation with their lines; comments, strings and characters are left out.
fn tokens(text: &str) -> Vec<(usize, &str)> {
    let bytes = text.as_bytes();
    let byte = |at: usize| bytes.get(at).copied().unwrap_or(0);
    let (mut found, mut at) = (Vec::new(), 0);
    while at < bytes.len() {
        let start = at;
        let line = || text[..start].matches('\n').count() + 1;
        match bytes[at] {
            b'/' if byte(at + 1) == b'/' => at = text[at..].find('\n').map_or(bytes.len(), |n| at + n),
            b'/' if byte(at + 1) == b'*' => at = text[at..].find("*/").map_or(bytes.len(), |n| at + n + 2),
            b'"' => at = after_string(bytes, at),
            b'r' if byte(at + 1) == b'"' || (byte(at + 1) == b'#' && matches!(byte(at + 2), b'"' | b'#')) => {
                let hashes = bytes[at + 1..].iter().take_while(|b| **b == b'#').count();
                let end = format!("\"{}", "#".repeat(hashes));
                at = text[at + hashes + 2..].find(&end).map_or(bytes.len(), |n| at + hashes + 2 + n + end.len());
            }
            // A quoted character, not a lifetime.
            b'\'' if byte(at + 1) == b'\\' || text[at + 1..].chars().nth(1) == Some('\'') => {
                let from = at + 2 + usize::from(byte(at + 1) == b'\\');
                at = text.get(from..).and_then(|rest| rest.find('\'')).map_or(bytes.len(), |n| from + n + 1);
            }
            b':' if byte(at + 1) == b':' => {
                found.push((line(), "::"));
                at += 2;
            }
            b if b == b'_' || b.is_ascii_alphanumeric() => {
                at += bytes[at..].iter().take_while(|b| **b == b'_' || b.is_ascii_alphanumeric()).count();
                found.push((line(), &text[start..at]));
            }
            b if b.is_ascii_punctuation() => {
                found.push((line(), &text[at..=at]));
                at += 1;
            }
            _ => at += 1,
        }
    }
    found
}

fn after_string(bytes: &[u8], mut at: usize) -> usize {
    at += 1;
    while at < bytes.len() && bytes[at] != b'"' {
        at += 1 + usize::from(bytes[at] == b'\\');
    }
    at + 1
}

fn is_name(text: &str) -> bool {
    text.starts_with(|c: char| c == '_' || c.is_ascii_alphabetic())
}

/// Whether a tool writes this file.
fn generated(name: &str) -> bool {
    name.contains("/pb/") || name.ends_with(".pb.go") || name.ends_with("_pb2.py") || name.ends_with("_pb2_grpc.py")
}

fn root() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR"))
}

fn name(path: &Path) -> String {
    path.strip_prefix(root()).unwrap().to_str().unwrap().to_owned()
}

fn read(path: &Path) -> String {
    fs::read_to_string(path).unwrap_or_else(|e| panic!("{}: {e}", path.display()))
}

/// The files below a folder that end in one of these, without what tools leave behind; none if there is no such folder.
fn files(folder: &str, ends: &[&str]) -> Vec<PathBuf> {
    let mut found = Vec::new();
    let mut open = vec![root().join(folder)];
    while let Some(folder) = open.pop() {
        let Ok(entries) = fs::read_dir(&folder) else { continue };
        for path in entries.map(|entry| entry.unwrap().path()) {
            let name = path.file_name().unwrap().to_str().unwrap();
            if path.is_dir() {
                if !name.starts_with('.') && !matches!(name, "target" | "build" | "dist" | "node_modules" | "__pycache__") {
                    open.push(path);
                }
            } else if path.extension().is_some_and(|end| ends.iter().any(|e| end == *e)) {
                found.push(path);
            }
        }
    }
    found.sort();
    found
}
