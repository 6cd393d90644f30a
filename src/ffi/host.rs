//! The host: one tokio runtime, the callbacks of the embedding program, the policy.

use std::ffi::c_void;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::time::{Duration, Instant};

use crate::call::Deadline;
use crate::error::{Error, Kind, Result};
use crate::ffi::call::{call_of, drain_of, flowplug_call_options};
use crate::ffi::callbacks::Callbacks;
use crate::ffi::error::flowplug_error;
use crate::ffi::flowplug_status;
use crate::ffi::gate::{Gate, Registration};
use crate::ffi::guard::{free, guard};
use crate::ffi::request::{flowplug_pair, flowplug_request};
use crate::ffi::text::{Out, Versioned, flowplug_str, handle, read};
use crate::host::defaults::Defaults;
use crate::plugin::Environment;
use crate::policy::Policy;
use crate::runner::Settings;
use crate::sys;

mod config;
pub mod metrics;

pub(crate) use config::parse_config;
use config::{CallbacksConfig, Config, SignalsConfig};

/// A host of plugins; ended with flowplug_host_close and flowplug_host_free.
#[derive(Debug)]
pub struct flowplug_host {
    pub(crate) inner: Arc<HostInner>,
}

/// What a host is made of. Plugins keep the environment and the callbacks alive, not this.
pub(crate) struct HostInner {
    pub(crate) environment: Arc<Environment>,
    pub(crate) policy: Arc<Policy>,
    pub(crate) callbacks: Arc<Callbacks>,
    overrides: Mutex<Vec<Arc<Registration>>>,
    closed: AtomicBool,
}

impl std::fmt::Debug for HostInner {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("HostInner").finish_non_exhaustive()
    }
}

/// Who asks a host callback, and how long the answer may take. Borrowed for the callback.
#[repr(C)]
#[derive(Clone, Copy, Debug)]
pub struct flowplug_caller {
    /// sizeof(flowplug_caller).
    pub struct_size: usize,
    /// The plugin's identity.
    pub plugin: flowplug_str,
    /// The function that it was called with; empty where that is not known.
    pub function: flowplug_str,
    /// W3C trace context of that call; empty if none.
    pub traceparent: flowplug_str,
    /// The tag of that call; 0 where it is not known.
    pub tag: u64,
    /// Nanoseconds until nobody waits any more, give or take a few milliseconds; FLOWPLUG_NO_TIMEOUT: no bound.
    pub remaining_ns: u64,
}

/// An HTTP request whose URL the allowlist has passed. Borrowed for the callback.
#[repr(C)]
#[derive(Clone, Copy, Debug)]
pub struct flowplug_http_request {
    /// sizeof(flowplug_http_request).
    pub struct_size: usize,
    /// A token: "GET".
    pub method: flowplug_str,
    /// http or https.
    pub url: flowplug_str,
    /// headers_len pairs.
    pub headers: *const flowplug_pair,
    /// How many.
    pub headers_len: usize,
    /// Bytes.
    pub body: flowplug_str,
}

/// A log record. Borrowed for the callback.
#[repr(C)]
#[derive(Clone, Copy, Debug)]
pub struct flowplug_log_record {
    /// sizeof(flowplug_log_record).
    pub struct_size: usize,
    /// The plugin's identity; empty: a record of the library itself.
    pub plugin: flowplug_str,
    /// The tag of the call that it belongs to; 0 where it is not known.
    pub tag: u64,
    /// FLOWPLUG_LOG_DEBUG to FLOWPLUG_LOG_ERROR.
    pub level: i32,
    /// UTF-8, bounded and cleaned of control characters.
    pub message: flowplug_str,
    /// fields_len pairs.
    pub fields: *const flowplug_pair,
    /// How many.
    pub fields_len: usize,
}

