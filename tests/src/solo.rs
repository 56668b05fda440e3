//! An agent with a static bootstrap and no control plane, for tests and measurements of Envoy's lifecycle.
//!
//! ```text
//! Stage      endpoints behind, on a loopback address of either family
//!   Front    where one proxy listens before them, its bootstrap, load on it         (plain data)
//! Solo       pilot-agent and its Envoys on a front; a bootstrap file that can be rewritten
//!   Bare       an Envoy on a front without an agent: the peer of comparisons
//! ```
//!
//! The bootstrap contains a revision, which Envoy returns with every response, so that a client sees which Envoy has responded; a
//! bootstrap with the next number is a change. All files of a run are in one folder, and shared memory is in a `/dev/shm` of its
//! own unless a test is about it, so that leftovers belong to this run.
//!
//! The harness uses the agent's flags, files, ports and `/proc`, as users do, and no internals.

mod bare;
mod front;
mod generation;
mod leftovers;

use std::fs::{self, File};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitStatus, Stdio};
use std::time::Instant;

use anyhow::{Context, Result, ensure};
use nix::sys::signal::{self, Signal};
use nix::unistd::Pid;
use serde_json::{Map, Value, json};

pub use self::bare::Bare;
pub use self::front::{Front, Stage};
pub use self::generation::{Generation, generations};
use crate::mesh::{END, PidNamespace, START, unshare_pid_namespace};
use crate::net::{free_port, get, get_ok, local, post_ok};
use crate::process::{Process, children};
use crate::programs::programs;
use crate::wait::eventually;

/// The folder of `envoy-rev<N>.json`, below the run's own.
const CONFIG: &str = "etc/istio/proxy";

/// Gives the program that follows a `/dev/shm` of its own.
const WITH_OWN_SHM: &str = r#"mount -t tmpfs -o mode=1777,size=64m shm /dev/shm && exec "$@""#;

/// Hot-restart mode: the values of `--hotRestartMode`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Engine {
    /// As the agent sees fit.
    Auto,
    /// The agent is every Envoy's peer and holds the sockets.
    Mediated,
    /// Envoys hand over to each other.
    Native,
    /// One ends before the next one starts.
    Off,
}

/// `/dev/shm` of the agent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Shm {
    /// One of its own; takes root or user namespaces.
    Own,
    /// The machine's.
    Shared,
}

/// Configuration of an agent.
#[derive(Clone, Debug)]
pub struct Setup {
    /// PID namespace of the agent.
    pub pid_namespace: PidNamespace,
    /// `/dev/shm` of the agent.
    pub shm: Shm,
    /// The agent's binary; `None`: built when it is needed, in our own profile.
    pub agent: Option<PathBuf>,
    /// The Envoy it runs.
    pub envoy: PathBuf,
    /// Hot-restart mode; `None`: the default.
    pub engine: Option<Engine>,
    /// More flags of `proxy sidecar`.
    pub flags: Vec<String>,
    /// More of its environment.
    pub environment: Vec<(String, String)>,
    /// Fields of `ProxyConfig`, over those of [`Solo`].
    pub proxy: Map<String, Value>,
    /// Command that runs beside Envoy, by `run -- CMD`; may be empty.
    pub command: Vec<String>,
}

/// A running `pilot-agent` and its Envoys. Dropping it kills the agent.
pub struct Solo {
    process: Process,
    spawned: Instant,
    pid_namespace: PidNamespace,
    dir: PathBuf,
    shm: Option<File>,
    /// Addresses of its Envoy.
    pub front: Front,
    /// The agent's `/healthz/ready`, `/lifecycle`, `/restart`.
    pub status: SocketAddr,
    /// Envoy's admin, or what the agent lets through to it.
    pub admin: SocketAddr,
}

// === impl Engine ===

impl Engine {
    /// As the flag spells it.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Auto => "auto",
            Self::Mediated => "mediated",
            Self::Native => "native",
            Self::Off => "off",
        }
    }
}

// === impl Setup ===

impl Setup {
    /// Shared PID namespace, the real Envoy, its own shared memory, default hot-restart mode.
    pub fn new() -> Result<Self> {
        Ok(Self {
            pid_namespace: PidNamespace::Shared,
            shm: Shm::Own,
            agent: None,
            envoy: crate::envoy::envoy()?.to_owned(),
            engine: None,
            flags: Vec::new(),
            environment: Vec::new(),
            proxy: Map::new(),
            command: Vec::new(),
        })
    }

