//! Control planes that die and leave: those who waited are told what they do not know, and nothing else.

use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use nix::sys::signal::{Signal, kill};
use pilot_proto::ResourceType::{Cluster, Endpoint};
use pilot_tests::ads::{Delta, sidecar};
use pilot_tests::manifest::{Folder, Port, endpoint_slice, service};
use pilot_tests::mesh::{Discovery, Options, Sidecar};
use pilot_tests::net::loopback;
use pilot_tests::two_services::TwoServices;
use pilot_tests::wait::eventually;

use super::client::{Client, Known, Variant};
use super::faulty_link::FaultyLink;

/// How many proxies wait.
const PROXIES: usize = 50;

/// How many services there are.
const SERVICES: u16 = 20;

/// How long it may take until all are told, on a busy machine.
const TOLD: Duration = Duration::from_secs(30);

fn name(number: u16) -> String {
    format!("s{number}")
}

fn cluster(number: u16) -> String {
    format!("outbound|{}||s{number}.default.svc.cluster.local", 1000 + number)
}

/// Writes a service with an endpoint at this address.
fn write(folder: &Folder, number: u16, last: u8) -> Result<()> {
    let (name, port) = (name(number), [Port::new("http", 1000 + number, 8080)]);
    let objects = [service(&name, "10.0.0.1", &port), endpoint_slice(&name, &port, &[loopback(last)])];
    folder.write(&format!("{name}.yaml"), &objects)
}

fn folder(dir: &tempfile::TempDir) -> Result<Folder> {
    let folder = Folder::create(dir.path().join("config"))?;
    for number in 0..SERVICES {
        write(&folder, number, 2)?;
    }
    Ok(folder)
}

/// Half of each variant.
fn proxies(to: SocketAddr) -> Vec<(Variant, Client)> {
    let proxy = |number: usize| {
        let variant = if number.is_multiple_of(2) { Variant::Delta } else { Variant::Sotw };
        (variant, Client::start(variant, to, format!("p{number}")))
    };
    (0..PROXIES).map(proxy).collect()
}

/// Waits until each has had so many streams, and has the clusters and endpoints of these services.
async fn have(proxies: &[(Variant, Client)], streams: usize, services: &BTreeSet<u16>) -> Result<Duration> {
    let since = Instant::now();
    let clusters: BTreeSet<String> = services.iter().copied().map(cluster).collect();
    let expected: BTreeSet<&str> = clusters.iter().map(String::as_str).collect();
    eventually(TOLD, "every proxy has what is true", async || {
        for (variant, client) in proxies {
            let known = client.known();
            let own = |name: &&str| name.starts_with("outbound|");
            let clusters: BTreeSet<&str> = known.names(Cluster).into_iter().filter(own).collect();
            ensure!(known.streams >= streams, "{variant:?}: {} streams", known.streams);
            ensure!(clusters == expected, "{variant:?}: clusters {clusters:?}");
            ensure!(known.names(Endpoint) == expected, "{variant:?}: endpoints {:?}", known.names(Endpoint));
        }
        Ok(())
    })
    .await?;
    Ok(since.elapsed())
}

