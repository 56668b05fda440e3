//! Identity of the Envoy binary. A hundred megabytes are not read after every change, and not at all before the first start;
//! a file that was only touched, or replaced by its own copy, is still the same binary.

use std::path::Path;

use pilot_watch::file::ContentDigest;

use crate::config::source_files::{FileState, Probe};

/// Envoy binary.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct EnvoyBinary {
    /// State of the first file with this content: distinguishes this binary from others.
    identity: FileState,
    /// State of the file that has the content now.
    current: FileState,
    /// Content; `None`: not read yet.
    content: Option<ContentDigest>,
}

// === impl EnvoyBinary ===

impl EnvoyBinary {
    /// Returns the binary of a file in this state, given the binary before. Blocks to read the file if it has changed.
    pub(super) fn detect(path: &Path, current: FileState, before: Option<&Self>) -> Self {
        let new = |content| Self { identity: current, current, content };
        match before {
            None => new(None),
            Some(before) if before.current == current => before.clone(),
            Some(before) => match new(None).digest(path) {
                Some(content) if before.content == Some(content) => {
                    Self { identity: before.identity, current, content: Some(content) }
                }
                content => new(content),
            },
        }
    }

    /// Reads the content if it was not read at the start, so that a later copy is recognized. Blocks.
    pub(super) fn read_content(&mut self, path: &Path) {
        if self.content.is_none() {
            self.content = self.digest(path);
        }
    }

    /// Returns a value that is equal for equal binaries.
    pub(super) fn identity(&self) -> FileState {
        self.identity
    }

    /// Reads the content. Returns `None` if the file has changed.
    fn digest(&self, path: &Path) -> Option<ContentDigest> {
        let digest = ContentDigest::of_file_uncached(path).ok()?;
        (Probe::Identity.run(path) == self.current).then_some(digest)
    }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    fn detect(path: &Path, before: Option<&EnvoyBinary>) -> EnvoyBinary {
        EnvoyBinary::detect(path, Probe::Identity.run(path), before)
    }

    #[test]
    fn copy_of_the_binary_is_the_same_binary() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("envoy");
        let replace = |content: &str| {
            fs::write(directory.path().join("new"), content).unwrap();
            fs::rename(directory.path().join("new"), &path).unwrap();
        };
        replace("one");
        let mut first = detect(&path, None);
        assert_eq!(detect(&path, Some(&first)), first, "nothing has changed");
        first.read_content(&path);

        replace("one");
        let copy = detect(&path, Some(&first));
        assert_eq!(copy.identity(), first.identity(), "its own copy");
        replace("two");
        let second = detect(&path, Some(&copy));
        assert_ne!(second.identity(), first.identity(), "another of the same size");
        fs::remove_file(&path).unwrap();
        assert_eq!(detect(&path, Some(&second)).identity(), FileState::Absent);
    }

    #[test]
    fn content_of_a_replaced_binary_is_not_recorded() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("envoy");
        fs::write(&path, "one").unwrap();
        let first = detect(&path, None);
        let mut late = first.clone();
        fs::write(&path, "two").unwrap();
        late.read_content(&path);
        assert_eq!(late, first, "the content is that of another binary");
        assert_ne!(detect(&path, Some(&late)).identity(), first.identity());
    }
}
