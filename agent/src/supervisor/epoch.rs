//! The number of an Envoy in a line of Envoys that take over from each other.

use std::fmt;

/// Envoy's restart epoch: 0 for an Envoy with no living predecessor, one more for each that takes over
/// from a living one. Only [`Epoch::FIRST`] makes one, so epochs cannot skip.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Epoch(u32);

// === impl Epoch ===

impl Epoch {
    /// The epoch of an Envoy that takes over from nobody.
    pub const FIRST: Self = Self(0);

    /// One that takes over from the first.
    #[cfg(test)]
    pub(super) const SECOND: Self = Self(1);

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
