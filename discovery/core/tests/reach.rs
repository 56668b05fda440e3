//! Hosts and endpoints that a proxy reaches, by settings of services and the mesh.

#![allow(
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    clippy::unwrap_used,
    reason = "helpers of tests fail as tests do"
)]

mod fixture;

use fixture::*;
use pilot_core::cache::{Cache, resources};
use pilot_core::model::{Distribution, Endpoint, Locality, Proxy, TlsMode};
use pilot_core::push::PushContext;
use pilot_core::scope::{Scope, ScopeKey};
use pilot_proto::ResourceType;
use pilot_proto::envoy::config::core::v3::TypedExtensionConfig;
use pilot_proto::envoy::config::endpoint::v3::ClusterLoadAssignment;
use pilot_proto::envoy::extensions::filters::http::buffer::v3::Buffer;
use pilot_proto::mesh::networks::MeshNetworks;
use prost::Message;

#[test]
fn hosts_that_only_clients_name_are_looked_up() {
    let mesh = Mesh::yaml(
        r"
{kind: ServiceEntry, metadata: {name: wild}, spec: {
  hosts: ['*.example.com'], resolution: DYNAMIC_DNS,
  ports: [{number: 80, name: http, protocol: HTTP}, {number: 443, name: tls, protocol: TLS}],
}}
---
{kind: ServiceEntry, metadata: {name: plain}, spec: {
  hosts: [plain.org], resolution: DNS, ports: [{number: 80, name: http, protocol: HTTP}],
}}
---
{kind: VirtualService, metadata: {name: other}, spec: {
  hosts: [other.org], http: [{route: [{destination: {host: '*.example.com', port: {number: 80}}}]}],
}}
---
{kind: Gateway, metadata: {name: edge}, spec: {selector: {istio: edge}, servers: [
  {port: {number: 80, name: http, protocol: HTTP}, hosts: ['*']},
  {port: {number: 443, name: tls, protocol: TLS}, tls: {mode: PASSTHROUGH}, hosts: ['*']},
]}}
---
{kind: VirtualService, metadata: {name: in}, spec: {
  hosts: ['*.example.com'], gateways: [edge],
  http: [{route: [{destination: {host: '*.example.com', port: {number: 80}}}]}],
  tls: [{match: [{port: 443, sniHosts: ['*.example.com']}],
    route: [{destination: {host: '*.example.com', port: {number: 443}}}]}],
}}
",
    );
    mesh.sidecar("default", "").check(&[
        (
            "http://9.9.9.9:80/ | host: a.example.com",
            "0.0.0.0_80 [*.example.com:80] outbound|80||*.example.com",
        ),
        ("http://9.9.9.9:80/ | host: plain.org", "0.0.0.0_80 [plain.org:80] outbound|80||plain.org"),
        ("http://9.9.9.9:80/ | host: other.org", "0.0.0.0_80 [other.org:80] outbound|80||*.example.com"),
        ("tls://9.9.9.9:443 | sni a.example.com", "0.0.0.0_443 outbound|443||*.example.com"),
        ("tls://9.9.9.9:443 | sni example.org", "0.0.0.0_443 PassthroughCluster"),
    ]);
    mesh.gateway("default", "istio=edge").check(&[
        (
            "http://9.9.9.9:80/ | host: a.example.com",
            "0.0.0.0_80 [*.example.com:80] outbound|80||*.example.com",
        ),
        ("tls://9.9.9.9:443 | sni a.example.com", "0.0.0.0_443 outbound|443||*.example.com"),
    ]);
    let rule = r"
{kind: VirtualService, metadata: {name: named}, spec: {
  hosts: ['b.example.com'], tls: [{match: [{port: 443, sniHosts: ['b.example.com']}],
    route: [{destination: {host: '*.example.com', port: {number: 443}}}]}],
}}
";
    mesh.and(rule)
        .sidecar("default", "")
        .check(&[("tls://9.9.9.9:443 | sni b.example.com", "0.0.0.0_443 outbound|443||*.example.com")]);
}

#[test]
fn nobody_is_looked_up_where_every_host_is_known() {
    let mesh = Mesh::of([kubernetes("web.default").port("http", 80).vip("10.0.0.1")], "");
    let made = generate(&mesh.push(), &sidecar("10.1.0.1", "default"), ResourceType::Listener, None);
    let listeners: Vec<_> =
        made.resources.iter().map(|it| String::from_utf8_lossy(&it.body).into_owned()).collect();
    assert!(!listeners.is_empty() && !listeners.iter().any(|it| it.contains("dynamic_forward_proxy")));
}

