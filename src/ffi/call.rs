//! What a call from C carries: options, cancel tokens, completions.

use std::ffi::c_void;
use std::time::Duration;

use crate::call::{Call, Cancel, Chain, Deadline};
use crate::error::{Error, Kind, Result};
use crate::ffi::error::flowplug_error;
use crate::ffi::flowplug_status;
use crate::ffi::guard::{guard, guard_status, guard_value};
use crate::ffi::request;
use crate::ffi::text::{Out, Versioned, argument, flowplug_bytes, flowplug_str, read};
use crate::ffi::token::Tokens;

static CANCELS: Tokens<Cancel> = Tokens::new();

/// flowplug_call_options.flags: the caller parses the answer anyway; its UTF-8 is checked and its data located, no more.
pub(crate) const CALL_TRUST_JSON: u64 = 1;
/// flowplug_completion.flags: done and destroy never wait, so that they may run where others' calls are worked on.
pub(crate) const COMPLETION_QUICK: u64 = 1;
/// flowplug_call_options.timeout_ns: no bound of the caller's.
pub(crate) const NO_TIMEOUT: u64 = u64::MAX;

/// What a call carries; NULL stands for the defaults. Start from FLOWPLUG_CALL_OPTIONS_INIT.
#[repr(C)]
#[derive(Clone, Copy, Debug)]
pub struct flowplug_call_options {
    /// sizeof(flowplug_call_options).
    pub struct_size: usize,
    /// Nanoseconds; 0: the default; FLOWPLUG_NO_TIMEOUT: none of the caller's.
    pub timeout_ns: u64,
    /// A cancel token; 0: none.
    pub cancel: u64,
    /// A call made on behalf of a host request: that request; 0: none.
    pub parent: u64,
    /// The embedder's own mark, handed to host callbacks.
    pub tag: u64,
    /// FLOWPLUG_CALL_TRUST_JSON, or 0.
    pub flags: u64,
    /// W3C trace context ("00-...-...-01"), handed to a gRPC plugin as metadata and to host callbacks; empty: none.
    pub traceparent: flowplug_str,
}

// SAFETY: repr(C), starts with its size, numbers and pointers alone.
unsafe impl Versioned for flowplug_call_options {}

/// How an asynchronous call ends. Start from FLOWPLUG_COMPLETION_INIT.
#[repr(C)]
#[derive(Clone, Copy, Debug)]
pub struct flowplug_completion {
    /// sizeof(flowplug_completion).
    pub struct_size: usize,
    /// Handed to done and destroy.
    pub user_data: *mut c_void,
    /// Runs exactly once if and only if the function returned ok, on a thread of the library, never on its caller's
    /// stack. Takes over the content of result and the error; the result struct itself lasts for the callback.
    pub done: Option<
        unsafe extern "C" fn(user_data: *mut c_void, status: flowplug_status, result: *mut flowplug_bytes, error: *mut flowplug_error),
    >,
    /// Runs exactly once, after done; also where the function fails. May be NULL.
    pub destroy: Option<unsafe extern "C" fn(user_data: *mut c_void)>,
    /// FLOWPLUG_COMPLETION_QUICK, or 0.
    pub flags: u64,
}

// SAFETY: repr(C), starts with its size, pointers and numbers alone.
unsafe impl Versioned for flowplug_completion {
    /// Without flags.
    const EARLIER: &'static [usize] = &[32];
}

/// Makes a cancel token: a number for the whole process, sticky once set, for any number of calls at once.
/// Ended with flowplug_cancel_free, also during a call that carries it.
///
/// Errors: invalid argument.
/// Thread safety: any thread.
///
/// # Safety
/// `out` is writable; `error` is NULL or writable.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn flowplug_cancel_new(out: *mut u64, error: *mut *mut flowplug_error) -> flowplug_status {
    let body = || {
        // SAFETY: by the function's contract.
        let out = unsafe { Out::new(out, "out") }?;
        out.write(CANCELS.insert(Cancel::new()));
        Ok(())
    };
    // SAFETY: by the function's contract.
    unsafe { guard(error, body) }
}

