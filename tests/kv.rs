//! The store in one file: what it keeps over restarts, a `kill -9` among them, and what it says of files that it cannot use.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    missing_docs,
    reason = "a test fails by panicking"
)]
#![allow(dead_code, reason = "the tests of the wasm runner use the rest of its support")]

#[path = "kv/full.rs"]
mod full;
#[path = "kv/kill.rs"]
mod kill;
#[path = "wasm/support.rs"]
mod support;

use std::os::unix::fs::{FileExt, PermissionsExt};
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use flowplug::call::{Cancel, Chain, Deadline};
use flowplug::error::Kind;
use flowplug::host::kv::file::FileKv;
use flowplug::host::{Caller, PluginContext};
use support::{Folder, LONG, TestHost, grants};

/// A plugin with 1000 bytes of storage.
fn plugin(identity: &str) -> Arc<PluginContext> {
    let mut grants = grants();
    grants.kv.total = 1000;
    PluginContext::new(identity, grants, Arc::new(TestHost::default()))
}

pub(crate) fn asking<R>(plugin: &Arc<PluginContext>, ask: impl FnOnce(&Caller<'_>) -> R) -> R {
    let deadline = Deadline::after(LONG);
    ask(&caller(plugin, &deadline, None))
}

fn caller<'a>(plugin: &'a Arc<PluginContext>, deadline: &'a Deadline, cancel: Option<&'a Cancel>) -> Caller<'a> {
    Caller { context: plugin, function: "f", tag: 0, traceparent: "", deadline, cancel, chain: Chain::default() }
}

/// Why a file is refused, which must leave it as it was.
fn refused(path: &Path) -> String {
    let before = std::fs::read(path).ok();
    let error = FileKv::open(path).unwrap_err();
    assert_eq!(error.kind(), Kind::Io, "{error}");
    assert_eq!(std::fs::read(path).ok(), before, "{error}");
    error.to_string()
}

