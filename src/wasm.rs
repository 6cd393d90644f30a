//! The runtime's face; it answers unsupported until the runtime is here.
use crate::call::{Call, Deadline, Sink};
use crate::error::{Error, Kind, Result};
use crate::host::PluginContext;
use crate::manifest::Manifest;
use std::sync::Arc;
#[derive(Debug)]
pub struct Plugin;
#[derive(Clone, Copy, Debug)]
pub struct Function;
pub struct Health {
    pub ready: bool,
    pub last_error: String,
}
fn none<T>() -> Result<T> {
    Err(Error::new(Kind::Unsupported, "This runtime is not built in yet."))
}
impl Plugin {
    pub fn start(&self, _c: &str, _call: &Call) -> Result<()> {
        none()
    }
    pub fn resolve(&self, _n: &str) -> Result<Function> {
        none()
    }
    pub fn call(&self, _f: Function, _n: &str, _p: &[u8], _c: &Call, _s: &mut dyn Sink) -> Result<()> {
        none()
    }
    pub fn health(&self) -> Health {
        Health { ready: false, last_error: String::new() }
    }
    pub fn stop(&self, _d: &Deadline) {}
    pub fn exports(&self) -> Vec<String> {
        vec![]
    }
    pub fn imports(&self) -> Vec<String> {
        vec![]
    }
}
pub struct Settings {
    pub signals: bool,
    pub cache_dir: Option<std::path::PathBuf>,
}
impl Plugin {
    pub fn load(_s: &Settings, _m: &Manifest, _c: Arc<PluginContext>, _call: &Call) -> Result<Arc<Plugin>> {
        none()
    }
}
