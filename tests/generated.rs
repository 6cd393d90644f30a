//! The generated files that are committed are what their sources make: the C header, the JSON Schemas and the gRPC code.
//!
//! `make header` runs this with FLOWPLUG_REGENERATE=1, which writes them instead. Pure Rust: no protoc, no cbindgen binary.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    missing_docs,
    reason = "a test fails by panicking"
)]

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use flowplug::error::Kind;
use flowplug::host::Level;
use flowplug::plugin::State;

const PB: &str = "src/grpc/pb";
const PROTOS: [&str; 2] = ["flowbot_plugin.proto", "go_plugin.proto"];

#[test]
fn the_header_is_what_the_ffi_makes() {
    let config = cbindgen::Config::from_file(root().join("cbindgen.toml")).unwrap();
    let builder = cbindgen::Builder::new().with_config(config).with_src(root().join("src/ffi/mod.rs"));
    let bindings = builder.generate().unwrap();
    let mut header = Vec::new();
    bindings.write(&mut header);
    // What Rust calls safety is for C what every comment says: the contract.
    let header = String::from_utf8(header).unwrap().replace("// # Safety\n", "// Contract:\n");
    settle(&root().join("include/flowplug.h"), &header);
}

#[test]
fn the_schemas_are_what_the_tables_make() {
    for (name, schema) in
        [("plugin", flowplug::manifest::schema()), ("policy", flowplug::policy::schema()), ("event", flowplug::host::event::schema())]
    {
        settle(&root().join(format!("include/{name}.schema.json")), &format!("{schema:#}\n"));
    }
}

/// The macros are raw text in cbindgen.toml, which no compiler compares with the Rust side.
#[test]
fn the_macros_of_the_header_are_the_library_s() {
    let header = fs::read_to_string(root().join("include/flowplug.h")).unwrap();
    let has = |name: &str, value: &str| {
        let line = format!("#define FLOWPLUG_{} {value}", name.to_uppercase());
        assert_eq!(header.lines().filter(|l| **l == line).count(), 1, "the header lacks `{line}`: see cbindgen.toml");
    };
    has("OK", "0");
    for (index, kind) in Kind::ALL.into_iter().enumerate() {
        has(kind.name(), &(index + 1).to_string());
    }
    for level in [Level::Debug, Level::Info, Level::Warn, Level::Error] {
        has(&format!("LOG_{}", level.name()), &(level as i32).to_string());
    }
    for state in [State::Loading, State::Running, State::Stopping, State::Error, State::Stopped] {
        has(&format!("STATE_{}", state.name()), &(state as i32).to_string());
    }
    for (part, number) in ["MAJOR", "MINOR", "PATCH"].into_iter().zip(env!("CARGO_PKG_VERSION").split('.')) {
        has(&format!("VERSION_{part}"), number);
    }
    has("ABI_VERSION", &flowplug::ffi::flowplug_abi_version().to_string());
    has("NO_TIMEOUT", "UINT64_MAX");
    has("CALL_TRUST_JSON", "1");
}

#[test]
fn the_grpc_code_is_what_the_protos_make() {
    let folder = std::env::temp_dir().join(format!("flowplug-pb-{}", std::process::id()));
    fs::create_dir_all(&folder).unwrap();
    let protos = root().join("proto");
    let descriptors = protox::compile(PROTOS, [&protos]).unwrap();
    let made = tonic_prost_build::configure().build_transport(false).emit_rerun_if_changed(false).out_dir(&folder).compile_fds(descriptors);
    let made = made.map(|()| rust_files(&folder));
    fs::remove_dir_all(&folder).unwrap();
    let made = made.unwrap();
    assert_eq!(made.len(), PROTOS.len(), "{:?}", made.keys());
    let committed = rust_files(&root().join(PB));
    let strays: Vec<&String> = committed.keys().filter(|name| !made.contains_key(*name)).collect();
    assert!(strays.is_empty(), "not made from proto/, delete them from {PB}: {strays:?}");
    for (name, text) in made {
        settle(&root().join(PB).join(name), &text);
    }
}

/// Compares a committed file with what it should be, or writes it where that is asked for.
fn settle(path: &Path, text: &str) {
    if std::env::var_os("FLOWPLUG_REGENERATE").is_some() {
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, text).unwrap();
        return;
    }
    let committed = fs::read_to_string(path).unwrap_or_default();
    if committed != text {
        let line = committed.lines().zip(text.lines()).take_while(|(old, new)| old == new).count() + 1;
        panic!("{} has drifted from its source, first in line {line}: run `make header` and commit what it writes", path.display());
    }
}

/// The Rust files of a folder and their text.
fn rust_files(folder: &Path) -> BTreeMap<String, String> {
    let entries = fs::read_dir(folder).into_iter().flatten().map(|entry| entry.unwrap().path());
    entries
        .filter(|path| path.extension().is_some_and(|end| end == "rs"))
        .map(|path| (path.file_name().unwrap().to_str().unwrap().to_owned(), fs::read_to_string(&path).unwrap()))
        .collect()
}

fn root() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR"))
}
