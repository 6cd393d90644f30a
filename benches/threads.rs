//! S11: one plugin called from many threads through the C ABI: what a second core adds, and what 64 threads on four
//! instances lose, beside how long the unluckiest of them waits.
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

#[path = "support/rounds.rs"]
mod rounds;

use std::ptr::{null, null_mut};
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use flowplug::ffi::function::{flowplug_function, flowplug_function_call, flowplug_function_free, flowplug_function_new};
use flowplug::ffi::host::{flowplug_host, flowplug_host_close, flowplug_host_free, flowplug_host_new, flowplug_host_options};
use flowplug::ffi::manifest::{flowplug_manifest_free, flowplug_manifest_options, flowplug_manifest_parse};
use flowplug::ffi::plugin::{flowplug_plugin, flowplug_plugin_free, flowplug_plugin_load, flowplug_plugin_start};
use flowplug::ffi::text::{flowplug_bytes, flowplug_str};
use rounds::median;

const ROUNDS: usize = 15;
const EACH: Duration = Duration::from_millis(200);

fn text(s: &str) -> flowplug_str {
    flowplug_str { ptr: s.as_ptr().cast(), len: s.len() }
}

/// The echo plugin with four instances. Its handles may be used from any thread.
struct Plugin {
    host: *mut flowplug_host,
    plugin: *mut flowplug_plugin,
    echo: *mut flowplug_function,
}

unsafe impl Sync for Plugin {}

impl Plugin {
    fn new() -> Self {
        let folder = std::env::temp_dir().join(format!("flowplug-bench-{}", std::process::id()));
        std::fs::create_dir_all(&folder).unwrap();
        std::fs::write(folder.join("echo.wasm"), wat::parse_str(include_str!("support/echo.wat")).unwrap()).unwrap();
        let (mut host, mut manifest, mut plugin, mut echo) = (null_mut(), null_mut(), null_mut(), null_mut());
        let options = flowplug_host_options { struct_size: size_of::<flowplug_host_options>(), config: text(""), api: null() };
        let base = flowplug_manifest_options {
            struct_size: size_of::<flowplug_manifest_options>(),
            base_dir: text(folder.to_str().unwrap()),
            strict: 0,
        };
        let yaml = "{name: echo, runtime: wasm, wasm: {module: echo.wasm, pool: {max_instances: 4, wait_timeout: 30s}}}";
        unsafe {
            assert_eq!(flowplug_host_new(&options, &mut host, null_mut()), 0);
            assert_eq!(flowplug_manifest_parse(text(yaml), &base, &mut manifest, null_mut()), 0);
            assert_eq!(flowplug_plugin_load(host, manifest, text("echo"), null(), null(), &mut plugin, null_mut()), 0);
            assert_eq!(flowplug_plugin_start(plugin, text(""), null(), null_mut()), 0);
            assert_eq!(flowplug_function_new(plugin, text("echo"), &mut echo, null_mut()), 0);
            flowplug_manifest_free(manifest);
        }
        std::fs::remove_dir_all(&folder).unwrap();
        Plugin { host, plugin, echo }
    }

    fn call(&self, input: &str, buffer: &mut [u8]) {
        let mut out = flowplug_bytes { ptr: null_mut(), len: 0, owner: null_mut() };
        let status =
            unsafe { flowplug_function_call(self.echo, text(input), null(), buffer.as_mut_ptr(), buffer.len(), &mut out, null_mut()) };
        assert_eq!((status, out.len), (0, input.len()));
    }

    /// So many threads call as often as they can.
    fn run(&self, threads: usize, input: &str) -> Run {
        let stop = AtomicBool::new(false);
        let start = Instant::now();
        let each: Vec<(u64, Duration)> = thread::scope(|s| {
            let threads: Vec<_> = (0..threads).map(|_| s.spawn(|| self.until(&stop, input))).collect();
            thread::sleep(EACH);
            stop.store(true, Ordering::Relaxed);
            threads.into_iter().map(|thread| thread.join().unwrap()).collect()
        });
        let per_second = each.iter().map(|(calls, _)| calls).sum::<u64>() as f64 / start.elapsed().as_secs_f64();
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
            self.call(input, &mut buffer);
            let now = Instant::now();
            longest = longest.max(now - last);
            (calls, last) = (calls + 1, now);
        }
        (calls, longest)
    }
}

impl Drop for Plugin {
    fn drop(&mut self) {
        unsafe {
            flowplug_function_free(self.echo);
            flowplug_plugin_free(self.plugin);
            assert_eq!(flowplug_host_close(self.host, null(), null_mut()), 0);
            flowplug_host_free(self.host);
        }
    }
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
    let plugin = Plugin::new();
    for size in [100_usize, 4 << 10, 64 << 10] {
        let input = format!("[{}]", "{\"id\":12345,\"name\":\"flow\",\"tags\":[\"a\",\"b\"],\"ok\":true},".repeat(size.div_ceil(54)) + "1");
        let counts = [1, 2, 64];
        let mut runs: [Vec<Run>; 3] = Default::default();
        for _ in 0..ROUNDS {
            for (threads, runs) in counts.iter().zip(&mut runs) {
                runs.push(plugin.run(*threads, &input));
            }
        }
        let of = |runs: &[Run], what: fn(&Run) -> f64| median(&mut runs.iter().map(what).collect::<Vec<_>>());
        let rates = runs.each_ref().map(|runs| of(runs, |run| run.per_second));
        println!("\necho of {} B of JSON objects, four instances", input.len());
        println!("  1 thread     {:>10.0} calls/s", rates[0]);
        println!("  2 threads    {:>10.0} calls/s   x {:.2} of 1 thread", rates[1], rates[1] / rates[0]);
        println!("  64 threads   {:>10.0} calls/s   x {:.2} of 2 threads", rates[2], rates[2] / rates[1]);
        println!(
            "    longest wait, in fair shares: median thread {:.1}, unluckiest {:.1}; calls of the unluckiest {:.2} of its share",
            of(&runs[2], |run| run.typical),
            of(&runs[2], |run| run.longest),
            of(&runs[2], |run| run.share),
        );
    }
}