/// What all who can say what they have were told on their last stream.
fn told(proxies: &[(Variant, Client)]) -> Vec<Known> {
    let delta = proxies.iter().filter(|(variant, _)| *variant == Variant::Delta);
    delta.map(|(_, client)| client.known()).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn after_a_death_all_who_waited_are_told_what_is_news_and_nothing_else() -> Result<()> {
    let dir = tempfile::tempdir()?;
    let folder = folder(&dir)?;
    let mut discovery = Discovery::start(dir.path(), &folder).await?;
    let proxies = proxies(discovery.grpc);
    let mut services: BTreeSet<u16> = (0..SERVICES).collect();
    have(&proxies, 1, &services).await?;

    // Nothing happens meanwhile.
    discovery.restart().await?;
    println!("all told after {:?}", have(&proxies, 2, &services).await?);
    for known in told(&proxies) {
        ensure!(known.told.is_empty(), "told what it has: {:?}", known.told);
    }

    // One comes, one goes, one moves.
    kill(discovery.pid()?, Signal::SIGKILL)?;
    let (comes, goes, moves) = (SERVICES, 3, 5);
    write(&folder, comes, 2)?;
    write(&folder, moves, 9)?;
    folder.remove(&format!("{}.yaml", name(goes)))?;
    services.insert(comes);
    services.remove(&goes);
    discovery.restart().await?;
    println!("all told after {:?}", have(&proxies, 3, &services).await?);
    let news: BTreeSet<String> = [comes, goes, moves].into_iter().map(cluster).collect();
    eventually(TOLD, "the news is told", async || {
        for known in told(&proxies) {
            ensure!(known.told == news, "{:?}", known.told);
        }
        Ok(())
    })
    .await?;
    discovery.ensure_no_rejection().await
}

#[tokio::test(flavor = "multi_thread")]
async fn when_one_of_two_leaves_its_proxies_move_and_nothing_is_lost() -> Result<()> {
    let dir = tempfile::tempdir()?;
    let folder = folder(&dir)?;
    let scene = TwoServices::start(&["a", "b"]).await?;
    folder.write("steady.yaml", &scene.objects(&["a", "b"])?)?;
    let (first, second) = (dir.path().join("first"), dir.path().join("second"));
    for place in [&first, &second] {
        std::fs::create_dir(place)?;
    }
    let mut leaving = Discovery::start(&first, &folder).await?;
    let staying = Discovery::start(&second, &folder).await?;
    // Both have one mesh file, as two replicas have.
    std::fs::copy(first.join("mesh.yaml"), second.join("mesh.yaml"))?;
    let link = FaultyLink::to(&[leaving.grpc, staying.grpc]).await?;
    let mut envoy = Sidecar::start(dir.path(), link.address, &Options::new()?)?;
    envoy.ready().await?;
    let load = scene.load();
    let proxies = proxies(link.address);
    let clusters = proxies.iter().map(|(_, client)| client);
    eventually(TOLD, "every proxy has its clusters", async || {
        for client in clusters.clone() {
            let known = client.known();
            ensure!(known.names(Endpoint).len() == usize::from(SERVICES) + 2, "{:?}", known.names(Endpoint));
        }
        Ok(())
    })
    .await?;

    let since = Instant::now();
    let status = leaving.stop().await?;
    ensure!(status.success(), "the one that leaves ended with {status}");
    println!("it left within {:?}", since.elapsed());
    let moved = eventually(TOLD, "every proxy has moved", async || {
        let left = clusters.clone().filter(|client| client.known().streams < 2).count();
        ensure!(left == 0, "{left} have not");
        Ok(())
    });
    moved.await?;
    println!("all moved after {:?}", since.elapsed());
    for known in told(&proxies) {
        ensure!(known.told.is_empty(), "told what it has: {:?}", known.told);
    }

    write(&folder, SERVICES, 2)?;
    eventually(TOLD, "what changes then is told", async || {
        for client in clusters.clone() {
            ensure!(client.known().names(Endpoint).contains(cluster(SERVICES).as_str()), "one was not told");
        }
        let hosts = pilot_tests::net::get_ok(envoy.admin, "/clusters").await?;
        ensure!(hosts.contains(&cluster(SERVICES)), "Envoy was not");
        Ok(())
    })
    .await?;
    load.stop().await?.ensure_no_failures().with_context(|| envoy.log())?;
    envoy.ensure_warmed().await?;
    envoy.ensure_no_rejection().await?;
    staying.ensure_no_rejection().await
}

/// While a cluster warms, Envoy asks for no clusters; one that lost its stream then asks for endpoints alone, and names those it
/// had for the cluster that was before. The cluster that warms takes only what is sent, changed or not.
#[tokio::test(flavor = "multi_thread")]
async fn who_comes_back_for_endpoints_alone_is_told_what_it_has() -> Result<()> {
    let dir = tempfile::tempdir()?;
    let discovery = Discovery::start(dir.path(), &folder(&dir)?).await?;
    let mut stream = Delta::open(discovery.grpc, sidecar("warming")).await?;
    stream.subscribe(Endpoint, &[&cluster(0)], &[]).await?;
    let told = stream.next().await?.resources;
    drop(stream);
    let version = told.first().context("endpoints")?.version.clone();
    let mut stream = Delta::open(discovery.grpc, sidecar("warming")).await?;
    stream.resume(Endpoint, &[&cluster(0)], &[], &[(&cluster(0), &version)]).await?;
    let again = stream.next().await?.resources;
    ensure!(again == told, "{again:?}");
    Ok(())
}
