//! What is granted, what is denied and how it is told.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU32, Ordering};

use serde_json::json;

mod bounds;

use super::*;
use crate::error::Error;

/// A folder of a plugin's, removed at the end of the test.
struct Folder(PathBuf);

impl Folder {
    fn new() -> Self {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let now = std::time::UNIX_EPOCH.elapsed().unwrap().as_nanos();
        let path = std::env::temp_dir().join(format!("flowplug-policy-{now}-{}", NEXT.fetch_add(1, Ordering::Relaxed)));
        for folder in ["plugin/data/deep", "plugin/bin", "elsewhere", "cache"] {
            fs::create_dir_all(path.join(folder)).unwrap();
        }
        fs::write(path.join("plugin/plugin.yaml"), "").unwrap();
        fs::write(path.join("plugin/bin/p.wasm"), "").unwrap();
        Folder(path.canonicalize().unwrap())
    }

    fn wasm(&self, permissions: &Value) -> Manifest {
        self.manifest(&json!({"runtime": "wasm", "wasm": {"module": "bin/p.wasm", "permissions": permissions}}))
    }

    fn manifest(&self, body: &Value) -> Manifest {
        let mut body = body.clone();
        body["name"] = json!("n");
        Manifest::parse(body.to_string().as_bytes(), &self.0.join("plugin"), true).unwrap()
    }

    fn mount(&self, policy: &Value, paths: &[(&str, &str)]) -> Result<Vec<Mount>> {
        let wishes: Vec<Value> = paths.iter().map(|(path, mode)| json!({"path": path, "mode": mode})).collect();
        let manifest = self.wasm(&json!({"filesystem": wishes}));
        Ok(one(policy).admit("p", &manifest, &[self.0.join("cache")])?.mounts)
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        drop(fs::remove_dir_all(&self.0));
    }
}

fn one(policy: &Value) -> Policy {
    Policy::parse_for_one(policy).unwrap()
}

fn denials(error: &Error) -> Vec<(String, String)> {
    assert_eq!(error.kind(), Kind::PermissionDenied, "{error}");
    let text = |v: &Value| v.as_str().unwrap().to_owned();
    error.details()["denials"].as_array().unwrap().iter().map(|d| (text(&d["field"]), text(&d["grant"]))).collect()
}

/// The example of the documentation, every key in it.
fn full() -> Value {
    json!({
        "default": "strict",
        "plugins": {
            "bookmarks": "trusted",
            "org/reader": {
                "preset": "strict", "runtimes": ["wasm", "grpc"], "http": ["api.example.com", "*.example.org:8443"],
                "http_private": ["127.0.0.0/8"], "http_max_response": "20MB", "filesystem": [{"root": "/srv/reader", "mode": "readwrite"}],
                "memory": "256MB", "timeout": "60s", "max_instances": 16, "fuel": 0, "result_size": "16MB", "message_size": "64MB",
                "module_size": "64MB", "module_functions": 100_000, "load_timeout": "60s",
                "kv": {"key": "512B", "value": "1MB", "total": "64MB"}, "rates": {"log": 1000, "event": 1000, "output": 1000},
                "tcp": false, "require_digest": false,
            },
        },
    })
}

