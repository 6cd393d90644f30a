//! Manifests as C sees them.

use std::ffi::{CString, c_char};
use std::path::Path;
use std::sync::{Arc, LazyLock};

use crate::ffi::call::{call_of, flowplug_call_options};
use crate::ffi::error::flowplug_error;
use crate::ffi::flowplug_status;
use crate::ffi::guard::{free, guard};
use crate::ffi::text::{Out, Versioned, flowplug_bytes, flowplug_str, handle, read};
use crate::manifest::{self, Manifest};

/// A parsed manifest that can be used; ended with flowplug_manifest_free. Immutable.
#[derive(Debug)]
pub struct flowplug_manifest {
    pub(crate) manifest: Arc<Manifest>,
}

/// How a manifest is read. Start from FLOWPLUG_MANIFEST_OPTIONS_INIT.
#[repr(C)]
#[derive(Clone, Copy, Debug)]
pub struct flowplug_manifest_options {
    /// sizeof(flowplug_manifest_options).
    pub struct_size: usize,
    /// The folder that relative paths start from; empty: the working directory. Ignored where a file is read.
    pub base_dir: flowplug_str,
    /// Not 0: unknown fields are errors, not warnings.
    pub strict: i32,
}

// SAFETY: repr(C), starts with its size, pointers and numbers alone.
unsafe impl Versioned for flowplug_manifest_options {}

/// Parses a plugin.yaml (or the same as JSON). options may be NULL. The manifest is ended with flowplug_manifest_free.
///
/// Errors: invalid manifest, with every problem in the message and in the details; invalid argument.
/// Thread safety: any thread.
///
/// # Safety
/// `yaml` is readable, `options` is NULL or valid, `out` is writable, `error` is NULL or writable.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn flowplug_manifest_parse(
    yaml: flowplug_str,
    options: *const flowplug_manifest_options,
    out: *mut *mut flowplug_manifest,
    error: *mut *mut flowplug_error,
) -> flowplug_status {
    let body = || {
        // SAFETY: by the function's contract.
        let out = unsafe { Out::new(out, "out") }?;
        // SAFETY: by the function's contract.
        let yaml = unsafe { yaml.text("yaml") }?;
        // SAFETY: by the function's contract.
        let options = unsafe { read(options, "flowplug_manifest_options") }?;
        // SAFETY: by the function's contract.
        let base_dir = unsafe { options.map_or(flowplug_str::empty(), |o| o.base_dir).text("base_dir") }?;
        let manifest = Manifest::parse(yaml.as_bytes(), Path::new(base_dir), options.is_some_and(|o| o.strict != 0))?;
        out.write(Box::into_raw(Box::new(flowplug_manifest { manifest: Arc::new(manifest) })));
        Ok(())
    };
    // SAFETY: by the function's contract.
    unsafe { guard(error, body) }
}

/// Reads a manifest: path is the file, or a folder with a plugin.yaml. Its folder is where relative paths start.
///
/// Errors: as flowplug_manifest_parse; io, if it cannot be read.
/// Thread safety: any thread.
///
/// # Safety
/// `path` is readable, `options` is NULL or valid, `out` is writable, `error` is NULL or writable.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn flowplug_manifest_read(
    path: flowplug_str,
    options: *const flowplug_manifest_options,
    out: *mut *mut flowplug_manifest,
    error: *mut *mut flowplug_error,
) -> flowplug_status {
    let body = || {
        // SAFETY: by the function's contract.
        let out = unsafe { Out::new(out, "out") }?;
        // SAFETY: by the function's contract.
        let path = unsafe { path.text("path") }?;
        // SAFETY: by the function's contract.
        let options = unsafe { read(options, "flowplug_manifest_options") }?;
        let manifest = Manifest::read(Path::new(path), options.is_some_and(|o| o.strict != 0))?;
        out.write(Box::into_raw(Box::new(flowplug_manifest { manifest: Arc::new(manifest) })));
        Ok(())
    };
    // SAFETY: by the function's contract.
    unsafe { guard(error, body) }
}

/// The manifest as a JSON object under the file's field names, defaults filled in. Freed with flowplug_bytes_free.
///
/// Errors: invalid argument.
/// Thread safety: any thread, several at once.
///
/// # Safety
/// `manifest` is live, `out` is writable, `error` is NULL or writable.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn flowplug_manifest_json(
    manifest: *const flowplug_manifest,
    out: *mut flowplug_bytes,
    error: *mut *mut flowplug_error,
) -> flowplug_status {
    let body = || {
        // SAFETY: by the function's contract.
        let manifest = unsafe { handle(manifest, "manifest") }?;
        // SAFETY: by the function's contract.
        let out = unsafe { Out::new(out, "out") }?;
        out.write(flowplug_bytes::owned(manifest.manifest.to_json().to_string().as_bytes()));
        Ok(())
    };
    // SAFETY: by the function's contract.
    unsafe { guard(error, body) }
}

