//! What runs in a fresh copy of this process. All other threads are gone in it and their locks may be held for ever, so
//! that it makes system calls and nothing else: no allocation, no lock, no panic, no return.

use std::ffi::{CStr, c_char, c_int, c_long};
use std::os::fd::RawFd;

use super::memory;

/// Everything that the child needs, prepared before it exists. The descriptors are past the standard three.
pub(super) struct Plan {
    pub(super) program: *const c_char,
    pub(super) argv: *const *const c_char,
    pub(super) envp: *const *const c_char,
    /// The program's file if that one and no other must run; else negative.
    pub(super) pinned: RawFd,
    /// Whether that file is a script, whose interpreter opens it anew: then the descriptor stays.
    pub(super) script: bool,
    pub(super) stdio: [RawFd; 3],
    /// Where the reason goes why the program does not run.
    pub(super) failed: RawFd,
    /// The watchdog's pipe: it is told the child's number before anything else can run in the group.
    pub(super) register: RawFd,
    pub(super) parent: libc::pid_t,
}

/// Becomes the program, or tells why not and exits.
pub(super) fn become_program(plan: &Plan) -> ! {
    // SAFETY: plain numbers.
    unsafe { libc::setpgid(0, 0) };
    // SAFETY: plain numbers.
    unsafe { libc::prctl(libc::PR_SET_PDEATHSIG, libc::SIGKILL) };
    // SAFETY: no arguments. A parent that ended before the line above sends nothing any more.
    if unsafe { libc::getppid() } != plan.parent {
        exit(127);
    }
    // SAFETY: no arguments.
    let own = unsafe { libc::getpid() };
    // SAFETY: the number lives for the call.
    if unsafe { libc::write(plan.register, (&raw const own).cast(), size_of::<libc::pid_t>()) } < 0 {
        fail(plan);
    }
    for (target, fd) in (0..).zip(plan.stdio) {
        // SAFETY: plain numbers; the source is past the standard three, so that none is overwritten before its turn.
        if unsafe { libc::dup2(fd, target) } < 0 {
            fail(plan);
        }
    }
    default_signals();
    keep_from_program(3);
    if plan.pinned >= 0 {
        if plan.script {
            // SAFETY: plain numbers.
            unsafe { libc::fcntl(plan.pinned, libc::F_SETFD, 0) };
        }
        // SAFETY: an open descriptor, an empty path, and two lists as below.
        unsafe { libc::syscall(libc::SYS_execveat, plan.pinned, c"".as_ptr(), plan.argv, plan.envp, libc::AT_EMPTY_PATH) };
        fail(plan);
    }
    // SAFETY: a path and two null-terminated lists of null-terminated texts, made by the parent from values that this
    // process has a copy of.
    unsafe { libc::execve(plan.program, plan.argv, plan.envp) };
    fail(plan)
}

fn fail(plan: &Plan) -> ! {
    // SAFETY: errno is this thread's own.
    let place = unsafe { libc::__errno_location() };
    // SAFETY: as above; it is valid for as long as the thread lives.
    let errno: c_int = unsafe { *place };
    // SAFETY: the number lives for the call.
    unsafe { libc::write(plan.failed, (&raw const errno).cast(), size_of::<c_int>()) };
    exit(127)
}

/// Every signal as it is in a fresh process: what the embedding program ignores or blocks is not the plugin's choice.
fn default_signals() {
    for number in 1..=64 {
        // SAFETY: a plain number and the default action; the few that cannot be set answer with an error.
        unsafe { libc::signal(number, libc::SIG_DFL) };
    }
    let mut none = std::mem::MaybeUninit::<libc::sigset_t>::uninit();
    // SAFETY: the set lives for the call, which initialises it.
    unsafe { libc::sigemptyset(none.as_mut_ptr()) };
    // SAFETY: the set was initialised above; a null old set is allowed.
    unsafe { libc::sigprocmask(libc::SIG_SETMASK, none.as_ptr(), std::ptr::null_mut()) };
}

