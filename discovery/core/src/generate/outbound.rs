//! Which outbound listeners a class of proxies has, and which services share one.
//!
//! ```text
//!            no entry yet     Tcp                    Sniffed
//! HTTP       Sniffed          merge ─▶ Sniffed       has it already
//! TCP        Tcp              merge                  merge
//! undeclared Sniffed          merge ─▶ Sniffed       merge its TCP
//! ```
//!
//! "Merge" succeeds when something in a connection tells the services apart; otherwise the older service keeps
//! what it has and the other one is reported. A sniffed listener finds out which connections are HTTP.
//!
//! With interception, HTTP of all services meets on the wildcard address and is told apart by host; everything
//! else listens on the service's own address. Without interception (`NONE`) everything meets on loopback.

use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::sync::Arc;
use std::time::Duration;

use pilot_proto::mesh::{MeshConfig, OutboundTrafficMode};

use super::cluster::{BLACK_HOLE, PASSTHROUGH};
use super::filter::FilterSettings;
use super::http::{HttpChain, Requests, Routes};
use super::listener::{Chain, ChainMatch, ListenerInputs, ListenerRole, Source, Speaks, Then};
use super::proto::masked;
use super::route::HTTP_PROXY;
use super::{Families, Reason, Rejected};
use crate::model::{
    ClusterName, Endpoint, EndpointAddress, Hostname, Protocol, Registry, Resolution, Service, ServicePort,
    Vip,
};
use crate::scope::{Scope, Shared, Visible};

/// Everything a plan depends on.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct PlanInputs {
    /// The services.
    pub scope: Shared<Scope>,
    /// Endpoints of those services whose addresses are their endpoints', in the scope's order: see
    /// [`listens_on_members`].
    pub members: Vec<Shared<[Endpoint]>>,
    /// The rest.
    pub settings: ListenerSettings,
}

/// What the listeners of a proxy depend on besides services.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct ListenerSettings {
    /// Address families of the proxy.
    pub families: Families,
    /// How connections reach it.
    pub capture: Capture,
    /// Ports that the proxy and its agent listen on themselves.
    pub reserved: BTreeSet<u16>,
    /// What happens to connections to nobody's address.
    pub unknown: OutboundTrafficMode,
    /// How long a listener sniffs; zero: as long as it takes.
    pub detection_timeout: Duration,
    /// What filters say alike.
    pub filters: Arc<FilterSettings>,
}

/// How connections reach a proxy.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Capture {
    /// iptables redirects them to the virtual listeners; no other listener binds.
    Redirected(Source),
    /// Clients connect to loopback themselves, where every listener binds.
    Bound {
        /// Whether ports below 1024 can be bound.
        low_ports: LowPorts,
        /// Ports of the workload: whoever binds second, the proxy or the workload, would fail.
        workload: BTreeSet<u16>,
    },
}

/// Whether ports below 1024 can be bound.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum LowPorts {
    /// Yes.
    Free,
    /// No: the pod is unprivileged.
    Forbidden,
}

/// A listener of the plan.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Planned {
    /// The listener.
    pub inputs: Arc<ListenerInputs>,
    /// The endpoint whose address it listens on. That endpoint's own proxy must not have it: what a workload
    /// sends to itself does not leave.
    pub member: Option<IpAddr>,
}

/// Whether listeners for a service stand on the addresses of its endpoints: it has no address of its own, and
/// clients choose among the endpoints (headless services).
pub fn listens_on_members(service: &Service) -> bool {
    service.resolution == Resolution::Passthrough
        && service.addresses.iter().all(|vip| vip.ip.is_unspecified())
}

/// The outbound listeners of all services.
pub fn plan(inputs: &PlanInputs) -> (Vec<Planned>, Vec<Rejected>) {
    let mut plan = Plan { settings: &inputs.settings, entries: BTreeMap::new(), rejected: Vec::new() };
    let mut members = inputs.members.iter();
    for seen in inputs.scope.services().iter() {
        let endpoints = if listens_on_members(&seen.service) { members.next() } else { None };
        for port in &seen.service.ports {
            plan.add(seen, port, endpoints.map_or(&[], |endpoints| endpoints));
        }
    }
    plan.finish()
}

