//! One behaviour over both runtimes: what a manifest provides gates what can be called, and the rest is handed on.

use std::borrow::Cow;
use std::path::PathBuf;
use std::sync::Arc;

use serde::Deserialize;

use crate::call::{Call, Deadline, Sink};
use crate::error::{Error, Kind, Result, clean};
use crate::host::PluginContext;
use crate::manifest::{Manifest, Provides, RuntimeKind, units};
use crate::{grpc, wasm};

pub use grpc::Threads;

pub use crate::wasm::Stats;

/// What the host sets for the runtimes of all its plugins.
#[derive(Clone, Debug, Default)]
pub struct Settings {
    /// Whether the wasm engine may install its fault handlers.
    pub signals: bool,
    /// Where compiled modules are kept; none: nowhere.
    pub cache_dir: Option<PathBuf>,
    /// How much is kept there at most; none: 1 GiB.
    pub cache_size: Option<CacheSize>,
    /// Where the sockets of plugin processes go; none: `TMPDIR`.
    pub runtime_dir: Option<PathBuf>,
}

/// Bytes of the compile cache, in a config a number or a text as in a manifest: `512MB`.
#[derive(Clone, Copy, Debug)]
pub struct CacheSize(pub u64);

impl<'de> Deserialize<'de> for CacheSize {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> std::result::Result<Self, D::Error> {
        let expected = |why: String| serde::de::Error::custom(format!("cache_size must be {why}"));
        match serde_json::Value::deserialize(deserializer)? {
            serde_json::Value::String(text) => units::size(&text).map(CacheSize).map_err(expected),
            other => other.as_u64().map(CacheSize).ok_or_else(|| expected("a number of bytes, or a text with a unit: 512MB".into())),
        }
    }
}

/// A plugin in its runtime.
#[derive(Clone, Debug)]
pub enum Runner {
    /// A WebAssembly module.
    Wasm(Arc<wasm::Plugin>),
    /// A process.
    Grpc(Arc<grpc::Plugin>),
}

/// A function of a loaded plugin, resolved: its number in the runtime, good for this runner alone.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Function(u32);

/// Set in the number of `ability_call` of a plugin that declares its operations: each call's operation is checked.
const OPERATIONS_GATED: u32 = 1 << 31;

/// How a plugin is, as far as its runtime knows.
#[derive(Clone, Debug)]
pub struct Health {
    /// It can be called.
    pub ready: bool,
    /// What went wrong last; empty if nothing did.
    pub last_error: String,
}

impl Runner {
    /// Compiles and instantiates the module, or starts the process and shakes hands. `on_exit` is called at most once, if
    /// the process ends unexpectedly.
    pub fn load(
        settings: &Settings,
        threads: &Threads,
        manifest: &Manifest,
        context: Arc<PluginContext>,
        on_exit: Box<dyn FnOnce(Error) + Send>,
        call: &Call,
    ) -> Result<Self> {
        match manifest.runtime {
            RuntimeKind::Wasm => {
                let cache_size = settings.cache_size.map_or(wasm::CACHE_SIZE, |CacheSize(bytes)| bytes);
                let settings = wasm::Settings { signals: settings.signals, cache_dir: settings.cache_dir.clone(), cache_size };
                Ok(Runner::Wasm(wasm::Plugin::load(&settings, manifest, context, call)?))
            }
            RuntimeKind::Grpc => {
                let settings = grpc::Settings { runtime_dir: settings.runtime_dir.clone() };
                Ok(Runner::Grpc(grpc::Plugin::load(&settings, threads, manifest, context, on_exit, call)?))
            }
        }
    }

    /// Gives the plugin its config, JSON text; ends when it has answered.
    pub fn start(&self, config: &str, call: &Call) -> Result<()> {
        match self {
            Runner::Wasm(plugin) => plugin.start(config, call),
            Runner::Grpc(plugin) => plugin.start(config, call),
        }
    }

