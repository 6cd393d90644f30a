//! The host API over C function pointers: who is asked, on which thread, until when.
//!
//! A callback runs on the thread that asks. If it has answered when it returns, nothing waits; else the thread waits for
//! the answer within the call's bounds, and the callback is told when nobody waits any more.

use std::ffi::c_void;
use std::sync::Arc;
use std::time::SystemTime;

use serde::Serialize;
use serde_json::value::RawValue;
use tokio::runtime::Handle;

use crate::error::{Error, Kind, Result};
use crate::ffi::gate::{Gate, Registration};
use crate::ffi::host::{flowplug_caller, flowplug_host_api, flowplug_http_request, flowplug_log_record};
use crate::ffi::request::{Answer, Asked, Open, flowplug_pair, flowplug_request};
use crate::ffi::text::flowplug_str;
use crate::host::kv::MemoryKv;
use crate::host::{Caller, Host, HttpRequest, HttpResponse, LogRecord, config, log};
use crate::sys;

/// A registered host API.
pub(crate) struct Callbacks {
    api: flowplug_host_api,
    /// Who answers where this API has a NULL: the host's own, for a plugin's override; none: the embedded defaults.
    base: Option<Arc<Callbacks>>,
    defaults: Arc<MemoryKv>,
    gate: Arc<Gate>,
    registration: Arc<Registration>,
}

// SAFETY: the header says that callbacks come from any thread, several at once, so user_data may be used from there.
unsafe impl Send for Callbacks {}
// SAFETY: as above; everything else in it is Sync.
unsafe impl Sync for Callbacks {}

impl Callbacks {
    pub(crate) fn new(api: flowplug_host_api, base: Option<Arc<Callbacks>>, defaults: Arc<MemoryKv>, gate: Arc<Gate>) -> Arc<Self> {
        let registration = Arc::new(Registration::new(api.destroy, api.user_data, gate.clone()));
        Arc::new(Callbacks { api, base, defaults, gate, registration })
    }

    /// The host's store, for the defaults of a plugin's override.
    pub(crate) fn defaults(&self) -> &Arc<MemoryKv> {
        &self.defaults
    }

    pub(crate) fn gate(&self) -> &Arc<Gate> {
        &self.gate
    }

    pub(crate) fn registration(&self) -> &Arc<Registration> {
        &self.registration
    }

    /// Asks a callback and waits for its answer.
    fn ask(
        &self,
        caller: &Caller<'_>,
        asked: Asked,
        call: impl FnOnce(*mut c_void, flowplug_request, *const flowplug_caller),
    ) -> Result<Answer> {
        let request = Open::new(caller, asked);
        let remaining = caller.deadline.remaining().map_or(u64::MAX, |left| left.as_nanos() as u64);
        let asking = flowplug_caller {
            struct_size: size_of::<flowplug_caller>(),
            plugin: flowplug_str::lent(caller.context.identity().as_bytes()),
            function: flowplug_str::lent(caller.function.as_bytes()),
            traceparent: flowplug_str::lent(caller.traceparent.as_bytes()),
            tag: caller.tag,
            remaining_ns: remaining,
        };
        // Held while it waits too: closing first ends the wait, then hears that the request was dropped.
        let entered = self.gate.enter()?;
        entered.run(|| call(self.api.user_data, request.number(), &raw const asking));
        let answer = request.wait(caller);
        if answer.is_err() {
            let number = request.number();
            drop(request);
            if let Some(dropped) = self.api.request_dropped {
                // SAFETY: the registrant's contract: it may be called from any thread until the host is closed.
                entered.run(|| unsafe { dropped(self.api.user_data, number) });
            }
        }
        match answer? {
            Answer::Failed(e) => Err(e),
            other => Ok(other),
        }
    }

