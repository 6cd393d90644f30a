//! What ended a guest, as an error of ours.

use wasmtime::{PoolConcurrencyLimitError, Trap, WasmBacktrace};
use wasmtime_wasi::I32Exit;

use super::engine::FRAMES;
use super::glue;
use super::limits::Limits;
use crate::error::{Error, Kind, PLUGIN_TEXT_MAX, clean};

/// The most bytes of a name that a backtrace keeps.
const NAME: usize = 256;

/// The exit status that ended the guest, if one did.
pub(super) fn exit_status(error: &wasmtime::Error) -> Option<i32> {
    error.downcast_ref::<I32Exit>().map(|exit| exit.0)
}

/// The error of a call whose guest did not return.
#[cold]
pub(super) fn failure(error: wasmtime::Error, limits: &Limits) -> Error {
    let backtrace = names(&error);
    let error = match error.downcast::<Error>() {
        Ok(own) => return with_backtrace(own, backtrace),
        Err(error) => error,
    };
    if let Some(status) = exit_status(&error) {
        let text = format!("The plugin ended itself with proc_exit({status}). A plugin must return from its functions.");
        return with_backtrace(Error::new(Kind::Trap, text).with_detail("exit_status", status), backtrace);
    }
    if error.is::<PoolConcurrencyLimitError>() {
        return Error::new(
            Kind::Busy,
            "This process holds as many wasm instances as it can. Stop plugins, or lower wasm.pool.max_instances.",
        );
    }
    if limits.denied() {
        return with_backtrace(out_of_memory(limits), backtrace);
    }
    let (text, kind) = match error.downcast_ref::<Trap>() {
        Some(trap) => (trap.to_string(), kind(*trap)),
        None => (error.root_cause().to_string(), "host"),
    };
    let text = clean(text.strip_prefix("wasm trap: ").unwrap_or(&text), PLUGIN_TEXT_MAX);
    let own = Error::new(Kind::Trap, format!("The plugin trapped: {text}. The instance is discarded, and the next call gets a fresh one."));
    with_backtrace(own.with_detail("kind", kind), backtrace)
}

/// The guest needs more memory than it may have.
#[cold]
pub(super) fn out_of_memory(limits: &Limits) -> Error {
    Error::new(
        Kind::OutOfMemory,
        format!(
            "The plugin needs more memory than the {} bytes it may have (it holds {}). Raise wasm.permissions.memory.max and the policy's memory, or give it less to do.",
            limits.memory_max(),
            limits.memory_used()
        ),
    )
}

/// A short name for a trap, for programs.
fn kind(trap: Trap) -> &'static str {
    match trap {
        Trap::StackOverflow => "stack_overflow",
        Trap::MemoryOutOfBounds => "memory_out_of_bounds",
        Trap::TableOutOfBounds => "table_out_of_bounds",
        Trap::IndirectCallToNull => "indirect_call_to_null",
        Trap::BadSignature => "bad_signature",
        Trap::IntegerOverflow => "integer_overflow",
        Trap::IntegerDivisionByZero => "integer_division_by_zero",
        Trap::BadConversionToInteger => "bad_conversion_to_integer",
        Trap::UnreachableCodeReached => "unreachable",
        Trap::OutOfFuel => "out_of_fuel",
        _ => "other",
    }
}

/// The functions that the guest was in, innermost first, demangled. wasmtime demangles only where it prints.
fn names(error: &wasmtime::Error) -> Vec<String> {
    let Some(backtrace) = error.downcast_ref::<WasmBacktrace>() else { return Vec::new() };
    let name = |line: &str| clean(line.split_once('!').map_or(line, |(_module, name)| name), NAME);
    let own = |line: &&str| line.split_once('!').is_some_and(|(module, _)| module.ends_with(&format!(" {}", glue::NAME)));
    // The first line is a heading.
    backtrace.to_string().lines().skip(1).filter(|line| !own(line)).take(FRAMES).map(name).collect()
}

fn with_backtrace(error: Error, backtrace: Vec<String>) -> Error {
    if backtrace.is_empty() { error } else { error.with_detail("backtrace", backtrace) }
}
