//! What comes to a pod: through its sidecar, whoever it comes from.

use std::net::{Ipv4Addr, SocketAddr};
use std::time::Duration;

use anyhow::{Result, ensure};
use pilot_tests::http_request::HttpRequest;
use pilot_tests::manifest::{Port, endpoint_slice, service};
use pilot_tests::pod_network::address;
use pilot_tests::wait::eventually;
use pilot_tests::workload::Workload;

use super::pod::Site;

/// How long a change may take to hold on a busy machine.
const CHANGE: Duration = Duration::from_secs(20);

/// The service's port at its own address, where it is served, and a port that the workload has told nobody of.
const PORTS: (u16, u16, u16) = (80, 8080, 8081);

const REQUESTS: &str = "upstream_rq_total";

const CLUSTER_IP: Ipv4Addr = Ipv4Addr::new(10, 96, 0, 1);

#[tokio::test]
async fn a_request_to_a_service_passes_both_sidecars() -> Result<()> {
    let (port, target, untold) = PORTS;
    let site = Site::open().await?;
    let ports = [Port::new("http", port, target)];
    let cart =
        [service("cart", &CLUSTER_IP.to_string(), &ports), endpoint_slice("cart", &ports, &[address(3)])];
    site.folder.write("service.yaml", &cart)?;
    let client = site.pod("client", 2).await?;
    let server = site.pod("cart", 3).await?;
    let inside = server.enter()?;
    let all = |port| SocketAddr::new(Ipv4Addr::UNSPECIFIED.into(), port);
    let cart = Workload::start("cart", all(target)).await?;
    let other = Workload::start("other", all(untold)).await?;
    drop(inside);

    let outbound = "outbound|80||cart.default.svc.cluster.local";
    let inbound = "inbound|8080||";
    let through_both = HttpRequest::get(SocketAddr::new(CLUSTER_IP.into(), port), "cart", "/both");
    eventually(CHANGE, "the service answers", async || {
        client.ask(&through_both).await?.ensure_ok_from("cart")
    })
    .await?;
    let before = [client.count(outbound, REQUESTS).await?, server.count(inbound, REQUESTS).await?];
    client.ask(&through_both).await?.ensure_ok_from("cart")?;
    let [sent, received] = [client.count(outbound, REQUESTS).await?, server.count(inbound, REQUESTS).await?];
    ensure!([sent, received] == before.map(|count| count + 1), "{before:?}, then {:?}", [sent, received]);
    let asked = cart.last_request()?;
    ensure!(asked.path == "/both" && asked.host == "cart", "{asked:?}");

    // Who has no sidecar comes to the pod itself, and is served all the same.
    HttpRequest::get(SocketAddr::new(address(3), target), "cart", "/one")
        .send()
        .await?
        .ensure_ok_from("cart")?;
    ensure!(server.count(inbound, REQUESTS).await? == received + 1, "past the workload's sidecar");
    // A port that nothing declares is the workload's own business.
    HttpRequest::get(SocketAddr::new(address(3), untold), "other", "/")
        .send()
        .await?
        .ensure_ok_from("other")?;
    let past = "InboundPassthroughCluster";
    ensure!(
        other.requests().len() == 1 && server.count(past, "upstream_cx_total").await? == 1,
        "past the workload's sidecar"
    );
    site.close(&[&client, &server]).await
}
