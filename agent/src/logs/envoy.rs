//! Envoy's log lines: the format that Envoy is started with, and its parser.
//!
//! Some lines have another format: those from before the logger is initialized, the reason of an exit, and output of other code
//! on stderr. They are passed on with an estimated level.

use std::borrow::Cow;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use nix::unistd::Pid;
use serde::Deserialize;
use tracing::Level;

use super::line_splitter::PiecePosition;
use super::record::Record;
use crate::supervisor::Epoch;

/// `--log-format`: JSON with the message last, so that one cut short can be closed again. Seconds since 1970,
/// because Envoy's other times are in the time zone of the container; `%j` is the message, escaped.
pub(crate) const FORMAT: &str =
    r#"{"time":"%E.%f","level":"%l","scope":"%n","thread":"%t","caller":"%g:%#","msg":"%j"}"#;

/// End of a line in this format.
const CLOSING: &[u8] = br#""}"#;

/// Origin of a line.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct LogOrigin {
    /// Epoch of the Envoy.
    pub(crate) epoch: Epoch,
    /// Its process.
    pub(crate) pid: Pid,
}

/// Reads the lines of one Envoy.
#[derive(Debug)]
pub(super) struct EnvoyLogParser {
    origin: LogOrigin,
    torn: Option<PartialLine>,
}

/// A line that has been passed on in part.
#[derive(Debug)]
struct PartialLine {
    head: LineHeader,
    pieces: u32,
}

/// All of a line but its message.
#[derive(Clone, Debug, PartialEq, Eq)]
struct LineHeader {
    level: Level,
    /// `None`: the line is not of our format.
    source: Option<Source>,
}

/// Source location and time of Envoy's log call.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Source {
    time: SystemTime,
    component: String,
    thread: String,
    caller: String,
}

#[derive(Deserialize)]
struct EnvoyLine<'a> {
    time: &'a str,
    level: &'a str,
    scope: &'a str,
    thread: &'a str,
    caller: &'a str,
    #[serde(borrow)]
    msg: Cow<'a, str>,
}

// === impl EnvoyLogParser ===

impl EnvoyLogParser {
    pub(super) fn new(origin: LogOrigin) -> Self {
        Self { origin, torn: None }
    }

    /// Parses a piece of a line; `None` if it is empty. `now` is for lines without a time.
    pub(super) fn read<'a>(
        &mut self,
        part: PiecePosition,
        piece: &'a [u8],
        now: SystemTime,
    ) -> Option<Record<'a>> {
        let (head, message, pieces) = match (part, self.torn.take()) {
            (PiecePosition::Middle | PiecePosition::Last, Some(PartialLine { head, pieces })) => {
                let message = continued(&head, piece);
                (head, message, pieces + 1)
            }
            (PiecePosition::First, _) => {
                let (head, message) = begun(piece);
                (head, message, 1)
            }
            (PiecePosition::Whole | PiecePosition::Middle | PiecePosition::Last, _) => {
                let (head, message) = whole(piece);
                (head, message, 0)
            }
        };
        if let PiecePosition::First | PiecePosition::Middle = part {
            self.torn = Some(PartialLine { head: head.clone(), pieces });
        }
        (!message.trim().is_empty()).then(|| self.record(head, message, pieces, now))
    }

    fn record<'a>(
        &self,
        head: LineHeader,
        message: Cow<'a, str>,
        pieces: u32,
        now: SystemTime,
    ) -> Record<'a> {
        let LogOrigin { epoch, pid } = self.origin;
        let mut fields: Vec<(_, Cow<'_, str>)> =
            vec![("epoch", epoch.to_string().into()), ("pid", pid.to_string().into())];
        let (mut time, mut scope) = (now, "envoy".into());
        if let Some(source) = head.source {
            time = source.time;
            scope = format!("envoy {}", source.component).into();
            fields.extend([("thread", source.thread.into()), ("caller", source.caller.into())]);
        }
        if pieces > 0 {
            fields.push(("part", pieces.to_string().into()));
        }
        Record { time, level: head.level, scope, message, fields }
    }
}

fn whole(line: &[u8]) -> (LineHeader, Cow<'_, str>) {
    match String::from_utf8_lossy(line) {
        Cow::Borrowed(text) => ours(text).unwrap_or_else(|| foreign(text.into())),
        Cow::Owned(text) => match ours(&text) {
            Some((head, message)) => (head, message.into_owned().into()),
            None => foreign(text.into()),
        },
    }
}

/// The beginning of a line too long: closed, it can be read like any other.
fn begun(piece: &[u8]) -> (LineHeader, Cow<'_, str>) {
    let closed = [piece, CLOSING].concat();
    match ours(&String::from_utf8_lossy(&closed)) {
        Some((head, message)) => (head, message.into_owned().into()),
        None => foreign(String::from_utf8_lossy(piece)),
    }
}

/// Returns a later piece of a line, unescaped like its beginning if the line is in this format.
fn continued<'a>(head: &LineHeader, piece: &'a [u8]) -> Cow<'a, str> {
    if head.source.is_none() {
        return String::from_utf8_lossy(piece);
    }
    let text = String::from_utf8_lossy(piece.strip_suffix(CLOSING).unwrap_or(piece));
    serde_json::from_str::<String>(&format!("\"{text}\"")).map_or(text, Cow::Owned)
}

/// A line of our format.
fn ours(text: &str) -> Option<(LineHeader, Cow<'_, str>)> {
    let EnvoyLine { time, level, scope, thread, caller, msg } = serde_json::from_str(text).ok()?;
    let (seconds, micros) = time.split_once('.')?;
    let since = Duration::from_secs(seconds.parse().ok()?)
        .checked_add(Duration::from_micros(micros.parse().ok()?))?;
    let time = UNIX_EPOCH.checked_add(since)?;
    let source = Source { time, component: scope.into(), thread: thread.into(), caller: caller.into() };
    Some((LineHeader { level: self::level(level)?, source: Some(source) }, msg))
}

/// Ours have nothing worse than an error.
fn level(envoys: &str) -> Option<Level> {
    Some(match envoys {
        "trace" => Level::TRACE,
        "debug" => Level::DEBUG,
        "info" => Level::INFO,
        "warning" | "warn" => Level::WARN,
        "error" | "critical" => Level::ERROR,
        _ => return None,
    })
}

/// Parses a line of another format.
fn foreign(text: Cow<'_, str>) -> (LineHeader, Cow<'_, str>) {
    (LineHeader { level: seeming(&text), source: None }, text)
}

/// Estimates the level of a line that was not written by the logger. The default is a warning, because such lines are unusual.
fn seeming(text: &str) -> Level {
    const BAD: [&str; 9] =
        ["error", "unable", "fail", "cannot", "couldn't", "abort", "assert", "critical", "exception"];
    // Abseil's, and so gRPC's: I1123 02:29:07.967587 ...
    if let [level @ (b'I' | b'W' | b'E' | b'F'), digits @ .., b' '] =
        text.as_bytes().get(..6).unwrap_or_default()
        && digits.iter().all(u8::is_ascii_digit)
    {
        return match level {
            b'I' => Level::INFO,
            b'W' => Level::WARN,
            _ => Level::ERROR,
        };
    }
    // Envoy's own format: [2026-11-23 02:33:22.677][15867][warning][main] ...
    if let Some(named) = text.strip_prefix('[').and_then(|text| level(text.split("][").nth(2)?)) {
        return named;
    }
    let lower = text.to_ascii_lowercase();
    if BAD.iter().any(|bad| lower.contains(bad)) { Level::ERROR } else { Level::WARN }
}

#[cfg(test)]
mod tests;
