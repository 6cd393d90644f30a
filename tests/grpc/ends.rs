//! How plugins end: by a crash, by a stop, with their host.

use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use flowplug::call::{Call, Deadline};
use flowplug::error::Kind;
use flowplug::host::Level;
use serde_json::json;

use crate::support::{Bench, SOON, children, comes_true, grants, group, order, soon};

#[test]
fn a_crash_ends_the_calls_in_flight_and_is_told_once() {
    for name in ["fixture-grpc-go", "fixture-grpc-python"] {
        let bench = Bench::new("crash");
        let (plugin, exits) = bench.start(name, "null");
        let other = plugin.clone();
        let waiting = std::thread::spawn(move || order(&other, json!({"do": "sleep", "ms": 60_000}), &soon()));
        assert!(comes_true(|| order(&plugin, json!({"do": "echo"}), &soon()).is_ok()));
        let begun = Instant::now();
        let error = order(&plugin, json!({"do": "crash"}), &soon()).unwrap_err();
        for error in [error, waiting.join().unwrap().unwrap_err()] {
            assert_eq!(error.kind(), Kind::Unavailable, "{error}");
            assert_eq!(error.details()["exit_status"], 3, "{error:?}");
        }
        assert!(begun.elapsed() < Duration::from_secs(20));
        let told = exits.recv_timeout(SOON).unwrap();
        assert_eq!((told.kind(), &told.details()["exit_status"]), (Kind::Unavailable, &json!(3)));
        assert_eq!(order(&plugin, json!({"do": "echo"}), &soon()).unwrap_err().kind(), Kind::Unavailable);
        let health = plugin.health();
        assert!(!health.ready && health.last_error.contains("exit status 3"), "{health:?}");
        plugin.stop(&Deadline::after(SOON));
        assert!(exits.recv().is_err(), "told once");
    }
}

#[test]
fn a_kill_is_told_with_its_signal_and_what_a_crash_printed() {
    let bench = Bench::new("killed-plugin");
    let (plugin, exits) = bench.start("fixture-grpc-python", "null");
    for text in ["all is well", "fatal error: no memory", "goroutine 1"] {
        order(&plugin, json!({"do": "output", "text": text}), &soon()).unwrap();
    }
    assert!(bench.host.wait_for_log(|seen| seen.message == "goroutine 1" && seen.level == Level::Error));
    let other = plugin.clone();
    let waiting = std::thread::spawn(move || order(&other, json!({"do": "sleep", "ms": 60_000}), &soon()));
    let killed = std::process::Command::new("kill").args(["-9", &plugin.pid().to_string()]).status().unwrap();
    assert!(killed.success());
    assert_eq!(waiting.join().unwrap().unwrap_err().kind(), Kind::Unavailable);
    let told = exits.recv_timeout(SOON).unwrap();
    assert_eq!(told.details()["signal"], 9);
    assert_eq!(told.details()["stderr"], json!(["fatal error: no memory", "goroutine 1"]), "{told:?}");
    plugin.stop(&Deadline::after(SOON));
    assert!(bench.left_behind().is_empty());
}

#[test]
fn host_calls_end_with_the_process_that_waits_for_them() {
    let bench = Bench::with("orphaned", flowplug::policy::Grants { timeout: Duration::from_secs(3600), ..grants() });
    let (plugin, exits) = bench.start("fixture-grpc-python", "null");
    let other = plugin.clone();
    // As long as the call is theirs to wait for, far longer than this test.
    let call = Call::new(Deadline::after(Duration::from_secs(3600)));
    let asks = json!({"do": "host", "fn": "kv_get", "args": {"key": "wait"}});
    let waiting = std::thread::spawn(move || order(&other, asks, &call));
    assert!(comes_true(|| bench.host.waiting.load(Ordering::SeqCst) == 1));
    let killed = std::process::Command::new("kill").args(["-9", &plugin.pid().to_string()]).status().unwrap();
    assert!(killed.success());
    exits.recv_timeout(SOON).unwrap();
    assert_eq!(waiting.join().unwrap().unwrap_err().kind(), Kind::Unavailable);
    assert!(comes_true(|| bench.host.waiting.load(Ordering::SeqCst) == 0));
    assert!(bench.host.threads.lock().unwrap().iter().all(|name| name == "flowplug-grpc"));
    plugin.stop(&Deadline::after(SOON));
}

/// A plugin on go-plugin alone.
fn obey(plugin: &flowplug::grpc::Plugin, what: &str) -> flowplug::error::Result<serde_json::Value> {
    crate::support::call(plugin, "command", &json!({"content": what}), &soon())
}

