//! Brings what Envoy writes, and what the agent logs, to the container's own stdout and stderr.
//!
//! An unread pipe stops Envoy, and a full terminal or log driver must stop nobody: so both pipes are read
//! whatever happens, one thread writes, and when its queue is full lines are dropped and counted.
//! Whole lines travel, so that Envoy's and ours do not tear each other apart.
//! Deliberately knows no levels and no formats.

pub mod subscriber;

use std::{
    io::{self, Write},
    os::fd::OwnedFd,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicU64, Ordering},
        mpsc::{Receiver, SyncSender, TrySendError, sync_channel},
    },
    thread,
    time::Duration,
};

use tokio::{io::AsyncReadExt, net::unix::pipe};
use tracing_subscriber::fmt::MakeWriter;

/// Chunks that may wait for a slow reader: Envoy's whole start at level debug fits.
const QUEUE: usize = 512;

/// A chunk is at most this long, and so is a line before it is torn.
const CHUNK: usize = 8 * 1024;

/// Where a line goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stream {
    /// Access logs.
    Stdout,
    /// Everything else.
    Stderr,
}

/// Hands lines to the writing thread. Cheap to clone, never blocks.
#[derive(Clone, Debug)]
pub struct Sink {
    queue: SyncSender<Message>,
    dropped: Arc<AtomicU64>,
}

#[derive(Debug)]
enum Message {
    Chunk(Stream, Vec<u8>),
    /// Everything before this has been written; answering is best effort.
    Flush(SyncSender<()>),
}

/// Whether a log has gone out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Flushed {
    /// To the last line.
    Everything,
    /// Its reader is too slow, or stuck.
    NotEverything,
}

/// Where the agent's own log goes.
#[derive(Clone, Debug)]
pub struct OwnLog {
    sink: Sink,
    to: Stream,
}

/// One line of it on its way, as `tracing` writes it.
#[derive(Debug)]
pub struct Line<'a> {
    log: &'a OwnLog,
    bytes: Vec<u8>,
}

/// The last line an Envoy wrote to stderr: why it gave up, if it did.
#[derive(Clone, Debug, Default)]
pub struct LastWords(Arc<Mutex<Vec<u8>>>);

/// Reads one pipe of an Envoy to its end.
pub async fn drain(pipe: OwnedFd, to: Stream, sink: Sink, last: LastWords) -> io::Result<()> {
    let mut pipe = pipe::Receiver::from_owned_fd(pipe)?;
    let mut lines = Lines::default();
    loop {
        lines.pending.reserve(CHUNK);
        let read = pipe.read_buf(&mut lines.pending).await?;
        let ready = if read == 0 { lines.rest() } else { lines.complete() };
        if let Some(chunk) = ready {
            if to == Stream::Stderr {
                last.note(&chunk);
            }
            sink.write(to, chunk);
        }
        if read == 0 {
            return Ok(());
        }
    }
}

/// Bytes that do not end a line yet.
#[derive(Debug, Default)]
struct Lines {
    pending: Vec<u8>,
}

// === impl Lines ===

impl Lines {
    /// All whole lines so far; a line longer than a chunk goes in pieces.
    fn complete(&mut self) -> Option<Vec<u8>> {
        let end = match self.pending.iter().rposition(|&byte| byte == b'\n') {
            Some(newline) => newline + 1,
            None if self.pending.len() >= CHUNK => self.pending.len(),
            None => return None,
        };
        let rest = self.pending.split_off(end);
        Some(std::mem::replace(&mut self.pending, rest))
    }

    /// What is left at the end, made a line.
    fn rest(&mut self) -> Option<Vec<u8>> {
        let mut rest = std::mem::take(&mut self.pending);
        if rest.is_empty() {
            return None;
        }
        if !rest.ends_with(b"\n") {
            rest.push(b'\n');
        }
        Some(rest)
    }
}

// === impl Sink ===

impl Sink {
    /// A sink whose thread writes to our own stdout and stderr.
    pub fn start() -> io::Result<Self> {
        Self::start_with(|stream, chunk| {
            // With nowhere left to write to there is nobody left to tell.
            let written = match stream {
                Stream::Stdout => io::stdout().write_all(chunk).and_then(|()| io::stdout().flush()),
                Stream::Stderr => io::stderr().write_all(chunk),
            };
            drop(written);
        })
    }

    fn start_with(write: impl FnMut(Stream, &[u8]) + Send + 'static) -> io::Result<Self> {
        let (queue, messages) = sync_channel(QUEUE);
        let run = move || write_all(&messages, write);
        thread::Builder::new().name("log".into()).stack_size(64 * 1024).spawn(run)?;
        Ok(Self { queue, dropped: Arc::default() })
    }

    /// Queues a chunk, or drops it when the reader is too slow.
    pub fn write(&self, to: Stream, chunk: Vec<u8>) {
        if let Err(
            TrySendError::Full(Message::Chunk(_, lost)) | TrySendError::Disconnected(Message::Chunk(_, lost)),
        ) = self.queue.try_send(Message::Chunk(to, chunk))
        {
            let lines = lost.split_inclusive(|&byte| byte == b'\n').count();
            self.dropped.fetch_add(u64::try_from(lines).unwrap_or(u64::MAX), Ordering::Relaxed);
        }
    }

    /// How many lines nobody was there to take.
    pub fn dropped(&self) -> u64 {
        self.dropped.load(Ordering::Relaxed)
    }

    /// Waits until everything queued so far is written, but no longer than this. Blocks: for the end only.
    pub fn flush(&self, limit: Duration) -> Flushed {
        let (done, answer) = sync_channel(1);
        match self.queue.try_send(Message::Flush(done)).map(|()| answer.recv_timeout(limit)) {
            Ok(Ok(())) => Flushed::Everything,
            Ok(Err(_)) | Err(_) => Flushed::NotEverything,
        }
    }
}

// === impl OwnLog ===

impl OwnLog {
    /// Lines of the agent's own, to this stream.
    pub fn new(sink: Sink, to: Stream) -> Self {
        Self { sink, to }
    }
}

impl<'a> MakeWriter<'a> for OwnLog {
    type Writer = Line<'a>;

    fn make_writer(&'a self) -> Line<'a> {
        Line { log: self, bytes: Vec::with_capacity(256) }
    }
}

fn write_all(messages: &Receiver<Message>, mut write: impl FnMut(Stream, &[u8])) {
    for message in messages {
        match message {
            Message::Chunk(stream, chunk) => write(stream, &chunk),
            Message::Flush(done) => drop(done.try_send(())),
        }
    }
}

// === impl Line ===

impl Write for Line<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.bytes.extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl Drop for Line<'_> {
    fn drop(&mut self) {
        if !self.bytes.is_empty() {
            self.log.sink.write(self.log.to, std::mem::take(&mut self.bytes));
        }
    }
}

// === impl LastWords ===

impl LastWords {
    /// The line, if there ever was one.
    pub fn get(&self) -> Option<String> {
        let line = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        (!line.is_empty()).then(|| String::from_utf8_lossy(&line).into_owned())
    }

    fn note(&self, chunk: &[u8]) {
        let last = chunk.split(|&byte| byte == b'\n').rfind(|line| !line.trim_ascii().is_empty());
        if let Some(line) = last {
            let mut noted = self.0.lock().unwrap_or_else(PoisonError::into_inner);
            noted.clear();
            noted.extend_from_slice(line.trim_ascii());
        }
    }
}

#[cfg(test)]
mod tests;
