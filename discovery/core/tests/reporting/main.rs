//! Telemetry of proxies: access logs and spans, by `Telemetry`, providers and the mesh.

#![allow(
    clippy::disallowed_methods,
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    clippy::unwrap_used,
    reason = "helpers of tests fail as tests do"
)]

#[path = "../fixture/mod.rs"]
mod fixture;
mod logs;
mod spans;

use std::collections::BTreeMap;

use fixture::*;
use pilot_core::cache::{Cache, resources};
use pilot_core::model::Proxy;
use pilot_core::push::PushContext;
use pilot_core::scope::{Scope, ScopeKey};
use pilot_proto::ResourceType::{Cluster, Listener, Route};
use pilot_proto::envoy::config::listener::v3 as lds;
use serde_json::Value;

const PROVIDERS: &str = "
extensionProviders:
- {name: file, envoyFileAccessLog: {path: /log, logFormat: {text: '%PROTOCOL%'}}}
- {name: fields, envoyFileAccessLog: {logFormat: {labels: {p: '%PROTOCOL%', q: '%REQ_WITHOUT_QUERY(:PATH)%'}}, omitEmptyValues: true}}
- {name: http, envoyHttpAls: {service: logs.infra.svc.cluster.local, port: 9000, additionalRequestHeadersToLog: [x]}}
- {name: tcp, envoyTcpAls: {service: infra/logs.infra.svc.cluster.local, port: 9000, logName: mine}}
- {name: otel, envoyOtelAls: {service: logs.infra.svc.cluster.local, port: 9000, logFormat: {labels: {b: '%PROTOCOL%', a: x}}}}
- {name: zipkin, zipkin: {service: spans.infra.svc.cluster.local, port: 9411, maxTagLength: 64}}
- {name: posted, zipkin: {service: spans.infra.svc.cluster.local, port: 9411, headers: [{name: k, value: v}], timeout: 2s}}
- {name: otlp, opentelemetry: {service: spans.infra.svc.cluster.local, port: 4317}}
- {name: otlphttp, opentelemetry: {service: spans.infra.svc.cluster.local, port: 9411, http: {path: /v1/traces, timeout: 10s}}}
- {name: dog, datadog: {service: spans.infra.svc.cluster.local, port: 9411}}
- {name: sky, skywalking: {service: spans.infra.svc.cluster.local, port: 4317}}
- {name: lost, zipkin: {service: nobody.infra.svc.cluster.local, port: 9411}}
";

fn mesh_of(config: &str, objects: &str) -> Mesh {
    let services = [
        kubernetes("web.default").port("http", 80).port("tcp", 81).vip("10.0.0.1").on("10.1.0.1"),
        kubernetes("logs.infra").port("grpc", 9000).vip("10.0.0.2").on("10.1.0.2"),
        kubernetes("spans.infra").port("http", 9411).port("grpc", 4317).vip("10.0.0.3").on("10.1.0.3"),
    ];
    Mesh::of(services, objects).config(&format!("{PROVIDERS}\n{config}"))
}

/// Returns a `Telemetry` in a namespace; each is younger than the previous one.
fn telemetry(place: &str, spec: &str) -> String {
    let (namespace, name) = place.split_once('/').unwrap();
    format!(
        "---\napiVersion: telemetry.istio.io/v1\nkind: Telemetry\nmetadata: {{name: {name}, namespace: {namespace}}}\nspec: {spec}\n"
    )
}

fn client() -> Proxy {
    let mut proxy = sidecar("10.1.0.1", "default");
    proxy.metadata.labels = BTreeMap::from([("app".to_owned(), "web".to_owned())]);
    proxy
}

fn listeners(push: &PushContext, proxy: &Proxy) -> BTreeMap<String, Value> {
    let made: BTreeMap<String, lds::Listener> = decoded(&generate(push, proxy, Listener, None));
    let printed = |(name, listener)| (name, pilot_proto::proto3_json::to_value(&listener).unwrap());
    made.into_iter().map(printed).collect()
}

/// Returns all network filters of this name in a listener.
fn filters<'a>(listener: &'a Value, name: &str) -> Vec<&'a Value> {
    let chains = listener["filter_chains"].as_array().into_iter().flatten();
    let chains = chains.chain(listener.get("default_filter_chain"));
    let all = chains.flat_map(|chain| chain["filters"].as_array().unwrap());
    all.filter(|filter| filter["name"] == name).map(|filter| &filter["typed_config"]).collect()
}

const HTTP: &str = "envoy.filters.network.http_connection_manager";
const TCP: &str = "envoy.filters.network.tcp_proxy";

#[test]
fn a_change_of_one_side_makes_nothing_else_anew() {
    // The name is constant, so that the class of the proxy is the same before and after.
    let object = |mode: &str| {
        telemetry(
            "istio-system/mesh",
            &format!("{{accessLogging: [{{providers: [{{name: file}}], match: {{mode: {mode}}}}}]}}"),
        )
    };
    let (before, after) = (mesh_of("", &object("CLIENT")), mesh_of("", &object("CLIENT_AND_SERVER")));
    let (mut world, push) = before.world();
    let cache = Cache::default();
    let proxy = client();
    let made = |push: &PushContext| {
        let scope = Scope::of(push, ScopeKey::of(push, &proxy), None);
        for kind in [Cluster, Listener] {
            drop(resources(&cache, push, &scope, &proxy, kind, None));
        }
        drop(resources(&cache, push, &scope, &proxy, Route, Some(&names(["80"]))));
        cache.stats().into_iter().map(|(kind, stats)| (kind, stats.misses)).collect::<BTreeMap<_, _>>()
    };
    let first = made(&push);
    let second = made(&after.again(&mut world, &push));
    assert_eq!(second[&Listener], first[&Listener] + 1, "only what arrives is logged otherwise");
    assert_eq!((second[&Cluster], second[&Route]), (first[&Cluster], first[&Route]));
}
