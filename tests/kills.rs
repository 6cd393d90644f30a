//! A plugin that is killed again and again while it is called. Alone in its program, so that what the program holds can be
//! counted.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    missing_docs,
    unreachable_pub,
    dead_code,
    reason = "a test fails by panicking, and this one does not use all of its support"
)]

#[path = "restarts/support.rs"]
mod support;

use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Instant;

use flowplug::call::Deadline;
use flowplug::error::Kind;
use flowplug::plugin::Plugin;
use serde_json::json;
use support::{Bench, LONG, call, order};

/// Tries in a row, after which a reload counts from one again: the pauses double.
const IN_A_ROW: u32 = 6;

/// What this program holds: descriptors, threads, children and folders of sockets.
fn held(bench: &Bench) -> [usize; 4] {
    let count = |folder: &str| std::fs::read_dir(folder).unwrap().count();
    let tasks = std::fs::read_dir("/proc/self/task").unwrap().flatten();
    let lists = tasks.map(|task| std::fs::read_to_string(task.path().join("children")).unwrap_or_default());
    let children = lists.map(|list| list.split_ascii_whitespace().count()).sum();
    [count("/proc/self/fd"), count("/proc/self/task"), children, bench.sockets()]
}

/// Calls without end; each answer is that of its own question, or that there is nobody to ask.
fn ask(plugin: &Plugin, over: &AtomicBool, answered: &AtomicU64, lost: &AtomicU64, wrong: &Mutex<Vec<String>>) {
    for n in 0u64.. {
        if over.load(Ordering::Relaxed) {
            return;
        }
        let question = if n % 4 == 0 { json!({"do": "sleep", "ms": 5 + n % 7}) } else { json!({"do": "echo", "n": n}) };
        match order(plugin, question.clone()) {
            Ok(answer) if answer == question || answer["slept"] == question["ms"] => {
                answered.fetch_add(1, Ordering::Relaxed);
            }
            Err(e) if e.kind() == Kind::Unavailable => {
                lost.fetch_add(1, Ordering::Relaxed);
                std::thread::yield_now();
            }
            other => wrong.lock().unwrap().push(format!("{question}: {other:?}")),
        }
    }
}

#[test]
fn a_plugin_that_is_killed_in_mid_call_gives_every_call_its_answer_and_is_back() {
    let kills: u32 = std::env::var("FLOWPLUG_SOAK_KILLS").map_or(24, |count| count.parse().unwrap());
    let bench = Bench::new();
    let plugin = bench.started(&bench.fixture("backoff: 1ms, max_restarts: 1000"), "null");
    let (over, answered, lost, begun) = (AtomicBool::new(false), AtomicU64::new(0), AtomicU64::new(0), Instant::now());
    let (mut before, wrong) = (None, Mutex::default());
    std::thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| ask(&plugin, &over, &answered, &lost, &wrong));
        }
        for kill in 1..=kills {
            let seen = answered.load(Ordering::Relaxed);
            while answered.load(Ordering::Relaxed) < seen + 10 {
                assert!(begun.elapsed() < LONG * kills, "it answers no more");
                std::thread::yield_now();
            }
            bench.kill();
            bench.host.wait_for("restarted", 1);
            if kill % IN_A_ROW == 0 {
                plugin.reload(plugin.manifest(), b"", &call(), &Deadline::after(LONG)).unwrap();
                before.get_or_insert_with(|| settled(&bench, None));
            }
        }
        over.store(true, Ordering::Relaxed);
    });
    assert_eq!(wrong.into_inner().unwrap(), Vec::<String>::new());
    let before = before.unwrap();
    let after = settled(&bench, Some(before));
    println!(
        "{kills} kills in {:.0?}: {} calls answered, {} unavailable; descriptors, threads, children and folders {before:?}, then {after:?}",
        begun.elapsed(),
        answered.into_inner(),
        lost.into_inner()
    );
    assert!(after.iter().zip(before).all(|(now, then)| *now <= then), "{before:?}, then {after:?}");
    assert_eq!((plugin.health()["restarts"].as_u64(), bench.processes().len()), (Some(kills.into()), 1));
    assert_eq!(order(&plugin, json!({"do": "echo"})).unwrap(), json!({"do": "echo"}));
}

/// What is held when what ends in the background has ended: one process with its watchdog and its folder, and no more than
/// what is expected.
fn settled(bench: &Bench, expected: Option<[usize; 4]>) -> [usize; 4] {
    let begun = Instant::now();
    loop {
        let now = held(bench);
        let fits = now[2] == 2 && now[3] == 1 && expected.is_none_or(|most| now.iter().zip(most).all(|(now, most)| *now <= most));
        if fits || begun.elapsed() > LONG {
            return now;
        }
        std::thread::yield_now();
    }
}
