//! WASI under the plugin's grants.

use std::time::{Duration, Instant};

use flowplug::call::Cancel;
use flowplug::error::Kind;
use flowplug::policy::Mount;

use crate::support::*;

const WASI: &str = "wasi_snapshot_preview1";

fn import(name: &str, ty: &str) -> String {
    format!(r#"(import "{WASI}" "{name}" (func ${name} {ty}))"#)
}

/// `write` puts its parameters on a standard stream.
fn writer(stream: i32) -> String {
    format!(
        r#"(func (export "write") (param i32 i32) (result i64)
            (i32.store (i32.const 512) (local.get 0)) (i32.store (i32.const 516) (local.get 1))
            (i64.extend_i32_u (call $fd_write (i32.const {stream}) (i32.const 512) (i32.const 1) (i32.const 520))))"#
    )
}

#[test]
fn output_comes_line_by_line_as_info_and_warn() {
    let imports = import("fd_write", "(param i32 i32 i32 i32) (result i32)");
    for (stream, level) in [(1, "info"), (2, "warn")] {
        let setup = Setup::new();
        let plugin = setup.started(&guest(&imports, &writer(stream)));
        ask(&plugin, "write", "one\ntwo\r\n\nrest").unwrap();
        let line = |text: &str| format!("log {level} 7 {text} []");
        assert_eq!(setup.host.taken(), [line("one"), line("two"), line(""), line("rest")]);
        ask(&plugin, "write", &"x".repeat(20_000)).unwrap();
        let lengths: Vec<usize> = setup.host.taken().iter().map(|record| record.matches('x').count()).collect();
        assert_eq!(lengths, [8192, 8192, 3616], "a line is bounded");
    }
}

#[test]
fn output_past_the_rate_is_dropped() {
    let imports = import("fd_write", "(param i32 i32 i32 i32) (result i32)");
    let mut setup = Setup::new();
    setup.grants.rates.output = 3;
    let plugin = setup.started(&guest(&imports, &writer(1)));
    ask(&plugin, "write", &"x\n".repeat(1000)).unwrap();
    assert!(setup.host.taken().len() < 20);
    // The next second says how many, of the many at once as of the one at a time.
    let report = loop {
        ask(&plugin, "write", "y\n").unwrap();
        if let Some(report) = setup.host.taken().into_iter().find(|record| record.contains("dropped")) {
            break report;
        }
        std::thread::yield_now();
    };
    let number: u64 = report.split(' ').find_map(|word| word.parse().ok().filter(|n| *n > 900)).unwrap();
    assert!(report.contains("rates.output"), "{report}");
    assert!(number >= 997, "{number}");
}

/// Sleeps by `poll_oneoff` for the nanoseconds at 600, on a clock.
fn sleeper(clock: i32) -> String {
    format!(
        r#"(func (export "sleep") (param i32 i32) (result i64)
            (i64.store (i32.const 1000) (i64.const 77)) (i32.store8 (i32.const 1008) (i32.const 0))
            (i32.store (i32.const 1016) (i32.const {clock})) (i64.store (i32.const 1024) (i64.load (local.get 0)))
            (i64.store (i32.const 1032) (i64.const 0)) (i32.store16 (i32.const 1040) (i32.const 0))
            (if (call $poll_oneoff (i32.const 1000) (i32.const 1100) (i32.const 1) (i32.const 1200)) (then unreachable))
            (if (i64.ne (i64.load (i32.const 1100)) (i64.const 77)) (then unreachable))
            (if (i32.ne (i32.load (i32.const 1200)) (i32.const 1)) (then unreachable))
            (i64.const 0))"#
    )
}

fn nanoseconds(time: Duration) -> String {
    // The guest reads eight bytes; these are text as well.
    String::from_utf8(u64::try_from(time.as_nanos()).unwrap().to_le_bytes().to_vec()).unwrap()
}

