//! Effects of `DestinationRule`s, `Sidecar`s and the mesh on clusters and endpoints.

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
use std::sync::Arc;

use fixture::*;
use pilot_core::cache::{Cache, Generated, resources};
use pilot_core::model::{Health, Locality, Proxy, Resolution, TlsMode};
use pilot_core::push::PushContext;
use pilot_core::scope::{Scope, ScopeKey};
use pilot_proto::ResourceType::{self, Cluster, Endpoint};
use pilot_proto::envoy::config::cluster::v3 as cds;
use pilot_proto::envoy::config::core::v3::address::Address;
use pilot_proto::envoy::config::endpoint::v3::{ClusterLoadAssignment, lb_endpoint::HostIdentifier};
use pilot_proto::mesh::networks::MeshNetworks;
use pilot_proto::node::InterceptionMode;
use serde_json::Value;

const RULE: &str = r"
kind: DestinationRule
metadata: {name: web}
spec:
  host: web
  subsets:
  - {name: v1, labels: {version: v1}}
  - {name: v2, labels: {version: v2}, trafficPolicy: {outlierDetection: {minHealthPercent: 10}}}
  - {name: v3, labels: {version: v3}}
";

/// Two services; the versions of the first one run in two regions.
fn services() -> [Declared; 2] {
    let version = |text: &str| Arc::new(BTreeMap::from([("version".to_owned(), text.to_owned())]));
    let web = kubernetes("web.default")
        .port("http", 80)
        .port("tcp", 81)
        .vip("10.0.0.1")
        .endpoint("10.1.0.1", |it| (it.labels, it.locality) = (version("v1"), Locality::parse("r1")))
        .endpoint("10.1.0.2", |it| (it.labels, it.locality) = (version("v2"), Locality::parse("r2")))
        .endpoint("10.1.0.3", |it| (it.labels, it.health) = (version("v2"), Health::Unhealthy));
    [web, kubernetes("other.default").port("http", 80).vip("10.0.0.2").on("10.1.1.1")]
}

fn at(place: &str) -> Proxy {
    Proxy { locality: Locality::parse(place), ..sidecar("10.1.9.9", "default") }
}

fn clusters(push: &PushContext, proxy: &Proxy) -> Vec<Value> {
    let made: BTreeMap<String, cds::Cluster> = decoded(&generate(push, proxy, Cluster, None));
    made.values().map(|cluster| pilot_proto::proto3_json::to_value(cluster).unwrap()).collect()
}

fn cluster(push: &PushContext, proxy: &Proxy, name: &str) -> Value {
    let all = clusters(push, proxy);
    all.into_iter().find(|cluster| cluster["name"] == name).unwrap_or_else(|| panic!("no cluster {name}"))
}

fn cluster_names(push: &PushContext, proxy: &Proxy) -> Vec<String> {
    let all = clusters(push, proxy);
    all.iter().map(|cluster| cluster["name"].as_str().unwrap().to_owned()).collect()
}

/// Formats an assignment as `priority:address ...`.
fn told(assignment: &ClusterLoadAssignment) -> String {
    let groups = assignment.endpoints.iter().flat_map(|group| {
        group.lb_endpoints.iter().map(|endpoint| {
            let Some(HostIdentifier::Endpoint(it)) = &endpoint.host_identifier else { panic!() };
            let Some(Address::SocketAddress(socket)) = &it.address.as_ref().unwrap().address else {
                panic!()
            };
            format!("{}:{}", group.priority, socket.address)
        })
    });
    groups.collect::<Vec<_>>().join(" ")
}

fn endpoints(push: &PushContext, proxy: &Proxy, cluster: &str) -> String {
    let generated = generate(push, proxy, Endpoint, Some(&names([cluster])));
    told(&decode(generated.resources.get(cluster).unwrap()))
}

