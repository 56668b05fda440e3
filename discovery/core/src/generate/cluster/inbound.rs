//! Clusters of the workload beside the proxy.
//!
//! Of what rules say only `connectionPool` counts here: who is limited by his clients' proxies is not to be limited by
//! Envoy's defaults in his own.

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

/// A port of the workload.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct InboundCluster {
    /// The port that names the cluster: where the workload listens, or where a `Sidecar` says that the proxy does.
    pub target_port: u16,
    /// The services whose port this is, the one that counts first; none for what only a `Sidecar` declares.
    pub services: Vec<Shared<Service>>,
    /// Port of the first service, or of the proxy where a `Sidecar` declares it.
    pub port: ServicePort,
    /// Where the workload is met.
    pub workload_address: WorkloadAddress,
    /// Address families of the proxy.
    pub families: IpFamilies,
    /// The rule that the policy is from.
    pub rule: Option<DestinationRuleName>,
}

/// Where the workload is met.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum WorkloadAddress {
    /// Where the connection was going.
    OriginalDst,
    /// At an address of its own.
    Ip(IpAddr, u16),
    /// At a Unix socket.
    Unix(Arc<str>),
}

/// The longest whole number of seconds that Envoy takes: its clock counts nanoseconds in 63 bits.
const LONGEST: Duration = Duration::from_secs(9_223_372_035);

// === impl InboundCluster ===

impl InboundCluster {
    pub(super) fn cluster(&self, policy: &MergedTrafficPolicy) -> Cluster {
        let name = ClusterName::inbound(self.target_port).to_string();
        let mut made = match &self.workload_address {
            // Hosts of an original-destination cluster are forgotten when unused; the workload stays where it is.
            WorkloadAddress::OriginalDst => {
                Cluster { cleanup_interval: duration(LONGEST), ..original_dst(&name) }
            }
            fixed => fixed.cluster(&name),
        };
        let listed: Vec<&Service> = self.services.iter().map(|service| &**service).collect();
        let mut istio = services(&listed);
        if let Some(rule) = &self.rule {
            istio.fields.insert("config".to_owned(), string(&rule.path()));
        }
        if let Some(service) = self.services.first() {
            let stat_name_variables =
                StatNameVariables { service, port: &self.port, subset: "", target: Some(self.target_port) };
            if let Some(named) = stat_name_variables.expand(&policy.mesh.inbound_stat_name) {
                made.alt_stat_name = format!("{named};");
            }
        }
        made.metadata = (!self.services.is_empty()).then(|| metadata(istio));
        made.upstream_bind_config = self.workload_address.is_captured().then(|| local_source(self.families));
        let mut http = HttpOptions::of(self.port.protocol, ClusterClient::Sidecar);
        connection_pool::apply(&mut made, &mut http, policy);
        Cluster { typed_extension_protocol_options: http.options(), ..made }
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

    /// Whether iptables would send a connection there back to the proxy, unless it comes from an address that it lets
    /// pass.
    const fn is_captured(&self) -> bool {
        match self {
            Self::OriginalDst => true,
            Self::Ip(ip, _) => !ip.is_loopback(),
            Self::Unix(_) => false,
        }
    }
}
