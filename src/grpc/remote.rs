//! The connection that the host's runtime works: for what lives longer than a call, and for calls that no thread waits for.

use std::sync::Arc;

use bytes::Bytes;
use tokio::runtime::Handle;
use tokio::sync::Mutex;

use crate::grpc::message::{Failed, Outgoing};
use crate::grpc::socket::Target;
use crate::grpc::stream::{self, Sender};

/// The way to a plugin; a clone is the same.
#[derive(Clone)]
pub(super) struct Remote(Arc<Inner>);

struct Inner {
    runtime: Handle,
    target: Target,
    current: Mutex<Option<Sender>>,
}

impl Remote {
    /// To this plugin; nothing is connected yet.
    pub(super) fn new(runtime: &Handle, target: &Target) -> Self {
        Remote(Arc::new(Inner { runtime: runtime.clone(), target: target.clone(), current: Mutex::default() }))
    }

    /// Sends a request, and waits for the one message of its answer, of `limit` bytes at most. Dropped before, it is taken back.
    pub(super) async fn call(&self, outgoing: Outgoing, limit: u64) -> Result<Bytes, Failed> {
        self.sender().await?.call(outgoing, limit).await
    }

    /// The connection, made if there is none, or none that can be used.
    pub(super) async fn sender(&self) -> Result<Sender, Failed> {
        let lost = |e: &dyn std::fmt::Display| Failed::Lost(e.to_string());
        let mut current = self.0.current.lock().await;
        if let Some(sender) = current.as_ref().filter(|sender| sender.is_open()) {
            return Ok(sender.clone());
        }
        let socket = self.0.target.connect().await.map_err(|e| lost(&e))?;
        let (requests, connection) = stream::builder().handshake(socket).await.map_err(|e| lost(&e))?;
        self.0.runtime.spawn(async move { drop(connection.await) });
        let sender = Sender::new(requests, self.0.target.tls.is_some());
        *current = Some(sender.clone());
        Ok(sender)
    }
}

impl std::fmt::Debug for Remote {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Remote").field("address", &self.0.target.address).finish_non_exhaustive()
    }
}
