//! Ten thousand services and ten thousand connections that are added and removed leave nothing behind: memory, threads and file
//! descriptors of the control plane stay the same.

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

/// Number of rounds. Resident memory is level after about 60: caches fill, and the allocator's arenas find their size.
const ROUNDS: usize = 100;

/// Number of services and of connections in a round.
const PER_ROUND: usize = 100;

/// Number of services in a file.
const SERVICES_PER_FILE: usize = 50;

/// Number of concurrent connections.
const CONCURRENT: usize = 10;

/// Number of rounds in each of the two compared windows; earlier rounds fill caches.
const WINDOW: usize = 10;

/// Allowed growth of resident memory between both windows: the greater of a tenth and so many KiB.
const ALLOWED_GROWTH: u64 = 5 * 1024;

/// Time limit for a round on a busy machine.
const ROUND: Duration = Duration::from_secs(30);

/// Resource usage of a process, from `/proc`.
#[derive(Clone, Copy, Debug)]
struct ProcessUsage {
    /// Resident memory in KiB.
    resident: u64,
    threads: u64,
    descriptors: usize,
}

// === impl ProcessUsage ===

impl ProcessUsage {
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

/// Returns the median.
fn median<T: Copy + Ord>(of: impl Iterator<Item = T>) -> Result<T> {
    let mut all: Vec<T> = of.collect();
    all.sort_unstable();
    all.get(all.len() / 2).copied().context("a median of nothing")
}

/// Returns the name of a service, which differs in each round so that nothing can be cached for it.
fn name(round: usize, number: usize) -> String {
    format!("r{round}-s{number}")
}

fn add_services(folder: &Folder, round: usize) -> Result<()> {
    for file in 0..PER_ROUND / SERVICES_PER_FILE {
        let mut objects = Vec::new();
        for number in (0..SERVICES_PER_FILE).map(|one| file * SERVICES_PER_FILE + one) {
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

fn remove_services(folder: &Folder) -> Result<()> {
    (0..PER_ROUND / SERVICES_PER_FILE).try_for_each(|file| folder.remove(&format!("churn-{file}.yaml")))
}

/// Connects, subscribes to clusters and some endpoints, and disconnects after the response.
async fn connect_once(to: SocketAddr, number: usize) -> Result<()> {
    let pod = format!("short-{number}");
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
        // Without an ACK.
        stream.next().await?;
    }
    Ok(())
}

async fn connect_repeatedly(to: SocketAddr, round: usize) -> Result<()> {
    let mut connections = JoinSet::new();
    for number in (0..PER_ROUND).map(|one| round * PER_ROUND + one) {
        if connections.len() >= CONCURRENT {
            connections.join_next().await.context("a short connection")???;
        }
        connections.spawn(connect_once(to, number));
    }
    while let Some(visited) = connections.join_next().await {
        visited??;
    }
    Ok(())
}

/// Waits until the long-lived clients have these clusters besides the static ones.
async fn wait_for_clusters(long_lived: &[Client], expected: &BTreeSet<String>) -> Result<()> {
    eventually(ROUND, "the long-lived clients have the clusters", async || {
        for client in long_lived {
            let state = client.state();
            let clusters: BTreeSet<&str> =
                state.names(Cluster).into_iter().filter(|name| name.starts_with("outbound|")).collect();
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

/// Returns the number of running tasks, by the server's metric.
async fn tasks(discovery: &Discovery) -> Result<u64> {
    let metrics = get_ok(discovery.monitoring, "/metrics").await?;
    let line = metrics.lines().find_map(|line| line.strip_prefix("tokio_alive_tasks "));
    Ok(line.context("tokio_alive_tasks")?.trim().parse()?)
}

#[tokio::test(flavor = "multi_thread")]
async fn ten_thousand_services_and_connections_leave_no_memory_threads_or_descriptors() -> Result<()> {
    let dir = tempfile::tempdir()?;
    let folder = Folder::create(dir.path().join("config"))?;
    let port = [Port::new("http", 80, 8080)];
    folder.write("stays.yaml", &[service("stays", "10.0.0.1", &port)])?;
    let flags = ["--log_output_level", "default:warn"];
    let discovery = Discovery::start_with(dir.path(), &folder, &flags).await?;
    let long_lived = [Variant::Delta, Variant::Sotw]
        .map(|variant| Client::start(variant, discovery.grpc, format!("stays-{variant:?}").to_lowercase()));
    let cluster = |name: &str| format!("outbound|80||{name}.default.svc.cluster.local");
    wait_for_clusters(&long_lived, &BTreeSet::from([cluster("stays")])).await?;
    let resting = tasks(&discovery).await?;
    let mut usage = Vec::new();
    for round in 0..ROUNDS {
        add_services(&folder, round)?;
        let mut expected: BTreeSet<String> =
            (0..PER_ROUND).map(|number| cluster(&name(round, number))).collect();
        expected.insert(cluster("stays"));
        let (converged, visited) = tokio::join!(
            wait_for_clusters(&long_lived, &expected),
            connect_repeatedly(discovery.grpc, round)
        );
        converged.and(visited).with_context(|| format!("round {round}"))?;
        remove_services(&folder)?;
        wait_for_clusters(&long_lived, &BTreeSet::from([cluster("stays")]))
            .await
            .with_context(|| format!("round {round}"))?;
        usage.push(ProcessUsage::of(discovery.pid()?)?);
    }
    let gone = eventually(ROUND, "the connections are removed from the metrics", async || {
        let metrics = get_ok(discovery.monitoring, "/metrics").await?;
        let proxies = metrics.lines().find(|line| line.starts_with("pilot_xds{")).unwrap_or_default();
        ensure!(proxies.ends_with(" 2"), "{proxies}");
        Ok(())
    });
    gone.await?;
    let tasks = tasks(&discovery).await?;
    ensure!(tasks <= resting + 5, "{resting} tasks at first, later {tasks}");

    let early = usage.get(ROUNDS - 3 * WINDOW..ROUNDS - 2 * WINDOW).context("a window")?;
    let late = usage.get(ROUNDS - WINDOW..).context("a window")?;
    for window in usage.chunks(WINDOW) {
        println!("resident {} KiB, {:?}", median(window.iter().map(|one| one.resident))?, window.last());
    }
    let resident = |window: &[ProcessUsage]| median(window.iter().map(|one| one.resident));
    let (before, after) = (resident(early)?, resident(late)?);
    ensure!(after <= before + ALLOWED_GROWTH.max(before / 10), "{before} KiB resident, later {after} KiB");
    let threads = |window: &[ProcessUsage]| median(window.iter().map(|one| one.threads));
    ensure!(threads(late)? <= threads(early)? + 2, "threads: {early:?}, later {late:?}");
    let descriptors = |window: &[ProcessUsage]| median(window.iter().map(|one| one.descriptors));
    ensure!(descriptors(late)? <= descriptors(early)? + 5, "descriptors: {early:?}, later {late:?}");
    Ok(())
}
