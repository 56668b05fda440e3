//! One Envoy through a hundred interruptions, in each variant of the protocol: its stream is cut, at any byte; the control plane
//! leaves, or dies; Envoy is handed over, dies, or starts anew; and all the while the mesh changes.
//!
//! After each of them, and within a deadline: Envoy has what the configuration says, no more and no less, nothing warms, and
//! nobody ever refused anything. Requests to what does not change go through Envoy as long as there is one, and none fails.

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

use super::change::{Dice, World};
use super::expected_state::Picture;
use super::faulty_link::{End, FaultyLink};

/// How often the sidecar or its stream is interrupted.
const STEPS: usize = 100;

/// How long Envoy may take, on a busy machine, until it has what is true.
const SETTLE: Duration = Duration::from_secs(30);

/// How long the mesh goes on changing after an interruption.
const AFTERMATH: Duration = Duration::from_millis(100);

/// How many lines of a log are shown when something has failed.
const LAST: usize = 60;

/// The variants of the protocol, as the agent's `ISTIO_DELTA_XDS` and the control plane's log spell them.
const DELTA: (&str, &str) = ("true", "codec=DELTA_GRPC");
const SOTW: (&str, &str) = ("false", "codec=GRPC");

/// What happens to a sidecar.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Interruption {
    /// Its connection to the control plane is cut.
    Cut(End),
    /// The same, and one of those after it breaks after so many bytes.
    Twice(End, u64),
    /// The control plane ends as it should, and another one takes its place.
    Replaced,
    /// The control plane dies, and another one takes its place.
    Bereft,
    /// Envoy hands over to a new one, because somebody asked.
    Asked,
    /// Envoy hands over to a new one, because of a SIGHUP.
    Hangup,
    /// Envoy dies.
    Crash,
    /// The whole sidecar ends, and another one takes its place.
    Anew,
}

struct Endurance {
    sidecar: Sidecar,
    discovery: Discovery,
    link: FaultyLink,
    scene: TwoServices,
    traffic: Option<Traffic>,
    options: Options,
    dir: tempfile::TempDir,
}

// === impl Interruption ===

impl Interruption {
    /// The one of a step: most are cuts, and Envoy dies, or starts anew, once in a while only, for it starts slowly.
    fn of(step: usize, dice: &mut Dice) -> Self {
        let end = if step.is_multiple_of(2) { End::Closed } else { End::Reset };
        match step {
            19 | 59 => Self::Crash,
            39 | 79 => Self::Anew,
            _ => match step % 20 {
                4 => Self::Asked,
                9 => Self::Replaced,
                12 => Self::Hangup,
                16 => Self::Bereft,
                rest if rest.is_multiple_of(3) => Self::Cut(end),
                // From the handshake of HTTP/2 to well into the answers.
                _ => Self::Twice(end, 1 << dice.below(15)),
            },
        }
    }
}

// === impl Endurance ===

impl Endurance {
    async fn start(
        world: impl FnOnce(Folder, &TwoServices, &Path) -> Result<World>,
        delta: &str,
    ) -> Result<(Self, World)> {
        let dir = tempfile::tempdir()?;
        let scene = TwoServices::start(&["a", "b"]).await?;
        let folder = Folder::create(dir.path().join("config"))?;
        folder.write("steady.yaml", &scene.objects(&["a", "b"])?)?;
        let flags = ["--log_output_level", "default:info,ads:debug"];
        let discovery = Discovery::start_with(dir.path(), &folder, &flags).await?;
        let link = FaultyLink::to(&[discovery.grpc]).await?;
        let environment = vec![("ISTIO_DELTA_XDS".to_owned(), delta.to_owned())];
        let drain = Duration::from_millis(500);
        let options = Options { environment, drain, ..Options::new()? };
        let mut sidecar = Sidecar::start(dir.path(), link.address, &options)?;
        sidecar.ready().await?;
        let world = world(folder, &scene, dir.path())?;
        Ok((Self { sidecar, discovery, link, scene, traffic: None, options, dir }, world))
    }

    /// Requests of every kind to what does not change; few, for what is tested is that none fails.
    fn ask(&mut self) {
        let load = |class, to: SocketAddr| Load {
            clients: 1,
            think: Duration::from_millis(20),
            ..Load::new(class, to, "web")
        };
        let (web, db) = (self.scene.web(), self.scene.db());
        self.traffic = Some(Traffic::start([
            ("kept", load(Class::KeepAlive, web)),
            ("new", load(Class::New, web)),
            ("h2", load(Class::Http2, web)),
            ("tcp", load(Class::Tcp, db)),
        ]));
    }

    /// Ends the requests, none of which may have failed; returns how many there were.
    async fn ensure_no_failures(&mut self) -> Result<usize> {
        let mut answers = 0;
        for (name, report) in self.traffic.take().context("nothing was asked")?.stop().await? {
            report.ensure_no_failures().with_context(|| format!("{name}:\n{}", self.logs()))?;
            answers += report.answers.len();
        }
        Ok(answers)
    }

