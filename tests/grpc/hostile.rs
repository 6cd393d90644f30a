//! Programs that are no plugins, or cannot be run: shell scripts that begin as a plugin does.

use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use flowplug::call::Deadline;
use flowplug::error::{Error, Kind};
use flowplug::manifest::Manifest;

use crate::support::{Bench, SOON, comes_true, group};

/// A folder with a plugin whose program is this text.
pub struct Plugin {
    folder: PathBuf,
    pub manifest: Manifest,
}

impl Plugin {
    pub fn new(name: &str, program: &[u8], more: &str) -> Self {
        let folder = std::env::temp_dir().join(format!("fpp-{}-{name}", std::process::id()));
        drop(std::fs::remove_dir_all(&folder));
        std::fs::create_dir_all(&folder).unwrap();
        let binary = folder.join("plugin");
        std::fs::write(&binary, program).unwrap();
        std::fs::set_permissions(&binary, std::fs::Permissions::from_mode(0o755)).unwrap();
        let text = format!("name: bad\nruntime: grpc\ngrpc:\n  binary: ./plugin\n{more}");
        let manifest = Manifest::parse(text.as_bytes(), &folder, true).unwrap();
        Plugin { folder, manifest }
    }

    /// Loads it, which must fail, and sees that nothing stays.
    pub fn fails(&self, bench: &Bench) -> Error {
        let error = bench.load_manifest(&self.manifest, Deadline::after(SOON)).map(|_| ()).unwrap_err();
        assert!(bench.left_behind().is_empty(), "{error}: {:?}", bench.left_behind());
        error
    }
}

impl Drop for Plugin {
    fn drop(&mut self) {
        drop(std::fs::remove_dir_all(&self.folder));
    }
}

pub fn script(text: &str) -> Vec<u8> {
    format!("#!/bin/sh\n{text}\n").into_bytes()
}

#[test]
fn the_last_words_of_a_plugin_that_fails_are_kept() {
    let bench = Bench::new("words");
    let error = Plugin::new("words", &script("echo one >&2; echo 'cannot open the database' >&2; exit 3"), "").fails(&bench);
    assert_eq!(error.details()["exit_status"], 3);
    assert_eq!(error.details()["stderr"], serde_json::json!(["one", "cannot open the database"]));
    assert!(error.message().contains("cannot open the database"), "{error}");
}

#[test]
fn a_program_that_cannot_run_says_why() {
    let bench = Bench::new("cannot-run");
    let foreign = [b"\x7fELF\x02\x01\x01\0\0\0\0\0\0\0\0\0\x02\0\xff\xff".as_slice(), &[0; 100]].concat();
    for (name, program, says) in [
        ("arch", foreign, "another architecture"),
        ("no-shebang", b"echo hello".to_vec(), "another architecture"),
        ("interpreter", b"#!/no/such/interpreter\n".to_vec(), "interpreter"),
    ] {
        let error = Plugin::new(name, &program, "").fails(&bench);
        assert_eq!(error.kind(), Kind::LoadFailed, "{name}: {error}");
        assert!(error.message().contains(says), "{name}: {error}");
    }
    let plugin = Plugin::new("mode", &script("exit 0"), "");
    std::fs::set_permissions(plugin.folder.join("plugin"), std::fs::Permissions::from_mode(0o644)).unwrap();
    assert!(plugin.fails(&bench).message().contains("chmod +x"));
    std::fs::remove_file(plugin.folder.join("plugin")).unwrap();
    assert!(plugin.fails(&bench).message().contains("does not exist"));
    let digest = format!("  sha256: {}\n", "0".repeat(64));
    let error = Plugin::new("digest", &script("touch \"$(dirname $0)/ran\""), &digest).fails(&bench);
    assert!(error.message().contains("grpc.sha256"), "{error}");
    let pinned = script("echo pinned >&2; exit 7");
    let digest: String =
        sha2::Digest::finalize(<sha2::Sha256 as sha2::Digest>::new_with_prefix(&pinned)).iter().map(|b| format!("{b:02x}")).collect();
    let error = Plugin::new("digest-of-script", &pinned, &format!("  sha256: {digest}\n")).fails(&bench);
    assert!(error.message().contains("exit status 7. Its last words: pinned"), "{error}");
}

#[test]
fn a_program_that_is_open_for_writing_is_tried_again_for_a_while() {
    let bench = Bench::new("written");
    let plugin = Plugin::new("written", &script("exit 7"), "");
    let writer = std::fs::File::options().append(true).open(plugin.folder.join("plugin")).unwrap();
    let error = plugin.fails(&bench);
    assert!(error.kind() == Kind::LoadFailed && error.message().contains("it is being written to"), "{error}");
    let error = std::thread::scope(|scope| {
        scope.spawn(move || {
            std::thread::sleep(Duration::from_millis(50));
            drop(writer);
        });
        plugin.fails(&bench)
    });
    assert_eq!(error.details()["exit_status"], 7, "{error}");
}

