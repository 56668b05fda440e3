//! Random events of sources, about few subjects, so that they interact: all kinds of objects, added, changed and removed; mesh
//! configuration and networks.

use std::collections::BTreeMap;
use std::sync::Arc;

use pilot_core::model::{
    Change, ConfigKind, ConfigObject, Endpoint, EndpointAddress, Health, Hostname, Labels, Locality,
    Location, Namespace, Registry, Resolution, Service, TlsMode, Vip, Workload, WorkloadKind,
};
use pilot_proto::mesh::MeshConfig;
use pilot_proto::mesh::networks::MeshNetworks;
use proptest::collection::vec;
use proptest::option;
use proptest::prelude::*;
use proptest::sample::select;

use crate::fixture::*;

/// Random event.
#[derive(Clone, Debug)]
pub(crate) enum Statement {
    /// A change of a declaration.
    Change(Change),
    /// New mesh configuration.
    Mesh(Arc<MeshConfig>),
    /// New networks.
    Networks(Arc<MeshNetworks>),
}

/// Subject of an event; the last event of a subject determines the state.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Subject {
    Service(Namespace, Hostname),
    Endpoints(Namespace, Hostname),
    Workload(Namespace, Arc<str>),
    Config(ConfigKind, Namespace, Arc<str>),
    Mesh,
    Networks,
}

// === impl Statement ===

impl Statement {
    pub(crate) fn subject(&self) -> Subject {
        match self {
            Self::Mesh(_) => Subject::Mesh,
            Self::Networks(_) => Subject::Networks,
            Self::Change(change) => match change.clone() {
                Change::Service(service) => {
                    Subject::Service(service.namespace.clone(), service.hostname.clone())
                }
                Change::ServiceGone(namespace, host) => Subject::Service(namespace, host),
                Change::Endpoints(namespace, host, _) => Subject::Endpoints(namespace, host),
                Change::Workload(workload) => {
                    Subject::Workload(workload.namespace.clone(), workload.name.clone())
                }
                Change::WorkloadGone(_, namespace, name) => Subject::Workload(namespace, name),
                Change::Config(object) => {
                    let (namespace, name) = (object.meta.namespace.clone(), object.meta.name.clone());
                    Subject::Config(object.spec.kind(), namespace, name)
                }
                Change::ConfigGone(kind, namespace, name) => Subject::Config(kind, namespace, name),
            },
        }
    }

    /// Returns `true` if the subject does not exist after it.
    pub(crate) fn is_gone(&self) -> bool {
        matches!(
            self,
            Self::Change(Change::ServiceGone(..) | Change::WorkloadGone(..) | Change::ConfigGone(..))
        )
    }
}

/// Returns any event, mostly of configuration objects.
pub(crate) fn statement() -> impl Strategy<Value = Statement> {
    prop_oneof![
        2 => service().prop_map(Statement::Change),
        2 => endpoints().prop_map(Statement::Change),
        2 => workload().prop_map(Statement::Change),
        8 => config().prop_map(Statement::Change),
        1 => mesh_config(),
        1 => networks(),
    ]
}

/// Returns a mesh with services, pods of two versions, and rules for them.
pub(crate) fn furniture() -> Vec<Statement> {
    changes_in(
        "
apiVersion: v1
kind: Service
metadata: {name: a, namespace: default}
spec: {clusterIP: 10.0.0.1, selector: {app: a}, ports: [{name: http, port: 80}, {name: tcp, port: 81}]}
---
apiVersion: v1
kind: Service
metadata: {name: b, namespace: default}
spec: {clusterIP: None, selector: {app: a}, ports: [{name: tcp, port: 81}]}
---
apiVersion: v1
kind: Pod
metadata: {name: one, namespace: default, labels: {app: a, version: v1}}
status: {podIP: 10.1.0.1}
---
apiVersion: v1
kind: Pod
metadata: {name: two, namespace: default, labels: {app: a, version: v2}}
status: {podIP: 10.1.0.2}
---
apiVersion: networking.istio.io/v1
kind: DestinationRule
metadata: {name: x, namespace: default}
spec: {host: a, subsets: [{name: v1, labels: {version: v1}}]}
---
apiVersion: networking.istio.io/v1
kind: VirtualService
metadata: {name: x, namespace: default}
spec: {hosts: [a], http: [{route: [{destination: {host: a, subset: v1}}]}]}
---
apiVersion: networking.istio.io/v1
kind: Gateway
metadata: {name: z, namespace: istio-system}
spec: {selector: {istio: edge}, servers: [{port: {number: 80, name: http, protocol: HTTP}, hosts: ['*']}]}
",
    )
    .into_iter()
    .map(Statement::Change)
    .collect()
}

