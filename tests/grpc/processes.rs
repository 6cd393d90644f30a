//! A process that does everything wrong, one thing at a time (`tests/plugins/process`): each ends with its own error, in
//! time, and leaves nothing behind.

use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use flowplug::call::{Call, Deadline};
use flowplug::error::{Error, Kind};
use flowplug::grpc::Plugin;
use flowplug::host::Level;
use flowplug::manifest::Manifest;
use serde_json::Value;

use crate::support::{Bench, SOON, call, children, comes_true, group, order, soon};

/// What a whole case may take at most; the bounds themselves are below a second.
const BOUND: Duration = Duration::from_secs(20);

/// `start`: grpc.start_timeout.
fn manifest(what: &str, text: &str, mark: &str, start: &str) -> Manifest {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("target/plugins/process-hostile");
    assert!(folder.join("hostile").exists(), "{} is not there: run `make plugins`", folder.display());
    let args = serde_json::json!([what, text, mark]);
    let manifest = format!("name: hostile\nruntime: grpc\ngrpc: {{ binary: ./hostile, start_timeout: {start}, args: {args} }}\n");
    Manifest::parse(manifest.as_bytes(), &folder, true).unwrap()
}

/// The processes that were started with this mark and live.
fn marked(mark: &str) -> Vec<i32> {
    let all = std::fs::read_dir("/proc").unwrap().filter_map(|e| e.ok()?.file_name().to_str()?.parse::<i32>().ok());
    all.filter(|pid| std::fs::read(format!("/proc/{pid}/cmdline")).is_ok_and(|line| String::from_utf8_lossy(&line).contains(mark)))
        .collect()
}

fn mark(name: &str) -> String {
    format!("mark-{}-{name}", std::process::id())
}

#[test]
fn what_gives_no_handshake_that_can_be_used_is_told_which_and_leaves_nothing() {
    let (bench, mark, cert) = (Bench::new("handshakes"), mark("handshakes"), "A".repeat(400));
    for (what, text, kind, says) in [
        ("silent", "", Kind::Timeout, "did not print its handshake in time"),
        ("deaf-silent", "", Kind::Timeout, "did not print its handshake in time"),
        ("partial", "", Kind::Timeout, "did not print its handshake in time"),
        ("partial-exit", "", Kind::LoadFailed, "exit status 0"),
        ("endless", "", Kind::LoadFailed, "without the end of a line"),
        ("noise", "", Kind::LoadFailed, "no handshake"),
        ("binary", "", Kind::Timeout, "did not print its handshake in time"),
        ("closed", "", Kind::LoadFailed, "closed its standard output"),
        ("exit", "7", Kind::LoadFailed, "exit status 7. Its last words: the last words"),
        ("signal", "11", Kind::LoadFailed, "signal 11"),
        ("grandchild-silent", "", Kind::LoadFailed, "exit status 5"),
        ("say", "2|1|unix|/tmp/x|grpc", Kind::LoadFailed, "core protocol \"2\""),
        ("say", "1|9|unix|/tmp/x|grpc", Kind::LoadFailed, "version \"9\""),
        ("say", "1|1|unix|/tmp/x|netrpc", Kind::LoadFailed, "netrpc"),
        ("say", "1|1", Kind::LoadFailed, "four fields"),
        ("say", "1|1|unix|/nonexistent/socket|grpc", Kind::LoadFailed, "cannot be reached"),
        ("say", "1|1|unix|/dev/null|grpc", Kind::LoadFailed, "is not a socket"),
        ("say", "1|1|tcp|127.0.0.1:1|grpc", Kind::PermissionDenied, "tcp: true"),
        ("say", &format!("1|1|unix|/tmp/x|grpc|{cert}"), Kind::LoadFailed, "TLS was not asked"),
        ("deaf", "", Kind::Timeout, "did not answer on its socket in time"),
        ("mute", "", Kind::Timeout, "did not answer on its socket in time"),
        ("garbage", "", Kind::LoadFailed, "does not speak gRPC"),
        ("closes", "", Kind::LoadFailed, "does not speak gRPC"),
        ("dies-after", "", Kind::LoadFailed, "exit status 4"),
    ] {
        let begun = Instant::now();
        let start = match kind {
            // Time for a handshake, and no more than is needed to see that nothing comes after it, or that none comes.
            Kind::Timeout if says.contains("socket") => "3s",
            Kind::Timeout => "500ms",
            _ => "60s",
        };
        let error = bench.load_manifest(&manifest(what, text, &mark, start), Deadline::after(SOON)).map(|_| ()).unwrap_err();
        assert_eq!(error.kind(), kind, "{what} {text}: {error}");
        assert!(error.message().contains(says), "{what} {text}: {error}");
        assert!(begun.elapsed() < BOUND, "{what} {text}: {:?}", begun.elapsed());
        assert!(bench.left_behind().is_empty(), "{what} {text}: {:?}", bench.left_behind());
        assert!(comes_true(|| marked(&mark).is_empty()), "{what} {text}: {:?}", marked(&mark));
    }
    works(bench);
}

