//! CDS: one cluster per port of a visible service, one per port of the workload, and the three that always exist.
//!
//! Knows no TLS yet: without an SDS server beside the proxy a TLS context would only keep clusters from warming.

mod parts;

use std::time::Duration;

use pilot_proto::envoy::config::cluster::v3::{Cluster, cluster};

use super::endpoint::{Addressing, Served, localities};
use super::proto::{duration, truth};
use super::{Families, Reason, Rejected};
use crate::model::{ClusterName, Location, Service, ServicePort, Shared};
use parts::{
    dns, eds, local_source, lookup, metadata, named, original_dst, passthrough, services, unlimited,
    upstream_http,
};

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
    /// How long a connection may take to be made.
    pub connect_timeout: Duration,
}

/// What a cluster is for.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum ClusterRole {
    /// A port of a service.
    Outbound {
        /// The service.
        service: Shared<Service>,
        /// Its port.
        port: ServicePort,
        /// How endpoints are found.
        discovery: Discovery,
    },
    /// A port of the workload beside the proxy.
    Inbound {
        /// Where the workload listens.
        target_port: u16,
        /// The services that lead there, the one that counts first.
        services: Vec<Shared<Service>>,
        /// Port of the first service.
        port: ServicePort,
        /// Address families of the proxy.
        families: Families,
    },
    /// `BlackHoleCluster`
    BlackHole,
    /// `PassthroughCluster`
    Passthrough,
    /// `InboundPassthroughCluster`
    InboundPassthrough(Families),
    /// A port of a service, for a gRPC library.
    Proxyless(ClusterName),
}

/// How endpoints of a cluster are found.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Discovery {
    /// The control plane tells.
    Eds,
    /// The connection goes where it was going.
    OriginalDst,
    /// The proxy asks DNS.
    Dns {
        /// What it asks for.
        served: Served,
        /// What it makes of the answers.
        answers: Answers,
        /// How often it asks when the answers have no time to live.
        refresh: Duration,
        /// Which records it asks for.
        families: Families,
    },
}

/// What a DNS cluster makes of its answers.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Answers {
    /// Balances over all of them.
    All,
    /// Takes the first one at every new connection.
    First,
}

// === impl ClusterInputs ===

impl ClusterInputs {
    /// Name of the cluster.
    pub fn name(&self) -> String {
        match &self.role {
            ClusterRole::Outbound { service, port, .. } => {
                ClusterName::outbound(port.port, &service.hostname).to_string()
            }
            ClusterRole::Inbound { target_port, .. } => ClusterName::inbound(*target_port).to_string(),
            ClusterRole::BlackHole => BLACK_HOLE.to_owned(),
            ClusterRole::Passthrough => PASSTHROUGH.to_owned(),
            ClusterRole::InboundPassthrough(_) => INBOUND_PASSTHROUGH.to_owned(),
            ClusterRole::Proxyless(name) => name.to_string(),
        }
    }
}

/// A cluster.
pub fn cluster(inputs: &ClusterInputs) -> Result<Cluster, Rejected> {
    let made = match &inputs.role {
        ClusterRole::Outbound { service, port, discovery } => outbound(service, port, discovery)?,
        ClusterRole::Inbound { target_port, services, port, families } => {
            inbound(*target_port, services, port, *families)
        }
        ClusterRole::BlackHole => {
            let discovery = Some(cluster::ClusterDiscoveryType::Type(cluster::DiscoveryType::Static.into()));
            Cluster { cluster_discovery_type: discovery, ..named(BLACK_HOLE) }
        }
        ClusterRole::Passthrough => passthrough(PASSTHROUGH),
        ClusterRole::InboundPassthrough(families) => Cluster {
            upstream_bind_config: Some(local_source(*families)),
            ..passthrough(INBOUND_PASSTHROUGH)
        },
        // gRPC libraries refuse what they do not know, and know no balancing but round robin for certain.
        ClusterRole::Proxyless(name) => {
            return Ok(Cluster { common_lb_config: None, ..eds(&name.to_string()) });
        }
    };
    Ok(Cluster { connect_timeout: duration(inputs.connect_timeout), ..made })
}

#[expect(deprecated, reason = "the successor, DnsCluster, is unknown to proxies before Envoy 1.34")]
fn outbound(service: &Service, port: &ServicePort, discovery: &Discovery) -> Result<Cluster, Rejected> {
    let name = ClusterName::outbound(port.port, &service.hostname).to_string();
    let made = match discovery {
        Discovery::Eds => Cluster { lb_policy: cluster::LbPolicy::LeastRequest.into(), ..eds(&name) },
        Discovery::OriginalDst => original_dst(&name),
        Discovery::Dns { served, answers, refresh, families } => {
            let (endpoints, _) = localities(&name, served, Addressing::Names);
            if endpoints.is_empty() {
                let service = service.hostname.clone();
                return Err(Rejected { subject: name, service, reason: Reason::NoEndpoints });
            }
            let resolved = dns(&name, endpoints, *answers);
            Cluster {
                dns_refresh_rate: duration(*refresh),
                dns_lookup_family: lookup(*families).into(),
                ..resolved
            }
        }
    };
    let mut istio = services(&[service]);
    if service.location == Location::MeshExternal {
        istio.fields.insert("external".to_owned(), truth());
    }
    Ok(Cluster {
        metadata: Some(metadata(istio)),
        circuit_breakers: Some(unlimited()),
        typed_extension_protocol_options: upstream_http(port.protocol),
        ..made
    })
}

fn inbound(
    target_port: u16,
    selected: &[Shared<Service>],
    port: &ServicePort,
    families: Families,
) -> Cluster {
    let name = ClusterName::inbound(target_port).to_string();
    let of_port = selected.iter().filter(|service| service.port(port.port).is_some());
    let listed: Vec<&Service> = of_port.map(|service| &**service).collect();
    Cluster {
        // Hosts of an original-destination cluster are forgotten when unused; the workload stays where it is.
        cleanup_interval: duration(LONGEST),
        // iptables would send a connection from the workload's own address back here: an address that it lets pass.
        upstream_bind_config: Some(local_source(families)),
        metadata: Some(metadata(services(&listed))),
        circuit_breakers: Some(unlimited()),
        typed_extension_protocol_options: upstream_http(port.protocol),
        ..original_dst(&name)
    }
}

/// The longest whole number of seconds that Envoy takes: its clock counts nanoseconds in 63 bits.
const LONGEST: Duration = Duration::from_secs(9_223_372_035);
