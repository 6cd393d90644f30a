//! What a plugin prints, as records of the host's log.
//!
//! Nothing that a plugin prints stops it or us: its pipes are always emptied, lines are bounded, what is past the granted
//! rate is counted and dropped, and a host whose log is slow loses lines instead of stopping the plugin. The records are
//! handed over on a thread of their own, never on one that drives the plugin's connections.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{self, Receiver, SyncSender, TrySendError};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use serde_json::{Map, Value};

use crate::error::{Error, Kind, Result, clean};
use crate::host::{Level, PluginContext};
use crate::sys;

/// The most bytes of one line that are kept.
const LINE_MAX: usize = 64 * 1024;
/// The lines that wait for the host's log.
const QUEUE: usize = 1024;
/// The lines of standard error that a crash report keeps, and the bytes of each.
const TAIL: (usize, usize) = (20, 512);
/// The bytes from a crash message on that are kept (Go prints every goroutine after it), and what a line counts beside its own.
const CRASH: (usize, usize) = (64 * 1024, 32);

/// Which stream a line came by.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Stream {
    Stdout,
    Stderr,
}

/// Where the lines of a plugin go, until it is closed.
#[derive(Debug)]
pub(super) struct Output {
    dropped: Arc<AtomicU64>,
    rate: u32,
    shared: Mutex<Shared>,
}

#[derive(Debug)]
struct Shared {
    /// None once it is closed.
    lines: Option<SyncSender<(Stream, Vec<u8>)>>,
    second: Instant,
    taken: u32,
    tail: VecDeque<String>,
    crash: Crash,
}

/// What a crash printed, blank lines included, as far as there is room.
#[derive(Debug, Default)]
struct Crash {
    lines: Vec<String>,
    bytes: usize,
}

/// Tells when everything has been handed over.
#[derive(Debug)]
pub(super) struct Flushed(Mutex<Receiver<()>>);

impl Flushed {
    /// Waits until the last record has been handed over, for a bounded time.
    pub(super) fn wait(&self, limit: Duration) {
        let done = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        // The other end never sends: it is dropped when the thread has ended.
        let _ended = done.recv_timeout(limit);
    }
}

impl Output {
    /// Starts the thread that hands records of this plugin to the host. It ends when the output is closed or dropped.
    pub(super) fn new(context: Arc<PluginContext>) -> Result<(Arc<Self>, Flushed)> {
        let (lines, queue) = mpsc::sync_channel::<(Stream, Vec<u8>)>(QUEUE);
        let (alive, done) = mpsc::channel();
        let dropped = Arc::new(AtomicU64::new(0));
        let rate = context.grants().rates.output;
        let lost = dropped.clone();
        let hand_over = move || {
            let _alive: mpsc::Sender<()> = alive;
            sys::block_signals();
            let mut crashing = false;
            for (stream, line) in queue {
                report_lost(&context, &lost);
                crashing |= stream == Stream::Stderr && is_crash(&line);
                record(&context, stream, &line, crashing);
            }
            report_lost(&context, &lost);
        };
        std::thread::Builder::new()
            .name("flowplug-log".into())
            .spawn(hand_over)
            .map_err(|e| Error::new(Kind::Io, format!("The system refused a thread for a plugin's log: {e}.")))?;
        let shared = Shared { lines: Some(lines), second: Instant::now(), taken: 0, tail: VecDeque::new(), crash: Crash::default() };
        Ok((Arc::new(Output { dropped, rate, shared: Mutex::new(shared) }), Flushed(Mutex::new(done))))
    }

