//! The door of the host service: who comes in, how many at once, and until when.

use std::convert::Infallible;
use std::future::Future;
use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use http_body_util::BodyExt;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::{UnixListener, UnixStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc};
use tokio_stream::wrappers::ReceiverStream;
use tonic::Status;
use tonic::body::Body;
use tonic::server::NamedService;
use tonic::transport::server::Connected;

use crate::call::Cancel;
use crate::grpc::tls::{Stream, Tls};

/// Connections of one plugin that are served at once; more wait.
const CONNECTIONS: usize = 64;

/// Host calls of one plugin that are under way at once, over all its connections, from the first byte of the request to the
/// last of the answer; more wait. It bounds the messages that are held for a plugin, too.
pub(super) const AT_ONCE: usize = 32;

/// How long no connection is accepted after the system has refused one.
const PAUSE: Duration = Duration::from_millis(100);

/// One plugin's, open until its process is gone.
#[derive(Clone, Debug)]
pub(super) struct Door {
    gone: Cancel,
    connections: Arc<Semaphore>,
    room: Arc<Semaphore>,
}

/// How a request shows whose it is.
#[derive(Clone, Debug)]
pub(super) enum Key {
    /// By the token that the process was given.
    Token(Arc<str>),
    /// By the listener that it came through, which was announced to the one process.
    Listener,
}

/// A request's place among those that are under way, for as long as anybody holds it.
#[derive(Clone, Debug)]
pub(super) struct Place(#[expect(dead_code, reason = "held, never read")] Arc<OwnedSemaphorePermit>);

impl Door {
    pub(super) fn new(gone: Cancel) -> Self {
        Door { gone, connections: Arc::new(Semaphore::new(CONNECTIONS)), room: Arc::new(Semaphore::new(AT_ONCE)) }
    }

    /// Serves who comes to the listener, until the plugin's process is gone. What had left the process's group and lives on
    /// loses its connections then.
    pub(super) async fn serve<S>(self, service: S, listener: UnixListener, key: Key, tls: Option<Tls>)
    where
        S: tower::Service<http::Request<Body>, Response = http::Response<Body>, Error = Infallible>,
        S: NamedService + Clone + Send + Sync + 'static,
        S::Future: Send + 'static,
    {
        let gone = self.gone.clone();
        let guarded = Guarded { service, door: self.clone(), key };
        let guests = self.guests(listener, tls);
        let server = tonic::transport::Server::builder().max_concurrent_streams(AT_ONCE as u32);
        let served = server.serve_with_incoming(guarded, guests);
        tokio::select! {
            _ = served => (),
            () = gone.cancelled() => (),
        }
    }

    /// The connections, as they come.
    fn guests(self, listener: UnixListener, tls: Option<Tls>) -> ReceiverStream<io::Result<Guest>> {
        let (come, guests) = mpsc::channel(1);
        tokio::spawn(async move {
            tokio::select! {
                () = self.accept(listener, tls, &come) => (),
                () = come.closed() => (),
            }
        });
        ReceiverStream::new(guests)
    }

    async fn accept(self, listener: UnixListener, tls: Option<Tls>, come: &mpsc::Sender<io::Result<Guest>>) {
        loop {
            let Ok((socket, _)) = listener.accept().await else {
                // Too many open files, say: that passes, and must not end what is served.
                tokio::time::sleep(PAUSE).await;
                continue;
            };
            // One that waits here holds up the listener's others, and nobody's but this plugin's.
            let Ok(place) = self.connections.clone().acquire_owned().await else { return };
            let (tls, gone, come) = (tls.clone(), self.gone.clone(), come.clone());
            tokio::spawn(async move {
                let agreed = tokio::select! {
                    agreed = welcome(socket, tls) => agreed,
                    () = come.closed() => return,
                };
                // Who is refused learns it by TLS itself.
                let Ok(stream) = agreed else { return };
                let ended = gone.clone();
                let wakes = Box::pin(async move { ended.cancelled().await });
                drop(come.send(Ok(Guest { stream, gone, wakes, _place: place })).await);
            });
        }
    }
}

async fn welcome(socket: UnixStream, tls: Option<Tls>) -> io::Result<Stream<UnixStream>> {
    match tls {
        Some(tls) => tls.accept(socket).await,
        None => Ok(Stream::Plain(socket)),
    }
}

/// A connection of the plugin's. It ends when the process does, whoever holds its other end.
struct Guest {
    stream: Stream<UnixStream>,
    gone: Cancel,
    wakes: Pin<Box<dyn Future<Output = ()> + Send>>,
    _place: OwnedSemaphorePermit,
}

impl Connected for Guest {
    type ConnectInfo = ();

    fn connect_info(&self) {}
}

impl Guest {
    /// What the stream says of it, unless the process is gone: then the connection is broken, whoever still holds the other
    /// end and does not read.
    fn while_there<T>(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        poll: impl FnOnce(Pin<&mut Stream<UnixStream>>, &mut Context<'_>) -> Poll<io::Result<T>>,
    ) -> Poll<io::Result<T>> {
        let guest = self.get_mut();
        if !guest.gone.is_set() {
            let polled = poll(Pin::new(&mut guest.stream), cx);
            if polled.is_ready() || guest.wakes.as_mut().poll(cx).is_pending() {
                return polled;
            }
        }
        Poll::Ready(Err(io::ErrorKind::BrokenPipe.into()))
    }
}

impl AsyncRead for Guest {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        match self.while_there(cx, |stream, cx| stream.poll_read(cx, buf)) {
            // As if the other end had hung up, however much it still says.
            Poll::Ready(Err(e)) if e.kind() == io::ErrorKind::BrokenPipe => Poll::Ready(Ok(())),
            read => read,
        }
    }
}

impl AsyncWrite for Guest {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        self.while_there(cx, |stream, cx| stream.poll_write(cx, buf))
    }

    fn poll_write_vectored(self: Pin<&mut Self>, cx: &mut Context<'_>, parts: &[io::IoSlice<'_>]) -> Poll<io::Result<usize>> {
        self.while_there(cx, |stream, cx| stream.poll_write_vectored(cx, parts))
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.while_there(cx, |stream, cx| stream.poll_flush(cx))
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.while_there(cx, |stream, cx| stream.poll_shutdown(cx))
    }
}

