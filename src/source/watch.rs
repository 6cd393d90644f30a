//! Looks at the folders of a source when they are touched, and tells of what has changed once it is whole and at rest.
//!
//! Notices say where to look, never what happened: a change is a difference between how a folder stands and how it stood
//! when it was last told of. So nothing is lost with a notice, and the same holds without any.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::mpsc::Sender;
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use crate::error::{Error, Kind, Result};
use crate::manifest::FILE_NAME;
use crate::source::folder::{Folder, Print};
use crate::source::local::unreadable;
use crate::source::notice::{Notices, Signal, Touched};
use crate::source::{Change, Changed};
use crate::sys;

/// How long a folder must stay as it is before a change is told.
const SETTLED: Duration = Duration::from_millis(150);
/// Notices come in flocks.
const GATHER: Duration = Duration::from_millis(20);

/// How a watch takes its time.
#[derive(Clone, Copy, Debug)]
pub(super) struct Times {
    /// How often everything is looked at beside the notices.
    pub(super) poll: Duration,
    /// How often without any.
    pub(super) alone: Duration,
    /// How long a folder must stay as it is if its manifest is no good, a file is still open for writing, or it is gone: what
    /// is half done mostly goes on.
    pub(super) patience: Duration,
}

/// A folder, and how it stood when it was last told of.
#[derive(Debug)]
pub(super) struct Told {
    folder: Folder,
    /// None: it was not there.
    told: Option<Print>,
    pending: Option<Pending>,
    /// A writer has its manifest or artifact open.
    writing: bool,
}

/// A difference that may not be at rest yet.
#[derive(Debug)]
struct Pending {
    print: Option<Print>,
    since: Instant,
}

impl Told {
    pub(super) fn new(folder: Folder, told: Option<Print>) -> Self {
        Told { folder, told, pending: None, writing: false }
    }

    /// Looks at it; what there is to tell, and when to look again.
    fn look(&mut self, identity: &str, rooted: bool, patience: Duration, now: Instant) -> Option<Change> {
        let there = self.folder.path.join(FILE_NAME).metadata().is_ok();
        let print = there.then(|| self.folder.print());
        if print == self.told {
            self.pending = None;
            return None;
        }
        let since = match &self.pending {
            Some(pending) if pending.print == print => pending.since,
            _ => now,
        };
        let rested = now.saturating_duration_since(since);
        self.pending = Some(Pending { print: print.clone(), since });
        if rested < self.rest(patience) {
            return None;
        }
        let change = if print.is_some() {
            let (found, another) = self.folder.found(identity);
            if another {
                // The new artifact has to be at rest, too.
                self.pending = Some(Pending { print: Some(self.folder.print()), since: now });
                return None;
            }
            if found.manifest.is_err() && rested < patience {
                return None;
            }
            Change::Updated(found)
        } else if rooted {
            Change::Removed(identity.to_owned())
        } else {
            // Without its root a folder is not gone for good: a link may be on its way to another place.
            return None;
        };
        self.told = print;
        (self.pending, self.writing) = (None, false);
        Some(change)
    }

    fn rest(&self, patience: Duration) -> Duration {
        let whole = self.pending.as_ref().is_none_or(|pending| pending.print.is_some());
        if whole && !self.writing { SETTLED } else { patience }
    }

    /// A writer has written to a file, or closed it.
    fn written(&mut self, file: &Path, closed: bool) {
        if self.folder.counts(file) {
            self.writing = !closed;
            self.folder.closed += u64::from(closed);
        }
    }

    /// When to look again: at the end of the rest, and past it every so often.
    fn due(&self, patience: Duration, now: Instant) -> Option<Instant> {
        let since = self.pending.as_ref()?.since;
        Some([since + SETTLED, since + patience].into_iter().find(|at| *at > now).unwrap_or(now + patience))
    }
}

/// A thread that watches; ends when it is dropped.
#[derive(Debug)]
pub(super) struct Watch {
    signal: Arc<Signal>,
    thread: Option<JoinHandle<()>>,
}

