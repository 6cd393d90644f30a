//! S9 and S10: gRPC calls through the C ABI, from one thread and from 64, beside bare tonic inside its runtime, and beside the
//! other ways in which threads could use tonic: the same plugin process, the same payload, interleaved, with every core and,
//! for one thread, pinned to one.
//!
//! The plugin is the Go fixture on the real go-plugin (`make plugins`).
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

use std::path::{Path, PathBuf};
use std::ptr::{null, null_mut};

use flowplug::ffi::host::{flowplug_host, flowplug_host_close, flowplug_host_free, flowplug_host_new, flowplug_host_options};
use flowplug::ffi::manifest::{flowplug_manifest_free, flowplug_manifest_read};
use flowplug::ffi::plugin::{flowplug_plugin, flowplug_plugin_call, flowplug_plugin_free, flowplug_plugin_load, flowplug_plugin_start};
use flowplug::ffi::text::{flowplug_bytes, flowplug_bytes_free, flowplug_str};
use flowplug::grpc::pb::flowbot::CommandRequest;
use flowplug::grpc::pb::flowbot::plugin_service_client::PluginServiceClient;
use hyper_util::rt::TokioIo;
use rounds::Group;
use tokio::runtime::Runtime;
use tonic::transport::{Channel, Endpoint};

/// How many call at once, in the second group.
const CALLERS: u64 = 64;

fn text(s: &str) -> flowplug_str {
    flowplug_str { ptr: s.as_ptr().cast(), len: s.len() }
}

/// A host with the plugin loaded, and the folder in which the plugin's socket is.
struct Host {
    host: *mut flowplug_host,
    plugin: *mut flowplug_plugin,
    sockets: PathBuf,
}

// A plugin may be called from any number of threads.
unsafe impl Sync for Host {}

impl Host {
    fn new(name: &str, plugin_folder: &str) -> Self {
        let sockets = std::env::temp_dir().join(format!("fp-bench-{}-{name}", std::process::id()));
        std::fs::create_dir_all(&sockets).unwrap();
        let config = serde_json::json!({"policy": "trusted", "runtime_dir": sockets}).to_string();
        let options = flowplug_host_options { struct_size: size_of::<flowplug_host_options>(), config: text(&config), api: null() };
        let (mut host, mut manifest, mut plugin) = (null_mut(), null_mut(), null_mut());
        unsafe {
            assert_eq!(flowplug_host_new(&options, &mut host, null_mut()), 0);
            let status = flowplug_manifest_read(text(plugin_folder), null(), &mut manifest, null_mut());
            assert_eq!(status, 0, "{plugin_folder} is not there: run `make plugins`");
            assert_eq!(flowplug_plugin_load(host, manifest, text("bench"), null(), null(), &mut plugin, null_mut()), 0);
            assert_eq!(flowplug_plugin_start(plugin, text("{}"), null(), null_mut()), 0);
            flowplug_manifest_free(manifest);
        }
        Host { host, plugin, sockets }
    }

    fn call(&self, params: &str) {
        let mut out = flowplug_bytes { ptr: null_mut(), len: 0, owner: null_mut() };
        unsafe {
            assert_eq!(flowplug_plugin_call(self.plugin, text("command"), text(params), null(), &mut out, null_mut()), 0);
            flowplug_bytes_free(&mut out);
        }
    }
}

impl Drop for Host {
    fn drop(&mut self) {
        unsafe {
            flowplug_plugin_free(self.plugin);
            assert_eq!(flowplug_host_close(self.host, null(), null_mut()), 0);
            flowplug_host_free(self.host);
        }
        std::fs::remove_dir_all(&self.sockets).unwrap();
    }
}

/// Bare tonic on a connection of its own to the same plugin.
struct Tonic {
    runtime: Runtime,
    client: PluginServiceClient<Channel>,
}

impl Tonic {
    fn new(socket: PathBuf, runtime: Runtime) -> Self {
        let connect = move |_| {
            let socket = socket.clone();
            async move { tokio::net::UnixStream::connect(socket).await.map(TokioIo::new) }
        };
        let endpoint = Endpoint::from_static("http://localhost");
        let channel = runtime.block_on(endpoint.connect_with_connector(tower::service_fn(connect))).unwrap();
        Tonic { runtime, client: PluginServiceClient::new(channel) }
    }

    async fn call(client: &mut PluginServiceClient<Channel>, content: &str) {
        let request = CommandRequest { context: String::new(), content: content.to_owned() };
        assert!(client.command(request).await.unwrap().into_inner().error.is_empty());
    }

    /// One loop inside the runtime.
    fn calls(&self, content: &str, count: u64) {
        self.runtime.block_on(async {
            let mut client = self.client.clone();
            for _ in 0..count {
                Self::call(&mut client, content).await;
            }
        });
    }

    /// As many loops inside the runtime, each a task.
    fn tasks(&self, content: &str, count: u64, tasks: u64) {
        self.runtime.block_on(async {
            let mut all = tokio::task::JoinSet::new();
            for _ in 0..tasks {
                let (mut client, content) = (self.client.clone(), content.to_owned());
                all.spawn(async move {
                    for _ in 0..count.div_ceil(tasks) {
                        Self::call(&mut client, &content).await;
                    }
                });
            }
            all.join_all().await;
        });
    }

