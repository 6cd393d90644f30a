//! A socket without a runtime: read and written where it can be at once, and waited for by the one thread that leads.

use std::io::{self, IoSlice};
use std::os::fd::{AsFd, OwnedFd};
use std::pin::Pin;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use crate::sys::poll::{self, Bell, Ready, receive};
use crate::sys::process::send;

/// How long what can wait for company is kept back. Go's gRPC sends a ping with nearly every answer: a write of its own for each
/// answer to one would cost both sides more than the rest of the call.
const KEPT: Duration = Duration::from_millis(1);

/// How often it is read from before who reads has to look after other things: what comes may have no end.
const READS: u32 = 8;

/// What is gathered before it is written, in bytes.
const GATHERED: usize = 16 << 10;

/// How the frame begins that answers a ping, and its length: eight bytes, a ping, an acknowledgement, of the whole connection.
const PONG: [u8; 9] = [0, 0, 8, 6, 1, 0, 0, 0, 0];
const PONG_SIZE: usize = 17;

/// The socket and who waits for it. A write never raises SIGPIPE.
#[derive(Debug)]
pub(super) struct Wire {
    socket: OwnedFd,
    bell: Bell,
    state: Mutex<State>,
    /// Threads that were called to take an answer, and are not there yet.
    coming: AtomicUsize,
}

#[derive(Debug, Default)]
struct State {
    /// There may be something to read: known by a wait, until a read says otherwise.
    readable: bool,
    /// How often it was read from without a pause.
    reads: u32,
    reader: Option<Waker>,
    writer: Option<Waker>,
    /// Written by the connection and not yet to the socket.
    out: Vec<u8>,
    /// There is nothing in it but answers to pings.
    pongs: bool,
    /// The socket has taken all that it has room for.
    full: bool,
    /// The socket takes nothing any more.
    broken: Option<io::ErrorKind>,
    /// What the thread that leads waits for at this moment, and whether for a short time only.
    waited: Option<(Ready, bool)>,
}

/// The same as a stream of bytes, for one reader and writer, whom it forgets when it is dropped.
#[derive(Debug)]
pub(super) struct Stream(pub(super) Arc<Wire>);

impl Wire {
    /// Of a socket that does not block.
    pub(super) fn new(socket: OwnedFd) -> io::Result<Self> {
        Ok(Wire { socket, bell: Bell::new()?, state: Mutex::default(), coming: AtomicUsize::new(0) })
    }

    /// Calls the thread in [`Wire::wait`].
    pub(super) fn ring(&self) {
        self.bell.ring();
    }

    /// Waits until there is something to be done with the socket, the bell was rung or the time has passed, and wakes who does it.
    /// For one thread at a time.
    pub(super) fn wait(&self, limit: Option<Duration>) {
        let mut state = self.state();
        let wanted = Ready { read: !state.readable, write: state.writer.is_some() || state.full };
        let briefly = !(state.out.is_empty() || state.full) || self.others_come();
        state.waited = Some((wanted, briefly));
        drop(state);
        let limit = if briefly { Some(limit.map_or(KEPT, |limit| limit.min(KEPT))) } else { limit };
        let ready = poll::wait(self.socket.as_fd(), wanted, &self.bell, limit);
        let mut state = self.state();
        state.waited = None;
        state.full &= !ready.write;
        // It has waited long enough for company.
        if !ready.read && limit != Some(Duration::ZERO) || ready.write {
            self.send(&mut state);
        }
        let reader = if ready.read { state.reader.take() } else { None };
        let writer = if ready.write { state.writer.take() } else { None };
        state.readable |= ready.read;
        drop(state);
        for waker in [reader, writer].into_iter().flatten() {
            waker.wake();
        }
    }

    /// Sees whether there is something to read, without waiting.
    pub(super) fn glance(&self) {
        self.wait(Some(Duration::ZERO));
    }

    /// Sends what was written, unless it can wait for company: for what those will write who are coming, while the thread that
    /// leads does not wait for longer than that.
    pub(super) fn flush(&self) {
        let mut state = self.state();
        let kept = state.pongs && state.out.len() < GATHERED / 2 && state.waited.is_none_or(|(_, briefly)| briefly);
        if !(self.left_to_others(&state) || kept || state.full) {
            self.send(&mut state);
        }
    }

