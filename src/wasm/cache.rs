//! Compiled modules on disk: each an artifact, as the engine wrote it, and a seal that says what it must be.
//!
//! An artifact is machine code that is run as it is. So the folder must be this user's and closed to all others, and what
//! is in it is believed where its seal holds: the seal names the module, the artifact's SHA-256, and the file that had it
//! (inode, size, time of the last change). A file that is still the one that was sealed is not hashed again, since its
//! time changes with every write, but once: when it was sealed, that time was not yet past. Any other, a copy or one that
//! was written to, is hashed, and replaced if it differs. This holds off accidents (a torn write, a restored backup, an
//! entry under another's name). It does not hold off a program that runs as this user, which could as well write to this
//! process.
//!
//! Any number of processes may use one folder. Files are written under another name and renamed when they are complete.
#![expect(unsafe_code, reason = "a precompiled module is machine code, and this is the one place that loads it")]

use std::fs::{DirBuilder, File, Metadata};
use std::io::{Read, Write};
use std::os::fd::OwnedFd;
use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use sha2::{Digest, Sha256};
use wasmtime::{Engine, Module};

use super::artifact::{Identity, each_chunk, hex};
use crate::sys;

/// The most bytes of a seal.
const SEAL_MAX: u64 = 1024;
/// What nobody sealed or renamed for this long belongs to nobody any more.
const LEFT_BEHIND: Duration = Duration::from_secs(3600);
/// How old the mark of the last use may get before it is set again.
const MARKED: Duration = Duration::from_secs(60);

/// A folder of compiled modules, owned by this user and closed to all others.
#[derive(Clone)]
pub(super) struct Cache {
    /// Held open: what is at the folder's path may be moved, this one stays.
    folder: Arc<OwnedFd>,
    /// Bytes.
    max: u64,
}

/// What a seal says.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Seal {
    /// The entry that it belongs to.
    name: String,
    /// Functions of the module.
    functions: u64,
    /// SHA-256 of the artifact in hex.
    digest: String,
    size: u64,
    inode: u64,
    changed: (i64, i64),
    /// It was hashed when any later change would have had another time.
    settled: bool,
}

impl Cache {
    /// Uses `folder`, making it with mode 0700 if it is not there; none, with the reason, where it is not ours alone. It
    /// is kept below `max` bytes, of which those used longest ago go first.
    pub(super) fn open(folder: &Path, max: u64) -> Result<Self, String> {
        let failed =
            |e: std::io::Error| format!("The compile cache {folder:?} cannot be used: {e}. Modules are compiled anew at each load.");
        DirBuilder::new().recursive(true).mode(0o700).create(folder).map_err(failed)?;
        let link = std::fs::symlink_metadata(folder).map_err(failed)?.is_symlink();
        let held = File::open(folder).map_err(failed)?;
        let found = held.metadata().map_err(failed)?;
        if link || !found.is_dir() || !is_ours(&found) || found.mode() & 0o077 != 0 {
            return Err(format!(
                "The compile cache {folder:?} is not used: it must be a folder of this user with mode 0700, because what is in it is run as code."
            ));
        }
        Ok(Cache { folder: Arc::new(held.into()), max })
    }

    /// The compiled module and the number of its functions; none if it is not there or is not what was sealed. What cannot
    /// be used is left alone: another process may be replacing it just now, and who compiles replaces it in any case.
    pub(super) fn get(&self, engine: &Engine, name: &str) -> Option<(Module, u64)> {
        let (seal, file) = (self.seal(name)?, self.artifact(name)?);
        let (seal, file) = self.unseal(seal, file)?;
        // SAFETY: the file was written by `put` of this user, and has not been changed since: by its seal, and because
        // nobody else can enter the folder. It stays so while it is mapped: entries are replaced, never written to.
        let module = unsafe { Module::deserialize_open_file(engine, file) };
        Some((module.ok()?, seal.functions))
    }

    /// Keeps a compiled module. What fails costs the next load its time and nothing else.
    pub(super) fn put(&self, name: &str, module: &Module, functions: u64) {
        let Ok(code) = module.serialize() else { return };
        let size = code.len() as u64;
        if size > self.max {
            return;
        }
        self.shrink(self.max - size);
        let digest = hex(&Sha256::digest(&code));
        // The artifact goes first: without its seal nobody uses it.
        let sealed = self.write(&artifact_of(name), &code).and_then(|file| {
            let Identity { size, inode, changed, .. } = Identity::of(&file.metadata()?);
            self.write_seal(&Seal { name: name.to_owned(), functions, digest, size, inode, changed, settled: false })
        });
        // Nothing is lost but time.
        drop(sealed);
    }

    /// The seal of an entry, and its mark of being used set anew.
    fn seal(&self, name: &str) -> Option<Seal> {
        let file = self.regular(&seal_of(name))?;
        let mut text = String::new();
        (&file).take(SEAL_MAX).read_to_string(&mut text).ok()?;
        let now = SystemTime::now();
        let used = file.metadata().and_then(|found| found.modified()).ok()?;
        if now.duration_since(used).map_or(true, |ago| ago > MARKED) {
            // Without the mark it is only removed earlier.
            drop(file.set_modified(now));
        }
        Seal::parse(&text).filter(|seal| seal.name == name)
    }

    fn artifact(&self, name: &str) -> Option<File> {
        self.regular(&artifact_of(name))
    }

