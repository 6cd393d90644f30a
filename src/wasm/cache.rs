//! Compiled modules on disk, by the digest of the module and everything of the engine that compiling depends on.
//!
//! Whoever can write these files runs code in this process, so a folder that others may touch is not used.
#![expect(unsafe_code, reason = "a precompiled module is machine code, and this is the one place that loads it")]

use std::fs::{DirBuilder, File, Metadata};
use std::hash::{DefaultHasher, Hash, Hasher};
use std::io::Write;
use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};

use wasmtime::{Engine, Module};

/// A folder of compiled modules, owned by this user and closed to all others.
pub(super) struct Cache(PathBuf);

impl Cache {
    /// Uses `folder`, making it with mode 0700 if it is not there; none, with the reason, where it is not ours alone.
    pub(super) fn open(folder: &Path) -> Result<Self, String> {
        let failed =
            |e: std::io::Error| format!("The compile cache {folder:?} cannot be used: {e}. Modules are compiled anew at each load.");
        DirBuilder::new().recursive(true).mode(0o700).create(folder).map_err(failed)?;
        let found = std::fs::symlink_metadata(folder).map_err(failed)?;
        if !found.is_dir() || !is_ours(&found).map_err(failed)? || found.mode() & 0o077 != 0 {
            return Err(format!(
                "The compile cache {folder:?} is not used: it must be a folder of this user with mode 0700, because what is in it is run as code."
            ));
        }
        Ok(Cache(folder.to_owned()))
    }

    /// The compiled module; none if it is not there or cannot be used, and then what is there is removed.
    pub(super) fn get(&self, engine: &Engine, digest: &str) -> Option<Module> {
        let path = self.path(engine, digest);
        let found = std::fs::symlink_metadata(&path).ok()?;
        if !found.is_file() || !is_ours(&found).ok()? {
            return None;
        }
        // SAFETY: the folder belongs to this user and is closed to all others, so the file was written by `put` of this
        // user; it is written under another name and renamed when it is complete, and never changed after.
        let module = unsafe { Module::deserialize_file(engine, &path) };
        if module.is_err() {
            drop(std::fs::remove_file(&path));
        }
        module.ok()
    }

    /// Keeps a compiled module. What fails costs the next load its time and nothing else.
    pub(super) fn put(&self, engine: &Engine, digest: &str, module: &Module) {
        static NUMBER: AtomicU64 = AtomicU64::new(0);
        let path = self.path(engine, digest);
        let unfinished = self.0.join(format!(".{}-{}.tmp", std::process::id(), NUMBER.fetch_add(1, Ordering::Relaxed)));
        let write = || -> std::io::Result<()> {
            let code = module.serialize().map_err(|e| std::io::Error::other(format!("{e:#}")))?;
            let mut file = File::options().write(true).create_new(true).mode(0o600).open(&unfinished)?;
            file.write_all(&code)?;
            file.sync_all()?;
            std::fs::rename(&unfinished, &path)
        };
        if write().is_err() {
            drop(std::fs::remove_file(&unfinished));
        }
    }

    fn path(&self, engine: &Engine, digest: &str) -> PathBuf {
        let mut hasher = DefaultHasher::new();
        engine.precompile_compatibility_hash().hash(&mut hasher);
        self.0.join(format!("{digest}-{:016x}.cwasm", hasher.finish()))
    }
}

/// Whether a file or folder belongs to the user that this process runs as.
fn is_ours(found: &Metadata) -> std::io::Result<bool> {
    Ok(found.uid() == std::fs::metadata("/proc/self")?.uid())
}