/// The listener that takes what iptables redirects and passes on what no other listener wants.
pub fn virtual_outbound(mesh: &MeshConfig, settings: &ListenerSettings) -> Option<ListenerInputs> {
    let Capture::Redirected(source) = &settings.capture else { return None };
    let port = mesh.proxy_listen_port;
    // A connection to the listener's own port would be passed on to itself.
    let loops = Chain {
        name: "virtualOutbound-blackhole".into(),
        matches: ChainMatch { port, ..ChainMatch::default() },
        then: Then::Tcp { cluster: BLACK_HOLE.into(), protocol: Protocol::Tcp },
    };
    let rest = Chain { name: "virtualOutbound-catchall-tcp".into(), ..fallback(settings) };
    Some(ListenerInputs {
        name: "virtualOutbound".into(),
        address: settings.families.wildcard().to_string(),
        port,
        role: ListenerRole::VirtualOutbound(*source),
        chains: vec![loops, rest],
        detection_timeout: settings.detection_timeout,
        filters: settings.filters.clone(),
    })
}

/// The listener for applications that are told to use a proxy (`HTTP_PROXY`).
pub fn http_proxy(port: u16, settings: &ListenerSettings) -> ListenerInputs {
    let address = settings.families.loopback();
    let name = format!("{address}_{port}");
    let http = HttpChain {
        stat_prefix: format!("outbound_{name};"),
        routes: Routes::Discovered(HTTP_PROXY.into()),
        protocol: Protocol::Http,
        requests: Requests::ToProxy,
    };
    ListenerInputs {
        name,
        address: address.to_string(),
        port,
        role: ListenerRole::Bound,
        chains: vec![Chain { name: String::new(), matches: ChainMatch::default(), then: Then::Http(http) }],
        detection_timeout: settings.detection_timeout,
        filters: settings.filters.clone(),
    }
}

/// Listeners in the making.
struct Plan<'a> {
    settings: &'a ListenerSettings,
    entries: BTreeMap<(u16, IpAddr), Entry>,
    rejected: Vec<Rejected>,
}

struct Entry {
    spoken: Spoken,
    chains: Vec<(Chain, Hostname)>,
    member: Option<IpAddr>,
}

/// What a listener can tell apart.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Spoken {
    /// Nothing: bytes, of what is said to be this protocol.
    Tcp(Protocol),
    /// HTTP from the rest.
    Sniffed,
}

/// How a port is read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Reading {
    Http,
    Tcp,
    Either,
}

/// Where a listener of a service stands.
struct Place {
    ip: IpAddr,
    networks: Vec<Vip>,
    whose: Whose,
}

/// Who uses an address.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Whose {
    /// Every service.
    Everyones,
    /// This service alone.
    Services,
    /// This service's endpoint alone.
    Members,
}

// === impl Plan ===

