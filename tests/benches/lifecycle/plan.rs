//! Command line: parts, subjects and repetitions.

use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use pilot_tests::solo::{Engine, Setup};
use serde_json::Value;

/// Usage text.
pub(crate) const USAGE: &str = "\
cargo bench -p pilot-tests --bench lifecycle -- [PART...] [OPTION...]
  PART                hot-restart crash shutdown resting exec; all of them when none is named
  --engine ENGINE     mediated native off auto, or default: no flag; may be repeated (mediated and native)
  --quick             little of everything
  --restarts N        hot restarts of each engine (50)
  --kills N           kill -9 of each engine and of the bare Envoy (20)
  --stops N           shutdowns of each engine, and as many by Istio's sequence (20)
  --starts N          starts (20)
  --minutes N         how long memory is watched (10)
  --idle SECONDS      how long CPU is watched without load (60)
$PILOT_AGENT names the agent to measure; without it, a release build is made.
$ENVOY_HOT_RESTARTER names Envoy's restarter/hot-restarter.py for comparison.";

/// Parts to measure.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Part {
    HotRestart,
    Crash,
    Shutdown,
    Resting,
    Exec,
}

/// The hot-restart mode given to the agent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum HotRestartFlag {
    /// `--hotRestartMode` with this engine.
    Engine(Engine),
    /// No flag: the agent's default.
    Default,
}

/// The measurements to make.
#[derive(Clone, Debug)]
pub(crate) struct LifecyclePlan {
    pub(crate) parts: Vec<Part>,
    pub(crate) engines: Vec<HotRestartFlag>,
    pub(crate) restarts: u32,
    pub(crate) kills: u32,
    pub(crate) stops: u32,
    pub(crate) starts: u32,
    pub(crate) rest: Duration,
    pub(crate) idle: Duration,
    pub(crate) agent: PathBuf,
    /// Path of Envoy's own restarter; `None`: not measured.
    pub(crate) restarter: Option<PathBuf>,
}

// === impl Part ===

impl Part {
    const ALL: [Self; 5] = [Self::HotRestart, Self::Crash, Self::Shutdown, Self::Resting, Self::Exec];

    /// Returns the name in the command line and the output.
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

// === impl HotRestartFlag ===

impl HotRestartFlag {
    const ALL: [Self; 5] = [
        Self::Engine(Engine::Mediated),
        Self::Engine(Engine::Native),
        Self::Engine(Engine::Off),
        Self::Engine(Engine::Auto),
        Self::Default,
    ];

    const fn name(self) -> &'static str {
        match self {
            Self::Engine(engine) => engine.name(),
            Self::Default => "default",
        }
    }

    /// Returns the name of the agent with this mode in the output.
    pub(crate) fn name_of_agent(self) -> String {
        format!("pilot-agent {}", self.name())
    }
}

// === impl LifecyclePlan ===

impl LifecyclePlan {
    /// Parses the command line, and builds the agent unless `$PILOT_AGENT` names one.
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
                // Cargo passes it to every bench.
                "--bench" => {}
                "--quick" => {
                    (plan.restarts, plan.kills, plan.stops, plan.starts) = (5, 3, 2, 5);
                    (plan.rest, plan.idle) = (Duration::from_secs(20), Duration::from_secs(5));
                }
                "--engine" => {
                    let name = value()?;
                    let flag = HotRestartFlag::ALL.into_iter().find(|flag| flag.name() == name);
                    plan.engines.push(flag.with_context(|| format!("{name} is not a hot restart engine"))?);
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
            plan.engines =
                vec![HotRestartFlag::Engine(Engine::Mediated), HotRestartFlag::Engine(Engine::Native)];
        }
        Ok(plan)
    }

    /// Returns the settings of an agent with this mode.
    pub(crate) fn setup(&self, flag: HotRestartFlag) -> Result<Setup> {
        let engine = match flag {
            HotRestartFlag::Engine(engine) => Some(engine),
            HotRestartFlag::Default => None,
        };
        Ok(Setup { engine, agent: Some(self.agent.clone()), ..Setup::new()? })
    }
}

/// Builds a release binary of the agent.
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
