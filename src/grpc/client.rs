//! Calls to a plugin's services: deadlines, tokens and statuses.

use std::time::{Duration, Instant};

use tonic::Code;

use crate::call::{Call, Cancel, Deadline, check};
use crate::error::{Error, Kind, Result, clean};
use crate::grpc::EXPLANATION;
use crate::grpc::dispatch::{Reply, Request};
use crate::grpc::line::Line;
use crate::grpc::message::{self, Failed, Outgoing};
use crate::grpc::process::Process;
use crate::grpc::remote::Remote;

const LATE: &str = "The plugin did not answer before the deadline of the call.";

/// How much earlier than the host a plugin may find that a call is late: it was told its time in a coarser unit.
const EARLY: Duration = Duration::from_millis(100);

/// The bytes of an answer that only has to be there, at most.
const ASIDE: u64 = 1 << 20;

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
        let exchange = async { message::decode(request, connection.sender.call(made, terms.message_size).await?) };
        // The end of the process is waited for as a third token.
        connection.crew.wait(exchange, &call.deadline, &[cancels[0], cancels[1], Some(gone)])
    });
    let why = match reached {
        // An answer past the end of the call is none: it may be what the plugin made of a host call that ended with it.
        Ok(Ok(reply)) => return check(&call.deadline, &cancels).map(|()| reply),
        Ok(Err(failed)) => understand(failed, &call.deadline)?,
        Err(e) if e.kind() == Kind::Cancelled && !cancels.iter().flatten().any(|token| token.is_set()) => {
            return Err(lost(terms.process, ""));
        }
        Err(e) if e.kind() == Kind::Timeout => return Err(Error::new(Kind::Timeout, LATE)),
        Err(e) if e.kind() != Kind::Unavailable => return Err(e),
        Err(e) => e.message().to_owned(),
    };
    // Why it was lost: the end of the process, if it comes soon.
    let soon = call.deadline.clone().at_most(EXPLANATION);
    let _ended = crate::call::wait(&soon, &[cancels[0], cancels[1], Some(gone)], |_| (), || gone.is_set().then_some(()));
    // That it was lost was known in time, whatever the time is now.
    check(&Deadline::never(), &cancels)?;
    Err(lost(terms.process, &why))
}

/// The same for a call that no thread waits for: the runtime that this connection is on does the work.
pub(super) async fn unary(connection: &Remote, request: &Request, call: &Call, id: &str, terms: &Terms<'_>) -> Result<Reply> {
    let made = terms.request(request, call, id)?;
    let cancels = [call.cancel.as_ref(), Some(terms.ending)];
    let moment = call.deadline.moment();
    let exchange = async { message::decode(request, connection.call(made, terms.message_size).await?) };
    let replied = tokio::select! {
        biased;
        replied = exchange => replied,
        () = terms.process.gone.cancelled() => return Err(lost(terms.process, "")),
        () = cancelled(&cancels) => return Err(Error::new(Kind::Cancelled, "The call was cancelled.")),
        () = until(moment) => return Err(Error::new(Kind::Timeout, LATE)),
    };
    match replied {
        Ok(reply) => check(&call.deadline, &cancels).map(|()| reply),
        Err(failed) => explain(&understand(failed, &call.deadline)?, moment, &cancels, terms.process).await,
    }
}

impl Terms<'_> {
    /// The request as it is sent, if it may be.
    fn request(&self, request: &Request, call: &Call, id: &str) -> Result<Outgoing> {
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
async fn explain<T>(why: &str, moment: Option<Instant>, cancels: &[Option<&Cancel>; 2], process: &Process) -> Result<T> {
    let soon = Instant::now() + EXPLANATION;
    tokio::select! {
        biased;
        () = process.gone.cancelled() => (),
        () = cancelled(cancels) => (),
        () = until(Some(moment.map_or(soon, |moment| moment.min(soon)))) => (),
    }
    // That it was lost was known in time, whatever the time is now.
    check(&Deadline::never(), cancels)?;
    Err(lost(process, why))
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

/// Why there is no reply, as an error; as a text if it is that the connection was lost, which the end of the process may explain.
fn understand(failed: Failed, deadline: &Deadline) -> Result<String> {
    let late = deadline.remaining().is_some_and(|left| left < EARLY);
    let status = match failed {
        Failed::Error(error) => return Err(error),
        Failed::GivenUp(_) if late => return Err(Error::new(Kind::Timeout, LATE)),
        Failed::GivenUp(why) | Failed::Lost(why) => return Ok(why),
        Failed::Status(status) => status,
    };
    let said = clean(status.message(), 200);
    let code = status.code();
    let (kind, text) = match code {
        // Otherwise it speaks of another deadline than the call's.
        Code::DeadlineExceeded if late => (Kind::Timeout, LATE.to_owned()),
        Code::Cancelled if late && said == message::EXPIRED => (Kind::Timeout, LATE.to_owned()),
        Code::Unimplemented => (Kind::UnknownFunction, "The plugin does not implement this function.".to_owned()),
        _ => (Kind::Plugin, format!("The plugin answered with the status {code:?}: {said}")),
    };
    let error = Error::new(kind, text).with_detail("grpc_status", i32::from(code));
    Err(if kind == Kind::Timeout { error } else { error.with_plugin_message(status.message()) })
}

/// `grpc.health.v1.Health/Check("plugin")`: any answer, also that there is no such service, shows that gRPC is spoken. What is
/// wrong where it is not.
pub(super) async fn speaks_grpc(connection: &Remote) -> Result<(), String> {
    let check = Outgoing::new("http://localhost/grpc.health.v1.Health/Check", message::framed(&"plugin".to_owned()));
    match connection.call(check, ASIDE).await {
        Err(Failed::Lost(why)) => Err(clean(&why, 200)),
        Err(Failed::Status(status)) if status.code() == Code::Unavailable => Err(clean(status.message(), 200)),
        _ => Ok(()),
    }
}

/// go-plugin's `Shutdown`; whether it was taken. go-plugin mostly hangs up before it has answered: what was asked and is lost, was taken.
pub(super) async fn shut_down(remote: &Remote) -> bool {
    let ask = Outgoing::new("http://localhost/plugin.GRPCController/Shutdown", message::framed(&()));
    let Ok(connection) = remote.connection().await else { return false };
    matches!(connection.sender.call(ask, ASIDE).await, Ok(_) | Err(Failed::Lost(_) | Failed::GivenUp(_)))
}
