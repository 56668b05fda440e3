//! Files that a configuration is made from, with the state of each: enough to detect a change, never the content itself.
//!
//! A missing file, an empty one and an unreadable one are three different states.

use std::collections::BTreeMap;
use std::collections::btree_map::Entry;
use std::io;
use std::path::{Path, PathBuf};

use pilot_watch::Presence;
use pilot_watch::file::{ContentDigest, FileStamp};

/// Files with the probe of each and its result.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct SourceFiles(BTreeMap<PathBuf, (Probe, FileState)>);

/// Property of a file that matters. A later one outranks an earlier one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Probe {
    /// Existence of a regular file.
    Presence,
    /// Identity: for a binary, which is too large to be read after each change of another file.
    Identity,
    /// Content.
    Content,
}

/// Result of a probe.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum FileState {
    /// The file does not exist.
    Absent,
    /// The file exists.
    Present,
    /// The file has this identity.
    Identity(FileStamp),
    /// The file has this content.
    Content(ContentDigest),
    /// The file exists and cannot be read.
    Unreadable(io::ErrorKind),
}

// === impl SourceFiles ===

impl SourceFiles {
    /// Records the result of a probe. The first result stays: if the file changes between two probes, it differs from the
    /// record and is read again.
    pub(crate) fn record(&mut self, path: PathBuf, probe: Probe, state: FileState) {
        match self.0.entry(path) {
            Entry::Vacant(entry) => drop(entry.insert((probe, state))),
            Entry::Occupied(mut entry) if entry.get().0 < probe => drop(entry.insert((probe, state))),
            Entry::Occupied(_) => {}
        }
    }

    /// Returns the recorded state of a file.
    pub(crate) fn state(&self, path: &Path) -> Option<FileState> {
        self.0.get(path).map(|(_, state)| *state)
    }

    /// Returns the files, with the missing ones.
    pub(crate) fn presence(&self) -> impl Iterator<Item = (&Path, Presence)> {
        self.0.iter().map(|(path, (_, state))| {
            let is_absent = *state == FileState::Absent;
            (path.as_path(), if is_absent { Presence::Absent } else { Presence::Present })
        })
    }

    /// Returns `true` if every file still has its recorded state. Blocks.
    pub(crate) fn are_unchanged(&self) -> bool {
        self.0.iter().all(|(path, (probe, state))| probe.run(path) == *state)
    }

    /// Returns the files that are empty and were not in `before`.
    pub(crate) fn emptied<'a>(&'a self, before: &'a Self) -> impl Iterator<Item = &'a Path> {
        let is_empty = |state: FileState| matches!(state, FileState::Content(digest) if digest.is_empty());
        let had_content = move |state: FileState| matches!(state, FileState::Content(_)) && !is_empty(state);
        let empty = self.0.iter().filter(move |(_, (_, state))| is_empty(*state));
        empty.map(|(path, _)| path.as_path()).filter(move |path| before.state(path).is_some_and(had_content))
    }
}

// === impl Probe ===

impl Probe {
    /// Probes a file. Blocks.
    pub(crate) fn run(self, path: &Path) -> FileState {
        match self {
            Self::Presence if path.is_file() => FileState::Present,
            Self::Presence => FileState::Absent,
            Self::Identity => path.metadata().map(|file| FileState::Identity(FileStamp::of(&file))).into(),
            Self::Content => ContentDigest::of_file(path).map(FileState::Content).into(),
        }
    }
}

// === impl FileState ===

impl From<io::Result<Self>> for FileState {
    fn from(result: io::Result<Self>) -> Self {
        result.unwrap_or_else(|error| match error.kind() {
            io::ErrorKind::NotFound | io::ErrorKind::NotADirectory => Self::Absent,
            kind => Self::Unreadable(kind),
        })
    }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    #[test]
    fn missing_empty_and_unreadable_files_have_different_states() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("f");
        let content = |text: &[u8]| FileState::Content(ContentDigest::of(text));
        let probe = || Probe::Content.run(&path);
        assert_eq!(probe(), FileState::Absent);
        assert_eq!(Probe::Content.run(&path.join("below")), FileState::Absent);
        fs::write(&path, "").unwrap();
        assert_eq!(Probe::Content.run(&path.join("below")), FileState::Absent, "a file is no directory");
        assert_eq!(probe(), content(b""));
        fs::write(&path, "x").unwrap();
        assert_eq!(probe(), content(b"x"));
        fs::remove_file(&path).unwrap();
        fs::create_dir(&path).unwrap();
        assert_eq!(probe(), FileState::Unreadable(io::ErrorKind::IsADirectory));
        assert_eq!(Probe::Presence.run(&path), FileState::Absent, "a directory is no file");
    }

    #[test]
    fn first_state_of_the_highest_probe_is_recorded() {
        let mut files = SourceFiles::default();
        let [one, two] = [b"1", b"2"].map(|text| FileState::Content(ContentDigest::of(text)));
        files.record("f".into(), Probe::Presence, FileState::Present);
        for (probe, state) in
            [(Probe::Content, one), (Probe::Content, two), (Probe::Presence, FileState::Present)]
        {
            files.record("f".into(), probe, state);
            assert_eq!(files.state(Path::new("f")), Some(one));
        }
    }

    #[test]
    fn emptied_file_had_content_before() {
        let files = |state| {
            let mut files = SourceFiles::default();
            files.record("f".into(), Probe::Content, state);
            files
        };
        let [full, empty] = [&b"x"[..], b""].map(|text| FileState::Content(ContentDigest::of(text)));
        for (before, now, emptied) in [
            (Some(full), full, false),
            (Some(full), empty, true),
            (Some(full), FileState::Absent, false),
            (Some(empty), empty, false),
            (Some(FileState::Absent), empty, false),
            (None, empty, false),
        ] {
            let before = before.map_or_else(SourceFiles::default, files);
            assert_eq!(files(now).emptied(&before).count() > 0, emptied, "{before:?} {now:?}");
        }
    }
}
