//! The part of flowplug that reads what others wrote, under the crate's own name but without the engines: building
//! those with coverage counters would take half an hour, and they are not what is fuzzed here.
#![allow(dead_code, unreachable_pub, reason = "what uses the rest is not here")]

#[path = "../../src"]
mod source {
    pub mod call;
    pub mod error;
    pub mod manifest;
    pub mod policy;
    pub mod sys;
    pub mod wasm {
        pub mod envelope;
    }
}

pub use source::{call, error, manifest, policy, sys, wasm};
