//! EDS: endpoints of a service port for a class of clients.
//!
//! ```text
//! endpoints ─▶ selection ─▶ by locality ─▶ gateways of other networks ─▶ locality weights or priorities ─▶ message
//! ```
//!
//! The inputs contain only properties of the client that affect the result: clients in all localities share an assignment
//! unless locality load balancing is configured.

mod cluster_local;
mod lb_endpoints;
mod locality_lb;
mod networks;
#[cfg(test)]
mod tests;

use std::collections::BTreeMap;
use std::sync::Arc;

use pilot_proto::envoy::config::endpoint::v3::{ClusterLoadAssignment, LocalityLbEndpoints};

pub use cluster_local::ClusterLocalHosts;
pub use locality_lb::{ClientLocality, LocalityFailover, LocalityPriority};
pub use networks::{NetworkGateway, NetworkGateways, NetworkView};

use super::{RejectReason, Rejected};
use crate::api::values::Map;
use crate::model::{Endpoint, EndpointAddress, Health, Hostname, Locality, Shared, TlsMode};

/// Inputs of an assignment, and its cache key.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct AssignmentInputs {
    /// Name of the cluster.
    pub cluster: Arc<str>,
    /// Endpoints of the cluster; `None`: the service is unknown. The assignment is then empty, because a cluster without a
    /// response never finishes warming.
    pub selection: Option<EndpointSelection>,
}

/// Endpoints of a service and the criteria that select those of a cluster and client.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct EndpointSelection {
    /// Hostname of the service.
    pub service: Hostname,
    /// Endpoints of all ports of the service.
    pub endpoints: Shared<[Endpoint]>,
    /// Selects endpoints of this port.
    pub port_name: Arc<str>,
    /// Selects endpoints with these labels (subset).
    pub labels: Map,
    /// Selects endpoints on this node, for `internalTrafficPolicy: Local`.
    pub node: Option<Arc<str>>,
    /// Selects endpoints of this cluster and those of unknown clusters; `None`: all.
    pub cluster: Option<Arc<str>>,
    /// Treatment of unhealthy endpoints.
    pub unhealthy: UnhealthyEndpoints,
    /// Metadata of endpoints that accept mutual TLS.
    pub tls_mode_metadata: TlsModeMetadata,
    /// Locality load balancing; `None`: disabled.
    pub locality_priority: Option<LocalityPriority>,
    /// Networks and their gateways; `None`: all endpoints are directly reachable.
    pub networks: Option<Arc<NetworkView>>,
}

/// Treatment of unhealthy endpoints.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum UnhealthyEndpoints {
    /// Sent, so that Envoy knows the share of healthy endpoints.
    Included,
    /// Not sent: Envoy would use them in panic mode, and gRPC libraries reject a locality without a healthy endpoint.
    Excluded,
}

/// Metadata `tlsMode` of endpoints that accept mutual TLS.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum TlsModeMetadata {
    /// Set.
    Included,
    /// Not set, because a rule configures another TLS mode.
    Omitted,
}

/// Types of addresses that a cluster supports.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum AddressResolution {
    /// EDS: addresses and Unix sockets.
    Eds,
    /// DNS clusters: addresses and host names.
    Dns,
}

/// Endpoints of one locality and priority.
struct LocalityGroup<'a> {
    locality: &'a Locality,
    priority: u32,
    /// Weight among localities of the same priority; `None`: the sum of the weights of its endpoints.
    weight: Option<u32>,
    hosts: Vec<LbHost<'a>>,
}

/// Weighted endpoint of a locality.
struct LbHost<'a> {
    target: LbTarget<'a>,
    weight: u32,
}

