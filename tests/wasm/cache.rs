//! What has been compiled is not compiled again, and nothing but that is run.

use std::fs::{File, Permissions};
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::process::{Child, Command};
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use flowplug::error::Kind;
use flowplug::wasm::Plugin;
use serde_json::Value;

use crate::support::*;

/// A setup whose compile cache is in its own folder.
fn caching() -> (Setup, PathBuf) {
    let mut setup = Setup::new();
    let folder = setup.folder.0.join("cache");
    setup.settings.cache_dir = Some(folder.clone());
    (setup, folder)
}

/// A guest that no other test compiles, since what one has is another's too.
fn saying(word: &str) -> String {
    guest(
        "",
        &format!(
            r#"(func (export "say") (result i64) (call $json (i32.const 512) (i32.const {})))(data (i32.const 512) "\"{word}\"")"#,
            word.len() + 2
        ),
    )
}

/// The progress that was told since this was last asked.
fn progress(setup: &Setup) -> Vec<Value> {
    std::mem::take(&mut *setup.host.events.lock().unwrap()).iter().map(|event| serde_json::from_str(event).unwrap()).collect()
}

/// Loads the guest, which must say its word; whether it was compiled.
fn compiles(setup: &Setup, word: &str) -> bool {
    progress(setup);
    says(&setup.started(&saying(word)), word);
    match progress(setup).len() {
        0 => false,
        2 => true,
        other => panic!("{other} events"),
    }
}

fn says(plugin: &Plugin, word: &str) {
    assert_eq!(ask(plugin, "say", "").unwrap(), format!("\"{word}\""));
}

/// The files of a cache that end so.
fn files(cache: &Path, end: &str) -> Vec<PathBuf> {
    let all = std::fs::read_dir(cache).unwrap().map(|entry| entry.unwrap().path());
    all.filter(|path| path.to_str().unwrap().ends_with(end)).collect()
}

/// The one file of a cache that ends so.
fn file(cache: &Path, end: &str) -> PathBuf {
    let [file] = &files(cache, end)[..] else { panic!("one file was expected") };
    file.clone()
}

#[test]
fn the_first_compilation_is_told_and_the_next_load_needs_none() {
    let (setup, cache) = caching();
    drop(setup.started(&saying("told")));
    let events = progress(&setup);
    let [begun, done] = &events[..] else { panic!("two events were expected: {events:?}") };
    assert_eq!((&begun["type"], &begun["plugin"], &begun["progress"]["step"]), (&"progress".into(), &"org/test".into(), &"compile".into()));
    let total = begun["progress"]["total"].as_u64().unwrap();
    assert!(total > 3 && begun["time"].as_str().unwrap().ends_with('Z'), "{begun}");
    assert_eq!(
        (&begun["progress"]["done"], &done["progress"]["done"], &done["progress"]["total"]),
        (&0.into(), &total.into(), &total.into())
    );
    assert!(!compiles(&setup, "told"));
    for file in [file(&cache, ".cwasm"), file(&cache, ".seal")] {
        assert_eq!(std::fs::metadata(file).unwrap().mode() & 0o777, 0o600);
    }
    assert_eq!(std::fs::metadata(&cache).unwrap().mode() & 0o777, 0o700);
}

#[test]
fn a_module_that_some_plugin_has_is_shared_without_any_cache() {
    let setup = Setup::new();
    let first = setup.started(&saying("shared"));
    assert!(!compiles(&setup, "shared"));
    says(&first, "shared");
    drop(first);
    assert!(compiles(&setup, "shared"));
    // Not over a bound of its own: it is another plugin.
    let _first = setup.started(&saying("shared"));
    let mut bounded = Setup::new();
    bounded.grants.module_functions = 3;
    assert_eq!(kind_of(bounded.load(&saying("shared"), &call())), Kind::PermissionDenied);
}

#[test]
fn what_is_not_what_was_sealed_is_made_again() {
    let (setup, cache) = caching();
    assert!(compiles(&setup, "sealed"));
    let (artifact, seal) = (file(&cache, ".cwasm"), file(&cache, ".seal"));
    let good = std::fs::read(&artifact).unwrap();
    let mut flipped = good.clone();
    flipped[good.len() / 2] ^= 1;
    // In place: the file has its length and its number still.
    for bad in [&flipped[..], &good[..good.len() / 2], b"", b"\x7fELF garbage"] {
        std::fs::write(&artifact, bad).unwrap();
        assert!(compiles(&setup, "sealed"), "{} bytes", bad.len());
        assert!(!compiles(&setup, "sealed"));
    }
    for bad in ["", "garbage", &std::fs::read_to_string(&seal).unwrap().replace("seal 1", "seal 2"), &"x".repeat(1 << 20)] {
        std::fs::write(&seal, bad).unwrap();
        assert!(compiles(&setup, "sealed"), "{}", bad.len());
        assert!(!compiles(&setup, "sealed"));
    }
    std::fs::remove_file(&artifact).unwrap();
    assert!(compiles(&setup, "sealed"));
    std::fs::set_permissions(&artifact, Permissions::from_mode(0o622)).unwrap();
    assert!(compiles(&setup, "sealed"), "others could write to it");
}

