//! Starting and ending the process of a plugin, so that nothing of it outlives this one.
//!
//! Three holds on it: it leads a process group of its own, which is killed as a whole; the kernel kills it when the
//! thread that made it ends (so one thread that never ends makes them all); and a watchdog process kills its group when
//! this process is gone, however it went. What leaves the group by `setsid` is past all three.
//!
//! The child is known by a descriptor, not by its number, and is waited for by that descriptor alone: the embedding
//! program's own children and its SIGCHLD handler are none of our business.

use std::ffi::{CString, OsString, c_char, c_int};
use std::io::{self, IoSlice, Read};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd, RawFd};
use std::os::unix::ffi::OsStringExt;
use std::path::PathBuf;
use std::sync::mpsc::{self, Sender};
use std::sync::{Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::{Duration, Instant};

use tokio::io::Interest;
use tokio::io::unix::AsyncFd;

mod born;

/// What to run.
#[derive(Debug)]
pub struct Command {
    /// The file to run, absolute; never looked up in `PATH`.
    pub program: PathBuf,
    /// The arguments after the program's name, which is its path.
    pub args: Vec<OsString>,
    /// The whole environment; nothing is inherited beside it.
    pub env: Vec<(OsString, OsString)>,
}

/// A signal for a whole group.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Signal {
    /// Asks to end.
    Terminate,
    /// Ends.
    Kill,
}

/// A child that runs, and our ends of its pipes. Its standard input is `/dev/null`.
#[derive(Debug)]
pub struct Started {
    /// The process.
    pub child: Child,
    /// What it prints.
    pub stdout: OwnedFd,
    /// What it complains about.
    pub stderr: OwnedFd,
}

/// How a process ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Exit {
    /// By itself, with this status.
    Status(i32),
    /// By this signal.
    Signal(i32),
    /// Somebody else in this process took the answer.
    Unknown,
}

/// A child and its process group. Dropped, it is killed and waited for.
#[derive(Debug)]
pub struct Child {
    pid: libc::pid_t,
    pidfd: OwnedFd,
    held: Mutex<Held>,
}

#[derive(Debug)]
struct Held {
    watchdog: Option<Watchdog>,
    exit: Option<Exit>,
}

/// How long a killed process may take to be gone before it is left to the system.
const KILLED: Duration = Duration::from_secs(2);

impl Child {
    /// Its number, which is that of its group too.
    pub fn pid(&self) -> i32 {
        self.pid
    }

    /// Tells when the process has ended. Made in the context of a tokio runtime.
    pub fn ended(&self) -> io::Result<Ended> {
        let own = self.pidfd.try_clone()?;
        // SAFETY: the descriptor is owned by the value that is registered, which nobody else can reach or replace.
        Ok(Ended(unsafe { AsyncFd::register_with_interest(own, Interest::READABLE) }?))
    }

    /// Sends a signal to the whole group, unless the child has been waited for: its number may be another's then.
    pub fn signal_group(&self, signal: Signal) {
        let held = self.held();
        if held.exit.is_none() {
            kill_group(
                self.pid,
                match signal {
                    Signal::Terminate => libc::SIGTERM,
                    Signal::Kill => libc::SIGKILL,
                },
            );
        }
    }

    /// Kills what is left of the group, lets the watchdog go and takes the exit status. Waits a bounded time for a child
    /// that has not ended yet. Again gives the same answer.
    pub fn end(&self) -> Exit {
        let mut held = self.held();
        if let Some(exit) = held.exit {
            return exit;
        }
        // Before the child is waited for: until then nobody else can have its number.
        kill_group(self.pid, libc::SIGKILL);
        if let Some(watchdog) = held.watchdog.take() {
            watchdog.dismiss();
        }
        readable(self.pidfd.as_fd(), KILLED);
        let exit = wait(self.pidfd.as_fd());
        held.exit = Some(exit);
        exit
    }

