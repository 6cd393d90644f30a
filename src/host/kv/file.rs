//! The store in one file: a redb database, whose every commit is atomic and on the disk before it is acknowledged.
//!
//! One thread writes. It takes everything that waits into one commit, so that plugins which write at the same time share
//! its syncs; who reads sees the last commit and waits for nobody. Commits are of two phases: what a plugin writes is of its
//! choice, and a cleverly torn single-phase commit could pass for a whole one. So a file whose last commit does not verify is
//! damaged, and is refused instead of being wound back.

use std::collections::{HashMap, VecDeque};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError, RwLock};
use std::task::Waker;
use std::thread::JoinHandle;

use redb::{Database, ReadableDatabase, ReadableTable, TableDefinition};

use crate::call::wait;
use crate::error::{Error, Kind, Result};
use crate::host::Caller;
use crate::host::kv::{size, within};
use crate::sys;

mod open;
#[cfg(test)]
mod tests;

/// By namespaced key. The name says whose file it is.
const VALUES: TableDefinition<'_, &str, &[u8]> = TableDefinition::new("flowplug.kv");

/// Times that a read is begun again where writes fail beside it.
const READS: usize = 8;

/// A store that outlives its host. Closed when it is dropped.
#[derive(Debug)]
pub struct FileKv {
    shared: Arc<Shared>,
    writer: Mutex<Option<JoinHandle<()>>>,
}

#[derive(Debug)]
struct Shared {
    path: PathBuf,
    /// None after a failure, until somebody opens it again, and once it is closed. Who uses it holds the lock for as long, so
    /// that a file which is opened again is no longer open.
    database: RwLock<Option<Database>>,
    queue: Mutex<Queue>,
    work: Condvar,
}

#[derive(Debug, Default)]
struct Queue {
    closed: bool,
    jobs: VecDeque<Arc<Job>>,
}

/// A write that somebody waits for.
#[derive(Debug)]
struct Job {
    identity: String,
    key: String,
    /// None: the key is removed.
    value: Option<Vec<u8>>,
    total: u64,
    state: Mutex<JobState>,
}

#[derive(Debug, Default)]
struct JobState {
    answer: Option<Result<()>>,
    waker: Option<Waker>,
}

/// Bytes of keys and values held for each identity.
type Used = HashMap<String, u64>;

impl FileKv {
    /// Opens the file, or makes it; its folder has to be there. The whole file is verified.
    ///
    /// Errors: `io`, also if another host has it open, or if it is damaged or something else; it is then left as it is.
    pub fn open(path: &Path) -> Result<Self> {
        let path = std::path::absolute(path).map_err(|e| open::unusable(path, &e))?;
        let database = open::open(&path)?;
        Self::over(path, database)
    }

    fn over(path: PathBuf, database: Database) -> Result<Self> {
        let used = sums(&database).map_err(|e| open::damaged(&path, &e))?;
        let shared = Arc::new(Shared { path, database: RwLock::new(Some(database)), queue: Mutex::default(), work: Condvar::new() });
        let own = shared.clone();
        let write = move || {
            sys::block_signals();
            own.write(used);
        };
        let writer = std::thread::Builder::new().name("flowplug-kv".to_owned()).spawn(write);
        let writer = writer.map_err(|e| Error::new(Kind::Io, format!("The system refused a thread for the KV file: {e}.")))?;
        Ok(FileKv { shared, writer: Mutex::new(Some(writer)) })
    }

    /// The value of a key; none if it is missing.
    pub fn get(&self, key: &str) -> Result<Option<Vec<u8>>> {
        let read = |database: &Database| -> Result<Option<Vec<u8>>, redb::Error> {
            let table = database.begin_read()?.open_table(VALUES)?;
            Ok(table.get(key)?.map(|value| value.value().to_vec()))
        };
        let mut tries = 0..READS;
        loop {
            match self.shared.with(read)? {
                Ok(value) => return Ok(value),
                // Not this read failed, but a write before it, after which the database wants to be opened again.
                Err(redb::Error::PreviousIo) if tries.next().is_some() => self.shared.forget(),
                Err(e) => {
                    self.shared.forget();
                    return Err(Error::new(Kind::Io, format!("The host's KV file could not be read: {e}.")));
                }
            }
        }
    }

    /// Stores a value; it is on the disk when this returns ok. After `timeout` or `cancelled` it may be stored or not.
    pub fn set(&self, caller: &Caller<'_>, key: &str, value: &[u8]) -> Result<()> {
        self.ask(caller, key, Some(value.to_owned()))
    }

    /// Removes a key, likewise.
    pub fn delete(&self, caller: &Caller<'_>, key: &str) -> Result<()> {
        self.ask(caller, key, None)
    }

    fn ask(&self, caller: &Caller<'_>, key: &str, value: Option<Vec<u8>>) -> Result<()> {
        let (identity, total) = (caller.context.identity().to_owned(), caller.context.grants().kv.total);
        let job = Arc::new(Job { identity, key: key.to_owned(), value, total, state: Mutex::default() });
        {
            let mut queue = self.shared.queue();
            if queue.closed {
                return Err(closed());
            }
            queue.jobs.push_back(job.clone());
        }
        self.shared.work.notify_one();
        let answer = wait(caller.deadline, &caller.cancels(), |waker| job.state().waker = Some(waker), || job.state().answer.take());
        answer.unwrap_or_else(|e| {
            self.shared.queue().jobs.retain(|waiting| !Arc::ptr_eq(waiting, &job));
            Err(e)
        })
    }

