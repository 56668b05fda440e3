//! Evaluation of a cluster: its endpoints and the security of connections to them.

use std::collections::BTreeMap;
use std::net::IpAddr;

use pilot_proto::ResourceType;
use pilot_proto::envoy::config::cluster::v3::{Cluster, cluster};
use pilot_proto::envoy::config::core::v3::{
    Address, DataSource, HealthStatus, Metadata, ProxyProtocolConfig, TransportSocket, address, data_source,
    socket_address, transport_socket,
};
use pilot_proto::envoy::config::endpoint::v3::{ClusterLoadAssignment, LbEndpoint, lb_endpoint};
use pilot_proto::envoy::extensions::transport_sockets::proxy_protocol::v3::ProxyProtocolUpstreamTransport;
use pilot_proto::envoy::extensions::transport_sockets::tls::v3::UpstreamTlsContext;
use pilot_proto::google::protobuf::{Struct, Value, value};

use super::proxy_config_view::{ProxyConfigView, assignment_name, unpack};
use super::trace::{Stage, Step};
use super::upstream_types::{Endpoint, Fitness, Security, Upstream};
use super::{dynamic_forward_proxy, source_objects};

// === impl ProxyConfigView ===

impl ProxyConfigView {
    /// Evaluates a cluster and returns the result with its step.
    pub(super) fn upstream(&self, name: &str) -> (Upstream, Step) {
        let Some(cluster) = self.clusters.get(name) else {
            let what = "is not there".to_owned();
            let step = Step { stage: Stage::Cluster, name: name.to_owned(), what, origins: Vec::new() };
            return (Upstream::Missing, step);
        };
        let upstream = self.behind(cluster);
        let mut origins = source_objects::of(cluster.metadata.as_ref());
        origins.extend(self.origins_of(ResourceType::Cluster, name));
        let step = Step { stage: Stage::Cluster, name: name.to_owned(), what: upstream.to_string(), origins };
        (upstream, step)
    }

    /// Returns the hostname of a cluster's first endpoint: a configured one, or its DNS name.
    pub(super) fn hostname(&self, name: &str) -> Option<String> {
        let cluster = self.clusters.get(name)?;
        let assignment =
            cluster.load_assignment.as_ref().or_else(|| self.assignments.get(assignment_name(cluster)));
        let member = assignment?.endpoints.iter().flat_map(|group| &group.lb_endpoints).next()?;
        let Some(lb_endpoint::HostIdentifier::Endpoint(endpoint)) = &member.host_identifier else {
            return None;
        };
        if !endpoint.hostname.is_empty() {
            return Some(endpoint.hostname.clone());
        }
        match endpoint.address.as_ref()?.address.as_ref()? {
            address::Address::SocketAddress(socket) if socket.address.parse::<IpAddr>().is_err() => {
                Some(socket.address.clone())
            }
            _ => None,
        }
    }

    fn behind(&self, cluster: &Cluster) -> Upstream {
        use cluster::ClusterDiscoveryType::{ClusterType, Type};
        use cluster::DiscoveryType as Kind;
        match &cluster.cluster_discovery_type {
            Some(Type(kind)) => match Kind::try_from(*kind) {
                Ok(Kind::Eds) => {
                    let assignment = self.assignments.get(assignment_name(cluster));
                    Upstream::Endpoints(endpoints(cluster, assignment))
                }
                Ok(Kind::OriginalDst) => Upstream::OriginalDestination(security(cluster, None)),
                Ok(Kind::Static) => match endpoints(cluster, cluster.load_assignment.as_ref()) {
                    none if none.is_empty() => Upstream::BlackHole,
                    some => Upstream::Endpoints(some),
                },
                Ok(Kind::StrictDns | Kind::LogicalDns) => {
                    Upstream::Endpoints(endpoints(cluster, cluster.load_assignment.as_ref()))
                }
                Err(_) => Upstream::Unknown(format!("discovery type {kind}")),
            },
            // The successor of STRICT_DNS and LOGICAL_DNS.
            Some(ClusterType(custom)) if custom.name == "envoy.cluster.dns" => {
                Upstream::Endpoints(endpoints(cluster, cluster.load_assignment.as_ref()))
            }
            Some(ClusterType(custom)) => match dynamic_forward_proxy::read_by(custom) {
                Some(cache) => Upstream::ByName(cache),
                None => Upstream::Unknown(custom.name.clone()),
            },
            None => match endpoints(cluster, cluster.load_assignment.as_ref()) {
                none if none.is_empty() => Upstream::BlackHole,
                some => Upstream::Endpoints(some),
            },
        }
    }
}

