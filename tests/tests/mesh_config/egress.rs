//! Egress from the mesh: `ServiceEntry`, outbound traffic policy, TCP routes.

use anyhow::{Result, ensure};
use pilot_tests::http_request::HttpRequest;
use pilot_tests::net::{free_port, local, loopback};
use pilot_tests::wait::eventually;
use pilot_tests::workload::Workload;

use super::bookshop::{BookshopMesh, CHANGE, SUBSETS};

#[tokio::test(flavor = "multi_thread")]
async fn registry_only_reaches_declared_hosts_alone() -> Result<()> {
    let shop = BookshopMesh::open("").await?;
    let (port, target) = (free_port()?, free_port()?);
    let _api = Workload::start("api", (loopback(7), target).into()).await?;
    shop.set_rules(&format!(
        "
apiVersion: networking.istio.io/v1
kind: ServiceEntry
metadata: {{name: api}}
spec:
  hosts: [api.example.com]
  location: MESH_EXTERNAL
  resolution: STATIC
  ports: [{{number: {port}, name: http, protocol: HTTP, targetPort: {target}}}]
  endpoints: [{{address: 127.0.0.7}}]
---
apiVersion: networking.istio.io/v1
kind: Sidecar
metadata: {{name: default}}
spec: {{egress: [{{hosts: ['*/*']}}], outboundTrafficPolicy: {{mode: REGISTRY_ONLY}}}}
"
    ))?;
    let declared = HttpRequest::get(local(port), "api.example.com", "/");
    eventually(CHANGE, "the declared host is reached", async || declared.send().await?.ensure_ok_from("api"))
        .await?;
    let unknown = HttpRequest::get(local(port), "other.example.com", "/").send().await?;
    ensure!((unknown.status, unknown.server()) == (502, ""), "{unknown:?}");
    shop.close().await
}

#[tokio::test(flavor = "multi_thread")]
async fn tcp_route_of_a_virtual_service_takes_effect() -> Result<()> {
    let shop = BookshopMesh::open("").await?;
    let (port, target) = (free_port()?, free_port()?);
    let _db = Workload::start("db", (loopback(7), target).into()).await?;
    let entry = format!(
        "
apiVersion: networking.istio.io/v1
kind: ServiceEntry
metadata: {{name: db}}
spec:
  hosts: [db.example.com]
  location: MESH_INTERNAL
  resolution: STATIC
  ports: [{{number: {port}, name: tcp, protocol: TCP, targetPort: {target}}}]
  endpoints: [{{address: 127.0.0.7}}]
"
    );
    shop.set_rules(&entry)?;
    let request = HttpRequest::get(local(port), "any", "/");
    eventually(CHANGE, "connections reach the service", async || request.send().await?.ensure_ok_from("db"))
        .await?;
    shop.set_rules(&format!(
        "{entry}---{SUBSETS}---
apiVersion: networking.istio.io/v1
kind: VirtualService
metadata: {{name: db}}
spec: {{hosts: [db.example.com], tcp: [{{route: [{{destination: {{host: web, subset: v2}}}}]}}]}}
"
    ))?;
    eventually(CHANGE, "connections follow the rule", async || request.send().await?.ensure_ok_from("v2"))
        .await?;
    shop.close().await
}
