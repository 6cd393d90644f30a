//! Functions of plugins as C sees them: resolved once, called the fast way.

use std::sync::Arc;

use crate::call::Sink;
use crate::ffi::call::{call_of, flowplug_call_options};
use crate::ffi::error::flowplug_error;
use crate::ffi::flowplug_status;
use crate::ffi::guard::{guard, guard_value};
use crate::ffi::pin::{Pinned, end, enter};
use crate::ffi::plugin::{flowplug_plugin, plugin_of};
use crate::ffi::text::{Out, Owned, argument, flowplug_bytes, flowplug_str};
use crate::plugin::{Plugin, Resolved};

/// A function of a plugin, resolved once; ended with flowplug_function_free. Any number of threads may use it at once.
#[derive(Debug)]
pub struct flowplug_function {
    plugin: Arc<Plugin>,
    resolved: Resolved,
}

impl Pinned for flowplug_function {
    fn plugin(&self) -> &Plugin {
        &self.plugin
    }
}

/// Resolves a function of a plugin once. It is valid across reloads, and ended with flowplug_function_free.
///
/// Errors: unknown function, not found (the manifest does not provide it), invalid argument.
/// Thread safety: any thread.
///
/// # Safety
/// `plugin` is live, text is readable, `out` is writable, `error` is NULL or writable.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn flowplug_function_new(
    plugin: *mut flowplug_plugin,
    function: flowplug_str,
    out: *mut *mut flowplug_function,
    error: *mut *mut flowplug_error,
) -> flowplug_status {
    let body = || {
        // SAFETY: by the function's contract.
        let plugin = unsafe { plugin_of(plugin) }?;
        // SAFETY: by the function's contract.
        let out = unsafe { Out::new(out, "out") }?;
        // SAFETY: by the function's contract.
        let name = unsafe { function.text("function") }?;
        let resolved = plugin.resolve(name)?;
        out.write(Box::into_raw(Box::new(flowplug_function { plugin, resolved })));
        Ok(())
    };
    // SAFETY: by the function's contract.
    unsafe { guard(error, body) }
}

/// Calls a resolved function on this thread: the fast way. The result goes into buf if it fits its cap bytes (then
/// out->ptr == buf and nothing need be freed), else it is owned and freed with flowplug_bytes_free. buf may be NULL with cap 0
/// and must not overlap params.
///
/// Errors: as flowplug_plugin_call.
/// Thread safety: any thread, several at once, each with a buffer of its own.
///
/// # Safety
/// `function` is live, text is readable, `options` is NULL or valid, `buf` has `cap` writable bytes, `out` is writable,
/// `error` is NULL or writable.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn flowplug_function_call(
    function: *mut flowplug_function,
    params: flowplug_str,
    options: *const flowplug_call_options,
    buf: *mut u8,
    cap: usize,
    out: *mut flowplug_bytes,
    error: *mut *mut flowplug_error,
) -> flowplug_status {
    let body = || {
        if buf.is_null() && cap > 0 {
            return Err(argument(format!("buf is NULL with a cap of {cap}.")));
        }
        // SAFETY: by the function's contract.
        let (function, entered) = unsafe { enter(function, "function") }?;
        // SAFETY: by the function's contract.
        let out = unsafe { Out::new(out, "out") }?;
        // SAFETY: by the function's contract.
        let call = unsafe { call_of(options) }?;
        // SAFETY: by the function's contract.
        let params = unsafe { params.text("params") }?;
        let mut answer = Buffer { buf, cap, len: 0, owned: Owned::new() };
        entered.call_resolved(&function.resolved, params.as_bytes(), &call, &mut answer)?;
        out.write(answer.take());
        Ok(())
    };
    // SAFETY: by the function's contract.
    unsafe { guard(error, body) }
}

/// Which runtime answers the function's calls at this moment: FLOWPLUG_RUNTIME_WASM, on the thread that calls, or
/// FLOWPLUG_RUNTIME_GRPC, in a process, which the thread waits for; -1 for NULL. A reload may change it.
///
/// Thread safety: any thread.
///
/// # Safety
/// `function` is NULL or live.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn flowplug_function_runtime(function: *const flowplug_function) -> i32 {
    // SAFETY: by the function's contract.
    guard_value(-1, || unsafe { function.as_ref() }.map_or(-1, |f| i32::from(f.plugin.is_process())))
}

/// An answer that goes into the caller's buffer if it fits.
struct Buffer {
    buf: *mut u8,
    cap: usize,
    len: usize,
    owned: Owned,
}

// SAFETY: the caller's buffer is any thread's to write to while the call lasts.
unsafe impl Send for Buffer {}

impl Sink for Buffer {
    fn put(&mut self, json: &[u8]) {
        if json.len() > self.cap {
            self.owned.put(json);
            return;
        }
        // SAFETY: the caller's buffer has cap writable bytes, json fits, and memory of the library does not overlap it.
        unsafe { self.buf.copy_from_nonoverlapping(json.as_ptr(), json.len()) };
        self.len = json.len();
    }
}

impl Buffer {
    fn take(self) -> flowplug_bytes {
        if self.owned.0.owner.is_null() {
            return flowplug_bytes { ptr: self.buf, len: self.len, owner: std::ptr::null_mut() };
        }
        self.owned.take()
    }
}

/// Ends a function; NULL does nothing. Calls in progress go on.
///
/// Thread safety: any thread, also inside a callback; once.
///
/// # Safety
/// `function` is NULL or live and not used after.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn flowplug_function_free(function: *mut flowplug_function) {
    // SAFETY: functions are handed out by Box::into_raw; the rest is this function's contract.
    unsafe { end(function) };
}
