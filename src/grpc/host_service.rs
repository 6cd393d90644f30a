//! `HostService`: what a plugin's process asks of its host, over a socket and with a token of its own.
//!
//! The connections are served on the shared runtime; what the embedding program answers, it answers on threads that may block.

use std::sync::Arc;
use std::time::Duration;

use serde_json::json;
use serde_json::value::RawValue;
use tokio::sync::Semaphore;
use tonic::metadata::MetadataMap;
use tonic::service::interceptor::InterceptedService;
use tonic::{Code, Request, Response, Status};

use crate::call::{Cancel, Chain, Deadline};
use crate::error::{Error, Kind, Result};
use crate::grpc::calls::Calls;
use crate::grpc::client::CALL_ID;
use crate::grpc::pb::flowbot as pb;
use crate::grpc::pb::flowbot::host_service_server::{HostService, HostServiceServer};
use crate::host::{Caller, HttpRequest, Level, PluginContext};

/// Host calls of one plugin that are answered at once; more wait.
const AT_ONCE: usize = 32;

/// How long a host call may take that belongs to no call and names no deadline.
const DEADLINE: Duration = Duration::from_secs(30);

/// The answers to one plugin.
#[derive(Debug)]
pub(super) struct Service {
    context: Arc<PluginContext>,
    calls: Arc<Calls>,
    room: Arc<Semaphore>,
}

impl Service {
    pub(super) fn new(context: Arc<PluginContext>, calls: Arc<Calls>) -> Self {
        Service { context, calls, room: Arc::new(Semaphore::new(AT_ONCE)) }
    }

    /// Serves the plugin that knows the token, on every connection to the listener, until its process is gone. What had
    /// left the process's group and lives on is refused then.
    pub(super) async fn serve(self, listener: tokio::net::UnixListener, token: String, gone: Cancel) {
        let size = usize::try_from(self.context.grants().message_size).unwrap_or(usize::MAX);
        let service = HostServiceServer::new(self).max_decoding_message_size(size).max_encoding_message_size(size);
        let ended = gone.clone();
        let guarded = InterceptedService::new(service, move |request: Request<()>| authorize(request, &token, &ended));
        let connections = tokio_stream::wrappers::UnixListenerStream::new(listener);
        let server = tonic::transport::Server::builder().max_concurrent_streams(AT_ONCE as u32).serve_with_incoming(guarded, connections);
        tokio::select! {
            _ = server => (),
            () = gone.cancelled() => (),
        }
    }

    /// Answers one request on a thread that may block, on behalf of the call whose id came with it.
    async fn answer<R: Send + 'static>(
        &self,
        metadata: &MetadataMap,
        work: impl FnOnce(&Caller<'_>) -> Result<R> + Send + 'static,
    ) -> Result<R> {
        let lost = |_| Error::new(Kind::Internal, "The host call was not answered: its callback panicked, or the host is closing.");
        let room = self.room.clone().acquire_owned().await.map_err(|_| Error::new(Kind::Unavailable, "The host is closing."))?;
        let own = metadata.get("grpc-timeout").and_then(|value| timeout(value.to_str().ok()?));
        let flight = metadata.get(CALL_ID).and_then(|id| self.calls.find(id.to_str().ok()?));
        let context = self.context.clone();
        let answered = tokio::task::spawn_blocking(move || {
            let _room = room;
            let deadline = match (&flight, own) {
                (Some(flight), Some(own)) => flight.call.deadline.clone().at_most(own),
                (Some(flight), None) => flight.call.deadline.clone(),
                (None, own) => Deadline::after(own.unwrap_or(DEADLINE)),
            };
            let chain = match &flight {
                Some(flight) => flight.call.chain,
                None => Chain::default().enter(context.serial())?,
            };
            let caller = Caller {
                context: &context,
                function: flight.as_ref().map_or("", |flight| &flight.function),
                tag: flight.as_ref().map_or(0, |flight| flight.call.tag),
                traceparent: flight.as_ref().map_or("", |flight| &flight.call.traceparent),
                deadline: &deadline,
                cancel: flight.as_ref().and_then(|flight| flight.call.cancel.as_ref()),
                chain,
            };
            chain.scope(|| work(&caller))
        });
        answered.await.map_err(lost)?
    }
}

