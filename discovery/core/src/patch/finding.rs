//! What is to be said of an `EnvoyFilter` as it was written.

use std::fmt;

/// Something about one field.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Finding {
    /// How bad it is.
    pub severity: Severity,
    /// The field, from the spec down: `configPatches[1].patch.value.typed_config`.
    pub path: String,
    /// What is the matter with it.
    pub reason: String,
}

/// What follows from a finding.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Severity {
    /// The patch is not used; the others of its object are.
    Rejected,
    /// The patch is used as far as it has a meaning.
    Warning,
}

impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.path, self.reason)
    }
}
