//! The host API over C function pointers: who is asked, on which thread, until when.
//!
//! A callback runs on the thread that asks. If it has answered when it returns, nothing waits; else the thread waits for
//! the answer within the call's bounds, and the callback is told when nobody waits any more.

use std::cell::RefCell;
use std::ffi::c_void;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::time::Duration;

use crate::call::Deadline;
use crate::error::{Error, Kind, Result};
use crate::ffi::host::{flowplug_caller, flowplug_host_api, flowplug_http_request, flowplug_log_record};
use crate::ffi::request::{Answer, Asked, Open, flowplug_pair, flowplug_request};
use crate::ffi::text::flowplug_str;
use crate::host::kv::MemoryKv;
use crate::host::{Caller, Host, HttpRequest, HttpResponse, LogRecord, config, log};

/// Everything that the callbacks of one host pass: counted, and shut once.
#[derive(Debug, Default)]
pub(crate) struct Gate {
    /// Callbacks and completions in progress, and [`SHUT`].
    state: AtomicUsize,
    changed: (Mutex<()>, Condvar),
}

const SHUT: usize = 1 << (usize::BITS - 1);

thread_local! {
    /// The gates whose callbacks this thread is inside of.
    static INSIDE: RefCell<Vec<usize>> = const { RefCell::new(Vec::new()) };
}

/// A callback in progress.
pub(crate) struct Entered(Arc<Gate>);

impl Gate {
    /// `invalid state` once it is shut.
    pub(crate) fn enter(self: &Arc<Self>) -> Result<Entered> {
        let entered = Entered(self.clone());
        if self.state.fetch_add(1, Ordering::SeqCst) & SHUT != 0 {
            return Err(Error::new(Kind::InvalidState, "The host is closed; its callbacks are not called any more."));
        }
        Ok(entered)
    }

    /// Whether this thread is inside a callback of this gate.
    pub(crate) fn is_inside(self: &Arc<Self>) -> bool {
        INSIDE.with_borrow(|gates| gates.contains(&(Arc::as_ptr(self) as usize)))
    }

    /// Lets nothing in any more and waits until nothing is inside; false if that takes longer.
    pub(crate) fn shut(&self, deadline: &Deadline) -> bool {
        self.state.fetch_or(SHUT, Ordering::SeqCst);
        let mut guard = self.changed.0.lock().unwrap_or_else(PoisonError::into_inner);
        while self.state.load(Ordering::SeqCst) != SHUT {
            let left = deadline.remaining().unwrap_or(Duration::from_secs(3600));
            if left.is_zero() {
                return false;
            }
            guard = self.changed.1.wait_timeout(guard, left).unwrap_or_else(PoisonError::into_inner).0;
        }
        true
    }
}

impl Entered {
    /// Runs a callback, with this thread marked as inside.
    fn run<R>(&self, f: impl FnOnce() -> R) -> R {
        struct Leave;
        impl Drop for Leave {
            fn drop(&mut self) {
                INSIDE.with_borrow_mut(|gates| gates.pop());
            }
        }
        INSIDE.with_borrow_mut(|gates| gates.push(Arc::as_ptr(&self.0) as usize));
        let _leave = Leave;
        f()
    }

    /// The same for work that owns its place: a completion.
    pub(crate) fn finish(self, f: impl FnOnce()) {
        self.run(f);
    }
}

impl Drop for Entered {
    fn drop(&mut self) {
        if self.0.state.fetch_sub(1, Ordering::SeqCst) == SHUT | 1 {
            drop(self.0.changed.0.lock());
            self.0.changed.1.notify_all();
        }
    }
}

/// A registered host API.
pub(crate) struct Callbacks {
    api: flowplug_host_api,
    /// Who answers where this API has a NULL: the host's own, for a plugin's override; none: the embedded defaults.
    base: Option<Arc<Callbacks>>,
    defaults: Arc<MemoryKv>,
    gate: Arc<Gate>,
    destroyed: AtomicBool,
}

// SAFETY: the header says that callbacks come from any thread, several at once, so user_data may be used from there.
unsafe impl Send for Callbacks {}
// SAFETY: as above; everything else in it is Sync.
unsafe impl Sync for Callbacks {}

impl Callbacks {
    pub(crate) fn new(api: flowplug_host_api, base: Option<Arc<Callbacks>>, defaults: Arc<MemoryKv>, gate: Arc<Gate>) -> Arc<Self> {
        Arc::new(Callbacks { api, base, defaults, gate, destroyed: AtomicBool::new(false) })
    }

    /// The host's store, for the defaults of a plugin's override.
    pub(crate) fn defaults(&self) -> &Arc<MemoryKv> {
        &self.defaults
    }

    pub(crate) fn gate(&self) -> &Arc<Gate> {
        &self.gate
    }

    /// Ends the registration: `destroy` runs exactly once.
    pub(crate) fn destroy(&self) {
        if let Some(destroy) = self.api.destroy
            && !self.destroyed.swap(true, Ordering::SeqCst)
        {
            // SAFETY: the registrant's contract: destroy may be called once, from any thread.
            unsafe { destroy(self.api.user_data) };
        }
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
        self.gate.enter()?.run(|| call(self.api.user_data, request.number(), &raw const asking));
        let answer = request.wait(caller);
        if answer.is_err() {
            let number = request.number();
            drop(request);
            self.tell_dropped(number);
        }
        match answer? {
            Answer::Failed(e) => Err(e),
            other => Ok(other),
        }
    }

    fn tell_dropped(&self, request: flowplug_request) {
        if let (Some(dropped), Ok(entered)) = (self.api.request_dropped, self.gate.enter()) {
            // SAFETY: the registrant's contract: it may be called from any thread until the host is closed.
            entered.run(|| unsafe { dropped(self.api.user_data, request) });
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
        self.destroy();
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
            let answer = self.ask(caller, Asked::Value, |data, request, asking| unsafe {
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
                self.event(event);
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

fn pairs(pairs: &[(&str, &str)]) -> Vec<flowplug_pair> {
    let pair = |(name, value): &(&str, &str)| flowplug_pair {
        name: flowplug_str::lent(name.as_bytes()),
        value: flowplug_str::lent(value.as_bytes()),
    };
    pairs.iter().map(pair).collect()
}
