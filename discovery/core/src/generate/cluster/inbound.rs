//! Clusters of the workload.
//!
//! Of a `DestinationRule` only `connectionPool` and `retryBudget` apply: they replace the default limits of Envoy.

use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use pilot_proto::envoy::config::cluster::v3::{Cluster, cluster};
use pilot_proto::envoy::config::endpoint::v3::{
    ClusterLoadAssignment, Endpoint, LbEndpoint, LocalityLbEndpoints, lb_endpoint::HostIdentifier,
};

use super::base::{local_source, metadata, named, original_dst, services};
use super::http_options::HttpOptions;
use super::{ClusterClient, DestinationRuleName, connection_pool};
use crate::generate::IpFamilies;
use crate::generate::proto::{address, duration, pipe, string};
use crate::generate::stat_name::StatNameVariables;
use crate::generate::traffic_policy::MergedTrafficPolicy;
use crate::model::{ClusterName, Service, ServicePort, Shared};

/// Inputs of the cluster for a port of the workload.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct InboundCluster {
    /// Port in the name of the cluster: port of the workload, or ingress port of a `Sidecar`.
    pub target_port: u16,
    /// Services with this port in order of precedence; empty if only a `Sidecar` declares it.
    pub services: Vec<Shared<Service>>,
    /// Port of the first service, or ingress port of a `Sidecar`.
    pub port: ServicePort,
    /// Address of the workload.
    pub workload_address: WorkloadAddress,
    /// IP families of the proxy.
    pub families: IpFamilies,
    /// `DestinationRule` of the policy.
    pub rule: Option<DestinationRuleName>,
}

/// Address of the workload.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum WorkloadAddress {
    /// Original destination of the connection.
    OriginalDst,
    /// IP address and port.
    Ip(IpAddr, u16),
    /// Path of a Unix socket.
    Unix(Arc<str>),
}

/// Maximum duration that Envoy accepts in whole seconds; it counts nanoseconds in 63 bits.
const MAX_DURATION: Duration = Duration::from_secs(9_223_372_035);

// === impl InboundCluster ===

impl InboundCluster {
    pub(super) fn cluster(&self, policy: &MergedTrafficPolicy) -> Cluster {
        let name = ClusterName::inbound(self.target_port).to_string();
        let mut cluster = match &self.workload_address {
            // Envoy removes unused hosts of an original-destination cluster. The workload does not move, so this is disabled.
            WorkloadAddress::OriginalDst => {
                Cluster { cleanup_interval: duration(MAX_DURATION), ..original_dst(&name) }
            }
            address => address.cluster(&name),
        };
        let service_list: Vec<&Service> = self.services.iter().map(|service| &**service).collect();
        let mut istio = services(&service_list);
        if let Some(rule) = &self.rule {
            istio.fields.insert("config".to_owned(), string(&rule.path()));
        }
        if let Some(service) = self.services.first() {
            let stat_name_variables =
                StatNameVariables { service, port: &self.port, subset: "", target: Some(self.target_port) };
            if let Some(named) = stat_name_variables.expand(&policy.mesh.inbound_stat_name) {
                cluster.alt_stat_name = format!("{named};");
            }
        }
        cluster.metadata = (!self.services.is_empty()).then(|| metadata(istio));
        cluster.upstream_bind_config =
            self.workload_address.is_captured().then(|| local_source(self.families));
        let mut http = HttpOptions::of(self.port.protocol, ClusterClient::Sidecar);
        connection_pool::apply(&mut cluster, &mut http, policy);
        Cluster { typed_extension_protocol_options: http.options(), ..cluster }
    }
}

// === impl WorkloadAddress ===

impl WorkloadAddress {
    fn cluster(&self, name: &str) -> Cluster {
        let address = match self {
            Self::OriginalDst => None,
            Self::Ip(ip, port) => address(&ip.to_string(), *port),
            Self::Unix(path) => pipe(path),
        };
        let endpoint = HostIdentifier::Endpoint(Endpoint { address, ..Endpoint::default() });
        let host = LbEndpoint { host_identifier: Some(endpoint), ..LbEndpoint::default() };
        let only = LocalityLbEndpoints { lb_endpoints: vec![host], ..LocalityLbEndpoints::default() };
        Cluster {
            cluster_discovery_type: Some(cluster::ClusterDiscoveryType::Type(
                cluster::DiscoveryType::Static.into(),
            )),
            load_assignment: Some(ClusterLoadAssignment {
                cluster_name: name.to_owned(),
                endpoints: vec![only],
                ..ClusterLoadAssignment::default()
            }),
            ..named(name)
        }
    }

    /// Returns true if iptables would redirect the connection to the proxy unless its source address is excluded.
    const fn is_captured(&self) -> bool {
        match self {
            Self::OriginalDst => true,
            Self::Ip(ip, _) => !ip.is_loopback(),
            Self::Unix(_) => false,
        }
    }
}
