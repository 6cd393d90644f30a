//! The imports of module `flowbot`. An import picks its form by its type; what fails, fails for the guest alone.
//!
//! A pointer that leads nowhere fails the host call. A trap is what the guest's own `alloc` does, or the end of the call.

use wasmtime::{Caller, FuncType, Linker, ValType};

use super::memory;
use super::requests;
use super::state::State;
use crate::error::{Error, Kind, Result};
use crate::host::{self, Level};

/// The module's name.
pub(super) const MODULE: &str = "flowbot";

/// The forms that an import may have, as text for the error that lists them; none for a name that is not ours.
pub(super) fn forms(name: &str) -> Option<&'static str> {
    Some(match name {
        "get_config" | "kv_get" => "(i32, i32, i32) -> i32, (i32, i32) -> i64 or (i32, i32, i32, i32) -> i32",
        "http_request" => "(i32, i32, i32, i32) -> i32 or (i32, i32) -> i64",
        "kv_set" => "(i32, i32, i32, i32) -> i32",
        "kv_delete" | "emit_event" => "(i32, i32) -> i32",
        "log" => "(i32, i32, i32) or (i32, i32, i32, i32, i32)",
        "last_error" => "() -> i64",
        _ => return None,
    })
}

/// A type in the letters that [`define`] matches: `iiii>i` for four i32 and an i32 back, `L` for i64, `?` for anything else.
fn shape(ty: &FuncType) -> String {
    let letter = |ty: ValType| match ty {
        ValType::I32 => 'i',
        ValType::I64 => 'L',
        _ => '?',
    };
    ty.params().map(letter).chain(['>']).chain(ty.results().map(letter)).collect()
}

