//! Size of Envoy: worker threads and heap, from the configuration and the limits of the container.
//!
//! The limits are in [`Limits`]; Envoy's behaviour near its heap limit is configured by [`crate::bootstrap`].

use std::fmt;
use std::num::{NonZeroU32, NonZeroU64};

use super::env::Variables;
use crate::cgroup::Limits;

const MIB: u64 = 1 << 20;

/// Below this an idle Envoy alone would come near its limit, and refuse every request: better to let it try.
const SMALLEST: u64 = 64 * MIB;

/// Of the container's memory not for Envoy's heap: the agent (10 MiB), and of Envoy what its heap's count
/// leaves out: freed pages the allocator still holds, stacks, page tables, the kernel's socket buffers
/// (8 MiB when idle; the rest grows with the heap, hence the share).
const RESERVED: u64 = 24 * MIB;
const RESERVED_SHARE: u64 = 8;

/// Envoy's worker threads.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Concurrency {
    /// Number of threads. Always passed to Envoy, so that it stays the same over a hot restart.
    pub(crate) threads: NonZeroU32,
    /// Source of the number.
    pub(crate) source: ConcurrencySource,
}

/// Sources of the number of worker threads, in order of precedence.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum ConcurrencySource {
    /// `--concurrency`.
    Flag,
    /// `ProxyConfig.concurrency`, if it is not 0.
    ProxyConfig,
    /// `ISTIO_CPU_LIMIT`.
    CpuLimit,
    /// The quota of CPU time of the control group, rounded up, as far as there are cores for it.
    Quota,
    /// Cores that the scheduler lets us run on: there is no quota, or `ProxyConfig.concurrency` is 0.
    Cores,
}

// === impl Concurrency ===

impl Concurrency {
    /// Chooses the number of threads. `flag` 0 is unset; a `ProxyConfig` of 0 means all cores, as in Istio.
    pub(super) fn decide(
        flag: u32,
        proxy_config: Option<u32>,
        variables: &Variables,
        limits: &Limits,
    ) -> Self {
        use ConcurrencySource::{Cores, CpuLimit, Flag, ProxyConfig, Quota};
        let cores = (limits.cores, Cores);
        let (threads, source) = match (NonZeroU32::new(flag), proxy_config) {
            (Some(threads), _) => (threads, Flag),
            (None, Some(threads)) => NonZeroU32::new(threads).map_or(cores, |threads| (threads, ProxyConfig)),
            (None, None) => match (NonZeroU32::new(variables.cpu_limit), limits.quota) {
                (Some(threads), _) => (threads, CpuLimit),
                (None, Some(quota)) if quota < limits.cores => (quota, Quota),
                (None, _) => cores,
            },
        };
        Self { threads, source }
    }
}

impl fmt::Display for ConcurrencySource {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Flag => "--concurrency",
            Self::ProxyConfig => "ProxyConfig",
            Self::CpuLimit => "ISTIO_CPU_LIMIT",
            Self::Quota => "the control group's quota",
            Self::Cores => "the cores there are",
        })
    }
}

/// The most bytes Envoy's heap may have in a container of this memory; a container too small is a warning.
pub(super) fn max_heap(memory: Option<NonZeroU64>, warnings: &mut Vec<String>) -> Option<NonZeroU64> {
    let memory = memory?.get();
    if memory < SMALLEST {
        warnings.push(format!(
            "the container's memory limit of {} MiB is too small to keep Envoy below it; give it {} MiB",
            memory / MIB,
            SMALLEST / MIB
        ));
        return None;
    }
    NonZeroU64::new(memory - memory / RESERVED_SHARE - RESERVED)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::env::Environment;
    use crate::config::fault::Faults;

    #[test]
    fn the_first_who_says_how_many_threads_is_heard() {
        use ConcurrencySource::{Cores, CpuLimit, Flag, ProxyConfig, Quota};
        for (flag, proxy_config, cpu_limit, quota, expected) in [
            (7, Some(5), "3", Some(2), (7, Flag)),
            (0, Some(5), "3", Some(2), (5, ProxyConfig)),
            (0, Some(0), "3", Some(2), (4, Cores)),
            (0, None, "3", Some(2), (3, CpuLimit)),
            (0, None, "0", Some(2), (2, Quota)),
            (0, None, "", Some(8), (4, Cores)),
            (0, None, "", None, (4, Cores)),
            (64, None, "", None, (64, Flag)),
        ] {
            let environment: Environment = [("ISTIO_CPU_LIMIT", cpu_limit)].into_iter().collect();
            let variables = Variables::read(&environment, &mut Faults::default());
            let quota = quota.and_then(NonZeroU32::new);
            let limits = Limits { cores: NonZeroU32::new(4).unwrap(), quota, memory: None };
            let Concurrency { threads, source } =
                Concurrency::decide(flag, proxy_config, &variables, &limits);
            assert_eq!((threads.get(), source), expected);
        }
    }

    #[test]
    fn the_heap_leaves_room_for_the_rest_of_the_container() {
        for (memory, heap, warned) in [
            (None, None, 0),
            (Some(16), None, 1),
            (Some(63), None, 1),
            (Some(64), Some(32), 0),
            (Some(128), Some(88), 0),
            (Some(1024), Some(872), 0),
        ] {
            let mut warnings = Vec::new();
            let memory = memory.and_then(|mib| NonZeroU64::new(mib * MIB));
            let heap = heap.and_then(|mib| NonZeroU64::new(mib * MIB));
            assert_eq!((max_heap(memory, &mut warnings), warnings.len()), (heap, warned));
        }
    }
}
