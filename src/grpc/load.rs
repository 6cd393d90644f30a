//! From a manifest to a process that answers.

use std::path::Path;
use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use prost::Message;
use tokio::runtime::Handle;

use crate::call::{Call, Cancel};
use crate::error::{Error, Kind, Result, clean};
use crate::grpc::broker::{Broker, listen};
use crate::grpc::calls::Calls;
use crate::grpc::door::{Door, Key};
use crate::grpc::folder::Folder;
use crate::grpc::handshake::{self, Address};
use crate::grpc::host_service::Service;
use crate::grpc::line::Line;
use crate::grpc::logs::{Lines, Output, Stream};
use crate::grpc::message::{Failed, Outgoing, framed};
use crate::grpc::pb::go_plugin::{StdioData, stdio_data};
use crate::grpc::process::{Host, Process, Said};
use crate::grpc::remote::{Connection, Remote};
use crate::grpc::socket::Target;
use crate::grpc::stream::Messages;
use crate::grpc::tls::Identity;
use crate::grpc::{EXPLANATION, HOST_SOCKET, Inner, OnExit, Settings, Threads, artifact, client, elsewhere, first};
use crate::host::PluginContext;
use crate::manifest::{GrpcConfig, Manifest, Tls};

/// Told of the end of the process; empty until it is loaded, and once it was told.
type Watcher = Arc<Mutex<Option<OnExit>>>;

/// How long a program that is open for writing is tried again, and how often: whoever has just written it has closed it, but
/// what another thread is forking holds a copy of the descriptor for a moment.
const BEING_WRITTEN: Duration = Duration::from_millis(500);
const AGAIN_AFTER: Duration = Duration::from_millis(10);

pub(super) fn load(
    settings: &Settings,
    threads: &Threads,
    manifest: &Manifest,
    context: &Arc<PluginContext>,
    on_exit: OnExit,
    call: &Call,
) -> Result<Inner> {
    let config = manifest.grpc.as_ref().ok_or_else(|| Error::new(Kind::InvalidManifest, "grpc config required"))?;
    let mut call = call.clone();
    call.deadline = call.deadline.at_most(config.start_timeout).at_most(context.grants().load_timeout);
    let (mut on_exit, until) = (Some(on_exit), Instant::now() + BEING_WRITTEN);
    loop {
        call.check()?;
        match once(settings, threads, (config, manifest.base_dir()), context.clone(), &mut on_exit, &call) {
            Err(e) if artifact::is_being_written(&e) && Instant::now() < until => std::thread::sleep(AGAIN_AFTER),
            loaded => return loaded,
        }
    }
}

fn once(
    settings: &Settings,
    Threads { shared, host_calls }: &Threads,
    (config, base_dir): (&GrpcConfig, &Path),
    context: Arc<PluginContext>,
    on_exit: &mut Option<OnExit>,
    call: &Call,
) -> Result<Inner> {
    let program = artifact::find(config, base_dir, call)?;
    let folder = Folder::new(settings.runtime_dir.as_deref())?;
    let (output, flushed) = Output::new(context.clone())?;
    let calls = Arc::new(Calls::default());
    let gone = Cancel::new();
    let token = token()?;
    let (service, door) = (Service::new(context.clone(), calls.clone(), host_calls.clone()), Door::new(gone.clone()));
    let direct = listen(shared, &folder.path().join(HOST_SOCKET))?;
    shared.spawn(service.clone().serve(door.clone(), direct, Key::Token(token.as_str().into()), None));
    let identity = (config.tls == Tls::Required).then(Identity::new).transpose().inspect_err(|_| gone.cancel())?;

    let certificate = identity.as_ref().map(Identity::pem);
    let host = Host { folder: folder.path(), token: &token, certificate, gone: &gone };
    let (process, pipes) = Process::launch(shared, program, config, host, output.clone()).inspect_err(|_| gone.cancel())?;
    let watcher = Watcher::default();
    let (told, lost) = (watcher.clone(), process.clone());
    let met = process
        .tend(shared, pipes, move || tell(&told, &lost))
        .and_then(|said| meet(shared, &process, said, &context, call, config, identity));
    let met = met.and_then(|(target, connection)| {
        let (broker, listener) = Broker::open(shared, connection.clone(), folder.path(), gone.clone())?;
        shared.spawn(service.serve(door, listener, Key::Listener, target.tls.clone()));
        Ok((target, connection, broker))
    });
    let (target, on_shared, broker) = met.inspect_err(|_| {
        give_up(&process);
        gone.cancel();
    })?;
    forward_stdio(shared, on_shared.clone(), output, gone);
    arm(&watcher, &process, on_exit)?;
    let line = Line::new(shared.clone(), target);
    let call_timeout = config.call_timeout;
    Ok(Inner {
        context,
        process,
        calls,
        shared: shared.clone(),
        line,
        on_shared,
        broker,
        folder: Mutex::new(Some(folder)),
        flushed,
        call_timeout,
    })
}