    /// Finds a function: `not found` where the manifest does not provide it, `unknown function` where the plugin does not have it.
    pub fn resolve(&self, provides: &Provides, name: &str) -> Result<Function> {
        let gated = gate(provides, name)?;
        let number = match self {
            Runner::Wasm(plugin) => plugin.resolve(name)?.number(),
            Runner::Grpc(plugin) => plugin.resolve(name)?.number(),
        };
        let number = u32::try_from(number).ok().filter(|number| number & OPERATIONS_GATED == 0);
        let number = number.ok_or_else(|| Error::new(Kind::Internal, "The plugin has more functions than can be numbered."))?;
        Ok(Function(if gated && name == "ability_call" { number | OPERATIONS_GATED } else { number }))
    }

    /// Calls a function, resolved by this name, on this thread; the answer goes into `sink`.
    #[inline(always)]
    pub fn call(&self, provides: &Provides, function: Function, name: &str, params: &[u8], call: &Call, sink: &mut dyn Sink) -> Result<()> {
        function.check_operation(provides, params)?;
        match self {
            Runner::Wasm(plugin) => plugin.call(wasm::Function::from_number(function.place()), name, params, call, sink),
            Runner::Grpc(plugin) => plugin.call(grpc_function(function)?, name, params, call, sink),
        }
    }

    /// Whether it is ready, from an idle instance or the process itself; bounded.
    pub fn health(&self) -> Health {
        match self {
            Runner::Wasm(plugin) => {
                let wasm::Health { ready, last_error } = plugin.health();
                Health { ready, last_error }
            }
            Runner::Grpc(plugin) => {
                let grpc::Health { ready, last_error } = plugin.health();
                Health { ready, last_error }
            }
        }
    }

    /// The process, where it is one.
    pub fn pid(&self) -> Option<i32> {
        match self {
            Runner::Wasm(_) => None,
            Runner::Grpc(plugin) => Some(plugin.pid()),
        }
    }

    /// The instances of a module; none for a process.
    pub fn stats(&self) -> Option<Stats> {
        match self {
            Runner::Wasm(plugin) => Some(plugin.stats()),
            Runner::Grpc(_) => None,
        }
    }

    /// Refuses new calls, waits for those in flight until `drain`, ends the rest with `cancelled`. False where a callback keeps
    /// one on its caller's thread; a process takes its calls with it.
    pub fn stop(&self, drain: &Deadline) -> bool {
        match self {
            Runner::Wasm(plugin) => plugin.stop(drain),
            Runner::Grpc(plugin) => {
                plugin.stop(drain);
                true
            }
        }
    }

    /// Waits for what was still there when a stop gave up on it; false if the time passes first.
    pub fn ended(&self, limit: &Deadline) -> bool {
        match self {
            Runner::Wasm(plugin) => plugin.ended(limit),
            Runner::Grpc(_) => true,
        }
    }

    /// The names that a module exports and imports; none for a process.
    pub fn interface(&self) -> Option<(Vec<String>, Vec<String>)> {
        match self {
            Runner::Wasm(plugin) => Some((plugin.exports(), plugin.imports())),
            Runner::Grpc(_) => None,
        }
    }

    /// The call without a thread that waits, where there is a process to await; none: a thread has to make it.
    pub fn call_async(
        &self,
        provides: &Provides,
        function: Function,
        name: &str,
        params: &[u8],
        call: &Call,
    ) -> Option<Result<impl Future<Output = Result<Vec<u8>>> + Send + use<>>> {
        let Runner::Grpc(plugin) = self else { return None };
        let checked = function.check_operation(provides, params).and_then(|()| grpc_function(function));
        Some(checked.map(|function| plugin.call_async(function, name, params, call)))
    }
}

fn grpc_function(function: Function) -> Result<grpc::Function> {
    grpc::Function::from_number(function.place()).ok_or_else(|| Error::new(Kind::Internal, "The function was resolved on another runtime."))
}

