//! Requests and replies as they stand on the wire: headers, and a message behind its five bytes.

use std::time::{Duration, Instant};

use bytes::{Buf, BufMut, Bytes, BytesMut};
use h2::{Reason, RecvStream};
use http::header::{CONTENT_TYPE, HeaderMap, HeaderName, HeaderValue, TE, USER_AGENT};
use prost::{EncodeError, Message};
use tonic::{Code, Status};

use crate::call::Call;
use crate::error::{Error, Kind};
use crate::grpc::dispatch::{Reply, Request};
use crate::grpc::pb::flowbot as pb;

/// The metadata by which a plugin tells for which call it calls its host.
pub(super) const CALL_ID: &str = "flowplug-call";

/// Compressed or not, and the length, before each message.
pub(super) const PREFIX: usize = 5;

/// Why there is no reply.
#[derive(Debug)]
pub(super) enum Failed {
    /// The plugin's status.
    Status(Status),
    /// The plugin gave the request up, which its deadline explains or nothing does: how it is put.
    GivenUp(String),
    /// The connection is of no use any more, or the request on it: why.
    Lost(String),
    /// What came is not an answer.
    Error(Error),
}

impl From<Status> for Failed {
    fn from(status: Status) -> Self {
        Failed::Status(status)
    }
}

impl From<h2::Error> for Failed {
    fn from(e: h2::Error) -> Self {
        match e.reason() {
            Some(Reason::CANCEL) => Failed::GivenUp(e.to_string()),
            Some(Reason::NO_ERROR) if e.is_reset() => bad("it ends without a status"),
            _ => Failed::Lost(e.to_string()),
        }
    }
}

/// What gRPC servers say of a call that they gave up at its deadline.
pub(super) const EXPIRED: &str = "Timeout expired";

/// A request as it is sent: its headers, and the message behind them.
pub(super) struct Outgoing {
    pub(super) head: http::Request<()>,
    pub(super) message: Bytes,
}

impl Outgoing {
    /// A message for the service at this address.
    pub(super) fn new(uri: &'static str, message: Bytes) -> Self {
        let mut head = http::Request::new(());
        *head.method_mut() = http::Method::POST;
        *head.uri_mut() = http::Uri::from_static(uri);
        *head.version_mut() = http::Version::HTTP_2;
        let headers = head.headers_mut();
        headers.reserve(6);
        headers.insert(TE, HeaderValue::from_static("trailers"));
        headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/grpc"));
        headers.insert(USER_AGENT, HeaderValue::from_static(concat!("flowplug/", env!("CARGO_PKG_VERSION"))));
        Outgoing { head, message }
    }
}

/// A message as it is sent.
pub(super) fn framed(message: &impl Message) -> Bytes {
    framed_by(message.encoded_len(), |out| message.encode(out))
}

fn framed_by(size: usize, encode: impl FnOnce(&mut BytesMut) -> Result<(), EncodeError>) -> Bytes {
    let mut message = BytesMut::with_capacity(PREFIX + size);
    message.put_u8(0);
    message.put_u32(u32::try_from(size).unwrap_or(u32::MAX));
    // The buffer has the room, and would grow.
    let _ = encode(&mut message);
    message.freeze()
}

/// The request of a call; `id` is the call's.
pub(super) fn request(request: &Request, size: usize, call: &Call, moment: Option<Instant>, id: &str) -> Outgoing {
    let mut made = Outgoing::new(uri(request), framed_by(size, |out| encode(request, out)));
    let headers = made.head.headers_mut();
    if let Some(moment) = moment {
        insert(headers, "grpc-timeout", &timeout(moment.saturating_duration_since(Instant::now())));
    }
    insert(headers, CALL_ID, id);
    if !call.traceparent.is_empty() {
        insert(headers, "traceparent", &call.traceparent);
    }
    made
}

/// A header that is another for each call: sent as it is, and not remembered by either side's compression.
fn insert(headers: &mut HeaderMap, name: &'static str, value: &str) {
    if let Ok(mut value) = HeaderValue::from_str(value) {
        value.set_sensitive(true);
        headers.insert(HeaderName::from_static(name), value);
    }
}

/// A time as gRPC has it: at most eight digits and a unit.
fn timeout(left: Duration) -> String {
    match (left.as_micros(), left.as_millis(), left.as_secs()) {
        (micros, ..) if micros < 100_000_000 => format!("{micros}u"),
        (_, millis, _) if millis < 100_000_000 => format!("{millis}m"),
        (.., seconds) => format!("{}S", seconds.min(99_999_999)),
    }
}

fn uri(request: &Request) -> &'static str {
    macro_rules! of {
        ($name:literal) => {
            concat!("http://localhost/flowbot.plugin.PluginService/", $name)
        };
    }
    match request {
        Request::Init(_) => of!("Init"),
        Request::IsReady => of!("IsReady"),
        Request::Bootstrap => of!("Bootstrap"),
        Request::Rules => of!("Rules"),
        Request::Help => of!("Help"),
        Request::Command(_) => of!("Command"),
        Request::Form(_) => of!("Form"),
        Request::AbilityCall(_) => of!("AbilityCall"),
        Request::WebhookConvert(_) => of!("WebhookConvert"),
        Request::OAuthCallback(_) => of!("OAuthCallback"),
    }
}

