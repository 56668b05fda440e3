//! Detection of OOM kills by the kernel's counters.

use std::time::Duration;

use tokio::time::{Instant, sleep};

use super::{Cgroup, Controller, text};

/// Number of OOM kills in this container so far.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct OomCount(Option<u64>);

/// Maximum delay of the counter.
const LATE: Duration = Duration::from_millis(50);

/// Result of the detection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Oom {
    /// The kernel has killed a process of this container for want of memory.
    Yes,
    /// There was no OOM kill.
    No,
    /// There is no counter, or it is not visible.
    Unknown,
}

// === impl OomCount ===

impl OomCount {
    /// Reads the counter. To be read before a process starts.
    pub(crate) fn of(cgroup: &Cgroup) -> Self {
        // Not those above: they count the kills of our neighbours.
        let count = cgroup.groups(Controller::Memory).find_map(|group| {
            // Version 2, and version 1 since Linux 4.13.
            let files = ["memory.events", "memory.oom_control"];
            let events = files.into_iter().find_map(|file| text(&group.own, file))?;
            events.lines().find_map(|line| line.strip_prefix("oom_kill ")?.trim().parse().ok())
        });
        Self(count)
    }

    /// Compares with an earlier count.
    pub(crate) fn since(self, before: Self) -> Oom {
        match (before.0, self.0) {
            (Some(before), Some(now)) if now > before => Oom::Yes,
            (Some(_), Some(_)) => Oom::No,
            (None, _) | (_, None) => Oom::Unknown,
        }
    }

    /// Decides if a process that was reaped after a SIGKILL of another sender was killed by the OOM killer.
    ///
    /// Linux counts before it sends the signal ("task reaper must see this", `mm/oom_kill.c`), so a kill is counted by now;
    /// kernels that count in batches, or afterwards, may be late, so an unchanged counter is read again for 50 ms. The start of
    /// the next Envoy must not wait for this. The counter is that of the container: another process that is killed at the same
    /// moment would be taken for the reaped one.
    pub(crate) async fn verdict(self, cgroup: &Cgroup) -> Oom {
        let deadline = Instant::now() + LATE;
        loop {
            let verdict = Self::of(cgroup).since(self);
            if verdict != Oom::No || Instant::now() >= deadline {
                return verdict;
            }
            sleep(LATE / 5).await;
        }
    }
}
