//! Plugins that are processes, in go-plugin's protocol.
//!
//! A [`Plugin`] owns one process, the folder of its sockets, and two connections to it: one whose work the calling threads
//! do themselves, for calls (no hop to another thread on the way), and one on the host's shared runtime, for what lives
//! longer than a call and for calls that no thread waits for.

use std::future::Future;
use std::path::PathBuf;
use std::pin::pin;
use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex, PoisonError, mpsc};
use std::task::{Context, Poll};
use std::time::Duration;

use tokio::runtime::Handle;
use tokio::sync::SemaphorePermit;

use crate::call::{Call, Cancel, Deadline, Sink, thread_waker, wait};
use crate::error::{Error, Kind, Result};
use crate::host::PluginContext;
use crate::manifest::Manifest;
use crate::sys;

mod artifact;
mod broker;
mod calls;
mod client;
mod crew;
mod dispatch;
mod door;
mod folder;
mod handshake;
mod host_service;
mod line;
mod load;
mod logs;
mod message;
pub mod pb;
mod process;
mod remote;
mod socket;
mod stream;
mod sync;
mod task;
mod tls;
mod wire;

pub use dispatch::Function;

/// The name of the host's socket in a plugin's folder.
const HOST_SOCKET: &str = "host.sock";

/// Bytes of native stack that a thread must have left to work a connection.
const DRIVING_STACK: usize = 192 << 10;

/// How long `IsReady` may take.
const READY: Duration = Duration::from_millis(100);

/// How long the end of a process is waited for that may explain what it did not answer.
const EXPLANATION: Duration = Duration::from_secs(1);

/// What a stop does after the drain, and how long each step may take: together less than three seconds.
const CANCELLED: Duration = Duration::from_millis(500);
const SHUTDOWN: Duration = Duration::from_secs(1);
const TERMINATE: Duration = Duration::from_millis(500);
const KILL: Duration = Duration::from_millis(500);
const FLUSH: Duration = Duration::from_millis(200);

/// Where the runner may put things.
#[derive(Clone, Debug, Default)]
pub struct Settings {
    /// The folder below which each plugin gets a folder for its sockets; none: the system's folder for temporary files.
    /// Its path must be short: the system takes no socket whose path has more than 107 bytes.
    pub runtime_dir: Option<PathBuf>,
}

/// Where the host's part of a plugin's work is done.
#[derive(Clone, Debug)]
pub struct Threads {
    /// The host's runtime.
    pub shared: Handle,
    /// The threads on which host calls are answered, which may block there.
    pub host_calls: Handle,
}

/// Whether a plugin can be called now.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Health {
    /// The plugin says so.
    pub ready: bool,
    /// Why not; empty if nothing went wrong.
    pub last_error: String,
}

/// Told once that the process has ended without having been asked to.
pub type OnExit = Box<dyn FnOnce(Error) + Send>;

/// A plugin in a process of its own. Can be used from any number of threads at once. Dropped without a stop, its process
/// is killed.
#[derive(Debug)]
pub struct Plugin {
    inner: Arc<Inner>,
}

#[derive(Debug)]
struct Inner {
    context: Arc<PluginContext>,
    process: Arc<process::Process>,
    calls: Arc<calls::Calls>,
    shared: Handle,
    /// Worked by the threads that call.
    line: line::Line,
    on_shared: remote::Remote,
    broker: broker::Broker,
    folder: Mutex<Option<folder::Folder>>,
    flushed: logs::Flushed,
    call_timeout: Duration,
}

/// A call that is about to be made.
struct Ready {
    request: dispatch::Request,
    call: Call,
    place: calls::Entered,
    /// Whether it waits for its turn.
    queued: bool,
}

impl Plugin {
    /// Starts the process and completes the handshake, within the call's deadline, the manifest's `start_timeout` and the
    /// policy's `load_timeout`. `on_exit` is called on a thread of the library if the process later ends unexpectedly.
    pub fn load(
        settings: &Settings,
        threads: &Threads,
        manifest: &Manifest,
        context: Arc<PluginContext>,
        on_exit: OnExit,
        call: &Call,
    ) -> Result<Arc<Self>> {
        let inner = load::load(settings, threads, manifest, &context, on_exit, call)?;
        Ok(Arc::new(Plugin { inner: Arc::new(inner) }))
    }

    /// The `Init` call with this config, JSON (`null` if there is none).
    pub fn start(&self, config: &str, call: &Call) -> Result<()> {
        let request = dispatch::Request::init(config, self.inner.broker.offer())?;
        let ready = self.inner.ready(request, "init", call)?;
        let failed = |e: Error| match e.kind() {
            Kind::Plugin | Kind::UnknownFunction => {
                Error::new(Kind::StartFailed, format!("The plugin could not be started: {}", e.message()))
                    .with_plugin_message(e.plugin_message())
            }
            _ => e,
        };
        Inner::run_here(&self.inner, ready).map_err(failed).and_then(|reply| dispatch::answer(reply, true).map(drop).map_err(failed))
    }