fn encode(request: &Request, out: &mut BytesMut) -> Result<(), EncodeError> {
    match request {
        Request::IsReady | Request::Bootstrap | Request::Rules | Request::Help => Ok(()),
        Request::Init(m) => m.encode(out),
        Request::Command(m) => m.encode(out),
        Request::Form(m) => m.encode(out),
        Request::AbilityCall(m) => m.encode(out),
        Request::WebhookConvert(m) => m.encode(out),
        Request::OAuthCallback(m) => m.encode(out),
    }
}

/// The whole answer in a response: its message, of `limit` bytes at most.
pub(super) async fn answer(response: http::Response<RecvStream>, limit: u64) -> Result<Bytes, Failed> {
    if response.status() != http::StatusCode::OK {
        return Err(Failed::Status(not_ok(response.status())));
    }
    if let Some(status) = status(response.headers()) {
        return Err(if status.code() == Code::Ok { bad("it holds no message") } else { Failed::Status(status) });
    }
    let mut body = Body::new(response);
    let mut gathered = Gathered::default();
    while let Some(data) = body.data().await {
        gathered.take(data?, limit)?;
    }
    match body.trailers().await?.as_ref().and_then(status) {
        Some(status) if status.code() == Code::Ok => gathered.whole(),
        Some(status) => Err(Failed::Status(status)),
        None => Err(bad("it ends without a status")),
    }
}

/// What is still to come of an answer. A panic forgets it: h2 drops it under a lock, and panics again where that is poisoned,
/// which would end the program.
pub(super) struct Body(Option<RecvStream>);

impl Body {
    pub(super) fn new(response: http::Response<RecvStream>) -> Self {
        Body(Some(response.into_body()))
    }

    /// The next piece, of which the plugin may now send as much again; none at the end.
    pub(super) async fn data(&mut self) -> Option<Result<Bytes, h2::Error>> {
        let body = self.0.as_mut()?;
        let data = body.data().await?;
        Some(data.and_then(|data| body.flow_control().release_capacity(data.len()).map(|()| data)))
    }

    async fn trailers(&mut self) -> Result<Option<HeaderMap>, h2::Error> {
        match &mut self.0 {
            Some(body) => body.trailers().await,
            None => Ok(None),
        }
    }
}

impl Drop for Body {
    fn drop(&mut self) {
        if std::thread::panicking() {
            std::mem::forget(self.0.take());
        }
    }
}

/// What has come of a message.
#[derive(Default)]
struct Gathered {
    /// The first piece, which mostly is all.
    first: Bytes,
    /// All of them, where there are more.
    all: BytesMut,
    /// How many bytes it will be, with those before it.
    size: Option<usize>,
}

impl Gathered {
    fn take(&mut self, data: Bytes, limit: u64) -> Result<(), Failed> {
        if self.first.is_empty() {
            self.first = data;
        } else {
            if self.all.is_empty() {
                self.all.reserve(self.size.unwrap_or(0).max(self.first.len() + data.len()));
                self.all.extend_from_slice(&self.first);
            }
            self.all.extend_from_slice(&data);
        }
        let so_far: &[u8] = if self.all.is_empty() { &self.first } else { &self.all };
        if self.size.is_none()
            && let [compressed, a, b, c, d, ..] = *so_far
        {
            let size = u32::from_be_bytes([a, b, c, d]);
            if u64::from(size) > limit {
                let text = format!("The plugin's answer is larger than the policy grants (message_size): {size} bytes, of {limit}.");
                return Err(Failed::Error(Error::new(Kind::InvalidResponse, text)));
            }
            if compressed != 0 {
                return Err(bad("it is compressed, which was not offered"));
            }
            self.size = Some(size as usize + PREFIX);
        }
        if self.size.is_some_and(|size| so_far.len() > size) { Err(bad("it holds more than one message")) } else { Ok(()) }
    }

    fn whole(self) -> Result<Bytes, Failed> {
        let mut message = if self.all.is_empty() { self.first } else { self.all.freeze() };
        match self.size {
            Some(size) if size == message.len() => {
                message.advance(PREFIX);
                Ok(message)
            }
            Some(_) => Err(bad("its message is cut off")),
            None => Err(bad("it holds no message")),
        }
    }
}

fn bad(what: &str) -> Failed {
    Failed::Error(Error::new(Kind::InvalidResponse, format!("The plugin's answer is not a message of the protocol: {what}.")))
}

/// What a message says, that answers this request.
pub(super) fn decode(request: &Request, message: Bytes) -> Result<Reply, Failed> {
    let none = String::new();
    let decoded = match request {
        Request::Init(_) | Request::Bootstrap => <()>::decode(message).map(|()| (none.clone(), none)),
        Request::IsReady => pb::IsReadyResponse::decode(message).map(|m| (m.ready.to_string(), none)),
        Request::Rules => pb::RulesResponse::decode(message).map(|m| (m.rules, m.error)),
        Request::Help => pb::HelpResponse::decode(message).map(|m| (m.help, m.error)),
        Request::Command(_) => pb::CommandResponse::decode(message).map(|m| (m.payload, m.error)),
        Request::Form(_) => pb::FormResponse::decode(message).map(|m| (m.payload, m.error)),
        Request::AbilityCall(_) | Request::WebhookConvert(_) | Request::OAuthCallback(_) => {
            pb::CallResponse::decode(message).map(|m| (m.result, m.error))
        }
    };
    decoded.map_err(|e| bad(&e.to_string()))
}

