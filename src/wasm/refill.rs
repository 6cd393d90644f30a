//! What is missing, and the one who makes it. Nothing is left missing: who loses something counts it, then looks whether somebody
//! makes what is missing; who makes it says that it has ended, then looks at the count. Both looks swap, so one sees the other.

use super::sync::{AtomicBool, AtomicUsize, Ordering};

/// How many of something are missing, and whether somebody makes them.
pub(super) struct Refill {
    /// Below, how many are missing; above, how many were ever lost, as far as that fits.
    missing: AtomicUsize,
    running: AtomicBool,
}

const LOST: usize = 1 << (usize::BITS / 2);
const MISSING: usize = LOST - 1;

impl Refill {
    pub(super) fn new() -> Self {
        Refill { missing: AtomicUsize::new(0), running: AtomicBool::new(false) }
    }

    /// One was made, whoever made it.
    pub(super) fn gained(&self) {
        let _none_missing = self.missing.fetch_update(Ordering::AcqRel, Ordering::Acquire, |now| (now & MISSING > 0).then(|| now - 1));
    }

    /// One is missing; whether the caller has to see to it that [`run`](Self::run) is called, or else [`stop`](Self::stop).
    pub(super) fn lost(&self) -> bool {
        self.missing.fetch_add(LOST | 1, Ordering::AcqRel);
        !self.running.swap(true, Ordering::AcqRel)
    }

    /// Makes what is missing until nothing is. `make` tells [`gained`](Self::gained) of it, and whether it could make one: if not,
    /// what is missing is left to whoever needs it.
    pub(super) fn run(&self, mut make: impl FnMut() -> bool) {
        loop {
            loop {
                let before = self.missing.load(Ordering::Acquire);
                if before & MISSING == 0 {
                    break;
                }
                if !make() {
                    // Unless another was lost since: what was in the way may be gone.
                    let none = |now: usize| (now & !MISSING == before & !MISSING).then_some(now & !MISSING);
                    let _tried_again = self.missing.fetch_update(Ordering::AcqRel, Ordering::Acquire, none);
                }
            }
            self.stop();
            // One that was lost just now saw this at work and left it to this.
            if self.missing.load(Ordering::Acquire) & MISSING == 0 || self.running.swap(true, Ordering::AcqRel) {
                return;
            }
        }
    }

    /// Nobody makes anything: it was not begun, or it was given up.
    pub(super) fn stop(&self) {
        self.running.swap(false, Ordering::AcqRel);
    }
}

impl Default for Refill {
    fn default() -> Self {
        Self::new()
    }
}