#[test]
fn each_subset_of_each_port_is_a_cluster_with_its_own_endpoints() {
    let push = Mesh::of(services(), RULE).push();
    let found = cluster_names(&push, &at(""));
    let web: Vec<&str> =
        found.iter().filter_map(|name| name.strip_suffix("|web.default.svc.cluster.local")).collect();
    assert_eq!(
        web,
        [
            "outbound|80|v1",
            "outbound|80|v2",
            "outbound|80|v3",
            "outbound|80|",
            "outbound|81|v1",
            "outbound|81|v2",
            "outbound|81|v3",
            "outbound|81|",
        ]
    );
    for (subset, expected) in [
        ("", "0:10.1.0.3 0:10.1.0.1 0:10.1.0.2"),
        ("v1", "0:10.1.0.1"),
        // Unhealthy endpoints are left out where Envoy might use them.
        ("v2", "0:10.1.0.2"),
        ("v3", ""),
        ("nobody", ""),
    ] {
        let name = format!("outbound|80|{subset}|web.default.svc.cluster.local");
        assert_eq!(endpoints(&push, &at(""), &name), expected, "{subset}");
    }
    let library = sidecar("10.1.9.9", "default").proxyless();
    let named = names([
        "outbound|80|v1|web.default.svc.cluster.local",
        "outbound|80|v9|web.default.svc.cluster.local",
    ]);
    let made = generate(&push, &library, Cluster, Some(&named));
    assert_eq!(made.resources.iter().count(), 1, "a gRPC library finds subsets too");
}

#[test]
fn a_subset_that_is_there_twice_is_reported() {
    let again = RULE.replace("{name: web}", "{name: again}");
    let push = Mesh::of(services(), RULE).and(&again).push();
    let made = generate(&push, &at(""), Cluster, None);
    assert_eq!(made.report.counters().get("pilot_destrule_subsets"), Some(&3));
}

/// Returns the number of newly generated resources, and all resources of a type.
fn fresh(cache: &Cache, push: &PushContext, kind: ResourceType, proxy: &Proxy) -> (u64, Generated) {
    let before = cache.stats()[&kind].misses;
    let scope = Scope::of(push, ScopeKey::of(push, proxy), None);
    let all = names([
        "outbound|80||web.default.svc.cluster.local",
        "outbound|81||web.default.svc.cluster.local",
        "outbound|80|v1|web.default.svc.cluster.local",
        "outbound|80||other.default.svc.cluster.local",
    ]);
    let asked = (kind == Endpoint).then_some(&all);
    let made = resources(cache, push, &scope, proxy, kind, asked);
    (cache.stats()[&kind].misses - before, made)
}

#[test]
fn a_rule_that_changes_costs_what_its_host_has() {
    let rule = |policy: &str| {
        format!(
            "{{kind: DestinationRule, metadata: {{name: web}}, spec: {{host: web, trafficPolicy: {policy}}}}}"
        )
    };
    let mesh = |policy: &str| Mesh::of(services(), &rule(policy));
    let (mut world, push) = mesh("{loadBalancer: {simple: RANDOM}}").world();
    let (cache, proxy) = (Cache::default(), at("r1"));
    assert_eq!(fresh(&cache, &push, Cluster, &proxy).0, 6, "three ports and the three that always exist");
    assert_eq!(fresh(&cache, &push, Endpoint, &proxy).0, 4);
    for (why, policy, clusters, assignments) in [
        ("both ports have another balancer", "{loadBalancer: {simple: ROUND_ROBIN}}", 2, 0),
        ("nothing has changed", "{loadBalancer: {simple: ROUND_ROBIN}}", 0, 0),
        // Three names of web: its two ports, and a subset that does not exist.
        ("endpoints are ordered now", "{outlierDetection: {}}", 2, 2),
    ] {
        let next = mesh(policy).again(&mut world, &push);
        let found = (fresh(&cache, &next, Cluster, &proxy).0, fresh(&cache, &next, Endpoint, &proxy).0);
        assert_eq!(found, (clusters, assignments), "{why}");
    }
}

