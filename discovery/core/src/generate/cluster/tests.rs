//! Traffic policies and the resulting fields of clusters, in Envoy's JSON.

mod connection_pool;
mod discovery;
mod load_balancing;
mod policy_layers;
mod tls;

use std::collections::BTreeSet;
use std::time::Duration;

use serde_json::{Value, json};

use super::*;
use crate::api::destination_rule::{Subset, TrafficPolicy};
use crate::generate::endpoint::{TlsModeMetadata, UnhealthyEndpoints};
use crate::generate::traffic_policy::MeshPolicy;
use crate::model::{
    Endpoint, EndpointAddress, Health, Locality, Protocol, Registry, Resolution, TargetPort, TlsMode,
};
use crate::push::Rule;

const HTTP: &str = "/typed_extension_protocol_options/envoy.extensions.upstreams.http.v3.HttpProtocolOptions";

/// Port of a service, and the mesh it is in.
struct Case {
    service: Service,
    protocol: Protocol,
    client: ClusterClient,
    discovery: EndpointDiscovery,
    mesh: MeshPolicy,
    rule: Rule,
}

fn case() -> Case {
    let service = Service {
        hostname: "web.shop".into(),
        namespace: "shop".into(),
        name: "web".into(),
        registry: Registry::Kubernetes,
        ports: Vec::new(),
        addresses: Vec::new(),
        resolution: Resolution::ClientSideLb,
        location: Location::MeshInternal,
        export_to: Vec::new(),
        labels: std::collections::BTreeMap::new(),
        selector: std::collections::BTreeMap::new(),
        service_accounts: Vec::new(),
        created: 0,
        node_local: false,
        distribution: crate::model::Distribution::Any,
    };
    let rule = Rule {
        host: "web.shop".into(),
        namespace: "shop".into(),
        selector: std::collections::BTreeMap::new(),
        traffic_policy: None,
        subsets: Vec::new(),
        export_to: BTreeSet::new(),
        duplicate_subsets: Vec::new(),
        sources: Vec::new(),
    };
    let mesh = MeshPolicy {
        connect_timeout: Duration::from_secs(10),
        dns_refresh_rate: Duration::from_mins(1),
        locality: Some(crate::api::destination_rule::LocalityLb::default()),
        ..MeshPolicy::default()
    };
    let (protocol, client, discovery) = (Protocol::Http, ClusterClient::Sidecar, EndpointDiscovery::Eds);
    Case { service, protocol, client, discovery, mesh, rule }
}

impl Case {
    fn with(mut self, tweak: impl FnOnce(&mut Self)) -> Self {
        tweak(&mut self);
        self
    }

    fn outbound(self, subset: Option<&str>) -> ClusterInputs {
        let subset = subset.map(|name| self.rule.subsets.iter().find(|own| own.name == name).unwrap());
        let policy = MergedTrafficPolicy::of(Some(&self.rule), subset, 80, &Arc::new(self.mesh));
        let rule = DestinationRuleName {
            namespace: "shop".into(),
            name: "rule".into(),
            has_workload_selector: !self.rule.selector.is_empty(),
        };
        let port = ServicePort {
            name: "port".into(),
            port: 80,
            protocol: self.protocol,
            target: TargetPort::Number(8080),
        };
        let outbound = OutboundCluster {
            service: Arc::new(self.service).into(),
            port,
            subset: subset.map_or("", |subset| &subset.name).into(),
            discovery: self.discovery,
            client: self.client,
            rule: Some(rule),
            identities: vec!["spiffe://cluster.local/ns/shop/sa/web".into()],
        };
        ClusterInputs { role: ClusterRole::Outbound(outbound.into()), policy: Arc::new(policy) }
    }

    fn rendered(self, policy: &Value) -> Value {
        let settings: TrafficPolicy = serde_json::from_value(policy.clone()).unwrap();
        let inputs = self.with(|it| it.rule.traffic_policy = Some(settings)).outbound(None);
        printed(&inputs)
    }
}

fn printed(inputs: &ClusterInputs) -> Value {
    pilot_proto::proto3_json::to_value(&cluster(inputs).0.unwrap()).unwrap()
}

/// Returns the value at a path; `/` separates keys, because they may contain dots.
fn at<'a>(value: &'a Value, path: &str) -> &'a Value {
    value.pointer(path).unwrap_or(&Value::Null)
}

/// Checks the cluster of an HTTP port of a sidecar.
#[expect(clippy::needless_pass_by_value, reason = "tables are written in place")]
fn check(rule: &str, policy: Value, expected: &[(&str, Value)]) {
    check_in(case(), rule, &policy, expected);
}

fn check_in(case: Case, rule: &str, policy: &Value, expected: &[(&str, Value)]) {
    let rendered = case.rendered(policy);
    for (path, expected) in expected {
        assert_eq!(at(&rendered, path), expected, "{rule}: {path} of {policy}\n{rendered:#}");
    }
}
