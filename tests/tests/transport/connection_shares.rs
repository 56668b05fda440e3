//! Connection shares (`PILOT_PEERS`): the instance with clearly more connections sends GOAWAY to its surplus, slowly.

use std::net::SocketAddr;
use std::time::Duration;

use anyhow::{Result, ensure};
use pilot_proto::ResourceType::Cluster;
use pilot_tests::net::{free_port, local};
use pilot_tests::wait::eventually;

use super::control_plane::{ControlPlane, ControlPlaneOptions};
use super::raw::{DATA, GOAWAY, RawHttp2Client};

/// Time limit for a frame: an idle stream receives nothing.
const LONG: Duration = Duration::from_mins(2);

/// Runs a proxy that connects to the first instance, and to the other one after a GOAWAY.
async fn proxy(first: SocketAddr, other: SocketAddr) -> Result<()> {
    let mut client = RawHttp2Client::connect(first, 1 << 20).await?;
    client.timeout = LONG;
    client.ask(1, &[Cluster]).await?;
    client.until(DATA).await?;
    loop {
        let Some(frame) = client.next().await? else { break };
        if frame.kind == GOAWAY {
            break;
        }
    }
    let mut client = RawHttp2Client::connect(other, 1 << 20).await?;
    client.timeout = LONG;
    client.ask(1, &[Cluster]).await?;
    client.rest().await.map(drop)
}

#[tokio::test(flavor = "multi_thread")]
async fn surplus_connections_move_to_the_other_instance() -> Result<()> {
    const PROXIES: u64 = 60;
    /// 1.1 x 30 + 10.
    const STAY: u64 = 43;
    let (one, two) = (local(free_port()?), local(free_port()?));
    // The third peer does not exist.
    let peers = format!("{one},{two},{}", local(free_port()?));
    let environment = [("PILOT_PEERS", peers.as_str())];
    let full = ControlPlane::start(ControlPlaneOptions {
        environment: &environment,
        monitoring: Some(one),
        ..ControlPlaneOptions::default()
    })
    .await?;
    let tasks: Vec<_> = {
        // The port of the other instance is known when it starts.
        let empty = ControlPlane::start(ControlPlaneOptions {
            environment: &environment,
            monitoring: Some(two),
            ..ControlPlaneOptions::default()
        });
        let empty = empty.await?;
        let tasks = (0..PROXIES).map(|_| tokio::spawn(proxy(full.grpc, empty.grpc))).collect();
        let shared = eventually(Duration::from_mins(1), "the surplus has moved", async || {
            let loads = (full.streams().await?, empty.streams().await?);
            ensure!(loads.0 >= STAY, "too many connections have moved: {loads:?}");
            ensure!(loads == (STAY, PROXIES - STAY), "{loads:?}");
            Ok(())
        });
        shared.await?;
        // After two more rounds nothing has moved.
        tokio::time::sleep(Duration::from_secs(7)).await;
        ensure!(full.streams().await? == STAY, "more connections have moved");
        full.wait_for_metric(&format!("pilot_xds_shed {}", PROXIES - STAY)).await?;
        empty.wait_for_metric("pilot_xds_shed 0").await?;
        tasks
    };
    for task in tasks {
        task.abort();
    }
    Ok(())
}