/// Endpoint, or network gateway in front of endpoints.
#[derive(Clone, Copy)]
enum LbTarget<'a> {
    Endpoint(&'a Endpoint),
    /// Represents the endpoints behind it.
    Gateway(&'a NetworkGateway),
}

/// Generates the assignment of a cluster.
pub fn assignment(inputs: &AssignmentInputs) -> (ClusterLoadAssignment, Vec<Rejected>) {
    let (endpoints, rejected) = match &inputs.selection {
        None => (Vec::new(), Vec::new()),
        Some(selection) => localities(&inputs.cluster, selection, AddressResolution::Eds),
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

/// Returns the selected endpoints, sorted by locality and address.
pub(super) fn localities(
    cluster: &str,
    selection: &EndpointSelection,
    addressing: AddressResolution,
) -> (Vec<LocalityLbEndpoints>, Vec<Rejected>) {
    let mut by_locality: BTreeMap<&Locality, Vec<&Endpoint>> = BTreeMap::new();
    let mut rejected = Vec::new();
    for endpoint in selection.endpoints.iter().filter(|endpoint| selection.selects(endpoint)) {
        if reachable(&endpoint.address, addressing) {
            by_locality.entry(&endpoint.locality).or_default().push(endpoint);
        } else {
            rejected.push(Rejected {
                subject: format!("{cluster} {}", endpoint.address),
                service: selection.service.clone(),
                reason: RejectReason::HostnameEndpoint,
            });
        }
    }
    let mut groups: Vec<LocalityGroup<'_>> =
        by_locality.into_iter().map(|(locality, endpoints)| LocalityGroup::of(locality, endpoints)).collect();
    if let Some(networks) = &selection.networks {
        networks.bridge(&mut groups, selection.tls_mode_metadata, addressing);
    }
    if let Some(locality_priority) = &selection.locality_priority {
        groups = locality_priority.order(groups);
    }
    (groups.iter().map(|group| lb_endpoints::group(group, selection.tls_mode_metadata)).collect(), rejected)
}

// === impl EndpointSelection ===

impl EndpointSelection {
    fn selects(&self, endpoint: &Endpoint) -> bool {
        let healthy = match endpoint.health {
            Health::Healthy => true,
            Health::Unhealthy => self.unhealthy == UnhealthyEndpoints::Included,
            // Only persistent sessions use these endpoints, and they are not generated.
            Health::Draining | Health::Terminating => false,
        };
        let on_node = self.node.as_ref().is_none_or(|node| endpoint.node == *node);
        let in_cluster =
            |client_cluster: &Arc<str>| endpoint.cluster().is_none_or(|cluster| *cluster == **client_cluster);
        healthy
            && on_node
            && self.cluster.as_ref().is_none_or(in_cluster)
            && endpoint.port_name == self.port_name
            && self.labels.iter().all(|(key, value)| label(endpoint, key) == Some(value))
            && self.networks.as_ref().is_none_or(|networks| networks.includes(endpoint))
    }
}

/// Returns the value of a label; locality, network and node count as labels.
fn label<'a>(endpoint: &'a Endpoint, key: &str) -> Option<&'a str> {
    locality_lb::label(&endpoint.labels, &endpoint.locality, &endpoint.network, &endpoint.node, key)
}

/// Returns true if clients use mutual TLS for an endpoint by default.
fn accepts_mutual_tls(endpoint: &Endpoint, tls_mode_metadata: TlsModeMetadata) -> bool {
    endpoint.tls_mode == TlsMode::Istio && tls_mode_metadata == TlsModeMetadata::Included
}

fn reachable(address: &EndpointAddress, addressing: AddressResolution) -> bool {
    match address {
        EndpointAddress::Ip(_) => true,
        EndpointAddress::Unix(_) => addressing == AddressResolution::Eds,
        EndpointAddress::Dns(_) => addressing == AddressResolution::Dns,
    }
}

// === impl LocalityGroup ===

impl<'a> LocalityGroup<'a> {
    fn of(locality: &'a Locality, mut endpoints: Vec<&'a Endpoint>) -> Self {
        endpoints.sort();
        endpoints.dedup_by(|a, b| (&a.address, a.port) == (&b.address, b.port));
        // Envoy rejects a weight of 0.
        let host = |endpoint: &'a Endpoint| LbHost {
            target: LbTarget::Endpoint(endpoint),
            weight: endpoint.weight.max(1),
        };
        let hosts = endpoints.into_iter().map(host).collect();
        Self { locality, priority: 0, weight: None, hosts }
    }

    fn weight(&self) -> u32 {
        let sum = || self.hosts.iter().fold(0_u32, |sum, host| sum.saturating_add(host.weight));
        self.weight.unwrap_or_else(sum)
    }
}

// === impl LbTarget ===

impl<'a> LbTarget<'a> {
    /// Returns the value of a label; locality, network and node count as labels.
    fn label(self, key: &str) -> Option<&'a str> {
        match self {
            Self::Endpoint(endpoint) => label(endpoint, key),
            Self::Gateway(gateway) => (key == ClientLocality::NETWORK).then_some(&*gateway.network),
        }
    }
}
