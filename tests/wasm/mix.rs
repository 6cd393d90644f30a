//! Hostile guests of every kind, many at a time: each ends with its own kind of error by its bound, the next call of the
//! same plugin succeeds on an instance that nothing hostile has run in, and a sibling of the same module feels nothing.

use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use flowplug::call::{Call, Cancel};
use flowplug::error::{Kind, Result};
use flowplug::wasm::Plugin;

use crate::support::*;

/// The deadline of what would never end.
const SHORT: Duration = Duration::from_millis(60);
/// How late it may end after that: 10 ms, 0.6 ms for each MiB of memory, and 50 ms under load.
const BOUND: Duration = Duration::from_millis(10 + 64 * 6 / 10 + 50);
/// What the test insists on: the thread that ticks has to get a processor, too, on a machine that is busy with something else.
const PATIENCE: Duration = Duration::from_millis(50 * BOUND.as_millis() as u64);

/// Guests of one run of the test; `make soak` asks for a thousand by this variable.
const COUNT: usize = 300;
const COUNT_VARIABLE: &str = "FLOWPLUG_SOAK_HOSTILE";

/// What a row does to its plugin.
#[derive(Clone, Copy, Debug)]
enum Act {
    /// Calls a function with these parameters.
    Call(&'static str, &'static str),
    /// Sets the mode and makes a call, on an instance that is there.
    Warm(&'static str),
    /// Sets the mode and makes a call that needs a new instance.
    Fresh(&'static str),
    /// Sets the mode and loads another plugin of the module.
    Load(&'static str),
    /// Sets the mode and asks for the health, which waits 100 ms at most and never fails.
    Health(&'static str),
}

/// How it ends: well, or with this kind of error and this `kind` in its details.
type End = Option<(Kind, &'static str)>;

const LATE: End = Some((Kind::Timeout, ""));
const TRAP: End = Some((Kind::Trap, "unreachable"));
const EXIT: End = Some((Kind::Trap, "exit"));
const STACK: End = Some((Kind::Trap, "stack_overflow"));
const MEMORY: End = Some((Kind::OutOfMemory, ""));
const BAD: End = Some((Kind::InvalidResponse, ""));
const WELL: End = None;

#[rustfmt::skip]
fn rows() -> Vec<(Act, End)> {
    use Act::{Call, Fresh, Health, Load, Warm};
    let mut rows = Vec::new();
    for name in ["spin", "tree", "fill", "copy", "fills", "tables", "sleep", "polls", "random", "asks", "logs", "slow_asks", "random_asks", "floods", "lines"] {
        rows.push((Call(name, ""), LATE));
    }
    for (name, kind) in [
        ("unreachable", "unreachable"), ("divide", "integer_division_by_zero"), ("overflow", "integer_overflow"),
        ("convert", "bad_conversion_to_integer"), ("load", "memory_out_of_bounds"), ("store", "memory_out_of_bounds"),
        ("bulk", "memory_out_of_bounds"), ("indirect", "indirect_call_to_null"), ("element", "table_out_of_bounds"),
        ("recurse", "stack_overflow"), ("exit", "exit"), ("exit_zero", "exit"), ("exit_negative", "exit"),
        ("wild_write", "bad_argument"),
    ] {
        rows.push((Call(name, ""), Some((Kind::Trap, kind))));
    }
    rows.extend([(Call("grow", ""), MEMORY), (Call("grow_all", ""), MEMORY), (Call("grow_table", ""), MEMORY), (Call("grow_politely", ""), WELL)]);
    for name in ["outside", "over_the_end", "wraps", "four_gigabytes", "null_and_long"] {
        rows.push((Call(name, ""), BAD));
    }
    for envelope in ["x", "[null,1]", "null", "\"\"", r#"{"data":1"#, r#"{"data":1}{}"#, r#"{"data":1,}"#, r#"{"data":"\u12"}"#, r#"{"data":01}"#] {
        rows.push((Call("raw", envelope), BAD));
    }
    rows.extend([
        (Call("raw", r#"{"error":"no"}"#), Some((Kind::Plugin, ""))),
        (Call("raw", r#"{"data":1}"#), WELL), (Call("inside", r#" {"data":1}"#), WELL), (Call("odd", r#"{"data":1}"#), WELL), (Call("wild", ""), WELL),
        (Warm("Az"), MEMORY), (Warm("Aw"), BAD), (Warm("Ao"), WELL),
    ]);
    let acts = [("l", LATE), ("p", LATE), ("m", LATE), ("t", TRAP), ("x", EXIT), ("0", EXIT), ("c", STACK), ("g", MEMORY)];
    for (act, end) in acts {
        let mode = |place: &str| -> &'static str { format!("{place}{act}").leak() };
        rows.extend([(Fresh(mode("s")), end), (Fresh(mode("i")), end), (Fresh(mode("n")), end), (Warm(mode("a")), end)]);
        rows.extend([(Load(mode("s")), end), (Load(mode("i")), end), (Health(mode("r")), end)]);
        // A trap in free costs the instance and not the answer.
        rows.push((Warm(mode("f")), if matches!(end, LATE) { LATE } else { WELL }));
    }
    rows
}

/// Made once: reading its text takes longer than what is measured.
fn module() -> Vec<u8> {
    let imports = r#"
        (import "flowbot" "get_config" (func $config (param i32 i32 i32) (result i32)))
        (import "flowbot" "kv_get" (func $kv (param i32 i32 i32) (result i32)))
        (import "flowbot" "kv_set" (func $set (param i32 i32 i32 i32) (result i32)))
        (import "flowbot" "kv_delete" (func $delete (param i32 i32) (result i32)))
        (import "flowbot" "http_request" (func $http (param i32 i32 i32 i32) (result i32)))
        (import "flowbot" "emit_event" (func $emit (param i32 i32) (result i32)))
        (import "flowbot" "log" (func $log (param i32 i32 i32)))
        (import "wasi_snapshot_preview1" "proc_exit" (func $proc_exit (param i32)))
        (import "wasi_snapshot_preview1" "poll_oneoff" (func $poll (param i32 i32 i32 i32) (result i32)))
        (import "wasi_snapshot_preview1" "random_get" (func $random (param i32 i32) (result i32)))
        (import "wasi_snapshot_preview1" "fd_write" (func $fd_write (param i32 i32 i32 i32) (result i32)))"#;
    // Without a loop, so that nothing but the function's entry would look at the clock by itself.
    let fills = "(memory.fill (i32.const 2048) (i32.const 7) (local.get $n))".repeat(1000);
    let asks = "(drop (call $config (i32.const 84) (i32.const 4) (i32.const 900)))".repeat(2000);
    let randoms = "(drop (call $random (i32.const 4096) (i32.const 250000)))".repeat(10_000);
    let body = include_str!("mix.wat").replace(";; FILLS", &fills).replace(";; ASKS", &asks).replace(";; RANDOMS", &randoms);
    let text = guest(imports, &body)
        .replace(r#"(func $alloc (export "alloc")"#, "(func $alloc")
        .replace(r#"(func (export "free") (param i32) (global.set $next (i32.const 65536)))"#, "");
    wat::parse_str(text).unwrap()
}

fn token(cancel: &Cancel) -> Call {
    Call { cancel: Some(cancel.clone()), ..call() }
}

/// A plugin whose host decides what goes wrong.
struct Victim {
    setup: Setup,
    mode: Arc<Mutex<String>>,
    /// How often the guest has asked for it.
    asks: Arc<AtomicUsize>,
    plugin: Arc<Plugin>,
    /// The same with an instance for each call.
    fresh: Arc<Plugin>,
}

impl Victim {
    fn new(module: &[u8], instances: u32) -> Self {
        let mut setup = Setup::new();
        setup.grants.max_instances = instances;
        (setup.grants.rates.log, setup.grants.rates.output) = (100, 100);
        let mode = Arc::new(Mutex::new(String::new()));
        let asks = Arc::new(AtomicUsize::new(0));
        let (told, asked) = (Arc::clone(&mode), Arc::clone(&asks));
        setup.host.on_config(move |caller, key| match key {
            "slow" => {
                let start = Instant::now();
                while start.elapsed() < Duration::from_millis(1) {
                    std::hint::spin_loop();
                }
                Ok(None)
            }
            _ => {
                asked.fetch_add(1, Ordering::SeqCst);
                let mode = told.lock().unwrap().clone();
                // What takes the place of a broken instance is made while the mode may still be set.
                let spared = caller.function == "init" && mode.starts_with(['a', 'f', 'A']);
                Ok(Some(if spared { Vec::new() } else { mode.into_bytes() }))
            }
        });
        let started = |setup: &Setup| {
            let plugin = setup.load_module(module, &call()).unwrap();
            plugin.start("null", &call()).unwrap();
            plugin
        };
        let plugin = started(&setup);
        setup.wasm = "  pool:\n    instance_per_call: true\n".to_owned();
        let fresh = started(&setup);
        setup.wasm.clear();
        Victim { setup, mode, asks, plugin, fresh }
    }

    fn set(&self, mode: &str) {
        mode.clone_into(&mut self.mode.lock().unwrap());
    }

    fn act(&self, module: &[u8], act: Act, call: &Call) -> Result<String> {
        let result = match act {
            Act::Call(function, params) => ask_with(&self.plugin, function, params, call),
            Act::Warm(mode) => {
                self.set(mode);
                ask_with(&self.plugin, "echo", "[1]", call)
            }
            Act::Fresh(mode) => {
                // The first has the instance that the start made.
                drop(ask(&self.fresh, "echo", "[0]"));
                self.set(mode);
                ask_with(&self.fresh, "echo", "[1]", call)
            }
            Act::Load(mode) => {
                self.set(mode);
                self.setup.load_module(module, call).map(|_| String::new())
            }
            Act::Health(mode) => {
                self.set(mode);
                // Its last answer stands while the pool looks after its one place.
                let health = std::iter::repeat_with(|| self.plugin.health()).take(1000).find(|health| !health.ready).unwrap();
                assert!(!health.last_error.is_empty(), "{act:?}: {health:?}");
                Ok(String::new())
            }
        };
        self.set("");
        result
    }

    /// Cancels what would never end, once it has begun; how long it took after that.
    fn cancelled(&self, module: &[u8], act: Act) -> Duration {
        let (cancel, asked) = (Cancel::new(), self.asks.load(Ordering::SeqCst));
        let took = std::thread::scope(|s| {
            let call = token(&cancel);
            let running = s.spawn(move || {
                let waited = Timer::waited();
                assert_eq!(kind_of(self.act(module, act, &call)), Kind::Cancelled, "{act:?}");
                Timer::waited() - waited
            });
            while self.asks.load(Ordering::SeqCst) == asked && !running.is_finished() {
                std::thread::yield_now();
            }
            let timer = Timer::start();
            cancel.cancel();
            let waited = running.join().unwrap();
            timer.elapsed().saturating_sub(waited)
        });
        assert_eq!(ask(&self.plugin, "fresh", "").unwrap(), "1", "after {act:?}");
        took
    }

    /// Runs one row; how long it took past its deadline, if it had one.
    fn suffer(&self, module: &[u8], (act, end): (Act, End)) -> Option<Duration> {
        let late = end == LATE && !matches!(act, Act::Health(_));
        let within = if late { within(SHORT) } else { call() };
        let timer = Timer::start();
        let result = self.act(module, act, &within);
        let took = timer.elapsed();
        match (end, &result) {
            _ if matches!(act, Act::Health(_)) => {}
            (None, Ok(_)) => {}
            (Some((kind, detail)), Err(error)) => {
                assert_eq!(error.kind(), kind, "{act:?}: {error:?}");
                assert_eq!(error.details().get("kind").and_then(|kind| kind.as_str()).unwrap_or_default(), detail, "{act:?}: {error:?}");
            }
            (_, result) => panic!("{act:?} ended with {result:?}"),
        }
        assert_eq!(ask(&self.plugin, "echo", "[2]").unwrap(), "[2]", "after {act:?}");
        assert_eq!(ask(&self.plugin, "fresh", "").unwrap(), "1", "after {act:?}");
        // Recorded lines are of no use here, and many.
        self.setup.host.taken();
        let over = took.saturating_sub(SHORT);
        assert!(!late || over < PATIENCE, "{act:?} was late by {over:?}");
        late.then_some(over)
    }
}

#[test]
fn hostile_guests_by_the_hundred() {
    let count = std::env::var(COUNT_VARIABLE).map_or(COUNT, |text| text.parse().unwrap());
    let module = module();
    let rows = rows();
    let threads = 2 * std::thread::available_parallelism().unwrap().get();
    let (next, done, calm) = (AtomicUsize::new(0), AtomicBool::new(false), AtomicUsize::new(0));
    let late = Mutex::new(Vec::new());
    let sibling = Victim::new(&module, 4);
    std::thread::scope(|s| {
        s.spawn(|| {
            while !done.load(Ordering::Relaxed) {
                assert_eq!(ask(&sibling.plugin, "echo", "[3]").unwrap(), "[3]");
                calm.fetch_add(1, Ordering::Relaxed);
                std::thread::yield_now();
            }
        });
        let workers: Vec<_> = (0..threads)
            .map(|_| {
                s.spawn(|| {
                    let victim = Victim::new(&module, 1);
                    // 7919 is prime: the rows come in an order of its own, and each as often as the others.
                    while let i = next.fetch_add(1, Ordering::Relaxed)
                        && i < count
                    {
                        let row = rows[i * 7919 % rows.len()];
                        let over = victim.suffer(&module, row);
                        late.lock().unwrap().extend(over.map(|over| (over, row.0)));
                        assert_eq!(ask(&sibling.plugin, "fresh", "").unwrap(), "1");
                    }
                })
            })
            .collect();
        let ended: Vec<_> = workers.into_iter().map(|worker| worker.join()).collect();
        done.store(true, Ordering::Relaxed);
        for result in ended {
            result.unwrap();
        }
    });
    let mut late = late.into_inner().unwrap();
    late.sort_by_key(|(over, _)| *over);
    // Half of them get their processor on any machine: these show the bound itself, ten times over.
    assert!(late.get(late.len() / 2).is_none_or(|(over, _)| *over < 10 * BOUND), "{:?}", late.get(late.len() / 2));
    assert!(count < rows.len() || late.len() >= count / 4, "{} of {count} had a deadline", late.len());
    let at = |part: f64| late[((late.len() - 1) as f64 * part) as usize];
    let most = at(1.0);
    println!(
        "hostile guests: {count} of {} kinds, {threads} at a time; {} met their deadline, late by {:?} (median), {:?} (99 of 100), {:?} (most, {:?}; promised {BOUND:?}); a sibling answered {} calls meanwhile",
        rows.len(),
        late.len(),
        at(0.5).0,
        at(0.99).0,
        most.0,
        most.1,
        calm.load(Ordering::Relaxed)
    );
}

/// What would never end is ended by a token once it has begun, wherever it is, and nothing else is: all the while a sibling
/// of the same module sleeps in a call of its own, which another token ends.
#[test]
fn a_cancel_ends_what_it_is_for_and_no_sibling() {
    let module = module();
    let (victim, sibling) = (Victim::new(&module, 1), Victim::new(&module, 1));
    let last = Cancel::new();
    std::thread::scope(|s| {
        let calm = s.spawn(|| ask_with(&sibling.plugin, "sleep", "", &token(&last)));
        for (act, _) in rows().into_iter().filter(|(act, end)| *end == LATE && !matches!(act, Act::Health(_))) {
            let took = victim.cancelled(&module, act);
            assert!(took < PATIENCE, "{act:?} took {took:?}");
        }
        assert!(!calm.is_finished());
        last.cancel();
        assert_eq!(kind_of(calm.join().unwrap()), Kind::Cancelled);
    });
    assert_eq!(ask(&sibling.plugin, "fresh", "").unwrap(), "1");
}
