//! The module's file: bounded before it is read, its digest checked against the manifest's.
//!
//! A file that has not changed since it was last hashed is not hashed again. That can only mean that a change goes
//! unnoticed, never that something else runs: what is compiled is hashed as it is read, and kept under that digest.

use std::collections::HashMap;
use std::fs::{File, Metadata};
use std::io::{ErrorKind, Read, Seek};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::{LazyLock, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, SystemTime};

use sha2::{Digest, Sha256};

use crate::error::{Error, Kind, Result};
use crate::manifest::Manifest;
use crate::policy::Grants;
use crate::sys;

/// How much is read at a time: what the processor's cache holds while it is hashed.
const CHUNK: usize = 128 << 10;
/// A file that was changed less than this ago is hashed at each load: its next change might carry the same time.
const SETTLED: Duration = Duration::from_secs(3);
/// Files whose digests are remembered.
const REMEMBERED: usize = 1024;

/// A module that was found, open and hashed.
pub(super) struct Artifact {
    file: File,
    path: PathBuf,
    identity: Identity,
    /// SHA-256 in lower-case hex.
    pub(super) digest: String,
}

/// What changes when a file does. The time of the last change of any kind cannot be set by a program.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) struct Identity {
    pub(super) device: u64,
    pub(super) inode: u64,
    pub(super) size: u64,
    pub(super) changed: (i64, i64),
}

impl Identity {
    pub(super) fn of(found: &Metadata) -> Self {
        Identity { device: found.dev(), inode: found.ino(), size: found.len(), changed: (found.ctime(), found.ctime_nsec()) }
    }

    /// Whether the next change would have another time, as coarse as a file system's clock may be.
    pub(super) fn is_settled(&self) -> bool {
        let changed = u64::try_from(self.changed.0).unwrap_or(u64::MAX);
        let then = SystemTime::UNIX_EPOCH.checked_add(Duration::from_secs(changed)).and_then(|then| then.checked_add(SETTLED));
        then.is_some_and(|then| then < SystemTime::now())
    }
}

/// Opens the module that the manifest names; refuses what is too large before it is read, and what has another digest.
pub(super) fn open(manifest: &Manifest, grants: &Grants) -> Result<Artifact> {
    let Some(config) = &manifest.wasm else {
        return Err(Error::new(Kind::InvalidManifest, "The manifest has no wasm section. Add it, or set another runtime."));
    };
    let path = manifest.base_dir().join(&config.module);
    // An error then says where it was looked for, also where the folder is the working directory.
    let artifact = hashed(std::path::absolute(&path).unwrap_or(path), grants.module_size)?;
    if let Some(expected) = config.sha256.as_deref().filter(|expected| !expected.eq_ignore_ascii_case(&artifact.digest)) {
        return Err(Error::new(
            Kind::LoadFailed,
            format!(
                "The module {:?} has the SHA-256 {}, and the manifest (wasm.sha256) expects {expected}. Fetch the module again, or correct the manifest.",
                artifact.path, artifact.digest
            ),
        ));
    }
    Ok(artifact)
}

fn hashed(path: PathBuf, max: u64) -> Result<Artifact> {
    let mut file = sys::open_regular(&path).map_err(|e| unreadable(&path, &e))?;
    let now = |file: &File| file.metadata().map(|found| Identity::of(&found));
    let identity = now(&file).map_err(|e| unreadable(&path, &e))?;
    if identity.size > max {
        return Err(too_large(&path, identity.size, max));
    }
    if let Some(digest) = digests().get(&identity).cloned() {
        return Ok(Artifact { file, path, identity, digest });
    }
    let settled = identity.is_settled();
    let (mut hasher, mut read) = (Sha256::new(), 0);
    each_chunk(&mut file, |chunk| {
        hasher.update(chunk);
        read += chunk.len() as u64;
        read <= max
    })
    .map_err(|e| unreadable(&path, &e))?;
    if read > max {
        return Err(too_large(&path, read, max));
    }
    let digest = hex(&hasher.finalize());
    if settled && now(&file).is_ok_and(|then| then == identity) {
        remember(identity, &digest);
    }
    Ok(Artifact { file, path, identity, digest })
}

impl Artifact {
    /// The bytes that have this digest.
    pub(super) fn bytes(&self) -> Result<Vec<u8>> {
        let mut bytes = Vec::with_capacity(usize::try_from(self.identity.size).unwrap_or_default());
        let mut file = &self.file;
        // No more than was granted: what has another length has another digest.
        let read = file.rewind().and_then(|()| file.take(self.identity.size.saturating_add(1)).read_to_end(&mut bytes));
        read.map_err(|e| unreadable(&self.path, &e))?;
        if hex(&Sha256::digest(&bytes)) == self.digest {
            return Ok(bytes);
        }
        digests().remove(&self.identity);
        Err(Error::new(Kind::LoadFailed, format!("The module {:?} was changed while it was loaded. Load it again.", self.path)))
    }
}

