//! Requests on an HTTP/2 connection, whoever works it, and what comes back: one message, or one after another.

use std::task::{Context, Poll, Waker};

use bytes::{Buf, Bytes, BytesMut};
use h2::client::{Builder, ResponseFuture, SendRequest};
use h2::{RecvStream, SendStream};
use http::uri::Scheme;

use crate::grpc::message::{self, Body, Failed, Outgoing};

/// Bytes that may be under way before the other side has read any, for a stream and for a connection.
const WINDOW: (u32, u32) = (1 << 20, 4 << 20);

/// The bytes of all headers of an answer, at most.
const HEADERS: u32 = 16 << 10;

/// The bytes of one message of a stream, at most.
const MESSAGE: usize = 4 << 20;

/// How every connection to a plugin is made.
pub(super) fn builder() -> Builder {
    let mut builder = Builder::new();
    builder.initial_window_size(WINDOW.0).initial_connection_window_size(WINDOW.1).max_header_list_size(HEADERS).enable_push(false);
    builder
}

/// Where the requests of a connection are put in.
#[derive(Clone)]
pub(super) struct Sender {
    requests: SendRequest<Bytes>,
    tls: bool,
}

impl Sender {
    pub(super) fn new(requests: SendRequest<Bytes>, tls: bool) -> Self {
        Sender { requests, tls }
    }

    /// Whether it takes requests, as far as is known.
    pub(super) fn is_open(&self) -> bool {
        // Without a request of its own that waits, nothing is waited for.
        matches!(self.requests.clone().poll_ready(&mut Context::from_waker(Waker::noop())), Poll::Ready(Ok(())))
    }

    /// Sends a request, and waits for the one message of its answer, of `limit` bytes at most. Dropped before, it is taken back.
    pub(super) fn call(&self, outgoing: Outgoing, limit: u64) -> impl Future<Output = Result<Bytes, Failed>> + use<> {
        // Before there is a future, which has to hold what it was given for as long as it waits.
        let opened = self.open(outgoing, true).map(|(response, _)| response);
        async move { message::answer(opened?.await?, limit).await }
    }

    /// Sends the beginning of a request, or all of it.
    pub(super) fn open(&self, outgoing: Outgoing, all: bool) -> Result<(ResponseFuture, SendStream<Bytes>), h2::Error> {
        let Outgoing { mut head, message } = outgoing;
        if self.tls {
            let mut parts = std::mem::take(head.uri_mut()).into_parts();
            parts.scheme = Some(Scheme::HTTPS);
            *head.uri_mut() = http::Uri::from_parts(parts).unwrap_or_default();
        }
        let (response, mut stream) = self.requests.clone().send_request(head, false)?;
        if all || !message.is_empty() {
            stream.send_data(message, all)?;
        }
        Ok((response, stream))
    }
}

/// The messages of an answer, as they come.
pub(super) struct Messages {
    body: Body,
    came: BytesMut,
}

impl Messages {
    /// Of a response; whatever it says of itself, it is a stream of messages or none.
    pub(super) fn new(response: http::Response<RecvStream>) -> Self {
        Messages { body: Body::new(response), came: BytesMut::new() }
    }

    /// The next one; none at the end, and where what comes is none or too large.
    pub(super) async fn next(&mut self) -> Option<Bytes> {
        loop {
            if let Some(message) = take(&mut self.came)? {
                return Some(message);
            }
            let data = self.body.data().await?.ok()?;
            self.came.extend_from_slice(&data);
        }
    }
}

/// The first message of what came, if it is whole; none where it will never be.
fn take(came: &mut BytesMut) -> Option<Option<Bytes>> {
    let [compressed, a, b, c, d, ..] = **came else { return Some(None) };
    let size = u32::from_be_bytes([a, b, c, d]) as usize;
    if compressed != 0 || size > MESSAGE {
        return None;
    }
    if came.len() < message::PREFIX + size {
        return Some(None);
    }
    came.advance(message::PREFIX);
    Some(Some(came.split_to(size).freeze()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn messages_are_taken_one_by_one() {
        let mut came = BytesMut::from(&b"\0\0\0\0\x02ab\0\0\0\0\0\0\0\0\0\x01"[..]);
        assert_eq!(take(&mut came).unwrap().unwrap(), "ab");
        assert_eq!(take(&mut came).unwrap().unwrap(), "");
        assert_eq!(take(&mut came), Some(None));
        came.extend_from_slice(b"c");
        assert_eq!(take(&mut came).unwrap().unwrap(), "c");
        assert_eq!(take(&mut came), Some(None));
        assert_eq!(take(&mut BytesMut::from(&b"\x01\0\0\0\0"[..])), None);
        assert_eq!(take(&mut BytesMut::from(&b"\0\0\x40\0\x01"[..])), None);
    }
}
