//! The one guard of all exports: no panic crosses, no child of `fork` gets in, an error is written once.

use std::any::Any;
use std::panic::{AssertUnwindSafe, catch_unwind};

use crate::error::{Error, Kind, Result};
use crate::ffi::error::flowplug_error;
use crate::ffi::{flowplug_status, status_of};
use crate::sys;

/// Runs the body of an export. On failure the error goes to `error`, unless that is NULL.
///
/// # Safety
/// `error` is NULL or points to a writable pointer; its old value is not read.
#[inline]
pub(crate) unsafe fn guard(error: *mut *mut flowplug_error, body: impl FnOnce() -> Result<()>) -> flowplug_status {
    match run(body) {
        Ok(()) => 0,
        // SAFETY: by this function's contract.
        Err(e) => unsafe { hand_over(e, error) },
    }
}

/// # Safety
/// As for [`guard`].
#[cold]
unsafe fn hand_over(e: Error, error: *mut *mut flowplug_error) -> flowplug_status {
    let status = status_of(e.kind());
    if !error.is_null() {
        let owned = Box::into_raw(Box::new(flowplug_error::new(e)));
        // SAFETY: not NULL, so by this function's contract a writable pointer.
        unsafe { error.write(owned) };
    }
    status
}

/// The same for exports that take only numbers and return the status alone.
pub(crate) fn guard_status(body: impl FnOnce() -> Result<()>) -> flowplug_status {
    run(body).map_or_else(|e| status_of(e.kind()), |()| 0)
}

/// Runs the body of an export that cannot fail; `fallback` is what a panic or a forked child gets.
pub(crate) fn guard_value<T>(fallback: T, body: impl FnOnce() -> T) -> T {
    let mut value = fallback;
    drop(run(|| {
        value = body();
        Ok(())
    }));
    value
}

/// Ends a handle: in a forked child it is leaked, because joining what does not exist there would hang.
///
/// # Safety
/// `handle` is NULL or came from `Box::into_raw`, and is not used after.
pub(crate) unsafe fn free<T>(handle: *mut T, end: impl FnOnce(T)) {
    if handle.is_null() || sys::forked() {
        return;
    }
    // SAFETY: by this function's contract it came from Box::into_raw and is given up here.
    let owned = unsafe { Box::from_raw(handle) };
    guard_value((), || end(*owned));
}

#[inline]
fn run(body: impl FnOnce() -> Result<()>) -> Result<()> {
    if sys::forked() {
        return Err(Error::new(
            Kind::InvalidState,
            "This process is a fork of the one that uses the library; load the library anew with exec.",
        ));
    }
    catch_unwind(AssertUnwindSafe(body)).unwrap_or_else(|panic| Err(caught(panic.as_ref())))
}

#[cold]
fn caught(panic: &(dyn Any + Send)) -> Error {
    let text = panic.downcast_ref::<&str>().map(|s| (*s).to_owned()).or_else(|| panic.downcast_ref::<String>().cloned());
    Error::new(Kind::Internal, format!("A fault of flowplug itself; please report it: {}.", text.unwrap_or_else(|| "no message".into())))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_panic_becomes_internal_and_keeps_its_message() {
        let mut error = std::ptr::null_mut();
        // SAFETY: the output pointer lives for the call.
        let status = unsafe { guard(&raw mut error, || panic!("index {} is lost", 7)) };
        assert_eq!(status, status_of(Kind::Internal));
        // SAFETY: the guard wrote an owned error.
        let error = unsafe { Box::from_raw(error) };
        assert!(error.message().contains("index 7 is lost"));
        assert_eq!(guard_value(5, || panic!("again")), 5);
    }
}
