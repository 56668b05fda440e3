//! Telemetry of real requests: access log lines in a file, spans at a collector.

use std::fs;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use pilot_tests::net::{free_port, get_ok, loopback};
use pilot_tests::wait::eventually;
use pilot_tests::workload::Workload;
use serde_json::{Value, json};

use super::bookshop::{BookshopMesh, CHANGE};

/// Returns a `ServiceEntry` for a collector over HTTP and, at another port, over gRPC.
fn collector(http: u16, grpc: u16) -> String {
    format!(
        "
apiVersion: networking.istio.io/v1
kind: ServiceEntry
metadata: {{name: spans}}
spec:
  hosts: [spans.example.com]
  resolution: STATIC
  ports: [{{number: {http}, name: http, protocol: HTTP}}, {{number: {grpc}, name: grpc, protocol: GRPC}}]
  endpoints: [{{address: 127.0.0.8}}]
"
    )
}

fn telemetry(spec: &str) -> String {
    format!(
        "---
apiVersion: telemetry.istio.io/v1
kind: Telemetry
metadata: {{name: mesh, namespace: istio-system}}
spec: {spec}
"
    )
}

/// Adds settings to the mesh file.
fn configure(shop: &BookshopMesh, settings: &Value) -> Result<()> {
    let path = shop.mesh.dir.path().join("mesh.yaml");
    let mut mesh: Value = serde_saphyr::from_str(&fs::read_to_string(&path)?)?;
    let own = mesh.as_object_mut().context("a mesh file is a mapping")?;
    own.extend(settings.as_object().cloned().unwrap_or_default());
    fs::write(path, serde_saphyr::to_string(&mesh)?).context("write the mesh file")
}

#[tokio::test(flavor = "multi_thread")]
async fn access_log_filter_selects_requests_and_every_request_is_traced() -> Result<()> {
    let (http, grpc) = (free_port()?, free_port()?);
    let spans = Workload::start("spans", (loopback(8), http).into()).await?;
    let shop = BookshopMesh::open("").await?;
    let log = shop.mesh.dir.path().join("access.log");
    configure(
        &shop,
        &json!({"extensionProviders": [
            {"name": "file", "envoyFileAccessLog": {"path": log, "logFormat": {"labels": {"path": "%REQ(:PATH)%", "code": "%RESPONSE_CODE%"}}}},
            {"name": "zipkin", "zipkin": {"service": "spans.example.com", "port": http}},
        ]}),
    )?;
    shop.set_rules(&format!(
        "{}{}",
        collector(http, grpc),
        telemetry(
            "{accessLogging: [{providers: [{name: file}], filter: {expression: 'response.code >= 400'}}],
              tracing: [{providers: [{name: zipkin}], randomSamplingPercentage: 100, customTags: {shop: {literal: {value: open}}}}]}"
        )
    ))?;
    for version in [&shop.v1, &shop.v2, &shop.v3] {
        version.respond_with(404, Duration::ZERO);
    }
    eventually(CHANGE, "an error response is logged", async || {
        shop.get("/bad").send().await?;
        let lines = fs::read_to_string(&log)?;
        let line: Value = serde_json::from_str(lines.lines().last().context("the log is empty")?)?;
        ensure!(line == json!({"path": "/bad", "code": 404}), "{line}");
        Ok(())
    })
    .await?;
    for version in [&shop.v1, &shop.v2, &shop.v3] {
        version.respond_with(200, Duration::ZERO);
    }
    let good = shop.get("/good").send().await?;
    ensure!(good.status == 200, "{good:?}");
    eventually(CHANGE, "spans arrive", async || {
        let posted = spans.requests();
        ensure!(
            posted
                .iter()
                .any(|recorded| recorded.path == "/api/v2/spans" && recorded.host == "spans.example.com"),
            "{posted:?}"
        );
        Ok(())
    })
    .await?;
    ensure!(!fs::read_to_string(&log)?.contains("/good"), "a successful response was logged");
    shop.close().await
}

