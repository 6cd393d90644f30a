//! What a callback is asked or told: borrowed where it runs on the thread that asks, a copy where it runs on another.

use std::ffi::c_void;
use std::sync::Arc;

use crate::call::{Cancel, Chain, Deadline};
use crate::ffi::host::{flowplug_caller, flowplug_http_request, flowplug_log_record};
use crate::ffi::request::{flowplug_pair, flowplug_request};
use crate::ffi::text::flowplug_str;
use crate::host::{Caller, HttpRequest, Level, LogRecord, PluginContext};

pub(crate) type AskText = unsafe extern "C" fn(*mut c_void, flowplug_request, *const flowplug_caller, flowplug_str);
pub(crate) type AskValue = unsafe extern "C" fn(*mut c_void, flowplug_request, *const flowplug_caller, flowplug_str, flowplug_str);
pub(crate) type AskHttp = unsafe extern "C" fn(*mut c_void, flowplug_request, *const flowplug_caller, *const flowplug_http_request);
pub(crate) type TellRecord = unsafe extern "C" fn(*mut c_void, *const flowplug_log_record);

/// A callback and its arguments.
#[derive(Clone, Copy)]
pub(crate) enum Question<'a> {
    /// A key, or an event.
    Text(AskText, &'a str),
    /// A key and a value.
    Value(AskValue, &'a str, &'a [u8]),
    Http(AskHttp, &'a HttpRequest<'a>),
}

impl Question<'_> {
    /// Calls the callback.
    ///
    /// # Safety
    /// The function is a registrant's, and may be called with this `user_data` now.
    pub(crate) unsafe fn put(self, user_data: *mut c_void, request: flowplug_request, caller: &Caller<'_>) {
        let remaining = caller.deadline.remaining_about().unwrap_or(u64::MAX);
        let asking = flowplug_caller {
            struct_size: size_of::<flowplug_caller>(),
            plugin: flowplug_str::lent(caller.context.identity().as_bytes()),
            function: flowplug_str::lent(caller.function.as_bytes()),
            traceparent: flowplug_str::lent(caller.traceparent.as_bytes()),
            tag: caller.tag,
            remaining_ns: remaining,
        };
        let asking = &raw const asking;
        match self {
            // SAFETY: this function's contract; the pointers live for the call.
            Question::Text(f, text) => unsafe { f(user_data, request, asking, flowplug_str::lent(text.as_bytes())) },
            Question::Value(f, key, value) => {
                let (key, value) = (flowplug_str::lent(key.as_bytes()), flowplug_str::lent(value));
                // SAFETY: as above.
                unsafe { f(user_data, request, asking, key, value) }
            }
            Question::Http(f, http) => {
                let headers = pairs(http.headers);
                let asked = flowplug_http_request {
                    struct_size: size_of::<flowplug_http_request>(),
                    method: flowplug_str::lent(http.method.as_bytes()),
                    url: flowplug_str::lent(http.url.as_bytes()),
                    headers: headers.as_ptr(),
                    headers_len: headers.len(),
                    body: flowplug_str::lent(http.body),
                };
                // SAFETY: as above.
                unsafe { f(user_data, request, asking, &raw const asked) }
            }
        }
    }

    pub(crate) fn copy(self) -> QuestionCopy {
        match self {
            Question::Text(f, text) => QuestionCopy::Text(f, text.into()),
            Question::Value(f, key, value) => QuestionCopy::Value(f, key.into(), value.into()),
            Question::Http(f, http) => QuestionCopy::Http(
                f,
                HttpCopy { method: http.method.into(), url: http.url.into(), headers: owned(http.headers), body: http.body.into() },
            ),
        }
    }
}

/// A question that outlives who asked it.
pub(crate) enum QuestionCopy {
    Text(AskText, Box<str>),
    Value(AskValue, Box<str>, Box<[u8]>),
    Http(AskHttp, HttpCopy),
}

pub(crate) struct HttpCopy {
    method: Box<str>,
    url: Box<str>,
    headers: Vec<(String, String)>,
    body: Box<[u8]>,
}

