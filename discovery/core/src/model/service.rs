//! Service: a host name with ports, from any registry.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::sync::Arc;

use super::{Hostname, Namespace, Protocol};

/// Registry that a service was declared in.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Registry {
    /// A Kubernetes `Service`.
    Kubernetes,
    /// An Istio `ServiceEntry`.
    External,
    /// Consul's catalog.
    Consul,
    /// Nacos.
    Nacos,
}

impl Registry {
    /// Returns the precedence among the declarations of one host: the lowest rank wins.
    pub const fn rank(self) -> u8 {
        match self {
            Self::Kubernetes => 0,
            Self::External | Self::Consul | Self::Nacos => 1,
        }
    }

    /// Returns `true` if the workloads of its services are pods: a service without a virtual address is headless, and its
    /// selector also selects `WorkloadEntry`s.
    pub const fn has_pods(self) -> bool {
        matches!(self, Self::Kubernetes)
    }

    /// Returns `true` if clients may use the short name of a service with its namespace, as in `reviews.default`.
    pub const fn has_short_names(self) -> bool {
        matches!(self, Self::Kubernetes)
    }

    /// Returns `true` if equal declarations of one host are merged to one service.
    pub const fn merges_declarations(self) -> bool {
        !matches!(self, Self::Kubernetes)
    }

    /// Returns the name on Istio's debug pages.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Kubernetes => "Kubernetes",
            Self::External => "External",
            Self::Consul => "Consul",
            Self::Nacos => "Nacos",
        }
    }
}

/// Resolution of a service: the way in which a proxy finds endpoints.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Resolution {
    /// By the control plane (EDS).
    ClientSideLb,
    /// By DNS, with load balancing over all addresses (`STRICT_DNS`).
    Dns,
    /// By DNS, with one address at a time (`LOGICAL_DNS`).
    DnsRoundRobin,
    /// The original destination of the connection (`ORIGINAL_DST`).
    Passthrough,
    /// By DNS, for the host of each request or connection (dynamic forward proxy).
    DynamicDns,
    /// Alias of this host (Kubernetes `ExternalName`); has no cluster of its own.
    Alias(Hostname),
}

/// Location of the service, inside or outside the mesh.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Location {
    /// Workloads may have sidecars.
    #[default]
    MeshInternal,
    /// Workloads have no sidecars: no automatic mutual TLS.
    MeshExternal,
}

/// Namespaces that can use an object (`exportTo`).
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum ExportTo {
    /// `*`
    Public,
    /// `.`
    Private,
    /// `~`
    Nobody,
    /// A namespace by name.
    To(Namespace),
}

impl ExportTo {
    /// Parses an element of an `exportTo` list.
    pub fn parse(text: &str) -> Self {
        match text {
            "*" => Self::Public,
            "." => Self::Private,
            "~" => Self::Nobody,
            namespace => Self::To(namespace.into()),
        }
    }

    /// Returns `true` if an object of `owner` with this `exportTo` can be used from `viewer`. An empty list is public.
    pub fn allows(list: &[Self], owner: &Namespace, viewer: &Namespace) -> bool {
        list.is_empty()
            || list.iter().any(|target| match target {
                Self::Public => true,
                Self::Private => owner == viewer,
                Self::Nobody => false,
                Self::To(namespace) => namespace == viewer,
            })
    }
}

/// Virtual address: an IP address, or a network if the prefix is shorter than the address.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Vip {
    /// Address, or address of the network.
    pub ip: IpAddr,
    /// Length of the prefix in bits: 32 or 128 for one address.
    pub prefix: u8,
}

impl Vip {
    /// Creates a single address.
    pub const fn host(ip: IpAddr) -> Self {
        Self { ip, prefix: if ip.is_ipv4() { 32 } else { 128 } }
    }

    /// Returns `true` for a single address.
    pub const fn is_host(self) -> bool {
        self.prefix == if self.ip.is_ipv4() { 32 } else { 128 }
    }

    /// Parses `10.0.0.1` or `10.0.0.0/8`.
    pub fn parse(text: &str) -> Option<Self> {
        match text.split_once('/') {
            None => Some(Self::host(text.parse().ok()?)),
            Some((ip, prefix)) => {
                let (ip, prefix): (IpAddr, u8) = (ip.parse().ok()?, prefix.parse().ok()?);
                (prefix <= Self::host(ip).prefix).then_some(Self { ip, prefix })
            }
        }
    }
}

impl std::fmt::Display for Vip {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        if self.is_host() { self.ip.fmt(f) } else { write!(f, "{}/{}", self.ip, self.prefix) }
    }
}

