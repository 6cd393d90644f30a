//! What bounds the work of compiling: functions and their sizes, seen before anything is compiled, and how many modules
//! are compiled at once.

use std::sync::{Condvar, Mutex, PoisonError};
use std::time::Duration;

use crate::call::{self, Cancel, Deadline};
use crate::error::{Error, Kind, Result};

/// The most bytes of one function: the compiler's time grows faster than a function does. The largest of real programs,
/// interpreters' loops, have some hundred KiB.
pub(super) const BODY_MAX: u32 = 1 << 20;

/// Counts the functions of a binary module and looks at the size of each; whatever is malformed is left to the compiler.
pub(super) fn check(bytes: &[u8], max: u64) -> Result<u64> {
    let mut functions = 0;
    let mut rest = bytes.get(8..).unwrap_or_default();
    while let Some((&id, after)) = rest.split_first() {
        let Some((size, after)) = number(after) else { break };
        let Some((content, after)) = after.split_at_checked(size as usize) else { break };
        match (id, number(content)) {
            (3, Some((count, _))) => {
                functions += u64::from(count);
                check_count(functions, max)?;
            }
            (10, Some((_, bodies))) => check_bodies(bodies)?,
            _ => {}
        }
        rest = after;
    }
    Ok(functions)
}

/// Whether a module may have so many functions.
pub(super) fn check_count(count: u64, max: u64) -> Result<()> {
    if count <= max {
        return Ok(());
    }
    let text = format!("The module has {count} functions; the policy grants {max} (module_functions). Raise it to load this module.");
    Err(Error::new(Kind::PermissionDenied, text))
}

fn check_bodies(mut bodies: &[u8]) -> Result<()> {
    while let Some((size, after)) = number(bodies) {
        if size > BODY_MAX {
            let text = format!(
                "A function of the module has {size} bytes; this host compiles functions of {BODY_MAX} at most. Build it with less inlining, or split the function."
            );
            return Err(Error::new(Kind::LoadFailed, text));
        }
        bodies = after.get(size as usize..).unwrap_or_default();
    }
    Ok(())
}

/// An unsigned LEB128 of 32 bits, and what follows it.
fn number(bytes: &[u8]) -> Option<(u32, &[u8])> {
    let mut value = 0u64;
    for (place, byte) in bytes.iter().enumerate().take(5) {
        value |= u64::from(byte & 0x7f) << (7 * place);
        if byte & 0x80 == 0 {
            return Some((u32::try_from(value).ok()?, bytes.get(place + 1..)?));
        }
    }
    None
}

/// One of the few compilations that may run at once; those left behind count until they end.
pub(super) struct Permit;

struct Running {
    count: Mutex<usize>,
    freed: Condvar,
}

static RUNNING: Running = Running { count: Mutex::new(0), freed: Condvar::new() };

impl Permit {
    /// Waits for one.
    pub(super) fn take(deadline: &Deadline, cancels: &[Option<&Cancel>]) -> Result<Self> {
        let most = std::thread::available_parallelism().map_or(2, |n| n.get().max(2));
        let mut count = RUNNING.count.lock().unwrap_or_else(PoisonError::into_inner);
        while *count >= most {
            call::check(deadline, cancels)?;
            // Short, so that a cancel is seen: compiling takes far longer.
            let step = deadline.remaining().unwrap_or(Duration::MAX).min(Duration::from_millis(5));
            count = RUNNING.freed.wait_timeout(count, step).unwrap_or_else(PoisonError::into_inner).0;
        }
        *count += 1;
        Ok(Permit)
    }
}

impl Drop for Permit {
    fn drop(&mut self) {
        *RUNNING.count.lock().unwrap_or_else(PoisonError::into_inner) -= 1;
        RUNNING.freed.notify_one();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn functions_are_counted_and_measured_before_anything_is_compiled() {
        let module = wat::parse_str(format!("(module {})", "(func)".repeat(300))).unwrap();
        assert_eq!(check(&module, 300).unwrap(), 300);
        assert_eq!(check(&module, 299).unwrap_err().kind(), Kind::PermissionDenied);
        let with = |nops: usize| wat::parse_str(format!("(module (func) (func {}) (func))", "nop ".repeat(nops))).unwrap();
        // No locals, and the end.
        assert_eq!(check(&with(BODY_MAX as usize - 2), 3).unwrap(), 3);
        let error = check(&with(BODY_MAX as usize - 1), 3).unwrap_err();
        assert!(error.kind() == Kind::LoadFailed && error.message().contains("1048577 bytes"), "{error}");
        for garbage in [&b""[..], b"\0asm", b"\0asm\x01\0\0\0\x03\xff\xff\xff\xff\xff", b"\0asm\x01\0\0\0\x03\x05\x01"] {
            assert_eq!(check(garbage, 0).unwrap(), 0);
        }
    }

    #[test]
    fn as_many_compile_at_once_as_there_are_processors_and_who_waits_can_be_ended() {
        let (never, cancel) = (Deadline::never(), Cancel::new());
        let most = std::thread::available_parallelism().map_or(2, |n| n.get().max(2));
        let mut permits: Vec<Permit> = (0..most).map(|_| Permit::take(&never, &[]).unwrap()).collect();
        let kind = |deadline: &Deadline| Permit::take(deadline, &[Some(&cancel)]).err().unwrap().kind();
        assert_eq!(kind(&Deadline::after(Duration::from_millis(1))), Kind::Timeout);
        cancel.cancel();
        assert_eq!(kind(&never), Kind::Cancelled);
        std::thread::scope(|scope| {
            let waiter = scope.spawn(|| Permit::take(&never, &[]).map(drop));
            permits.pop();
            waiter.join().unwrap().unwrap();
        });
    }
}
