//! One instance: made, initialised, called, and judged whether it may be used again.

use wasmtime::{Extern, Memory, ModuleExport, Store, TypedFunc};

use super::blueprint::{Blueprint, begin};
use super::glue::{self, Frees, Parts};
use super::module::{Export, Interface, Shape, Start};
use super::state::{Due, Guest, State};
use super::transfer::{Transfer, unpack};
use super::trap;
use crate::call::{Cancel, Sink};
use crate::error::{Error, Kind, Result};
use crate::sys::loan::{Exchange, lend};

/// An instance may grow by this much, and to half of its limit, before it is replaced.
const GROWTH: usize = 16 << 20;

/// Functions of one instance that are called in one entry; the rest are called step by step.
pub(super) const GLUED_MAX: usize = 8;

/// An instance and its store. Belongs to one call at a time.
pub(super) struct Instance {
    store: Store<State>,
    inner: wasmtime::Instance,
    memory: Memory,
    alloc: Option<TypedFunc<i32, i32>>,
    free: Option<Free>,
    /// The functions that have been called here, in the order of the interface.
    functions: Vec<Option<Function>>,
    glued: usize,
    /// `init` has run.
    initialised: bool,
    /// Bytes of memory before the first call.
    baseline: usize,
    /// Something happened after which nothing in it can be trusted.
    broken: bool,
}

enum Free {
    One(TypedFunc<i32, ()>),
    Pair(TypedFunc<(i32, i32), ()>),
}

enum Function {
    /// Called once: whether it is worth its glue shows when it is called again.
    Params(TypedFunc<(i32, i32), i64>),
    Glued(TypedFunc<i32, ()>),
    Plain(TypedFunc<(), i64>),
}

/// One call as the instance sees it.
pub(super) struct Request<'a> {
    /// The function's place in the interface.
    pub(super) function: usize,
    pub(super) params: &'a [u8],
    pub(super) trusted: bool,
}

/// Enters the glue of a call; the error outside is that the call cannot be made.
#[inline]
fn enter(store: &mut Store<State>, glued: &TypedFunc<i32, ()>, transfer: &mut Transfer<'_>) -> Result<wasmtime::Result<()>> {
    let size = transfer.size()?;
    Ok(lend(store, |store| &mut store.data_mut().call_bytes, transfer, |store| glued.call(store, size)))
}

impl Instance {
    /// Of a module that was just instantiated: its exports found by their places, and its start run.
    pub(super) fn new(mut store: Store<State>, inner: wasmtime::Instance, interface: &Interface) -> Result<Box<Self>> {
        let exported = |store: &mut Store<State>, place: &ModuleExport| inner.get_module_export(store, place);
        let memory = interface.memory.as_ref().and_then(|place| exported(&mut store, place)).and_then(Extern::into_memory);
        let memory = memory.ok_or_else(|| Error::new(Kind::LoadFailed, "The module has no memory."))?;
        let mistyped = |e: wasmtime::Error| Error::new(Kind::Internal, format!("An export that was checked has another type: {e:#}."));
        let missing = || Error::new(Kind::Internal, "An export that was checked is not there.");
        let mut function = |place: &ModuleExport| exported(&mut store, place).and_then(Extern::into_func).ok_or_else(missing);
        let alloc = interface.alloc.as_ref().map(&mut function).transpose()?;
        let free = interface.free.as_ref().map(|(place, shape)| Ok((function(place)?, *shape))).transpose()?;
        let alloc = alloc.map(|f| f.typed(&store)).transpose().map_err(mistyped)?;
        let free = match free {
            Some((f, Shape::Pair)) => Some(Free::Pair(f.typed(&store).map_err(mistyped)?)),
            Some((f, _)) => Some(Free::One(f.typed(&store).map_err(mistyped)?)),
            None => None,
        };
        store.data_mut().guest = Guest { memory: Some(memory), alloc: alloc.clone() };
        let functions = interface.functions.iter().map(|_| None).collect();
        let mut instance =
            Box::new(Instance { store, inner, memory, alloc, free, functions, glued: 0, initialised: false, baseline: 0, broken: false });
        instance.run_start(interface.start)?;
        instance.baseline = instance.store.data().limits.memory_used();
        Ok(instance)
    }

