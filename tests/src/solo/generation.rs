//! Envoys below an agent, by `/proc`.

use std::fs;

use anyhow::Result;
use nix::unistd::Pid;

use crate::process::children;

/// One Envoy of an agent.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Generation {
    /// Its process id as we see it.
    pub pid: Pid,
    /// The epoch its users see: the `N` of the `envoy-rev<N>.json` it was started with.
    pub epoch: u32,
    /// Epoch in Envoy's arguments; differs from the generation if the agent is the parent.
    pub restart_epoch: u32,
    /// Base id; `None` without hot restart.
    pub base_id: Option<u32>,
    /// Fork time in clock ticks since boot; orders processes with reused ids.
    pub forked: u64,
}

/// Returns the Envoys below an agent, oldest first, without those that validate a bootstrap and dead ones.
pub fn generations(agent: Pid) -> Result<Vec<Generation>> {
    let below = match children_of_threads(agent) {
        Some(pids) => pids,
        // A kernel without CONFIG_PROC_CHILDREN: reads the parent of every process.
        None => children(agent)?.into_iter().map(|child| child.pid).collect(),
    };
    let mut found: Vec<Generation> = below.into_iter().filter_map(Generation::read).collect();
    found.sort_by_key(|generation| (generation.forked, generation.pid));
    Ok(found)
}

/// A few small files: benches look every millisecond.
fn children_of_threads(of: Pid) -> Option<Vec<Pid>> {
    let threads = fs::read_dir(format!("/proc/{of}/task")).ok()?;
    let lists: Vec<String> = threads
        .map(|thread| fs::read_to_string(thread.ok()?.path().join("children")).ok())
        .collect::<Option<_>>()?;
    let pids = lists.iter().flat_map(|list| list.split_whitespace());
    Some(pids.filter_map(|pid| pid.parse().ok()).map(Pid::from_raw).collect())
}

// === impl Generation ===

impl Generation {
    /// `None` for everything but an Envoy that serves, or will.
    fn read(pid: Pid) -> Option<Self> {
        let line = fs::read(format!("/proc/{pid}/cmdline")).ok()?;
        let line = String::from_utf8_lossy(&line);
        let arguments: Vec<&str> = line.split('\0').collect();
        let forked = start_ticks(&fs::read_to_string(format!("/proc/{pid}/stat")).ok()?)?;
        Self::of(pid, forked, &arguments)
    }

    fn of(pid: Pid, forked: u64, arguments: &[&str]) -> Option<Self> {
        let value = |flag: &str| {
            let at = arguments.iter().position(|argument| *argument == flag)?;
            arguments.get(at + 1).copied()
        };
        let restart_epoch = value("--restart-epoch")?.parse().ok()?;
        if value("--mode").is_some_and(|mode| mode != "serve") {
            return None;
        }
        let (_, epoch) = value("-c")?.rsplit_once("envoy-rev")?;
        let epoch = epoch.strip_suffix(".json")?.parse().ok()?;
        let base_id = value("--base-id").and_then(|id| id.parse().ok());
        Some(Self { pid, epoch, restart_epoch, base_id, forked })
    }
}

/// The 22nd field of `/proc/<pid>/stat`; the second one, a name in brackets, may hold blanks.
fn start_ticks(stat: &str) -> Option<u64> {
    stat.rsplit_once(')')?.1.split_whitespace().nth(19)?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_envoy_is_known_by_its_command_line() {
        let check = |line: &str, expected: Option<(u32, u32, Option<u32>)>| {
            let arguments: Vec<&str> = line.split(' ').collect();
            let seen = Generation::of(Pid::from_raw(1), 1, &arguments);
            assert_eq!(seen.map(|seen| (seen.epoch, seen.restart_epoch, seen.base_id)), expected, "{line}");
        };
        check("envoy -c /a/envoy-rev3.json --restart-epoch 1 --base-id 7", Some((3, 1, Some(7))));
        check("envoy -c ./envoy-rev0.json --restart-epoch 0 --disable-hot-restart", Some((0, 0, None)));
        check("envoy --mode serve -c envoy-rev12.json --restart-epoch 12", Some((12, 12, None)));
        check("envoy --mode validate -c envoy-rev3.json --restart-epoch 3", None);
        check("envoy -c other.json --restart-epoch 3", None);
        check("pilot-agent proxy sidecar", None);
        check("", None);
    }

    #[test]
    fn a_name_with_blanks_and_brackets_hides_no_start() {
        let before = "7 (a ) (b) S 1 2 3 4 5 6 7 8 9 10 11 12 13 14 15 16 17 18 4242 23";
        assert_eq!(start_ticks(before), Some(4242));
        assert_eq!(start_ticks("7 (a) S 1"), None);
    }
}
