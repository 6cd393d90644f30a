//! The manager as C sees it: its life, and what it does to plugins. What it is asked stands in `ask`.

use std::path::Path;
use std::sync::Arc;

use crate::call::Deadline;
use crate::error::Result;
use crate::ffi::call::{call_of, drain_of, flowplug_call_options};
use crate::ffi::callbacks::Callbacks;
use crate::ffi::error::flowplug_error;
use crate::ffi::flowplug_status;
use crate::ffi::guard::{free, guard};
use crate::ffi::host::flowplug_host;
use crate::ffi::manifest::flowplug_manifest;
use crate::ffi::text::{Out, flowplug_str, handle, read};
use crate::manager::Manager;

pub mod ask;

/// A manager of plugins; ended with flowplug_manager_free. Any number of threads may use it at once.
#[derive(Debug)]
pub struct flowplug_manager {
    manager: Arc<Manager>,
    callbacks: Arc<Callbacks>,
}

/// Makes a manager from flowbot's plugins section, JSON or YAML (or a document that has it under "plugins"): enabled (only
/// if it is true are there plugins), sources (type: local, path; git and oci are understood, and unsupported by this version),
/// config (of each plugin, by identity; ${env:NAME} is expanded when the plugin is started), hot_reload (true),
/// drain_timeout (30s; a text or nanoseconds), max_plugins (50; 0 is no bound). What it does not know in it is a warning of
/// the library. The plugins get the host's policy and callbacks. Ended with flowplug_manager_stop and flowplug_manager_free.
///
/// Errors: invalid config, with every problem; invalid state, if the host is closed; invalid argument.
/// Thread safety: any thread; any number of managers.
///
/// # Safety
/// `host` is live, text is readable, `out` is writable, `error` is NULL or writable.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn flowplug_manager_new(
    host: *mut flowplug_host,
    config: flowplug_str,
    out: *mut *mut flowplug_manager,
    error: *mut *mut flowplug_error,
) -> flowplug_status {
    let body = || {
        // SAFETY: by the function's contract.
        let host = unsafe { handle(host, "host") }?.inner.clone();
        // SAFETY: by the function's contract.
        let out = unsafe { Out::new(out, "out") }?;
        // SAFETY: by the function's contract.
        let config = unsafe { config.text("config") }?;
        let callbacks = host.callbacks.clone();
        let manager = Arc::new(Manager::new(&host.environment, callbacks.clone(), &host.policy, config)?);
        out.write(Box::into_raw(Box::new(flowplug_manager { manager, callbacks })));
        Ok(())
    };
    // SAFETY: by the function's contract.
    unsafe { guard(error, body) }
}

/// Discovers, loads and starts every plugin of the sources, in parallel, then follows their changes. A plugin that fails
/// stays in the list with the state error and its cause, and stops no other; events tell of each. Ends when all have come
/// or failed.
///
/// Errors: unsupported or io, where a source cannot be used: what the others have is started all the same, and the manager
/// runs; timeout and cancelled, likewise, with what had come by then; invalid state; invalid argument.
/// Thread safety: any thread, but not inside a callback of the host.
///
/// # Safety
/// `manager` is live, `options` is NULL or valid, `error` is NULL or writable.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn flowplug_manager_start(
    manager: *mut flowplug_manager,
    options: *const flowplug_call_options,
    error: *mut *mut flowplug_error,
) -> flowplug_status {
    let body = || {
        // SAFETY: by the function's contract.
        let manager = unsafe { manager_of(manager) }?;
        // SAFETY: by the function's contract.
        let call = unsafe { call_of(options) }?;
        manager.start(&call)
    };
    // SAFETY: by the function's contract.
    unsafe { guard(error, body) }
}

/// Loads and starts the plugin in a folder, whose name is its identity. config is JSON text; empty: that of the manager's
/// config. If it fails, nothing of it stays.
///
/// Errors: those of flowplug_manifest_read, flowplug_plugin_load and flowplug_plugin_start; invalid state, where a plugin of
/// the identity is there already or there are max_plugins of them; invalid argument.
/// Thread safety: any thread.
///
/// # Safety
/// `manager` is live, text is readable, `options` is NULL or valid, `error` is NULL or writable.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn flowplug_manager_load(
    manager: *mut flowplug_manager,
    folder: flowplug_str,
    config: flowplug_str,
    options: *const flowplug_call_options,
    error: *mut *mut flowplug_error,
) -> flowplug_status {
    let body = || {
        // SAFETY: by the function's contract.
        let manager = unsafe { manager_of(manager) }?;
        // SAFETY: by the function's contract.
        let folder = unsafe { folder.text("folder") }?;
        // SAFETY: by the function's contract.
        let config = unsafe { config.text("config") }?;
        // SAFETY: by the function's contract.
        let call = unsafe { call_of(options) }?;
        call.chain.scope(|| manager.load(Path::new(folder), config, &call)).map(drop)
    };
    // SAFETY: by the function's contract.
    unsafe { guard(error, body) }
}

