//! CDS: a cluster for each port of a visible service and of each of its subsets, one for each port of the workload, and
//! the three that always exist.
//!
//! ```text
//! Discovery ─▶ bare cluster ─▶ pool ─▶ outlier ─▶ balance ─▶ tls        each sets what the Policy says of it
//! ```
//!
//! Mutual TLS is used where a rule asks for it, and nowhere on our own initiative: there are no certificates yet.

mod base;
mod connection_pool;
mod http_options;
mod inbound;
mod load_balancer;
mod outlier_detection;
#[cfg(test)]
mod tests;
mod upstream_tls;

use std::sync::Arc;

use pilot_proto::envoy::config::cluster::v3::{Cluster, cluster};

pub use base::dns_cache;
pub use inbound::{InboundCluster, WorkloadAddress};

use super::endpoint::{AddressResolution, EndpointSelection, localities};
use super::proto::{bool_true, duration, string};
use super::stat_name::StatNameVariables;
use super::traffic_policy::MergedTrafficPolicy;
use super::{IpFamilies, RejectReason, Rejected};
use crate::model::{ClusterName, Hostname, Location, Namespace, Service, ServicePort, Shared};
use base::{dns, dynamic, eds, local_source, lookup, metadata, named, original_dst, passthrough, services};
use http_options::HttpOptions;

/// Traffic that must go nowhere.
pub const BLACK_HOLE: &str = "BlackHoleCluster";
/// Outbound traffic that goes on to wherever it was going.
pub const PASSTHROUGH: &str = "PassthroughCluster";
/// Inbound traffic to ports of the workload that no service declares.
pub const INBOUND_PASSTHROUGH: &str = "InboundPassthroughCluster";

/// Everything a cluster depends on.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct ClusterInputs {
    /// What it is for.
    pub role: ClusterRole,
    /// How connections are made.
    pub policy: Arc<MergedTrafficPolicy>,
}

/// What a cluster is for.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum ClusterRole {
    /// A port of a service, or of a subset of one.
    Outbound(Box<OutboundCluster>),
    /// A port of the workload beside the proxy.
    Inbound(InboundCluster),
    /// `BlackHoleCluster`
    BlackHole,
    /// `PassthroughCluster`
    Passthrough,
    /// `InboundPassthroughCluster`
    InboundPassthrough(IpFamilies),
    /// A port of a service, for a gRPC library.
    Proxyless(ClusterName),
}

/// A port of a service, or of a subset of one.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct OutboundCluster {
    /// The service.
    pub service: Shared<Service>,
    /// Its port.
    pub port: ServicePort,
    /// The subset; empty: the whole service.
    pub subset: Arc<str>,
    /// How endpoints are found.
    pub discovery: EndpointDiscovery,
    /// Who connects.
    pub client: ClusterClient,
    /// The rule that the policy is from.
    pub rule: Option<DestinationRuleName>,
    /// Whoever proves to be one of these is the service; empty: whoever is of the mesh. For `ISTIO_MUTUAL` only.
    pub identities: Vec<String>,
}

/// Who connects.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum ClusterClient {
    /// The proxy beside a workload.
    Sidecar,
    /// A gateway.
    Gateway,
    /// A gateway that passes on the mesh's own TLS, by the cluster that its SNI names.
    SniDnat,
}

/// The `DestinationRule` that decided something.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct DestinationRuleName {
    /// Its namespace.
    pub namespace: Namespace,
    /// Its name.
    pub name: Arc<str>,
    /// Whether it is for some clients only.
    pub has_workload_selector: bool,
}

/// How endpoints of a cluster are found.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum EndpointDiscovery {
    /// The control plane tells.
    Eds,
    /// The connection goes where it was going.
    OriginalDst,
    /// The proxy asks DNS.
    Dns {
        /// What it asks for.
        selection: Box<EndpointSelection>,
        /// What it makes of the answers.
        dns_type: DnsClusterType,
        /// Which records it asks for.
        families: IpFamilies,
    },
    /// The proxy asks DNS for the host of each request or connection: which records of it.
    DynamicForwardProxy(IpFamilies),
}

/// What a DNS cluster makes of its answers.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum DnsClusterType {
    /// Balances over all of them.
    Strict,
    /// Takes the first one at every new connection.
    Logical,
}

/// A cluster, if there can be one, and what is wrong with it.
pub fn cluster(inputs: &ClusterInputs) -> (Option<Cluster>, Vec<Rejected>) {
    let policy = &inputs.policy;
    let made = match &inputs.role {
        ClusterRole::Outbound(outbound) => return outbound.cluster(policy),
        ClusterRole::Inbound(inbound) => inbound.cluster(policy),
        ClusterRole::BlackHole => {
            let discovery = Some(cluster::ClusterDiscoveryType::Type(cluster::DiscoveryType::Static.into()));
            let connect_timeout = duration(policy.mesh.connect_timeout);
            Cluster { cluster_discovery_type: discovery, connect_timeout, ..named(BLACK_HOLE) }
        }
        ClusterRole::Passthrough => passthrough(PASSTHROUGH, policy),
        ClusterRole::InboundPassthrough(families) => Cluster {
            upstream_bind_config: Some(local_source(*families)),
            ..passthrough(INBOUND_PASSTHROUGH, policy)
        },
        // gRPC libraries refuse what they do not know, and know no balancing but round robin for certain.
        ClusterRole::Proxyless(name) => Cluster { common_lb_config: None, ..eds(&name.to_string()) },
    };
    (Some(made), Vec::new())
}

