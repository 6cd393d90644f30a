//! The connection that the host's runtime works: for what lives longer than a call, and for calls that no thread waits for.

use std::future::poll_fn;
use std::pin::pin;
use std::sync::Arc;
use std::task::Poll;

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
        let mut current = self.0.current.lock().await;
        if let Some(connection) = current.as_ref().filter(|connection| connection.is_open()) {
            return Ok(connection.clone());
        }
        // In a place of its own: nearly every call finds one that is made.
        let made = Box::pin(self.0.connect()).await?;
        *current = Some(made.clone());
        Ok(made)
    }

    /// Lets go of the connection, behind one that is being made: nothing is asked any more. Does not wait for it.
    pub(super) fn close(&self) {
        let own = self.0.clone();
        self.0.runtime.spawn(async move { drop(own.current.lock().await.take()) });
    }
}

impl Inner {
    async fn connect(&self) -> Result<Arc<Connection>, Failed> {
        let lost = |e: &dyn std::fmt::Display| Failed::Lost(e.to_string());
        let socket = self.target.connect().await.map_err(|e| lost(&e))?;
        let (requests, connection) = stream::builder().handshake(socket).await.map_err(|e| lost(&e))?;
        let work = self.runtime.spawn(work(connection));
        Ok(Arc::new(Connection { sender: Sender::new(requests, self.target.tls.is_some()), work }))
    }
}

/// Works a connection, whenever it is woken once more: behind the calls that are ready then, so that what they put in goes out in one
/// write, and not each by itself.
async fn work<E>(connection: impl Future<Output = Result<(), E>>) {
    let mut connection = pin!(connection);
    let mut woken = true;
    loop {
        tokio::task::yield_now().await;
        let ended = poll_fn(|cx| Poll::Ready(connection.as_mut().poll(cx).is_ready())).await;
        if ended {
            return;
        }
        // Until it is woken.
        poll_fn(|_| {
            woken = !woken;
            if woken { Poll::Ready(()) } else { Poll::Pending }
        })
        .await;
    }
}

impl std::fmt::Debug for Remote {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Remote").field("address", &self.0.target.address).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::grpc::handshake::Address;
    use crate::grpc::message;
    use std::sync::Mutex as Lock;
    use std::sync::atomic::{AtomicUsize, Ordering};

    #[test]
    fn a_call_that_waits_takes_little_room() {
        let runtime = crate::runtime::driven_by_callers().unwrap();
        let target = Target { address: Address::Unix("/nowhere".into()), tls: None };
        let remote = Remote::new(runtime.handle(), &target);
        let call = remote.call(Outgoing::new("http://localhost/a/b", message::framed(&())), 0);
        assert!(size_of_val(&call) <= 1024, "{}", size_of_val(&call));
    }

    #[test]
    fn what_calls_put_in_together_goes_out_together() {
        let runtime = crate::runtime::shared(1).unwrap();
        let (put_in, looks, waker) = (Arc::new(AtomicUsize::new(0)), Arc::new(Lock::new(Vec::new())), Arc::new(Lock::new(None)));
        let (sum, seen, kept) = (put_in.clone(), looks.clone(), waker.clone());
        let connection = poll_fn(move |cx| {
            *kept.lock().unwrap() = Some(cx.waker().clone());
            let sum = sum.load(Ordering::SeqCst);
            seen.lock().unwrap().push(sum);
            if sum == 3 { Poll::Ready(Ok::<(), ()>(())) } else { Poll::Pending }
        });
        let worked = runtime.spawn(work(connection));
        runtime.block_on(async {
            while looks.lock().unwrap().is_empty() {
                tokio::task::yield_now().await;
            }
        });
        // From a task of the worker, so that it comes to them when all are there.
        runtime.spawn(async move {
            for _ in 0..3 {
                let (put_in, waker) = (put_in.clone(), waker.clone());
                tokio::spawn(async move {
                    put_in.fetch_add(1, Ordering::SeqCst);
                    // As a connection does: once, until it has looked again.
                    if let Some(waker) = waker.lock().unwrap().take() {
                        std::task::Waker::wake(waker);
                    }
                });
            }
        });
        runtime.block_on(worked).unwrap();
        assert_eq!(*looks.lock().unwrap(), [0, 3]);
    }
}
