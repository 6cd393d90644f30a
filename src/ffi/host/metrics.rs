//! What operators count of a host's plugins.

use crate::ffi::error::flowplug_error;
use crate::ffi::flowplug_status;
use crate::ffi::guard::guard;
use crate::ffi::host::flowplug_host;
use crate::ffi::text::{Out, flowplug_bytes, handle};
use crate::plugin::metrics;

/// What operators count of all plugins of the host that have not been freed, by identity, as Prometheus text (version 0.0.4 of
/// the format): calls, errors by status, durations, reloads, restarts, memory, instances. Serve it as
/// "text/plain; version=0.0.4". Freed with flowplug_bytes_free.
///
/// Errors: invalid state, once the host is closed; invalid argument.
/// Thread safety: any thread, also inside a callback.
///
/// # Safety
/// `host` is live, `out` is writable, `error` is NULL or writable.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn flowplug_host_metrics(
    host: *const flowplug_host,
    out: *mut flowplug_bytes,
    error: *mut *mut flowplug_error,
) -> flowplug_status {
    let body = || {
        // SAFETY: by the function's contract.
        let host = unsafe { handle(host, "host") }?.inner.clone();
        // SAFETY: by the function's contract.
        let out = unsafe { Out::new(out, "out") }?;
        host.environment.check_open()?;
        let plugins = host.environment.plugins_alive();
        let text = metrics::text(plugins.iter().map(|plugin| (plugin.identity().to_owned(), plugin.measures())));
        out.write(flowplug_bytes::owned(text.as_bytes()));
        Ok(())
    };
    // SAFETY: by the function's contract.
    unsafe { guard(error, body) }
}
