//! Handles that calls hold without sharing a cache line: each thread counts itself in on one of several counters, and a
//! handle that is freed meanwhile ends with its last user.

use std::ops::Deref;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Mutex, PoisonError};

use crate::error::Result;
use crate::ffi::guard::guard_value;
use crate::ffi::text::handle;
use crate::sys;

/// Counters of a handle: two threads that call at the same time rarely share one.
const COUNTERS: usize = 8;

/// Two cache lines each, because processors fetch them in pairs.
#[derive(Debug, Default)]
#[repr(align(128))]
struct Counter(AtomicUsize);

/// Who uses a handle.
#[derive(Debug, Default)]
pub(crate) struct Users([Counter; COUNTERS]);

/// A handle that counts its users.
pub(crate) trait Pinned: Send + Sync + 'static {
    /// Those of this handle.
    fn users(&self) -> &Users;
}

/// A use of a handle, which stays while this lives.
pub(crate) struct Pin<'a, T> {
    handle: &'a T,
    counter: &'a AtomicUsize,
}

/// A handle that was freed, perhaps while it was in use. A raw pointer: its users hold references.
struct Freed(*mut dyn Pinned);

// SAFETY: it stands for a box of a type that is Send.
unsafe impl Send for Freed {}

static FREED: Mutex<Vec<Freed>> = Mutex::new(Vec::new());
/// How many stand there. Looked at by each user that leaves, after it has left.
static PENDING: AtomicUsize = AtomicUsize::new(0);

impl Users {
    fn any(&self) -> bool {
        self.0.iter().any(|counter| counter.0.load(Ordering::SeqCst) > 0)
    }
}

/// Uses the handle behind a pointer; NULL is `invalid argument`.
///
/// # Safety
/// `pointer` is NULL or came from `Box::into_raw` and is ended by [`end`] alone, not before this returns.
#[inline]
pub(crate) unsafe fn pin<'a, T: Pinned>(pointer: *const T, what: &str) -> Result<Pin<'a, T>> {
    // SAFETY: live by this function's contract, and from here on because `end` leaves what is in use.
    let handle = unsafe { handle(pointer, what) }?;
    let [first, ..] = &handle.users().0;
    let counter = &handle.users().0.get(thread_number() % COUNTERS).unwrap_or(first).0;
    counter.fetch_add(1, Ordering::SeqCst);
    Ok(Pin { handle, counter })
}

/// Ends a handle, now or with its last user. In a forked child it is leaked.
///
/// # Safety
/// `pointer` is NULL or came from `Box::into_raw`, and no use of it begins after.
pub(crate) unsafe fn end<T: Pinned>(pointer: *mut T) {
    if pointer.is_null() || sys::forked() {
        return;
    }
    guard_value((), || {
        PENDING.fetch_add(1, Ordering::SeqCst);
        FREED.lock().unwrap_or_else(PoisonError::into_inner).push(Freed(pointer));
        collect();
    });
}

/// Ends what nobody uses any more.
#[cold]
fn collect() {
    let mut freed = FREED.lock().unwrap_or_else(PoisonError::into_inner);
    // SAFETY: what stands in the list is boxed and alive: it is ended below alone, after it has left the list.
    let unused: Vec<Freed> = freed.extract_if(.., |freed| !unsafe { &*freed.0 }.users().any()).collect();
    PENDING.fetch_sub(unused.len(), Ordering::SeqCst);
    drop(freed);
    for freed in unused {
        // SAFETY: it came from `Box::into_raw`, its last user has left, and by the contract of `end` none comes after.
        drop(unsafe { Box::from_raw(freed.0) });
    }
}

impl<T> Deref for Pin<'_, T> {
    type Target = T;

    fn deref(&self) -> &T {
        self.handle
    }
}

impl<T> Drop for Pin<'_, T> {
    #[inline]
    fn drop(&mut self) {
        self.counter.fetch_sub(1, Ordering::SeqCst);
        // The handle may be gone from here on. In the one order of these operations, either this sees that something
        // was freed, or who freed it sees that this has left.
        if PENDING.load(Ordering::SeqCst) > 0 {
            collect();
        }
    }
}

/// A number that threads seldom share. They are told apart by where their stacks lie: cheaper than a thread's own variable
/// in a shared library, and good enough to choose a counter by.
#[inline]
fn thread_number() -> usize {
    let here = 0u8;
    (&raw const here as usize >> 18).wrapping_mul(0x9e37_79b9) >> 24
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::atomic::AtomicBool;

    struct Handle {
        users: Users,
        ended: &'static AtomicBool,
    }

    impl Pinned for Handle {
        fn users(&self) -> &Users {
            &self.users
        }
    }

    impl Drop for Handle {
        fn drop(&mut self) {
            assert!(!self.ended.swap(true, Ordering::SeqCst));
        }
    }

    fn handle_of(ended: &'static AtomicBool) -> *mut Handle {
        Box::into_raw(Box::new(Handle { users: Users::default(), ended }))
    }

    #[test]
    fn a_handle_ends_with_its_last_user() {
        static ENDED: AtomicBool = AtomicBool::new(false);
        let made = handle_of(&ENDED);
        // SAFETY: live, and ended below.
        let first = unsafe { pin(made, "handle") }.unwrap();
        // SAFETY: as above.
        let second = unsafe { pin(made, "handle") }.unwrap();
        // SAFETY: made above; no use begins after.
        unsafe { end(made) };
        drop(first);
        assert!(!second.ended.load(Ordering::SeqCst));
        drop(second);
        assert!(ENDED.load(Ordering::SeqCst));
    }

    #[test]
    fn users_of_many_threads_keep_it_alive() {
        for _ in 0..200 {
            let ended: &'static AtomicBool = Box::leak(Box::new(AtomicBool::new(false)));
            let made = handle_of(ended);
            // SAFETY: live, and ended below.
            let mine = unsafe { pin(made, "handle") }.unwrap();
            let started = AtomicUsize::new(0);
            std::thread::scope(|scope| {
                for _ in 0..4 {
                    scope.spawn(|| {
                        // SAFETY: `mine` keeps it, and it is freed only after all have begun.
                        let pin = unsafe { pin(std::ptr::from_ref::<Handle>(&*mine), "handle") }.unwrap();
                        started.fetch_add(1, Ordering::SeqCst);
                        assert!(!pin.ended.load(Ordering::SeqCst));
                    });
                }
                while started.load(Ordering::SeqCst) < 4 {
                    std::thread::yield_now();
                }
                // SAFETY: made above; no use begins after.
                unsafe { end(made) };
            });
            drop(mine);
            assert!(ended.load(Ordering::SeqCst));
        }
    }
}
