//! Last lines of an Envoy, with the reason of its exit.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tracing::Level;

use super::record::Record;

/// More than the reason of any failure takes, together with some of the backtrace.
const LINES: usize = 20;
/// Maximum length of a line; all lines together must fit 4 KiB.
const CHARS: usize = 400;

/// The last lines of one Envoy's log. Cheap to clone.
#[derive(Clone, Debug, Default)]
pub(crate) struct StderrTail(Arc<Mutex<TailLines>>);

#[derive(Debug, Default)]
struct TailLines {
    lines: VecDeque<String>,
    /// The last one that was an error, which may have been pushed out by a backtrace.
    error: Option<String>,
}

// === impl StderrTail ===

impl StderrTail {
    /// The reason why Envoy gave up: its last error, or else its last line.
    pub(crate) fn reason(&self) -> Option<String> {
        let tail = self.tail();
        tail.error.clone().or_else(|| tail.lines.back().cloned())
    }

    /// At most the last 20 lines, oldest first, as `level scope: message`.
    pub(crate) fn lines(&self) -> Vec<String> {
        self.tail().lines.iter().cloned().collect()
    }

    pub(super) fn push(&self, record: &Record<'_>) {
        let line = line(record);
        let mut tail = self.tail();
        if record.level == Level::ERROR && !is_backtrace(record) {
            tail.error = Some(line.clone());
        }
        if tail.lines.len() == LINES {
            tail.lines.pop_front();
        }
        tail.lines.push_back(line);
    }

    fn tail(&self) -> MutexGuard<'_, TailLines> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Lines after "Caught Segmentation fault" are a backtrace of addresses.
fn is_backtrace(record: &Record<'_>) -> bool {
    record.scope == "envoy backtrace" && !record.message.starts_with("Caught")
}

fn line(record: &Record<'_>) -> String {
    let message: String = record.message.trim().chars().take(CHARS).collect();
    match record.scope.strip_prefix("envoy ") {
        Some(component) => format!("{} {component}: {message}", record.level.as_str().to_ascii_lowercase()),
        None => message,
    }
}

#[cfg(test)]
mod tests {
    use std::time::UNIX_EPOCH;

    use super::*;

    fn check(lines: &[(Level, &str, &str)], reason: Option<&str>) {
        let tail = StderrTail::default();
        for &(level, scope, message) in lines {
            let (scope, message) = (scope.into(), message.into());
            tail.push(&Record { time: UNIX_EPOCH, level, scope, message, fields: Vec::new() });
        }
        assert_eq!(tail.reason().as_deref(), reason, "{lines:?}");
        assert_eq!(tail.lines().len(), lines.len().min(LINES));
    }

    #[test]
    fn the_reason_is_the_last_error_or_the_last_line() {
        check(&[], None);
        check(&[(Level::INFO, "envoy main", "exiting")], Some("info main: exiting"));
        check(
            &[
                (Level::ERROR, "envoy main", "error initializing"),
                (Level::INFO, "envoy main", "exiting"),
                (Level::ERROR, "envoy", "yaml-cpp: error at line 2"),
            ],
            Some("yaml-cpp: error at line 2"),
        );
    }

    #[test]
    fn a_backtrace_does_not_hide_the_reason() {
        let frames = (0..30).map(|_| (Level::ERROR, "envoy backtrace", "#0: [0x7f93eba5c050]"));
        let crash =
            [(Level::ERROR, "envoy backtrace", "Caught Segmentation fault, suspect faulting address 0x0")];
        let lines: Vec<_> = crash.into_iter().chain(frames).collect();
        check(&lines, Some("error backtrace: Caught Segmentation fault, suspect faulting address 0x0"));
    }

    #[test]
    fn a_line_is_kept_in_part() {
        let tail = StderrTail::default();
        let message = "ü".repeat(10_000).into();
        tail.push(&Record {
            time: UNIX_EPOCH,
            level: Level::ERROR,
            scope: "envoy".into(),
            message,
            fields: vec![],
        });
        assert_eq!(tail.lines(), ["ü".repeat(CHARS)]);
    }
}