/// Reloads a plugin without refusing a call; one that could not be loaded is loaded. manifest NULL: as on disk; config
/// empty: as before. If it fails, what ran goes on, and the list shows why.
///
/// Errors: not found; those of flowplug_manifest_read and flowplug_plugin_reload; invalid state; invalid argument.
/// Thread safety: any thread, but not inside a callback of the plugin's own call.
///
/// # Safety
/// Handles are live (`manifest` may be NULL), text is readable, `options` is NULL or valid, `error` is NULL or writable.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn flowplug_manager_reload(
    manager: *mut flowplug_manager,
    identity: flowplug_str,
    manifest: *const flowplug_manifest,
    config: flowplug_str,
    options: *const flowplug_call_options,
    error: *mut *mut flowplug_error,
) -> flowplug_status {
    let body = || {
        // SAFETY: by the function's contract.
        let manager = unsafe { manager_of(manager) }?;
        // SAFETY: by the function's contract.
        let identity = unsafe { identity.text("identity") }?;
        // SAFETY: by the function's contract.
        let config = unsafe { config.text("config") }?;
        // SAFETY: by the function's contract.
        let call = unsafe { call_of(options) }?;
        // SAFETY: by the function's contract.
        let manifest = unsafe { manifest.as_ref() }.map(|manifest| manifest.manifest.clone());
        call.chain.scope(|| manager.reload(identity, manifest, config, &call))
    };
    // SAFETY: by the function's contract.
    unsafe { guard(error, body) }
}

/// Refuses new calls of a plugin, waits for those in flight for the timeout of options (0: the config's drain_timeout), ends
/// the rest with cancelled, and forgets the plugin. A folder that is still there is loaded again when it changes.
///
/// Errors: not found; timeout, where a callback has not returned: unload it again; invalid state, inside a callback of the
/// plugin's own call or while it is loaded; cancelled, while it waits for another operation; invalid argument.
/// Thread safety: any thread, but not inside a callback of the plugin's own call.
///
/// # Safety
/// `manager` is live, text is readable, `options` is NULL or valid, `error` is NULL or writable.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn flowplug_manager_unload(
    manager: *mut flowplug_manager,
    identity: flowplug_str,
    options: *const flowplug_call_options,
    error: *mut *mut flowplug_error,
) -> flowplug_status {
    let body = || {
        // SAFETY: by the function's contract.
        let manager = unsafe { manager_of(manager) }?;
        // SAFETY: by the function's contract.
        let identity = unsafe { identity.text("identity") }?;
        // SAFETY: by the function's contract.
        let mut call = unsafe { call_of(options) }?;
        // SAFETY: by the function's contract.
        let drain = unsafe { own_drain(options) }?;
        // The timeout is the drain's; another operation is waited for as long as it takes.
        call.deadline = Deadline::never();
        call.chain.scope(|| manager.unload(identity, drain.as_ref(), &call))
    };
    // SAFETY: by the function's contract.
    unsafe { guard(error, body) }
}

/// Ends what is under way, follows no change any more, and stops all plugins, all at once, with the timeout of options as
/// the drain time (0: the config's drain_timeout). Everything of the manager then answers invalid state. Again does nothing.
///
/// Errors: timeout, where a callback has not returned: stop it again; invalid state, inside a callback of the host; invalid
/// argument.
/// Thread safety: any thread, but not inside a callback of the host.
///
/// # Safety
/// `manager` is live, `options` is NULL or valid, `error` is NULL or writable.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn flowplug_manager_stop(
    manager: *mut flowplug_manager,
    options: *const flowplug_call_options,
    error: *mut *mut flowplug_error,
) -> flowplug_status {
    let body = || {
        // SAFETY: by the function's contract.
        let manager = unsafe { manager_of(manager) }?;
        // SAFETY: by the function's contract.
        unsafe { call_of(options) }?;
        // SAFETY: by the function's contract.
        let drain = unsafe { own_drain(options) }?;
        manager.stop(drain.as_ref())
    };
    // SAFETY: by the function's contract.
    unsafe { guard(error, body) }
}

/// Ends a manager's handle; NULL does nothing. One that was not stopped stops its plugins in the background, without a
/// drain. Plugins from flowplug_manager_get stay valid, and stop too. Never blocks.
///
/// Thread safety: any thread, also inside a callback; once.
///
/// # Safety
/// `manager` is NULL or live and not used after.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn flowplug_manager_free(manager: *mut flowplug_manager) {
    // At once, also where another call still uses it.
    // SAFETY: managers are handed out by Box::into_raw; the rest is this function's contract.
    unsafe { free(manager, |freed: flowplug_manager| freed.manager.abandon()) };
}

/// A reference of the call's own: the handle may be freed inside one of its callbacks.
///
/// # Safety
/// `manager` is NULL or live.
unsafe fn manager_of(manager: *const flowplug_manager) -> Result<Arc<Manager>> {
    // SAFETY: by this function's contract.
    unsafe { handle(manager, "manager") }.map(|m| m.manager.clone())
}

/// The drain time that the caller names; none: the config's.
///
/// # Safety
/// As for `call_of`.
unsafe fn own_drain(options: *const flowplug_call_options) -> Result<Option<Deadline>> {
    // SAFETY: by this function's contract.
    let named = unsafe { read(options, "flowplug_call_options") }?.is_some_and(|options| options.timeout_ns != 0);
    // SAFETY: by this function's contract.
    let drain = unsafe { drain_of(options) }?;
    Ok(named.then_some(drain))
}
