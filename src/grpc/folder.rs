//! The folder in which a plugin and its host have their sockets.
//!
//! Its name says whose it is, so that a later host can sweep what one that was killed has left behind.

use std::io;
use std::os::unix::fs::{DirBuilderExt, MetadataExt};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};

use crate::error::{Error, Kind, Result};

const PREFIX: &str = "flowplug-";

/// The longest path of a Unix socket that the system takes, in bytes.
pub(super) const SOCKET_PATH_MAX: usize = 107;

/// What a socket's own name may need: go-plugin's are `plugin` and ten digits.
const SOCKET_NAME_MAX: usize = 20;

/// A folder of mode 0700, removed with everything in it when it is dropped.
#[derive(Debug)]
pub(super) struct Folder(PathBuf);

impl Folder {
    /// A fresh one below `parent`, or below the system's folder for temporary files; sweeps what dead hosts left there.
    pub(super) fn new(parent: Option<&Path>) -> Result<Self> {
        static NEXT: AtomicU64 = AtomicU64::new(1);
        let parent = parent.map_or_else(std::env::temp_dir, Path::to_owned);
        let parent = std::path::absolute(&parent).map_err(|e| failed(&parent, &e))?;
        std::fs::create_dir_all(&parent).map_err(|e| failed(&parent, &e))?;
        let owner = Owner::current().map_err(|e| failed(Path::new("/proc/self"), &e))?;
        owner.sweep(&parent);
        loop {
            let path = parent.join(format!("{PREFIX}{}-{}", owner.text(), NEXT.fetch_add(1, Ordering::Relaxed)));
            let length = path.as_os_str().len() + 1 + SOCKET_NAME_MAX;
            if length > SOCKET_PATH_MAX {
                let text = format!(
                    "Sockets in {} would have paths of {length} bytes; the system takes {SOCKET_PATH_MAX}. Set a shorter runtime_dir (or TMPDIR).",
                    path.display()
                );
                return Err(Error::new(Kind::LoadFailed, text));
            }
            match std::fs::DirBuilder::new().mode(0o700).create(&path) {
                Ok(()) => return Ok(Folder(path)),
                Err(e) if e.kind() == io::ErrorKind::AlreadyExists => {}
                Err(e) => return Err(failed(&path, &e)),
            }
        }
    }

    /// Where it is, absolute.
    pub(super) fn path(&self) -> &Path {
        &self.0
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        drop(std::fs::remove_dir_all(&self.0));
    }
}

/// A process that no other can be mistaken for: its number, when it began, and in which namespace the number counts
/// (containers that share a folder for temporary files must not sweep each other's).
#[derive(Debug, PartialEq, Eq)]
struct Owner {
    pid: u32,
    begun: u64,
    namespace: u64,
}

impl Owner {
    fn current() -> io::Result<Self> {
        let pid = std::process::id();
        let namespace = std::fs::metadata("/proc/self/ns/pid")?.ino();
        let begun = begun(pid).ok_or_else(|| io::Error::other("the process's start time cannot be read"))?;
        Ok(Owner { pid, begun, namespace })
    }

    fn text(&self) -> String {
        format!("{}-{:x}-{:x}", self.pid, self.begun, self.namespace)
    }

    fn parse(name: &str) -> Option<Self> {
        let mut parts = name.strip_prefix(PREFIX)?.split('-');
        let pid = parts.next()?.parse().ok()?;
        let begun = u64::from_str_radix(parts.next()?, 16).ok()?;
        let namespace = u64::from_str_radix(parts.next()?, 16).ok()?;
        parts.next()?.parse::<u64>().ok()?;
        parts.next().is_none().then_some(Owner { pid, begun, namespace })
    }

    /// Removes the folders of our user whose host is gone. What cannot be judged or removed stays.
    fn sweep(&self, parent: &Path) {
        let Ok(entries) = std::fs::read_dir(parent) else { return };
        for entry in entries.flatten() {
            let Some(owner) = entry.file_name().to_str().and_then(Owner::parse) else { continue };
            let dead = owner.namespace == self.namespace && begun(owner.pid) != Some(owner.begun);
            let ours = entry.path().symlink_metadata().is_ok_and(|about| about.is_dir() && about.uid() == own_uid());
            if dead && ours {
                drop(std::fs::remove_dir_all(entry.path()));
            }
        }
    }
}

fn own_uid() -> u32 {
    std::fs::metadata("/proc/self").map_or(u32::MAX, |about| about.uid())
}

/// When a process began, in clock ticks since the machine did; none if there is no such process.
fn begun(pid: u32) -> Option<u64> {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    // The second field is the program's name in parentheses, which may hold anything; the start is the 22nd.
    stat.rsplit_once(')')?.1.split_ascii_whitespace().nth(19)?.parse().ok()
}

fn failed(path: &Path, e: &io::Error) -> Error {
    let text = format!(
        "The folder {} for a plugin's sockets cannot be made: {e}. Set runtime_dir to a folder that can be written to.",
        path.display()
    );
    Error::new(Kind::LoadFailed, text)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn folders_of_dead_hosts_are_swept_and_others_stay() {
        let parent = Folder::new(None).unwrap();
        let own = Owner::current().unwrap();
        let dead = Owner { begun: own.begun + 1, ..Owner::current().unwrap() };
        let elsewhere = Owner { namespace: 1, pid: dead.pid, begun: dead.begun };
        let path = |owner: &Owner| parent.path().join(format!("{PREFIX}{}-7", owner.text()));
        for folder in [path(&dead), path(&own), path(&elsewhere), parent.path().join("flowplug-cache")] {
            std::fs::create_dir(folder).unwrap();
        }
        let fresh = Folder::new(Some(parent.path())).unwrap();
        assert!(!path(&dead).exists());
        assert!(path(&own).exists() && path(&elsewhere).exists() && parent.path().join("flowplug-cache").exists());
        assert_eq!(std::fs::metadata(fresh.path()).unwrap().mode() & 0o777, 0o700);
        let gone = parent.path().to_owned();
        drop((fresh, parent));
        assert!(!gone.exists());
    }

    #[test]
    fn a_path_that_no_socket_fits_is_refused() {
        let long = std::env::temp_dir().join("x".repeat(100));
        let error = Folder::new(Some(&long)).unwrap_err();
        assert_eq!(error.kind(), Kind::LoadFailed);
        assert!(error.message().contains("runtime_dir"), "{error}");
        std::fs::remove_dir(long).unwrap();
    }
}
