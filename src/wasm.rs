//! Plugins as WebAssembly modules: compiled once, instantiated as needed, called on their callers' own threads.
//!
//! A [`Plugin`] owns what its instances are made from and the [pool] of those that live. A call takes an instance,
//! runs it synchronously to its end and gives it back if it is clean. Nothing here waits in a runtime or on a fiber: time
//! bounds come from the engine's epoch, and what can block waits on the caller's thread until the deadline or a cancel.

use std::path::PathBuf;
use std::sync::{Arc, Mutex, OnceLock, PoisonError, Weak};
use std::time::Duration;

use crate::call::{Call, Deadline, Sink};
use crate::error::{Error, Kind, Result, clean};
use crate::host::{Level, PluginContext};
use crate::manifest::{Manifest, Snapshot};

use blueprint::Blueprint;
use cache::Cache;
use compile::{Compiled, Order};
use engine::{Features, Machine};
use instance::{Instance, Request};
use lease::Lease;
use module::Interface;
use pool::Pool;
pub use pool::Stats;
use state::{Due, Running};
use ticker::{Idle, Ticking};
use upkeep::Upkeep;

mod artifact;
mod blueprint;
mod bounds;
mod cache;
mod compile;
mod engine;
pub mod envelope;
mod files;
mod glue;
mod imports;
mod instance;
mod lease;
mod limits;
mod linker;
mod memory;
mod module;
mod output;
mod pool;
mod refill;
mod requests;
mod rest;
mod snapshot;
mod stack;
mod state;
mod sync;
mod ticker;
mod transfer;
mod trap;
mod upkeep;
mod waits;
mod wasi;

/// How long `is_ready` may take.
const READY_WITHIN: Duration = Duration::from_millis(100);
/// How long `stop` waits for calls that it has cancelled: a host callback that blocks cannot be interrupted.
const END_WITHIN: Duration = Duration::from_secs(5);

/// What the host sets for all wasm plugins.
#[derive(Clone, Debug)]
pub struct Settings {
    /// Guests trap by signals, which is faster; otherwise by explicit checks, and no signal handler is installed.
    pub signals: bool,
    /// Where compiled modules are kept; none: nowhere. Must belong to this user alone.
    pub cache_dir: Option<PathBuf>,
    /// Bytes that are kept there at most; what was used longest ago goes first.
    pub cache_size: u64,
}

/// Bytes of the compile cache where the host does not say.
pub const CACHE_SIZE: u64 = 1 << 30;

impl Default for Settings {
    fn default() -> Self {
        Settings { signals: true, cache_dir: None, cache_size: CACHE_SIZE }
    }
}

/// A function of one plugin, resolved once. Valid as long as the plugin.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Function(usize);

impl Function {
    /// By its [`number`](Self::number).
    pub fn from_number(number: usize) -> Self {
        Function(number)
    }

    /// Its place among the plugin's functions.
    pub fn number(self) -> usize {
        self.0
    }
}

/// What the plugin says of itself.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Health {
    /// It can be called.
    pub ready: bool,
    /// What went wrong when it was last asked; empty if nothing did.
    pub last_error: String,
}

/// A loaded module. May be used from any number of threads at once.
pub struct Plugin {
    blueprint: Blueprint,
    pool: Pool<Box<Instance>>,
    wait_timeout: Duration,
    instance_per_call: bool,
    /// What each instance is initialised with; set by `start`.
    config: OnceLock<Box<str>>,
    health: Mutex<Health>,
    /// Held, so that the next load of the same module finds it.
    _compiled: Arc<Compiled>,
    upkeep: Upkeep,
    ticking: Ticking,
}

impl std::fmt::Debug for Plugin {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Plugin").field("identity", &self.blueprint.context.identity()).finish_non_exhaustive()
    }
}

impl Idle for Plugin {
    fn is_idle(self: Arc<Self>) -> bool {
        let idle = self.pool.is_idle();
        ticker::let_go(self);
        idle
    }
}

impl Plugin {
    /// Reads, compiles and links the module and makes the first instance, all before the call's deadline and the granted
    /// `load_timeout`.
    ///
    /// # Errors
    ///
    /// `load_failed` for a module that is missing, has another digest or is no plugin; `permission_denied` past a bound of
    /// the policy; `timeout`, `cancelled`; and what ends the guest's own start: `trap`, `out_of_memory`.
    pub fn load(settings: &Settings, manifest: &Manifest, context: Arc<PluginContext>, call: &Call) -> Result<Arc<Plugin>> {
        let plugin = Arc::new(stack::with_room(|| Plugin::load_here(settings, manifest, context, call))??);
        plugin.upkeep.begin(&plugin);
        let idle: Weak<Plugin> = Arc::downgrade(&plugin);
        plugin.ticking.unless(idle);
        Ok(plugin)
    }

