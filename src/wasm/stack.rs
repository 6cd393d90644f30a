//! Room on the native stack: a guest's stack lies on its caller's, and must end before it does.

use crate::error::{Error, Kind, Result};
use crate::sys;

use super::engine::GUEST_STACK;

/// What a guest needs of the native stack: its own, and the host calls on top of it.
const NEEDED: usize = GUEST_STACK + (256 << 10);

/// Whether a guest can run right here.
pub(super) fn has_room() -> bool {
    sys::stack_left() >= NEEDED
}

/// Runs `work` here if there is room, else on a thread of ours while this one waits.
pub(super) fn with_room<R: Send>(work: impl FnOnce() -> R + Send) -> Result<R> {
    if has_room() {
        return Ok(work());
    }
    std::thread::scope(|scope| {
        let on_thread = || {
            sys::block_signals();
            work()
        };
        let thread = std::thread::Builder::new().name("flowplug-call".to_owned()).stack_size(sys::STACK_SIZE);
        let thread = thread.spawn_scoped(scope, on_thread).map_err(|e| {
            Error::new(
                Kind::Io,
                format!("The calling thread's stack is too small for a plugin, and the system refused another thread: {e}."),
            )
        })?;
        thread.join().map_err(|panic| std::panic::resume_unwind(panic))
    })
}
