//! What is measured, of whom, and how often: the command line.

use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use pilot_tests::solo::{Engine, Setup};
use serde_json::Value;

/// What `--help` would say.
pub(crate) const USAGE: &str = "\
cargo bench -p pilot-tests --bench lifecycle -- [PART...] [OPTION...]
  PART                hot-restart crash shutdown resting exec; all of them when none is named
  --engine ENGINE     mediated native off auto, or default: the agent is not told; may be repeated (mediated and native)
  --quick             little of everything
  --restarts N        hot restarts of each engine (50)
  --kills N           kill -9 of each engine and of the bare Envoy (20)
  --stops N           shutdowns of each engine, and as many by Istio's sequence (20)
  --starts N          starts (20)
  --minutes N         how long memory is watched (10)
  --idle SECONDS      how long CPU is watched without load (60)
$PILOT_AGENT names the agent to measure; without it, a release build is made.
$ENVOY_HOT_RESTARTER names Envoy's restarter/hot-restarter.py, to be measured beside it.";

/// What can be asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Part {
    HotRestart,
    Crash,
    Shutdown,
    Resting,
    Exec,
}

/// How the agent is told to replace Envoys.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Told {
    /// By this engine.
    Engine(Engine),
    /// Nothing.
    Nothing,
}

/// What is asked for.
#[derive(Clone, Debug)]
pub(crate) struct Plan {
    pub(crate) parts: Vec<Part>,
    pub(crate) engines: Vec<Told>,
    pub(crate) restarts: u32,
    pub(crate) kills: u32,
    pub(crate) stops: u32,
    pub(crate) starts: u32,
    pub(crate) rest: Duration,
    pub(crate) idle: Duration,
    pub(crate) agent: PathBuf,
    /// Envoy's own restarter; `None`: it is not measured.
    pub(crate) restarter: Option<PathBuf>,
}

// === impl Part ===

impl Part {
    const ALL: [Self; 5] = [Self::HotRestart, Self::Crash, Self::Shutdown, Self::Resting, Self::Exec];

    /// As the command line and the output spell it.
    pub(crate) const fn name(self) -> &'static str {
        match self {
            Self::HotRestart => "hot-restart",
            Self::Crash => "crash",
            Self::Shutdown => "shutdown",
            Self::Resting => "resting",
            Self::Exec => "exec",
        }
    }
}

// === impl Told ===

impl Told {
    const ALL: [Self; 5] = [
        Self::Engine(Engine::Mediated),
        Self::Engine(Engine::Native),
        Self::Engine(Engine::Off),
        Self::Engine(Engine::Auto),
        Self::Nothing,
    ];

    const fn name(self) -> &'static str {
        match self {
            Self::Engine(engine) => engine.name(),
            Self::Nothing => "default",
        }
    }

    /// As the output names an agent that is told this.
    pub(crate) fn who(self) -> String {
        format!("pilot-agent {}", self.name())
    }
}

// === impl Plan ===

impl Plan {
    /// Reads the command line, and makes the agent if none is named.
    pub(crate) fn read(arguments: impl Iterator<Item = String>) -> Result<Self> {
        let mut plan = Self::parse(arguments)?;
        plan.restarter = std::env::var_os("ENVOY_HOT_RESTARTER").map(PathBuf::from);
        plan.agent = match std::env::var_os("PILOT_AGENT") {
            Some(named) => named.into(),
            None => build()?,
        };
        Ok(plan)
    }

    fn parse(mut arguments: impl Iterator<Item = String>) -> Result<Self> {
        let mut plan = Self {
            parts: Vec::new(),
            engines: Vec::new(),
            restarts: 50,
            kills: 20,
            stops: 20,
            starts: 20,
            rest: Duration::from_mins(10),
            idle: Duration::from_mins(1),
            agent: PathBuf::new(),
            restarter: None,
        };
        while let Some(argument) = arguments.next() {
            let mut value = || arguments.next().with_context(|| format!("{argument} needs a value"));
            match argument.as_str() {
                // Cargo says so to every bench.
                "--bench" => {}
                "--quick" => {
                    (plan.restarts, plan.kills, plan.stops, plan.starts) = (5, 3, 2, 5);
                    (plan.rest, plan.idle) = (Duration::from_secs(20), Duration::from_secs(5));
                }
                "--engine" => {
                    let name = value()?;
                    let told = Told::ALL.into_iter().find(|told| told.name() == name);
                    plan.engines.push(told.with_context(|| format!("{name} is no engine"))?);
                }
                "--restarts" => plan.restarts = value()?.parse().context("--restarts")?,
                "--kills" => plan.kills = value()?.parse().context("--kills")?,
                "--stops" => plan.stops = value()?.parse().context("--stops")?,
                "--starts" => plan.starts = value()?.parse().context("--starts")?,
                "--minutes" => plan.rest = Duration::from_mins(value()?.parse().context("--minutes")?),
                "--idle" => plan.idle = Duration::from_secs(value()?.parse().context("--idle")?),
                name => match Part::ALL.into_iter().find(|part| part.name() == name) {
                    Some(part) => plan.parts.push(part),
                    None => bail!("{name} is neither a part nor an option"),
                },
            }
        }
        if plan.parts.is_empty() {
            plan.parts = Part::ALL.to_vec();
        }
        if plan.engines.is_empty() {
            plan.engines = vec![Told::Engine(Engine::Mediated), Told::Engine(Engine::Native)];
        }
        Ok(plan)
    }

    /// The agent to measure, told this.
    pub(crate) fn setup(&self, told: Told) -> Result<Setup> {
        let engine = match told {
            Told::Engine(engine) => Some(engine),
            Told::Nothing => None,
        };
        Ok(Setup { engine, agent: Some(self.agent.clone()), ..Setup::new()? })
    }
}

/// The agent alone, as it is shipped.
fn build() -> Result<PathBuf> {
    eprintln!("building the agent");
    let cargo = std::env::var_os("CARGO").unwrap_or_else(|| env!("CARGO").into());
    let mut command = Command::new(cargo);
    command.args(["build", "--quiet", "--release", "--locked", "--package=pilot-agent", "--bin=pilot-agent"]);
    command.args(["--message-format=json-render-diagnostics", "--manifest-path"]);
    command.arg(concat!(env!("CARGO_MANIFEST_DIR"), "/../Cargo.toml"));
    let built = command.stdin(Stdio::null()).stderr(Stdio::inherit()).output().context("run cargo build")?;
    ensure!(built.status.success(), "cargo build of the agent failed: {}", built.status);
    let mut messages = built.stdout.split(|byte| *byte == b'\n').filter_map(|line| {
        let message: Value = serde_json::from_slice(line).ok()?;
        message.get("executable")?.as_str().map(PathBuf::from)
    });
    messages.next().context("cargo built no pilot-agent")
}
