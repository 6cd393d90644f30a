//! Plugins and their functions as C sees them.

use std::sync::Arc;

use crate::call::Deadline;
use crate::error::Result;
use crate::ffi::call::{Completion, DRAIN, call_of, drain_of, flowplug_call_options, flowplug_completion};
use crate::ffi::callbacks::Callbacks;
use crate::ffi::error::flowplug_error;
use crate::ffi::flowplug_status;
use crate::ffi::guard::{guard, guard_value};
use crate::ffi::host::{flowplug_host, flowplug_host_api, parse_config, register};
use crate::ffi::manifest::flowplug_manifest;
use crate::ffi::pin::{end, enter};
use crate::ffi::text::{Out, Owned, Versioned, flowplug_bytes, flowplug_str, handle, read};
use crate::plugin::Plugin;
use crate::policy::Policy;
use crate::sys;

mod handle;

pub use handle::flowplug_plugin;
pub(crate) use handle::plugin_of;

impl std::fmt::Debug for Callbacks {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Callbacks").finish_non_exhaustive()
    }
}

/// What one plugin gets of its own. Start from FLOWPLUG_PLUGIN_OPTIONS_INIT.
#[repr(C)]
#[derive(Clone, Copy, Debug)]
pub struct flowplug_plugin_options {
    /// sizeof(flowplug_plugin_options).
    pub struct_size: usize,
    /// Callbacks instead of the host's; a NULL in it means the host's. NULL: the host's alone.
    pub api: *const flowplug_host_api,
    /// JSON or YAML: a preset or an entry of policy.plugins, instead of the host's policy. Empty: the host's.
    pub policy: flowplug_str,
}

// SAFETY: repr(C), starts with its size, pointers and numbers alone.
unsafe impl Versioned for flowplug_plugin_options {}

/// Loads a plugin: compiles its module or starts its process, within what the policy grants. plugin_options may be NULL.
/// identity is who it is: letters, digits, '.', '_', '-', and '/' between components. The plugin keeps what it needs of the
/// host and the manifest; it is ended with flowplug_plugin_free.
///
/// Errors: load failed, permission denied, unsupported, timeout, cancelled, invalid state, invalid argument, invalid config.
/// api.destroy runs on failure too, unless api.struct_size is wrong.
/// Thread safety: any thread.
///
/// # Safety
/// Handles are live, structs valid, text is readable, `out` is writable, `error` is NULL or writable.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn flowplug_plugin_load(
    host: *mut flowplug_host,
    manifest: *const flowplug_manifest,
    identity: flowplug_str,
    plugin_options: *const flowplug_plugin_options,
    options: *const flowplug_call_options,
    out: *mut *mut flowplug_plugin,
    error: *mut *mut flowplug_error,
) -> flowplug_status {
    let body = || {
        // SAFETY: by the function's contract.
        let own = unsafe { read(plugin_options, "flowplug_plugin_options") }?;
        // SAFETY: by the function's contract.
        let host = unsafe { handle(host, "host") };
        let api = own.map_or(std::ptr::null(), |o| o.api);
        // SAFETY: by the function's contract.
        let callbacks = unsafe { own_callbacks(api, host.as_ref().ok().copied()) }?;
        // Of its own: the handle may be freed inside a callback of this load.
        let host = host?.inner.clone();
        // SAFETY: by the function's contract.
        let manifest = unsafe { handle(manifest, "manifest") }?;
        // SAFETY: by the function's contract.
        let out = unsafe { Out::new(out, "out") }?;
        // SAFETY: by the function's contract.
        let identity = unsafe { identity.text("identity") }?;
        // SAFETY: by the function's contract.
        let own_policy = unsafe { own_policy(own.as_ref()) }?;
        // SAFETY: by the function's contract.
        let call = unsafe { call_of(options) }?;
        let policy = own_policy.as_ref().unwrap_or(&host.policy);
        let plugin = Plugin::load(&host.environment, callbacks.clone(), policy, identity, manifest.manifest.clone(), &call)?;
        out.write(Box::into_raw(Box::new(flowplug_plugin::new(plugin, callbacks))));
        Ok(())
    };
    // SAFETY: by the function's contract.
    unsafe { guard(error, body) }
}