    /// The artifact if it is what was sealed. One that is another file with the same content is sealed anew.
    fn unseal(&self, seal: Seal, mut file: File) -> Option<(Seal, File)> {
        let identity = Identity::of(&file.metadata().ok()?);
        let Identity { size, inode, changed, .. } = identity;
        if seal.settled && (size, inode, changed) == (seal.size, seal.inode, seal.changed) {
            return Some((seal, file));
        }
        let settled = identity.is_settled();
        let mut hasher = Sha256::new();
        each_chunk(&mut file, |chunk| {
            hasher.update(chunk);
            true
        })
        .ok()?;
        if hex(&hasher.finalize()) != seal.digest {
            return None;
        }
        let anew = Seal { size, inode, changed, settled, ..seal.clone() };
        if anew != seal {
            // Where it fails, the next load hashes again.
            drop(self.write_seal(&anew));
        }
        Some((anew, file))
    }

    /// Opens a regular file of this user's that nobody else can write to.
    fn regular(&self, file: &str) -> Option<File> {
        let path = self.path(file);
        // Asked before it is opened: opening a FIFO would wait for a writer.
        let usable = |found: &Metadata| found.is_file() && is_ours(found) && found.mode() & 0o022 == 0;
        std::fs::symlink_metadata(&path).ok().filter(usable)?;
        let file = File::open(path).ok()?;
        file.metadata().ok().filter(usable)?;
        Some(file)
    }

    fn write_seal(&self, seal: &Seal) -> std::io::Result<()> {
        self.write(&seal_of(&seal.name), seal.text().as_bytes()).map(drop)
    }

    /// Writes a file whole, or not at all.
    fn write(&self, name: &str, content: &[u8]) -> std::io::Result<File> {
        let mut random = [0; 8];
        getrandom::fill(&mut random).map_err(|e| std::io::Error::other(e.to_string()))?;
        let unfinished = self.path(&format!(".{}.tmp", hex(&random)));
        let mut file = File::options().write(true).create_new(true).mode(0o600).open(&unfinished)?;
        let written = file.write_all(content).and_then(|()| file.sync_all()).and_then(|()| std::fs::rename(&unfinished, self.path(name)));
        match written {
            Ok(()) => Ok(file),
            Err(e) => {
                drop(std::fs::remove_file(&unfinished));
                Err(e)
            }
        }
    }

    /// Removes the entries used longest ago until what is left has `room` bytes at most, and what was left behind.
    fn shrink(&self, room: u64) {
        let Ok(listed) = std::fs::read_dir(sys::reopened(&self.folder)) else { return };
        let now = SystemTime::now();
        let mut entries = Vec::new();
        for file in listed.flatten() {
            let (Some(name), Ok(found)) = (file.file_name().to_str().map(str::to_owned), file.metadata()) else { continue };
            let Ok(modified) = found.modified() else { continue };
            let old = now.duration_since(modified).is_ok_and(|ago| ago > LEFT_BEHIND);
            if let Some(entry) = name.strip_suffix(ARTIFACT) {
                let used = std::fs::metadata(self.path(&seal_of(entry))).and_then(|seal| seal.modified());
                match used {
                    Ok(used) => entries.push((used, found.len(), entry.to_owned())),
                    // Another process may be about to seal it.
                    Err(_) if old => self.remove(entry),
                    Err(_) => entries.push((modified, found.len(), entry.to_owned())),
                }
            } else if old
                && (name.ends_with(".tmp") || name.strip_suffix(SEAL).is_some_and(|entry| !self.path(&artifact_of(entry)).exists()))
            {
                drop(std::fs::remove_file(self.path(&name)));
            }
        }
        entries.sort();
        let mut total: u64 = entries.iter().map(|(_, size, _)| size).sum();
        for (_, size, entry) in entries {
            if total <= room {
                return;
            }
            self.remove(&entry);
            total -= size;
        }
    }

    fn remove(&self, name: &str) {
        // The seal goes first: a process that comes between finds no entry. What is gone already is gone.
        drop(std::fs::remove_file(self.path(&seal_of(name))));
        drop(std::fs::remove_file(self.path(&artifact_of(name))));
    }

    fn path(&self, file: &str) -> PathBuf {
        sys::reopened(&self.folder).join(file)
    }
}

const ARTIFACT: &str = ".cwasm";
const SEAL: &str = ".seal";

fn artifact_of(name: &str) -> String {
    format!("{name}{ARTIFACT}")
}

fn seal_of(name: &str) -> String {
    format!("{name}{SEAL}")
}

impl Seal {
    const HEAD: &str = "flowplug seal 1";

    fn text(&self) -> String {
        let Seal { name, functions, digest, size, inode, changed: (seconds, nanos), settled } = self;
        format!("{}\n{name}\n{functions}\n{digest}\n{size}\n{inode}\n{seconds}\n{nanos}\n{settled}\n", Self::HEAD)
    }

    fn parse(text: &str) -> Option<Self> {
        let mut lines = text.strip_suffix('\n')?.split('\n');
        let mut line = || lines.next();
        line().filter(|head| *head == Self::HEAD)?;
        let (name, functions, digest) = (line()?.to_owned(), line()?.parse().ok()?, line()?.to_owned());
        let (size, inode) = (line()?.parse().ok()?, line()?.parse().ok()?);
        let changed = (line()?.parse().ok()?, line()?.parse().ok()?);
        let settled = line()?.parse().ok()?;
        line().is_none().then_some(Seal { name, functions, digest, size, inode, changed, settled })
    }
}

/// Whether a file or folder belongs to the user that this process runs as.
fn is_ours(found: &Metadata) -> bool {
    std::fs::metadata("/proc/self").is_ok_and(|own| own.uid() == found.uid())
}