/// Port of the workload that a service port leads to.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum TargetPort {
    /// Port number.
    Number(u16),
    /// Name of a container port.
    Name(String),
}

/// Port of a service.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ServicePort {
    /// Name, unique in the service; endpoints refer to it. May be empty if there is one port.
    pub name: Arc<str>,
    /// Port number for clients.
    pub port: u16,
    /// Protocol.
    pub protocol: Protocol,
    /// Port of the workload.
    pub target: TargetPort,
}

/// Endpoints that clients prefer. <https://kubernetes.io/docs/concepts/services-networking/service/#traffic-distribution>
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Distribution {
    /// No preference.
    #[default]
    Any,
    /// The same zone, then the same region, then the same network.
    SameZone,
    /// The same node, then as `SameZone`.
    SameNode,
}

/// Service. Never changed in place.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Service {
    /// Host name for clients.
    pub hostname: Hostname,
    /// Namespace of the declaring object.
    pub namespace: Namespace,
    /// Name of the declaring object.
    pub name: Arc<str>,
    /// Registry of the declaration.
    pub registry: Registry,
    /// Ports in the order of the declaration.
    pub ports: Vec<ServicePort>,
    /// Virtual addresses; none for headless services and most external ones.
    pub addresses: Vec<Vip>,
    /// Resolution of endpoints.
    pub resolution: Resolution,
    /// Location inside or outside the mesh.
    pub location: Location,
    /// Namespaces that can use it; empty: all.
    pub export_to: Vec<ExportTo>,
    /// Labels of the declaring object.
    pub labels: BTreeMap<String, String>,
    /// Selector of its workloads; empty: endpoints are declared otherwise.
    pub selector: BTreeMap<String, String>,
    /// Identities of its servers, besides those of its endpoints.
    pub service_accounts: Vec<String>,
    /// Creation time in seconds since 1970; 0 if unknown. The oldest object takes precedence.
    pub created: i64,
    /// Uses only endpoints on the client's node (`internalTrafficPolicy: Local`).
    pub node_local: bool,
    /// Preferred endpoints, unless a `DestinationRule` sets them.
    pub distribution: Distribution,
}

// === impl Distribution ===

impl Distribution {
    /// Annotation of objects without a field for it.
    pub const ANNOTATION: &str = "networking.istio.io/traffic-distribution";

    /// Parses `spec.trafficDistribution` if its value is known; otherwise the annotation, case-insensitively.
    pub fn of(said: Option<&str>, annotation: Option<&str>) -> Self {
        let known = |text: &str| match text {
            "preferclose" | "prefersamezone" => Some(Self::SameZone),
            "prefersamenode" => Some(Self::SameNode),
            _ => None,
        };
        let spelt = said.filter(|text| text.starts_with("Prefer")).map(str::to_ascii_lowercase);
        let annotated = || known(&annotation?.to_ascii_lowercase());
        spelt.as_deref().and_then(known).or_else(annotated).unwrap_or_default()
    }

    /// Returns the labels that preferred endpoints share with the client, the most important first.
    pub const fn labels(self) -> &'static [&'static str] {
        const NEAREST: &[&str; 5] = &[
            "topology.istio.io/network",
            "topology.kubernetes.io/region",
            "topology.kubernetes.io/zone",
            "topology.istio.io/subzone",
            "kubernetes.io/hostname",
        ];
        match self {
            Self::Any => &[],
            Self::SameZone => NEAREST.split_at(3).0,
            Self::SameNode => NEAREST,
        }
    }
}

impl Service {
    /// Returns the port of this number, if it is proxied.
    pub fn port(&self, number: u16) -> Option<&ServicePort> {
        self.ports.iter().find(|port| port.port == number && self.is_proxied_at(port))
    }

    /// Returns `true` if proxies have a cluster for the port. A dynamic host needs a protocol that names the host, which TCP does
    /// not.
    pub fn is_proxied_at(&self, port: &ServicePort) -> bool {
        use Protocol::{Grpc, Http, Http2, Tls, Udp};
        match self.resolution {
            Resolution::DynamicDns => matches!(port.protocol, Http | Http2 | Grpc | Tls),
            _ => port.protocol != Udp,
        }
    }

    /// Returns `true` if clients address its endpoints directly: it has no address of its own (headless services).
    pub fn is_met_at_members(&self) -> bool {
        self.resolution == Resolution::Passthrough && self.addresses.iter().all(|vip| vip.ip.is_unspecified())
    }

    /// Returns `true` for a headless service: in Kubernetes, without a virtual address.
    pub fn is_headless(&self) -> bool {
        self.registry.has_pods() && self.resolution == Resolution::Passthrough
    }
}
