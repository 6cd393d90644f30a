//! The messages and services of `proto/`, generated and committed; `make header` makes them again.
#![allow(
    clippy::all,
    clippy::allow_attributes_without_reason,
    clippy::pedantic,
    missing_docs,
    dead_code,
    reason = "generated; the documents are in proto/, and a host needs one side of each service only"
)]

/// `flowbot.plugin`.
pub mod flowbot {
    include!("pb/flowbot.plugin.rs");
}

/// go-plugin's own services.
pub mod go_plugin {
    include!("pb/plugin.rs");
}
