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

mod chain;
mod place;

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use pilot_proto::mesh::{MeshConfig, OutboundTrafficMode};

use super::cluster::BLACK_HOLE;
use super::filter::FilterSettings;
use super::http::{HttpChain, Requests, Routes};
use super::listener::{Chain, ChainMatch, ListenerInputs, ListenerRole, Source, Then};
use super::route::HTTP_PROXY;
use super::{Families, Reason, Rejected};
use crate::model::{Endpoint, Hostname, Protocol, ServicePort, Shared};
use crate::scope::{Scope, Visible};
use chain::{Reading, fallback, http_chain, tcp_chain};
use place::{Place, Whose, places, unusable};

/// Everything a plan depends on.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct PlanInputs {
    /// The services.
    pub scope: Shared<Scope>,
    /// Endpoints of those services whose addresses are their endpoints', in the scope's order: see
    /// [`Scope::met_at_members`].
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

/// The outbound listeners of all services.
pub fn plan(inputs: &PlanInputs) -> (Vec<Planned>, Vec<Rejected>) {
    let mut plan = Plan { settings: &inputs.settings, entries: BTreeMap::new(), rejected: Vec::new() };
    let mut members = inputs.members.iter();
    for seen in inputs.scope.services().iter() {
        let endpoints = if seen.service.is_met_at_members() { members.next() } else { None };
        for port in seen.ports() {
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

// === impl Plan ===

impl Plan<'_> {
    fn add(&mut self, seen: &Visible, port: &ServicePort, endpoints: &[Endpoint]) {
        let Some(reading) = Reading::of(port.protocol) else { return };
        for place in places(self.settings, &seen.service, port, reading, endpoints) {
            if let Some(reason) = unusable(self.settings, &place, port.port) {
                self.reject(&place, seen, port, reason);
                continue;
            }
            self.merge(seen, port, reading, &place);
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
        let lost: Vec<Reason> = chains.into_iter().filter_map(|chain| entry.push(chain, host)).collect();
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

    /// Adds a chain for the connections that no other one takes. Envoy refuses a listener in which two chains take
    /// the same.
    fn push(&mut self, mut chain: Chain, owner: &Hostname) -> Option<Reason> {
        let mut lost = None;
        for (other, existing) in &self.chains {
            let left = chain.matches.without(&other.matches);
            if left.as_ref() != Some(&chain.matches) && existing != owner {
                lost = Some(Reason::SameMatch { existing: existing.clone() });
            }
            let Some(left) = left else { return lost };
            chain.matches = left;
        }
        self.chains.push((chain, owner.clone()));
        lost
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