    /// The same with this engine.
    pub fn with_engine(engine: Engine) -> Result<Self> {
        Ok(Self { engine: Some(engine), ..Self::new()? })
    }

    fn command(&self) -> Result<Command> {
        let agent = match &self.agent {
            Some(path) => path,
            None => &programs()?.agent,
        };
        let mut command = match (self.pid_namespace, self.shm) {
            (PidNamespace::Shared, Shm::Shared) => return Ok(Command::new(agent)),
            (PidNamespace::Own, Shm::Shared) => return unshare_pid_namespace(agent),
            (PidNamespace::Shared, Shm::Own) => mount_namespace(Path::new("sh"))?,
            (PidNamespace::Own, Shm::Own) => unshare_pid_namespace(Path::new("sh"))?,
        };
        command.args(["-c", WITH_OWN_SHM, "sh"]).arg(agent);
        Ok(command)
    }
}

// === impl Solo ===

impl Solo {
    /// Starts an agent on a front, with the front's bootstrap at revision 1. It need not be ready when this returns.
    pub fn start(dir: &Path, front: &Front, setup: &Setup) -> Result<Self> {
        Self::start_with(dir, front, setup, |_| Ok(()))
    }

    /// The same with a changed bootstrap. [`Solo::revise`] does not apply the change again.
    pub fn start_with(
        dir: &Path,
        front: &Front,
        setup: &Setup,
        change: impl FnOnce(&mut Value) -> Result<()>,
    ) -> Result<Self> {
        let (status, admin) = (local(free_port()?), local(free_port()?));
        let mut command = setup.command()?;
        let verb = if setup.command.is_empty() { "proxy" } else { "run" };
        command.args([verb, "sidecar"]).args(&setup.flags).current_dir(dir);
        if let Some(engine) = setup.engine {
            command.args(["--hotRestartMode", engine.name()]);
        }
        if !setup.command.is_empty() {
            command.arg("--").args(&setup.command);
        }
        let bootstrap = dir.join("bootstrap.json");
        let mut proxy = json!({
            // Nothing listens there, and nothing connects.
            "discoveryAddress": local(free_port()?).to_string(),
            "controlPlaneAuthPolicy": "NONE",
            "statusPort": status.port(),
            "proxyAdminPort": admin.port(),
            "configPath": format!("./{CONFIG}"),
            "binaryPath": setup.envoy,
            "customConfigFile": bootstrap,
            "concurrency": 1,
        });
        proxy.as_object_mut().context("ProxyConfig is an object")?.extend(setup.proxy.clone());
        command.env("PROXY_CONFIG", serde_saphyr::to_string(&proxy)?);
        command.env("INSTANCE_IP", front.http.ip().to_string());
        command.env("POD_NAME", "solo").env("POD_NAMESPACE", "default");
        command.envs(setup.environment.iter().map(|(name, value)| (name, value)));
        let mut first = front.bootstrap(1, admin);
        change(&mut first)?;
        write_whole(&bootstrap, &first)?;
        let process = Process::spawn("agent", &mut command, dir)?;
        let (spawned, front) = (Instant::now(), front.clone());
        let (pid_namespace, dir, shm) = (setup.pid_namespace, dir.to_owned(), None);
        Ok(Self { process, spawned, pid_namespace, dir, shm, front, status, admin })
    }

    /// Returns the start time of the program: the agent itself with [`PidNamespace::Shared`] and [`Shm::Shared`].
    pub fn spawned(&self) -> Instant {
        self.spawned
    }

    /// Waits until it is ready.
    pub async fn ready(&mut self) -> Result<()> {
        let status = self.status;
        let ready = async || get_ok(status, "/healthz/ready").await.map(drop);
        self.process.until(START, "pilot-agent is ready", ready).await?;
        self.shm = Some(leftovers::shm_of(self.agent()?)?);
        Ok(())
    }

    /// Returns `true` if it is ready; `false` if it has exited.
    pub async fn is_ready(&self) -> bool {
        get(self.status, "/healthz/ready").await.is_ok_and(|(status, _)| status == 200)
    }

    /// Replaces the bootstrap by the front's at this revision.
    pub fn revise(&self, revision: u32) -> Result<()> {
        self.rewrite(&self.front.bootstrap(revision, self.admin))
    }

    /// Replaces the bootstrap by anything, whole: written beside it, then renamed.
    pub fn rewrite(&self, bootstrap: &Value) -> Result<()> {
        write_whole(&self.dir.join("bootstrap.json"), bootstrap)
    }