impl Plan<'_> {
    fn add(&mut self, seen: &Visible, port: &ServicePort, endpoints: &[Endpoint]) {
        let Some(reading) = Reading::of(port.protocol) else { return };
        for place in self.places(&seen.service, port, reading, endpoints) {
            if let Some(reason) = self.unusable(&place, port.port) {
                self.reject(&place, seen, port, reason);
                continue;
            }
            self.merge(seen, port, reading, &place);
        }
    }

    fn places(
        &self,
        service: &Service,
        port: &ServicePort,
        reading: Reading,
        endpoints: &[Endpoint],
    ) -> Vec<Place> {
        let families = self.settings.families;
        if matches!(self.settings.capture, Capture::Bound { .. }) {
            return vec![Place::everyones(families.loopback())];
        }
        if reading == Reading::Http {
            return vec![Place::everyones(families.wildcard())];
        }
        let mut declared = service.addresses.iter().filter(|vip| !vip.ip.is_unspecified()).peekable();
        if declared.peek().is_none() {
            // A plain ServiceEntry without addresses: the application has resolved the name, to anything.
            let anywhere = service.registry != Registry::Kubernetes
                && service.selector.is_empty()
                && !endpoints.iter().any(|endpoint| endpoint.port_name == port.name);
            if !listens_on_members(service) || anywhere {
                return vec![Place::everyones(families.wildcard())];
            }
            return members(endpoints, port, families);
        }
        // What a ServiceEntry declares need not be routable, so it is matched whatever the proxy's families.
        let usable = |vip: &&Vip| service.registry == Registry::External || families.contain(vip.ip);
        let (hosts, networks): (Vec<Vip>, Vec<Vip>) =
            declared.filter(usable).copied().partition(|vip| vip.is_host());
        let networks: BTreeSet<Vip> =
            networks.into_iter().map(|vip| Vip { ip: masked(vip), prefix: vip.prefix }).collect();
        let mut places: Vec<Place> = hosts
            .into_iter()
            .map(|vip| Place { ip: vip.ip, networks: Vec::new(), whose: Whose::Services })
            .collect();
        if !networks.is_empty() {
            let networks = networks.into_iter().collect();
            places.push(Place { networks, ..Place::everyones(families.wildcard()) });
        }
        places
    }

    fn unusable(&self, place: &Place, port: u16) -> Option<Reason> {
        match &self.settings.capture {
            Capture::Redirected(_) => (place.ip.is_unspecified() && self.settings.reserved.contains(&port))
                .then_some(Reason::ReservedPort),
            Capture::Bound { low_ports, workload } => {
                if self.settings.reserved.contains(&port) {
                    Some(Reason::ReservedPort)
                } else if *low_ports == LowPorts::Forbidden && port < 1024 {
                    Some(Reason::PrivilegedPort)
                } else if workload.contains(&port) {
                    Some(Reason::WorkloadPort)
                } else {
                    None
                }
            }
        }
    }

    fn merge(&mut self, seen: &Visible, port: &ServicePort, reading: Reading, place: &Place) {
        let name = place.listener(port.port);
        let mut chains = Vec::new();
        if reading != Reading::Http {
            chains.push(tcp_chain(seen, port, place));
        }
        if reading != Reading::Tcp {
            chains.push(http_chain(&name, seen, port, place));
        }
        let host = &seen.service.hostname;
        let Some(entry) = self.entries.get_mut(&(port.port, place.ip)) else {
            let spoken = if reading == Reading::Tcp { Spoken::Tcp(port.protocol) } else { Spoken::Sniffed };
            let chains = chains.into_iter().map(|chain| (chain, host.clone())).collect();
            let member = (place.whose == Whose::Members).then_some(place.ip);
            self.entries.insert((port.port, place.ip), Entry { spoken, chains, member });
            return;
        };
        let existing = entry.chains.first().map_or_else(|| host.clone(), |(_, owner)| owner.clone());
        if entry.clashes(port.protocol) {
            self.reject(place, seen, port, Reason::ServerFirst { existing });
            return;
        }
        if entry.spoken == Spoken::Sniffed && reading != Reading::Tcp {
            chains.retain(|chain| !entry.has_http_like(chain));
        } else if reading != Reading::Tcp {
            entry.spoken = Spoken::Sniffed;
        }
        let mut lost = Vec::new();
        for chain in chains {
            match entry.chains.iter().find(|(other, _)| other.matches == chain.matches) {
                None => entry.chains.push((chain, host.clone())),
                Some((_, owner)) if owner == host => (),
                Some((_, owner)) => lost.push(Reason::SameMatch { existing: owner.clone() }),
            }
        }
        for reason in lost {
            self.reject(place, seen, port, reason);
        }
    }

    fn reject(&mut self, place: &Place, seen: &Visible, port: &ServicePort, reason: Reason) {
        self.rejected.push(Rejected {
            subject: place.listener(port.port),
            service: seen.service.hostname.clone(),
            reason,
        });
    }

    fn finish(self) -> (Vec<Planned>, Vec<Rejected>) {
        let settings = self.settings;
        let listeners = self.entries.into_iter().map(|((port, ip), entry)| {
            let mut chains: Vec<Chain> = entry.chains.into_iter().map(|(chain, _)| chain).collect();
            let role = match settings.capture {
                Capture::Redirected(_) => ListenerRole::Outbound,
                Capture::Bound { .. } => ListenerRole::Bound,
            };
            if let (ListenerRole::Bound, [Chain { matches, then: Then::Http(_), .. }]) =
                (role, chains.as_mut_slice())
            {
                // Nothing but HTTP is meant for it, and what else arrives could go nowhere: no sniffing.
                *matches = ChainMatch::default();
            }
            if !chains.iter().any(|chain| chain.matches == ChainMatch::default()) {
                chains.push(fallback(settings));
            }
            let inputs = Arc::new(ListenerInputs {
                name: format!("{ip}_{port}"),
                address: ip.to_string(),
                port,
                role,
                chains,
                detection_timeout: settings.detection_timeout,
                filters: settings.filters.clone(),
            });
            Planned { inputs, member: entry.member }
        });
        (listeners.collect(), self.rejected)
    }
}

/// Where what no service wants goes.
fn fallback(settings: &ListenerSettings) -> Chain {
    let cluster = match settings.unknown {
        OutboundTrafficMode::AllowAny => PASSTHROUGH,
        OutboundTrafficMode::RegistryOnly => BLACK_HOLE,
    };
    Chain {
        name: "PassthroughFilterChain".into(),
        matches: ChainMatch::default(),
        then: Then::Tcp { cluster: cluster.into(), protocol: Protocol::Tcp },
    }
}

