//! One Envoy through a hundred interruptions, in each variant of the protocol: its stream is cut at any byte; the control plane
//! restarts or crashes; Envoy is hot-restarted, crashes, or starts again; and the mesh keeps changing.
//!
//! After each interruption, and within a time limit: Envoy has exactly the configured resources, nothing is warming, and nothing
//! was rejected. Requests to the steady services pass through Envoy whenever one runs, and none fails.

use std::cell::Cell;
use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use pilot_tests::load::{Class, Load, Traffic};
use pilot_tests::manifest::Folder;
use pilot_tests::mesh::{Discovery, END, Options, Sidecar};
use pilot_tests::net::loopback;
use pilot_tests::statistics::Durations;
use pilot_tests::two_services::TwoServices;
use pilot_tests::wait::eventually;
use tokio::time::sleep;

use super::changing_mesh::{ChangingMesh, Random};
use super::expected_state::EnvoyState;
use super::faulty_link::{CloseMode, FaultyLink};

/// Number of interruptions.
const STEPS: usize = 100;

/// Time limit until Envoy has the expected state on a busy machine.
const CONVERGENCE_TIMEOUT: Duration = Duration::from_secs(30);

/// Duration of further changes after an interruption.
const AFTERMATH: Duration = Duration::from_millis(100);

/// Number of log lines shown after a failure.
const LAST: usize = 60;

/// Variants of the protocol: the agent's `ISTIO_DELTA_XDS`, and the text in the control plane's log.
const DELTA: (&str, &str) = ("true", "codec=DELTA_GRPC");
const SOTW: (&str, &str) = ("false", "codec=GRPC");

/// An interruption of a sidecar.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Interruption {
    /// The connection to the control plane is cut.
    Cut(CloseMode),
    /// The connection is cut, and a later one breaks after so many bytes.
    CutTwice(CloseMode, u64),
    /// The control plane shuts down and is started again.
    ControlPlaneRestart,
    /// The control plane is killed and started again.
    ControlPlaneCrash,
    /// A hot restart by request.
    HotRestartRequest,
    /// A hot restart by SIGHUP.
    HotRestartSignal,
    /// Envoy is killed.
    EnvoyCrash,
    /// The whole sidecar is stopped and started again.
    SidecarRestart,
}

struct Endurance {
    sidecar: Sidecar,
    discovery: Discovery,
    link: FaultyLink,
    services: TwoServices,
    traffic: Option<Traffic>,
    options: Options,
    dir: tempfile::TempDir,
}

// === impl Interruption ===

impl Interruption {
    /// Returns the interruption of a step: most are cuts; crashes and restarts of Envoy are rare because they take long.
    fn of(step: usize, random: &mut Random) -> Self {
        let end = if step.is_multiple_of(2) { CloseMode::Fin } else { CloseMode::Reset };
        match step {
            19 | 59 => Self::EnvoyCrash,
            39 | 79 => Self::SidecarRestart,
            _ => match step % 20 {
                4 => Self::HotRestartRequest,
                9 => Self::ControlPlaneRestart,
                12 => Self::HotRestartSignal,
                16 => Self::ControlPlaneCrash,
                rest if rest.is_multiple_of(3) => Self::Cut(end),
                // From the HTTP/2 handshake to the middle of the responses.
                _ => Self::CutTwice(end, 1 << random.below(15)),
            },
        }
    }
}

// === impl Endurance ===

impl Endurance {
    async fn start(
        mesh: impl FnOnce(Folder, &TwoServices, &Path) -> Result<ChangingMesh>,
        delta: &str,
    ) -> Result<(Self, ChangingMesh)> {
        let dir = tempfile::tempdir()?;
        let services = TwoServices::start(&["a", "b"]).await?;
        let folder = Folder::create(dir.path().join("config"))?;
        folder.write("steady.yaml", &services.objects(&["a", "b"])?)?;
        let flags = ["--log_output_level", "default:info,ads:debug"];
        let discovery = Discovery::start_with(dir.path(), &folder, &flags).await?;
        let link = FaultyLink::to(&[discovery.grpc]).await?;
        let environment = vec![("ISTIO_DELTA_XDS".to_owned(), delta.to_owned())];
        let drain = Duration::from_millis(500);
        let options = Options { environment, drain, ..Options::new()? };
        let mut sidecar = Sidecar::start(dir.path(), link.address, &options)?;
        sidecar.ready().await?;
        let mesh = mesh(folder, &services, dir.path())?;
        Ok((Self { sidecar, discovery, link, services, traffic: None, options, dir }, mesh))
    }