#[test]
fn a_digest_is_computed_within_the_time_of_the_start() {
    let bench = Bench::new("endless-file");
    let plugin = Plugin::new("endless-file", b"x", &format!("  start_timeout: 50ms\n  sha256: {}\n", "0".repeat(64)));
    // A terabyte that takes no room.
    std::fs::File::options().write(true).open(plugin.folder.join("plugin")).unwrap().set_len(1 << 40).unwrap();
    let error = plugin.fails(&bench);
    assert_eq!(error.kind(), Kind::Timeout, "{error}");
    assert!(error.message().contains("grpc.sha256"), "{error}");
}

#[test]
fn a_plugin_that_says_nothing_is_ended_in_time_with_its_group() {
    let bench = Bench::new("silent");
    let plugin = Plugin::new("silent", &script("sleep 600 & echo $$ > \"$(dirname $0)/pid\"; sleep 600"), "  start_timeout: 2s\n");
    let begun = Instant::now();
    let error = plugin.fails(&bench);
    assert_eq!(error.kind(), Kind::Timeout, "{error}");
    assert!(error.message().contains("start_timeout"), "{error}");
    assert!(begun.elapsed() < Duration::from_secs(20), "{:?}", begun.elapsed());
    let pid: i32 = std::fs::read_to_string(plugin.folder.join("pid")).unwrap().trim().parse().unwrap();
    assert!(comes_true(|| group(pid).is_empty()));
}

#[test]
fn the_environment_of_a_plugin_is_small_and_its_own() {
    let bench = Bench::new("environment");
    let more = "  args: [\"a b\", \"\"]\n  env: { MINE: \"x=y\", PLUGIN_CLIENT_CERT: no, FLOWBOT_PLUGIN: no }\n";
    let text = "env | sort > \"$(dirname $0)/env\"; printf '%s|' \"$@\" > \"$(dirname $0)/args\"; readlink /proc/self/fd/0 > \"$(dirname $0)/stdin\"; exit 0";
    let plugin = Plugin::new("environment", &script(text), more);
    plugin.fails(&bench);
    let read = |name: &str| std::fs::read_to_string(plugin.folder.join(name)).unwrap();
    let env = read("env");
    let names: Vec<&str> = env.lines().filter_map(|line| line.split_once('=')).map(|(name, _)| name).collect();
    for name in &names {
        let known = ["PATH", "HOME", "LANG", "TZ", "TMPDIR", "PWD", "OLDPWD", "SHLVL", "_", "MINE"].contains(name);
        assert!(known || name.starts_with("PLUGIN_") || name.starts_with("FLOWBOT_"), "{name}");
    }
    for line in
        ["MINE=x=y", "FLOWBOT_PLUGIN=flowbot-plugin-v1", "PLUGIN_PROTOCOL_VERSIONS=1", "PLUGIN_MIN_PORT=10000", "PLUGIN_MAX_PORT=25000"]
    {
        assert!(env.lines().any(|own| own == line), "{line} in {env}");
    }
    assert!(env.contains("FLOWBOT_HOST_ADDRESS=unix:/") && env.contains("FLOWBOT_HOST_TOKEN=") && env.contains("PLUGIN_UNIX_SOCKET_DIR=/"));
    assert!(!names.contains(&"PLUGIN_CLIENT_CERT"));
    assert_eq!((read("args").as_str(), read("stdin").trim()), ("a b||", "/dev/null"));
}

#[test]
fn a_plugin_has_no_descriptor_of_its_hosts() {
    // Run once more by a shell, which leaves a descriptor open for its children, as a careless embedding program does.
    const ROLE: &str = "FLOWPLUG_TEST_CARELESS";
    if std::env::var_os(ROLE).is_none() {
        let again = "exec 9</dev/null; exec \"$0\" --exact hostile::a_plugin_has_no_descriptor_of_its_hosts";
        let mut shell = std::process::Command::new("sh");
        shell.args(["-c", again]).arg(std::env::current_exe().unwrap()).env(ROLE, "1");
        return assert!(shell.status().unwrap().success());
    }
    let seen = std::process::Command::new("readlink").arg("/proc/self/fd/9").output().unwrap();
    assert_eq!(seen.stdout, b"/dev/null\n", "what the host's other children have");
    let plugin = Plugin::new("descriptors", &script("ls /proc/self/fd > \"$(dirname $0)/fds\"; exit 0"), "");
    plugin.fails(&Bench::new("descriptors"));
    let fds = std::fs::read_to_string(plugin.folder.join("fds")).unwrap();
    // The last is that of the folder which is being listed.
    assert_eq!(fds.split_ascii_whitespace().collect::<Vec<_>>(), ["0", "1", "2", "3"]);
}