const HOSTS: [&str; 4] = [
    "a.default.svc.cluster.local",
    "b.default.svc.cluster.local",
    "a.shop.svc.cluster.local",
    "x.example.com",
];

/// Returns hosts with their namespaces.
fn host() -> impl Strategy<Value = (Namespace, Hostname)> {
    select(HOSTS.to_vec()).prop_map(|host| {
        let namespace = if host.contains(".shop.") { "shop" } else { "default" };
        (namespace.into(), host.into())
    })
}

/// Returns labels of workloads.
fn labels() -> impl Strategy<Value = Labels> {
    select(vec!["app=a,version=v1", "app=a,version=v2", "app=web", "istio=edge"]).prop_map(|text| {
        let pairs = text.split(',').filter_map(|pair| pair.split_once('='));
        Arc::new(pairs.map(|(key, value)| (key.to_owned(), value.to_owned())).collect())
    })
}

fn service() -> impl Strategy<Value = Change> {
    let kinds = vec![
        Resolution::ClientSideLb,
        Resolution::Passthrough,
        Resolution::Alias("a.default.svc.cluster.local".into()),
    ];
    let ports = select(vec!["http 80", "tcp 81", "http 80,tcp 81", "grpc 80", " 80"]);
    let details =
        (ports, select(kinds), option::of(select(vec!["10.0.0.1", "10.0.0.2"])), any::<bool>(), 0..3_i64);
    (host(), option::weighted(0.8, details)).prop_map(|((namespace, host), details)| {
        let Some((ports, resolution, vip, private, created)) = details else {
            return Change::ServiceGone(namespace, host);
        };
        let mut declared = kubernetes("name.default");
        for port in ports.split(',') {
            let (name, number) = port.rsplit_once(' ').unwrap();
            declared = declared.port(name, number.parse().unwrap());
        }
        let selector = BTreeMap::from([("app".to_owned(), "a".to_owned())]);
        Change::Service(Arc::new(Service {
            registry: if host.as_str().contains("example") {
                Registry::External
            } else {
                Registry::Kubernetes
            },
            location: Location::MeshInternal,
            hostname: host,
            namespace,
            resolution,
            addresses: vip.and_then(Vip::parse).into_iter().collect(),
            export_to: if private { vec![pilot_core::model::ExportTo::Private] } else { Vec::new() },
            selector,
            created,
            ..declared.service
        }))
    })
}

fn endpoints() -> impl Strategy<Value = Change> {
    let address = select(vec!["10.1.0.1", "10.1.0.2", "10.1.0.3"]);
    let port = select(vec![("http", 80), ("tcp", 81), ("grpc", 80), ("", 80)]);
    let health = select(vec![Health::Healthy, Health::Unhealthy]);
    let place = select(vec!["", "r1/z1", "r2/z1"]);
    let one = (address, port, labels(), health, place, select(vec!["", "n1", "n2"]), any::<bool>());
    (host(), vec(one, 0..4)).prop_map(|((namespace, host), all)| {
        let endpoint = |(ip, (name, number), labels, health, place, network, identified): (
            &str,
            (&str, u16),
            Labels,
            Health,
            &str,
            &str,
            bool,
        )| Endpoint {
            address: EndpointAddress::Ip(ip.parse().unwrap()),
            port: number,
            port_name: name.into(),
            labels,
            service_account: if identified {
                "spiffe://cluster.local/ns/default/sa/a".into()
            } else {
                "".into()
            },
            network: network.into(),
            locality: Locality::parse(place),
            weight: 1,
            health,
            tls_mode: if identified { TlsMode::Istio } else { TlsMode::Disabled },
            namespace: namespace.clone(),
            workload: "a-1".into(),
            node: "".into(),
        };
        let endpoints = all.into_iter().map(endpoint).collect();
        Change::Endpoints(namespace.clone(), host, endpoints)
    })
}

/// Returns pods, some of which temporarily have the address of another. A proxy is in the namespace of its workload.
fn workload() -> impl Strategy<Value = Change> {
    let pod = (select(vec!["default", "shop"]), select(vec!["one", "two"]));
    let details = (
        any::<bool>(),
        labels(),
        select(vec!["", "r1/z1", "r2/z1"]),
        select(vec![Health::Healthy, Health::Unhealthy]),
    );
    (pod, option::weighted(0.8, details)).prop_map(|((namespace, name), details)| {
        let Some((first, labels, place, health)) = details else {
            return Change::WorkloadGone(WorkloadKind::Pod, namespace.into(), name.into());
        };
        let ip = match (namespace, first) {
            ("default", true) => "10.1.0.1",
            ("default", false) => "10.1.0.2",
            _ => "10.9.0.1",
        };
        Change::Workload(Arc::new(Workload {
            kind: WorkloadKind::Pod,
            namespace: namespace.into(),
            name: name.into(),
            addresses: vec![EndpointAddress::Ip(ip.parse().unwrap())],
            labels,
            ports: BTreeMap::new(),
            service_account: "".into(),
            network: "".into(),
            locality: Locality::parse(place),
            weight: 1,
            health,
            tls_mode: TlsMode::Disabled,
            node: "".into(),
        }))
    })
}

