//! The local source: what is told of a folder of plugins that is edited while it is watched.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    missing_docs,
    reason = "a test fails by panicking"
)]

use std::collections::BTreeSet;
use std::fs::{self, File};
use std::io::Write;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, channel};
use std::time::Duration;

use flowplug::error::Kind;
use flowplug::source::{Change, Local, Source, SourceConfig, open};

/// A bound for what has no business to take long.
const SOON: Duration = Duration::from_secs(60);
/// Longer than any test takes.
const NEVER: Duration = Duration::from_secs(3600);

struct Scratch(PathBuf);

impl Scratch {
    fn new() -> Self {
        static NUMBER: AtomicU64 = AtomicU64::new(0);
        let name = format!("flowplug-source-{}-{}", std::process::id(), NUMBER.fetch_add(1, Ordering::Relaxed));
        let path = std::env::temp_dir().join(name);
        fs::create_dir_all(path.join("plugins")).unwrap();
        Scratch(path)
    }

    fn plugins(&self) -> PathBuf {
        self.0.join("plugins")
    }

    /// A plugin's folder, whole, below any folder.
    fn plugin(&self, at: &Path, version: &str) -> PathBuf {
        fs::create_dir_all(at).unwrap();
        fs::write(at.join("plugin.wasm"), version).unwrap();
        fs::write(at.join("plugin.yaml"), manifest(version)).unwrap();
        at.to_owned()
    }

    fn put(&self, identity: &str, version: &str) -> PathBuf {
        self.plugin(&self.plugins().join(identity), version)
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        drop(fs::remove_dir_all(&self.0));
    }
}

fn manifest(version: &str) -> String {
    format!("name: test\nversion: \"{version}\"\nruntime: wasm\nwasm:\n  module: ./plugin.wasm\n")
}

/// A change in a few words: `identity version`, `identity broken`, `identity gone`, `lost`.
fn words(change: &Change) -> String {
    match change {
        Change::Updated(found) => match &found.manifest {
            Ok(manifest) => format!("{} {}", found.identity, manifest.version),
            Err(e) => format!("{} {}", found.identity, e.kind().name()),
        },
        Change::Removed(identity) => format!("{identity} gone"),
        Change::Lost(_) => "lost".to_owned(),
    }
}

struct Watched {
    source: Local,
    told: Receiver<String>,
}

impl Watched {
    fn new(source: Local) -> Self {
        let (send, told) = channel();
        source.discover().unwrap();
        source.watch(Box::new(move |change| drop(send.send(words(&change))))).unwrap();
        Watched { source, told }
    }

    #[track_caller]
    fn next(&self) -> String {
        self.told.recv_timeout(SOON).expect("nothing was told")
    }

    /// Changes a plugin of its own, and nothing else is told before that.
    #[track_caller]
    fn nothing_else(&self, scratch: &Scratch) {
        static NUMBER: AtomicU64 = AtomicU64::new(0);
        let version = NUMBER.fetch_add(1, Ordering::Relaxed).to_string();
        scratch.put("sentinel", &version);
        assert_eq!(self.next(), format!("sentinel {version}"));
    }
}

/// One after the other: with notices alone, and without any.
fn both(scratch: &Scratch) -> impl Iterator<Item = Watched> {
    let root = scratch.plugins();
    [true, false].into_iter().map(move |notices| {
        let source = Local::new(&root, Some(if notices { NEVER } else { Duration::from_millis(20) }));
        Watched::new(if notices { source } else { source.without_notices() })
    })
}

#[test]
fn everything_is_discovered_in_order_with_what_is_wrong_with_it() {
    let scratch = Scratch::new();
    for (identity, version) in [("b", "1"), ("a", "2"), (".hidden", "3")] {
        scratch.put(identity, version);
    }
    fs::write(scratch.put("c", "4").join("plugin.yaml"), "name: [").unwrap();
    fs::create_dir(scratch.plugins().join("no-plugin")).unwrap();
    fs::write(scratch.plugins().join("file"), "").unwrap();
    let found = Local::new(&scratch.plugins(), None).discover().unwrap();
    let identities: Vec<&str> = found.iter().map(|found| found.identity.as_str()).collect();
    assert_eq!(identities, ["a", "b", "c"]);
    assert_eq!(found[0].manifest.as_ref().unwrap().version, "2");
    assert_eq!(found[0].folder, scratch.plugins().join("a"));
    assert_eq!(found[2].manifest.as_ref().unwrap_err().kind(), Kind::InvalidManifest);
}

