//! What leaves the mesh: hosts that are declared, hosts that are not, and bytes.

use anyhow::{Result, ensure};
use pilot_tests::http_request::HttpRequest;
use pilot_tests::net::{free_port, local, loopback};
use pilot_tests::wait::eventually;
use pilot_tests::workload::Workload;

use super::bookshop::{Bookshop, CHANGE, SUBSETS};

#[tokio::test(flavor = "multi_thread")]
async fn a_closed_mesh_reaches_what_is_declared_and_nothing_else() -> Result<()> {
    let shop = Bookshop::open("").await?;
    let (port, target) = (free_port()?, free_port()?);
    let _api = Workload::start("api", (loopback(7), target).into()).await?;
    shop.rule(&format!(
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
    eventually(CHANGE, "what is declared is reached", async || declared.send().await?.ensure_ok_from("api"))
        .await?;
    let unknown = HttpRequest::get(local(port), "other.example.com", "/").send().await?;
    ensure!((unknown.status, unknown.server()) == (502, ""), "{unknown:?}");
    shop.close().await
}

#[tokio::test(flavor = "multi_thread")]
async fn bytes_go_where_a_rule_for_bytes_says() -> Result<()> {
    let shop = Bookshop::open("").await?;
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
    shop.rule(&entry)?;
    let ask = HttpRequest::get(local(port), "any", "/");
    eventually(CHANGE, "bytes go to their service", async || ask.send().await?.ensure_ok_from("db")).await?;
    shop.rule(&format!(
        "{entry}---{SUBSETS}---
apiVersion: networking.istio.io/v1
kind: VirtualService
metadata: {{name: db}}
spec: {{hosts: [db.example.com], tcp: [{{route: [{{destination: {{host: web, subset: v2}}}}]}}]}}
"
    ))?;
    eventually(CHANGE, "bytes go where the rule says", async || ask.send().await?.ensure_ok_from("v2"))
        .await?;
    shop.close().await
}