/// A service that only the plugin reaches, and only so many of its requests at once.
#[derive(Clone)]
struct Guarded<S> {
    service: S,
    door: Door,
    key: Key,
}

impl<S: NamedService> NamedService for Guarded<S> {
    const NAME: &'static str = S::NAME;
}

impl<S> tower::Service<http::Request<Body>> for Guarded<S>
where
    S: tower::Service<http::Request<Body>, Response = http::Response<Body>, Error = Infallible> + Clone + Send + 'static,
    S::Future: Send + 'static,
{
    type Response = http::Response<Body>;
    type Error = Infallible;
    type Future = Pin<Box<dyn Future<Output = Result<Self::Response, Infallible>> + Send>>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        self.service.poll_ready(cx)
    }

    fn call(&mut self, mut request: http::Request<Body>) -> Self::Future {
        let allowed = self.key.fits(request.headers(), &self.door.gone);
        let (room, mut service) = (self.door.room.clone(), self.service.clone());
        Box::pin(async move {
            if let Err(status) = allowed {
                return Ok(status.into_http());
            }
            let Ok(place) = room.acquire_owned().await else {
                return Ok(Status::unavailable("The host is closing.").into_http());
            };
            let place = Place(Arc::new(place));
            request.extensions_mut().insert(place.clone());
            let response = service.call(request).await?;
            // Kept until the answer has been taken.
            Ok(response.map(|body| {
                Body::new(body.map_frame(move |frame| {
                    let _held = &place;
                    frame
                }))
            }))
        })
    }
}

impl Key {
    /// Whether a request may pass, while the process lives.
    fn fits(&self, headers: &http::HeaderMap, gone: &Cancel) -> Result<(), Status> {
        if gone.is_set() {
            return Err(Status::unavailable("The plugin's process has ended."));
        }
        let Key::Token(token) = self else { return Ok(()) };
        let given = headers.get("authorization").and_then(|value| value.as_bytes().strip_prefix(b"Bearer "));
        if given.is_some_and(|given| same(given, token.as_bytes())) {
            return Ok(());
        }
        Err(Status::unauthenticated("Send the metadata \"authorization: Bearer <token>\" with the token in FLOWBOT_HOST_TOKEN."))
    }
}

/// Whether two texts are the same, in a time that does not tell where they differ.
fn same(a: &[u8], b: &[u8]) -> bool {
    a.len() == b.len() && a.iter().zip(b).fold(0, |differ, (a, b)| differ | std::hint::black_box(a ^ b)) == 0
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};

    use super::*;

    #[test]
    fn a_write_that_nobody_reads_ends_with_the_process() {
        let limit = Duration::from_secs(30);
        let ended = crate::runtime::driven_by_callers().unwrap().block_on(async {
            let (socket, _silent) = UnixStream::pair().unwrap();
            let (gone, room) = (Cancel::new(), Arc::new(Semaphore::new(1)));
            let ended = gone.clone();
            let wakes = Box::pin(async move { ended.cancelled().await });
            let place = room.acquire_owned().await.unwrap();
            let mut guest = Guest { stream: Stream::Plain(socket), gone: gone.clone(), wakes, _place: place };
            let piece = vec![0; 64 * 1024];
            // Until the system holds no more of it.
            while is_ready(guest.write_all(&piece)) {}
            let (written, ()) = tokio::join!(tokio::time::timeout(limit, guest.write_all(&piece)), async { gone.cancel() });
            let kind = |result: io::Result<()>| result.unwrap_err().kind();
            let after = [kind(written.unwrap()), kind(guest.flush().await), kind(guest.shutdown().await)];
            (after, guest.read(&mut [0]).await.unwrap())
        });
        assert_eq!(ended, ([io::ErrorKind::BrokenPipe; 3], 0));
    }

    /// Whether a future is ready when it is asked once.
    fn is_ready(work: impl Future) -> bool {
        let mut work = std::pin::pin!(work);
        work.as_mut().poll(&mut Context::from_waker(std::task::Waker::noop())).is_ready()
    }

    #[test]
    fn texts_are_compared_whole() {
        assert!(same(b"abc", b"abc") && !same(b"abc", b"abd") && !same(b"abc", b"ab"));
    }
}