    /// A thread was called.
    pub(super) fn comes(&self) {
        self.coming.fetch_add(1, Ordering::SeqCst);
    }

    /// It is there.
    pub(super) fn came(&self) {
        self.coming.fetch_sub(1, Ordering::SeqCst);
    }

    /// Whether what is to be done can wait for those who come, and will be done a moment later if they do not.
    pub(super) fn can_wait(&self) -> bool {
        self.others_come() && self.left_to_others(&self.state())
    }

    fn left_to_others(&self, state: &State) -> bool {
        self.others_come() && state.waited.is_some_and(|(_, briefly)| briefly)
    }

    fn others_come(&self) -> bool {
        self.coming.load(Ordering::SeqCst) > 0
    }

    /// Sends all of it, as far as there is room.
    fn send(&self, state: &mut State) {
        while !state.out.is_empty() && !state.full {
            match send(self.socket.as_fd(), &[IoSlice::new(&state.out)]) {
                Ok(count) => drop(state.out.drain(..count)),
                Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
                Err(e) if e.kind() == io::ErrorKind::WouldBlock => {
                    state.full = true;
                    self.tell_who_waits(state, |waited| waited.write);
                }
                Err(e) => {
                    state.out.clear();
                    state.broken = Some(e.kind());
                    if let Some(reader) = state.reader.take() {
                        reader.wake();
                    }
                }
            }
        }
    }

    fn poll_read(&self, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let mut state = self.state();
        if let Some(kind) = state.broken {
            return Poll::Ready(Err(kind.into()));
        }
        if state.reads == READS {
            state.reads = 0;
            cx.waker().wake_by_ref();
            return Poll::Pending;
        }
        state.reads += 1;
        while state.readable {
            let room = buf.remaining();
            match receive(self.socket.as_fd(), buf) {
                Ok(count) => {
                    // What did not fill the room was all there is. An end stays one.
                    state.readable = count == 0 || count == room;
                    return Poll::Ready(Ok(()));
                }
                Err(e) if e.kind() == io::ErrorKind::WouldBlock => state.readable = false,
                Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
                Err(e) => return Poll::Ready(Err(e)),
            }
        }
        state.reads = 0;
        keep(&mut state.reader, cx);
        self.tell_who_waits(&state, |waited| waited.read);
        Poll::Pending
    }

    fn poll_write(&self, cx: &mut Context<'_>, parts: &[IoSlice<'_>]) -> Poll<io::Result<usize>> {
        let mut state = self.state();
        if let Some(kind) = state.broken {
            return Poll::Ready(Err(kind.into()));
        }
        let size: usize = parts.iter().map(|part| part.len()).sum();
        let pong = matches!(parts, [part] if part.len() == PONG_SIZE && part.starts_with(&PONG));
        if state.out.len() + size <= GATHERED {
            state.pongs = pong && (state.pongs || state.out.is_empty());
            parts.iter().for_each(|part| state.out.extend_from_slice(part));
            return Poll::Ready(Ok(size));
        }
        // Much: not copied, but sent behind what is there.
        self.send(&mut state);
        while state.out.is_empty() && !state.full {
            match send(self.socket.as_fd(), parts) {
                Err(e) if e.kind() == io::ErrorKind::WouldBlock => state.full = true,
                Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
                done => return Poll::Ready(done),
            }
        }
        keep(&mut state.writer, cx);
        self.tell_who_waits(&state, |waited| waited.write);
        Poll::Pending
    }

    /// Who leads may be waiting already, for other things.
    fn tell_who_waits(&self, state: &State, covered: impl FnOnce(Ready) -> bool) {
        if state.waited.is_some_and(|(waited, _)| !covered(waited)) {
            self.bell.ring();
        }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn keep(place: &mut Option<Waker>, cx: &Context<'_>) {
    match place {
        Some(waker) => waker.clone_from(cx.waker()),
        None => *place = Some(cx.waker().clone()),
    }
}

impl Drop for Stream {
    fn drop(&mut self) {
        let mut state = self.0.state();
        let waiting = (state.reader.take(), state.writer.take());
        drop(state);
        // Who waits holds the wire, which would hold them both for ever.
        drop(waiting);
    }
}

impl AsyncRead for Stream {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        self.0.poll_read(cx, buf)
    }
}

