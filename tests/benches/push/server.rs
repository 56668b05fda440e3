//! The server under measurement: pilot-discovery on a generated mesh, or the floor.

use std::collections::BTreeMap;
use std::io::{BufRead, BufReader, Write};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};
use std::time::Duration;

use anyhow::{Context, Result, bail};
use nix::unistd::Pid;
use pilot_tests::fleet::{
    Codec, DiscoveryOptions, DiscoveryProcess, GeneratedMesh, Kind, Totals, UsageMeter, Visibility, now,
};
use pilot_tests::load::Identity;
use pilot_tests::net::{free_port, local};
use pilot_tests::wait::eventually;
use serde_json::Value;

use crate::floor::{ARGUMENT, Block, Listen, Recipients};
use crate::plan::{FleetShape, PushPlan, Security};

/// Time limit for a program to listen.
const START: Duration = Duration::from_secs(20);

/// A change of the configuration.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Change {
    Endpoint,
    Route,
    Everything,
}

/// Number of resources and bytes of each type that one client received.
pub(crate) type Sizes = BTreeMap<Kind, (u64, u64)>;

/// A server under measurement.
pub(crate) enum Server {
    Discovery { pilot: DiscoveryProcess, mesh: GeneratedMesh, next: u32, ca: Option<PathBuf> },
    Floor(Floor),
}

/// A running floor. Dropping it kills it.
pub(crate) struct Floor {
    child: Child,
    orders: ChildStdin,
    answers: BufReader<ChildStdout>,
    at: SocketAddr,
    codec: Codec,
    began: u64,
    ca: Option<PathBuf>,
    /// Sizes that one client receives by each change.
    sizes: [Sizes; 3],
}

// === impl Change ===

impl Change {
    const fn place(self) -> usize {
        match self {
            Self::Endpoint => 0,
            Self::Route => 1,
            Self::Everything => 2,
        }
    }
}

/// Returns the average sizes that one client received.
pub(crate) fn sizes(totals: &Totals, streams: u32) -> Sizes {
    let each = u64::from(streams.max(1));
    let size = |(kind, bytes): (&Kind, &u64)| {
        let resources = totals.resources.get(kind).copied().unwrap_or_default();
        (*kind, (resources / each, bytes / each))
    };
    totals.bytes.iter().map(size).collect()
}

// === impl Server ===

impl Server {
    /// Starts pilot-discovery on a mesh of its own.
    pub(crate) async fn pilot(
        dir: &Path,
        plan: &PushPlan,
        shape: &FleetShape,
        debounce: Duration,
    ) -> Result<Self> {
        let visibility = match shape.scopes {
            0 | 1 => Visibility::All,
            scopes => Visibility::Namespaces(scopes),
        };
        let mesh = GeneratedMesh::write(dir, plan.services, visibility)?;
        let identity = identity(shape.security)?;
        let ca = identity.is_some().then(|| dir.join("cert.pem"));
        let debounce_max = Duration::from_secs(1);
        let tuning = DiscoveryOptions { program: plan.program.clone(), debounce, debounce_max, identity };
        let pilot = DiscoveryProcess::start(dir, &mesh, &tuning).await?;
        Ok(Self::Discovery { pilot, mesh, next: 0, ca })
    }

    /// Starts a floor that sends as much as pilot-discovery did: for each subscription, and by each change.
    pub(crate) async fn floor(
        dir: &Path,
        shape: &FleetShape,
        subscribed: &Sizes,
        sizes: [Sizes; 3],
    ) -> Result<Self> {
        let at = local(free_port()?);
        let identity = identity(shape.security)?;
        let ca = match &identity {
            None => None,
            Some(identity) => {
                let path = dir.join("floor.pem");
                std::fs::write(&path, &identity.certificate_pem).context("write a certificate")?;
                Some(path)
            }
        };
        let identity = identity.map(|identity| (identity.certificate_pem, identity.key_pem));
        let listen = serde_json::to_string(&Listen { at, identity }).context("encode the listen address")?;
        let mut command = Command::new(std::env::current_exe().context("find the path of this program")?);
        command.args([ARGUMENT, &listen]).stdin(Stdio::piped()).stdout(Stdio::piped());
        let mut child = command.spawn().context("start the floor")?;
        let (Some(orders), Some(answers)) = (child.stdin.take(), child.stdout.take()) else {
            bail!("the floor has no pipes")
        };
        let answers = BufReader::new(answers);
        let mut floor = Floor { child, orders, answers, at, codec: shape.codec, began: 0, ca, sizes };
        // All of its clusters have endpoints, so there are as many clusters as assignments.
        let resources = subscribed.get(&Kind::Eds).map_or(0, |(resources, _)| *resources);
        for kind in [Kind::Cds, Kind::Eds] {
            let bytes = subscribed.get(&kind).map_or(0, |(_, bytes)| *bytes);
            floor.broadcast(kind, (resources, bytes), Recipients::Subscribing)?;
        }
        eventually(START, "the floor listens", async || {
            tokio::net::TcpStream::connect(at).await.map(drop).context("connect to the floor")
        })
        .await?;
        Ok(Self::Floor(floor))
    }

