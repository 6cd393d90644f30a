//! A folder on this machine, in which each folder with a `plugin.yaml` is a plugin.

use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use crate::error::{Error, Kind, Result};
use crate::manifest::FILE_NAME;
use crate::source::folder::Folder;
use crate::source::watch::{Times, Told, Watch};
use crate::source::{Changed, Found, Source};

/// How often the folder is looked through where the system gives notices: they can get lost, and those of a link's far end
/// do not come.
const POLL: Duration = Duration::from_secs(5);
/// How often where it gives none.
const POLL_ALONE: Duration = Duration::from_secs(1);
/// How long a change waits that may be half done.
const PATIENCE: Duration = Duration::from_secs(1);

/// A folder of plugin folders. The name of each is its plugin's identity; those that start with a dot are passed over.
#[derive(Debug)]
pub struct Local {
    path: PathBuf,
    times: Times,
    notices: bool,
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    told: BTreeMap<String, Told>,
    watch: Option<Watch>,
}

impl Local {
    /// A source of the plugins in a folder.
    pub fn new(path: &Path, poll_interval: Option<Duration>) -> Self {
        let path = std::path::absolute(path).unwrap_or_else(|_| path.to_owned());
        let times = Times {
            poll: poll_interval.unwrap_or(POLL),
            alone: poll_interval.map_or(POLL_ALONE, |own| own.min(POLL_ALONE)),
            patience: PATIENCE,
        };
        Local { path, times, notices: true, state: Mutex::default() }
    }

    /// The same without the system's notices: it is looked through every so often, and nothing else.
    #[must_use]
    pub fn without_notices(mut self) -> Self {
        self.notices = false;
        self
    }

    /// The same, with another time that a change waits which may be half done: a manifest that is no good, a file that is
    /// still open for writing, a folder that is gone. The default is a second.
    #[must_use]
    pub fn with_patience(mut self, patience: Duration) -> Self {
        self.times.patience = patience;
        self
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Source for Local {
    fn label(&self) -> String {
        format!("local:{}", self.path.display())
    }

    fn discover(&self) -> Result<Vec<Found>> {
        let mut told = BTreeMap::new();
        let mut found = Vec::new();
        for (identity, path) in plugin_folders(&self.path).map_err(|e| unreadable(&self.path, &e))? {
            let mut folder = Folder::new(path);
            // Read for its artifact, then its print, then read again: what is written after the print is a change.
            folder.found(&identity);
            let print = folder.print();
            found.push(folder.found(&identity).0);
            told.insert(identity, Told::new(folder, Some(print)));
        }
        self.state().told = told;
        Ok(found)
    }

    fn watch(&self, changed: Changed) -> Result<()> {
        let mut state = self.state();
        if state.watch.is_none() {
            let told = std::mem::take(&mut state.told);
            state.watch = Some(Watch::begin(self.path.clone(), told, self.notices, self.times, changed)?);
        }
        Ok(())
    }

    fn close(&self) {
        let watch = self.state().watch.take();
        drop(watch);
    }
}

/// The folders that have a manifest, by their names, which are the identities.
pub(super) fn plugin_folders(root: &Path) -> io::Result<BTreeMap<String, PathBuf>> {
    let mut folders = BTreeMap::new();
    for entry in fs::read_dir(root)? {
        let entry = entry?;
        let name = entry.file_name().to_string_lossy().into_owned();
        let path = root.join(entry.file_name());
        // `metadata` of the manifest itself follows links, and fails where the entry is no folder.
        if !name.starts_with('.') && path.join(FILE_NAME).metadata().is_ok() {
            folders.insert(name, path);
        }
    }
    Ok(folders)
}

pub(super) fn unreadable(root: &Path, e: &io::Error) -> Error {
    let message = format!("The folder of plugins {} cannot be read: {e}. Make it, or correct the path of the source.", root.display());
    Error::new(Kind::Io, message)
}