impl AsyncWrite for Stream {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        self.0.poll_write(cx, &[IoSlice::new(buf)])
    }

    fn poll_write_vectored(self: Pin<&mut Self>, cx: &mut Context<'_>, parts: &[IoSlice<'_>]) -> Poll<io::Result<usize>> {
        self.0.poll_write(cx, parts)
    }

    fn is_write_vectored(&self) -> bool {
        true
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        // Closing it, which comes next, tells the other side the same.
        Poll::Ready(Ok(()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::{Read, Write};
    use std::os::unix::net::UnixStream;

    fn pair() -> (Wire, UnixStream) {
        let (ours, theirs) = UnixStream::pair().unwrap();
        ours.set_nonblocking(true).unwrap();
        theirs.set_nonblocking(true).unwrap();
        (Wire::new(ours.into()).unwrap(), theirs)
    }

    fn came(theirs: &mut UnixStream) -> Vec<u8> {
        let mut all = vec![0; 1 << 20];
        let size = theirs.read(&mut all).unwrap_or(0);
        all.truncate(size);
        all
    }

    fn put(wire: &Wire, bytes: &[u8]) -> Poll<io::Result<usize>> {
        wire.poll_write(&mut Context::from_waker(Waker::noop()), &[IoSlice::new(bytes)])
    }

    #[test]
    fn an_answer_to_a_ping_goes_with_the_next_request_or_alone_after_a_while() {
        let (wire, mut theirs) = pair();
        let pong = [&PONG[..], b"12345678"].concat();
        assert!(put(&wire, &pong).is_ready());
        wire.flush();
        assert_eq!(came(&mut theirs), b"");
        assert!(put(&wire, b"request").is_ready());
        wire.flush();
        assert_eq!(came(&mut theirs), [&pong[..], b"request"].concat());
        assert!(put(&wire, &pong).is_ready());
        wire.glance();
        assert_eq!(came(&mut theirs), b"");
        wire.wait(None);
        assert_eq!(came(&mut theirs), pong);
    }

    #[test]
    fn what_is_written_waits_for_those_who_come_while_somebody_waits_briefly() {
        let (wire, mut theirs) = pair();
        wire.comes();
        assert!(put(&wire, b"a").is_ready());
        wire.state().waited = Some((Ready::default(), true));
        wire.flush();
        assert_eq!(came(&mut theirs), b"");
        wire.came();
        wire.flush();
        assert_eq!(came(&mut theirs), b"a");
    }

    #[test]
    fn more_than_there_is_room_for_is_sent_in_time_and_in_order() {
        let (wire, mut theirs) = pair();
        let piece: Vec<u8> = (0..=250u8).cycle().take(100_000).collect();
        let (mut sent, mut seen) = (0, Vec::new());
        while sent < 1_000_000 {
            match put(&wire, &piece[sent % piece.len()..]) {
                Poll::Ready(size) => sent += size.unwrap(),
                Poll::Pending => {
                    seen.extend(came(&mut theirs));
                    wire.wait(None);
                }
            }
        }
        wire.flush();
        while seen.len() < sent {
            seen.extend(came(&mut theirs));
            wire.flush();
        }
        assert!(seen.chunks(piece.len()).all(|chunk| chunk == &piece[..chunk.len()]));
    }

    #[test]
    fn a_flood_is_left_now_and_then_and_an_end_is_read() {
        let (wire, mut theirs) = pair();
        theirs.write_all(&[0; 4096]).unwrap();
        wire.glance();
        let mut byte = [0; 1];
        let mut read = || wire.poll_read(&mut Context::from_waker(Waker::noop()), &mut ReadBuf::new(&mut byte)).is_ready();
        assert_eq!((0..READS).filter(|_| read()).count(), READS as usize);
        assert!(!read());
        assert!(read());
        drop(theirs);
        assert!(matches!(put(&wire, &[0; GATHERED + 1]), Poll::Ready(Err(_))));
    }
}