/// Ends every call that carries the token with cancelled, and every later one at once. Again does nothing.
///
/// Errors: not found, for a number that is no token.
/// Thread safety: any thread, also inside a callback.
#[unsafe(no_mangle)]
pub extern "C" fn flowplug_cancel(token: u64) -> flowplug_status {
    guard_status(|| {
        cancel_token(token)?.cancel();
        Ok(())
    })
}

/// Ends a token; calls that carry it go on, and can no longer be cancelled by it. 0 and numbers that are no token do nothing.
///
/// Thread safety: any thread, also inside a callback.
#[unsafe(no_mangle)]
pub extern "C" fn flowplug_cancel_free(token: u64) {
    guard_value((), || drop(CANCELS.remove(token)));
}

fn cancel_token(token: u64) -> Result<Cancel> {
    CANCELS.with(token, |c| c.clone()).ok_or_else(|| Error::new(Kind::NotFound, format!("{token} is not a cancel token, or it was freed.")))
}

/// The call that options describe; NULL: the defaults.
///
/// # Safety
/// `options` is NULL or points to as many readable bytes as its struct_size says, and its text is readable.
// Into its callers: what is handed over by value is written and read back at once, which is slow.
#[inline(always)]
pub(crate) unsafe fn call_of(options: *const flowplug_call_options) -> Result<Call> {
    // SAFETY: by this function's contract.
    let Some(options) = (unsafe { read(options, "flowplug_call_options") })? else {
        return Ok(Call::new(Deadline::never()));
    };
    if options.flags & !CALL_TRUST_JSON != 0 {
        return Err(argument(format!("flags has bits that this version does not know: {:#x}.", options.flags)));
    }
    // SAFETY: by this function's contract.
    let traceparent = unsafe { options.traceparent.text("traceparent") }?;
    if !traceparent.is_empty() && !is_traceparent(traceparent) {
        return Err(not_a_traceparent());
    }
    Ok(Call {
        deadline: timeout_of(&options).map_or(const { Deadline::never() }, Deadline::after),
        cancel: if options.cancel == 0 { None } else { Some(cancel_token(options.cancel)?) },
        chain: if options.parent == 0 { Chain::current() } else { request::chain(options.parent)? },
        tag: options.tag,
        traceparent: traceparent.into(),
        trust_json: options.flags & CALL_TRUST_JSON != 0,
    })
}

#[cold]
fn not_a_traceparent() -> Error {
    argument(
        "traceparent is not W3C trace context: 00-, 32 digits of the trace, -, 16 of the span, -, 2 of flags, all in lower-case hexadecimal, neither number zero.",
    )
}

/// Whether a text is a `traceparent` of W3C trace context. What a later version has behind the flags is let through, within a
/// bound: it is handed on as it is.
fn is_traceparent(text: &str) -> bool {
    const LENGTH: usize = 55;
    let bytes = text.as_bytes();
    let Some((known, more)) = bytes.split_at_checked(LENGTH) else { return false };
    let hex = |part: &[u8]| part.iter().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f'));
    let id = |part: &[u8]| hex(part) && part.iter().any(|b| *b != b'0');
    let parts: Vec<&[u8]> = known.split(|b| *b == b'-').collect();
    let [version, trace, span, flags] = parts.as_slice() else { return false };
    let lengths = (version.len(), trace.len(), span.len(), flags.len()) == (2, 32, 16, 2);
    let later = *version != b"00" && more.first() == Some(&b'-') && bytes.len() <= 512 && more.iter().all(u8::is_ascii_graphic);
    lengths && hex(version) && *version != b"ff" && id(trace) && id(span) && hex(flags) && (more.is_empty() || later)
}

/// How long calls in flight are waited for where the caller does not say.
pub(crate) const DRAIN: Duration = Duration::from_secs(30);

fn timeout_of(options: &flowplug_call_options) -> Option<Duration> {
    (!matches!(options.timeout_ns, 0 | NO_TIMEOUT)).then(|| Duration::from_nanos(options.timeout_ns))
}

