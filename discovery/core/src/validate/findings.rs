//! What was found, and where.

use std::fmt;

/// How much a finding weighs.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Severity {
    /// The object cannot be used.
    Error,
    /// The object is used, and does not mean all that was written.
    Warning,
}

/// Something about a field.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Finding {
    /// How much it weighs.
    pub severity: Severity,
    /// Path of the field, `spec.http[0].route[1].weight`; empty: none in particular.
    pub field: String,
    /// What is wrong with it.
    pub message: String,
}

/// Where a field is. Only spelt out when there is something to say.
#[derive(Clone, Copy, Debug)]
pub(super) enum At<'a> {
    /// The outermost field.
    Root(&'a str),
    /// A field of a message, or an entry of a map.
    Field(&'a At<'a>, &'a str),
    /// An element of a list.
    Element(&'a At<'a>, usize),
}

/// Findings as they come.
#[derive(Debug, Default)]
pub(super) struct Findings(Vec<Finding>);

// === impl Finding ===

impl Finding {
    /// An error.
    pub fn error(field: impl Into<String>, message: impl Into<String>) -> Self {
        Self { severity: Severity::Error, field: field.into(), message: message.into() }
    }

    /// A warning.
    pub fn warning(field: impl Into<String>, message: impl Into<String>) -> Self {
        Self { severity: Severity::Warning, field: field.into(), message: message.into() }
    }
}

impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if !self.field.is_empty() {
            write!(f, "{}: ", self.field)?;
        }
        f.write_str(&self.message)
    }
}

// === impl At ===

impl<'a> At<'a> {
    /// One of its fields.
    pub(super) const fn of(&'a self, name: &'a str) -> Self {
        Self::Field(self, name)
    }

    /// One of its elements.
    pub(super) const fn nth(&'a self, index: usize) -> Self {
        Self::Element(self, index)
    }
}

impl fmt::Display for At<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Root(name) => f.write_str(name),
            Self::Field(parent, name) => write!(f, "{parent}.{name}"),
            Self::Element(parent, index) => write!(f, "{parent}[{index}]"),
        }
    }
}

// === impl Findings ===

impl Findings {
    /// The object cannot be used.
    pub(super) fn error(&mut self, at: At<'_>, message: impl Into<String>) {
        self.0.push(Finding::error(at.to_string(), message));
    }

    /// The object is used, and does not mean all that was written.
    pub(super) fn warning(&mut self, at: At<'_>, message: impl Into<String>) {
        self.0.push(Finding::warning(at.to_string(), message));
    }

    /// All of them.
    pub(super) fn into_inner(self) -> Vec<Finding> {
        self.0
    }
}
