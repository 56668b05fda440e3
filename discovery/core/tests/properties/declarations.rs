//! Properties of every mesh, for any declarations of services.

use std::collections::BTreeSet;

use pilot_core::cache::{Cache, resources};
use pilot_core::model::{NameSet, Proxy, Resolution};
use pilot_core::push::PushContext;
use pilot_core::scope::{Scope, ScopeKey};
use pilot_proto::ResourceType::{self, Cluster, Endpoint, Listener, Route};
use pilot_proto::envoy::config::cluster::v3 as cds;
use pilot_proto::envoy::config::listener::v3 as lds;
use pilot_proto::envoy::config::route::v3::RouteConfiguration;
use pilot_proto::node::InterceptionMode;
use proptest::collection::vec;
use proptest::prelude::*;
use proptest::sample::select;

use crate::KINDS;
use crate::fixture::*;

/// Returns a service that often shares hosts, ports and addresses with others.
fn service() -> impl Strategy<Value = Declared> {
    let port = (
        select(vec!["http", "grpc", "tcp", "", "tls", "mongo", "udp", "grpc-web"]),
        select(vec![80, 81, 15001, 15021]),
    );
    (
        select(vec!["a.default", "b.default", "c.default", "a.shop", "x.example.com", "*.example.com"]),
        vec(port, 1..3),
        vec(
            select(vec![
                "10.0.0.1",
                "10.0.0.2",
                "fd00::1",
                "172.16.0.0/12",
                "172.17.0.0/12",
                "10.0.0.0/8",
                "0.0.0.0",
            ]),
            0..3,
        ),
        vec(select(vec!["10.1.0.1", "10.1.0.2", "fd00:1::1", "host.example.com", "unix:///run/x"]), 0..3),
        select(vec![
            Resolution::ClientSideLb,
            Resolution::Dns,
            Resolution::DnsRoundRobin,
            Resolution::Passthrough,
            Resolution::DynamicDns,
            Resolution::Alias("a.default.svc.cluster.local".into()),
        ]),
        1..4_i64,
    )
        .prop_map(|(name, ports, vips, endpoints, resolution, created)| {
            let base = if name.contains("example") { entry(name) } else { kubernetes(name) };
            let base = base.resolution(resolution).created(created);
            let base = ports.into_iter().fold(base, |it, (name, number)| it.port(name, number));
            let base = vips.into_iter().fold(base, Declared::vip);
            endpoints.into_iter().fold(base, Declared::on)
        })
}

fn proxy() -> impl Strategy<Value = Proxy> {
    (
        select(vec!["10.1.0.1", "10.1.0.9", "fd00:1::1"]),
        select(vec!["default", "shop"]),
        select(vec![InterceptionMode::Redirect, InterceptionMode::Tproxy, InterceptionMode::None]),
        0..4_u8,
    )
        .prop_map(|(ip, namespace, mode, kind)| {
            let proxy = sidecar(ip, namespace).interception(mode);
            match kind {
                0 => proxy.router(),
                1 => proxy.proxyless(),
                2 => proxy.unprivileged(),
                _ => proxy,
            }
        })
}

/// Returns every name that a proxy can request.
fn askable(push: &PushContext, proxy: &Proxy, kind: ResourceType) -> Option<NameSet> {
    let asked = match kind {
        Endpoint => generate(push, proxy, Cluster, None)
            .resources
            .iter()
            .map(|resource| resource.name.clone())
            .collect(),
        Route if proxy.is_proxyless() => generate(push, proxy, Cluster, None)
            .resources
            .iter()
            .map(|resource| resource.name.clone())
            .collect(),
        Route => {
            let listeners = decoded::<lds::Listener>(&generate(push, proxy, Listener, None));
            texts_in(listeners.values(), "route_config_name")
        }
        _ => return None,
    };
    Some(asked)
}

