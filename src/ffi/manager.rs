//! The manager as C sees it. This version has none: each function checks its arguments and answers `unsupported`.

use crate::error::{Error, Kind, Result};
use crate::ffi::call::{call_of, flowplug_call_options};
use crate::ffi::error::flowplug_error;
use crate::ffi::flowplug_status;
use crate::ffi::guard::guard;
use crate::ffi::host::flowplug_host;
use crate::ffi::manifest::flowplug_manifest;
use crate::ffi::plugin::flowplug_plugin;
use crate::ffi::text::{Out, flowplug_bytes, flowplug_str, handle};

/// A manager of plugins. No function of this version makes one.
#[derive(Debug)]
pub struct flowplug_manager {
    _none: std::convert::Infallible,
}

/// # Safety
/// `manager` is NULL or live, `options` is NULL or valid, `error` is NULL or writable.
unsafe fn unsupported(
    manager: *const flowplug_manager,
    options: *const flowplug_call_options,
    error: *mut *mut flowplug_error,
) -> flowplug_status {
    let body = || {
        // SAFETY: by this function's contract.
        unsafe { handle(manager, "manager") }?;
        // SAFETY: by this function's contract.
        unsafe { call_of(options) }?;
        none()
    };
    // SAFETY: by this function's contract.
    unsafe { guard(error, body) }
}

fn none() -> Result<()> {
    Err(Error::new(Kind::Unsupported, "This version has no manager; load plugins with flowplug_plugin_load."))
}

/// Makes a manager from flowbot's plugins section, JSON or YAML. This version answers unsupported.
///
/// Errors: unsupported; invalid argument.
/// Thread safety: any thread.
///
/// # Safety
/// `host` is live, text is readable, `error` is NULL or writable.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn flowplug_manager_new(
    host: *mut flowplug_host,
    config: flowplug_str,
    out: *mut *mut flowplug_manager,
    error: *mut *mut flowplug_error,
) -> flowplug_status {
    let body = || {
        // SAFETY: by the function's contract.
        unsafe { handle(host, "host") }?;
        // SAFETY: by the function's contract.
        unsafe { config.text("config") }?;
        // SAFETY: by the function's contract.
        unsafe { Out::new(out, "out") }?;
        none()
    };
    // SAFETY: by the function's contract.
    unsafe { guard(error, body) }
}

/// Discovers, loads, starts and watches everything. This version answers unsupported.
///
/// Errors: unsupported; invalid argument.
/// Thread safety: any thread.
///
/// # Safety
/// Handles are live, structs valid, text is readable, outputs are writable.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn flowplug_manager_start(
    manager: *mut flowplug_manager,
    options: *const flowplug_call_options,
    error: *mut *mut flowplug_error,
) -> flowplug_status {
    // SAFETY: by the function's contract.
    unsafe { unsupported(manager, options, error) }
}

/// Loads and starts the plugin in a folder. This version answers unsupported.
///
/// Errors: unsupported; invalid argument.
/// Thread safety: any thread.
///
/// # Safety
/// Handles are live, structs valid, text is readable, outputs are writable.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn flowplug_manager_load(
    manager: *mut flowplug_manager,
    folder: flowplug_str,
    config: flowplug_str,
    options: *const flowplug_call_options,
    error: *mut *mut flowplug_error,
) -> flowplug_status {
    let _later = (folder, config);
    // SAFETY: by the function's contract.
    unsafe { unsupported(manager, options, error) }
}

/// Reloads a plugin; a NULL manifest and an empty config: as on disk, as before. This version answers unsupported.
///
/// Errors: unsupported; invalid argument.
/// Thread safety: any thread.
///
/// # Safety
/// Handles are live, structs valid, text is readable, outputs are writable.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn flowplug_manager_reload(
    manager: *mut flowplug_manager,
    identity: flowplug_str,
    manifest: *const flowplug_manifest,
    config: flowplug_str,
    options: *const flowplug_call_options,
    error: *mut *mut flowplug_error,
) -> flowplug_status {
    let _later = (identity, manifest, config);
    // SAFETY: by the function's contract.
    unsafe { unsupported(manager, options, error) }
}

