//! A folder of small plugins, a host that remembers what it was told, and a manager of both.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::Receiver;
use std::sync::{Arc, Condvar, LazyLock, Mutex};
use std::time::Duration;

use flowplug::call::{Call, Deadline};
use flowplug::error::Result;
use flowplug::host::{Caller, Host, HttpRequest, HttpResponse, LogRecord};
use flowplug::manager::{Config, Manager};
use flowplug::manifest::Manifest;
use flowplug::plugin::Environment;
use flowplug::policy::Policy;
use flowplug::runner::Settings;
use flowplug::source::{Change, Changed, Found, Source};
use serde_json::{Value, json};

/// A bound for what has no business to take long.
pub(crate) const SOON: Duration = Duration::from_secs(60);

/// Remembers events and records.
#[derive(Default)]
pub(crate) struct Recorder {
    events: Mutex<Vec<Value>>,
    records: Mutex<Vec<String>>,
    told: Condvar,
    /// The kind of event in whose callback this waits for its sender's end, or the name of another callback.
    pub(crate) stuck: Mutex<Option<(&'static str, Receiver<()>)>>,
}

impl Recorder {
    /// The first event that fits, waiting for it. Taken out, with those before it.
    #[track_caller]
    pub(crate) fn wait_for(&self, kind: &str, plugin: &str) -> Value {
        let fits = |event: &Value| event["type"] == kind && event["plugin"] == plugin;
        let events = self.events.lock().unwrap();
        let (mut events, late) = self.told.wait_timeout_while(events, SOON, |events| !events.iter().any(fits)).unwrap();
        assert!(!late.timed_out(), "no {kind} of {plugin:?}: {events:#?}");
        let at = events.iter().position(fits).unwrap();
        events.drain(..=at).next_back().unwrap()
    }

    /// Waits for the next event, whatever it is.
    pub(crate) fn wait_for_any(&self) {
        let events = self.events.lock().unwrap();
        let before = events.len();
        drop(self.told.wait_timeout_while(events, Duration::from_millis(500), |events| events.len() == before).unwrap());
    }

    /// All events so far of a type.
    pub(crate) fn all(&self, kind: &str) -> Vec<Value> {
        self.events.lock().unwrap().iter().filter(|event| event["type"] == kind).cloned().collect()
    }

    pub(crate) fn records(&self) -> Vec<String> {
        self.records.lock().unwrap().clone()
    }
}

impl Host for Recorder {
    fn get_config(&self, caller: &Caller<'_>, key: &str) -> Result<Option<Vec<u8>>> {
        let stuck = self.stuck.lock().unwrap().take_if(|(kind, _)| *kind == "get_config");
        if let Some((_, until)) = stuck {
            self.events.lock().unwrap().push(json!({"type": "asked", "plugin": caller.context.identity()}));
            self.told.notify_all();
            until.recv().unwrap_err();
        }
        Ok(flowplug::host::config::lookup(&caller.context.config(), key))
    }
    fn kv_get(&self, _: &Caller<'_>, _: &str) -> Result<Option<Vec<u8>>> {
        Ok(None)
    }
    fn kv_set(&self, _: &Caller<'_>, _: &str, _: &[u8]) -> Result<()> {
        Ok(())
    }
    fn kv_delete(&self, _: &Caller<'_>, _: &str) -> Result<()> {
        Ok(())
    }
    fn http_request(&self, _: &Caller<'_>, _: &HttpRequest<'_>) -> Result<HttpResponse> {
        Ok(HttpResponse::default())
    }
    fn emit_event(&self, _: &Caller<'_>, _: &str) -> Result<()> {
        Ok(())
    }
    fn log(&self, record: &LogRecord<'_>) {
        self.records.lock().unwrap().push(record.message.to_owned());
    }
    fn event(&self, event: &str) {
        check_event(event);
        let event: Value = serde_json::from_str(event).unwrap();
        let stuck = self.stuck.lock().unwrap().take_if(|(kind, _)| event["type"] == *kind);
        self.events.lock().unwrap().push(event);
        self.told.notify_all();
        stuck.map(|(_, until)| until.recv());
    }
}

/// Every event is as its schema says.
fn check_event(event: &str) {
    static SCHEMA: LazyLock<jsonschema::Validator> = LazyLock::new(|| jsonschema::validator_for(&flowplug::host::event::schema()).unwrap());
    let problems: Vec<String> = SCHEMA.iter_errors(&serde_json::from_str(event).unwrap()).map(|e| e.to_string()).collect();
    assert!(problems.is_empty(), "{event}: {problems:?}");
}

/// A folder of plugins that is removed when the test ends, and the host of a manager.
pub(crate) struct Bench {
    pub(crate) root: PathBuf,
    pub(crate) host: Arc<Recorder>,
    pub(crate) environment: Arc<Environment>,
    pub(crate) policy: Arc<Policy>,
}

impl Bench {
    pub(crate) fn new() -> Self {
        Self::with_policy(&json!("trusted"))
    }

    pub(crate) fn with_policy(policy: &Value) -> Self {
        static NUMBER: AtomicU64 = AtomicU64::new(0);
        let name = format!("flowplug-manager-{}-{}", std::process::id(), NUMBER.fetch_add(1, Ordering::Relaxed));
        let root = std::env::temp_dir().join(name);
        fs::create_dir_all(root.join("plugins")).unwrap();
        let environment = Environment::new(2, Settings { signals: true, ..Settings::default() }, Vec::new()).unwrap();
        Bench { root, host: Arc::default(), environment, policy: Arc::new(Policy::parse(policy).unwrap()) }
    }

