//! Egress of a pod: to hosts that a `ServiceEntry` declares, and to undeclared hosts.

use std::net::SocketAddr;
use std::time::Duration;

use anyhow::{Result, ensure};
use pilot_tests::http_request::HttpRequest;
use pilot_tests::pod_network::PodNetwork;
use pilot_tests::wait::eventually;
use pilot_tests::workload::Workload;
use serde_json::json;

use super::pod::{Pod, PodMesh};

/// Time limit for a change on a busy machine.
const CHANGE: Duration = Duration::from_secs(20);

/// Port of the `ServiceEntry`, and its target port.
const DECLARED: (u16, u16) = (8000, 9200);

/// Port that no object declares.
const UNDECLARED: u16 = 9100;

/// Returns a `ServiceEntry` for a host outside.
fn entry(name: &str, port: u16, target: u16) -> String {
    format!(
        "
apiVersion: networking.istio.io/v1
kind: ServiceEntry
metadata: {{name: {name}}}
spec:
  hosts: [{name}.example.com]
  location: MESH_EXTERNAL
  resolution: STATIC
  ports: [{{number: {port}, name: http, protocol: HTTP, targetPort: {target}}}]
  endpoints: [{{address: {}}}]
",
        PodNetwork::OUTSIDE
    )
}

/// Servers outside, all at one address.
struct OutsideServers {
    api: Workload,
    /// An undeclared host on the declared HTTP port.
    neighbour: Workload,
    /// An undeclared host on the undeclared port.
    undeclared: Workload,
}

/// Counters of the possible clusters: the entry's, `PassthroughCluster`, `BlackHoleCluster`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct ClusterCounts {
    entry: u64,
    passthrough: u64,
    black_hole: u64,
}

fn at(port: u16) -> SocketAddr {
    SocketAddr::new(PodNetwork::OUTSIDE, port)
}

// === impl OutsideServers ===

impl OutsideServers {
    async fn open() -> Result<Self> {
        Ok(Self {
            api: Workload::start("api", at(DECLARED.1)).await?,
            neighbour: Workload::start("neighbour", at(DECLARED.0)).await?,
            undeclared: Workload::start("undeclared", at(UNDECLARED)).await?,
        })
    }

    /// Returns the number of requests each server received.
    fn request_counts(&self) -> [usize; 3] {
        [&self.api, &self.neighbour, &self.undeclared].map(|workload| workload.requests().len())
    }
}

// === impl ClusterCounts ===

impl ClusterCounts {
    async fn of(client: &Pod) -> Result<Self> {
        Ok(Self {
            entry: client.count("outbound|8000||api.example.com", "upstream_rq_total").await?,
            passthrough: client.count("PassthroughCluster", "upstream_cx_total").await?,
            black_hole: client.count("BlackHoleCluster", "upstream_cx_none_healthy").await?,
        })
    }
}

#[tokio::test]
async fn undeclared_hosts_are_reached_only_if_the_outbound_policy_allows_any() -> Result<()> {
    let mesh = PodMesh::open().await?;
    mesh.folder.write_text("api.yaml", &entry("api", DECLARED.0, DECLARED.1))?;
    let outside = OutsideServers::open().await?;
    let client = mesh.pod("client", 2).await?;
    // All connections go to one address; only the host distinguishes them.
    let declared = HttpRequest::get(at(DECLARED.0), "api.example.com", "/");
    let unknown = HttpRequest::get(at(DECLARED.0), "other.example.com", "/");
    let undeclared = HttpRequest::get(at(UNDECLARED), "undeclared.example.com", "/");
    let served = async || client.send(&declared).await?.ensure_ok_from("api");
    eventually(CHANGE, "the declared host is reached", served).await?;

    let (before, counts) = (ClusterCounts::of(&client).await?, outside.request_counts());
    client.send(&declared).await?.ensure_ok_from("api")?;
    client.send(&unknown).await?.ensure_ok_from("neighbour")?;
    client.send(&undeclared).await?.ensure_ok_from("undeclared")?;
    let [api, neighbour, others] = counts;
    ensure!(
        outside.request_counts() == [api + 1, neighbour + 1, others + 1],
        "{counts:?}, then {:?}",
        outside.request_counts()
    );
    let after = ClusterCounts::of(&client).await?;
    let expected = ClusterCounts {
        entry: before.entry + 1,
        passthrough: before.passthrough + 2,
        black_hole: before.black_hole,
    };
    ensure!(after == expected, "{before:?}, then {after:?}");

    mesh.discovery.set_mesh(&[("outboundTrafficPolicy", json!({"mode": "REGISTRY_ONLY"}))])?;
    let refused = async || {
        let (unknown, undeclared) = (client.send(&unknown).await?, client.send(&undeclared).await);
        ensure!((unknown.status, unknown.server()) == (502, ""), "{unknown:?}");
        ensure!(undeclared.is_err(), "the undeclared host is still reached: {undeclared:?}");
        Ok(())
    };
    eventually(CHANGE, "undeclared hosts are rejected", refused).await?;
    let (before, counts) = (ClusterCounts::of(&client).await?, outside.request_counts());
    client.send(&declared).await?.ensure_ok_from("api")?;
    refused().await?;
    let [api, neighbour, others] = counts;
    ensure!(
        outside.request_counts() == [api + 1, neighbour, others],
        "{counts:?}, then {:?}",
        outside.request_counts()
    );
    let after = ClusterCounts::of(&client).await?;
    let expected = ClusterCounts {
        entry: before.entry + 1,
        passthrough: before.passthrough,
        black_hole: before.black_hole + 1,
    };
    ensure!(after == expected, "{before:?}, then {after:?}");

    // A ServiceEntry makes the host reachable.
    mesh.folder.write_text("undeclared.yaml", &entry("undeclared", UNDECLARED, UNDECLARED))?;
    let reached = async || client.send(&undeclared).await?.ensure_ok_from("undeclared");
    eventually(CHANGE, "the host is reached after its declaration", reached).await?;
    ensure!(client.count("outbound|9100||undeclared.example.com", "upstream_rq_total").await? > 0);
    ensure!(
        ClusterCounts::of(&client).await?.passthrough == after.passthrough,
        "a request passed through PassthroughCluster"
    );
    mesh.close(&[&client]).await
}