    fn held(&self) -> MutexGuard<'_, Held> {
        self.held.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Child {
    fn drop(&mut self) {
        self.end();
    }
}

/// The end of a child, to be waited for.
#[derive(Debug)]
pub struct Ended(AsyncFd<OwnedFd>);

impl Ended {
    /// Resolves when the process has ended.
    pub async fn wait(&self) {
        drop(self.0.readable().await);
    }
}

/// The process that outlives this one by a moment, to kill the group.
#[derive(Debug)]
struct Watchdog(OwnedFd);

impl Watchdog {
    /// Ends it without its having killed anything, and waits for it.
    fn dismiss(self) {
        kill(self.0.as_fd());
        readable(self.0.as_fd(), KILLED);
        wait(self.0.as_fd());
    }
}

type Job = Box<dyn FnOnce() + Send>;

/// Why the system did not run a program, where there is something to be done about it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Refusal {
    /// Not a program of this machine.
    WrongFormat,
    /// What the program names as its interpreter or loader is missing.
    NoInterpreter,
    /// Not executable for this user, or not on this file system.
    NotPermitted,
    /// Open for writing.
    BeingWritten,
    /// Arguments or environment too large.
    TooLong,
    /// The limit on processes or memory is reached.
    NoRoom,
    /// Anything else.
    Other,
}

impl Refusal {
    /// From the error of [`start`], for a program that exists.
    pub fn of(e: &io::Error) -> Self {
        match e.raw_os_error() {
            Some(libc::ENOEXEC) => Refusal::WrongFormat,
            Some(libc::ENOENT | libc::ELIBBAD) => Refusal::NoInterpreter,
            Some(libc::EACCES | libc::EPERM) => Refusal::NotPermitted,
            Some(libc::ETXTBSY) => Refusal::BeingWritten,
            Some(libc::E2BIG) => Refusal::TooLong,
            Some(libc::EAGAIN | libc::ENOMEM | libc::EMFILE | libc::ENFILE) => Refusal::NoRoom,
            _ => Refusal::Other,
        }
    }
}

/// Starts a process. Blocks until the program runs or the system has said why it does not.
pub fn start(command: Command) -> io::Result<Started> {
    static MAKER: OnceLock<Option<Sender<Job>>> = OnceLock::new();
    let maker = MAKER.get_or_init(|| {
        let (jobs, queue) = mpsc::channel::<Job>();
        let run = move || {
            super::block_signals();
            for job in queue {
                job();
            }
        };
        std::thread::Builder::new().name("flowplug-start".into()).spawn(run).ok().map(|_| jobs)
    });
    let lost = || io::Error::other("the thread that starts processes could not be made");
    let (answer, result) = mpsc::sync_channel(1);
    let job = Box::new(move || drop(answer.send(start_here(&command))));
    maker.as_ref().ok_or_else(lost)?.send(job).map_err(|_| lost())?;
    result.recv().map_err(|_| lost())?
}

fn start_here(command: &Command) -> io::Result<Started> {
    let (watchdog, register) = start_watchdog()?;
    match start_child(command, &register) {
        Ok((pid, pidfd, stdout, stderr)) => {
            let held = Mutex::new(Held { watchdog: Some(watchdog), exit: None });
            Ok(Started { child: Child { pid, pidfd, held }, stdout, stderr })
        }
        Err(e) => {
            watchdog.dismiss();
            Err(e)
        }
    }
}

/// Makes the watchdog, and the descriptor through which the child tells it its number.
fn start_watchdog() -> io::Result<(Watchdog, OwnedFd)> {
    let (registered, register) = io::pipe()?;
    let (registered, register) = (high(registered.into())?, high(register.into())?);
    let host = high(pidfd_open(std::process::id())?)?;
    match clone_process(0)? {
        Cloned::Here => born::watch(registered.as_raw_fd(), host.as_raw_fd()),
        Cloned::Made { pidfd, .. } => Ok((Watchdog(pidfd), register)),
    }
}