#[test]
#[expect(clippy::too_many_lines, reason = "a table")]
fn the_parser_and_the_schema_agree() {
    let validator = jsonschema::options().should_validate_formats(true).build(&schema()).unwrap();
    let entry = |name: &str, value: Value| json!({"plugins": {"p": {name: value}}});
    let mut good = vec![
        full(),
        json!("strict"),
        json!("trusted"),
        json!(null),
        json!(""),
        json!({}),
        json!({"default": {"tcp": true}, "plugins": null}),
    ];
    let mut bad = vec![
        json!("strcit"),
        json!(true),
        json!(3),
        json!([]),
        json!({"defaults": "strict"}),
        json!({"default": 3}),
        json!({"plugins": []}),
        json!({"plugins": {"../x": "strict"}}),
        json!({"plugins": {"/x": "strict"}}),
        json!({"plugins": {"a b": "strict"}}),
        json!({"plugins": {"a b": null}}),
        json!({"plugins": {"p": ["strict"]}}),
        entry("cpu", json!(1)),
        entry("kv", json!({"keys": "1B"})),
        entry("filesystem", json!([{"mode": "read"}])),
        entry("filesystem", json!([{"root": "srv"}])),
        entry("filesystem", json!([{"root": "/srv", "mode": "write"}])),
        entry("http", json!("a.org")),
        entry("http", json!([""])),
        entry("http_private", json!(["localhost"])),
        entry("runtimes", json!(["docker"])),
    ];
    for absent in [json!(null), json!("")] {
        good.extend(["preset", "http", "memory", "timeout", "fuel", "tcp", "kv", "runtimes"].map(|name| entry(name, absent.clone())));
    }
    for (names, goods, bads) in [
        (
            &["memory", "http_max_response", "result_size", "message_size", "module_size"][..],
            json!(["1", "64MB", "64mib", "4 GB", 1, 65536]),
            json!(["64 megs", "-1", "0", 0, -1, 1.5, true, [], "1.5MB"]),
        ),
        (
            &["timeout", "load_timeout"][..],
            json!(["1s", "1h30m", "1.5h", ".5s", "300us"]),
            json!(["1", "0s", "-1s", 30, true, "s", "1 s", "0.0ms"]),
        ),
        (&["max_instances", "module_functions"][..], json!([1, 16, 4.0]), json!([0, -1, "16", 1.5, true, []])),
        (&["fuel"][..], json!([0, 1_000_000_000]), json!([-1, "x", 0.5])),
        (&["tcp", "require_digest"][..], json!([true, false]), json!(["yes", "true", 1, []])),
    ] {
        for name in names {
            good.extend(goods.as_array().unwrap().iter().map(|value| entry(name, value.clone())));
            bad.extend(bads.as_array().unwrap().iter().map(|value| entry(name, value.clone())));
        }
    }
    for policy in good {
        assert!(validator.is_valid(&policy), "{policy}: {:?}", validator.validate(&policy));
        Policy::parse(&policy).unwrap_or_else(|e| panic!("{policy}: {e}"));
    }
    for policy in bad {
        assert!(!validator.is_valid(&policy), "{policy}");
        let error = Policy::parse(&policy).expect_err(&policy.to_string());
        assert_eq!(error.kind(), Kind::InvalidConfig);
        assert!(!error.details()["problems"].as_array().unwrap().is_empty());
    }
}

#[test]
fn a_mistyped_bound_is_an_error_with_a_suggestion() {
    let error = Policy::parse(&json!({"plugins": {"p": {"memry": "1MB", "preset": "truste"}}})).unwrap_err();
    assert!(error.message().contains("policy.plugins.p.memry: unknown field; did you mean \"memory\"?"), "{error}");
    assert!(error.message().contains("did you mean \"trusted\"?"), "{error}");
}

#[test]
fn bounds_go_by_identity_and_what_is_not_named_comes_from_the_preset() {
    let folder = Folder::new();
    let policy = Policy::parse(&full()).unwrap();
    let manifest = folder
        .wasm(&json!({"http": [{"host": "x.example.org:8443"}], "memory": {"max": "200MB"}, "execution": {"timeout": "45s", "fuel": 7}}));
    let grants = policy.admit("org/reader", &manifest, &[]).unwrap();
    assert_eq!((grants.memory, grants.timeout.as_secs(), grants.fuel, grants.max_instances), (200 << 20, 45, Some(7), 4));
    assert_eq!((grants.http.len(), grants.http_private.len(), grants.http_max_response), (1, 1, 10 << 20));
    assert_eq!((grants.result_size, grants.message_size, grants.module_functions), (16 << 20, 64 << 20, 100_000));
    policy.admit("bookmarks", &manifest, &[]).unwrap();
    for other in ["reader", "org", "BOOKMARKS", "org/reader/x"] {
        assert_eq!(denials(&policy.admit(other, &manifest, &[]).unwrap_err()).len(), 3, "{other}");
    }
    let private = policy.admit("bookmarks", &manifest, &[]).unwrap().http_private;
    assert!(private.is_empty(), "private ranges are granted by the policy alone");
}

