//! Errors for people: what is wrong, where, with which value, what was expected, and what was probably meant.

use std::path::Path;

use flowplug::manifest::Manifest;
use serde_json::Value;

use super::refused;

fn problems(text: impl AsRef<[u8]>) -> Vec<Value> {
    refused(text).details()["problems"].as_array().unwrap().clone()
}

#[test]
fn every_code_has_its_place_and_its_text() {
    let large = " ".repeat((1 << 20) + 1);
    for (code, text, field, at, found, expected) in [
        ("syntax", "name: n\nruntime: [wasm\n", "", None, "", ""),
        ("limit", large.as_str(), "", None, "", ""),
        ("duplicate_key", "name: n\nruntime: wasm\nname: m\n", "name", Some((3, 1)), "", "each key once"),
        ("missing", "name: n\nruntime: wasm\nwasm: { pool: {} }\n", "wasm.module", Some((3, 7)), "", "the path of the .wasm file"),
        ("wrong_type", "name: n\nruntime: wasm\nwasm:\n  module: m\n  pool: [1]\n", "wasm.pool", Some((5, 9)), "a list", "a mapping"),
        (
            "invalid_value",
            "name: n\nruntime: wasm\nwasm:\n  module: m\n  permissions: { memory: { max: 64 megs } }\n",
            "wasm.permissions.memory.max",
            Some((5, 33)),
            "\"64 megs\"",
            "a size from 1 byte to 4GB such as 512KB or 64MB",
        ),
    ] {
        let all = problems(text);
        let problem = all.iter().find(|p| p["code"] == code).unwrap_or_else(|| panic!("{code}: {all:?}"));
        assert!(!problem["message"].as_str().unwrap().is_empty(), "{problem}");
        if let Some((line, column)) = at {
            assert_eq!((problem["line"].as_u64(), problem["column"].as_u64()), (Some(line), Some(column)), "{problem}");
            assert_eq!((problem["field"].as_str(), problem["found"].as_str()), (Some(field), Some(found)), "{problem}");
            assert_eq!(problem["expected"], expected, "{problem}");
        }
    }
    let strict = Manifest::parse(b"name: n\nruntime: wasm\nwasm: { module: m }\nautor: me\n", Path::new(""), true).unwrap_err();
    let problem = &strict.details()["problems"][0];
    assert_eq!((&problem["code"], &problem["field"], &problem["line"]), (&"unknown_field".into(), &"autor".into(), &4.into()));
    assert_eq!(problem["suggestion"], "author");
}

#[test]
fn all_problems_are_told_at_once_in_the_order_of_the_text() {
    let text = "runtime: wsm\nprovides: { module: perhaps }\ngrpc: { tls: of }\nwasm: { pool: { max_instances: many }, sha256: 12 }\n";
    let told: Vec<(u64, String)> =
        problems(text).iter().map(|p| (p["line"].as_u64().unwrap(), p["field"].as_str().unwrap().to_owned())).collect();
    let fields: Vec<&str> = told.iter().map(|(_, field)| field.as_str()).collect();
    assert_eq!(fields, ["name", "runtime", "provides.module", "grpc.tls", "wasm.pool.max_instances", "wasm.sha256"]);
    assert!(told.is_sorted_by_key(|(line, _)| *line));
    let many: String = (0..200).map(|i| format!("  - {{ host: 'http://{i}' }}\n")).collect();
    let error =
        refused(format!("name: n\nruntime: wasm\nwasm:\n  module: m\n  permissions:\n    http:\n{}", many.replace("  - ", "    - ")));
    assert_eq!(error.details()["problems"].as_array().unwrap().len(), 50);
    assert!(error.message().ends_with("and 150 more"), "{error}");
}

#[test]
fn a_word_that_is_nearly_right_brings_what_was_meant() {
    for (text, field, meant) in [
        ("runtime: wsam", "runtime", "wasm"),
        ("runtime: GRPC", "runtime", "grpc"),
        ("runtime: grpc\ngrpc: { binary: b, tls: require }", "grpc.tls", "required"),
        ("runtime: grpc\ngrpc: { binary: b, restart: { policy: onfailure } }", "grpc.restart.policy", "on_failure"),
        (
            "runtime: wasm\nwasm: { module: m, permissions: { filesystem: [{ path: d, mode: readwrit }] } }",
            "wasm.permissions.filesystem[0].mode",
            "readwrite",
        ),
    ] {
        let all = problems(format!("name: n\n{text}\n"));
        assert_eq!(all.iter().find(|p| p["field"] == field).unwrap_or_else(|| panic!("{all:?}"))["suggestion"], meant, "{text}");
    }
}

#[test]
fn a_required_field_that_was_mistyped_is_found() {
    for (text, missing, typed, line) in [
        ("nane: n\nruntime: wasm\nwasm: { module: m }\n", "name", "nane", 1),
        ("name: n\nruntime: wasm\nwsam: { module: m }\n", "wasm", "wsam", 3),
        ("name: n\nruntime: grpc\ngrpc:\n  binnary: b\n", "grpc.binary", "grpc.binnary", 4),
    ] {
        let all = problems(text);
        assert!(all.iter().any(|p| p["code"] == "missing" && p["field"] == missing), "{all:?}");
        let cause = all.iter().find(|p| p["code"] == "unknown_field").unwrap_or_else(|| panic!("{all:?}"));
        assert_eq!((&cause["field"], &cause["line"]), (&typed.into(), &line.into()), "{cause}");
        assert_eq!(cause["suggestion"], missing.rsplit('.').next().unwrap());
    }
    // What has nothing to do with it stays a warning.
    let all = problems("name: n\nruntime: wasm\nautor: me\nx-own: 1\n");
    assert!(all.iter().all(|p| p["code"] == "missing"), "{all:?}");
}

#[test]
fn values_are_cut_and_cleaned() {
    let error = refused(format!("name: n\nruntime: \"{}\\e[31m\"\n", "x y ".repeat(500)));
    assert!(error.message().len() < 400, "{error}");
    let error = refused("name: n\nruntime: \"a\\e[31mb\"\n");
    assert!(!error.message().contains('\u{1b}'), "{error:?}");
    for hidden in [
        "name: n\nruntime: wasm\nwasm: { module: m }\nconfig_schema: [hunter2]\n",
        "name: n\nruntime: wasm\nwasm: { module: m }\nconfig_schema: { type: string, default: 3, minLength: hunter2 }\n",
        "name: n\nruntime: ghp_hunter2hunter2hunter2\n",
        "name: n\nruntime: \"-----BEGIN hunter2\"\n",
    ] {
        let error = refused(hidden);
        assert!(!format!("{error:?}").contains("hunter2"), "{error:?}");
    }
}
