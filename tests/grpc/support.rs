//! A host that remembers what it was asked, and what else the tests of gRPC plugins share.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc::{Receiver, channel};
use std::sync::{Arc, Condvar, Mutex};
use std::time::{Duration, Instant};

use flowplug::call::{Call, Deadline};
use flowplug::error::{Error, Kind, Result};
use flowplug::grpc::{Plugin, Settings, Threads};
use flowplug::host::{Caller, Host, HttpRequest, HttpResponse, Level, LogRecord, PluginContext};
use flowplug::manifest::Manifest;
use flowplug::policy::{Grants, KvQuota, Rates};
use serde_json::Value;

/// A bound for what has no business to take long.
pub const SOON: Duration = Duration::from_secs(30);

pub struct Seen {
    pub level: Level,
    pub message: String,
    pub fields: Vec<(String, String)>,
    pub tag: u64,
}

/// Answers from memory. A key that holds "fail" fails; one that holds "wait" answers when the call that asks is over.
#[derive(Default)]
pub struct Memory {
    pub logs: Mutex<Vec<Seen>>,
    logged: Condvar,
    pub kv: Mutex<BTreeMap<String, Vec<u8>>>,
    pub asked: Mutex<Vec<String>>,
    pub events: Mutex<Vec<String>>,
    /// Those who wait by now, and the most who ever did.
    pub waiting: AtomicUsize,
    pub most: AtomicUsize,
    /// The threads on which they wait.
    pub threads: Mutex<Vec<String>>,
}

impl Memory {
    /// Waits for a record that fits.
    pub fn wait_for_log(&self, fits: impl Fn(&Seen) -> bool) -> bool {
        let logs = self.logs.lock().unwrap();
        !self.logged.wait_timeout_while(logs, SOON, |logs| !logs.iter().any(&fits)).unwrap().1.timed_out()
    }

    fn note(&self, caller: &Caller<'_>, what: &str) {
        self.asked.lock().unwrap().push(format!("{what} by {:?} tag {} trace {:?}", caller.function, caller.tag, caller.traceparent));
    }
}

impl Host for Memory {
    fn get_config(&self, caller: &Caller<'_>, key: &str) -> Result<Option<Vec<u8>>> {
        self.note(caller, &format!("get_config {key}"));
        if key.contains("fail") {
            return Err(Error::new(Kind::Host, "The config is on fire."));
        }
        Ok(flowplug::host::config::lookup(&caller.context.config(), key))
    }
    fn kv_get(&self, caller: &Caller<'_>, key: &str) -> Result<Option<Vec<u8>>> {
        self.note(caller, &format!("kv_get {key}"));
        if key.contains("fail") {
            return Err(Error::new(Kind::Host, "The store is on fire."));
        }
        if key.contains("wait") {
            self.threads.lock().unwrap().push(std::thread::current().name().unwrap_or_default().to_owned());
            self.most.fetch_max(self.waiting.fetch_add(1, Ordering::SeqCst) + 1, Ordering::SeqCst);
            let waited = flowplug::call::wait::<()>(caller.deadline, &caller.cancels(), |_| (), || None);
            self.waiting.fetch_sub(1, Ordering::SeqCst);
            waited?;
        }
        Ok(self.kv.lock().unwrap().get(key).cloned())
    }
    fn kv_set(&self, caller: &Caller<'_>, key: &str, value: &[u8]) -> Result<()> {
        self.note(caller, &format!("kv_set {key}"));
        if key.contains("fail") {
            return Err(Error::new(Kind::Host, "The store is on fire."));
        }
        self.kv.lock().unwrap().insert(key.to_owned(), value.to_owned());
        Ok(())
    }
    fn kv_delete(&self, caller: &Caller<'_>, key: &str) -> Result<()> {
        self.note(caller, &format!("kv_delete {key}"));
        if key.contains("fail") {
            return Err(Error::new(Kind::Host, "The store is on fire."));
        }
        self.kv.lock().unwrap().remove(key);
        Ok(())
    }
    fn http_request(&self, caller: &Caller<'_>, request: &HttpRequest<'_>) -> Result<HttpResponse> {
        self.note(caller, &format!("http {} {}", request.method, request.url));
        Ok(HttpResponse { status: 201, headers: vec![("x-seen".into(), "yes".into())], body: request.body.to_owned() })
    }
    fn emit_event(&self, caller: &Caller<'_>, event: &str) -> Result<()> {
        self.note(caller, "emit_event");
        if event.contains("fail") {
            return Err(Error::new(Kind::Host, "The events are on fire."));
        }
        self.events.lock().unwrap().push(event.to_owned());
        Ok(())
    }
    fn log(&self, record: &LogRecord<'_>) {
        let fields = record.fields.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())).collect();
        self.logs.lock().unwrap().push(Seen { level: record.level, message: record.message.to_owned(), fields, tag: record.tag });
        self.logged.notify_all();
    }
    fn event(&self, _: &str) {}
}

