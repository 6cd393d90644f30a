//! The one place where tokio runtimes are built. Their threads block every signal that is the embedding program's.

use std::io;

use tokio::runtime::{Builder, Runtime};

use crate::error::{Error, Kind, Result};
use crate::sys;

/// The most threads that run asynchronous wasm calls and other work that blocks, and those that run the host callbacks of gRPC
/// plugins: enough for eight plugins that have all of theirs under way.
const BLOCKING_THREADS: usize = 256;

/// The most threads that run completions.
const COMPLETION_THREADS: usize = 64;

/// The runtime of a host: long-lived streams, timers, and (off its workers) everything that blocks.
pub fn shared(worker_threads: usize) -> Result<Runtime> {
    Builder::new_multi_thread()
        .worker_threads(worker_threads.max(1))
        .max_blocking_threads(BLOCKING_THREADS)
        .thread_name("flowplug")
        .thread_stack_size(sys::STACK_SIZE)
        .on_thread_start(sys::block_signals)
        .enable_all()
        .build()
        .map_err(|e| failed(&e))
}

/// Threads for completions, apart from a host's, so that what is waited for there can still be done here.
pub fn completions() -> Result<Runtime> {
    blocking("flowplug-done", COMPLETION_THREADS)
}

/// Threads for the host callbacks of gRPC plugins, apart from a host's, so that plugins whose host calls hang hold up nobody
/// else's calls, and no news of a crash.
pub fn host_calls() -> Result<Runtime> {
    blocking("flowplug-grpc", BLOCKING_THREADS)
}

/// Threads for work that blocks and nothing else, made when there is some.
fn blocking(name: &str, threads: usize) -> Result<Runtime> {
    Builder::new_current_thread()
        .max_blocking_threads(threads)
        .thread_name(name)
        .thread_stack_size(sys::STACK_SIZE)
        .on_thread_start(sys::block_signals)
        .build()
        .map_err(|e| failed(&e))
}

/// A runtime without threads of its own: whoever enters it drives it.
pub fn driven_by_callers() -> Result<Runtime> {
    Builder::new_current_thread().enable_all().build().map_err(|e| failed(&e))
}

fn failed(e: &io::Error) -> Error {
    Error::new(Kind::Io, format!("The system refused a thread or an event queue: {e}. Check the limits on processes and open files."))
}
