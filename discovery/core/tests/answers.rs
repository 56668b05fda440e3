//! Resources for requested names, and cache hits.

#![allow(
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    clippy::unwrap_used,
    reason = "helpers of tests fail as tests do"
)]

mod fixture;

use std::collections::BTreeMap;
use std::sync::Arc;

use fixture::*;
use pilot_core::cache::{Cache, resources};
use pilot_core::generate::RejectReason;
use pilot_core::model::{Health, NameSet, Resolution, ResourceSet, Shared};
use pilot_core::push::PushContext;
use pilot_core::scope::{Scope, ScopeKey};
use pilot_proto::ResourceType::{self, Cluster, Endpoint, Listener, Route};
use pilot_proto::envoy::config::endpoint::v3::{ClusterLoadAssignment, lb_endpoint};
use pilot_proto::envoy::config::listener::v3 as lds;
use pilot_proto::envoy::config::route::v3::RouteConfiguration;
use pilot_proto::node::InterceptionMode;

/// Returns `address:port health weight` of every endpoint.
fn served(assignment: &ClusterLoadAssignment) -> Vec<String> {
    let endpoints = assignment.endpoints.iter().flat_map(|locality| &locality.lb_endpoints);
    endpoints
        .map(|endpoint| {
            let Some(lb_endpoint::HostIdentifier::Endpoint(it)) = &endpoint.host_identifier else { panic!() };
            let address = format!("{:?}", it.address.as_ref().unwrap().address.as_ref().unwrap());
            let address = address.split('"').nth(1).unwrap().to_owned();
            format!(
                "{address} {} {}",
                endpoint.health_status().as_str_name(),
                endpoint.load_balancing_weight.unwrap().value
            )
        })
        .collect()
}

#[test]
fn every_cluster_that_is_asked_for_gets_endpoints_or_the_word_that_there_are_none() {
    let push = mesh([
        kubernetes("web.default").port("http", 80).port("tcp", 81).vip("10.0.0.1").on("10.1.0.1"),
        kubernetes("empty.default").port("http", 80),
        kubernetes("hidden.shop").port("http", 80).on("10.1.0.2").export_to(&["."]),
        entry("dns.example.com").resolution(Resolution::Dns).port("http", 80).on("dns.example.com"),
    ]);
    let proxy = sidecar("10.1.0.9", "default");
    for (cluster, expected) in [
        ("outbound|80||web.default.svc.cluster.local", &["10.1.0.1 HEALTHY 1"][..]),
        ("outbound|80||empty.default.svc.cluster.local", &[]),
        ("outbound|82||web.default.svc.cluster.local", &[]),
        ("outbound|80|v1|web.default.svc.cluster.local", &[]),
        ("outbound|80||hidden.shop.svc.cluster.local", &[]),
        ("outbound|80||dns.example.com", &[]),
        ("inbound|80||", &[]),
        ("anything", &[]),
    ] {
        let answer =
            decoded::<ClusterLoadAssignment>(&generate(&push, &proxy, Endpoint, Some(&names([cluster]))));
        assert_eq!(answer.keys().collect::<Vec<_>>(), [cluster]);
        assert_eq!(answer[cluster].cluster_name, cluster);
        assert_eq!(served(&answer[cluster]), expected, "{cluster}");
    }
    assert!(generate(&push, &proxy, Endpoint, None).resources.is_empty(), "nobody asked");
}

