//! Host requests: what a callback was asked, by number, and how it answers, now or later, from any thread.

use std::sync::Arc;
use std::task::Waker;

use crate::call::{Chain, wait};
use crate::error::{Error, Kind, Result};
use crate::ffi::error::flowplug_error;
use crate::ffi::guard::{guard, guard_status};
use crate::ffi::text::{argument, flowplug_str};
use crate::ffi::token::Tokens;
use crate::ffi::{flowplug_status, kind_of};
use crate::host::{Caller, HttpResponse, PluginContext, http};

/// A host request: a number that is void once it is answered or nobody waits any more.
pub type flowplug_request = u64;

/// A name and a value.
#[repr(C)]
#[derive(Clone, Copy, Debug)]
pub struct flowplug_pair {
    /// UTF-8.
    pub name: flowplug_str,
    /// UTF-8.
    pub value: flowplug_str,
}

static REQUESTS: Tokens<Pending> = Tokens::new();

/// The most headers of a response.
const HEADERS_MAX: usize = 1024;

/// What kind of answer a request takes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Asked {
    Text,
    Value,
    Done,
    Http,
}

/// What a callback answered.
#[derive(Debug)]
pub(crate) enum Answer {
    Ok(Vec<u8>),
    Missing,
    Http(HttpResponse),
    Default,
    Failed(Error),
}

#[derive(Debug)]
struct Pending {
    asked: Asked,
    /// Whose allowlist a redirect is checked against; for an HTTP request alone.
    context: Option<Arc<PluginContext>>,
    chain: Chain,
    /// The callback has been called, so that it has to hear when nobody waits any more.
    begun: bool,
    answered: bool,
    answer: Option<Answer>,
    waker: Option<Waker>,
}

/// A request that somebody waits for; void when it is dropped. 0 once it is over.
pub(crate) struct Open(u64);

impl Open {
    /// `begun`: its callback is called at once, and not after [`begin`].
    pub(crate) fn new(caller: &Caller<'_>, asked: Asked, begun: bool) -> Self {
        let context = (asked == Asked::Http).then(|| caller.context.clone());
        let chain = caller.chain;
        Open(REQUESTS.insert(Pending { asked, context, chain, begun, answered: false, answer: None, waker: None }))
    }

    /// Gives the request up; whether its callback was called and has not answered: one that answered just now, too late for
    /// who waited, was told that it did.
    pub(crate) fn give_up(mut self) -> bool {
        REQUESTS.remove(std::mem::take(&mut self.0)).is_some_and(|p| p.begun && !p.answered)
    }

    /// The answer that is there already, which ends the request.
    pub(crate) fn answered(&mut self) -> Option<Answer> {
        let answer = REQUESTS.remove_if(self.0, |p| p.answer.is_some())?.answer;
        self.0 = 0;
        answer
    }

    pub(crate) fn number(&self) -> flowplug_request {
        self.0
    }

    /// Waits for the answer within the caller's bounds.
    pub(crate) fn wait(&self, caller: &Caller<'_>) -> Result<Answer> {
        let arm = |waker: Waker| {
            REQUESTS.with(self.0, |p| p.waker = Some(waker));
        };
        wait(caller.deadline, &caller.cancels(), arm, || REQUESTS.with(self.0, |p| p.answer.take()).flatten())
    }
}

impl Drop for Open {
    fn drop(&mut self) {
        if self.0 != 0 {
            drop(REQUESTS.remove(self.0));
        }
    }
}

/// Whether the callback of a request is to be called: not if nobody waits for it any more.
pub(crate) fn begin(request: flowplug_request) -> bool {
    REQUESTS.with(request, |p| p.begun = true).is_some()
}

/// The plugins that led to a request: what a call on its behalf must not wait for.
pub(crate) fn chain(request: flowplug_request) -> Result<Chain> {
    REQUESTS.with(request, |p| p.chain).ok_or_else(gone)
}

/// Answers with success. `value` (bytes) is the answer of get_config and kv_get and is ignored for the others; it is copied.
///
/// Errors: not found, if the request was answered already or nobody waits for it any more; invalid argument, for http_request,
/// or if get_config's value is not UTF-8. After invalid argument the request still waits for an answer.
/// Thread safety: any thread, inside the callback or later.
///
/// # Safety
/// `value` is readable for the call.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn flowplug_request_ok(request: flowplug_request, value: flowplug_str) -> flowplug_status {
    guard_status(|| {
        // SAFETY: by the function's contract.
        let value = unsafe { value.bytes("value") }?;
        answer(request, |asked| match asked {
            Asked::Text if std::str::from_utf8(value).is_err() => Err(argument("The value of get_config is not UTF-8.")),
            Asked::Text | Asked::Value => Ok(Answer::Ok(value.to_vec())),
            Asked::Done => Ok(Answer::Ok(Vec::new())),
            Asked::Http => Err(argument("An http_request is answered with flowplug_request_http.")),
        })
    })
}