#[test]
fn a_wish_past_the_policy_names_the_line_that_grants_it() {
    let folder = Folder::new();
    let manifest = folder.manifest(&json!({
        "runtime": "wasm",
        "wasm": {
            "module": "bin/p.wasm", "pool": {"max_instances": 9},
            "permissions": {
                "http": [{"host": "api.example.com"}, {"host": "*.example.org"}], "filesystem": [{"path": "./data", "mode": "readwrite"}],
                "memory": {"max": "128MB"}, "execution": {"timeout": "1m"},
            },
        },
    }));
    let error = Policy::default().admit("mine", &manifest, &[]).unwrap_err();
    let data = folder.0.join("plugin/data");
    assert_eq!(
        denials(&error),
        [
            ("wasm.permissions.http".to_owned(), "http: [\"api.example.com\"]".to_owned()),
            ("wasm.permissions.http".to_owned(), "http: [\"*.example.org\"]".to_owned()),
            ("wasm.permissions.memory.max".to_owned(), "memory: 128MB".to_owned()),
            ("wasm.permissions.execution.timeout".to_owned(), "timeout: 60s".to_owned()),
            ("wasm.pool.max_instances".to_owned(), "max_instances: 9".to_owned()),
            (
                "wasm.permissions.filesystem[0]".to_owned(),
                format!("filesystem: [{{ root: {:?}, mode: readwrite }}]", folder.0.join("plugin/./data"))
            ),
        ]
        .map(|(field, grant)| (field, grant.replace("/./data", "/data")))
    );
    assert_eq!((error.plugin(), &error.details()["denied"]["what"]), ("mine", &json!("http")));
    assert!(error.message().contains("asked for 128MB, granted: at most 64MB; to grant it, set `memory: 128MB`"), "{error}");
    // The lines together grant it.
    let policy = json!({
        "http": ["api.example.com", "*.example.org"], "memory": "128MB", "timeout": "60s", "max_instances": 9,
        "filesystem": [{"root": data, "mode": "readwrite"}],
    });
    let grants = one(&policy).admit("mine", &manifest, &[]).unwrap();
    assert_eq!(grants.mounts, [Mount { host: data, guest: vec!["data".to_owned(), "/".to_owned()], writable: true }]);
}

#[test]
fn defaults_are_no_wishes_and_are_lowered() {
    let folder = Folder::new();
    let policy = one(&json!({"memory": "1MB", "timeout": "1s", "max_instances": 2, "fuel": 9}));
    let grants = policy.admit("p", &folder.wasm(&json!({})), &[]).unwrap();
    assert_eq!((grants.memory, grants.timeout.as_secs(), grants.max_instances, grants.fuel), (1 << 20, 1, 2, Some(9)));
    let error = policy.admit("p", &folder.wasm(&json!({"execution": {"fuel": 10, "timeout": "2s"}})), &[]).unwrap_err();
    assert_eq!(denials(&error).len(), 2);
}

#[test]
fn a_grpc_plugin_needs_the_runtime_granted() {
    let folder = Folder::new();
    let manifest = folder.manifest(
        &json!({"runtime": "grpc", "grpc": {"binary": "b", "call_timeout": "50s", "permissions": {"http": [{"host": "a.org"}]}}}),
    );
    let error = Policy::default().admit("p", &manifest, &[]).unwrap_err();
    assert_eq!(denials(&error)[0], ("runtime".to_owned(), "runtimes: [wasm, grpc]".to_owned()));
    assert!(error.message().contains("native code"), "{error}");
    let grants = one(&json!("trusted")).admit("p", &manifest, &[]).unwrap();
    assert!(grants.http[0].matches("a.org", 443) && grants.timeout.as_secs() > 1 << 32);
    let narrow = one(&json!({"preset": "trusted", "timeout": "40s", "load_timeout": "10s"}));
    assert_eq!(denials(&narrow.admit("p", &manifest, &[]).unwrap_err()), [("grpc.call_timeout".to_owned(), "timeout: 50s".to_owned())]);
    let digest = one(&json!({"preset": "trusted", "require_digest": true}));
    assert_eq!(denials(&digest.admit("p", &manifest, &[]).unwrap_err())[0].0, "grpc.sha256");
}

