//! From a file to a compiled module: its size, digest and functions are checked first, and compiling is bounded.

use std::fmt::Write;
use std::io::Read;
use std::path::Path;
use std::sync::{Arc, Condvar, Mutex, PoisonError, mpsc};
use std::task::Waker;

use sha2::{Digest, Sha256};
use wasmtime::{Engine, Module};

use super::cache::Cache;
use crate::call::{self, Cancel, Deadline};
use crate::error::{Error, Kind, Result, clean};
use crate::host::PluginContext;
use crate::manifest::Manifest;
use crate::policy::Grants;
use crate::sys;

/// A module as it was read: its bytes and their SHA-256 in lower-case hex.
pub(super) struct Artifact {
    bytes: Vec<u8>,
    pub(super) digest: String,
}

/// Reads the module that the manifest names; refuses what is too large before it is read, and what has another digest.
pub(super) fn read(manifest: &Manifest, grants: &Grants) -> Result<Artifact> {
    let Some(config) = &manifest.wasm else {
        return Err(Error::new(Kind::InvalidManifest, "The manifest has no wasm section. Add it, or set another runtime."));
    };
    let path = manifest.base_dir().join(&config.module);
    let bytes = read_bounded(&path, grants.module_size)?;
    let mut digest = String::with_capacity(64);
    for byte in Sha256::digest(&bytes) {
        write!(digest, "{byte:02x}").map_err(|e| Error::new(Kind::Internal, e.to_string()))?;
    }
    if let Some(expected) = config.sha256.as_deref().filter(|expected| !expected.eq_ignore_ascii_case(&digest)) {
        return Err(Error::new(
            Kind::LoadFailed,
            format!(
                "The module {path:?} has the SHA-256 {digest}, and the manifest (wasm.sha256) expects {expected}. Fetch the module again, or correct the manifest."
            ),
        ));
    }
    Ok(Artifact { bytes, digest })
}

fn read_bounded(path: &Path, max: u64) -> Result<Vec<u8>> {
    let failed = |e: std::io::Error| Error::new(Kind::LoadFailed, format!("The module {path:?} (wasm.module) cannot be read: {e}."));
    // Asked before it is opened: opening a FIFO would wait for a writer.
    let found = std::fs::metadata(path).map_err(failed)?;
    if !found.is_file() {
        return Err(Error::new(Kind::LoadFailed, format!("The module {path:?} (wasm.module) is not a regular file.")));
    }
    let mut bytes = Vec::new();
    let mut file = std::fs::File::open(path).map_err(failed)?.take(max.saturating_add(1));
    if found.len() <= max {
        file.read_to_end(&mut bytes).map_err(failed)?;
    }
    if found.len() > max || bytes.len() as u64 > max {
        return Err(Error::new(
            Kind::PermissionDenied,
            format!(
                "The module {path:?} has {} bytes; the policy grants {max} (module_size). Raise it to load this module.",
                found.len().max(max + 1)
            ),
        ));
    }
    Ok(bytes)
}

/// Compiles the module on a thread that is left behind if the deadline passes or the call is cancelled first.
pub(super) fn compile(
    engine: &Engine,
    artifact: Artifact,
    context: &PluginContext,
    cache: Option<Cache>,
    deadline: &Deadline,
    cancel: Option<&Cancel>,
) -> Result<Module> {
    check_functions(&artifact.bytes, context.grants().module_functions)?;
    if let Some(module) = cache.as_ref().and_then(|cache| cache.get(engine, &artifact.digest)) {
        return Ok(module);
    }
    let cancels = [cancel, Some(&context.ending)];
    let permit = Permit::take(deadline, &cancels)?;
    let (sender, receiver) = mpsc::channel();
    let waker: Arc<Mutex<Option<Waker>>> = Arc::default();
    let (engine, wake) = (engine.clone(), WakeAtEnd(Arc::clone(&waker)));
    let work = move || {
        // Declared first, so dropped last, also if the compiler panics: whoever is woken finds the answer or its absence.
        let _wake = wake;
        let (_permit, sender) = (permit, sender);
        sys::block_signals();
        let compiled = Module::from_binary(&engine, &artifact.bytes);
        if let (Ok(module), Some(cache)) = (&compiled, cache) {
            cache.put(&engine, &artifact.digest, module);
        }
        drop(sender.send(compiled));
    };
    std::thread::Builder::new().name("flowplug-compile".to_owned()).stack_size(sys::STACK_SIZE).spawn(work).map_err(|e| {
        Error::new(Kind::Io, format!("The system refused a thread to compile the module: {e}. Check the limit on processes."))
    })?;
    let arm = |w| *waker.lock().unwrap_or_else(PoisonError::into_inner) = Some(w);
    let answer = || match receiver.try_recv() {
        Ok(compiled) => Some(Some(compiled)),
        Err(mpsc::TryRecvError::Disconnected) => Some(None),
        Err(mpsc::TryRecvError::Empty) => None,
    };
    match call::wait(deadline, &cancels, arm, answer)? {
        Some(compiled) => compiled.map_err(|e| invalid(&e)),
        None => Err(Error::new(Kind::LoadFailed, "The compiler failed on this module.")),
    }
}