    pub(crate) fn plugins(&self) -> PathBuf {
        self.root.join("plugins")
    }

    /// A manager by a config, in which `PLUGINS` is the folder.
    pub(crate) fn manager(&self, config: &str) -> Manager {
        let config = config.replace("PLUGINS", self.plugins().to_str().unwrap());
        let host: Arc<dyn Host> = self.host.clone();
        Manager::new(&self.environment, host, &self.policy, &config).unwrap()
    }

    /// A manager of the folder, started.
    pub(crate) fn started(&self, more: &str) -> Manager {
        let manager = self.manager(&format!("enabled: true\nsources: [{{type: local, path: PLUGINS}}]\n{more}"));
        manager.start(&call()).unwrap();
        manager
    }

    /// A manager of these sources with more in its config, started.
    pub(crate) fn of(&self, more: &str, sources: &[&Arc<Told>]) -> Manager {
        let config = Config::parse(&format!("enabled: true\n{more}")).unwrap().0;
        let host: Arc<dyn Host> = self.host.clone();
        let sources = sources.iter().map(|source| Arc::clone(source) as Arc<dyn Source>).collect();
        let manager = Manager::with_sources(&self.environment, host, &self.policy, config, sources);
        manager.start(&call()).unwrap();
        manager
    }

    /// Writes a plugin that says its version, anew or over the old one.
    pub(crate) fn put(&self, identity: &str, version: &str) -> PathBuf {
        put(&self.plugins().join(identity), version, "")
    }

    /// Copies a plugin that was built before.
    pub(crate) fn copy(&self, built: &str, identity: &str) -> PathBuf {
        let from = Path::new(env!("CARGO_MANIFEST_DIR")).join("target/plugins").join(built);
        let to = self.plugins().join(identity);
        fs::create_dir_all(&to).unwrap();
        for entry in fs::read_dir(&from).unwrap_or_else(|e| panic!("{}: {e}; run .ci/plugins", from.display())) {
            let entry = entry.unwrap();
            if entry.file_type().unwrap().is_file() {
                fs::copy(entry.path(), to.join(entry.file_name())).unwrap();
            }
        }
        to
    }
}

/// A source that has one folder, and tells what a test has it tell.
pub(crate) struct Told {
    folder: PathBuf,
    changed: Mutex<Option<Changed>>,
}

impl std::fmt::Debug for Told {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Told").field("folder", &self.folder).finish_non_exhaustive()
    }
}

impl Told {
    pub(crate) fn new(folder: PathBuf) -> Arc<Self> {
        Arc::new(Told { folder, changed: Mutex::default() })
    }

    pub(crate) fn found(&self) -> Found {
        let identity = self.folder.file_name().unwrap().to_str().unwrap().to_owned();
        Found { identity, folder: self.folder.clone(), manifest: Manifest::read(&self.folder, false).map(Arc::new) }
    }

    pub(crate) fn tell(&self, change: Change) {
        self.changed.lock().unwrap().as_ref().unwrap()(change);
    }
}

impl Source for Told {
    fn label(&self) -> String {
        format!("told:{}", self.folder.display())
    }
    fn discover(&self) -> Result<Vec<Found>> {
        Ok(vec![self.found()])
    }
    fn watch(&self, changed: Changed) -> Result<()> {
        *self.changed.lock().unwrap() = Some(changed);
        Ok(())
    }
    fn close(&self) {
        self.changed.lock().unwrap().take();
    }
}

impl Drop for Bench {
    fn drop(&mut self) {
        self.environment.close(&Deadline::after(Duration::ZERO));
        drop(fs::remove_dir_all(&self.root));
    }
}

/// Writes a plugin whose `version` answers with its version; `more` stands in its manifest.
pub(crate) fn put(folder: &Path, version: &str, more: &str) -> PathBuf {
    fs::create_dir_all(folder).unwrap();
    fs::write(folder.join("plugin.wasm"), module(version, "")).unwrap();
    fs::write(folder.join("plugin.yaml"), manifest(version, more)).unwrap();
    folder.to_owned()
}

pub(crate) fn manifest(version: &str, more: &str) -> String {
    format!("name: test\nversion: \"{version}\"\nruntime: wasm\nwasm:\n  module: ./plugin.wasm\n  pool: {{ max_instances: 4 }}\n{more}")
}

/// A module whose `version` says this; `more` are more of its functions.
pub(crate) fn module(version: &str, more: &str) -> Vec<u8> {
    let body = format!(
        r#"(data (i32.const 2048) "\22{version}\22")
        (func (export "version") (param i32 i32) (result i64) (call $json (i32.const 2048) (i32.const {})))
        {more}"#,
        version.len() + 2
    );
    wat::parse_str(include_str!("../wasm/guest.wat").replace(";; IMPORTS", "").replace(";; BODY", &body)).unwrap()
}

pub(crate) fn call() -> Call {
    Call::new(Deadline::after(SOON))
}

/// What a plugin answers, as text.
pub(crate) fn ask(manager: &Manager, identity: &str, function: &str) -> Result<String> {
    let mut answer = Vec::new();
    manager.call(identity, function, b"null", &call(), &mut answer)?;
    Ok(String::from_utf8(answer).unwrap())
}

/// A plugin's line of the list; null if it has none.
pub(crate) fn row(manager: &Manager, identity: &str) -> Value {
    let list = manager.list().unwrap();
    list.as_array().unwrap().iter().find(|row| row["identity"] == identity).cloned().unwrap_or_default()
}
