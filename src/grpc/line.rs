//! The connection on which threads call a plugin: made at the first call, and again when it was closed while nobody was looking.

use std::sync::{Arc, Mutex, PoisonError};

use bytes::Bytes;
use http_body_util::Full;
use hyper::body::Incoming;
use hyper::client::conn::http2::{Builder, SendRequest};
use hyper::rt::Executor;
use hyper_util::rt::TokioIo;
use tokio::runtime::Handle;

use crate::call::{Cancel, Deadline};
use crate::error::{Error, Kind, Result};
use crate::grpc::client::WINDOW;
use crate::grpc::crew::Crew;
use crate::grpc::socket::{Socket, Target};
use crate::grpc::tls;
use crate::grpc::wire::{Stream, Wire};
use crate::grpc::{elsewhere, first};

/// The way to a plugin.
pub(super) struct Line {
    shared: Handle,
    target: Target,
    current: Mutex<Option<Arc<Connection>>>,
}

/// One connection.
pub(super) struct Connection {
    pub(super) crew: Crew,
    tls: bool,
    sender: SendRequest<Full<Bytes>>,
}

impl Line {
    /// To this plugin; nothing is connected yet.
    pub(super) fn new(shared: Handle, target: Target) -> Self {
        Line { shared, target, current: Mutex::default() }
    }

    /// The connection, made if there is none; `unavailable` where that fails.
    pub(super) fn connection(&self, deadline: &Deadline, cancels: [Option<&Cancel>; 2]) -> Result<Arc<Connection>> {
        let current = self.current.lock().unwrap_or_else(PoisonError::into_inner).clone();
        if let Some(connection) = current
            && connection.is_open()
        {
            return Ok(connection);
        }
        // Without the lock, which others must not wait for: if two make one, the last is kept for the next.
        let made = Arc::new(self.connect(deadline, cancels)?);
        *self.current.lock().unwrap_or_else(PoisonError::into_inner) = Some(made.clone());
        Ok(made)
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
        let tasks = crew.tasks();
        let mut builder = Builder::new(tasks.clone());
        builder.initial_stream_window_size(WINDOW.0).initial_connection_window_size(WINDOW.1);
        let shake = async {
            let stream = match &self.target.tls {
                Some(tls) => tls.connect(Stream(wire)).await.map_err(|e| lost(&e))?,
                None => tls::Stream::Plain(Stream(wire)),
            };
            builder.handshake(TokioIo::new(stream)).await.map_err(|e| lost(&e))
        };
        // For the bound that TLS itself sets to a handshake.
        let timers = self.shared.enter();
        let (sender, connection) = crew.wait(shake, deadline, &cancels)??;
        drop(timers);
        tasks.execute(async move { drop(connection.await) });
        Ok(Connection { crew, tls: self.target.tls.is_some(), sender })
    }
}

impl Connection {
    /// Sends a request; to be waited for with the crew.
    pub(super) fn send(
        &self,
        mut request: http::Request<Full<Bytes>>,
    ) -> impl Future<Output = hyper::Result<http::Response<Incoming>>> + use<> {
        if self.tls {
            let mut parts = std::mem::take(request.uri_mut()).into_parts();
            parts.scheme = Some(http::uri::Scheme::HTTPS);
            *request.uri_mut() = http::Uri::from_parts(parts).unwrap_or_default();
        }
        self.sender.clone().send_request(request)
    }

    /// Whether it can be used, as far as can be known: where nobody was looking, the plugin may have closed it.
    fn is_open(&self) -> bool {
        self.crew.glance();
        !self.sender.is_closed()
    }
}

impl std::fmt::Debug for Line {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Line").field("address", &self.target.address).finish_non_exhaustive()
    }
}
