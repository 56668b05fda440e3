//! Findings of validation, with the path of their field.

use std::fmt;

/// Severity of a finding.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Severity {
    /// The object is rejected.
    Error,
    /// The object is used; a part of it has no effect or an unexpected one.
    Warning,
}

/// Finding about a field.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Finding {
    /// Severity.
    pub severity: Severity,
    /// Path of the field, `spec.http[0].route[1].weight`; empty: the whole object.
    pub field: String,
    /// Problem with the field.
    pub message: String,
}

/// Path of a field; formatted only for a finding.
#[derive(Clone, Copy, Debug)]
pub(super) enum At<'a> {
    /// Outermost field.
    Root(&'a str),
    /// Field of a message, or entry of a map.
    Field(&'a At<'a>, &'a str),
    /// Element of a list.
    Element(&'a At<'a>, usize),
}

/// Findings in the order of checks.
#[derive(Debug, Default)]
pub(super) struct Findings(Vec<Finding>);

// === impl Finding ===

impl Finding {
    /// Creates an error.
    pub fn error(field: impl Into<String>, message: impl Into<String>) -> Self {
        Self { severity: Severity::Error, field: field.into(), message: message.into() }
    }

    /// Creates a warning.
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
    /// Returns the path of a field.
    pub(super) const fn of(&'a self, name: &'a str) -> Self {
        Self::Field(self, name)
    }

    /// Returns the path of an element.
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
    /// Adds an error.
    pub(super) fn error(&mut self, at: At<'_>, message: impl Into<String>) {
        self.0.push(Finding::error(at.to_string(), message));
    }

    /// Adds a warning.
    pub(super) fn warning(&mut self, at: At<'_>, message: impl Into<String>) {
        self.0.push(Finding::warning(at.to_string(), message));
    }

    /// Returns the findings.
    pub(super) fn into_inner(self) -> Vec<Finding> {
        self.0
    }
}
