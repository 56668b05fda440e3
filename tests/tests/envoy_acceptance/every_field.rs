//! Every group of fields of Istio's networking API, in objects that each use some of them. Envoy accepts the result.

use std::fs;

use anyhow::{Context as _, Result, ensure};
use pilot_tests::load::Identity;
use pilot_tests::mesh::{Interception, Mesh, Options, Sidecar};
use pilot_tests::net::{free_port, get_ok, loopback};
use pilot_tests::wait::eventually;
use serde_json::Value;

use super::IN_USE;

/// Returns ten services, `s0` to `s9`, each with an HTTP and a TCP port and two endpoints in two zones; and two pods with proxies.
fn services() -> String {
    PODS.to_owned() + &(0..10).map(|i| SERVICE.replace("NUMBER", &i.to_string())).collect::<String>()
}

const PODS: &str = "
apiVersion: v1
kind: Pod
metadata: {name: client, namespace: default, labels: {app: client}}
status: {phase: Running, podIP: 127.0.0.1, podIPs: [{ip: 127.0.0.1}], conditions: [{type: Ready, status: 'True'}]}
---
apiVersion: v1
kind: Pod
metadata: {name: edge, namespace: default, labels: {istio: ingressgateway}}
status: {phase: Running, podIP: 127.0.0.9, podIPs: [{ip: 127.0.0.9}], conditions: [{type: Ready, status: 'True'}]}
";

const SERVICE: &str = "
---
apiVersion: v1
kind: Service
metadata: {name: sNUMBER, namespace: default}
spec: {clusterIP: 10.11.1.NUMBER, ports: [{name: http, port: 80}, {name: tcp, port: 81}, {name: tls, port: 443}]}
---
apiVersion: discovery.k8s.io/v1
kind: EndpointSlice
metadata: {name: sNUMBER-1, namespace: default, labels: {kubernetes.io/service-name: sNUMBER}}
addressType: IPv4
ports: [{name: http, port: 8080}, {name: tcp, port: 8081}, {name: tls, port: 8443}]
endpoints:
- {addresses: [10.200.NUMBER.1], zone: z1, conditions: {ready: true}}
- {addresses: [10.200.NUMBER.2], zone: z2, conditions: {ready: true}}
";

/// Objects with each kind's fields; fields that exclude each other are in separate objects.
const RULES: &str = include_str!("../../../discovery/core/tests/fixture/rules.yaml");

/// Ports in these objects that listeners bind; free ports are never that low.
const PORTS: std::ops::RangeInclusive<u16> = 1901..=1910;

/// A `Sidecar` with ingress and egress listeners.
const SIDECAR: &str = include_str!("../../../discovery/core/tests/fixture/sidecar.yaml");

/// Inserts free ports and the folder of this run into the manifests.
fn fill_in(text: &str, mesh: &Mesh) -> Result<String> {
    let folder = mesh.dir.path().to_str().context("a path in UTF-8")?;
    let mut filled = text.replace("/etc/pilot", folder);
    for port in PORTS {
        let port = port.to_string();
        if filled.contains(&port) {
            filled = filled.replace(&port, &free_port()?.to_string());
        }
    }
    Ok(filled)
}

/// Waits until the proxy uses a resource with this mark and nothing is warming. It is an error if anything was rejected.
async fn wait_until_in_use(proxy: &Sidecar, mesh: &Mesh, mark: &str) -> Result<()> {
    let in_use = eventually(IN_USE, "all resources are in use", async || {
        let dump = get_ok(proxy.admin, "/config_dump").await?;
        ensure!(dump.contains(mark), "{mark} is not in Envoy's config dump");
        proxy.ensure_warmed().await
    });
    in_use.await?;
    proxy.ensure_no_rejection().await?;
    mesh.discovery.ensure_no_rejection().await
}

#[tokio::test(flavor = "multi_thread")]
async fn envoy_accepts_every_group_of_fields_in_sidecars_and_gateways() -> Result<()> {
    let none: [Value; 0] = [];
    let options = Options { interception: Interception::Redirect, ..Options::new()? };
    let mut mesh = Mesh::start(&none, &options).await?;
    let identity = Identity::new(&["simple.example.com"])?;
    fs::write(mesh.dir.path().join("server.crt"), &identity.certificate_pem)?;
    fs::write(mesh.dir.path().join("server.key"), &identity.key_pem)?;
    let edge = Options { role: "router", pod: "edge", ip: loopback(9), ..Options::new()? };
    let edge = mesh.join(&edge).await?;

    let rules = format!("{}---\n{}", services(), fill_in(RULES, &mesh)?);
    mesh.folder.write_text("rules.yaml", &rules)?;
    wait_until_in_use(&mesh.sidecar, &mesh, "x-patched").await?;
    wait_until_in_use(&edge, &mesh, "simple.example.com").await?;
    let log = mesh.discovery.log();
    ensure!(!log.contains("; keeping previous version"), "an object was rejected:\n{log}");

    mesh.folder.write_text("sidecar.yaml", &fill_in(SIDECAR, &mesh)?)?;
    wait_until_in_use(&mesh.sidecar, &mesh, "egress.sock").await?;
    mesh.ensure_healthy().await
}
