//! Problems of the files and counts of object changes, for logs, debug pages and metrics.

use std::collections::BTreeMap;
use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};

use pilot_core::validate::{Finding, Severity};

use crate::source::kubernetes::schema::SCHEMAS;
use crate::source::kubernetes::{ObjectKey, ObjectKind};

/// Problem of a file.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Problem {
    /// Error: the manifest cannot be used and its previous version stays active. Warning: the manifest is used, but not in
    /// all its parts.
    pub(crate) severity: Severity,
    /// File or directory.
    pub(crate) file: PathBuf,
    /// First line of the manifest, from 1; 0: the whole file.
    pub(crate) line: usize,
    /// Number of the document in the file, from 1; 0: the whole file.
    pub(crate) document: usize,
    /// Index of the item in a `List`, from 0.
    pub(crate) item: Option<usize>,
    /// Object, `Service default/reviews`, if it could be identified.
    pub(crate) object: Option<String>,
    /// Field, `spec.ports[0].port`; empty: none in particular.
    pub(crate) field: String,
    /// Description of the problem.
    pub(crate) message: String,
}

/// Location of a manifest in its file.
#[derive(Clone, Copy, Debug)]
pub(super) struct ManifestLocation {
    /// First line, from 1.
    pub(super) line: usize,
    /// Number of the document, from 1.
    pub(super) document: usize,
    /// Index of the item in a `List`, from 0.
    pub(super) item: Option<usize>,
}

/// Change of an object.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum ObjectAction {
    /// The object is new.
    Added,
    /// The object differs from its previous version.
    Updated,
    /// The object was deleted.
    Deleted,
}

/// Status of the file source. Written by the source, read by metrics and debug pages.
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
    /// Returns the current problems.
    pub(crate) fn problems(&self) -> Vec<Problem> {
        self.problems.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Returns the number of objects of each kind that were added, updated, deleted (`pilot_k8s_reg_events`).
    pub(crate) fn events(&self) -> impl Iterator<Item = (ObjectKind, ObjectAction, u64)> {
        self.events.iter().flat_map(|(kind, counters)| {
            let counters = ObjectAction::ALL.into_iter().zip(counters);
            counters.map(|(action, count)| (*kind, action, count.load(Ordering::Relaxed)))
        })
    }

    pub(super) fn count(&self, kind: ObjectKind, action: ObjectAction) {
        let counters = self.events.get(&kind).into_iter().flatten();
        let counter = ObjectAction::ALL.into_iter().zip(counters).find(|(counted, _)| *counted == action);
        if let Some((_, counter)) = counter {
            counter.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// Replaces the current problems. Returns the new ones and the resolved ones.
    pub(super) fn set_problems(&self, problems: Vec<Problem>) -> (Vec<Problem>, Vec<Problem>) {
        let mut current = self.problems.lock().unwrap_or_else(PoisonError::into_inner);
        let new: Vec<_> = problems.iter().filter(|problem| !current.contains(problem)).cloned().collect();
        let resolved = current.iter().filter(|problem| !problems.contains(problem)).cloned().collect();
        *current = problems;
        (new, resolved)
    }
}

// === impl ObjectAction ===

impl ObjectAction {
    const ALL: [Self; 3] = [Self::Added, Self::Updated, Self::Deleted];

    /// Returns the label value of Istio's metrics.
    pub(crate) const fn as_str(self) -> &'static str {
        match self {
            Self::Added => "add",
            Self::Updated => "update",
            Self::Deleted => "delete",
        }
    }
}

// === impl ManifestLocation ===

impl ManifestLocation {
    /// Returns the problem of a finding at this location.
    pub(super) fn problem(self, file: &Path, object: Option<&ObjectKey>, finding: Finding) -> Problem {
        let Self { line, document, item } = self;
        let object = object.map(ToString::to_string);
        let Finding { severity, field, message } = finding;
        Problem { severity, file: file.to_owned(), line, document, item, object, field, message }
    }
}

// === impl Problem ===

impl Problem {
    /// Returns a problem of a whole file or directory.
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
    fn set_problems_returns_new_and_resolved_problems() {
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
