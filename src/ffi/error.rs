//! Errors as C sees them: owned objects, readable from any thread.

use crate::error::{Error, Kind};
use crate::ffi::guard::{free, guard_value};
use crate::ffi::text::flowplug_str;
use crate::ffi::{flowplug_status, status_of};

/// What went wrong; owned by whoever got it, ended with flowplug_error_free.
#[derive(Debug)]
pub struct flowplug_error {
    error: Error,
    details: String,
}

impl flowplug_error {
    pub(crate) fn new(error: Error) -> Self {
        let details = serde_json::to_string(error.details()).unwrap_or_else(|_| "{}".into());
        flowplug_error { error, details }
    }

    #[cfg(test)]
    pub(crate) fn message(&self) -> &str {
        self.error.message()
    }
}

/// The status of an error; FLOWPLUG_INVALID_ARGUMENT for NULL.
///
/// Thread safety: any thread, several at once.
///
/// # Safety
/// `error` is NULL or an error of this library that is not freed.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn flowplug_error_status(error: *const flowplug_error) -> flowplug_status {
    guard_value(status_of(Kind::Internal), || {
        // SAFETY: by the function's contract.
        unsafe { error.as_ref() }.map_or(status_of(Kind::InvalidArgument), |e| status_of(e.error.kind()))
    })
}

/// A sentence for people; borrowed from the error, empty for NULL.
///
/// Thread safety: any thread, several at once.
///
/// # Safety
/// `error` is NULL or an error of this library that is not freed while the text is used.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn flowplug_error_message(error: *const flowplug_error) -> flowplug_str {
    // SAFETY: by the function's contract.
    unsafe { lent(error, |e| e.error.message()) }
}

/// The identity of the plugin that it concerns, empty if none; borrowed from the error.
///
/// Thread safety: any thread, several at once.
///
/// # Safety
/// `error` is NULL or an error of this library that is not freed while the text is used.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn flowplug_error_plugin(error: *const flowplug_error) -> flowplug_str {
    // SAFETY: by the function's contract.
    unsafe { lent(error, |e| e.error.plugin()) }
}

/// The function that was called, empty if none; borrowed from the error.
///
/// Thread safety: any thread, several at once.
///
/// # Safety
/// `error` is NULL or an error of this library that is not freed while the text is used.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn flowplug_error_function(error: *const flowplug_error) -> flowplug_str {
    // SAFETY: by the function's contract.
    unsafe { lent(error, |e| e.error.function()) }
}

/// The plugin's own text, bounded and cleaned of control characters, empty if it gave none; borrowed from the error.
///
/// Thread safety: any thread, several at once.
///
/// # Safety
/// `error` is NULL or an error of this library that is not freed while the text is used.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn flowplug_error_plugin_message(error: *const flowplug_error) -> flowplug_str {
    // SAFETY: by the function's contract.
    unsafe { lent(error, |e| e.error.plugin_message()) }
}

/// A JSON object with what programs may want to know: "violations", "problems", "backtrace", "exit_status", "stderr",
/// "denied"; borrowed from the error, empty for NULL.
///
/// Thread safety: any thread, several at once.
///
/// # Safety
/// `error` is NULL or an error of this library that is not freed while the text is used.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn flowplug_error_details(error: *const flowplug_error) -> flowplug_str {
    // SAFETY: by the function's contract.
    unsafe { lent(error, |e| &e.details) }
}

/// Ends an error; NULL does nothing.
///
/// Thread safety: any thread; each error once.
///
/// # Safety
/// `error` is NULL or an error of this library that is not used after.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn flowplug_error_free(error: *mut flowplug_error) {
    // SAFETY: errors are handed out by Box::into_raw in the guard; the rest is this function's contract.
    unsafe { free(error, drop) };
}

/// # Safety
/// `error` is NULL or an error that is not freed while the text is used.
unsafe fn lent(error: *const flowplug_error, text: impl FnOnce(&flowplug_error) -> &str) -> flowplug_str {
    guard_value(flowplug_str::empty(), || {
        // SAFETY: by this function's contract.
        unsafe { error.as_ref() }.map_or(flowplug_str::empty(), |e| flowplug_str::lent(text(e).as_bytes()))
    })
}