/// The policy of a plugin's own; none: the host's serves.
///
/// # Safety
/// The policy's text is readable.
pub(crate) unsafe fn own_policy(options: Option<&flowplug_plugin_options>) -> Result<Option<Arc<Policy>>> {
    // SAFETY: by this function's contract.
    let policy = unsafe { options.map_or(flowplug_str::empty(), |o| o.policy).text("policy") }?;
    if policy.is_empty() { Ok(None) } else { Ok(Some(Arc::new(Policy::parse_for_one(&parse_config(policy)?)?))) }
}

/// The callbacks that a plugin gets: its own over the host's, or the host's alone.
///
/// # Safety
/// `api` is NULL or valid for as long as the header says.
unsafe fn own_callbacks(api: *const flowplug_host_api, host: Option<&flowplug_host>) -> Result<Arc<Callbacks>> {
    let base = host.map(|h| &h.inner.callbacks);
    if api.is_null()
        && let Some(base) = base
    {
        return Ok(base.clone());
    }
    // SAFETY: by this function's contract.
    let callbacks = unsafe { register(api, base) }?;
    if let Some(host) = host {
        host.inner.add_override(&callbacks);
    }
    Ok(callbacks)
}

/// What the plugin is, what it asked for ("requests") and what it was granted ("granted"), a JSON object. Freed with
/// flowplug_bytes_free.
///
/// Errors: invalid argument.
/// Thread safety: any thread.
///
/// # Safety
/// `plugin` is live, `out` is writable, `error` is NULL or writable.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn flowplug_plugin_info(
    plugin: *const flowplug_plugin,
    out: *mut flowplug_bytes,
    error: *mut *mut flowplug_error,
) -> flowplug_status {
    let body = || {
        // SAFETY: by the function's contract.
        let plugin = unsafe { plugin_of(plugin) }?;
        // SAFETY: by the function's contract.
        let out = unsafe { Out::new(out, "out") }?;
        out.write(flowplug_bytes::owned(plugin.info().to_string().as_bytes()));
        Ok(())
    };
    // SAFETY: by the function's contract.
    unsafe { guard(error, body) }
}

/// Checks the config (JSON text; empty: absent) and gives it to the plugin; ends when the plugin has answered.
///
/// Errors: invalid config, after which it may be started again; start failed, timeout, cancelled, trap and what else the
/// plugin does, after which its state is error; invalid state; invalid argument.
/// Thread safety: any thread.
///
/// # Safety
/// `plugin` is live, text is readable, `options` is NULL or valid, `error` is NULL or writable.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn flowplug_plugin_start(
    plugin: *mut flowplug_plugin,
    config: flowplug_str,
    options: *const flowplug_call_options,
    error: *mut *mut flowplug_error,
) -> flowplug_status {
    let body = || {
        // SAFETY: by the function's contract.
        let plugin = unsafe { plugin_of(plugin) }?;
        // SAFETY: by the function's contract.
        let config = unsafe { config.text("config") }?;
        // SAFETY: by the function's contract.
        let call = unsafe { call_of(options) }?;
        plugin.start(config.as_bytes(), &call)
    };
    // SAFETY: by the function's contract.
    unsafe { guard(error, body) }
}