    fn load_here(settings: &Settings, manifest: &Manifest, context: Arc<PluginContext>, call: &Call) -> Result<Plugin> {
        let grants = context.grants();
        let deadline = call.deadline.at_most(grants.load_timeout);
        let machine: &'static Machine = engine::machine(Features { signals: settings.signals, fuel: grants.fuel.is_some() })?;
        let ticking = machine.tick()?;
        let artifact = artifact::open(manifest, grants)?;
        let cache = settings
            .cache_dir
            .as_deref()
            .and_then(|folder| Cache::open(folder, settings.cache_size).inspect_err(|text| context.log(0, Level::Warn, text, &[])).ok());
        let snapshot = manifest.wasm.as_ref().map_or(Snapshot::Off, |config| config.snapshot);
        let order = Order { machine, context: &context, snapshot, cache, deadline: &deadline, cancel: call.cancel.as_ref() };
        let compiled = compile::compile(&order, &artifact)?;
        let mut interface = Interface::of(&compiled.module)?;
        if compiled.initialised {
            interface.start = None;
        }
        deadline.begin();
        let due = Due { call, running: Running::Own(""), deadline: deadline.at_most(grants.timeout) };
        let blueprint = Blueprint::new(machine, &compiled.module, interface, Arc::clone(&context), due.current())?;
        let config = manifest.wasm.as_ref();
        let plugin = Plugin {
            pool: Pool::new(usize::try_from(grants.max_instances).unwrap_or(usize::MAX)),
            wait_timeout: config.map_or(Duration::ZERO, |config| config.wait_timeout),
            instance_per_call: config.is_some_and(|config| config.instance_per_call),
            blueprint,
            config: OnceLock::new(),
            health: Mutex::default(),
            _compiled: compiled,
            upkeep: Upkeep::default(),
            ticking,
        };
        plugin.make_first(&due)?;
        Ok(plugin)
    }

    fn make_first(&self, due: &Due<'_>) -> Result<()> {
        let _surroundings = self.blueprint.enter()?;
        let mut lease = self.lease(due)?;
        lease.instance(due)?;
        lease.keep();
        Ok(())
    }

    /// Runs `init` with this config, JSON text, on the first instance; those made later get it when they are made.
    ///
    /// # Errors
    ///
    /// `start_failed` with the plugin's own text; `timeout`, `cancelled`, `trap`, `out_of_memory`, `invalid_response`.
    pub fn start(&self, config: &str, call: &Call) -> Result<()> {
        let result = stack::with_room(|| {
            let _surroundings = self.blueprint.enter()?;
            let due = self.due(call, Running::Own("init"))?;
            let mut lease = self.lease(&due)?;
            self.prepared(&mut lease, config, &due)?;
            lease.keep();
            self.config.get_or_init(|| config.into());
            Ok(())
        });
        let result = result.flatten();
        self.set_health(Health { ready: result.is_ok(), last_error: result.as_ref().err().map(ToString::to_string).unwrap_or_default() });
        result
    }

    /// The function of this name.
    ///
    /// # Errors
    ///
    /// `unknown_function` for what is not exported, is reserved or has a type that cannot be called.
    pub fn resolve(&self, name: &str) -> Result<Function> {
        self.blueprint.interface.find(name).map(Function)
    }

    /// Calls a function on this thread and hands its data to the sink. What the sink was given counts only if this returns
    /// `Ok`: a plugin can still run past its deadline while it frees what it answered with.
    ///
    /// # Errors
    ///
    /// `plugin_error` with the plugin's own text; `invalid_response`, `trap`, `out_of_memory`, `timeout`, `cancelled`;
    /// `busy` if no instance came free in time or this chain of calls holds them all; `invalid_state` after `stop`.
    #[inline(always)]
    pub fn call(&self, function: Function, name: &str, params: &[u8], call: &Call, sink: &mut dyn Sink) -> Result<()> {
        let result = if stack::has_room() {
            self.call_here(function, params, call, sink)
        } else {
            stack::with_room(|| self.call_here(function, params, call, sink)).flatten()
        };
        result.map_err(|e| e.with_function(name))
    }

    fn call_here(&self, function: Function, params: &[u8], call: &Call, sink: &mut dyn Sink) -> Result<()> {
        let Some(config) = self.config.get() else {
            return Err(Error::new(Kind::InvalidState, "The plugin has not been started. Start it before it is called."));
        };
        let _surroundings = self.blueprint.enter()?;
        let due = self.due(call, Running::Function(function.0))?;
        let request = Request { function: function.0, params, trusted: call.trust_json };
        // Apart from the other way to a turn: one that may come from either is put into memory, and stalls who reads it.
        match self.pool.take_again() {
            Some(turn) => self.call_in(Lease::new(self, turn), config, &due, &request, sink),
            None => self.call_in_another(config, &due, &request, sink),
        }
    }

    #[cold]
    #[inline(never)]
    fn call_in_another(&self, config: &str, due: &Due<'_>, request: &Request<'_>, sink: &mut dyn Sink) -> Result<()> {
        self.call_in(self.lease(due)?, config, due, request, sink)
    }

