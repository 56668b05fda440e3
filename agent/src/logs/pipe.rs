//! Reads the two pipes of an Envoy to their ends, whatever becomes of what it read.

use std::io;
use std::os::fd::OwnedFd;
use std::time::SystemTime;

use tokio::{io::AsyncReadExt as _, net::unix::pipe};

use super::envoy::{EnvoyLogParser, LogOrigin};
use super::line_splitter::{LineSplitter, PiecePosition};
use super::{Sink, StderrTail, Stream};

/// Maximum number of bytes of one read.
const READ: usize = 8 * 1024;

/// An access log's line is torn only when longer than this: longer than any header Envoy accepts by default.
const LONGEST_ACCESS: usize = 64 * 1024;

/// Passes on stdout as it is, in whole lines: the user's access logs have the user's format.
pub(crate) async fn drain_access(pipe: OwnedFd, sink: Sink) -> io::Result<()> {
    let mut pipe = pipe::Receiver::from_owned_fd(pipe)?;
    let mut pending = Vec::new();
    loop {
        pending.reserve(READ);
        if pipe.read_buf(&mut pending).await? == 0 {
            break;
        }
        if let Some(lines) = whole_lines(&mut pending) {
            sink.write(Stream::Stdout, lines);
        }
    }
    if !pending.is_empty() {
        if !pending.ends_with(b"\n") {
            pending.push(b'\n');
        }
        sink.write(Stream::Stdout, pending);
    }
    Ok(())
}

/// Reads stderr, and writes each line in the form of the log.
pub(crate) async fn drain_log(
    pipe: OwnedFd,
    origin: LogOrigin,
    sink: Sink,
    last: StderrTail,
) -> io::Result<()> {
    let mut pipe = pipe::Receiver::from_owned_fd(pipe)?;
    let (mut pieces, mut reader) = (LineSplitter::default(), EnvoyLogParser::new(origin));
    loop {
        pieces.pending.reserve(READ);
        let read = pipe.read_buf(&mut pieces.pending).await?;
        let (now, mut chunk) = (SystemTime::now(), Vec::new());
        let mut note = |part: PiecePosition, piece: &[u8]| {
            if let Some(record) = reader.read(part, piece, now) {
                last.push(&record);
                chunk.extend_from_slice(record.render(sink.format()).as_bytes());
            }
        };
        if read == 0 {
            pieces.rest(note);
        } else {
            pieces.complete(&mut note);
        }
        if !chunk.is_empty() {
            sink.write(Stream::Stderr, chunk);
        }
        if read == 0 {
            return Ok(());
        }
    }
}

/// All whole lines so far; a line that is too long as far as it has come.
fn whole_lines(pending: &mut Vec<u8>) -> Option<Vec<u8>> {
    let end = match pending.iter().rposition(|&byte| byte == b'\n') {
        Some(newline) => newline + 1,
        None if pending.len() >= LONGEST_ACCESS => pending.len(),
        None => return None,
    };
    let rest = pending.split_off(end);
    Some(std::mem::replace(pending, rest))
}