fn members(endpoints: &[Endpoint], port: &ServicePort, families: Families) -> Vec<Place> {
    let ips: BTreeSet<IpAddr> = endpoints
        .iter()
        .filter(|endpoint| endpoint.port_name == port.name)
        .filter_map(|endpoint| match endpoint.address {
            EndpointAddress::Ip(ip) => Some(ip),
            EndpointAddress::Unix(_) | EndpointAddress::Dns(_) => None,
        })
        .filter(|ip| families.contain(*ip))
        .collect();
    ips.into_iter().map(|ip| Place { ip, networks: Vec::new(), whose: Whose::Members }).collect()
}

fn tcp_chain(seen: &Visible, port: &ServicePort, place: &Place) -> Chain {
    let host = &seen.service.hostname;
    let tls = matches!(port.protocol, Protocol::Https | Protocol::Tls);
    // On an address that others use too, the name a TLS client asks for tells whom it wants.
    let mut server_names: Vec<String> = match place.whose {
        Whose::Everyones if tls => {
            std::iter::once(host).chain(seen.aliases.iter()).map(ToString::to_string).collect()
        }
        _ => Vec::new(),
    };
    server_names.retain(|name| name != "*");
    server_names.sort();
    Chain {
        name: String::new(),
        matches: ChainMatch { networks: place.networks.clone(), server_names, ..ChainMatch::default() },
        then: Then::Tcp {
            cluster: ClusterName::outbound(port.port, host).to_string(),
            protocol: port.protocol,
        },
    }
}

fn http_chain(listener: &str, seen: &Visible, port: &ServicePort, place: &Place) -> Chain {
    let routes = match place.whose {
        Whose::Everyones => port.port.to_string(),
        Whose::Services | Whose::Members => format!("{}:{}", seen.service.hostname, port.port),
    };
    Chain {
        name: String::new(),
        matches: ChainMatch { speaks: Speaks::PlainHttp, ..ChainMatch::default() },
        then: Then::Http(HttpChain {
            stat_prefix: format!("outbound_{listener};"),
            routes: Routes::Discovered(routes),
            // Only gRPC-Web changes how requests are read, and all services of the listener are read alike.
            protocol: if port.protocol == Protocol::GrpcWeb { Protocol::GrpcWeb } else { Protocol::Http },
            requests: Requests::ToOrigin,
        }),
    }
}

// === impl Entry ===

impl Entry {
    /// A server that speaks first would wait for a client that is being sniffed, or be given to another protocol.
    fn clashes(&self, incoming: Protocol) -> bool {
        let first = |protocol| matches!(protocol, Protocol::Mongo | Protocol::MySql);
        match self.spoken {
            Spoken::Tcp(existing) => (first(existing) || first(incoming)) && existing != incoming,
            Spoken::Sniffed => first(incoming),
        }
    }

    /// Whether there is an HTTP chain already; if `chain` reads gRPC-Web, it does from now on.
    fn has_http_like(&mut self, chain: &Chain) -> bool {
        let Then::Http(new) = &chain.then else { return false };
        for (existing, _) in &mut self.chains {
            if let Then::Http(old) = &mut existing.then {
                if new.protocol == Protocol::GrpcWeb {
                    old.protocol = Protocol::GrpcWeb;
                }
                return true;
            }
        }
        false
    }
}

// === impl Reading ===

impl Reading {
    fn of(protocol: Protocol) -> Option<Self> {
        match protocol {
            Protocol::Udp => None,
            Protocol::Auto => Some(Self::Either),
            Protocol::Hbone => Some(Self::Http),
            protocol if protocol.is_http() => Some(Self::Http),
            _ => Some(Self::Tcp),
        }
    }
}

// === impl Place ===

impl Place {
    const fn everyones(ip: IpAddr) -> Self {
        Self { ip, networks: Vec::new(), whose: Whose::Everyones }
    }

    fn listener(&self, port: u16) -> String {
        format!("{}_{port}", self.ip)
    }
}

// === impl Families ===

impl Families {
    /// The address that stands for all of them in the first family.
    pub const fn wildcard(self) -> IpAddr {
        match self {
            Self::V4 | Self::Both => IpAddr::V4(Ipv4Addr::UNSPECIFIED),
            Self::V6 => IpAddr::V6(Ipv6Addr::UNSPECIFIED),
        }
    }

    /// The loopback address of the first family.
    pub const fn loopback(self) -> IpAddr {
        match self {
            Self::V4 | Self::Both => IpAddr::V4(Ipv4Addr::LOCALHOST),
            Self::V6 => IpAddr::V6(Ipv6Addr::LOCALHOST),
        }
    }
}
