//! What a module exports, checked once when it is loaded.

use std::sync::Arc;

use serde_json::{Value, json};
use wasmtime::{ExternType, FuncType, Module, ModuleExport, ValType};

use crate::error::{Error, Kind, Result, clean};

/// The exports of a module that the host uses.
pub(super) struct Interface {
    /// Functions that can be called, and those whose type forbids it; in the order of their names.
    pub(super) functions: Vec<Export>,
    pub(super) start: Option<Start>,
    pub(super) init: Option<Shape>,
    pub(super) is_ready: bool,
    /// There always is one.
    pub(super) memory: Option<ModuleExport>,
    pub(super) alloc: Option<ModuleExport>,
    pub(super) free: Option<(ModuleExport, Shape)>,
}

/// A function that is neither reserved nor hidden.
pub(super) struct Export {
    pub(super) name: Arc<str>,
    pub(super) place: ModuleExport,
    pub(super) shape: Option<Shape>,
    /// Its type as text, for the error where it cannot be called.
    pub(super) found: String,
    /// Its parameters are always empty: `rules`, `help`, `bootstrap`.
    pub(super) bare: bool,
}

/// What runs once on a new instance before anything else.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Start {
    /// `_initialize`.
    Initialize,
    /// `_start`, where there is no `_initialize`; `proc_exit(0)` in it is success.
    Start,
}

/// The types that matter.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Shape {
    /// `(i32, i32) -> i64`
    Params,
    /// `() -> i64`
    Plain,
    /// `(i32, i32)`
    Pair,
    /// `(i32)`
    One,
    /// `(i32) -> i32`
    Alloc,
    /// `() -> i32`
    Number,
    /// `()`
    Unit,
}

impl Shape {
    fn of(ty: &FuncType) -> Option<Self> {
        let letter = |ty: ValType| match ty {
            ValType::I32 => 'i',
            ValType::I64 => 'L',
            _ => '?',
        };
        let text: String = ty.params().map(letter).chain(['>']).chain(ty.results().map(letter)).collect();
        Some(match text.as_str() {
            "ii>L" => Shape::Params,
            ">L" => Shape::Plain,
            "ii>" => Shape::Pair,
            "i>" => Shape::One,
            "i>i" => Shape::Alloc,
            ">i" => Shape::Number,
            ">" => Shape::Unit,
            _ => return None,
        })
    }

    fn text(self) -> &'static str {
        match self {
            Shape::Params => "(i32, i32) -> i64",
            Shape::Plain => "() -> i64",
            Shape::Pair => "(i32, i32)",
            Shape::One => "(i32)",
            Shape::Alloc => "(i32) -> i32",
            Shape::Number => "() -> i32",
            Shape::Unit => "()",
        }
    }
}

/// The functions of the dispatch table.
const DISPATCH: [&str; 11] = [
    "command",
    "form",
    "rules",
    "help",
    "bootstrap",
    "ability_call",
    "webhook_convert",
    "oauth_callback",
    "oauth_authorize",
    "input",
    "webservice",
];
const BARE: [&str; 3] = ["rules", "help", "bootstrap"];

/// The types that an export of a fixed meaning may have; none if its name means nothing to us.
fn allowed(name: &str) -> Option<&'static [Shape]> {
    Some(match name {
        "alloc" => &[Shape::Alloc],
        "free" | "dealloc" => &[Shape::One, Shape::Pair],
        "_initialize" | "_start" => &[Shape::Unit],
        "init" => &[Shape::Params, Shape::Pair],
        "is_ready" => &[Shape::Number],
        name if DISPATCH.contains(&name) => &[Shape::Params, Shape::Plain],
        _ => return None,
    })
}

fn reserved(name: &str) -> bool {
    matches!(name, "alloc" | "free" | "dealloc" | "init" | "is_ready" | "memory") || name.starts_with('_')
}