    fn value(answer: Answer) -> Result<Option<Option<Vec<u8>>>> {
        match answer {
            Answer::Ok(value) => Ok(Some(Some(value))),
            Answer::Missing => Ok(Some(None)),
            Answer::Default => Ok(None),
            Answer::Http(_) | Answer::Failed(_) => Err(unexpected()),
        }
    }

    /// Whether it was done by the callback; false: the default is asked for.
    fn done(answer: Answer) -> Result<bool> {
        match answer {
            Answer::Ok(_) => Ok(true),
            Answer::Default => Ok(false),
            Answer::Missing | Answer::Http(_) | Answer::Failed(_) => Err(unexpected()),
        }
    }
}

impl Drop for Callbacks {
    fn drop(&mut self) {
        if self.registration.has_ended() {
            return;
        }
        let registration = self.registration.clone();
        // The last owner may be a task of the runtime, whose thread a `destroy` must not block.
        if Handle::try_current().is_ok() {
            let other = registration.clone();
            if std::thread::Builder::new()
                .name("flowplug-destroy".into())
                .spawn(move || {
                    sys::block_signals();
                    other.end();
                })
                .is_ok()
            {
                return;
            }
        }
        registration.end();
    }
}

#[cold]
fn unexpected() -> Error {
    Error::new(Kind::Internal, "A request was answered in a form that it does not take.")
}

impl Host for Callbacks {
    fn get_config(&self, caller: &Caller<'_>, key: &str) -> Result<Option<Vec<u8>>> {
        if let Some(f) = self.api.get_config {
            // SAFETY: the registrant's contract; the pointers live for the call.
            let answer = self.ask(caller, Asked::Text, |data, request, asking| unsafe {
                f(data, request, asking, flowplug_str::lent(key.as_bytes()))
            })?;
            if let Some(value) = Self::value(answer)? {
                return Ok(value);
            }
        }
        match &self.base {
            Some(base) => base.get_config(caller, key),
            None => Ok(config::lookup(&caller.context.config(), key)),
        }
    }

    fn kv_get(&self, caller: &Caller<'_>, key: &str) -> Result<Option<Vec<u8>>> {
        if let Some(f) = self.api.kv_get {
            // SAFETY: the registrant's contract; the pointers live for the call.
            let answer = self.ask(caller, Asked::Value, |data, request, asking| unsafe {
                f(data, request, asking, flowplug_str::lent(key.as_bytes()))
            })?;
            if let Some(value) = Self::value(answer)? {
                return Ok(value);
            }
        }
        match &self.base {
            Some(base) => base.kv_get(caller, key),
            None => Ok(self.defaults.get(key)),
        }
    }

    fn kv_set(&self, caller: &Caller<'_>, key: &str, value: &[u8]) -> Result<()> {
        if let Some(f) = self.api.kv_set {
            let (key, value) = (flowplug_str::lent(key.as_bytes()), flowplug_str::lent(value));
            // SAFETY: the registrant's contract; the pointers live for the call.
            let answer = self.ask(caller, Asked::Done, |data, request, asking| unsafe { f(data, request, asking, key, value) })?;
            if Self::done(answer)? {
                return Ok(());
            }
        }
        match &self.base {
            Some(base) => base.kv_set(caller, key, value),
            None => self.defaults.set(caller, key, value),
        }
    }

    fn kv_delete(&self, caller: &Caller<'_>, key: &str) -> Result<()> {
        if let Some(f) = self.api.kv_delete {
            // SAFETY: the registrant's contract; the pointers live for the call.
            let answer = self.ask(caller, Asked::Done, |data, request, asking| unsafe {
                f(data, request, asking, flowplug_str::lent(key.as_bytes()))
            })?;
            if Self::done(answer)? {
                return Ok(());
            }
        }
        match &self.base {
            Some(base) => base.kv_delete(caller, key),
            None => {
                self.defaults.delete(caller, key);
                Ok(())
            }
        }
    }