    /// Takes one line, without its end.
    pub(super) fn line(&self, stream: Stream, line: &[u8]) {
        let mut shared = self.shared();
        if stream == Stream::Stderr {
            shared.remember(line);
        }
        if line.is_empty() {
            return;
        }
        if shared.second.elapsed() >= Duration::from_secs(1) {
            (shared.second, shared.taken) = (Instant::now(), 0);
        }
        shared.taken = shared.taken.saturating_add(1);
        let over = shared.taken > self.rate;
        let Some(lines) = &shared.lines else { return };
        if over || matches!(lines.try_send((stream, line.to_vec())), Err(TrySendError::Full(_))) {
            self.dropped.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// Takes no more lines. Those that wait are still handed over.
    pub(super) fn close(&self) {
        self.shared().lines = None;
    }

    /// What to show when the process has ended: what a crash printed, or else the last lines of standard error.
    pub(super) fn last_words(&self) -> Vec<String> {
        let Shared { tail, crash: Crash { lines, .. }, .. } = &*self.shared();
        let said = lines.len() - lines.iter().rev().take_while(|line| line.is_empty()).count();
        if said == 0 { tail.iter().cloned().collect() } else { lines.iter().take(said).cloned().collect() }
    }

    /// The one line of them that says most: how a crash begins, or else the very last.
    pub(super) fn epitaph(&self) -> Option<String> {
        let shared = self.shared();
        shared.crash.lines.first().or(shared.tail.back()).cloned()
    }

    fn shared(&self) -> MutexGuard<'_, Shared> {
        self.shared.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Shared {
    fn remember(&mut self, line: &[u8]) {
        if is_crash(line) {
            // The last is the one that it died of.
            self.crash = Crash::default();
            self.crash.take(line);
        } else if !self.crash.lines.is_empty() {
            self.crash.take(line);
        }
        let (lines, bytes) = TAIL;
        if !line.is_empty() {
            if self.tail.len() == lines {
                self.tail.pop_front();
            }
            self.tail.push_back(text(line, bytes));
        }
    }
}

impl Crash {
    fn take(&mut self, line: &[u8]) {
        let (bytes, each) = CRASH;
        let Some(room) = bytes.checked_sub(self.bytes) else { return };
        self.bytes += line.len() + each;
        self.lines.push(if line.len() <= room { text(line, room) } else { "… (the rest is not kept)".to_owned() });
    }
}

fn text(line: &[u8], bytes: usize) -> String {
    clean(&String::from_utf8_lossy(line.get(..bytes.min(line.len())).unwrap_or_default()), bytes)
}

/// Whether Go's runtime begins to say why it ends.
fn is_crash(line: &[u8]) -> bool {
    line.starts_with(b"panic: ") || line.starts_with(b"fatal error: ")
}

fn report_lost(context: &PluginContext, lost: &AtomicU64) {
    let lost = lost.swap(0, Ordering::Relaxed);
    if lost > 0 {
        let text = format!(
            "{lost} lines of the plugin's output were dropped: it prints more than the policy grants (rates.output), or the log is slow."
        );
        context.log(0, Level::Warn, &text, &[]);
    }
}

fn record(context: &PluginContext, stream: Stream, line: &[u8], crashing: bool) {
    let text = String::from_utf8_lossy(line);
    let (level, message, fields) = match stream {
        Stream::Stdout => (Level::Info, text.into_owned(), Vec::new()),
        Stream::Stderr if crashing => (Level::Error, text.into_owned(), Vec::new()),
        Stream::Stderr => understand(&text),
    };
    context.log(0, level, &message, &fields);
}

/// A line of standard error: hclog's JSON, a level in brackets, or just text.
pub(super) fn understand(text: &str) -> (Level, String, Vec<(String, String)>) {
    if text.starts_with('{')
        && let Ok(mut object) = serde_json::from_str::<Map<String, Value>>(text)
        && let Some(message) = object.shift_remove("@message")
    {
        let level = object.shift_remove("@level").map_or(Level::Info, |level| Level::from_name(&plain(level)));
        let fields = object.into_iter().map(|(name, value)| (name.trim_start_matches('@').to_owned(), plain(value))).collect();
        return (level, plain(message), fields);
    }
    if let Some((level, rest)) = text.strip_prefix('[').and_then(|rest| rest.split_once(']'))
        && matches!(level, "TRACE" | "DEBUG" | "INFO" | "WARN" | "WARNING" | "ERROR" | "ERR" | "FATAL" | "PANIC")
    {
        return (Level::from_name(level), rest.trim_start().to_owned(), Vec::new());
    }
    (Level::Info, text.to_owned(), Vec::new())
}

fn plain(value: Value) -> String {
    match value {
        Value::String(text) => text,
        other => other.to_string(),
    }
}

/// Cuts a stream of bytes into lines of at most [`LINE_MAX`]; what is longer is cut off, not split.
#[derive(Debug, Default)]
pub(super) struct Lines {
    begun: Vec<u8>,
    cut: bool,
}

impl Lines {
    /// Takes the next piece and gives each line that it ends.
    pub(super) fn feed(&mut self, mut piece: &[u8], mut line: impl FnMut(&[u8])) {
        while let Some(end) = piece.iter().position(|byte| *byte == b'\n') {
            let (head, rest) = piece.split_at(end);
            self.keep(head);
            self.finish(&mut line);
            piece = rest.get(1..).unwrap_or_default();
        }
        self.keep(piece);
    }

    /// Gives what is left when the stream has ended.
    pub(super) fn end(&mut self, mut line: impl FnMut(&[u8])) {
        if !self.begun.is_empty() {
            self.finish(&mut line);
        }
    }

    fn keep(&mut self, bytes: &[u8]) {
        let room = LINE_MAX - self.begun.len();
        self.cut |= bytes.len() > room;
        self.begun.extend_from_slice(bytes.get(..room.min(bytes.len())).unwrap_or_default());
    }

    fn finish(&mut self, line: &mut impl FnMut(&[u8])) {
        if self.cut {
            self.begun.extend_from_slice("…".as_bytes());
        }
        line(self.begun.strip_suffix(b"\r").unwrap_or(&self.begun));
        self.begun.clear();
        self.cut = false;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_are_understood_whatever_is_in_them() {
        let (level, message, fields) = understand(r#"{"@level":"warn","@message":"slow","@timestamp":"t","ms":12,"who":"me"}"#);
        assert_eq!((level, message.as_str()), (Level::Warn, "slow"));
        let expected = [("timestamp", "t"), ("ms", "12"), ("who", "me")].map(|(k, v)| (k.to_owned(), v.to_owned()));
        assert_eq!(fields, expected);
        let odd = understand(r#"{"@level":7,"@message":["x"]}"#);
        assert_eq!((odd.0, odd.1.as_str()), (Level::Info, r#"["x"]"#));
        for (text, level, message) in [
            ("[ERROR] disk full", Level::Error, "disk full"),
            ("[DEBUG]x", Level::Debug, "x"),
            ("[1, 2]", Level::Info, "[1, 2]"),
            ("{broken", Level::Info, "{broken"),
            (r#"{"a":1}"#, Level::Info, r#"{"a":1}"#),
        ] {
            let (found, said, _) = understand(text);
            assert_eq!((found, said.as_str()), (level, message), "{text}");
        }
    }

    #[test]
    fn a_crash_is_kept_whole_within_its_bound() {
        let mut shared = Shared { lines: None, second: Instant::now(), taken: 0, tail: VecDeque::new(), crash: Crash::default() };
        for line in ["before", "panic: recovered", "more", "panic: the real one", "", "goroutine 1 [running]:", "main.main()"] {
            shared.remember(line.as_bytes());
        }
        assert_eq!(shared.crash.lines, ["panic: the real one", "", "goroutine 1 [running]:", "main.main()"]);
        assert_eq!(shared.tail.len(), 6);
        for _ in 0..1000 {
            shared.remember(&[b'x'; 1000]);
        }
        assert!((64..70).contains(&shared.crash.lines.len()), "{}", shared.crash.lines.len());
        assert!(shared.crash.lines.last().unwrap().contains("not kept"));
        shared.remember(b"fatal error: again");
        for _ in 0..CRASH.0 {
            shared.remember(b"");
        }
        assert!((2000..2100).contains(&shared.crash.lines.len()), "{}", shared.crash.lines.len());
        assert_eq!(shared.crash.lines[0], "fatal error: again");
    }

    #[test]
    fn lines_are_bounded_and_found_in_any_pieces() {
        let mut lines = Lines::default();
        let mut out: Vec<Vec<u8>> = Vec::new();
        for piece in ["on", "e\r\ntwo\n\nth", "ree"] {
            lines.feed(piece.as_bytes(), |line| out.push(line.to_vec()));
        }
        lines.end(|line| out.push(line.to_vec()));
        assert_eq!(out, [b"one".to_vec(), b"two".to_vec(), b"".to_vec(), b"three".to_vec()]);
        let mut long = Vec::new();
        for _ in 0..100 {
            lines.feed(&[b'x'; 4096], |line| long.push(line.len()));
        }
        lines.feed(b"\nnext\n", |line| long.push(line.len()));
        assert_eq!(long, [LINE_MAX + 3, 4]);
    }
}
