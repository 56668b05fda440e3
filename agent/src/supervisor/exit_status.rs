//! Exit status of an Envoy, or the reason why it could not be started, and the agent's exit code for it.

use std::fmt;

use super::EnvoySignal;

/// Exit status of a process.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum ExitStatus {
    /// It exited with this code.
    Exited(u8),
    /// It was killed by this signal.
    Signaled(u8),
}

/// Reason why a process could not be started.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum SpawnFailure {
    /// The program does not exist.
    NotFound,
    /// The program cannot be executed.
    NotExecutable,
    /// The system lacks resources (processes, memory), or the file is being written.
    Transient,
}

// === impl ExitStatus ===

impl ExitStatus {
    const SIGTERM: u8 = 15;
    pub(crate) const KILLED: Self = Self::Signaled(9);

    /// Exit code as a shell shows it: the process's own, or 128 plus the signal.
    pub(crate) fn code(self) -> u8 {
        match self {
            Self::Exited(code) => code,
            Self::Signaled(signal) => signal.saturating_add(128),
        }
    }

    /// Exit code after this signal of the agent. In its first 100 ms Envoy has no handler and dies of SIGTERM, which counts
    /// as a clean exit.
    pub(super) fn code_after(self, sent: EnvoySignal) -> u8 {
        match (self, sent) {
            (Self::Signaled(Self::SIGTERM), EnvoySignal::Terminate) => 0,
            _ => self.code(),
        }
    }
}

impl fmt::Display for ExitStatus {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Exited(code) => write!(f, "exit code {code}"),
            Self::Signaled(signal) => write!(f, "signal {signal}"),
        }
    }
}

// === impl SpawnFailure ===

impl SpawnFailure {
    /// Exit code as a shell shows it.
    pub(crate) fn code(self) -> u8 {
        match self {
            Self::NotFound => 127,
            Self::NotExecutable => 126,
            Self::Transient => 1,
        }
    }
}
