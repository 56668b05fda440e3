//! EDS: where a port of a service is served, grouped by locality.
//!
//! Knows nothing of load balancing policies: without outlier detection there is no failover, and priorities stay 0.

use std::collections::BTreeMap;
use std::sync::Arc;

use pilot_proto::envoy::config::core::v3::{self as core, Metadata};
use pilot_proto::envoy::config::endpoint::v3::{
    self as wire, ClusterLoadAssignment, LbEndpoint, LocalityLbEndpoints, lb_endpoint,
};

use super::proto::{address, number, object, pipe, string};
use super::{Reason, Rejected};
use crate::model::{Endpoint, EndpointAddress, Health, Hostname, Locality, Shared};

/// Everything an assignment depends on.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct AssignmentInputs {
    /// Name of the cluster that asks.
    pub cluster: Arc<str>,
    /// What serves it; `None` when nobody knows the service. Envoy is told that too: a cluster that never gets an
    /// answer warms for ever.
    pub served: Option<Served>,
}

/// Where the port of a service is served.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Served {
    /// Whose endpoints they are.
    pub service: Hostname,
    /// Endpoints of all ports.
    pub endpoints: Shared<[Endpoint]>,
    /// Those of this port count.
    pub port_name: Arc<str>,
    /// Only those on this node count, for `internalTrafficPolicy: Local`.
    pub node: Option<Arc<str>>,
    /// What happens to unhealthy ones.
    pub unhealthy: Unhealthy,
}

/// What happens to unhealthy endpoints.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Unhealthy {
    /// They are sent, so that Envoy knows how much of the service is left.
    Sent,
    /// They are not: gRPC libraries take a locality without a healthy endpoint for a broken resource.
    Withheld,
}

/// What an address may be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Addressing {
    /// EDS: addresses and Unix sockets.
    Resolved,
    /// DNS clusters: addresses and host names.
    Names,
}

/// The assignment of a cluster.
pub fn assignment(inputs: &AssignmentInputs) -> (ClusterLoadAssignment, Vec<Rejected>) {
    let (endpoints, rejected) = match &inputs.served {
        None => (Vec::new(), Vec::new()),
        Some(served) => localities(&inputs.cluster, served, Addressing::Resolved),
    };
    (
        ClusterLoadAssignment {
            cluster_name: inputs.cluster.to_string(),
            endpoints,
            ..ClusterLoadAssignment::default()
        },
        rejected,
    )
}

/// The endpoints that count, by locality and then by address, whatever order they were given in.
pub(super) fn localities(
    cluster: &str,
    served: &Served,
    addressing: Addressing,
) -> (Vec<LocalityLbEndpoints>, Vec<Rejected>) {
    let mut groups: BTreeMap<&Locality, Vec<&Endpoint>> = BTreeMap::new();
    let mut rejected = Vec::new();
    for endpoint in served.endpoints.iter().filter(|endpoint| served.counts(endpoint)) {
        if reachable(&endpoint.address, addressing) {
            groups.entry(&endpoint.locality).or_default().push(endpoint);
        } else {
            rejected.push(Rejected {
                subject: format!("{cluster} {}", endpoint.address),
                service: served.service.clone(),
                reason: Reason::HostnameEndpoint,
            });
        }
    }
    let localities = groups.into_iter().map(|(locality, mut endpoints)| {
        endpoints.sort();
        endpoints.dedup_by(|a, b| (&a.address, a.port) == (&b.address, b.port));
        group(locality, &endpoints)
    });
    (localities.collect(), rejected)
}

// === impl Served ===

impl Served {
    fn counts(&self, endpoint: &Endpoint) -> bool {
        let healthy = match endpoint.health {
            Health::Healthy => true,
            Health::Unhealthy => self.unhealthy == Unhealthy::Sent,
            // Only persistent sessions still use these, and nothing we generate makes sessions persistent.
            Health::Draining | Health::Terminating => false,
        };
        let near = self.node.as_ref().is_none_or(|node| endpoint.node == *node);
        healthy && near && endpoint.port_name == self.port_name
    }
}

fn reachable(address: &EndpointAddress, addressing: Addressing) -> bool {
    match address {
        EndpointAddress::Ip(_) => true,
        EndpointAddress::Unix(_) => addressing == Addressing::Resolved,
        EndpointAddress::Dns(_) => addressing == Addressing::Names,
    }
}

fn group(locality: &Locality, endpoints: &[&Endpoint]) -> LocalityLbEndpoints {
    let weight = endpoints.iter().fold(0_u32, |sum, endpoint| sum.saturating_add(weight(endpoint)));
    LocalityLbEndpoints {
        // Always there: gRPC libraries refuse a group without a locality, though an empty one says nothing.
        locality: Some(core::Locality {
            region: locality.region.to_string(),
            zone: locality.zone.to_string(),
            sub_zone: locality.sub_zone.to_string(),
        }),
        lb_endpoints: endpoints.iter().map(|endpoint| lb_endpoint(endpoint)).collect(),
        load_balancing_weight: number(weight),
        ..LocalityLbEndpoints::default()
    }
}

/// Envoy refuses a weight of 0.
fn weight(endpoint: &Endpoint) -> u32 {
    endpoint.weight.max(1)
}

fn lb_endpoint(endpoint: &Endpoint) -> LbEndpoint {
    let address = match &endpoint.address {
        EndpointAddress::Ip(ip) => address(&ip.to_string(), endpoint.port),
        EndpointAddress::Dns(host) => address(host, endpoint.port),
        EndpointAddress::Unix(path) => pipe(path),
    };
    let health = match endpoint.health {
        Health::Healthy => core::HealthStatus::Healthy,
        Health::Unhealthy => core::HealthStatus::Unhealthy,
        Health::Draining | Health::Terminating => core::HealthStatus::Draining,
    };
    LbEndpoint {
        health_status: health.into(),
        metadata: workload(endpoint),
        load_balancing_weight: number(weight(endpoint)),
        host_identifier: Some(lb_endpoint::HostIdentifier::Endpoint(wire::Endpoint {
            address,
            ..wire::Endpoint::default()
        })),
    }
}

/// Who the endpoint is, for access logs and telemetry: `name;namespace;canonical name;canonical revision;cluster`.
fn workload(endpoint: &Endpoint) -> Option<Metadata> {
    if endpoint.workload.is_empty() && endpoint.namespace.as_str().is_empty() {
        return None;
    }
    let label = |keys: &[&str]| keys.iter().find_map(|key| endpoint.labels.get(*key)).map(String::as_str);
    let name = label(&["service.istio.io/canonical-name", "app.kubernetes.io/name", "app"]);
    let revision = label(&["service.istio.io/canonical-revision", "app.kubernetes.io/version", "version"]);
    let text = format!(
        "{};{};{};{};",
        endpoint.workload,
        endpoint.namespace,
        name.unwrap_or(&endpoint.workload),
        revision.unwrap_or("latest")
    );
    let istio = object([("workload", string(&text))]);
    Some(Metadata { filter_metadata: [("istio".to_owned(), istio)].into(), ..Metadata::default() })
}
