//! The process of a plugin: how it is launched, what it prints, and how it ends.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant};

use serde_json::Value;
use tokio::io::{AsyncRead, AsyncReadExt, BufReader};
use tokio::net::unix::pipe::Receiver;
use tokio::runtime::Handle;
use tokio::sync::oneshot;

use crate::call::{Cancel, Deadline, wait};
use crate::error::{Error, Kind, Result, clean};
use crate::grpc::artifact::{self, Program};
use crate::grpc::handshake;
use crate::grpc::logs::{Lines, Output, Stream};
use crate::manifest::GrpcConfig;
use crate::sys::process::{Child, Command, Exit, Signal, start};

/// The value of go-plugin's magic cookie for flowbot's plugins, and its variable.
const COOKIE: (&str, &str) = ("FLOWBOT_PLUGIN", "flowbot-plugin-v1");

/// What of the host's own environment a plugin sees.
const INHERITED: [&str; 5] = ["PATH", "HOME", "LANG", "TZ", "TMPDIR"];

/// How long after the end of a process its last output is waited for: something that left its group may hold the pipes.
const LAST_OUTPUT: Duration = Duration::from_millis(300);

/// A process that was started, and what is known of its end.
#[derive(Debug)]
pub(super) struct Process {
    child: Child,
    /// Set once the process has ended and its end is known.
    pub(super) gone: Cancel,
    exit: OnceLock<Exit>,
    /// Whether its end was asked for.
    pub(super) expected: AtomicBool,
    output: Arc<Output>,
    program: PathBuf,
}

/// What a process is told of its host, and how its host learns of its end.
pub(super) struct Host<'a> {
    pub(super) folder: &'a Path,
    pub(super) token: &'a str,
    /// The host's certificate, PEM, where TLS is asked for.
    pub(super) certificate: Option<String>,
    pub(super) gone: &'a Cancel,
}

/// The pipes of a process that has just started.
pub(super) struct Pipes {
    stdout: Receiver,
    stderr: Receiver,
    refused: Refused,
}

/// What a process says of itself at first.
pub(super) struct Said {
    /// Its handshake line, or why there is none.
    pub(super) line: oneshot::Receiver<Result<String>>,
    pub(super) refused: Refused,
}

/// Where the system says why it does not run the program.
pub(super) struct Refused(Receiver);

impl Refused {
    /// What it said; none if the program runs, or ran. Resolves when either is known.
    async fn why(mut self) -> Option<std::io::Error> {
        let mut errno = [0; 4];
        self.0.read_exact(&mut errno).await.ok()?;
        Some(std::io::Error::from_raw_os_error(i32::from_ne_bytes(errno)))
    }
}

impl Process {
    /// Starts the program. Nothing watches it or reads its pipes yet: [`Process::tend`] does.
    pub(super) fn launch(
        runtime: &Handle,
        program: Program,
        config: &GrpcConfig,
        host: Host<'_>,
        output: Arc<Output>,
    ) -> Result<(Arc<Self>, Pipes)> {
        let args = config.args.iter().map(OsString::from).collect();
        let (path, env) = (program.path.clone(), environment(&config.env, &host));
        let started =
            start(Command { program: program.path, pinned: program.pinned, args, env }).map_err(|e| artifact::not_run(&path, &e))?;
        let process = Process {
            child: started.child,
            gone: host.gone.clone(),
            exit: OnceLock::new(),
            expected: AtomicBool::new(false),
            output,
            program: path,
        };
        let _context = runtime.enter();
        let pipe = |fd: OwnedFd| {
            Receiver::from_owned_fd(fd).map_err(|e| Error::new(Kind::Io, format!("The plugin's output cannot be read: {e}.")))
        };
        let refused = Refused(pipe(started.refused)?);
        Ok((Arc::new(process), Pipes { stdout: pipe(started.stdout)?, stderr: pipe(started.stderr)?, refused }))
    }