/// Lets a request through that carries the plugin's own token, while its process lives.
fn authorize(request: Request<()>, token: &str, gone: &Cancel) -> Result<Request<()>, Status> {
    if gone.is_set() {
        return Err(Status::unavailable("The plugin's process has ended."));
    }
    let given = request.metadata().get("authorization").and_then(|value| value.as_bytes().strip_prefix(b"Bearer "));
    if given.is_some_and(|given| same(given, token.as_bytes())) {
        return Ok(request);
    }
    Err(Status::unauthenticated("Send the metadata \"authorization: Bearer <token>\" with the token in FLOWBOT_HOST_TOKEN."))
}

/// Whether two texts are the same, in a time that does not tell where they differ.
fn same(a: &[u8], b: &[u8]) -> bool {
    a.len() == b.len() && a.iter().zip(b).fold(0, |differ, (a, b)| differ | std::hint::black_box(a ^ b)) == 0
}

/// The value of `grpc-timeout`: at most eight digits and a unit.
fn timeout(value: &str) -> Option<Duration> {
    let (digits, unit) = value.split_at_checked(value.len().checked_sub(1)?)?;
    if digits.len() > 8 || !digits.bytes().all(|byte| byte.is_ascii_digit()) {
        return None;
    }
    let count: u64 = digits.parse().ok()?;
    Some(match unit {
        "H" => Duration::from_secs(count * 3600),
        "M" => Duration::from_secs(count * 60),
        "S" => Duration::from_secs(count),
        "m" => Duration::from_millis(count),
        "u" => Duration::from_micros(count),
        "n" => Duration::from_nanos(count),
        _ => return None,
    })
}

/// An error as a status, for answers that have no field for it.
fn status(error: Error) -> Status {
    let code = match error.kind() {
        Kind::InvalidArgument | Kind::InvalidConfig => Code::InvalidArgument,
        Kind::NotFound => Code::NotFound,
        Kind::PermissionDenied => Code::PermissionDenied,
        Kind::Timeout => Code::DeadlineExceeded,
        Kind::Cancelled => Code::Cancelled,
        Kind::Busy => Code::ResourceExhausted,
        Kind::Unavailable => Code::Unavailable,
        Kind::Unsupported => Code::Unimplemented,
        Kind::Internal => Code::Internal,
        _ => Code::Unknown,
    };
    Status::new(code, error.message())
}

#[tonic::async_trait]
impl HostService for Service {
    async fn get_config(&self, request: Request<pb::GetConfigRequest>) -> Result<Response<pb::GetConfigResponse>, Status> {
        let (metadata, _, m) = request.into_parts();
        let found = self.answer(&metadata, move |caller| {
            let value = caller.get_config(&m.key)?.unwrap_or_default();
            String::from_utf8(value).map_err(|_| Error::new(Kind::Host, "The value is not UTF-8, and the protocol carries text."))
        });
        Ok(Response::new(match found.await {
            Ok(value) => pb::GetConfigResponse { value, error: String::new() },
            Err(e) => pb::GetConfigResponse { value: String::new(), error: e.to_string() },
        }))
    }

    async fn log(&self, request: Request<pb::LogRequest>) -> Result<Response<()>, Status> {
        let (metadata, _, m) = request.into_parts();
        let mut fields: Vec<_> = m.fields.into_iter().collect();
        fields.sort();
        let logged = self.answer(&metadata, move |caller| {
            caller.log(Level::from_name(&m.level), &m.message, &fields);
            Ok(())
        });
        logged.await.map(Response::new).map_err(status)
    }

    async fn kv_get(&self, request: Request<pb::KvGetRequest>) -> Result<Response<pb::KvGetResponse>, Status> {
        let (metadata, _, m) = request.into_parts();
        Ok(Response::new(match self.answer(&metadata, move |caller| caller.kv_get(&m.key)).await {
            Ok(Some(value)) => pb::KvGetResponse { value, error: String::new(), missing: false },
            Ok(None) => pb::KvGetResponse { value: Vec::new(), error: String::new(), missing: true },
            Err(e) => pb::KvGetResponse { value: Vec::new(), error: e.to_string(), missing: false },
        }))
    }

