//! File watcher of both programs: sets of files and directory trees, also such as do not exist yet.
//!
//! ```text
//!  inotify ──events──▶ StabilityFilter ◀──listing── Scanner ──Scan──▶ caller (reads the changed files)
//!    ▲                 pure; time is an               │ on a thread that lives as long as the scan
//!    │                 argument                       │
//!    └── Watcher: waits for events and for the due time of the next scan ◀── ScanSchedule (pure)
//! ```
//!
//! A changed file is reported once it has been stable for the debounce period, a missing file once it has been absent
//! for the absence period. Events only decide when to scan and which files are suspect; the scan itself compares
//! metadata of every file, so lost events delay a report but do not suppress it.
//!
//! The crate does not know the contents of files. Callers read them with [`file::read`] or [`file::read_unchanged`].

pub mod file;
mod inotify;
mod path_components;
mod scanner;
mod schedule;
mod settings;
mod stability;
mod tree;
mod watcher;

pub use inotify::WatchError;
pub use scanner::{Presence, Scan, Scanner};
pub use schedule::ScanReason;
pub use settings::{Grouping, Settings};
pub use stability::FileChange;
pub use tree::{Listing, Tree, TreeError};
pub use watcher::Watcher;
