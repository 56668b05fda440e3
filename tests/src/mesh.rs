//! Sidecar and mesh: pilot-discovery and pilot-agent on a folder of YAML, on loopback, each with ports of its own.
//!
//! ```text
//! load ──▶ Envoy ──▶ upstreams           Sidecar: pilot-agent and its Envoy, optionally in a PID namespace
//!            ▲ ADS
//!        pilot-discovery ◀── Folder      Discovery: can be stopped and restarted on the same ports
//! ```
//!
//! The default interception mode is `NONE`: listeners bind their ports, so no iptables are needed. All files of a run are in
//! one temporary folder.

mod discovery;

use std::collections::BTreeMap;
use std::fs;
use std::net::{IpAddr, SocketAddr};
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitStatus, Stdio};
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use nix::sys::signal::{self, Signal};
use nix::unistd::Pid;
use serde_json::{Value, json};

pub use self::discovery::Discovery;
use crate::manifest::Folder;
use crate::net::{free_port, get, get_ok, local, loopback, post_ok};
use crate::process::{Process, ProcessInfo, children};
use crate::programs::programs;
use crate::wait::eventually;

/// Time limit for the start of a program on a busy machine.
pub const START: Duration = Duration::from_secs(20);

/// Time limit for the end of a program.
pub const END: Duration = Duration::from_secs(20);

// === Sidecar ===

/// Interception mode: the way connections reach the proxy.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Interception {
    /// Listeners bind their ports (`NONE`).
    None,
    /// One listener receives all connections, as iptables would redirect them (`REDIRECT`).
    Redirect,
}

/// PID namespace of the agent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PidNamespace {
    /// The namespace of the test.
    Shared,
    /// A namespace of its own, in which the agent is PID 1, as in a container.
    Own,
}

/// Settings of a sidecar.
#[derive(Clone, Debug)]
pub struct Options {
    /// Interception mode.
    pub interception: Interception,
    /// PID namespace of the agent.
    pub pid_namespace: PidNamespace,
    /// Role of the proxy: `sidecar` or `router`.
    pub role: &'static str,
    /// Name of the pod.
    pub pod: &'static str,
    /// Namespace of the pod.
    pub namespace: &'static str,
    /// Address of the pod.
    pub ip: IpAddr,
    /// Path of Envoy.
    pub envoy: PathBuf,
    /// Group id of the agent, or `None` for the test's own. Netfilter rules match the proxy's connections by it.
    pub group: Option<u32>,
    /// `terminationDrainDuration`.
    pub drain: Duration,
    /// Additional flags.
    pub flags: Vec<String>,
    /// Additional environment variables.
    pub environment: Vec<(String, String)>,
}

impl Options {
    /// Returns settings for pod `client` of `default`: interception `NONE`, shared PID namespace, real Envoy, drain of 2 s.
    pub fn new() -> Result<Self> {
        Ok(Self {
            interception: Interception::None,
            pid_namespace: PidNamespace::Shared,
            role: "sidecar",
            pod: "client",
            namespace: "default",
            ip: loopback(1),
            envoy: crate::envoy::envoy()?.to_owned(),
            group: None,
            drain: Duration::from_secs(2),
            flags: Vec::new(),
            environment: Vec::new(),
        })
    }
}

/// A running `pilot-agent` and its Envoy.
pub struct Sidecar {
    process: Process,
    pid_namespace: PidNamespace,
    /// The agent's `/healthz/ready`.
    pub status: SocketAddr,
    /// Envoy's admin address.
    pub admin: SocketAddr,
    /// Envoy's own ready listener (15021).
    pub health: SocketAddr,
}

impl Sidecar {
    /// Starts an agent for the control plane at `discovery`, without waiting for readiness.
    pub fn start(dir: &Path, discovery: SocketAddr, options: &Options) -> Result<Self> {
        let (status, admin, health) = (local(free_port()?), local(free_port()?), local(free_port()?));
        let mut command = match options.pid_namespace {
            PidNamespace::Shared => Command::new(&programs()?.agent),
            PidNamespace::Own => unshare_pid_namespace(&programs()?.agent)?,
        };
        command.args(["proxy", options.role]).args(&options.flags).current_dir(dir);
        let config = proxy_config(discovery, status, admin, options);
        command.env("PROXY_CONFIG", serde_saphyr::to_string(&config)?);
        command.envs(environment(options, health)?).envs(options.environment.clone());
        if let Some(group) = options.group {
            command.gid(group);
        }
        let process = Process::spawn("agent", &mut command, dir)?;
        Ok(Self { process, pid_namespace: options.pid_namespace, status, admin, health })
    }