/// Calls a function on this thread. params is JSON text, the result one JSON value in UTF-8, freed with flowplug_bytes_free.
///
/// Errors: any status but those of manifests and of loading.
/// Thread safety: any thread, several at once, also inside a callback (8 deep).
///
/// # Safety
/// `plugin` is live, text is readable, `options` is NULL or valid, `out` is writable, `error` is NULL or writable.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn flowplug_plugin_call(
    plugin: *mut flowplug_plugin,
    function: flowplug_str,
    params: flowplug_str,
    options: *const flowplug_call_options,
    out: *mut flowplug_bytes,
    error: *mut *mut flowplug_error,
) -> flowplug_status {
    let body = || {
        // SAFETY: by the function's contract; the handle may be freed inside one of the call's own callbacks.
        let (_, entered) = unsafe { enter(plugin, "plugin") }?;
        // SAFETY: by the function's contract.
        let out = unsafe { Out::new(out, "out") }?;
        // SAFETY: by the function's contract.
        let call = unsafe { call_of(options) }?;
        // SAFETY: by the function's contract.
        let function = unsafe { function.text("function") }?;
        // SAFETY: by the function's contract.
        let params = unsafe { params.text("params") }?;
        let mut answer = Owned::new();
        entered.call(function, params.as_bytes(), &call, &mut answer)?;
        out.write(answer.take());
        Ok(())
    };
    // SAFETY: by the function's contract.
    unsafe { guard(error, body) }
}

/// Calls a function without waiting for it. Inputs are copied. If this returns ok, completion.done runs exactly once, on a
/// thread of the library; completion.destroy runs always, unless its struct_size is wrong.
///
/// Errors: invalid argument, invalid state, not found, unknown function; what the call itself ends with goes to done.
/// Thread safety: any thread, also inside a callback.
///
/// # Safety
/// `plugin` is live, text is readable, `options` is NULL or valid, `completion` is valid, `error` is NULL or writable.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn flowplug_plugin_call_async(
    plugin: *mut flowplug_plugin,
    function: flowplug_str,
    params: flowplug_str,
    options: *const flowplug_call_options,
    completion: *const flowplug_completion,
    error: *mut *mut flowplug_error,
) -> flowplug_status {
    let body = || {
        // SAFETY: by the function's contract.
        let completion = unsafe { Completion::new(completion) }?;
        // SAFETY: by the function's contract.
        let handle = unsafe { handle(plugin, "plugin") }?;
        // SAFETY: by the function's contract.
        let call = unsafe { call_of(options) }?;
        // SAFETY: by the function's contract.
        let function = unsafe { function.text("function") }?;
        // SAFETY: by the function's contract.
        let params = unsafe { params.text("params") }?;
        // Held until done has returned: closing the host waits for it.
        let entered = handle.callbacks.gate().enter()?;
        let plugin = handle.plugin.clone();
        let quick = completion.is_quick();
        let done = move |result| entered.finish(|| completion.finish(result));
        plugin.call_async(function, params.as_bytes().to_vec(), call, quick, done)
    };
    // SAFETY: by the function's contract.
    unsafe { guard(error, body) }
}

/// How the plugin is, a JSON object: ready, last_error, uptime_ns, state, restarts, and of a module pool: max, idle, in_use,
/// waiting (this moment), made, discarded {broken, grown, spent, idle}, waits, busy (since it was loaded, over all versions);
/// of a process that ever ended unexpectedly, crash: exit_status or signal, stderr. Freed with flowplug_bytes_free.
///
/// Errors: invalid argument alone; what is wrong with the plugin is in the answer.
/// Thread safety: any thread.
///
/// # Safety
/// `plugin` is live, `options` is NULL or valid, `out` is writable, `error` is NULL or writable.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn flowplug_plugin_health(
    plugin: *mut flowplug_plugin,
    options: *const flowplug_call_options,
    out: *mut flowplug_bytes,
    error: *mut *mut flowplug_error,
) -> flowplug_status {
    let body = || {
        // SAFETY: by the function's contract.
        let plugin = unsafe { plugin_of(plugin) }?;
        // SAFETY: by the function's contract.
        let out = unsafe { Out::new(out, "out") }?;
        // SAFETY: by the function's contract.
        let _call = unsafe { call_of(options) }?;
        out.write(flowplug_bytes::owned(plugin.health().to_string().as_bytes()));
        Ok(())
    };
    // SAFETY: by the function's contract.
    unsafe { guard(error, body) }
}