#[test]
fn clients_of_all_places_share_until_a_rule_says_that_places_matter() {
    for (policy, labels, expected) in [
        ("{loadBalancer: {simple: RANDOM}}", "", 0),
        ("{loadBalancer: {localityLbSetting: {failover: [{from: r1, to: r2}]}}}", "", 0),
        ("{outlierDetection: {}, loadBalancer: {localityLbSetting: {enabled: false}}}", "", 0),
        ("{outlierDetection: {}}", "", 2),
        ("{loadBalancer: {localityLbSetting: {distribute: [{from: r9, to: {r9: 100}}]}}}", "", 0),
        ("{outlierDetection: {}, loadBalancer: {localityLbSetting: {failoverPriority: [rack]}}}", "pod=7", 0),
        (
            "{outlierDetection: {}, loadBalancer: {localityLbSetting: {failoverPriority: [rack]}}}",
            "rack=7",
            2,
        ),
    ] {
        let rule = format!(
            "{{kind: DestinationRule, metadata: {{name: web}}, spec: {{host: web, trafficPolicy: {policy}}}}}"
        );
        let push = Mesh::of(services(), &rule).push();
        let cache = Cache::default();
        fresh(&cache, &push, Endpoint, &at("r1"));
        let mut second = if labels.is_empty() { at("r2") } else { at("r1") };
        second.metadata.labels =
            labels.split_once('=').map(|(key, value)| (key.into(), value.into())).into_iter().collect();
        assert_eq!(fresh(&cache, &push, Endpoint, &second).0, expected, "{policy} {labels}");
    }
}

#[test]
fn near_endpoints_come_first_in_assignments_and_in_clusters() {
    let rules = r"
{kind: DestinationRule, metadata: {name: web}, spec: {host: web, trafficPolicy: {outlierDetection: {}}}}
---
{kind: ServiceEntry, metadata: {name: api}, spec: {
  hosts: [api.example.com], resolution: DNS, ports: [{number: 80, name: http, protocol: HTTP}],
  endpoints: [{address: a.example.com, locality: r1}, {address: b.example.com, locality: r2}],
}}
---
{kind: DestinationRule, metadata: {name: api}, spec: {host: api.example.com, trafficPolicy: {outlierDetection: {}}}}
";
    let push = Mesh::of(services(), rules).push();
    let web = "outbound|80||web.default.svc.cluster.local";
    assert_eq!(endpoints(&push, &at("r1"), web), "1:10.1.0.3 0:10.1.0.1 1:10.1.0.2");
    assert_eq!(endpoints(&push, &at("r2"), web), "1:10.1.0.3 1:10.1.0.1 0:10.1.0.2");
    let cache = Cache::default();
    for (place, expected) in
        [("r1", "0:a.example.com 1:b.example.com"), ("r2", "1:a.example.com 0:b.example.com")]
    {
        let (_, made) = fresh(&cache, &push, Cluster, &at(place));
        let api: cds::Cluster = decode(made.resources.get("outbound|80||api.example.com").unwrap());
        assert_eq!(told(&api.load_assignment.unwrap()), expected, "{place}");
    }
}

#[test]
fn a_client_is_where_its_workload_is_said_to_be() {
    let pod = |name: &str, place: &str| {
        format!(
            "{{kind: Pod, metadata: {{name: {name}, labels: {{app: {name}, istio-locality: {place}}}}}}}\n---\n"
        )
    };
    let rule = "{kind: DestinationRule, metadata: {name: web}, spec: {host: web, trafficPolicy: {outlierDetection: {}}}}";
    for (place, expected) in
        [("r1", "1:10.1.0.3 0:10.1.0.1 1:10.1.0.2"), ("r2", "1:10.1.0.3 1:10.1.0.1 0:10.1.0.2")]
    {
        let mesh = Mesh::of(services(), &pod("client", place)).and(rule);
        let silent = Proxy { locality: Locality::default(), ..mesh.pod("client.default").0.proxy };
        let found = endpoints(&mesh.push(), &silent, "outbound|80||web.default.svc.cluster.local");
        assert_eq!(found, expected, "{place}");
    }
}

#[test]
fn a_part_of_a_dns_service_without_endpoints_is_no_cluster() {
    let rules = r"
{kind: ServiceEntry, metadata: {name: api}, spec: {
  hosts: [api.example.com], resolution: DNS, ports: [{number: 80, name: http, protocol: HTTP}],
  endpoints: [{address: a.example.com, labels: {version: v1}}],
}}
---
{kind: DestinationRule, metadata: {name: api}, spec: {
  host: api.example.com, subsets: [{name: v1, labels: {version: v1}}, {name: v2, labels: {version: v2}}],
}}
";
    let push = Mesh::yaml(rules).push();
    let made = generate(&push, &at(""), Cluster, None);
    let found: Vec<&str> =
        made.resources.iter().map(|it| &*it.name).filter(|name| name.ends_with("api.example.com")).collect();
    assert_eq!(found, ["outbound|80|v1|api.example.com", "outbound|80||api.example.com"]);
    assert_eq!(made.report.counters().get("pilot_dns_cluster_without_endpoints"), Some(&1));
}

