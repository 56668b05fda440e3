//! The files around the agent, read once. Paths are relative to the working directory, as Istio's are:
//! a virtual machine runs the agent in `/`, a developer in any folder.
//!
//! A file that is not there is nothing; a file that cannot be read or parsed is a mistake with its name.

use std::collections::BTreeMap;
use std::io;
use std::path::{Path, PathBuf};

use serde_json::Value;

use super::fault::Faults;
use super::{downward, yaml};

/// Annotations of the pod, mounted by the downward API.
pub(super) const ANNOTATIONS: &str = "./etc/istio/pod/annotations";
/// Labels of the pod, mounted by the downward API.
pub(super) const LABELS: &str = "./etc/istio/pod/labels";

/// A folder that relative paths begin at.
#[derive(Clone, Debug)]
pub struct Root(PathBuf);

/// What the pod says about itself.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Pod {
    /// `None`: nothing is mounted.
    pub labels: Option<BTreeMap<String, String>>,
    /// Empty if nothing is mounted.
    pub annotations: BTreeMap<String, String>,
}

// === impl Root ===

impl Root {
    /// Relative paths begin here.
    pub fn new(root: impl Into<PathBuf>) -> Self {
        Self(root.into())
    }

    /// Whether there is such a file.
    pub fn has(&self, path: &str) -> bool {
        self.0.join(path).is_file()
    }

    /// The file's text; `None` if there is no such file, or after a mistake was noted.
    pub fn text(&self, path: &str, faults: &mut Faults) -> Option<String> {
        match std::fs::read_to_string(self.0.join(path)) {
            Ok(text) => Some(text),
            Err(error) if error.kind() == io::ErrorKind::NotFound => None,
            Err(error) => {
                faults.configuration(path, format!("cannot be read: {error}"));
                None
            }
        }
    }

    /// The file as YAML; null if there is no such file, or after a mistake was noted.
    pub fn yaml(&self, path: &str, faults: &mut Faults) -> Value {
        let Some(text) = self.text(path, faults) else { return Value::Null };
        yaml::read(&text).unwrap_or_else(|problem| {
            faults.configuration(path, problem);
            Value::Null
        })
    }

    /// The file's text; that it is not there is a mistake too.
    pub fn required(&self, path: &str, faults: &mut Faults) -> Option<String> {
        if !Path::exists(&self.0.join(path)) {
            faults.configuration(path, "there is no such file");
            return None;
        }
        self.text(path, faults)
    }

    /// What the pod says about itself.
    pub fn pod(&self, faults: &mut Faults) -> Pod {
        let mut read = |path| {
            let text = self.text(path, faults)?;
            downward::parse(&text).map_err(|problem| faults.configuration(path, problem)).ok()
        };
        Pod { labels: read(LABELS), annotations: read(ANNOTATIONS).unwrap_or_default() }
    }

    /// The path as the process finds it.
    pub fn join(&self, path: &str) -> PathBuf {
        self.0.join(path)
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
