//! The end of a host's callbacks: all of them pass one gate, which is shut once, and each registration ends with one `destroy`.

use std::cell::RefCell;
use std::ffi::c_void;
use std::ops::Deref;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Condvar, Mutex, Once, OnceLock, PoisonError};
use std::time::Duration;

use crate::call::Deadline;
use crate::error::{Error, Kind, Result};
use crate::ffi::threads::Threads;

/// Everything that the callbacks of one host pass: counted, and shut once.
#[derive(Default)]
pub(crate) struct Gate {
    /// Callbacks and completions in progress, and [`SHUT`].
    state: AtomicUsize,
    changed: (Mutex<()>, Condvar),
    /// Where callbacks run that are detached; empty: on the threads that ask.
    threads: OnceLock<Arc<Threads>>,
}

const SHUT: usize = 1 << (usize::BITS - 1);

thread_local! {
    /// The gates whose callbacks this thread is inside of.
    static INSIDE: RefCell<Vec<usize>> = const { RefCell::new(Vec::new()) };
}

/// A callback in progress; `G` is a reference to the gate, counted where it may outlive whoever entered.
pub(crate) struct Entered<G: Deref<Target = Gate> = Arc<Gate>>(G);

impl Gate {
    /// From here on, callbacks run on threads of their own.
    pub(crate) fn detach(&self) {
        self.threads.get_or_init(Arc::default);
    }

    /// The threads of detached callbacks; none: they run on the thread that asks.
    pub(crate) fn threads(&self) -> Option<&Arc<Threads>> {
        self.threads.get()
    }

    /// `invalid state` once it is shut.
    pub(crate) fn enter(self: &Arc<Self>) -> Result<Entered> {
        Entered(self.clone()).admitted()
    }

    /// The same for who stays here meanwhile.
    pub(crate) fn enter_here(&self) -> Result<Entered<&Gate>> {
        Entered(self).admitted()
    }

    /// Runs a callback with this thread marked as inside.
    fn mark<R>(&self, f: impl FnOnce() -> R) -> R {
        struct Leave;
        impl Drop for Leave {
            fn drop(&mut self) {
                INSIDE.with_borrow_mut(|gates| gates.pop());
            }
        }
        INSIDE.with_borrow_mut(|gates| gates.push(std::ptr::from_ref(self).addr()));
        let _leave = Leave;
        f()
    }

    /// Whether this thread is inside a callback of this gate.
    pub(crate) fn is_inside(&self) -> bool {
        INSIDE.with_borrow(|gates| gates.contains(&std::ptr::from_ref(self).addr()))
    }

    /// Lets nothing in any more and waits until nothing is inside; false if that takes longer.
    pub(crate) fn shut(&self, deadline: &Deadline) -> bool {
        self.state.fetch_or(SHUT, Ordering::SeqCst);
        let mut guard = self.changed.0.lock().unwrap_or_else(PoisonError::into_inner);
        while self.state.load(Ordering::SeqCst) != SHUT {
            let left = deadline.remaining().unwrap_or(Duration::from_secs(3600));
            if left.is_zero() {
                return false;
            }
            guard = self.changed.1.wait_timeout(guard, left).unwrap_or_else(PoisonError::into_inner).0;
        }
        true
    }
}

impl<G: Deref<Target = Gate>> Entered<G> {
    /// Counted in first, so that leaving counts out whoever was refused, too.
    fn admitted(self) -> Result<Self> {
        if self.0.state.fetch_add(1, Ordering::SeqCst) & SHUT != 0 {
            return Err(Error::new(Kind::InvalidState, "The host is closed; its callbacks are not called any more."));
        }
        Ok(self)
    }

    /// Once more, for what goes on after this; also where the gate has been shut meanwhile.
    pub(crate) fn again(&self, gate: &Arc<Gate>) -> Entered {
        gate.state.fetch_add(1, Ordering::SeqCst);
        Entered(gate.clone())
    }

    /// Runs a callback, with this thread marked as inside.
    pub(crate) fn run<R>(&self, f: impl FnOnce() -> R) -> R {
        self.0.mark(f)
    }

    /// The same for work that owns its place: a completion.
    pub(crate) fn finish(self, f: impl FnOnce()) {
        self.run(f);
    }
}

impl<G: Deref<Target = Gate>> Drop for Entered<G> {
    fn drop(&mut self) {
        if self.0.state.fetch_sub(1, Ordering::SeqCst) == SHUT | 1 {
            drop(self.0.changed.0.lock());
            self.0.changed.1.notify_all();
        }
    }
}

/// What a registration promised: `destroy` runs exactly once, after everything else.
pub(crate) struct Registration {
    destroy: Option<unsafe extern "C" fn(user_data: *mut c_void)>,
    user_data: *mut c_void,
    once: Once,
    gate: Arc<Gate>,
}

// SAFETY: the header says that destroy comes from any thread.
unsafe impl Send for Registration {}
// SAFETY: as above; `once` lets one thread call it.
unsafe impl Sync for Registration {}

impl Registration {
    pub(crate) fn new(destroy: Option<unsafe extern "C" fn(user_data: *mut c_void)>, user_data: *mut c_void, gate: Arc<Gate>) -> Self {
        Registration { destroy, user_data, once: Once::new(), gate }
    }

    /// Runs `destroy`, or waits until the thread that runs it has. Inside of itself it does nothing.
    pub(crate) fn end(&self) {
        if self.gate.is_inside()
            && !self.once.is_completed()
            && ENDING.with_borrow(|ending| ending.contains(&std::ptr::from_ref(self).addr()))
        {
            return;
        }
        self.once.call_once(|| {
            let Some(destroy) = self.destroy else { return };
            ENDING.with_borrow_mut(|ending| ending.push(std::ptr::from_ref(self).addr()));
            // SAFETY: the registrant's contract: destroy may be called once, from any thread.
            self.gate.mark(|| unsafe { destroy(self.user_data) });
            ENDING.with_borrow_mut(Vec::pop);
        });
    }

    pub(crate) fn has_ended(&self) -> bool {
        self.once.is_completed()
    }
}

thread_local! {
    /// The registrations whose `destroy` runs on this thread.
    static ENDING: RefCell<Vec<usize>> = const { RefCell::new(Vec::new()) };
}