impl QuestionCopy {
    /// # Safety
    /// As for [`Question::put`].
    pub(crate) unsafe fn put(&self, user_data: *mut c_void, request: flowplug_request, caller: &Caller<'_>) {
        let headers;
        let http;
        let question = match self {
            QuestionCopy::Text(f, text) => Question::Text(*f, text),
            QuestionCopy::Value(f, key, value) => Question::Value(*f, key, value),
            QuestionCopy::Http(f, copy) => {
                headers = lent(&copy.headers);
                http = HttpRequest { method: &copy.method, url: &copy.url, headers: &headers, body: &copy.body };
                Question::Http(*f, &http)
            }
        };
        // SAFETY: by this function's contract.
        unsafe { question.put(user_data, request, caller) }
    }
}

/// Who asks, where the answer may come too late for them.
pub(crate) struct CallerCopy {
    context: Arc<PluginContext>,
    function: Box<str>,
    traceparent: Box<str>,
    tag: u64,
    deadline: Deadline,
    cancel: Option<Cancel>,
    chain: Chain,
}

impl CallerCopy {
    pub(crate) fn of(caller: &Caller<'_>) -> Self {
        CallerCopy {
            context: caller.context.clone(),
            function: caller.function.into(),
            traceparent: caller.traceparent.into(),
            tag: caller.tag,
            deadline: caller.deadline.clone(),
            cancel: caller.cancel.cloned(),
            chain: caller.chain,
        }
    }

    pub(crate) fn lent(&self) -> Caller<'_> {
        Caller {
            context: &self.context,
            function: &self.function,
            tag: self.tag,
            traceparent: &self.traceparent,
            deadline: &self.deadline,
            cancel: self.cancel.as_ref(),
            chain: self.chain,
        }
    }
}

/// Hands a record to its callback.
///
/// # Safety
/// As for [`Question::put`].
pub(crate) unsafe fn tell(f: TellRecord, user_data: *mut c_void, record: &LogRecord<'_>) {
    let fields = pairs(record.fields);
    let record = flowplug_log_record {
        struct_size: size_of::<flowplug_log_record>(),
        plugin: flowplug_str::lent(record.plugin.as_bytes()),
        tag: record.tag,
        level: record.level as i32,
        message: flowplug_str::lent(record.message.as_bytes()),
        fields: fields.as_ptr(),
        fields_len: fields.len(),
    };
    // SAFETY: this function's contract; the pointers live for the call.
    unsafe { f(user_data, &raw const record) };
}

/// A record that outlives who wrote it.
pub(crate) struct RecordCopy {
    plugin: Box<str>,
    tag: u64,
    level: Level,
    message: Box<str>,
    fields: Vec<(String, String)>,
}

impl RecordCopy {
    pub(crate) fn of(record: &LogRecord<'_>) -> Self {
        let LogRecord { plugin, tag, level, message, fields } = *record;
        RecordCopy { plugin: plugin.into(), tag, level, message: message.into(), fields: owned(fields) }
    }

    /// About as much memory as it takes.
    pub(crate) fn bytes(&self) -> usize {
        self.fields.iter().fold(size_of::<Self>() + self.message.len(), |sum, (name, value)| sum + name.len() + value.len() + 64)
    }

    /// # Safety
    /// As for [`Question::put`].
    pub(crate) unsafe fn tell(&self, f: TellRecord, user_data: *mut c_void) {
        let fields = lent(&self.fields);
        let record = LogRecord { plugin: &self.plugin, tag: self.tag, level: self.level, message: &self.message, fields: &fields };
        // SAFETY: by this function's contract.
        unsafe { tell(f, user_data, &record) }
    }
}

fn pairs(pairs: &[(&str, &str)]) -> Vec<flowplug_pair> {
    let pair = |(name, value): &(&str, &str)| flowplug_pair {
        name: flowplug_str::lent(name.as_bytes()),
        value: flowplug_str::lent(value.as_bytes()),
    };
    pairs.iter().map(pair).collect()
}

fn owned(pairs: &[(&str, &str)]) -> Vec<(String, String)> {
    pairs.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect()
}

fn lent(pairs: &[(String, String)]) -> Vec<(&str, &str)> {
    pairs.iter().map(|(name, value)| (name.as_str(), value.as_str())).collect()
}
