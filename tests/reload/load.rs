//! Reloads while threads call: no call fails, none is lost, and each is answered by one whole version.

use std::path::Path;
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::mpsc::channel;
use std::time::Instant;

use flowplug::call::Deadline;
use flowplug::manifest::Manifest;
use flowplug::plugin::Plugin;
use serde_json::Value;

use super::support::*;

fn count(name: &str, short: u64) -> u64 {
    std::env::var(name).map_or(short, |text| text.parse().unwrap())
}

/// What the process has: KiB that are resident, threads, descriptors.
fn resources() -> (u64, usize, usize) {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let resident = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).unwrap();
    let entries = |folder: &str| std::fs::read_dir(folder).unwrap().count();
    (resident.trim().trim_end_matches(" kB").parse().unwrap(), entries("/proc/self/task"), entries("/proc/self/fd"))
}

struct Load<'a> {
    plugin: &'a Arc<Plugin>,
    /// Calls that must be made at least.
    calls: u64,
    read: fn(&Value) -> u64,
    params: &'static [u8],
    /// Two of the threads call asynchronously.
    asynchronous: bool,
}

impl Load<'_> {
    fn called_async(&self) -> Vec<u8> {
        let (sender, answered) = channel();
        let done = move |answer| sender.send(answer).unwrap();
        self.plugin.call_async("command", self.params.to_vec(), call(), false, done).unwrap();
        answered.recv_timeout(LONG).unwrap().unwrap()
    }

    /// Calls from 8 threads, half of them by a function that was found once, two of them perhaps asynchronously, while each
    /// version takes the place of the one before it; the number of calls that were answered.
    fn run(&self, versions: impl Iterator<Item = (u64, Arc<Manifest>)> + Send) -> u64 {
        let (done, answered, current) = (AtomicBool::new(false), AtomicU64::new(0), AtomicU64::new(0));
        std::thread::scope(|scope| {
            for thread in 0..8 {
                let (done, answered, current) = (&done, &answered, &current);
                scope.spawn(move || {
                    let found = self.plugin.resolve("command").unwrap();
                    let mut last = 0;
                    while !done.load(Ordering::SeqCst) || answered.load(Ordering::SeqCst) < self.calls {
                        let before = current.load(Ordering::SeqCst);
                        let mut answer = Vec::new();
                        match thread % 4 {
                            3 if self.asynchronous => answer = self.called_async(),
                            0 | 2 => self.plugin.enter().call_resolved(&found, self.params, &call(), &mut answer).unwrap(),
                            _ => self.plugin.call("command", self.params, &call(), &mut answer).unwrap(),
                        }
                        let version = (self.read)(&serde_json::from_slice(&answer).unwrap());
                        assert!(version >= before.max(last), "version {version} answers after {before} was there and {last} answered");
                        last = version;
                        answered.fetch_add(1, Ordering::SeqCst);
                    }
                });
            }
            let finish = scope.spawn(|| {
                for (version, manifest) in versions {
                    self.plugin.reload(manifest, &config(version), &call(), &Deadline::after(LONG)).unwrap();
                    current.store(version, Ordering::SeqCst);
                }
            });
            let result = finish.join();
            done.store(true, Ordering::SeqCst);
            result.unwrap();
        });
        answered.load(Ordering::SeqCst)
    }
}

/// Runs a test in a process of its own, where nothing else makes threads and takes memory; whether this is that process.
fn alone(test: &str) -> bool {
    const ALONE: &str = "FLOWPLUG_TEST_ALONE";
    if std::env::var_os(ALONE).is_some() {
        return true;
    }
    let program = std::env::current_exe().unwrap();
    let ended = Command::new(program).args(["--exact", test, "--nocapture"]).env(ALONE, "yes").status().unwrap();
    assert!(ended.success(), "{ended}");
    false
}

#[test]
fn reloads_under_load_lose_no_call() {
    if !alone("load::reloads_under_load_lose_no_call") {
        return;
    }
    let (reloads, calls) = (count("FLOWPLUG_SOAK_RELOADS", 100), count("FLOWPLUG_SOAK_RELOAD_CALLS", 20_000));
    let bench = Bench::new();
    let manifests = [1, 2].map(|number| bench.manifest(&module(number, ""), "max_instances: 8", ""));
    let plugin = bench.load(&manifests[1]);
    plugin.start(&config(0), &call()).unwrap();
    // Each version has its number in its config; the two modules take turns.
    let read = |answer: &Value| {
        let (module, version) = (answer["module"].as_u64().unwrap(), answer["config"]["version"].as_u64().unwrap());
        assert_eq!(module, [2, 1][(version % 2) as usize], "one whole version");
        version
    };
    let load = Load { plugin: &plugin, calls: 0, read, params: b"{}", asynchronous: false };
    let start = Instant::now();
    let versions = |from: u64, to: u64| (from..=to).map(|n| (n, manifests[(n + 1) as usize % 2].clone()));
    let warm = load.run(versions(1, reloads / 4));
    let before = resources();
    let answered = warm + Load { calls: calls.saturating_sub(warm), ..load }.run(versions(reloads / 4 + 1, reloads));
    let after = resources();
    println!(
        "reload: {reloads} reloads under {answered} calls in {:?}; KiB, threads, descriptors {before:?}, then {after:?}",
        start.elapsed()
    );
    let vitals = plugin.vitals();
    assert_eq!((vitals.calls, vitals.in_flight), (answered, 0));
    assert!(after.0 < before.0 + (32 << 10) && after.1 <= before.1 + 8 && after.2 <= before.2 + 8, "{before:?} {after:?}");
}

#[test]
fn reloads_under_load_cross_the_runtimes() {
    let bench = Bench::new();
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("target/plugins/fixture-grpc-go");
    assert!(folder.join("plugin.yaml").exists(), "{} is not there: run `make plugins`", folder.display());
    let process = Arc::new(Manifest::read(&folder, true).unwrap());
    let wasm = bench.manifest(&module(0, ""), "max_instances: 8", "");
    let plugin = bench.load(&wasm);
    plugin.start(&config(0), &call()).unwrap();
    let read = |answer: &Value| {
        let from_wasm = answer.get("module").is_some();
        let config = if from_wasm { &answer["config"] } else { answer };
        let version = config["version"].as_u64().unwrap_or_else(|| panic!("{answer}"));
        assert_eq!(from_wasm, version % 2 == 0, "one whole version");
        version
    };
    let load = Load { plugin: &plugin, calls: 0, read, params: br#"{"content": {"do": "config"}}"#, asynchronous: true };
    let crossings = count("FLOWPLUG_SOAK_CROSSINGS", 8);
    let start = Instant::now();
    let answered = load.run((1..=crossings).map(|n| (n, if n % 2 == 0 { wasm.clone() } else { process.clone() })));
    println!("reload: {crossings} reloads across the runtimes under {answered} calls in {:?}", start.elapsed());
}
