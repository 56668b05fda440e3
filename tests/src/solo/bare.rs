//! An Envoy without an agent: the peer of comparisons, and the victim of attacks that the agent prevents.

use std::fs;
use std::net::SocketAddr;
use std::path::Path;
use std::process::{Command, ExitStatus};
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use nix::sys::signal::Signal;
use tokio::time::sleep;

use super::{Front, WITH_OWN_SHM, mount_namespace};
use crate::envoy::envoy;
use crate::mesh::{END, START};
use crate::net::{free_port, get_ok, local};
use crate::process::Process;

const LOOK: Duration = Duration::from_millis(2);

/// A running Envoy. Dropping it kills it.
pub struct Bare {
    process: Process,
    spawned: Instant,
    /// Its admin.
    pub admin: SocketAddr,
}

// === impl Bare ===

impl Bare {
    /// Starts one on a front, without hot restart, draining as the agent's do. It need not be LIVE when this returns.
    pub fn start(dir: &Path, front: &Front, revision: u32) -> Result<Self> {
        let mut command = Command::new(envoy()?);
        command.args(["--disable-hot-restart", "--drain-strategy", "immediate"]);
        Self::spawn(command, dir, front, revision)
    }

    /// Starts an Envoy with default flags: hot restart is on, its sockets have abstract names with this `base_id`. It has its own
    /// shared memory.
    pub fn stock(dir: &Path, front: &Front, base_id: u32) -> Result<Self> {
        let mut command = mount_namespace(Path::new("sh"))?;
        command.args(["-c", WITH_OWN_SHM, "sh"]).arg(envoy()?);
        command.args(["--base-id", &base_id.to_string()]);
        Self::spawn(command, dir, front, 1)
    }

    fn spawn(mut command: Command, dir: &Path, front: &Front, revision: u32) -> Result<Self> {
        let admin = local(free_port()?);
        let bootstrap = dir.join(format!("bare-{}.json", admin.port()));
        fs::write(&bootstrap, front.bootstrap(revision, admin).to_string())?;
        command.args(["--concurrency", "1", "-l", "warning", "-c"]).arg(bootstrap).current_dir(dir);
        let spawned = Instant::now();
        let process = Process::spawn("bare", &mut command, dir)?;
        Ok(Self { process, spawned, admin })
    }

    /// Waits until it is LIVE; how long that took since its start.
    pub async fn live(&mut self) -> Result<Duration> {
        let deadline = self.spawned + START;
        // Looked at more often than our other waits: what is measured are some tens of milliseconds.
        while let Err(error) = get_ok(self.admin, "/ready").await {
            self.process.check()?;
            if Instant::now() > deadline {
                return Err(error).context("Envoy is not LIVE");
            }
            sleep(LOOK).await;
        }
        Ok(self.spawned.elapsed())
    }

    /// Sends it a signal.
    pub fn signal(&self, signal: Signal) -> Result<()> {
        self.process.signal(signal)
    }

    /// Returns the start time.
    pub fn spawned(&self) -> Instant {
        self.spawned
    }

    /// Its status, if it has ended.
    pub fn ended(&mut self) -> Result<Option<ExitStatus>> {
        self.process.ended()
    }

    /// Waits for its end.
    pub async fn exit(&mut self) -> Result<ExitStatus> {
        self.process.exit(END).await
    }
}