#[test]
fn names_that_are_found_when_they_are_asked_for() {
    let rules = r"
{kind: ServiceEntry, metadata: {name: wild}, spec: {
  hosts: ['*.example.com'], resolution: DYNAMIC_DNS,
  ports: [{number: 80, name: http, protocol: HTTP}, {number: 443, name: tls, protocol: TLS}],
}}
---
{kind: DestinationRule, metadata: {name: wild}, spec: {host: '*.example.com', subsets: [{name: v1, labels: {a: b}}]}}
";
    let push = Mesh::yaml(rules).push();
    let found = cluster_names(&push, &at(""));
    let wild: Vec<&String> = found.iter().filter(|name| name.ends_with("*.example.com")).collect();
    assert_eq!(wild, ["outbound|443||*.example.com", "outbound|80||*.example.com"], "no subsets");
    assert_eq!(endpoints(&push, &at(""), "outbound|80||*.example.com"), "");
    let bytes = entry("*.example.org").resolution(Resolution::DynamicDns).port("tcp", 7);
    let push = Mesh::of([bytes], "").push();
    assert!(!cluster_names(&push, &at("")).iter().any(|name| name.ends_with("org")), "bytes name no host");
}

#[test]
fn whoever_secures_connections_knows_who_the_service_is() {
    let rule = "{kind: DestinationRule, metadata: {name: web}, spec: {host: web, trafficPolicy: {tls: {mode: ISTIO_MUTUAL}}}}";
    let with = |accounts: &[&str]| {
        let web = kubernetes("web.default").port("http", 80).vip("10.0.0.1");
        let web = accounts.iter().enumerate().fold(web, |web, (at, account)| {
            web.endpoint(&format!("10.1.0.{}", at + 1), |it| it.service_account = (*account).into())
        });
        Mesh::of([web], rule).push()
    };
    let cache = Cache::default();
    for accounts in [&["spiffe://a"][..], &["spiffe://b", "spiffe://a", "spiffe://b"], &[]] {
        let (_, made) = fresh(&cache, &with(accounts), Cluster, &at(""));
        let web: cds::Cluster =
            decode(made.resources.get("outbound|80||web.default.svc.cluster.local").unwrap());
        let found = texts(&pilot_proto::proto3_json::to_value(&web).unwrap(), "exact");
        let expected = accounts.iter().map(|&account| Arc::from(account)).collect();
        assert_eq!(found, expected, "{accounts:?}");
    }
}

#[test]
fn limits_hold_for_the_workload_too() {
    let rules = r"
{kind: DestinationRule, metadata: {name: web}, spec: {host: web, trafficPolicy: {
  connectionPool: {tcp: {maxConnections: 1}}, outlierDetection: {},
  portLevelSettings: [{port: {number: 81}, connectionPool: {tcp: {maxConnections: 2}}}],
}}}
---
{kind: DestinationRule, metadata: {name: some}, spec: {host: web, workloadSelector: {matchLabels: {app: web}}, trafficPolicy: {
  connectionPool: {tcp: {maxConnections: 3}},
}}}
";
    let own = "{kind: Sidecar, metadata: {name: own}, spec: {inboundConnectionPool: {tcp: {maxConnections: 4}}, egress: [{hosts: ['~/*']}]}}";
    let mut proxy = sidecar("10.1.0.1", "default");
    proxy.metadata.labels = [("app".to_owned(), "web".to_owned())].into();
    let limit = "/circuit_breakers/thresholds/0/max_connections";
    for (who, mesh, expected) in [
        ("the rule for all", Mesh::of(services(), rules), [1, 2]),
        ("a Sidecar", Mesh::of(services(), rules).and(&format!("\n---\n{own}")), [4, 4]),
    ] {
        let push = mesh.push();
        let found = ["inbound|80||", "inbound|81||"].map(|name| cluster(&push, &proxy, name));
        assert_eq!(
            found.each_ref().map(|it| it.pointer(limit).unwrap().as_u64().unwrap()),
            expected,
            "{who}"
        );
        assert!(found.iter().all(|it| it["outlier_detection"].is_null()), "the workload is no pool");
    }
}

