//! How an Envoy ended, or why it never began; and which exit code of ours says so.

use std::fmt;

use super::EnvoySignal;

/// How an Envoy ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Status {
    /// By itself, with this code.
    Exited(u8),
    /// By this signal.
    Signaled(u8),
}

/// Why an Envoy could not even be started.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SpawnFailure {
    /// There is no such program.
    NotFound,
    /// It is there and cannot be executed.
    NotExecutable,
    /// The system is short of something (processes, memory) or the file is being written.
    Transient,
}

// === impl Status ===

impl Status {
    const SIGTERM: u8 = 15;
    pub(crate) const KILLED: Self = Self::Signaled(9);

    /// The code a shell would show: Envoy's own, or 128 and the signal.
    pub fn code(self) -> u8 {
        match self {
            Self::Exited(code) => code,
            Self::Signaled(signal) => signal.saturating_add(128),
        }
    }

    /// The same, knowing what we had sent: in its first 100 ms Envoy has no handler for our SIGTERM
    /// and dies of it, which is as clean as a start that never was.
    pub(super) fn code_after(self, sent: EnvoySignal) -> u8 {
        match (self, sent) {
            (Self::Signaled(Self::SIGTERM), EnvoySignal::Terminate) => 0,
            _ => self.code(),
        }
    }
}

impl fmt::Display for Status {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Exited(code) => write!(f, "exit code {code}"),
            Self::Signaled(signal) => write!(f, "signal {signal}"),
        }
    }
}

// === impl SpawnFailure ===

impl SpawnFailure {
    /// The codes a shell uses for the same.
    pub(crate) fn code(self) -> u8 {
        match self {
            Self::NotFound => 127,
            Self::NotExecutable => 126,
            Self::Transient => 1,
        }
    }
}
