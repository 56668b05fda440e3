//! Durations of a watch, and the unit in which changes are accepted.

use std::time::Duration;

/// Settings of a watch.
#[derive(Clone, Copy, Debug)]
pub struct Settings {
    /// Time without a change after which a changed file is accepted.
    pub debounce: Duration,
    /// Longest time from the first change to acceptance of a file that keeps changing. `None`: no limit.
    pub max_delay: Option<Duration>,
    /// Time since the last write after which a file that is still open for writing is treated as closed.
    pub write_timeout: Duration,
    /// Time for which a file must be absent before it is reported as removed. Editors and package managers remove a file
    /// before they put the new one in its place.
    pub absence: Duration,
    /// Interval of full rescans, which find changes without an event: mounts, network file systems.
    pub rescan_interval: Duration,
    /// Interval of scans while inotify does not cover every directory, and of retries of a failed scan.
    pub poll_interval: Duration,
    /// Unit of acceptance.
    pub grouping: Grouping,
}

/// Settings of tests: those of discovery.
#[cfg(test)]
pub(crate) const PER_FILE: Settings = Settings {
    debounce: Duration::from_millis(30),
    max_delay: None,
    write_timeout: Duration::from_secs(10),
    absence: Duration::from_millis(300),
    rescan_interval: Duration::from_secs(5),
    poll_interval: Duration::from_millis(250),
    grouping: Grouping::PerFile,
};

/// Unit in which changes are accepted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Grouping {
    /// Each file on its own. A file put in place by a rename is complete, and is accepted without delay.
    PerFile,
    /// All files together: nothing is accepted while any file is changing or missing. For callers that evaluate all files
    /// as a whole, and for which each evaluation is expensive.
    WholeSet,
}
