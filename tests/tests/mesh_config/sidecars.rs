//! Between sidecars: `Sidecar.ingress`, and filters inserted by `EnvoyFilter`.

use anyhow::{Result, ensure};
use pilot_tests::http_request::HttpRequest;
use pilot_tests::mesh::Options;
use pilot_tests::net::{free_port, local, loopback};
use pilot_tests::wait::eventually;
use pilot_tests::workload::Workload;

use super::bookshop::{BookshopMesh, CHANGE};

#[tokio::test(flavor = "multi_thread")]
async fn sidecar_ingress_receives_requests_of_another_sidecar() -> Result<()> {
    let shop = BookshopMesh::open("").await?;
    let (port, served, own) = (free_port()?, free_port()?, free_port()?);
    let workload = Workload::start("cart", (loopback(1), own).into()).await?;
    shop.set_rules(&format!(
        "
apiVersion: v1
kind: Pod
metadata: {{name: cart, namespace: default, labels: {{app: cart}}}}
status: {{phase: Running, podIP: 127.0.0.8, podIPs: [{{ip: 127.0.0.8}}], conditions: [{{type: Ready, status: 'True'}}]}}
---
apiVersion: v1
kind: Service
metadata: {{name: cart, namespace: default}}
spec: {{clusterIP: 10.0.0.8, selector: {{app: cart}}, ports: [{{name: http, port: {port}, targetPort: {served}}}]}}
---
apiVersion: discovery.k8s.io/v1
kind: EndpointSlice
metadata: {{name: cart-1, namespace: default, labels: {{kubernetes.io/service-name: cart}}}}
addressType: IPv4
ports: [{{name: http, port: {served}}}]
endpoints: [{{addresses: [127.0.0.8], conditions: {{ready: true}}, targetRef: {{kind: Pod, name: cart, namespace: default}}}}]
---
apiVersion: networking.istio.io/v1
kind: Sidecar
metadata: {{name: cart}}
spec:
  workloadSelector: {{labels: {{app: cart}}}}
  ingress: [{{port: {{number: {served}, name: http, protocol: HTTP}}, bind: 127.0.0.8, captureMode: NONE, defaultEndpoint: '127.0.0.1:{own}'}}]
  egress: [{{hosts: ['~/*']}}]
"
    ))?;
    let options = Options { pod: "cart", ip: loopback(8), ..Options::new()? };
    let beside = shop.mesh.join(&options).await?;
    let request = HttpRequest::get(local(port), "cart", "/x");
    eventually(CHANGE, "the cart answers", async || request.send().await?.ensure_ok_from("cart")).await?;
    let recorded = workload.last_request()?;
    ensure!(recorded.path == "/x" && recorded.host == "cart", "{recorded:?}");
    let stats = beside.stats("downstream_rq_2xx").await?;
    ensure!(
        stats.iter().any(|(name, count)| name.contains("inbound") && *count > 0),
        "no request in the stats of the workload's sidecar: {stats:?}"
    );
    beside.ensure_no_rejection().await?;
    shop.close().await
}

#[tokio::test(flavor = "multi_thread")]
async fn envoy_filter_inserts_a_lua_filter() -> Result<()> {
    let shop = BookshopMesh::open(
        r#"
apiVersion: networking.istio.io/v1alpha3
kind: EnvoyFilter
metadata: {name: lua}
spec:
  workloadSelector: {labels: {app: client}}
  configPatches:
  - applyTo: HTTP_FILTER
    match:
      context: SIDECAR_OUTBOUND
      listener: {filterChain: {filter: {name: envoy.filters.network.http_connection_manager, subFilter: {name: envoy.filters.http.router}}}}
    patch:
      operation: INSERT_BEFORE
      value:
        name: envoy.filters.http.lua
        typed_config:
          '@type': type.googleapis.com/envoy.extensions.filters.http.lua.v3.Lua
          default_source_code:
            inline_string: |
              function envoy_on_request(handle) handle:headers():add("x-lua", "asked") end
              function envoy_on_response(handle) handle:headers():add("x-lua", "answered") end
"#,
    )
    .await?;
    let answer =
        shop.wait_for(&shop.get("/"), "Lua answers", |answer| answer.header("x-lua") == "answered").await?;
    let recorded = match answer.server() {
        "v1" => shop.v1.last_request()?,
        "v2" => shop.v2.last_request()?,
        _ => shop.v3.last_request()?,
    };
    ensure!(recorded.headers.get("x-lua").is_some_and(|value| value == "asked"), "{recorded:?}");
    shop.close().await
}

#[tokio::test(flavor = "multi_thread")]
async fn envoy_filter_inserts_a_filter_with_config_discovery() -> Result<()> {
    let configured = |value: &str| {
        format!(
            r#"
apiVersion: networking.istio.io/v1alpha3
kind: EnvoyFilter
metadata: {{name: discovered}}
spec:
  configPatches:
  - applyTo: HTTP_FILTER
    match:
      context: SIDECAR_OUTBOUND
      listener: {{filterChain: {{filter: {{name: envoy.filters.network.http_connection_manager, subFilter: {{name: envoy.filters.http.router}}}}}}}}
    patch:
      operation: INSERT_BEFORE
      value:
        name: mine
        config_discovery:
          config_source: {{ads: {{}}, initial_fetch_timeout: 0s, resource_api_version: V3}}
          type_urls: [type.googleapis.com/envoy.extensions.filters.http.lua.v3.Lua]
  - applyTo: EXTENSION_CONFIG
    patch:
      operation: ADD
      value:
        name: mine
        typed_config:
          '@type': type.googleapis.com/envoy.extensions.filters.http.lua.v3.Lua
          default_source_code:
            inline_string: |
              function envoy_on_response(handle) handle:headers():add("x-lua", "{value}") end
"#
        )
    };
    let shop = BookshopMesh::open(&configured("first")).await?;
    shop.wait_for(&shop.get("/"), "Lua answers", |answer| answer.header("x-lua") == "first").await?;
    shop.set_rules(&configured("second"))?;
    shop.wait_for(&shop.get("/"), "the new Lua answers", |answer| answer.header("x-lua") == "second").await?;
    shop.close().await
}
