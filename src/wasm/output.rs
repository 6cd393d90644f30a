//! Standard output and error of a guest: lines for the host's log, bounded in length and in number.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use bytes::Bytes;
use wasmtime_wasi::async_trait;
use wasmtime_wasi::cli::{IsTerminal, StdoutStream};
use wasmtime_wasi::p2::{OutputStream, Pollable, StreamResult};

use crate::host::rate::{Admission, Rate};
use crate::host::{Level, PluginContext};

/// The most bytes of one line; what is longer becomes several.
const LINE_MAX: usize = 8 << 10;

/// Where the output of one instance goes.
pub(super) struct Output {
    context: Arc<PluginContext>,
    rate: Arc<Rate>,
    /// The mark of the call that runs.
    tag: AtomicU64,
    /// What has been written of the line of standard output and of standard error.
    lines: [Mutex<Vec<u8>>; 2],
}

impl Output {
    /// For one instance.
    pub(super) fn new(context: Arc<PluginContext>, rate: Arc<Rate>) -> Arc<Self> {
        Arc::new(Output { context, rate, tag: AtomicU64::new(0), lines: [Mutex::default(), Mutex::default()] })
    }

    /// A call begins; its lines carry its mark.
    pub(super) fn begin(&self, tag: u64) {
        self.tag.store(tag, Ordering::Relaxed);
    }

    /// A call ends: what has no line break yet is a line, too.
    pub(super) fn flush(&self) {
        for stream in [Stream::Out, Stream::Err] {
            let rest = std::mem::take(&mut *self.line(stream));
            if !rest.is_empty() {
                self.emit(stream, &rest);
            }
        }
    }

    /// The standard output or error that writes here.
    pub(super) fn stream(self: &Arc<Self>, stream: Stream) -> Standard {
        Standard { output: Arc::clone(self), stream }
    }

    fn write(&self, stream: Stream, bytes: &[u8]) {
        let mut line = std::mem::take(&mut *self.line(stream));
        let mut parts = bytes.split_inclusive(|b| *b == b'\n');
        while let Some(part) = parts.next() {
            let (text, ended) = part.strip_suffix(b"\n").map_or((part, false), |text| (text, true));
            let mut taken = true;
            for piece in text.chunks(LINE_MAX) {
                if line.len() + piece.len() > LINE_MAX {
                    taken &= self.emit(stream, &line);
                    line.clear();
                }
                line.extend_from_slice(piece);
            }
            if ended {
                taken &= self.emit(stream, &line);
                line.clear();
            }
            if !taken {
                self.drop_lines(parts, &mut line);
                break;
            }
        }
        *self.line(stream) = line;
    }

    /// Counts lines past the rate, all of a write at once: a guest may write as many as its memory has bytes. What has no
    /// line break yet stays.
    #[cold]
    fn drop_lines<'a>(&self, parts: impl Iterator<Item = &'a [u8]>, line: &mut Vec<u8>) {
        let mut dropped = 0;
        for part in parts {
            if part.ends_with(b"\n") {
                dropped += 1;
            } else {
                line.extend(part.iter().take(LINE_MAX));
            }
        }
        self.rate.refuse(dropped);
    }

    /// Hands on one line; what is past the policy's rate is dropped (false), and the next second says how many.
    fn emit(&self, stream: Stream, line: &[u8]) -> bool {
        let tag = self.tag.load(Ordering::Relaxed);
        match self.rate.admit() {
            Admission::Refused => return false,
            Admission::Admitted { refused_before: 0 } => {}
            Admission::Admitted { refused_before } => {
                let text = format!("{refused_before} lines of output were dropped: more than the policy grants a second (rates.output).");
                self.context.log(tag, Level::Warn, &text, &[]);
            }
        }
        let line = String::from_utf8_lossy(line.strip_suffix(b"\r").unwrap_or(line));
        let level = if stream == Stream::Out { Level::Info } else { Level::Warn };
        self.context.log(tag, level, &line, &[]);
        true
    }

    fn line(&self, stream: Stream) -> MutexGuard<'_, Vec<u8>> {
        let [out, err] = &self.lines;
        let line = if stream == Stream::Out { out } else { err };
        line.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Stream {
    Out,
    Err,
}

/// One of the two as wasmtime-wasi takes it: always ready, never blocking.
#[derive(Clone)]
pub(super) struct Standard {
    output: Arc<Output>,
    stream: Stream,
}

impl IsTerminal for Standard {
    fn is_terminal(&self) -> bool {
        false
    }
}

impl StdoutStream for Standard {
    fn p2_stream(&self) -> Box<dyn OutputStream> {
        Box::new(self.clone())
    }

    /// Only preview 3 would ask for this one.
    fn async_stream(&self) -> Box<dyn tokio::io::AsyncWrite + Send + Sync> {
        StdoutStream::async_stream(&std::io::empty())
    }
}

#[async_trait]
impl Pollable for Standard {
    async fn ready(&mut self) {}
}

#[async_trait]
impl OutputStream for Standard {
    fn write(&mut self, bytes: Bytes) -> StreamResult<()> {
        self.output.write(self.stream, &bytes);
        Ok(())
    }

    fn flush(&mut self) -> StreamResult<()> {
        Ok(())
    }

    fn check_write(&mut self) -> StreamResult<usize> {
        Ok(64 << 10)
    }
}