    /// Reads its output to the end, the handshake line first, and calls `ended` when the process is gone.
    pub(super) fn tend(self: &Arc<Self>, runtime: &Handle, pipes: Pipes, ended: impl FnOnce() + Send + 'static) -> Result<Said> {
        let (say, line) = oneshot::channel();
        let watched = {
            let _context = runtime.enter();
            self.child.ended().map_err(|e| Error::new(Kind::Io, format!("The plugin's process cannot be watched: {e}.")))?
        };
        let (output, errors) = (self.output.clone(), self.output.clone());
        let stdout = runtime.spawn(async move { read_stdout(pipes.stdout, &output, say).await });
        let stderr = runtime.spawn(async move { drain(pipes.stderr, &errors, Stream::Stderr).await });
        let (process, blocking) = (self.clone(), runtime.clone());
        runtime.spawn(async move {
            watched.wait().await;
            let exit = process.child.end();
            let readers = [stdout.abort_handle(), stderr.abort_handle()];
            let printed = async { drop((stdout.await, stderr.await)) };
            drop(tokio::time::timeout(LAST_OUTPUT, printed).await);
            // What has left the group may hold the pipes for ever.
            readers.iter().for_each(tokio::task::AbortHandle::abort);
            process.output.close();
            process.exit.get_or_init(|| exit);
            process.gone.cancel();
            blocking.spawn_blocking(ended);
        });
        Ok(Said { line, refused: pipes.refused })
    }

    /// Why a process said no handshake: because the system did not run its program, or how it ended, or only `otherwise`.
    pub(super) async fn without_handshake(&self, refused: Refused, otherwise: Error, until: Instant) -> Error {
        let why = async { tokio::join!(refused.why(), self.gone.cancelled()).0 };
        match tokio::time::timeout_at(until.into(), why).await {
            Ok(Some(why)) => artifact::not_run(&self.program, &why),
            _ if self.gone.is_set() => self.ended(Kind::LoadFailed, "The plugin gave no handshake"),
            _ => self.with_last_words(otherwise),
        }
    }

    /// Its number.
    pub(super) fn pid(&self) -> i32 {
        self.child.pid()
    }

    /// Signals its whole group.
    pub(super) fn signal(&self, signal: Signal) {
        self.child.signal_group(signal);
    }

    /// SIGTERM to the group, then SIGKILL, each with its time.
    pub(super) fn end_by_force(&self) {
        for (signal, limit) in [(Signal::Terminate, super::TERMINATE), (Signal::Kill, super::KILL)] {
            if self.gone.is_set() {
                return;
            }
            self.signal(signal);
            self.gone_within(limit);
        }
    }

    /// Waits for its end, blocking this thread; false if the time passes first.
    pub(super) fn gone_within(&self, limit: Duration) -> bool {
        drop(wait::<()>(&Deadline::after(limit), &[Some(&self.gone)], |_| (), || None));
        self.gone.is_set()
    }

    /// Whether its end was not asked for, which is then an error of this kind that tells how it ended.
    pub(super) fn is_lost(&self) -> bool {
        self.gone.is_set() && !self.expected.load(Ordering::Acquire)
    }

    /// The end of the process as an error: how it ended, and the last it said.
    pub(super) fn ended(&self, kind: Kind, what: &str) -> Error {
        self.with_last_words(self.ended_briefly(kind, what))
    }

    /// The same with one line of what it said, for calls of which there may be very many.
    pub(super) fn ended_briefly(&self, kind: Kind, what: &str) -> Error {
        let (how, detail) = match self.exit.get() {
            Some(Exit::Status(status)) => (format!("with exit status {status}"), Some(("exit_status", *status))),
            Some(Exit::Signal(signal)) => (format!("by signal {signal}"), Some(("signal", *signal))),
            Some(Exit::Unknown) | None => ("with a status that is not known".to_owned(), None),
        };
        let words = self.output.epitaph().map_or_else(String::new, |words| format!(" Its last words: {}", clean(&words, 500)));
        let error = Error::new(kind, format!("{what}: its process ended {how}.{words}"));
        detail.into_iter().fold(error, |error, (name, number)| error.with_detail(name, number))
    }

