//! The policy as C sees it: what would be granted, and its schema.

use std::ffi::{CString, c_char};
use std::sync::LazyLock;

use crate::ffi::error::flowplug_error;
use crate::ffi::flowplug_status;
use crate::ffi::guard::guard;
use crate::ffi::host::flowplug_host;
use crate::ffi::manifest::{flowplug_manifest, static_text};
use crate::ffi::plugin::{flowplug_plugin_options, own_policy};
use crate::ffi::text::{Out, flowplug_bytes, flowplug_str, handle, read};
use crate::plugin::Plugin;
use crate::policy;

/// What flowplug_plugin_load would grant to a manifest under this identity, without loading anything: a JSON object,
/// {"allowed": bool, "identity", "runtime", "requests": [{"field", "what", "asked", "granted", "allowed", "rule", "grant"?}],
/// "granted": {}}, also where something is denied. "grant" is the line of the policy that would grant it. Of plugin_options,
/// which may be NULL, the policy alone counts; nothing is registered, and destroy does not run. No audit event is made.
/// Freed with flowplug_bytes_free.
///
/// Errors: invalid config, in the policy of plugin_options; invalid state; invalid argument.
/// Thread safety: any thread.
///
/// # Safety
/// Handles are live, structs valid, text is readable, `out` is writable, `error` is NULL or writable.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn flowplug_host_admit(
    host: *mut flowplug_host,
    manifest: *const flowplug_manifest,
    identity: flowplug_str,
    plugin_options: *const flowplug_plugin_options,
    out: *mut flowplug_bytes,
    error: *mut *mut flowplug_error,
) -> flowplug_status {
    let body = || {
        // SAFETY: by the function's contract.
        let own = unsafe { read(plugin_options, "flowplug_plugin_options") }?;
        // SAFETY: by the function's contract.
        let host = unsafe { handle(host, "host") }?.inner.clone();
        // SAFETY: by the function's contract.
        let manifest = unsafe { handle(manifest, "manifest") }?;
        // SAFETY: by the function's contract.
        let identity = unsafe { identity.text("identity") }?;
        // SAFETY: by the function's contract.
        let out = unsafe { Out::new(out, "out") }?;
        // SAFETY: by the function's contract.
        let own_policy = unsafe { own_policy(own.as_ref()) }?;
        let policy = own_policy.as_ref().unwrap_or(&host.policy);
        let admission = Plugin::admit(&host.environment, policy, identity, &manifest.manifest)?;
        out.write(flowplug_bytes::owned(admission.to_json().to_string().as_bytes()));
        Ok(())
    };
    // SAFETY: by the function's contract.
    unsafe { guard(error, body) }
}

/// The JSON Schema (draft 2020-12) of a policy, for editors and for checks of one's own. Static, NUL-terminated, never freed.
///
/// Thread safety: any thread, any time.
#[unsafe(no_mangle)]
pub extern "C" fn flowplug_policy_schema() -> *const c_char {
    static TEXT: LazyLock<CString> = LazyLock::new(|| static_text(&policy::schema()));
    TEXT.as_ptr()
}
