//! The futures that a connection consists of, polled by whoever is there.

use std::collections::{HashMap, VecDeque};
use std::future::Future;
use std::pin::Pin;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::task::{Context, Wake, Waker};

/// The most that a thread does in one go before it looks after itself.
const BATCH: usize = 64;

/// What a connection consists of: futures, polled by whoever is here, one thread at a time.
#[derive(Debug, Default)]
pub(super) struct Tasks {
    running: Mutex<()>,
    waiting: AtomicUsize,
    ready: Mutex<VecDeque<Arc<Task>>>,
    live: Mutex<HashMap<usize, Arc<Task>>>,
}

/// What came of the work.
pub(super) enum Ran {
    /// There is none left.
    All,
    /// There is more, but this thread has done its share.
    Enough,
    /// Another thread is at it, and does what has come since.
    Elsewhere,
}

struct Task {
    work: Mutex<Option<Work>>,
    queued: AtomicBool,
    tasks: Weak<Tasks>,
}

type Work = Pin<Box<dyn Future<Output = ()> + Send>>;

/// Where a connection puts its futures.
#[derive(Clone, Debug)]
pub(super) struct Spawner(Weak<Tasks>);

impl<F: Future<Output = ()> + Send + 'static> hyper::rt::Executor<F> for Spawner {
    fn execute(&self, work: F) {
        let Some(tasks) = self.0.upgrade() else { return };
        let task = Arc::new(Task { work: Mutex::new(Some(Box::pin(work))), queued: AtomicBool::new(false), tasks: self.0.clone() });
        lock(&tasks.live).insert(task.key(), task.clone());
        task.wake();
    }
}

impl Tasks {
    /// To put futures in; no longer than they are there.
    pub(super) fn spawner(tasks: &Arc<Self>) -> Spawner {
        Spawner(Arc::downgrade(tasks))
    }

    /// Does what can be done now, unless another thread is at it.
    pub(super) fn run(&self) -> Ran {
        if self.waiting.load(Ordering::Acquire) == 0 {
            return Ran::All;
        }
        let mut left = BATCH;
        loop {
            let Ok(running) = self.running.try_lock() else { return Ran::Elsewhere };
            while let Some(task) = self.next() {
                task.run(self);
                left -= 1;
                if left == 0 {
                    return Ran::Enough;
                }
            }
            drop(running);
            // Who found the lock taken, and left, had put something here before.
            if lock(&self.ready).is_empty() {
                return Ran::All;
            }
        }
    }

    fn next(&self) -> Option<Arc<Task>> {
        let mut ready = lock(&self.ready);
        let task = ready.pop_front();
        self.waiting.store(ready.len(), Ordering::Release);
        task
    }
}

impl Drop for Tasks {
    fn drop(&mut self) {
        // Each is kept by the wakers that it holds itself.
        for task in std::mem::take(&mut *lock(&self.live)).into_values() {
            let work = lock(&task.work).take();
            drop(work);
        }
    }
}

impl Task {
    fn key(self: &Arc<Self>) -> usize {
        Arc::as_ptr(self).addr()
    }

    fn run(self: Arc<Self>, tasks: &Tasks) {
        // Before it is polled: a wake from now on is for the next time.
        self.queued.store(false, Ordering::Release);
        let waker = Waker::from(self.clone());
        let mut work = lock(&self.work);
        let done = work.as_mut().is_some_and(|work| work.as_mut().poll(&mut Context::from_waker(&waker)).is_ready());
        if done {
            *work = None;
            lock(&tasks.live).remove(&self.key());
        }
    }
}

impl Wake for Task {
    fn wake(self: Arc<Self>) {
        if self.queued.swap(true, Ordering::AcqRel) {
            return;
        }
        if let Some(tasks) = self.tasks.upgrade() {
            let mut ready = lock(&tasks.ready);
            ready.push_back(self);
            tasks.waiting.store(ready.len(), Ordering::Release);
        }
    }
}

impl std::fmt::Debug for Task {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Task").finish_non_exhaustive()
    }
}

/// A lock that outlives a panic of who held it.
pub(super) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
