//! What a manager is asked: the list, a plugin, a call, health, metrics.

use crate::ffi::call::{call_of, flowplug_call_options};
use crate::ffi::error::flowplug_error;
use crate::ffi::flowplug_status;
use crate::ffi::guard::guard;
use crate::ffi::manager::{flowplug_manager, manager_of};
use crate::ffi::plugin::flowplug_plugin;
use crate::ffi::text::{Out, Owned, flowplug_bytes, flowplug_str, handle};

/// All plugins, a JSON list in the order of identities: identity, manifest, state, started_at, last_error, restarts, calls,
/// in_flight, source, folder. Freed with flowplug_bytes_free. No plugin is asked for it.
///
/// Errors: invalid state, once the manager is stopped; invalid argument.
/// Thread safety: any thread, also inside a callback.
///
/// # Safety
/// `manager` is live, `out` is writable, `error` is NULL or writable.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn flowplug_manager_list(
    manager: *const flowplug_manager,
    out: *mut flowplug_bytes,
    error: *mut *mut flowplug_error,
) -> flowplug_status {
    let body = || {
        // SAFETY: by the function's contract.
        let manager = unsafe { manager_of(manager) }?;
        // SAFETY: by the function's contract.
        let out = unsafe { Out::new(out, "out") }?;
        out.write(flowplug_bytes::owned(manager.list()?.to_string().as_bytes()));
        Ok(())
    };
    // SAFETY: by the function's contract.
    unsafe { guard(error, body) }
}

/// A plugin, a new handle, which is ended with flowplug_plugin_free: that ends the handle alone, because the plugin is the
/// manager's. It stays valid whatever becomes of the plugin, across reloads, too.
///
/// Errors: not found; invalid state, with the cause, where the plugin could not be loaded; invalid argument.
/// Thread safety: any thread, also inside a callback.
///
/// # Safety
/// `manager` is live, text is readable, `out` is writable, `error` is NULL or writable.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn flowplug_manager_get(
    manager: *const flowplug_manager,
    identity: flowplug_str,
    out: *mut *mut flowplug_plugin,
    error: *mut *mut flowplug_error,
) -> flowplug_status {
    let body = || {
        // SAFETY: by the function's contract.
        let own = unsafe { handle(manager, "manager") }?;
        // SAFETY: by the function's contract.
        let out = unsafe { Out::new(out, "out") }?;
        // SAFETY: by the function's contract.
        let identity = unsafe { identity.text("identity") }?;
        let plugin = own.manager.get(identity)?;
        out.write(Box::into_raw(Box::new(flowplug_plugin::managed(plugin, own.callbacks.clone()))));
        Ok(())
    };
    // SAFETY: by the function's contract.
    unsafe { guard(error, body) }
}

/// Calls a function of a plugin by its identity, as flowplug_plugin_call does.
///
/// Errors: not found, where there is no such plugin; invalid state, with the cause, where it could not be loaded; and those
/// of flowplug_plugin_call.
/// Thread safety: any thread, several at once, also inside a callback (8 deep).
///
/// # Safety
/// `manager` is live, text is readable, `options` is NULL or valid, `out` is writable, `error` is NULL or writable.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn flowplug_manager_call(
    manager: *mut flowplug_manager,
    identity: flowplug_str,
    function: flowplug_str,
    params: flowplug_str,
    options: *const flowplug_call_options,
    out: *mut flowplug_bytes,
    error: *mut *mut flowplug_error,
) -> flowplug_status {
    let body = || {
        // SAFETY: by the function's contract.
        let manager = unsafe { manager_of(manager) }?;
        // SAFETY: by the function's contract.
        let out = unsafe { Out::new(out, "out") }?;
        // SAFETY: by the function's contract.
        let call = unsafe { call_of(options) }?;
        // SAFETY: by the function's contract.
        let identity = unsafe { identity.text("identity") }?;
        // SAFETY: by the function's contract.
        let function = unsafe { function.text("function") }?;
        // SAFETY: by the function's contract.
        let params = unsafe { params.text("params") }?;
        let mut answer = Owned::new();
        manager.call(identity, function, params.as_bytes(), &call, &mut answer)?;
        out.write(answer.take());
        Ok(())
    };
    // SAFETY: by the function's contract.
    unsafe { guard(error, body) }
}

/// How a plugin is, by its identity, as flowplug_plugin_health tells it; one that could not be loaded is in the state error,
/// with the cause. Freed with flowplug_bytes_free.
///
/// Errors: not found; invalid state, once the manager is stopped; invalid argument.
/// Thread safety: any thread, also inside a callback.
///
/// # Safety
/// `manager` is live, text is readable, `options` is NULL or valid, `out` is writable, `error` is NULL or writable.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn flowplug_manager_health(
    manager: *mut flowplug_manager,
    identity: flowplug_str,
    options: *const flowplug_call_options,
    out: *mut flowplug_bytes,
    error: *mut *mut flowplug_error,
) -> flowplug_status {
    let body = || {
        // SAFETY: by the function's contract.
        let manager = unsafe { manager_of(manager) }?;
        // SAFETY: by the function's contract.
        let out = unsafe { Out::new(out, "out") }?;
        // SAFETY: by the function's contract.
        let _call = unsafe { call_of(options) }?;
        // SAFETY: by the function's contract.
        let identity = unsafe { identity.text("identity") }?;
        out.write(flowplug_bytes::owned(manager.health(identity)?.to_string().as_bytes()));
        Ok(())
    };
    // SAFETY: by the function's contract.
    unsafe { guard(error, body) }
}

/// What flowplug_host_metrics writes, of the manager's plugins alone, those that failed included. Freed with flowplug_bytes_free.
///
/// Errors: invalid state, once the manager is stopped; invalid argument.
/// Thread safety: any thread, also inside a callback.
///
/// # Safety
/// `manager` is live, `out` is writable, `error` is NULL or writable.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn flowplug_manager_metrics(
    manager: *const flowplug_manager,
    out: *mut flowplug_bytes,
    error: *mut *mut flowplug_error,
) -> flowplug_status {
    let body = || {
        // SAFETY: by the function's contract.
        let manager = unsafe { manager_of(manager) }?;
        // SAFETY: by the function's contract.
        let out = unsafe { Out::new(out, "out") }?;
        out.write(flowplug_bytes::owned(manager.metrics()?.as_bytes()));
        Ok(())
    };
    // SAFETY: by the function's contract.
    unsafe { guard(error, body) }
}