/// Returns the endpoints of a cluster: `<priority>:<address>`.
fn endpoints(push: &PushContext, proxy: &Proxy, cluster: &str) -> String {
    let made = generate(push, proxy, ResourceType::Endpoint, Some(&names([cluster])));
    let told: ClusterLoadAssignment = decode(made.resources.get(cluster).unwrap());
    let printed = told.endpoints.iter().flat_map(|group| {
        let members = texts(&pilot_proto::proto3_json::to_value(group).unwrap(), "address");
        members.into_iter().map(|address| format!("{}:{address}", group.priority))
    });
    let mut printed: Vec<String> = printed.collect();
    printed.sort();
    printed.join(" ")
}

const WEB: &str = "outbound|80||web.default.svc.cluster.local";

#[test]
fn a_service_may_ask_for_near_endpoints() {
    let web = |distribution| {
        let placed = |place: &'static str, node: &'static str| {
            move |it: &mut Endpoint| (it.locality, it.node) = (Locality::parse(place), node.into())
        };
        let mut web = kubernetes("web.default")
            .port("http", 80)
            .vip("10.0.0.1")
            .endpoint("10.1.0.1", placed("r1/z1", "n1"))
            .endpoint("10.1.0.2", placed("r1/z1", "n2"))
            .endpoint("10.1.0.3", placed("r1/z2", "n3"))
            .endpoint("10.1.0.4", placed("r2/z3", "n4"));
        web.service.distribution = distribution;
        web
    };
    let rule = |policy: &str| {
        format!(
            "{{kind: DestinationRule, metadata: {{name: web}}, spec: {{host: web, trafficPolicy: {policy}}}}}"
        )
    };
    let off = rule("{loadBalancer: {localityLbSetting: {enabled: false}}}");
    let by_rule = rule(
        "{outlierDetection: {}, loadBalancer: {localityLbSetting: {failoverPriority: [topology.kubernetes.io/region]}}}",
    );
    let mut proxy = sidecar("10.1.9.9", "default");
    proxy.locality = Locality::parse("r1/z1");
    proxy.metadata.node_name = Some("n1".into());
    let alike = "0:10.1.0.1 0:10.1.0.2 0:10.1.0.3 0:10.1.0.4";
    for (distribution, rules, expected) in [
        (Distribution::Any, "", alike),
        (Distribution::SameZone, "", "0:10.1.0.1 0:10.1.0.2 1:10.1.0.3 2:10.1.0.4"),
        (Distribution::SameNode, "", "0:10.1.0.1 1:10.1.0.2 2:10.1.0.3 3:10.1.0.4"),
        (Distribution::SameNode, &off, alike),
        (Distribution::SameNode, &by_rule, "0:10.1.0.1 0:10.1.0.2 0:10.1.0.3 1:10.1.0.4"),
    ] {
        let push = Mesh::of([web(distribution)], rules).push();
        assert_eq!(endpoints(&push, &proxy, WEB), expected, "{distribution:?} {rules}");
    }
    for (said, annotation, expected) in [
        (None, None, Distribution::Any),
        (Some("PreferClose"), None, Distribution::SameZone),
        (Some("PreferSameZone"), Some("PreferSameNode"), Distribution::SameZone),
        (Some("PreferSameNode"), None, Distribution::SameNode),
        (Some("Whatever"), Some("prefersamenode"), Distribution::SameNode),
        (None, Some("PREFERCLOSE"), Distribution::SameZone),
        (None, Some("any"), Distribution::Any),
    ] {
        assert_eq!(Distribution::of(said, annotation), expected, "{said:?} {annotation:?}");
    }
}

#[test]
fn a_service_entry_may_ask_for_near_endpoints_too() {
    let push = Mesh::yaml(
        r"
{kind: ServiceEntry, metadata: {name: web, annotations: {networking.istio.io/traffic-distribution: PreferClose}}, spec: {
  hosts: [web.org], resolution: STATIC, ports: [{number: 80, name: http, protocol: HTTP}],
  endpoints: [{address: 1.1.1.1, locality: r1/z1}, {address: 2.2.2.2, locality: r1/z2}],
}}
",
    )
    .push();
    let proxy = Proxy { locality: Locality::parse("r1/z2"), ..sidecar("10.1.9.9", "default") };
    assert_eq!(endpoints(&push, &proxy, "outbound|80||web.org"), "0:2.2.2.2 1:1.1.1.1");
}