fn start_child(command: &Command, register: &OwnedFd) -> io::Result<(libc::pid_t, OwnedFd, OwnedFd, OwnedFd)> {
    let null = high(OwnedFd::from(std::fs::File::open("/dev/null")?))?;
    let (stdout, stdout_theirs) = io::pipe()?;
    let (stderr, stderr_theirs) = io::pipe()?;
    let (failed, failed_theirs) = io::pipe()?;
    let (stdout_theirs, stderr_theirs) = (high(stdout_theirs.into())?, high(stderr_theirs.into())?);
    let failed_theirs = high(failed_theirs.into())?;
    let text = |bytes: Vec<u8>| CString::new(bytes).map_err(io::Error::from);
    let program = text(command.program.clone().into_os_string().into_vec())?;
    let args: Vec<CString> = command.args.iter().map(|arg| text(arg.clone().into_vec())).collect::<io::Result<_>>()?;
    let variable = |(name, value): &(OsString, OsString)| text([name.clone().into_vec(), value.clone().into_vec()].join(&b'='));
    let env: Vec<CString> = command.env.iter().map(variable).collect::<io::Result<_>>()?;
    let (argv, envp) = (pointers(std::iter::once(&program).chain(&args)), pointers(&env));
    let plan = born::Plan {
        program: program.as_ptr(),
        argv: argv.as_ptr(),
        envp: envp.as_ptr(),
        stdio: [null.as_raw_fd(), stdout_theirs.as_raw_fd(), stderr_theirs.as_raw_fd()],
        failed: failed_theirs.as_raw_fd(),
        register: register.as_raw_fd(),
        parent: std::process::id().cast_signed(),
    };
    let (pid, pidfd) = match clone_process(libc::SIGCHLD)? {
        Cloned::Here => born::become_program(&plan),
        Cloned::Made { pid, pidfd } => (pid, pidfd),
    };
    drop((null, stdout_theirs, stderr_theirs, failed_theirs));
    match exec_failure(failed) {
        None => Ok((pid, pidfd, stdout.into(), stderr.into())),
        Some(e) => {
            readable(pidfd.as_fd(), KILLED);
            wait(pidfd.as_fd());
            Err(e)
        }
    }
}

/// Why the program does not run; none once it runs. The pipe is closed by a successful exec; where a fork of the
/// embedding program happens to hold a copy of it, the bound ends the wait and the handshake has the last word.
fn exec_failure(mut failed: io::PipeReader) -> Option<io::Error> {
    if !readable(failed.as_fd(), Duration::from_secs(5)) {
        return None;
    }
    let mut errno = [0; 4];
    failed.read_exact(&mut errno).ok()?;
    Some(io::Error::from_raw_os_error(i32::from_ne_bytes(errno)))
}

fn pointers<'a>(texts: impl IntoIterator<Item = &'a CString>) -> Vec<*const c_char> {
    texts.into_iter().map(|text| text.as_ptr()).chain([std::ptr::null()]).collect()
}

enum Cloned {
    Here,
    Made { pid: libc::pid_t, pidfd: OwnedFd },
}

/// `fork` with a descriptor for the child, and without the handlers that the embedding program registered for forks.
/// A child without an exit signal is invisible to `waitpid(-1)` and raises no SIGCHLD.
fn clone_process(exit_signal: c_int) -> io::Result<Cloned> {
    let mut pidfd: RawFd = -1;
    let flags = libc::CLONE_PIDFD | exit_signal;
    // SAFETY: without CLONE_VM the child has a copy of everything; it goes on with code that only makes system calls
    // (module `born`) and never returns. The descriptor's place lives for the call.
    let pid = unsafe { libc::syscall(libc::SYS_clone, flags, 0usize, &raw mut pidfd, 0usize, 0usize) };
    match pid {
        0 => Ok(Cloned::Here),
        1.. => {
            // SAFETY: the kernel has just made this descriptor for us; nobody else knows it.
            let pidfd = unsafe { OwnedFd::from_raw_fd(pidfd) };
            Ok(Cloned::Made { pid: libc::pid_t::try_from(pid).unwrap_or(0), pidfd })
        }
        _ => Err(io::Error::last_os_error()),
    }
}

fn pidfd_open(pid: u32) -> io::Result<OwnedFd> {
    // SAFETY: takes and gives plain numbers.
    let fd = unsafe { libc::syscall(libc::SYS_pidfd_open, pid, 0) };
    let fd = RawFd::try_from(fd).ok().filter(|fd| *fd >= 0).ok_or_else(io::Error::last_os_error)?;
    // SAFETY: the kernel has just made this descriptor for us; nobody else knows it.
    Ok(unsafe { OwnedFd::from_raw_fd(fd) })
}