#[test]
fn a_sleep_ends_by_itself_by_the_deadline_or_by_a_cancel() {
    let imports = import("poll_oneoff", "(param i32 i32 i32 i32) (result i32)");
    for clock in [0, 1] {
        let plugin = Setup::new().started(&guest(&imports, &sleeper(clock)));
        let start = Instant::now();
        // 0x7f7f7f nanoseconds are eight milliseconds.
        ask(&plugin, "sleep", "\u{7f}\u{7f}\u{7f}\0\0\0\0\0").unwrap();
        assert!(start.elapsed() >= Duration::from_millis(8));
        let forever = nanoseconds(Duration::from_nanos(0x7f7f_7f7f_7f7f));
        let start = Instant::now();
        assert_eq!(kind_of(ask_with(&plugin, "sleep", &forever, &within(Duration::from_millis(100)))), Kind::Timeout);
        assert!(start.elapsed() < Duration::from_secs(1));
        let cancel = Cancel::new();
        let mut cancelled = call();
        cancelled.cancel = Some(cancel.clone());
        std::thread::scope(|s| {
            let sleeping = s.spawn(|| ask_with(&plugin, "sleep", &forever, &cancelled));
            cancel.cancel();
            assert_eq!(kind_of(sleeping.join().unwrap()), Kind::Cancelled);
        });
    }
}

#[test]
fn polls_that_are_malformed_answer_an_errno() {
    let imports = import("poll_oneoff", "(param i32 i32 i32 i32) (result i32)");
    let body = r#"(func (export "poll") (param i32 i32) (result i64)
        (if (i32.ne (call $poll_oneoff (i32.const 1000) (i32.const 1100) (i32.const 0) (i32.const 1200)) (i32.const 28)) (then unreachable))
        (if (i32.ne (call $poll_oneoff (i32.const -8) (i32.const 1100) (i32.const 1) (i32.const 1200)) (i32.const 21)) (then unreachable))
        (if (i32.ne (call $poll_oneoff (i32.const 1000) (i32.const 1100) (i32.const -1) (i32.const 1200)) (i32.const 28)) (then unreachable))
        (i32.store8 (i32.const 1008) (i32.const 9))
        (if (i32.ne (call $poll_oneoff (i32.const 1000) (i32.const 1100) (i32.const 1) (i32.const 1200)) (i32.const 28)) (then unreachable))
        (i32.store8 (i32.const 1008) (i32.const 1))
        (if (call $poll_oneoff (i32.const 1000) (i32.const 1100) (i32.const 1) (i32.const 1200)) (then unreachable))
        (if (i32.ne (call $poll_oneoff (i32.const 1000) (i32.const -4) (i32.const 1) (i32.const 1200)) (i32.const 21)) (then unreachable))
        (i64.const 0))"#;
    assert_eq!(ask(&Setup::new().started(&guest(&imports, body)), "poll", "").unwrap(), "null");
}

#[test]
fn random_numbers_are_made_within_memory() {
    let imports = import("random_get", "(param i32 i32) (result i32)");
    let body = r#"(func (export "random") (result i64)
        (if (call $random_get (i32.const 4096) (i32.const 200000)) (then unreachable))
        (if (i64.eqz (i64.or (i64.load (i32.const 4096)) (i64.load (i32.const 204000)))) (then unreachable))
        (if (i32.ne (call $random_get (i32.const -4) (i32.const 8)) (i32.const 21)) (then unreachable))
        (i64.const 0))"#;
    assert_eq!(ask(&Setup::new().started(&guest(&imports, body)), "random", "").unwrap(), "null");
}

#[test]
fn an_exit_ends_the_call_and_the_instance() {
    let body = r#"(func (export "exit") (result i64) (call $proc_exit (i32.const 3)) (i64.const 0))"#;
    let plugin = Setup::new().started(&guest(&import("proc_exit", "(param i32)"), body));
    let error = ask(&plugin, "exit", "").unwrap_err();
    assert_eq!((error.kind(), error.details()["exit_status"].as_i64()), (Kind::Trap, Some(3)));
    assert_eq!(ask(&plugin, "echo", "1").unwrap(), "1");
}

