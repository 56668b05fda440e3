//! A control plane with additional flags and environment.

use std::net::SocketAddr;
use std::process::Command;
use std::time::Duration;

use anyhow::{Context, Result};
use pilot_tests::manifest::{Folder, Port, service};
use pilot_tests::mesh::START;
use pilot_tests::net::{free_port, get_ok, local};
use pilot_tests::process::Process;
use pilot_tests::programs::programs;
use pilot_tests::wait::eventually;

/// Time limit of a single step.
pub(crate) const TIMEOUT: Duration = Duration::from_secs(20);

pub(crate) struct ControlPlane {
    pub(crate) process: Process,
    pub(crate) folder: Folder,
    pub(crate) grpc: SocketAddr,
    pub(crate) http: SocketAddr,
    pub(crate) monitoring: SocketAddr,
    /// Folder of its files.
    _dir: tempfile::TempDir,
}

/// Settings that differ between tests.
#[derive(Default)]
pub(crate) struct ControlPlaneOptions<'a> {
    pub(crate) flags: &'a [&'a str],
    pub(crate) environment: &'a [(&'a str, &'a str)],
    pub(crate) monitoring: Option<SocketAddr>,
}

impl ControlPlane {
    pub(crate) async fn start(setup: ControlPlaneOptions<'_>) -> Result<Self> {
        let dir = tempfile::tempdir()?;
        let folder = Folder::create(dir.path().join("config"))?;
        folder.write("web.yaml", &[service("web", "10.0.0.1", &[Port::new("http", 80, 8080)])])?;
        let (grpc, http) = (local(free_port()?), local(free_port()?));
        let monitoring = setup.monitoring.map_or_else(|| free_port().map(local), Ok)?;
        let mut command = Command::new(&programs()?.discovery);
        command.args(["discovery", "--configDir"]).arg(folder.path()).current_dir(dir.path());
        command.args(["--grpcAddr", &grpc.to_string(), "--httpAddr", &http.to_string()]);
        command.args(["--monitoringAddr", &monitoring.to_string()]).args(setup.flags);
        command.envs(setup.environment.iter().copied());
        let mut process = Process::spawn("discovery", &mut command, dir.path())?;
        let ready = async || get_ok(http, "/ready").await.map(drop);
        process.until(START, "pilot-discovery is ready", ready).await?;
        Ok(Self { process, folder, grpc, http, monitoring, _dir: dir })
    }

    /// Adds a service, which causes a push to all proxies.
    pub(crate) fn change(&self, name: &str) -> Result<()> {
        let ports = [Port::new("http", 81, 8081)];
        self.folder.write(&format!("{name}.yaml"), &[service(name, "10.0.0.2", &ports)])
    }

    /// Waits until the metrics contain this line.
    pub(crate) async fn wait_for_metric(&self, line: &str) -> Result<()> {
        let counted = eventually(TIMEOUT, line, async || {
            let page = get_ok(self.monitoring, "/metrics").await?;
            let name = line.split(['{', ' ']).next().unwrap_or_default();
            let lines: Vec<&str> = page.lines().filter(|line| line.starts_with(name)).collect();
            anyhow::ensure!(lines.contains(&line), "{lines:?}");
            Ok(())
        });
        counted.await
    }

    /// Returns the number of open xDS streams.
    pub(crate) async fn streams(&self) -> Result<u64> {
        let load: serde_json::Value = serde_json::from_str(&get_ok(self.monitoring, "/debug/load").await?)?;
        load.get("streams").and_then(serde_json::Value::as_u64).with_context(|| load.to_string())
    }

    /// Returns the resident memory in MiB.
    pub(crate) fn memory(&self) -> Result<u64> {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.process.pid()))?;
        let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).context("VmRSS")?;
        Ok(line.trim().trim_end_matches(" kB").parse::<u64>()? >> 10)
    }
}
