//! A service: a host name with ports, whatever registry it came from.

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
    /// Precedence among the declarations of one host: the lowest rank wins.
    pub const fn rank(self) -> u8 {
        match self {
            Self::Kubernetes => 0,
            Self::External | Self::Consul | Self::Nacos => 1,
        }
    }

    /// Returns true if the workloads of its services are pods: a service without a virtual address is headless, and its
    /// selector also selects `WorkloadEntry`s.
    pub const fn has_pods(self) -> bool {
        matches!(self, Self::Kubernetes)
    }

    /// Returns true if clients may use the short name of a service with its namespace, as in `reviews.default`.
    pub const fn has_short_names(self) -> bool {
        matches!(self, Self::Kubernetes)
    }

    /// Returns true if equal declarations of one host are merged to one service.
    pub const fn merges_declarations(self) -> bool {
        !matches!(self, Self::Kubernetes)
    }

    /// As Istio's debug pages spell it.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Kubernetes => "Kubernetes",
            Self::External => "External",
            Self::Consul => "Consul",
            Self::Nacos => "Nacos",
        }
    }
}

/// How a proxy finds the service's endpoints.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Resolution {
    /// The control plane knows them (EDS).
    ClientSideLb,
    /// The proxy asks DNS and balances over all answers (`STRICT_DNS`).
    Dns,
    /// The proxy asks DNS and uses one answer at a time (`LOGICAL_DNS`).
    DnsRoundRobin,
    /// The application has chosen: the connection goes where it was going (`ORIGINAL_DST`).
    Passthrough,
    /// The proxy asks DNS for the host that each request or connection names (a dynamic forward proxy).
    DynamicDns,
    /// Another name for this host (Kubernetes `ExternalName`); has no cluster of its own.
    Alias(Hostname),
}

/// Whether the service is part of the mesh.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Location {
    /// Its workloads have (or may have) sidecars.
    #[default]
    MeshInternal,
    /// They have none: never mutual TLS on our initiative.
    MeshExternal,
}

/// Who may see an object (`exportTo`).
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
    /// Reads one element of an `exportTo` list.
    pub fn parse(text: &str) -> Self {
        match text {
            "*" => Self::Public,
            "." => Self::Private,
            "~" => Self::Nobody,
            namespace => Self::To(namespace.into()),
        }
    }

    /// Whether an object of `owner` that carries `list` is seen from `viewer`. An empty list is public.
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

/// A virtual address: one IP, or a network when the prefix is shorter than the address.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Vip {
    /// The address (of the network).
    pub ip: IpAddr,
    /// Bits that count: 32 or 128 for one address.
    pub prefix: u8,
}

impl Vip {
    /// One address.
    pub const fn host(ip: IpAddr) -> Self {
        Self { ip, prefix: if ip.is_ipv4() { 32 } else { 128 } }
    }

    /// Whether this is one address and not a network.
    pub const fn is_host(self) -> bool {
        self.prefix == if self.ip.is_ipv4() { 32 } else { 128 }
    }

    /// `10.0.0.1` or `10.0.0.0/8`.
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

/// Which port of the workload a service port leads to.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum TargetPort {
    /// This number.
    Number(u16),
    /// The container port with this name.
    Name(String),
}

/// One port of a service.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ServicePort {
    /// Unique in the service; endpoints are matched by it. May be empty when there is one port.
    pub name: Arc<str>,
    /// What clients connect to.
    pub port: u16,
    /// What is spoken there.
    pub protocol: Protocol,
    /// Where it leads in the workload.
    pub target: TargetPort,
}

/// Which of its endpoints a service asks clients to prefer. <https://kubernetes.io/docs/concepts/services-networking/service/#traffic-distribution>
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Distribution {
    /// None.
    #[default]
    Any,
    /// Those of the same zone, then of the same region, then of the same network.
    SameZone,
    /// Those on the same node, then as near as there are.
    SameNode,
}

/// A service. Never changed in place: a change makes a new one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Service {
    /// The name clients use.
    pub hostname: Hostname,
    /// Namespace of the declaring object.
    pub namespace: Namespace,
    /// Name of the declaring object.
    pub name: Arc<str>,
    /// Where it was declared.
    pub registry: Registry,
    /// In the order of the declaration.
    pub ports: Vec<ServicePort>,
    /// Virtual addresses; none for headless services and most external ones.
    pub addresses: Vec<Vip>,
    /// How endpoints are found.
    pub resolution: Resolution,
    /// Inside the mesh or not.
    pub location: Location,
    /// Who may see it; empty: everybody.
    pub export_to: Vec<ExportTo>,
    /// Labels of the declaring object.
    pub labels: BTreeMap<String, String>,
    /// Labels of its workloads; empty: endpoints are declared some other way.
    pub selector: BTreeMap<String, String>,
    /// Identities allowed to serve it besides those of its endpoints.
    pub service_accounts: Vec<String>,
    /// Seconds since 1970, 0 when unknown. The oldest wins every tie.
    pub created: i64,
    /// Only endpoints on the client's node are used (`internalTrafficPolicy: Local`).
    pub node_local: bool,
    /// Which endpoints come first, where no `DestinationRule` says so.
    pub distribution: Distribution,
}

// === impl Distribution ===

impl Distribution {
    /// The annotation of objects that have no field for it.
    pub const ANNOTATION: &str = "networking.istio.io/traffic-distribution";

    /// What `spec.trafficDistribution` asks for, if it is something known; else what the annotation does, in capitals or not.
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

    /// The labels that endpoints should have in common with the client, the most important first.
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
    /// The port with this number that is proxied.
    pub fn port(&self, number: u16) -> Option<&ServicePort> {
        self.ports.iter().find(|port| port.port == number && self.is_proxied_at(port))
    }

    /// Whether proxies have a cluster for one of its ports. Bytes name no host, so they cannot be led to one that is known
    /// only by its name.
    pub fn is_proxied_at(&self, port: &ServicePort) -> bool {
        use Protocol::{Grpc, Http, Http2, Tls, Udp};
        match self.resolution {
            Resolution::DynamicDns => matches!(port.protocol, Http | Http2 | Grpc | Tls),
            _ => port.protocol != Udp,
        }
    }

    /// Whether clients meet it at the addresses of its endpoints: it has none of its own, and they choose among the
    /// endpoints (headless services).
    pub fn is_met_at_members(&self) -> bool {
        self.resolution == Resolution::Passthrough && self.addresses.iter().all(|vip| vip.ip.is_unspecified())
    }

    /// Whether the service is headless: Kubernetes-style, endpoints without a virtual address.
    pub fn is_headless(&self) -> bool {
        self.registry.has_pods() && self.resolution == Resolution::Passthrough
    }
}
