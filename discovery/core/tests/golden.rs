//! What proxies are sent, to the letter: `testdata/<case>/*.json`. `UPDATE_EXPECT=1` rewrites the files.
//!
//! Messages are spelt as Envoy's `/config_dump` spells them.

#![allow(
    clippy::disallowed_methods,
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    clippy::unwrap_used,
    reason = "helpers of tests fail as tests do"
)]

mod fixture;

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;
use std::{env, fs};

use fixture::*;
use pilot_core::model::{Health, Hostname, Locality, NameSet, Namespace, Proxy, Resolution};
use pilot_core::push::PushContext;
use pilot_proto::ResourceType;
use pilot_proto::google::protobuf::Any;
use pilot_proto::mesh::{MeshConfig, OutboundTrafficMode, OutboundTrafficPolicy};
use pilot_proto::node::InterceptionMode;
use prost::Message;
use serde_json::Value;

/// Envoy's own order of asking: clusters and listeners, then what they name.
fn check(case: &str, push: &PushContext, proxy: &Proxy) {
    let clusters = dump(push, proxy, ResourceType::Cluster, None);
    let listeners = dump(push, proxy, ResourceType::Listener, None);
    let eds: NameSet = clusters
        .iter()
        .filter(|cluster| cluster["type"] == "EDS")
        .map(|cluster| Arc::from(cluster["name"].as_str().unwrap()))
        .collect();
    let rds = texts(&Value::Array(listeners.clone()), "route_config_name").into_iter().collect();
    let files = BTreeMap::from([
        ("clusters", clusters),
        ("endpoints", dump(push, proxy, ResourceType::Endpoint, Some(&eds))),
        ("listeners", listeners),
        ("routes", dump(push, proxy, ResourceType::Route, Some(&rds))),
    ]);
    for (name, found) in files {
        expect(&format!("{case}/{name}.json"), &found);
    }
}

fn dump(push: &PushContext, proxy: &Proxy, kind: ResourceType, names: Option<&NameSet>) -> Vec<Value> {
    let generated = generate(push, proxy, kind, names);
    let message = kind.type_url().rsplit_once('/').unwrap().1;
    generated
        .resources
        .iter()
        .map(|resource| {
            let any = Any::decode(resource.body.clone()).unwrap();
            assert_eq!(any.type_url, kind.type_url());
            pilot_proto::json::encoded_to_value(message, &any.value).unwrap()
        })
        .collect()
}

fn expect(file: &str, found: &[Value]) {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("testdata").join(file);
    let found = serde_json::to_string_pretty(found).unwrap() + "\n";
    let update = env::var_os("UPDATE_EXPECT").is_some();
    if update {
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(&path, &found).unwrap();
    }
    let expected = fs::read_to_string(&path).unwrap_or_default();
    let line = found.lines().zip(expected.lines()).position(|(a, b)| a != b);
    assert!(
        found == expected,
        "{file} differs at line {:?}; UPDATE_EXPECT=1 rewrites it",
        line.map(|n| n + 1)
    );
}

/// One service of every kind that Kubernetes has.
fn kubernetes_services() -> PushContext {
    mesh([
        kubernetes("reviews.default")
            .to("http", 9080, 8080)
            .vip("10.0.0.1")
            .endpoint("10.1.0.1", |it| it.locality = Locality::parse("r1/z1"))
            .endpoint("10.1.0.2", |it| it.locality = Locality::parse("r1/z2"))
            .endpoint("10.1.0.3", |it| (it.locality, it.weight) = (Locality::parse("r1/z1"), 3))
            .endpoint("10.1.0.4", |it| it.health = Health::Unhealthy)
            .endpoint("10.1.0.5", |it| it.health = Health::Draining)
            .endpoint("10.1.0.6", |it| it.health = Health::Terminating),
        kubernetes("rpc.shop").port("grpc", 9090).vip("10.0.0.2").on("10.1.1.1"),
        kubernetes("mysql.default").port("mysql", 3306).vip("10.0.0.3").on("10.1.2.1"),
        kubernetes("mongo.default").port("mongo", 27017).vip("10.0.0.4").on("10.1.3.1"),
        kubernetes("legacy.default").port("", 7000).vip("10.0.0.5").on("10.1.4.1"),
        kubernetes("headless.default").headless().port("tcp", 5432).port("http", 80).on("10.1.5.1"),
        kubernetes("alias.default").alias_of("reviews.default.svc.cluster.local").port("http", 9080),
        kubernetes("empty.default").port("http", 9081).vip("10.0.0.6"),
    ])
}

fn external_services() -> PushContext {
    mesh([
        entry("api.example.com")
            .resolution(Resolution::Dns)
            .port("http", 80)
            .port("tls", 443)
            .on("api.example.com"),
        entry("rr.example.com")
            .resolution(Resolution::DnsRoundRobin)
            .port("http", 80)
            .on("rr.example.com")
            .on("10.2.0.1"),
        entry("*.wild.example.com").resolution(Resolution::Passthrough).port("http", 80).port("tls", 443),
        entry("network.example.com")
            .resolution(Resolution::Passthrough)
            .port("tcp", 7777)
            .vip("172.16.0.0/12"),
        entry("socket.example.com").port("http", 8080).on("unix:///run/app.sock"),
        entry("static.example.com").port("http2", 8081).vip("240.0.0.1").on("10.2.0.2"),
        entry("nothing.example.com").resolution(Resolution::Dns).port("http", 80),
    ])
}

#[test]
fn an_intercepted_sidecar() {
    check("sidecar", &kubernetes_services(), &sidecar("10.1.0.1", "default"));
}

#[test]
fn a_sidecar_without_interception() {
    let proxy = sidecar("10.1.0.1", "default").interception(InterceptionMode::None);
    check("none", &kubernetes_services(), &proxy);
}

#[test]
fn a_sidecar_that_keeps_addresses_in_a_closed_mesh_and_logs() {
    let mut push = kubernetes_services();
    let only = |(host, _): &(Hostname, Namespace)| host.as_str().starts_with("reviews");
    push.services = push.services.into_iter().filter(|(key, _)| only(key)).collect();
    push.mesh = Arc::new(MeshConfig {
        access_log_file: "/dev/stdout".into(),
        connect_timeout: Duration::from_millis(2500),
        outbound_traffic_policy: OutboundTrafficPolicy { mode: OutboundTrafficMode::RegistryOnly },
        proxy_http_port: 15080,
        ..MeshConfig::default()
    });
    let mut proxy = sidecar("10.1.0.1", "default").interception(InterceptionMode::Tproxy);
    proxy.metadata.http10 = Some("1".into());
    proxy.metadata.idle_timeout = Some("1h".into());
    check("tproxy", &push, &proxy);
}

#[test]
fn services_outside_the_mesh() {
    check("external", &external_services(), &sidecar("10.1.0.1", "default"));
}

#[test]
fn a_gateway_has_clusters_only() {
    let proxy = sidecar("10.1.9.1", "istio-system").router();
    check("gateway", &kubernetes_services(), &proxy);
}

#[test]
fn a_grpc_library() {
    check("grpc", &kubernetes_services(), &sidecar("10.1.0.1", "default").proxyless());
}

#[test]
fn ipv6() {
    let push = mesh([
        kubernetes("web.default").port("http", 80).vip("fd00::1").on("fd00:1::1"),
        kubernetes("db.default").port("tcp", 5432).vip("fd00::2").on("fd00:1::2"),
    ]);
    check("ipv6", &push, &sidecar("fd00:1::1", "default"));
}
