//! Making a process and its watchdog, on the one thread whose end the kernel would take for this process's.

use std::ffi::{CString, OsString, c_char, c_int};
use std::fs::File;
use std::io;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd, RawFd};
use std::os::unix::ffi::OsStringExt;
use std::os::unix::fs::FileExt;
use std::sync::mpsc::{self, Sender};
use std::sync::{Mutex, OnceLock};

use super::{Child, Command, Held, Started, Watchdog, born};
use crate::sys::block_signals;

type Job = Box<dyn FnOnce() + Send>;

/// Starts a process. Does not wait for the program to run: a file system may keep that waiting, and with it who asked, but
/// nobody else. [`Started::refused`] tells if it does not.
pub fn start(command: Command) -> io::Result<Started> {
    static MAKER: OnceLock<Option<Sender<Job>>> = OnceLock::new();
    let maker = MAKER.get_or_init(|| {
        let (jobs, queue) = mpsc::channel::<Job>();
        let run = move || {
            block_signals();
            for job in queue {
                job();
            }
        };
        std::thread::Builder::new().name("flowplug-start".into()).spawn(run).ok().map(|_| jobs)
    });
    let lost = || io::Error::other("the thread that starts processes could not be made");
    let (answer, result) = mpsc::sync_channel(1);
    let script = command.pinned.as_ref().is_some_and(is_script);
    let job = Box::new(move || drop(answer.send(start_here(&command, script))));
    maker.as_ref().ok_or_else(lost)?.send(job).map_err(|_| lost())?;
    result.recv().map_err(|_| lost())?
}

fn start_here(command: &Command, script: bool) -> io::Result<Started> {
    let (watchdog, register) = start_watchdog()?;
    match start_child(command, script, &register) {
        Ok(Made { pid, pidfd, stdout, stderr, refused }) => {
            let held = Mutex::new(Held { watchdog: Some(watchdog), exit: None });
            Ok(Started { child: Child { pid, pidfd, held }, stdout, stderr, refused })
        }
        Err(e) => {
            watchdog.dismiss();
            Err(e)
        }
    }
}

/// A child, and our ends of its pipes.
struct Made {
    pid: libc::pid_t,
    pidfd: OwnedFd,
    stdout: OwnedFd,
    stderr: OwnedFd,
    refused: OwnedFd,
}

/// Makes the watchdog, and the descriptor through which the child tells it its number.
fn start_watchdog() -> io::Result<(Watchdog, OwnedFd)> {
    let (registered, register) = io::pipe()?;
    let (registered, register) = (high(registered.into())?, high(register.into())?);
    let host = high(pidfd_open(std::process::id())?)?;
    let trim = !under_valgrind();
    match clone_process(0)? {
        Cloned::Here => born::watch(registered.as_raw_fd(), host.as_raw_fd(), trim),
        Cloned::Made { pidfd, .. } => Ok((Watchdog(pidfd), register)),
    }
}

/// Valgrind lives in the memory of the program that it runs, so a copy of it must not give that memory back.
fn under_valgrind() -> bool {
    static FOUND: OnceLock<bool> = OnceLock::new();
    *FOUND.get_or_init(|| std::fs::read("/proc/self/maps").is_ok_and(|maps| maps.windows(9).any(|part| part == b"vgpreload")))
}

fn start_child(command: &Command, script: bool, register: &OwnedFd) -> io::Result<Made> {
    let null = high(OwnedFd::from(std::fs::File::open("/dev/null")?))?;
    let (stdout, stdout_theirs) = io::pipe()?;
    let (stderr, stderr_theirs) = io::pipe()?;
    let (refused, failed_theirs) = io::pipe()?;
    let (stdout_theirs, stderr_theirs) = (high(stdout_theirs.into())?, high(stderr_theirs.into())?);
    let failed_theirs = high(failed_theirs.into())?;
    let pinned = command.pinned.as_ref().map(|file| high(file.try_clone()?.into())).transpose()?;
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
        pinned: pinned.as_ref().map_or(-1, AsRawFd::as_raw_fd),
        script,
        failed: failed_theirs.as_raw_fd(),
        register: register.as_raw_fd(),
        parent: std::process::id().cast_signed(),
    };
    let (pid, pidfd) = match clone_process(libc::SIGCHLD)? {
        Cloned::Here => born::become_program(&plan),
        Cloned::Made { pid, pidfd } => (pid, pidfd),
    };
    // The child does it too: whoever comes first, a signal for the group finds it from now on.
    // SAFETY: plain numbers; past the child's exec it is an error, and done.
    unsafe { libc::setpgid(pid, pid) };
    Ok(Made { pid, pidfd, stdout: stdout.into(), stderr: stderr.into(), refused: refused.into() })
}

/// Whether an interpreter will read the file, by a path that the system makes of its descriptor.
fn is_script(file: &File) -> bool {
    let mut start = [0; 2];
    file.read_exact_at(&mut start, 0).is_ok_and(|()| start == *b"#!")
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
