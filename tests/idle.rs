//! A host whose plugins nobody calls does not wake up. By itself: any call would keep the ticker awake.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    missing_docs,
    reason = "a test fails by panicking"
)]
#![allow(dead_code, reason = "the tests of reloads use the rest of its support")]

#[path = "reload/support.rs"]
mod support;

use std::time::{Duration, Instant};

use flowplug::call::{Call, Deadline};
use flowplug::error::Kind;
use support::*;

/// How often the ticker has gone to sleep.
fn naps() -> u64 {
    let tasks = std::fs::read_dir("/proc/self/task").unwrap().map(|task| task.unwrap().path());
    let ticker = tasks.into_iter().find(|task| std::fs::read_to_string(task.join("comm")).is_ok_and(|name| name == "flowplug-ticker\n"));
    let status = std::fs::read_to_string(ticker.expect("a ticker").join("status")).unwrap();
    let naps = status.lines().find_map(|line| line.strip_prefix("voluntary_ctxt_switches:")).unwrap();
    naps.trim().parse().unwrap()
}

fn comes_to_rest() {
    let start = Instant::now();
    loop {
        let before = naps();
        std::thread::park_timeout(Duration::from_millis(50));
        if naps() == before {
            return;
        }
        assert!(start.elapsed() < Duration::from_secs(20), "the ticker goes on");
    }
}

#[test]
fn the_ticker_rests_while_nobody_calls_and_a_deadline_holds_after() {
    let bench = Bench::new();
    let spin = "(func (export \"spin\") (param i32 i32) (result i64) (loop $again (br $again)) (i64.const 0))";
    let plugin = bench.started(&bench.manifest(&module(1, spin), "", ""), 1);
    for _ in 0..3 {
        comes_to_rest();
        let call = Call::new(Deadline::after(Duration::from_millis(20)));
        let start = Instant::now();
        let error = plugin.call("spin", b"", &call, &mut Vec::new()).unwrap_err();
        assert_eq!(error.kind(), Kind::Timeout, "{error}");
        assert!((20..2000).contains(&start.elapsed().as_millis()), "{:?}", start.elapsed());
        assert!(ask(&plugin, "command").is_ok());
    }
}
