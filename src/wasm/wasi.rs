//! WASI preview 1 under the plugin's grants: its folders, clocks, random numbers and output; nothing of the process.

use std::os::fd::OwnedFd;
use std::sync::{Arc, LazyLock};
use std::time::Instant;

use once_cell::sync::OnceCell;
use wasmtime::Linker;
use wasmtime_wasi::p1::{self, WasiP1Ctx};
use wasmtime_wasi::{FsPerms, HostMonotonicClock, I32Exit, WasiCtxBuilder};

use super::output::{Output, Stream};
use super::state::State;
use super::{files, waits};
use crate::error::{Error, Kind, Result, clean};
use crate::host::PluginContext;
use crate::policy::Mount;
use crate::{runtime, sys};

/// The module's name.
pub(super) const MODULE: &str = "wasi_snapshot_preview1";

/// Defines all of it. What could block is ours: wasmtime-wasi's would hold the thread past every deadline.
pub(super) fn define(linker: &mut Linker<State>) -> wasmtime::Result<()> {
    p1::add_to_linker_sync(linker, within_call)?;
    linker.allow_shadowing(true);
    linker.func_wrap(MODULE, "path_open", files::path_open)?;
    linker.func_wrap(MODULE, "fd_readdir", files::fd_readdir)?;
    linker.func_wrap(MODULE, "poll_oneoff", waits::poll_oneoff)?;
    linker.func_wrap(MODULE, "random_get", waits::random_get)?;
    // wasmtime-wasi's has words of its own for a status past 125.
    linker.func_wrap(MODULE, "proc_exit", |status: i32| -> wasmtime::Result<()> { Err(I32Exit(status).into()) })?;
    linker.allow_shadowing(false);
    Ok(())
}

/// What a WASI function works on. Past the end of the call there is nothing: a guest in straight code, without a loop that
/// would be ended, gets no more done.
fn within_call(state: &mut State) -> &mut WasiP1Ctx {
    if state.call.look(&state.context).is_err() && !std::mem::replace(&mut state.ended, true) {
        state.wasi = Some(nothing());
    }
    state.wasi.get_or_insert_with(nothing)
}

/// A granted folder, held open: what a guest moves or links later does not change what the next instance sees.
pub(super) struct Folder {
    held: OwnedFd,
    guest: Vec<String>,
    writable: bool,
}

/// Opens what the plugin was granted.
pub(super) fn folders(plugin: &PluginContext) -> Result<Vec<Folder>> {
    let open = |mount: &Mount| match sys::open_folder(&mount.host) {
        Ok(held) => Ok(Folder { held, guest: mount.guest.clone(), writable: mount.writable }),
        Err(e) => {
            let folder = clean(&mount.host.to_string_lossy(), 512);
            Err(Error::new(Kind::LoadFailed, format!("The folder {folder:?} that the plugin was granted cannot be opened: {e}.")))
        }
    };
    plugin.grants().mounts.iter().map(open).collect()
}

/// The context of one instance: its folders opened, its output led to the log.
pub(super) fn context(plugin: &PluginContext, folders: &[Folder], output: &Arc<Output>) -> Result<Box<WasiP1Ctx>> {
    let mut builder = WasiCtxBuilder::new();
    builder
        .allow_blocking_current_thread(true)
        .allow_tcp(false)
        .allow_udp(false)
        .allow_ip_name_lookup(false)
        .monotonic_clock(Monotonic)
        .arg(plugin.identity())
        .stdout(output.stream(Stream::Out))
        .stderr(output.stream(Stream::Err));
    for folder in folders {
        let rights = if folder.writable { FsPerms::ReadWrite } else { FsPerms::ReadOnly };
        for guest in &folder.guest {
            builder.preopened_dir(sys::reopened(&folder.held), guest, rights).map_err(|e| {
                Error::new(Kind::LoadFailed, format!("The folder {guest:?} that the plugin was granted cannot be opened: {e:#}."))
            })?;
        }
    }
    Ok(Box::new(builder.build_p1()))
}

/// For a store without WASI, whose guest has no import that would reach it, and for a call that is over.
fn nothing() -> Box<WasiP1Ctx> {
    Box::new(WasiCtxBuilder::new().build_p1())
}

/// The clock that `clock_time_get` and `poll_oneoff` share: nanoseconds since this process first asked.
pub(super) struct Monotonic;

impl HostMonotonicClock for Monotonic {
    fn resolution(&self) -> u64 {
        1
    }

    fn now(&self) -> u64 {
        static ORIGIN: LazyLock<Instant> = LazyLock::new(Instant::now);
        u64::try_from(ORIGIN.elapsed().as_nanos()).unwrap_or(u64::MAX)
    }
}

/// Puts this thread into the runtime in which wasmtime-wasi finds itself, until the guard is dropped. Nothing waits in it
/// (files are read in place), and nobody drives it; without one around, it would start its own, a worker for each core.
pub(super) fn enter() -> Result<tokio::runtime::EnterGuard<'static>> {
    static SURROUNDINGS: OnceCell<tokio::runtime::Runtime> = OnceCell::new();
    Ok(SURROUNDINGS.get_or_try_init(runtime::driven_by_callers)?.enter())
}