    /// The function of this name; `unknown_function` for what the protocol has no call for.
    pub fn resolve(&self, name: &str) -> Result<Function> {
        Function::from_name(name)
            .ok_or_else(|| Error::new(Kind::UnknownFunction, format!("The protocol of gRPC plugins has no function {name:?}.")))
    }

    /// Calls a function on this thread. The deadline is the call's, or else the manifest's `call_timeout`, within the policy's.
    pub fn call(&self, function: Function, name: &str, params: &[u8], call: &Call, sink: &mut dyn Sink) -> Result<()> {
        let request = dispatch::Request::new(function, params)?;
        let ready = self.inner.ready(request, name, call)?;
        let reply = Inner::run_here(&self.inner, ready)?;
        sink.give(dispatch::answer(reply, call.trust_json)?);
        Ok(())
    }

    /// The same without a thread that waits; to be spawned on the shared runtime.
    pub fn call_async(
        self: &Arc<Self>,
        function: Function,
        name: &str,
        params: &[u8],
        call: &Call,
    ) -> impl Future<Output = Result<Vec<u8>>> + Send + use<> {
        let ready = dispatch::Request::new(function, params).and_then(|request| self.inner.ready(request, name, call)).map(Box::new);
        let (inner, trusted) = (self.inner.clone(), call.trust_json);
        async move {
            let reply = inner.run(&*ready?).await?;
            dispatch::answer(reply, trusted)
        }
    }

    /// Asks `IsReady`, for at most 100 ms. A plugin that does not implement it is ready while its process lives.
    pub fn health(&self) -> Health {
        let failed = |e: Error| Health { ready: false, last_error: e.to_string() };
        if self.inner.process.gone.is_set() {
            return failed(self.inner.process.ended(Kind::Unavailable, "The plugin is not ready"));
        }
        let call = Call { chain: crate::call::Chain::default(), ..Call::new(Deadline::after(READY)) };
        // Not one of the plugin's calls: a stop neither refuses it nor waits for it.
        let place = match calls::Calls::apart().enter("is_ready", &call) {
            Ok(place) => place,
            Err(e) => return failed(e),
        };
        match Inner::run_here(&self.inner, Ready { request: dispatch::Request::IsReady, call, place, queued: false }) {
            Ok((ready, _)) if ready == "true" => Health { ready: true, last_error: String::new() },
            Ok(_) => Health { ready: false, last_error: "The plugin says that it is not ready.".to_owned() },
            Err(e) if e.kind() == Kind::UnknownFunction => Health { ready: true, last_error: String::new() },
            Err(e) if e.kind() == Kind::Timeout => failed(Error::new(Kind::Timeout, "The plugin did not answer IsReady within 100 ms.")),
            Err(e) => failed(e),
        }
    }

    /// Takes no more calls, waits for those in flight until `drain`, ends the others with `cancelled`, and then the process:
    /// asked, terminated, killed, at most three seconds in all. Again does nothing.
    pub fn stop(&self, drain: &Deadline) {
        let inner = &self.inner;
        if !inner.calls.close() {
            inner.process.gone_within(SHUTDOWN + TERMINATE + KILL);
            return;
        }
        inner.calls.drained(drain);
        inner.context.ending.cancel();
        inner.calls.drained(&Deadline::after(CANCELLED));
        inner.process.expected.store(true, Ordering::Release);
        if !inner.process.gone.is_set() {
            inner.ask_to_end();
            inner.process.end_by_force();
        }
        inner.line.close();
        inner.on_shared.close();
        inner.flushed.wait(FLUSH);
        drop(inner.folder.lock().unwrap_or_else(PoisonError::into_inner).take());
    }

    /// The number of its process.
    pub fn pid(&self) -> i32 {
        self.inner.process.pid()
    }
}

impl Inner {
    fn ready(&self, request: dispatch::Request, name: &str, call: &Call) -> Result<Ready> {
        let mut call = call.clone();
        // A call from inside a callback may be what those that are in flight wait for; callbacks are bounded themselves.
        let queued = call.chain.is_empty();
        call.chain = call.chain.enter(self.context.serial())?;
        if call.deadline.limit().is_none() {
            call.deadline = Deadline::after(self.call_timeout);
        }
        call.deadline = call.deadline.at_most(self.context.grants().timeout);
        // From here on, so that the plugin's host calls and this call end together.
        call.deadline.begin();
        let place = self.calls.enter(name, &call)?;
        Ok(Ready { request, call, place, queued })
    }

