//! Errors in the configuration, collected, and the exit code for them.

use std::fmt;

/// Kind of an error, in order of precedence for the exit code.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum FaultKind {
    /// A flag: `EX_USAGE`.
    Usage,
    /// A file, a variable or an annotation: `EX_CONFIG`.
    Configuration,
    /// The Envoy binary does not exist; exit code as in a shell.
    NoBinary,
    /// The Envoy binary cannot be executed; exit code as in a shell.
    NotExecutable,
}

impl FaultKind {
    /// The process's exit code.
    pub(crate) const fn exit_code(self) -> u8 {
        match self {
            Self::Usage => 64,
            Self::Configuration => 78,
            Self::NoBinary => 127,
            Self::NotExecutable => 126,
        }
    }
}

/// One mistake: where, in which field, and what.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Fault {
    /// Kind of the error.
    pub(crate) kind: FaultKind,
    /// A flag, a variable, a file, an annotation.
    pub(crate) place: String,
    /// Description; begins with the field, if there is one.
    pub(crate) problem: String,
}

/// Every mistake, in the order they were found.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Faults(Vec<Fault>);

// === impl Fault ===

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // One mistake is one line, whatever a parser put into its message.
        let problem = self.problem.split_whitespace().collect::<Vec<_>>().join(" ");
        write!(f, "{}: {problem}", self.place)
    }
}

// === impl Faults ===

impl Faults {
    /// Notes a mistake in configuration.
    pub(crate) fn configuration(&mut self, place: impl Into<String>, problem: impl fmt::Display) {
        self.add(FaultKind::Configuration, place, problem);
    }

    /// Notes a mistake in a flag.
    pub(crate) fn usage(&mut self, flag: impl Into<String>, problem: impl fmt::Display) {
        self.add(FaultKind::Usage, flag, problem);
    }

    /// Notes a mistake.
    pub(crate) fn add(&mut self, kind: FaultKind, place: impl Into<String>, problem: impl fmt::Display) {
        self.0.push(Fault { kind, place: place.into(), problem: problem.to_string() });
    }

    /// The value if there was no mistake on the way to it.
    pub(crate) fn unless_any<T>(self, value: T) -> Result<T, Self> {
        if self.0.is_empty() { Ok(value) } else { Err(self) }
    }

    /// Every mistake.
    pub(crate) fn iter(&self) -> impl Iterator<Item = &Fault> {
        self.0.iter()
    }

    /// Returns the number of errors so far.
    pub(crate) fn count(&self) -> usize {
        self.0.len()
    }

    /// Adds those of a check that made sense.
    pub(crate) fn extend(&mut self, others: Self) {
        self.0.extend(others.0);
    }

    /// The exit code of the worst of them.
    pub(crate) fn exit_code(&self) -> u8 {
        self.0.iter().map(|fault| fault.kind).min().map_or(0, FaultKind::exit_code)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_mistake_is_one_line_and_the_worst_decides_the_code() {
        let mut faults = Faults::default();
        faults.add(FaultKind::NoBinary, "binaryPath", "/no/envoy does not exist");
        assert_eq!(faults.exit_code(), 127);
        faults.configuration("PROXY_CONFIG", "line 3:\n   bad");
        assert_eq!(faults.exit_code(), 78);
        faults.usage("--proxyLogLevel", "no");
        assert_eq!(faults.exit_code(), 64);
        let lines: Vec<_> = faults.iter().map(ToString::to_string).collect();
        assert_eq!(
            lines,
            ["binaryPath: /no/envoy does not exist", "PROXY_CONFIG: line 3: bad", "--proxyLogLevel: no"]
        );
        assert!(faults.unless_any(()).is_err());
    }
}
