//! A control plane that can be stopped and restarted on the same ports.

use std::collections::BTreeMap;
use std::fs;
use std::net::{IpAddr, SocketAddr};
use std::path::{Path, PathBuf};
use std::process::{Command, ExitStatus};

use anyhow::{Context, Result, ensure};
use nix::sys::signal::Signal;
use nix::unistd::Pid;
use serde_json::Value;

use super::{END, START};
use crate::manifest::Folder;
use crate::net::{free_port, get_ok, local, loopback};
use crate::process::Process;
use crate::programs::{Programs, programs};

/// A running `pilot-discovery`.
pub struct Discovery {
    process: Option<Process>,
    dir: PathBuf,
    folder: Folder,
    flags: Vec<String>,
    /// Outbound and inbound port of its proxies (`proxyListenPort`, `proxyInboundListenPort`).
    pub listen: (u16, u16),
    /// ADS address.
    pub grpc: SocketAddr,
    /// Address of `/ready` and `/debug`.
    pub http: SocketAddr,
    /// Address of `/metrics` and `/version`.
    pub monitoring: SocketAddr,
}

impl Discovery {
    /// Starts pilot-discovery on a folder and waits until it is ready. Its log and its mesh file are in `dir`.
    pub async fn start(dir: &Path, folder: &Folder) -> Result<Self> {
        Self::start_with(dir, folder, &[]).await
    }

    /// Starts pilot-discovery with additional flags.
    pub async fn start_with(dir: &Path, folder: &Folder, flags: &[&str]) -> Result<Self> {
        Self::start_at(loopback(1), dir, folder, flags).await
    }

    /// Starts pilot-discovery with ADS at one of this machine's addresses.
    pub async fn start_at(ip: IpAddr, dir: &Path, folder: &Folder, flags: &[&str]) -> Result<Self> {
        let mut discovery = Self {
            process: None,
            dir: dir.to_owned(),
            folder: folder.clone(),
            flags: flags.iter().map(ToString::to_string).collect(),
            listen: (free_port()?, free_port()?),
            grpc: SocketAddr::new(ip, free_port()?),
            http: local(free_port()?),
            monitoring: local(free_port()?),
        };
        discovery.set_mesh(&[])?;
        discovery.restart().await?;
        Ok(discovery)
    }

    /// Replaces the mesh file by one with these fields and the proxies' ports.
    pub fn set_mesh(&self, fields: &[(&str, Value)]) -> Result<()> {
        let (outbound, inbound) = self.listen;
        let own = [("proxyListenPort", outbound.into()), ("proxyInboundListenPort", inbound.into())];
        let mesh: BTreeMap<&str, Value> = own.iter().chain(fields).cloned().collect();
        let file = self.dir.join("mesh.yaml");
        let unfinished = file.with_extension("swp");
        fs::write(&unfinished, serde_saphyr::to_string(&mesh)?)?;
        fs::rename(&unfinished, &file).context("write the mesh's configuration")
    }

    /// Restarts pilot-discovery on the same ports and the same folder. A running process is killed first.
    pub async fn restart(&mut self) -> Result<()> {
        drop(self.process.take());
        let Programs { discovery, .. } = programs()?;
        let mut command = Command::new(discovery);
        command.args(["discovery", "--registries", "File", "--configDir"]).arg(self.folder.path());
        command.args(["--grpcAddr", &self.grpc.to_string(), "--httpAddr", &self.http.to_string()]);
        command.args(["--monitoringAddr", &self.monitoring.to_string()]);
        command.arg("--meshConfig").arg(self.dir.join("mesh.yaml")).args(&self.flags).current_dir(&self.dir);
        let mut process = Process::spawn("discovery", &mut command, &self.dir)?;
        let ready = async || get_ok(self.http, "/ready").await.map(drop);
        process.until(START, "pilot-discovery is ready", ready).await?;
        self.process = Some(process);
        Ok(())
    }

    /// Stops pilot-discovery with SIGTERM and waits until it exits.
    pub async fn stop(&mut self) -> Result<ExitStatus> {
        let mut process = self.process.take().context("pilot-discovery does not run")?;
        process.signal(Signal::SIGTERM)?;
        process.exit(END).await
    }

    /// Returns the process id.
    pub fn pid(&self) -> Result<Pid> {
        self.process.as_ref().map(Process::pid).context("pilot-discovery does not run")
    }

    /// Returns the log.
    pub fn log(&self) -> String {
        fs::read_to_string(self.dir.join("discovery.log")).unwrap_or_default()
    }

    /// Returns an error if a proxy rejected any configuration.
    pub async fn ensure_no_rejection(&self) -> Result<()> {
        let metrics = get_ok(self.monitoring, "/metrics").await?;
        let rejects = metrics.lines().filter(|line| {
            let name = line.split(['{', ' ']).next().unwrap_or_default();
            name.starts_with("pilot_") && name.contains("reject") && name != "pilot_total_rejected_configs"
        });
        let nonzero: Vec<&str> = rejects.filter(|line| !line.ends_with(" 0")).collect();
        ensure!(nonzero.is_empty(), "proxies rejected configuration: {nonzero:?}");
        Ok(())
    }
}
