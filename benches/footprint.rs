//! S13: what a host holds resident: idle, with a plugin, and for each further warm instance.
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

use std::ffi::c_void;
use std::process::Command;
use std::sync::{Barrier, LazyLock};

use flowplug::ffi::host::{flowplug_caller, flowplug_host_api};
use flowplug::ffi::request::flowplug_request_ok;
use flowplug::ffi::text::flowplug_str;
use host::{Folder, Host, Manifest, Plugin, text};

/// Warm instances that are made at a time.
const INSTANCES: usize = 32;
/// What a call writes to, of the guest's 1 MiB.
const DIRTIED: usize = 256 << 10;

/// A guest of 1 MiB: `touch` writes to each page of a quarter of it, then asks the host, which waits for the others.
const GUEST: &str = r#"(module
  (import "flowbot" "get_config" (func $config (param i32 i32 i32 i32) (result i32)))
  (memory (export "memory") 16)
  (func (export "alloc") (param i32) (result i32) (i32.const 8))
  (func (export "touch") (result i64)
    (memory.fill (i32.const 65536) (i32.const 1) (i32.const 262144))
    (drop (call $config (i32.const 0) (i32.const 1) (i32.const 16) (i32.const 16)))
    (i64.const 0)))"#;

static ALL_INSIDE: LazyLock<Barrier> = LazyLock::new(|| Barrier::new(INSTANCES));

/// Answers when as many calls as there are to be instances wait for it.
unsafe extern "C" fn get_config(_: *mut c_void, request: u64, _: *const flowplug_caller, _: flowplug_str) {
    ALL_INSIDE.wait();
    assert_eq!(unsafe { flowplug_request_ok(request, text("")) }, 0);
}

/// Kilobytes of this process that are resident.
fn resident() -> usize {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).unwrap();
    line.trim().trim_end_matches(" kB").parse().unwrap()
}

fn manifest(folder: &Folder) -> Manifest {
    std::fs::write(folder.0.join("guest.wasm"), wat::parse_str(GUEST).unwrap()).unwrap();
    Manifest::new(&folder.0, "guest.wasm", &format!(", pool: {{max_instances: {INSTANCES}}}"))
}

/// What a process holds that has done nothing but this.
fn alone(what: &str) {
    let folder = Folder::new();
    let before = resident();
    let host = (what != "nothing").then(|| Host::new(r#"{"policy": "trusted"}"#));
    let plugin = host.as_ref().filter(|_| what == "plugin").map(|host| host.load(&manifest(&folder)).start());
    println!("{} {before}", resident());
    drop(plugin);
}

fn in_a_process_of_its_own(what: &str) -> usize {
    let output = Command::new(std::env::current_exe().unwrap()).arg(what).output().unwrap();
    let text = String::from_utf8(output.stdout).unwrap();
    text.split(' ').next().unwrap().parse().unwrap_or_else(|_| panic!("{text} {}", String::from_utf8_lossy(&output.stderr)))
}

/// Makes as many instances as there are threads, and leaves them warm.
fn fill(plugin: &Plugin) {
    std::thread::scope(|scope| {
        for _ in 0..INSTANCES {
            scope.spawn(|| plugin.call("touch", ""));
        }
    });
}

fn main() {
    if let Some(what) = std::env::args().nth(1).filter(|arg| !arg.starts_with('-')) {
        return alone(&what);
    }
    println!("resident, in kB: a process that does nothing, with an idle host, with a plugin");
    let [nothing, idle, loaded] = ["nothing", "host", "plugin"].map(in_a_process_of_its_own);
    println!("  {nothing}  {idle} (+ {})  {loaded} (+ {})", idle - nothing, loaded - idle);

    let folder = Folder::new();
    let api = flowplug_host_api {
        struct_size: size_of::<flowplug_host_api>(),
        user_data: std::ptr::null_mut(),
        destroy: None,
        get_config: Some(get_config),
        kv_get: None,
        kv_set: None,
        kv_delete: None,
        http_request: None,
        emit_event: None,
        log: None,
        event: None,
        request_dropped: None,
    };
    let host = Host::with(r#"{"policy": "trusted"}"#, &api);
    let manifest = manifest(&folder);
    let plugins: Vec<Plugin> = (0..4).map(|_| host.load(&manifest).start()).collect();
    // The first fills what threads and their allocators keep.
    fill(&plugins[0]);
    for plugin in &plugins[1..] {
        let before = resident();
        fill(plugin);
        let each = (resident() - before) as f64 / INSTANCES as f64;
        let dirtied = DIRTIED as f64 / 1024.0;
        println!(
            "each of {INSTANCES} further warm instances: {each:.0} kB, of which the guest wrote to {dirtied:.0}: + {:.0} kB",
            each - dirtied
        );
    }
    println!("the shared library: see `ls -l` after `make install PROFILE=release`");
}