    #[inline(always)]
    fn call_in(&self, mut lease: Lease<'_>, config: &str, due: &Due<'_>, request: &Request<'_>, sink: &mut dyn Sink) -> Result<()> {
        let instance = self.prepared(&mut lease, config, due)?;
        instance.begin(due)?;
        let result = instance.call(&self.blueprint, request, sink);
        if !self.instance_per_call {
            lease.keep();
        }
        result
    }

    /// A call of ours, within its bounds; `busy` where the chain that led to it holds every instance.
    #[inline(always)]
    fn due<'a>(&self, call: &'a Call, running: Running) -> Result<Due<'a>> {
        let context = &self.blueprint.context;
        if !call.chain.is_empty() {
            if call.chain.holds(context.serial()) >= self.pool.max() {
                return Err(self.all_held());
            }
            call.chain.check()?;
        }
        Ok(Due { call, running, deadline: call.deadline.at_most(context.grants().timeout) })
    }

    #[cold]
    fn all_held(&self) -> Error {
        let max = self.pool.max();
        let text = format!(
            "All {max} instances of this plugin are held by the calls that led to this one. Raise wasm.pool.max_instances, or do not call a plugin back from its own host call."
        );
        Error::new(Kind::Busy, text)
    }

    fn lease(&self, due: &Due<'_>) -> Result<Lease<'_>> {
        let cancels = [due.call.cancel.as_ref(), Some(&self.blueprint.context.ending)];
        let turn = self.pool.take(self.wait_timeout, &due.deadline, &cancels)?;
        Ok(Lease::new(self, turn))
    }

    /// The instance of a lease, made and initialised if need be.
    #[inline]
    fn prepared<'a>(&self, lease: &'a mut Lease<'_>, config: &str, due: &Due<'_>) -> Result<&'a mut Instance> {
        if lease.turn.as_deref().is_none_or(Instance::needs_init) {
            self.prepare(lease, config, due)?;
        }
        lease.instance(due)
    }

    #[cold]
    fn prepare(&self, lease: &mut Lease<'_>, config: &str, due: &Due<'_>) -> Result<()> {
        // Making an instance, `init` and the call share one clock.
        due.deadline.begin();
        let mut make = || {
            let instance = lease.instance(due)?;
            if instance.needs_init() {
                instance.begin(due)?;
                instance.init(self.blueprint.interface.init, config)?;
            }
            Ok(())
        };
        make().map_err(|e: Error| if e.kind() == Kind::Cancelled { e.of_no_run() } else { e })
    }

    /// What the plugin says of itself: `is_ready` on an idle instance, else what it said last. Never waits longer than 100 ms.
    pub fn health(&self) -> Health {
        if self.pool.is_closed() {
            return Health { ready: false, last_error: "The plugin has been stopped.".to_owned() };
        }
        if self.blueprint.interface.is_ready && self.config.get().is_some() {
            match stack::with_room(|| self.ask_ready()).flatten() {
                Ok(Some(ready)) => self.set_health(Health { ready, last_error: String::new() }),
                Ok(None) => {}
                Err(e) => self.set_health(Health { ready: false, last_error: format!("is_ready: {e}") }),
            }
        }
        self.health.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// What an idle instance says; none if there is none, or one that has yet to be initialised.
    fn ask_ready(&self) -> Result<Option<bool>> {
        let Some(turn) = self.pool.try_take() else { return Ok(None) };
        let mut lease = Lease::new(self, turn);
        let _surroundings = self.blueprint.enter()?;
        let call = Call::new(Deadline::after(READY_WITHIN));
        let due = self.due(&call, Running::Own("is_ready"))?;
        let instance = lease.instance(&due)?;
        if instance.needs_init() {
            lease.keep();
            return Ok(None);
        }
        instance.begin(&due)?;
        let ready = instance.is_ready();
        lease.keep();
        ready.map(Some)
    }

    /// How its pool of instances is.
    pub fn stats(&self) -> Stats {
        self.pool.stats()
    }

    fn set_health(&self, health: Health) {
        *self.health.lock().unwrap_or_else(PoisonError::into_inner) = health;
    }

    /// Refuses new calls, waits for those in flight until `drain` has passed, then ends the rest with `cancelled` and waits
    /// for them (5 seconds at most, where one hangs in a host callback); whether all have ended. Again waits for what is left.
    pub fn stop(&self, drain: &Deadline) -> bool {
        self.pool.close();
        if self.pool.drain(drain) {
            return true;
        }
        self.blueprint.context.ending.cancel();
        self.ended(&Deadline::after(END_WITHIN))
    }

    /// Waits until every call has ended of a plugin that was stopped; false if the time passes first.
    pub fn ended(&self, limit: &Deadline) -> bool {
        self.pool.drain(limit)
    }

    /// The functions that can be called.
    pub fn exports(&self) -> Vec<String> {
        let callable = self.blueprint.interface.functions.iter().filter(|export| export.shape.is_some());
        callable.map(|export| clean(&export.name, 256)).collect()
    }

    /// What the module imports, as `module.name`.
    pub fn imports(&self) -> Vec<String> {
        self.blueprint.pre.module().imports().map(|import| format!("{}.{}", import.module(), import.name())).collect()
    }
}