    fn http_request(&self, caller: &Caller<'_>, request: &HttpRequest<'_>) -> Result<HttpResponse> {
        if let Some(f) = self.api.http_request {
            let headers = pairs(request.headers);
            let asked = flowplug_http_request {
                struct_size: size_of::<flowplug_http_request>(),
                method: flowplug_str::lent(request.method.as_bytes()),
                url: flowplug_str::lent(request.url.as_bytes()),
                headers: headers.as_ptr(),
                headers_len: headers.len(),
                body: flowplug_str::lent(request.body),
            };
            // SAFETY: the registrant's contract; the pointers live for the call.
            match self.ask(caller, Asked::Http, |data, request, asking| unsafe { f(data, request, asking, &raw const asked) })? {
                Answer::Http(response) => return Ok(response),
                Answer::Default => {}
                Answer::Ok(_) | Answer::Missing | Answer::Failed(_) => return Err(unexpected()),
            }
        }
        match &self.base {
            Some(base) => base.http_request(caller, request),
            None => Err(Error::new(
                Kind::Unsupported,
                "The host has no http_request callback, and this version has no HTTP client of its own: set flowplug_host_api.http_request.",
            )),
        }
    }

    fn emit_event(&self, caller: &Caller<'_>, event: &str) -> Result<()> {
        if let Some(f) = self.api.emit_event {
            // SAFETY: the registrant's contract; the pointers live for the call.
            let answer = self.ask(caller, Asked::Done, |data, request, asking| unsafe {
                f(data, request, asking, flowplug_str::lent(event.as_bytes()))
            })?;
            if Self::done(answer)? {
                return Ok(());
            }
        }
        match &self.base {
            Some(base) => base.emit_event(caller, event),
            None => {
                self.event(&emitted(caller.context.identity(), event)?);
                Ok(())
            }
        }
    }

    fn log(&self, record: &LogRecord<'_>) {
        let Some(f) = self.api.log else {
            match &self.base {
                Some(base) => base.log(record),
                None => log::to_stderr(record),
            }
            return;
        };
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
        if let Ok(entered) = self.gate.enter() {
            // SAFETY: the registrant's contract; the pointers live for the call.
            entered.run(|| unsafe { f(self.api.user_data, &raw const record) });
        }
    }

    fn event(&self, event: &str) {
        match (self.api.event, &self.base) {
            (Some(f), _) => {
                if let Ok(entered) = self.gate.enter() {
                    // SAFETY: the registrant's contract; the pointers live for the call.
                    entered.run(|| unsafe { f(self.api.user_data, flowplug_str::lent(event.as_bytes())) });
                }
            }
            (None, Some(base)) => base.event(event),
            (None, None) => {}
        }
    }
}

/// An event of a plugin as an event of the library: what the plugin says stands under `data`, so that it cannot pass for
/// another's or for the library's own.
fn emitted(identity: &str, event: &str) -> Result<String> {
    let data: &RawValue =
        serde_json::from_str(event).map_err(|e| Error::new(Kind::InvalidArgument, format!("The event is not valid JSON: {e}.")))?;
    let time = humantime::format_rfc3339_micros(SystemTime::now()).to_string();
    let wrapped = Emitted { kind: "emitted", time: &time, plugin: identity, data };
    serde_json::to_string(&wrapped).map_err(|e| Error::new(Kind::Internal, format!("The event could not be written: {e}.")))
}

#[derive(Serialize)]
struct Emitted<'a> {
    #[serde(rename = "type")]
    kind: &'a str,
    time: &'a str,
    plugin: &'a str,
    data: &'a RawValue,
}

fn pairs(pairs: &[(&str, &str)]) -> Vec<flowplug_pair> {
    let pair = |(name, value): &(&str, &str)| flowplug_pair {
        name: flowplug_str::lent(name.as_bytes()),
        value: flowplug_str::lent(value.as_bytes()),
    };
    pairs.iter().map(pair).collect()
}
