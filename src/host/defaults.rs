//! What answers a plugin where the embedding program does not.

use std::path::Path;

use crate::error::Result;
use crate::host::kv::Kv;

/// The embedded defaults of one host.
#[derive(Debug)]
pub struct Defaults {
    /// The store of the plugins' values.
    pub kv: Kv,
}

impl Defaults {
    /// With the store in this file; without a path, in memory.
    pub fn open(kv_path: Option<&Path>) -> Result<Self> {
        Ok(Defaults { kv: Kv::open(kv_path)? })
    }

    /// Lets go of what others may want: the KV file.
    pub fn close(&self) {
        self.kv.close();
    }
}
