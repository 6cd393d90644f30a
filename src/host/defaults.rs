//! What answers a plugin where the embedding program does not.

use std::path::Path;

use tokio::runtime::Handle;

use crate::error::Result;
use crate::host::http::client::HttpClient;
use crate::host::kv::Kv;

/// The embedded defaults of one host.
#[derive(Debug)]
pub struct Defaults {
    /// The store of the plugins' values.
    pub kv: Kv,
    /// Their HTTP client.
    pub http: HttpClient,
}

impl Defaults {
    /// With the store in this file, else in memory; with the certificates of this file, else the system's.
    pub fn open(handle: Handle, kv_path: Option<&Path>, ca_file: Option<&Path>) -> Result<Self> {
        Ok(Defaults { kv: Kv::open(kv_path)?, http: HttpClient::new(handle, ca_file)? })
    }

    /// Lets go of what others may want: the KV file.
    pub fn close(&self) {
        self.kv.close();
    }
}
