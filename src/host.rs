//! What a plugin may ask of the program that embeds it, and the one gate through which both runtimes ask.
//!
//! [`Host`] is what the embedding program (its callbacks, or the defaults below this module) answers. A plugin never
//! reaches it directly: it goes through a [`Caller`], which applies the grants, namespaces the keys and bounds the answers.

use std::cell::RefCell;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};
use std::sync::{Arc, PoisonError, RwLock};

use serde_json::Value;

use crate::call::{Cancel, Chain, Deadline};
use crate::error::{Error, Kind, Result, clean};
use crate::host::audit::denied;
use crate::host::http::client::Connections;
use crate::host::rate::Admission;
use crate::host::tally::Tally;
use crate::policy::Grants;

pub mod audit;
pub mod config;
pub mod defaults;
pub mod event;
pub mod http;
mod key;
pub mod kv;
pub mod log;
pub mod rate;
pub mod tally;

/// What the embedding program answers. Called on the thread that called the plugin (wasm) or on a thread of the library
/// (gRPC), several at once; an implementation waits itself, within the caller's deadline and tokens.
pub trait Host: Send + Sync {
    /// A value of the plugin's configuration; none if it is missing.
    fn get_config(&self, caller: &Caller<'_>, key: &str) -> Result<Option<Vec<u8>>>;
    /// The value of a namespaced key; none if it is missing, which is not an empty value.
    fn kv_get(&self, caller: &Caller<'_>, key: &str) -> Result<Option<Vec<u8>>>;
    /// Stores a value under a namespaced key. Once it has returned, it is stored.
    fn kv_set(&self, caller: &Caller<'_>, key: &str, value: &[u8]) -> Result<()>;
    /// Removes a namespaced key; one that is missing is removed already.
    fn kv_delete(&self, caller: &Caller<'_>, key: &str) -> Result<()>;
    /// Performs a request whose URL the allowlist has passed.
    fn http_request(&self, caller: &Caller<'_>, request: &HttpRequest<'_>) -> Result<HttpResponse>;
    /// Takes an event, a JSON object.
    fn emit_event(&self, caller: &Caller<'_>, event: &str) -> Result<()>;
    /// Takes a log record, of a plugin or of the library.
    fn log(&self, record: &LogRecord<'_>);
    /// Takes an event of the library, a JSON object.
    fn event(&self, event: &str);
    /// Whether this thread is inside of one of its callbacks: what waits for them must not wait there.
    fn is_inside(&self) -> bool {
        false
    }
}

/// What is known of a loaded plugin wherever it asks for something. Lives as long as anything of the plugin does.
pub struct PluginContext {
    serial: u32,
    identity: String,
    kv_prefix: String,
    grants: Grants,
    config: RwLock<Arc<Value>>,
    /// Set when the plugin ends: every call still in flight ends with `cancelled`.
    pub ending: Cancel,
    host: Arc<dyn Host>,
    tally: Arc<Tally>,
    connections: Connections,
    memory: Arc<AtomicU64>,
}

impl std::fmt::Debug for PluginContext {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("PluginContext").field("identity", &self.identity).finish_non_exhaustive()
    }
}

impl PluginContext {
    /// A context for a plugin that is about to be loaded.
    pub fn new(identity: &str, grants: Grants, host: Arc<dyn Host>) -> Arc<Self> {
        let tally = Tally::new(&grants);
        Self::counted(tally, identity, grants, host)
    }

    /// The same for a version of a plugin of which it was counted before.
    pub fn counted(tally: Arc<Tally>, identity: &str, grants: Grants, host: Arc<dyn Host>) -> Arc<Self> {
        static SERIAL: AtomicU32 = AtomicU32::new(1);
        Arc::new(PluginContext {
            serial: SERIAL.fetch_add(1, Ordering::Relaxed),
            identity: identity.to_owned(),
            kv_prefix: format!("plugin:{identity}:"),
            grants,
            config: RwLock::new(Arc::new(Value::Null)),
            ending: Cancel::new(),
            host,
            tally,
            connections: Connections::default(),
            memory: Arc::default(),
        })
    }

    /// A number that no other plugin of this process has, but after four billion of them.
    pub fn serial(&self) -> u32 {
        self.serial
    }

    /// Who the plugin is: where it came from, never its manifest's `name`.
    pub fn identity(&self) -> &str {
        &self.identity
    }

    /// What it was granted.
    pub fn grants(&self) -> &Grants {
        &self.grants
    }

    /// Bytes of the linear memories of its instances, as they are counted there.
    pub fn memory(&self) -> &Arc<AtomicU64> {
        &self.memory
    }

    /// What is counted of the plugin, over all its versions.
    pub(in crate::host) fn tally(&self) -> &Tally {
        &self.tally
    }

    /// What the embedded HTTP client keeps open for it.
    pub(in crate::host) fn connections(&self) -> &Connections {
        &self.connections
    }

    /// The config it was started with; `null` before.
    pub fn config(&self) -> Arc<Value> {
        self.config.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Sets the config, when the plugin is started.
    pub fn set_config(&self, config: Value) {
        *self.config.write().unwrap_or_else(PoisonError::into_inner) = Arc::new(config);
    }

    /// Hands a record of the plugin to the host, its text cleaned and bounded.
    pub fn log(&self, tag: u64, level: Level, message: &str, fields: &[(String, String)]) {
        let message = clean(message, LOG_MESSAGE_MAX);
        let fields: Vec<(String, String)> =
            fields.iter().take(LOG_FIELDS_MAX).map(|(k, v)| (clean(k, 256), clean(v, LOG_MESSAGE_MAX))).collect();
        let fields: Vec<(&str, &str)> = fields.iter().map(|(k, v)| (k.as_str(), v.as_str())).collect();
        let record = LogRecord { plugin: &self.identity, tag, level, message: &message, fields: &fields };
        self.tell(|| self.host.log(&record));
    }

    /// Hands an event of the library to the host.
    pub fn event(&self, event: &str) {
        self.tell(|| self.host.event(event));
    }

    /// Whether this thread is inside a callback that is told something of this plugin: it must not wait for the plugin's end.
    pub fn is_telling(&self) -> bool {
        TELLING.with_borrow(|serials| serials.contains(&self.serial))
    }

    fn tell(&self, callback: impl FnOnce()) {
        Telling(Some(self.serial)).scope(callback);
    }
}

/// The plugin of which a callback is told something; none outside of one.
#[derive(Clone, Copy, Debug)]
pub struct Telling(Option<u32>);

impl Telling {
    /// That of the callback on this thread.
    pub fn current() -> Self {
        Telling(TELLING.with_borrow(|serials| serials.last().copied()))
    }

    /// Runs `callback` as one that is told something of the plugin.
    pub fn scope(self, callback: impl FnOnce()) {
        struct Told;
        impl Drop for Told {
            fn drop(&mut self) {
                TELLING.with_borrow_mut(Vec::pop);
            }
        }
        let Some(serial) = self.0 else { return callback() };
        TELLING.with_borrow_mut(|serials| serials.push(serial));
        let _told = Told;
        callback();
    }
}

thread_local! {
    /// The plugins of which the callbacks on this thread are told something.
    static TELLING: RefCell<Vec<u32>> = const { RefCell::new(Vec::new()) };
}

/// The most bytes of one log message or field that are kept.
pub const LOG_MESSAGE_MAX: usize = 16 * 1024;
/// The most bytes of one event.
pub const EVENT_MAX: usize = 4 << 20;
/// The most fields of one log record that are kept.
pub const LOG_FIELDS_MAX: usize = 64;

/// A plugin that asks something: who, on behalf of which call, and how long the answer may take.
#[derive(Clone, Copy, Debug)]
pub struct Caller<'a> {
    /// The plugin.
    pub context: &'a Arc<PluginContext>,
    /// The function it was called with; empty where that is not known.
    pub function: &'a str,
    /// The mark of the call; 0 where that is not known.
    pub tag: u64,
    /// Trace context of the call; empty where there is none.
    pub traceparent: &'a str,
    /// The deadline of the call, or of this host call alone.
    pub deadline: &'a Deadline,
    /// The caller's token.
    pub cancel: Option<&'a Cancel>,
    /// The plugins that led here, this one included: the chain that a callback's own calls continue.
    pub chain: Chain,
}

impl Caller<'_> {
    /// What can end the wait for an answer: the caller's token and the plugin's end.
    pub fn cancels(&self) -> [Option<&Cancel>; 2] {
        [self.cancel, Some(&self.context.ending)]
    }

    /// `GetConfig`.
    pub fn get_config(&self, key: &str) -> Result<Option<Vec<u8>>> {
        self.context.host.get_config(self, key)
    }

    /// `KVGet`; `key` as the plugin wrote it.
    pub fn kv_get(&self, key: &str) -> Result<Option<Vec<u8>>> {
        self.with_key(key, |key| self.context.host.kv_get(self, key))
    }

    /// `KVSet`; `key` as the plugin wrote it.
    pub fn kv_set(&self, key: &str, value: &[u8]) -> Result<()> {
        self.with_key(key, |key| {
            let max = self.context.grants.kv.value;
            if value.len() as u64 > max {
                let text = format!("The value of {} bytes is larger than the {max} bytes that the policy grants (kv.value).", value.len());
                let denied = denied("kv", key, "kv.value", format!("kv: {{ value: {} }}", value.len()));
                return self.audited(Err(Error::new(Kind::PermissionDenied, text).with_detail("denied", denied)));
            }
            self.audited(self.context.host.kv_set(self, key, value))
        })
    }

    /// `KVDelete`; `key` as the plugin wrote it.
    pub fn kv_delete(&self, key: &str) -> Result<()> {
        self.with_key(key, |key| self.context.host.kv_delete(self, key))
    }

    /// `HTTPRequest`: refused before the host hears of it if the allowlist does not name the URL's host.
    pub fn http_request(&self, request: &HttpRequest<'_>) -> Result<HttpResponse> {
        self.audited(self.http_request_within(request))
    }

    fn http_request_within(&self, request: &HttpRequest<'_>) -> Result<HttpResponse> {
        http::check_method(request.method)?;
        http::check_headers(request.headers, request.body)?;
        let url = http::check_url(self.context, request.url)?;
        self.context.audit_reached(&url);
        let response = self.context.host.http_request(self, &HttpRequest { url: url.as_str(), ..*request })?;
        let max = self.context.grants.http_max_response;
        if response.body.len() as u64 > max {
            return Err(http::too_large(request.url, response.body.len() as u64, max));
        }
        Ok(response)
    }

    /// `EmitEvent` with a whole `DataEvent` as JSON.
    pub fn emit_event(&self, event: &str) -> Result<()> {
        if self.context.tally.event.admit() == Admission::Refused {
            let max = self.context.grants.rates.event;
            let text = format!("The plugin emits more than the {max} events a second that the policy grants (rates.event).");
            let denied = denied("event", "emit_event", "rates.event", String::new());
            return self.audited(Err(Error::new(Kind::PermissionDenied, text).with_detail("denied", denied)));
        }
        if event.len() > EVENT_MAX {
            let text = format!("The event has {} bytes; {EVENT_MAX} is the most. Store what is large, and emit where it is.", event.len());
            return Err(Error::new(Kind::InvalidArgument, text));
        }
        match serde_json::from_str::<&serde_json::value::RawValue>(event) {
            Ok(raw) if raw.get().starts_with('{') => self.context.host.emit_event(self, event),
            Ok(_) => Err(Error::new(Kind::InvalidArgument, "An event must be a JSON object.")),
            Err(e) => Err(Error::new(Kind::InvalidArgument, format!("The event is not valid JSON: {e}."))),
        }
    }

    /// `Log`. Records past the policy's rate are dropped; how many, the next record of the library says.
    pub fn log(&self, level: Level, message: &str, fields: &[(String, String)]) {
        match self.context.tally.log.admit() {
            Admission::Refused => return,
            Admission::Admitted { refused_before: 0 } => {}
            Admission::Admitted { refused_before } => {
                let dropped = format!("{refused_before} log records were dropped: more than the policy grants a second (rates.log).");
                self.context.log(self.tag, Level::Warn, &dropped, &[]);
            }
        }
        self.context.log(self.tag, level, message, fields);
    }

    /// Runs `f` with the key as the host knows it.
    fn with_key<R>(&self, key: &str, f: impl FnOnce(&str) -> Result<R>) -> Result<R> {
        let max = self.context.grants.kv.key;
        if key.is_empty() || key.len() as u64 > max {
            return Err(Error::new(Kind::InvalidArgument, format!("A key must have 1 to {max} bytes; this one has {}.", key.len())));
        }
        key::joined(&self.context.kv_prefix, key, f)
    }
}

/// The levels of a log record; the numbers are those of the wasm ABI and of `FLOWPLUG_LOG_*`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Level {
    /// For whoever develops the plugin.
    Debug,
    /// What happens.
    Info,
    /// What may be wrong.
    Warn,
    /// What is wrong.
    Error,
}

impl Level {
    /// From its number; what is past the last is an error.
    pub fn from_number(n: i32) -> Self {
        match n {
            i32::MIN..=0 => Level::Debug,
            1 => Level::Info,
            2 => Level::Warn,
            _ => Level::Error,
        }
    }

    /// From its name in any case (`trace` is debug, `warning` is warn, `fatal` is error); unknown names are info.
    pub fn from_name(name: &str) -> Self {
        match name.to_ascii_lowercase().as_str() {
            "trace" | "debug" => Level::Debug,
            "warn" | "warning" => Level::Warn,
            "error" | "err" | "fatal" | "panic" => Level::Error,
            _ => Level::Info,
        }
    }

    /// `debug`, `info`, `warn` or `error`.
    pub fn name(self) -> &'static str {
        match self {
            Level::Debug => "debug",
            Level::Info => "info",
            Level::Warn => "warn",
            Level::Error => "error",
        }
    }
}

/// A line for the host's log.
#[derive(Clone, Copy, Debug)]
pub struct LogRecord<'a> {
    /// Whose it is; empty: the library's own.
    pub plugin: &'a str,
    /// The mark of the call it belongs to; 0 where that is not known.
    pub tag: u64,
    /// How bad it is.
    pub level: Level,
    /// Bounded, and cleaned of control characters.
    pub message: &'a str,
    /// Names and values, cleaned too.
    pub fields: &'a [(&'a str, &'a str)],
}

/// A request that a plugin asks the host to make.
#[derive(Clone, Copy, Debug)]
pub struct HttpRequest<'a> {
    /// A token: `GET`.
    pub method: &'a str,
    /// An absolute URL, http or https.
    pub url: &'a str,
    /// Names and values.
    pub headers: &'a [(&'a str, &'a str)],
    /// Any bytes.
    pub body: &'a [u8],
}

/// What came back.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct HttpResponse {
    /// 100 to 599.
    pub status: i32,
    /// Names and values.
    pub headers: Vec<(String, String)>,
    /// Any bytes.
    pub body: Vec<u8>,
}
