//! Ten thousand services and ten thousand connections that come and go leave nothing behind: memory, threads and descriptors of
//! the control plane are what they were.

use std::collections::BTreeSet;
use std::fs;
use std::net::SocketAddr;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use nix::unistd::Pid;
use pilot_proto::ResourceType::{Cluster, Endpoint};
use pilot_tests::ads::{Delta, Sotw, sidecar};
use pilot_tests::manifest::{Folder, Port, endpoint_slice, service};
use pilot_tests::mesh::Discovery;
use pilot_tests::net::{get_ok, loopback};
use pilot_tests::wait::eventually;
use tokio::task::JoinSet;

use super::client::{Client, Variant};

/// How often services and connections come and go.
const ROUNDS: usize = 50;

/// How many of either in a round.
const EACH: usize = 200;

/// Services of a file.
const TOGETHER: usize = 50;

/// Connections at the same time.
const ABREAST: usize = 10;

/// How many rounds are compared with as many at the end; those before them fill what is kept on purpose.
const WINDOW: usize = 10;

/// How much more may be resident after the rounds between both windows: the greater of a tenth and so many KiB.
const MORE: u64 = 5 * 1024;

/// How long a round may take on a busy machine.
const ROUND: Duration = Duration::from_secs(30);

/// What a process has, by `/proc`.
#[derive(Clone, Copy, Debug)]
struct Vitals {
    /// Resident memory, KiB.
    resident: u64,
    threads: u64,
    descriptors: usize,
}

// === impl Vitals ===

impl Vitals {
    fn of(pid: Pid) -> Result<Self> {
        let status = fs::read_to_string(format!("/proc/{pid}/status"))?;
        let field = |name: &str| -> Result<u64> {
            let line = status.lines().find_map(|line| line.strip_prefix(name)).context("a field of /proc")?;
            let number = line.split_whitespace().next().context("a number of /proc")?;
            Ok(number.parse()?)
        };
        Ok(Self {
            resident: field("VmRSS:")?,
            threads: field("Threads:")?,
            descriptors: fs::read_dir(format!("/proc/{pid}/fd"))?.count(),
        })
    }
}

/// The middle one.
fn median<T: Copy + Ord>(of: impl Iterator<Item = T>) -> Result<T> {
    let mut all: Vec<T> = of.collect();
    all.sort_unstable();
    all.get(all.len() / 2).copied().context("a median of nothing")
}

/// A service is a new one in each round: nobody can have kept its place.
fn name(round: usize, number: usize) -> String {
    format!("r{round}-s{number}")
}

fn come(folder: &Folder, round: usize) -> Result<()> {
    for file in 0..EACH / TOGETHER {
        let mut objects = Vec::new();
        for number in (0..TOGETHER).map(|one| file * TOGETHER + one) {
            let (name, port) = (name(round, number), [Port::new("http", 80, 8080)]);
            let addresses =
                [loopback(u8::try_from(2 + number % 250)?), loopback(u8::try_from(2 + round % 250)?)];
            objects.push(service(&name, "10.0.0.1", &port));
            objects.push(endpoint_slice(&name, &port, &addresses));
        }
        folder.write(&format!("churn-{file}.yaml"), &objects)?;
    }
    Ok(())
}

fn go(folder: &Folder) -> Result<()> {
    (0..EACH / TOGETHER).try_for_each(|file| folder.remove(&format!("churn-{file}.yaml")))
}

/// Connects, asks for clusters and for some endpoints, is answered, and leaves as it likes.
async fn visit(to: SocketAddr, number: usize) -> Result<()> {
    let pod = format!("visitor-{number}");
    if number.is_multiple_of(2) {
        let mut stream = Delta::open(to, sidecar(&pod)).await?;
        stream.subscribe(Cluster, &["*"], &[]).await?;
        let clusters = stream.next().await?;
        stream.ack(&clusters).await?;
        let names = clusters.resources.iter().map(|cluster| cluster.name.as_str());
        let names: Vec<&str> = names.filter(|name| name.starts_with("outbound|")).take(10).collect();
        stream.subscribe(Endpoint, &names, &[]).await?;
        stream.next().await?;
    } else {
        let mut stream = Sotw::open(to, sidecar(&pod)).await?;
        stream.subscribe(Cluster, &[]).await?;
        // Left unanswered.
        stream.next().await?;
    }
    Ok(())
}