    /// Starts load of every class on the steady services. It is light: the point is that no request fails.
    fn start_load(&mut self) {
        let load = |class, to: SocketAddr| Load {
            clients: 1,
            think: Duration::from_millis(20),
            ..Load::new(class, to, "web")
        };
        let (web, db) = (self.services.web(), self.services.db());
        self.traffic = Some(Traffic::start([
            ("kept", load(Class::KeepAlive, web)),
            ("new", load(Class::New, web)),
            ("h2", load(Class::Http2, web)),
            ("tcp", load(Class::Tcp, db)),
        ]));
    }

    /// Stops the load, in which no request may have failed. Returns the number of requests.
    async fn ensure_no_failures(&mut self) -> Result<usize> {
        let mut answers = 0;
        for (name, report) in self.traffic.take().context("no load is running")?.stop().await? {
            report.ensure_no_failures().with_context(|| format!("{name}:\n{}", self.logs()))?;
            answers += report.answers.len();
        }
        Ok(answers)
    }

    /// Performs an interruption and waits until it is over.
    async fn interrupt(&mut self, what: Interruption) -> Result<usize> {
        let mut answers = 0;
        match what {
            Interruption::Cut(end) => self.reconnects(|link| link.cut(end)).await?,
            Interruption::CutTwice(end, bytes) => {
                self.link.limit_bytes(bytes);
                self.reconnects(|link| link.cut(end)).await?;
            }
            Interruption::ControlPlaneRestart => {
                self.discovery.ensure_no_rejection().await?;
                let status = self.discovery.stop().await?;
                ensure!(status.success(), "pilot-discovery ended with {status}");
                self.discovery.restart().await?;
            }
            Interruption::ControlPlaneCrash => {
                self.discovery.ensure_no_rejection().await?;
                self.discovery.restart().await?;
            }
            Interruption::HotRestartRequest => {
                self.sidecar.ensure_no_rejection().await?;
                self.sidecar.restart().await?;
            }
            Interruption::HotRestartSignal => {
                self.sidecar.ensure_no_rejection().await?;
                let before = self.sidecar.envoy()?.pid;
                self.sidecar.signal(Signal::SIGHUP)?;
                self.another_envoy(before).await?;
            }
            Interruption::EnvoyCrash => {
                self.sidecar.ensure_no_rejection().await?;
                answers = self.ensure_no_failures().await?;
                let before = self.sidecar.envoy()?.pid;
                kill(before, Signal::SIGKILL)?;
                self.another_envoy(before).await?;
                self.sidecar.ready().await?;
                self.start_load();
            }
            Interruption::SidecarRestart => {
                self.sidecar.ensure_no_rejection().await?;
                answers = self.ensure_no_failures().await?;
                self.sidecar.signal(Signal::SIGTERM)?;
                self.sidecar.exit().await?;
                self.sidecar = Sidecar::start(self.dir.path(), self.link.address, &self.options)?;
                self.sidecar.ready().await?;
                self.start_load();
            }
        }
        Ok(answers)
    }

    async fn reconnects(&self, cut: impl FnOnce(&FaultyLink)) -> Result<()> {
        let before = self.link.connections();
        cut(&self.link);
        eventually(CONVERGENCE_TIMEOUT, "Envoy reconnects", async || {
            ensure!(self.link.connections() > before, "no new connection");
            Ok(())
        })
        .await
    }

    async fn another_envoy(&self, before: Pid) -> Result<()> {
        eventually(END, "another Envoy runs alone", async || {
            ensure!(self.sidecar.envoy()?.pid != before, "the same Envoy runs");
            Ok(())
        })
        .await
    }