// === impl ClusterInputs ===

impl ClusterInputs {
    /// Hosts of the services of an inbound cluster, whose name does not tell them.
    pub fn hosts(&self) -> Vec<Hostname> {
        match &self.role {
            ClusterRole::Inbound(inbound) => {
                inbound.services.iter().map(|service| service.hostname.clone()).collect()
            }
            _ => Vec::new(),
        }
    }

    /// Name of the cluster.
    pub fn name(&self) -> String {
        match &self.role {
            ClusterRole::Outbound(outbound) => outbound.name(),
            ClusterRole::Inbound(inbound) => ClusterName::inbound(inbound.target_port).to_string(),
            ClusterRole::BlackHole => BLACK_HOLE.to_owned(),
            ClusterRole::Passthrough => PASSTHROUGH.to_owned(),
            ClusterRole::InboundPassthrough(_) => INBOUND_PASSTHROUGH.to_owned(),
            ClusterRole::Proxyless(name) => name.to_string(),
        }
    }
}

// === impl OutboundCluster ===

impl OutboundCluster {
    fn cluster_name(&self) -> ClusterName {
        ClusterName::subset(self.port.port, &self.subset, &self.service.hostname)
    }

    /// As it is asked for.
    fn name(&self) -> String {
        match self.client {
            ClusterClient::Sidecar | ClusterClient::Gateway => self.cluster_name().to_string(),
            ClusterClient::SniDnat => self.cluster_name().sni(),
        }
    }

    fn cluster(&self, policy: &MergedTrafficPolicy) -> (Option<Cluster>, Vec<Rejected>) {
        let name = self.name();
        let reject = |reason| {
            let (subject, service) = (name.clone(), self.service.hostname.clone());
            vec![Rejected { subject, service, reason }]
        };
        let Some(mut made) = self.bare(&name, policy) else {
            return (None, reject(RejectReason::NoEndpoints));
        };
        let mut http = HttpOptions::of(self.port.protocol, self.client);
        connection_pool::upgrade(&mut http, self.port.protocol, policy);
        connection_pool::apply(&mut made, &mut http, policy);
        outlier_detection::apply(&mut made, &mut http, policy);
        load_balancer::apply(&mut made, policy);
        made.transport_socket = upstream_tls::socket(self, policy, &mut http);
        made.typed_extension_protocol_options = http.options();
        let hides = policy.tls.as_ref().is_some_and(|tls| self.keeps_secret(tls));
        (Some(made), if hides { reject(RejectReason::SecretForAll) } else { Vec::new() })
    }

    /// The cluster before anything is said about it; `None`: there is nothing to resolve.
    #[expect(deprecated, reason = "the successor, DnsCluster, is unknown to proxies before Envoy 1.34")]
    fn bare(&self, name: &str, policy: &MergedTrafficPolicy) -> Option<Cluster> {
        let found = match &self.discovery {
            EndpointDiscovery::Eds => eds(name),
            EndpointDiscovery::OriginalDst => original_dst(name),
            EndpointDiscovery::DynamicForwardProxy(families) => {
                dynamic(name, *families, upstream_tls::NameVerification::of(policy))
            }
            EndpointDiscovery::Dns { selection, dns_type, families } => {
                let (endpoints, _) = localities(name, selection, AddressResolution::Dns);
                if endpoints.is_empty() {
                    return None;
                }
                Cluster {
                    dns_refresh_rate: duration(policy.mesh.dns_refresh_rate),
                    dns_lookup_family: lookup(*families).into(),
                    ..dns(name, endpoints, *dns_type)
                }
            }
        };
        let mut istio = services(&[&self.service]);
        if self.service.location == Location::MeshExternal {
            istio.fields.insert("external".to_owned(), bool_true());
        }
        if !self.subset.is_empty() {
            istio.fields.insert("subset".to_owned(), string(&self.subset));
        }
        if let Some(rule) = &self.rule {
            istio.fields.insert("config".to_owned(), string(&rule.path()));
        }
        let stat_name_variables = StatNameVariables {
            service: &self.service,
            port: &self.port,
            subset: &self.subset,
            target: None,
        };
        let alt_stat_name = match stat_name_variables.expand(&policy.mesh.outbound_stat_name) {
            Some(named) => format!("{named};"),
            None => found.alt_stat_name,
        };
        Some(Cluster { metadata: Some(metadata(istio)), alt_stat_name, ..found })
    }
}

// === impl DestinationRuleName ===

impl DestinationRuleName {
    /// As Istio names objects in metadata.
    fn path(&self) -> String {
        let Self { namespace, name, .. } = self;
        format!("/apis/networking.istio.io/v1/namespaces/{namespace}/destination-rule/{name}")
    }
}
