//! `HostService`: what a plugin's process asks of its host, over a socket and with a token of its own.
//!
//! The connections are served on the shared runtime; what the embedding program answers, it answers on threads of their own.

use std::sync::Arc;
use std::time::Duration;

use serde_json::json;
use serde_json::value::RawValue;
use tokio::runtime::Handle;
use tonic::{Code, Request, Response, Status};

use crate::call::{Cancel, Chain, Deadline};
use crate::error::{Error, Kind, Result};
use crate::grpc::calls::Calls;
use crate::grpc::client;
use crate::grpc::door::{Door, Key, Place};
use crate::grpc::message::CALL_ID;
use crate::grpc::pb::flowbot as pb;
use crate::grpc::pb::flowbot::host_service_server::{HostService, HostServiceServer};
use crate::grpc::tls::Tls;
use crate::host::{Caller, HttpRequest, Level, PluginContext};

/// How long a host call may take that belongs to no call, whatever deadline it names.
const DEADLINE: Duration = Duration::from_secs(30);

/// The answers to one plugin.
#[derive(Debug)]
pub(super) struct Service {
    context: Arc<PluginContext>,
    calls: Arc<Calls>,
    threads: Handle,
}

/// Sets its token when it is dropped: whoever waited does not wait any more.
struct Waits(Cancel);

impl Drop for Waits {
    fn drop(&mut self) {
        self.0.cancel();
    }
}

impl Service {
    pub(super) fn new(context: Arc<PluginContext>, calls: Arc<Calls>, threads: Handle) -> Arc<Self> {
        Arc::new(Service { context, calls, threads })
    }

    /// Serves the plugin, which comes to the listener with the key, until its process is gone.
    pub(super) async fn serve(self: Arc<Self>, door: Door, listener: tokio::net::UnixListener, key: Key, tls: Option<Tls>) {
        let size = usize::try_from(self.context.grants().message_size).unwrap_or(usize::MAX);
        let service = HostServiceServer::from_arc(self).max_decoding_message_size(size).max_encoding_message_size(size);
        door.serve(service, listener, key, tls).await;
    }

    /// Answers one request on a thread that may block, on behalf of the call whose id came with it. The answer is given up
    /// with that call, and when nobody waits for it: the process is gone, or has let go of it.
    async fn answer<M: Send + 'static, R: Send + 'static>(
        &self,
        request: Request<M>,
        work: impl FnOnce(&Caller<'_>, M) -> Result<R> + Send + 'static,
    ) -> Result<R> {
        let lost = |_| Error::new(Kind::Internal, "The host call was not answered: its callback panicked, or the host is closing.");
        let (metadata, mut extensions, message) = request.into_parts();
        let place = extensions.remove::<Place>();
        let own = metadata.get("grpc-timeout").and_then(|value| timeout(value.to_str().ok()?));
        let flight = metadata.get(CALL_ID).and_then(|id| self.calls.find(id.to_str().ok()?));
        let context = self.context.clone();
        let waits = Waits(Cancel::new());
        let (cancel, of_call) = (waits.0.clone(), flight.as_ref().and_then(|flight| flight.call.cancel.clone()));
        let mut answered = self.threads.spawn_blocking(move || {
            // Taken until the answer is there, also if nobody waits for it any more.
            let _place = place;
            let deadline = bound(flight.as_ref().map(|flight| &flight.call.deadline), own);
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
                cancel: Some(&cancel),
                chain,
            };
            chain.scope(|| work(&caller, message))
        });
        let cancels = [of_call.as_ref(), None];
        tokio::select! {
            biased;
            answer = &mut answered => return answer.map_err(lost)?,
            () = client::cancelled(&cancels) => waits.0.cancel(),
        }
        answered.await.map_err(lost)?
    }
}

/// When a host call has to be over: with the call it belongs to, or after a time of the host's; sooner if the plugin says so.
fn bound(call: Option<&Deadline>, own: Option<Duration>) -> Deadline {
    let deadline = call.cloned().unwrap_or_else(|| Deadline::after(DEADLINE));
    match own {
        Some(own) => deadline.at_most(own),
        None => deadline,
    }
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
        let found = self.answer(request, |caller, m| {
            let value = caller.get_config(&m.key)?.unwrap_or_default();
            String::from_utf8(value).map_err(|_| Error::new(Kind::Host, "The value is not UTF-8, and the protocol carries text."))
        });
        Ok(Response::new(match found.await {
            Ok(value) => pb::GetConfigResponse { value, error: String::new() },
            Err(e) => pb::GetConfigResponse { value: String::new(), error: e.to_string() },
        }))
    }

    async fn log(&self, request: Request<pb::LogRequest>) -> Result<Response<()>, Status> {
        let logged = self.answer(request, |caller, m| {
            let mut fields: Vec<_> = m.fields.into_iter().collect();
            fields.sort();
            caller.log(Level::from_name(&m.level), &m.message, &fields);
            Ok(())
        });
        logged.await.map(Response::new).map_err(status)
    }

    async fn kv_get(&self, request: Request<pb::KvGetRequest>) -> Result<Response<pb::KvGetResponse>, Status> {
        Ok(Response::new(match self.answer(request, |caller, m| caller.kv_get(&m.key)).await {
            Ok(Some(value)) => pb::KvGetResponse { value, error: String::new(), missing: false },
            Ok(None) => pb::KvGetResponse { value: Vec::new(), error: String::new(), missing: true },
            Err(e) => pb::KvGetResponse { value: Vec::new(), error: e.to_string(), missing: false },
        }))
    }

    async fn kv_set(&self, request: Request<pb::KvSetRequest>) -> Result<Response<()>, Status> {
        self.answer(request, |caller, m| caller.kv_set(&m.key, &m.value)).await.map(Response::new).map_err(status)
    }

    async fn kv_delete(&self, request: Request<pb::KvDeleteRequest>) -> Result<Response<()>, Status> {
        self.answer(request, |caller, m| caller.kv_delete(&m.key)).await.map(Response::new).map_err(status)
    }

    async fn http_request(&self, request: Request<pb::HttpCallRequest>) -> Result<Response<pb::HttpCallResponse>, Status> {
        let answered = self.answer(request, |caller, m| {
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
        let emitted = self.answer(request, |caller, m| caller.emit_event(&event(&m)?));
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
    fn a_plugin_shortens_its_host_calls_and_never_lengthens_them() {
        let (brief, years) = (Duration::from_millis(100), Duration::from_secs(1 << 30));
        let call = Deadline::after(Duration::from_secs(5));
        for (call, own, expected) in [
            (None, None, DEADLINE),
            (None, Some(years), DEADLINE),
            (None, Some(brief), brief),
            (Some(&call), None, Duration::from_secs(5)),
            (Some(&call), Some(years), Duration::from_secs(5)),
            (Some(&call), Some(brief), brief),
        ] {
            assert_eq!(bound(call, own).limit(), Some(expected));
        }
    }

    #[test]
    fn an_event_keeps_its_payload_to_the_letter() {
        let made = |payload: &str| event(&pb::EmitEventRequest { source: "s\"".into(), event_type: "t".into(), payload: payload.into() });
        assert_eq!(made(r#" {"n": 1.10} "#).unwrap(), r#"{"event_type":"t","source":"s\"","data":{"n": 1.10}}"#);
        assert_eq!(made("").unwrap(), r#"{"event_type":"t","source":"s\"","data":{}}"#);
        assert_eq!(made("[1]").unwrap_err().kind(), Kind::InvalidArgument);
    }
}