#[tokio::test(flavor = "multi_thread")]
async fn envoy_accepts_every_extension_provider() -> Result<()> {
    let (http, grpc) = (free_port()?, free_port()?);
    let shop = BookshopMesh::open("").await?;
    let at = |port: u16| json!({"service": "spans.example.com", "port": port});
    let with = |mut service: Value, more: Value| {
        service
            .as_object_mut()
            .into_iter()
            .for_each(|own| own.extend(more.as_object().cloned().unwrap_or_default()));
        service
    };
    configure(
        &shop,
        &json!({
            "accessLogEncoding": "JSON", "pathNormalization": {"normalization": "DECODE_AND_MERGE_SLASHES"},
            "outboundClusterStatName": "%SERVICE%_%SERVICE_PORT%",
            "defaultConfig": {"proxyHeaders": {
                "server": {"disabled": true}, "requestId": {"disabled": true}, "xForwardedPort": {"enabled": true},
                "envoyDebugHeaders": {"disabled": true}, "attemptCount": {"disabled": true},
            }},
            "extensionProviders": [
                {"name": "text", "envoyFileAccessLog": {"logFormat": {"text": "%REQ_WITHOUT_QUERY(:PATH)% %CEL(request.method)% %METADATA(ROUTE:a)%"}}},
                {"name": "http", "envoyHttpAls": at(grpc)},
                {"name": "tcp", "envoyTcpAls": at(grpc)},
                {"name": "otel", "envoyOtelAls": with(at(grpc), json!({"logFormat": {"labels": {"a": "%REQ_WITHOUT_QUERY(:PATH)%"}}}))},
                {"name": "zipkin", "zipkin": with(at(http), json!({"timeout": "1s", "headers": [{"name": "k", "value": "v"}]}))},
                {"name": "otlp", "opentelemetry": with(at(grpc), json!({"grpc": {"timeout": "1s", "initialMetadata": [{"name": "k", "value": "v"}]}}))},
                {"name": "otlphttp", "opentelemetry": with(at(http), json!({"http": {"path": "/v1/traces"}}))},
                {"name": "datadog", "datadog": at(http)},
                {"name": "skywalking", "skywalking": at(grpc)},
            ],
        }),
    )?;
    let tags = "{l: {literal: {value: v}}, e: {environment: {name: HOME}}, h: {header: {name: x}}, f: {formatter: {value: '%PROTOCOL%'}}}";
    let logs = "[{providers: [{name: envoy}, {name: text}, {name: http}, {name: tcp}, {name: otel}], filter: {expression: 'true'}}]";
    for (provider, tracer) in [
        ("zipkin", "envoy.tracers.zipkin"),
        ("otlp", "envoy.tracers.opentelemetry"),
        ("datadog", "envoy.tracers.datadog"),
        ("otlphttp", "/v1/traces"),
        ("skywalking", "envoy.tracers.skywalking"),
    ] {
        let object = telemetry(&format!(
            "{{accessLogging: {logs}, tracing: [{{providers: [{{name: {provider}}}], customTags: {tags}, disableContextPropagation: true}}]}}"
        ));
        shop.set_rules(&format!("{}{object}", collector(http, grpc)))?;
        eventually(CHANGE, "the tracer is in use", async || {
            let dump = get_ok(shop.mesh.sidecar.admin, "/config_dump?resource=dynamic_listeners").await?;
            for part in [
                tracer,
                "access_loggers.open_telemetry",
                "access_loggers.http_grpc",
                "access_loggers.tcp_grpc",
                "extension_filters.cel",
            ] {
                ensure!(dump.contains(part), "{part} is missing");
            }
            ensure!(!dump.contains("error_state"), "a listener was rejected");
            Ok(())
        })
        .await?;
        let answer = shop.get("/").send().await?;
        ensure!(answer.status == 200, "{answer:?}");
    }
    shop.close().await
}