#[test]
fn arguments_are_the_identity_and_the_environment_is_empty() {
    let imports = [
        import("args_sizes_get", "(param i32 i32) (result i32)"),
        import("args_get", "(param i32 i32) (result i32)"),
        import("environ_sizes_get", "(param i32 i32) (result i32)"),
    ]
    .concat();
    let body = r#"(func (export "args") (result i64)
        (drop (call $args_sizes_get (i32.const 512) (i32.const 516))) (drop (call $args_get (i32.const 520) (i32.const 600)))
        (drop (call $environ_sizes_get (i32.const 700) (i32.const 704)))
        (call $hex (i64.extend_i32_u (i32.add (i32.load (i32.const 512)) (i32.load (i32.const 700)))) (i32.const 600) (i32.sub (i32.load (i32.const 516)) (i32.const 1))))"#;
    let plugin = Setup::new().started(&guest(&imports, body));
    assert_eq!(ask(&plugin, "args", "").unwrap(), "\"0000000000000001:org/test\"");
}

/// Opens its parameters as a path below a folder, to read or to create it, and answers the errno.
fn opener() -> (String, String) {
    let imports = import("path_open", "(param i32 i32 i32 i32 i32 i64 i64 i32 i32) (result i32)");
    let open = |name: &str, dir: i32, oflags: i32, rights: i64| {
        format!(
            r#"(func (export "{name}") (param i32 i32) (result i64)
                (call $hex (i64.extend_i32_u (call $path_open (i32.const {dir}) (i32.const 1) (local.get 0) (local.get 1) (i32.const {oflags}) (i64.const {rights}) (i64.const 0) (i32.const 0) (i32.const 512))) (i32.const 0) (i32.const 0)))"#
        )
    };
    (imports, [open("read", 3, 0, 2), open("create", 3, 1, 64), open("second", 4, 0, 2)].concat())
}

#[test]
fn only_granted_folders_are_opened_and_only_as_granted() {
    const SUCCESS: &str = "\"0000000000000000:\"";
    let (imports, body) = opener();
    let outside = Folder::new();
    std::fs::write(outside.0.join("secret"), "x").unwrap();
    for writable in [false, true] {
        let mut setup = Setup::new();
        let data = setup.folder.0.join("data");
        std::fs::create_dir(&data).unwrap();
        std::fs::write(data.join("file"), "x").unwrap();
        std::os::unix::fs::symlink(&outside.0, data.join("link")).unwrap();
        setup.grants.mounts = vec![Mount { host: data.clone(), guest: vec!["data".to_owned(), "/".to_owned()], writable }];
        let plugin = setup.started(&guest(&imports, &body));
        assert_eq!(ask(&plugin, "read", "file").unwrap(), SUCCESS);
        for path in ["../plugin.wasm", "link/secret", "/etc/passwd", "missing"] {
            assert_ne!(ask(&plugin, "read", path).unwrap(), SUCCESS, "{path}");
        }
        assert_eq!(ask(&plugin, "create", "new").unwrap() == SUCCESS, writable);
        assert_eq!(data.join("new").exists(), writable);
    }
    let plugin = Setup::new().started(&guest(&imports, &body));
    assert_ne!(ask(&plugin, "read", "file").unwrap(), SUCCESS, "nothing is mounted");
}

#[test]
fn a_folder_stays_the_one_that_was_granted() {
    const SUCCESS: &str = "\"0000000000000000:\"";
    let (imports, body) = opener();
    let outside = Folder::new();
    std::fs::write(outside.0.join("secret"), "x").unwrap();
    let mut setup = Setup::new();
    setup.wasm = "  pool:\n    instance_per_call: true\n".to_owned();
    let data = setup.folder.0.join("data");
    std::fs::create_dir(&data).unwrap();
    std::fs::write(data.join("file"), "x").unwrap();
    setup.grants.mounts = vec![Mount { host: data.clone(), guest: vec!["data".to_owned()], writable: true }];
    let plugin = setup.started(&guest(&imports, &body));
    // As a plugin could that may write where this folder lies.
    std::fs::rename(&data, setup.folder.0.join("moved")).unwrap();
    std::os::unix::fs::symlink(&outside.0, &data).unwrap();
    assert_eq!(ask(&plugin, "read", "file").unwrap(), SUCCESS);
    assert_ne!(ask(&plugin, "read", "secret").unwrap(), SUCCESS);
}