/// Specs by kind.
const CONFIGS: &[(ConfigKind, &[&str])] = &[
    (
        ConfigKind::ServiceEntry,
        &[
            "hosts: [x.example.com]\nports: [{number: 80, name: http, protocol: HTTP}]\nresolution: DNS",
            "hosts: [x.example.com, '*.wild.com']\nports: [{number: 80, name: http, protocol: HTTP}, {number: 443, name: tls, protocol: TLS}]\nresolution: NONE",
            "hosts: [x.example.com]\nports: [{number: 81, name: tcp, protocol: TCP}]\nresolution: STATIC\nendpoints: [{address: 10.1.0.1, serviceAccount: a}, {address: 10.7.0.1, network: n2}]\nexportTo: ['.']",
            "hosts: [sel.example.com]\nlocation: MESH_INTERNAL\nports: [{number: 80, name: http, protocol: HTTP}]\nresolution: STATIC\nworkloadSelector: {labels: {app: a}}",
        ],
    ),
    (
        ConfigKind::WorkloadEntry,
        &[
            "address: 10.1.0.1\nlabels: {app: a}",
            "address: 10.7.0.1\nlabels: {app: a, version: v1}\nserviceAccount: machine",
            "address: 10.9.0.1\nlabels: {app: web}\nlocality: r2/z1",
        ],
    ),
    (ConfigKind::WorkloadGroup, &["metadata: {labels: {app: a}}\ntemplate: {serviceAccount: a}"]),
    (
        ConfigKind::VirtualService,
        &[
            "hosts: [a.default.svc.cluster.local]\nhttp: [{route: [{destination: {host: b.default.svc.cluster.local}}]}]",
            "hosts: [a.default.svc.cluster.local]\nhttp: [{match: [{sourceLabels: {app: web}}], route: [{destination: {host: a.default.svc.cluster.local, subset: v1}}]}, {delegate: {name: z}}]",
            "http: [{route: [{destination: {host: x.example.com}}]}]",
            "hosts: ['*.example.com', '*.default.svc.cluster.local']\ngateways: [mesh, istio-system/z]\nhttp: [{route: [{destination: {host: a.default.svc.cluster.local}}]}]\ntls: [{match: [{sniHosts: ['*.example.com']}], route: [{destination: {host: a.default.svc.cluster.local}}]}]",
            "hosts: [b.default.svc.cluster.local]\nexportTo: ['.']\ntcp: [{route: [{destination: {host: a.default.svc.cluster.local}}]}]",
        ],
    ),
    (
        ConfigKind::DestinationRule,
        &[
            "host: a.default.svc.cluster.local\nsubsets: [{name: v1, labels: {version: v1}}]",
            "host: a.default.svc.cluster.local\nsubsets: [{name: v1, labels: {version: v2}}]",
            "host: a.default.svc.cluster.local\ntrafficPolicy: {outlierDetection: {consecutive5xxErrors: 1}, loadBalancer: {localityLbSetting: {failover: [{from: r1, to: r2}]}}}",
            "host: '*.example.com'\ntrafficPolicy: {tls: {mode: ISTIO_MUTUAL}}",
            "host: a.default.svc.cluster.local\nworkloadSelector: {matchLabels: {app: web}}\ntrafficPolicy: {loadBalancer: {consistentHash: {useSourceIp: true}}}",
            "host: '*.cluster.local'\nexportTo: ['.']\ntrafficPolicy: {tls: {mode: ISTIO_MUTUAL}, connectionPool: {tcp: {maxConnections: 1}}}",
        ],
    ),
    (
        ConfigKind::Gateway,
        &[
            "selector: {istio: edge}\nservers: [{port: {number: 80, name: http, protocol: HTTP}, hosts: ['*']}]",
            "servers: [{port: {number: 80, name: http, protocol: HTTP}, hosts: ['default/*.example.com'], tls: {httpsRedirect: true}}, {port: {number: 443, name: tls, protocol: TLS}, hosts: ['*.example.com'], tls: {mode: PASSTHROUGH}}]",
            "selector: {istio: edge}\nservers: [{port: {number: 15443, name: tls, protocol: TLS}, hosts: ['*'], tls: {mode: AUTO_PASSTHROUGH}}]",
        ],
    ),
    (
        ConfigKind::Sidecar,
        &[
            "egress: [{hosts: ['./*']}]",
            "egress: [{hosts: ['shop/*', 'istio-system/*']}]",
            "egress: [{hosts: ['istio-system/*', 'default/*']}]",
            "egress: [{hosts: ['*/a.default.svc.cluster.local', '~shop/*']}]\noutboundTrafficPolicy: {mode: REGISTRY_ONLY}",
            "workloadSelector: {labels: {app: web}}\negress: [{port: {number: 80, protocol: HTTP, name: http}, hosts: ['*/*']}]\ningress: [{port: {number: 9080, protocol: HTTP, name: http}, defaultEndpoint: '127.0.0.1:80'}]",
        ],
    ),
    (
        ConfigKind::EnvoyFilter,
        &[
            "configPatches: [{applyTo: CLUSTER, patch: {operation: MERGE, value: {connect_timeout: 7s}}}]",
            "workloadSelector: {labels: {app: web}}\nconfigPatches: [{applyTo: HTTP_FILTER, match: {listener: {filterChain: {filter: {name: envoy.filters.network.http_connection_manager}}}}, patch: {operation: INSERT_FIRST, value: {name: own, typed_config: {'@type': type.googleapis.com/envoy.extensions.filters.http.lua.v3.Lua}}}}]",
            "priority: -1\nconfigPatches: [{applyTo: VIRTUAL_HOST, match: {routeConfiguration: {name: '80'}}, patch: {operation: MERGE, value: {request_headers_to_remove: [x]}}}]",
        ],
    ),
    (ConfigKind::ProxyConfig, &["concurrency: 1"]),
    (
        ConfigKind::Telemetry,
        &["accessLogging: [{disabled: true}]", "tracing: [{disableSpanReporting: true}]"],
    ),
];

