//! Times of scans. Pure: time is an argument.

use std::time::Instant;

use crate::settings::Settings;

/// A scan is followed by a pause of this many times its duration, so that scans use a small part of one core at most.
const PAUSE_FACTOR: u32 = 2;

/// Reason of a scan.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ScanReason {
    /// An event, a pending change, or the polling interval.
    Due,
    /// The interval of full rescans: every file is reported, also without a change of its metadata.
    Rescan,
}

/// Outcome of a scan, as far as it matters for the next one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum ScanOutcome {
    /// inotify covers every directory.
    Covered,
    /// Some directories are not covered.
    Uncovered,
    /// The root could not be listed.
    Failed,
}

/// Time of the next scan.
#[derive(Debug)]
pub(crate) struct ScanSchedule {
    settings: Settings,
    rescan_at: Instant,
    /// Next scan without an event. `None`: none before the rescan.
    poll_at: Option<Instant>,
    not_before: Instant,
}

// === impl ScanSchedule ===

impl ScanSchedule {
    /// Returns a schedule with the first scan due at once.
    pub(crate) fn new(settings: Settings, now: Instant) -> Self {
        Self { settings, rescan_at: now + settings.rescan_interval, poll_at: Some(now), not_before: now }
    }

    /// Returns the time of the next scan, given the due time of pending changes.
    pub(crate) fn due(&self, pending: Option<Instant>) -> Instant {
        let due = [pending, self.poll_at].into_iter().flatten().fold(self.rescan_at, Instant::min);
        due.max(self.not_before)
    }

    /// Begins a scan.
    pub(crate) fn begin(&mut self, now: Instant) -> ScanReason {
        if now < self.rescan_at {
            return ScanReason::Due;
        }
        self.rescan_at = now + self.settings.rescan_interval;
        ScanReason::Rescan
    }

    /// Ends a scan that began at `began`.
    pub(crate) fn end(&mut self, outcome: ScanOutcome, began: Instant, now: Instant) {
        let poll_at = now + self.settings.poll_interval;
        (self.poll_at, self.not_before) = match outcome {
            ScanOutcome::Covered => (None, now + (now - began) * PAUSE_FACTOR),
            ScanOutcome::Uncovered => (Some(poll_at), now + (now - began) * PAUSE_FACTOR),
            ScanOutcome::Failed => (Some(poll_at), poll_at),
        };
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::settings::PER_FILE;

    #[test]
    fn scan_is_due_by_pending_change_poll_interval_or_rescan_interval() {
        let start = Instant::now();
        let at = |millis| start + Duration::from_millis(millis);
        let mut schedule = ScanSchedule::new(PER_FILE, start);
        assert_eq!(schedule.due(None), start, "the first scan");
        for (outcome, pending, expected) in [
            (ScanOutcome::Covered, None, 5000),
            (ScanOutcome::Covered, Some(40), 40),
            (ScanOutcome::Covered, Some(15), 30),
            (ScanOutcome::Uncovered, None, 260),
            (ScanOutcome::Uncovered, Some(40), 40),
            (ScanOutcome::Failed, None, 260),
            (ScanOutcome::Failed, Some(40), 260),
        ] {
            assert_eq!(schedule.begin(start), ScanReason::Due);
            schedule.end(outcome, start, at(10));
            assert_eq!(schedule.due(pending.map(at)), at(expected), "{outcome:?} {pending:?}");
        }
        assert_eq!(schedule.begin(at(5000)), ScanReason::Rescan);
        assert_eq!(schedule.begin(at(5001)), ScanReason::Due);
        assert_eq!(schedule.begin(at(10_000)), ScanReason::Rescan);
    }
}
