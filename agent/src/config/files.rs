//! Files that the configuration depends on, with a record of all reads. Paths are relative to the working directory, as in Istio:
//! on a virtual machine the agent runs in `/`, for a developer in any folder.
//!
//! A missing file is empty; a file that cannot be read or parsed is an error with its name.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::io;
use std::path::{Path, PathBuf};

use pilot_watch::file::{self, ContentDigest};
use serde_json::Value;

use super::fault::Faults;
use super::source_files::{FileState, Probe, SourceFiles};
use super::{downward, yaml};

/// Annotations of the pod, mounted by the downward API.
pub(super) const ANNOTATIONS: &str = "./etc/istio/pod/annotations";
/// Labels of the pod, mounted by the downward API.
pub(super) const LABELS: &str = "./etc/istio/pod/labels";
/// Maximum size of a text file in bytes: more than any valid one, less than the memory of a sidecar.
const MAX_TEXT: u64 = 16 << 20;

/// Folder of relative paths. Records which files were read.
#[derive(Clone, Debug)]
pub(crate) struct Root {
    folder: PathBuf,
    asked: RefCell<SourceFiles>,
}

/// Metadata of the pod from the downward API.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Pod {
    /// `None`: nothing is mounted.
    pub(crate) labels: Option<BTreeMap<String, String>>,
    /// Empty if nothing is mounted.
    pub(crate) annotations: BTreeMap<String, String>,
}

// === impl Root ===

impl Root {
    /// Relative paths begin here.
    pub(crate) fn new(folder: impl Into<PathBuf>) -> Self {
        Self { folder: folder.into(), asked: RefCell::default() }
    }

    /// Returns `true` if the file exists.
    pub(crate) fn has(&self, path: &str) -> bool {
        self.look(path, Probe::Presence) == FileState::Present
    }

    /// The file's text; `None` if there is no such file, or after a mistake was noted.
    pub(crate) fn text(&self, path: &str, faults: &mut Faults) -> Option<String> {
        let path_found = self.path(path);
        let bytes = file::read(&path_found, MAX_TEXT);
        let digest = bytes.as_deref().map(|bytes| FileState::Content(ContentDigest::of(bytes)));
        let state = FileState::from(digest.map_err(|error| error.kind().into()));
        self.asked.borrow_mut().record(path_found, Probe::Content, state);
        let text = bytes.and_then(|bytes| String::from_utf8(bytes).map_err(io::Error::other));
        match text {
            Ok(text) => Some(text),
            Err(_) if state == FileState::Absent => None,
            Err(error) => {
                faults.configuration(path, format!("cannot be read: {error}"));
                None
            }
        }
    }

    /// The file as YAML; null if there is no such file, or after a mistake was noted.
    pub(crate) fn yaml(&self, path: &str, faults: &mut Faults) -> Value {
        let Some(text) = self.text(path, faults) else { return Value::Null };
        yaml::read(&text).unwrap_or_else(|problem| {
            faults.configuration(path, problem);
            Value::Null
        })
    }

    /// The file's text; that it is not there is a mistake too.
    pub(crate) fn required(&self, path: &str, faults: &mut Faults) -> Option<String> {
        let before = faults.count();
        let text = self.text(path, faults);
        if text.is_none() && faults.count() == before {
            faults.configuration(path, "there is no such file");
        }
        text
    }

    /// Reads the metadata of the pod.
    pub(crate) fn pod(&self, faults: &mut Faults) -> Pod {
        let mut read = |path| {
            let text = self.text(path, faults)?;
            downward::parse(&text).map_err(|problem| faults.configuration(path, problem)).ok()
        };
        Pod { labels: read(LABELS), annotations: read(ANNOTATIONS).unwrap_or_default() }
    }

    /// Returns `true` for the files with labels and annotations of the pod. They are empty if the pod has none, and are replaced
    /// by rename: an empty one is complete.
    pub(crate) fn is_of_pod(&self, path: &Path) -> bool {
        [LABELS, ANNOTATIONS].into_iter().any(|file| self.path(file) == path)
    }

    /// The path of a program as the process finds it. Another program under this path is another configuration.
    pub(crate) fn program(&self, path: &str) -> PathBuf {
        self.look(path, Probe::Identity);
        self.path(path)
    }

    /// Returns the state of a file that another program reads.
    pub(crate) fn look(&self, path: &str, probe: Probe) -> FileState {
        let path = self.path(path);
        let state = probe.run(&path);
        self.asked.borrow_mut().record(path, probe, state);
        state
    }

    /// The path as the process finds it.
    pub(crate) fn path(&self, path: &str) -> PathBuf {
        self.folder.join(path).components().collect()
    }

    /// Returns all files that were read so far, including missing ones, with their state.
    pub(crate) fn sources(&self) -> SourceFiles {
        self.asked.borrow().clone()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_not_there_is_nothing_and_what_is_broken_is_named() {
        let folder = tempfile::tempdir().unwrap();
        let root = Root::new(folder.path());
        let mut faults = Faults::default();
        assert_eq!(root.pod(&mut faults), Pod::default());
        assert_eq!(root.yaml("./etc/istio/config/mesh", &mut faults), Value::Null);
        assert_eq!(faults, Faults::default());

        std::fs::create_dir_all(folder.path().join("etc/istio/pod")).unwrap();
        std::fs::write(folder.path().join(LABELS), "app=\"a\"\n").unwrap();
        std::fs::write(folder.path().join(ANNOTATIONS), "x=\"unfinished\n").unwrap();
        std::fs::create_dir(folder.path().join("mesh")).unwrap();
        let pod = root.pod(&mut faults);
        assert_eq!(pod.labels, Some(BTreeMap::from([("app".into(), "a".into())])));
        root.yaml("mesh", &mut faults);
        root.required("none", &mut faults);
        let places: Vec<_> = faults.iter().map(|fault| fault.place.as_str()).collect();
        assert_eq!(places, [ANNOTATIONS, "mesh", "none"]);
    }
}
