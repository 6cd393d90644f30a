//! What the instances of a plugin are made from.

use std::sync::Arc;

use wasmtime::{Module, Store};

use super::engine::Machine;
use super::instance::Instance;
use super::limits::Limits;
use super::module::Interface;
use super::output::Output;
use super::state::{Current, Guest, State, tick};
use super::{linker, trap, wasi};
use crate::error::{Error, Kind, Result};
use crate::host::PluginContext;
use crate::host::rate::Rate;
use crate::sys::loan::Loan;

/// What all instances of a plugin are made from.
pub(super) struct Blueprint {
    pub(super) machine: &'static Machine,
    pub(super) pre: linker::Linked,
    pub(super) interface: Arc<Interface>,
    pub(super) context: Arc<PluginContext>,
    pub(super) wasi: bool,
    folders: Vec<wasi::Folder>,
    pub(super) rate: Arc<Rate>,
}

impl Blueprint {
    /// Links the module for the plugin. `current` is the call that loads it.
    pub(super) fn new(
        machine: &'static Machine,
        module: &Module,
        interface: Interface,
        context: Arc<PluginContext>,
        current: Current,
    ) -> Result<Self> {
        let rate = Arc::new(Rate::new(context.grants().rates.output));
        let wasi = linker::uses_wasi(module);
        let interface = Arc::new(interface);
        let pre = linker::link(&machine.engine, module, state(&context, &interface, None, current)?)?;
        let folders = if wasi { wasi::folders(&context)? } else { Vec::new() };
        Ok(Blueprint { machine, pre, interface, context, wasi, folders, rate })
    }

    /// What its guests run in; nothing where the module has no WASI.
    pub(super) fn enter(&self) -> Result<Option<impl Sized + use<>>> {
        self.wasi.then(wasi::enter).transpose()
    }

    /// A new instance: its start section has run, then `_initialize` (or `_start`).
    pub(super) fn make(&self, current: Current) -> Result<Box<Instance>> {
        let wasi = self.wasi.then_some((&self.rate, &self.folders));
        let mut store = Store::new(&self.machine.engine, state(&self.context, &self.interface, wasi, current)?);
        store.limiter(|state| &mut state.limits);
        store.epoch_deadline_callback(tick);
        begin(&mut store)?;
        let inner = self.pre.instantiate(&mut store).map_err(|e| trap::failure(e, store.data()))?;
        Instance::new(store, inner, &self.interface)
    }
}

/// The data of a store for the call that will run in it; with a rate for its output where it has WASI.
pub(super) fn state(
    context: &Arc<PluginContext>,
    interface: &Arc<Interface>,
    wasi: Option<(&Arc<Rate>, &Vec<wasi::Folder>)>,
    call: Current,
) -> Result<State> {
    let output = wasi.map(|(rate, _)| Output::new(Arc::clone(context), Arc::clone(rate)));
    let wasi = wasi.zip(output.as_ref()).map(|((_, folders), output)| wasi::context(context, folders, output)).transpose()?;
    let limits = Limits::new(context.grants().memory, context.memory().clone());
    Ok(State {
        context: Arc::clone(context),
        interface: Arc::clone(interface),
        limits,
        call,
        call_bytes: Loan::default(),
        guest: Guest::default(),
        last_error: String::new(),
        wasi,
        ended: false,
        output,
    })
}

/// What each run of a guest begins with: the next tick is looked at, and the fuel is full.
pub(super) fn begin(store: &mut Store<State>) -> Result<()> {
    store.set_epoch_deadline(1);
    if let Some(fuel) = store.data().context.grants().fuel {
        store.set_fuel(fuel).map_err(|e| Error::new(Kind::Internal, format!("The fuel could not be set: {e:#}.")))?;
    }
    Ok(())
}
