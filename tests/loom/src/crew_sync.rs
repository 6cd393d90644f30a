//! What a crew is built on, as loom has it.

use std::ops::{Deref, DerefMut};
use std::sync::{Arc, LockResult, TryLockResult};
use std::time::Duration;

use loom::sync::{Condvar, atomic};

pub(super) use loom::sync::atomic::{Ordering, fence};
pub(super) use loom::thread_local;
pub(super) use std::sync::{PoisonError, TryLockError};

/// A lock that is tried by an atomic: loom lets nobody in between what is done under its own and letting go of it, and orders
/// more by it than a machine does.
#[derive(Debug)]
pub(super) struct Mutex<T> {
    tried: atomic::AtomicBool,
    value: loom::sync::Mutex<T>,
}

pub(super) struct MutexGuard<'a, T> {
    value: Option<loom::sync::MutexGuard<'a, T>>,
    tried: Option<&'a atomic::AtomicBool>,
}

impl<T> Mutex<T> {
    pub(super) fn new(value: T) -> Self {
        Mutex { tried: atomic::AtomicBool::new(false), value: loom::sync::Mutex::new(value) }
    }

    /// Of what nobody only tries at the same time.
    pub(super) fn lock(&self) -> LockResult<MutexGuard<'_, T>> {
        Ok(MutexGuard { value: Some(self.value.lock().expect("no panic")), tried: None })
    }

    pub(super) fn try_lock(&self) -> TryLockResult<MutexGuard<'_, T>> {
        if self.tried.compare_exchange(false, true, Ordering::Acquire, Ordering::Relaxed).is_err() {
            return Err(TryLockError::WouldBlock);
        }
        Ok(MutexGuard { value: Some(self.value.try_lock().expect("held twice")), tried: Some(&self.tried) })
    }
}

impl<T> Deref for MutexGuard<'_, T> {
    type Target = T;

    fn deref(&self) -> &T {
        self.value.as_ref().expect("held")
    }
}

impl<T> DerefMut for MutexGuard<'_, T> {
    fn deref_mut(&mut self) -> &mut T {
        self.value.as_mut().expect("held")
    }
}

impl<T> Drop for MutexGuard<'_, T> {
    fn drop(&mut self) {
        self.value = None;
        if let Some(tried) = self.tried {
            tried.store(false, Ordering::Release);
        }
    }
}

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
pub(super) struct Thread(Arc<(loom::sync::Mutex<bool>, Condvar)>);

loom::thread_local! {
    static OWN: Thread = Thread(Arc::new((loom::sync::Mutex::new(false), Condvar::new())));
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