#[test]
fn mounts_are_named_as_written() {
    let folder = Folder::new();
    let trusted = json!("trusted");
    for (path, guest) in [("./data", "data"), ("data/", "data"), (".//./data", "data"), ("data/deep/..", "data/deep/.."), ("data", "data")]
    {
        let mounts = folder.mount(&trusted, &[(path, "read")]).unwrap();
        assert_eq!(
            mounts,
            [Mount { host: folder.0.join("plugin/data"), guest: vec![guest.to_owned(), "/".to_owned()], writable: false }],
            "{path}"
        );
    }
    let elsewhere = folder.0.join("elsewhere");
    let elsewhere = elsewhere.to_str().unwrap();
    let both = folder.mount(&trusted, &[("data", "read"), (elsewhere, "readwrite")]).unwrap();
    assert_eq!((both[0].guest.as_slice(), both[1].guest.as_slice()), (&["data".to_owned()][..], &[elsewhere.to_owned()][..]));
    assert_eq!(folder.mount(&trusted, &[("data", "read"), ("./data", "readwrite")]).unwrap_err().kind(), Kind::LoadFailed);
    for missing in ["nowhere", "plugin.yaml", "bin/p.wasm", "data/../nowhere"] {
        assert_eq!(folder.mount(&trusted, &[(missing, "read")]).unwrap_err().kind(), Kind::LoadFailed, "{missing}");
    }
    assert_eq!(folder.mount(&json!("strict"), &[("nowhere", "read")]).unwrap_err().kind(), Kind::PermissionDenied);
}

#[test]
fn a_mount_lies_in_a_granted_root_with_its_mode() {
    let folder = Folder::new();
    std::os::unix::fs::symlink(folder.0.join("elsewhere"), folder.0.join("plugin/data/out")).unwrap();
    let root = |path: &str, mode: &str| json!({"filesystem": [{"root": folder.0.join(path), "mode": mode}]});
    folder.mount(&root("plugin/data", "read"), &[("data/deep", "read")]).unwrap();
    folder.mount(&root("plugin", "readwrite"), &[("data", "readwrite"), ("data/deep", "read")]).unwrap();
    for (root, path, mode) in [
        (root("plugin/data", "read"), "data", "readwrite"),
        (root("plugin/data/deep", "read"), "data", "read"),
        (root("plugin/dat", "read"), "data", "read"),
        (root("plugin/data", "readwrite"), "data/out", "read"),
        (root("plugin/data", "readwrite"), "data/../../elsewhere", "read"),
        (root("nowhere", "readwrite"), "data", "read"),
    ] {
        let error = folder.mount(&root, &[(path, mode)]).unwrap_err();
        assert_eq!(denials(&error).len(), 1, "{path}: {error}");
    }
}

#[test]
fn no_mount_holds_what_the_plugin_is() {
    let folder = Folder::new();
    let link = |target: &str, name: &str| std::os::unix::fs::symlink(folder.0.join(target), folder.0.join(name)).unwrap();
    link("plugin", "plugin/data/self");
    link("cache", "plugin/data/cache");
    let root = folder.0.parent().unwrap().to_str().unwrap();
    for path in [".", "./", "..", "bin", "data/..", "data/self", "data/self/bin", "data/cache", "../cache", "/", root] {
        let error = folder.mount(&json!("trusted"), &[(path, "read")]).unwrap_err();
        assert!(error.message().contains("no policy grants it"), "{path}: {error}");
    }
    folder.mount(&json!("trusted"), &[("data", "readwrite")]).unwrap();
    // Links on the way to the artifact are what the plugin is, too.
    fs::remove_file(folder.0.join("plugin/bin/p.wasm")).unwrap();
    fs::create_dir(folder.0.join("plugin/links")).unwrap();
    fs::write(folder.0.join("elsewhere/real.wasm"), "").unwrap();
    link("elsewhere/real.wasm", "plugin/links/hop");
    link("plugin/links/hop", "plugin/bin/p.wasm");
    for path in ["links", "../elsewhere", "bin"] {
        folder.mount(&json!("trusted"), &[(path, "read")]).expect_err(path);
    }
    // What does not exist yet is protected as well.
    let manifest = folder.wasm(&json!({"filesystem": [{"path": "data"}]}));
    let kv = [folder.0.join("plugin/data/deep/kv.db"), PathBuf::from("")];
    one(&json!("trusted")).admit("p", &manifest, &kv).unwrap_err();
    one(&json!("trusted")).admit("p", &manifest, &[Path::new("/nowhere/kv.db").to_owned()]).unwrap();
}