/// What plugins may ask of the embedding program. Any function may be NULL: the embedded default serves. The struct is
/// copied; user_data must live until destroy. Callbacks come from any thread, several at once; those with a request answer
/// it with one flowplug_request_ function, before they return or later, from any thread. Pointers that a callback gets are
/// borrowed until it returns. Start from FLOWPLUG_HOST_API_INIT.
///
/// Detached (see flowplug_host_options.config), 256 requests at once have a thread of the library each, of one plugin 32 (or
/// as many as it may have instances, if that is more); more are refused as busy. Records and events come one after the other; those that would make more than 16 MiB wait are lost, and a record of
/// the library says how many. A request of a call that has ended goes on until its callback returns.
#[repr(C)]
#[derive(Clone, Copy, Debug)]
pub struct flowplug_host_api {
    /// sizeof(flowplug_host_api).
    pub struct_size: usize,
    /// Handed to every function.
    pub user_data: *mut c_void,
    /// Runs exactly once, after every other callback: when the host is closed, freed, or could not be made.
    pub destroy: Option<unsafe extern "C" fn(user_data: *mut c_void)>,
    /// A value of the plugin's configuration. Default: from the config that the plugin was started with.
    pub get_config:
        Option<unsafe extern "C" fn(user_data: *mut c_void, request: flowplug_request, caller: *const flowplug_caller, key: flowplug_str)>,
    /// The value of a key, `plugin:<identity>:<key>`. Default: a store in memory,
    /// or in the file of the config's kv_path.
    pub kv_get:
        Option<unsafe extern "C" fn(user_data: *mut c_void, request: flowplug_request, caller: *const flowplug_caller, key: flowplug_str)>,
    /// Stores a value under such a key; ok means that it is stored.
    pub kv_set: Option<
        unsafe extern "C" fn(
            user_data: *mut c_void,
            request: flowplug_request,
            caller: *const flowplug_caller,
            key: flowplug_str,
            value: flowplug_str,
        ),
    >,
    /// Removes such a key; one that is missing is removed already.
    pub kv_delete:
        Option<unsafe extern "C" fn(user_data: *mut c_void, request: flowplug_request, caller: *const flowplug_caller, key: flowplug_str)>,
    /// Makes an HTTP request. Ask flowplug_request_http_check before following a redirect. Default: a client of
    /// the library's own, HTTP/1.1, which checks the allowlist again on each redirect and each address that it resolved, and
    /// knows no proxy.
    pub http_request: Option<
        unsafe extern "C" fn(
            user_data: *mut c_void,
            request: flowplug_request,
            caller: *const flowplug_caller,
            http: *const flowplug_http_request,
        ),
    >,
    /// Takes an event of the plugin, a JSON object (DataEvent). Default: the event callback.
    pub emit_event: Option<
        unsafe extern "C" fn(user_data: *mut c_void, request: flowplug_request, caller: *const flowplug_caller, event_json: flowplug_str),
    >,
    /// Takes a log record. Default: standard error.
    pub log: Option<unsafe extern "C" fn(user_data: *mut c_void, record: *const flowplug_log_record)>,
    /// Takes an event of the library, a JSON object with "type", "time" and "plugin"; what a plugin emitted without an
    /// emit_event callback has the type "emitted" and stands under "data". Default: dropped.
    pub event: Option<unsafe extern "C" fn(user_data: *mut c_void, event_json: flowplug_str)>,
    /// Nobody waits for this request any more: its number is void. Comes once the request's callback was called; where
    /// callbacks are detached, perhaps while it still runs.
    pub request_dropped: Option<unsafe extern "C" fn(user_data: *mut c_void, request: flowplug_request)>,
}

/// What a host is made from. Start from FLOWPLUG_HOST_OPTIONS_INIT.
#[repr(C)]
#[derive(Clone, Copy, Debug)]
pub struct flowplug_host_options {
    /// sizeof(flowplug_host_options).
    pub struct_size: usize,
    /// JSON or YAML: policy, cache_dir, cache_size (1GB), kv_path (a file for what plugins store; made if it is not there, and
    /// this host's alone until it is closed; without it they store in memory), runtime_dir, worker_threads, callbacks
    /// (inline: on the thread that called the plugin, the default; detached: on threads of the library, so that a call is
    /// answered at its deadline whatever a callback does), signals (on, off), http ({ca_file: the certificates, in PEM, that the
    /// embedded HTTP client trusts in place of the system's}). Empty: the defaults. Unknown keys are errors.
    pub config: flowplug_str,
    /// The embedding program's callbacks; NULL: the embedded defaults alone.
    pub api: *const flowplug_host_api,
}