/// The state, FLOWPLUG_STATE_LOADING to FLOWPLUG_STATE_STOPPED; -1 for NULL.
///
/// Thread safety: any thread.
///
/// # Safety
/// `plugin` is NULL or live.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn flowplug_plugin_state(plugin: *const flowplug_plugin) -> i32 {
    // SAFETY: by the function's contract.
    guard_value(-1, || unsafe { plugin.as_ref() }.map_or(-1, |p| p.plugin.state() as i32))
}

/// Puts another version in the plugin's place without refusing or losing a call: loads and starts it (config: JSON text;
/// empty: as before), waits until it is ready, lets new calls find it, then waits for those of the old one, at most 30
/// seconds, and stops it. What is in flight after that ends with cancelled. The handle and its functions stay valid. The
/// timeout and the cancel token of options bound what comes before the exchange. Until the old version has ended, there
/// are as many instances of it as before, beside those of the new one.
///
/// Errors: those of load and start, and timeout if it does not become ready: the plugin then is as it was, and the event
/// reload_failed says why; invalid state, unless the plugin is running or in error, and while another call starts or reloads
/// it, up to the exchange; busy, while four old versions are waited for; invalid argument.
/// Thread safety: any thread, but not inside a callback of the plugin's own call.
///
/// # Safety
/// Handles are live, text is readable, `options` is NULL or valid, `error` is NULL or writable.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn flowplug_plugin_reload(
    plugin: *mut flowplug_plugin,
    manifest: *const flowplug_manifest,
    config: flowplug_str,
    options: *const flowplug_call_options,
    error: *mut *mut flowplug_error,
) -> flowplug_status {
    let body = || {
        // SAFETY: by the function's contract.
        let plugin = unsafe { plugin_of(plugin) }?;
        // SAFETY: by the function's contract.
        let manifest = unsafe { handle(manifest, "manifest") }?.manifest.clone();
        // SAFETY: by the function's contract.
        let config = unsafe { config.text("config") }?;
        // SAFETY: by the function's contract.
        let call = unsafe { call_of(options) }?;
        plugin.reload(manifest, config.as_bytes(), &call, &Deadline::after(DRAIN))
    };
    // SAFETY: by the function's contract.
    unsafe { guard(error, body) }
}

/// Refuses new calls, waits for those in flight for the timeout of options (the drain time; 0: 30 seconds), ends the rest
/// with cancelled. Again waits until it is over.
///
/// Errors: timeout, where a callback of a call has not returned some seconds after that: the plugin is stopped, but what the
/// callback uses must stay until it returns, for which another stop waits; invalid state, inside a callback of the plugin's
/// own call; invalid argument.
/// Thread safety: any thread, but not inside a callback of the plugin's own call.
///
/// # Safety
/// `plugin` is live, `options` is NULL or valid, `error` is NULL or writable.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn flowplug_plugin_stop(
    plugin: *mut flowplug_plugin,
    options: *const flowplug_call_options,
    error: *mut *mut flowplug_error,
) -> flowplug_status {
    let body = || {
        // SAFETY: by the function's contract.
        let plugin = unsafe { plugin_of(plugin) }?;
        // SAFETY: by the function's contract.
        let call = unsafe { call_of(options) }?;
        // SAFETY: by the function's contract.
        let drain = unsafe { drain_of(options) }?;
        call.chain.scope(|| plugin.stop(&drain))
    };
    // SAFETY: by the function's contract.
    unsafe { guard(error, body) }
}

/// Ends a plugin's handle; NULL does nothing. A plugin that runs is stopped in the background, without a drain, unless the
/// handle is a manager's (flowplug_manager_get). Never blocks.
///
/// Thread safety: any thread, also inside a callback; once.
///
/// # Safety
/// `plugin` is NULL or live and not used after.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn flowplug_plugin_free(plugin: *mut flowplug_plugin) {
    if !plugin.is_null() && !sys::forked() {
        // At once, also where calls still use the handle: it is theirs that this ends.
        // SAFETY: live by the function's contract.
        guard_value((), || drop(unsafe { handle(plugin, "plugin") }.map(flowplug_plugin::let_go)));
    }
    // SAFETY: plugins are handed out by Box::into_raw; the rest is this function's contract.
    unsafe { end(plugin) };
}
