//! The host API over C function pointers: who is asked, on which thread, until when.
//!
//! A callback runs on the thread that asks, or detached, on one of the host's [`Threads`]. If it has answered when it
//! returns, nothing waits; else the thread that asks waits for the answer within the call's bounds, and the callback is told
//! when nobody waits any more.

use std::sync::{Arc, OnceLock, Weak};
use std::time::SystemTime;

use serde::Serialize;
use serde_json::value::RawValue;
use tokio::runtime::Handle;

use crate::call::Chain;
use crate::error::{Error, Kind, Result};
use crate::ffi::gate::{Entered, Gate, Registration};
use crate::ffi::host::flowplug_host_api;
use crate::ffi::question::{self, CallerCopy, Question, RecordCopy};
use crate::ffi::request::{self, Answer, Form, Open, flowplug_request};
use crate::ffi::text::flowplug_str;
use crate::ffi::threads::{Share, Threads};
use crate::host::defaults::Defaults;
use crate::host::{Caller, Host, HttpRequest, HttpResponse, Level, LogRecord, Telling, config, event, log};
use crate::sys;

/// A registered host API.
pub(crate) struct Callbacks {
    api: flowplug_host_api,
    /// Who answers where this API has a NULL: the host's own, for a plugin's override; none: the embedded defaults.
    base: Option<Arc<Callbacks>>,
    defaults: Arc<OnceLock<Defaults>>,
    gate: Arc<Gate>,
    registration: Arc<Registration>,
    /// Itself, for callbacks that run on when nobody else has it any more.
    own: Weak<Callbacks>,
}

// SAFETY: the header says that callbacks come from any thread, several at once, so user_data may be used from there.
unsafe impl Send for Callbacks {}
// SAFETY: as above; everything else in it is Sync.
unsafe impl Sync for Callbacks {}

impl Callbacks {
    pub(crate) fn new(
        api: flowplug_host_api,
        base: Option<Arc<Callbacks>>,
        defaults: Arc<OnceLock<Defaults>>,
        gate: Arc<Gate>,
    ) -> Arc<Self> {
        let registration = Arc::new(Registration::new(api.destroy, api.user_data, gate.clone()));
        Arc::new_cyclic(|own| Callbacks { api, base, defaults, gate, registration, own: own.clone() })
    }

    /// The host's defaults, also those of a plugin's override; empty until the host is made.
    pub(crate) fn defaults(&self) -> &Arc<OnceLock<Defaults>> {
        &self.defaults
    }

    fn embedded(&self) -> Result<&Defaults> {
        self.defaults.get().ok_or_else(|| Error::new(Kind::Internal, "A host's defaults were asked for before it was made."))
    }

    pub(crate) fn gate(&self) -> &Arc<Gate> {
        &self.gate
    }

    pub(crate) fn registration(&self) -> &Arc<Registration> {
        &self.registration
    }

    /// Asks a callback and waits for its answer.
    fn ask(&self, caller: &Caller<'_>, form: Form, question: Question<'_>) -> Result<Answer> {
        let threads = self.gate.threads();
        let mut request = Open::new(caller, form, threads.is_none())?;
        let number = request.number();
        // Held while it waits too: closing first ends the wait, then hears that the request was dropped.
        let entered = self.gate.enter_here()?;
        match threads {
            // SAFETY: the registrant's contract: callbacks may be called from any thread until the host is closed.
            None => entered.run(|| unsafe { question.put(self.api.user_data, number, caller) }),
            Some(threads) => self.ask_detached(threads, caller, number, question)?,
        }
        let answer = match request.answered() {
            Some(answer) => answer,
            None => match request.wait(caller) {
                Ok(answer) => answer,
                Err(error) => {
                    if request.give_up() {
                        self.dropped(number, &entered);
                    }
                    return Err(error);
                }
            },
        };
        match answer {
            Answer::Failed(e) => Err(e),
            other => Ok(other),
        }
    }

    /// Hands a question to a thread of the host: everything that it needs, it owns.
    fn ask_detached(&self, threads: &Arc<Threads>, caller: &Caller<'_>, number: flowplug_request, question: Question<'_>) -> Result<()> {
        let (own, entered) = (self.own()?, self.gate.enter()?);
        let (asker, question) = (CallerCopy::of(caller), question.copy());
        let job = move || {
            if !request::begin(number) {
                return;
            }
            let caller = asker.lent();
            // SAFETY: the registrant's contract: callbacks may be called from any thread until the host is closed.
            let call = || unsafe { question.put(own.api.user_data, number, &caller) };
            caller.chain.scope(|| entered.run(call));
        };
        threads.run(Share::of(caller.context), Box::new(job))
    }

    /// Tells the registrant that nobody waits for a request any more.
    fn dropped(&self, number: flowplug_request, entered: &Entered<&Gate>) {
        let Some(dropped) = self.api.request_dropped else { return };
        match (self.gate.threads(), self.own()) {
            (Some(threads), Ok(own)) => {
                let entered = entered.again(&self.gate);
                threads.drop_request(Box::new(move || {
                    // SAFETY: as for every callback.
                    entered.run(|| unsafe { dropped(own.api.user_data, number) });
                }));
            }
            // SAFETY: as for every callback.
            _ => entered.run(|| unsafe { dropped(self.api.user_data, number) }),
        }
    }

