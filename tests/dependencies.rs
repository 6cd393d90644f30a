//! What the library is made of: licences that it may be shipped under, and no crate twice without a reason. The lists
//! are those of deny.toml, so that `cargo deny` says the same.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    missing_docs,
    reason = "a test fails by panicking"
)]

use std::collections::BTreeSet;
use std::process::Command;

use serde_json::Value;

const DENY: &str = include_str!("../deny.toml");

#[test]
fn every_licence_is_allowed() {
    let allowed = quoted(section("allow = [", "]"));
    assert!(allowed.contains("MIT"), "{allowed:?}");
    let exceptions = section("exceptions = [", "\n");
    let metadata: Value = serde_json::from_str(&cargo(&["metadata", "--format-version", "1", "--filter-platform", &host()])).unwrap();
    let packages = metadata["packages"].as_array().unwrap();
    assert!(packages.len() > 100, "only {} packages", packages.len());
    for package in packages {
        let (name, licence) = (package["name"].as_str().unwrap(), package["license"].as_str().unwrap_or("none named"));
        let excepted = exceptions.contains(&format!("\"{name}\"")) && exceptions.contains(&format!("\"{licence}\""));
        assert!(excepted || permitted(licence, &allowed), "{name}: `{licence}` is not among the licences of deny.toml");
    }
}

#[test]
fn what_the_library_holds_twice_is_known() {
    let known = quoted(section("skip = [", "\n]"));
    let twice =
        cargo(&["tree", "--edges", "normal,no-proc-macro", "--duplicates", "--depth", "0", "--prefix", "none", "--target", &host()]);
    for name in twice.lines().filter_map(|line| line.split_once(' ')).map(|(name, _)| name) {
        let name = name.trim();
        assert!(known.contains(name), "`{name}` is in the library in two versions; deny.toml does not say why");
    }
    assert!(cargo(&["tree", "--depth", "0", "--prefix", "none"]).starts_with("flowplug "), "cargo tree answers");
}

#[test]
fn a_licence_that_is_not_allowed_is_found() {
    let allowed = ["MIT", "Apache-2.0", "Unicode-3.0"].into();
    for licence in ["MIT", "GPL-3.0 OR MIT", "MIT/Apache-2.0", "(MIT OR GPL-3.0) AND Unicode-3.0"] {
        assert!(permitted(licence, &allowed), "{licence}");
    }
    for licence in ["GPL-3.0", "MIT AND GPL-3.0", "(MIT OR Apache-2.0) AND GPL-3.0", "none named", "Apache-2.0 WITH Commons"] {
        assert!(!permitted(licence, &allowed), "{licence}");
    }
}

/// Whether an SPDX expression can be met. Its brackets never hold an AND, so that no more of a parser is needed.
fn permitted(expression: &str, allowed: &BTreeSet<&str>) -> bool {
    expression
        .split(" AND ")
        .all(|choice| choice.trim_matches(['(', ')']).replace(" / ", "/").replace(" OR ", "/").split('/').any(|one| allowed.contains(one)))
}

/// What stands in deny.toml between two marks.
fn section(start: &str, end: &str) -> &'static str {
    let (_, rest) = DENY.split_once(start).unwrap();
    rest.split_once(end).unwrap().0
}

fn quoted(text: &str) -> BTreeSet<&str> {
    text.split('"').skip(1).step_by(2).collect()
}

fn host() -> String {
    let version = run(Command::new("rustc").arg("-vV"));
    version.lines().find_map(|line| line.strip_prefix("host: ")).unwrap().to_owned()
}

fn cargo(arguments: &[&str]) -> String {
    let cargo = std::env::var("CARGO").unwrap_or_else(|_| "cargo".into());
    run(Command::new(cargo).args(arguments).args(["--locked", "--offline"]).current_dir(env!("CARGO_MANIFEST_DIR")))
}

fn run(command: &mut Command) -> String {
    let output = command.output().unwrap_or_else(|e| panic!("{command:?}: {e}"));
    assert!(output.status.success(), "{command:?}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap()
}