/// The plugin's status. Not tonic's own reading of it, which panics on details that are not base64.
fn status(headers: &HeaderMap) -> Option<Status> {
    let code = Code::from_bytes(headers.get("grpc-status")?.as_bytes());
    let message = headers.get("grpc-message").map_or_else(String::new, |text| unescape(text.as_bytes()));
    Some(Status::new(code, message))
}

/// A text as gRPC has it in headers: what is not plain is `%` and two hexadecimal digits.
fn unescape(text: &[u8]) -> String {
    let mut out = Vec::with_capacity(text.len());
    let mut rest = text;
    loop {
        rest = match rest {
            [] => return String::from_utf8_lossy(&out).into_owned(),
            [b'%', high, low, rest @ ..] if high.is_ascii_hexdigit() && low.is_ascii_hexdigit() => {
                let digit = |c: &u8| char::from(*c).to_digit(16).unwrap_or(0);
                out.push(u8::try_from(digit(high) << 4 | digit(low)).unwrap_or(0));
                rest
            }
            [plain, rest @ ..] => {
                out.push(*plain);
                rest
            }
        };
    }
}

/// What a server means that answers with a plain HTTP status, by gRPC's table.
fn not_ok(status: http::StatusCode) -> Status {
    let code = match status.as_u16() {
        400 => Code::Internal,
        401 => Code::Unauthenticated,
        403 => Code::PermissionDenied,
        404 => Code::Unimplemented,
        429 | 502 | 503 | 504 => Code::Unavailable,
        _ => Code::Unknown,
    };
    Status::new(code, format!("HTTP status {status}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn gathered(pieces: &[&[u8]], limit: u64) -> Result<Vec<u8>, String> {
        let text = |failed| match failed {
            Failed::Error(e) => e.message().to_owned(),
            other => panic!("{other:?}"),
        };
        let mut gathered = Gathered::default();
        for piece in pieces {
            gathered.take(Bytes::copy_from_slice(piece), limit).map_err(text)?;
        }
        gathered.whole().map(|message| message.to_vec()).map_err(text)
    }

    #[test]
    fn a_message_is_put_together_from_any_pieces() {
        let whole = b"\0\0\0\0\x04abcd";
        for first in 0..=whole.len() {
            for second in first..=whole.len() {
                let pieces = [&whole[..first], &whole[first..second], &whole[second..]];
                assert_eq!(gathered(&pieces, 4).unwrap(), b"abcd", "{first} {second}");
            }
        }
        assert_eq!(gathered(&[b"\0\0\0\0\0"], 4).unwrap(), b"");
    }

    #[test]
    fn what_is_no_message_says_so() {
        let fails = |pieces: &[&[u8]], why: &str| {
            let said = gathered(pieces, 4).unwrap_err();
            assert!(said.contains(why), "{said}");
        };
        fails(&[], "no message");
        fails(&[b"\0\0\0"], "no message");
        fails(&[b"\0\0\0\0\x04abc"], "cut off");
        fails(&[b"\0\0\0\0\x04abcd", b"e"], "more than one");
        fails(&[b"\x01\0\0\0\x04abcd"], "compressed");
        fails(&[b"\0\0\0\0", b"\x05"], "message_size");
        fails(&[b"\0\xff\xff\xff\xff"], "message_size");
    }

    #[test]
    fn a_status_is_read_whatever_stands_beside_it() {
        let read = |pairs: &[(&'static str, &'static str)]| {
            let headers = pairs.iter().map(|(name, value)| (HeaderName::from_static(name), HeaderValue::from_static(value))).collect();
            status(&headers).map(|status| (status.code(), status.message().to_owned()))
        };
        assert_eq!(read(&[]), None);
        assert_eq!(read(&[("grpc-status", "0")]), Some((Code::Ok, String::new())));
        let odd = [("grpc-status", "5"), ("grpc-message", "%C3%A4 %zz%4"), ("grpc-status-details-bin", "!!!")];
        assert_eq!(read(&odd), Some((Code::NotFound, "\u{e4} %zz%4".to_owned())));
        assert_eq!(read(&[("grpc-status", "x")]), Some((Code::Unknown, String::new())));
    }

    #[test]
    fn a_timeout_has_eight_digits_at_most() {
        for (left, text) in [(1, "1u"), (99_999_999, "99999999u"), (100_000_000, "100000m"), (99_999_999_999, "99999999m")] {
            assert_eq!(timeout(Duration::from_micros(left)), text);
        }
        assert_eq!(timeout(Duration::from_secs(100_000)), "100000S");
        assert_eq!(timeout(Duration::MAX), "99999999S");
    }
}
