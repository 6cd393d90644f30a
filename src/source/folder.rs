//! One plugin's folder: what of it counts, whether it has changed, and what is in it.

use std::fs::Metadata;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use crate::manifest::{FILE_NAME, Manifest};
use crate::source::Found;

/// A file or folder as it stands: any write, rename over it or change of a link to it makes another of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Stamp {
    device: u64,
    inode: u64,
    size: u64,
    modified: (i64, i64),
    /// Set by the system alone, so that a copy that keeps the time of modification is seen too.
    changed: (i64, i64),
}

impl Stamp {
    pub(super) fn of(path: &Path) -> Option<Self> {
        path.metadata().ok().map(|about| Stamp::from(&about))
    }

    /// Whether both are the same file or folder, whatever is in it.
    pub(super) fn is_same(self, other: Stamp) -> bool {
        (self.device, self.inode) == (other.device, other.inode)
    }
}

impl From<&Metadata> for Stamp {
    fn from(about: &Metadata) -> Self {
        Stamp {
            device: about.dev(),
            inode: about.ino(),
            size: about.size(),
            modified: (about.mtime(), about.mtime_nsec()),
            changed: (about.ctime(), about.ctime_nsec()),
        }
    }
}

/// What of a folder makes its plugin another one when it changes: the manifest and the artifact. Nothing else: a plugin may
/// write in its own folder.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Print {
    manifest: Option<Stamp>,
    artifact: Option<Stamp>,
    closed: u64,
}

/// A folder that is looked at again and again.
#[derive(Debug)]
pub(super) struct Folder {
    pub(super) path: PathBuf,
    /// That of the manifest when it was read last.
    artifact: Option<PathBuf>,
    /// How often a writer has closed one of them: a program that is still open for writing cannot be run.
    pub(super) closed: u64,
}

impl Folder {
    pub(super) fn new(path: PathBuf) -> Self {
        Folder { path, artifact: None, closed: 0 }
    }

    /// How the folder stands. Reads no file: what is written all the time costs next to nothing.
    pub(super) fn print(&self) -> Print {
        let manifest = Stamp::of(&self.path.join(FILE_NAME));
        Print { manifest, artifact: self.artifact.as_deref().and_then(Stamp::of), closed: self.closed }
    }

    /// Whether this is its manifest or its artifact.
    pub(super) fn counts(&self, file: &Path) -> bool {
        file == self.path.join(FILE_NAME) || Some(file) == self.artifact.as_deref()
    }

    /// Where its artifact is, if that is elsewhere.
    pub(super) fn artifact_folder(&self) -> Option<PathBuf> {
        self.artifact.as_deref().and_then(Path::parent).filter(|folder| *folder != self.path).map(Path::to_owned)
    }

    /// What is in it, and whether it has another artifact than was known, which then counts from here on. A manifest that
    /// cannot be read leaves the one that was known.
    pub(super) fn found(&mut self, identity: &str) -> (Found, bool) {
        let manifest = Manifest::read(&self.path.join(FILE_NAME), false).map(Arc::new);
        let known = self.artifact.clone();
        if let Ok(manifest) = &manifest {
            self.artifact = artifact(manifest);
        }
        let another = self.artifact != known;
        (Found { identity: identity.to_owned(), folder: self.path.clone(), manifest }, another)
    }
}

/// The file that the plugin is run from, where it is one of the folder's or named by a path; a program that is looked for in
/// `PATH` is not watched.
fn artifact(manifest: &Manifest) -> Option<PathBuf> {
    let named = match (&manifest.wasm, &manifest.grpc) {
        (Some(wasm), _) if manifest.runtime == crate::manifest::RuntimeKind::Wasm => &wasm.module,
        (_, Some(grpc)) => &grpc.binary,
        _ => return None,
    };
    // Components, so that ./plugin.wasm is the file that the system tells of.
    Some(manifest.base_dir().join(named).components().collect())
}
