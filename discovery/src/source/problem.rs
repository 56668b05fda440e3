//! Problems of objects: messages of validation, with the location of the manifest.

use std::fmt;
use std::path::{Path, PathBuf};

use pilot_core::validate::{Finding, Severity};

use super::objects::ObjectKey;

/// Problem of an object, or of the file that declares objects.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Problem {
    /// Error: the manifest cannot be used and its previous version stays active. Warning: the manifest is used, but not in
    /// all its parts.
    pub(crate) severity: Severity,
    /// File or directory; empty if the object does not come from a file.
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
pub(crate) struct ManifestLocation {
    /// First line, from 1.
    pub(crate) line: usize,
    /// Number of the document, from 1.
    pub(crate) document: usize,
    /// Index of the item in a `List`, from 0.
    pub(crate) item: Option<usize>,
}

// === impl ManifestLocation ===

impl ManifestLocation {
    /// Returns the problem of a finding at this location.
    pub(crate) fn problem(self, file: &Path, object: Option<&ObjectKey>, finding: Finding) -> Problem {
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
        if !self.file.as_os_str().is_empty() {
            write!(f, "{}", self.file.display())?;
            if self.line > 0 {
                write!(f, ":{}", self.line)?;
            }
            f.write_str(": ")?;
        }
        if self.severity == Severity::Warning {
            f.write_str("warning: ")?;
        }
        if self.document > 0 {
            write!(f, "document {}: ", self.document)?;
        }
        if let Some(item) = self.item {
            write!(f, "items[{item}]: ")?;
        }
        if let Some(object) = &self.object {
            write!(f, "{object}: ")?;
        }
        if !self.field.is_empty() {
            write!(f, "{}: ", self.field)?;
        }
        f.write_str(&self.message)
    }
}
