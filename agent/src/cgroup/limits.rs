//! Resource limits of the container.

use std::num::{NonZeroU32, NonZeroU64};
use std::path::Path;

use nix::sched::{CpuSet, sched_getaffinity};
use nix::unistd::Pid;

use super::{Cgroup, Controller, text};

/// Version 1 represents "no limit" by the highest multiple of the page size; greater values than this are unlimited.
const UNLIMITED: u64 = 1 << 62;

/// Limits of the container. Read once, at the start: the number of Envoy's threads must not change in a hot restart, so a later
/// change takes effect at the next start of the container.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Limits {
    /// Cores that our threads may run on.
    pub(crate) cores: NonZeroU32,
    /// CPU time per time, in cores, rounded up; `None`: no quota.
    pub(crate) quota: Option<NonZeroU32>,
    /// Bytes of memory; `None`: no limit.
    pub(crate) memory: Option<NonZeroU64>,
}

// === impl Limits ===

impl Limits {
    /// Reads the limits of this process.
    pub(crate) fn of_process() -> Self {
        Self::of(&Cgroup::of_process(), affinity())
    }

    /// Of these groups, for a process that the scheduler lets run on so many cores.
    pub(crate) fn of(cgroup: &Cgroup, affinity: NonZeroU32) -> Self {
        let cpuset = cgroup.folders(Controller::Cpuset).find_map(cpuset);
        Self {
            cores: cpuset.map_or(affinity, |cores| cores.min(affinity)),
            quota: cgroup.folders(Controller::Cpu).filter_map(quota).min(),
            memory: cgroup.folders(Controller::Memory).filter_map(memory).min(),
        }
    }
}

/// Returns the number of cores of the CPU affinity mask.
fn affinity() -> NonZeroU32 {
    let set = sched_getaffinity(Pid::from_raw(0)).ok();
    let count = set.map(|set| (0..CpuSet::count()).filter(|&core| set.is_set(core) == Ok(true)).count());
    // A machine of more than 1024 cores has no room in the set.
    let count = count.or_else(|| std::thread::available_parallelism().ok().map(Into::into)).unwrap_or(1);
    u32::try_from(count).ok().and_then(NonZeroU32::new).unwrap_or(NonZeroU32::MIN)
}

/// Version 2: `50000 100000`, or `max 100000`. Version 1: two files, and -1 for no quota.
fn quota(folder: &Path) -> Option<NonZeroU32> {
    let (quota, period) = match text(folder, "cpu.max") {
        Some(both) => both.split_once(' ').map(|(quota, period)| (quota.to_owned(), period.to_owned()))?,
        None => (text(folder, "cpu.cfs_quota_us")?, text(folder, "cpu.cfs_period_us")?),
    };
    let (quota, period) = (quota.parse::<u64>().ok()?, period.parse::<u64>().ok()?);
    let cores = if period == 0 { return None } else { quota.div_ceil(period) };
    NonZeroU32::new(cores.try_into().ok()?)
}

fn memory(folder: &Path) -> Option<NonZeroU64> {
    let limit = text(folder, "memory.max").or_else(|| text(folder, "memory.limit_in_bytes"))?;
    let limit = limit.parse().ok().filter(|bytes| *bytes < UNLIMITED)?;
    NonZeroU64::new(limit)
}

/// The cores of the set, as the kernel lists them: `0-3,7`. An empty set is one of a group that has its
/// parent's.
fn cpuset(folder: &Path) -> Option<NonZeroU32> {
    let files = ["cpuset.cpus.effective", "cpuset.effective_cpus", "cpuset.cpus"];
    let list = files.into_iter().find_map(|file| text(folder, file).filter(|list| !list.is_empty()))?;
    let mut cores = list.split(',').map(|range| {
        let (from, to) = range.split_once('-').unwrap_or((range, range));
        to.parse::<u32>().ok()?.checked_sub(from.parse().ok()?)?.checked_add(1)
    });
    NonZeroU32::new(cores.try_fold(0_u32, |sum, cores| sum.checked_add(cores?))?)
}
