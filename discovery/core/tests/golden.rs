//! Golden files of generated resources: `testdata/<case>/*.json`. `UPDATE_EXPECT=1` rewrites the files.
//!
//! Messages have the spelling of Envoy's `/config_dump`.

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
use pilot_core::model::{Health, Hostname, Locality, NameSet, Namespace, Proxy, Resolution, TlsMode};
use pilot_core::push::PushContext;
use pilot_proto::ResourceType;
use pilot_proto::google::protobuf::Any;
use pilot_proto::mesh::{MeshConfig, OutboundTrafficMode, OutboundTrafficPolicy};
use pilot_proto::node::InterceptionMode;
use prost::Message;
use serde_json::Value;

/// Checks all types in the order of Envoy's requests: clusters and listeners, then the resources that they refer to.
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

/// Checks routes only: the other types do not depend on rules.
fn check_routes(case: &str, mesh: &Mesh, proxy: &Proxy, asked: &[&str]) {
    let asked = names(asked.iter().copied());
    expect(&format!("{case}/routes.json"), &dump(&mesh.push(), proxy, ResourceType::Route, Some(&asked)));
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
            pilot_proto::proto3_json::encoded_to_value(message, &any.value).unwrap()
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

/// Returns a snapshot with every type of Kubernetes service.
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

/// Policies of every type, for services of every resolution.
const POLICIES: &str = r"
{kind: DestinationRule, metadata: {name: reviews}, spec: {
  host: reviews,
  trafficPolicy: {
    connectionPool: {
      tcp: {maxConnections: 100, connectTimeout: 3s, maxConnectionDuration: 1h, tcpKeepalive: {probes: 3, time: 60s, interval: 5s}},
      http: {
        http1MaxPendingRequests: 10, http2MaxRequests: 20, maxRequestsPerConnection: 30, maxRetries: 4, idleTimeout: 5s,
        h2UpgradePolicy: UPGRADE, maxConcurrentStreams: 6, http2KeepAlive: {interval: 7s, timeout: 8s},
      },
    },
    outlierDetection: {
      consecutive5xxErrors: 5, consecutiveGatewayErrors: 6, interval: 1s, baseEjectionTime: 2s, maxEjectionPercent: 50,
      splitExternalLocalOriginErrors: true, consecutiveLocalOriginFailures: 7, minHealthPercent: 30,
    },
    loadBalancer: {simple: LEAST_REQUEST, warmup: {duration: 30s}, localityLbSetting: {failover: [{from: r1, to: r2}]}},
    retryBudget: {percent: 25, minRetryConcurrency: 5, budgetInterval: 10s},
  },
  subsets: [
    {name: v1, labels: {version: v1}},
    {name: v2, labels: {version: v2}, trafficPolicy: {
      tls: {mode: ISTIO_MUTUAL}, loadBalancer: {consistentHash: {httpHeaderName: user, ringHash: {minimumRingSize: 2048}}},
    }},
    {name: none, labels: {version: v9}, trafficPolicy: {portLevelSettings: [{port: {number: 9080}, loadBalancer: {simple: PASSTHROUGH}}]}},
  ],
}}
---
{kind: DestinationRule, metadata: {name: shares}, spec: {host: shares, trafficPolicy: {
  proxyProtocol: {version: V2},
  loadBalancer: {consistentHash: {useSourceIp: true, maglev: {tableSize: 101}}, localityLbSetting: {
    distribute: [{from: r1/*, to: {r1/z1: 80, r1/z2: 20}}],
  }},
}}}
---
{kind: ServiceEntry, metadata: {name: api}, spec: {
  hosts: [api.example.com], resolution: DNS, ports: [{number: 443, name: https, protocol: HTTPS}, {number: 80, name: http, protocol: HTTP}],
  endpoints: [{address: a.example.com, locality: r1/z1, labels: {version: v1}}, {address: b.example.com, locality: r2/z1}],
}}
---
{kind: DestinationRule, metadata: {name: api}, spec: {
  host: api.example.com,
  trafficPolicy: {outlierDetection: {outlierDetectionHttpErrorCodes: [429, 503]}, portLevelSettings: [
    {port: {number: 80}, tls: {mode: SIMPLE, sni: api.example.com, subjectAltNames: [api.example.com]}, outlierDetection: {}},
  ]},
  subsets: [{name: v1, labels: {version: v1}, trafficPolicy: {tls: {mode: SIMPLE, insecureSkipVerify: true}}}],
}}
---
{kind: ServiceEntry, metadata: {name: round}, spec: {
  hosts: [round.example.com], resolution: DNS_ROUND_ROBIN, ports: [{number: 80, name: http, protocol: HTTP}],
}}
---
{kind: DestinationRule, metadata: {name: round}, spec: {host: round.example.com, trafficPolicy: {
  tls: {mode: SIMPLE}, loadBalancer: {simple: ROUND_ROBIN, warmupDurationSecs: 9s},
}}}
---
{kind: ServiceEntry, metadata: {name: wild}, spec: {
  hosts: ['*.wild.example.com'], resolution: DYNAMIC_DNS,
  ports: [{number: 80, name: http, protocol: HTTP}, {number: 443, name: tls, protocol: TLS}, {number: 81, name: grpc, protocol: GRPC}],
}}
---
{kind: DestinationRule, metadata: {name: wild}, spec: {host: '*.wild.example.com', trafficPolicy: {portLevelSettings: [
  {port: {number: 80}, tls: {mode: SIMPLE}}, {port: {number: 81}, tls: {mode: SIMPLE, insecureSkipVerify: true}, outlierDetection: {}},
]}}}
---
{kind: Sidecar, metadata: {name: own}, spec: {
  inboundConnectionPool: {tcp: {maxConnections: 7}},
  ingress: [
    {port: {number: 8080, protocol: HTTP, name: http}, defaultEndpoint: '127.0.0.1:9000'},
    {port: {number: 8081, protocol: TCP, name: tcp}, defaultEndpoint: 'unix:///run/app.sock', connectionPool: {tcp: {maxConnections: 8}}},
    {port: {number: 8082, protocol: GRPC, name: grpc}, defaultEndpoint: '0.0.0.0:9002'},
    {port: {number: 8083, protocol: HTTP, name: web}},
  ],
  egress: [{hosts: ['*/*']}],
}}
";

#[test]
fn what_destination_rules_and_sidecars_say() {
    let labels = |text: &str| Arc::new(BTreeMap::from([("version".to_owned(), text.to_owned())]));
    let mesh = Mesh::of(
        [
            kubernetes("reviews.default")
                .to("http", 9080, 8080)
                .vip("10.0.0.1")
                .endpoint("10.1.0.1", |it| {
                    (it.locality, it.labels) = (Locality::parse("r1/z1"), labels("v1"));
                })
                .endpoint("10.1.0.2", |it| {
                    (it.locality, it.labels) = (Locality::parse("r2/z1"), labels("v1"));
                })
                .endpoint("10.1.0.3", |it| {
                    (it.locality, it.labels) = (Locality::parse("r3/z1"), labels("v2"));
                    it.service_account = "spiffe://cluster.local/ns/default/sa/reviews".into();
                    it.tls_mode = TlsMode::Istio;
                })
                .endpoint("10.1.0.4", |it| it.health = Health::Unhealthy),
            kubernetes("shares.default")
                .port("tcp", 7000)
                .vip("10.0.0.2")
                .endpoint("10.1.1.1", |it| it.locality = Locality::parse("r1/z1"))
                .endpoint("10.1.1.2", |it| it.locality = Locality::parse("r1/z2"))
                .endpoint("10.1.1.3", |it| it.locality = Locality::parse("r2/z1")),
        ],
        POLICIES,
    );
    let mut proxy = sidecar("10.1.0.1", "default");
    proxy.locality = Locality::parse("r1/z1");
    check("policies", &mesh.push(), &proxy);
}

/// All fields of HTTP routes.
const RULES: &str = "
apiVersion: networking.istio.io/v1
kind: DestinationRule
metadata: {name: sticky}
spec:
  host: sticky
  trafficPolicy:
    loadBalancer: {consistentHash: {httpCookie: {name: user, path: /, ttl: 3600s, attributes: [{name: SameSite, value: Lax}]}}}
  subsets:
  - {name: v1, labels: {version: v1}, trafficPolicy: {loadBalancer: {consistentHash: {httpHeaderName: x-user}}}}
  - {name: v2, labels: {version: v2}, trafficPolicy: {loadBalancer: {consistentHash: {useSourceIp: true}}}}
  - {name: v3, labels: {version: v3}, trafficPolicy: {loadBalancer: {consistentHash: {httpQueryParameterName: user}}}}
---
apiVersion: networking.istio.io/v1
kind: VirtualService
metadata: {name: everything}
spec:
  hosts: [sticky, '*.everything.com', everything.com]
  http:
  - name: matches
    match:
    - name: one
      uri: {exact: /One}
      ignoreUriCase: true
      statPrefix: one
      scheme: {exact: http}
      method: {regex: GET|HEAD}
      authority: {prefix: sticky}
      headers:
        end-user: {exact: jason}
        x-canary: {}
      withoutHeaders:
        cookie: {regex: '.*debug.*'}
        x-legacy: {}
      queryParams:
        q: {exact: 'yes'}
        p: {regex: '[0-9]+'}
        o: {prefix: v}
      port: 80
      sourceLabels: {app: web}
      sourceNamespace: default
      gateways: [mesh]
    - {uri: {regex: '/two/.*'}}
    timeout: 2.5s
    retries: {attempts: 3, perTryTimeout: 0.5s, retryOn: 'gateway-error,503', retryRemoteLocalities: true, backoff: 0.05s}
    fault:
      delay: {fixedDelay: 1s, percentage: {value: 0.5}}
      abort: {grpcStatus: UNAVAILABLE, percentage: {value: 2}}
    mirrors:
    - {destination: {host: other}, percentage: {value: 12.5}}
    - {destination: {host: nobody.com, port: {number: 8443}}}
    corsPolicy:
      allowOrigins: [{exact: 'https://a.com'}, {prefix: 'https://b'}, {regex: 'https://.*\\.c\\.com'}]
      allowMethods: [GET, POST]
      allowHeaders: [x-a, x-b]
      exposeHeaders: [x-c]
      maxAge: 24h
      allowCredentials: true
      unmatchedPreflights: IGNORE
    headers:
      request: {set: {x-set: a}, add: {x-add: b}, remove: [x-gone]}
      response: {set: {x-set: c}, add: {x-add: d}, remove: [server]}
    rewrite: {authority: other.com, uriRegexRewrite: {match: '/two/([a-z]+)', rewrite: '/2/\\1'}}
    route:
    - {destination: {host: sticky, subset: v1}, weight: 60, headers: {request: {set: {x-share: v1, host: v1.com}}}}
    - {destination: {host: sticky, subset: v2}, weight: 30, headers: {response: {add: {x-share: v2}, remove: [x-d]}}}
    - {destination: {host: sticky, subset: v3}, weight: 0}
    - {destination: {host: other}, weight: 10}
  - match: [{uri: {prefix: /prefix}}]
    rewrite: {uri: /}
    route: [{destination: {host: sticky, subset: v3}}]
  - match: [{uri: {exact: /redirect}}]
    redirect: {scheme: https, authority: elsewhere.com, port: 8443, uri: /there, redirectCode: 308}
  - match: [{uri: {prefix: /moved}}]
    redirect: {prefixRewrite: /here, derivePort: FROM_REQUEST_PORT}
  - match: [{uri: {prefix: /gone}}]
    directResponse: {status: 410, body: {string: gone}}
  - match: [{uri: {prefix: /bytes}}]
    directResponse: {status: 200, body: {bytes: aGVsbG8=}}
  - retries: {attempts: 0}
    mirror: {host: other}
    mirrorPercentage: {value: 33.3}
    route: [{destination: {host: sticky}}]
";

#[test]
fn a_sidecar_with_rules_for_requests() {
    let sticky = kubernetes("sticky.default").port("http", 80).vip("10.0.0.1").on("10.1.0.1");
    let other = kubernetes("other.default").port("http", 80).vip("10.0.0.2").on("10.1.0.2");
    let mesh = Mesh::of([sticky, other], RULES).config("proxyHttpPort: 15080");
    let proxy = mesh.sidecar("default", "app=web").0.proxy;
    check_routes("rules", &mesh, &proxy, &["80", "sticky.default.svc.cluster.local:80", "http_proxy"]);
}
