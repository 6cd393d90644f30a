//! The shared library is what its header says: the same functions, nothing else, and the marks that a loader needs.
#![cfg(target_os = "linux")]
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    missing_docs,
    reason = "a test fails by panicking"
)]

use std::collections::BTreeSet;
use std::path::PathBuf;
use std::process::Command;

const HEADER: &str = include_str!("../include/flowplug.h");

#[test]
fn the_exported_symbols_are_the_functions_of_the_header() {
    let exported = tool("nm", &["--dynamic", "--defined-only", "--format=just-symbols"]);
    let exported: BTreeSet<&str> = exported.lines().collect();
    let declared = functions(HEADER);
    assert!(declared.len() > 40, "{declared:?}");
    let missing: Vec<_> = declared.difference(&exported).collect();
    let surplus: Vec<_> = exported.difference(&declared).collect();
    assert!(missing.is_empty(), "declared in the header and not exported: {missing:?}");
    assert!(surplus.is_empty(), "exported and not declared in the header: {surplus:?}");
}

#[test]
fn the_library_names_its_abi_and_stays_loaded() {
    let dynamic = tool("readelf", &["--dynamic", "--wide"]);
    assert!(dynamic.contains("Library soname: [libflowplug.so.1]"), "{dynamic}");
    assert!(dynamic.lines().any(|line| line.contains("FLAGS_1") && line.contains("NODELETE")), "{dynamic}");
    assert!(!dynamic.contains("TEXTREL") && !dynamic.contains("RPATH") && !dynamic.contains("RUNPATH"), "{dynamic}");
}

#[test]
fn the_functions_of_a_header_are_found() {
    let header = "/* flowplug_a() */ int flowplug_b(int); // flowplug_c(x)\n#define M(x) flowplug_d(x)\n\
                  typedef struct flowplug_e { void (*flowplug_f)(int); } flowplug_e;\nvoid\nflowplug_g (flowplug_e *);";
    assert_eq!(functions(header), ["flowplug_b", "flowplug_g"].into());
}

/// The names that stand right before an opening bracket, outside of comments and macros.
fn functions(header: &str) -> BTreeSet<&str> {
    let mut found = BTreeSet::new();
    let (mut rest, mut last) = (header, "");
    while let Some(first) = rest.chars().next() {
        let taken = match first {
            '/' if rest.starts_with("/*") => rest.find("*/").unwrap() + 2,
            '/' if rest.starts_with("//") => rest.find('\n').unwrap_or(rest.len()),
            '#' => end_of_directive(rest),
            '(' => {
                if last.starts_with("flowplug_") {
                    found.insert(last);
                }
                1
            }
            c if c == '_' || c.is_ascii_alphanumeric() => rest.find(|c: char| c != '_' && !c.is_ascii_alphanumeric()).unwrap_or(rest.len()),
            c => c.len_utf8(),
        };
        let (token, after) = rest.split_at(taken);
        if !token.trim().is_empty() && !token.starts_with(['/', '#']) {
            last = token;
        }
        rest = after;
    }
    found
}

/// Past the end of a preprocessor's directive, continued lines included.
fn end_of_directive(text: &str) -> usize {
    let mut end = 0;
    for line in text.split_inclusive('\n') {
        end += line.len();
        if !line.trim_end().ends_with('\\') {
            break;
        }
    }
    end
}

/// What a tool of binutils says about the library that cargo built for these tests.
fn tool(name: &str, arguments: &[&str]) -> String {
    let tests = std::env::current_exe().unwrap();
    let library: PathBuf = tests.parent().unwrap().join("libflowplug.so");
    let output = Command::new(name).args(arguments).arg(&library).output().unwrap_or_else(|e| panic!("{name}: {e}"));
    assert!(output.status.success(), "{name} {}: {}", library.display(), String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap()
}