    /// Waits until this revision answers.
    pub async fn serves(&self, revision: u32) -> Result<()> {
        let served = eventually(START, "the revision answers", async || {
            let now = self.front.revision().await?;
            ensure!(now == revision, "revision {now} answers");
            Ok(())
        });
        served.await.with_context(|| format!("revision {revision}:\n{}", self.process.tail(30)))
    }

    /// `POST /restart`: forces a hot restart.
    pub async fn restart(&self) -> Result<()> {
        post_ok(self.status, "/restart").await.map(drop)
    }

    /// `POST /drain`: takes it out of service.
    pub async fn withdraw(&self) -> Result<()> {
        post_ok(self.status, "/drain").await.map(drop)
    }

    /// Waits until `/lifecycle` reports this phase.
    pub async fn reaches(&self, phase: &str) -> Result<()> {
        let reached = eventually(START, "the phase is reached", async || {
            let life = self.lifecycle().await?;
            let now = life.get("phase").and_then(Value::as_str);
            ensure!(now == Some(phase), "{now:?} instead of {phase}");
            Ok(())
        });
        reached.await.with_context(|| self.process.tail(30))
    }

    /// `GET /lifecycle`
    pub async fn lifecycle(&self) -> Result<Value> {
        serde_json::from_str(&get_ok(self.status, "/lifecycle").await?).context("read /lifecycle")
    }

    /// Its Envoys, oldest first, those that are starting or draining included.
    pub fn generations(&self) -> Result<Vec<Generation>> {
        generations(self.agent()?)
    }

    /// The Envoy that was started last.
    pub fn newest(&self) -> Result<Generation> {
        self.generations()?.pop().context("the agent has no Envoy")
    }

    /// The agent's process id as we see it.
    pub fn agent(&self) -> Result<Pid> {
        match self.pid_namespace {
            PidNamespace::Shared => Ok(self.process.pid()),
            PidNamespace::Own => {
                Ok(children(self.process.pid())?.first().context("unshare has no child yet")?.pid)
            }
        }
    }

    /// Sends the agent a signal.
    pub fn signal(&self, signal: Signal) -> Result<()> {
        signal::kill(self.agent()?, signal).with_context(|| format!("send {signal} to the agent"))
    }

    /// Its status, if it has ended.
    pub fn ended(&mut self) -> Result<Option<ExitStatus>> {
        self.process.ended()
    }

    /// Waits for its end.
    pub async fn exit(&mut self) -> Result<ExitStatus> {
        self.process.exit(END).await.with_context(|| self.process.tail(30))
    }

    /// Returns the log of agent and Envoys.
    pub fn log(&self) -> String {
        self.process.log()
    }

    /// An error with the end of its log if it has ended.
    pub fn check(&mut self) -> Result<()> {
        self.process.check()
    }

    /// Returns leftovers of the run: bootstraps and sockets in its folder, shared memory, processes. One line for each.
    pub fn leftovers(&self) -> Result<Vec<String>> {
        leftovers::of(&self.dir, self.shm.as_ref())
    }

    /// Waits until there is nothing of that: the kernel ends processes in its own time.
    pub async fn nothing_left(&self) -> Result<()> {
        let gone = eventually(END, "nothing is left", async || {
            let left = self.leftovers()?;
            ensure!(left.is_empty(), "{left:?}");
            Ok(())
        });
        gone.await.with_context(|| self.process.tail(30))
    }
}

fn write_whole(path: &Path, bootstrap: &Value) -> Result<()> {
    let partial = path.with_extension("partial");
    fs::write(&partial, bootstrap.to_string()).context("write a bootstrap")?;
    fs::rename(&partial, path).context("put a bootstrap in its place")
}

/// A command that runs `program` with mounts of its own, in the process that it is started as.
fn mount_namespace(program: &Path) -> Result<Command> {
    let own = ["--mount"];
    let as_user = ["--user", "--map-root-user", "--mount"];
    let works = |arguments: &[&str]| {
        let mut probe = Command::new("unshare");
        probe.args(arguments).arg("true").stdin(Stdio::null()).stderr(Stdio::null());
        probe.status().is_ok_and(|status| status.success())
    };
    let arguments: &[&str] = if works(&own) { &own } else { &as_user };
    ensure!(
        works(arguments),
        "no mount namespace to be had: `unshare --mount` needs util-linux and root or user namespaces (in docker: --privileged)"
    );
    let mut command = Command::new("unshare");
    command.args(arguments).arg(program);
    Ok(command)
}
