//! S11: one plugin called from many threads through the C ABI: what a second core adds, and what 64 threads on four
//! instances lose, beside how long the unluckiest of them waits, and what a second core adds to plain arithmetic.
#![allow(
    unsafe_code,
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::undocumented_unsafe_blocks,
    clippy::multiple_unsafe_ops_per_block,
    missing_docs,
    unreachable_pub,
    dead_code,
    reason = "a benchmark drives the C ABI as C does, and fails by panicking"
)]

#[path = "support/host.rs"]
mod host;
#[path = "support/rounds.rs"]
mod rounds;

use std::hint::black_box;
use std::ptr::null;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use host::{Folder, Function, Host, Manifest};
use rounds::median;

const ROUNDS: usize = 15;
const EACH: Duration = Duration::from_millis(200);

/// A function of a plugin with four instances.
struct Echo(Function);

impl Echo {
    /// So many threads call as often as they can.
    fn run(&self, threads: usize, input: &str) -> Run {
        let (each, took) = together(threads, |stop| self.until(stop, input));
        let per_second = each.iter().map(|(calls, _)| calls).sum::<u64>() as f64 / took.as_secs_f64();
        let fair = threads as f64 / per_second;
        let mut longest: Vec<f64> = each.iter().map(|(_, longest)| longest.as_secs_f64() / fair).collect();
        let least = each.iter().map(|(calls, _)| *calls).min().unwrap() as f64;
        Run { per_second, typical: median(&mut longest), longest: longest[longest.len() - 1], share: least / (EACH.as_secs_f64() / fair) }
    }

    /// The calls of one thread, and the longest time from the end of one to the end of the next.
    fn until(&self, stop: &AtomicBool, input: &str) -> (u64, Duration) {
        let mut buffer = vec![0; input.len() + 64];
        let (mut calls, mut longest, mut last) = (0, Duration::ZERO, Instant::now());
        while !stop.load(Ordering::Relaxed) {
            self.0.echo(input, null(), &mut buffer);
            let now = Instant::now();
            longest = longest.max(now - last);
            (calls, last) = (calls + 1, now);
        }
        (calls, longest)
    }
}

/// So many threads do the same until they are told to stop: what each answers, and when all had.
fn together<T: Send>(threads: usize, each: impl Fn(&AtomicBool) -> T + Sync) -> (Vec<T>, Duration) {
    let stop = AtomicBool::new(false);
    let start = Instant::now();
    let answers = thread::scope(|s| {
        let threads: Vec<_> = (0..threads).map(|_| s.spawn(|| each(&stop))).collect();
        thread::sleep(EACH);
        stop.store(true, Ordering::Relaxed);
        threads.into_iter().map(|thread| thread.join().unwrap()).collect()
    });
    (answers, start.elapsed())
}

/// How often a second so many threads get through a loop of arithmetic, which shares nothing: what a second thread adds to
/// that is the machine's to say.
fn arithmetic(threads: usize) -> f64 {
    let (each, took) = together(threads, |stop| {
        let (mut rounds, mut number) = (0, 1_u64);
        while !stop.load(Ordering::Relaxed) {
            for _ in 0..1000 {
                number = black_box(number.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1));
            }
            rounds += 1;
        }
        rounds
    });
    each.iter().sum::<u64>() as f64 / took.as_secs_f64()
}

struct Run {
    per_second: f64,
    /// The longest wait of the median thread and of the unluckiest, in fair shares: the time in which each has one call.
    typical: f64,
    longest: f64,
    /// The calls of the thread that had least, to its fair share.
    share: f64,
}

fn main() {
    let folder = Folder::new();
    std::fs::write(folder.0.join("echo.wasm"), wat::parse_str(include_str!("support/echo.wat")).unwrap()).unwrap();
    let host = Host::new("");
    let manifest = Manifest::new(&folder.0, "echo.wasm", ", pool: {max_instances: 4, wait_timeout: 30s}");
    let plugin = host.load(&manifest).start();
    let echo = Echo(plugin.function("echo"));
    for size in [100_usize, 4 << 10, 64 << 10] {
        let input = format!("[{}]", "{\"id\":12345,\"name\":\"flow\",\"tags\":[\"a\",\"b\"],\"ok\":true},".repeat(size.div_ceil(54)) + "1");
        let counts = [1, 2, 64];
        let mut runs: [Vec<Run>; 3] = Default::default();
        let mut controls: [Vec<f64>; 2] = Default::default();
        for _ in 0..ROUNDS {
            for (threads, runs) in counts.iter().zip(&mut runs) {
                runs.push(echo.run(*threads, &input));
            }
            for (threads, rates) in counts.iter().zip(&mut controls) {
                rates.push(arithmetic(*threads));
            }
        }
        let of = |runs: &[Run], what: fn(&Run) -> f64| median(&mut runs.iter().map(what).collect::<Vec<_>>());
        let rates = runs.each_ref().map(|runs| of(runs, |run| run.per_second));
        let machine = median(&mut controls[1]) / median(&mut controls[0]);
        println!("\necho of {} B of JSON objects, four instances", input.len());
        println!("  1 thread     {:>10.0} calls/s", rates[0]);
        println!("  2 threads    {:>10.0} calls/s   x {:.2} of 1 thread", rates[1], rates[1] / rates[0]);
        println!("    a loop of arithmetic in the same rounds: x {machine:.2}; the calls to that: {:.2}", rates[1] / rates[0] / machine);
        println!("  64 threads   {:>10.0} calls/s   x {:.2} of 2 threads", rates[2], rates[2] / rates[1]);
        println!(
            "    longest wait, in fair shares: median thread {:.1}, unluckiest {:.1}; calls of the unluckiest {:.2} of its share",
            of(&runs[2], |run| run.typical),
            of(&runs[2], |run| run.longest),
            of(&runs[2], |run| run.share),
        );
    }
}
