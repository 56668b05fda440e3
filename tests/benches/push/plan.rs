//! Command line: cases and sizes.

use std::fmt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use pilot_tests::fleet::Codec;
use serde_json::Value;

/// Usage text.
pub(crate) const USAGE: &str = "\
cargo bench -p pilot-tests --bench push -- [CASE...] [OPTION...]
  CASE               storm full endpoint route churn reconnect return stopped; with none, the default table
  --streams N,..     clients (1000)
  --scopes N,..      namespaces that see different services: 1 or 50 (1)
  --codec C,..       delta sotw (delta)
  --tls on,off       (off)
  --services N       services that each client sees (1000)
  --repeat N         pushes of each kind (3)
  --seconds N        how long churn lasts (10)
  --max-frame BYTES  SETTINGS_MAX_FRAME_SIZE of the clients (16384, as Envoy)
  --no-floor         pilot-discovery alone
$PILOT_DISCOVERY names the server to measure; without it, a release build is made.";

/// Time limit for one step; afterwards the result is reported as it is.
pub(crate) const STEP_TIMEOUT: Duration = Duration::from_secs(90);

/// Cases to measure.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum PushCase {
    Storm,
    Full,
    Endpoint,
    Route,
    Churn,
    Reconnect,
    Return,
    Stopped,
}

/// Plaintext or TLS.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Security {
    Plaintext,
    Tls,
}

/// Measurement of the floor for comparison.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Comparison {
    Floor,
    Nothing,
}

/// Size of a fleet, and the cases to measure with it.
#[derive(Clone, Debug)]
pub(crate) struct FleetShape {
    pub(crate) streams: u32,
    pub(crate) scopes: u32,
    pub(crate) codec: Codec,
    pub(crate) security: Security,
    pub(crate) cases: Vec<PushCase>,
}

/// The measurements to make.
#[derive(Clone, Debug)]
pub(crate) struct PushPlan {
    pub(crate) shapes: Vec<FleetShape>,
    pub(crate) services: u32,
    pub(crate) repeat: u32,
    pub(crate) churn: Duration,
    pub(crate) max_frame: u32,
    pub(crate) comparison: Comparison,
    pub(crate) program: PathBuf,
}

// === impl PushCase ===

impl PushCase {
    pub(crate) const ALL: [Self; 8] = [
        Self::Storm,
        Self::Full,
        Self::Endpoint,
        Self::Route,
        Self::Churn,
        Self::Reconnect,
        Self::Return,
        Self::Stopped,
    ];

    /// Returns the name in the command line and the output.
    pub(crate) const fn name(self) -> &'static str {
        match self {
            Self::Storm => "storm",
            Self::Full => "full",
            Self::Endpoint => "endpoint",
            Self::Route => "route",
            Self::Churn => "churn",
            Self::Reconnect => "reconnect",
            Self::Return => "return",
            Self::Stopped => "stopped",
        }
    }
}

// === impl FleetShape ===

impl fmt::Display for FleetShape {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { streams, scopes, codec, security, .. } = self;
        let security = match security {
            Security::Plaintext => "plaintext",
            Security::Tls => "TLS",
        };
        write!(f, "{streams} streams, scopes {scopes}, {}, {security}", codec.name())
    }
}

// === impl PushPlan ===

impl PushPlan {
    /// Parses the command line, and builds the server unless `$PILOT_DISCOVERY` names one.
    pub(crate) fn read(arguments: impl Iterator<Item = String>) -> Result<Self> {
        let mut plan = Self::parse(arguments)?;
        plan.program = match std::env::var_os("PILOT_DISCOVERY") {
            Some(named) => named.into(),
            None => build()?,
        };
        if plan.shapes.iter().any(|shape| shape.security == Security::Tls) && !serves_tls(&plan.program)? {
            eprintln!("{} has no --secureGRPCAddr: TLS is not measured", plan.program.display());
            plan.shapes.retain(|shape| shape.security == Security::Plaintext);
        }
        Ok(plan)
    }

