//! Calls to a plugin's services: deadlines, tokens and statuses.

use std::time::Instant;

use tokio::runtime::Handle;
use tonic::metadata::{MetadataMap, MetadataValue};
use tonic::transport::{Channel, Endpoint, Uri};
use tonic::{Code, Status};

use crate::call::{Call, Cancel, Deadline, check};
use crate::error::{Error, Kind, Result, clean};
use crate::grpc::EXPLANATION;
use crate::grpc::dispatch::{Reply, Request};
use crate::grpc::pb::flowbot as pb;
use crate::grpc::pb::flowbot::plugin_service_client::PluginServiceClient;
use crate::grpc::process::Process;
use crate::grpc::socket::Target;

/// The metadata by which a plugin tells for which call it calls its host.
pub(super) const CALL_ID: &str = "flowplug-call";

/// Bytes that may be under way before the other side has read any, for a stream and for a connection.
const WINDOW: (u32, u32) = (1 << 20, 4 << 20);

/// A connection, made at its first call, whose work is done by whoever drives this runtime.
pub(super) fn connection(runtime: &Handle, target: &Target) -> Channel {
    let _context = runtime.enter();
    let target = target.clone();
    let address = if target.tls.is_some() { "https://localhost" } else { "http://localhost" };
    let connect = tower::service_fn(move |_: Uri| {
        let target = target.clone();
        async move { target.connect().await.map(hyper_util::rt::TokioIo::new) }
    });
    Endpoint::from_static(address)
        .initial_stream_window_size(WINDOW.0)
        .initial_connection_window_size(WINDOW.1)
        .connect_with_connector_lazy(connect)
}

/// What every call to a plugin needs beside its request.
pub(super) struct Terms<'a> {
    pub(super) process: &'a Process,
    pub(super) ending: &'a Cancel,
    pub(super) message_size: u64,
}

/// Sends the request and waits for the reply, the call's deadline, a token or the end of the process, whatever is first.
pub(super) async fn unary(connection: &Channel, request: Request, call: &Call, id: &str, terms: &Terms<'_>) -> Result<Reply> {
    let size = request.size();
    if size as u64 > terms.message_size {
        let text = format!("The request has {size} bytes; the policy grants {} (message_size).", terms.message_size);
        return Err(Error::new(Kind::InvalidArgument, text));
    }
    let cancels = [call.cancel.as_ref(), Some(terms.ending)];
    check(&call.deadline, &cancels)?;
    let moment = call.deadline.moment();
    let metadata = metadata(call, moment, id);
    let ended = tokio::select! {
        biased;
        replied = send(connection, request, metadata, terms.message_size) => match replied {
            // An answer past the deadline is none.
            Ok(reply) => return check(&call.deadline, &[]).map(|()| reply),
            Err(status) => match understand(&status) {
                Some(error) => Err(error),
                None => Ok(status),
            },
        },
        () = terms.process.gone.cancelled() => return Err(lost(terms.process, "")),
        () = cancelled(&cancels) => Err(Error::new(Kind::Cancelled, "The call was cancelled.")),
        () = until(moment) => Err(Error::new(Kind::Timeout, "The plugin did not answer before the deadline of the call.")),
    };
    match ended {
        Err(error) => {
            // The request was dropped unanswered: whoever drives the connection tells the plugin so, while we are here.
            for _ in 0..2 {
                tokio::task::yield_now().await;
            }
            Err(error)
        }
        Ok(status) => explain(&status, moment, &cancels, terms.process).await,
    }
}

/// Why a connection was lost: the end of the process, if it comes soon.
async fn explain<T>(status: &Status, moment: Option<Instant>, cancels: &[Option<&Cancel>; 2], process: &Process) -> Result<T> {
    let soon = Instant::now() + EXPLANATION;
    tokio::select! {
        biased;
        () = process.gone.cancelled() => (),
        () = cancelled(cancels) => (),
        () = until(Some(moment.map_or(soon, |moment| moment.min(soon)))) => (),
    }
    // That it was lost was known in time, whatever the time is now.
    check(&Deadline::never(), cancels)?;
    Err(lost(process, status.message()))
}

/// The error of a call that the process can no longer answer.
fn lost(process: &Process, why: &str) -> Error {
    if process.gone.is_set() {
        return process.ended(Kind::Unavailable, "The plugin cannot answer");
    }
    let text = format!("The connection to the plugin was lost, and its process still runs ({}).", clean(why, 200));
    process.with_last_words(Error::new(Kind::Unavailable, text))
}

/// Resolves when one of the tokens is set.
pub(super) async fn cancelled(tokens: &[Option<&Cancel>; 2]) {
    let one = async |token: Option<&Cancel>| match token {
        Some(token) => token.cancelled().await,
        None => std::future::pending().await,
    };
    let [first, second] = *tokens;
    tokio::select! {
        () = one(first) => (),
        () = one(second) => (),
    }
}

/// Resolves at a moment; never, if there is none.
pub(super) async fn until(moment: Option<Instant>) {
    match moment {
        Some(moment) => tokio::time::sleep_until(moment.into()).await,
        None => std::future::pending().await,
    }
}

