//! What is wrong with the files, and what was read: for logs, debug pages and metrics.

use std::collections::BTreeMap;
use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};

use pilot_core::validate::{Finding, Severity};

use crate::source::kubernetes::schema::SCHEMAS;
use crate::source::kubernetes::{ObjectKey, ObjectKind};

/// One thing that is wrong with what is written.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Problem {
    /// An error: it cannot be used, and what was there before serves on. A warning: it serves, and does not mean all
    /// that was written.
    pub(crate) severity: Severity,
    /// Where.
    pub(crate) file: PathBuf,
    /// The line it begins on, from 1; 0: the whole file.
    pub(crate) line: usize,
    /// Which document of the file, from 1; 0: the whole file.
    pub(crate) document: usize,
    /// Which item of a `List`, from 0.
    pub(crate) item: Option<usize>,
    /// Whose it is, `Service default/reviews`, when that can be told.
    pub(crate) object: Option<String>,
    /// Which field, `spec.ports[0].port`; empty: none in particular.
    pub(crate) field: String,
    /// What is wrong with it.
    pub(crate) message: String,
}

/// Where in its file something is.
#[derive(Clone, Copy, Debug)]
pub(super) struct Place {
    /// The line it begins on, from 1.
    pub(super) line: usize,
    /// Which document, from 1.
    pub(super) document: usize,
    /// Which item of a `List`, from 0.
    pub(super) item: Option<usize>,
}

/// What has become of an object.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Fate {
    /// It is new.
    Added,
    /// It is different.
    Updated,
    /// It is gone.
    Deleted,
}

/// Shared between the source, which writes, and whoever wants to know.
#[derive(Debug)]
pub(crate) struct FileStatus {
    problems: Mutex<Vec<Problem>>,
    events: BTreeMap<ObjectKind, [AtomicU64; 3]>,
}

// === impl FileStatus ===

impl Default for FileStatus {
    fn default() -> Self {
        let configs = SCHEMAS.iter().map(|schema| ObjectKind::Config(schema.kind));
        let kinds = ObjectKind::OWN.into_iter().chain(configs);
        let events = kinds.map(|kind| (kind, Default::default())).collect();
        Self { problems: Mutex::default(), events }
    }
}

impl FileStatus {
    /// Everything that is wrong now.
    pub(crate) fn problems(&self) -> Vec<Problem> {
        self.problems.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// How many objects of each kind were added, updated, deleted (`pilot_k8s_reg_events`).
    pub(crate) fn events(&self) -> impl Iterator<Item = (ObjectKind, Fate, u64)> {
        self.events.iter().flat_map(|(kind, counters)| {
            let counters = Fate::ALL.into_iter().zip(counters);
            counters.map(|(fate, count)| (*kind, fate, count.load(Ordering::Relaxed)))
        })
    }

    pub(super) fn count(&self, kind: ObjectKind, fate: Fate) {
        let counters = self.events.get(&kind).into_iter().flatten();
        let counter = Fate::ALL.into_iter().zip(counters).find(|(known, _)| *known == fate);
        if let Some((_, counter)) = counter {
            counter.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// Takes in all problems there are now; returns those that are new and those that are no more.
    pub(super) fn set_problems(&self, problems: Vec<Problem>) -> (Vec<Problem>, Vec<Problem>) {
        let mut known = self.problems.lock().unwrap_or_else(PoisonError::into_inner);
        let new: Vec<_> = problems.iter().filter(|problem| !known.contains(problem)).cloned().collect();
        let solved = known.iter().filter(|problem| !problems.contains(problem)).cloned().collect();
        *known = problems;
        (new, solved)
    }
}

// === impl Fate ===

impl Fate {
    const ALL: [Self; 3] = [Self::Added, Self::Updated, Self::Deleted];

    /// As Istio's metrics spell it.
    pub(crate) const fn as_str(self) -> &'static str {
        match self {
            Self::Added => "add",
            Self::Updated => "update",
            Self::Deleted => "delete",
        }
    }
}

// === impl Place ===

impl Place {
    /// What was found there.
    pub(super) fn problem(self, file: &Path, object: Option<&ObjectKey>, finding: Finding) -> Problem {
        let Self { line, document, item } = self;
        let object = object.map(ToString::to_string);
        let Finding { severity, field, message } = finding;
        Problem { severity, file: file.to_owned(), line, document, item, object, field, message }
    }
}

// === impl Problem ===

impl Problem {
    /// Something that is wrong with a whole file or directory.
    pub(crate) fn of_file(file: &Path, message: String) -> Self {
        Self {
            severity: Severity::Error,
            file: file.to_owned(),
            line: 0,
            document: 0,
            item: None,
            object: None,
            field: String::new(),
            message,
        }
    }
}

impl fmt::Display for Problem {
    /// `mesh/web.yaml:12: document 2: Service default/web: spec.ports[0].port: 70000 is no port: 1 to 65535`
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.file.display())?;
        if self.line > 0 {
            write!(f, ":{}", self.line)?;
        }
        if self.severity == Severity::Warning {
            f.write_str(": warning")?;
        }
        if self.document > 0 {
            write!(f, ": document {}", self.document)?;
        }
        if let Some(item) = self.item {
            write!(f, ": items[{item}]")?;
        }
        if let Some(object) = &self.object {
            write!(f, ": {object}")?;
        }
        if !self.field.is_empty() {
            write!(f, ": {}", self.field)?;
        }
        write!(f, ": {}", self.message)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_problem_is_told_when_it_comes_and_when_it_goes() {
        let status = FileStatus::default();
        let problem = |message: &str| Problem::of_file(Path::new("f"), message.to_owned());
        let (a, b) = (problem("a"), problem("b"));
        assert_eq!(status.set_problems(vec![a.clone()]), (vec![a.clone()], vec![]));
        assert_eq!(status.set_problems(vec![a.clone(), b.clone()]), (vec![b.clone()], vec![]));
        assert_eq!(status.set_problems(vec![a.clone(), b.clone()]), (vec![], vec![]));
        assert_eq!(status.set_problems(vec![b.clone()]), (vec![], vec![a]));
        assert_eq!(status.problems(), [b]);
    }
}