#[test]
fn endpoints_are_sent_as_far_as_they_may_get_traffic() {
    let service = || {
        let declared = kubernetes("web.default").port("http", 80);
        declared
            .endpoint("10.1.0.4", |it| it.health = Health::Unhealthy)
            .endpoint("10.1.0.3", |it| it.weight = 0)
            .endpoint("10.1.0.2", |it| it.health = Health::Draining)
            .endpoint("10.1.0.1", |it| it.node = "near".into())
            .endpoint("10.1.0.5", |it| it.health = Health::Terminating)
    };
    let cluster = "outbound|80||web.default.svc.cluster.local";
    let ask = |push: &_, proxy: &_| {
        let answer = generate(push, proxy, Endpoint, Some(&names([cluster])));
        served(&decoded::<ClusterLoadAssignment>(&answer)[cluster])
    };
    let push = mesh([service()]);
    let sidecar = sidecar("10.1.0.9", "default");
    assert_eq!(ask(&push, &sidecar), ["10.1.0.1 HEALTHY 1", "10.1.0.3 HEALTHY 1", "10.1.0.4 UNHEALTHY 1"]);
    assert_eq!(ask(&push, &sidecar.clone().proxyless()), ["10.1.0.1 HEALTHY 1", "10.1.0.3 HEALTHY 1"]);

    let mut local = service();
    local.service.node_local = true;
    let push = mesh([local]);
    let mut near = sidecar.clone();
    near.metadata.node_name = Some("near".into());
    assert_eq!(ask(&push, &near), ["10.1.0.1 HEALTHY 1"]);
}

#[test]
fn what_only_dns_could_resolve_is_reported() {
    let push =
        mesh([entry("static.example.com").port("http", 80).on("10.1.0.1").on("elsewhere.example.com")]);
    let cluster = "outbound|80||static.example.com";
    let generated = generate(&push, &sidecar("10.1.0.9", "default"), Endpoint, Some(&names([cluster])));
    assert_eq!(served(&decoded::<ClusterLoadAssignment>(&generated)[cluster]), ["10.1.0.1 HEALTHY 1"]);
    let [rejected] = generated.report.rejected.as_slice() else { panic!("{:?}", generated.report) };
    assert_eq!(rejected.reason, RejectReason::HostnameEndpoint);
}

#[test]
fn routes_are_answered_by_the_names_that_listeners_use() {
    let push = mesh([
        kubernetes("web.default").port("http", 80).vip("10.0.0.1"),
        kubernetes("sniffed.default").port("", 81).vip("10.0.0.2"),
    ]);
    let proxy = sidecar("10.1.0.9", "default");
    let ask = |name| {
        let answer = decoded::<RouteConfiguration>(&generate(&push, &proxy, Route, Some(&names([name]))));
        let hosts =
            |routes: &RouteConfiguration| routes.virtual_hosts.iter().map(|it| it.name.clone()).collect();
        answer.get(name).map_or_else(|| vec!["nothing".to_owned()], hosts)
    };
    assert_eq!(ask("80"), ["web.default.svc.cluster.local:80", "allow_any"]);
    assert_eq!(ask("81"), ["sniffed.default.svc.cluster.local:81", "allow_any"]);
    assert_eq!(ask("9999"), ["allow_any"]);
    assert_eq!(ask("sniffed.default.svc.cluster.local:81"), ["sniffed.default.svc.cluster.local:81"]);
    for unknown in ["sniffed.default.svc.cluster.local:82", "gone.default:81", "0", "080", "x", "", "65536"] {
        assert_eq!(ask(unknown), ["nothing"], "{unknown}");
    }
}

#[test]
fn a_name_of_two_services_stays_with_the_older_one() {
    let push = mesh([
        entry("web.example.com").port("http", 80).vip("240.0.0.1"),
        entry("www.example.com").port("http", 80).vip("240.0.0.1"),
        // The short name of a service in the proxy's namespace is the full name of another.
        kubernetes("api.default").port("http", 80),
        entry("api.default").port("http", 80),
    ]);
    let generated = generate(&push, &sidecar("10.1.0.9", "default"), Route, Some(&names(["80"])));
    let routes = decoded::<RouteConfiguration>(&generated).remove("80").unwrap();
    let owners: BTreeMap<&str, &str> = routes
        .virtual_hosts
        .iter()
        .flat_map(|host| host.domains.iter().map(|domain| (domain.as_str(), host.name.as_str())))
        .collect();
    assert_eq!(owners["240.0.0.1"], "web.example.com:80");
    assert_eq!(owners["api.default"], "api.default:80");
    assert_eq!(owners["api"], "api.default.svc.cluster.local:80");
    assert_eq!(generated.report.counters()["pilot_vservice_dup_domain"], 1);
}