fn metadata(call: &Call, moment: Option<Instant>, id: &str) -> MetadataMap {
    let mut request = tonic::Request::new(());
    if let Some(moment) = moment {
        request.set_timeout(moment.saturating_duration_since(Instant::now()));
    }
    let mut metadata = std::mem::take(request.metadata_mut());
    if let Ok(id) = MetadataValue::try_from(id) {
        metadata.insert(CALL_ID, id);
    }
    if !call.traceparent.is_empty()
        && let Ok(trace) = MetadataValue::try_from(&*call.traceparent)
    {
        metadata.insert("traceparent", trace);
    }
    metadata
}

async fn send(connection: &Channel, request: Request, metadata: MetadataMap, message_size: u64) -> Result<Reply, Status> {
    let size = usize::try_from(message_size).unwrap_or(usize::MAX);
    let mut client = PluginServiceClient::new(connection.clone()).max_decoding_message_size(size).max_encoding_message_size(size);
    fn with<T>(message: T, metadata: MetadataMap) -> tonic::Request<T> {
        tonic::Request::from_parts(metadata, tonic::Extensions::default(), message)
    }
    let none = String::new();
    Ok(match request {
        Request::Init(m) => {
            client.init(with(m, metadata)).await?;
            (none.clone(), none)
        }
        Request::Bootstrap => {
            client.bootstrap(with((), metadata)).await?;
            (none.clone(), none)
        }
        Request::IsReady => {
            let pb::IsReadyResponse { ready } = client.is_ready(with((), metadata)).await?.into_inner();
            (ready.to_string(), none)
        }
        Request::Rules => {
            let m = client.rules(with((), metadata)).await?.into_inner();
            (m.rules, m.error)
        }
        Request::Help => {
            let m = client.help(with((), metadata)).await?.into_inner();
            (m.help, m.error)
        }
        Request::Command(m) => {
            let m = client.command(with(m, metadata)).await?.into_inner();
            (m.payload, m.error)
        }
        Request::Form(m) => {
            let m = client.form(with(m, metadata)).await?.into_inner();
            (m.payload, m.error)
        }
        Request::AbilityCall(m) => result(client.ability_call(with(m, metadata)).await?),
        Request::WebhookConvert(m) => result(client.webhook_convert(with(m, metadata)).await?),
        Request::OAuthCallback(m) => result(client.o_auth_callback(with(m, metadata)).await?),
    })
}

fn result(response: tonic::Response<pb::CallResponse>) -> Reply {
    let m = response.into_inner();
    (m.result, m.error)
}

/// How tonic begins when what came is no message.
const NOT_A_MESSAGE: [&str; 4] = ["failed to decode", "Missing response message", "Unexpected EOF decoding", "protocol error: "];

/// A status as an error; none where it says that the connection was lost, which the end of the process may explain.
fn understand(status: &Status) -> Option<Error> {
    let said = clean(status.message(), 200);
    let code = status.code();
    // Statuses that were made on this side of the wire have a source.
    let local = std::error::Error::source(status).is_some();
    let (kind, text) = match code {
        Code::DeadlineExceeded => (Kind::Timeout, "The plugin did not answer before the deadline of the call.".to_owned()),
        // The plugin gave up the stream at its deadline, or we did; not that the connection went away under the call.
        Code::Cancelled if said.starts_with("h2 protocol error") || said == "Timeout expired" => {
            (Kind::Timeout, "The plugin did not answer before the deadline of the call.".to_owned())
        }
        _ if local => return None,
        Code::Unavailable => return None,
        Code::Unimplemented => (Kind::UnknownFunction, "The plugin does not implement this function.".to_owned()),
        Code::OutOfRange if said.contains("message length too large") => {
            (Kind::InvalidResponse, format!("The plugin's answer is larger than the policy grants (message_size): {said}."))
        }
        Code::Internal if NOT_A_MESSAGE.iter().any(|start| said.starts_with(start)) => {
            (Kind::InvalidResponse, format!("The plugin's answer is not a message of the protocol: {said}."))
        }
        _ => (Kind::Plugin, format!("The plugin answered with the status {code:?}: {said}")),
    };
    let error = Error::new(kind, text).with_detail("grpc_status", i32::from(code));
    Some(if kind == Kind::Timeout { error } else { error.with_plugin_message(status.message()) })
}

/// The innermost reason of a status.
pub(super) fn reason(status: &Status) -> String {
    let mut deepest = std::error::Error::source(status);
    while let Some(inner) = deepest.and_then(std::error::Error::source) {
        deepest = Some(inner);
    }
    deepest.map_or_else(|| clean(status.message(), 200), |reason| clean(&reason.to_string(), 200))
}

/// `grpc.health.v1.Health/Check("plugin")`: any answer, also that there is no such service, shows that gRPC is spoken.
pub(super) async fn speaks_grpc(connection: &Channel) -> Result<(), Status> {
    #[derive(Clone, PartialEq, prost::Message)]
    struct Check {
        #[prost(string, tag = "1")]
        service: String,
    }
    let mut client = tonic::client::Grpc::new(connection.clone());
    client.ready().await.map_err(|e| Status::from_error(e.into()))?;
    let path = http::uri::PathAndQuery::from_static("/grpc.health.v1.Health/Check");
    let request = tonic::Request::new(Check { service: "plugin".to_owned() });
    let codec = tonic_prost::ProstCodec::<Check, ()>::default();
    match client.unary::<Check, (), _>(request, path, codec).await {
        Err(status) if std::error::Error::source(&status).is_some() || status.code() == Code::Unavailable => Err(status),
        _ => Ok(()),
    }
}