#[test]
fn what_a_go_panic_prints_is_kept_whole() {
    let bench = Bench::new("panics");
    let (plugin, exits) = bench.start("fixture-grpc-plain", "null");
    let error = obey(&plugin, "panic").unwrap_err();
    let told = exits.recv_timeout(SOON).unwrap();
    for error in [&error, &told] {
        assert_eq!((error.kind(), &error.details()["exit_status"]), (Kind::Unavailable, &json!(2)));
        assert!(error.message().contains("Its last words: panic: at the bottom"), "{error}");
        let lines: Vec<&str> = error.details()["stderr"].as_array().unwrap().iter().map(|line| line.as_str().unwrap()).collect();
        assert_eq!((lines[0], lines[1].trim_start()), ("panic: at the bottom", "of 30 functions"));
        assert_eq!(lines.iter().filter(|line| line.starts_with("main.deeper(")).count(), 31, "{lines:#?}");
        assert!(lines.iter().any(|line| line.starts_with("created by main.misbehave")), "{lines:#?}");
    }
    assert!(plugin.health().last_error.contains("panic: at the bottom"));
    plugin.stop(&Deadline::after(SOON));
}

#[test]
fn floods_by_go_plugins_own_streams_hold_up_no_call() {
    let bench = Bench::new("floods-go");
    let (plugin, _exits) = bench.start("fixture-grpc-plain", "null");
    obey(&plugin, "flood").unwrap();
    for _ in 0..50 {
        assert_eq!(obey(&plugin, "[1]").unwrap(), json!([1]));
    }
    assert!(bench.host.wait_for_log(|seen| seen.message.contains("out out")));
    assert!(bench.host.wait_for_log(|seen| seen.message.contains("were dropped")));
    plugin.stop(&Deadline::after(SOON));
    assert!(bench.left_behind().is_empty());
}

#[test]
fn a_process_of_the_plugins_own_ends_with_it() {
    for killed in [false, true] {
        let bench = Bench::new(&format!("grandchild-{killed}"));
        let (plugin, exits) = bench.start("fixture-grpc-plain", "null");
        let (pid, own) = (plugin.pid(), obey(&plugin, "grandchild").unwrap());
        assert!(group(pid).contains(&i32::try_from(own.as_i64().unwrap()).unwrap()));
        if killed {
            assert!(std::process::Command::new("kill").args(["-9", &pid.to_string()]).status().unwrap().success());
            assert_eq!(exits.recv_timeout(SOON).unwrap().details()["signal"], 9);
        }
        plugin.stop(&Deadline::after(SOON));
        assert!(comes_true(|| group(pid).is_empty()), "{:?}", group(pid));
        assert!(bench.left_behind().is_empty());
    }
}

#[test]
fn a_stop_leaves_no_process_and_no_folder() {
    for name in ["fixture-grpc-go", "fixture-grpc-python"] {
        // Three seconds after the drain, and what the system adds.
        let bound = Duration::from_millis(100) + Duration::from_secs(4);
        let stopped = || {
            let bench = Bench::new("stops");
            let (plugin, exits) = bench.start(name, "null");
            let pid = plugin.pid();
            assert!(!group(pid).is_empty());
            assert_eq!(bench.left_behind().len(), 1);
            let other = plugin.clone();
            let waiting = std::thread::spawn(move || order(&other, json!({"do": "sleep", "ms": 60_000}), &soon()));
            assert!(comes_true(|| order(&plugin, json!({"do": "pid"}), &soon()).is_ok()));
            let begun = Instant::now();
            plugin.stop(&Deadline::after(Duration::from_millis(100)));
            let took = begun.elapsed();
            let ended = waiting.join().unwrap().unwrap_err().kind();
            assert!(matches!(ended, Kind::Cancelled | Kind::InvalidState), "{ended:?}");
            assert_eq!(order(&plugin, json!({"do": "echo"}), &soon()).unwrap_err().kind(), Kind::InvalidState);
            plugin.stop(&Deadline::never());
            assert!(group(pid).is_empty() && !children(std::process::id()).contains(&pid), "{name}");
            assert!(bench.left_behind().is_empty(), "{:?}", bench.left_behind());
            assert!(exits.try_recv().is_err(), "a stop is no crash");
            took
        };
        // A machine that does other work may need more, but not again and again.
        assert!((0..5).any(|_| stopped() < bound), "{name}");
    }
}

#[test]
fn a_go_plugin_that_is_asked_to_end_does_so_in_its_own_time() {
    let mut bench = Bench::new("farewell");
    let letter = std::env::temp_dir().join(format!("fpf-{}", std::process::id()));
    let said = std::iter::repeat_with(|| {
        let (plugin, exits) = bench.start("fixture-grpc-plain", "null");
        obey(&plugin, &format!("farewell {}", letter.display())).unwrap();
        plugin.stop(&Deadline::after(SOON));
        assert!(exits.try_recv().is_err(), "a stop is no crash");
        bench.again();
        std::fs::remove_file(&letter).is_ok()
    });
    // A second is what it has; a busy machine may need more, but not again and again.
    assert!(said.take(5).any(|said| said));
}