fn config() -> impl Strategy<Value = Change> {
    // Rules for connections affect all types.
    let rules: Vec<_> =
        CONFIGS.iter().filter(|(kind, _)| *kind == ConfigKind::DestinationRule).copied().collect();
    let kind = prop_oneof![3 => select(CONFIGS.to_vec()), 1 => select(rules)];
    let said = kind.prop_flat_map(|(kind, specs)| (Just(kind), select(specs.to_vec())));
    let place = select(vec!["default", "default", "shop", "istio-system"]);
    (said, place, select(vec!["x", "z"]), 0..3_i64, any::<u8>()).prop_map(
        |((kind, spec), namespace, name, created, gone)| {
            if gone % 4 == 0 {
                return Change::ConfigGone(kind, namespace.into(), name.into());
            }
            let namespace = match kind {
                ConfigKind::WorkloadEntry if spec.contains("10.9.") => "shop",
                ConfigKind::WorkloadEntry => "default",
                _ => namespace,
            };
            let written = object(kind.as_str(), &format!("{name}.{namespace}"), spec);
            let Ok([Change::Config(read)]) = <[Change; 1]>::try_from(changes_in(&written)) else { panic!() };
            let mut read: ConfigObject = Arc::unwrap_or_clone(read);
            read.meta.created = created;
            Change::Config(Arc::new(read))
        },
    )
}

fn mesh_config() -> impl Strategy<Value = Statement> {
    let settings = vec![
        "{}",
        "outboundTrafficPolicy: {mode: REGISTRY_ONLY}",
        "rootNamespace: shop",
        "trustDomain: x.org",
        "trustDomainAliases: [old.org]",
        "defaultServiceExportTo: ['.']",
        "defaultVirtualServiceExportTo: ['.']",
        "defaultDestinationRuleExportTo: ['.']",
        "localityLbSetting: {enabled: false}",
        "defaultTrafficPolicy: {outlierDetection: {consecutive5xxErrors: 3}}",
        "h2UpgradePolicy: UPGRADE",
        "defaultHttpRetryPolicy: {attempts: 0}",
        "proxyHttpPort: 15080",
        "accessLogFile: /dev/stdout",
    ];
    select(settings).prop_map(|text| {
        Statement::Mesh(Arc::new(MeshConfig::from_value(serde_saphyr::from_str(text).unwrap()).unwrap()))
    })
}

fn networks() -> impl Strategy<Value = Statement> {
    let settings = vec![
        "{}",
        "{networks: {n2: {gateways: [{address: 20.0.0.2, port: 15443}]}}}",
        "{networks: {n1: {gateways: [{address: 20.0.0.1, port: 15443}]}, n2: {gateways: [{address: 20.0.0.2, port: 15443}]}}}",
    ];
    select(settings).prop_map(|text| {
        Statement::Networks(Arc::new(
            MeshNetworks::from_value(serde_saphyr::from_str(text).unwrap()).unwrap(),
        ))
    })
}