#[test]
fn values_outlive_the_host_and_an_empty_one_is_not_a_missing_one() {
    let folder = Folder::new();
    let path = folder.0.join("kv");
    let p = plugin("p");
    let kv = FileKv::open(&path).unwrap();
    assert_eq!(std::fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
    asking(&p, |caller| {
        kv.set(caller, "plugin:p:a", b"\0\xff").unwrap();
        kv.set(caller, "plugin:p:empty", b"").unwrap();
        kv.set(caller, "plugin:p:gone", b"x").unwrap();
        kv.delete(caller, "plugin:p:gone").unwrap();
        kv.delete(caller, "plugin:p:never").unwrap();
    });
    drop(kv);
    let kv = FileKv::open(&path).unwrap();
    assert_eq!(kv.get("plugin:p:a").unwrap().unwrap(), b"\0\xff");
    assert_eq!(kv.get("plugin:p:empty").unwrap().unwrap(), b"");
    assert_eq!((kv.get("plugin:p:gone").unwrap(), kv.get("plugin:p:never").unwrap()), (None, None));
    let names: Vec<_> = std::fs::read_dir(&folder.0).unwrap().map(|entry| entry.unwrap().file_name()).collect();
    assert_eq!(names, ["kv"]);
}

#[test]
fn the_quota_of_each_plugin_holds_over_restarts() {
    let folder = Folder::new();
    let path = folder.0.join("kv");
    let (p, other) = (plugin("org/p"), plugin("org"));
    let full = |kv: &FileKv| {
        let error = asking(&p, |caller| kv.set(caller, "plugin:org/p:b", &[0; 500]).unwrap_err());
        assert_eq!((error.kind(), error.message().contains("kv.total")), (Kind::PermissionDenied, true), "{error}");
        assert_eq!(kv.get("plugin:org/p:b").unwrap(), None);
    };
    let kv = FileKv::open(&path).unwrap();
    asking(&p, |caller| kv.set(caller, "plugin:org/p:a", &[1; 500]).unwrap());
    full(&kv);
    asking(&other, |caller| kv.set(caller, "plugin:org:p", &[2; 500]).unwrap());
    drop(kv);

    let kv = FileKv::open(&path).unwrap();
    full(&kv);
    asking(&p, |caller| {
        kv.set(caller, "plugin:org/p:a", &[3; 800]).unwrap();
        kv.delete(caller, "plugin:org/p:a").unwrap();
        kv.set(caller, "plugin:org/p:b", &[4; 500]).unwrap();
    });
}

#[test]
fn what_waits_at_the_same_time_is_written_by_one_commit_each_answered_for_itself() {
    let folder = Folder::new();
    let kv = FileKv::open(&folder.0.join("kv")).unwrap();
    std::thread::scope(|scope| {
        for thread in 0..16 {
            let kv = &kv;
            scope.spawn(move || {
                let own = plugin(&format!("p{thread}"));
                for n in 0..20 {
                    let key = format!("plugin:p{thread}:k");
                    // Every other is past the quota, and must not take a neighbour's with it.
                    let large = vec![n; if n % 2 == 1 { 2000 } else { 10 }];
                    let answer = asking(&own, |caller| kv.set(caller, &key, &large));
                    assert_eq!(answer.is_err(), n % 2 == 1);
                    assert_eq!(kv.get(&key).unwrap().unwrap(), [n / 2 * 2; 10]);
                }
            });
        }
    });
}

#[test]
fn a_write_that_nobody_waits_for_any_more_is_an_error_of_its_own() {
    let folder = Folder::new();
    let kv = FileKv::open(&folder.0.join("kv")).unwrap();
    let (p, cancel) = (plugin("p"), Cancel::new());
    cancel.cancel();
    let late = Deadline::after(Duration::ZERO);
    assert_eq!(kv.set(&caller(&p, &late, None), "plugin:p:a", b"x").map_or_else(|e| e.kind(), |()| Kind::Timeout), Kind::Timeout);
    let never = Deadline::never();
    let answer = kv.set(&caller(&p, &never, Some(&cancel)), "plugin:p:a", b"x");
    assert_eq!(answer.map_or_else(|e| e.kind(), |()| Kind::Cancelled), Kind::Cancelled);
    asking(&p, |caller| kv.set(caller, "plugin:p:a", b"y").unwrap());
    assert_eq!(kv.get("plugin:p:a").unwrap().unwrap(), b"y");
}

#[test]
fn one_host_has_the_file_until_it_is_closed() {
    let folder = Folder::new();
    let path = folder.0.join("kv");
    let first = FileKv::open(&path).unwrap();
    let p = plugin("p");
    asking(&p, |caller| first.set(caller, "plugin:p:a", b"x").unwrap());
    let error = FileKv::open(&path).unwrap_err();
    assert_eq!((error.kind(), error.message().contains("in use")), (Kind::Io, true), "{error}");
    first.close();
    first.close();
    let second = FileKv::open(&path).unwrap();
    assert_eq!(second.get("plugin:p:a").unwrap().unwrap(), b"x");
    assert_eq!(first.get("plugin:p:a").unwrap_err().kind(), Kind::InvalidState);
    assert_eq!(asking(&p, |caller| first.set(caller, "plugin:p:a", b"y").unwrap_err().kind()), Kind::InvalidState);
}

#[test]
fn many_that_make_the_file_at_once_agree_on_one() {
    for _ in 0..20 {
        let folder = Folder::new();
        let path = folder.0.join("kv");
        let opened: Vec<_> = std::thread::scope(|scope| {
            let threads: Vec<_> = (0..4).map(|_| scope.spawn(|| FileKv::open(&path))).collect();
            threads.into_iter().map(|thread| thread.join().unwrap()).collect()
        });
        assert!(opened.iter().filter(|one| one.is_ok()).count() <= 1);
        let refused = opened.iter().filter_map(|one| one.as_ref().err());
        refused.for_each(|e| assert!(e.message().contains("in use"), "{e}"));
        drop(opened);
        drop(FileKv::open(&path).unwrap());
        assert!(!folder.0.join("kv.new").exists());
    }
}

#[test]
fn what_a_killed_host_left_of_a_new_file_is_made_anew() {
    let folder = Folder::new();
    let path = folder.0.join("kv");
    std::fs::write(folder.0.join("kv.new"), vec![7; 5000]).unwrap();
    let kv = FileKv::open(&path).unwrap();
    let p = plugin("p");
    asking(&p, |caller| kv.set(caller, "plugin:p:a", b"x").unwrap());
    assert!(!folder.0.join("kv.new").exists());
}

#[test]
fn a_file_that_is_not_ours_is_refused_and_left_alone() {
    let folder = Folder::new();
    let path = folder.0.join("kv");
    for foreign in [&b""[..], b"\0", b"name: bookmarks\n", &[0; 8192], &[0xff; 100_000], b"redb\x1a\x0a\xa9\x0d\x0a"] {
        std::fs::write(&path, foreign).unwrap();
        let why = refused(&path);
        assert!(why.contains("no KV file of flowplug"), "{why}");
    }
    std::fs::remove_file(&path).unwrap();
    assert!(refused(&folder.0).contains("not a file"));
    assert!(refused(&folder.0.join("none/kv")).contains("folder must be there"));
    std::os::unix::fs::symlink(folder.0.join("nowhere/kv"), folder.0.join("link")).unwrap();
    refused(&folder.0.join("link"));
    let other = redb::Database::create(folder.0.join("other")).unwrap();
    let transaction = other.begin_write().unwrap();
    transaction.open_table(redb::TableDefinition::<u64, u64>::new("theirs")).unwrap();
    transaction.commit().unwrap();
    drop(other);
    let why = FileKv::open(&folder.0.join("other")).unwrap_err();
    assert!(why.message().contains("another program"), "{why}");
}

#[test]
fn damage_anywhere_is_found_or_harmless_and_never_a_crash() {
    let folder = Folder::new();
    let (good, path) = (folder.0.join("good"), folder.0.join("kv"));
    let kv = FileKv::open(&good).unwrap();
    let mut large = grants();
    large.kv.total = 1 << 20;
    let p = PluginContext::new("p", large, Arc::new(TestHost::default()));
    let value = |n: u8| vec![n; 700];
    for n in 0..100 {
        asking(&p, |caller| kv.set(caller, &format!("plugin:p:{n}"), &value(n)).unwrap());
    }
    drop(kv);
    let whole = std::fs::read(&good).unwrap();
    let (mut found, mut harmless) = (0, 0);
    for place in (0..400).map(|n| if n < 100 { n * 4 } else { n * 977 % whole.len() }) {
        std::fs::write(&path, &whole).unwrap();
        std::fs::File::options().write(true).open(&path).unwrap().write_all_at(&[whole[place] ^ 0x41], place as u64).unwrap();
        match FileKv::open(&path) {
            Ok(kv) => {
                (0..100).for_each(|n| assert_eq!(kv.get(&format!("plugin:p:{n}")).unwrap().unwrap(), value(n), "at {place}"));
                harmless += 1;
            }
            Err(e) => {
                assert_eq!(e.kind(), Kind::Io);
                found += 1;
            }
        }
    }
    assert!(found > 20 && harmless > 20, "{found} found, {harmless} harmless");
    for length in [1, 511, 4096, whole.len() / 2, whole.len() - 1] {
        std::fs::write(&path, &whole[..length]).unwrap();
        refused(&path);
    }
}
