//! What tells one Envoy from another: which start it is, its place in a line of hand-overs, and what it was
//! told to be.

use std::fmt;

/// Envoy's restart epoch: 0 for an Envoy with no living predecessor, one more for each that takes over from a
/// living one. A number is used up only by an Envoy that became LIVE, so two starts may have the same.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Epoch(u32);

/// The how manieth Envoy this is since the agent started, from 1. Never used twice.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Launch(u32);

/// A desired state: bootstrap, flags and binary. Each one wanted after another has a higher number, and a
/// forced restart is one of its own though nothing in it is new.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Revision(u32);

/// One Envoy.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Generation {
    /// Which start it is.
    pub launch: Launch,
    /// Its place in the line.
    pub epoch: Epoch,
    /// What it was told to be.
    pub revision: Revision,
}

// === impl Epoch ===

impl Epoch {
    /// The epoch of an Envoy that takes over from nobody.
    pub const FIRST: Self = Self(0);

    /// That of the Envoy that takes over from this one.
    #[must_use]
    pub fn next(self) -> Self {
        Self(self.0.saturating_add(1))
    }

    /// The number as Envoy wants it on its command line.
    pub fn get(self) -> u32 {
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
    /// No Envoy yet.
    pub(super) const NONE: Self = Self(0);

    /// The first start.
    pub const FIRST: Self = Self(1);

    /// The next start.
    #[must_use]
    pub(super) fn next(self) -> Self {
        Self(self.0.saturating_add(1))
    }

    /// How many starts there were by then.
    pub fn get(self) -> u32 {
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
    /// What the agent was started with.
    pub const FIRST: Self = Self(1);

    /// The one wanted after this.
    #[must_use]
    pub fn next(self) -> Self {
        Self(self.0.saturating_add(1))
    }

    /// The number, from 1.
    pub fn get(self) -> u32 {
        self.0
    }
}

impl fmt::Display for Revision {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}
