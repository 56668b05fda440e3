//! CPU time and memory of a process, from `/proc`.

use std::fs;
use std::time::Duration;

use anyhow::{Context, Result};
use nix::unistd::{Pid, SysconfVar, sysconf};

/// Reads the resource usage of one process.
#[derive(Clone, Copy, Debug)]
pub struct UsageMeter {
    pid: Pid,
}

/// Resource usage of a process so far.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ResourceUsage {
    /// CPU time, user and system.
    pub cpu: Duration,
    /// Resident memory in bytes.
    pub resident: u64,
    /// Highest resident memory since [`UsageMeter::reset_peak`], in bytes.
    pub peak: u64,
}

// === impl UsageMeter ===

impl UsageMeter {
    /// Creates a meter for this process.
    pub const fn new(pid: Pid) -> Self {
        Self { pid }
    }

    /// Returns the resource usage so far.
    pub fn read(&self) -> Result<ResourceUsage> {
        let path = format!("/proc/{}", self.pid);
        let stat = fs::read_to_string(format!("{path}/stat")).context("read CPU time")?;
        let status = fs::read_to_string(format!("{path}/status")).context("read memory usage")?;
        let cpu = ticks(&stat).context("/proc/PID/stat without times")?;
        let field = |name: &str| {
            let found = status.lines().find_map(|line| line.strip_prefix(name)?.strip_suffix("kB"));
            let kilobytes: u64 = found?.trim_matches([':', ' ', '\t']).parse().ok()?;
            Some(kilobytes << 10)
        };
        let (resident, peak) = (field("VmRSS").context("no VmRSS")?, field("VmHWM").context("no VmHWM")?);
        let per_second =
            sysconf(SysconfVar::CLK_TCK)?.and_then(|ticks| u64::try_from(ticks).ok()).unwrap_or(100);
        Ok(ResourceUsage { cpu: Duration::from_micros(cpu * 1_000_000 / per_second), resident, peak })
    }

    /// Resets the peak of resident memory to the current value. `proc(5)`, `clear_refs`.
    pub fn reset_peak(&self) -> Result<()> {
        fs::write(format!("/proc/{}/clear_refs", self.pid), "5").context("reset the peak of memory usage")
    }
}

/// Returns user and system time in clock ticks. The process name, which may have spaces, ends with the last parenthesis.
fn ticks(stat: &str) -> Option<u64> {
    let mut rest = stat.rsplit_once(')')?.1.split_whitespace().skip(11);
    let (user, system): (u64, u64) = (rest.next()?.parse().ok()?, rest.next()?.parse().ok()?);
    Some(user + system)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cpu_ticks_are_parsed_for_any_process_name() {
        let stat = "7 (a (b) c) S 1 7 7 0 -1 4194304 1 2 3 4 50 25 0 0 20 0 1 0 9";
        assert_eq!(ticks(stat), Some(75));
        assert_eq!(ticks("7 (a"), None);
    }

    #[test]
    fn reset_peak_discards_memory_that_was_freed() {
        let meter = UsageMeter::new(Pid::this());
        let large = std::hint::black_box(vec![1_u8; 64 << 20]);
        let with = meter.read().unwrap();
        drop(large);
        meter.reset_peak().unwrap();
        let without = meter.read().unwrap();
        assert!(with.peak >= without.peak + (32 << 20), "{with:?} {without:?}");
        assert!(without.cpu >= with.cpu && without.resident > 0);
    }
}
