//! Writes Envoy's output and the agent's log to stdout and stderr of the container, in one format.
//!
//! ```text
//!   Envoy's stderr ─▶ pieces ─▶ envoy::EnvoyLogParser ─┐
//!                                              ├─ Record ─▶ text or JSON ─┐
//!   tracing, ours  ─▶ subscriber ──────────────┘                          ├─▶ Sink ─▶ one thread ─▶ stdout, stderr
//!   Envoy's stdout (access logs) ─────────────────────────────────────────┘
//! ```
//!
//! An unread pipe blocks Envoy, and a full terminal or log driver must block neither Envoy nor the agent: both pipes are always
//! read, one thread writes, and when its queue is full, lines are dropped and counted. Lines are written whole, so that Envoy's
//! and the agent's do not mix.

pub(crate) mod envoy;
mod error_chain;
mod line_splitter;
mod pipe;
mod record;
mod stderr_tail;
pub(crate) mod subscriber;

use std::{
    io::{self, Write},
    sync::{
        Arc,
        atomic::{AtomicU64, AtomicUsize, Ordering},
        mpsc::{Receiver, SyncSender, TrySendError, sync_channel},
    },
    thread,
    time::Duration,
};

pub(crate) use self::error_chain::ErrorChain;
pub(crate) use self::{
    pipe::{drain_access, drain_log},
    record::Sanitized,
    stderr_tail::StderrTail,
};
use crate::config::level::LogFormat;

/// Chunks that may wait for a slow reader: Envoy's whole start at level debug fits.
const QUEUE: usize = 512;

/// Bytes that may wait, so that a stuck reader does not cost us our memory.
const WAITING: usize = 2 * 1024 * 1024;

/// Destination of a line.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Stream {
    /// Access logs.
    Stdout,
    /// Everything else.
    Stderr,
}

/// Hands lines to the writing thread. Cheap to clone, never blocks.
#[derive(Clone, Debug)]
pub(crate) struct Sink {
    queue: SyncSender<SinkMessage>,
    format: LogFormat,
    waiting: Arc<AtomicUsize>,
    dropped: Arc<AtomicU64>,
}

#[derive(Debug)]
enum SinkMessage {
    Chunk(Stream, Vec<u8>),
    /// Everything before this has been written; answering is best effort.
    Flush(SyncSender<()>),
}

/// Result of flushing the log.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Flushed {
    /// All lines were written.
    Complete,
    /// Its reader is too slow, or stuck.
    Incomplete,
}

// === impl Sink ===

impl Sink {
    /// Starts a sink with a thread that writes to stdout and stderr, in this format.
    pub(crate) fn start(format: LogFormat) -> io::Result<Self> {
        Self::start_with(format, |stream, chunk| {
            // A failed write cannot be reported anywhere.
            let written = match stream {
                Stream::Stdout => io::stdout().write_all(chunk).and_then(|()| io::stdout().flush()),
                Stream::Stderr => io::stderr().write_all(chunk),
            };
            drop(written);
        })
    }

    fn start_with(format: LogFormat, write: impl FnMut(Stream, &[u8]) + Send + 'static) -> io::Result<Self> {
        let (queue, messages) = sync_channel(QUEUE);
        let waiting = Arc::<AtomicUsize>::default();
        let written = Arc::clone(&waiting);
        let run = move || write_all(&messages, &written, write);
        thread::Builder::new().name("log".into()).stack_size(64 * 1024).spawn(run)?;
        Ok(Self { queue, format, waiting, dropped: Arc::default() })
    }

    /// The form of every line of the log.
    pub(crate) fn format(&self) -> LogFormat {
        self.format
    }

    /// Queues a chunk, or drops it when the reader is too slow.
    pub(crate) fn write(&self, to: Stream, chunk: Vec<u8>) {
        let length = chunk.len();
        if self.waiting.fetch_add(length, Ordering::Relaxed) + length > WAITING {
            self.lose(&chunk);
        } else if let Err(
            TrySendError::Full(SinkMessage::Chunk(_, lost))
            | TrySendError::Disconnected(SinkMessage::Chunk(_, lost)),
        ) = self.queue.try_send(SinkMessage::Chunk(to, chunk))
        {
            self.lose(&lost);
        }
    }

    fn lose(&self, chunk: &[u8]) {
        self.waiting.fetch_sub(chunk.len(), Ordering::Relaxed);
        let lines = chunk.split_inclusive(|&byte| byte == b'\n').count();
        self.dropped.fetch_add(u64::try_from(lines).unwrap_or(u64::MAX), Ordering::Relaxed);
    }

    /// Returns the number of dropped lines.
    pub(crate) fn dropped(&self) -> u64 {
        self.dropped.load(Ordering::Relaxed)
    }

    /// Waits until everything queued so far is written, but no longer than this. Blocks: for the end only.
    pub(crate) fn flush(&self, limit: Duration) -> Flushed {
        let (done, answer) = sync_channel(1);
        match self.queue.try_send(SinkMessage::Flush(done)).map(|()| answer.recv_timeout(limit)) {
            Ok(Ok(())) => Flushed::Complete,
            Ok(Err(_)) | Err(_) => Flushed::Incomplete,
        }
    }
}

fn write_all(messages: &Receiver<SinkMessage>, waiting: &AtomicUsize, mut write: impl FnMut(Stream, &[u8])) {
    for message in messages {
        match message {
            SinkMessage::Chunk(stream, chunk) => {
                write(stream, &chunk);
                waiting.fetch_sub(chunk.len(), Ordering::Relaxed);
            }
            SinkMessage::Flush(done) => drop(done.try_send(())),
        }
    }
}

#[cfg(test)]
mod tests;
