//! Termination message of the agent: the reason of its exit, for `kubectl describe pod`.
//!
//! ```text
//! Envoy crashes again and again
//! Envoy, epoch 2, was killed by SIGKILL after 61.250 s: the container is out of memory
//! Its last lines:
//! error main: ...
//! ```
//!
//! Kubernetes shows the first 4 KiB of the termination log. The reason is decided elsewhere.

use std::fmt::{self, Write as _};
use std::fs::OpenOptions;
use std::io::{self, Write as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::Path;
use std::time::Duration;

use nix::fcntl::OFlag;
use nix::sys::signal::Signal;

use crate::cgroup::Oom;
use crate::logs::Sanitized;
use crate::supervisor::{Epoch, ExitStatus};

/// Bytes that Kubernetes keeps of a termination log.
const LIMIT: usize = 4096;

/// Bytes of one line. Of these, the reason, the end and the newest line always fit.
const LINE: usize = 1024;

/// Reason of the agent's exit.
#[derive(Clone, Debug)]
pub(crate) struct Report<'a> {
    /// In one line.
    pub(crate) reason: &'a str,
    /// The Envoy that has ended; `None`: none was started.
    pub(crate) envoy: Option<EndedEnvoy>,
    /// Its last lines, oldest first.
    pub(crate) last_lines: &'a [String],
}

/// An Envoy that has ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct EndedEnvoy {
    /// Epoch of the Envoy.
    pub(crate) epoch: Epoch,
    /// Exit status.
    pub(crate) status: ExitStatus,
    /// Result of the OOM detection.
    pub(crate) oom: Oom,
    /// Lifetime.
    pub(crate) lived: Duration,
}

/// Result of writing the report.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum ReportOutcome {
    /// Yes.
    Written,
    /// There is no such file, or it is not writable: no report is expected.
    NoFile,
}

/// Writes a report to the termination log, replacing its content. The file is never created: it exists if it is read.
pub(crate) fn write(path: &Path, report: &Report<'_>) -> io::Result<ReportOutcome> {
    // Whatever the file is, opening it must not block.
    let flags = (OFlag::O_NONBLOCK | OFlag::O_NOCTTY).bits();
    let opened = OpenOptions::new().write(true).truncate(true).custom_flags(flags).open(path);
    let mut file = match opened.map_err(|error| (error.kind(), error)) {
        Ok(file) => file,
        Err((
            io::ErrorKind::NotFound | io::ErrorKind::PermissionDenied | io::ErrorKind::ReadOnlyFilesystem,
            _,
        )) => return Ok(ReportOutcome::NoFile),
        Err((_, error)) => return Err(error),
    };
    file.write_all(report.to_string().as_bytes())?;
    Ok(ReportOutcome::Written)
}

// === impl Report ===

/// At most 4096 bytes, in whole lines; of Envoy's lines the newest that fit.
impl fmt::Display for Report<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        const HEADING: &str = "Its last lines:\n";
        let mut head = line(self.reason);
        if let Some(envoy) = self.envoy {
            writeln!(head, "{envoy}")?;
        }
        f.write_str(&head)?;
        let lines: Vec<_> = self.last_lines.iter().map(|text| line(text)).collect();
        let mut left = LIMIT.saturating_sub(head.len() + HEADING.len());
        let fitting = lines.iter().rev().take_while(|line| match left.checked_sub(line.len()) {
            Some(rest) => {
                left = rest;
                true
            }
            None => false,
        });
        let newest = lines.get(lines.len() - fitting.count()..).unwrap_or_default();
        if !newest.is_empty() {
            f.write_str(HEADING)?;
        }
        newest.iter().try_for_each(|line| f.write_str(line))
    }
}

/// One line with its end, harmless on a terminal, and not too long.
fn line(text: &str) -> String {
    let mut line = Sanitized(text.trim()).to_string();
    if line.len() >= LINE {
        line.truncate(line.floor_char_boundary(LINE - "…\n".len()));
        line.push('…');
    }
    line.push('\n');
    line
}

// === impl EndedEnvoy ===

impl EndedEnvoy {
    const SIGKILL: u8 = 9;
}