    fn parse(mut arguments: impl Iterator<Item = String>) -> Result<Self> {
        let mut plan = Self {
            shapes: Vec::new(),
            services: 1000,
            repeat: 3,
            churn: Duration::from_secs(10),
            max_frame: 16_384,
            comparison: Comparison::Floor,
            program: PathBuf::new(),
        };
        let mut cases = Vec::new();
        let (mut streams, mut scopes) = (Vec::new(), Vec::new());
        let (mut codecs, mut securities) = (Vec::new(), Vec::new());
        while let Some(argument) = arguments.next() {
            let mut value = || arguments.next().with_context(|| format!("{argument} needs a value"));
            match argument.as_str() {
                // Cargo passes it to every bench.
                "--bench" => {}
                "--streams" => streams = list(&value()?, |text| text.parse().ok())?,
                "--scopes" => scopes = list(&value()?, |text| text.parse().ok())?,
                "--codec" => codecs = list(&value()?, codec)?,
                "--tls" => securities = list(&value()?, security)?,
                "--services" => plan.services = value()?.parse().context("--services")?,
                "--repeat" => plan.repeat = value()?.parse().context("--repeat")?,
                "--seconds" => plan.churn = Duration::from_secs(value()?.parse().context("--seconds")?),
                "--max-frame" => plan.max_frame = value()?.parse().context("--max-frame")?,
                "--no-floor" => plan.comparison = Comparison::Nothing,
                name => match PushCase::ALL.into_iter().find(|case| case.name() == name) {
                    Some(case) => cases.push(case),
                    None => bail!("{name} is neither a case nor an option"),
                },
            }
        }
        ensure!(plan.repeat > 0 && plan.services > 0, "--repeat and --services must be at least 1");
        let given = [streams.len(), scopes.len(), codecs.len(), securities.len(), cases.len()];
        if given.iter().all(|given| *given == 0) {
            plan.shapes = usual();
            return Ok(plan);
        }
        let or = |list: Vec<u32>, usual| if list.is_empty() { vec![usual] } else { list };
        let (streams, scopes) = (or(streams, 1000), or(scopes, 1));
        let codecs = if codecs.is_empty() { vec![Codec::Delta] } else { codecs };
        let securities = if securities.is_empty() { vec![Security::Plaintext] } else { securities };
        let cases = if cases.is_empty() { PushCase::ALL.to_vec() } else { cases };
        for (streams, scopes) in streams.iter().flat_map(|one| scopes.iter().map(move |two| (*one, *two))) {
            for (codec, security) in
                codecs.iter().flat_map(|one| securities.iter().map(move |two| (*one, *two)))
            {
                plan.shapes.push(FleetShape { streams, scopes, codec, security, cases: cases.clone() });
            }
        }
        Ok(plan)
    }
}

fn serves_tls(program: &Path) -> Result<bool> {
    let mut help = Command::new(program);
    let help =
        help.args(["discovery", "--help"]).stdin(Stdio::null()).output().context("run discovery --help")?;
    Ok(String::from_utf8_lossy(&help.stdout).contains("--secureGRPCAddr"))
}

/// Returns the default table, which takes less than ten minutes.
fn usual() -> Vec<FleetShape> {
    use PushCase::{Endpoint, Full, Storm};
    let shape = |streams, scopes, codec, security, cases: &[PushCase]| FleetShape {
        streams,
        scopes,
        codec,
        security,
        cases: cases.to_vec(),
    };
    let few = [Storm, Full, Endpoint];
    vec![
        shape(1000, 1, Codec::Delta, Security::Plaintext, &PushCase::ALL),
        shape(1000, 1, Codec::Sotw, Security::Plaintext, &few),
        shape(1000, 50, Codec::Delta, Security::Plaintext, &few),
        shape(1000, 1, Codec::Delta, Security::Tls, &few),
        shape(100, 1, Codec::Delta, Security::Plaintext, &few),
        shape(5000, 1, Codec::Delta, Security::Plaintext, &few),
    ]
}

fn list<T>(text: &str, read: impl Fn(&str) -> Option<T>) -> Result<Vec<T>> {
    text.split(',').map(|one| read(one).with_context(|| format!("invalid value {one}"))).collect()
}

fn codec(text: &str) -> Option<Codec> {
    [Codec::Sotw, Codec::Delta].into_iter().find(|codec| codec.name() == text)
}

fn security(text: &str) -> Option<Security> {
    match text {
        "on" => Some(Security::Tls),
        "off" => Some(Security::Plaintext),
        _ => None,
    }
}

/// Builds a release binary of the server.
fn build() -> Result<PathBuf> {
    eprintln!("building pilot-discovery");
    let cargo = std::env::var_os("CARGO").unwrap_or_else(|| env!("CARGO").into());
    let mut command = Command::new(cargo);
    command.args(["build", "--quiet", "--release", "--locked", "--package=pilot-discovery"]);
    command.args(["--message-format=json-render-diagnostics", "--manifest-path"]);
    command.arg(concat!(env!("CARGO_MANIFEST_DIR"), "/../Cargo.toml"));
    let built = command.stdin(Stdio::null()).stderr(Stdio::inherit()).output().context("run cargo build")?;
    ensure!(built.status.success(), "cargo build of pilot-discovery failed: {}", built.status);
    let mut messages = built.stdout.split(|byte| *byte == b'\n').filter_map(|line| {
        let message: Value = serde_json::from_slice(line).ok()?;
        message.get("executable")?.as_str().map(PathBuf::from)
    });
    messages.next().context("cargo built no pilot-discovery")
}
