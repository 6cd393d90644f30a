//! flowplug: a plugin host for programs in any language.
pub mod call;
pub mod error;
pub mod host;
pub mod manifest;
pub mod policy;
pub mod runtime;
pub mod sys;
