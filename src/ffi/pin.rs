//! Handles that calls hold without a counter of their own: who calls a plugin enters among its readers, which also keeps
//! the handle through which it came, until the call is over.

use crate::error::Result;
use crate::ffi::guard::guard_value;
use crate::ffi::text::handle;
use crate::plugin::{Entered, Plugin};
use crate::sys;

/// A handle of something that belongs to a plugin.
pub(crate) trait Pinned: Send + Sync + 'static {
    /// Whose it is.
    fn plugin(&self) -> &Plugin;
}

/// A handle that was freed, perhaps while a call of its plugin was using it. A raw pointer: calls hold references.
struct Freed<T>(*mut T);

// SAFETY: it stands for a box of a type that is Send.
unsafe impl<T: Send> Send for Freed<T> {}

impl<T> Drop for Freed<T> {
    fn drop(&mut self) {
        // SAFETY: it came from `Box::into_raw` and was given up by whoever freed it; the last call that may use it is over.
        drop(unsafe { Box::from_raw(self.0) });
    }
}

/// Enters the plugin of the handle behind a pointer, to call it: the handle stays until the call is over. NULL is `invalid
/// argument`.
///
/// # Safety
/// `pointer` is NULL or came from `Box::into_raw` and is ended by [`end`] alone, not before this returns.
#[inline]
pub(crate) unsafe fn enter<'a, T: Pinned>(pointer: *const T, what: &str) -> Result<(&'a T, Entered<'a>)> {
    // SAFETY: live by this function's contract, and from here on because `end` leaves what is in use.
    let handle = unsafe { handle(pointer, what) }?;
    Ok((handle, handle.plugin().enter()))
}

/// Ends a handle, now or with the last call that may be using it. In a forked child it is leaked.
///
/// # Safety
/// `pointer` is NULL or came from `Box::into_raw`, and no use of it begins after.
pub(crate) unsafe fn end<T: Pinned>(pointer: *mut T) {
    if sys::forked() {
        return;
    }
    // SAFETY: NULL or live by this function's contract.
    let Some(handle) = (unsafe { pointer.as_ref() }) else { return };
    let readers = handle.plugin().readers();
    guard_value((), || readers.retire(Box::new(Freed(pointer))));
}