async fn visits(to: SocketAddr, round: usize) -> Result<()> {
    let mut visitors = JoinSet::new();
    for number in (0..EACH).map(|one| round * EACH + one) {
        if visitors.len() >= ABREAST {
            visitors.join_next().await.context("a visitor")???;
        }
        visitors.spawn(visit(to, number));
    }
    while let Some(visited) = visitors.join_next().await {
        visited??;
    }
    Ok(())
}

/// Waits until the proxies that stay have these clusters, besides their own.
async fn told(stayers: &[Client], expected: &BTreeSet<String>) -> Result<()> {
    eventually(ROUND, "those who stay are told", async || {
        for stayer in stayers {
            let known = stayer.known();
            let clusters: BTreeSet<&str> =
                known.names(Cluster).into_iter().filter(|name| name.starts_with("outbound|")).collect();
            ensure!(
                clusters.iter().copied().eq(expected.iter().map(String::as_str)),
                "{} clusters",
                clusters.len()
            );
        }
        Ok(())
    })
    .await
}

/// Tasks that have not ended, as the server counts them.
async fn tasks(discovery: &Discovery) -> Result<u64> {
    let metrics = get_ok(discovery.monitoring, "/metrics").await?;
    let line = metrics.lines().find_map(|line| line.strip_prefix("tokio_alive_tasks "));
    Ok(line.context("tokio_alive_tasks")?.trim().parse()?)
}

#[tokio::test(flavor = "multi_thread")]
async fn what_has_come_and_gone_ten_thousand_times_leaves_nothing_behind() -> Result<()> {
    let dir = tempfile::tempdir()?;
    let folder = Folder::create(dir.path().join("config"))?;
    let port = [Port::new("http", 80, 8080)];
    folder.write("stays.yaml", &[service("stays", "10.0.0.1", &port)])?;
    let flags = ["--log_output_level", "default:warn"];
    let discovery = Discovery::start_with(dir.path(), &folder, &flags).await?;
    let stayers = [Variant::Delta, Variant::Sotw]
        .map(|variant| Client::start(variant, discovery.grpc, format!("stays-{variant:?}").to_lowercase()));
    let cluster = |name: &str| format!("outbound|80||{name}.default.svc.cluster.local");
    told(&stayers, &BTreeSet::from([cluster("stays")])).await?;
    let resting = tasks(&discovery).await?;
    let mut vitals = Vec::new();
    for round in 0..ROUNDS {
        come(&folder, round)?;
        let mut expected: BTreeSet<String> = (0..EACH).map(|number| cluster(&name(round, number))).collect();
        expected.insert(cluster("stays"));
        let (told_all, visited) = tokio::join!(told(&stayers, &expected), visits(discovery.grpc, round));
        told_all.and(visited).with_context(|| format!("round {round}"))?;
        go(&folder)?;
        told(&stayers, &BTreeSet::from([cluster("stays")]))
            .await
            .with_context(|| format!("round {round}"))?;
        vitals.push(Vitals::of(discovery.pid()?)?);
    }
    let gone = eventually(ROUND, "visitors are forgotten", async || {
        let metrics = get_ok(discovery.monitoring, "/metrics").await?;
        let proxies = metrics.lines().find(|line| line.starts_with("pilot_xds{")).unwrap_or_default();
        ensure!(proxies.ends_with(" 2"), "{proxies}");
        Ok(())
    });
    gone.await?;
    let tasks = tasks(&discovery).await?;
    ensure!(tasks <= resting + 5, "{resting} tasks at first, later {tasks}");

    let early = vitals.get(ROUNDS - 3 * WINDOW..ROUNDS - 2 * WINDOW).context("a window")?;
    let late = vitals.get(ROUNDS - WINDOW..).context("a window")?;
    for window in vitals.chunks(WINDOW) {
        println!("resident {} KiB, {:?}", median(window.iter().map(|one| one.resident))?, window.last());
    }
    let resident = |window: &[Vitals]| median(window.iter().map(|one| one.resident));
    let (before, after) = (resident(early)?, resident(late)?);
    ensure!(after <= before + MORE.max(before / 10), "{before} KiB resident, later {after} KiB");
    let threads = |window: &[Vitals]| median(window.iter().map(|one| one.threads));
    ensure!(threads(late)? <= threads(early)? + 2, "threads: {early:?}, later {late:?}");
    let descriptors = |window: &[Vitals]| median(window.iter().map(|one| one.descriptors));
    ensure!(descriptors(late)? <= descriptors(early)? + 5, "descriptors: {early:?}, later {late:?}");
    Ok(())
}
