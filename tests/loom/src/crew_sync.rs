//! What a crew is built on, as loom has it.

use std::sync::Arc;
use std::time::Duration;

use loom::sync::{Condvar, atomic};

pub(super) use loom::sync::atomic::{Ordering, fence};
pub(super) use loom::sync::{Mutex, MutexGuard};
pub(super) use loom::thread_local;
pub(super) use std::sync::{PoisonError, TryLockError};

/// An atomic whose swaps compare too: loom would let a swap that finds what it writes hide what comes after it, which no machine can.
macro_rules! atomic {
    ($name:ident, $value:ty) => {
        #[derive(Debug)]
        pub(super) struct $name(atomic::$name);

        #[allow(dead_code, reason = "each has what one of the two needs")]
        impl $name {
            pub(super) fn new(value: $value) -> Self {
                $name(atomic::$name::new(value))
            }

            pub(super) fn load(&self, order: Ordering) -> $value {
                self.0.load(order)
            }

            pub(super) fn store(&self, value: $value, order: Ordering) {
                self.0.store(value, order);
            }

            pub(super) fn compare_exchange(&self, old: $value, new: $value, yes: Ordering, no: Ordering) -> Result<$value, $value> {
                self.0.compare_exchange(old, new, yes, no)
            }

            pub(super) fn swap(&self, value: $value, order: Ordering) -> $value {
                let mut old = self.0.load(Ordering::Acquire);
                while let Err(other) = self.0.compare_exchange(old, value, order, Ordering::Acquire) {
                    old = other;
                }
                old
            }
        }
    };
}

atomic!(AtomicBool, bool);
atomic!(AtomicU8, u8);

/// A thread that can be called. Not loom's own: that forgets a call of a thread which waits for a lock.
#[derive(Clone, Debug)]
pub(super) struct Thread(Arc<(Mutex<bool>, Condvar)>);

loom::thread_local! {
    static OWN: Thread = Thread(Arc::new((Mutex::new(false), Condvar::new())));
}

impl Thread {
    pub(super) fn unpark(&self) {
        *self.0.0.lock().unwrap() = true;
        self.0.1.notify_all();
    }
}

pub(super) fn current() -> Thread {
    OWN.with(Clone::clone)
}

/// No time passes: who is not called sleeps for ever.
pub(super) fn park(_: Option<Duration>) {
    let own = current();
    let mut called = own.0.0.lock().unwrap();
    while !*called {
        called = own.0.1.wait(called).unwrap();
    }
    *called = false;
}
