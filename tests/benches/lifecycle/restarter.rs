//! Comparisons: bare starts of Envoy, and Envoy's own `hot-restarter.py`, which is not part of this repository.

use std::fs;
use std::net::SocketAddr;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use nix::sys::signal::Signal;
use pilot_tests::envoy::envoy;
use pilot_tests::mesh::START;
use pilot_tests::net::{free_port, get_ok, local};
use pilot_tests::process::Process;
use pilot_tests::solo::{Front, Generation, generations};
use serde_json::Value;
use tokio::time::sleep;

const LOOK: Duration = Duration::from_millis(2);

/// Envoys under `hot-restarter.py`. Dropping it stops them.
pub(crate) struct Restarter {
    process: Process,
    dir: PathBuf,
    front: Front,
    admin: SocketAddr,
}

// === impl Restarter ===

impl Restarter {
    /// Starts it on a front at revision 1, with handovers as short as those of the agent.
    pub(crate) async fn start(dir: &Path, front: &Front, script: &Path) -> Result<Self> {
        let admin = local(free_port()?);
        let start = dir.join("start-envoy");
        let arguments = format!(
            "--restart-epoch $RESTART_EPOCH --base-id {} --concurrency 1 --drain-strategy immediate --drain-time-s {} \
             --parent-shutdown-time-s {} -l warning",
            admin.port(),
            super::hot_restart::DRAIN.as_secs(),
            super::hot_restart::BOUND.as_secs(),
        );
        let (envoy, at) = (envoy()?.display(), dir.display());
        let text = format!("#!/bin/sh\nexec {envoy} -c {at}/envoy-rev$RESTART_EPOCH.json {arguments}\n");
        fs::write(&start, text).context("write the restarter's target")?;
        fs::set_permissions(&start, fs::Permissions::from_mode(0o755))?;
        // Its epochs begin at 0, the revisions at 1.
        fs::write(dir.join("envoy-rev0.json"), front.bootstrap(1, admin).to_string())?;
        let mut command = Command::new("python3");
        let process = Process::spawn("hot-restarter", command.arg(script).arg(&start).current_dir(dir), dir)?;
        let mut this = Self { process, dir: dir.to_owned(), front: front.clone(), admin };
        this.live(0).await?;
        Ok(this)
    }

    /// Returns its Envoys.
    pub(crate) fn generations(&self) -> Result<Vec<Generation>> {
        generations(self.process.pid())
    }

    /// Requests the next revision.
    pub(crate) fn revise(&self, revision: u32) -> Result<()> {
        let path = self.dir.join(format!("envoy-rev{}.json", revision - 1));
        fs::write(path, self.front.bootstrap(revision, self.admin).to_string())?;
        self.process.signal(Signal::SIGHUP)
    }

    /// Waits until Envoy's admin reports this epoch as LIVE.
    pub(crate) async fn live(&mut self, epoch: u32) -> Result<()> {
        let since = Instant::now();
        while !self.is_live(epoch).await {
            self.process.check()?;
            ensure!(since.elapsed() < START, "epoch {epoch} is not LIVE:\n{}", self.process.tail(30));
            sleep(LOOK).await;
        }
        Ok(())
    }

    async fn is_live(&self, epoch: u32) -> bool {
        let Ok(text) = get_ok(self.admin, "/server_info").await else { return false };
        let Ok(info) = serde_json::from_str::<Value>(&text) else { return false };
        let at = info.pointer("/command_line_options/restart_epoch").and_then(Value::as_u64);
        info.get("state").is_some_and(|state| state == "LIVE") && at == Some(epoch.into())
    }

    /// Stops it and its Envoys.
    pub(crate) async fn stop(mut self) -> Result<()> {
        self.process.signal(Signal::SIGTERM)?;
        self.process.exit(START).await.map(drop)
    }
}

impl Drop for Restarter {
    fn drop(&mut self) {
        // Left behind by its Envoys; missing if none has started.
        drop(fs::remove_file(format!("/dev/shm/envoy_shared_memory_{}0", self.admin.port())));
    }
}
