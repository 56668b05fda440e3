//! What stands behind a cluster: which endpoints, how connections to them are secured.

use std::collections::BTreeMap;
use std::fmt::{self, Display, Formatter};
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

use super::told::{Told, assignment_name, unpack};
use super::trace::{Stage, Step};
use super::{by_name, origin};

/// What stands behind a cluster.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Upstream {
    /// There is no such cluster.
    Missing,
    /// The cluster has no endpoint, and none that will ever come: `BlackHoleCluster`.
    BlackHole,
    /// The connection goes on to where the client wanted to.
    OriginalDestination(Security),
    /// Endpoints, by priority, none where there are none just now.
    Endpoints(Vec<Endpoint>),
    /// The host that the client names, looked up by a filter of the DNS cache with this name.
    ByName(String),
    /// The host that the client names, and nobody looks it up.
    Unresolved,
    /// The cluster finds its endpoints in a way that cannot be imagined here, by its name.
    Unknown(String),
}

/// One endpoint of a cluster.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Endpoint {
    /// `10.1.0.1:8080`, `api.example.com:443`, `unix:///path`
    pub address: String,
    /// 0 is asked first.
    pub priority: u32,
    /// `region/zone/subzone`; empty: none.
    pub locality: String,
    /// Its weight in its locality.
    pub weight: u32,
    /// The weight of its locality among those of its priority; `None`: by the number of endpoints.
    pub locality_weight: Option<u32>,
    /// Whether it is asked at all.
    pub health: Fitness,
    /// How connections to it are secured.
    pub security: Security,
}

/// Whether an endpoint is asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fitness {
    /// Yes.
    Healthy,
    /// When too few others are left.
    Degraded,
    /// No.
    Unhealthy,
}

/// How connections to an endpoint are secured.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Security {
    /// Not at all.
    Plaintext,
    /// By TLS.
    Tls {
        /// The name asked for; empty: none.
        sni: String,
        /// The client's own certificates, by path or SDS name; empty: it shows none.
        certificates: Vec<String>,
    },
    /// By something else, by its name.
    Other(String),
}

// === impl Told ===

impl Told {
    /// What stands behind a cluster, and the step that says so.
    pub(super) fn upstream(&self, name: &str) -> (Upstream, Step) {
        let Some(cluster) = self.clusters.get(name) else {
            let what = "is not there".to_owned();
            let step = Step { stage: Stage::Cluster, name: name.to_owned(), what, origins: Vec::new() };
            return (Upstream::Missing, step);
        };
        let upstream = self.behind(cluster);
        let mut origins = origin::of(cluster.metadata.as_ref());
        origins.extend(self.origins_of(ResourceType::Cluster, name));
        let step = Step { stage: Stage::Cluster, name: name.to_owned(), what: upstream.to_string(), origins };
        (upstream, step)
    }

    /// The name of a cluster's first endpoint, where it has one: the one it is told, or the one that DNS is asked for.
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
            Some(ClusterType(custom)) => match by_name::read_by(custom) {
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

/// The first of the cluster's socket matches whose every label the endpoint has under `envoy.transport_socket_match`, else
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

/// What a socket says of TLS.
pub(super) fn tls(socket: &TransportSocket) -> Option<UpstreamTlsContext> {
    match &socket.config_type {
        Some(transport_socket::ConfigType::TypedConfig(config)) => unpack(config),
        None => None,
    }
}

/// Whether a socket begins with the PROXY protocol, how, and the socket inside it.
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

/// A text under a key of a message of metadata.
pub(super) fn text<'a>(fields: &'a Struct, key: &str) -> Option<&'a str> {
    match fields.fields.get(key) {
        Some(Value { kind: Some(value::Kind::StringValue(text)) }) => Some(text),
        _ => None,
    }
}

// === impl Upstream ===

impl Upstream {
    /// Whether there is an endpoint to reach.
    pub fn is_there(&self) -> bool {
        match self {
            Self::Missing | Self::BlackHole | Self::Unresolved => false,
            Self::OriginalDestination(_) | Self::ByName(_) | Self::Unknown(_) => true,
            // When all are unhealthy, the panic threshold decides; Istio's default for it is off.
            Self::Endpoints(endpoints) => {
                endpoints.iter().any(|endpoint| endpoint.health != Fitness::Unhealthy)
            }
        }
    }

    /// Its endpoints; none where they are not listed.
    pub fn endpoints(&self) -> &[Endpoint] {
        match self {
            Self::Endpoints(endpoints) => endpoints,
            _ => &[],
        }
    }
}

impl Display for Upstream {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        match self {
            Self::Missing => f.write_str("is not there"),
            Self::BlackHole => f.write_str("leads nowhere"),
            Self::OriginalDestination(Security::Plaintext) => {
                f.write_str("leads on to where the client wanted")
            }
            Self::OriginalDestination(security) => {
                write!(f, "leads on to where the client wanted, {security}")
            }
            Self::Endpoints(endpoints) if endpoints.is_empty() => f.write_str("has no endpoints"),
            Self::Endpoints(endpoints) => {
                for (index, endpoint) in endpoints.iter().enumerate() {
                    write!(f, "{}{endpoint}", if index > 0 { ", " } else { "" })?;
                }
                Ok(())
            }
            Self::ByName(_) => f.write_str("leads to the host that is asked for"),
            Self::Unresolved => f.write_str("leads to the host that is asked for, which nobody looks up"),
            Self::Unknown(kind) => write!(f, "finds its endpoints by {kind}"),
        }
    }
}

// === impl Endpoint ===

impl Display for Endpoint {
    /// `10.1.0.1:80`, then what is out of the ordinary: `p1 w3 r1/z1 unhealthy tls:sni`.
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        f.write_str(&self.address)?;
        if self.priority > 0 {
            write!(f, " p{}", self.priority)?;
        }
        if self.weight != 1 {
            write!(f, " w{}", self.weight)?;
        }
        if !self.locality.is_empty() {
            write!(f, " {}", self.locality)?;
            if let Some(weight) = self.locality_weight {
                write!(f, "={weight}")?;
            }
        }
        match self.health {
            Fitness::Healthy => {}
            Fitness::Degraded => f.write_str(" degraded")?,
            Fitness::Unhealthy => f.write_str(" unhealthy")?,
        }
        match &self.security {
            Security::Plaintext => Ok(()),
            security => write!(f, " {security}"),
        }
    }
}

impl Display for Security {
    /// `plaintext`, `tls:sni`, `mtls:sni`, or another socket's name.
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        match self {
            Self::Plaintext => f.write_str("plaintext"),
            Self::Tls { sni, certificates } if certificates.is_empty() => write!(f, "tls:{sni}"),
            Self::Tls { sni, .. } => write!(f, "mtls:{sni}"),
            Self::Other(name) => f.write_str(name),
        }
    }
}
