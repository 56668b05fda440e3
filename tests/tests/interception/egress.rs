//! What leaves a pod: for hosts that a `ServiceEntry` declares, and for those that nothing does.

use std::net::SocketAddr;
use std::time::Duration;

use anyhow::{Result, ensure};
use pilot_tests::http_request::HttpRequest;
use pilot_tests::pod_network::PodNetwork;
use pilot_tests::wait::eventually;
use pilot_tests::workload::Workload;
use serde_json::json;

use super::pod::{Pod, Site};

/// How long a change may take to hold on a busy machine.
const CHANGE: Duration = Duration::from_secs(20);

/// The entry's port, and where it is served.
const DECLARED: (u16, u16) = (8000, 9200);

/// A port that nobody declares.
const UNDECLARED: u16 = 9100;

/// Declares a host that is served outside.
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

/// Who is outside, all at one address.
struct Outside {
    api: Workload,
    /// Speaks HTTP where the mesh knows HTTP.
    neighbour: Workload,
    /// Where the mesh knows nothing.
    stranger: Workload,
}

/// Counters of the clusters that a connection may take: the entry's, past the mesh, into nothing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Ways {
    entry: u64,
    past: u64,
    nothing: u64,
}

fn at(port: u16) -> SocketAddr {
    SocketAddr::new(PodNetwork::OUTSIDE, port)
}

// === impl Outside ===

impl Outside {
    async fn open() -> Result<Self> {
        Ok(Self {
            api: Workload::start("api", at(DECLARED.1)).await?,
            neighbour: Workload::start("neighbour", at(DECLARED.0)).await?,
            stranger: Workload::start("stranger", at(UNDECLARED)).await?,
        })
    }

    /// How often each was asked.
    fn asked(&self) -> [usize; 3] {
        [&self.api, &self.neighbour, &self.stranger].map(|workload| workload.requests().len())
    }
}

// === impl Ways ===

impl Ways {
    async fn of(client: &Pod) -> Result<Self> {
        Ok(Self {
            entry: client.count("outbound|8000||api.example.com", "upstream_rq_total").await?,
            past: client.count("PassthroughCluster", "upstream_cx_total").await?,
            nothing: client.count("BlackHoleCluster", "upstream_cx_none_healthy").await?,
        })
    }
}

#[tokio::test]
async fn hosts_that_nothing_declares_are_reached_if_the_mesh_allows_any() -> Result<()> {
    let site = Site::open().await?;
    site.folder.write_text("api.yaml", &entry("api", DECLARED.0, DECLARED.1))?;
    let outside = Outside::open().await?;
    let client = site.pod("client", 2).await?;
    // Whatever host is asked for, connections go to one address: it is the host that the routes know, or do not.
    let declared = HttpRequest::get(at(DECLARED.0), "api.example.com", "/");
    let unknown = HttpRequest::get(at(DECLARED.0), "other.example.com", "/");
    let stranger = HttpRequest::get(at(UNDECLARED), "stranger.example.com", "/");
    let served = async || client.ask(&declared).await?.ensure_ok_from("api");
    eventually(CHANGE, "what is declared is reached", served).await?;

    let (before, asked) = (Ways::of(&client).await?, outside.asked());
    client.ask(&declared).await?.ensure_ok_from("api")?;
    client.ask(&unknown).await?.ensure_ok_from("neighbour")?;
    client.ask(&stranger).await?.ensure_ok_from("stranger")?;
    let [api, neighbour, others] = asked;
    ensure!(outside.asked() == [api + 1, neighbour + 1, others + 1], "{asked:?}, then {:?}", outside.asked());
    let after = Ways::of(&client).await?;
    let expected = Ways { entry: before.entry + 1, past: before.past + 2, nothing: before.nothing };
    ensure!(after == expected, "{before:?}, then {after:?}");

    site.discovery.set_mesh(&[("outboundTrafficPolicy", json!({"mode": "REGISTRY_ONLY"}))])?;
    let refused = async || {
        let (unknown, stranger) = (client.ask(&unknown).await?, client.ask(&stranger).await);
        ensure!((unknown.status, unknown.server()) == (502, ""), "{unknown:?}");
        ensure!(stranger.is_err(), "the stranger is still reached: {stranger:?}");
        Ok(())
    };
    eventually(CHANGE, "what nothing declares is refused", refused).await?;
    let (before, asked) = (Ways::of(&client).await?, outside.asked());
    client.ask(&declared).await?.ensure_ok_from("api")?;
    refused().await?;
    let [api, neighbour, others] = asked;
    ensure!(outside.asked() == [api + 1, neighbour, others], "{asked:?}, then {:?}", outside.asked());
    let after = Ways::of(&client).await?;
    let expected = Ways { entry: before.entry + 1, past: before.past, nothing: before.nothing + 1 };
    ensure!(after == expected, "{before:?}, then {after:?}");

    // With an entry the stranger is no stranger.
    site.folder.write_text("stranger.yaml", &entry("stranger", UNDECLARED, UNDECLARED))?;
    let reached = async || client.ask(&stranger).await?.ensure_ok_from("stranger");
    eventually(CHANGE, "what is declared now is reached", reached).await?;
    ensure!(client.count("outbound|9100||stranger.example.com", "upstream_rq_total").await? > 0);
    ensure!(Ways::of(&client).await?.past == after.past, "past the mesh, where it allows none");
    site.close(&[&client]).await
}