/// The next plugin of the same host is none the worse for it.
fn works(mut bench: Bench) {
    bench.again();
    let (plugin, _exits) = bench.start("fixture-grpc-plain", "null");
    assert_eq!(call(&plugin, "command", &serde_json::json!({"content": [1]}), &soon()).unwrap(), serde_json::json!([1]));
    plugin.stop(&Deadline::after(SOON));
}

fn started(bench: &Bench, what: &str, mark: &str) -> (Arc<Plugin>, std::sync::mpsc::Receiver<Error>) {
    let (plugin, exits) =
        bench.load_manifest(&manifest(what, "", mark, "60s"), Deadline::after(SOON)).unwrap_or_else(|e| panic!("{what}: {e}"));
    plugin.start("null", &soon()).unwrap_or_else(|e| panic!("{what}: {e}"));
    (plugin, exits)
}

fn briefly() -> Call {
    Call::new(Deadline::after(Duration::from_millis(500)))
}

/// Stops it, and sees that nothing stays.
fn ends(bench: &mut Bench, what: &str, mark: &str, plugin: &Plugin) {
    let (begun, pid) = (Instant::now(), plugin.pid());
    plugin.stop(&Deadline::after(Duration::ZERO));
    assert!(begun.elapsed() < BOUND, "{what}: {:?}", begun.elapsed());
    assert!(!children(std::process::id()).contains(&pid), "{what}");
    // What was killed with it is taken away by the system, which may need a moment.
    assert!(comes_true(|| group(pid).is_empty() && marked(mark).is_empty()), "{what}: {:?} {:?}", group(pid), marked(mark));
    assert!(bench.left_behind().is_empty(), "{what}: {:?}", bench.left_behind());
    bench.again();
}

#[test]
fn what_answers_a_call_with_nonsense_is_told_in_time_and_leaves_nothing() {
    use Kind::{InvalidResponse, Plugin, Timeout, Unavailable};
    let cases: &[(&str, &[Kind])] = &[
        ("garbage-frames", &[Unavailable]),
        ("bad-headers", &[Unavailable]),
        ("huge-headers", &[Unavailable, Plugin]),
        ("unknown-frames", &[Timeout, Unavailable]),
        ("pings", &[Timeout, Unavailable]),
        ("settings", &[Timeout, Unavailable]),
        ("empty-data", &[Timeout, Unavailable]),
        ("window", &[Timeout, Unavailable]),
        ("push", &[Unavailable]),
        ("reset", &[Plugin, Unavailable]),
        ("bad-details", &[Plugin]),
        ("goaway", &[Unavailable]),
        ("no-message", &[InvalidResponse]),
        ("no-status", &[InvalidResponse, Plugin]),
        ("no-proto", &[InvalidResponse]),
        ("compressed", &[InvalidResponse]),
        ("huge-message", &[InvalidResponse]),
        ("cut-message", &[Timeout]),
        ("hang-up", &[Unavailable]),
        ("unlink", &[Unavailable]),
        ("exit-in-call", &[Unavailable]),
        ("stop", &[Timeout]),
        ("says-nothing", &[Timeout]),
    ];
    let next = std::sync::atomic::AtomicUsize::new(0);
    std::thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| {
                while let Some((what, kinds)) = cases.get(next.fetch_add(1, std::sync::atomic::Ordering::Relaxed)) {
                    answers_nonsense(what, kinds);
                }
            });
        }
    });
}

fn answers_nonsense(what: &str, kinds: &[Kind]) {
    let (mut bench, mark) = (Bench::new(what), mark(what));
    let (plugin, _exits) = match what {
        // It is gone before `Init`.
        "unlink" => bench.load_manifest(&manifest(what, "", &mark, "60s"), Deadline::after(SOON)).unwrap(),
        _ => started(&bench, what, &mark),
    };
    let begun = Instant::now();
    for repeated in [false, true] {
        // Where it is not the deadline that ends it, a busy machine has all the time it needs.
        let how = if repeated || kinds.contains(&Kind::Timeout) { briefly() } else { soon() };
        let error = order(&plugin, Value::Null, &how).map(|answer| panic!("{what}: {answer}")).unwrap_err();
        let later = repeated && matches!(error.kind(), Kind::Timeout | Kind::Unavailable);
        assert!(kinds.contains(&error.kind()) || later, "{what}: {error:?}");
    }
    let health = plugin.health();
    assert!(health.ready || !health.last_error.is_empty(), "{what}: {health:?}");
    assert!(!health.ready || what != "stop", "{health:?}");
    assert!(begun.elapsed() < BOUND, "{what}: {:?}", begun.elapsed());
    ends(&mut bench, what, &mark, &plugin);
    works(bench);
}

