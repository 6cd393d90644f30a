//! flowplug: a plugin host that a program in any language can link.
//!
//! A plugin is a folder with a `plugin.yaml` ([`manifest`]) and either a WebAssembly module, run in a sandbox ([`wasm`]),
//! or an executable, run as a process in go-plugin's gRPC protocol ([`grpc`]). The operator's [`policy`] says what of the
//! manifest's wishes is granted. What a plugin asks of the program that embeds it goes through [`host`]. [`runner`] makes
//! one behaviour of the two runtimes, [`plugin`] gives it a life (loaded, started, called, stopped), and [`ffi`] is the C
//! ABI over all of it: the crate's product is `libflowplug.so` with `include/flowplug.h`.
//!
//! Each module may use those named before it: [`error`] and [`sys`] stand on nothing, [`call`] is what every call carries,
//! [`runtime`] is the one place that makes tokio runtimes.

pub mod call;
pub mod error;
pub mod ffi;
pub mod grpc;
pub mod host;
pub mod manager;
pub mod manifest;
pub mod plugin;
pub mod policy;
pub mod runner;
pub mod runtime;
pub mod source;
pub mod sys;
pub mod wasm;