    /// Waits until the agent reports ready.
    pub async fn ready(&mut self) -> Result<()> {
        let status = self.status;
        let ready = async || get_ok(status, "/healthz/ready").await.map(drop);
        self.process.until(START, "pilot-agent is ready", ready).await
    }

    /// Returns the agent's process id in the test's PID namespace.
    pub fn agent(&self) -> Result<Pid> {
        match self.pid_namespace {
            PidNamespace::Shared => Ok(self.process.pid()),
            PidNamespace::Own => {
                Ok(children(self.process.pid())?.first().context("unshare has no child yet")?.pid)
            }
        }
    }

    /// Returns the running Envoy.
    pub fn envoy(&self) -> Result<ProcessInfo> {
        let found =
            children(self.agent()?)?.into_iter().find(|child| child.name == "envoy" && child.state != 'Z');
        found.context("the agent has no Envoy")
    }

    /// Returns the log of agent and Envoy.
    pub fn log(&self) -> String {
        self.process.log()
    }

    /// Requests a hot restart and waits until only the new Envoy runs.
    pub async fn restart(&self) -> Result<()> {
        let before = self.envoy()?.pid;
        post_ok(self.status, "/restart").await?;
        eventually(END, "another Envoy is alone", async || {
            let envoys: Vec<_> =
                children(self.agent()?)?.into_iter().filter(|child| child.name == "envoy").collect();
            ensure!(envoys.len() == 1 && envoys.iter().all(|envoy| envoy.pid != before), "{envoys:?}");
            Ok(())
        })
        .await
    }

    /// Sends a signal to the agent.
    pub fn signal(&self, signal: Signal) -> Result<()> {
        signal::kill(self.agent()?, signal).with_context(|| format!("send {signal} to the agent"))
    }

    /// Waits until the agent exits.
    pub async fn exit(&mut self) -> Result<ExitStatus> {
        self.process.exit(END).await.with_context(|| self.process.tail(30))
    }

    /// Returns true if the agent reports ready; an agent that does not run is not ready.
    pub async fn is_ready(&self) -> bool {
        get(self.status, "/healthz/ready").await.is_ok_and(|(status, _)| status == 200)
    }

    /// Returns Envoy's counters and gauges with matching names.
    pub async fn stats(&self, pattern: &str) -> Result<BTreeMap<String, u64>> {
        let text = get_ok(self.admin, &format!("/stats?filter={pattern}")).await?;
        let stat = |line: &str| {
            line.rsplit_once(": ").and_then(|(name, value)| Some((name.into(), value.parse().ok()?)))
        };
        Ok(text.lines().filter_map(stat).collect())
    }

    /// Returns an error if Envoy rejected any configuration, by its counters and by `error_state` in its config dump.
    pub async fn ensure_no_rejection(&self) -> Result<()> {
        let rejected = self.stats("update_rejected").await?;
        for counter in ["cluster_manager.cds.update_rejected", "listener_manager.lds.update_rejected"] {
            ensure!(rejected.contains_key(counter), "Envoy has no counter {counter}: {rejected:?}");
        }
        let nonzero: Vec<_> = rejected.iter().filter(|(_, count)| **count > 0).collect();
        let dump: Value = serde_json::from_str(&get_ok(self.admin, "/config_dump").await?)?;
        let refused = find(&dump, "error_state");
        ensure!(
            nonzero.is_empty() && refused.is_empty(),
            "Envoy rejected configuration: {nonzero:?} {refused:?}"
        );
        Ok(())
    }

    /// Returns an error while clusters or listeners are warming.
    pub async fn ensure_warmed(&self) -> Result<()> {
        let stats = self.stats("warming").await?;
        let warming: Vec<_> = stats.iter().filter(|(_, count)| **count > 0).collect();
        ensure!(warming.is_empty(), "still warming: {warming:?}");
        Ok(())
    }
}

/// Returns all values with this key, at any depth.
fn find<'a>(value: &'a Value, key: &str) -> Vec<&'a Value> {
    match value {
        Value::Object(map) => {
            map.get(key).into_iter().chain(map.values().flat_map(|value| find(value, key))).collect()
        }
        Value::Array(list) => list.iter().flat_map(|value| find(value, key)).collect(),
        _ => Vec::new(),
    }
}