#[test]
fn a_plugin_outlives_the_thread_that_loaded_it() {
    let bench = Bench::new("loader");
    let loaded = std::thread::scope(|scope| {
        let load = || (bench.start("fixture-grpc-go", "null"), std::fs::read_link("/proc/thread-self").unwrap());
        scope.spawn(load).join().unwrap()
    });
    let ((plugin, exits), thread) = loaded;
    // The system ends a process in the moment in which it ends the thread that made it.
    assert!(comes_true(|| !std::path::Path::new("/proc").join(&thread).exists()));
    assert_eq!(order(&plugin, json!({"do": "echo"}), &soon()).unwrap(), json!({"do": "echo"}));
    plugin.stop(&Deadline::after(SOON));
    assert!(exits.try_recv().is_err());
}

#[test]
fn a_plugin_that_is_dropped_is_killed() {
    let bench = Bench::new("drops");
    let (plugin, _exits) = bench.start("fixture-grpc-go", "null");
    let pid = plugin.pid();
    drop(plugin);
    assert!(comes_true(|| !std::path::Path::new(&format!("/proc/{pid}")).exists()));
    assert!(bench.left_behind().is_empty());
}

/// A test that is its own host: it is run once more, to be killed.
const ROLE: &str = "FLOWPLUG_TEST_HOST";

#[test]
fn a_killed_host_leaves_no_process() {
    if let Some(folder) = std::env::var_os(ROLE) {
        let mut bench = Bench::new("killed");
        bench.sockets = folder.into();
        let (plugin, _exits) = bench.start("fixture-grpc-plain", "null");
        println!("plugin {} {}", plugin.pid(), obey(&plugin, "grandchild").unwrap());
        loop {
            std::thread::park();
        }
    }
    let next = Bench::new("sweeps");
    let kills = soak("FLOWPLUG_SOAK_HOST_KILLS", 3);
    let slowest = (0..kills).map(|_| host_killed(&next.sockets)).max().unwrap();
    println!("{kills} hosts killed; the last of a group was gone after {slowest:?}");
    // Each swept what the one before had left; so does the next, whoever it is.
    assert_eq!(next.left_behind().len(), 1);
    let (plugin, _exits) = next.start("fixture-grpc-go", "null");
    assert_eq!(next.left_behind().len(), 1);
    plugin.stop(&Deadline::after(SOON));
    assert!(next.left_behind().is_empty());
}

/// How often, by a variable that `make soak` sets.
fn soak(variable: &str, usual: u32) -> u32 {
    std::env::var(variable).map_or(usual, |count| count.parse().unwrap())
}

/// Starts a host with a plugin that has a process of its own, and kills the host; how long they lived on.
fn host_killed(sockets: &std::path::Path) -> Duration {
    let mut host = std::process::Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "ends::a_killed_host_leaves_no_process", "--nocapture"])
        .env(ROLE, sockets)
        .stdout(std::process::Stdio::piped())
        .spawn()
        .unwrap();
    let mut lines = std::io::BufRead::lines(std::io::BufReader::new(host.stdout.take().unwrap()));
    let line = lines.find_map(|line| line.ok()?.split_once("plugin ").map(|(_, rest)| rest.to_owned())).unwrap();
    let (pid, own) = line.split_once(' ').unwrap();
    let (pid, own): (i32, i32) = (pid.parse().unwrap(), own.parse().unwrap());
    let all = children(host.id());
    assert!(all.contains(&pid) && all.len() == 2, "the plugin and its watchdog: {all:?}");
    assert!(group(pid).contains(&own));
    assert_eq!(std::fs::read_dir(sockets).unwrap().count(), 1);
    let killed = Instant::now();
    host.kill().unwrap();
    host.wait().unwrap();
    let alive = |pid: &i32| std::fs::read_to_string(format!("/proc/{pid}/stat")).is_ok_and(|stat| !stat.contains(") Z "));
    assert!(comes_true(|| group(pid).is_empty() && !all.iter().any(alive)), "{:?}", group(pid));
    let lived = killed.elapsed();
    // Ten times what is promised, for a machine that is busy.
    assert!(lived < Duration::from_secs(10), "{lived:?}");
    lived
}

#[test]
fn the_watchdog_keeps_none_of_the_hosts_memory() {
    let heap = vec![7u8; 64 << 20];
    let bench = Bench::new("memory");
    let (plugin, _exits) = bench.start("fixture-grpc-plain", "null");
    let read = |pid: i32, file: &str| std::fs::read_to_string(format!("/proc/{pid}/{file}")).unwrap_or_default();
    let guards =
        || children(std::process::id()).into_iter().filter(|pid| read(*pid, "comm").trim() == "flowplug-guard").collect::<Vec<_>>();
    let kept = |pid: &i32| {
        let about = read(*pid, "smaps_rollup");
        let line = about.lines().find_map(|line| line.strip_prefix("Anonymous:"));
        line.map_or(0, |line| line.trim().trim_end_matches(" kB").parse::<u64>().unwrap())
    };
    assert!(!guards().is_empty());
    assert!(comes_true(|| guards().iter().all(|pid| kept(pid) < 16 << 10)), "{:?}", guards().iter().map(kept).collect::<Vec<_>>());
    plugin.stop(&Deadline::after(SOON));
    drop(heap);
}
