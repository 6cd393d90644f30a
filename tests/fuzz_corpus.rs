//! What fuzzing has found worth keeping, run through the fuzz targets' own checks: a regression shows without a fuzzer.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    missing_docs,
    reason = "a test fails by panicking"
)]

use std::path::Path;

#[path = "../fuzz/checks/config_schema.rs"]
mod config_schema;
#[path = "../fuzz/checks/envelope.rs"]
mod envelope;
#[path = "../fuzz/checks/hosts.rs"]
mod hosts;
#[path = "../fuzz/checks/manifest.rs"]
mod manifest;
#[path = "../fuzz/checks/policy.rs"]
mod policy;
#[path = "../fuzz/checks/units.rs"]
mod units;

type Check = fn(&[u8]);

const TARGETS: &[(&str, Check)] = &[
    ("config_schema", config_schema::check),
    ("envelope", envelope::check),
    ("hosts", hosts::check),
    ("manifest", manifest::check),
    ("policy", policy::check),
    ("units", units::check),
];

#[test]
fn every_kept_input_passes() {
    let fuzz = Path::new(env!("CARGO_MANIFEST_DIR")).join("fuzz");
    for (name, check) in TARGETS {
        let inputs: Vec<_> = std::fs::read_dir(fuzz.join("corpus").join(name)).unwrap().map(|entry| entry.unwrap().path()).collect();
        assert!(inputs.len() > 2, "{name} has no corpus");
        for input in inputs {
            let data = std::fs::read(&input).unwrap();
            assert!(std::panic::catch_unwind(|| check(&data)).is_ok(), "{}", input.display());
        }
    }
}

#[test]
fn every_target_is_replayed() {
    let targets = std::fs::read_dir(Path::new(env!("CARGO_MANIFEST_DIR")).join("fuzz/fuzz_targets")).unwrap();
    for target in targets {
        let path = target.unwrap().path();
        let name = path.file_stem().unwrap().to_str().unwrap();
        assert!(TARGETS.iter().any(|(known, _)| *known == name), "{name} is not in {}", file!());
    }
}
