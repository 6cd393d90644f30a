//! Fuel: a bound that does not depend on any clock.

use flowplug::error::{Error, Kind};

use crate::support::*;

fn fuelled(fuel: u64) -> Setup {
    let mut setup = Setup::new();
    setup.grants.fuel = Some(fuel);
    setup
}

fn used_up(error: &Error, function: &str) {
    assert_eq!((error.kind(), error.details()["kind"].as_str()), (Kind::Trap, Some("out_of_fuel")), "{error}");
    assert!(error.message().contains("Raise wasm.permissions.execution.fuel and the policy's fuel"), "{error}");
    assert_eq!(error.function(), function);
}

const ENDLESS: &str = "(loop (br 0))";

#[test]
fn each_call_has_all_of_it_and_no_more() {
    let plugin = fuelled(10_000).started(&guest("", &format!(r#"(func (export "spin") (result i64) {ENDLESS} (i64.const 0))"#)));
    for _ in 0..2 {
        used_up(&ask(&plugin, "spin", "").unwrap_err(), "spin");
        // Together they would use more than there is.
        for _ in 0..500 {
            assert_eq!(ask(&plugin, "echo", "1").unwrap(), "1");
        }
    }
}

#[test]
fn what_runs_before_a_call_is_bounded_too() {
    let refused = |body: &str| fuelled(10_000).load(&guest("", body), &call()).unwrap_err();
    used_up(&refused(&format!("(func $start {ENDLESS}) (start $start)")), "");
    used_up(&refused(&format!(r#"(func (export "_initialize") {ENDLESS})"#)), "_initialize");
    let init = format!(r#"(func (export "init") (param i32 i32) {ENDLESS})"#);
    let plugin = fuelled(10_000).load(&guest("", &init), &call()).unwrap();
    used_up(&plugin.start("null", &call()).unwrap_err(), "init");
    let alloc = format!(
        r#"(module (memory (export "memory") 1) (func (export "alloc") (param i32) (result i32) {ENDLESS} (i32.const 8))
            (func (export "any") (param i32 i32) (result i64) (i64.const 0)))"#
    );
    used_up(&ask(&fuelled(10_000).started(&alloc), "any", "1").unwrap_err(), "any");
}

#[test]
fn the_same_fuel_goes_as_far_each_time() {
    let import = r#"(import "flowbot" "log" (func $log (param i32 i32 i32)))"#;
    let body = r#"(func (export "count") (result i64)
        (loop $again (call $log (i32.const 1) (i32.const 64) (i32.const 4)) (br $again)) (i64.const 0))"#;
    let reached = |fuel: u64, signals: bool| {
        let mut setup = fuelled(fuel);
        setup.settings.signals = signals;
        let plugin = setup.started(&guest(import, body));
        let count = || {
            used_up(&ask(&plugin, "count", "").unwrap_err(), "count");
            setup.host.taken().len()
        };
        let first = count();
        assert_eq!(count(), first);
        first
    };
    let steps = reached(1000, true);
    assert!((50..1000).contains(&steps), "{steps}");
    assert_eq!((reached(1000, true), reached(1000, false)), (steps, steps));
    assert!(reached(2000, true) > steps);
}
