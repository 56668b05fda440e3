//! Visibility of a class of proxies: exports, several declarations of one host, aliases.

#![allow(
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    clippy::unwrap_used,
    reason = "helpers of tests fail as tests do"
)]

mod fixture;

use std::sync::Arc;

use fixture::*;
use pilot_core::model::{Hostname, Proxy, Registry, ServicePort};
use pilot_core::push::PushContext;
use pilot_core::scope::{Scope, ScopeKey};
use pilot_proto::mesh::MeshConfig;

fn scope(push: &PushContext, proxy: &Proxy) -> Arc<Scope> {
    Scope::of(push, ScopeKey::of(push, proxy), None)
}

fn hosts(push: &PushContext, namespace: &str) -> Vec<String> {
    let scope = scope(push, &sidecar("10.1.0.1", namespace));
    scope.services().iter().map(|seen| seen.service.name.to_string()).collect()
}

#[test]
fn a_service_is_seen_where_it_is_exported_to() {
    let push = mesh([
        kubernetes("public.shop"),
        kubernetes("star.shop").export_to(&["*"]),
        kubernetes("private.shop").export_to(&["."]),
        kubernetes("nobody.shop").export_to(&["~"]),
        kubernetes("named.shop").export_to(&["default", "other"]),
    ]);
    assert_eq!(hosts(&push, "shop"), ["public", "star", "private"]);
    assert_eq!(hosts(&push, "default"), ["public", "star", "named"]);
    assert_eq!(hosts(&push, "elsewhere"), ["public", "star"]);
}

#[test]
fn the_mesh_decides_for_services_that_do_not() {
    let mut push = mesh([kubernetes("silent.shop"), kubernetes("public.shop").export_to(&["*"])]);
    let mesh = MeshConfig { default_service_export_to: vec![".".into()], ..MeshConfig::default() };
    push.mesh = Arc::new(mesh);
    assert_eq!(hosts(&push, "shop"), ["silent", "public"]);
    assert_eq!(hosts(&push, "default"), ["public"]);
}

#[test]
fn of_several_declarations_of_a_host_one_counts() {
    let declared = |namespace: &str, registry, created| {
        let mut it = entry("api.example.com").created(created);
        it.service.namespace = namespace.into();
        it.service.registry = registry;
        it
    };
    let push = mesh([
        declared("c", Registry::External, 10),
        declared("b", Registry::External, 5),
        declared("a", Registry::External, 20),
        declared("k", Registry::Kubernetes, 30),
    ]);
    let winner = |namespace| {
        let scope = scope(&push, &sidecar("10.1.0.1", namespace));
        assert_eq!(scope.services().len(), 1);
        scope.by_host("api.example.com").unwrap().service.namespace.to_string()
    };
    assert_eq!(winner("c"), "c", "one's own first");
    assert_eq!(winner("other"), "k", "then Kubernetes");

    let without = mesh([
        declared("c", Registry::External, 10),
        declared("b", Registry::External, 5),
        declared("a", Registry::External, 5),
    ]);
    let scope = scope(&without, &sidecar("10.1.0.1", "other"));
    assert_eq!(scope.by_host("api.example.com").unwrap().service.namespace.as_str(), "a", "then the oldest");
}

#[test]
fn aliases_belong_to_the_service_they_lead_to() {
    let push = mesh([
        kubernetes("web.default"),
        kubernetes("near.default").alias_of("web.default.svc.cluster.local"),
        kubernetes("far.default").alias_of("near.default.svc.cluster.local"),
        kubernetes("round.default").alias_of("about.default.svc.cluster.local"),
        kubernetes("about.default").alias_of("round.default.svc.cluster.local"),
        kubernetes("narcissus.default").alias_of("narcissus.default.svc.cluster.local"),
        kubernetes("outside.default").alias_of("example.com"),
    ]);
    let scope = scope(&push, &sidecar("10.1.0.1", "default"));
    assert_eq!(scope.services().len(), 1);
    let expected: &[Hostname] = &[fqdn("far"), fqdn("near")];
    assert_eq!(&*scope.by_host("web.default.svc.cluster.local").unwrap().aliases, expected);
    assert!(scope.by_host("near.default.svc.cluster.local").is_none());
}

#[test]
fn ports_are_indexed_without_what_cannot_be_proxied() {
    let push = mesh([
        kubernetes("dns.default").port("udp-dns", 53),
        kubernetes("both.default").port("udp-dns", 53).port("tcp-dns", 53).port("http", 80),
        kubernetes("web.default").port("http", 80),
    ]);
    let scope = scope(&push, &sidecar("10.1.0.1", "default"));
    let on = |port| {
        let services = scope.on_port(port).into_iter().flat_map(|services| services.iter());
        services.map(|seen| seen.service.name.to_string()).collect::<Vec<_>>()
    };
    assert_eq!(on(53), ["both"]);
    assert_eq!(on(80), ["both", "web"]);
    assert!(on(81).is_empty());
    let tcp = scope.by_host("both.default.svc.cluster.local").unwrap().service.port(53);
    assert_eq!(tcp.map(|port: &ServicePort| &*port.name), Some("tcp-dns"));
}