#[test]
fn what_another_process_is_about_to_replace_is_left_to_it() {
    let (mut setup, cache) = caching();
    assert!(compiles(&setup, "replaced"));
    let seal = file(&cache, ".seal");
    let good = std::fs::read_to_string(&seal).unwrap();
    // As it is between its two files: the new artifact beside the old seal.
    std::fs::write(&seal, good.replace(good.lines().nth(3).unwrap(), &"0".repeat(64))).unwrap();
    setup.settings.cache_size = 1;
    assert!(compiles(&setup, "replaced"), "and is too large to be kept");
    std::fs::write(&seal, good).unwrap();
    assert!(!compiles(&setup, "replaced"));
}

#[test]
fn what_belongs_to_another_user_is_not_used() {
    let (mut setup, cache) = caching();
    assert!(compiles(&setup, "foreign"));
    let nobody = Some(65534);
    for end in [".cwasm", ".seal"] {
        if std::os::unix::fs::chown(file(&cache, end), nobody, None).is_ok() {
            assert!(compiles(&setup, "foreign"), "{end}");
            assert!(!compiles(&setup, "foreign"), "{end}: it was replaced");
        }
    }
    // Whoever cannot give files away is not the one to whom this belongs.
    setup.settings.cache_dir = Some("/".into());
    setup.host.taken();
    assert!(compiles(&setup, "foreign"));
    assert!(setup.host.taken().iter().any(|record| record.contains("folder of this user")));
}

#[test]
fn a_copy_of_an_artifact_is_hashed_and_then_believed() {
    let (setup, cache) = caching();
    assert!(compiles(&setup, "copied"));
    let (artifact, before) = (file(&cache, ".cwasm"), std::fs::read_to_string(file(&cache, ".seal")).unwrap());
    let copy = setup.folder.0.join("copy");
    std::fs::copy(&artifact, &copy).unwrap();
    std::fs::rename(&copy, &artifact).unwrap();
    assert!(!compiles(&setup, "copied"));
    let after = std::fs::read_to_string(file(&cache, ".seal")).unwrap();
    assert!(before != after && after.contains(&std::fs::metadata(&artifact).unwrap().ino().to_string()), "{after}");
}

#[test]
fn a_file_that_has_not_changed_for_long_is_not_hashed_again() {
    let (setup, cache) = caching();
    assert!(compiles(&setup, "hashed"));
    let seal = file(&cache, ".seal");
    let text = std::fs::read_to_string(&seal).unwrap();
    let digest = text.lines().nth(3).unwrap();
    assert!(digest.len() == 64 && text.ends_with("\nfalse\n"), "{text}");
    let wrong = text.replace(digest, &"0".repeat(64));
    std::fs::write(&seal, wrong.replace("\nfalse\n", "\ntrue\n")).unwrap();
    assert!(!compiles(&setup, "hashed"));
    std::fs::write(&seal, wrong).unwrap();
    assert!(compiles(&setup, "hashed"));
}

#[test]
fn an_entry_under_the_name_of_another_is_not_used() {
    let (setup, cache) = caching();
    assert!(compiles(&setup, "mine"));
    let (artifact, seal) = (file(&cache, ".cwasm"), file(&cache, ".seal"));
    let (kept, kept_seal) = (setup.folder.0.join("artifact"), setup.folder.0.join("seal"));
    std::fs::rename(&artifact, &kept).unwrap();
    std::fs::rename(&seal, &kept_seal).unwrap();
    assert!(compiles(&setup, "other"));
    std::fs::rename(&kept, file(&cache, ".cwasm")).unwrap();
    std::fs::rename(&kept_seal, file(&cache, ".seal")).unwrap();
    assert!(compiles(&setup, "other"));
}

