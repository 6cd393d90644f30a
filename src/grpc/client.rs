//! Calls to a plugin's services: deadlines, tokens and statuses.

use std::future::poll_fn;
use std::time::Instant;

use bytes::Bytes;
use http_body_util::Full;
use tokio::runtime::Handle;
use tonic::transport::{Channel, Endpoint, Uri};
use tonic::{Code, Status};
use tower::Service;

use crate::call::{Call, Cancel, Deadline, check};
use crate::error::{Error, Kind, Result, clean};
use crate::grpc::EXPLANATION;
use crate::grpc::dispatch::{Reply, Request};
use crate::grpc::line::Line;
use crate::grpc::message::{self, Failed};
use crate::grpc::process::Process;
use crate::grpc::socket::Target;

const LATE: &str = "The plugin did not answer before the deadline of the call.";

/// Bytes that may be under way before the other side has read any, for a stream and for a connection.
pub(super) const WINDOW: (u32, u32) = (1 << 20, 4 << 20);

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

/// Sends the request and waits for the reply, the call's deadline, a token or the end of the process, whatever is first. This thread
/// does the connection's work meanwhile.
pub(super) fn unary_here(line: &Line, request: &Request, call: &Call, id: &str, terms: &Terms<'_>) -> Result<Reply> {
    let made = terms.request(request, call, id)?;
    let cancels = [call.cancel.as_ref(), Some(terms.ending)];
    let gone = &terms.process.gone;
    let reached = line.connection(&call.deadline, cancels).and_then(|connection| {
        let exchange = async {
            let response = connection.send(made).await.map_err(|e| Status::from_error(e.into()))?;
            message::decode(request, message::answer(response, terms.message_size).await?)
        };
        // The end of the process is waited for as a third token.
        connection.crew.wait(exchange, &call.deadline, &[cancels[0], cancels[1], Some(gone)])
    });
    let status = match reached {
        // An answer past the end of the call is none: it may be what the plugin made of a host call that ended with it.
        Ok(Ok(reply)) => return check(&call.deadline, &cancels).map(|()| reply),
        Ok(Err(failed)) => understand(failed)?,
        Err(e) if e.kind() == Kind::Cancelled && !cancels.iter().flatten().any(|token| token.is_set()) => {
            return Err(lost(terms.process, ""));
        }
        Err(e) if e.kind() == Kind::Timeout => return Err(Error::new(Kind::Timeout, LATE)),
        Err(e) if e.kind() != Kind::Unavailable => return Err(e),
        Err(e) => Status::unavailable(e.message()),
    };
    // Why it was lost: the end of the process, if it comes soon.
    let soon = call.deadline.clone().at_most(EXPLANATION);
    let _ended = crate::call::wait(&soon, &[cancels[0], cancels[1], Some(gone)], |_| (), || gone.is_set().then_some(()));
    // That it was lost was known in time, whatever the time is now.
    check(&Deadline::never(), &cancels)?;
    Err(lost(terms.process, status.message()))
}

/// The same for a call that no thread waits for: the runtime that this connection is on does the work.
pub(super) async fn unary(connection: &Channel, request: Request, call: &Call, id: &str, terms: &Terms<'_>) -> Result<Reply> {
    let made = terms.request(&request, call, id)?;
    let cancels = [call.cancel.as_ref(), Some(terms.ending)];
    let moment = call.deadline.moment();
    let exchange = async {
        let mut connection = connection.clone();
        poll_fn(|cx| Service::poll_ready(&mut connection, cx)).await.map_err(|e| Status::from_error(e.into()))?;
        let response = connection.call(made.map(tonic::body::Body::new)).await.map_err(|e| Status::from_error(e.into()))?;
        message::decode(&request, message::answer(response, terms.message_size).await?)
    };
    let replied = tokio::select! {
        biased;
        replied = exchange => replied,
        () = terms.process.gone.cancelled() => return Err(lost(terms.process, "")),
        () = cancelled(&cancels) => return Err(Error::new(Kind::Cancelled, "The call was cancelled.")),
        () = until(moment) => return Err(Error::new(Kind::Timeout, LATE)),
    };
    match replied {
        Ok(reply) => check(&call.deadline, &cancels).map(|()| reply),
        Err(failed) => explain(&understand(failed)?, moment, &cancels, terms.process).await,
    }
}

impl Terms<'_> {
    /// The request as it is sent, if it may be.
    fn request(&self, request: &Request, call: &Call, id: &str) -> Result<http::Request<Full<Bytes>>> {
        let (size, limit) = (request.size(), self.message_size.min(u64::from(u32::MAX)));
        if size as u64 > limit {
            let text = format!("The request has {size} bytes; the policy grants {limit} (message_size).");
            return Err(Error::new(Kind::InvalidArgument, text));
        }
        check(&call.deadline, &[call.cancel.as_ref(), Some(self.ending)])?;
        Ok(message::request(request, size, call, call.deadline.moment(), id))
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

/// Why there is no reply, as an error; a status if it says that the connection was lost, which the end of the process may explain.
fn understand(failed: Failed) -> Result<Status> {
    let status = match failed {
        Failed::Error(error) => return Err(error),
        Failed::Status(status) => status,
    };
    let said = clean(status.message(), 200);
    let code = status.code();
    // Statuses that were made on this side of the wire have a source.
    let local = std::error::Error::source(&status).is_some();
    let (kind, text) = match code {
        Code::DeadlineExceeded => (Kind::Timeout, LATE.to_owned()),
        // The plugin gave up the stream at its deadline, or we did; not that the connection went away under the call.
        Code::Cancelled if said.starts_with("h2 protocol error") || said == "Timeout expired" => (Kind::Timeout, LATE.to_owned()),
        _ if local => return Ok(status),
        Code::Unavailable => return Ok(status),
        Code::Unimplemented => (Kind::UnknownFunction, "The plugin does not implement this function.".to_owned()),
        _ => (Kind::Plugin, format!("The plugin answered with the status {code:?}: {said}")),
    };
    let error = Error::new(kind, text).with_detail("grpc_status", i32::from(code));
    Err(if kind == Kind::Timeout { error } else { error.with_plugin_message(status.message()) })
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