/// Marks every descriptor from `first` on to be closed by exec: what the embedding program opened without that mark is
/// not the plugin's to have.
fn keep_from_program(first: RawFd) {
    if close_range(first, libc::CLOSE_RANGE_CLOEXEC as c_int) == 0 {
        return;
    }
    for fd in first..DESCRIPTORS_WITHOUT_CLOSE_RANGE {
        // SAFETY: plain numbers; a number without a descriptor answers with an error.
        unsafe { libc::fcntl(fd, libc::F_SETFD, libc::FD_CLOEXEC) };
    }
}

/// How far descriptors are looked for where the kernel is older than `close_range` (5.9, its flag 5.11).
const DESCRIPTORS_WITHOUT_CLOSE_RANGE: RawFd = 65_536;

fn close_range(first: RawFd, flags: c_int) -> c_long {
    // SAFETY: plain numbers.
    unsafe { libc::syscall(libc::SYS_close_range, first, c_int::MAX, flags) }
}

/// Waits for the number of a child, then until this process's parent is gone, and kills the child's group. A parent that
/// needs it no longer kills it first. `host` is the parent's pidfd and not a pipe: a copy of a pipe's other end that a
/// fork of the embedding program holds would hide that the parent has died. `trim`: its memory may be given back.
pub(super) fn watch(registered: RawFd, host: RawFd, trim: bool) -> ! {
    // A session of its own: what is sent to the parent's group or terminal does not reach it.
    // SAFETY: no arguments.
    unsafe { libc::setsid() };
    // SAFETY: a constant text; a working directory would keep a mount busy.
    unsafe { libc::chdir(c"/".as_ptr()) };
    // SAFETY: a constant text, for those who list processes.
    unsafe { libc::prctl(libc::PR_SET_NAME, c"flowplug-guard".as_ptr()) };
    // SAFETY: plain numbers, both past the standard three.
    unsafe { libc::dup2(registered, 0) };
    // SAFETY: as above.
    unsafe { libc::dup2(host, 1) };
    // Whatever else this copy holds, the embedding program's sockets and pipes among it, must not live on in it.
    if close_range(2, 0) != 0 {
        for fd in 2..DESCRIPTORS_WITHOUT_CLOSE_RANGE {
            // SAFETY: a plain number.
            unsafe { libc::close(fd) };
        }
    }
    let mut child: libc::pid_t = 0;
    // SAFETY: the number lives for the call. The child writes it at once or has ended, and so small a text is never cut.
    let told = unsafe { libc::read(0, (&raw mut child).cast(), size_of::<libc::pid_t>()) };
    if told != size_of::<libc::pid_t>().cast_signed() || child <= 1 {
        exit(0);
    }
    if trim {
        // SAFETY: errno is this thread's own, and stands for all that is local to it.
        let local = unsafe { libc::__errno_location() };
        memory::release([(&raw const child) as usize, local as usize]);
    }
    let mut parent = libc::pollfd { fd: 1, events: libc::POLLIN, revents: 0 };
    while parent.revents == 0 {
        // SAFETY: one entry, which lives for the call; no bound and no signal mask.
        unsafe { libc::syscall(libc::SYS_ppoll, &raw mut parent, 1usize, 0usize, 0usize, 0usize) };
    }
    // SAFETY: plain numbers.
    unsafe { libc::syscall(libc::SYS_kill, -child, libc::SIGKILL) };
    exit(0)
}

/// Opens a file that is not kept by a program; negative where that fails.
pub(super) fn open_for_reading(path: &CStr) -> c_long {
    // SAFETY: a null-terminated path; the call gives a plain number.
    unsafe { libc::syscall(libc::SYS_openat, libc::AT_FDCWD, path.as_ptr(), libc::O_RDONLY | libc::O_CLOEXEC) }
}

fn exit(status: c_int) -> ! {
    loop {
        // SAFETY: ends this process without running anything of the embedding program.
        unsafe { libc::syscall(libc::SYS_exit_group, status) };
    }
}
