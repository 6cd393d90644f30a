//! Host requests: what a callback was asked, by number, and how it answers, now or later, from any thread.

use std::cell::RefCell;
use std::sync::Arc;
use std::task::Waker;

use crate::call::{Chain, MAX_DEPTH, wait};
use crate::error::{Error, Kind, Result};
use crate::ffi::error::flowplug_error;
use crate::ffi::guard::{guard, guard_status};
use crate::ffi::text::{argument, flowplug_str};
use crate::ffi::{flowplug_status, kind_of};
use crate::host::{Caller, HttpResponse, PluginContext, http};
use crate::sys::desk::{Asked, Desk, Seat};

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

static REQUESTS: Desk<Pending> = Desk::new();

thread_local! {
    /// The seats of this thread: it asks one question at a time, but for those of calls that a callback makes.
    static SEATS: Seats = const { Seats(RefCell::new(Vec::new())) };
}

struct Seats(RefCell<Vec<Seat<Pending>>>);

/// As many as nested calls need.
const SEATS_MAX: usize = MAX_DEPTH;

/// The most headers of a response.
const HEADERS_MAX: usize = 1024;

/// What kind of answer a request takes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Form {
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
    form: Form,
    /// Whose allowlist a redirect is checked against; for an HTTP request alone.
    context: Option<Arc<PluginContext>>,
    chain: Chain,
    /// The callback has been called, so that it has to hear when nobody waits any more.
    begun: bool,
    answer: Option<Answer>,
    waker: Option<Waker>,
}

/// A request that somebody waits for; void when it is dropped. Empty once it is over.
pub(crate) struct Open(Option<Asked<Pending>>);

impl Open {
    /// `begun`: its callback is called at once, and not after [`begin`].
    #[inline]
    pub(crate) fn new(caller: &Caller<'_>, form: Form, begun: bool) -> Result<Self> {
        let context = (form == Form::Http).then(|| caller.context.clone());
        let pending = Pending { form, context, chain: caller.chain, begun, answer: None, waker: None };
        let own = SEATS.try_with(|seats| seats.0.borrow_mut().pop());
        let seat = own.ok().flatten().or_else(|| REQUESTS.seat()).ok_or_else(too_many)?;
        Ok(Open(Some(seat.ask(pending))))
    }

    /// Gives the request up; whether its callback was called and has not answered: one that answered just now, too late for
    /// who waited, was told that it did.
    pub(crate) fn give_up(mut self) -> bool {
        self.end().is_some_and(|p| p.begun && p.answer.is_none())
    }

    /// The answer that is there already, which ends the request.
    #[inline]
    pub(crate) fn answered(&mut self) -> Option<Answer> {
        if self.0.as_ref()?.is_settled() { self.end()?.answer } else { None }
    }

    #[inline]
    pub(crate) fn number(&self) -> flowplug_request {
        self.0.as_ref().map_or(0, Asked::number)
    }

    /// Waits for the answer, which ends the request, within the caller's bounds.
    pub(crate) fn wait(&mut self, caller: &Caller<'_>) -> Result<Answer> {
        let number = self.number();
        let arm = |waker: Waker| {
            with(number, |p| p.waker = Some(waker));
        };
        wait(caller.deadline, &caller.cancels(), arm, || self.answered())
    }

    #[inline]
    fn end(&mut self) -> Option<Pending> {
        let (pending, seat) = self.0.take()?.end();
        let mut seat = Some(seat);
        let kept = SEATS.try_with(|seats| {
            let mut seats = seats.0.borrow_mut();
            if seats.len() < SEATS_MAX {
                seats.extend(seat.take());
            }
        });
        if let (Some(seat), _) = (seat, kept) {
            REQUESTS.give_back(seat);
        }
        pending
    }
}

impl Drop for Open {
    fn drop(&mut self) {
        drop(self.end());
    }
}

impl Drop for Seats {
    fn drop(&mut self) {
        self.0.take().into_iter().for_each(|seat| REQUESTS.give_back(seat));
    }
}

#[cold]
fn too_many() -> Error {
    Error::new(Kind::Busy, "A million host requests wait for their answers; answer some.")
}

fn with<R>(request: flowplug_request, f: impl FnOnce(&mut Pending) -> R) -> Option<R> {
    REQUESTS.find(request)?.with(request, f)
}

/// Whether the callback of a request is to be called: not if nobody waits for it any more.
pub(crate) fn begin(request: flowplug_request) -> bool {
    with(request, |p| p.begun = true).is_some()
}

/// The plugins that led to a request: what a call on its behalf must not wait for.
pub(crate) fn chain(request: flowplug_request) -> Result<Chain> {
    with(request, |p| p.chain).ok_or_else(gone)
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
        answer(request, |form| match form {
            Form::Text if std::str::from_utf8(value).is_err() => Err(argument("The value of get_config is not UTF-8.")),
            Form::Text | Form::Value => Ok(Answer::Ok(value.to_vec())),
            Form::Done => Ok(Answer::Ok(Vec::new())),
            Form::Http => Err(argument("An http_request is answered with flowplug_request_http.")),
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
        answer(request, |form| match form {
            Form::Text | Form::Value => Ok(Answer::Missing),
            Form::Done | Form::Http => Err(argument("Only get_config and kv_get can be answered with missing.")),
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
        answer(request, |form| match form {
            Form::Http => Ok(Answer::Http(HttpResponse { status, headers, body: body.to_vec() })),
            Form::Text | Form::Value | Form::Done => Err(argument("Only http_request is answered with flowplug_request_http.")),
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
        let context = with(request, |p| p.context.clone()).ok_or_else(gone)?;
        let context = context.ok_or_else(|| argument("Only an http_request goes to a URL."))?;
        http::check_url(&context, url).map(drop).inspect_err(|e| context.audit_refusal(e))
    };
    // SAFETY: by the function's contract.
    unsafe { guard(error, body) }
}

/// Keeps the answer and wakes who waits; a refused answer changes nothing.
#[inline]
fn answer(request: flowplug_request, make: impl FnOnce(Form) -> Result<Answer>) -> Result<()> {
    let keep = |p: &mut Pending| {
        p.answer = Some(make(p.form)?);
        Ok(p.waker.take())
    };
    let waker = REQUESTS.find(request).and_then(|place| place.settle(request, keep)).unwrap_or_else(|| Err(gone()))?;
    if let Some(waker) = waker {
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
