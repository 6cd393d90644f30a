//! Writers that come together, over a disk whose syncs wait for the test.

use std::io;
use std::time::Duration;

use redb::StorageBackend;
use redb::backends::InMemoryBackend;

use super::*;
use crate::call::Deadline;

const LONG: Duration = Duration::from_secs(60);

/// Counts the syncs, and holds them up while it is shut.
#[derive(Debug, Default)]
struct Disk {
    state: Mutex<(bool, usize)>,
    changed: Condvar,
}

impl Disk {
    fn shut(&self, shut: bool) {
        self.state.lock().unwrap().0 = shut;
        self.changed.notify_all();
    }

    fn syncs(&self) -> usize {
        self.state.lock().unwrap().1
    }

    fn sync(&self) {
        let mut state = self.state.lock().unwrap();
        state.1 += 1;
        self.changed.notify_all();
        drop(self.changed.wait_while(state, |(shut, _)| *shut).unwrap());
    }

    fn reached(&self, syncs: usize) {
        let (_state, late) = self.changed.wait_timeout_while(self.state.lock().unwrap(), LONG, |(_, count)| *count < syncs).unwrap();
        assert!(!late.timed_out());
    }
}

#[derive(Debug)]
struct Backend(InMemoryBackend, Arc<Disk>);

impl StorageBackend for Backend {
    fn len(&self) -> Result<u64, io::Error> {
        self.0.len()
    }
    fn read(&self, offset: u64, out: &mut [u8]) -> Result<(), io::Error> {
        self.0.read(offset, out)
    }
    fn set_len(&self, len: u64) -> Result<(), io::Error> {
        self.0.set_len(len)
    }
    fn sync_data(&self) -> Result<(), io::Error> {
        self.1.sync();
        self.0.sync_data()
    }
    fn write(&self, offset: u64, data: &[u8]) -> Result<(), io::Error> {
        self.0.write(offset, data)
    }
}

fn store(disk: &Arc<Disk>) -> FileKv {
    let database = Database::builder().create_with_backend(Backend(InMemoryBackend::new(), disk.clone())).unwrap();
    let transaction = database.begin_write().unwrap();
    transaction.open_table(VALUES).unwrap();
    transaction.commit().unwrap();
    FileKv::over("none".into(), database).unwrap()
}

/// A write that somebody waits for.
fn write(kv: &FileKv, key: &str) -> Arc<Job> {
    let (identity, key, value) = ("p".to_owned(), format!("plugin:p:{key}"), Some(b"value".to_vec()));
    let job = Arc::new(Job { identity, key, value, total: u64::MAX, state: Mutex::default() });
    kv.shared.queue().jobs.push_back(job.clone());
    kv.shared.work.notify_one();
    job
}

fn answer(job: &Job) {
    let arm = |waker| job.state().waker = Some(waker);
    wait(&Deadline::after(LONG), &[], arm, || job.state().answer.take()).unwrap().unwrap();
}

fn is_answered(job: &Job) -> bool {
    job.state().answer.is_some()
}

#[test]
fn writers_that_come_together_share_one_commit_and_none_is_answered_before_it() {
    let disk = Arc::new(Disk::default());
    let kv = store(&disk);
    let begun = disk.syncs();
    answer(&write(&kv, "alone"));
    let one = disk.syncs() - begun;
    assert!(one > 0, "a commit is synced");

    disk.shut(true);
    let before = disk.syncs();
    let first = write(&kv, "first");
    disk.reached(before + 1);
    // The writer is in its commit: these wait for the next.
    let others: Vec<_> = (0..10).map(|n| write(&kv, &n.to_string())).collect();
    assert!(!is_answered(&first) && !others.iter().any(|job| is_answered(job)));
    assert_eq!(kv.get("plugin:p:first").unwrap(), None, "who reads sees what is on the disk");
    disk.shut(false);
    answer(&first);
    others.iter().for_each(|job| answer(job));
    assert_eq!(disk.syncs() - before, 2 * one, "the first one's commit, and one for all others");
    assert_eq!(kv.get("plugin:p:9").unwrap().as_deref(), Some(&b"value"[..]));
}