/// Defines the import in the form that its type asks for; false if there is no such form.
pub(super) fn define(linker: &mut Linker<State>, name: &str, ty: &FuncType) -> wasmtime::Result<bool> {
    let shape = shape(ty);
    match (name, shape.as_str()) {
        ("get_config", "iii>i") => linker.func_wrap(MODULE, name, |c: Caller<'_, State>, k, n, out| into(c, k, n, out, get_config))?,
        ("get_config", "ii>L") => linker.func_wrap(MODULE, name, |c: Caller<'_, State>, k, n| by_value(c, k, n, get_config))?,
        ("get_config", "iiii>i") => {
            linker.func_wrap(MODULE, name, |c: Caller<'_, State>, k, n, o, cap| checked(c, k, n, o, cap, get_config))?
        }
        ("kv_get", "iii>i") => linker.func_wrap(MODULE, name, |c: Caller<'_, State>, k, n, out| into(c, k, n, out, kv_get))?,
        ("kv_get", "ii>L") => linker.func_wrap(MODULE, name, |c: Caller<'_, State>, k, n| by_value(c, k, n, kv_get))?,
        ("kv_get", "iiii>i") => linker.func_wrap(MODULE, name, |c: Caller<'_, State>, k, n, o, cap| checked(c, k, n, o, cap, kv_get))?,
        ("http_request", "iiii>i") => linker.func_wrap(MODULE, name, http_into)?,
        ("http_request", "ii>L") => linker.func_wrap(MODULE, name, |c: Caller<'_, State>, r, n| by_value(c, r, n, requests::http))?,
        ("kv_set", "iiii>i") => linker.func_wrap(MODULE, name, kv_set)?,
        ("kv_delete", "ii>i") => {
            linker.func_wrap(MODULE, name, |c: Caller<'_, State>, k, n| told(c, k, n, |host, key| host.kv_delete(key)))?
        }
        ("emit_event", "ii>i") => {
            linker.func_wrap(MODULE, name, |c: Caller<'_, State>, e, n| told(c, e, n, |host, event| host.emit_event(event)))?
        }
        ("log", "iii>") => linker.func_wrap(MODULE, name, |c: Caller<'_, State>, l, m, n| log(c, l, m, n, 0, 0))?,
        ("log", "iiiii>") => linker.func_wrap(MODULE, name, log)?,
        ("last_error", ">L") => linker.func_wrap(MODULE, name, last_error)?,
        _ => return Ok(false),
    };
    Ok(true)
}

/// What a host call that answers with bytes asks: by a text of the guest, for a value that may be missing.
type Question = fn(&host::Caller<'_>, &str) -> Result<Option<Vec<u8>>>;

fn get_config(caller: &host::Caller<'_>, key: &str) -> Result<Option<Vec<u8>>> {
    caller.get_config(key)
}

fn kv_get(caller: &host::Caller<'_>, key: &str) -> Result<Option<Vec<u8>>> {
    caller.kv_get(key)
}

/// Runs `f` on the guest's memory and state; a failure is kept for `last_error`.
fn with<R>(caller: &mut Caller<'_, State>, f: impl FnOnce(&mut [u8], &mut State) -> Result<R>) -> Result<R> {
    let result = memory::of(caller).and_then(|memory| {
        let (bytes, state) = memory.data_and_store_mut(&mut *caller);
        f(bytes, state)
    });
    result.inspect_err(|error| caller.data_mut().refuse(error))
}

fn ask(caller: &mut Caller<'_, State>, ptr: i32, len: i32, question: Question) -> Result<Option<Vec<u8>>> {
    with(caller, |bytes, state| {
        let text = memory::text(bytes, ptr, len)?;
        state.ask(|host| question(host, text))
    })
}

/// flowbot's form: the bytes written, 0 if it failed, is missing or would not fit inside linear memory.
fn into(mut caller: Caller<'_, State>, ptr: i32, len: i32, out: i32, question: Question) -> i32 {
    let Ok(Some(value)) = ask(&mut caller, ptr, len, question) else { return 0 };
    with(&mut caller, |bytes, _| memory::write(bytes, out, &value)).map_or(0, |()| length(value.len()))
}

/// The checked form: the value's size, written only if it fits `cap`; -1 missing, -2 failed.
fn checked(mut caller: Caller<'_, State>, ptr: i32, len: i32, out: i32, cap: i32, question: Question) -> i32 {
    match ask(&mut caller, ptr, len, question) {
        Ok(Some(value)) if value.len() > memory::offset(cap) => length(value.len()),
        Ok(Some(value)) => with(&mut caller, |bytes, _| memory::write(bytes, out, &value)).map_or(-2, |()| length(value.len())),
        Ok(None) => -1,
        Err(_) => -2,
    }
}

/// The by-value form: `(ptr << 32) | size` of a buffer from the guest's own `alloc`; 0 failed or missing.
fn by_value(mut caller: Caller<'_, State>, ptr: i32, len: i32, question: Question) -> wasmtime::Result<i64> {
    match ask(&mut caller, ptr, len, question) {
        Ok(Some(value)) => hand_over(&mut caller, &value),
        Ok(None) | Err(_) => Ok(0),
    }
}

/// Puts `value` into a buffer that the guest frees. An empty value is a pointer with size 0.
fn hand_over(caller: &mut Caller<'_, State>, value: &[u8]) -> wasmtime::Result<i64> {
    let failed = |caller: &mut Caller<'_, State>, text: &str| {
        caller.data_mut().refuse(&Error::new(Kind::OutOfMemory, text));
        Ok(0)
    };
    let Some(alloc) = caller.data().guest.alloc.clone() else {
        return failed(caller, "This form of a host call needs the export alloc, which is missing or not there yet.");
    };
    let Ok(size) = i32::try_from(value.len()) else { return failed(caller, "The value is too large for the plugin's memory.") };
    let mut ptr = alloc.call(&mut *caller, size)?;
    if ptr == 0 && size == 0 {
        // An allocator may well have nothing for nothing; then the empty value stands in one byte.
        ptr = alloc.call(&mut *caller, 1)?;
    }
    if ptr == 0 {
        return failed(caller, "The plugin's alloc returned 0: it has no memory for the value.");
    }
    match with(caller, |bytes, _| memory::write(bytes, ptr, value)) {
        Ok(()) => Ok((i64::from(ptr.cast_unsigned()) << 32) | i64::from(size)),
        Err(_) => Ok(0),
    }
}

/// flowbot's HTTP form: the bytes written, 0 if it failed or does not fit `cap`.
fn http_into(mut caller: Caller<'_, State>, ptr: i32, len: i32, out: i32, cap: i32) -> i32 {
    let Ok(Some(value)) = ask(&mut caller, ptr, len, requests::http) else { return 0 };
    let written = with(&mut caller, |bytes, _| {
        if value.len() > memory::offset(cap) {
            let text = format!("The HTTP response takes {} bytes, and the plugin's buffer has {}.", value.len(), memory::offset(cap));
            return Err(Error::new(Kind::InvalidArgument, text));
        }
        memory::write(bytes, out, &value)
    });
    written.map_or(0, |()| length(value.len()))
}

fn kv_set(mut caller: Caller<'_, State>, key: i32, key_len: i32, value: i32, value_len: i32) -> i32 {
    done(with(&mut caller, |bytes, state| {
        let (key, value) = (memory::text(bytes, key, key_len)?, memory::slice(bytes, value, value_len)?);
        state.ask(|host| host.kv_set(key, value))
    }))
}

/// Host calls that take a text and answer with nothing.
fn told(mut caller: Caller<'_, State>, ptr: i32, len: i32, tell: fn(&host::Caller<'_>, &str) -> Result<()>) -> i32 {
    done(with(&mut caller, |bytes, state| {
        let text = memory::text(bytes, ptr, len)?;
        state.ask(|host| tell(host, text))
    }))
}

fn log(mut caller: Caller<'_, State>, level: i32, message: i32, len: i32, fields: i32, fields_len: i32) {
    let _logged = with(&mut caller, |bytes, state| {
        let message = memory::slice(bytes, message, len)?;
        // Cut before it is read: what is past the bound of a record costs nothing.
        let message = String::from_utf8_lossy(message.get(..2 * host::LOG_MESSAGE_MAX).unwrap_or(message));
        let fields = requests::fields(memory::slice(bytes, fields, fields_len)?)?;
        // A plugin that logs why something failed can still ask for the reason after.
        let reason = std::mem::take(&mut state.last_error);
        let logged = state.ask(|host| {
            host.log(Level::from_number(level), &message, &fields);
            Ok(())
        });
        state.last_error = reason;
        logged
    });
}

fn last_error(mut caller: Caller<'_, State>) -> wasmtime::Result<i64> {
    let text = std::mem::take(&mut caller.data_mut().last_error);
    if text.is_empty() {
        return Ok(0);
    }
    let packed = hand_over(&mut caller, text.as_bytes())?;
    caller.data_mut().last_error = text;
    Ok(packed)
}

fn done(result: Result<()>) -> i32 {
    i32::from(result.is_ok())
}

/// A size for the guest: no value is larger than its 32 bits of memory.
fn length(len: usize) -> i32 {
    i32::try_from(len).unwrap_or(i32::MAX)
}
