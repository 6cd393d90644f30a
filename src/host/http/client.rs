//! The default of `HTTPRequest`: HTTP/1.1, straight to the server. No proxy, no cookies, no decompression, nothing cached.

use std::collections::HashSet;
use std::path::{Path, PathBuf};
use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use http_body_util::Full;
use hyper_util::client::legacy;
use hyper_util::rt::{TokioExecutor, TokioTimer};
use once_cell::sync::OnceCell;
use rustls::ClientConfig;
use tokio::runtime::Handle;
use tokio::sync::Semaphore;

use crate::call::{Deadline, thread_waker, wait};
use crate::error::{Error, Kind, Result};
use crate::host::http::connect::{Connector, LOOKUPS_OF_HOST, Resolve, System};
use crate::host::http::exchange::{Answer, Hop, exchange};
use crate::host::http::roots;
use crate::host::{Caller, HttpRequest, HttpResponse, PluginContext};

/// The longest that one request with all its redirects takes, where the call that it belongs to has more time.
const TOTAL: Duration = Duration::from_secs(300);
/// Redirects that are followed.
const REDIRECTS: usize = 10;
/// How long a connection is kept that nobody uses, and how many of them to one server.
const IDLE: Duration = Duration::from_secs(30);
const IDLE_EACH: usize = 4;
/// Servers of one plugin that connections are kept to; with the next one, all of them are let go.
const SERVERS: usize = 16;
/// Bytes of the head of a response.
const HEAD_MAX: usize = 64 << 10;

pub(super) type Client = legacy::Client<Connector, Full<Bytes>>;

/// What all plugins of a host share of it.
pub struct HttpClient {
    handle: Handle,
    resolver: Arc<dyn Resolve>,
    ca_file: Option<PathBuf>,
    lookups: Arc<Semaphore>,
    /// Read when the first plugin makes a request, unless a file was named.
    tls: OnceCell<ClientConfig>,
}

impl std::fmt::Debug for HttpClient {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("HttpClient").field("ca_file", &self.ca_file).finish_non_exhaustive()
    }
}

/// The connections of one plugin; another's grants may differ, so they are never shared.
#[derive(Default)]
pub struct Connections {
    kept: Mutex<Kept>,
}

#[derive(Default)]
struct Kept {
    client: Option<Client>,
    /// It has the certificates for https.
    secure: bool,
    servers: HashSet<String>,
}

impl std::fmt::Debug for Connections {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Connections").finish_non_exhaustive()
    }
}

impl HttpClient {
    /// A client whose work is done on this runtime. `ca_file`: the certificates that are trusted in place of the system's, in PEM.
    ///
    /// Errors: `io`, if the file holds none.
    pub fn new(handle: Handle, ca_file: Option<&Path>) -> Result<Self> {
        Self::with_resolver(handle, ca_file, Arc::new(System))
    }

    /// The same, with other addresses for names.
    pub fn with_resolver(handle: Handle, ca_file: Option<&Path>, resolver: Arc<dyn Resolve>) -> Result<Self> {
        let tls = ca_file.map(|file| roots::config(Some(file))).transpose()?.map_or_else(OnceCell::new, OnceCell::with_value);
        Ok(HttpClient { handle, resolver, ca_file: ca_file.map(Path::to_owned), lookups: Arc::new(Semaphore::new(LOOKUPS_OF_HOST)), tls })
    }

    /// Makes a request on behalf of a plugin and waits for the whole answer, on this thread, within the caller's bounds.
    ///
    /// Errors: `permission_denied` for what neither allowlist nor policy names, on each hop; `invalid_argument`, `io`,
    /// `timeout`, `cancelled`.
    pub fn request(&self, caller: &Caller<'_>, request: &HttpRequest<'_>) -> Result<HttpResponse> {
        let deadline = caller.deadline.clone().at_most(TOTAL);
        let mut hop = Hop::first(caller.context, request)?;
        for _ in 0..=REDIRECTS {
            let client = self.client(caller.context, &hop)?;
            let max = caller.context.grants().http_max_response;
            let answer = self.run(caller, &deadline, exchange(client, hop.clone(), max))?;
            match hop.redirected(caller.context, &answer)? {
                Some(next) => hop = next,
                None => return Ok(answer.into_response()),
            }
        }
        Err(Error::new(
            Kind::Io,
            format!("The HTTP request was redirected more than {REDIRECTS} times, the last time by {:?}.", hop.server()),
        ))
    }

    /// Runs the work of one exchange on the runtime while this thread waits for it.
    fn run(&self, caller: &Caller<'_>, deadline: &Deadline, work: impl Future<Output = Result<Answer>> + Send + 'static) -> Result<Answer> {
        let mut task = Task(self.handle.spawn(work));
        let waker = thread_waker();
        let mut context = Context::from_waker(&waker);
        let ready = || match Pin::new(&mut task.0).poll(&mut context) {
            Poll::Ready(done) => Some(done),
            Poll::Pending => None,
        };
        let ended = |_| Err(Error::new(Kind::Cancelled, "The HTTP request ended with its host."));
        wait(deadline, &caller.cancels(), |_| (), ready)?.unwrap_or_else(ended)
    }

    /// The plugin's client; a new one where the old has been to many servers.
    fn client(&self, plugin: &PluginContext, hop: &Hop) -> Result<Client> {
        let mut kept = plugin.connections().kept.lock().unwrap_or_else(PoisonError::into_inner);
        let server = hop.server();
        let many = !kept.servers.contains(&server) && kept.servers.len() >= SERVERS;
        if many || (hop.is_secure() && !kept.secure) {
            *kept = Kept::default();
        }
        kept.servers.insert(server);
        if let Some(client) = &kept.client {
            return Ok(client.clone());
        }
        kept.secure = hop.is_secure();
        // A plugin that speaks plain HTTP needs no certificates.
        let tls = if kept.secure { self.tls.get_or_try_init(|| roots::config(None))?.clone() } else { roots::none()? };
        let lookups = plugin.tally().lookups.clone();
        let client = legacy::Client::builder(TokioExecutor::new())
            .pool_timer(TokioTimer::new())
            .pool_idle_timeout(IDLE)
            .pool_max_idle_per_host(IDLE_EACH)
            .http1_max_buf_size(HEAD_MAX)
            .build(Connector::new(self.resolver.clone(), lookups, self.lookups.clone(), tls, &plugin.grants().http_private));
        Ok(kept.client.insert(client).clone())
    }
}

/// Work that ends when nobody waits for it any more.
struct Task(tokio::task::JoinHandle<Result<Answer>>);

impl Drop for Task {
    fn drop(&mut self) {
        self.0.abort();
    }
}