/// What was odd but no error, unknown fields above all: a JSON list of sentences. Freed with flowplug_bytes_free.
///
/// Errors: invalid argument.
/// Thread safety: any thread, several at once.
///
/// # Safety
/// `manifest` is live, `out` is writable, `error` is NULL or writable.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn flowplug_manifest_warnings(
    manifest: *const flowplug_manifest,
    out: *mut flowplug_bytes,
    error: *mut *mut flowplug_error,
) -> flowplug_status {
    let body = || {
        // SAFETY: by the function's contract.
        let manifest = unsafe { handle(manifest, "manifest") }?;
        // SAFETY: by the function's contract.
        let out = unsafe { Out::new(out, "out") }?;
        let warnings = serde_json::Value::from(manifest.manifest.warnings());
        out.write(flowplug_bytes::owned(warnings.to_string().as_bytes()));
        Ok(())
    };
    // SAFETY: by the function's contract.
    unsafe { guard(error, body) }
}

/// Checks a config, JSON text, against the manifest's config_schema; empty is an absent config.
///
/// Errors: invalid config, with every violation in the details; timeout; invalid argument.
/// Thread safety: any thread, several at once.
///
/// # Safety
/// `manifest` is live, `config` is readable, `options` is NULL or valid, `error` is NULL or writable.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn flowplug_manifest_validate_config(
    manifest: *const flowplug_manifest,
    config: flowplug_str,
    options: *const flowplug_call_options,
    error: *mut *mut flowplug_error,
) -> flowplug_status {
    let body = || {
        // SAFETY: by the function's contract.
        let manifest = unsafe { handle(manifest, "manifest") }?;
        // SAFETY: by the function's contract.
        let config = unsafe { config.text("config") }?;
        // SAFETY: by the function's contract.
        let call = unsafe { call_of(options) }?;
        manifest.manifest.validate_config(config.as_bytes(), &call.deadline).map(drop)
    };
    // SAFETY: by the function's contract.
    unsafe { guard(error, body) }
}

/// Puts the defaults of the manifest's config_schema into a config, JSON text, where it lacks them, and checks the outcome;
/// empty is an absent config, which starts as the schema's own default, or as {} where its type is object. The filled config
/// is JSON text, freed with flowplug_bytes_free; what was given keeps its text. Defaults are taken from properties, items,
/// prefixItems, additionalProperties, allOf and local $refs, never from anyOf, oneOf, if or patterns.
///
/// Errors: invalid config, with every violation in the details, or where the defaults would add more than 1 MiB; timeout;
/// busy; invalid argument.
/// Thread safety: any thread, several at once.
///
/// # Safety
/// `manifest` is live, `config` is readable, `options` is NULL or valid, `out` is writable, `error` is NULL or writable.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn flowplug_manifest_fill_config(
    manifest: *const flowplug_manifest,
    config: flowplug_str,
    options: *const flowplug_call_options,
    out: *mut flowplug_bytes,
    error: *mut *mut flowplug_error,
) -> flowplug_status {
    let body = || {
        // SAFETY: by the function's contract.
        let manifest = unsafe { handle(manifest, "manifest") }?;
        // SAFETY: by the function's contract.
        let config = unsafe { config.text("config") }?;
        // SAFETY: by the function's contract.
        let call = unsafe { call_of(options) }?;
        // SAFETY: by the function's contract.
        let out = unsafe { Out::new(out, "out") }?;
        let filled = manifest.manifest.fill_config(config.as_bytes(), &call.deadline)?;
        out.write(flowplug_bytes::owned(filled.as_bytes()));
        Ok(())
    };
    // SAFETY: by the function's contract.
    unsafe { guard(error, body) }
}

/// The JSON Schema (draft 2020-12) of plugin.yaml, for editors and for checks of one's own. Static, NUL-terminated, never
/// freed.
///
/// Thread safety: any thread, any time.
#[unsafe(no_mangle)]
pub extern "C" fn flowplug_manifest_schema() -> *const c_char {
    static TEXT: LazyLock<CString> = LazyLock::new(|| static_text(&manifest::schema()));
    TEXT.as_ptr()
}

/// JSON never holds a NUL.
pub(crate) fn static_text(value: &serde_json::Value) -> CString {
    CString::new(value.to_string()).unwrap_or_default()
}

/// Ends a manifest; NULL does nothing. Plugins loaded from it go on.
///
/// Thread safety: any thread; once.
///
/// # Safety
/// `manifest` is NULL or a live manifest that is not used after.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn flowplug_manifest_free(manifest: *mut flowplug_manifest) {
    // SAFETY: manifests are handed out by Box::into_raw; the rest is this function's contract.
    unsafe { free(manifest, drop) };
}
