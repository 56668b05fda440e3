//! Stability rule: decides when a change of a file is accepted. Pure: events and listings come with their time.
//!
//! ```text
//!            metadata differs, or event                 no change for `debounce`, and closed
//!  accepted ────────────────────────────▶ changing ─────────────────────────────────────────▶ accepted: stable
//!      │                                    │  ▲
//!      │ not in the listing                 └──┘ change, or open for writing
//!      ▼
//!   missing ──── absent for `absence` ───▶ removed
//! ```
//!
//! A truncated YAML file is mostly valid YAML, so a file must not be read while it is being written.

use std::collections::{BTreeMap, HashSet};
use std::path::{Path, PathBuf};
use std::time::Instant;

use crate::file::FileStamp;
use crate::schedule::ScanReason;
use crate::settings::{Grouping, Settings};
use crate::tree::Listing;

/// Change that was accepted, or noticed in case of a missing file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum FileChange {
    /// The file has a new state, and was stable for the debounce period.
    Stable(PathBuf),
    /// The file is absent, perhaps because it is being renamed or replaced. Reported at the begin of the absence period.
    Missing(PathBuf),
    /// The file was absent for the absence period.
    Removed(PathBuf),
}

/// Kind of a file system event.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum EventKind {
    /// Content was written.
    Written,
    /// A descriptor open for writing was closed.
    Closed,
    /// The path was put in place by a rename.
    RenamedTo,
    /// The path was deleted or renamed away.
    Unlinked,
    /// Any other change: creation, metadata, unmount.
    Other,
}

/// Accepted and pending states of all files.
#[derive(Debug)]
pub(crate) struct StabilityFilter {
    settings: Settings,
    /// Files that exist. The stamp is `None` if the file was assumed to exist and not listed yet.
    accepted: BTreeMap<PathBuf, Option<FileStamp>>,
    pending: BTreeMap<PathBuf, PendingState>,
    /// Targets of renames since the last listing. A directory stands for everything below it.
    renamed: HashSet<PathBuf>,
}

/// State of a file that differs, or may differ, from its accepted state.
#[derive(Debug, Default)]
struct PendingState {
    /// Time of the first listing without the file.
    missing_since: Option<Instant>,
    /// Changes since the file was accepted, or since it reappeared.
    changing: Option<Changing>,
}

/// Changes of a file.
#[derive(Debug)]
struct Changing {
    first: Instant,
    last: Instant,
    /// Time of the last write, if the file was not closed since.
    written: Option<Instant>,
    /// The content was written in place after the last rename.
    is_modified: bool,
    /// Stamp in the last listing.
    listed: Option<FileStamp>,
}

// === impl StabilityFilter ===

impl StabilityFilter {
    pub(crate) fn new(settings: Settings) -> Self {
        Self { settings, accepted: BTreeMap::new(), pending: BTreeMap::new(), renamed: HashSet::new() }
    }

    /// Assumes that a file exists and that its state is known to the caller.
    pub(crate) fn assume(&mut self, path: PathBuf) {
        self.accepted.entry(path).or_default();
    }

    /// Forgets the files that `keep` rejects.
    pub(crate) fn retain(&mut self, keep: impl Fn(&Path) -> bool) {
        self.accepted.retain(|path, _| keep(path));
        self.pending.retain(|path, _| keep(path));
    }

    /// Records an event. An event of a directory applies to every known file below it.
    pub(crate) fn on_event(&mut self, kind: EventKind, path: &Path, now: Instant) {
        if kind == EventKind::RenamedTo {
            self.renamed.insert(path.to_owned());
        }
        let known = self.accepted.range(path.to_owned()..).map(|(file, _)| file);
        let mut affected: Vec<_> = known.take_while(|file| file.starts_with(path)).cloned().collect();
        if affected.is_empty() {
            affected.push(path.to_owned());
        }
        for file in affected {
            self.pending.entry(file).or_default().on_event(kind, now);
        }
    }

    /// Records that events were lost: every file may have changed. The end of a write may be among the lost events.
    pub(crate) fn on_overflow(&mut self, now: Instant) {
        for (path, stamp) in &self.accepted {
            let changing = &mut self.pending.entry(path.clone()).or_default().changing;
            changing.get_or_insert_with(|| Changing { listed: *stamp, ..Changing::new(now) });
        }
        for pending in self.pending.values_mut() {
            pending.on_event(EventKind::Closed, now);
        }
    }

    /// Compares a listing with the accepted states and returns the changes that are accepted now.
    ///
    /// Files below unreadable directories keep their accepted state. A rescan reports every stable file.
    pub(crate) fn on_listing(
        &mut self,
        listing: &Listing,
        reason: ScanReason,
        now: Instant,
    ) -> Vec<FileChange> {
        let mut changes = self.missing(listing, now);
        for (path, stamp) in &listing.files {
            self.observe(path, *stamp, now);
        }
        if self.settings.grouping == Grouping::WholeSet && self.due().is_some_and(|due| due > now) {
            return changes;
        }
        let renamed = std::mem::take(&mut self.renamed);
        if reason == ScanReason::Rescan {
            let stable = listing.files.keys().filter(|path| !self.pending.contains_key(*path));
            changes.extend(stable.cloned().map(FileChange::Stable));
        }
        self.pending.retain(|path, pending| {
            let due = pending.due(&self.settings, is_renamed(path, &renamed));
            if due.is_some_and(|due| due > now) {
                return true;
            }
            changes.push(match &pending.changing {
                Some(changing) => {
                    self.accepted.insert(path.clone(), changing.listed);
                    FileChange::Stable(path.clone())
                }
                None => {
                    self.accepted.remove(path);
                    FileChange::Removed(path.clone())
                }
            });
            false
        });
        changes
    }

