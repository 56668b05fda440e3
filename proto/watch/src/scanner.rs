//! One scan: adds watches, lists the files, and applies the stability rule. Blocks.

use std::collections::BTreeSet;
use std::error::Error as _;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Instant;

use nix::errno::Errno;
use nix::sys::inotify::Inotify;
use tracing::{info, warn};

use crate::file::FileStamp;
use crate::inotify::{self, WatchError, WatchTable, WatchTableBuilder};
use crate::schedule::{ScanOutcome, ScanReason, ScanSchedule};
use crate::settings::Settings;
use crate::stability::{EventKind, FileChange, StabilityFilter};
use crate::tree::{Listing, Tree, TreeError};

/// Largest number of reads of events at a time: enough to empty the kernel's queue of 16,384 events.
const MAX_READS: usize = 1024;

/// State of a watch between scans.
#[derive(Debug)]
pub struct Scanner {
    target: Target,
    filter: StabilityFilter,
    schedule: ScanSchedule,
    /// `None`: inotify is unavailable.
    inotify: Option<Arc<Inotify>>,
    table: WatchTable,
    error: Option<WatchError>,
}

/// Result of a scan.
#[derive(Debug)]
pub struct Scan {
    /// Reason of the scan.
    pub reason: ScanReason,
    /// Changes accepted by this scan, and files newly missing.
    pub changes: Vec<FileChange>,
    /// Paths that could not be listed, and the error. Files below them keep their accepted state.
    pub unreadable: Vec<(PathBuf, String)>,
}

/// Existence of a file according to the caller.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Presence {
    /// The file exists, and its content is known to the caller.
    Present,
    /// The file does not exist, or its content is not known.
    Absent,
}

/// Files to be watched.
#[derive(Debug)]
pub(crate) enum Target {
    Files(BTreeSet<PathBuf>),
    Tree(Tree),
}

// === impl Scanner ===

impl Scanner {
    pub(crate) fn new(settings: Settings, target: Target) -> Self {
        Self {
            target,
            filter: StabilityFilter::new(settings),
            schedule: ScanSchedule::new(settings, Instant::now()),
            inotify: None,
            table: WatchTable::default(),
            error: None,
        }
    }

    /// Replaces the set of watched files. The state of files watched before is kept. The presence of new files is what the
    /// caller has found; the stability rule applies to later changes.
    pub fn set_files<'a>(&mut self, files: impl IntoIterator<Item = (&'a Path, Presence)>) {
        let mut paths = BTreeSet::new();
        for (path, presence) in files {
            if presence == Presence::Present {
                self.filter.assume(path.to_owned());
            }
            paths.insert(path.to_owned());
        }
        self.filter.retain(|path| paths.contains(path));
        self.target = Target::Files(paths);
    }

    /// Scans once: watches, lists, and applies the stability rule. Blocks.
    pub fn scan(&mut self) -> Result<Scan, TreeError> {
        let began = Instant::now();
        let reason = self.schedule.begin(began);
        let mut watches = WatchTableBuilder::new(self.inotify.as_deref());
        let listing = self.target.list(&mut watches);
        let (table, error) = watches.finish(&self.table);
        self.table = table;
        if self.inotify.is_some() {
            self.set_watch_error(error);
        }
        // Changes during the listing make its files suspect.
        self.poll_events();
        let now = Instant::now();
        let outcome = match (&listing, &self.error) {
            (Err(_), _) => ScanOutcome::Failed,
            (Ok(_), Some(_)) => ScanOutcome::Uncovered,
            (Ok(_), None) => ScanOutcome::Covered,
        };
        self.schedule.end(outcome, began, now);
        let listing = listing?;
        let changes = self.filter.on_listing(&listing, reason, now);
        Ok(Scan { reason, changes, unreadable: listing.unreadable })
    }

    /// Returns `true` if no file is changing or missing.
    pub fn is_stable(&self) -> bool {
        self.filter.is_stable()
    }

    /// Returns `true` if a file is missing, and not yet removed according to the absence rule.
    pub fn has_missing(&self) -> bool {
        self.filter.has_missing()
    }

    /// Records that a file changed while the caller read it: its last report is withdrawn, and it is reported again.
    pub fn mark_changed(&mut self, path: &Path) {
        self.filter.on_event(EventKind::Other, path, Instant::now());
    }

    /// Returns the time at which pending changes may be accepted; `None` if there are none.
    pub fn pending_until(&self) -> Option<Instant> {
        self.filter.due()
    }

    /// Takes in the events that happened so far. Does not block.
    pub fn poll_events(&mut self) {
        for _ in 0..MAX_READS {
            if !self.read_events().is_ok_and(|count| count > 0) {
                break;
            }
        }
    }

    /// Reason for which events do not cover every file; files are polled instead.
    pub fn watch_error(&self) -> Option<&WatchError> {
        self.error.as_ref()
    }

    pub(crate) fn set_inotify(&mut self, inotify: Arc<Inotify>) {
        self.inotify = Some(inotify);
    }

    /// Logs when events become incomplete, and when they are complete again.
    pub(crate) fn set_watch_error(&mut self, error: Option<WatchError>) {
        match (&self.error, &error) {
            (None, Some(error)) => {
                let cause = error.source().map(ToString::to_string).unwrap_or_default();
                warn!(error = format!("{error}: {cause}"), "inotify unavailable; polling files");
            }
            (Some(_), None) => info!("inotify available again; polling stopped"),
            (None, None) | (Some(_), Some(_)) => {}
        }
        self.error = error;
    }

    /// Returns the time of the next scan.
    pub(crate) fn due(&self) -> Instant {
        self.schedule.due(self.filter.due())
    }

    /// Takes in some of the events that happened so far, and returns their number.
    pub(crate) fn read_events(&mut self) -> io::Result<usize> {
        let Some(inotify) = &self.inotify else { return Ok(0) };
        let now = Instant::now();
        let events = match inotify.read_events() {
            Ok(events) => events,
            Err(Errno::EAGAIN) => return Err(io::ErrorKind::WouldBlock.into()),
            Err(_) => {
                self.filter.on_overflow(now);
                return Ok(0);
            }
        };
        for event in &events {
            if inotify::is_overflow(event) {
                self.filter.on_overflow(now);
            }
            let in_tree = |path: &Path| matches!(&self.target, Target::Tree(tree) if tree.contains(path));
            let (kind, paths) = self.table.affected(event, in_tree);
            for path in &paths {
                self.filter.on_event(kind, path, now);
            }
        }
        Ok(events.len())
    }
}

// === impl Target ===

impl Target {
    fn list(&self, watches: &mut WatchTableBuilder<'_>) -> Result<Listing, TreeError> {
        let files = match self {
            Self::Tree(tree) => return tree.list_and_watch(watches),
            Self::Files(files) => files,
        };
        let mut listing = Listing::default();
        for path in files {
            watches.add_file(path);
            match fs::metadata(path) {
                Ok(metadata) => drop(listing.files.insert(path.clone(), FileStamp::of(&metadata))),
                Err(error) if is_absent(&error) => {}
                Err(error) => listing.unreadable.push((path.clone(), error.to_string())),
            }
        }
        Ok(listing)
    }
}

fn is_absent(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory)
}
