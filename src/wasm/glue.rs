//! A module of ours beside a warm instance that makes a whole call in one entry into wasm: `alloc`, the parameters, the
//! function, its result, the frees. Each entry costs about as much as a small guest's whole work.

use wasm_encoder::{
    BlockType, CodeSection, EntityType, ExportKind, ExportSection, Function, FunctionSection, ImportSection, Instruction, NameSection,
    TypeSection, ValType,
};
use wasmtime::{Caller, Engine, Func, Instance, Module, Store, TypedFunc};

use super::state::State;
use crate::sys::loan::Exchange;

/// The name of the module in backtraces.
pub(super) const NAME: &str = "flowplug";

/// What the guest frees its buffers with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Frees {
    /// Nothing.
    Not,
    /// `(ptr)`
    One,
    /// `(ptr, size)`
    Pair,
}

impl Frees {
    /// All, in the order of their numbers.
    pub(super) const COUNT: usize = 3;
}

/// The guest's functions that a call needs.
pub(super) struct Parts {
    pub(super) alloc: Func,
    pub(super) function: Func,
    pub(super) free: Option<Func>,
}

/// Compiles the module. Its one function, `call(size)`, does what [`super::instance`] does step by step.
pub(super) fn compile(engine: &Engine, frees: Frees) -> wasmtime::Result<Module> {
    Module::new(engine, encode(frees))
}

/// The function `call` for these parts of an instance in `store`.
pub(super) fn attach(store: &mut Store<State>, module: &Module, parts: &Parts) -> wasmtime::Result<TypedFunc<i32, ()>> {
    let put = Func::wrap(&mut *store, |mut caller: Caller<'_, State>, at: i32| exchange(&mut caller, |call, memory| call.put(memory, at)));
    let take = Func::wrap(&mut *store, |mut caller: Caller<'_, State>, result: i64| {
        exchange(&mut caller, |call, memory| call.take(memory, result))
    });
    let own = [parts.alloc, parts.function, put, take];
    let imports: Vec<_> = own.into_iter().chain(parts.free).map(Into::into).collect();
    Instance::new(&mut *store, module, &imports)?.get_typed_func(store, "call")
}

/// Hands the guest's memory to the call that runs. True: it ends here.
fn exchange(caller: &mut Caller<'_, State>, hand: impl FnOnce(&mut dyn Exchange, &mut [u8]) -> bool) -> i32 {
    let Some(memory) = caller.data().guest.memory else { return 1 };
    let (bytes, state) = memory.data_and_store_mut(caller);
    state.call_bytes.get().map_or(1, |call| i32::from(hand(call, bytes)))
}

/// The imports, by their numbers, which are those of their types too; `free` is the last, if there is one.
const ALLOC: u32 = 0;
const FUNCTION: u32 = 1;
const PUT: u32 = 2;
const TAKE: u32 = 3;
const FREE: u32 = 4;
/// The type of `call`.
const CALL: u32 = 5;

fn encode(frees: Frees) -> Vec<u8> {
    let (i32, i64) = (ValType::I32, ValType::I64);
    let mut types = TypeSection::new();
    types.ty().function([i32], [i32]);
    types.ty().function([i32, i32], [i64]);
    types.ty().function([i32], [i32]);
    types.ty().function([i64], [i32]);
    types.ty().function(if frees == Frees::Pair { vec![i32, i32] } else { vec![i32] }, []);
    types.ty().function([i32], []);
    let mut imports = ImportSection::new();
    let imported = if frees == Frees::Not { FREE } else { FREE + 1 };
    for ty in 0..imported {
        imports.import("", "", EntityType::Function(ty));
    }
    let mut functions = FunctionSection::new();
    functions.function(CALL);
    let mut exports = ExportSection::new();
    exports.export("call", ExportKind::Func, imported);
    let mut call = Function::new([(1, i32), (1, i64), (1, i32)]);
    for instruction in &body(frees) {
        call.instruction(instruction);
    }
    let mut bodies = CodeSection::new();
    bodies.function(&call);
    let mut names = NameSection::new();
    names.module(NAME);
    let mut module = wasm_encoder::Module::new();
    module.section(&types).section(&imports).section(&functions).section(&exports).section(&bodies).section(&names);
    module.finish()
}

/// `call(size)`, with the locals `given` (where the parameters lie), `result`, and `out` (where the result lies).
fn body(frees: Frees) -> Vec<Instruction<'static>> {
    use Instruction as I;
    const NOTHING: BlockType = BlockType::Empty;
    let (size, given, result, out) = (0, 1, 2, 3);
    let mut code = vec![I::LocalGet(size), I::If(NOTHING), I::LocalGet(size), I::Call(ALLOC), I::LocalTee(given)];
    code.extend([I::Call(PUT), I::If(NOTHING), I::Return, I::End, I::End]);
    code.extend([I::LocalGet(given), I::LocalGet(size), I::Call(FUNCTION), I::LocalTee(result)]);
    code.extend([I::Call(TAKE), I::If(NOTHING), I::Return, I::End]);
    if frees != Frees::Not {
        code.extend([I::LocalGet(result), I::I64Const(32), I::I64ShrU, I::I32WrapI64, I::LocalTee(out), I::If(NOTHING)]);
        // Once, if the guest answered with the buffer it was given.
        code.extend([I::LocalGet(out), I::LocalGet(given), I::I32Ne, I::If(NOTHING), I::LocalGet(out)]);
        if frees == Frees::Pair {
            code.extend([I::LocalGet(result), I::I32WrapI64]);
        }
        code.extend([I::Call(FREE), I::End, I::End, I::LocalGet(given), I::If(NOTHING), I::LocalGet(given)]);
        if frees == Frees::Pair {
            code.push(I::LocalGet(size));
        }
        code.extend([I::Call(FREE), I::End]);
    }
    code.push(I::End);
    code
}
