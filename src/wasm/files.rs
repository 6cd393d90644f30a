//! `path_open` of WASI, for regular files and folders alone: opening a FIFO waits for its other end, past every deadline, and
//! opening a device may do anything. And `fd_readdir`, for folders of a bounded size: it reads the whole folder each time.

use std::pin::pin;

use serde_json::{Value, json};
use wasmtime::Caller;
use wasmtime_wasi::p1::WasiP1Ctx;
use wasmtime_wasi::p1::wasi_snapshot_preview1::{
    WasiSnapshotPreview1, fd_close, fd_filestat_get, fd_readdir as list, path_filestat_get, path_open as open,
};
use wasmtime_wasi::runtime::poll_noop;
use wiggle::GuestMemory;

use super::memory;
use super::state::State;
use crate::error::clean;
use crate::policy::Grants;

/// `errno` of preview 1.
const ACCESS: i32 = 2;
const FAULT: i32 = 21;
const IO: i32 = 29;
const TOO_MANY: i32 = 33;
const NAME_TOO_LONG: i32 = 37;
const NOT_PERMITTED: i32 = 63;
const READ_ONLY: i32 = 69;
const NOT_CAPABLE: i32 = 76;

/// The most descriptors that the instances of a plugin have open together, its folders and the standard streams aside: each is
/// one of the host's. Every instance has an equal part of them, but no fewer than `OPEN_MIN`.
const OPEN_MAX: u32 = 256;
const OPEN_MIN: u32 = 16;
const STANDARD: usize = 3;

/// `filetype` of preview 1, and its place in a `filestat`.
const DIRECTORY: u8 = 3;
const REGULAR_FILE: u8 = 4;
const SYMBOLIC_LINK: u8 = 7;
const FILETYPE: usize = 16;
const SIZE: usize = 32;
const FILESTAT: usize = 64;

/// The largest folder that is listed, in bytes of its own: some 30,000 files, each of which takes a few microseconds that no
/// deadline ends, and a hundred bytes.
const LISTED_MAX: u64 = 1 << 20;

/// The most bytes of a path that are shown.
const SHOWN: usize = 256;

/// The longest path, in bytes.
const PATH_MAX: usize = 4096;

/// What wasmtime-wasi may copy for one of these calls, in bytes.
const FUEL: usize = 64 << 10;

/// `path_open`, after a look at what is there.
#[expect(clippy::too_many_arguments, reason = "the function's own")]
pub(super) fn path_open(
    mut caller: Caller<'_, State>,
    dir: i32,
    lookup: i32,
    path: i32,
    len: i32,
    how: i32,
    rights: i64,
    inheriting: i64,
    flags: i32,
    opened: i32,
) -> wasmtime::Result<i32> {
    let Ok(memory) = memory::of(&mut caller) else { return Ok(FAULT) };
    let (bytes, state) = memory.data_and_store_mut(&mut caller);
    state.call.look(&state.context)?;
    let Some(wasi) = state.wasi.as_deref_mut() else { return Ok(IO) };
    let Ok(name) = memory::slice(bytes, path, len) else { return Ok(FAULT) };
    if name.len() > PATH_MAX {
        return Ok(NAME_TOO_LONG);
    }
    // What is not there, or not to be seen, is left to the call itself: it makes a file, or says what is wrong.
    if filetype(wasi, dir, lookup, name)?.is_some_and(|found| !matches!(found, DIRECTORY | REGULAR_FILE | SYMBOLIC_LINK)) {
        return Ok(deny(state, refused(name, "it is neither a regular file nor a folder"), ACCESS));
    }
    wasi.set_hostcall_fuel(FUEL);
    let errno = {
        let mut memory = GuestMemory::Unshared(&mut *bytes);
        let open = pin!(open(wasi, &mut memory, dir, lookup, path, len, how, rights, inheriting, flags, opened));
        poll_noop(open).unwrap_or(Ok(IO))?
    };
    match errno {
        0 => within_bound(wasi, bytes, opened, first_refused(state.context.grants())),
        ACCESS | NOT_PERMITTED | READ_ONLY | NOT_CAPABLE => {
            let name = memory::slice(bytes, path, len).unwrap_or_default();
            let denied = refused(name, "it leads out of what was granted, or asks for more than was (wasm.permissions.filesystem)");
            Ok(deny(state, denied, errno))
        }
        _ => Ok(errno),
    }
}

