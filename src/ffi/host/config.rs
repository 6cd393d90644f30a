//! What a host is made from, as text.

use std::path::PathBuf;

use serde::Deserialize;
use serde_json::Value;

use crate::error::{Error, Kind, Result};
use crate::manifest;
use crate::runner::CacheSize;

/// The `config` of a host.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(super) struct Config {
    pub(super) policy: Option<Value>,
    pub(super) cache_dir: Option<PathBuf>,
    pub(super) cache_size: Option<CacheSize>,
    pub(super) kv_path: Option<PathBuf>,
    pub(super) runtime_dir: Option<PathBuf>,
    pub(super) worker_threads: Option<usize>,
    pub(super) callbacks: CallbacksConfig,
    pub(super) signals: SignalsConfig,
    pub(super) http: HttpConfig,
}

/// Of the embedded HTTP client.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(super) struct HttpConfig {
    pub(super) ca_file: Option<PathBuf>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum CallbacksConfig {
    #[default]
    Inline,
    Detached,
}

#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum SignalsConfig {
    #[default]
    On,
    Off,
}

/// Reads JSON or YAML of the embedding program, within the bounds of a manifest.
pub(crate) fn parse_config(text: &str) -> Result<Value> {
    manifest::document(text.as_bytes()).map_err(|e| invalid(e.message().trim_end_matches('.')))
}

fn invalid(why: &str) -> Error {
    Error::new(Kind::InvalidConfig, format!("The config is not valid: {why}."))
}

impl Config {
    pub(super) fn parse(text: &str) -> Result<Self> {
        let value = parse_config(text)?;
        // As a list its values would be taken for its members, in their order.
        if !value.is_object() {
            return Err(invalid("it must be an object"));
        }
        serde_json::from_value(value).map_err(|e| invalid(&e.to_string()))
    }
}