// SAFETY: repr(C), starts with its size, pointers and numbers alone.
unsafe impl Versioned for flowplug_host_api {}
// SAFETY: as above.
unsafe impl Versioned for flowplug_host_options {}

/// Makes a host: starts its runtime and registers the callbacks. options may be NULL: the strict policy and the embedded
/// defaults. The host is ended with flowplug_host_close and flowplug_host_free.
///
/// Errors: invalid argument, invalid config, unsupported, io. api.destroy runs on failure too, unless api.struct_size is wrong.
/// Thread safety: any thread; any number of hosts.
///
/// # Safety
/// `options` is NULL or valid, `out` is writable, `error` is NULL or writable.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn flowplug_host_new(
    options: *const flowplug_host_options,
    out: *mut *mut flowplug_host,
    error: *mut *mut flowplug_error,
) -> flowplug_status {
    let body = || {
        // SAFETY: by the function's contract.
        let options = unsafe { read(options, "flowplug_host_options") }?;
        let api = options.map_or(std::ptr::null(), |o| o.api);
        // SAFETY: by the function's contract.
        let callbacks = unsafe { register(api, None) }?;
        // SAFETY: by the function's contract.
        let out = unsafe { Out::new(out, "out") }?;
        // SAFETY: by the function's contract.
        let config = unsafe { options.map_or(flowplug_str::empty(), |o| o.config).text("config") }?;
        let inner = Arc::new(HostInner::new(config, callbacks)?);
        out.write(Box::into_raw(Box::new(flowplug_host { inner })));
        Ok(())
    };
    // SAFETY: by the function's contract.
    unsafe { guard(error, body) }
}

/// Ends everything of the host: plugins are stopped, all at once, with the timeout of options as the drain time (0: 30
/// seconds); calls still in flight then end with cancelled. When it returns ok, no callback of this host runs or ever will,
/// and destroy has run. Everything of the host then answers invalid state. Again does nothing.
///
/// Errors: timeout, if a callback has not returned by then: call it again; invalid state, inside a callback of this host.
/// Thread safety: any thread, but not inside a callback of this host.
///
/// # Safety
/// `host` is a live host, `options` is NULL or valid, `error` is NULL or writable.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn flowplug_host_close(
    host: *mut flowplug_host,
    options: *const flowplug_call_options,
    error: *mut *mut flowplug_error,
) -> flowplug_status {
    let body = || {
        // SAFETY: by the function's contract.
        let inner = unsafe { handle(host, "host") }?.inner.clone();
        // SAFETY: by the function's contract.
        unsafe { call_of(options) }?;
        // SAFETY: by the function's contract.
        let drain = unsafe { drain_of(options) }?;
        inner.close(&drain)
    };
    // SAFETY: by the function's contract.
    unsafe { guard(error, body) }
}

/// Ends a host's handle; NULL does nothing. A host that was not closed is closed in the background, without a drain.
/// Never blocks.
///
/// Thread safety: any thread, also inside a callback; once.
///
/// # Safety
/// `host` is NULL or a live host that is not used after.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn flowplug_host_free(host: *mut flowplug_host) {
    let end = |host: flowplug_host| {
        if host.inner.closed.load(Ordering::Acquire) {
            return;
        }
        let close = move || {
            sys::block_signals();
            while host.inner.close(&Deadline::after(Duration::ZERO)).is_err_and(|e| e.kind() == Kind::Timeout) {}
        };
        drop(std::thread::Builder::new().name("flowplug-close".into()).spawn(close));
    };
    // SAFETY: hosts are handed out by Box::into_raw; the rest is this function's contract.
    unsafe { free(host, end) };
}