#[test]
fn a_folder_that_is_not_there_says_what_to_do() {
    let scratch = Scratch::new();
    let error = Local::new(&scratch.0.join("missing"), None).discover().unwrap_err();
    assert_eq!((error.kind(), error.message().contains("Make it")), (Kind::Io, true), "{error}");
}

#[test]
fn new_written_renamed_over_and_deleted_plugins_are_told_with_notices_and_without() {
    let scratch = Scratch::new();
    let old = scratch.put("old", "1");
    for watched in both(&scratch) {
        let new = scratch.put("new", "1");
        assert_eq!(watched.next(), "new 1");
        fs::write(old.join("plugin.yaml"), manifest("written")).unwrap();
        assert_eq!(watched.next(), "old written");
        fs::write(old.join("beside"), manifest("renamed")).unwrap();
        fs::rename(old.join("beside"), old.join("plugin.yaml")).unwrap();
        assert_eq!(watched.next(), "old renamed");
        fs::write(old.join("plugin.wasm"), "another artifact").unwrap();
        assert_eq!(watched.next(), "old renamed");
        fs::write(old.join("beside"), "one more").unwrap();
        fs::rename(old.join("beside"), old.join("plugin.wasm")).unwrap();
        assert_eq!(watched.next(), "old renamed");
        fs::remove_dir_all(&new).unwrap();
        assert_eq!(watched.next(), "new gone");
        watched.nothing_else(&scratch);
        watched.source.close();
        fs::remove_dir_all(scratch.plugins().join("sentinel")).unwrap();
    }
}

#[test]
fn what_happened_between_discovery_and_watching_is_told() {
    let scratch = Scratch::new();
    let (old, gone) = (scratch.put("old", "1"), scratch.put("gone", "1"));
    let source = Local::new(&scratch.plugins(), Some(NEVER));
    source.discover().unwrap();
    fs::write(old.join("plugin.yaml"), manifest("2")).unwrap();
    fs::remove_dir_all(gone).unwrap();
    scratch.put("new", "1");
    let (send, told) = channel();
    source.watch(Box::new(move |change| drop(send.send(words(&change))))).unwrap();
    let all: BTreeSet<String> = (0..3).map(|_| told.recv_timeout(SOON).unwrap()).collect();
    assert_eq!(all.iter().map(String::as_str).collect::<Vec<_>>(), ["gone gone", "new 1", "old 2"]);
}

#[test]
fn a_manifest_that_is_half_written_is_told_when_it_is_whole() {
    let scratch = Scratch::new();
    let old = scratch.put("old", "1");
    let watched = Watched::new(Local::new(&scratch.plugins(), Some(NEVER)).with_patience(NEVER));
    // Both halves are manifests that could be used; only the second is what was meant.
    let mut file = File::create(old.join("plugin.yaml")).unwrap();
    file.write_all(manifest("half").as_bytes()).unwrap();
    watched.nothing_else(&scratch);
    file.write_all(b"description: the other half\n").unwrap();
    drop(file);
    assert_eq!(watched.next(), "old half");
    watched.nothing_else(&scratch);
}

#[test]
fn a_half_that_is_no_manifest_waits_for_the_rest() {
    let scratch = Scratch::new();
    let old = scratch.put("old", "1");
    let watched = Watched::new(Local::new(&scratch.plugins(), Some(NEVER)).with_patience(NEVER));
    fs::write(old.join("plugin.yaml"), "name: test\nversion: \"2\nruntime").unwrap();
    watched.nothing_else(&scratch);
    fs::write(old.join("plugin.yaml"), manifest("2")).unwrap();
    assert_eq!(watched.next(), "old 2");
}

#[test]
fn a_manifest_that_stays_broken_is_told_with_its_reason() {
    let scratch = Scratch::new();
    let old = scratch.put("old", "1");
    for watched in both(&scratch) {
        fs::write(old.join("plugin.yaml"), "name: [").unwrap();
        assert_eq!(watched.next(), "old invalid_manifest");
        fs::write(old.join("plugin.yaml"), manifest("2")).unwrap();
        assert_eq!(watched.next(), "old 2");
    }
}