impl fmt::Display for EndedEnvoy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { epoch, status, oom, lived } = self;
        let lived = lived.as_millis();
        let lived = format_args!("{}.{:03} s", lived / 1000, lived % 1000);
        match status {
            ExitStatus::Exited(code) => {
                write!(f, "Envoy, epoch {epoch}, ended with exit code {code} after {lived}")
            }
            ExitStatus::Signaled(number) => {
                let signal = Signal::try_from(i32::from(*number)).map_or("an unknown signal", Signal::as_str);
                write!(f, "Envoy, epoch {epoch}, was killed by {signal} after {lived}")?;
                match oom {
                    Oom::Yes if *number == Self::SIGKILL => f.write_str(": the container is out of memory"),
                    Oom::No if *number == Self::SIGKILL => f.write_str(", but not for want of memory"),
                    Oom::Yes | Oom::No | Oom::Unknown => Ok(()),
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    const KILLED: EndedEnvoy = EndedEnvoy {
        epoch: Epoch::FIRST,
        status: ExitStatus::Signaled(9),
        oom: Oom::Yes,
        lived: Duration::from_millis(61_250),
    };

    #[test]
    fn a_report_says_why_and_what_was_said_last() {
        let last_lines = ["error main: one".to_owned(), "two\u{1b}[2J\nforged".to_owned()];
        let report =
            Report { reason: "Envoy crashes again and again", envoy: Some(KILLED), last_lines: &last_lines };
        assert_eq!(
            report.to_string(),
            "Envoy crashes again and again\n\
             Envoy, epoch 0, was killed by SIGKILL after 61.250 s: the container is out of memory\n\
             Its last lines:\n\
             error main: one\n\
             two\\u{1b}[2J\\nforged\n"
        );
        let report = Report { reason: "no Envoy at /envoy", envoy: None, last_lines: &[] };
        assert_eq!(report.to_string(), "no Envoy at /envoy\n");
    }

    #[test]
    fn an_end_is_told_by_its_name() {
        for (status, oom, told) in [
            (ExitStatus::Exited(1), Oom::Yes, "ended with exit code 1 after 61.250 s"),
            (
                ExitStatus::Signaled(9),
                Oom::No,
                "was killed by SIGKILL after 61.250 s, but not for want of memory",
            ),
            (ExitStatus::Signaled(9), Oom::Unknown, "was killed by SIGKILL after 61.250 s"),
            (ExitStatus::Signaled(11), Oom::Yes, "was killed by SIGSEGV after 61.250 s"),
            (ExitStatus::Signaled(6), Oom::No, "was killed by SIGABRT after 61.250 s"),
            (ExitStatus::Signaled(64), Oom::Unknown, "was killed by an unknown signal after 61.250 s"),
        ] {
            assert_eq!(EndedEnvoy { status, oom, ..KILLED }.to_string(), format!("Envoy, epoch 0, {told}"));
        }
    }

    #[test]
    fn the_newest_lines_fit_4_kib_whole() {
        for (reason, length, kept) in [
            ("r".repeat(10_000), 10, 20),
            ("r".into(), 10, 20),
            ("r".into(), 190, 20),
            ("r".into(), 400, 9),
            ("€".repeat(5000), 5000, 2),
        ] {
            let last_lines: Vec<String> =
                (0..20).map(|number| format!("{number:02}{}", "€".repeat(length / 3))).collect();
            let text = Report { reason: &reason, envoy: Some(KILLED), last_lines: &last_lines }.to_string();
            assert!(text.len() <= LIMIT && text.ends_with('\n'), "{}", text.len());
            let shown: Vec<_> = text.lines().skip(3).map(|line| line.get(..2).unwrap().to_owned()).collect();
            let expected: Vec<_> = (20 - kept..20).map(|number| format!("{number:02}")).collect();
            assert_eq!(shown, expected, "{length}");
        }
    }

    #[test]
    fn a_report_replaces_what_is_there_and_makes_no_file() {
        let folder = tempfile::tempdir().unwrap();
        let (path, none) = (folder.path().join("log"), folder.path().join("none"));
        let report = Report { reason: "why", envoy: None, last_lines: &[] };
        fs::write(&path, "something longer").unwrap();
        assert_eq!(write(&path, &report).unwrap(), ReportOutcome::Written);
        assert_eq!(fs::read_to_string(&path).unwrap(), "why\n");
        assert_eq!(write(&none, &report).unwrap(), ReportOutcome::NoFile);
        assert!(!none.exists());
        write(folder.path(), &report).unwrap_err();
    }

    #[test]
    fn a_pipe_nobody_reads_keeps_nobody() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("pipe");
        nix::unistd::mkfifo(&path, nix::sys::stat::Mode::S_IRWXU).unwrap();
        write(&path, &Report { reason: "why", envoy: None, last_lines: &[] }).unwrap_err();
    }
}