    /// Lets something happen, and waits until it has.
    async fn interrupt(&mut self, what: Interruption) -> Result<usize> {
        let mut answers = 0;
        match what {
            Interruption::Cut(end) => self.reconnects(|link| link.cut(end)).await?,
            Interruption::Twice(end, bytes) => {
                self.link.weaken(bytes);
                self.reconnects(|link| link.cut(end)).await?;
            }
            Interruption::Replaced => {
                self.discovery.ensure_no_rejection().await?;
                let status = self.discovery.stop().await?;
                ensure!(status.success(), "pilot-discovery ended with {status}");
                self.discovery.restart().await?;
            }
            Interruption::Bereft => {
                self.discovery.ensure_no_rejection().await?;
                self.discovery.restart().await?;
            }
            Interruption::Asked => {
                self.sidecar.ensure_no_rejection().await?;
                self.sidecar.restart().await?;
            }
            Interruption::Hangup => {
                self.sidecar.ensure_no_rejection().await?;
                let before = self.sidecar.envoy()?.pid;
                self.sidecar.signal(Signal::SIGHUP)?;
                self.another_envoy(before).await?;
            }
            Interruption::Crash => {
                self.sidecar.ensure_no_rejection().await?;
                answers = self.ensure_no_failures().await?;
                let before = self.sidecar.envoy()?.pid;
                kill(before, Signal::SIGKILL)?;
                self.another_envoy(before).await?;
                self.sidecar.ready().await?;
                self.ask();
            }
            Interruption::Anew => {
                self.sidecar.ensure_no_rejection().await?;
                answers = self.ensure_no_failures().await?;
                self.sidecar.signal(Signal::SIGTERM)?;
                self.sidecar.exit().await?;
                self.sidecar = Sidecar::start(self.dir.path(), self.link.address, &self.options)?;
                self.sidecar.ready().await?;
                self.ask();
            }
        }
        Ok(answers)
    }

    async fn reconnects(&self, cut: impl FnOnce(&FaultyLink)) -> Result<()> {
        let before = self.link.connections();
        cut(&self.link);
        eventually(SETTLE, "Envoy connects again", async || {
            ensure!(self.link.connections() > before, "it has not");
            Ok(())
        })
        .await
    }

    async fn another_envoy(&self, before: Pid) -> Result<()> {
        eventually(END, "another Envoy runs alone", async || {
            ensure!(self.sidecar.envoy()?.pid != before, "it is the same one");
            Ok(())
        })
        .await
    }

    /// Waits until Envoy has what is true and nothing warms; nobody may ever have refused anything.
    async fn settles(&self, truth: &Picture) -> Result<Duration> {
        let since = Instant::now();
        eventually(SETTLE, "Envoy has what is true", async || {
            let seen = Picture::of(&self.sidecar).await?;
            truth.differs(&seen).map_or(Ok(()), |difference| Err(anyhow::anyhow!("{difference}")))?;
            self.sidecar.ensure_warmed().await?;
            let plane = self.sidecar.stats("control_plane.connected_state").await?;
            ensure!(plane.values().all(|connected| *connected == 1), "it is not connected");
            Ok(())
        })
        .await?;
        self.sidecar.ensure_no_rejection().await?;
        self.discovery.ensure_no_rejection().await?;
        Ok(since.elapsed())
    }

    /// The end of what both sides logged.
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

/// Changes the mesh until `over` says so.
async fn storm(world: &mut World, over: &Cell<bool>) -> Result<()> {
    while !over.get() {
        let pause = world.pause();
        world.change()?;
        sleep(pause).await;
    }
    Ok(())
}

async fn endures((delta, codec): (&str, &str)) -> Result<()> {
    let steady = |folder: Folder, scene: &TwoServices, dir: &Path| {
        let both = |behind: SocketAddr| vec![behind, SocketAddr::new(loopback(3), behind.port())];
        let steady = [(scene.web(), both(scene.web_endpoint())), (scene.db(), both(scene.db_endpoint()))];
        World::new(folder, dir.join("mesh.yaml"), 7, steady)
    };
    let (mut endurance, mut world) = Endurance::start(steady, delta).await?;
    endurance.ask();
    let (mut dice, mut answers) = (Dice::new(11), 0);
    let mut settled: BTreeMap<&str, Durations> = BTreeMap::new();
    for step in 0..STEPS {
        let what = Interruption::of(step, &mut dice);
        let over = Cell::new(false);
        let interruption = async {
            sleep(dice.within(150)).await;
            let done = endurance.interrupt(what).await;
            sleep(AFTERMATH).await;
            over.set(true);
            done
        };
        let (done, stormed) = tokio::join!(interruption, storm(&mut world, &over));
        stormed?;
        answers += done.with_context(|| format!("step {step}, {what:?}:\n{}", endurance.logs()))?;
        let took = endurance.settles(&world.picture()).await;
        let took = took.with_context(|| format!("step {step}, {what:?}:\n{}", endurance.logs()))?;
        let kind = match what {
            Interruption::Cut(_) | Interruption::Twice(..) => "cut",
            Interruption::Replaced | Interruption::Bereft => "control plane",
            Interruption::Asked | Interruption::Hangup => "hot restart",
            Interruption::Crash | Interruption::Anew => "cold start",
        };
        settled.entry(kind).or_default().push(took);
    }
    answers += endurance.ensure_no_failures().await?;
    let log = endurance.discovery.log();
    ensure!(log.contains(codec), "it was not the variant of the protocol that was asked for");
    let refused: Vec<&str> = log.lines().filter(|line| line.contains("rejects configuration")).collect();
    ensure!(refused.is_empty(), "{refused:?}");
    let (changes, connections) = (world.changes, endurance.link.connections());
    println!("{changes} changes, {connections} connections, {answers} answers, none failed");
    for (kind, took) in settled {
        println!("settled after {kind}: {}", took.summary());
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_delta_envoy_endures_a_hundred_interruptions_of_a_changing_mesh() -> Result<()> {
    endures(DELTA).await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_sotw_envoy_endures_a_hundred_interruptions_of_a_changing_mesh() -> Result<()> {
    endures(SOTW).await
}