#[test]
fn a_grpc_library_gets_what_it_dials() {
    let push = mesh([
        kubernetes("rpc.default")
            .to("grpc", 9090, 50051)
            .port("grpc-admin", 9091)
            .vip("10.0.0.1")
            .on("10.1.0.1"),
        kubernetes("rpc.shop").port("grpc", 9090).vip("10.0.0.2").on("10.1.0.2"),
    ]);
    let proxy = sidecar("10.1.0.1", "default").proxyless();
    let ask = |kind: ResourceType, name| {
        let generated = generate(&push, &proxy, kind, Some(&names([name])));
        generated.resources.iter().map(|resource| resource.name.to_string()).collect::<Vec<_>>()
    };
    let full = "rpc.default.svc.cluster.local:9090";
    for target in [full, "rpc:9090", "rpc.default:9090", "rpc.default.svc:9090", "rpc.shop:9090"] {
        assert_eq!(ask(Listener, target), [target]);
    }
    assert_eq!(ask(Listener, "rpc"), ["rpc:9090", "rpc:9091"]);
    assert!(ask(Listener, "rpc:80").is_empty() && ask(Listener, "nobody:9090").is_empty());
    let cluster = "outbound|9090||rpc.default.svc.cluster.local";
    for kind in [Cluster, Route, Endpoint] {
        assert_eq!(ask(kind, cluster), [cluster]);
    }
    assert!(ask(Route, "9090").is_empty() && ask(Cluster, "BlackHoleCluster").is_empty());

    let routes = decoded::<RouteConfiguration>(&generate(&push, &proxy, Route, Some(&names([cluster]))));
    let domains = &routes[cluster].virtual_hosts[0].domains;
    for target in [full, "rpc:9090", "rpc.default:9090"] {
        assert!(domains.iter().any(|domain| domain == target), "{target} in {domains:?}");
    }
    let server = "xds.istio.io/grpc/lds/inbound/0.0.0.0:50051";
    assert_eq!(ask(Listener, server), [server]);
    assert!(ask(Listener, "xds.istio.io/grpc/lds/inbound/0.0.0.0:1").is_empty());
    let listener = decoded::<lds::Listener>(&generate(&push, &proxy, Listener, Some(&names([server]))));
    assert!(listener[server].listener_filters.is_empty() && listener[server].use_original_dst.is_none());
}

#[test]
fn proxies_of_a_class_share_what_is_the_same_for_them() {
    let push = mesh([
        kubernetes("web.default").port("http", 80).vip("10.0.0.1").on("10.1.0.1"),
        kubernetes("db.default").port("tcp", 5432).vip("10.0.0.2").on("10.1.0.2"),
    ]);
    let cache = Cache::new(1000);
    let scope = Scope::of(&push, ScopeKey::of(&push, &sidecar("10.1.0.1", "default")), None);
    let ask = |proxy: &_, kind| resources(&cache, &push, &scope, proxy, kind, None).resources;
    let (first, second) = (sidecar("10.1.0.1", "default"), sidecar("10.1.0.2", "default"));
    let (mine, theirs) = (ask(&first, Listener), ask(&second, Listener));
    let get = |set: &ResourceSet, name: &str| set.get(name).cloned().unwrap();
    let shared = |name: &str| get(&mine, name).body.as_ptr() == get(&theirs, name).body.as_ptr();
    assert!(shared("0.0.0.0_80") && shared("10.0.0.2_5432") && shared("virtualOutbound"));
    assert_ne!(get(&mine, "virtualInbound").version, get(&theirs, "virtualInbound").version);

    // A new snapshot with one changed service generates the cluster of that service only.
    let mut next = push.clone();
    let key = (fqdn("web"), "default".into());
    let mut changed = next.services[&key].as_ref().clone();
    changed.name = "renamed".into();
    next.services.insert(key, Arc::new(changed));
    let made = || cache.stats()[&Cluster].misses;
    ask(&first, Cluster);
    let before = made();
    let scope = Scope::of(&next, ScopeKey::of(&next, &first), None);
    resources(&cache, &next, &scope, &first, Cluster, None);
    let inbound_and_outbound = 2;
    assert_eq!(made() - before, inbound_and_outbound);
}