/// Reads a file to its end, or until `take` has enough.
pub(super) fn each_chunk(file: &mut File, mut take: impl FnMut(&[u8]) -> bool) -> std::io::Result<()> {
    let mut buffer = vec![0; CHUNK];
    loop {
        match file.read(&mut buffer) {
            Ok(0) => return Ok(()),
            Ok(read) if !take(buffer.get(..read).unwrap_or_default()) => return Ok(()),
            Err(e) if e.kind() != ErrorKind::Interrupted => return Err(e),
            _ => {}
        }
    }
}

/// Bytes as lower-case hex.
pub(super) fn hex(bytes: &[u8]) -> String {
    bytes.iter().flat_map(|byte| [byte >> 4, byte & 15]).filter_map(|half| char::from_digit(half.into(), 16)).collect()
}

fn digests() -> MutexGuard<'static, HashMap<Identity, String>> {
    static DIGESTS: LazyLock<Mutex<HashMap<Identity, String>>> = LazyLock::new(Mutex::default);
    DIGESTS.lock().unwrap_or_else(PoisonError::into_inner)
}

fn remember(identity: Identity, digest: &str) {
    let mut digests = digests();
    if digests.len() >= REMEMBERED {
        digests.clear();
    }
    digests.insert(identity, digest.to_owned());
}

fn unreadable(path: &Path, error: &std::io::Error) -> Error {
    let what = match error.kind() {
        ErrorKind::NotFound => "does not exist; build the plugin, or correct wasm.module".to_owned(),
        _ => format!("(wasm.module) cannot be read: {error}"),
    };
    Error::new(Kind::LoadFailed, format!("The module {path:?} {what}."))
}

fn too_large(path: &Path, size: u64, max: u64) -> Error {
    Error::new(
        Kind::PermissionDenied,
        format!("The module {path:?} has {size} bytes; the policy grants {max} (module_size). Raise it to load this module."),
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    fn file(name: &str) -> PathBuf {
        std::env::temp_dir().join(format!("flowplug-artifact-{name}-{}", std::process::id()))
    }

    #[test]
    fn a_file_is_bounded_before_it_is_read() {
        let path = file("bounded");
        std::fs::write(&path, b"12345").unwrap();
        let digest = "5994471abb01112afcc18159f6cc74b4f511b99806da59b3caf5a9c173cacfc5";
        let artifact = hashed(path.clone(), 5).unwrap();
        assert_eq!((artifact.digest.as_str(), artifact.bytes().unwrap()), (digest, b"12345".to_vec()));
        let kind = |path: &Path, max| hashed(path.to_owned(), max).err().unwrap().kind();
        assert_eq!(kind(&path, 4), Kind::PermissionDenied);
        std::fs::remove_file(&path).unwrap();
        assert_eq!(kind(&path, 4), Kind::LoadFailed);
        assert_eq!(kind(Path::new("/dev/zero"), 4), Kind::LoadFailed);
        // It says that it has no bytes.
        assert_eq!(kind(Path::new("/proc/self/status"), 4), Kind::PermissionDenied);
    }

    #[test]
    fn a_fresh_file_is_hashed_each_time_and_one_that_changed_is_never_taken_for_the_old() {
        let path = file("changed");
        std::fs::write(&path, b"one").unwrap();
        let one = hashed(path.clone(), 9).unwrap();
        assert!(!one.identity.is_settled() && !digests().contains_key(&one.identity));
        let old = Identity { changed: (one.identity.changed.0 - 60, 0), ..one.identity };
        assert!(old.is_settled());
        std::fs::write(&path, b"two").unwrap();
        assert_ne!(hashed(path.clone(), 9).unwrap().digest, one.digest);
        assert!(one.bytes().unwrap_err().message().contains("was changed"));
        std::fs::remove_file(&path).unwrap();
    }

    #[test]
    fn a_remembered_digest_is_used_and_forgotten_where_it_is_wrong() {
        let path = file("remembered");
        std::fs::write(&path, b"content").unwrap();
        let identity = Identity::of(&std::fs::metadata(&path).unwrap());
        remember(identity, "a digest of other content");
        let artifact = hashed(path.clone(), 9).unwrap();
        assert_eq!(artifact.digest, "a digest of other content");
        assert_eq!(artifact.bytes().unwrap_err().kind(), Kind::LoadFailed);
        assert_eq!(hashed(path.clone(), 9).unwrap().bytes().unwrap(), b"content");
        std::fs::remove_file(&path).unwrap();
    }
}