#[test]
fn a_program_is_told_again_when_its_writer_has_closed_it() {
    let scratch = Scratch::new();
    let old = scratch.put("old", "1");
    let watched = Watched::new(Local::new(&scratch.plugins(), Some(NEVER)).with_patience(Duration::from_millis(300)));
    let mut file = File::create(old.join("plugin.wasm")).unwrap();
    file.write_all(b"all of it").unwrap();
    assert_eq!(watched.next(), "old 1", "past the patience");
    drop(file);
    assert_eq!(watched.next(), "old 1", "and when it can be run");
    watched.nothing_else(&scratch);
}

#[test]
fn the_files_of_editors_are_passed_over() {
    let scratch = Scratch::new();
    let old = scratch.put("old", "1");
    for watched in both(&scratch) {
        for name in [".plugin.yaml.swp", "plugin.yaml~", "4913", "#plugin.yaml#", "plugin.yaml.tmp", ".#plugin.yaml"] {
            fs::write(old.join(name), "name: [").unwrap();
            fs::write(scratch.plugins().join(name), "name: [").unwrap();
        }
        scratch.put(".staging", "1");
        watched.nothing_else(&scratch);
        // As vim saves: the old one is put aside, a new one written, the old one deleted.
        fs::rename(old.join("plugin.yaml"), old.join("plugin.yaml~")).unwrap();
        fs::write(old.join("plugin.yaml"), manifest("saved")).unwrap();
        fs::remove_file(old.join("plugin.yaml~")).unwrap();
        assert_eq!(watched.next(), "old saved");
        watched.nothing_else(&scratch);
    }
}

#[test]
fn a_plugin_may_write_in_its_own_folder() {
    let scratch = Scratch::new();
    let old = scratch.put("old", "1");
    for watched in both(&scratch) {
        fs::create_dir_all(old.join("data")).unwrap();
        for n in 0..1000 {
            fs::write(old.join(format!("data/{n}")), "x").unwrap();
            fs::write(old.join("log"), format!("{n}")).unwrap();
        }
        watched.nothing_else(&scratch);
    }
}

#[test]
fn a_folder_replaced_by_a_link_and_a_link_by_another_are_told() {
    let scratch = Scratch::new();
    for watched in both(&scratch) {
        let releases = ["v1", "v2", "v3"].map(|v| scratch.plugin(&scratch.0.join(v), v));
        let place = scratch.put("linked", "v0");
        assert_eq!(watched.next(), "linked v0");
        fs::rename(&place, scratch.0.join("aside")).unwrap();
        symlink(&releases[0], &place).unwrap();
        assert_eq!(watched.next(), "linked v1");
        for (release, told) in [(1, "linked v2"), (2, "linked v3")] {
            symlink(&releases[release], scratch.0.join("next")).unwrap();
            fs::rename(scratch.0.join("next"), &place).unwrap();
            assert_eq!(watched.next(), told);
        }
        // What the link leads to is followed, too, and what it led to is not.
        fs::write(releases[0].join("plugin.yaml"), manifest("unseen")).unwrap();
        watched.nothing_else(&scratch);
        fs::write(releases[2].join("plugin.yaml"), manifest("seen")).unwrap();
        assert_eq!(watched.next(), "linked seen");
        fs::remove_file(&place).unwrap();
        assert_eq!(watched.next(), "linked gone");
        watched.source.close();
        fs::remove_dir_all(scratch.0.join("aside")).unwrap();
        fs::remove_dir_all(scratch.plugins().join("sentinel")).unwrap();
    }
}

#[test]
fn files_that_are_links_into_a_folder_that_is_swapped_are_told() {
    let scratch = Scratch::new();
    let place = scratch.plugins().join("mounted");
    for version in ["1", "2"] {
        scratch.plugin(&place.join(format!("..{version}")), version);
    }
    fs::remove_dir_all(place.join("..2")).unwrap();
    symlink("..1", place.join("..data")).unwrap();
    for file in ["plugin.yaml", "plugin.wasm"] {
        symlink(format!("..data/{file}"), place.join(file)).unwrap();
    }
    let watched = Watched::new(Local::new(&scratch.plugins(), Some(NEVER)));
    scratch.plugin(&place.join("..2"), "2");
    symlink("..2", place.join("..next")).unwrap();
    fs::rename(place.join("..next"), place.join("..data")).unwrap();
    assert_eq!(watched.next(), "mounted 2");
    watched.nothing_else(&scratch);
}

