//! Whether a process that was killed was killed for want of memory: the kernel counts, nobody has to guess.

use super::{Cgroup, Controller, text};

/// How many processes of this container the kernel has killed for want of memory, ever.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct OomCount(Option<u64>);

/// Whether it was want of memory.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Oom {
    /// The kernel has killed a process of this container for want of memory.
    Oom,
    /// It has killed none.
    NotOom,
    /// It does not count, or not where we can see it.
    Unknown,
}

// === impl OomCount ===

impl OomCount {
    /// As it stands. To be taken before a process starts, and again after it was killed.
    ///
    /// The kernel counts *before* it sends the signal ("raise event before sending signal: task reaper must see
    /// this", `mm/oom_kill.c`), so whoever has reaped the process sees its kill counted; Linux before 4.20 counted
    /// afterwards, at once. The count is of the whole container: an Envoy killed by somebody else in the same
    /// moment as an orphan for want of memory would be taken for the latter.
    pub fn of(cgroup: &Cgroup) -> Self {
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
    pub fn since(self, before: Self) -> Oom {
        match (before.0, self.0) {
            (Some(before), Some(now)) if now > before => Oom::Oom,
            (Some(_), Some(_)) => Oom::NotOom,
            (None, _) | (_, None) => Oom::Unknown,
        }
    }
}