    /// Runs the callback of a record or an event of about so many bytes, in its turn, as if on this thread.
    fn tell_detached(&self, threads: &Arc<Threads>, bytes: usize, callback: impl FnOnce(&Callbacks) + Send + 'static) {
        let (Ok(own), Ok(entered)) = (self.own(), self.gate.enter()) else { return };
        let (chain, telling) = (Chain::current(), Telling::current());
        let job = move || chain.scope(|| telling.scope(|| entered.run(|| callback(&own))));
        if let Some(lost @ 1..) = threads.tell(bytes, Box::new(job)) {
            let message = format!("{lost} log records and events were lost: the host's callbacks take them more slowly than they come.");
            self.log(&LogRecord { plugin: "", tag: 0, level: Level::Warn, message: &message, fields: &[] });
        }
    }

    fn own(&self) -> Result<Arc<Callbacks>> {
        self.own.upgrade().ok_or_else(|| Error::new(Kind::Internal, "A callback was asked for while its host's end is under way."))
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
            let answer = self.ask(caller, Form::Text, Question::Text(f, key))?;
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
            let answer = self.ask(caller, Form::Value, Question::Text(f, key))?;
            if let Some(value) = Self::value(answer)? {
                return Ok(value);
            }
        }
        match &self.base {
            Some(base) => base.kv_get(caller, key),
            None => self.embedded()?.kv.get(key),
        }
    }

    fn kv_set(&self, caller: &Caller<'_>, key: &str, value: &[u8]) -> Result<()> {
        if let Some(f) = self.api.kv_set {
            let answer = self.ask(caller, Form::Done, Question::Value(f, key, value))?;
            if Self::done(answer)? {
                return Ok(());
            }
        }
        match &self.base {
            Some(base) => base.kv_set(caller, key, value),
            None => self.embedded()?.kv.set(caller, key, value),
        }
    }

    fn kv_delete(&self, caller: &Caller<'_>, key: &str) -> Result<()> {
        if let Some(f) = self.api.kv_delete {
            let answer = self.ask(caller, Form::Done, Question::Text(f, key))?;
            if Self::done(answer)? {
                return Ok(());
            }
        }
        match &self.base {
            Some(base) => base.kv_delete(caller, key),
            None => self.embedded()?.kv.delete(caller, key),
        }
    }

    fn http_request(&self, caller: &Caller<'_>, request: &HttpRequest<'_>) -> Result<HttpResponse> {
        if let Some(f) = self.api.http_request {
            match self.ask(caller, Form::Http, Question::Http(f, request))? {
                Answer::Http(response) => return Ok(response),
                Answer::Default => {}
                Answer::Ok(_) | Answer::Missing | Answer::Failed(_) => return Err(unexpected()),
            }
        }
        match &self.base {
            Some(base) => base.http_request(caller, request),
            None => self.embedded()?.http.request(caller, request),
        }
    }

    fn emit_event(&self, caller: &Caller<'_>, event: &str) -> Result<()> {
        if let Some(f) = self.api.emit_event {
            let answer = self.ask(caller, Form::Done, Question::Text(f, event))?;
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
        match self.gate.threads() {
            None => {
                if let Ok(entered) = self.gate.enter() {
                    // SAFETY: as for every callback.
                    entered.run(|| unsafe { question::tell(f, self.api.user_data, record) });
                }
            }
            Some(threads) => {
                let copy = RecordCopy::of(record);
                // SAFETY: as for every callback.
                self.tell_detached(threads, copy.bytes(), move |own| unsafe { copy.tell(f, own.api.user_data) });
            }
        }
    }

    fn is_inside(&self) -> bool {
        self.gate.is_inside()
    }

    fn event(&self, event: &str) {
        let Some(f) = self.api.event else {
            if let Some(base) = &self.base {
                base.event(event);
            }
            return;
        };
        match self.gate.threads() {
            None => {
                if let Ok(entered) = self.gate.enter() {
                    // SAFETY: as for every callback; the text lives for the call.
                    entered.run(|| unsafe { f(self.api.user_data, flowplug_str::lent(event.as_bytes())) });
                }
            }
            Some(threads) => {
                let copy: Box<str> = event.into();
                // SAFETY: as for every callback; the text lives for the call.
                let tell = move |own: &Callbacks| unsafe { f(own.api.user_data, flowplug_str::lent(copy.as_bytes())) };
                self.tell_detached(threads, event.len() + 64, tell);
            }
        }
    }
}

/// An event of a plugin as an event of the library: what the plugin says stands under `data`, so that it cannot pass for
/// another's or for the library's own.
fn emitted(identity: &str, event: &str) -> Result<String> {
    let data: &RawValue =
        serde_json::from_str(event).map_err(|e| Error::new(Kind::InvalidArgument, format!("The event is not valid JSON: {e}.")))?;
    Ok(event::text("emitted", identity, SystemTime::now(), &Emitted { data }))
}

#[derive(Serialize)]
struct Emitted<'a> {
    data: &'a RawValue,
}
