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

#[path = "support/rounds.rs"]
mod rounds;

use std::hint::black_box;
use std::ptr::{null, null_mut};

use flowplug::ffi::call::flowplug_call_options;
use flowplug::ffi::function::{flowplug_function, flowplug_function_call, flowplug_function_free, flowplug_function_new};
use flowplug::ffi::host::{flowplug_host, flowplug_host_close, flowplug_host_free, flowplug_host_new, flowplug_host_options};
use flowplug::ffi::manifest::{flowplug_manifest_free, flowplug_manifest_options, flowplug_manifest_parse};
use flowplug::ffi::plugin::{flowplug_plugin, flowplug_plugin_call, flowplug_plugin_free, flowplug_plugin_load, flowplug_plugin_start};
use flowplug::ffi::text::{flowplug_bytes, flowplug_bytes_free, flowplug_str};
use rounds::Group;
use wasmtime::{Engine, Instance, Memory, Module, Store, TypedFunc};

fn text(s: &str) -> flowplug_str {
    flowplug_str { ptr: s.as_ptr().cast(), len: s.len() }
}

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

struct Host {
    host: *mut flowplug_host,
    plugin: *mut flowplug_plugin,
    echo: *mut flowplug_function,
}

impl Host {
    fn new(module: &[u8]) -> Self {
        let folder = std::env::temp_dir().join(format!("flowplug-bench-{}", std::process::id()));
        std::fs::create_dir_all(&folder).unwrap();
        std::fs::write(folder.join("echo.wasm"), module).unwrap();
        let (mut host, mut manifest, mut plugin, mut echo) = (null_mut(), null_mut(), null_mut(), null_mut());
        let options = flowplug_host_options { struct_size: size_of::<flowplug_host_options>(), config: text(""), api: null() };
        let base = flowplug_manifest_options {
            struct_size: size_of::<flowplug_manifest_options>(),
            base_dir: text(folder.to_str().unwrap()),
            strict: 0,
        };
        unsafe {
            assert_eq!(flowplug_host_new(&options, &mut host, null_mut()), 0);
            let yaml = text("{name: echo, runtime: wasm, wasm: {module: echo.wasm}}");
            assert_eq!(flowplug_manifest_parse(yaml, &base, &mut manifest, null_mut()), 0);
            assert_eq!(flowplug_plugin_load(host, manifest, text("echo"), null(), null(), &mut plugin, null_mut()), 0);
            assert_eq!(flowplug_plugin_start(plugin, text(""), null(), null_mut()), 0);
            assert_eq!(flowplug_function_new(plugin, text("echo"), &mut echo, null_mut()), 0);
            flowplug_manifest_free(manifest);
        }
        std::fs::remove_dir_all(&folder).unwrap();
        Host { host, plugin, echo }
    }

    fn by_name(&self, input: &str, options: &flowplug_call_options) {
        let mut out = flowplug_bytes { ptr: null_mut(), len: 0, owner: null_mut() };
        unsafe {
            assert_eq!(flowplug_plugin_call(self.plugin, text("echo"), text(input), options, &mut out, null_mut()), 0);
            assert_eq!(black_box(out.len), input.len());
            flowplug_bytes_free(&mut out);
        }
    }

    fn by_handle(&self, input: &str, options: &flowplug_call_options, buffer: &mut [u8]) {
        let mut out = flowplug_bytes { ptr: null_mut(), len: 0, owner: null_mut() };
        let status =
            unsafe { flowplug_function_call(self.echo, text(input), options, buffer.as_mut_ptr(), buffer.len(), &mut out, null_mut()) };
        assert_eq!((status, out.len, out.ptr), (0, input.len(), buffer.as_mut_ptr()));
    }
}

impl Drop for Host {
    fn drop(&mut self) {
        unsafe {
            flowplug_function_free(self.echo);
            flowplug_plugin_free(self.plugin);
            assert_eq!(flowplug_host_close(self.host, null(), null_mut()), 0);
            flowplug_host_free(self.host);
        }
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
    let host = Host::new(&module);
    let (checked, trusted) = (options(0), options(1));
    for (size, rounds) in [(100, 41), (1 << 10, 31), (64 << 10, 21), (1 << 20, 15)] {
        let input = payload(size);
        let input = input.as_str();
        let mut raw = Raw::new(&module);
        let mut output = Vec::new();
        let (mut a, mut b) = (vec![0; input.len() + 64], vec![0; input.len() + 64]);
        Group::new(format!("echo of {} B of JSON objects", input.len()))
            .case("raw wasmtime: alloc, write, call, read, free", |n| (0..n).for_each(|_| raw.call(input.as_bytes(), &mut output)))
            .case("flowplug_plugin_call", |n| (0..n).for_each(|_| host.by_name(input, &checked)))
            .case("flowplug_plugin_call, FLOWPLUG_CALL_TRUST_JSON", |n| (0..n).for_each(|_| host.by_name(input, &trusted)))
            .case("flowplug_function_call, caller's buffer", |n| (0..n).for_each(|_| host.by_handle(input, &checked, &mut a)))
            .case("flowplug_function_call, FLOWPLUG_CALL_TRUST_JSON", |n| (0..n).for_each(|_| host.by_handle(input, &trusted, &mut b)))
            .measure(rounds, 5.0);
    }
}