    async fn kv_set(&self, request: Request<pb::KvSetRequest>) -> Result<Response<()>, Status> {
        let (metadata, _, m) = request.into_parts();
        self.answer(&metadata, move |caller| caller.kv_set(&m.key, &m.value)).await.map(Response::new).map_err(status)
    }

    async fn kv_delete(&self, request: Request<pb::KvDeleteRequest>) -> Result<Response<()>, Status> {
        let (metadata, _, m) = request.into_parts();
        self.answer(&metadata, move |caller| caller.kv_delete(&m.key)).await.map(Response::new).map_err(status)
    }

    async fn http_request(&self, request: Request<pb::HttpCallRequest>) -> Result<Response<pb::HttpCallResponse>, Status> {
        let (metadata, _, m) = request.into_parts();
        let answered = self.answer(&metadata, move |caller| {
            let mut headers: Vec<(&str, &str)> = m.headers.iter().map(|(k, v)| (k.as_str(), v.as_str())).collect();
            headers.sort_unstable();
            caller.http_request(&HttpRequest { method: &m.method, url: &m.url, headers: &headers, body: &m.body })
        });
        Ok(Response::new(match answered.await {
            Ok(r) => pb::HttpCallResponse { status: r.status, headers: joined(r.headers), body: r.body, error: String::new() },
            Err(e) => pb::HttpCallResponse { error: e.to_string(), ..Default::default() },
        }))
    }

    async fn emit_event(&self, request: Request<pb::EmitEventRequest>) -> Result<Response<()>, Status> {
        let (metadata, _, m) = request.into_parts();
        let emitted = self.answer(&metadata, move |caller| caller.emit_event(&event(&m)?));
        emitted.await.map(Response::new).map_err(status)
    }
}

/// Headers by name; what came several times under one name is joined as HTTP joins it.
fn joined(headers: Vec<(String, String)>) -> std::collections::HashMap<String, String> {
    let mut out = std::collections::HashMap::<String, String>::new();
    for (name, value) in headers {
        out.entry(name)
            .and_modify(|all| {
                all.push_str(", ");
                all.push_str(&value);
            })
            .or_insert(value);
    }
    out
}

/// The payload, a JSON object, becomes the data of an event.
fn event(m: &pb::EmitEventRequest) -> Result<String> {
    let payload = if m.payload.trim().is_empty() { "{}" } else { &m.payload };
    let data = serde_json::from_str::<&RawValue>(payload).ok().filter(|raw| raw.get().starts_with('{'));
    let data = data.ok_or_else(|| Error::new(Kind::InvalidArgument, "The payload of an event must be a JSON object."))?;
    // Put together as text, so that the payload stays as it was written.
    Ok(format!("{{\"event_type\":{},\"source\":{},\"data\":{}}}", json!(m.event_type), json!(m.source), data.get()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_deadline_of_a_host_call_is_understood() {
        for (text, expected) in [
            ("100m", Some(Duration::from_millis(100))),
            ("99999999H", Some(Duration::from_secs(99_999_999 * 3600))),
            ("5S", Some(Duration::from_secs(5))),
            ("100000000n", None),
            ("-1S", None),
            ("S", None),
            ("5", None),
            ("", None),
            ("5é", None),
        ] {
            assert_eq!(timeout(text), expected, "{text}");
        }
    }

    #[test]
    fn an_event_keeps_its_payload_to_the_letter() {
        let made = |payload: &str| event(&pb::EmitEventRequest { source: "s\"".into(), event_type: "t".into(), payload: payload.into() });
        assert_eq!(made(r#" {"n": 1.10} "#).unwrap(), r#"{"event_type":"t","source":"s\"","data":{"n": 1.10}}"#);
        assert_eq!(made("").unwrap(), r#"{"event_type":"t","source":"s\"","data":{}}"#);
        assert_eq!(made("[1]").unwrap_err().kind(), Kind::InvalidArgument);
        assert!(same(b"abc", b"abc") && !same(b"abc", b"abd") && !same(b"abc", b"ab"));
    }
}
