//! LDS: a listener from the filter chains that were planned for it.
//!
//! Decides how chains become Envoy's: what must look at a connection first, and which chain is the default. What chains there are is decided in `outbound` and `inbound`.

use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use pilot_proto::envoy::config::core::v3::{Address, TrafficDirection};
use pilot_proto::envoy::config::listener::v3::{AdditionalAddress, FilterChain, FilterChainMatch, Listener};

use super::filter::{FilterSettings, Logged, TcpChain};
use super::http::{Connections, HttpChain, connection_manager};
use super::inspect::{http_inspector, inbound_filters, proxied, redirected, tls_inspector};
use super::proto::{address, cidr, decided_by, duration, no, number, pipe, yes};
use super::tls::Termination;
use crate::model::{ConfigObject, Shared, Vip};

/// Everything a listener depends on.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct ListenerInputs {
    /// Its name.
    pub name: String,
    /// Where it listens.
    pub bind: Bind,
    /// Addresses of other families where it listens too.
    pub also: Vec<IpAddr>,
    /// Where it listens; 0 for Unix sockets.
    pub port: u16,
    /// How connections reach it.
    pub role: ListenerRole,
    /// In the order in which they are tried; no two of them match the same.
    pub chains: Vec<Chain>,
    /// How long it waits to find out what a connection speaks; zero: as long as it takes.
    pub detection_timeout: Duration,
    /// What its filters say alike.
    pub filters: Arc<FilterSettings>,
}

/// Where a listener listens.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Bind {
    /// At an address.
    Ip(IpAddr),
    /// At a Unix domain socket with this path.
    Unix(String),
}

/// How connections reach a listener.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum ListenerRole {
    /// The virtual outbound listener hands over what was meant for this address.
    Outbound,
    /// Clients connect to it themselves.
    Bound,
    /// iptables redirects everything outbound here.
    VirtualOutbound(Source),
    /// iptables redirects everything inbound here.
    VirtualInbound(Source),
    /// Clients of the workload connect to it themselves.
    BoundInbound,
    /// Clients from outside of the mesh connect to it.
    Gateway(Connections),
}

/// Which source address the other side sees.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Source {
    /// The proxy's (iptables REDIRECT).
    Proxy,
    /// The client's (TPROXY).
    Client,
}

/// A filter chain.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Chain {
    /// Its name; empty for chains of one service.
    pub name: String,
    /// Which connections it takes.
    pub matches: ChainMatch,
    /// What it does with them.
    pub then: Then,
    /// How TLS ends here; `None`: it does not.
    pub tls: Option<Arc<Termination>>,
    /// The object that decided so, where it is not the service alone.
    pub decided_by: Option<Shared<ConfigObject>>,
}

/// Which connections a chain takes. Two chains with equal matches cannot be in one listener.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct ChainMatch {
    /// Going to this port; 0: any.
    pub port: u16,
    /// Going to one of these networks; sorted, masked. Empty: any.
    pub networks: Vec<Vip>,
    /// TLS for one of these names; sorted. Empty: any.
    pub server_names: Vec<String>,
    /// Speaking this.
    pub speaks: Speaks,
}

/// What a connection speaks, as the listener filters find out.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum Speaks {
    /// Anything.
    #[default]
    Anything,
    /// HTTP in plaintext.
    PlainHttp,
    /// Anything in plaintext.
    Plain,
    /// The mesh's own mutual TLS, by the protocols that only its proxies offer.
    MeshTls,
}

/// What a chain does with a connection.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Then {
    /// Reads requests.
    Http(HttpChain),
    /// Passes bytes on.
    Tcp(TcpChain),
}

/// How long a handshake may take: slow ones are an attack on memory.
const HANDSHAKE: Duration = Duration::from_secs(15);

