//! EDS: where a port of a service is served, as one client is to see it.
//!
//! ```text
//! endpoints ─▶ those that count ─▶ by locality ─▶ other networks' gateways ─▶ nearness: shares or priorities ─▶ message
//! ```
//!
//! What makes no difference to a client is no part of the inputs: clients of all places share an assignment until a
//! rule says that near endpoints come first.

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

/// Everything an assignment depends on.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct AssignmentInputs {
    /// Name of the cluster that asks.
    pub cluster: Arc<str>,
    /// What serves it; `None` when nobody knows the service. Envoy is told that too: a cluster that never gets an
    /// answer warms for ever.
    pub selection: Option<EndpointSelection>,
}

/// Where the port of a service is served.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct EndpointSelection {
    /// Whose endpoints they are.
    pub service: Hostname,
    /// Endpoints of all ports.
    pub endpoints: Shared<[Endpoint]>,
    /// Those of this port count.
    pub port_name: Arc<str>,
    /// Those with these labels count.
    pub labels: Map,
    /// Only those on this node count, for `internalTrafficPolicy: Local`.
    pub node: Option<Arc<str>>,
    /// Only those of this cluster count, besides those of whom nobody knows it; `None`: all.
    pub cluster: Option<Arc<str>>,
    /// What happens to unhealthy ones.
    pub unhealthy: UnhealthyEndpoints,
    /// Whether it is told which of them take mutual TLS.
    pub tls_mode_metadata: TlsModeMetadata,
    /// Which of them come first; `None`: all are alike.
    pub locality_priority: Option<LocalityPriority>,
    /// What is between them and the client; `None`: nothing.
    pub networks: Option<Arc<NetworkView>>,
}

/// What happens to unhealthy endpoints.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum UnhealthyEndpoints {
    /// They are sent, so that Envoy knows how much of the service is left.
    Included,
    /// They are not: Envoy would use them in a panic, and gRPC libraries take a locality without a healthy endpoint for a
    /// broken resource.
    Excluded,
}

/// Whether the client is told which endpoints take mutual TLS.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum TlsModeMetadata {
    /// It is.
    Included,
    /// A rule says how connections are secured, and it is not with the mesh's certificates.
    Omitted,
}

/// What an address may be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum AddressResolution {
    /// EDS: addresses and Unix sockets.
    Eds,
    /// DNS clusters: addresses and host names.
    Dns,
}

/// What is served in one place.
struct LocalityGroup<'a> {
    locality: &'a Locality,
    priority: u32,
    /// Its share among groups of the same priority, if not the sum of its members'.
    weight: Option<u32>,
    members: Vec<LbHost<'a>>,
}

/// One of those that share the traffic of a group.
struct LbHost<'a> {
    target: LbTarget<'a>,
    weight: u32,
}

/// What a member is.
#[derive(Clone, Copy)]
enum LbTarget<'a> {
    Endpoint(&'a Endpoint),
    /// Stands for the endpoints behind it.
    Gateway(&'a NetworkGateway),
}

/// The assignment of a cluster.
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

/// The endpoints that count, by locality and then by address, whatever order they were given in.
pub(super) fn localities(
    cluster: &str,
    selection: &EndpointSelection,
    addressing: AddressResolution,
) -> (Vec<LocalityLbEndpoints>, Vec<Rejected>) {
    let mut places: BTreeMap<&Locality, Vec<&Endpoint>> = BTreeMap::new();
    let mut rejected = Vec::new();
    for endpoint in selection.endpoints.iter().filter(|endpoint| selection.counts(endpoint)) {
        if reachable(&endpoint.address, addressing) {
            places.entry(&endpoint.locality).or_default().push(endpoint);
        } else {
            rejected.push(Rejected {
                subject: format!("{cluster} {}", endpoint.address),
                service: selection.service.clone(),
                reason: RejectReason::HostnameEndpoint,
            });
        }
    }
    let mut groups: Vec<LocalityGroup<'_>> =
        places.into_iter().map(|(place, found)| LocalityGroup::of(place, found)).collect();
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
    fn counts(&self, endpoint: &Endpoint) -> bool {
        let healthy = match endpoint.health {
            Health::Healthy => true,
            Health::Unhealthy => self.unhealthy == UnhealthyEndpoints::Included,
            // Only persistent sessions still use these, and nothing we generate makes sessions persistent.
            Health::Draining | Health::Terminating => false,
        };
        let near = self.node.as_ref().is_none_or(|node| endpoint.node == *node);
        let ours = |own: &Arc<str>| endpoint.cluster().is_none_or(|cluster| *cluster == **own);
        healthy
            && near
            && self.cluster.as_ref().is_none_or(ours)
            && endpoint.port_name == self.port_name
            && self.labels.iter().all(|(key, value)| label(endpoint, key) == Some(value))
            && self.networks.as_ref().is_none_or(|networks| networks.see(endpoint))
    }
}

/// What an endpoint has under a label; what says where it is counts as labels too.
fn label<'a>(endpoint: &'a Endpoint, key: &str) -> Option<&'a str> {
    locality_lb::label(&endpoint.labels, &endpoint.locality, &endpoint.network, &endpoint.node, key)
}

/// Whether a client sends mutual TLS to an endpoint if it is not told more.
fn takes_tls(endpoint: &Endpoint, tls_mode_metadata: TlsModeMetadata) -> bool {
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
        // Envoy refuses a weight of 0.
        let member = |endpoint: &'a Endpoint| LbHost {
            target: LbTarget::Endpoint(endpoint),
            weight: endpoint.weight.max(1),
        };
        let members = endpoints.into_iter().map(member).collect();
        Self { locality, priority: 0, weight: None, members }
    }

    fn weight(&self) -> u32 {
        let sum = || self.members.iter().fold(0_u32, |sum, member| sum.saturating_add(member.weight));
        self.weight.unwrap_or_else(sum)
    }
}

// === impl LbTarget ===

impl<'a> LbTarget<'a> {
    /// What it has under a label; what says where it is counts as labels too.
    fn label(self, key: &str) -> Option<&'a str> {
        match self {
            Self::Endpoint(endpoint) => label(endpoint, key),
            Self::Gateway(gateway) => (key == ClientLocality::NETWORK).then_some(&*gateway.network),
        }
    }
}
