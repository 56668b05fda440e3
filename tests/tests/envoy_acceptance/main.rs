//! A real Envoy accepts the generated configuration for every kind of service, with and without interception.

mod every_field;

use std::time::Duration;

use anyhow::{Result, ensure};
use pilot_tests::manifest::{Port, endpoint_slice, external_name, service, service_entry};
use pilot_tests::mesh::{Interception, Mesh, Options};
use pilot_tests::net::free_port;
use pilot_tests::wait::eventually;
use serde_json::Value;

/// Time limit until Envoy uses everything it was sent.
const IN_USE: Duration = Duration::from_secs(30);

/// Returns `rounds` services of each kind.
fn services_of_every_kind(rounds: u8) -> Result<Vec<Value>> {
    // Services of a kind share a port where their protocol allows it.
    let [http, grpc, tcp, headless] = [free_port()?, free_port()?, free_port()?, free_port()?];
    let [http_entry, tcp_entry, tls_entry] = [free_port()?, free_port()?, free_port()?];
    let mut objects = Vec::new();
    for i in 1..=rounds {
        let at = |kind: u8| format!("10.{kind}.0.{i}");
        let endpoint = |kind: u8| [[10, 200, kind, i].into()];
        let mut serve = |name: String, ip: &str, ports: &[Port], kind| {
            objects.push(service(&name, ip, ports));
            objects.push(endpoint_slice(&name, ports, &endpoint(kind)));
        };
        serve(format!("http-{i}"), &at(11), &[Port::new("http", http, 8080)], 11);
        serve(format!("grpc-{i}"), &at(12), &[Port::new("grpc-api", grpc, 9090)], 12);
        serve(format!("tcp-{i}"), &at(13), &[Port::new("tcp-db", tcp, 5432)], 13);
        let two = [Port::new("http", http, 8080), Port::new("tcp-db", tcp, 5432)];
        serve(format!("both-{i}"), &at(14), &two, 14);
        serve(format!("headless-http-{i}"), "None", &[Port::new("http", http, 8080)], 15);
        let ports = [Port::new("tcp-peer", headless, headless)];
        objects.push(service(&format!("headless-tcp-{i}"), "None", &ports));
        objects.push(endpoint_slice(&format!("headless-tcp-{i}"), &ports, &[at(16).parse()?]));

        objects.push(external_name(&format!("external-{i}"), "localhost", &[Port::new("http", http, 80)]));
        let ports = match i % 2 {
            0 => [Port::new("http", http_entry, 8080)],
            _ => [Port::new("tcp", tcp_entry, 5432)],
        };
        let host = |kind: &str| format!("{kind}-{i}.example.com");
        objects.push(service_entry(
            &format!("static-{i}"),
            &host("static"),
            "STATIC",
            &ports,
            &["10.200.17.1"],
        ));
        objects.push(service_entry(&format!("dns-{i}"), &host("dns"), "DNS", &ports, &["localhost"]));
        objects.push(service_entry(&format!("none-{i}"), &host("none"), "NONE", &ports, &[]));
        let ports = [if i % 2 == 0 {
            Port::new("http", http_entry, http_entry)
        } else {
            Port::new("tls", tls_entry, tls_entry)
        }];
        let host = format!("*.{}", host("dynamic"));
        objects.push(service_entry(&format!("dynamic-{i}"), &host, "DYNAMIC_DNS", &ports, &[]));
    }
    Ok(objects)
}

/// Starts a mesh on these objects and waits until Envoy uses all of them. Returns the number of clusters.
async fn ensure_accepted(objects: &[Value], interception: Interception) -> Result<u64> {
    let mut mesh = Mesh::start(objects, &Options { interception, ..Options::new()? }).await?;
    let in_use = eventually(IN_USE, "all resources are in use", async || mesh.sidecar.ensure_warmed().await);
    in_use.await?;
    mesh.ensure_healthy().await?;
    // Later updates are accepted too: the same objects in another order, half of them, and all of them again.
    let reversed: Vec<Value> = objects.iter().rev().cloned().collect();
    mesh.write(&reversed)?;
    mesh.write(objects.get(..objects.len() / 2).unwrap_or_default())?;
    mesh.write(objects)?;
    tokio::time::sleep(Duration::from_secs(1)).await;
    let in_use = eventually(IN_USE, "all resources are in use", async || mesh.sidecar.ensure_warmed().await);
    in_use.await?;
    mesh.ensure_healthy().await?;
    let clusters = mesh.sidecar.stats("^cluster_manager.active_clusters$").await?;
    Ok(clusters.values().sum())
}

#[tokio::test(flavor = "multi_thread")]
async fn envoy_accepts_one_service() -> Result<()> {
    for interception in [Interception::None, Interception::Redirect] {
        let ports = [Port::new("http", free_port()?, 8080)];
        let objects =
            [service("web", "10.11.0.1", &ports), endpoint_slice("web", &ports, &[[10, 200, 11, 1].into()])];
        ensure_accepted(&objects, interception).await?;
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn envoy_accepts_two_hundred_services_of_every_kind() -> Result<()> {
    for interception in [Interception::None, Interception::Redirect] {
        let clusters = ensure_accepted(&services_of_every_kind(20)?, interception).await?;
        // Each of the 200 services has at least one cluster, but the 20 ExternalName services may share theirs.
        ensure!(clusters >= 200, "{interception:?}: Envoy has only {clusters} clusters");
    }
    Ok(())
}
