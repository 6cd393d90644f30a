//! The future that a connection is, polled by whoever is there.

use std::future::Future;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Wake, Waker};

use crate::grpc::sync::{AtomicBool, Mutex, MutexGuard, Ordering, PoisonError, TryLockError, fence};

/// How often a thread polls it in one go before it looks after itself.
const BATCH: usize = 16;

/// A future that is polled where it has something to do, by one thread at a time.
pub(super) struct Task {
    work: Mutex<Option<Work>>,
    wanted: Arc<Wanted>,
    waker: Waker,
    /// After a panic there is no telling what state it is in.
    broken: AtomicBool,
}

type Work = Pin<Box<dyn Future<Output = ()> + Send>>;

/// Whether it has something to do.
#[derive(Debug)]
struct Wanted(AtomicBool);

/// What came of it.
pub(super) enum Ran {
    /// There is nothing left to do.
    All,
    /// There is more, but this thread has done its share.
    Enough,
    /// It panicked, and will not be polled again.
    Broken,
    /// Another thread is at it, and does what has come since.
    Elsewhere,
}

impl Default for Task {
    fn default() -> Self {
        let wanted = Arc::new(Wanted(AtomicBool::new(false)));
        Task { work: Mutex::new(None), waker: Waker::from(wanted.clone()), wanted, broken: AtomicBool::new(false) }
    }
}

impl Task {
    /// Puts the future in. It is dropped when it has ended, or with this.
    pub(super) fn put(&self, work: impl Future<Output = ()> + Send + 'static) {
        *lock(&self.work) = Some(Box::pin(work));
        self.waker.wake_by_ref();
    }

    /// Its work is of no use any more.
    pub(super) fn give_up(&self) {
        self.broken.store(true, Ordering::Release);
    }

    /// Whether it was given up.
    pub(super) fn is_broken(&self) -> bool {
        self.broken.load(Ordering::Acquire)
    }

    /// Does what can be done now, unless another thread is at it.
    pub(super) fn run(&self) -> Ran {
        let mut left = BATCH;
        loop {
            // Behind the wake that brought this thread here, and behind letting go of the lock: of two threads one sees the other's.
            fence(Ordering::SeqCst);
            if !self.wanted.0.load(Ordering::Acquire) {
                return Ran::All;
            }
            let mut work = match self.work.try_lock() {
                Ok(work) => work,
                Err(TryLockError::Poisoned(work)) => work.into_inner(),
                // Who is at it looks once more when the lock is free.
                Err(TryLockError::WouldBlock) => return Ran::Elsewhere,
            };
            // Before it is polled: a wake from now on is for the next time.
            while self.wanted.0.compare_exchange(true, false, Ordering::AcqRel, Ordering::Acquire).is_ok() {
                if left == 0 {
                    self.waker.wake_by_ref();
                    return Ran::Enough;
                }
                left -= 1;
                let mut context = Context::from_waker(&self.waker);
                let mut poll = || work.as_mut().is_some_and(|work| work.as_mut().poll(&mut context).is_ready());
                match catch_unwind(AssertUnwindSafe(&mut poll)) {
                    Ok(false) => {}
                    Ok(true) => *work = None,
                    Err(_) => {
                        // What is left of it was dropped by the panic, or may panic again.
                        std::mem::forget(work.take());
                        self.give_up();
                        return Ran::Broken;
                    }
                }
            }
        }
    }
}

impl Wake for Wanted {
    fn wake(self: Arc<Self>) {
        self.0.store(true, Ordering::Release);
    }

    fn wake_by_ref(self: &Arc<Self>) {
        self.0.store(true, Ordering::Release);
    }
}

impl std::fmt::Debug for Task {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Task").field("wanted", &self.wanted).finish_non_exhaustive()
    }
}

/// A lock that outlives a panic of who held it.
pub(super) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::atomic::AtomicUsize;
    use std::task::Poll;

    /// Counts when it is dropped.
    struct Dropped(Arc<AtomicUsize>);

    impl Drop for Dropped {
        fn drop(&mut self) {
            self.0.fetch_add(1, Ordering::SeqCst);
        }
    }

    /// A task that does this each time it is polled, how often it was, and whether it was dropped.
    fn task(mut poll: impl FnMut(&mut Context<'_>) -> Poll<()> + Send + 'static) -> (Arc<Task>, Arc<AtomicUsize>, Arc<AtomicUsize>) {
        let (task, polls, drops) = (Arc::new(Task::default()), Arc::<AtomicUsize>::default(), Arc::<AtomicUsize>::default());
        let (polled, held) = (polls.clone(), Dropped(drops.clone()));
        task.put(std::future::poll_fn(move |context| {
            let _held = &held;
            polled.fetch_add(1, Ordering::SeqCst);
            poll(context)
        }));
        (task, polls, drops)
    }

    fn count(counter: &AtomicUsize) -> usize {
        counter.load(Ordering::SeqCst)
    }

    #[test]
    fn a_panic_leaves_it_alone_for_ever() {
        let (task, polls, drops) = task(|_| panic!("in the midst of it"));
        assert!(!task.is_broken());
        assert!(matches!(task.run(), Ran::Broken));
        assert!(task.is_broken());
        for _ in 0..2 {
            task.waker.wake_by_ref();
            assert!(matches!(task.run(), Ran::All));
        }
        assert_eq!(count(&polls), 1);
        // Nor is what the panic left of it dropped, which might panic again.
        drop(task);
        assert_eq!(count(&drops), 0);
    }

    #[test]
    fn it_is_polled_when_it_is_woken_and_dropped_when_it_ends() {
        let mut left = 3;
        let (task, polls, drops) = task(move |_| {
            left -= 1;
            if left == 0 { Poll::Ready(()) } else { Poll::Pending }
        });
        for expected in [1, 2, 3, 3] {
            assert!(matches!(task.run(), Ran::All));
            assert!(matches!(task.run(), Ran::All));
            assert_eq!((count(&polls), count(&drops)), (expected, expected / 3));
            task.waker.wake_by_ref();
        }
    }

    #[test]
    fn what_never_rests_is_left_after_a_while_and_one_thread_is_at_it() {
        let (enter, entered) = std::sync::mpsc::channel();
        let (leave, left) = std::sync::mpsc::channel::<()>();
        let mut first = true;
        let (task, polls, _) = task(move |context| {
            context.waker().wake_by_ref();
            if std::mem::take(&mut first) {
                enter.send(()).unwrap();
                left.recv().unwrap();
            }
            Poll::Pending
        });
        std::thread::scope(|scope| {
            let other = scope.spawn(|| task.run());
            entered.recv().unwrap();
            assert!(matches!(task.run(), Ran::Elsewhere));
            leave.send(()).unwrap();
            assert!(matches!(other.join().unwrap(), Ran::Enough));
        });
        assert_eq!(count(&polls), BATCH);
        assert!(matches!(task.run(), Ran::Enough));
        assert_eq!(count(&polls), 2 * BATCH);
    }
}
