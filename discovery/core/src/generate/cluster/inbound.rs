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

use super::http::Http;
use super::parts::{local_source, metadata, named, original_dst, services};
use super::{Client, RuleName, pool};
use crate::generate::Families;
use crate::generate::policy::Policy;
use crate::generate::proto::{address, duration, pipe, string};
use crate::generate::stats::Counted;
use crate::model::{ClusterName, Service, ServicePort, Shared};

/// A port of the workload.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Inbound {
    /// The port that names the cluster: where the workload listens, or where a `Sidecar` says that the proxy does.
    pub target_port: u16,
    /// The services whose port this is, the one that counts first; none for what only a `Sidecar` declares.
    pub services: Vec<Shared<Service>>,
    /// Port of the first service, or of the proxy where a `Sidecar` declares it.
    pub port: ServicePort,
    /// Where the workload is met.
    pub backend: Backend,
    /// Address families of the proxy.
    pub families: Families,
    /// The rule that the policy is from.
    pub rule: Option<RuleName>,
}

/// Where the workload is met.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Backend {
    /// Where the connection was going.
    Origin,
    /// At an address of its own.
    At(IpAddr, u16),
    /// At a Unix socket.
    Unix(Arc<str>),
}

/// The longest whole number of seconds that Envoy takes: its clock counts nanoseconds in 63 bits.
const LONGEST: Duration = Duration::from_secs(9_223_372_035);

// === impl Inbound ===

impl Inbound {
    pub(super) fn cluster(&self, policy: &Policy) -> Cluster {
        let name = ClusterName::inbound(self.target_port).to_string();
        let mut made = match &self.backend {
            // Hosts of an original-destination cluster are forgotten when unused; the workload stays where it is.
            Backend::Origin => Cluster { cleanup_interval: duration(LONGEST), ..original_dst(&name) },
            fixed => fixed.cluster(&name),
        };
        let listed: Vec<&Service> = self.services.iter().map(|service| &**service).collect();
        let mut istio = services(&listed);
        if let Some(rule) = &self.rule {
            istio.fields.insert("config".to_owned(), string(&rule.path()));
        }
        if let Some(service) = self.services.first() {
            let counted = Counted { service, port: &self.port, subset: "", target: Some(self.target_port) };
            if let Some(named) = counted.name(&policy.mesh.inbound_stat_name) {
                made.alt_stat_name = format!("{named};");
            }
        }
        made.metadata = (!self.services.is_empty()).then(|| metadata(istio));
        made.upstream_bind_config = self.backend.is_captured().then(|| local_source(self.families));
        let mut http = Http::of(self.port.protocol, Client::Sidecar);
        pool::apply(&mut made, &mut http, policy);
        Cluster { typed_extension_protocol_options: http.options(), ..made }
    }
}

// === impl Backend ===

impl Backend {
    fn cluster(&self, name: &str) -> Cluster {
        let address = match self {
            Self::Origin => None,
            Self::At(ip, port) => address(&ip.to_string(), *port),
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
            Self::Origin => true,
            Self::At(ip, _) => !ip.is_loopback(),
            Self::Unix(_) => false,
        }
    }
}