/// The same descriptor with a number past the standard three, so that making those three cannot overwrite it (a program
/// that runs without them gets their numbers for whatever it opens).
fn high(fd: OwnedFd) -> io::Result<OwnedFd> {
    if fd.as_raw_fd() > 2 {
        return Ok(fd);
    }
    // SAFETY: the descriptor is open; the call gives a new one.
    let new = unsafe { libc::fcntl(fd.as_raw_fd(), libc::F_DUPFD_CLOEXEC, 3) };
    if new < 0 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: the kernel has just made this descriptor for us; nobody else knows it.
    Ok(unsafe { OwnedFd::from_raw_fd(new) })
}

fn kill_group(pid: libc::pid_t, signal: c_int) {
    // Zero and one would be our own group, and everything.
    if pid > 1 {
        // SAFETY: takes plain numbers; a group that is gone is an error that nobody needs.
        unsafe { libc::kill(-pid, signal) };
    }
}

fn kill(pidfd: BorrowedFd<'_>) {
    // SAFETY: the descriptor is open, and a null information block is allowed.
    unsafe { libc::syscall(libc::SYS_pidfd_send_signal, pidfd.as_raw_fd(), libc::SIGKILL, 0usize, 0) };
}

/// Takes the status of a child that has ended; does not wait for one that has not.
fn wait(pidfd: BorrowedFd<'_>) -> Exit {
    let mut info = std::mem::MaybeUninit::<libc::siginfo_t>::zeroed();
    let id = libc::id_t::try_from(pidfd.as_raw_fd()).unwrap_or(0);
    let options = libc::WEXITED | libc::WNOHANG | libc::__WALL;
    // SAFETY: the block lives for the call and every bit pattern is valid for it.
    let waited = unsafe { libc::waitid(libc::P_PIDFD, id, info.as_mut_ptr(), options) };
    // SAFETY: it was zeroed above, which is a valid value, and at most overwritten by the kernel.
    let info = unsafe { info.assume_init() };
    // SAFETY: the field is valid after waitid, which has zeroed it where no child had ended.
    let status = unsafe { info.si_status() };
    match info.si_code {
        _ if waited != 0 => Exit::Unknown,
        libc::CLD_EXITED => Exit::Status(status),
        libc::CLD_KILLED | libc::CLD_DUMPED => Exit::Signal(status),
        _ => Exit::Unknown,
    }
}

/// Waits until a descriptor can be read or was closed at the other end; false if the time passes first.
fn readable(fd: BorrowedFd<'_>, limit: Duration) -> bool {
    let until = Instant::now() + limit;
    let mut poll = libc::pollfd { fd: fd.as_raw_fd(), events: libc::POLLIN, revents: 0 };
    loop {
        let left = until.saturating_duration_since(Instant::now());
        let millis = c_int::try_from(left.as_millis()).unwrap_or(c_int::MAX).saturating_add(1);
        // SAFETY: one entry, which lives for the call.
        let ready = unsafe { libc::poll(&raw mut poll, 1, millis) };
        if ready > 0 {
            return true;
        }
        if left.is_zero() {
            return false;
        }
    }
}

/// Writes to a socket without ever raising SIGPIPE: the writing thread may be the embedding program's.
pub fn send(socket: BorrowedFd<'_>, parts: &[IoSlice<'_>]) -> io::Result<usize> {
    // SAFETY: all zero is a valid message header: no name, no parts, no control data.
    let mut message: libc::msghdr = unsafe { std::mem::zeroed() };
    message.msg_iov = parts.as_ptr().cast_mut().cast();
    message.msg_iovlen = parts.len().min(libc::UIO_MAXIOV as usize) as _;
    // SAFETY: IoSlice is an iovec by its documentation; the parts outlive the call, which only reads them.
    let sent = unsafe { libc::sendmsg(socket.as_raw_fd(), &raw const message, libc::MSG_NOSIGNAL) };
    usize::try_from(sent).map_err(|_| io::Error::last_os_error())
}
