//! When what is seen of a file is believed. Pure: looks and hints come in with their time.
//!
//! ```text
//!            seen different, or touched                    quiet for SETTLE and closed
//!  believed ────────────────────────────▶ in doubt ──────────────────────────────────▶ believed again
//!                                            │  ▲        (away for ABSENCE)            (read it, or it is gone)
//!                                            └──┘ still changing, or open for writing
//! ```
//!
//! The beginning of a YAML file is mostly a YAML file itself, so a file that is still being written must not be
//! read. A rename puts a whole file in place and is believed at once.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

/// How long a file must have been the same. Longer than the pauses within one write, far shorter than anybody
/// waits for an edit to take effect.
pub(super) const SETTLE: Duration = Duration::from_millis(30);

/// How long a file must have been away. Editors take a file away before they put the new one in its place, and a
/// deletion is less urgent than the loss of a service would be.
const ABSENCE: Duration = Duration::from_millis(300);

/// How long somebody who has the file open may pause before we stop waiting for the end. Who writes by hand
/// (`cat > f.yaml`) pauses long; who never closes is the exception.
pub(super) const WRITER_PATIENCE: Duration = Duration::from_secs(10);

/// What tells one state of a file from another without reading it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Stamp {
    /// Device and number of the inode.
    pub(super) inode: (u64, u64),
    /// Bytes.
    pub(super) size: u64,
    /// When the content changed: seconds and nanoseconds.
    pub(super) modified: (i64, i64),
    /// When anything changed; cannot be set from outside.
    pub(super) changed: (i64, i64),
}

/// What notices said between two looks.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Hints {
    /// Written to and not closed since.
    pub(super) writing: HashSet<PathBuf>,
    /// Anything else happened to them: a stamp that is the same proves nothing.
    pub(super) touched: HashSet<PathBuf>,
    /// Put in place by a rename; a directory stands for everything in it.
    pub(super) renamed: HashSet<PathBuf>,
    /// Everything may have changed.
    pub(super) everything: bool,
}

/// Something that is now believed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Belief {
    /// The file can be read.
    Settled(PathBuf),
    /// The file was there and is not: perhaps it is on its way to another name.
    Vanishing(PathBuf),
    /// The file is gone.
    Gone(PathBuf),
}

/// All files that were ever seen and are not known to be gone.
#[derive(Debug, Default)]
pub(super) struct Settle {
    files: HashMap<PathBuf, Track>,
}

#[derive(Debug)]
enum Track {
    Believed(Stamp),
    /// `None`: it is not there.
    InDoubt {
        seen: Option<Stamp>,
        since: Instant,
    },
}

// === impl Settle ===

impl Settle {
    /// Takes in one look at all files and tells what can be believed now, and when to look again.
    ///
    /// `unreadable`: directories that could not be looked into; what is under them is left as it was.
    pub(super) fn look(
        &mut self,
        seen: &BTreeMap<PathBuf, Stamp>,
        unreadable: &[PathBuf],
        hints: &Hints,
        now: Instant,
    ) -> (Vec<Belief>, Option<Instant>) {
        let mut beliefs = Vec::new();
        let mut again = None;
        let mut look_again = |at: Instant| again = Some(again.map_or(at, |again: Instant| again.min(at)));

        let missing = self.files.keys().filter(|path| !seen.contains_key(*path));
        let missing = missing.filter(|path| !unreadable.iter().any(|above| path.starts_with(above)));
        for path in missing.cloned().collect::<Vec<_>>() {
            match self.files.get(&path) {
                Some(Track::InDoubt { seen: None, since }) if now >= *since + ABSENCE => {
                    self.files.remove(&path);
                    beliefs.push(Belief::Gone(path));
                }
                Some(Track::InDoubt { seen: None, since }) => look_again(*since + ABSENCE),
                _ => {
                    look_again(now + ABSENCE);
                    self.files.insert(path.clone(), Track::InDoubt { seen: None, since: now });
                    beliefs.push(Belief::Vanishing(path));
                }
            }
        }
        for (path, stamp) in seen {
            let touched = hints.everything || hints.touched.contains(path) || hints.writing.contains(path);
            let since = match self.files.get(path) {
                Some(Track::Believed(believed)) if believed == stamp && !touched => continue,
                Some(Track::InDoubt { seen: Some(before), since }) if before == stamp && !touched => *since,
                _ => now,
            };
            if hints.writing.contains(path) {
                // Whoever writes will close, and that is noticed; the patience is not ours to measure.
                look_again(now + WRITER_PATIENCE);
            } else if now >= since + SETTLE || hints.was_renamed(path) {
                self.files.insert(path.clone(), Track::Believed(*stamp));
                beliefs.push(Belief::Settled(path.clone()));
                continue;
            } else {
                look_again(since + SETTLE);
            }
            self.files.insert(path.clone(), Track::InDoubt { seen: Some(*stamp), since });
        }
        (beliefs, again)
    }

    /// A belief was wrong: the file changed while it was read.
    pub(super) fn doubt(&mut self, path: &Path, now: Instant) {
        if let Some(track) = self.files.get_mut(path) {
            let seen = match track {
                Track::Believed(stamp) => Some(*stamp),
                Track::InDoubt { seen, .. } => *seen,
            };
            *track = Track::InDoubt { seen, since: now };
        }
    }
}

// === impl Hints ===

impl Hints {
    /// Whether a rename has put the file, or a directory above it, in place.
    fn was_renamed(&self, path: &Path) -> bool {
        path.ancestors().any(|path| self.renamed.contains(path))
    }
}

#[cfg(test)]
mod tests;
