//! A host that records what it is asked, and guests in the text format.

#[path = "event_schema.rs"]
mod event_schema;

use std::collections::HashMap;
use std::path::PathBuf;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use flowplug::call::{Call, Deadline};
use flowplug::error::{Error, Kind, Result};
use flowplug::host::{Caller, Host, HttpRequest, HttpResponse, LogRecord, PluginContext};
use flowplug::manifest::{HostPattern, Manifest};
use flowplug::policy::{Grants, KvQuota, Rates};
use flowplug::wasm::{Plugin, Settings};

pub(crate) use event_schema::check_event;

/// Long enough that nothing reaches it unless something hangs, where ten others want the same processors.
pub(crate) const LONG: Duration = Duration::from_secs(240);

type Hook = Box<dyn Fn(&Caller<'_>, &str) -> Result<Option<Vec<u8>>> + Send + Sync>;

#[derive(Default)]
pub(crate) struct TestHost {
    pub(crate) records: Mutex<Vec<String>>,
    pub(crate) kv: Mutex<HashMap<String, Vec<u8>>>,
    /// Events of the library.
    pub(crate) events: Mutex<Vec<String>>,
    /// Answers `get_config`, where it is set.
    pub(crate) hook: Mutex<Option<Arc<Hook>>>,
}

impl TestHost {
    pub(crate) fn record(&self, text: String) {
        self.records.lock().unwrap().push(text);
    }

    pub(crate) fn taken(&self) -> Vec<String> {
        std::mem::take(&mut *self.records.lock().unwrap())
    }

    pub(crate) fn on_config(&self, hook: impl Fn(&Caller<'_>, &str) -> Result<Option<Vec<u8>>> + Send + Sync + 'static) {
        *self.hook.lock().unwrap() = Some(Arc::new(Box::new(hook)));
    }
}

fn failing(key: &str) -> Result<()> {
    if key.ends_with("fail") { Err(Error::new(Kind::Host, "The host said no.")) } else { Ok(()) }
}

impl Host for TestHost {
    fn get_config(&self, caller: &Caller<'_>, key: &str) -> Result<Option<Vec<u8>>> {
        let hook = self.hook.lock().unwrap().clone();
        if let Some(hook) = hook {
            return hook(caller, key);
        }
        self.record(format!("get_config {} {} {key}", caller.function, caller.tag));
        failing(key)?;
        Ok((key != "missing").then(|| if key == "empty" { Vec::new() } else { format!("value of {key}").into_bytes() }))
    }

    fn kv_get(&self, _: &Caller<'_>, key: &str) -> Result<Option<Vec<u8>>> {
        self.record(format!("kv_get {key}"));
        failing(key)?;
        Ok(self.kv.lock().unwrap().get(key).cloned())
    }

    fn kv_set(&self, _: &Caller<'_>, key: &str, value: &[u8]) -> Result<()> {
        self.record(format!("kv_set {key} {}", String::from_utf8_lossy(value)));
        failing(key)?;
        self.kv.lock().unwrap().insert(key.to_owned(), value.to_owned());
        Ok(())
    }

    fn kv_delete(&self, _: &Caller<'_>, key: &str) -> Result<()> {
        self.record(format!("kv_delete {key}"));
        failing(key)?;
        self.kv.lock().unwrap().remove(key);
        Ok(())
    }

    fn http_request(&self, _: &Caller<'_>, request: &HttpRequest<'_>) -> Result<HttpResponse> {
        self.record(format!("http {} {} {:?} {}", request.method, request.url, request.headers, String::from_utf8_lossy(request.body)));
        failing(request.url)?;
        Ok(HttpResponse { status: 201, headers: vec![("X-A".to_owned(), "b".to_owned())], body: b"hello".to_vec() })
    }

    fn emit_event(&self, _: &Caller<'_>, event: &str) -> Result<()> {
        self.record(format!("event {event}"));
        failing(event.trim_end_matches(['"', '}']))
    }

    fn log(&self, record: &LogRecord<'_>) {
        self.record(format!("log {} {} {} {:?}", record.level.name(), record.tag, record.message, record.fields));
    }

    fn event(&self, event: &str) {
        self.events.lock().unwrap().push(event.to_owned());
    }
}

impl Drop for TestHost {
    fn drop(&mut self) {
        if !std::thread::panicking() {
            self.events.lock().unwrap().iter().for_each(|event| check_event(event));
        }
    }
}

/// A folder that is removed when the test ends.
pub(crate) struct Folder(pub(crate) PathBuf);

impl Folder {
    pub(crate) fn new() -> Self {
        static NUMBER: AtomicU64 = AtomicU64::new(0);
        let name = format!("flowplug-test-{}-{}", std::process::id(), NUMBER.fetch_add(1, Ordering::Relaxed));
        let path = std::env::temp_dir().join(name);
        std::fs::create_dir(&path).unwrap();
        Folder(path)
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        drop(std::fs::remove_dir_all(&self.0));
    }
}

pub(crate) fn grants() -> Grants {
    Grants {
        http: vec![HostPattern::parse("api.example.com").unwrap()],
        http_private: Vec::new(),
        http_max_response: 10 << 20,
        mounts: Vec::new(),
        memory: 64 << 20,
        timeout: LONG,
        max_instances: 4,
        fuel: None,
        result_size: 16 << 20,
        message_size: 64 << 20,
        module_size: 64 << 20,
        module_functions: 100_000,
        load_timeout: LONG,
        kv: KvQuota { key: 512, value: 1 << 20, total: 64 << 20 },
        rates: Rates { log: 100_000, event: 100_000, output: 100_000 },
        tcp: false,
    }
}

/// How a plugin is loaded in a test.
pub(crate) struct Setup {
    pub(crate) grants: Grants,
    pub(crate) settings: Settings,
    /// More lines of the manifest's `wasm` section, each indented by two.
    pub(crate) wasm: String,
    pub(crate) folder: Folder,
    pub(crate) host: Arc<TestHost>,
}

impl Setup {
    pub(crate) fn new() -> Self {
        Setup { grants: grants(), settings: Settings::default(), wasm: String::new(), folder: Folder::new(), host: Arc::default() }
    }

    pub(crate) fn load(&self, wat: &str, call: &Call) -> Result<Arc<Plugin>> {
        self.load_module(&wat::parse_str(wat).unwrap_or_else(|e| panic!("{e}\n{wat}")), call)
    }

    pub(crate) fn load_module(&self, module: &[u8], call: &Call) -> Result<Arc<Plugin>> {
        std::fs::write(self.folder.0.join("plugin.wasm"), module).unwrap();
        let text = format!("name: test\nruntime: wasm\nwasm:\n  module: ./plugin.wasm\n{}", self.wasm);
        let manifest = Manifest::parse(text.as_bytes(), &self.folder.0, true).unwrap();
        let host: Arc<dyn Host> = Arc::clone(&self.host) as Arc<dyn Host>;
        let context = PluginContext::new("org/test", self.grants.clone(), host);
        Plugin::load(&self.settings, &manifest, context, call)
    }

    pub(crate) fn started(&self, wat: &str) -> Arc<Plugin> {
        let plugin = self.load(wat, &call()).unwrap();
        plugin.start("null", &call()).unwrap();
        plugin
    }
}

/// A call with no bound that a test would reach.
pub(crate) fn call() -> Call {
    Call { tag: 7, ..Call::new(Deadline::after(LONG)) }
}

pub(crate) fn within(limit: Duration) -> Call {
    Call::new(Deadline::after(limit))
}

pub(crate) fn ask(plugin: &Plugin, function: &str, params: &str) -> Result<String> {
    ask_with(plugin, function, params, &call())
}

pub(crate) fn ask_with(plugin: &Plugin, function: &str, params: &str, call: &Call) -> Result<String> {
    let mut answer = Vec::new();
    let resolved = plugin.resolve(function)?;
    plugin.call(resolved, function, params.as_bytes(), call, &mut answer)?;
    Ok(String::from_utf8(answer).unwrap())
}

pub(crate) fn kind_of<T: std::fmt::Debug>(result: Result<T>) -> Kind {
    result.expect_err("an error was expected").kind()
}

/// A guest: a memory of four pages, a bump allocator that `free` resets, `echo`, and what the test adds. `$json` answers
/// with the envelope `{"data":…}` of a text; `$hex` with the hexadecimal digits of a number, a colon and some bytes.
pub(crate) fn guest(imports: &str, body: &str) -> String {
    let parts = [include_str!("guest.wat")].map(|text| text.replace(";; IMPORTS", imports).replace(";; BODY", body));
    parts.concat()
}

/// Time as a thread had it: without what it waited for a processor, on a machine that is busy with something else.
pub(crate) struct Timer {
    start: Instant,
    waited: Duration,
}

impl Timer {
    pub(crate) fn start() -> Self {
        Timer { start: Instant::now(), waited: Timer::waited() }
    }

    pub(crate) fn elapsed(&self) -> Duration {
        self.start.elapsed().saturating_sub(Timer::waited() - self.waited)
    }

    /// How long this thread has waited for a processor so far; nothing where the system does not tell.
    pub(crate) fn waited() -> Duration {
        let text = std::fs::read_to_string("/proc/thread-self/schedstat").unwrap_or_default();
        Duration::from_nanos(text.split(' ').nth(1).and_then(|number| number.parse().ok()).unwrap_or(0))
    }
}
