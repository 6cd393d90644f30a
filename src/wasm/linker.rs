//! From a module to something that can be instantiated: every import found, in the form that its type asks for.

use std::sync::Arc;

use serde_json::{Value, json};
use wasmtime::{Engine, ExternType, FuncType, ImportType, Instance, InstancePre, Linker, Module, Store};

use super::state::State;
use super::{imports, wasi};
use crate::error::{Error, Kind, Result, clean};

/// The most missing imports that an error lists.
const LISTED: usize = 32;

/// A module and what each of its imports is.
pub(super) enum Linked {
    /// Every name is imported in one form.
    Plain(InstancePre<State>),
    /// A name is imported in several forms: a linker for each import, in their order, because one holds a name once.
    Forms(Module, Vec<Arc<Linker<State>>>),
}

impl Linked {
    /// A new instance, its start section run.
    pub(super) fn instantiate(&self, store: &mut Store<State>) -> wasmtime::Result<Instance> {
        let (module, linkers) = match self {
            Linked::Plain(pre) => return pre.instantiate(store),
            Linked::Forms(module, linkers) => (module, linkers),
        };
        let found = module.imports().zip(linkers).map(|(import, linker)| {
            linker.get_by_import(&mut *store, &import).ok_or_else(|| wasmtime::format_err!("{} is not defined", import.name()))
        });
        let imports = found.collect::<wasmtime::Result<Vec<_>>>()?;
        Instance::new(store, module, &imports)
    }

    /// The module.
    pub(super) fn module(&self) -> &Module {
        match self {
            Linked::Plain(pre) => pre.module(),
            Linked::Forms(module, _) => module,
        }
    }
}

/// Links the module. `state` is for a store that is only asked whether WASI has a function.
pub(super) fn link(engine: &Engine, module: &Module, state: State) -> Result<Linked> {
    let mut wasi = Linker::new(engine);
    if uses_wasi(module) {
        wasi::define(&mut wasi).map_err(|e| internal(&e))?;
    }
    let mut probe = Store::new(engine, state);
    let mut missing = Vec::new();
    let mut forms: Vec<(String, FuncType)> = Vec::new();
    let mut several = false;
    for import in module.imports() {
        if wasi.get_by_import(&mut probe, &import).is_some() {
            continue;
        }
        let (imports::MODULE, ExternType::Func(ty), name) = (import.module(), import.ty(), import.name()) else {
            missing.push((import.module(), import.name()));
            continue;
        };
        if forms.iter().any(|(known, form)| known == name && FuncType::eq(form, &ty)) {
            continue;
        }
        if imports::define(&mut Linker::new(engine), name, &ty).map_err(|e| internal(&e))? {
            several |= forms.iter().any(|(known, _)| known == name);
            forms.push((name.to_owned(), ty));
        } else {
            missing.push((import.module(), name));
        }
    }
    if !missing.is_empty() {
        return Err(refused(&missing));
    }
    if several { in_several_forms(engine, module, wasi) } else { in_one_form(module, wasi, &forms) }
}

fn in_one_form(module: &Module, mut linker: Linker<State>, forms: &[(String, FuncType)]) -> Result<Linked> {
    for (name, ty) in forms {
        imports::define(&mut linker, name, ty).map_err(|e| internal(&e))?;
    }
    linker.instantiate_pre(module).map(Linked::Plain).map_err(|e| {
        let text = clean(&format!("{e:#}"), 500);
        Error::new(Kind::LoadFailed, format!("The module's imports do not fit the host: {text}."))
    })
}

fn in_several_forms(engine: &Engine, module: &Module, wasi: Linker<State>) -> Result<Linked> {
    let wasi = Arc::new(wasi);
    // One for each form, however often a hostile module imports it.
    let mut made: Vec<(String, FuncType, Arc<Linker<State>>)> = Vec::new();
    let linker_of = |import: ImportType<'_>| match import.ty() {
        ExternType::Func(ty) if import.module() == imports::MODULE => {
            let name = import.name();
            if let Some((_, _, linker)) = made.iter().find(|(known, form, _)| known == name && FuncType::eq(form, &ty)) {
                return Ok(linker.clone());
            }
            let mut linker = Linker::new(engine);
            imports::define(&mut linker, name, &ty).map_err(|e| internal(&e))?;
            let linker = Arc::new(linker);
            made.push((name.to_owned(), ty, linker.clone()));
            Ok(linker)
        }
        _ => Ok(wasi.clone()),
    };
    let linkers = module.imports().map(linker_of).collect::<Result<Vec<_>>>()?;
    Ok(Linked::Forms(module.clone(), linkers))
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
