//! From a module to something that can be instantiated: every import found, in the form that its type asks for.

use serde_json::{Value, json};
use wasmtime::{Engine, ExternType, InstancePre, Linker, Module, Store};

use super::state::State;
use super::{imports, wasi};
use crate::error::{Error, Kind, Result, clean};

/// The most missing imports that an error lists.
const LISTED: usize = 32;

/// Links the module. `state` is for a store that is only asked whether WASI has a function.
pub(super) fn link(engine: &Engine, module: &Module, state: State) -> Result<InstancePre<State>> {
    let mut linker = Linker::new(engine);
    if uses_wasi(module) {
        wasi::define(&mut linker).map_err(|e| internal(&e))?;
    }
    let mut probe = Store::new(engine, state);
    let mut missing = Vec::new();
    for import in module.imports() {
        if linker.get_by_import(&mut probe, &import).is_some() {
            continue;
        }
        let defined = match (import.module(), import.ty()) {
            (imports::MODULE, ExternType::Func(ty)) if linker.get(&mut probe, imports::MODULE, import.name()).is_err() => {
                imports::define(&mut linker, import.name(), &ty).map_err(|e| internal(&e))?
            }
            _ => false,
        };
        if !defined {
            missing.push((import.module(), import.name()));
        }
    }
    if !missing.is_empty() {
        return Err(refused(&missing));
    }
    linker.instantiate_pre(module).map_err(|e| {
        let text = clean(&format!("{e:#}"), 500);
        Error::new(Kind::LoadFailed, format!("The module's imports do not fit the host: {text}."))
    })
}

/// Whether any import is of WASI.
pub(super) fn uses_wasi(module: &Module) -> bool {
    module.imports().any(|import| import.module() == wasi::MODULE)
}

fn refused(missing: &[(&str, &str)]) -> Error {
    let text = |(module, name): &(&str, &str)| {
        let shown = clean(&format!("{module}.{name}"), 200);
        match imports::forms(name).filter(|_| *module == imports::MODULE) {
            Some(forms) => format!("{shown} (it has another type here: {forms})"),
            None => shown,
        }
    };
    let listed: Vec<String> = missing.iter().take(LISTED).map(text).collect();
    let problem =
        |text: &String| json!({"field": format!("imports.{text}"), "found": "an import", "expected": "nothing of this name and type"});
    let problems: Vec<Value> = listed.iter().map(problem).collect();
    Error::new(
        Kind::LoadFailed,
        format!(
            "The module imports {} that this host does not have: {}. A plugin may import flowbot's functions and {} alone.",
            if missing.len() == 1 { "something".to_owned() } else { format!("{} things", missing.len()) },
            listed.join(", "),
            wasi::MODULE
        ),
    )
    .with_detail("problems", problems)
}

#[cold]
fn internal(error: &wasmtime::Error) -> Error {
    Error::new(Kind::Internal, format!("The host's functions could not be defined: {error:#}."))
}