/// A listener.
pub fn listener(inputs: &ListenerInputs) -> Listener {
    let base = Listener {
        name: inputs.name.clone(),
        address: inputs.bind.to_proto(inputs.port),
        additional_addresses: inputs.also.iter().map(|ip| additional(*ip, inputs.port)).collect(),
        listener_filters_timeout: duration(inputs.detection_timeout),
        continue_on_listener_filters_timeout: true,
        traffic_direction: TrafficDirection::Outbound.into(),
        ..Listener::default()
    };
    match inputs.role {
        ListenerRole::Outbound => {
            Listener { bind_to_port: no(), ..with_default(inspected(base, inputs), inputs) }
        }
        ListenerRole::Bound => with_default(inspected(base, inputs), inputs),
        ListenerRole::VirtualOutbound(source) => Listener {
            use_original_dst: yes(),
            transparent: transparent(source),
            filter_chains: chains(inputs),
            access_log: inputs.filters.access_log(Logged::Unmatched),
            listener_filters_timeout: None,
            continue_on_listener_filters_timeout: false,
            ..base
        },
        ListenerRole::VirtualInbound(source) => Listener {
            transparent: transparent(source),
            listener_filters: redirected(source).chain(inbound_filters(&inputs.chains)).collect(),
            filter_chains: chains(inputs),
            access_log: inputs.filters.access_log(Logged::Unmatched),
            traffic_direction: TrafficDirection::Inbound.into(),
            ..base
        },
        ListenerRole::BoundInbound => Listener {
            listener_filters: inbound_filters(&inputs.chains),
            filter_chains: chains(inputs),
            access_log: inputs.filters.access_log(Logged::Unmatched),
            traffic_direction: TrafficDirection::Inbound.into(),
            ..base
        },
        ListenerRole::Gateway(connections) => {
            let inspected = inputs.chains.iter().any(|chain| chain.tls.is_some() || chain.asks_for_names());
            Listener {
                // The header comes first, before anything that others look at.
                listener_filters: (connections == Connections::Proxied)
                    .then(proxied)
                    .into_iter()
                    .chain(inspected.then(tls_inspector))
                    .collect(),
                filter_chains: chains(inputs),
                access_log: inputs.filters.access_log(Logged::Unmatched),
                // Envoy's own limit, 15 s, keeps slow handshakes from piling up.
                listener_filters_timeout: None,
                continue_on_listener_filters_timeout: false,
                ..base
            }
        }
    }
}

fn transparent(source: Source) -> Option<pilot_proto::google::protobuf::BoolValue> {
    match source {
        Source::Proxy => None,
        Source::Client => yes(),
    }
}

fn chains(inputs: &ListenerInputs) -> Vec<FilterChain> {
    inputs.chains.iter().map(|chain| filter_chain(chain, &inputs.filters)).collect()
}

/// Listener filters for what the chains ask about. Sniffing HTTP is the only thing that can wait for a client
/// that says nothing, so only it has a time limit.
fn inspected(listener: Listener, inputs: &ListenerInputs) -> Listener {
    let tls = inputs.chains.iter().any(Chain::asks_for_names);
    let http = inputs.chains.iter().any(|chain| chain.matches.speaks == Speaks::PlainHttp);
    let timeout = if http { inputs.detection_timeout } else { Duration::ZERO };
    Listener {
        listener_filters: tls.then(tls_inspector).into_iter().chain(http.then(http_inspector)).collect(),
        listener_filters_timeout: duration(timeout),
        ..listener
    }
}

/// A chain that takes everything becomes the default. As one of many it would lose connections: Envoy picks by
/// the most specific criterion first and does not come back when a later one fails.
fn with_default(listener: Listener, inputs: &ListenerInputs) -> Listener {
    let (all, some): (Vec<&Chain>, Vec<&Chain>) =
        inputs.chains.iter().partition(|chain| chain.matches == ChainMatch::default());
    let build = |chain: &Chain| filter_chain(chain, &inputs.filters);
    let filter_chains: Vec<FilterChain> = some.into_iter().map(build).collect();
    let default = all.first().map(|chain| build(chain));
    match default {
        Some(only) if filter_chains.is_empty() => Listener { filter_chains: vec![only], ..listener },
        default_filter_chain => Listener { filter_chains, default_filter_chain, ..listener },
    }
}

fn filter_chain(chain: &Chain, filters: &FilterSettings) -> FilterChain {
    FilterChain {
        name: chain.name.clone(),
        metadata: chain.decided_by.as_deref().map(decided_by),
        filter_chain_match: Some(chain.matches.to_proto())
            .filter(|matches| *matches != FilterChainMatch::default()),
        filters: match &chain.then {
            Then::Http(http) => vec![connection_manager(http, filters)],
            Then::Tcp(tcp) => filters.tcp(tcp),
        },
        transport_socket: chain.tls.as_deref().map(Termination::socket),
        transport_socket_connect_timeout: chain.tls.as_ref().and_then(|_| duration(HANDSHAKE)),
        ..FilterChain::default()
    }
}

fn additional(ip: IpAddr, port: u16) -> AdditionalAddress {
    AdditionalAddress { address: address(&ip.to_string(), port), ..AdditionalAddress::default() }
}

// === impl Bind ===

impl Bind {
    /// As `Sidecar`s and `Gateway`s write it: an IP address or `unix:///path`.
    pub fn parse(text: &str) -> Option<Self> {
        match text.strip_prefix("unix://") {
            Some(path) => Some(Self::Unix(path.to_owned())),
            None => text.parse().ok().map(Self::Ip),
        }
    }

