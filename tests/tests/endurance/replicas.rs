//! Control planes that crash and shut down: reconnecting proxies receive what they lack, and nothing else.

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

use super::client::{Client, ClientState, Variant};
use super::faulty_link::FaultyLink;

/// Number of proxies.
const PROXIES: usize = 50;

/// Number of services.
const SERVICES: u16 = 20;

/// Time limit for a push to all proxies on a busy machine.
const PUSH_TIMEOUT: Duration = Duration::from_secs(30);

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

/// Starts proxies, half of each variant.
fn proxies(to: SocketAddr) -> Vec<(Variant, Client)> {
    let proxy = |number: usize| {
        let variant = if number.is_multiple_of(2) { Variant::Delta } else { Variant::Sotw };
        (variant, Client::start(variant, to, format!("p{number}")))
    };
    (0..PROXIES).map(proxy).collect()
}

/// Waits until each proxy has had so many streams, and has the clusters and endpoints of these services.
async fn wait_for_services(
    proxies: &[(Variant, Client)],
    streams: usize,
    services: &BTreeSet<u16>,
) -> Result<Duration> {
    let since = Instant::now();
    let clusters: BTreeSet<String> = services.iter().copied().map(cluster).collect();
    let expected: BTreeSet<&str> = clusters.iter().map(String::as_str).collect();
    eventually(PUSH_TIMEOUT, "every proxy has the current state", async || {
        for (variant, client) in proxies {
            let state = client.state();
            let own = |name: &&str| name.starts_with("outbound|");
            let clusters: BTreeSet<&str> = state.names(Cluster).into_iter().filter(own).collect();
            ensure!(state.streams >= streams, "{variant:?}: {} streams", state.streams);
            ensure!(clusters == expected, "{variant:?}: clusters {clusters:?}");
            ensure!(state.names(Endpoint) == expected, "{variant:?}: endpoints {:?}", state.names(Endpoint));
        }
        Ok(())
    })
    .await?;
    Ok(since.elapsed())
}

