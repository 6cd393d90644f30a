//! Room on the native stack: a guest's stack lies on its caller's, and must end before it does.

use crate::error::{Error, Kind, Result};
use crate::sys;

use super::engine::GUEST_STACK;

/// What a guest needs of the native stack: its own, and the host calls on top of it.
const NEEDED: usize = GUEST_STACK + (256 << 10);

/// Whether there is room here.
#[inline]
pub(super) fn has_room() -> bool {
    sys::stack_left() >= NEEDED
}

/// Runs `work` here if there is room, else on a thread of ours while this one waits.
pub(super) fn with_room<R: Send>(work: impl FnOnce() -> R + Send) -> Result<R> {
    sys::with_stack(NEEDED, work).map_err(|e| {
        let text = format!("The calling thread's stack is too small for a plugin, and the system refused another thread: {e}.");
        Error::new(Kind::Io, text)
    })
}