    /// Returns the time at which a pending change may be accepted: of the first one, or of all if they are accepted together.
    pub(crate) fn due(&self) -> Option<Instant> {
        let due = self
            .pending
            .iter()
            .filter_map(|(path, pending)| pending.due(&self.settings, is_renamed(path, &self.renamed)));
        match self.settings.grouping {
            Grouping::PerFile => due.min(),
            Grouping::WholeSet => due.max(),
        }
    }

    /// Returns `true` if no file is changing or missing.
    pub(crate) fn is_stable(&self) -> bool {
        self.pending.is_empty()
    }

    /// Returns `true` if a file is missing.
    pub(crate) fn has_missing(&self) -> bool {
        self.pending.values().any(|pending| pending.missing_since.is_some())
    }

    /// Marks absent files as missing, and drops pending changes of files that are neither listed nor accepted.
    fn missing(&mut self, listing: &Listing, now: Instant) -> Vec<FileChange> {
        let is_unreadable = |path: &Path| listing.unreadable.iter().any(|(above, _)| path.starts_with(above));
        let (files, accepted) = (&listing.files, &self.accepted);
        self.pending.retain(|path, _| {
            files.contains_key(path) || (accepted.contains_key(path) && !is_unreadable(path))
        });
        let mut changes = Vec::new();
        let absent = accepted.keys().filter(|path| !files.contains_key(*path) && !is_unreadable(path));
        for path in absent {
            let pending = self.pending.entry(path.clone()).or_default();
            pending.changing = None;
            if pending.missing_since.is_none() {
                pending.missing_since = Some(now);
                changes.push(FileChange::Missing(path.clone()));
            }
        }
        changes
    }

    fn observe(&mut self, path: &Path, stamp: FileStamp, now: Instant) {
        if let Some(pending) = self.pending.get_mut(path) {
            pending.missing_since = None;
            let changing = pending.changing.get_or_insert_with(|| Changing::new(now));
            let has_changed = match changing.listed {
                Some(listed) => listed != stamp,
                // Without a write event the directory of a new file may not have been watched.
                None => !changing.is_modified && !self.accepted.contains_key(path),
            };
            if has_changed {
                changing.last = now;
            }
            changing.listed = Some(stamp);
            return;
        }
        match self.accepted.get_mut(path) {
            Some(Some(accepted)) if *accepted == stamp => {}
            Some(assumed @ None) => *assumed = Some(stamp),
            Some(Some(_)) | None => {
                let changing = Some(Changing { listed: Some(stamp), ..Changing::new(now) });
                self.pending.insert(path.to_owned(), PendingState { missing_since: None, changing });
            }
        }
    }
}

/// Returns `true` if the file, or a directory above it, was put in place by a rename.
fn is_renamed(path: &Path, renamed: &HashSet<PathBuf>) -> bool {
    !renamed.is_empty() && path.ancestors().any(|path| renamed.contains(path))
}

// === impl PendingState ===

impl PendingState {
    fn on_event(&mut self, kind: EventKind, now: Instant) {
        let changing = self.changing.get_or_insert_with(|| Changing::new(now));
        changing.last = now;
        (changing.written, changing.is_modified) = match kind {
            EventKind::Written => (Some(now), true),
            EventKind::Closed => (None, true),
            EventKind::RenamedTo => (None, false),
            EventKind::Unlinked => (None, changing.is_modified),
            EventKind::Other => (changing.written, changing.is_modified),
        };
        // These prove that a missing file has existed again.
        if matches!(kind, EventKind::Written | EventKind::Closed | EventKind::RenamedTo) {
            self.missing_since = None;
        }
    }

    fn due(&self, settings: &Settings, is_renamed: bool) -> Option<Instant> {
        match (&self.changing, self.missing_since) {
            (Some(changing), _) => Some(changing.due(settings, is_renamed)),
            (None, since) => Some(since? + settings.absence),
        }
    }
}

// === impl Changing ===

impl Changing {
    fn new(now: Instant) -> Self {
        Self { first: now, last: now, written: None, is_modified: false, listed: None }
    }

    fn due(&self, settings: &Settings, is_renamed: bool) -> Instant {
        let quiet = self.last + settings.debounce;
        let is_complete = is_renamed && !self.is_modified && settings.grouping == Grouping::PerFile;
        match self.written {
            Some(written) => written + settings.write_timeout,
            None if is_complete => self.last,
            None => settings.max_delay.map_or(quiet, |max_delay| quiet.min(self.first + max_delay)),
        }
    }
}

#[cfg(test)]
mod tests;