/// Stops a plugin and forgets it. This version answers unsupported.
///
/// Errors: unsupported; invalid argument.
/// Thread safety: any thread.
///
/// # Safety
/// Handles are live, structs valid, text is readable, outputs are writable.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn flowplug_manager_unload(
    manager: *mut flowplug_manager,
    identity: flowplug_str,
    options: *const flowplug_call_options,
    error: *mut *mut flowplug_error,
) -> flowplug_status {
    let _later = (identity,);
    // SAFETY: by the function's contract.
    unsafe { unsupported(manager, options, error) }
}

/// All plugins, a JSON list. This version answers unsupported.
///
/// Errors: unsupported; invalid argument.
/// Thread safety: any thread.
///
/// # Safety
/// Handles are live, structs valid, text is readable, outputs are writable.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn flowplug_manager_list(
    manager: *const flowplug_manager,
    out: *mut flowplug_bytes,
    error: *mut *mut flowplug_error,
) -> flowplug_status {
    let _later = (out,);
    // SAFETY: by the function's contract.
    unsafe { unsupported(manager, std::ptr::null(), error) }
}

/// A new reference to a plugin. This version answers unsupported.
///
/// Errors: unsupported; invalid argument.
/// Thread safety: any thread.
///
/// # Safety
/// Handles are live, structs valid, text is readable, outputs are writable.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn flowplug_manager_get(
    manager: *const flowplug_manager,
    identity: flowplug_str,
    out: *mut *mut flowplug_plugin,
    error: *mut *mut flowplug_error,
) -> flowplug_status {
    let _later = (identity, out);
    // SAFETY: by the function's contract.
    unsafe { unsupported(manager, std::ptr::null(), error) }
}

/// Calls a function of a plugin by its identity. This version answers unsupported.
///
/// Errors: unsupported; invalid argument.
/// Thread safety: any thread.
///
/// # Safety
/// Handles are live, structs valid, text is readable, outputs are writable.
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
    let _later = (identity, function, params, out);
    // SAFETY: by the function's contract.
    unsafe { unsupported(manager, options, error) }
}

/// How a plugin is, by its identity. This version answers unsupported.
///
/// Errors: unsupported; invalid argument.
/// Thread safety: any thread.
///
/// # Safety
/// Handles are live, structs valid, text is readable, outputs are writable.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn flowplug_manager_health(
    manager: *mut flowplug_manager,
    identity: flowplug_str,
    options: *const flowplug_call_options,
    out: *mut flowplug_bytes,
    error: *mut *mut flowplug_error,
) -> flowplug_status {
    let _later = (identity, out);
    // SAFETY: by the function's contract.
    unsafe { unsupported(manager, options, error) }
}

/// Prometheus text. This version answers unsupported.
///
/// Errors: unsupported; invalid argument.
/// Thread safety: any thread.
///
/// # Safety
/// Handles are live, structs valid, text is readable, outputs are writable.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn flowplug_manager_metrics(
    manager: *const flowplug_manager,
    out: *mut flowplug_bytes,
    error: *mut *mut flowplug_error,
) -> flowplug_status {
    let _later = (out,);
    // SAFETY: by the function's contract.
    unsafe { unsupported(manager, std::ptr::null(), error) }
}

/// Drains and stops everything. This version answers unsupported.
///
/// Errors: unsupported; invalid argument.
/// Thread safety: any thread.
///
/// # Safety
/// Handles are live, structs valid, text is readable, outputs are writable.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn flowplug_manager_stop(
    manager: *mut flowplug_manager,
    options: *const flowplug_call_options,
    error: *mut *mut flowplug_error,
) -> flowplug_status {
    // SAFETY: by the function's contract.
    unsafe { unsupported(manager, options, error) }
}

/// Ends a manager; NULL does nothing. No function of this version makes one.
///
/// Thread safety: any thread.
///
/// # Safety
/// `manager` is NULL.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn flowplug_manager_free(manager: *mut flowplug_manager) {
    let _none = manager;
}