    fn run_start(&mut self, start: Option<Start>) -> Result<()> {
        let name = match start {
            Some(Start::Initialize) => "_initialize",
            Some(Start::Start) => "_start",
            None => return Ok(()),
        };
        let ended = self.inner.get_typed_func::<(), ()>(&mut self.store, name).and_then(|f| f.call(&mut self.store, ()));
        match ended {
            Err(e) if start == Some(Start::Start) && trap::exit_status(&e) == Some(0) => self.finished(),
            Err(e) => Err(self.failed(e).with_function(name)),
            Ok(()) => self.finished(),
        }
    }

    /// The next call runs here.
    #[inline]
    pub(super) fn begin(&mut self, due: &Due<'_>) -> Result<()> {
        let state = self.store.data_mut();
        if let Some(output) = &state.output {
            output.begin(due.call.tag);
        }
        state.limits.begin();
        state.call.renew(due);
        begin(&mut self.store)
    }

    /// Whether `init` has still to run.
    pub(super) fn needs_init(&self) -> bool {
        !self.initialised
    }

    /// Runs `init` with the config, in the form that its type asks for. Its error is `start_failed`.
    pub(super) fn init(&mut self, shape: Option<Shape>, config: &str) -> Result<()> {
        let result = self.run_init(shape, config.as_bytes()).map_err(|e| e.with_function("init"));
        self.broken |= result.is_err();
        self.initialised = result.is_ok();
        self.baseline = self.store.data().limits.memory_used();
        result
    }

    fn run_init(&mut self, shape: Option<Shape>, config: &[u8]) -> Result<()> {
        match shape {
            None => Ok(()),
            Some(Shape::Pair) => {
                let mut nothing = Vec::new();
                let mut transfer = self.transfer(config, false, &mut nothing);
                let given = self.put(&mut transfer)?;
                let f = self.inner.get_typed_func::<(i32, i32), ()>(&mut self.store, "init");
                f.and_then(|f| f.call(&mut self.store, given)).map_err(|e| self.failed(e))?;
                self.release(given)?;
                self.finished()
            }
            Some(_) => {
                let f = self.inner.get_typed_func::<(i32, i32), i64>(&mut self.store, "init").map_err(|e| self.failed(e))?;
                let mut answer = Vec::new();
                let mut transfer = self.transfer(config, false, &mut answer);
                let ended = self.run(&Function::Params(f), &mut transfer);
                self.settle(ended, &mut transfer).map_err(|e| match e.kind() {
                    Kind::Plugin => Error::new(Kind::StartFailed, format!("The plugin's init failed: {}", e.plugin_message()))
                        .with_plugin_message(e.plugin_message()),
                    _ => e,
                })
            }
        }
    }

    /// Calls a function of the interface and hands its data to the sink.
    #[inline]
    pub(super) fn call(&mut self, blueprint: &Blueprint, request: &Request<'_>, sink: &mut dyn Sink) -> Result<()> {
        let unknown = || Error::new(Kind::UnknownFunction, "This function belongs to another plugin.");
        let export = blueprint.interface.functions.get(request.function).ok_or_else(unknown)?;
        let params = if export.bare { &[] } else { request.params };
        let mut transfer = Transfer::new(params, request.trusted, blueprint.context.grants().result_size, sink);
        let ended = match self.functions.get(request.function) {
            Some(Some(Function::Glued(call))) => enter(&mut self.store, call, &mut transfer)?.map_err(|e| self.failed(e)),
            _ => self.call_anew(blueprint, request.function, export, &mut transfer),
        };
        self.settle(ended, &mut transfer)
    }