    fn terms(&self) -> client::Terms<'_> {
        client::Terms { process: &self.process, ending: &self.context.ending, message_size: self.context.grants().message_size }
    }

    /// Runs a call on the shared runtime.
    async fn run(&self, ready: &Ready) -> Result<dispatch::Reply> {
        let turn = async {
            tokio::select! {
                biased;
                turn = self.calls.turn(), if ready.queued => Ok(turn),
                () = self.process.gone.cancelled(), if ready.queued => Err(Error::new(Kind::Unavailable, "The process is gone.")),
                else => Ok(None),
            }
        };
        let cancels = [ready.call.cancel.as_ref(), Some(&self.context.ending)];
        let turn = first(turn, cancels, ready.call.deadline.moment()).await.and_then(|turn| turn);
        let _turn = turn.map_err(|e| self.no_turn(e))?;
        client::unary(&self.on_shared, &ready.request, &ready.call, &ready.place.id(), &self.terms()).await
    }

    /// Waits on this thread until the process may be given one more call.
    fn turn_here(&self, ready: &Ready) -> Result<Option<SemaphorePermit<'_>>> {
        if !ready.queued {
            return Ok(None);
        }
        let mut turn = pin!(self.calls.turn());
        let waker = thread_waker();
        let cancels = [ready.call.cancel.as_ref(), Some(&self.context.ending), Some(&self.process.gone)];
        wait(
            &ready.call.deadline,
            &cancels,
            |_| (),
            || match turn.as_mut().poll(&mut Context::from_waker(&waker)) {
                Poll::Ready(turn) => Some(turn),
                Poll::Pending => None,
            },
        )
        .map_err(|e| self.no_turn(e))
    }

    /// Why a call did not come to its turn.
    fn no_turn(&self, e: Error) -> Error {
        let late =
            "The deadline of the call passed while it waited for its turn: the plugin has as many calls in flight as it is given at once.";
        let e = match e.kind() {
            _ if self.process.gone.is_set() => self.process.ended_briefly(Kind::Unavailable, "The call was not made"),
            Kind::Timeout => Error::new(Kind::Timeout, late),
            _ => e,
        };
        e.of_no_run()
    }

    /// Runs a call on this thread, which does the connection's work meanwhile. One whose stack is small has no room for that: it
    /// waits for the shared runtime instead.
    fn run_here(inner: &Arc<Inner>, ready: Ready) -> Result<dispatch::Reply> {
        if sys::stack_left() >= DRIVING_STACK {
            let _turn = inner.turn_here(&ready)?;
            return client::unary_here(&inner.line, &ready.request, &ready.call, &ready.place.id(), &inner.terms());
        }
        let own = inner.clone();
        elsewhere(&inner.shared, async move { own.run(&ready).await })?
    }

    /// go-plugin's `Shutdown`. A process that ends before it has answered has done what it was asked.
    fn ask_to_end(&self) {
        let (connection, gone) = (self.on_shared.clone(), self.process.gone.clone());
        drop(elsewhere(&self.shared, async move {
            let asked = async {
                // Not taken: the process has to be told by a signal.
                if client::shut_down(&connection).await {
                    gone.cancelled().await;
                }
            };
            tokio::select! {
                () = gone.cancelled() => (),
                () = asked => (),
                () = tokio::time::sleep(SHUTDOWN) => (),
            }
        }));
    }
}

impl Drop for Inner {
    fn drop(&mut self) {
        self.process.expected.store(true, Ordering::Release);
        if !self.process.gone.is_set() {
            self.process.signal(sys::process::Signal::Kill);
        }
    }
}

/// Runs a future on the shared runtime and waits for it, from any thread but one of the runtime's workers.
fn elsewhere<T: Send + 'static>(shared: &Handle, work: impl Future<Output = T> + Send + 'static) -> Result<T> {
    let (answer, result) = mpsc::sync_channel(1);
    shared.spawn(async move { drop(answer.send(work.await)) });
    result.recv().map_err(|_| Error::new(Kind::Unavailable, "The host is closing."))
}

/// Waits for the first of: a value, a token, a moment.
async fn first<T>(work: impl Future<Output = T>, cancels: [Option<&Cancel>; 2], moment: Option<std::time::Instant>) -> Result<T> {
    tokio::select! {
        biased;
        value = work => Ok(value),
        () = client::cancelled(&cancels) => Err(Error::new(Kind::Cancelled, "The call was cancelled.")),
        () = client::until(moment) => Err(Error::new(Kind::Timeout, "The deadline passed.")),
    }
}