    /// Whether it is every address of a family.
    pub const fn is_everywhere(&self) -> bool {
        matches!(self, Self::Ip(ip) if ip.is_unspecified())
    }

    /// Name of a listener there.
    pub fn listener(&self, port: u16) -> String {
        match self {
            Self::Ip(ip) => format!("{ip}_{port}"),
            Self::Unix(path) => format!("unix://{path}"),
        }
    }

    fn to_proto(&self, port: u16) -> Option<Address> {
        match self {
            Self::Ip(ip) => address(&ip.to_string(), port),
            Self::Unix(path) => pipe(path),
        }
    }
}

impl From<IpAddr> for Bind {
    fn from(ip: IpAddr) -> Self {
        Self::Ip(ip)
    }
}

// === impl Chain ===

impl Chain {
    /// Whether it makes a difference which name the client's TLS asks for.
    const fn asks_for_names(&self) -> bool {
        !self.matches.server_names.is_empty()
            || matches!(&self.then, Then::Tcp(TcpChain { named_port: Some(_), .. }))
    }
}

// === impl ChainMatch ===

impl ChainMatch {
    /// What this takes besides what `other` takes; `None` when that is nothing.
    ///
    /// A match without a network or a name does not count: Envoy prefers the more specific one.
    pub(super) fn without(&self, other: &Self) -> Option<Self> {
        let apart = |mine: bool, theirs: bool, shared: bool| mine != theirs || (mine && !shared);
        let shares_network = self.networks.iter().any(|network| other.networks.contains(network));
        let shares_name = self.server_names.iter().any(|name| other.server_names.contains(name));
        if (self.port, self.speaks) != (other.port, other.speaks)
            || apart(!self.networks.is_empty(), !other.networks.is_empty(), shares_network)
            || apart(!self.server_names.is_empty(), !other.server_names.is_empty(), shares_name)
        {
            return Some(self.clone());
        }
        let mut left = self.clone();
        if shares_network {
            left.networks.retain(|network| !other.networks.contains(network));
            return (!left.networks.is_empty()).then_some(left);
        }
        left.server_names.retain(|name| !other.server_names.contains(name));
        (!left.server_names.is_empty()).then_some(left)
    }

    fn to_proto(&self) -> FilterChainMatch {
        let (transport, protocols): (_, &[&str]) = match self.speaks {
            Speaks::Anything => ("", &[]),
            Speaks::PlainHttp => ("raw_buffer", &["http/1.1", "h2c"]),
            Speaks::Plain => ("raw_buffer", &[]),
            Speaks::MeshTls => {
                ("", &["istio-peer-exchange", "istio", "istio-http/1.0", "istio-http/1.1", "istio-h2"])
            }
        };
        FilterChainMatch {
            destination_port: Some(self.port).filter(|port| *port != 0).and_then(|port| number(port.into())),
            prefix_ranges: self.networks.iter().map(|network| cidr(*network)).collect(),
            server_names: self.server_names.clone(),
            transport_protocol: transport.to_owned(),
            application_protocols: protocols.iter().map(|&protocol| protocol.to_owned()).collect(),
            ..FilterChainMatch::default()
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_match_keeps_what_no_other_one_takes() {
        let networks = |list: &[&str]| ChainMatch {
            networks: list.iter().map(|text| Vip::parse(text).unwrap()).collect(),
            ..ChainMatch::default()
        };
        let named = |list: &[&str]| ChainMatch {
            server_names: list.iter().map(|&name| name.to_owned()).collect(),
            ..ChainMatch::default()
        };
        let speaking = |speaks| ChainMatch { speaks, ..ChainMatch::default() };
        let anything = ChainMatch::default();
        for (mine, theirs, left) in [
            (anything.clone(), anything.clone(), None),
            (speaking(Speaks::PlainHttp), anything.clone(), Some(speaking(Speaks::PlainHttp))),
            (networks(&["10.0.0.0/8"]), anything.clone(), Some(networks(&["10.0.0.0/8"]))),
            (networks(&["10.0.0.0/8"]), networks(&["10.1.0.0/16"]), Some(networks(&["10.0.0.0/8"]))),
            (networks(&["10.0.0.0/8"]), networks(&["10.0.0.0/8"]), None),
            (
                networks(&["10.0.0.0/8", "11.0.0.0/8"]),
                networks(&["10.0.0.0/8"]),
                Some(networks(&["11.0.0.0/8"])),
            ),
            (named(&["a", "b"]), named(&["b", "c"]), Some(named(&["a"]))),
            (named(&["a"]), networks(&["10.0.0.0/8"]), Some(named(&["a"]))),
        ] {
            assert_eq!(mine.without(&theirs), left, "{mine:?} without {theirs:?}");
        }
    }
}
