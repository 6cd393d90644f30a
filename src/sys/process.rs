//! Starting and ending the process of a plugin, so that nothing of it outlives this one.
//!
//! Three holds on it: it leads a process group of its own, which is killed as a whole; the kernel kills it when the
//! thread that made it ends (so one thread that never ends makes them all); and a watchdog process kills its group when
//! this process is gone, however it went. What leaves the group by `setsid` is past all three.
//!
//! The child is known by a descriptor, not by its number, and is waited for by that descriptor alone: the embedding
//! program's own children and its SIGCHLD handler are none of our business.

use std::ffi::{OsString, c_int};
use std::fs::File;
use std::io::{self, IoSlice};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::path::PathBuf;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use tokio::io::Interest;
use tokio::io::unix::AsyncFd;

mod born;
mod memory;
mod spawn;

pub use spawn::start;

/// What to run.
#[derive(Debug)]
pub struct Command {
    /// The file to run, absolute; never looked up in `PATH`.
    pub program: PathBuf,
    /// That file, open for reading: it is the one that runs, whatever its name leads to by now. A script that is run so
    /// is told `/dev/fd/N` as its own path, because its interpreter opens it anew.
    pub pinned: Option<File>,
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
    /// Closed when the program runs. Before that, if the system does not run it, the number of the reason, an `i32`. A
    /// copy that a fork of the embedding program happens to hold keeps it open, so that nobody may wait for this alone.
    pub refused: OwnedFd,
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
    /// From what [`Started::refused`] says, for a program that exists.
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

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Read;
    use std::os::unix::net::UnixStream;

    #[test]
    fn a_write_to_a_closed_socket_is_an_error_and_no_signal() {
        let raised = |write: fn(&UnixStream) -> io::Result<usize>| {
            super::super::block_signals();
            let (ours, theirs) = UnixStream::pair().unwrap();
            drop(theirs);
            assert_eq!(write(&ours).unwrap_err().kind(), io::ErrorKind::BrokenPipe);
            let mut pending = std::mem::MaybeUninit::<libc::sigset_t>::uninit();
            // SAFETY: the set lives for the call, which initialises it.
            assert_eq!(unsafe { libc::sigpending(pending.as_mut_ptr()) }, 0);
            // SAFETY: initialised above.
            unsafe { libc::sigismember(pending.as_ptr(), libc::SIGPIPE) }
        };
        let here = move |write| std::thread::spawn(move || raised(write)).join().unwrap();
        assert_eq!(here(|socket| send(socket.as_fd(), &[IoSlice::new(b"x")])), 0);
    }

    #[test]
    fn a_child_has_its_own_group_and_its_end_is_known() {
        let shell = |script: &str| {
            let args = ["-c", script].map(OsString::from).to_vec();
            start(Command { program: "/bin/sh".into(), pinned: None, args, env: vec![("A".into(), "b c".into())] }).unwrap()
        };
        let mut said = String::new();
        let started = shell("echo \"$A\" $$; exit 5");
        io::PipeReader::from(started.stdout).read_to_string(&mut said).unwrap();
        assert_eq!(said.trim(), format!("b c {}", started.child.pid()));
        assert!(readable(started.child.pidfd.as_fd(), Duration::from_secs(20)));
        assert_eq!((started.child.end(), started.child.end()), (Exit::Status(5), Exit::Status(5)));
        let started = shell("sleep 600 & sleep 600");
        started.child.signal_group(Signal::Terminate);
        assert!(readable(started.child.pidfd.as_fd(), Duration::from_secs(20)));
        assert_eq!(started.child.end(), Exit::Signal(libc::SIGTERM));
    }

    #[test]
    fn what_cannot_run_says_why() {
        let why = |program: &str| {
            let started = start(Command { program: program.into(), pinned: None, args: Vec::new(), env: Vec::new() }).unwrap();
            let mut errno = [0; 4];
            io::PipeReader::from(started.refused).read_exact(&mut errno).unwrap();
            Refusal::of(&io::Error::from_raw_os_error(i32::from_ne_bytes(errno)))
        };
        assert_eq!(why("/nonexistent"), Refusal::NoInterpreter);
        assert_eq!(why("/etc/passwd"), Refusal::NotPermitted);
    }

    #[test]
    fn a_pinned_file_runs_whatever_its_name_leads_to() {
        let folder = std::env::temp_dir().join(format!("flowplug-pinned-{}", std::process::id()));
        std::fs::create_dir(&folder).unwrap();
        let (program, other) = (folder.join("program"), folder.join("other"));
        let said = |first: &std::path::Path, args: &[&str]| {
            std::fs::copy(first, &program).unwrap();
            let pinned = super::super::open_regular(&program).unwrap();
            std::fs::write(&other, "#!/bin/sh\necho another").unwrap();
            std::fs::set_permissions(&other, std::os::unix::fs::PermissionsExt::from_mode(0o755)).unwrap();
            std::fs::rename(&other, &program).unwrap();
            let args: Vec<_> = args.iter().map(OsString::from).collect();
            let mut said = String::new();
            loop {
                let pinned = Some(pinned.try_clone().unwrap());
                let started = start(Command { program: program.clone(), pinned, args: args.clone(), env: Vec::new() }).unwrap();
                io::PipeReader::from(started.stdout).read_to_string(&mut said).unwrap();
                let mut refused = [0; 4];
                // A process that another test is forking has, for a moment, the descriptor by which the file was written.
                match io::PipeReader::from(started.refused).read_exact(&mut refused) {
                    Ok(()) => assert_eq!(i32::from_ne_bytes(refused), libc::ETXTBSY),
                    Err(_) => break,
                }
            }
            said
        };
        assert_eq!(said("/bin/echo".as_ref(), &["the", "binary"]), "the binary\n");
        let script = folder.join("script");
        std::fs::write(&script, "#!/bin/sh\necho the script $1").unwrap();
        std::fs::set_permissions(&script, std::os::unix::fs::PermissionsExt::from_mode(0o755)).unwrap();
        assert_eq!(said(&script, &["x"]), "the script x\n");
        std::fs::remove_dir_all(folder).unwrap();
    }
}