#[test]
fn a_folder_that_others_can_enter_is_not_used() {
    let (setup, cache) = caching();
    assert!(compiles(&setup, "open"));
    let refused = || {
        setup.host.taken();
        assert!(compiles(&setup, "open"));
        assert!(setup.host.taken().iter().any(|record| record.contains("0700")));
    };
    std::fs::set_permissions(&cache, Permissions::from_mode(0o750)).unwrap();
    refused();
    std::fs::set_permissions(&cache, Permissions::from_mode(0o700)).unwrap();
    assert!(!compiles(&setup, "open"));
    let moved = setup.folder.0.join("moved");
    std::fs::rename(&cache, &moved).unwrap();
    std::os::unix::fs::symlink(&moved, &cache).unwrap();
    refused();
}

#[test]
fn the_folder_is_bounded_and_what_was_used_last_stays() {
    let (mut setup, cache) = caching();
    assert!(compiles(&setup, "aaaa"));
    let size = std::fs::metadata(file(&cache, ".cwasm")).unwrap().len();
    let long_ago = SystemTime::now() - Duration::from_secs(7200);
    let age = |path: &Path| File::options().append(true).open(path).unwrap().set_modified(long_ago).unwrap();
    let first = file(&cache, ".seal");
    assert!(compiles(&setup, "bbbb"));
    files(&cache, ".seal").iter().for_each(|seal| age(seal));
    assert!(!compiles(&setup, "aaaa"), "its use is marked");
    assert!(std::fs::metadata(&first).unwrap().modified().unwrap() > long_ago);
    for left in [".0123.tmp", "unsealed.cwasm", "alone.seal"] {
        std::fs::write(cache.join(left), "left behind").unwrap();
        age(&cache.join(left));
    }
    // Room for two and a half.
    setup.settings.cache_size = size * 5 / 2;
    assert!(compiles(&setup, "cccc"));
    assert_eq!((files(&cache, ".cwasm").len(), files(&cache, "").len()), (2, 4));
    assert!(!compiles(&setup, "aaaa") && !compiles(&setup, "cccc"));
    setup.settings.cache_size = size / 2;
    assert!(compiles(&setup, "dddd") && compiles(&setup, "dddd"), "it is larger than the cache");
}

#[test]
fn a_compilation_that_is_left_behind_is_kept_all_the_same() {
    let (setup, cache) = caching();
    assert_eq!(kind_of(setup.load(&saying("late"), &within(Duration::ZERO))), Kind::Timeout);
    while !cache.exists() || files(&cache, ".seal").is_empty() {
        std::thread::yield_now();
    }
    assert!(!compiles(&setup, "late"));
}

/// Where the test below does the work of one of its processes.
const SHARED: &str = "FLOWPLUG_TEST_CACHE";
const ROUNDS: usize = 40;

#[test]
fn many_processes_share_a_folder_in_which_entries_come_and_go() {
    let words = ["one", "two", "three"];
    if let Some(cache) = std::env::var_os(SHARED) {
        let (mut setup, _) = caching();
        setup.settings.cache_dir = Some(cache.into());
        setup.settings.cache_size = 200_000;
        for round in 0..ROUNDS {
            compiles(&setup, words[round % words.len()]);
        }
        return;
    }
    let folder = Folder::new();
    let cache = folder.0.join("cache");
    let child = || {
        let name = "cache::many_processes_share_a_folder_in_which_entries_come_and_go";
        Command::new(std::env::current_exe().unwrap()).args(["--exact", name]).env(SHARED, &cache).spawn().unwrap()
    };
    let mut children: Vec<Child> = (0..4).map(|_| child()).collect();
    // What is removed or replaced by a copy at any moment is no obstacle.
    while children.iter_mut().any(|child| child.try_wait().unwrap().is_none()) {
        let found = std::fs::read_dir(&cache).map(|all| all.flatten().map(|entry| entry.path()).collect::<Vec<_>>());
        for path in found.unwrap_or_default().iter().filter(|path| !path.ends_with(".tmp")) {
            let copy = folder.0.join("copy");
            match std::fs::copy(path, &copy) {
                Ok(size) if size % 2 == 0 => drop(std::fs::rename(&copy, path)),
                _ => drop(std::fs::remove_file(path)),
            }
        }
    }
    assert!(children.iter_mut().all(|child| child.wait().unwrap().success()));
}

#[test]
fn a_bound_on_functions_holds_for_what_was_compiled_before() {
    let (mut setup, _) = caching();
    assert!(compiles(&setup, "bounded"));
    setup.grants.module_functions = 3;
    assert_eq!(kind_of(setup.load(&saying("bounded"), &call())), Kind::PermissionDenied);
    assert!(progress(&setup).is_empty());
}

#[test]
fn a_module_of_one_digest_is_one_whatever_it_is_called() {
    let setup = Setup::new();
    let first = setup.started(&saying("same"));
    let second: Arc<Plugin> = Setup::new().started(&saying("same"));
    says(&first, "same");
    says(&second, "same");
}
