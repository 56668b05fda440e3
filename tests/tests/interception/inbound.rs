//! Inbound traffic of a pod: it passes through the sidecar for every client.

use std::net::{Ipv4Addr, SocketAddr};
use std::time::Duration;

use anyhow::{Result, ensure};
use pilot_tests::http_request::HttpRequest;
use pilot_tests::manifest::{Port, endpoint_slice, service};
use pilot_tests::pod_network::address;
use pilot_tests::wait::eventually;
use pilot_tests::workload::Workload;

use super::pod::PodMesh;

/// Time limit for a change on a busy machine.
const CHANGE: Duration = Duration::from_secs(20);

/// The service's port, its target port, and an undeclared port of the workload.
const PORTS: (u16, u16, u16) = (80, 8080, 8081);

const REQUESTS: &str = "upstream_rq_total";

const CLUSTER_IP: Ipv4Addr = Ipv4Addr::new(10, 96, 0, 1);

#[tokio::test]
async fn service_requests_pass_both_sidecars() -> Result<()> {
    let (port, target, undeclared) = PORTS;
    let mesh = PodMesh::open().await?;
    let ports = [Port::new("http", port, target)];
    let cart =
        [service("cart", &CLUSTER_IP.to_string(), &ports), endpoint_slice("cart", &ports, &[address(3)])];
    mesh.folder.write("service.yaml", &cart)?;
    let client = mesh.pod("client", 2).await?;
    let server = mesh.pod("cart", 3).await?;
    let inside = server.enter()?;
    let all = |port| SocketAddr::new(Ipv4Addr::UNSPECIFIED.into(), port);
    let cart = Workload::start("cart", all(target)).await?;
    let other = Workload::start("other", all(undeclared)).await?;
    drop(inside);

    let outbound = "outbound|80||cart.default.svc.cluster.local";
    let inbound = "inbound|8080||";
    let through_both = HttpRequest::get(SocketAddr::new(CLUSTER_IP.into(), port), "cart", "/both");
    eventually(CHANGE, "the service answers", async || {
        client.send(&through_both).await?.ensure_ok_from("cart")
    })
    .await?;
    let before = [client.count(outbound, REQUESTS).await?, server.count(inbound, REQUESTS).await?];
    client.send(&through_both).await?.ensure_ok_from("cart")?;
    let [sent, received] = [client.count(outbound, REQUESTS).await?, server.count(inbound, REQUESTS).await?];
    ensure!([sent, received] == before.map(|count| count + 1), "{before:?}, then {:?}", [sent, received]);
    let recorded = cart.last_request()?;
    ensure!(recorded.path == "/both" && recorded.host == "cart", "{recorded:?}");

    // A client without a sidecar connects to the pod directly; its requests pass the pod's sidecar.
    HttpRequest::get(SocketAddr::new(address(3), target), "cart", "/one")
        .send()
        .await?
        .ensure_ok_from("cart")?;
    ensure!(
        server.count(inbound, REQUESTS).await? == received + 1,
        "the request bypassed the workload's sidecar"
    );
    // Connections to an undeclared port use InboundPassthroughCluster.
    HttpRequest::get(SocketAddr::new(address(3), undeclared), "other", "/")
        .send()
        .await?
        .ensure_ok_from("other")?;
    let passthrough = "InboundPassthroughCluster";
    ensure!(
        other.requests().len() == 1 && server.count(passthrough, "upstream_cx_total").await? == 1,
        "the connection bypassed the workload's sidecar"
    );
    mesh.close(&[&client, &server]).await
}
