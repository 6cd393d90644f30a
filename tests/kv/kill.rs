//! `kill -9` of a host that writes: everything that was acknowledged is there after, deletions too.

use std::collections::HashMap;
use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Command, Stdio};

use flowplug::host::kv::file::FileKv;

use super::{asking, plugin};
use crate::support::Folder;

/// In the child: the file to write to, and the number of the round.
const FILE: &str = "FLOWPLUG_TEST_KV";
const WRITERS: u64 = 4;
const KEYS: u64 = 5;
/// Of acknowledged writes in a round before the child is killed.
const WRITES: usize = 150;

/// The `n`th write of a writer: a value, now and then an empty one, or none: the key is removed.
fn nth(writer: u64, round: u64, n: u64) -> (String, Option<String>) {
    let value = match n % 7 {
        3 => None,
        5 => Some(String::new()),
        _ => Some(format!("{round}.{n}.{}", "x".repeat((n * 31 % 90) as usize))),
    };
    (format!("plugin:w{writer}:{}", n * 3 % KEYS), value)
}

/// Writes for ever and says of each write when it is acknowledged.
fn write_for_ever(path: &Path, round: u64) -> ! {
    let kv = FileKv::open(path).unwrap();
    std::thread::scope(|scope| {
        for writer in 0..WRITERS {
            let kv = &kv;
            scope.spawn(move || {
                let own = plugin(&format!("w{writer}"));
                for n in 0.. {
                    let (key, value) = nth(writer, round, n);
                    asking(&own, |caller| match value {
                        Some(value) => kv.set(caller, &key, value.as_bytes()).unwrap(),
                        None => kv.delete(caller, &key).unwrap(),
                    });
                    println!("\nacknowledged {writer} {n}");
                }
            });
        }
    });
    unreachable!()
}

#[test]
fn what_was_acknowledged_is_there_after_kill_9() {
    if let (Ok(path), Ok(round)) = (std::env::var(FILE), std::env::var("FLOWPLUG_TEST_ROUND")) {
        write_for_ever(Path::new(&path), round.parse().unwrap());
    }
    let rounds = std::env::var("FLOWPLUG_SOAK_KILLS").map_or(5, |count| count.parse().unwrap());
    let folder = Folder::new();
    let path = folder.0.join("kv");
    let mut expected: HashMap<String, Option<String>> = HashMap::new();
    let mut writes = 0;
    for round in 0..rounds {
        let mut child = Command::new(std::env::current_exe().unwrap())
            .args(["kill::what_was_acknowledged_is_there_after_kill_9", "--exact", "--nocapture"])
            .envs([(FILE, path.to_str().unwrap()), ("FLOWPLUG_TEST_ROUND", &round.to_string())])
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut done = [0_u64; WRITERS as usize];
        let mut seen = 0;
        for line in BufReader::new(child.stdout.take().unwrap()).lines() {
            let line = line.unwrap_or_default();
            let Some((writer, n)) = line.strip_prefix("acknowledged ").and_then(|rest| rest.split_once(' ')) else { continue };
            // What the pipe still held when the child was killed counts too, but for a line that was cut.
            let (Ok(writer), Ok(n)) = (writer.parse::<usize>(), n.parse::<u64>()) else { continue };
            if n == done[writer] {
                done[writer] += 1;
                seen += 1;
            }
            if seen == WRITES {
                child.kill().unwrap();
            }
        }
        assert!(!child.wait().unwrap().success());
        assert!(seen >= WRITES, "the writer ended by itself");
        writes += seen;
        let kv = FileKv::open(&path).unwrap();
        for (writer, done) in (0..WRITERS).zip(done) {
            for n in 0..done {
                let (key, value) = nth(writer, round, n);
                expected.insert(key, value);
            }
            // One more may have been under way, and is there or not.
            let (under_way, new) = nth(writer, round, done);
            for key in (0..KEYS).map(|n| format!("plugin:w{writer}:{n}")) {
                let found = kv.get(&key).unwrap().map(|value| String::from_utf8(value).unwrap());
                let known = expected.entry(key.clone()).or_default();
                if key == under_way && found == new {
                    *known = new.clone();
                }
                assert_eq!(&found, known, "{key} after {done} writes of round {round}");
            }
        }
    }
    println!("{rounds} times killed, {writes} acknowledged writes found");
}
