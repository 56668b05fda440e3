//! Whether a process that was killed was killed for want of memory: the kernel counts, nobody has to guess.

use std::time::Duration;

use tokio::time::{Instant, sleep};

use super::{Cgroup, Controller, text};

/// How many processes of this container the kernel has killed for want of memory, ever.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct OomCount(Option<u64>);

/// How late a count may be.
const LATE: Duration = Duration::from_millis(50);

/// Whether it was want of memory.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Oom {
    /// The kernel has killed a process of this container for want of memory.
    Yes,
    /// It has killed none.
    No,
    /// It does not count, or not where we can see it.
    Unknown,
}

// === impl OomCount ===

impl OomCount {
    /// As it stands. To be taken before a process starts.
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

    /// What has happened since an earlier count.
    pub(crate) fn since(self, before: Self) -> Oom {
        match (before.0, self.0) {
            (Some(before), Some(now)) if now > before => Oom::Yes,
            (Some(_), Some(_)) => Oom::No,
            (None, _) | (_, None) => Oom::Unknown,
        }
    }

    /// What the death of a process was that has just been reaped after a SIGKILL not ours.
    ///
    /// Linux counts before it sends the signal ("task reaper must see this", `mm/oom_kill.c`), so a kill is counted
    /// by now; kernels that count in batches, or afterwards, may be late, so a count that has not moved is looked at
    /// again for 50 ms. Nobody should wait for this before starting the next Envoy. The count is the container's:
    /// another process of it killed in the same moment would be taken for the one that was reaped.
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