    /// One call of a thread outside of the runtime.
    fn call_from_outside(&self, content: &str) {
        self.runtime.block_on(Self::call(&mut self.client.clone(), content));
    }
}

/// `count` calls by as many threads.
fn by_threads(count: u64, threads: u64, call: impl Fn() + Sync) {
    std::thread::scope(|scope| {
        for _ in 0..threads {
            scope.spawn(|| (0..count.div_ceil(threads)).for_each(|_| call()));
        }
    });
}

/// The same plugin in a folder of its own, with TLS required.
fn with_tls(plugin_folder: &str) -> PathBuf {
    let folder = std::env::temp_dir().join(format!("fp-bench-{}-required", std::process::id()));
    std::fs::create_dir_all(&folder).unwrap();
    std::fs::copy(format!("{plugin_folder}/fixture"), folder.join("fixture")).unwrap();
    let manifest = std::fs::read_to_string(format!("{plugin_folder}/plugin.yaml")).unwrap();
    std::fs::write(folder.join("plugin.yaml"), manifest + "  tls: required\n").unwrap();
    folder
}

/// The plugin's own socket: the one that is not the host's.
fn plugin_socket(folder: &Path) -> PathBuf {
    let mut folders = vec![folder.to_owned()];
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                folders.push(path);
            } else if path.file_name().unwrap().to_str().unwrap().starts_with("plugin") {
                return path;
            }
        }
    }
    panic!("the plugin has no socket named plugin*");
}

/// Lets this process and its children use one core, or all.
fn pin(one: bool) {
    let mut set: libc::cpu_set_t = unsafe { std::mem::zeroed() };
    let cores = std::thread::available_parallelism().map_or(1, usize::from).max(64);
    for core in 0..if one { 1 } else { cores } {
        unsafe { libc::CPU_SET(core, &mut set) };
    }
    for task in std::fs::read_dir("/proc/self/task").unwrap() {
        let thread: i32 = task.unwrap().file_name().to_str().unwrap().parse().unwrap();
        unsafe { libc::sched_setaffinity(thread, size_of_val(&set), &set) };
    }
}

fn current_thread() -> Runtime {
    tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap()
}

fn multi_thread() -> Runtime {
    tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap()
}

fn main() {
    let root = env!("CARGO_MANIFEST_DIR");
    let content = format!(r#"{{"do":"echo","text":"{}"}}"#, "x".repeat(78));
    let params = format!(r#"{{"content":{content}}}"#);
    let folder = format!("{root}/target/plugins/fixture-grpc-go");
    let required = with_tls(&folder);
    for pinned in [false, true] {
        pin(pinned);
        // Loaded while pinned, so that the plugin inherits it.
        let host = Host::new("plain", &folder);
        let secret = Host::new("tls", required.to_str().unwrap());
        let socket = plugin_socket(&host.sockets);
        let tonic = Tonic::new(socket.clone(), current_thread());
        let (driven, shared) = (Tonic::new(socket.clone(), current_thread()), Tonic::new(socket, multi_thread()));
        let title = if pinned { "host and plugin pinned to one core" } else { "every core" };
        Group::new(format!("S9: gRPC command of {} B, Go plugin, one thread, {title}", content.len()))
            .case("bare tonic, a loop inside its current-thread runtime", |n| tonic.calls(&content, n))
            .case("flowplug_plugin_call, from outside of any runtime", |n| (0..n).for_each(|_| host.call(&params)))
            .case("flowplug_plugin_call, grpc.tls: required, another process of the plugin", |n| (0..n).for_each(|_| secret.call(&params)))
            .case("tonic, a current-thread runtime that the caller drives", |n| (0..n).for_each(|_| driven.call_from_outside(&content)))
            .case("tonic, a shared runtime of two threads", |n| (0..n).for_each(|_| shared.call_from_outside(&content)))
            .measure(31, 40.0);
        if !pinned {
            Group::new(format!("S10: the same by {CALLERS} callers, for each call, {title}"))
                .case("bare tonic, tasks inside its current-thread runtime", |n| tonic.tasks(&content, n, CALLERS))
                .case("flowplug_plugin_call, threads", |n| by_threads(n, CALLERS, || host.call(&params)))
                .case("flowplug_plugin_call, threads, grpc.tls: required", |n| by_threads(n, CALLERS, || secret.call(&params)))
                .case("tonic, a current-thread runtime, threads drive it in turn", |n| {
                    by_threads(n, CALLERS, || driven.call_from_outside(&content))
                })
                .case("tonic, a shared runtime of two threads, threads", |n| by_threads(n, CALLERS, || shared.call_from_outside(&content)))
                .case("bare tonic, tasks inside a shared runtime of two threads", |n| shared.tasks(&content, n, CALLERS))
                .measure(15, 200.0);
        }
    }
    std::fs::remove_dir_all(required).unwrap();
}