/// The drain time of stop and close: 0 is 30 seconds, FLOWPLUG_NO_TIMEOUT no bound.
///
/// # Safety
/// As for [`call_of`].
pub(crate) unsafe fn drain_of(options: *const flowplug_call_options) -> Result<Deadline> {
    // SAFETY: by this function's contract.
    let options = unsafe { read(options, "flowplug_call_options") }?;
    Ok(match options.map_or(0, |o| o.timeout_ns) {
        0 => Deadline::after(DRAIN),
        NO_TIMEOUT => Deadline::never(),
        nanos => Deadline::after(Duration::from_nanos(nanos)),
    })
}

/// A completion that runs `destroy` exactly once, and `done` before it if it is told to.
pub(crate) struct Completion(flowplug_completion);

// SAFETY: the header says that done and destroy come from any thread, so user_data may go there too.
unsafe impl Send for Completion {}

impl Completion {
    /// # Safety
    /// `completion` points to as many readable bytes as its struct_size says, and its functions may be called from any thread.
    pub(crate) unsafe fn new(completion: *const flowplug_completion) -> Result<Self> {
        // SAFETY: by this function's contract.
        let read = unsafe { read(completion, "flowplug_completion") }?;
        let completion = Completion(read.ok_or_else(|| argument("completion is NULL."))?);
        if completion.0.flags & !COMPLETION_QUICK != 0 {
            return Err(argument(format!("completion.flags has bits that this version does not know: {:#x}.", completion.0.flags)));
        }
        if completion.0.done.is_none() { Err(argument("completion.done is NULL.")) } else { Ok(completion) }
    }

    /// Whether it may run on a thread that must not be held up.
    pub(crate) fn is_quick(&self) -> bool {
        self.0.flags & COMPLETION_QUICK != 0
    }

    /// Runs `done`, then `destroy`.
    pub(crate) fn finish(self, result: Result<Vec<u8>>) {
        let Some(done) = self.0.done else { return };
        let (status, mut bytes, error) = match result {
            Ok(answer) => (0, flowplug_bytes::owned(&answer), std::ptr::null_mut()),
            Err(e) => (super::status_of(e.kind()), flowplug_bytes::empty(), Box::into_raw(Box::new(flowplug_error::new(e)))),
        };
        // SAFETY: the registrant's contract: done may be called once from any thread and takes over both.
        unsafe { done(self.0.user_data, status, &raw mut bytes, error) };
    }
}

impl Drop for Completion {
    fn drop(&mut self) {
        if let Some(destroy) = self.0.destroy {
            // SAFETY: the registrant's contract: destroy may be called once, from any thread, after everything else.
            unsafe { destroy(self.0.user_data) };
        }
    }
}

#[cfg(test)]
mod tests {
    use super::is_traceparent;

    #[test]
    fn trace_context_is_that_of_w3c() {
        let good = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";
        for text in
            [good, &good.replace("-01", "-ff"), &good.replacen("00", "cc", 1), &format!("{}-more.of=it", good.replacen("00", "01", 1))]
        {
            assert!(is_traceparent(text), "{text}");
        }
        for text in [
            "",
            "x",
            "00",
            &good[1..],
            &good[..54],
            &format!("{good} "),
            &format!("{good}-more"),
            &format!("{}more", good.replacen("00", "01", 1)),
            &format!("{}-{}", good.replacen("00", "01", 1), "x".repeat(512)),
            &format!("{}-a b", good.replacen("00", "01", 1)),
            &good.replacen("00", "ff", 1),
            &good.to_uppercase(),
            &good.replace("0af7651916cd43dd8448eb211c80319c", &"0".repeat(32)),
            &good.replace("b7ad6b7169203331", &"0".repeat(16)),
            &good.replace('-', "_"),
            &good.replace("-b7", "b-7"),
            &good.replace("af", "ag"),
        ] {
            assert!(!is_traceparent(text), "{text:?}");
        }
    }
}