fn proxy_config(discovery: SocketAddr, status: SocketAddr, admin: SocketAddr, options: &Options) -> Value {
    json!({
        "discoveryAddress": discovery.to_string(),
        // Plaintext, though the port is not 15010.
        "controlPlaneAuthPolicy": "NONE",
        "statusPort": status.port(),
        "proxyAdminPort": admin.port(),
        "configPath": "./etc/istio/proxy",
        "binaryPath": options.envoy,
        "concurrency": 1,
        "terminationDrainDuration": format!("{}ms", options.drain.as_millis()),
        // The tests read counters that Istio's default matcher drops.
        "proxyStatsMatcher": {"inclusionRegexps": [".*"]},
    })
}

fn environment(options: &Options, health: SocketAddr) -> Result<[(&'static str, String); 6]> {
    let mode = match options.interception {
        Interception::None => "NONE",
        Interception::Redirect => "REDIRECT",
    };
    Ok([
        ("ISTIO_META_INTERCEPTION_MODE", mode.into()),
        ("ENVOY_STATUS_PORT", health.port().to_string()),
        ("ENVOY_PROMETHEUS_PORT", free_port()?.to_string()),
        ("INSTANCE_IP", options.ip.to_string()),
        ("POD_NAME", options.pod.into()),
        ("POD_NAMESPACE", options.namespace.into()),
    ])
}

/// Returns a command that runs `program` as PID 1 of a new namespace. Killing the command kills the program.
pub fn unshare_pid_namespace(program: &Path) -> Result<Command> {
    let own = ["--pid", "--fork", "--mount-proc", "--kill-child"];
    let as_user = ["--user", "--map-root-user"];
    let works = |prefix: &[&str]| {
        let mut probe = Command::new("unshare");
        probe.args(prefix).args(own).arg("true").stdin(Stdio::null()).stderr(Stdio::null());
        probe.status().is_ok_and(|status| status.success())
    };
    let prefix: &[&str] = if works(&[]) { &[] } else { &as_user };
    ensure!(
        prefix.is_empty() || works(prefix),
        "create a PID namespace: `unshare --pid --fork --mount-proc` needs util-linux and root or user namespaces (in docker: --privileged)"
    );
    let mut command = Command::new("unshare");
    command.args(prefix).args(own).arg(program);
    Ok(command)
}

// === Mesh ===

/// A control plane and a sidecar. Fields are dropped in order: the sidecar ends first, the folder is removed last.
pub struct Mesh {
    /// The sidecar.
    pub sidecar: Sidecar,
    /// The control plane.
    pub discovery: Discovery,
    /// Folder that the control plane reads.
    pub folder: Folder,
    /// Folder of all files of the run.
    pub dir: tempfile::TempDir,
}

impl Mesh {
    /// Starts both on a folder with one file, [`Mesh::FILE`], and waits until the sidecar is ready.
    pub async fn start(objects: &[Value], options: &Options) -> Result<Self> {
        let dir = tempfile::tempdir()?;
        let folder = Folder::create(dir.path().join("config"))?;
        folder.write(Self::FILE, objects)?;
        let discovery = Discovery::start(dir.path(), &folder).await?;
        let mut sidecar = Sidecar::start(dir.path(), discovery.grpc, options)?;
        sidecar.ready().await?;
        Ok(Self { sidecar, discovery, folder, dir })
    }

    /// Name of the file with the initial objects.
    pub const FILE: &str = "objects.yaml";

    /// Starts another proxy and waits until it is ready. Its files are in a folder named like the pod.
    pub async fn join(&self, options: &Options) -> Result<Sidecar> {
        let dir = self.dir.path().join(options.pod);
        fs::create_dir(&dir)?;
        let mut proxy = Sidecar::start(&dir, self.discovery.grpc, options)?;
        proxy.ready().await?;
        Ok(proxy)
    }

    /// Replaces the objects of [`Mesh::FILE`].
    pub fn write(&self, objects: &[Value]) -> Result<()> {
        self.folder.write(Self::FILE, objects)
    }

    /// Returns an error if the agent has ended or any configuration was rejected. Every test ends with this check.
    pub async fn ensure_healthy(&mut self) -> Result<()> {
        self.sidecar.process.check()?;
        self.sidecar.ensure_no_rejection().await?;
        self.discovery.ensure_no_rejection().await
    }
}
