//! S6, S7: a fresh instance for every call, and loading what was compiled before.
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
#[path = "support/large.rs"]
mod large;
#[path = "support/rounds.rs"]
mod rounds;

use std::io::Read;
use std::path::Path;
use std::time::{Instant, SystemTime};

use host::{Folder, Host, Manifest};
use rounds::Group;
use sha2::{Digest, Sha256};
use wasmtime::{Config, Enabled, Engine, InstanceAllocationStrategy, InstancePre, Linker, Module, PoolingAllocationConfig, Store};

/// What no way of loading a file by its digest can be faster than.
fn digest(path: &Path) {
    let (mut file, mut hasher, mut buffer) = (std::fs::File::open(path).unwrap(), Sha256::new(), vec![0; 128 << 10]);
    loop {
        let read = file.read(&mut buffer).unwrap();
        if read == 0 {
            break;
        }
        hasher.update(&buffer[..read]);
    }
    std::hint::black_box(hasher.finalize());
}

/// S6 for guests that are slow to initialise: a Go plugin of the SDK, whose `init` runs in each instance, and one that has none.
fn snapshot(folder: &Folder) {
    let host = Host::new("");
    let sdk = format!(r#"{{"context":{{}},"content":{{"do":"echo","text":"{}"}}}}"#, "x".repeat(100));
    for (plugin, function, input) in
        [("fixture-wasm-go", "command", sdk), ("fixture-wasm-go-echo", "echo", format!("\"{}\"", "x".repeat(98)))]
    {
        let module = Path::new(env!("CARGO_MANIFEST_DIR")).join("target/plugins").join(plugin).join("plugin.wasm");
        std::fs::copy(module, folder.0.join("go.wasm")).expect("run `make plugins` first");
        let load = |more: &str| host.load(&Manifest::new(&folder.0, "go.wasm", more)).start();
        let each = load(", pool: {instance_per_call: true}");
        let from_snapshot = load(", pool: {instance_per_call: true, snapshot: shared_seed}");
        let warm = load("");
        Group::new(format!("{function} of {plugin} with {} B, an instance for every call", input.len()))
            .case("_initialize runs for each", |n| (0..n).for_each(|_| each.call(function, &input)))
            .case("from a snapshot", |n| (0..n).for_each(|_| from_snapshot.call(function, &input)))
            .case("warm", |n| (0..n).for_each(|_| warm.call(function, &input)))
            .measure(41, 20.0);
    }
}

/// Changes the time of the file, as whoever writes it does: the next load hashes it.
fn touch(path: &Path) {
    std::fs::File::options().append(true).open(path).unwrap().set_modified(SystemTime::now()).unwrap();
}

/// S7.
fn again(folder: &Folder) {
    let path = folder.0.join("large.wasm");
    std::fs::write(&path, large::module(14 << 20)).unwrap();
    let host = Host::new(&format!(r#"{{"cache_dir": {:?}}}"#, folder.0.join("cache")));
    let manifest = Manifest::new(&folder.0, "large.wasm", "");
    let start = Instant::now();
    drop(host.load(&manifest));
    println!("compiling a module of {} bytes: {:.1} s", std::fs::metadata(&path).unwrap().len(), start.elapsed().as_secs_f64());
    let load = |n: u64| (0..n).for_each(|_| drop(host.load(&manifest)));
    let load_changed = |n: u64| {
        (0..n).for_each(|_| {
            touch(&path);
            drop(host.load(&manifest));
        });
    };
    let group = || Group::new("loading it again").case("SHA-256 of the file alone", |n| (0..n).for_each(|_| digest(&path)));
    group().case("from the cache on disk, the file may have changed", load_changed).measure(41, 100.0);
    let other = host.load(&manifest);
    group().case("while another plugin has the module, the file may have changed", load_changed).measure(41, 100.0);
    // A file is known by its time once that is a few seconds old.
    while SystemTime::now().duration_since(std::fs::metadata(&path).unwrap().modified().unwrap()).unwrap().as_secs() < 5 {
        std::thread::yield_now();
    }
    drop(host.load(&manifest));
    group().case("while another plugin has the module", load).measure(41, 100.0);
    drop(other);
    group().case("from the cache on disk", load).measure(41, 100.0);
}

/// What any host pays for a fresh instance, with the same allocator: instantiate, alloc, write, call, read.
struct Raw {
    engine: Engine,
    pre: InstancePre<()>,
}

impl Raw {
    fn new(module: &[u8]) -> Self {
        let scan = PoolingAllocationConfig::is_pagemap_scan_available();
        let mut pooling = PoolingAllocationConfig::new();
        pooling.linear_memory_keep_resident(if scan { 8 << 20 } else { 64 << 10 });
        pooling.pagemap_scan(if scan { Enabled::Yes } else { Enabled::No });
        let mut config = Config::new();
        config.allocation_strategy(InstanceAllocationStrategy::Pooling(pooling));
        let engine = Engine::new(&config).unwrap();
        let pre = Linker::new(&engine).instantiate_pre(&Module::new(&engine, module).unwrap()).unwrap();
        Raw { engine, pre }
    }

    fn call(&self, input: &[u8]) {
        let mut store = Store::new(&self.engine, ());
        let instance = self.pre.instantiate(&mut store).unwrap();
        let memory = instance.get_memory(&mut store, "memory").unwrap();
        let alloc = instance.get_typed_func::<i32, i32>(&mut store, "alloc").unwrap();
        let echo = instance.get_typed_func::<(i32, i32), i64>(&mut store, "echo").unwrap();
        let at = alloc.call(&mut store, input.len() as i32).unwrap();
        memory.data_mut(&mut store)[at as usize..][..input.len()].copy_from_slice(input);
        let result = echo.call(&mut store, (at, input.len() as i32)).unwrap() as u64;
        let (at, size) = ((result >> 32) as usize, result as u32 as usize);
        std::hint::black_box(memory.data(&store)[at..at + size].to_vec());
    }
}

/// S6.
fn fresh(folder: &Folder) {
    let module = wat::parse_str(include_str!("support/echo.wat")).unwrap();
    std::fs::write(folder.0.join("echo.wasm"), &module).unwrap();
    let host = Host::new("");
    let load = |more: &str| host.load(&Manifest::new(&folder.0, "echo.wasm", more)).start();
    let (warm, fresh) = (load(""), load(", pool: {instance_per_call: true}"));
    let raw = Raw::new(&module);
    let input = format!("[{}1]", "1234567,".repeat(12));
    Group::new(format!("echo of {} B, an instance for every call", input.len()))
        .case("raw wasmtime: instantiate, alloc, write, call, read", |n| (0..n).for_each(|_| raw.call(input.as_bytes())))
        .case("flowplug_plugin_call, instance_per_call", |n| (0..n).for_each(|_| fresh.call("echo", &input)))
        .case("flowplug_plugin_call, warm", |n| (0..n).for_each(|_| warm.call("echo", &input)))
        .measure(41, 5.0);
}

fn main() {
    let folder = Folder::new();
    fresh(&folder);
    snapshot(&folder);
    again(&folder);
}