    /// Lets go of the file, when what is being written is on the disk. Again does nothing.
    pub fn close(&self) {
        self.shared.queue().closed = true;
        self.shared.work.notify_one();
        let writer = self.writer.lock().unwrap_or_else(PoisonError::into_inner).take();
        if let Some(writer) = writer {
            drop(writer.join());
        }
        self.shared.forget();
    }
}

impl Drop for FileKv {
    fn drop(&mut self) {
        self.close();
    }
}

impl Job {
    fn state(&self) -> MutexGuard<'_, JobState> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn answer(&self, answer: Result<()>) {
        let mut state = self.state();
        state.answer = Some(answer);
        if let Some(waker) = state.waker.take() {
            waker.wake();
        }
    }
}

impl Shared {
    fn queue(&self) -> MutexGuard<'_, Queue> {
        self.queue.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Uses the database; opens it again where a failure had closed it.
    fn with<T>(&self, work: impl FnOnce(&Database) -> T) -> Result<T> {
        loop {
            if let Some(database) = &*self.database.read().unwrap_or_else(PoisonError::into_inner) {
                return Ok(work(database));
            }
            self.reopen()?;
        }
    }

    fn reopen(&self) -> Result<()> {
        let mut database = self.database.write().unwrap_or_else(PoisonError::into_inner);
        if database.is_none() {
            if self.queue().closed {
                return Err(closed());
            }
            // Not made anew: what was stored there must not seem to be missing.
            *database = Some(open::existing(&self.path)?);
        }
        Ok(())
    }

    /// Closes the database, when nobody uses it any more: after a failed write redb wants it opened again.
    fn forget(&self) {
        drop(self.database.write().unwrap_or_else(PoisonError::into_inner).take());
    }

    /// The writer's work: whatever waits goes into one commit, until the store is closed.
    fn write(&self, used: Used) {
        let mut used = Some(used);
        loop {
            let mut queue = self.queue();
            while queue.jobs.is_empty() && !queue.closed {
                queue = self.work.wait(queue).unwrap_or_else(PoisonError::into_inner);
            }
            let jobs: Vec<Arc<Job>> = queue.jobs.drain(..).collect();
            let ended = queue.closed;
            drop(queue);
            if ended {
                jobs.iter().for_each(|job| job.answer(Err(closed())));
                return;
            }
            let batch = catch_unwind(AssertUnwindSafe(|| self.commit(&mut used, &jobs)));
            let batch = batch.unwrap_or_else(|_| Err("the database is damaged".to_owned()));
            match batch {
                Ok(answers) => jobs.iter().zip(answers).for_each(|(job, answer)| job.answer(answer)),
                Err(why) => {
                    used = None;
                    self.forget();
                    let message = format!("The host's KV file could not be written: {why}. Write it again when that is mended.");
                    jobs.iter().for_each(|job| job.answer(Err(Error::new(Kind::Io, message.clone()))));
                }
            }
        }
    }

    /// Makes one commit of the jobs and says what became of each.
    fn commit(&self, used: &mut Option<Used>, jobs: &[Arc<Job>]) -> Result<Vec<Result<()>>, String> {
        let before = used.take();
        let work = |database: &Database| before.map_or_else(|| sums(database), Ok).and_then(|known| apply(database, known, jobs));
        let done = self.with(work).map_err(|e| e.message().trim_end_matches('.').to_owned())?;
        let (answers, known) = done.map_err(|e| e.to_string())?;
        *used = Some(known);
        Ok(answers)
    }
}

fn apply(database: &Database, mut used: Used, jobs: &[Arc<Job>]) -> Result<(Vec<Result<()>>, Used), redb::Error> {
    let mut transaction = database.begin_write()?;
    transaction.set_two_phase_commit(true);
    let mut changed = false;
    let mut answers = Vec::with_capacity(jobs.len());
    {
        let mut table = transaction.open_table(VALUES)?;
        for job in jobs {
            let key = job.key.as_str();
            let old = table.get(key)?.map(|old| size(key, old.value()));
            let sum = used.entry(job.identity.clone()).or_default();
            let rest = sum.saturating_sub(old.unwrap_or(0));
            let new = rest + job.value.as_ref().map_or(0, |value| size(key, value));
            let answer = if job.value.is_some() { within(&job.identity, job.total, new) } else { Ok(()) };
            if answer.is_ok() {
                match &job.value {
                    Some(value) => drop(table.insert(key, value.as_slice())?),
                    None => drop(table.remove(key)?),
                }
                *sum = new;
                changed |= job.value.is_some() || old.is_some();
            }
            answers.push(answer);
        }
    }
    if changed {
        transaction.commit()?;
    } else {
        transaction.abort()?;
    }
    Ok((answers, used))
}

/// What each identity holds: summed up from the entries, so that it cannot differ from them.
fn sums(database: &Database) -> Result<Used, redb::Error> {
    let mut used = Used::new();
    let table = database.begin_read()?.open_table(VALUES)?;
    for entry in table.iter()? {
        let (key, value) = entry?;
        // `plugin:<identity>:<key>`, and no identity has a colon.
        if let Some(identity) = key.value().strip_prefix("plugin:").and_then(|rest| rest.split(':').next()) {
            *used.entry(identity.to_owned()).or_default() += size(key.value(), value.value());
        }
    }
    Ok(used)
}

#[cold]
fn closed() -> Error {
    Error::new(Kind::InvalidState, "The host is closed, and with it its KV file.")
}