/// Everything that an embedding program would have, for one plugin.
pub struct Bench {
    pub runtime: tokio::runtime::Runtime,
    host_calls: tokio::runtime::Runtime,
    pub host: Arc<Memory>,
    pub context: Arc<PluginContext>,
    pub sockets: PathBuf,
}

pub fn grants() -> Grants {
    Grants {
        http: vec![flowplug::manifest::HostPattern::parse("127.0.0.1").unwrap()],
        http_private: Vec::new(),
        http_max_response: 1 << 20,
        mounts: Vec::new(),
        memory: 64 << 20,
        timeout: Duration::from_secs(60),
        max_instances: 4,
        fuel: None,
        result_size: 16 << 20,
        message_size: 8 << 20,
        module_size: 1 << 20,
        module_functions: 1000,
        load_timeout: Duration::from_secs(60),
        kv: KvQuota { key: 512, value: 1 << 20, total: 64 << 20 },
        rates: Rates { log: 1000, event: 1000, output: 1000 },
        tcp: false,
    }
}

impl Bench {
    pub fn new(name: &str) -> Self {
        Self::with(name, grants())
    }

    pub fn with(name: &str, grants: Grants) -> Self {
        let host = Arc::new(Memory::default());
        let context = PluginContext::new(name, grants, host.clone());
        let sockets = std::env::temp_dir().join(format!("fpt-{}-{name}", std::process::id()));
        Bench::of(host, context, sockets)
    }

    fn of(host: Arc<Memory>, context: Arc<PluginContext>, sockets: PathBuf) -> Self {
        let (runtime, host_calls) = (flowplug::runtime::shared(2).unwrap(), flowplug::runtime::host_calls().unwrap());
        Bench { runtime, host_calls, host, context, sockets }
    }

    /// The same host with another plugin's identity.
    pub fn beside(&self, name: &str) -> Self {
        let context = PluginContext::new(name, self.context.grants().clone(), self.host.clone());
        let sockets = std::env::temp_dir().join(format!("fpt-{}-{name}", std::process::id()));
        Bench::of(self.host.clone(), context, sockets)
    }

    /// Ready for another plugin after one that was stopped, whose calls this one's must not end with.
    pub fn again(&mut self) {
        self.context = PluginContext::new(self.context.identity(), self.context.grants().clone(), self.host.clone());
    }

    pub fn load_manifest(&self, manifest: &Manifest, deadline: Deadline) -> Result<(Arc<Plugin>, Receiver<Error>)> {
        let settings = Settings { runtime_dir: Some(self.sockets.clone()) };
        let threads = Threads { shared: self.runtime.handle().clone(), host_calls: self.host_calls.handle().clone() };
        let (told, exits) = channel();
        let on_exit = Box::new(move |error| drop(told.send(error)));
        let plugin = Plugin::load(&settings, &threads, manifest, self.context.clone(), on_exit, &Call::new(deadline))?;
        Ok((plugin, exits))
    }

