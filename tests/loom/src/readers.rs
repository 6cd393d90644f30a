//! Nothing ends while somebody reads it, and everything ends. Loom reports a value that is ended while it is read, or without
//! the reader having been seen to leave.

use std::sync::Arc;
use std::sync::atomic::Ordering::SeqCst;

use loom::cell::UnsafeCell;
use loom::model::Builder;
use loom::thread;

use super::readers::Readers;
use super::sync::{AtomicUsize, MARK};

const PREEMPTIONS: usize = 3;

/// A value that is replaced: which of its successors is found, and whether each is alive.
struct Replaced {
    readers: &'static Readers,
    current: AtomicUsize,
    alive: Vec<UnsafeCell<bool>>,
}

// SAFETY: loom reports an access to a cell beside another.
unsafe impl Sync for Replaced {}
// SAFETY: as above.
unsafe impl Send for Replaced {}

struct Ends(Arc<Replaced>, usize);

impl Drop for Ends {
    fn drop(&mut self) {
        // SAFETY: loom lends the cell to nobody else meanwhile, or reports it.
        self.0.alive[self.1].with_mut(|alive| unsafe { *alive = false });
    }
}

impl Replaced {
    fn new(values: usize) -> Arc<Self> {
        let alive = (0..values).map(|_| UnsafeCell::new(true)).collect();
        Arc::new(Replaced { readers: Box::leak(Box::default()), current: AtomicUsize::new(0), alive })
    }

    fn read(&self) {
        let visit = self.readers.enter();
        let found = self.current.load(SeqCst);
        // SAFETY: as above.
        assert!(self.alive[found].with(|alive| unsafe { *alive }), "what was found had ended");
        drop(visit);
    }

    fn replace(self: &Arc<Self>, next: usize) {
        self.current.store(next, SeqCst);
        self.readers.retire(Box::new(Ends(self.clone(), next - 1)));
    }

    /// When all have left.
    fn check(&self) {
        for (at, alive) in self.alive.iter().enumerate() {
            // SAFETY: as above.
            assert_eq!(alive.with(|alive| unsafe { *alive }), at + 1 == self.alive.len(), "all that was replaced has ended");
        }
        assert_eq!(self.readers.visits().inside, 0);
    }
}

fn check(model: impl Fn() + Sync + Send + 'static) {
    let mut builder = Builder::new();
    builder.preemption_bound = Some(PREEMPTIONS);
    builder.check(model);
}

/// A value is replaced so often while threads read it so often each, by the same counter or by their own.
pub fn nothing_ends_while_it_is_read(readers: usize, rounds: usize, replaced: usize, apart: bool) {
    check(move || {
        let value = Replaced::new(replaced + 1);
        let threads: Vec<_> = (0..readers)
            .map(|number| {
                let value = value.clone();
                thread::spawn(move || {
                    MARK.set(if apart { number } else { 0 });
                    (0..rounds).for_each(|_| value.read());
                })
            })
            .collect();
        (1..=replaced).for_each(|next| value.replace(next));
        threads.into_iter().for_each(|thread| thread.join().unwrap());
        value.check();
    });
}