#[test]
fn a_sidecar_says_where_the_workload_is_met() {
    let sidecar_of = |endpoint: &str| {
        format!(
            "{{kind: Sidecar, metadata: {{name: own}}, spec: {{ingress: [{{
                port: {{number: 80, protocol: HTTP, name: http}}, defaultEndpoint: '{endpoint}',
                connectionPool: {{tcp: {{maxConnections: 5}}}},
            }}], egress: [{{hosts: ['*/*']}}]}}}}"
        )
    };
    let v4 = sidecar("10.1.0.1", "default");
    let mut v6 = sidecar("fd00::1", "default");
    v6.ips = vec!["fd00::1".parse().unwrap()];
    let bound = sidecar("10.1.0.1", "default").interception(InterceptionMode::None);
    for (endpoint, proxy, expected) in [
        ("127.0.0.1:9", &v4, "127.0.0.1:9"),
        ("127.0.0.1:9", &bound, "127.0.0.1:9"),
        ("127.0.0.1:9", &v6, "::1:9"),
        ("[::1]:9", &v4, "127.0.0.1:9"),
        ("0.0.0.0:9", &v4, "10.1.0.1:9"),
        ("[::]:9", &v6, "fd00::1:9"),
        ("unix:///s", &v4, "/s"),
        ("", &v4, "ORIGINAL_DST"),
    ] {
        let push = Mesh::of(services(), &sidecar_of(endpoint)).push();
        let made = cluster(&push, proxy, "inbound|80||");
        let address = "/load_assignment/endpoints/0/lb_endpoints/0/endpoint/address";
        let found = match made.pointer(address) {
            Some(address) => match address.pointer("/pipe/path") {
                Some(path) => path.as_str().unwrap().to_owned(),
                None => format!(
                    "{}:{}",
                    address["socket_address"]["address"].as_str().unwrap(),
                    address["socket_address"]["port_value"]
                ),
            },
            None => made["type"].as_str().unwrap().to_owned(),
        };
        assert_eq!(found, expected, "{endpoint}");
        assert_eq!(made.pointer("/circuit_breakers/thresholds/0/max_connections").unwrap(), 5);
        let others = cluster_names(&push, proxy);
        assert!(!others.contains(&"inbound|81||".to_owned()), "what it declares is all there is");
    }
}

#[test]
fn networks_matter_to_whoever_is_not_in_the_same_one() {
    let said = "{networks: {n2: {gateways: [{address: 20.0.0.1, port: 15443}]}}}";
    let networks = MeshNetworks::from_value(serde_saphyr::from_str(said).unwrap()).unwrap();
    let web = kubernetes("web.default")
        .port("http", 80)
        .on("10.1.0.1")
        .endpoint("10.1.0.2", |it| (it.network, it.tls_mode) = ("n2".into(), TlsMode::Istio));
    let one_network = Mesh::of([web], "").push();
    let several = PushContext { networks: networks.into(), ..one_network.clone() };
    let name = "outbound|80||web.default.svc.cluster.local";
    let within = |network: &str, view: &str| {
        let mut proxy = at("");
        proxy.metadata.network = Some(network.into()).filter(|network: &String| !network.is_empty());
        proxy.metadata.raw.insert("REQUESTED_NETWORK_VIEW".into(), view.into());
        proxy
    };
    for (push, network, view, expected) in [
        (&one_network, "n1", "", "0:10.1.0.1 0:10.1.0.2"),
        (&one_network, "n1", "n1,n3", "0:10.1.0.1"),
        (&several, "n1", "", "0:10.1.0.1 0:20.0.0.1"),
        (&several, "", "", "0:10.1.0.1 0:20.0.0.1"),
        (&several, "n2", "", "0:10.1.0.1 0:10.1.0.2"),
        (&several, "n1", "n2", "0:10.1.0.1 0:20.0.0.1"),
    ] {
        assert_eq!(endpoints(push, &within(network, view), name), expected, "{network} {view}");
    }
}
