//! The system's notices of what is touched in the folders, gathered until somebody looks.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use notify::event::{AccessKind, AccessMode, ModifyKind};
use notify::{Config, Event, EventKind, RecommendedWatcher, RecursiveMode, Watcher};

use crate::source::folder::Stamp;

/// The most names that are kept, of files that were written to and of folders; past it, everything is looked at.
const NAMES_MAX: usize = 4096;

/// What was touched since somebody looked.
#[derive(Debug, Default)]
pub(super) struct Touched {
    /// Anything can have been.
    pub(super) all: bool,
    /// Folders of plugins, by name.
    pub(super) folders: BTreeSet<String>,
    /// Files that were written to, and whether their writer has closed them.
    pub(super) files: HashMap<PathBuf, bool>,
    /// Nobody is to look any more.
    pub(super) over: bool,
}

/// Wakes who looks.
#[derive(Debug, Default)]
pub(super) struct Signal {
    touched: Mutex<Touched>,
    changed: Condvar,
}

impl Signal {
    pub(super) fn end(&self) {
        self.touched().over = true;
        self.changed.notify_all();
    }

    /// Waits until something is touched or the moment has come, gathers a little longer, and takes what there is.
    pub(super) fn take(&self, until: Instant, gather: Duration) -> Touched {
        let mut touched = self.touched();
        loop {
            let left = until.saturating_duration_since(Instant::now());
            if touched.is_any() || left.is_zero() {
                break;
            }
            touched = self.changed.wait_timeout(touched, left).unwrap_or_else(PoisonError::into_inner).0;
        }
        let over = |touched: &mut Touched| !touched.over;
        touched = self.changed.wait_timeout_while(touched, gather, over).unwrap_or_else(PoisonError::into_inner).0;
        let over = touched.over;
        std::mem::replace(&mut *touched, Touched { over, ..Touched::default() })
    }

    fn touched(&self) -> MutexGuard<'_, Touched> {
        self.touched.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn note(&self, root: &Path, event: notify::Result<Event>) {
        let mut touched = self.touched();
        match event {
            Err(_) => touched.all = true,
            Ok(event) if event.need_rescan() => touched.all = true,
            Ok(event) => {
                let written = match event.kind {
                    EventKind::Access(AccessKind::Close(AccessMode::Write)) => Some(true),
                    EventKind::Modify(ModifyKind::Data(_)) => Some(false),
                    // That somebody reads, we ourselves above all, says nothing.
                    EventKind::Access(_) => return,
                    _ => None,
                };
                event.paths.into_iter().for_each(|path| touched.add(root, path, written));
            }
        }
        drop(touched);
        self.changed.notify_all();
    }
}

impl Touched {
    fn is_any(&self) -> bool {
        self.over || self.all || !self.folders.is_empty() || !self.files.is_empty()
    }

    fn add(&mut self, root: &Path, path: PathBuf, written: Option<bool>) {
        let mut inside = path.strip_prefix(root).map(Path::components);
        match inside.as_mut().map(Iterator::next) {
            // No plugin; but an artifact can lie in one, and then it is followed.
            Ok(Some(first)) if first.as_os_str().as_encoded_bytes().starts_with(b".") => {
                self.all |= inside.is_ok_and(|mut rest| rest.next().is_some());
                return;
            }
            Ok(Some(first)) => drop(self.folders.insert(first.as_os_str().to_string_lossy().into_owned())),
            // The root itself, or an artifact that lies elsewhere.
            Ok(None) => self.all = true,
            // The root's parent is watched for the root's sake alone.
            Err(_) => self.all |= path.parent() != root.parent(),
        }
        if let Some(closed) = written {
            self.files.insert(path, closed);
        }
        if self.files.len().max(self.folders.len()) > NAMES_MAX {
            *self = Touched { all: true, over: self.over, ..Touched::default() };
        }
    }
}

/// The folders of which the system gives notices.
pub(super) struct Notices {
    watcher: Option<RecommendedWatcher>,
    followed: BTreeMap<PathBuf, Stamp>,
}

impl Notices {
    /// Without `wanted`, or where the system refuses, there are none.
    pub(super) fn new(root: &Path, signal: &Arc<Signal>, wanted: bool) -> Self {
        let (root, signal) = (root.to_owned(), signal.clone());
        let made = wanted.then(|| RecommendedWatcher::new(move |event| signal.note(&root, event), Config::default()));
        Notices { watcher: made.and_then(Result::ok), followed: BTreeMap::new() }
    }

    /// Whether everything that was asked for is followed.
    pub(super) fn are_there(&self) -> bool {
        self.watcher.is_some()
    }

    /// Follows a folder, and another one in its place; what is no folder is followed no more. Where the system refuses, for
    /// want of watches say, there are no notices at all from here on.
    pub(super) fn follow(&mut self, path: &Path) {
        let Some(watcher) = &mut self.watcher else { return };
        let stamp = Stamp::of(path).filter(|_| path.is_dir());
        let known = self.followed.get(path).copied();
        if let (Some(known), Some(stamp)) = (known, stamp)
            && known.is_same(stamp)
        {
            return;
        }
        if known.is_some() {
            self.followed.remove(path);
            drop(watcher.unwatch(path));
        }
        let Some(stamp) = stamp else { return };
        match watcher.watch(path, RecursiveMode::NonRecursive) {
            Ok(()) => drop(self.followed.insert(path.to_owned(), stamp)),
            // One that is gone meanwhile tells by its parent.
            Err(_) if !path.is_dir() => {}
            Err(_) => self.watcher = None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_touched_is_kept_by_name_within_a_bound_and_dot_files_are_not() {
        let root = Path::new("/plugins");
        let mut touched = Touched::default();
        for name in [".a.swp", ".building"] {
            touched.add(root, root.join(name), Some(false));
        }
        assert!(!touched.is_any(), "{touched:?}");
        touched.add(root, root.join(".shared/tool"), Some(true));
        assert!(touched.all && touched.folders.is_empty() && touched.files.is_empty(), "{touched:?}");
        touched.add(root, root.join("a/plugin.yaml"), Some(true));
        assert_eq!((touched.folders.len(), touched.files.len()), (1, 1));
        for number in 0..=NAMES_MAX {
            touched.add(root, root.join(number.to_string()), None);
        }
        assert!(touched.all && touched.folders.len() < 3, "{}", touched.folders.len());
    }
}