#[test]
fn some_hosts_stay_in_their_cluster() {
    let in_cluster = |cluster: &'static str| {
        move |it: &mut Endpoint| {
            it.labels =
                std::sync::Arc::new([("topology.istio.io/cluster".to_owned(), cluster.to_owned())].into());
        }
    };
    let web = kubernetes("web.default")
        .port("http", 80)
        .on("10.1.0.1")
        .endpoint("10.1.0.2", in_cluster("east"))
        .endpoint("10.1.0.3", in_cluster("west"));
    let mesh = |settings: &str| Mesh::of([web.clone()], "").config(settings);
    let within = |cluster: Option<&str>| {
        let mut proxy = sidecar("10.1.9.9", "default");
        proxy.metadata.cluster_id = cluster.map(str::to_owned);
        proxy
    };
    let local =
        "{serviceSettings: [{settings: {clusterLocal: true}, hosts: ['*.default.svc.cluster.local']}]}";
    let all = "0:10.1.0.1 0:10.1.0.2 0:10.1.0.3";
    for (settings, cluster, expected) in [
        ("{}", Some("east"), all),
        (local, Some("east"), "0:10.1.0.1 0:10.1.0.2"),
        (local, Some("west"), "0:10.1.0.1 0:10.1.0.3"),
        (local, None, all),
    ] {
        assert_eq!(
            endpoints(&mesh(settings).push(), &within(cluster), WEB),
            expected,
            "{settings} {cluster:?}"
        );
    }
}

#[test]
fn a_cluster_may_be_a_network() {
    let said =
        "{networks: {n2: {endpoints: [{fromRegistry: west}], gateways: [{address: 20.0.0.1, port: 15443}]}}}";
    let networks = MeshNetworks::from_value(serde_saphyr::from_str(said).unwrap()).unwrap();
    let web = kubernetes("web.default").port("http", 80).on("10.1.0.1").endpoint("10.1.0.2", |it| {
        it.labels = std::sync::Arc::new([("topology.istio.io/cluster".to_owned(), "west".to_owned())].into());
        it.tls_mode = TlsMode::Istio;
    });
    let push = PushContext { networks: networks.into(), ..Mesh::of([web], "").push() };
    let mut proxy = sidecar("10.1.9.9", "default");
    for (network, expected) in [("n1", "0:10.1.0.1 0:20.0.0.1"), ("n2", "0:10.1.0.1 0:10.1.0.2")] {
        proxy.metadata.network = Some(network.into());
        assert_eq!(endpoints(&push, &proxy, WEB), expected, "{network}");
    }
}

#[test]
fn configurations_of_filters_go_to_those_they_are_for_by_name() {
    let filter = |name: &str, namespace: &str, body: &str, labels: &str| {
        format!(
            "{{kind: EnvoyFilter, metadata: {{name: {name}, namespace: {namespace}}}, spec: {{workloadSelector: {{labels: {labels}}}, configPatches: [
              {{applyTo: EXTENSION_CONFIG, patch: {{operation: ADD, value: {{name: mine, typed_config: {{
                '@type': type.googleapis.com/envoy.extensions.filters.http.buffer.v3.Buffer, max_request_bytes: {body}}}}}}}}}]}}}}"
        )
    };
    let rules = [
        filter("some", "default", "2", "{app: web}"),
        filter("all", "istio-system", "1", "{}"),
        filter("others", "shop", "3", "{}"),
    ];
    let mesh = Mesh::yaml(&rules.join("\n---\n"));
    let cache = Cache::default();
    for (namespace, app, expected) in [
        ("default", "web", Some(1)),
        ("default", "db", Some(1)),
        ("shop", "web", Some(1)),
        ("far", "web", Some(1)),
    ] {
        let mut proxy = sidecar("10.1.9.9", namespace);
        proxy.metadata.labels = [("app".to_owned(), app.to_owned())].into();
        assert_eq!(limit(&cache, &mesh.push(), &proxy), expected, "{namespace} {app}");
    }
    let mesh = Mesh::yaml(&rules[0]);
    for (app, expected) in [("web", Some(2)), ("db", None)] {
        let mut proxy = sidecar("10.1.9.9", "default");
        proxy.metadata.labels = [("app".to_owned(), app.to_owned())].into();
        assert_eq!(limit(&cache, &mesh.push(), &proxy), expected, "{app}");
    }
}

/// Returns the limit of the filter named `mine`.
fn limit(cache: &Cache, push: &PushContext, proxy: &Proxy) -> Option<u32> {
    let scope = Scope::of(push, ScopeKey::of(push, proxy), None);
    let asked = names(["mine", "nobodys"]);
    let made = resources(cache, push, &scope, proxy, ResourceType::Extension, Some(&asked));
    let told: Option<TypedExtensionConfig> = made.resources.get("mine").map(decode);
    assert_eq!(made.resources.len(), usize::from(told.is_some()), "nobody's is nobody's");
    let buffer = Buffer::decode(told?.typed_config?.value).unwrap();
    buffer.max_request_bytes.map(|bytes| bytes.value)
}
