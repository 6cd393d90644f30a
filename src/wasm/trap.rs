//! What ended a guest, as an error of ours.

use serde_json::{Value, json};
use wasmtime::{PoolConcurrencyLimitError, Trap};
use wasmtime_wasi::I32Exit;
use wiggle::GuestError;

use super::engine::{GUEST_STACK, TABLE_ELEMENTS};
use super::limits::{Denied, Limits};
use super::state::State;
use crate::error::{Error, Kind, PLUGIN_TEXT_MAX, clean};

mod names;

/// The exit status that ended the guest, if one did.
pub(super) fn exit_status(error: &wasmtime::Error) -> Option<i32> {
    error.downcast_ref::<I32Exit>().map(|exit| exit.0)
}

/// The error of a call whose guest did not return.
#[cold]
pub(super) fn failure(error: wasmtime::Error, state: &State) -> Error {
    let backtrace = names::of(&error);
    let own = match error.downcast::<Error>() {
        Ok(own) => own,
        Err(error) if error.is::<PoolConcurrencyLimitError>() => return too_many(),
        Err(_) if state.limits.denied().is_some() => out_of_memory(&state.limits),
        Err(error) => refused(trapped(&error), state.call.denied.as_deref()),
    };
    if backtrace.is_empty() { own } else { own.with_detail("backtrace", backtrace) }
}

fn trapped(error: &wasmtime::Error) -> Error {
    if let Some(status) = exit_status(error) {
        let text = format!("The plugin ended itself with proc_exit({status}). A plugin must return from its functions.");
        return Error::new(Kind::Trap, text).with_detail("kind", "exit").with_detail("exit_status", status);
    }
    let (text, kind) = match error.downcast_ref::<Trap>() {
        Some(trap) => (trap.to_string(), kind(*trap)),
        None if error.is::<GuestError>() => (format!("{:#}", error.root_cause()), "bad_argument"),
        None => (error.root_cause().to_string(), "host"),
    };
    let text = clean(text.strip_prefix("wasm trap: ").unwrap_or(&text), PLUGIN_TEXT_MAX);
    let (limit, advice) = match kind {
        "out_of_fuel" => (
            Some("wasm.permissions.execution.fuel"),
            " Raise wasm.permissions.execution.fuel and the policy's fuel, or give it less to do.".to_owned(),
        ),
        "stack_overflow" => (Some("stack"), format!(" A plugin's stack has {} KiB, which is fixed: recurse less deep.", GUEST_STACK >> 10)),
        _ => (None, String::new()),
    };
    let text = format!("The plugin trapped: {text}.{advice} The instance is discarded, and the next call gets a fresh one.");
    let error = Error::new(Kind::Trap, text).with_detail("kind", kind);
    match limit {
        Some(limit) => error.with_detail("limit", limit),
        None => error,
    }
}

/// The same trap with what the host refused before it: a plugin that cannot do without traps where it finds out.
fn refused(trap: Error, denied: Option<&Value>) -> Error {
    let Some(denied) = denied else { return trap };
    let why = denied.get("why").and_then(Value::as_str).unwrap_or_default();
    let text = format!("{} Before it trapped it was refused something: {why}", trap.message());
    trap.with_message(text).with_detail("denied", denied.clone())
}

/// What a trap that follows says of a refusal: what its error says, and why.
#[cold]
pub(super) fn denial(error: &Error) -> Value {
    let mut denied = error.details().get("denied").cloned().unwrap_or_else(|| json!({"what": "host call"}));
    if let Some(members) = denied.as_object_mut() {
        members.insert("why".to_owned(), clean(error.message(), PLUGIN_TEXT_MAX).into());
    }
    denied
}

#[cold]
fn too_many() -> Error {
    Error::new(Kind::Busy, "This process holds as many wasm instances as it can. Stop plugins, or lower wasm.pool.max_instances.")
        .with_detail("limit", "instances")
}

/// The guest needs more memory, or larger tables, than it may have.
#[cold]
pub(super) fn out_of_memory(limits: &Limits) -> Error {
    let (limit, text) = match limits.denied() {
        Some(Denied::Tables { wanted }) => (
            "tables",
            format!(
                "The plugin needs tables of {wanted} elements together; {TABLE_ELEMENTS} is the most, which is fixed. Make its tables smaller."
            ),
        ),
        denied => {
            let wanted = match denied {
                Some(Denied::Memory { wanted }) => format!("it asked for {wanted}"),
                _ => format!("it holds {}, and its allocator found no room in them", limits.memory_used()),
            };
            let max = limits.memory_max();
            let text = format!(
                "The plugin needs more memory than the {max} bytes it may have: {wanted}. Raise wasm.permissions.memory.max and the policy's memory, or give it less to do."
            );
            ("wasm.permissions.memory.max", text)
        }
    };
    Error::new(Kind::OutOfMemory, text).with_detail("limit", limit)
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