/// `fd_readdir`, after a look at how large the folder is.
pub(super) fn fd_readdir(mut caller: Caller<'_, State>, dir: i32, to: i32, len: i32, cookie: i64, written: i32) -> wasmtime::Result<i32> {
    let Ok(memory) = memory::of(&mut caller) else { return Ok(FAULT) };
    let (bytes, state) = memory.data_and_store_mut(&mut caller);
    state.call.look(&state.context)?;
    let Some(wasi) = state.wasi.as_deref_mut() else { return Ok(IO) };
    let size = folder_size(wasi, dir)?;
    if size > LISTED_MAX {
        let why = format!("The folder was not listed: by itself it has {size} bytes, and {LISTED_MAX} is the most. Split it.");
        let denied = json!({"what": "filesystem", "target": "a folder", "rule": "wasm.permissions.filesystem", "why": why});
        return Ok(deny(state, Box::new(denied), ACCESS));
    }
    wasi.set_hostcall_fuel(FUEL);
    let mut memory = GuestMemory::Unshared(bytes);
    let listed = pin!(list(wasi, &mut memory, dir, to, len, cookie, written));
    poll_noop(listed).unwrap_or(Ok(IO))
}

/// What is refused is kept for the trap that may follow.
fn deny(state: &mut State, denied: Box<Value>, errno: i32) -> i32 {
    state.context.audit_denied(&denied);
    state.call.denied = Some(denied);
    errno
}

fn refused(name: &[u8], why: &str) -> Box<Value> {
    let target = clean(&String::from_utf8_lossy(name), SHOWN);
    let why = format!("The file {target:?} was not opened: {why}.");
    Box::new(json!({"what": "filesystem", "target": target, "rule": "wasm.permissions.filesystem", "why": why}))
}

/// The number of the first descriptor that is one too many.
fn first_refused(grants: &Grants) -> i32 {
    let given = STANDARD + grants.mounts.iter().map(|mount| mount.guest.len()).sum::<usize>();
    let part = (OPEN_MAX / grants.max_instances.max(1)).max(OPEN_MIN);
    i32::try_from(given).unwrap_or(i32::MAX).saturating_add_unsigned(part)
}

/// Takes back a descriptor past the bound. Numbers that are free are given out first, so the number bounds how many are open.
fn within_bound(wasi: &mut WasiP1Ctx, bytes: &mut [u8], opened: i32, max: i32) -> wasmtime::Result<i32> {
    let Ok(Ok(number)) = memory::slice(bytes, opened, 4).map(<[u8; 4]>::try_from) else { return Ok(FAULT) };
    let number = i32::from_le_bytes(number);
    if number < max {
        return Ok(0);
    }
    wasi.set_hostcall_fuel(FUEL);
    let mut memory = GuestMemory::Unshared(bytes);
    let closed = pin!(fd_close(wasi, &mut memory, number));
    poll_noop(closed).unwrap_or(Ok(IO))?;
    Ok(TOO_MANY)
}

/// The type of what stands at a path. Files are looked at in place, so the answer is there at once.
fn filetype(wasi: &mut WasiP1Ctx, dir: i32, lookup: i32, name: &[u8]) -> wasmtime::Result<Option<u8>> {
    // A memory of our own, for the answer and then the name: the guest's has no room to spare.
    let mut scratch = vec![0; FILESTAT];
    scratch.extend_from_slice(name);
    let (at, len) = (FILESTAT as i32, i32::try_from(name.len())?);
    wasi.set_hostcall_fuel(FUEL);
    let errno = {
        let mut memory = GuestMemory::Unshared(&mut scratch);
        let stat = pin!(path_filestat_get(wasi, &mut memory, dir, lookup, at, len, 0));
        poll_noop(stat).unwrap_or(Ok(IO))?
    };
    Ok(scratch.get(FILETYPE).copied().filter(|_| errno == 0))
}

/// The bytes of an open folder itself; 0 for what is none, which the call itself refuses.
fn folder_size(wasi: &mut WasiP1Ctx, dir: i32) -> wasmtime::Result<u64> {
    let mut stat = [0; FILESTAT];
    wasi.set_hostcall_fuel(FUEL);
    let errno = {
        let mut memory = GuestMemory::Unshared(&mut stat);
        let asked = pin!(fd_filestat_get(wasi, &mut memory, dir, 0));
        poll_noop(asked).unwrap_or(Ok(IO))?
    };
    let is_folder = errno == 0 && stat.get(FILETYPE) == Some(&DIRECTORY);
    let size = stat.get(SIZE..SIZE + 8).and_then(|bytes| bytes.try_into().ok()).map_or(0, u64::from_le_bytes);
    Ok(if is_folder { size } else { 0 })
}