fn endpoints(cluster: &Cluster, assignment: Option<&ClusterLoadAssignment>) -> Vec<Endpoint> {
    let mut found = Vec::new();
    for group in assignment.into_iter().flat_map(|assignment| &assignment.endpoints) {
        let locality = group.locality.as_ref().map_or_else(String::new, |locality| {
            let parts = [&locality.region, &locality.zone, &locality.sub_zone];
            parts.map(String::as_str).join("/").trim_end_matches('/').to_owned()
        });
        for member in &group.lb_endpoints {
            found.push(Endpoint {
                address: address_of(member),
                priority: group.priority,
                locality: locality.clone(),
                weight: member.load_balancing_weight.as_ref().map_or(1, |weight| weight.value),
                locality_weight: group.load_balancing_weight.as_ref().map(|weight| weight.value),
                health: match member.health_status() {
                    HealthStatus::Unknown | HealthStatus::Healthy => Fitness::Healthy,
                    HealthStatus::Degraded => Fitness::Degraded,
                    HealthStatus::Unhealthy | HealthStatus::Draining | HealthStatus::Timeout => {
                        Fitness::Unhealthy
                    }
                },
                security: security(cluster, member.metadata.as_ref()),
            });
        }
    }
    found.sort_by_key(|endpoint| endpoint.priority);
    found
}

fn address_of(member: &LbEndpoint) -> String {
    match &member.host_identifier {
        Some(lb_endpoint::HostIdentifier::Endpoint(endpoint)) => {
            endpoint.address.as_ref().map_or_else(String::new, written)
        }
        Some(lb_endpoint::HostIdentifier::EndpointName(name)) => name.clone(),
        None => String::new(),
    }
}

/// `10.0.0.1:80`, `[fd00::1]:80`, `unix:///path`
fn written(address: &Address) -> String {
    match &address.address {
        Some(address::Address::SocketAddress(socket)) => {
            let port = match &socket.port_specifier {
                Some(socket_address::PortSpecifier::PortValue(port)) => port.to_string(),
                Some(socket_address::PortSpecifier::NamedPort(name)) => name.clone(),
                None => String::new(),
            };
            if socket.address.contains(':') {
                format!("[{}]:{port}", socket.address)
            } else {
                format!("{}:{port}", socket.address)
            }
        }
        Some(address::Address::Pipe(pipe)) => format!("unix://{}", pipe.path),
        Some(address::Address::EnvoyInternalAddress(internal)) => format!("{internal:?}"),
        None => String::new(),
    }
}

/// Returns the first of the cluster's socket matches whose labels are all in the endpoint's `envoy.transport_socket_match`, else
/// the cluster's own socket.
fn security(cluster: &Cluster, metadata: Option<&Metadata>) -> Security {
    let labels = metadata.and_then(|metadata| metadata.filter_metadata.get("envoy.transport_socket_match"));
    let none = Struct { fields: BTreeMap::new() };
    let labels = labels.unwrap_or(&none);
    let matched = cluster.transport_socket_matches.iter().find(|candidate| {
        let wanted = candidate.r#match.iter().flat_map(|wanted| &wanted.fields);
        wanted.into_iter().all(|(key, value)| labels.fields.get(key) == Some(value))
    });
    let matched = matched.and_then(|candidate| candidate.transport_socket.as_ref());
    socket_security(matched.or(cluster.transport_socket.as_ref()))
}

fn socket_security(socket: Option<&TransportSocket>) -> Security {
    let Some(socket) = socket else { return Security::Plaintext };
    if let (Some(_), inner) = proxied(socket) {
        return socket_security(inner.as_ref());
    }
    let Some(tls) = tls(socket) else { return named(&socket.name) };
    let common = tls.common_tls_context.unwrap_or_default();
    let files = common.tls_certificates.into_iter().filter_map(|pair| filename(pair.certificate_chain?));
    let secrets = common.tls_certificate_sds_secret_configs.into_iter().map(|secret| secret.name);
    Security::Tls { sni: tls.sni, certificates: files.chain(secrets).collect() }
}

/// Returns the TLS context of a socket.
pub(super) fn tls(socket: &TransportSocket) -> Option<UpstreamTlsContext> {
    match &socket.config_type {
        Some(transport_socket::ConfigType::TypedConfig(config)) => unpack(config),
        None => None,
    }
}

/// Returns the PROXY protocol configuration of a socket and the inner socket.
pub(super) fn proxied(socket: &TransportSocket) -> (Option<ProxyProtocolConfig>, Option<TransportSocket>) {
    match &socket.config_type {
        Some(transport_socket::ConfigType::TypedConfig(config)) => {
            let outer = unpack::<ProxyProtocolUpstreamTransport>(config);
            outer.map_or((None, None), |outer| {
                (Some(outer.config.unwrap_or_default()), outer.transport_socket)
            })
        }
        None => (None, None),
    }
}

fn filename(source: DataSource) -> Option<String> {
    match source.specifier? {
        data_source::Specifier::Filename(path) => Some(path),
        _ => None,
    }
}

fn named(name: &str) -> Security {
    if name.ends_with("raw_buffer") { Security::Plaintext } else { Security::Other(name.to_owned()) }
}

/// Returns a string value of a metadata struct.
pub(super) fn text<'a>(fields: &'a Struct, key: &str) -> Option<&'a str> {
    match fields.fields.get(key) {
        Some(Value { kind: Some(value::Kind::StringValue(text)) }) => Some(text),
        _ => None,
    }
}
