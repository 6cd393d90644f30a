//! Guests that mean harm: each ends with its own kind of error, in time, and the next call succeeds.

use std::time::{Duration, Instant};

use flowplug::call::Cancel;
use flowplug::error::{Kind, Result};

use crate::support::*;

const LIMIT: Duration = Duration::from_millis(200);
/// Ten times the bound, as a noisy machine needs.
const BOUND: Duration = Duration::from_secs(2);

/// Runs something that must end in time with this kind of error.
fn ends<T: std::fmt::Debug>(kind: Kind, what: &str, run: impl FnOnce() -> Result<T>) {
    let start = Instant::now();
    assert_eq!(kind_of(run()), kind, "{what}");
    assert!(start.elapsed() < BOUND, "{what} took {:?}", start.elapsed());
}

const SPIN: &str = "(loop $l (br $l))";

#[test]
fn endless_loops_end_at_the_deadline_wherever_they_are() {
    for (name, body) in
        [("start", format!("(func $begin {SPIN}) (start $begin)")), ("_initialize", format!(r#"(func (export "_initialize") {SPIN})"#))]
    {
        let wat = guest("", &body);
        ends(Kind::Timeout, name, || Setup::new().load(&wat, &within(LIMIT)));
        let mut setup = Setup::new();
        setup.grants.timeout = LIMIT;
        ends(Kind::Timeout, name, || setup.load(&wat, &call()));
    }
    let plugin = Setup::new().load(&guest("", &format!(r#"(func (export "init") (param i32 i32) {SPIN})"#)), &call()).unwrap();
    ends(Kind::Timeout, "init", || plugin.start("null", &within(LIMIT)));

    let plugin = Setup::new().started(&guest("", &format!(r#"(func (export "spin") (result i64) {SPIN} (i64.const 0))"#)));
    for _ in 0..2 {
        ends(Kind::Timeout, "call", || ask_with(&plugin, "spin", "", &within(LIMIT)));
        assert_eq!(ask(&plugin, "echo", "1").unwrap(), "1");
    }
    let alloc = guest("", "").replace("(local.set $p (global.get $next))", &format!("{SPIN} (local.set $p (global.get $next))"));
    let plugin = Setup::new().started(&alloc);
    ends(Kind::Timeout, "alloc", || ask_with(&plugin, "echo", "1", &within(LIMIT)));
    let free = guest("", "").replace("(param i32) (global.set $next (i32.const 65536))", &format!("(param i32) {SPIN}"));
    let plugin = Setup::new().started(&free);
    ends(Kind::Timeout, "free", || ask_with(&plugin, "echo", "1", &within(LIMIT)));
}

#[test]
fn endless_recursion_of_small_functions_is_bounded_too() {
    let body = r#"
        (func $f (param i32) (if (local.get 0) (then (call $f (i32.sub (local.get 0) (i32.const 1))) (call $f (i32.sub (local.get 0) (i32.const 1))))))
        (func (export "tree") (result i64) (call $f (i32.const 1000)) (i64.const 0))
        (func $deep (param i32) (result i32) (i32.add (i32.const 1) (call $deep (local.get 0))))
        (func (export "deep") (result i64) (drop (call $deep (i32.const 1))) (i64.const 0))"#;
    let plugin = Setup::new().started(&guest("", body));
    ends(Kind::Timeout, "tree", || ask_with(&plugin, "tree", "", &within(LIMIT)));
    let error = ask(&plugin, "deep", "").unwrap_err();
    assert_eq!((error.kind(), error.details()["kind"].as_str()), (Kind::Trap, Some("stack_overflow")));
    assert_eq!(ask(&plugin, "echo", "1").unwrap(), "1");
}

#[test]
fn traps_name_their_kind_and_the_functions_that_led_there() {
    let body = r#"
        (func $_ZN4core9panicking5panic17h0123456789abcdefE unreachable)
        (func $middle (call $_ZN4core9panicking5panic17h0123456789abcdefE))
        (func (export "panic") (result i64) (call $middle) (i64.const 0))
        (func (export "divide") (param i32 i32) (result i64) (i64.extend_i32_u (i32.div_u (i32.const 1) (i32.const 0))))
        (func (export "outside") (result i64) (i64.load (i32.const -8)))"#;
    for signals in [true, false] {
        let mut setup = Setup::new();
        setup.settings.signals = signals;
        let plugin = setup.started(&guest("", body));
        let error = ask(&plugin, "panic", "").unwrap_err();
        assert_eq!((error.kind(), error.function()), (Kind::Trap, "panic"));
        assert_eq!(error.details()["kind"], "unreachable");
        assert_eq!(error.details()["backtrace"][0], "core::panicking::panic::h0123456789abcdef");
        assert_eq!(error.details()["backtrace"][1], "middle");
        for (function, kind) in [("divide", "integer_division_by_zero"), ("outside", "memory_out_of_bounds")] {
            assert_eq!(ask(&plugin, function, "1").unwrap_err().details()["kind"], kind);
            assert_eq!(ask(&plugin, "echo", "1").unwrap(), "1");
        }
    }
}

#[test]
fn memory_and_tables_end_where_they_are_granted() {
    let body = r#"
        (memory $second 0)
        (table $t 1 funcref)
        (func (export "grow") (result i64) (loop $l (br_if $l (i32.ne (memory.grow (i32.const 1)) (i32.const -1)))) (i64.const 0))
        (func (export "both") (result i64)
            (loop $l (br_if $l (i32.and (i32.ne (memory.grow 0 (i32.const 16)) (i32.const -1)) (i32.ne (memory.grow 1 (i32.const 16)) (i32.const -1)))))
            (call $hex (i64.extend_i32_u (i32.add (memory.size 0) (memory.size 1))) (i32.const 0) (i32.const 0)))
        (func (export "grow_and_trap") (result i64) (drop (memory.grow (i32.const 60000))) unreachable)
        (func (export "table") (result i64) (loop $l (br_if $l (i32.ne (table.grow $t (ref.null func) (i32.const 4096)) (i32.const -1)))) unreachable)"#;
    let mut setup = Setup::new();
    setup.grants.memory = 8 << 20;
    let plugin = setup.started(&guest("", body));
    assert_eq!(ask(&plugin, "grow", "").unwrap(), "null", "a denied growth is -1 to the guest");
    assert_eq!(ask(&plugin, "echo", "1").unwrap(), "1");
    let plugin = setup.started(&guest("", body));
    let pages = ask(&plugin, "both", "").unwrap();
    assert!(u32::from_str_radix(&pages[9..17], 16).unwrap() <= 128, "{pages}: the sum of the memories is bounded");
    assert_eq!(kind_of(ask(&plugin, "grow_and_trap", "")), Kind::OutOfMemory);
    assert_eq!(kind_of(ask(&plugin, "table", "")), Kind::OutOfMemory);
    assert_eq!(ask(&plugin, "echo", "1").unwrap(), "1");
}

#[test]
fn an_instance_that_has_grown_large_is_replaced() {
    let body = r#"
        (global $calls (mut i64) (i64.const 0))
        (func (export "count") (param i32 i32) (result i64)
            (drop (memory.grow (i32.const 640)))
            (global.set $calls (i64.add (global.get $calls) (i64.const 1)))
            (call $hex (global.get $calls) (i32.const 0) (i32.const 0)))
        (func (export "small") (result i64)
            (global.set $calls (i64.add (global.get $calls) (i64.const 1)))
            (call $hex (global.get $calls) (i32.const 0) (i32.const 0)))"#;
    let plugin = Setup::new().started(&guest("", body));
    let ends_with = |function: &str, text: &str| assert!(ask(&plugin, function, "1").unwrap().ends_with(text));
    ends_with("small", "1:\"");
    ends_with("small", "2:\"");
    ends_with("count", "3:\"");
    ends_with("count", "1:\"");
    ends_with("small", "1:\"");
}

#[test]
fn answers_out_of_bounds_or_too_large_are_refused() {
    let answer =
        |name: &str, ptr: u64, size: u64| format!(r#"(func (export "{name}") (result i64) (i64.const {}))"#, (((ptr << 32) | size) as i64));
    let body =
        [answer("outside", 262_140, 100), answer("wild", 0xffff_ffff, 2), answer("huge", 16, 0xffff_ffff), answer("large", 0, 200_000)]
            .concat();
    let mut setup = Setup::new();
    setup.grants.result_size = 100_000;
    let plugin = setup.started(&guest("", &body));
    for name in ["outside", "wild", "huge", "large"] {
        assert_eq!(kind_of(ask(&plugin, name, "")), Kind::InvalidResponse, "{name}");
        assert_eq!(ask(&plugin, "echo", "1").unwrap(), "1");
    }
    let wat = guest("", "").replace("(local.get $p))\n  (func (export \"free\")", "(i32.const -16))\n  (func (export \"free\")");
    assert_eq!(kind_of(ask(&Setup::new().started(&wat), "echo", "1")), Kind::InvalidResponse);
}

#[test]
fn a_trap_in_free_costs_the_instance_and_not_the_answer() {
    let wat = guest("", r#"(global $n (mut i64) (i64.const 0)) (func (export "count") (result i64) (global.set $n (i64.add (global.get $n) (i64.const 1))) (call $hex (global.get $n) (i32.const 0) (i32.const 0)))"#)
        .replace("(param i32) (global.set $next (i32.const 65536))", "(param i32) unreachable");
    let plugin = Setup::new().started(&wat);
    for _ in 0..3 {
        assert!(ask(&plugin, "count", "").unwrap().ends_with("1:\""), "each call has a fresh instance");
    }
}

#[test]
fn a_cancel_from_another_thread_ends_a_loop() {
    let body = format!(r#"(func (export "spin") (result i64) {SPIN} (i64.const 0))"#);
    let import = r#"(import "flowbot" "log" (func $log (param i32 i32 i32)))"#;
    let body = body.replace("(loop", "(call $log (i32.const 1) (i32.const 64) (i32.const 1)) (loop");
    let setup = Setup::new();
    let plugin = setup.started(&guest(import, &body));
    let cancel = Cancel::new();
    let mut cancelled = call();
    cancelled.cancel = Some(cancel.clone());
    std::thread::scope(|s| {
        let spinning = s.spawn(|| ask_with(&plugin, "spin", "", &cancelled));
        while setup.host.taken().is_empty() {
            std::thread::yield_now();
        }
        cancel.cancel();
        assert_eq!(kind_of(spinning.join().unwrap()), Kind::Cancelled);
    });
    assert_eq!(ask(&plugin, "echo", "1").unwrap(), "1");
}

#[test]
fn a_result_after_the_deadline_is_a_timeout() {
    let import = r#"(import "flowbot" "get_config" (func $config (param i32 i32 i32) (result i32)))"#;
    let body = r#"(func (export "ask") (result i64) (drop (call $config (i32.const 64) (i32.const 1) (i32.const 8192))) (i64.const 0))"#;
    let setup = Setup::new();
    let plugin = setup.started(&guest(import, body));
    setup.host.on_config(|caller, _| {
        while !caller.deadline.expired() {
            std::thread::yield_now();
        }
        Ok(None)
    });
    assert_eq!(kind_of(ask_with(&plugin, "ask", "", &within(Duration::from_millis(20)))), Kind::Timeout);
}

#[test]
fn a_small_stack_of_the_caller_is_no_danger() {
    let body = r#"
        (func $deep (param i32) (result i32) (i32.add (i32.const 1) (call $deep (local.get 0))))
        (func (export "deep") (result i64) (drop (call $deep (i32.const 1))) (i64.const 0))"#;
    let plugin = Setup::new().started(&guest("", body));
    let small = std::thread::Builder::new().stack_size(128 << 10).spawn(move || {
        assert_eq!(kind_of(ask(&plugin, "deep", "")), Kind::Trap);
        assert_eq!(ask(&plugin, "echo", "1").unwrap(), "1");
    });
    small.unwrap().join().unwrap();
}