/// Returns the states of the delta clients, which reconnect with versions.
fn delta_states(proxies: &[(Variant, Client)]) -> Vec<ClientState> {
    let delta = proxies.iter().filter(|(variant, _)| *variant == Variant::Delta);
    delta.map(|(_, client)| client.state()).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn delta_clients_receive_only_changes_after_a_control_plane_crash() -> Result<()> {
    let dir = tempfile::tempdir()?;
    let folder = folder(&dir)?;
    let mut discovery = Discovery::start(dir.path(), &folder).await?;
    let proxies = proxies(discovery.grpc);
    let mut services: BTreeSet<u16> = (0..SERVICES).collect();
    wait_for_services(&proxies, 1, &services).await?;

    // A restart without changes.
    discovery.restart().await?;
    println!("all proxies up to date after {:?}", wait_for_services(&proxies, 2, &services).await?);
    for state in delta_states(&proxies) {
        ensure!(state.received.is_empty(), "resources sent again: {:?}", state.received);
    }

    // A service is added, one is removed, one moves.
    kill(discovery.pid()?, Signal::SIGKILL)?;
    let (comes, goes, moves) = (SERVICES, 3, 5);
    write(&folder, comes, 2)?;
    write(&folder, moves, 9)?;
    folder.remove(&format!("{}.yaml", name(goes)))?;
    services.insert(comes);
    services.remove(&goes);
    discovery.restart().await?;
    println!("all proxies up to date after {:?}", wait_for_services(&proxies, 3, &services).await?);
    let news: BTreeSet<String> = [comes, goes, moves].into_iter().map(cluster).collect();
    eventually(PUSH_TIMEOUT, "the changes are received", async || {
        for state in delta_states(&proxies) {
            ensure!(state.received == news, "{:?}", state.received);
        }
        Ok(())
    })
    .await?;
    discovery.ensure_no_rejection().await
}

#[tokio::test(flavor = "multi_thread")]
async fn proxies_move_to_the_other_control_plane_on_shutdown_without_loss() -> Result<()> {
    let dir = tempfile::tempdir()?;
    let folder = folder(&dir)?;
    let services = TwoServices::start(&["a", "b"]).await?;
    folder.write("steady.yaml", &services.objects(&["a", "b"])?)?;
    let (first, second) = (dir.path().join("first"), dir.path().join("second"));
    for slot in [&first, &second] {
        std::fs::create_dir(slot)?;
    }
    let mut leaving = Discovery::start(&first, &folder).await?;
    let staying = Discovery::start(&second, &folder).await?;
    // Both have one mesh file, as two replicas have.
    std::fs::copy(first.join("mesh.yaml"), second.join("mesh.yaml"))?;
    let link = FaultyLink::to(&[leaving.grpc, staying.grpc]).await?;
    let mut envoy = Sidecar::start(dir.path(), link.address, &Options::new()?)?;
    envoy.ready().await?;
    let load = services.load();
    let proxies = proxies(link.address);
    let clusters = proxies.iter().map(|(_, client)| client);
    eventually(PUSH_TIMEOUT, "every proxy has its clusters", async || {
        for client in clusters.clone() {
            let state = client.state();
            ensure!(state.names(Endpoint).len() == usize::from(SERVICES) + 2, "{:?}", state.names(Endpoint));
        }
        Ok(())
    })
    .await?;

    let since = Instant::now();
    let status = leaving.stop().await?;
    ensure!(status.success(), "the first control plane ended with {status}");
    println!("shutdown took {:?}", since.elapsed());
    let moved = eventually(PUSH_TIMEOUT, "every proxy has moved", async || {
        let left = clusters.clone().filter(|client| client.state().streams < 2).count();
        ensure!(left == 0, "{left} proxies have not moved");
        Ok(())
    });
    moved.await?;
    println!("all proxies moved after {:?}", since.elapsed());
    for state in delta_states(&proxies) {
        ensure!(state.received.is_empty(), "resources sent again: {:?}", state.received);
    }

    write(&folder, SERVICES, 2)?;
    eventually(PUSH_TIMEOUT, "a later change is received", async || {
        for client in clusters.clone() {
            ensure!(
                client.state().names(Endpoint).contains(cluster(SERVICES).as_str()),
                "a client lacks the endpoints"
            );
        }
        let hosts = pilot_tests::net::get_ok(envoy.admin, "/clusters").await?;
        ensure!(hosts.contains(&cluster(SERVICES)), "Envoy lacks the cluster");
        Ok(())
    })
    .await?;
    load.stop().await?.ensure_no_failures().with_context(|| envoy.log())?;
    envoy.ensure_warmed().await?;
    envoy.ensure_no_rejection().await?;
    staying.ensure_no_rejection().await
}

/// While a cluster warms, Envoy does not subscribe to clusters. After a reconnect it subscribes to endpoints alone, with the
/// versions it had for the previous cluster. The warming cluster needs a response, changed or not.
#[tokio::test(flavor = "multi_thread")]
async fn endpoints_are_sent_again_to_a_client_that_resumes_endpoints_alone() -> Result<()> {
    let dir = tempfile::tempdir()?;
    let discovery = Discovery::start(dir.path(), &folder(&dir)?).await?;
    let mut stream = Delta::open(discovery.grpc, sidecar("warming")).await?;
    stream.subscribe(Endpoint, &[&cluster(0)], &[]).await?;
    let first = stream.next().await?.resources;
    drop(stream);
    let version = first.first().context("endpoints")?.version.clone();
    let mut stream = Delta::open(discovery.grpc, sidecar("warming")).await?;
    stream.resume(Endpoint, &[&cluster(0)], &[], &[(&cluster(0), &version)]).await?;
    let again = stream.next().await?.resources;
    ensure!(again == first, "{again:?}");
    Ok(())
}
