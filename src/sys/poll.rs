//! Waiting for a socket without a runtime, with a bell by which others call who waits.

use std::io;
use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd};
use std::time::Duration;

use tokio::io::ReadBuf;

/// What a socket is waited for, and what came of it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Ready {
    /// There is something to read, an end or an error included.
    pub read: bool,
    /// There is room to write, or an error to be found by writing.
    pub write: bool,
}

/// Calls a thread that waits in [`wait`]. Rung before the thread waits, it does not wait.
#[derive(Debug)]
pub struct Bell(OwnedFd);

impl Bell {
    /// A bell that was not rung.
    pub fn new() -> io::Result<Self> {
        // SAFETY: takes plain numbers.
        let fd = unsafe { libc::eventfd(0, libc::EFD_CLOEXEC | libc::EFD_NONBLOCK) };
        if fd < 0 {
            return Err(io::Error::last_os_error());
        }
        // SAFETY: the descriptor was made above and is nobody else's.
        Ok(Bell(unsafe { OwnedFd::from_raw_fd(fd) }))
    }

    /// Rings it, from any thread.
    pub fn ring(&self) {
        let one = 1u64;
        // SAFETY: eight bytes, which live for the call. It fails only where the count is full, which rings too.
        unsafe { libc::write(self.0.as_raw_fd(), (&raw const one).cast(), size_of::<u64>()) };
    }

    fn quiet(&self) {
        let mut count = 0u64;
        // SAFETY: room for eight bytes, which lives for the call. It fails only where the bell was not rung.
        unsafe { libc::read(self.0.as_raw_fd(), (&raw mut count).cast(), size_of::<u64>()) };
    }
}

/// Waits until the socket is what is wanted, the bell was rung, the time has passed or a signal came. A socket of which
/// nothing is wanted is not looked at.
pub fn wait(socket: BorrowedFd<'_>, wanted: Ready, bell: &Bell, limit: Option<Duration>) -> Ready {
    let mut events = 0;
    if wanted.read {
        events |= libc::POLLIN;
    }
    if wanted.write {
        events |= libc::POLLOUT;
    }
    let socket = if events == 0 { -1 } else { socket.as_raw_fd() };
    let mut fds =
        [libc::pollfd { fd: socket, events, revents: 0 }, libc::pollfd { fd: bell.0.as_raw_fd(), events: libc::POLLIN, revents: 0 }];
    let limit = limit.map(|limit| libc::timespec {
        tv_sec: libc::time_t::try_from(limit.as_secs()).unwrap_or(libc::time_t::MAX),
        tv_nsec: libc::c_long::from(limit.subsec_nanos() as i32),
    });
    let limit = limit.as_ref().map_or(std::ptr::null(), std::ptr::from_ref);
    // SAFETY: two entries and the time, which live for the call; a null time is none, a null mask leaves the signals.
    let found = unsafe { libc::ppoll(fds.as_mut_ptr(), 2, limit, std::ptr::null()) };
    if found <= 0 {
        return Ready::default();
    }
    let [socket, rung] = fds;
    if rung.revents != 0 {
        bell.quiet();
    }
    let broken = socket.revents & (libc::POLLERR | libc::POLLHUP | libc::POLLNVAL) != 0;
    Ready { read: broken || socket.revents & libc::POLLIN != 0, write: broken || socket.revents & libc::POLLOUT != 0 }
}

/// Reads what is there into the room that is left.
pub fn receive(socket: BorrowedFd<'_>, buf: &mut ReadBuf<'_>) -> io::Result<usize> {
    // SAFETY: nothing but initialised bytes is written to it below.
    let room = unsafe { buf.unfilled_mut() };
    // SAFETY: the room is writable for the time of the call.
    let count = unsafe { libc::recv(socket.as_raw_fd(), room.as_mut_ptr().cast(), room.len(), 0) };
    let count = usize::try_from(count).map_err(|_| io::Error::last_os_error())?;
    // SAFETY: the system has written so many bytes to the beginning of the room.
    unsafe { buf.assume_init(count) };
    buf.advance(count);
    Ok(count)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Write;
    use std::os::fd::AsFd;
    use std::os::unix::net::UnixStream;

    #[test]
    fn a_wait_ends_by_the_socket_the_bell_or_the_time() {
        let (ours, mut theirs) = UnixStream::pair().unwrap();
        let bell = Bell::new().unwrap();
        let reads = Ready { read: true, write: false };
        let long = Some(Duration::from_secs(3600));
        assert_eq!(wait(ours.as_fd(), Ready { read: true, write: true }, &bell, long), Ready { read: false, write: true });
        bell.ring();
        bell.ring();
        assert_eq!(wait(ours.as_fd(), reads, &bell, None), Ready::default());
        assert_eq!(wait(ours.as_fd(), reads, &bell, Some(Duration::from_millis(1))), Ready::default());
        theirs.write_all(b"x").unwrap();
        assert_eq!(wait(ours.as_fd(), reads, &bell, long), reads);
        drop(theirs);
        assert!(wait(ours.as_fd(), reads, &bell, long).read);
        assert_eq!(wait(ours.as_fd(), Ready::default(), &bell, Some(Duration::ZERO)), Ready::default());
    }
}