/// Wakes who waits for the compiler when its thread ends.
struct WakeAtEnd(Arc<Mutex<Option<Waker>>>);

impl Drop for WakeAtEnd {
    fn drop(&mut self) {
        if let Some(waker) = self.0.lock().unwrap_or_else(PoisonError::into_inner).take() {
            waker.wake();
        }
    }
}

fn invalid(error: &wasmtime::Error) -> Error {
    let text = clean(&format!("{error:#}"), 1000);
    Error::new(
        Kind::LoadFailed,
        format!("The module is not valid WebAssembly for this host (core modules of wasm32, without threads, memory64 and GC): {text}."),
    )
}

/// Counts the functions of a binary module before anything is compiled; whatever is malformed is left to the compiler.
fn check_functions(bytes: &[u8], max: u64) -> Result<()> {
    let mut rest = bytes.get(8..).unwrap_or_default();
    while let Some((&id, after)) = rest.split_first() {
        let Some((size, after)) = number(after) else { return Ok(()) };
        let Some(content) = after.get(..size as usize) else { return Ok(()) };
        if id == 3
            && let Some((count, _)) = number(content)
            && u64::from(count) > max
        {
            let text =
                format!("The module has {count} functions; the policy grants {max} (module_functions). Raise it to load this module.");
            return Err(Error::new(Kind::PermissionDenied, text));
        }
        rest = after.get(size as usize..).unwrap_or_default();
    }
    Ok(())
}

/// An unsigned LEB128 of 32 bits, and what follows it.
fn number(bytes: &[u8]) -> Option<(u32, &[u8])> {
    let mut value = 0u64;
    for (place, byte) in bytes.iter().enumerate().take(5) {
        value |= u64::from(byte & 0x7f) << (7 * place);
        if byte & 0x80 == 0 {
            return Some((u32::try_from(value).ok()?, bytes.get(place + 1..)?));
        }
    }
    None
}

/// One of the few compilations that may run at once; those left behind count until they end.
struct Permit;

struct Running {
    count: Mutex<usize>,
    freed: Condvar,
}

static RUNNING: Running = Running { count: Mutex::new(0), freed: Condvar::new() };

impl Permit {
    fn take(deadline: &Deadline, cancels: &[Option<&Cancel>]) -> Result<Self> {
        let most = std::thread::available_parallelism().map_or(2, |n| n.get().max(2));
        let mut count = RUNNING.count.lock().unwrap_or_else(PoisonError::into_inner);
        while *count >= most {
            call::check(deadline, cancels)?;
            // Short, so that a cancel is seen: compiling takes far longer.
            let step = deadline.remaining().unwrap_or(std::time::Duration::MAX).min(std::time::Duration::from_millis(5));
            count = RUNNING.freed.wait_timeout(count, step).unwrap_or_else(PoisonError::into_inner).0;
        }
        *count += 1;
        Ok(Permit)
    }
}

impl Drop for Permit {
    fn drop(&mut self) {
        *RUNNING.count.lock().unwrap_or_else(PoisonError::into_inner) -= 1;
        RUNNING.freed.notify_one();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn functions_are_counted_before_anything_is_compiled() {
        let module = wat::parse_str(format!("(module {})", "(func)".repeat(300))).unwrap();
        check_functions(&module, 300).unwrap();
        assert_eq!(check_functions(&module, 299).unwrap_err().kind(), Kind::PermissionDenied);
        for garbage in [&b""[..], b"\0asm", b"\0asm\x01\0\0\0\x03\xff\xff\xff\xff\xff", b"\0asm\x01\0\0\0\x03\x05\x01"] {
            check_functions(garbage, 0).unwrap();
        }
    }

    #[test]
    fn a_file_is_bounded_before_it_is_read() {
        let path = std::env::temp_dir().join(format!("flowplug-compile-{}", std::process::id()));
        std::fs::write(&path, b"12345").unwrap();
        assert_eq!(read_bounded(&path, 5).unwrap(), b"12345");
        assert_eq!(read_bounded(&path, 4).unwrap_err().kind(), Kind::PermissionDenied);
        std::fs::remove_file(&path).unwrap();
        assert_eq!(read_bounded(&path, 4).unwrap_err().kind(), Kind::LoadFailed);
        assert_eq!(read_bounded(Path::new("/dev/zero"), 4).unwrap_err().kind(), Kind::LoadFailed);
    }
}