    /// Loads and starts one of the plugins that `make plugins` builds.
    pub fn start(&self, plugin: &str, config: &str) -> (Arc<Plugin>, Receiver<Error>) {
        self.start_manifest(&built(plugin), config)
    }

    pub fn start_manifest(&self, manifest: &Manifest, config: &str) -> (Arc<Plugin>, Receiver<Error>) {
        let (plugin, exits) = self.load_manifest(manifest, Deadline::after(SOON)).unwrap();
        self.context.set_config(serde_json::from_str(config).unwrap());
        plugin.start(config, &soon()).unwrap();
        (plugin, exits)
    }

    /// What is left in the folder of sockets.
    pub fn left_behind(&self) -> Vec<PathBuf> {
        std::fs::read_dir(&self.sockets).map_or(Vec::new(), |entries| entries.map(|e| e.unwrap().path()).collect())
    }
}

impl Drop for Bench {
    fn drop(&mut self) {
        drop(std::fs::remove_dir_all(&self.sockets));
    }
}

/// The manifest of a plugin that `make plugins` builds.
pub fn built(name: &str) -> Manifest {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("target/plugins").join(name);
    assert!(folder.join("plugin.yaml").exists(), "{} is not there: run `make plugins`", folder.display());
    Manifest::read(&folder, true).unwrap()
}

/// The same with more in its `grpc` section, which is the last.
pub fn built_with(name: &str, more: &str) -> Manifest {
    let manifest = built(name);
    let text = std::fs::read_to_string(manifest.base_dir().join("plugin.yaml")).unwrap() + more;
    Manifest::parse(text.as_bytes(), manifest.base_dir(), true).unwrap()
}

/// A call that has time.
pub fn soon() -> Call {
    Call::new(Deadline::after(SOON))
}

pub fn call(plugin: &Plugin, function: &str, params: &Value, call: &Call) -> Result<Value> {
    let mut answer = Vec::new();
    plugin.call(plugin.resolve(function)?, function, params.to_string().as_bytes(), call, &mut answer)?;
    Ok(serde_json::from_slice(&answer).unwrap())
}

/// Tells the fixture what to do.
pub fn order(plugin: &Plugin, content: Value, how: &Call) -> Result<Value> {
    call(plugin, "command", &serde_json::json!({"context": {"platform": "test"}, "content": content}), how)
}

/// Whether this takes less than the bound, once in five times: on a machine that does other work, not every time has to.
pub fn within(bound: Duration, mut work: impl FnMut()) -> bool {
    (0..5).any(|_| {
        let begun = Instant::now();
        work();
        begun.elapsed() < bound
    })
}

/// Polls until it holds; false if it does not come to that.
pub fn comes_true(mut holds: impl FnMut() -> bool) -> bool {
    let until = Instant::now() + SOON;
    while !holds() {
        if Instant::now() > until {
            return false;
        }
        std::thread::yield_now();
    }
    true
}

/// The processes of a group that live.
pub fn group(pgid: i32) -> Vec<i32> {
    let stat = |pid: i32| std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    let fields =
        |pid: i32| stat(pid).rsplit_once(')').map(|(_, rest)| rest.split_ascii_whitespace().map(str::to_owned).collect::<Vec<_>>());
    processes().into_iter().filter(|pid| fields(*pid).is_some_and(|f| f[0] != "Z" && f[2] == pgid.to_string())).collect()
}

/// The children of a process, zombies included.
pub fn children(parent: u32) -> Vec<i32> {
    let mut found = Vec::new();
    for task in std::fs::read_dir(format!("/proc/{parent}/task")).into_iter().flatten().flatten() {
        let list = std::fs::read_to_string(task.path().join("children")).unwrap_or_default();
        found.extend(list.split_ascii_whitespace().map(|pid| pid.parse::<i32>().unwrap()));
    }
    found
}

fn processes() -> Vec<i32> {
    std::fs::read_dir("/proc").unwrap().filter_map(|e| e.ok()?.file_name().to_str()?.parse().ok()).collect()
}