    /// Waits until Envoy has the expected state and nothing is warming. It is an error if anything was rejected.
    async fn wait_for_convergence(&self, expected: &EnvoyState) -> Result<Duration> {
        let since = Instant::now();
        eventually(CONVERGENCE_TIMEOUT, "Envoy has the expected state", async || {
            let actual = EnvoyState::of(&self.sidecar).await?;
            expected.difference(&actual).map_or(Ok(()), |difference| Err(anyhow::anyhow!("{difference}")))?;
            self.sidecar.ensure_warmed().await?;
            let plane = self.sidecar.stats("control_plane.connected_state").await?;
            ensure!(plane.values().all(|connected| *connected == 1), "Envoy is not connected");
            Ok(())
        })
        .await?;
        self.sidecar.ensure_no_rejection().await?;
        self.discovery.ensure_no_rejection().await?;
        Ok(since.elapsed())
    }

    /// Returns the last log lines of sidecar and control plane.
    fn logs(&self) -> String {
        let last = |log: &str| {
            let lines: Vec<&str> = log.lines().collect();
            lines.get(lines.len().saturating_sub(LAST)..).unwrap_or_default().join("\n")
        };
        format!(
            "--- sidecar:\n{}\n--- discovery:\n{}\n",
            last(&self.sidecar.log()),
            last(&self.discovery.log())
        )
    }
}

/// Changes the mesh until `over` is set.
async fn storm(mesh: &mut ChangingMesh, over: &Cell<bool>) -> Result<()> {
    while !over.get() {
        let pause = mesh.pause();
        mesh.change()?;
        sleep(pause).await;
    }
    Ok(())
}

async fn run((delta, codec): (&str, &str)) -> Result<()> {
    let steady = |folder: Folder, services: &TwoServices, dir: &Path| {
        let both = |behind: SocketAddr| vec![behind, SocketAddr::new(loopback(3), behind.port())];
        let steady =
            [(services.web(), both(services.web_endpoint())), (services.db(), both(services.db_endpoint()))];
        ChangingMesh::new(folder, dir.join("mesh.yaml"), 7, steady)
    };
    let (mut endurance, mut mesh) = Endurance::start(steady, delta).await?;
    endurance.start_load();
    let (mut random, mut answers) = (Random::new(11), 0);
    let mut convergence: BTreeMap<&str, Durations> = BTreeMap::new();
    for step in 0..STEPS {
        let what = Interruption::of(step, &mut random);
        let over = Cell::new(false);
        let interruption = async {
            sleep(random.within(150)).await;
            let done = endurance.interrupt(what).await;
            sleep(AFTERMATH).await;
            over.set(true);
            done
        };
        let (done, stormed) = tokio::join!(interruption, storm(&mut mesh, &over));
        stormed?;
        answers += done.with_context(|| format!("step {step}, {what:?}:\n{}", endurance.logs()))?;
        let took = endurance.wait_for_convergence(&mesh.expected_state()).await;
        let took = took.with_context(|| format!("step {step}, {what:?}:\n{}", endurance.logs()))?;
        let kind = match what {
            Interruption::Cut(_) | Interruption::CutTwice(..) => "cut",
            Interruption::ControlPlaneRestart | Interruption::ControlPlaneCrash => "control plane",
            Interruption::HotRestartRequest | Interruption::HotRestartSignal => "hot restart",
            Interruption::EnvoyCrash | Interruption::SidecarRestart => "cold start",
        };
        convergence.entry(kind).or_default().push(took);
    }
    answers += endurance.ensure_no_failures().await?;
    let log = endurance.discovery.log();
    ensure!(log.contains(codec), "the log does not contain {codec}");
    let refused: Vec<&str> = log.lines().filter(|line| line.contains("rejects configuration")).collect();
    ensure!(refused.is_empty(), "{refused:?}");
    let (changes, connections) = (mesh.changes, endurance.link.connections());
    println!("{changes} changes, {connections} connections, {answers} answers, none failed");
    for (kind, took) in convergence {
        println!("convergence after {kind}: {}", took.summary());
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn delta_envoy_converges_after_a_hundred_interruptions() -> Result<()> {
    run(DELTA).await
}

#[tokio::test(flavor = "multi_thread")]
async fn sotw_envoy_converges_after_a_hundred_interruptions() -> Result<()> {
    run(SOTW).await
}
