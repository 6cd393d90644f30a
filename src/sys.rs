//! What only the system can do, and with it the `unsafe` below the C ABI: signal masks, the stack that is left, the
//! page that a `fork` wipes, vector instructions, values that are replaced while they are read. Imports nothing of this
//! crate: failures are plain values.
#![expect(unsafe_code, reason = "system calls that std does not offer")]

use std::cell::Cell;
use std::fs::File;
use std::io;
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU8, Ordering};

pub mod desk;
pub mod loan;
pub mod poll;
pub mod process;
pub mod readers;
#[cfg(target_arch = "x86_64")]
pub mod simd;
pub mod swap;
mod sync;

/// The stack of the library's threads, in bytes: room for a guest's whole stack and the host calls on top of it.
pub const STACK_SIZE: usize = 4 << 20;

/// Blocks every signal on this thread but the synchronous ones that a fault raises (SEGV, BUS, ILL, FPE): signals sent
/// to the process are the embedding program's, on its own threads.
pub fn block_signals() {
    // SAFETY: the set is initialised by sigfillset before it is read, and both pointers live for the calls; a null old
    // set is allowed by pthread_sigmask.
    #[expect(clippy::multiple_unsafe_ops_per_block, reason = "one set, filled, trimmed and applied")]
    unsafe {
        let mut set = std::mem::MaybeUninit::<libc::sigset_t>::uninit();
        libc::sigfillset(set.as_mut_ptr());
        for signal in [libc::SIGSEGV, libc::SIGBUS, libc::SIGILL, libc::SIGFPE] {
            libc::sigdelset(set.as_mut_ptr(), signal);
        }
        libc::pthread_sigmask(libc::SIG_BLOCK, set.as_ptr(), std::ptr::null_mut());
    }
}

thread_local! {
    /// The lowest address of this thread's stack; 0: the system does not tell; [`usize::MAX`]: nobody has asked yet.
    static LOWEST: Cell<usize> = const { Cell::new(usize::MAX) };
}

/// Bytes of native stack left below this frame; `usize::MAX` where the system does not tell.
#[inline]
pub fn stack_left() -> usize {
    #[cold]
    fn find() -> usize {
        let lowest = lowest_stack_address().unwrap_or(0);
        LOWEST.set(lowest);
        lowest
    }
    let lowest = match LOWEST.get() {
        usize::MAX => find(),
        known => known,
    };
    if lowest == 0 {
        return usize::MAX;
    }
    let here = 0u8;
    (&raw const here as usize).saturating_sub(lowest)
}

/// Whether bytes are ASCII; it may say no to what is shorter than 64.
#[inline]
pub fn is_ascii(text: &[u8]) -> bool {
    #[cfg(target_arch = "x86_64")]
    return simd::is_ascii(text);
    #[cfg(not(target_arch = "x86_64"))]
    text.is_ascii()
}

/// A number that threads seldom share, by where their stacks lie: cheaper than a thread's own variable in a shared library,
/// and good enough to choose a counter by.
#[inline]
pub fn thread_mark() -> usize {
    let here = 0u8;
    (&raw const here as usize >> 18).wrapping_mul(0x9e37_79b9) >> 24
}

/// Nanoseconds of the clock that [`std::time::Instant`] reads.
pub fn clock() -> u64 {
    read_clock(libc::CLOCK_MONOTONIC)
}

/// The same as it was at the kernel's last tick: a few milliseconds behind, at a fifth of the cost.
pub fn coarse_clock() -> u64 {
    read_clock(libc::CLOCK_MONOTONIC_COARSE)
}

fn read_clock(clock: libc::clockid_t) -> u64 {
    let mut time = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    // SAFETY: both clocks are there since Linux 2.6.32, and the pointer lives for the call.
    unsafe { libc::clock_gettime(clock, &raw mut time) };
    time.tv_sec.cast_unsigned() * 1_000_000_000 + time.tv_nsec.cast_unsigned()
}

/// Runs `work` here if this thread has `needed` bytes of stack left, else on a new thread with the stack of the library's
/// own, while this one waits.
pub fn with_stack<R: Send>(needed: usize, work: impl FnOnce() -> R + Send) -> io::Result<R> {
    if stack_left() >= needed {
        return Ok(work());
    }
    std::thread::scope(|scope| {
        let on_thread = || {
            block_signals();
            work()
        };
        let thread = std::thread::Builder::new().name("flowplug-call".to_owned()).stack_size(STACK_SIZE);
        let thread = thread.spawn_scoped(scope, on_thread)?;
        Ok(thread.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic)))
    })
}

fn lowest_stack_address() -> Option<usize> {
    let mut attributes = std::mem::MaybeUninit::<libc::pthread_attr_t>::uninit();
    // SAFETY: pthread_self has no preconditions.
    let this = unsafe { libc::pthread_self() };
    // SAFETY: pthread_getattr_np initialises the attributes of the calling thread, which is alive.
    if unsafe { libc::pthread_getattr_np(this, attributes.as_mut_ptr()) } != 0 {
        return None;
    }
    let (mut lowest, mut size, mut guard) = (std::ptr::null_mut(), 0usize, 0usize);
    // SAFETY: the attributes were initialised above, the outputs live for the calls, and the attributes are destroyed
    // once and not used after.
    #[expect(clippy::multiple_unsafe_ops_per_block, reason = "one object, read and destroyed")]
    let read = unsafe {
        let stack = libc::pthread_attr_getstack(attributes.as_ptr(), &raw mut lowest, &raw mut size);
        libc::pthread_attr_getguardsize(attributes.as_ptr(), &raw mut guard);
        libc::pthread_attr_destroy(attributes.as_mut_ptr());
        stack
    };
    (read == 0).then(|| lowest as usize + guard)
}