/// Registers callbacks: from here on, `destroy` runs exactly once. NULL: all defaults, or the base's.
///
/// # Safety
/// `api` is NULL or valid for as long as the header says.
pub(crate) unsafe fn register(api: *const flowplug_host_api, base: Option<&Arc<Callbacks>>) -> Result<Arc<Callbacks>> {
    // SAFETY: by this function's contract.
    let api = unsafe { read(api, "flowplug_host_api") }?.unwrap_or(NO_CALLBACKS);
    let (defaults, gate) = match base {
        Some(base) => (base.defaults().clone(), base.gate().clone()),
        None => (Arc::new(OnceLock::new()), Arc::new(Gate::default())),
    };
    Ok(Callbacks::new(api, base.cloned(), defaults, gate))
}

const NO_CALLBACKS: flowplug_host_api = flowplug_host_api {
    struct_size: size_of::<flowplug_host_api>(),
    user_data: std::ptr::null_mut(),
    destroy: None,
    get_config: None,
    kv_get: None,
    kv_set: None,
    kv_delete: None,
    http_request: None,
    emit_event: None,
    log: None,
    event: None,
    request_dropped: None,
};

impl HostInner {
    fn new(config: &str, callbacks: Arc<Callbacks>) -> Result<Self> {
        let config: Config = if config.trim().is_empty() { Config::default() } else { Config::parse(config)? };
        let policy = Arc::new(config.policy.as_ref().map_or_else(|| Ok(Policy::default()), Policy::parse)?);
        let protected =
            [&config.cache_dir, &config.runtime_dir, &config.kv_path, &config.http.ca_file].into_iter().flatten().cloned().collect();
        let threads = config.worker_threads.unwrap_or(2);
        if !(1..=256).contains(&threads) {
            return Err(Error::new(Kind::InvalidConfig, format!("worker_threads is {threads}; it must be 1 to 256.")));
        }
        let signals = matches!(config.signals, SignalsConfig::On);
        let settings = Settings { signals, cache_dir: config.cache_dir, cache_size: config.cache_size, runtime_dir: config.runtime_dir };
        let environment = Environment::new(threads, settings, protected)?;
        let defaults = Defaults::open(environment.handle().clone(), config.kv_path.as_deref(), config.http.ca_file.as_deref())?;
        callbacks.defaults().get_or_init(|| defaults);
        if matches!(config.callbacks, CallbacksConfig::Detached) {
            callbacks.gate().detach();
        }
        Ok(HostInner { environment, policy, callbacks, overrides: Mutex::default(), closed: AtomicBool::new(false) })
    }

    /// Takes note of a plugin's own callbacks, so that closing ends them too.
    pub(crate) fn add_override(&self, callbacks: &Arc<Callbacks>) {
        let mut overrides = self.overrides.lock().unwrap_or_else(PoisonError::into_inner);
        overrides.retain(|o| !o.has_ended());
        overrides.push(callbacks.registration().clone());
    }

    fn close(&self, drain: &Deadline) -> Result<()> {
        let gate = self.callbacks.gate();
        if gate.is_inside() {
            return Err(Error::new(
                Kind::InvalidState,
                "A host cannot be closed from inside one of its callbacks: it would wait for itself.",
            ));
        }
        self.environment.close(drain);
        let grace = Instant::now() + Duration::from_millis(100);
        let until = drain.moment().map_or(const { Deadline::never() }, |end| Deadline::at(end.max(grace)));
        if !gate.shut(&until) {
            return Err(Error::new(Kind::Timeout, "A callback of the host has not returned yet; call flowplug_host_close again."));
        }
        // A copy: a `destroy` may load a plugin, and whoever closes at the same time waits for the same ones.
        let overrides = self.overrides.lock().unwrap_or_else(PoisonError::into_inner).clone();
        for registration in &overrides {
            registration.end();
        }
        self.callbacks.registration().end();
        if let Some(threads) = gate.threads() {
            threads.end();
        }
        if let Some(defaults) = self.callbacks.defaults().get() {
            defaults.close();
        }
        self.closed.store(true, Ordering::Release);
        Ok(())
    }
}
