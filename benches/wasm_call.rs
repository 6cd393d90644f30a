//! S1, S2, S3: a warm wasm call through the C ABI beside raw wasmtime, the same guest and payload, interleaved.
//!
//! Raw is alloc, write, call, read and free on a plain engine: no limits, no deadline, no check of the answer.
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

use flowplug::ffi::call::flowplug_call_options;
use host::{Folder, Host, Manifest, text};
use rounds::Group;
use wasmtime::{Engine, Instance, Memory, Module, Store, TypedFunc};

/// Object-dense JSON of about `size` bytes.
fn payload(size: usize) -> String {
    let mut json = String::from("[");
    while json.len() < size {
        if json.len() > 1 {
            json.push(',');
        }
        json.push_str(r#"{"id":12345,"name":"flow","tags":["a","b"],"ok":true}"#);
    }
    json.push(']');
    json
}

struct Raw {
    store: Store<()>,
    memory: Memory,
    alloc: TypedFunc<i32, i32>,
    free: TypedFunc<i32, ()>,
    echo: TypedFunc<(i32, i32), i64>,
}

impl Raw {
    fn new(module: &[u8]) -> Self {
        let engine = Engine::default();
        let module = Module::new(&engine, module).unwrap();
        let mut store = Store::new(&engine, ());
        let instance = Instance::new(&mut store, &module, &[]).unwrap();
        Raw {
            memory: instance.get_memory(&mut store, "memory").unwrap(),
            alloc: instance.get_typed_func(&mut store, "alloc").unwrap(),
            free: instance.get_typed_func(&mut store, "free").unwrap(),
            echo: instance.get_typed_func(&mut store, "echo").unwrap(),
            store,
        }
    }

    fn call(&mut self, input: &[u8], output: &mut Vec<u8>) {
        let at = self.alloc.call(&mut self.store, input.len() as i32).unwrap();
        self.memory.data_mut(&mut self.store)[at as usize..][..input.len()].copy_from_slice(input);
        let result = self.echo.call(&mut self.store, (at, input.len() as i32)).unwrap() as u64;
        let (at, size) = ((result >> 32) as usize, result as u32 as usize);
        output.clear();
        output.extend_from_slice(&self.memory.data(&self.store)[at..at + size]);
        self.free.call(&mut self.store, at as i32).unwrap();
    }
}

fn options(flags: u64) -> flowplug_call_options {
    flowplug_call_options {
        struct_size: size_of::<flowplug_call_options>(),
        timeout_ns: 0,
        cancel: 0,
        parent: 0,
        tag: 0,
        flags,
        traceparent: text(""),
    }
}

fn main() {
    let module = wat::parse_str(include_str!("support/echo.wat")).unwrap();
    let folder = Folder::new();
    std::fs::write(folder.0.join("echo.wasm"), &module).unwrap();
    let host = Host::new("");
    let plugin = host.load(&Manifest::new(&folder.0, "echo.wasm", "")).start();
    let echo = plugin.function("echo");
    let by_name = |input: &str, options: &flowplug_call_options| assert_eq!(plugin.call_with("echo", input, options), input.len());
    let (checked, trusted) = (options(0), options(1));
    for (size, rounds) in [(100, 41), (1 << 10, 31), (64 << 10, 21), (1 << 20, 15)] {
        let input = payload(size);
        let input = input.as_str();
        let mut raw = Raw::new(&module);
        let mut output = Vec::new();
        let (mut a, mut b) = (vec![0; input.len() + 64], vec![0; input.len() + 64]);
        Group::new(format!("echo of {} B of JSON objects", input.len()))
            .case("raw wasmtime: alloc, write, call, read, free", |n| (0..n).for_each(|_| raw.call(input.as_bytes(), &mut output)))
            .case("flowplug_plugin_call", |n| (0..n).for_each(|_| by_name(input, &checked)))
            .case("flowplug_plugin_call, FLOWPLUG_CALL_TRUST_JSON", |n| (0..n).for_each(|_| by_name(input, &trusted)))
            .case("flowplug_function_call, caller's buffer", |n| (0..n).for_each(|_| echo.echo(input, &checked, &mut a)))
            .case("flowplug_function_call, FLOWPLUG_CALL_TRUST_JSON", |n| (0..n).for_each(|_| echo.echo(input, &trusted, &mut b)))
            .measure(rounds, 5.0);
    }
}