/// The secret by which the process shows the host that it is the one that was started: 32 random bytes in hex.
fn token() -> Result<String> {
    let mut bytes = [0u8; 32];
    getrandom::fill(&mut bytes).map_err(|e| Error::new(Kind::Io, format!("The system gives no random bytes: {e}.")))?;
    Ok(bytes.iter().map(|byte| format!("{byte:02x}")).collect())
}

/// Waits for the handshake, connects, and sees that gRPC is spoken there.
fn meet(
    shared: &Handle,
    process: &Arc<Process>,
    said: Said,
    context: &Arc<PluginContext>,
    call: &Call,
    config: &GrpcConfig,
    identity: Option<Identity>,
) -> Result<(Target, Remote)> {
    let (own, call, ending) = (process.clone(), call.clone(), context.ending.clone());
    let terms = handshake::Terms { tcp: context.grants().tcp, tls: identity.is_some() };
    let (runtime, start_timeout) = (shared.clone(), config.start_timeout);
    elsewhere(shared, async move {
        let moment = call.deadline.moment();
        let cancels = [call.cancel.as_ref(), Some(&ending)];
        let fail = |e: Error| own.with_last_words(e);
        let late = |e: Error, what: &str| if e.kind() == Kind::Timeout { too_late(what, start_timeout) } else { e };
        let said = handshake_line(&own, said, cancels, moment).await.map_err(|e| fail(late(e, "print its handshake")))?;
        let said = handshake::parse(&said, terms).map_err(fail)?;
        if let Address::Unix(path) = &said.address {
            is_socket(path).map_err(fail)?;
        }
        let tls = identity.zip(said.certificate).map(|(own, other)| own.with(other)).transpose().map_err(fail)?;
        let target = Target { address: said.address, tls };
        let hint = if target.tls.is_some() { "; it must take the certificate in PLUGIN_CLIENT_CERT, and HTTP/2 after it" } else { "" };
        let connection = Remote::new(&runtime, &target);
        let speaks = async {
            tokio::select! {
                biased;
                spoken = client::speaks_grpc(&connection) => spoken.map_err(|why| why + hint),
                () = own.gone.cancelled() => Err(String::new()),
            }
        };
        match first(speaks, cancels, moment).await.map_err(|e| fail(late(e, "answer on its socket")))? {
            Ok(()) => Ok((target, connection)),
            Err(why) => Err(not_grpc(&own, &why, explained_by(moment)).await),
        }
    })?
}

fn too_late(what: &str, limit: Duration) -> Error {
    let text = format!(
        "The plugin did not {what} in time (grpc.start_timeout is {limit:?}; the caller's deadline and the policy's load_timeout bound it too)."
    );
    Error::new(Kind::Timeout, text)
}

async fn handshake_line(process: &Process, said: Said, cancels: [Option<&Cancel>; 2], moment: Option<Instant>) -> Result<String> {
    let line = async {
        tokio::select! {
            biased;
            line = said.line => line.unwrap_or_else(|_| Err(Error::new(Kind::LoadFailed, "The host is closing."))),
            () = process.gone.cancelled() => Err(Error::new(Kind::LoadFailed, "")),
        }
    };
    match first(line, cancels, moment).await {
        Ok(Ok(line)) => Ok(line),
        Ok(Err(e)) => Err(process.without_handshake(said.refused, e, explained_by(moment)).await),
        Err(e) => Err(e),
    }
}