impl Watch {
    /// `told`: what was told already.
    pub(super) fn begin(root: PathBuf, told: BTreeMap<String, Told>, notices: bool, times: Times, changed: Changed) -> Result<Self> {
        let signal = Arc::new(Signal::default());
        let own = signal.clone();
        let (ready, followed) = std::sync::mpsc::channel();
        let run = move || {
            // The watcher's own thread is made here, and takes over which signals are blocked.
            sys::block_signals();
            let notices = Notices::new(&root, &own, notices);
            Watcher { root, told, notices, times, changed, lost: false }.run(&own, &ready);
        };
        let thread = std::thread::Builder::new().name("flowplug-watch".into()).spawn(run);
        let thread =
            thread.map_err(|e| Error::new(Kind::Io, format!("The system refused a thread to watch plugins: {e}. Check its limits.")))?;
        // From here on, notices come of everything.
        let _first_look_is_over = followed.recv();
        Ok(Watch { signal, thread: Some(thread) })
    }
}

impl Drop for Watch {
    fn drop(&mut self) {
        self.signal.end();
        // From inside of what it tells, it would wait for itself.
        if let Some(thread) = self.thread.take().filter(|thread| thread.thread().id() != std::thread::current().id()) {
            drop(thread.join());
        }
    }
}

struct Watcher {
    root: PathBuf,
    told: BTreeMap<String, Told>,
    notices: Notices,
    times: Times,
    changed: Changed,
    /// It was told that the root cannot be read.
    lost: bool,
}

impl Watcher {
    fn run(mut self, signal: &Signal, ready: &Sender<()>) {
        // What happened before the first notice could come is looked for at once.
        let mut touched = Touched { all: true, ..Touched::default() };
        let mut poll = Instant::now();
        while !touched.over {
            let now = Instant::now();
            self.mark_writers(&touched);
            let everything = touched.all || now >= poll;
            if everything {
                poll = now + if self.notices.are_there() && !self.lost { self.times.poll } else { self.times.alone };
            }
            let mut names = std::mem::take(&mut touched.folders);
            if everything {
                names.extend(self.all_names());
            }
            names.extend(self.told.iter().filter(|(_, told)| told.pending.is_some()).map(|(name, _)| name.clone()));
            names.iter().filter(|name| !name.starts_with('.')).for_each(|name| self.look(name, now));
            let next = self.told.values().filter_map(|told| told.due(self.times.patience, now)).fold(poll, Instant::min);
            let _heard = ready.send(());
            touched = signal.take(next, GATHER);
        }
    }

    /// Every folder that is there or was, followed from here on; none if the root cannot be read: then nothing has changed.
    fn all_names(&mut self) -> BTreeSet<String> {
        self.notices.follow(&self.root);
        if self.root.is_symlink()
            && let Some(parent) = self.root.parent()
        {
            self.notices.follow(parent);
        }
        let names = fs::read_dir(&self.root).and_then(|entries| {
            let there = entries.map(|entry| entry.map(|entry| entry.file_name().to_string_lossy().into_owned()));
            there.collect::<std::io::Result<BTreeSet<String>>>()
        });
        match names {
            Ok(mut names) => {
                self.lost = false;
                names.extend(self.told.keys().cloned());
                names
            }
            Err(e) => {
                if !std::mem::replace(&mut self.lost, true) {
                    (self.changed)(Change::Lost(unreadable(&self.root, &e)));
                }
                BTreeSet::new()
            }
        }
    }

    fn look(&mut self, name: &str, now: Instant) {
        let (rooted, patience) = (self.root.is_dir(), self.times.patience);
        let path = self.root.join(name);
        // Followed first: what is written meanwhile then tells of itself.
        self.notices.follow(&path);
        let told = self.told(name);
        let change = told.look(name, rooted, patience, now);
        let elsewhere = told.folder.artifact_folder();
        let forgotten = told.told.is_none() && told.pending.is_none();
        if let Some(elsewhere) = elsewhere {
            self.notices.follow(&elsewhere);
        }
        if forgotten {
            self.told.remove(name);
        }
        if let Some(change) = change {
            (self.changed)(change);
        }
    }

    fn told(&mut self, name: &str) -> &mut Told {
        let root = &self.root;
        self.told.entry(name.to_owned()).or_insert_with(|| Told::new(Folder::new(root.join(name)), None))
    }

    fn mark_writers(&mut self, touched: &Touched) {
        for name in touched.folders.iter().filter(|_| !touched.files.is_empty()) {
            let folder = self.root.join(name);
            let told = self.told(name);
            for (file, closed) in touched.files.iter().filter(|(file, _)| file.starts_with(&folder)) {
                told.written(file, *closed);
            }
        }
    }
}
