//! Plugins that say which version they are, and a host that counts what it is told.

#[path = "../wasm/event_schema.rs"]
mod event_schema;

use std::collections::HashMap;
use std::path::PathBuf;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, channel};
use std::sync::{Arc, Condvar, Mutex};
use std::task::Waker;
use std::time::Duration;

use flowplug::call::{Call, Deadline};
use flowplug::error::{Kind, Result};
use flowplug::host::{Caller, Host, HttpRequest, HttpResponse, LogRecord};
use flowplug::manifest::Manifest;
use flowplug::plugin::{Environment, Plugin};
use flowplug::policy::Policy;
use flowplug::runner::Settings;
use serde_json::{Value, json};

/// Long enough that nothing reaches it unless something hangs.
pub(crate) const LONG: Duration = Duration::from_secs(60);

type Hook = dyn Fn(&Caller<'_>, &str) -> Result<Option<Vec<u8>>> + Send + Sync;
type EventHook = dyn Fn(&Value) + Send + Sync;

/// Answers `get_config` and hears events as the test likes.
#[derive(Default)]
pub(crate) struct TestHost {
    events: Mutex<Vec<Value>>,
    pub(crate) audits: Mutex<Vec<Value>>,
    pub(crate) on_config: Mutex<Option<Arc<Hook>>>,
    pub(crate) on_event: Mutex<Option<Arc<EventHook>>>,
}

impl TestHost {
    /// The events since it was last asked, without what is only progress or audit.
    pub(crate) fn events(&self) -> Vec<Value> {
        std::mem::take(&mut *self.events.lock().unwrap())
    }

    /// In the order in which they happened; two threads may tell theirs in another one.
    pub(crate) fn types(&self) -> Vec<String> {
        let mut events = self.events();
        if events.iter().all(|event| event["seq"].is_u64()) {
            events.sort_by_key(|event| (event["load"].as_u64(), event["seq"].as_u64()));
        }
        events.iter().map(|event| event["type"].as_str().unwrap().to_owned()).collect()
    }
}

impl Host for TestHost {
    fn get_config(&self, caller: &Caller<'_>, key: &str) -> Result<Option<Vec<u8>>> {
        let hook = self.on_config.lock().unwrap().clone();
        hook.map_or(Ok(None), |hook| hook(caller, key))
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
    fn log(&self, _: &LogRecord<'_>) {}
    fn event(&self, event: &str) {
        event_schema::check_event(event);
        let event: Value = serde_json::from_str(event).unwrap();
        if event["type"] == "audit" {
            self.audits.lock().unwrap().push(event["audit"].clone());
        } else if event["type"] != "progress" {
            self.events.lock().unwrap().push(event.clone());
            let hook = self.on_event.lock().unwrap().clone();
            if let Some(hook) = hook {
                hook(&event);
            }
        }
    }
}

/// A host, and a folder for the modules of its plugins.
pub(crate) struct Bench {
    pub(crate) environment: Arc<Environment>,
    pub(crate) host: Arc<TestHost>,
    policy: Arc<Policy>,
    pub(crate) folder: PathBuf,
    modules: Mutex<HashMap<String, PathBuf>>,
}

impl Bench {
    pub(crate) fn new() -> Self {
        static NUMBER: AtomicU64 = AtomicU64::new(0);
        let name = format!("flowplug-reload-{}-{}", std::process::id(), NUMBER.fetch_add(1, Ordering::Relaxed));
        let folder = std::env::temp_dir().join(name);
        std::fs::create_dir(&folder).unwrap();
        let settings = Settings { signals: true, runtime_dir: Some(folder.clone()), ..Settings::default() };
        Bench {
            environment: Environment::new(2, settings, Vec::new()).unwrap(),
            host: Arc::default(),
            policy: Arc::new(Policy::parse(&json!("trusted")).unwrap()),
            folder,
            modules: Mutex::default(),
        }
    }

    /// A manifest for the module of this text, with more lines of its `wasm` section (`max_instances`…) and of its own.
    pub(crate) fn manifest(&self, wat: &str, pool: &str, more: &str) -> Arc<Manifest> {
        let mut modules = self.modules.lock().unwrap();
        let number = modules.len();
        let path = modules.entry(wat.to_owned()).or_insert_with(|| {
            let path = self.folder.join(format!("{number}.wasm"));
            std::fs::write(&path, wat::parse_str(wat).unwrap_or_else(|e| panic!("{e}\n{wat}"))).unwrap();
            path
        });
        let file = path.file_name().unwrap().to_str().unwrap();
        let text = format!("name: test\nruntime: wasm\nwasm:\n  module: ./{file}\n  pool: {{{pool}}}\n{more}");
        Arc::new(Manifest::parse(text.as_bytes(), &self.folder, true).unwrap())
    }

    /// Told of each event of this type.
    pub(crate) fn heard(&self, kind: &'static str) -> Receiver<()> {
        let (sender, heard) = channel();
        let sender = Mutex::new(sender);
        *self.host.on_event.lock().unwrap() = Some(Arc::new(move |event| {
            if event["type"] == kind {
                sender.lock().unwrap().send(()).unwrap_or_default();
            }
        }));
        heard
    }

    pub(crate) fn load(&self, manifest: &Arc<Manifest>) -> Arc<Plugin> {
        Plugin::load(&self.environment, self.host.clone(), &self.policy, "org/test", manifest.clone(), &call()).unwrap()
    }

    /// Loaded and started with the version as its config.
    pub(crate) fn started(&self, manifest: &Arc<Manifest>, version: u64) -> Arc<Plugin> {
        let plugin = self.load(manifest);
        plugin.start(&config(version), &call()).unwrap();
        self.host.events();
        plugin
    }
}

impl Drop for Bench {
    fn drop(&mut self) {
        self.environment.close(&Deadline::after(Duration::ZERO));
        drop(std::fs::remove_dir_all(&self.folder));
    }
}

pub(crate) fn config(version: u64) -> Vec<u8> {
    json!({ "version": version }).to_string().into_bytes()
}

/// A call with no bound that a test would reach.
pub(crate) fn call() -> Call {
    Call::new(Deadline::after(LONG))
}

pub(crate) fn ask(plugin: &Plugin, function: &str) -> Result<Value> {
    let mut answer = Vec::new();
    plugin.call(function, b"{}", &call(), &mut answer)?;
    Ok(serde_json::from_slice(&answer).unwrap())
}

/// The version that answers: the module's own number and its config must agree.
pub(crate) fn version(answer: &Value) -> u64 {
    let (module, config) = (answer["module"].as_u64().unwrap(), answer["config"]["version"].as_u64().unwrap());
    assert_eq!(module, config, "one whole version");
    config
}

pub(crate) fn kind_of<T: std::fmt::Debug>(result: Result<T>) -> Kind {
    result.expect_err("an error was expected").kind()
}

/// A module that keeps the config it was initialised with: `command` answers with its own number and that. `body` adds to it;
/// `$config` asks the host.
pub(crate) fn module(number: u64, body: &str) -> String {
    let prefix = format!("{{\\22module\\22:{number:>20},\\22config\\22:");
    let imports = r#"(import "flowbot" "get_config" (func $config (param i32 i32 i32) (result i32)))"#;
    let own = format!(
        r#"
        (data (i32.const 2048) "{prefix}")
        (global $end (mut i32) (i32.const 0))
        (func (export "init") (param i32 i32)
            (memory.copy (i32.const 2088) (local.get 0) (local.get 1))
            (i32.store8 (i32.add (i32.const 2088) (local.get 1)) (i32.const 125))
            (global.set $end (i32.add (local.get 1) (i32.const 41))))
        (func (export "command") (param i32 i32) (result i64) (call $json (i32.const 2048) (global.get $end)))
        (func (export "ask") (result i64)
            (drop (call $config (i32.const 2049) (i32.const 8) (i32.const 8192)))
            (call $json (i32.const 2048) (global.get $end)))
        {body}"#
    );
    include_str!("../wasm/guest.wat").replace(";; IMPORTS", imports).replace(";; BODY", &own)
}

/// A gate that a host callback waits at until the test opens it.
#[derive(Default)]
pub(crate) struct Gate {
    state: Mutex<At>,
    changed: Condvar,
}

#[derive(Default)]
struct At {
    came: usize,
    open: bool,
    wakers: Vec<Waker>,
}

impl Gate {
    /// Waits until it is open, or until the call ends.
    pub(crate) fn pass(&self, caller: &Caller<'_>) -> Result<Option<Vec<u8>>> {
        self.state.lock().unwrap().came += 1;
        self.changed.notify_all();
        let arm = |waker| self.state.lock().unwrap().wakers.push(waker);
        flowplug::call::wait(caller.deadline, &caller.cancels(), arm, || self.state.lock().unwrap().open.then_some(None))
    }

    /// Waits until so many have come.
    pub(crate) fn reached(&self, by: usize) {
        let (state, timeout) = self.changed.wait_timeout_while(self.state.lock().unwrap(), LONG, |at| at.came < by).unwrap();
        assert!(!timeout.timed_out(), "{} came", state.came);
    }

    pub(crate) fn open(&self) {
        let mut state = self.state.lock().unwrap();
        state.open = true;
        state.wakers.drain(..).for_each(Waker::wake);
    }
}

/// Lets `ask` wait at a gate.
pub(crate) fn gated(host: &TestHost) -> Arc<Gate> {
    let gate = Arc::new(Gate::default());
    let theirs = gate.clone();
    *host.on_config.lock().unwrap() = Some(Arc::new(move |caller, _| theirs.pass(caller)));
    gate
}