/// Opens a folder by its own path, links resolved; an error if the path leads through a link now.
pub fn open_folder(path: &Path) -> io::Result<OwnedFd> {
    let flags = libc::O_DIRECTORY | libc::O_NOFOLLOW;
    let folder = OwnedFd::from(File::options().read(true).custom_flags(flags).open(path)?);
    if std::fs::read_link(reopened(&folder))? == path {
        Ok(folder)
    } else {
        Err(io::Error::new(io::ErrorKind::NotADirectory, "it is not where it was: the path leads through a link"))
    }
}

/// Opens a file for reading, if it is a regular one. Neither asks first nor waits: a pipe of this name, put there at any
/// moment, would keep who opens it waiting for a writer.
pub fn open_regular(path: &Path) -> io::Result<File> {
    let file = File::options().read(true).custom_flags(libc::O_NONBLOCK | libc::O_NOCTTY).open(path)?;
    if file.metadata()?.is_file() { Ok(file) } else { Err(io::Error::new(io::ErrorKind::InvalidInput, "it is not a regular file")) }
}

/// A path by which an open folder can be opened again, wherever it has been moved.
pub fn reopened(folder: &OwnedFd) -> PathBuf {
    PathBuf::from(format!("/proc/self/fd/{}", folder.as_raw_fd()))
}

/// Bytes of memory that a process has resident; none if it is gone.
pub fn resident(pid: i32) -> Option<u64> {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).ok()?;
    let kib = status.lines().find_map(|line| line.strip_prefix("VmRSS:"))?.trim().strip_suffix(" kB")?;
    Some(kib.trim().parse::<u64>().ok()? * 1024)
}

/// Whether this process is a child made by `fork` of the one that first asked: its threads are gone, its locks may be
/// held by nobody, and nothing of this library works in it.
pub fn forked() -> bool {
    static PAGE: OnceLock<Option<&'static AtomicU8>> = OnceLock::new();
    match PAGE.get_or_init(wiped_page) {
        Some(mark) => mark.load(Ordering::Relaxed) == 0,
        None => false,
    }
}

/// A page that holds 1 here and 0 in a forked child; none where the kernel is older than `MADV_WIPEONFORK` (4.14).
fn wiped_page() -> Option<&'static AtomicU8> {
    // SAFETY: a fresh anonymous mapping at an address of the kernel's choice touches nothing that exists.
    let page = unsafe {
        libc::mmap(std::ptr::null_mut(), 4096, libc::PROT_READ | libc::PROT_WRITE, libc::MAP_PRIVATE | libc::MAP_ANONYMOUS, -1, 0)
    };
    if page == libc::MAP_FAILED {
        return None;
    }
    // SAFETY: the range is the mapping made above, which nobody else knows.
    if unsafe { libc::madvise(page, 4096, libc::MADV_WIPEONFORK) } != 0 {
        return None;
    }
    // SAFETY: the mapping is page-aligned, zeroed, readable and writable, and is never unmapped; an AtomicU8 is valid
    // for every byte, the zero that a fork leaves included.
    let mark = unsafe { &*page.cast::<AtomicU8>() };
    mark.store(1, Ordering::Relaxed);
    Some(mark)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_stack_of_a_small_thread_is_known() {
        let small = std::thread::Builder::new().stack_size(256 << 10).spawn(stack_left).unwrap().join().unwrap();
        assert!((64 << 10..=260 << 10).contains(&small), "{small}");
        assert!(stack_left() > small);
    }

    #[test]
    fn only_a_regular_file_is_opened_and_a_pipe_is_not_waited_for() {
        let folder = std::env::temp_dir().join(format!("flowplug-regular-{}", std::process::id()));
        std::fs::create_dir(&folder).unwrap();
        std::fs::write(folder.join("file"), "text").unwrap();
        let pipe = std::ffi::CString::new(folder.join("pipe").into_os_string().into_encoded_bytes()).unwrap();
        // SAFETY: the path is a C string that lives for the call.
        assert_eq!(unsafe { libc::mkfifo(pipe.as_ptr(), 0o600) }, 0);
        let mut text = String::new();
        io::Read::read_to_string(&mut open_regular(&folder.join("file")).unwrap(), &mut text).unwrap();
        assert_eq!(text, "text");
        for other in ["pipe", "."] {
            assert_eq!(open_regular(&folder.join(other)).unwrap_err().kind(), io::ErrorKind::InvalidInput, "{other}");
        }
        std::fs::remove_dir_all(folder).unwrap();
    }

    #[test]
    fn the_memory_of_a_process_is_known_while_it_is_there() {
        assert!(resident(i32::try_from(std::process::id()).unwrap()).unwrap() > 1 << 20);
        assert_eq!(resident(-1), None);
    }

    #[test]
    fn this_process_is_not_forked() {
        assert!(!forked());
    }
}