/// Panics of the library's own threads from now on.
fn panics() -> Arc<std::sync::atomic::AtomicUsize> {
    let (count, usual) = (Arc::<std::sync::atomic::AtomicUsize>::default(), std::panic::take_hook());
    let counted = count.clone();
    std::panic::set_hook(Box::new(move |about| {
        if std::thread::current().name().is_some_and(|name| name.starts_with("flowplug")) {
            counted.fetch_add(1, std::sync::atomic::Ordering::SeqCst);
        }
        usual(about);
    }));
    count
}

#[test]
fn nonsense_behind_what_is_not_a_call_is_an_error_and_no_more() {
    let (mut bench, mark, panics) = (Bench::new("aside"), mark("aside"), panics());
    // `Health`, `StreamStdio`, `StartStream` and `Shutdown` end with a status whose details are not base64.
    for what in ["bad-details-aside", "bad-details-aside-late"] {
        let (plugin, exits) = started(&bench, what, &mark);
        assert_eq!(order(&plugin, Value::Null, &soon()).unwrap(), Value::Null, "{what}");
        assert!(!what.ends_with("late") || bench.host.wait_for_log(|seen| seen.message == "told"));
        ends(&mut bench, what, &mark, &plugin);
        assert!(exits.try_recv().is_err(), "{what}: a stop is no crash");
    }
    assert_eq!(panics.load(std::sync::atomic::Ordering::SeqCst), 0);
    works(bench);
}

#[test]
fn a_connection_that_the_plugin_leaves_is_made_again() {
    let (mut bench, mark) = (Bench::new("leaves"), mark("leaves"));
    let (plugin, _exits) = started(&bench, "leaves", &mark);
    for _ in 0..20 {
        assert_eq!(order(&plugin, Value::Null, &soon()).unwrap(), Value::Null);
    }
    ends(&mut bench, "leaves", &mark, &plugin);
}

#[test]
fn floods_of_output_hold_up_no_call() {
    let (mut bench, mark) = (Bench::new("floods"), mark("floods"));
    for what in ["flood-out", "flood-err", "flood-out-endless", "flood-err-endless", "flood-hclog", "flood-binary"] {
        let (plugin, _exits) = started(&bench, what, &mark);
        for _ in 0..50 {
            assert_eq!(order(&plugin, Value::Null, &soon()).unwrap(), Value::Null, "{what}");
        }
        ends(&mut bench, what, &mark, &plugin);
    }
    assert!(bench.host.wait_for_log(|seen| seen.message.contains("were dropped")));
    assert!(bench.host.logs.lock().unwrap().iter().all(|seen| seen.message.len() < 70_000 && !seen.message.contains('\x1b')));
    assert!(bench.host.wait_for_log(|seen| seen.message == "noise"));
    assert!(bench.host.wait_for_log(|seen| seen.message == "panic: no" && seen.level == Level::Error));
    works(bench);
}

#[test]
fn a_process_that_will_not_end_is_ended_in_time() {
    let (mut bench, mark) = (Bench::new("stubborn"), mark("stubborn"));
    // Shutdown is answered and changes nothing; SIGTERM is ignored.
    let (plugin, exits) = started(&bench, "stubborn", &mark);
    ends(&mut bench, "stubborn", &mark, &plugin);
    assert!(exits.try_recv().is_err(), "a stop is no crash");
    // Its own end is what counts, not that of the pipes, which a child of its holds; the child goes with it.
    let (plugin, exits) = started(&bench, "grandchild", &mark);
    assert_eq!(group(plugin.pid()).len(), 2);
    assert!(std::process::Command::new("kill").args(["-9", &plugin.pid().to_string()]).status().unwrap().success());
    assert_eq!(exits.recv_timeout(SOON).unwrap().details()["signal"], 9);
    assert!(comes_true(|| marked(&mark).is_empty()), "{:?}", marked(&mark));
    ends(&mut bench, "grandchild", &mark, &plugin);
    // One that left the group is past that, and holds up nothing.
    let (plugin, _exits) = started(&bench, "escaped", &mark);
    let escaped: Vec<i32> = marked(&mark).into_iter().filter(|pid| *pid != plugin.pid()).collect();
    plugin.stop(&Deadline::after(Duration::ZERO));
    assert!(bench.left_behind().is_empty());
    assert_eq!(marked(&mark), escaped);
    assert!(std::process::Command::new("kill").args(["-9", &escaped[0].to_string()]).status().unwrap().success());
    works(bench);
}
