//! The connection that the host's runtime works: for what lives longer than a call, and for calls that no thread waits for.

use std::sync::Arc;

use bytes::Bytes;
use tokio::runtime::Handle;
use tokio::sync::Mutex;
use tokio::task::JoinHandle;

use crate::grpc::message::{Failed, Outgoing};
use crate::grpc::socket::Target;
use crate::grpc::stream::{self, Sender};

/// The way to a plugin; a clone is the same.
#[derive(Clone)]
pub(super) struct Remote(Arc<Inner>);

struct Inner {
    runtime: Handle,
    target: Target,
    current: Mutex<Option<Arc<Connection>>>,
}

/// One connection. Its work ends with the last who holds it, also where the plugin takes nothing of what is still to be sent.
pub(super) struct Connection {
    pub(super) sender: Sender,
    work: JoinHandle<()>,
}

impl Connection {
    /// Whether it takes requests, as far as is known. A work that has ended may have done so by a panic, and is not to be touched.
    fn is_open(&self) -> bool {
        !self.work.is_finished() && self.sender.is_open()
    }
}

impl Drop for Connection {
    fn drop(&mut self) {
        self.work.abort();
    }
}

impl Remote {
    /// To this plugin; nothing is connected yet.
    pub(super) fn new(runtime: &Handle, target: &Target) -> Self {
        Remote(Arc::new(Inner { runtime: runtime.clone(), target: target.clone(), current: Mutex::default() }))
    }

    /// Sends a request, and waits for the one message of its answer, of `limit` bytes at most. Dropped before, it is taken back.
    pub(super) async fn call(&self, outgoing: Outgoing, limit: u64) -> Result<Bytes, Failed> {
        self.connection().await?.sender.call(outgoing, limit).await
    }

    /// The connection, made if there is none, or none that can be used. To be held for as long as anything is to come on it.
    pub(super) async fn connection(&self) -> Result<Arc<Connection>, Failed> {
        let lost = |e: &dyn std::fmt::Display| Failed::Lost(e.to_string());
        let mut current = self.0.current.lock().await;
        if let Some(connection) = current.as_ref().filter(|connection| connection.is_open()) {
            return Ok(connection.clone());
        }
        let socket = self.0.target.connect().await.map_err(|e| lost(&e))?;
        let (requests, connection) = stream::builder().handshake(socket).await.map_err(|e| lost(&e))?;
        let work = self.0.runtime.spawn(async move { drop(connection.await) });
        let made = Arc::new(Connection { sender: Sender::new(requests, self.0.target.tls.is_some()), work });
        *current = Some(made.clone());
        Ok(made)
    }

    /// Lets go of the connection, behind one that is being made: nothing is asked any more. Does not wait for it.
    pub(super) fn close(&self) {
        let own = self.0.clone();
        self.0.runtime.spawn(async move { drop(own.current.lock().await.take()) });
    }
}

impl std::fmt::Debug for Remote {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Remote").field("address", &self.0.target.address).finish_non_exhaustive()
    }
}