/// Until when the end of a process is waited for, which explains what else is known already.
fn explained_by(moment: Option<Instant>) -> Instant {
    let soon = Instant::now() + EXPLANATION;
    moment.map_or(soon, |moment| moment.min(soon))
}

async fn not_grpc(process: &Process, why: &str, explained_by: Instant) -> Error {
    drop(tokio::time::timeout_at(explained_by.into(), process.gone.cancelled()).await);
    if process.gone.is_set() {
        return process.ended(Kind::LoadFailed, "The plugin ended right after its handshake");
    }
    process.with_last_words(Error::new(
        Kind::LoadFailed,
        format!("The plugin does not speak gRPC on the socket that its handshake names: {why}."),
    ))
}

fn is_socket(path: &Path) -> Result<()> {
    use std::os::unix::fs::FileTypeExt;
    let failed = |why: String| {
        Error::new(Kind::LoadFailed, format!("The socket {} that the plugin's handshake names {why}.", clean(&path.to_string_lossy(), 200)))
    };
    match std::fs::metadata(path) {
        Ok(about) if about.file_type().is_socket() => Ok(()),
        Ok(_) => Err(failed("is not a socket".to_owned())),
        Err(e) => Err(failed(format!("cannot be reached: {e}"))),
    }
}

/// Ends a process that could not be loaded.
fn give_up(process: &Process) {
    process.expected.store(true, Ordering::Release);
    process.signal(crate::sys::process::Signal::Kill);
    process.gone_within(EXPLANATION);
}

/// From here on somebody is told if the process ends; if it has ended already, it was not loaded.
fn arm(watcher: &Watcher, process: &Process, on_exit: &mut Option<OnExit>) -> Result<()> {
    let mut slot = watcher.lock().unwrap_or_else(PoisonError::into_inner);
    if process.gone.is_set() {
        return Err(process.ended(Kind::LoadFailed, "The plugin ended right after its handshake"));
    }
    *slot = on_exit.take();
    Ok(())
}

fn tell(watcher: &Watcher, process: &Process) {
    let on_exit = watcher.lock().unwrap_or_else(PoisonError::into_inner).take();
    if let Some(on_exit) = on_exit
        && process.is_lost()
    {
        on_exit(process.ended(Kind::Unavailable, "The plugin is gone"));
    }
}

/// Reads what a go-plugin process prints after the handshake: opened once, read to the end. Others have no such stream.
fn forward_stdio(shared: &Handle, connection: Remote, output: Arc<Output>, gone: Cancel) {
    let forward = async move {
        let Ok((_connection, mut messages)) = open_stdio(&connection).await else { return };
        let (mut stdout, mut stderr) = (Lines::default(), Lines::default());
        while let Some(message) = messages.next().await {
            let Ok(StdioData { channel, data }) = StdioData::decode(message) else { break };
            if channel == stdio_data::Channel::Stderr as i32 {
                stderr.feed(&data, |line| output.line(Stream::Stderr, line));
            } else {
                stdout.feed(&data, |line| output.line(Stream::Stdout, line));
            }
        }
        stdout.end(|line| output.line(Stream::Stdout, line));
        stderr.end(|line| output.line(Stream::Stderr, line));
    };
    shared.spawn(async move {
        tokio::select! {
            biased;
            () = forward => (),
            () = gone.cancelled() => (),
        }
    });
}

/// The stream, and the connection that it is on.
async fn open_stdio(remote: &Remote) -> std::result::Result<(Arc<Connection>, Messages), Failed> {
    let open = Outgoing::new("http://localhost/plugin.GRPCStdio/StreamStdio", framed(&()));
    let connection = remote.connection().await?;
    let (response, _) = connection.sender.open(open, true)?;
    Ok((connection, Messages::new(response.await?)))
}
