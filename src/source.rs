//! Where plugins come from: a [`Source`] finds them, says when they change, and knows nothing of what becomes of them.
//!
//! A source gives each plugin its identity. What it finds may be no good (a manifest that cannot be read): it is found all
//! the same, with the reason, so that it is not missed.

use std::fmt::Debug;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use crate::error::{Error, Kind, Result};
use crate::manifest::Manifest;

mod folder;
mod local;
mod notice;
mod watch;

pub use local::Local;

/// A plugin that a source has.
#[derive(Debug)]
pub struct Found {
    /// Who it is: where it lies in the source, never its manifest's `name`.
    pub identity: String,
    /// Where its manifest and its artifact are.
    pub folder: PathBuf,
    /// What it declares, or why that cannot be known.
    pub manifest: Result<Arc<Manifest>>,
}

/// What became of a plugin of a source.
#[derive(Debug)]
pub enum Change {
    /// It is new, or its manifest or artifact is another, whole and at rest.
    Updated(Found),
    /// It is there no more; its identity.
    Removed(String),
    /// The source itself cannot be read for now; its plugins stay as they are.
    Lost(Error),
}

/// Who is told of changes. It must not wait: the source tells of the next change only when it returns.
pub type Changed = Box<dyn Fn(Change) + Send>;

/// A place that has plugins.
pub trait Source: Send + Sync + Debug {
    /// What people call it: its type and where it is.
    fn label(&self) -> String;

    /// Everything it has, in the order of identities.
    fn discover(&self) -> Result<Vec<Found>>;

    /// Tells of every change since [`discover`](Self::discover), from a thread of its own, until it is closed.
    fn watch(&self, changed: Changed) -> Result<()>;

    /// Ends the watching: when it returns, nobody is told any more. Not to be called by who is being told.
    fn close(&self);
}

/// What a source is made from, as flowbot's config has it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum SourceConfig {
    /// A folder of plugin folders.
    Local {
        /// The folder; relative: against the working directory.
        path: PathBuf,
        /// How often it is looked through beside the system's notices; none: the default.
        poll_interval: Option<Duration>,
    },
    /// Repositories, each a plugin.
    Git {
        /// Which.
        repos: Vec<Repository>,
        /// How often they are asked; none: the default.
        poll_interval: Option<Duration>,
    },
    /// A registry of images that hold plugins.
    Oci {
        /// Its host.
        registry: String,
        /// Which images; in flowbot's words, its repos.
        repos: Vec<Repository>,
        /// How often they are asked; none: the default.
        poll_interval: Option<Duration>,
    },
}

/// A repository of a source.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Repository {
    /// Where it is.
    pub url: String,
    /// The branch, tag or commit; empty: the default one.
    pub reference: String,
    /// Its own interval; none: that of the source.
    pub poll_interval: Option<Duration>,
}

/// Makes the source that a config describes.
pub fn open(config: &SourceConfig) -> Arc<dyn Source> {
    match config {
        SourceConfig::Local { path, poll_interval } => Arc::new(Local::new(path, *poll_interval)),
        SourceConfig::Git { repos, .. } => {
            let urls: Vec<&str> = repos.iter().map(|repo| shown(&repo.url)).collect();
            Arc::new(Later(format!("git:{}", urls.join(","))))
        }
        SourceConfig::Oci { registry, .. } => Arc::new(Later(format!("oci:{}", shown(registry)))),
    }
}

/// A URL without what may be a password in it.
fn shown(url: &str) -> &str {
    url.rsplit_once('@').map_or(url, |(_, rest)| rest)
}

/// A source that a later version will have.
#[derive(Debug)]
struct Later(String);

impl Source for Later {
    fn label(&self) -> String {
        self.0.clone()
    }

    fn discover(&self) -> Result<Vec<Found>> {
        let kind = self.0.split(':').next().unwrap_or_default();
        let message =
            format!("Sources of the type {kind} are not supported yet; put the plugins into a folder, and name it as a local source.");
        Err(Error::new(Kind::Unsupported, message))
    }

    fn watch(&self, _: Changed) -> Result<()> {
        Ok(())
    }

    fn close(&self) {}
}
