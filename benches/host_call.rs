//! S8: what a guest's host call costs that an inline C callback answers: `kv_get` of 16 bytes.
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
    reason = "a benchmark drives the C ABI as C does, and fails by panicking"
)]

#[path = "support/host.rs"]
mod host;
#[path = "support/rounds.rs"]
mod rounds;

use std::ffi::c_void;
use std::ptr::null_mut;

use flowplug::ffi::host::{flowplug_caller, flowplug_host_api};
use flowplug::ffi::request::{flowplug_request, flowplug_request_ok};
use flowplug::ffi::text::flowplug_str;
use host::{Folder, Host, Manifest, text};
use rounds::Group;

/// Host calls that one call of the guest makes: the call itself is shared by all of them.
const EACH: u64 = 1000;

/// `ask` asks for a key [`EACH`] times, `idle` does the rest of its work.
const GUEST: &str = r#"(module
  (import "flowbot" "kv_get" (func $kv_get (param i32 i32 i32 i32) (result i32)))
  (memory (export "memory") 1)
  (data (i32.const 16) "session")
  (func (export "ask") (result i64)
    (local $left i32)
    (local.set $left (i32.const 1000))
    (loop $more
      (if (i32.ne (call $kv_get (i32.const 16) (i32.const 7) (i32.const 64) (i32.const 16)) (i32.const 16)) (then unreachable))
      (br_if $more (local.tee $left (i32.sub (local.get $left) (i32.const 1)))))
    (i64.const 0))
  (func (export "idle") (result i64)
    (local $left i32)
    (local.set $left (i32.const 1000))
    (loop $more (br_if $more (local.tee $left (i32.sub (local.get $left) (i32.const 1)))))
    (i64.const 0)))"#;

unsafe extern "C" fn kv_get(_: *mut c_void, request: flowplug_request, _: *const flowplug_caller, _: flowplug_str) {
    assert_eq!(unsafe { flowplug_request_ok(request, text("0123456789abcdef")) }, 0);
}

fn main() {
    let folder = Folder::new();
    std::fs::write(folder.0.join("ask.wasm"), wat::parse_str(GUEST).unwrap()).unwrap();
    let api = flowplug_host_api {
        struct_size: size_of::<flowplug_host_api>(),
        user_data: null_mut(),
        destroy: None,
        get_config: None,
        kv_get: Some(kv_get),
        kv_set: None,
        kv_delete: None,
        http_request: None,
        emit_event: None,
        log: None,
        event: None,
        request_dropped: None,
    };
    let host = Host::with("", &api);
    let plugin = host.load(&Manifest::new(&folder.0, "ask.wasm", "")).start();
    let times = Group::new(format!("a call that makes {EACH} host calls"))
        .case("none", |n| (0..n).for_each(|_| plugin.call("idle", "")))
        .case("kv_get of 16 B, answered by an inline C callback", |n| (0..n).for_each(|_| plugin.call("ask", "")))
        .measure(31, 5.0);
    if let [none, asked] = times[..] {
        println!("  one host call: {:.0} ns", (asked - none) / EACH as f64);
    }
}
