//! Identity of an Envoy: number of its start, restart epoch, and revision of the configuration.

use std::fmt;

/// Restart epoch: 0 without a running predecessor, otherwise one more than that of the predecessor. An epoch is used up only
/// by an Envoy that becomes LIVE, so two starts may have the same.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct Epoch(u32);

/// Number of a start since the agent started, from 1. Unique.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct Launch(u32);

/// Number of a desired state: bootstrap, flags and binary. Later states have higher numbers; a forced restart has a new
/// one though nothing has changed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct Revision(u32);

/// Identity of one Envoy.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Generation {
    /// Number of its start.
    pub(crate) launch: Launch,
    /// Its restart epoch.
    pub(crate) epoch: Epoch,
    /// Revision of its configuration.
    pub(crate) revision: Revision,
}

// === impl Epoch ===

impl Epoch {
    /// The epoch of an Envoy without a predecessor.
    pub(crate) const FIRST: Self = Self(0);

    /// The epoch of its successor.
    #[must_use]
    pub(crate) fn next(self) -> Self {
        Self(self.0.saturating_add(1))
    }

    /// The number, as on Envoy's command line.
    pub(crate) fn get(self) -> u32 {
        self.0
    }
}

impl fmt::Display for Epoch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

// === impl Launch ===

impl Launch {
    /// Before the first start.
    pub(super) const NONE: Self = Self(0);

    /// The first start.
    pub(crate) const FIRST: Self = Self(1);

    /// The next start.
    #[must_use]
    pub(super) fn next(self) -> Self {
        Self(self.0.saturating_add(1))
    }

    /// The number.
    pub(crate) fn get(self) -> u32 {
        self.0
    }

    /// For tests beside the supervisor.
    #[cfg(test)]
    pub(crate) fn nth(number: u32) -> Self {
        Self(number)
    }
}

impl fmt::Display for Launch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

// === impl Revision ===

impl Revision {
    /// The revision with which the agent starts.
    pub(crate) const FIRST: Self = Self(1);

    /// The next desired state.
    #[must_use]
    pub(crate) fn next(self) -> Self {
        Self(self.0.saturating_add(1))
    }

    /// The number, from 1.
    pub(crate) fn get(self) -> u32 {
        self.0
    }
}

impl fmt::Display for Revision {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}
