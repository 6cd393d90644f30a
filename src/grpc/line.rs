//! The connection on which threads call a plugin: made at the first call, and again when it was closed while nobody was looking.

use std::sync::{Arc, Mutex};

use tokio::runtime::Handle;

use crate::call::{Cancel, Deadline};
use crate::error::{Error, Kind, Result};
use crate::grpc::crew::Crew;
use crate::grpc::socket::{Socket, Target};
use crate::grpc::stream::{self, Sender};
use crate::grpc::task::lock;
use crate::grpc::tls;
use crate::grpc::wire::{Stream, Wire};
use crate::grpc::{elsewhere, first};

/// The way to a plugin.
pub(super) struct Line {
    shared: Handle,
    target: Target,
    current: Mutex<Option<Arc<Connection>>>,
}

/// One connection. What it sends is to be waited for with its crew.
pub(super) struct Connection {
    pub(super) crew: Crew,
    pub(super) sender: Sender,
}

impl Line {
    /// To this plugin; nothing is connected yet.
    pub(super) fn new(shared: Handle, target: Target) -> Self {
        Line { shared, target, current: Mutex::default() }
    }

    /// The connection, made if there is none; `unavailable` where that fails.
    pub(super) fn connection(&self, deadline: &Deadline, cancels: [Option<&Cancel>; 2]) -> Result<Arc<Connection>> {
        let current = lock(&self.current).clone();
        if let Some(connection) = current
            && connection.is_open()
        {
            return Ok(connection);
        }
        // Without the lock, which others must not wait for: if two make one, the last is kept for the next.
        let made = Arc::new(self.connect(deadline, cancels)?);
        let mut current = lock(&self.current);
        // A call that is to end was perhaps ended by the plugin's stop, behind which nothing is kept.
        if !cancels.iter().flatten().any(|token| token.is_set()) {
            *current = Some(made.clone());
        }
        drop(current);
        Ok(made)
    }

    /// Lets go of the connection: calls that might make another have been ended.
    pub(super) fn close(&self) {
        let kept = lock(&self.current).take();
        drop(kept);
    }

    fn connect(&self, deadline: &Deadline, cancels: [Option<&Cancel>; 2]) -> Result<Connection> {
        let lost = |e: &dyn std::fmt::Display| Error::new(Kind::Unavailable, format!("The plugin cannot be connected to: {e}."));
        let (address, moment) = (self.target.address.clone(), deadline.moment());
        let own = cancels.map(Option::<&Cancel>::cloned);
        let socket = elsewhere(&self.shared, async move {
            let connect = async { Socket::connect(&address).await?.into_fd() };
            first(connect, own.each_ref().map(Option::as_ref), moment).await
        })??;
        let wire = Arc::new(socket.and_then(Wire::new).map_err(|e| lost(&e))?);
        let crew = Crew::new(wire.clone());
        let shake = async {
            let stream = match &self.target.tls {
                Some(tls) => tls.connect(Stream(wire)).await.map_err(|e| lost(&e))?,
                None => tls::Stream::Plain(Stream(wire)),
            };
            stream::builder().handshake(stream).await.map_err(|e| lost(&e))
        };
        // For the bound that TLS itself sets to a handshake.
        let timers = self.shared.enter();
        let (requests, connection) = crew.wait(shake, deadline, &cancels)??;
        drop(timers);
        crew.put(async move { drop(connection.await) });
        Ok(Connection { crew, sender: Sender::new(requests, self.target.tls.is_some()) })
    }
}

impl Connection {
    /// Whether it can be used, as far as can be known: where nobody was looking, the plugin may have closed it.
    fn is_open(&self) -> bool {
        self.crew.glance();
        // After a panic h2's own locks panic.
        !self.crew.is_broken() && self.sender.is_open()
    }
}

impl std::fmt::Debug for Line {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Line").field("address", &self.target.address).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::grpc::handshake::Address;

    #[test]
    fn after_a_panic_another_connection_is_made() {
        let runtime = crate::runtime::shared(1).unwrap();
        let path = std::env::temp_dir().join(format!("fpl-line-{}", std::process::id()));
        let _listener = std::os::unix::net::UnixListener::bind(&path).unwrap();
        let line = Line::new(runtime.handle().clone(), Target { address: Address::Unix(path.clone()), tls: None });
        let connection = || line.connection(&Deadline::never(), [None, None]).unwrap();
        let first = connection();
        assert!(Arc::ptr_eq(&first, &connection()));
        let error = first.crew.wait(async { panic!("a call's own") }, &Deadline::never(), &[]).unwrap_err();
        assert!(error.kind() == Kind::Unavailable && error.message().contains("panic"), "{error}");
        assert!(!Arc::ptr_eq(&first, &connection()));
        drop(std::fs::remove_file(&path));
    }
}