/// Returns the matches of a filter chain as Envoy compares them: one for each network and name.
fn each_match(chain: &lds::FilterChain) -> Vec<lds::FilterChainMatch> {
    let all = chain.filter_chain_match.clone().unwrap_or_default();
    let split = |count: usize| (0..count.max(1)).collect::<Vec<_>>();
    let one = |network: usize, name: usize| lds::FilterChainMatch {
        prefix_ranges: all.prefix_ranges.get(network).cloned().into_iter().collect(),
        server_names: all.server_names.get(name).cloned().into_iter().collect(),
        ..all.clone()
    };
    let names = split(all.server_names.len());
    let networks = split(all.prefix_ranges.len()).into_iter();
    networks
        .flat_map(|network| names.iter().map(move |name| (network, *name)))
        .map(|(a, b)| one(a, b))
        .collect()
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 96, ..ProptestConfig::default() })]

    #[test]
    fn the_order_of_declarations_does_not_matter(mut services in vec(service(), 0..8), proxy in proxy()) {
        // Of two declarations of one service the later one replaces the first: keep one of each.
        let mut seen = BTreeSet::new();
        services.retain(|it| seen.insert((it.service.hostname.clone(), it.service.namespace.clone())));
        let forwards = mesh(services.clone());
        services.reverse();
        for declared in &mut services {
            declared.endpoints.reverse();
        }
        let backwards = mesh(services);
        for kind in KINDS {
            let names = askable(&forwards, &proxy, kind);
            prop_assert_eq!(
                generate(&forwards, &proxy, kind, names.as_ref()),
                generate(&backwards, &proxy, kind, names.as_ref())
            );
        }
    }

    #[test]
    fn what_is_remembered_is_what_would_be_made(
        meshes in vec(vec(service(), 0..6), 1..4),
        proxies in vec(proxy(), 1..4),
    ) {
        // A small cache with evictions, shared by all cases.
        let cache = Cache::new(40);
        let pushes: Vec<PushContext> = meshes.into_iter().map(mesh).collect();
        for push in pushes.iter().chain(pushes.iter().rev()) {
            for proxy in &proxies {
                let scope = Scope::of(push, ScopeKey::of(push, proxy), None);
                for kind in KINDS {
                    let names = askable(push, proxy, kind);
                    let shared = resources(&cache, push, &scope, proxy, kind, names.as_ref());
                    prop_assert_eq!(shared, generate(push, proxy, kind, names.as_ref()));
                }
            }
        }
    }

    #[test]
    fn one_name_alone_is_answered_as_among_all(services in vec(service(), 0..6), proxy in proxy()) {
        let push = mesh(services);
        for kind in KINDS {
            let all = generate(&push, &proxy, kind, askable(&push, &proxy, kind).as_ref()).resources;
            for resource in all.iter() {
                let alone = generate(&push, &proxy, kind, Some(&NameSet::from_iter([resource.name.clone()]))).resources;
                prop_assert_eq!(alone.iter().collect::<Vec<_>>(), vec![resource]);
            }
        }
    }

    #[test]
    fn nothing_that_is_sent_leads_nowhere(services in vec(service(), 0..8), proxy in proxy()) {
        let push = mesh(services);
        let clusters: BTreeSet<String> =
            decoded::<cds::Cluster>(&generate(&push, &proxy, Cluster, None)).into_keys().collect();
        let listeners = decoded::<lds::Listener>(&generate(&push, &proxy, Listener, None));
        for (name, listener) in &listeners {
            prop_assert_eq!(name, &listener.name);
            let mut matches = Vec::new();
            for one in listener.filter_chains.iter().flat_map(each_match) {
                prop_assert!(!matches.contains(&one), "{} matches twice: {:?}", name, one);
                matches.push(one);
            }
        }
        let asked = askable(&push, &proxy, Route).unwrap();
        let routes = decoded::<RouteConfiguration>(&generate(&push, &proxy, Route, Some(&asked)));
        prop_assert_eq!(routes.len(), asked.len(), "every route that a listener names is answered");
        for (name, routes) in &routes {
            let mut domains = BTreeSet::new();
            for domain in routes.virtual_hosts.iter().flat_map(|host| &host.domains) {
                prop_assert!(domains.insert(domain.to_ascii_lowercase()), "{} twice in {}", domain, name);
            }
        }
        // Clusters that could not be generated are missing, and reported.
        let report = generate(&push, &proxy, Cluster, None).report;
        let missing: BTreeSet<String> = report.rejected.iter().map(|it| it.subject.clone()).collect();
        let named = texts_in(listeners.values(), "cluster").union(&texts_in(routes.values(), "cluster"));
        for cluster in &named {
            prop_assert!(clusters.contains(&**cluster) || missing.contains(&**cluster), "{} does not exist", cluster);
        }
    }
}