    /// An error that has the last lines of standard error in its details.
    pub(super) fn with_last_words(&self, error: Error) -> Error {
        error.with_detail("stderr", self.output.last_words().into_iter().map(Value::from).collect::<Vec<_>>())
    }
}

/// A small environment of the host's, the manifest's variables, and the protocol's, of which the last win.
fn environment(own: &BTreeMap<String, String>, host: &Host<'_>) -> Vec<(OsString, OsString)> {
    let mut variables: BTreeMap<OsString, OsString> = BTreeMap::new();
    for name in INHERITED {
        if let Some(value) = std::env::var_os(name) {
            variables.insert(name.into(), value);
        }
    }
    for (name, value) in own {
        // Those would turn on what was not agreed on, TLS for one.
        if !name.starts_with("PLUGIN_") {
            variables.insert(name.into(), value.into());
        }
    }
    let mut address = OsString::from("unix:");
    address.push(host.folder.join(super::HOST_SOCKET));
    variables.extend([
        (COOKIE.0.into(), COOKIE.1.into()),
        ("PLUGIN_PROTOCOL_VERSIONS".into(), "1".into()),
        ("PLUGIN_MIN_PORT".into(), "10000".into()),
        ("PLUGIN_MAX_PORT".into(), "25000".into()),
        ("PLUGIN_UNIX_SOCKET_DIR".into(), host.folder.into()),
        ("FLOWBOT_HOST_ADDRESS".into(), address),
        ("FLOWBOT_HOST_TOKEN".into(), host.token.into()),
    ]);
    if let Some(certificate) = &host.certificate {
        // go-plugin turns TLS on wherever this is set.
        variables.insert("PLUGIN_CLIENT_CERT".into(), certificate.into());
    }
    variables.into_iter().collect()
}

async fn drain(mut pipe: impl AsyncRead + Unpin, output: &Output, stream: Stream) {
    let (mut lines, mut piece) = (Lines::default(), vec![0; 64 * 1024]);
    while let Ok(read @ 1..) = pipe.read(&mut piece).await {
        lines.feed(piece.get(..read).unwrap_or_default(), |line| output.line(stream, line));
    }
    lines.end(|line| output.line(stream, line));
}

/// Looks for the handshake, then goes on as [`drain`].
async fn read_stdout(pipe: Receiver, output: &Output, said: oneshot::Sender<Result<String>>) {
    let mut pipe = BufReader::new(pipe);
    let answer = find_handshake(&mut pipe, output).await;
    drop(said.send(answer));
    drain(pipe, output, Stream::Stdout).await;
}

async fn find_handshake(pipe: &mut BufReader<Receiver>, output: &Output) -> Result<String> {
    let failed = |text: String| Err(Error::new(Kind::LoadFailed, text));
    let (mut line, mut noise) = (Vec::new(), 0);
    loop {
        let Ok(byte) = pipe.read_u8().await else {
            return failed(
                "The plugin closed its standard output without a handshake; is it a plugin (plugin.Serve of go-plugin)?".to_owned(),
            );
        };
        if byte != b'\n' {
            line.push(byte);
            if line.len() > handshake::LINE_MAX {
                return failed(format!(
                    "The plugin printed {} bytes without the end of a line where its handshake should be.",
                    handshake::LINE_MAX
                ));
            }
            continue;
        }
        let said = String::from_utf8_lossy(&line).trim().to_owned();
        if handshake::is_one(&said) {
            return Ok(said);
        }
        noise += line.len() + 1;
        if noise > handshake::NOISE_MAX {
            return failed(format!(
                "The plugin printed {} bytes and no handshake; is it a plugin (plugin.Serve of go-plugin)?",
                handshake::NOISE_MAX
            ));
        }
        output.line(Stream::Stdout, &line);
        line.clear();
    }
}