/// Answers get_config or kv_get: there is no such key. That is not an empty value.
///
/// Errors: not found, as for flowplug_request_ok; invalid argument, for requests that ask for no key's value.
/// Thread safety: any thread, inside the callback or later.
#[unsafe(no_mangle)]
pub extern "C" fn flowplug_request_missing(request: flowplug_request) -> flowplug_status {
    guard_status(|| {
        answer(request, |asked| match asked {
            Asked::Text | Asked::Value => Ok(Answer::Missing),
            Asked::Done | Asked::Http => Err(argument("Only get_config and kv_get can be answered with missing.")),
        })
    })
}

/// Answers http_request with what came back; everything is copied.
///
/// Errors: not found, as for flowplug_request_ok; invalid argument, for other requests, a status outside 100 to 599,
/// or header text that is not UTF-8.
/// Thread safety: any thread, inside the callback or later.
///
/// # Safety
/// `headers` points to `headers_len` pairs, and all text is readable for the call.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn flowplug_request_http(
    request: flowplug_request,
    status: i32,
    headers: *const flowplug_pair,
    headers_len: usize,
    body: flowplug_str,
) -> flowplug_status {
    guard_status(|| {
        if !(100..=599).contains(&status) {
            return Err(argument(format!("{status} is not an HTTP status.")));
        }
        // SAFETY: by the function's contract.
        let headers = unsafe { pairs(headers, headers_len) }?;
        // SAFETY: by the function's contract.
        let body = unsafe { body.bytes("body") }?;
        answer(request, |asked| match asked {
            Asked::Http => Ok(Answer::Http(HttpResponse { status, headers, body: body.to_vec() })),
            Asked::Text | Asked::Value | Asked::Done => Err(argument("Only http_request is answered with flowplug_request_http.")),
        })
    })
}

/// Answers with a failure; the plugin sees the message.
///
/// Errors: not found, as for flowplug_request_ok; invalid argument, if status is not that of an error or the message is not UTF-8.
/// Thread safety: any thread, inside the callback or later.
///
/// # Safety
/// `message` is readable for the call.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn flowplug_request_fail(
    request: flowplug_request,
    status: flowplug_status,
    message: flowplug_str,
) -> flowplug_status {
    guard_status(|| {
        let kind = kind_of(status).ok_or_else(|| argument(format!("{status} is not the status of an error.")))?;
        // SAFETY: by the function's contract.
        let message = unsafe { message.text("message") }?;
        answer(request, |_| Ok(Answer::Failed(Error::new(kind, message))))
    })
}

/// Answers as if there were no callback: the embedded default serves.
///
/// Errors: not found, as for flowplug_request_ok.
/// Thread safety: any thread, inside the callback or later.
#[unsafe(no_mangle)]
pub extern "C" fn flowplug_request_default(request: flowplug_request) -> flowplug_status {
    guard_status(|| answer(request, |_| Ok(Answer::Default)))
}

/// Whether this request may go to this URL: to be asked for each redirect that a callback follows.
///
/// Errors: permission denied; invalid argument, if it is not a URL or the request is not an http_request; not found, as for flowplug_request_ok.
/// Thread safety: any thread, inside the callback or later.
///
/// # Safety
/// `url` is readable for the call; `error` is NULL or writable.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn flowplug_request_http_check(
    request: flowplug_request,
    url: flowplug_str,
    error: *mut *mut flowplug_error,
) -> flowplug_status {
    let body = || {
        // SAFETY: by the function's contract.
        let url = unsafe { url.text("url") }?;
        let context = REQUESTS.with(request, |p| p.context.clone()).ok_or_else(gone)?;
        let context = context.ok_or_else(|| argument("Only an http_request goes to a URL."))?;
        http::check_url(&context, url).map(drop).inspect_err(|e| context.audit_refusal(e))
    };
    // SAFETY: by the function's contract.
    unsafe { guard(error, body) }
}

/// Keeps the answer and wakes who waits; a refused answer changes nothing.
fn answer(request: flowplug_request, make: impl FnOnce(Asked) -> Result<Answer>) -> Result<()> {
    let answered = REQUESTS.with(request, |p| {
        if p.answered {
            return Err(gone());
        }
        p.answer = Some(make(p.asked)?);
        p.answered = true;
        Ok(p.waker.take())
    });
    if let Some(waker) = answered.unwrap_or_else(|| Err(gone()))? {
        waker.wake();
    }
    Ok(())
}

#[cold]
fn gone() -> Error {
    Error::new(Kind::NotFound, "No such request waits: it was answered already, or nobody waits for it any more.")
}

/// # Safety
/// `headers` is NULL with length 0 or points to `len` pairs whose text is readable.
unsafe fn pairs(headers: *const flowplug_pair, len: usize) -> Result<Vec<(String, String)>> {
    if len == 0 {
        return Ok(Vec::new());
    }
    if headers.is_null() || len > HEADERS_MAX {
        return Err(argument(format!("headers is NULL or has more than {HEADERS_MAX} pairs.")));
    }
    // SAFETY: not NULL, of a plausible length; the rest is this function's contract.
    let headers = unsafe { std::slice::from_raw_parts(headers, len) };
    let mut owned = Vec::with_capacity(len);
    for header in headers {
        // SAFETY: by this function's contract.
        let name = unsafe { header.name.text("header name") }?;
        // SAFETY: by this function's contract.
        let value = unsafe { header.value.text("header value") }?;
        owned.push((name.to_owned(), value.to_owned()));
    }
    Ok(owned)
}
