//! How a plugin is connected: to an address that was judged, and to no other. A name is resolved once, by us, and what the
//! connection is made to are the addresses that were judged; a name that changes its mind in between changes nothing.

use std::fmt;
use std::io;
use std::net::{IpAddr, SocketAddr, ToSocketAddrs};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use http::Uri;
use hyper_rustls::{HttpsConnector, HttpsConnectorBuilder, MaybeHttpsStream};
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::client::legacy::connect::dns::Name;
use hyper_util::rt::TokioIo;
use tokio::net::TcpStream;
use tokio::sync::{AcquireError, OwnedSemaphorePermit, Semaphore, oneshot};
use tower::Service;

use crate::host::http::address::permitted;
use crate::manifest::IpRange;
use crate::sys;

/// Names that are looked up for one plugin at the same time: each holds a thread, for as long as the system tries.
pub(super) const LOOKUPS: usize = 8;
/// The same for all plugins of a host together, but for the first of each.
pub(super) const LOOKUPS_OF_HOST: usize = 128;
/// Addresses of one name that are tried.
const ADDRESSES: usize = 16;
/// For a connection, its handshake included.
const CONNECT: Duration = Duration::from_secs(20);

type BoxError = Box<dyn std::error::Error + Send + Sync>;
type Boxed<T, E> = Pin<Box<dyn Future<Output = Result<T, E>> + Send>>;

/// How names become addresses; called on a thread of its own, which may block.
pub trait Resolve: Send + Sync + 'static {
    /// The addresses of a name; none is an error.
    fn resolve(&self, name: &str) -> io::Result<Vec<IpAddr>>;
}

/// As the system does it.
#[derive(Debug)]
pub(super) struct System;

impl Resolve for System {
    fn resolve(&self, name: &str) -> io::Result<Vec<IpAddr>> {
        Ok((name, 0).to_socket_addrs()?.map(|address| address.ip()).collect())
    }
}

/// A plugin's turns to look a name up. They outlive connectors and requests, as the threads do.
#[derive(Clone, Debug)]
pub(in crate::host) struct Lookups {
    /// The one that it always has, whatever others do with the host's.
    first: Arc<Semaphore>,
    /// Those that take one of the host's, too.
    more: Arc<Semaphore>,
}

impl Default for Lookups {
    fn default() -> Self {
        Lookups { first: Arc::new(Semaphore::new(1)), more: Arc::new(Semaphore::new(LOOKUPS - 1)) }
    }
}

impl Lookups {
    /// One of the two, whichever comes: its permits.
    async fn turn(self, host: Arc<Semaphore>) -> Result<Vec<OwnedSemaphorePermit>, AcquireError> {
        let more = async { Ok(vec![self.more.acquire_owned().await?, host.acquire_owned().await?]) };
        tokio::select! {
            biased;
            first = self.first.acquire_owned() => Ok(vec![first?]),
            more = more => more,
        }
    }
}

/// Everything that a name leads to, or the address itself, is neither public nor granted.
#[derive(Debug)]
pub(super) struct NotPublic(pub(super) IpAddr);

impl fmt::Display for NotPublic {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} is not a public address", self.0)
    }
}

impl std::error::Error for NotPublic {}

/// Resolves for one plugin, and hands on what it may be connected to.
#[derive(Clone)]
pub(super) struct Judge {
    resolver: Arc<dyn Resolve>,
    lookups: Lookups,
    all: Arc<Semaphore>,
    granted: Arc<[IpRange]>,
}

impl Service<Name> for Judge {
    type Response = std::vec::IntoIter<SocketAddr>;
    type Error = BoxError;
    type Future = Boxed<Self::Response, BoxError>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), BoxError>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, name: Name) -> Self::Future {
        let Judge { resolver, lookups, all, granted } = self.clone();
        Box::pin(async move {
            let turn = lookups.turn(all).await?;
            let (answer, found) = oneshot::channel();
            // A thread of its own: the runtime's blocking threads may all be waiting for answers such as this one.
            std::thread::Builder::new().name("flowplug-dns".to_owned()).spawn(move || {
                sys::block_signals();
                let _turn = turn;
                drop(answer.send(resolver.resolve(name.as_str())));
            })?;
            let found = found.await.map_err(|_| io::Error::other("the look-up failed"))??;
            let (good, bad): (Vec<IpAddr>, Vec<IpAddr>) = found.into_iter().take(ADDRESSES).partition(|ip| permitted(*ip, &granted));
            match bad.first() {
                Some(first) if good.is_empty() => Err(NotPublic(*first).into()),
                _ => Ok(good.into_iter().map(|ip| SocketAddr::new(ip, 0)).collect::<Vec<_>>().into_iter()),
            }
        })
    }
}

/// Connects for one plugin.
#[derive(Clone)]
pub(super) struct Connector {
    inner: HttpsConnector<HttpConnector<Judge>>,
    granted: Arc<[IpRange]>,
}

impl Connector {
    /// `all`: the turns of the host.
    pub(super) fn new(
        resolver: Arc<dyn Resolve>,
        lookups: Lookups,
        all: Arc<Semaphore>,
        tls: rustls::ClientConfig,
        granted: &[IpRange],
    ) -> Self {
        let granted: Arc<[IpRange]> = granted.into();
        let judge = Judge { resolver, lookups, all, granted: granted.clone() };
        let mut tcp = HttpConnector::new_with_resolver(judge);
        tcp.enforce_http(false);
        tcp.set_nodelay(true);
        tcp.set_connect_timeout(Some(CONNECT));
        let inner = HttpsConnectorBuilder::new().with_tls_config(tls).https_or_http().enable_http1().wrap_connector(tcp);
        Connector { inner, granted }
    }
}

impl Service<Uri> for Connector {
    type Response = MaybeHttpsStream<TokioIo<TcpStream>>;
    type Error = BoxError;
    type Future = Boxed<Self::Response, BoxError>;

    fn poll_ready(&mut self, context: &mut Context<'_>) -> Poll<Result<(), BoxError>> {
        self.inner.poll_ready(context)
    }

    fn call(&mut self, to: Uri) -> Self::Future {
        // What is an address already never comes to the resolver.
        let literal = to.host().map(|host| host.trim_start_matches('[').trim_end_matches(']')).and_then(|host| host.parse().ok());
        if let Some(address) = literal
            && !permitted(address, &self.granted)
        {
            return Box::pin(async move { Err(NotPublic(address).into()) });
        }
        let connected = self.inner.call(to);
        Box::pin(async move { tokio::time::timeout(CONNECT, connected).await.map_err(|_| io::Error::from(io::ErrorKind::TimedOut))? })
    }
}