#[test]
fn an_artifact_that_lies_elsewhere_is_followed() {
    let scratch = Scratch::new();
    let elsewhere = scratch.0.join("build");
    fs::create_dir(&elsewhere).unwrap();
    fs::write(elsewhere.join("out.wasm"), "1").unwrap();
    let place = scratch.put("far", "1");
    fs::write(place.join("plugin.yaml"), manifest("1").replace("./plugin.wasm", elsewhere.join("out.wasm").to_str().unwrap())).unwrap();
    let watched = Watched::new(Local::new(&scratch.plugins(), Some(NEVER)));
    watched.nothing_else(&scratch);
    fs::write(elsewhere.join("out.wasm"), "22").unwrap();
    assert_eq!(watched.next(), "far 1");
}

#[test]
fn a_root_that_goes_takes_no_plugin_with_it_and_one_that_comes_back_is_followed() {
    let scratch = Scratch::new();
    scratch.put("old", "1");
    scratch.put("other", "1");
    let root = scratch.0.join("root");
    symlink(scratch.plugins(), &root).unwrap();
    let quick = Some(Duration::from_millis(100));
    let watched = Watched::new(Local::new(&root, quick));
    fs::remove_file(&root).unwrap();
    assert_eq!(watched.next(), "lost");
    let elsewhere = scratch.0.join("elsewhere");
    for (name, version) in [("old", "2"), ("new", "1")] {
        scratch.plugin(&elsewhere.join(name), version);
    }
    symlink(&elsewhere, &root).unwrap();
    let all: BTreeSet<String> = (0..3).map(|_| watched.next()).collect();
    assert_eq!(all.iter().map(String::as_str).collect::<Vec<_>>(), ["new 1", "old 2", "other gone"]);
    fs::write(elsewhere.join("new/plugin.yaml"), manifest("3")).unwrap();
    assert_eq!(watched.next(), "new 3");
}

#[test]
fn five_hundred_plugins_at_once_are_each_told_once() {
    let scratch = Scratch::new();
    for watched in both(&scratch) {
        (0..500).for_each(|n| drop(scratch.put(&format!("p{n}"), "1")));
        let told: Vec<String> = (0..500).map(|_| watched.next()).collect();
        assert_eq!(told.iter().collect::<BTreeSet<_>>().len(), 500);
        (0..500).for_each(|n| fs::remove_dir_all(scratch.plugins().join(format!("p{n}"))).unwrap());
        let gone: BTreeSet<String> = (0..500).map(|_| watched.next()).collect();
        assert!(gone.len() == 500 && gone.iter().all(|words| words.ends_with(" gone")));
        watched.nothing_else(&scratch);
        watched.source.close();
        fs::remove_dir_all(scratch.plugins().join("sentinel")).unwrap();
    }
}

#[test]
fn a_closed_source_tells_nothing_and_has_no_thread() {
    let scratch = Scratch::new();
    let watched = Watched::new(Local::new(&scratch.plugins(), Some(Duration::from_millis(20))));
    watched.nothing_else(&scratch);
    watched.source.close();
    scratch.put("late", "1");
    // What is told went with the thread.
    assert!(watched.told.recv_timeout(SOON).is_err_and(|e| e == std::sync::mpsc::RecvTimeoutError::Disconnected));
    watched.source.close();
}

#[test]
fn what_a_later_version_will_have_says_so() {
    let git = SourceConfig::Git { repos: Vec::new(), poll_interval: None };
    let oci = SourceConfig::Oci { registry: "registry.example".into(), repos: Vec::new(), poll_interval: None };
    for (config, name) in [(git, "git"), (oci, "oci")] {
        let source = open(&config);
        let error = source.discover().unwrap_err();
        assert_eq!((error.kind(), error.message().contains(name)), (Kind::Unsupported, true), "{error}");
        assert!(source.label().starts_with(name));
        source.watch(Box::new(|_| ())).unwrap();
        source.close();
    }
}
