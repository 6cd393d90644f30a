//! What a store carries: whose it is, the call that runs in it, and the way from it to the host.

use std::sync::Arc;

use serde_json::Value;
use wasmtime::{Memory, StoreContextMut, TypedFunc, UpdateDeadline};
use wasmtime_wasi::p1::WasiP1Ctx;

use super::limits::Limits;
use super::module::Interface;
use super::output::Output;
use super::ticker::ticks;
use super::trap;
use crate::call::{self, Call, Cancel, Chain, Deadline};
use crate::error::{Error, Kind, PLUGIN_TEXT_MAX, Result, clean};
use crate::host::{self, PluginContext};
use crate::sys::loan::Loan;

/// The data of a store.
pub(super) struct State {
    pub(super) context: Arc<PluginContext>,
    pub(super) interface: Arc<Interface>,
    pub(super) limits: Limits,
    pub(super) call: Current,
    /// The bytes of the call, for its glue.
    pub(super) call_bytes: Loan,
    pub(super) guest: Guest,
    /// Why the last host call failed; empty where it did not. So a 0 that stands for missing and for failed can be told apart.
    pub(super) last_error: String,
    /// Only where the module imports WASI.
    pub(super) wasi: Option<Box<WasiP1Ctx>>,
    /// WASI has been taken from it, because its call was over.
    pub(super) ended: bool,
    pub(super) output: Option<Arc<Output>>,
}

/// What host calls need of the guest; empty while its start section runs.
#[derive(Default)]
pub(super) struct Guest {
    pub(super) memory: Option<Memory>,
    pub(super) alloc: Option<TypedFunc<i32, i32>>,
}

/// What of the guest runs.
#[derive(Clone, Copy, Debug)]
pub(super) enum Running {
    /// A function of the interface, by its place in it.
    Function(usize),
    /// What the host runs for itself: `init`, `is_ready`; empty while an instance is made.
    Own(&'static str),
}

/// The call that runs in a store.
pub(super) struct Current {
    pub(super) running: Running,
    pub(super) deadline: Deadline,
    pub(super) cancel: Option<Cancel>,
    /// What led to the call, without this plugin.
    chain: Chain,
    pub(super) tag: u64,
    pub(super) traceparent: Box<str>,
    /// The clock of the deadline runs: at the end of the call it must be compared.
    pub(super) armed: bool,
    /// The tick at which a host call last looked whether the call may go on; 0 before the first.
    seen: u64,
    /// What the host, or WASI, refused it last; for the trap that may follow.
    pub(super) denied: Option<Box<Value>>,
}

/// A call that is to run. A store's [`Current`] is made from it in its place, and of what most calls leave empty nothing is
/// copied: what is copied is read back at once, which costs a short call more than the copying.
pub(super) struct Due<'a> {
    pub(super) call: &'a Call,
    pub(super) running: Running,
    /// The effective one.
    pub(super) deadline: Deadline,
}

impl Due<'_> {
    /// As the call of a store that is about to be made.
    pub(super) fn current(&self) -> Current {
        Current::new(self.call, self.running, self.deadline.clone())
    }
}

impl Current {
    /// The next call in the same store.
    #[inline]
    pub(super) fn renew(&mut self, due: &Due<'_>) {
        let call = due.call;
        self.running = due.running;
        self.deadline = due.deadline.clone();
        if !(self.chain.is_empty() && call.chain.is_empty()) {
            self.chain = call.chain;
        }
        self.tag = call.tag;
        (self.armed, self.seen) = (false, 0);
        if self.cancel.is_some() || call.cancel.is_some() {
            self.cancel.clone_from(&call.cancel);
        }
        if !(self.traceparent.is_empty() && call.traceparent.is_empty()) {
            self.traceparent.clone_from(&call.traceparent);
        }
        if self.denied.is_some() {
            self.denied = None;
        }
    }

    /// For `call`, whose effective deadline this is.
    pub(super) fn new(call: &Call, running: Running, deadline: Deadline) -> Self {
        let (cancel, traceparent) = (call.cancel.clone(), call.traceparent.clone());
        Current { running, deadline, cancel, chain: call.chain, tag: call.tag, traceparent, armed: false, seen: 0, denied: None }
    }

    /// `timeout` or `cancelled` if the call may not go on, looked at once a tick: a guest that only makes host calls, one
    /// after the other, meets no other check.
    pub(super) fn look(&mut self, context: &PluginContext) -> Result<()> {
        let now = ticks();
        if self.seen == now {
            return Ok(());
        }
        if self.seen != 0 {
            self.armed = true;
            self.check(context)?;
        }
        self.seen = now;
        Ok(())
    }

    /// `timeout` or `cancelled` if the call may not go on; reads the clock.
    pub(super) fn check(&self, context: &PluginContext) -> Result<()> {
        call::check(&self.deadline, &[self.cancel.as_ref(), Some(&context.ending)])
    }
}

impl State {
    /// Asks the host on behalf of the call that runs. What fails is kept for `last_error`.
    pub(super) fn ask<R>(&mut self, request: impl FnOnce(&host::Caller<'_>) -> Result<R>) -> Result<R> {
        self.call.look(&self.context)?;
        // A callback may block: the clock must run before it does.
        self.call.armed = true;
        self.call.deadline.begin();
        let call = &self.call;
        let function = match call.running {
            Running::Function(place) => self.interface.functions.get(place).map_or("", |export| &*export.name),
            Running::Own(name) => name,
        };
        let chain = call.chain.enter(self.context.serial())?;
        let caller = host::Caller {
            context: &self.context,
            function,
            tag: call.tag,
            traceparent: &call.traceparent,
            deadline: &call.deadline,
            cancel: call.cancel.as_ref(),
            chain,
        };
        let answer = chain.scope(|| request(&caller));
        match &answer {
            Ok(_) => self.last_error.clear(),
            Err(error) => self.refuse(error),
        }
        answer
    }

    /// Keeps why a host call failed, whether it reached the host or not.
    pub(super) fn refuse(&mut self, error: &Error) {
        self.last_error = clean(error.message(), PLUGIN_TEXT_MAX);
        if error.kind() == Kind::PermissionDenied {
            self.call.denied = Some(Box::new(trap::denial(error)));
        }
    }
}

/// What the store does at each tick that its guest sees: the first starts the clock, and each compares it.
pub(super) fn tick(mut store: StoreContextMut<'_, State>) -> wasmtime::Result<UpdateDeadline> {
    let state = store.data_mut();
    state.call.armed = true;
    state.call.check(&state.context)?;
    Ok(UpdateDeadline::Continue(1))
}
