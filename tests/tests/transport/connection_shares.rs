//! Two instances share the proxies: the one that holds clearly more tells its surplus to leave, slowly.

use std::net::SocketAddr;
use std::time::Duration;

use anyhow::{Result, ensure};
use pilot_proto::ResourceType::Cluster;
use pilot_tests::net::{free_port, local};
use pilot_tests::wait::eventually;

use super::control_plane::{Plane, Setup};
use super::raw::{DATA, GOAWAY, Raw};

/// A proxy that nothing changes for hears nothing.
const LONG: Duration = Duration::from_mins(2);

/// A proxy on one instance, and on the other one when it is told to leave.
async fn proxy(first: SocketAddr, other: SocketAddr) -> Result<()> {
    let mut client = Raw::connect(first, 1 << 20).await?;
    client.patience = LONG;
    client.ask(1, &[Cluster]).await?;
    client.until(DATA).await?;
    loop {
        let Some(frame) = client.next().await? else { break };
        if frame.kind == GOAWAY {
            break;
        }
    }
    let mut client = Raw::connect(other, 1 << 20).await?;
    client.patience = LONG;
    client.ask(1, &[Cluster]).await?;
    client.rest().await.map(drop)
}

#[tokio::test(flavor = "multi_thread")]
async fn the_surplus_moves_and_no_more() -> Result<()> {
    const PROXIES: u64 = 60;
    /// 1.1 x 30 + 10.
    const STAY: u64 = 43;
    let (one, two) = (local(free_port()?), local(free_port()?));
    // One of them is nobody.
    let peers = format!("{one},{two},{}", local(free_port()?));
    let environment = [("PILOT_PEERS", peers.as_str())];
    let full =
        Plane::start(Setup { environment: &environment, monitoring: Some(one), ..Setup::default() }).await?;
    let tasks: Vec<_> = {
        // Its port is known when the other one starts.
        let empty =
            Plane::start(Setup { environment: &environment, monitoring: Some(two), ..Setup::default() });
        let empty = empty.await?;
        let tasks = (0..PROXIES).map(|_| tokio::spawn(proxy(full.grpc, empty.grpc))).collect();
        let shared = eventually(Duration::from_mins(1), "the surplus has moved", async || {
            let loads = (full.streams().await?, empty.streams().await?);
            ensure!(loads.0 >= STAY, "too many have left: {loads:?}");
            ensure!(loads == (STAY, PROXIES - STAY), "{loads:?}");
            Ok(())
        });
        shared.await?;
        // Two rounds later nothing has moved.
        tokio::time::sleep(Duration::from_secs(7)).await;
        ensure!(full.streams().await? == STAY, "more have left");
        full.counts(&format!("pilot_xds_shed {}", PROXIES - STAY)).await?;
        empty.counts("pilot_xds_shed 0").await?;
        tasks
    };
    for task in tasks {
        task.abort();
    }
    Ok(())
}