#[test]
fn a_plugin_cannot_take_all_descriptors() {
    let (imports, body) = opener();
    // Each instance has its part of what the plugin may open; many still have enough to work with.
    for (instances, each) in [(1, 256), (4, 64), (100, 16)] {
        let mut setup = Setup::new();
        let data = setup.folder.0.join("data");
        std::fs::create_dir(&data).unwrap();
        std::fs::write(data.join("file"), "x").unwrap();
        let mount = Mount { host: data, guest: (0..20).map(|n| format!("data{n}")).collect(), writable: false };
        setup.grants.mounts = vec![mount];
        setup.grants.max_instances = instances;
        let plugin = setup.started(&guest(&imports, &body));
        let opened = (0..1000).take_while(|_| ask(&plugin, "read", "file").unwrap() == "\"0000000000000000:\"").count();
        assert_eq!(opened, each, "of {instances} instances");
        assert_eq!(ask(&plugin, "read", "file").unwrap(), "\"0000000000000021:\"");
    }
}

#[test]
fn a_fifo_or_a_device_is_not_opened() {
    let (imports, body) = opener();
    let mut setup = Setup::new();
    let data = setup.folder.0.join("data");
    std::fs::create_dir(&data).unwrap();
    let made = std::process::Command::new("mkfifo").arg(data.join("fifo")).status().unwrap();
    assert!(made.success());
    std::os::unix::fs::symlink("fifo", data.join("link")).unwrap();
    setup.grants.mounts = vec![
        Mount { host: data, guest: vec!["data".to_owned()], writable: true },
        Mount { host: "/dev".into(), guest: vec!["dev".to_owned()], writable: false },
    ];
    let plugin = setup.started(&guest(&imports, &body));
    for path in ["fifo", "link"] {
        assert_eq!(ask(&plugin, "read", path).unwrap(), "\"0000000000000002:\"", "{path} would wait for its other end");
    }
    assert_eq!(ask(&plugin, "second", "null").unwrap(), "\"0000000000000002:\"");
}

#[test]
fn a_folder_that_is_too_large_is_not_listed() {
    let imports = import("fd_readdir", "(param i32 i32 i32 i64 i32) (result i32)");
    let body = r#"(func (export "list") (result i64)
        (call $hex (i64.extend_i32_u (call $fd_readdir (i32.const 3) (i32.const 1024) (i32.const 4096) (i64.const 0) (i32.const 512))) (i32.const 0) (i32.const 0)))
      (func (export "insist") (result i64)
        (if (call $fd_readdir (i32.const 3) (i32.const 1024) (i32.const 4096) (i64.const 0) (i32.const 512)) (then unreachable)) (i64.const 0))"#;
    let mut setup = Setup::new();
    let data = setup.folder.0.join("data");
    std::fs::create_dir(&data).unwrap();
    setup.grants.mounts = vec![Mount { host: data.clone(), guest: vec!["data".to_owned()], writable: false }];
    let plugin = setup.started(&guest(&imports, body));
    let size = || std::fs::metadata(&data).unwrap().len();
    // Long names fill a folder soonest, where they count.
    let mut names = (0..100_000).map(|n| data.join(format!("{n:0>240}")));
    for name in names.by_ref().take(100) {
        std::fs::write(name, "").unwrap();
    }
    assert!(size() < 1 << 20);
    assert_eq!(ask(&plugin, "list", "").unwrap(), "\"0000000000000000:\"");
    while size() <= 1 << 20 {
        std::fs::write(names.next().expect("a file system that tells how large a folder is"), "").unwrap();
    }
    assert_eq!(ask(&plugin, "list", "").unwrap(), "\"0000000000000002:\"");
    let error = ask(&plugin, "insist", "").unwrap_err();
    assert_eq!((error.kind(), error.details()["denied"]["what"].as_str()), (Kind::Trap, Some("filesystem")), "{error:?}");
    assert!(error.message().contains("Split it"), "{}", error.message());
}