impl Function {
    /// By its [`number`](Self::number).
    pub fn from_number(number: u32) -> Self {
        Function(number)
    }

    /// A number for it.
    pub fn number(self) -> u32 {
        self.0
    }

    fn place(self) -> usize {
        (self.0 & !OPERATIONS_GATED) as usize
    }

    /// `not found` for an ability's operation that the manifest does not declare.
    #[inline(always)]
    fn check_operation(self, provides: &Provides, params: &[u8]) -> Result<()> {
        if self.0 & OPERATIONS_GATED == 0 { Ok(()) } else { check_operation(provides, params) }
    }
}

#[cold]
fn check_operation(provides: &Provides, params: &[u8]) -> Result<()> {
    #[derive(Deserialize)]
    struct Operation<'a> {
        #[serde(borrow)]
        operation: Cow<'a, str>,
    }
    let asked: Operation<'_> = serde_json::from_slice(params).map_err(|e| {
        Error::new(Kind::InvalidArgument, format!("The params of ability_call must be {{\"operation\": \"…\", \"params\": …}}: {e}."))
    })?;
    if provides.abilities.iter().any(|a| a.operations.iter().any(|o| *o == asked.operation)) {
        return Ok(());
    }
    let declared: Vec<&str> = provides.abilities.iter().flat_map(|a| &a.operations).map(String::as_str).collect();
    Err(Error::new(
        Kind::NotFound,
        format!(
            "The operation {:?} is not declared under provides.abilities; declared: {}.",
            clean(&asked.operation, 100),
            declared.join(", ")
        ),
    ))
}

/// `not found` for what the manifest does not provide. Returns whether it gates at all: all of `provides` zero gates nothing.
fn gate(provides: &Provides, name: &str) -> Result<bool> {
    let Provides { module, abilities, provider } = provides;
    if !module && abilities.is_empty() && provider.is_none() {
        return Ok(false);
    }
    let (provided, section) = match name {
        "command" | "form" | "rules" | "help" | "bootstrap" | "input" | "webservice" => (provides.module, "provides.module: true"),
        "ability_call" => (!provides.abilities.is_empty(), "provides.abilities"),
        "webhook_convert" | "oauth_callback" | "oauth_authorize" => (provides.provider.is_some(), "provides.provider"),
        _ => (true, ""),
    };
    if provided {
        return Ok(true);
    }
    Err(Error::new(Kind::NotFound, format!("The manifest does not provide {name:?}: it lacks {section}.")))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::manifest::{AbilityDecl, ProviderDecl};

    #[test]
    fn each_section_opens_its_own_functions() {
        let module = Provides { module: true, ..Provides::default() };
        let ability = Provides { abilities: vec![AbilityDecl::default()], ..Provides::default() };
        let provider = Provides { provider: Some(ProviderDecl::default()), ..Provides::default() };
        for (name, owner) in [("command", &module), ("webservice", &module), ("ability_call", &ability), ("oauth_authorize", &provider)] {
            assert!(!gate(&Provides::default(), name).unwrap());
            for provides in [&module, &ability, &provider] {
                assert_eq!(gate(provides, name).is_ok(), std::ptr::eq(provides, owner), "{name}");
            }
        }
        assert!(gate(&module, "custom").unwrap());
    }

    #[test]
    fn the_size_of_the_cache_is_a_number_or_a_text() {
        let read = |json: &str| serde_json::from_str::<CacheSize>(json).map(|size| size.0).map_err(|e| e.to_string());
        assert_eq!((read("5000000000"), read("\"512MB\"")), (Ok(5_000_000_000), Ok(512 << 20)));
        for bad in ["\"much\"", "-1", "true", "{}"] {
            assert!(read(bad).unwrap_err().starts_with("cache_size must be "), "{bad}");
        }
    }
}