#[test]
fn one_changed_service_in_a_thousand_is_generated_alone() {
    let named = |number: u32| format!("s{number}.default");
    let push = mesh((0..1000_u32).map(|number| {
        let [_, _, high, low] = number.to_be_bytes();
        let (vip, endpoint) = (format!("10.0.{high}.{low}"), format!("10.1.{high}.{low}"));
        kubernetes(&named(number)).port("http", 80).port("tcp", 5432).vip(&vip).on(&endpoint)
    }));
    let (cache, proxy) = (Cache::new(60_000), sidecar("10.9.0.1", "default"));
    let everything = |push: &PushContext| {
        let scope = Scope::of(push, ScopeKey::of(push, &proxy), None);
        let ask =
            |kind, names: Option<&NameSet>| resources(&cache, push, &scope, &proxy, kind, names).resources;
        let clusters: NameSet = ask(Cluster, None).iter().map(|resource| resource.name.clone()).collect();
        ask(Listener, None);
        ask(Endpoint, Some(&clusters));
        ask(Route, Some(&names(["80", "s7.default.svc.cluster.local:80"])));
        clusters.len()
    };
    let made = || -> BTreeMap<ResourceType, u64> {
        cache.stats().into_iter().map(|(kind, stats)| (kind, stats.misses)).collect()
    };
    assert!(everything(&push) >= 2000);
    let before = made();
    assert!(before[&Cluster] >= 2000 && before[&Endpoint] >= 2000 && before[&Listener] >= 1000);

    let mut next = PushContext { version: push.version + 1, moment: Shared::default(), ..push.clone() };
    let key = (fqdn("s7"), "default".into());
    let mut changed = next.services[&key].as_ref().clone();
    changed.ports[1].port = 5433;
    next.services.insert(key, Arc::new(changed));
    everything(&next);
    let made: BTreeMap<ResourceType, u64> =
        made().into_iter().map(|(kind, made)| (kind, made - before[&kind])).collect();
    // Both of its clusters, the assignment of the one with the changed port, the listener of that port, and the routes of port
    // 80, which contain the service.
    assert!(
        made[&Cluster] <= 2 && made[&Endpoint] <= 2 && made[&Listener] <= 1 && made[&Route] <= 2,
        "{made:?}"
    );
    assert!(made[&Cluster] >= 1 && made[&Listener] == 1 && made[&Route] >= 1, "{made:?}");
}

#[test]
fn without_an_original_destination_headless_endpoints_are_told() {
    let push = mesh([kubernetes("db.default").headless().port("tcp", 5432).on("10.1.0.1")]);
    let name = "outbound|5432||db.default.svc.cluster.local";
    let kind = |proxy: &_| {
        let clusters = decoded::<pilot_proto::envoy::config::cluster::v3::Cluster>(&generate(
            &push, proxy, Cluster, None,
        ));
        format!("{:?}", clusters[name].cluster_discovery_type.clone().unwrap())
    };
    let sidecar = sidecar("10.1.0.9", "default");
    assert_eq!(kind(&sidecar), "Type(OriginalDst)");
    assert_eq!(kind(&sidecar.clone().interception(InterceptionMode::None)), "Type(Eds)");
    assert_eq!(kind(&sidecar.router()), "Type(Eds)");
}
