//! CDS: a cluster for each port of a visible service and of each of its subsets, one for each port of the workload, and
//! three fixed clusters.
//!
//! ```text
//! EndpointDiscovery ─▶ base ─▶ connection_pool ─▶ outlier_detection ─▶ load_balancer ─▶ upstream_tls
//! ```
//!
//! Mutual TLS is used only if a `DestinationRule` requests it. Auto mTLS is not implemented.

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

/// Cluster without endpoints, for traffic that is rejected.
pub const BLACK_HOLE: &str = "BlackHoleCluster";
/// Cluster of outbound connections to their original destination.
pub const PASSTHROUGH: &str = "PassthroughCluster";
/// Cluster of inbound connections to ports of the workload without a service.
pub const INBOUND_PASSTHROUGH: &str = "InboundPassthroughCluster";

/// Inputs of a cluster, and its cache key.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct ClusterInputs {
    /// Purpose of the cluster.
    pub role: ClusterRole,
    /// Merged traffic policy.
    pub policy: Arc<MergedTrafficPolicy>,
}

/// Purpose of a cluster.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum ClusterRole {
    /// Port of a service or subset.
    Outbound(Box<OutboundCluster>),
    /// Port of the workload.
    Inbound(InboundCluster),
    /// `BlackHoleCluster`
    BlackHole,
    /// `PassthroughCluster`
    Passthrough,
    /// `InboundPassthroughCluster`
    InboundPassthrough(IpFamilies),
    /// Port of a service, for a gRPC library.
    Proxyless(ClusterName),
}

/// Inputs of the cluster for a port of a service or subset.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct OutboundCluster {
    /// The service.
    pub service: Shared<Service>,
    /// Port of the service.
    pub port: ServicePort,
    /// Name of the subset; empty: the whole service.
    pub subset: Arc<str>,
    /// Discovery of the endpoints.
    pub discovery: EndpointDiscovery,
    /// Kind of client.
    pub client: ClusterClient,
    /// `DestinationRule` of the policy.
    pub rule: Option<DestinationRuleName>,
    /// SPIFFE ids that the server may have, for `ISTIO_MUTUAL` only; empty: any identity of the mesh.
    pub identities: Vec<String>,
}

/// Kind of client of a cluster.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum ClusterClient {
    /// Sidecar.
    Sidecar,
    /// Gateway.
    Gateway,
    /// Gateway with `AUTO_PASSTHROUGH`: the SNI of the connection names the cluster.
    SniDnat,
}

/// Name of a `DestinationRule`.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct DestinationRuleName {
    /// Namespace.
    pub namespace: Namespace,
    /// Name.
    pub name: Arc<str>,
    /// The rule applies to selected clients only (`workloadSelector`).
    pub has_workload_selector: bool,
}

/// Discovery of the endpoints of a cluster.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum EndpointDiscovery {
    /// EDS.
    Eds,
    /// Original destination of the connection.
    OriginalDst,
    /// DNS resolution by the proxy.
    Dns {
        /// Endpoints with the hostnames to resolve.
        selection: Box<EndpointSelection>,
        /// Use of the resolved addresses.
        dns_type: DnsClusterType,
        /// IP families of the lookups.
        families: IpFamilies,
    },
    /// Dynamic forward proxy: DNS resolution of the host of each request or connection, in these IP families.
    DynamicForwardProxy(IpFamilies),
}

/// Use of the addresses that a DNS cluster resolves.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum DnsClusterType {
    /// `STRICT_DNS`: balances over all addresses.
    Strict,
    /// `LOGICAL_DNS`: uses the first address for each new connection.
    Logical,
}

/// Generates a cluster; `None`: it has no endpoint to resolve.
pub fn cluster(inputs: &ClusterInputs) -> (Option<Cluster>, Vec<Rejected>) {
    let policy = &inputs.policy;
    let cluster = match &inputs.role {
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
        // gRPC libraries reject unknown fields, and only round robin is supported by all of them.
        ClusterRole::Proxyless(name) => Cluster { common_lb_config: None, ..eds(&name.to_string()) },
    };
    (Some(cluster), Vec::new())
}

// === impl ClusterInputs ===

impl ClusterInputs {
    /// Returns the hostnames of the services of an inbound cluster; its name does not contain them.
    pub fn hosts(&self) -> Vec<Hostname> {
        match &self.role {
            ClusterRole::Inbound(inbound) => {
                inbound.services.iter().map(|service| service.hostname.clone()).collect()
            }
            _ => Vec::new(),
        }
    }

    /// Returns the name of the cluster.
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

    /// Returns the name; for SNI-DNAT it is the SNI.
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
        let Some(mut cluster) = self.base(&name, policy) else {
            return (None, reject(RejectReason::NoEndpoints));
        };
        let mut http = HttpOptions::of(self.port.protocol, self.client);
        connection_pool::upgrade(&mut http, self.port.protocol, policy);
        connection_pool::apply(&mut cluster, &mut http, policy);
        outlier_detection::apply(&mut cluster, &mut http, policy);
        load_balancer::apply(&mut cluster, policy);
        cluster.transport_socket = upstream_tls::socket(self, policy, &mut http);
        cluster.typed_extension_protocol_options = http.options();
        let withholds = policy.tls.as_ref().is_some_and(|tls| self.withholds_credential(tls));
        (Some(cluster), if withholds { reject(RejectReason::SecretForAll) } else { Vec::new() })
    }

    /// Returns the cluster before the policy is applied; `None`: there is nothing to resolve.
    #[expect(deprecated, reason = "the successor, DnsCluster, is unknown to proxies before Envoy 1.34")]
    fn base(&self, name: &str, policy: &MergedTrafficPolicy) -> Option<Cluster> {
        let discovered = match &self.discovery {
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
            None => discovered.alt_stat_name,
        };
        Some(Cluster { metadata: Some(metadata(istio)), alt_stat_name, ..discovered })
    }
}

// === impl DestinationRuleName ===

impl DestinationRuleName {
    /// Returns the path of the object in Istio's metadata.
    fn path(&self) -> String {
        let Self { namespace, name, .. } = self;
        format!("/apis/networking.istio.io/v1/namespaces/{namespace}/destination-rule/{name}")
    }
}
