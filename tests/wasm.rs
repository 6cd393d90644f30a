//! The wasm runner, through its public face: what guests can do, and what they cannot.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    missing_docs,
    reason = "a test fails by panicking"
)]

#[path = "wasm/support.rs"]
mod support;

#[path = "wasm/bypass.rs"]
mod bypass;
#[path = "wasm/cache.rs"]
mod cache;
#[path = "wasm/calls.rs"]
mod calls;
#[path = "wasm/files.rs"]
mod files;
#[path = "wasm/fuel.rs"]
mod fuel;
#[path = "wasm/hostile.rs"]
mod hostile;
#[path = "wasm/imports.rs"]
mod imports;
#[path = "wasm/load.rs"]
mod load;
#[path = "wasm/mix.rs"]
mod mix;
#[path = "wasm/pool.rs"]
mod pool;
#[path = "wasm/sharing.rs"]
mod sharing;
#[path = "wasm/snapshot.rs"]
mod snapshot;
#[path = "wasm/traps.rs"]
mod traps;
#[path = "wasm/wasi.rs"]
mod wasi;