    /// A function that is called here for the first time is found, and the second time glue is put around it.
    #[cold]
    fn call_anew(&mut self, blueprint: &Blueprint, place: usize, export: &Export, transfer: &mut Transfer<'_>) -> Result<()> {
        // Out of its place while it runs: a copy of it would count references up and down.
        let function = match self.functions.get_mut(place).and_then(Option::take) {
            Some(Function::Params(function)) => self.glue(blueprint, &function).unwrap_or_else(|_| {
                // As well step by step, where the system has no room for another module: not tried again.
                self.glued = GLUED_MAX;
                Function::Params(function)
            }),
            Some(function) => function,
            None => self.resolve(export)?,
        };
        let ended = self.run(&function, transfer);
        if let Some(place) = self.functions.get_mut(place) {
            *place = Some(function);
        }
        ended
    }

    fn transfer<'a>(&self, params: &'a [u8], trusted: bool, sink: &'a mut dyn Sink) -> Transfer<'a> {
        Transfer::new(params, trusted, self.store.data().context.grants().result_size, sink)
    }

    /// The function of an export, by its place in the module: done at its first call in this instance.
    fn resolve(&mut self, export: &Export) -> Result<Function> {
        let f = self.inner.get_module_export(&mut self.store, &export.place).and_then(wasmtime::Extern::into_func);
        let f = f.ok_or_else(|| Error::new(Kind::UnknownFunction, "The plugin has no such function."))?;
        let typed = match export.shape {
            Some(Shape::Params) => f.typed(&self.store).map(Function::Params),
            _ => f.typed(&self.store).map(Function::Plain),
        };
        typed.map_err(|e| Error::new(Kind::UnknownFunction, format!("The function cannot be called: {e:#}.")))
    }

    /// The function behind its glue: done at its second call in this instance.
    fn glue(&mut self, blueprint: &Blueprint, function: &TypedFunc<(i32, i32), i64>) -> Result<Function> {
        let Some(alloc) = self.alloc.as_ref().filter(|_| self.glued < GLUED_MAX) else { return Ok(Function::Params(function.clone())) };
        let (free, frees) = match &self.free {
            Some(Free::One(free)) => (Some(*free.func()), Frees::One),
            Some(Free::Pair(free)) => (Some(*free.func()), Frees::Pair),
            None => (None, Frees::Not),
        };
        let parts = Parts { alloc: *alloc.func(), function: *function.func(), free };
        let module = blueprint.machine.glue(frees)?;
        let glued = glue::attach(&mut self.store, module, &parts)
            .map_err(|e| Error::new(Kind::Internal, format!("The function could not be prepared: {e:#}.")))?;
        self.glued += 1;
        Ok(Function::Glued(glued))
    }

    fn run(&mut self, function: &Function, transfer: &mut Transfer<'_>) -> Result<()> {
        match function {
            Function::Glued(call) => enter(&mut self.store, call, transfer)?.map_err(|e| self.failed(e)),
            Function::Params(f) => {
                let given = self.put(transfer)?;
                let result = f.call(&mut self.store, given).map_err(|e| self.failed(e))?;
                self.take(result, given, transfer)
            }
            Function::Plain(f) => {
                let result = f.call(&mut self.store, ()).map_err(|e| self.failed(e))?;
                self.take(result, (0, 0), transfer)
            }
        }
    }

    /// What a call that ended so has come to.
    #[inline]
    fn settle(&mut self, ended: Result<()>, transfer: &mut Transfer<'_>) -> Result<()> {
        self.broken |= transfer.broken;
        match (ended, transfer.answer.take()) {
            (Err(e), None) => Err(e),
            (Err(e), Some(_)) if matches!(e.kind(), Kind::Timeout | Kind::Cancelled) => Err(e),
            // A trap in `free` costs the instance alone: what was answered before it stands.
            (_, Some(answer)) => self.finished().and(answer),
            // An `alloc` that had nothing: why, the end of the call tells first.
            (Ok(()), None) => self.finished().and(Err(trap::out_of_memory(&self.store.data().limits))),
        }
    }

