//! A host that hears of its plugins' ends, and plugins that end.

use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Condvar, LazyLock, Mutex};
use std::time::{Duration, Instant};

use flowplug::call::{Call, Deadline};
use flowplug::error::Result;
use flowplug::host::{Caller, Host, HttpRequest, HttpResponse, LogRecord};
use flowplug::manifest::Manifest;
use flowplug::plugin::{Environment, Plugin};
use flowplug::policy::Policy;
use flowplug::runner::Settings;
use serde_json::{Value, json};

/// Long enough that nothing reaches it unless something hangs.
pub const LONG: Duration = Duration::from_secs(60);

/// Keeps the events, and waits for them.
#[derive(Default)]
pub struct Heard {
    events: Mutex<Vec<Value>>,
    came: Condvar,
}

impl Heard {
    /// Waits for the next so many events of this type (since the last wait), and gives all that came until then.
    pub fn wait_for(&self, kind: &str, count: usize) -> Vec<Value> {
        let fits = |events: &Vec<Value>| events.iter().filter(|event| event["type"] == kind).count() >= count;
        let (mut events, late) = self.came.wait_timeout_while(self.events.lock().unwrap(), LONG, |events| !fits(events)).unwrap();
        assert!(!late.timed_out(), "{count} of {kind}: {events:#?}");
        std::mem::take(&mut events)
    }

    /// The types of the events that came since, in their order.
    pub fn types(&self) -> Vec<String> {
        types(&std::mem::take(&mut *self.events.lock().unwrap()))
    }
}

pub fn types(events: &[Value]) -> Vec<String> {
    events.iter().map(|event| event["type"].as_str().unwrap().to_owned()).collect()
}

impl Host for Heard {
    fn get_config(&self, _: &Caller<'_>, _: &str) -> Result<Option<Vec<u8>>> {
        Ok(None)
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
        static DOCUMENTED: LazyLock<jsonschema::Validator> =
            LazyLock::new(|| jsonschema::validator_for(&flowplug::host::event::schema()).unwrap());
        let event: Value = serde_json::from_str(event).unwrap();
        assert!(DOCUMENTED.is_valid(&event), "{event:#}");
        if event["type"] != "audit" {
            self.events.lock().unwrap().push(event);
            self.came.notify_all();
        }
    }
}

/// A host, and a folder for sockets and for what its plugins count.
pub struct Bench {
    pub environment: Arc<Environment>,
    pub host: Arc<Heard>,
    policy: Arc<Policy>,
    folder: PathBuf,
}

impl Bench {
    pub fn new() -> Self {
        static NUMBER: AtomicU64 = AtomicU64::new(0);
        let folder = std::env::temp_dir().join(format!("fpr-{}-{}", std::process::id(), NUMBER.fetch_add(1, Ordering::Relaxed)));
        std::fs::create_dir(&folder).unwrap();
        let settings = Settings { runtime_dir: Some(folder.join("s")), ..Settings::default() };
        Bench {
            environment: Environment::new(2, settings, Vec::new()).unwrap(),
            host: Arc::default(),
            policy: Arc::new(Policy::parse(&json!("trusted")).unwrap()),
            folder,
        }
    }

    pub fn load(&self, manifest: &Arc<Manifest>) -> Arc<Plugin> {
        Plugin::load(&self.environment, self.host.clone(), &self.policy, "org/test", manifest.clone(), &call()).unwrap()
    }

    /// Loaded and started; its events so far are forgotten.
    pub fn started(&self, manifest: &Arc<Manifest>, config: &str) -> Arc<Plugin> {
        let plugin = self.load(manifest);
        plugin.start(config.as_bytes(), &call()).unwrap();
        self.host.wait_for("started", 1);
        plugin
    }

    /// The hostile process, of which those from one number to another fail as `what` says.
    pub fn failing(&self, what: &str, from: u32, to: u32, restart: &str) -> Arc<Manifest> {
        let text = format!("{}:{from}:{to}", self.folder.join("count").display());
        let args = json!([what, text, self.mark()]);
        let text = format!(
            "name: t\nruntime: grpc\nprovides: {{ module: true }}\ngrpc: {{ binary: ./hostile, args: {args}, restart: {{ {restart} }} }}\n"
        );
        Arc::new(Manifest::parse(text.as_bytes(), &built("process-hostile"), true).unwrap())
    }

    /// The fixture in Go.
    pub fn fixture(&self, restart: &str) -> Arc<Manifest> {
        let folder = built("fixture-grpc-go");
        let text = std::fs::read_to_string(folder.join("plugin.yaml")).unwrap();
        let text = text.replace("grpc:\n", &format!("grpc:\n  args: [{}]\n  restart: {{ {restart} }}\n", self.mark()));
        Arc::new(Manifest::parse(text.as_bytes(), &folder, true).unwrap())
    }

    fn mark(&self) -> String {
        format!("of-{}", self.folder.file_name().unwrap().to_str().unwrap())
    }

    /// The processes of this bench that live.
    pub fn processes(&self) -> Vec<i32> {
        let all = std::fs::read_dir("/proc").unwrap().filter_map(|e| e.ok()?.file_name().to_str()?.parse::<i32>().ok());
        let line = |pid: i32| String::from_utf8_lossy(&std::fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default()).into_owned();
        // The mark ends the line, so that no other bench's begins with it.
        all.filter(|pid| line(*pid).trim_end_matches('\0').ends_with(&self.mark())).collect()
    }

    /// Kills the one process that there is.
    pub fn kill(&self) {
        let mut all = self.processes();
        let begun = Instant::now();
        while all.len() != 1 {
            assert!(begun.elapsed() < LONG, "{all:?}");
            all = self.processes();
        }
        self.kill_all();
    }

    /// Kills every process that there is.
    pub fn kill_all(&self) {
        let all = self.processes().into_iter().map(|pid| pid.to_string());
        assert!(std::process::Command::new("kill").arg("-9").args(all).status().unwrap().success());
    }

    /// Waits until so many of the processes that [`failing`](Self::failing) counts have been counted.
    pub fn wait_for_processes(&self, count: u64) {
        let begun = Instant::now();
        while std::fs::metadata(self.folder.join("count")).map_or(0, |about| about.len()) < count {
            assert!(begun.elapsed() < LONG);
            std::thread::yield_now();
        }
    }

    /// The folders of sockets that are there.
    pub fn sockets(&self) -> usize {
        std::fs::read_dir(self.folder.join("s")).map_or(0, Iterator::count)
    }
}

impl Drop for Bench {
    fn drop(&mut self) {
        self.environment.close(&Deadline::after(Duration::ZERO));
        if !std::thread::panicking() {
            // A plugin that was dropped is killed, and waited for in the background.
            let begun = Instant::now();
            while !self.processes().is_empty() || self.sockets() > 0 {
                assert!(begun.elapsed() < LONG, "{:?}, {} folders", self.processes(), self.sockets());
                std::thread::yield_now();
            }
        }
        drop(std::fs::remove_dir_all(&self.folder));
    }
}

fn built(name: &str) -> PathBuf {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("target/plugins").join(name);
    assert!(folder.join("plugin.yaml").exists(), "{} is not there: run `make plugins`", folder.display());
    folder
}

/// A call with no bound that a test would reach.
pub fn call() -> Call {
    Call::new(Deadline::after(LONG))
}

pub fn order(plugin: &Plugin, content: Value) -> Result<Value> {
    let mut answer = Vec::new();
    plugin.call("command", json!({ "content": content }).to_string().as_bytes(), &call(), &mut answer)?;
    Ok(serde_json::from_slice(&answer).unwrap())
}
