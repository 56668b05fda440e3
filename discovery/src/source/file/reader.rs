//! Reads the files that a scan reports, and leaves out those with the same content as before. Blocks.
//!
//! The meaning of the files is decided by the store.

use std::collections::HashMap;
use std::io;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use pilot_watch::file::{self, ContentDigest};
use pilot_watch::{FileChange, Grouping, Scan, Scanner, Settings, Tree, TreeError};

/// Change of the content of a file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum FileContentChange {
    /// The file has this content, which differs from the one before.
    Content(PathBuf, Vec<u8>),
    /// The file exists and cannot be read.
    Unreadable(PathBuf, String),
    /// The file is absent, perhaps because it is being renamed or replaced.
    Missing(PathBuf),
    /// The file was removed.
    Removed(PathBuf),
}

/// Result of a scan.
#[derive(Debug, Default)]
pub(super) struct FileUpdate {
    /// Changed files.
    pub(super) changes: Vec<FileContentChange>,
    /// Paths that could not be listed, and the error.
    pub(super) unreadable: Vec<(PathBuf, String)>,
}

/// Content of the files as last read.
#[derive(Debug, Default)]
pub(super) struct FileReader {
    digests: HashMap<PathBuf, ContentDigest>,
    unreadable: Vec<(PathBuf, String)>,
}

/// Settings of the watch over configuration files.
///
/// The debounce period is longer than the pauses within one write, and too short to be noticed after an edit. The absence
/// period is longer: a deletion is less urgent than the loss of a service would be.
pub(super) const WATCH_SETTINGS: Settings = Settings {
    debounce: Duration::from_millis(30),
    max_delay: None,
    // Manual writes (`cat > f.yaml`) have long pauses.
    write_timeout: Duration::from_secs(10),
    absence: Duration::from_millis(300),
    rescan_interval: Duration::from_secs(5),
    poll_interval: Duration::from_millis(250),
    grouping: Grouping::PerFile,
};

/// Largest size of a file in bytes.
const MAX_FILE_SIZE: u64 = 64 * 1024 * 1024;
/// Longest wait of the initial read for files that are being written.
const INITIAL_READ_TIMEOUT: Duration = Duration::from_secs(2);
/// Extensions of manifests.
const EXTENSIONS: [&str; 3] = ["yaml", "yml", "json"];

/// Returns the tree of the manifests in a directory and below it.
pub(super) fn manifest_tree(root: &Path) -> Tree {
    let filter = |path: &Path| {
        let extension = path.extension().and_then(|extension| extension.to_str());
        extension.is_some_and(|extension| EXTENSIONS.contains(&extension))
    };
    Tree { root: root.to_owned(), filter }
}

// === impl FileReader ===

impl FileReader {
    /// Reads every file that exists, and waits until each is stable, for a limited time.
    pub(super) fn read_initial(&mut self, scanner: &mut Scanner) -> Result<FileUpdate, TreeError> {
        let deadline = Instant::now() + INITIAL_READ_TIMEOUT;
        let mut initial = FileUpdate::default();
        loop {
            let scan = scanner.scan()?;
            let update = self.read_changed(scan, scanner);
            initial.changes.extend(update.changes);
            initial.unreadable = update.unreadable;
            let Some(due) = scanner.pending_until().filter(|due| *due <= deadline) else { break };
            std::thread::sleep(due.saturating_duration_since(Instant::now()));
            scanner.poll_events();
        }
        self.unreadable.clone_from(&initial.unreadable);
        Ok(initial)
    }

    /// Scans, and reads the changed files. Returns `None` if nothing changed.
    pub(super) fn read(&mut self, scanner: &mut Scanner) -> Option<FileUpdate> {
        let update = match scanner.scan() {
            Ok(scan) => self.read_changed(scan, scanner),
            // The files keep their state: a directory that was removed may be replaced.
            Err(error) => {
                let unreadable = vec![(error.root.clone(), format!("{:#}", anyhow::Error::new(error)))];
                FileUpdate { changes: Vec::new(), unreadable }
            }
        };
        let has_changed = !update.changes.is_empty() || update.unreadable != self.unreadable;
        self.unreadable.clone_from(&update.unreadable);
        has_changed.then_some(update)
    }

    fn read_changed(&mut self, scan: Scan, scanner: &mut Scanner) -> FileUpdate {
        let changes = scan.changes.into_iter().filter_map(|change| match change {
            FileChange::Stable(path) => self.read_file(path, scanner),
            // Any content that appears under this name is a change.
            FileChange::Missing(path) => self.digests.remove(&path).map(|_| FileContentChange::Missing(path)),
            FileChange::Removed(path) => Some(FileContentChange::Removed(path)),
        });
        FileUpdate { changes: changes.collect(), unreadable: scan.unreadable }
    }

    /// Reads a file. Returns `None` if its content is the same as before, or changed during the read.
    fn read_file(&mut self, path: PathBuf, scanner: &mut Scanner) -> Option<FileContentChange> {
        let bytes = match file::read_unchanged(&path, MAX_FILE_SIZE) {
            Ok(Some(bytes)) => bytes,
            Ok(None) => {
                scanner.mark_changed(&path);
                return None;
            }
            // The next scan reports it.
            Err(error) if error.kind() == io::ErrorKind::NotFound => return None,
            Err(error) => {
                self.digests.remove(&path);
                return Some(FileContentChange::Unreadable(path, error.to_string()));
            }
        };
        let digest = ContentDigest::of(&bytes);
        let previous = self.digests.insert(path.clone(), digest);
        (previous != Some(digest)).then_some(FileContentChange::Content(path, bytes))
    }
}