    /// Puts the parameters into a buffer of the guest's; nothing needs none.
    fn put(&mut self, transfer: &mut Transfer<'_>) -> Result<(i32, i32)> {
        let size = transfer.size()?;
        let Some(alloc) = self.alloc.as_ref().filter(|_| size > 0) else { return Ok((0, 0)) };
        let ptr = match alloc.call(&mut self.store, size) {
            Ok(ptr) => ptr,
            Err(e) => return Err(self.failed(e)),
        };
        if transfer.put(self.memory.data_mut(&mut self.store), ptr) {
            self.broken = true;
            self.finished()?;
            return Err(transfer.answer.take().and_then(Result::err).unwrap_or_else(|| trap::out_of_memory(&self.store.data().limits)));
        }
        Ok((ptr, size))
    }

    /// Takes the answer, straight from the guest's memory, and lets the guest free both buffers.
    fn take(&mut self, result: i64, given: (i32, i32), transfer: &mut Transfer<'_>) -> Result<()> {
        if transfer.take(self.memory.data(&self.store), result) {
            return Ok(());
        }
        let result = unpack(result);
        if result.0 != given.0 {
            self.release(result)?;
        }
        self.release(given)
    }

    /// Frees a buffer. A trap in `free` only costs the instance; the end of the call is the call's.
    fn release(&mut self, (ptr, size): (i32, i32)) -> Result<()> {
        if ptr == 0 || self.broken {
            return Ok(());
        }
        let freed = match &self.free {
            Some(Free::One(f)) => f.call(&mut self.store, ptr),
            Some(Free::Pair(f)) => f.call(&mut self.store, (ptr, size)),
            None => return Ok(()),
        };
        match freed.map_err(|e| self.failed(e)) {
            Err(e) if matches!(e.kind(), Kind::Timeout | Kind::Cancelled) => Err(e),
            _ => Ok(()),
        }
    }

    /// `is_ready`, where it is exported; ready is exactly 1.
    pub(super) fn is_ready(&mut self) -> Result<bool> {
        let ready = self.inner.get_typed_func::<(), i32>(&mut self.store, "is_ready").and_then(|f| f.call(&mut self.store, ()));
        let ready = ready.map_err(|e| self.failed(e))?;
        self.finished()?;
        Ok(ready == 1)
    }

    fn failed(&mut self, error: wasmtime::Error) -> Error {
        self.broken = true;
        self.flush();
        trap::failure(error, self.store.data())
    }

    /// The guest has returned: in time, if the clock ran at all, and nobody has ended its call meanwhile. A host call that
    /// was ended so is only a failure to the guest, which may have gone on and answered.
    #[inline]
    fn finished(&mut self) -> Result<()> {
        self.flush();
        let state = self.store.data();
        let ended = state.call.cancel.as_ref().is_some_and(Cancel::is_set) || state.context.ending.is_set();
        if ended || state.call.armed && state.call.deadline.expired() {
            self.broken = true;
            return state.call.check(&state.context);
        }
        Ok(())
    }

    /// What the guest wrote last is a line, also without a line break.
    #[inline]
    fn flush(&self) {
        if let Some(output) = &self.store.data().output {
            output.flush();
        }
    }

    /// Whether it may be used again.
    #[inline]
    pub(super) fn is_clean(&self) -> bool {
        !self.broken && !self.has_grown()
    }

    /// Whether its memory has grown past what is kept warm.
    #[inline]
    pub(super) fn has_grown(&self) -> bool {
        let limits = &self.store.data().limits;
        let used = limits.memory_used();
        used > limits.memory_max() / 2 && used - self.baseline.min(used) > GROWTH
    }
}