    /// Returns the name in the output.
    pub(crate) const fn name(&self) -> &'static str {
        match self {
            Self::Discovery { .. } => "pilot-discovery",
            Self::Floor(_) => "floor",
        }
    }

    /// Returns the address for clients.
    pub(crate) const fn address(&self) -> SocketAddr {
        match self {
            Self::Discovery { pilot, ca: Some(_), .. } => pilot.secure,
            Self::Discovery { pilot, .. } => pilot.grpc,
            Self::Floor(floor) => floor.at,
        }
    }

    /// Returns the CA file that clients trust.
    pub(crate) const fn ca(&self) -> Option<&PathBuf> {
        match self {
            Self::Discovery { ca, .. } | Self::Floor(Floor { ca, .. }) => ca.as_ref(),
        }
    }

    /// Returns a meter of the server's process.
    pub(crate) fn meter(&self) -> UsageMeter {
        UsageMeter::new(match self {
            Self::Discovery { pilot, .. } => pilot.pid(),
            Self::Floor(floor) => Pid::from_raw(floor.child.id().cast_signed()),
        })
    }

    /// Applies a change, to another object each time. Returns the time of the write in microseconds since 1970.
    pub(crate) fn change(&mut self, change: Change) -> Result<u64> {
        match self {
            Self::Discovery { mesh, next, .. } => {
                let index =
                    *next % mesh.visible_services().saturating_sub(mesh.visible_services() / 50).max(1);
                *next += 1;
                match change {
                    Change::Endpoint => mesh.change_endpoint(index)?,
                    Change::Route => mesh.change_route(index)?,
                    Change::Everything => mesh.change_everything()?,
                }
                Ok(now())
            }
            Self::Floor(floor) => {
                let sizes = floor.sizes.get(change.place()).cloned().unwrap_or_default();
                let mut began = u64::MAX;
                for (kind, size) in sizes.into_iter().filter(|(_, (resources, _))| *resources > 0) {
                    // Clients of the floor do not parse routes, so a route is sent as an endpoint assignment of the same size.
                    let kind = if kind == Kind::Cds { kind } else { Kind::Eds };
                    began = began.min(floor.broadcast(kind, size, Recipients::Connected)?);
                }
                floor.began = began;
                Ok(began)
            }
        }
    }

    /// Returns the start of the first push after a change, by the server's own clock.
    pub(crate) fn began(&self, written: u64) -> Option<u64> {
        match self {
            // The server may read the file before the time of the write was taken.
            Self::Discovery { pilot, .. } => {
                pilot.pushes(written.saturating_sub(20_000)).last().map(|push| push.at)
            }
            Self::Floor(floor) => Some(floor.began),
        }
    }

    /// Returns the number of pushes since this time.
    pub(crate) fn pushes(&self, since: u64) -> usize {
        match self {
            Self::Discovery { pilot, .. } => pilot.pushes(since).len(),
            Self::Floor(_) => 1,
        }
    }
}

fn identity(security: Security) -> Result<Option<Identity>> {
    match security {
        Security::Plaintext => Ok(None),
        Security::Tls => Identity::new(&["127.0.0.1", "localhost"]).map(Some),
    }
}

// === impl Floor ===

impl Floor {
    fn broadcast(
        &mut self,
        kind: Kind,
        (resources, bytes): (u64, u64),
        recipients: Recipients,
    ) -> Result<u64> {
        let block = Block { kind, resources, bytes, codec: self.codec, recipients };
        let line = serde_json::to_string(&block).context("write a block")?;
        writeln!(self.orders, "{line}")
            .and_then(|()| self.orders.flush())
            .context("send a block to the floor")?;
        let mut answer = String::new();
        if self.answers.read_line(&mut answer).context("read the floor's answer")? == 0 {
            bail!("the floor has ended");
        }
        let answer: Value = serde_json::from_str(&answer).context("parse the floor's answer")?;
        answer.get("at").and_then(Value::as_u64).context("an answer of the floor without a time")
    }
}

impl Drop for Floor {
    fn drop(&mut self) {
        // An error means that the process has ended and was waited for.
        drop(self.child.kill());
        drop(self.child.wait());
    }
}
