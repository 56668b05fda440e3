//! Leftovers of a run: files and processes. Those of a running agent are included.

use std::fs::{self, File};
use std::os::fd::AsRawFd;
use std::os::unix::fs::FileTypeExt;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use nix::unistd::Pid;

/// The agent's `/dev/shm`. It can be read after the agent and its namespace are gone, because we hold it open.
pub(super) fn shm_of(agent: Pid) -> Result<File> {
    File::open(format!("/proc/{agent}/root/dev/shm")).context("open the agent's /dev/shm")
}

/// One line for each thing that is left.
pub(super) fn of(dir: &Path, shm: Option<&File>) -> Result<Vec<String>> {
    let mut found: Vec<String> =
        below(dir)?.into_iter().filter(|path| is_ours(path)).map(|path| path.display().to_string()).collect();
    if let Some(shm) = shm {
        let shm = PathBuf::from(format!("/proc/self/fd/{}", shm.as_raw_fd()));
        let segments = names(&shm)?.into_iter().filter(|name| name.starts_with("envoy_"));
        found.extend(segments.map(|name| format!("/dev/shm/{name}")));
    }
    found.extend(processes(dir)?);
    Ok(found)
}

/// Bootstraps that were written for Envoy, whole or in part, and sockets.
fn is_ours(path: &Path) -> bool {
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    let socket = fs::symlink_metadata(path).is_ok_and(|meta| meta.file_type().is_socket());
    socket || name.starts_with("envoy-rev")
}

fn below(dir: &Path) -> Result<Vec<PathBuf>> {
    let (mut found, mut folders) = (Vec::new(), vec![dir.to_owned()]);
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(&folder).with_context(|| format!("read {}", folder.display()))? {
            let entry = entry?;
            let into = if entry.file_type()?.is_dir() { &mut folders } else { &mut found };
            into.push(entry.path());
        }
    }
    Ok(found)
}

fn names(dir: &Path) -> Result<Vec<String>> {
    let entries = fs::read_dir(dir).with_context(|| format!("read {}", dir.display()))?;
    Ok(entries.filter_map(|entry| entry.ok()?.file_name().into_string().ok()).collect())
}

/// Returns the processes that work in this folder: agent and Envoys, also those without an agent.
fn processes(dir: &Path) -> Result<Vec<String>> {
    let pids = names(Path::new("/proc"))?.into_iter().filter(|name| name.parse::<u32>().is_ok());
    let here = pids.filter(|pid| fs::read_link(format!("/proc/{pid}/cwd")).is_ok_and(|cwd| cwd == dir));
    let told = here.map(|pid| {
        let name = fs::read_to_string(format!("/proc/{pid}/comm")).unwrap_or_default();
        format!("process {pid} ({})", name.trim())
    });
    Ok(told.collect())
}