impl Interface {
    /// Reads the exports; the error lists everything that is wrong with them.
    pub(super) fn of(module: &Module) -> Result<Self> {
        let mut problems = Vec::new();
        match module.get_export("memory") {
            Some(ExternType::Memory(_)) => {}
            Some(other) => problems.push(problem("memory", &kind(&other), "a memory")),
            None => problems.push(problem("memory", "nothing", "a memory named \"memory\"")),
        }
        let mut functions = Vec::new();
        for export in module.exports() {
            let (name, ty) = (export.name(), export.ty());
            let shape = ty.func().and_then(Shape::of);
            if let Some(allowed) = allowed(name)
                && !shape.is_some_and(|shape| allowed.contains(&shape))
            {
                let expected: Vec<&str> = allowed.iter().map(|shape| shape.text()).collect();
                problems.push(problem(name, &kind(&ty), &expected.join(" or ")));
            }
            if ty.func().is_none() || reserved(name) {
                continue;
            }
            let Some(place) = module.get_export_index(name) else { continue };
            let shape = shape.filter(|shape| matches!(shape, Shape::Params | Shape::Plain));
            functions.push(Export { name: name.into(), place, shape, found: kind(&ty), bare: BARE.contains(&name) });
        }
        functions.sort_by(|a: &Export, b| a.name.cmp(&b.name));
        let has = |name: &str| module.get_export(name).and_then(|ty| ty.func().and_then(Shape::of));
        let place = |name: &str| has(name).zip(module.get_export_index(name)).map(|(shape, place)| (place, shape));
        let interface = Interface {
            functions,
            start: has("_initialize").map(|_| Start::Initialize).or(has("_start").map(|_| Start::Start)),
            init: has("init"),
            is_ready: has("is_ready").is_some(),
            memory: module.get_export_index("memory"),
            alloc: place("alloc").map(|(place, _)| place),
            free: place("free").or_else(|| place("dealloc")),
        };
        interface.check(&mut problems);
        if problems.is_empty() { Ok(interface) } else { Err(refused(problems)) }
    }

    fn check(&self, problems: &mut Vec<Value>) {
        let callable = self.functions.iter().any(|export| export.shape.is_some());
        if self.start == Some(Start::Start) && !callable && self.init.is_none() {
            let expected = "functions to call beside it. Build a reactor or a library, not a command: -mexec-model=reactor (C), -buildmode=c-shared (Go), crate-type = [\"cdylib\"] (Rust)";
            problems.push(problem("_start", "nothing else", expected));
        }
        let takes = |export: &&Export| export.shape == Some(Shape::Params) && !export.bare;
        if let Some(export) = self.functions.iter().find(takes).filter(|_| self.alloc.is_none()) {
            let expected = format!("(i32) -> i32, because {:?} takes parameters", clean(&export.name, 100));
            problems.push(problem("alloc", "nothing", &expected));
        } else if self.init.is_some() && self.alloc.is_none() {
            problems.push(problem("alloc", "nothing", "(i32) -> i32, because \"init\" takes the config"));
        }
    }

    /// The place of a function that can be called.
    pub(super) fn find(&self, name: &str) -> Result<usize> {
        let Ok(place) = self.functions.binary_search_by(|export| (*export.name).cmp(name)) else { return Err(uncallable(name, None)) };
        match self.functions.get(place) {
            Some(Export { shape: Some(_), .. }) => Ok(place),
            found => Err(uncallable(name, found)),
        }
    }
}

#[cold]
fn uncallable(name: &str, found: Option<&Export>) -> Error {
    let shown = clean(name, 200);
    let text = match found {
        _ if reserved(name) => format!("{shown:?} is reserved and cannot be called."),
        None => format!("The plugin has no function {shown:?}. Export it from the module, or call another."),
        Some(export) => format!(
            "The export {shown:?} cannot be called: it is {}, and a function must be {} or {}.",
            export.found,
            Shape::Params.text(),
            Shape::Plain.text()
        ),
    };
    Error::new(Kind::UnknownFunction, text)
}

fn kind(ty: &ExternType) -> String {
    let list = |types: &mut dyn Iterator<Item = ValType>| types.map(|ty| ty.to_string()).collect::<Vec<_>>().join(", ");
    match ty {
        ExternType::Func(ty) => {
            let params = list(&mut ty.params());
            let results = list(&mut ty.results());
            let text = if results.is_empty() { format!("({params})") } else { format!("({params}) -> {results}") };
            clean(&text, 200)
        }
        ExternType::Global(_) => "a global".to_owned(),
        ExternType::Table(_) => "a table".to_owned(),
        ExternType::Memory(_) => "a memory".to_owned(),
        _ => "something else".to_owned(),
    }
}

fn problem(name: &str, found: &str, expected: &str) -> Value {
    json!({"field": format!("exports.{name}"), "found": found, "expected": expected})
}

fn refused(problems: Vec<Value>) -> Error {
    let text = |problem: &Value| {
        let part = |name: &str| problem.get(name).and_then(Value::as_str).unwrap_or_default().to_owned();
        format!("{} is {}, and must be {}", part("field"), part("found"), part("expected"))
    };
    let all: Vec<String> = problems.iter().map(text).collect();
    Error::new(Kind::LoadFailed, format!("The module is not a plugin: {}.", all.join("; "))).with_detail("problems", problems)
}
