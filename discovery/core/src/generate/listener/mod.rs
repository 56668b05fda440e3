//! LDS: a listener from the filter chains that were planned for it.
//!
//! Decides how chains become Envoy's: what must look at a connection first, and which chain is the default. What chains there are is decided in `outbound` and `inbound`.

mod listener_filters;

use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use pilot_proto::envoy::config::core::v3::{Address, TrafficDirection};
use pilot_proto::envoy::config::listener::v3::{AdditionalAddress, FilterChain, FilterChainMatch, Listener};

use crate::generate::downstream_tls::TlsTermination;
use crate::generate::http_connection_manager::{HttpChain, ProxyProtocolHeader, connection_manager};
use crate::generate::network_filters::{AccessLogScope, FilterSettings, TcpChain};
use crate::generate::proto::{address, cidr, config_metadata, duration, no, number, pipe, yes};
use crate::model::{ConfigObject, Shared, Vip};
use listener_filters::{http_inspector, inbound_filters, proxied, redirected, tls_inspector};

/// Everything a listener depends on.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct ListenerInputs {
    /// Its name.
    pub name: String,
    /// Where it listens.
    pub bind: BindAddress,
    /// Addresses of other families where it listens too.
    pub additional_addresses: Vec<IpAddr>,
    /// Where it listens; 0 for Unix sockets.
    pub port: u16,
    /// How connections reach it.
    pub role: ListenerRole,
    /// In the order in which they are tried; no two of them match the same.
    pub chains: Vec<FilterChainInputs>,
    /// How long it waits to find out what a connection speaks; zero: as long as it takes.
    pub detection_timeout: Duration,
    /// What its filters say alike.
    pub filters: Arc<FilterSettings>,
}

/// Where a listener listens.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum BindAddress {
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
    VirtualOutbound(RedirectMode),
    /// iptables redirects everything inbound here.
    VirtualInbound(RedirectMode),
    /// Clients of the workload connect to it themselves.
    BoundInbound,
    /// Clients from outside of the mesh connect to it.
    Gateway(ProxyProtocolHeader),
}

/// Which source address the other side sees.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum RedirectMode {
    /// The proxy's (iptables REDIRECT).
    Redirect,
    /// The client's (TPROXY).
    Tproxy,
}

/// A filter chain.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct FilterChainInputs {
    /// Its name; empty for chains of one service.
    pub name: String,
    /// Which connections it takes.
    pub matches: ChainMatch,
    /// What it does with them.
    pub terminal_filter: TerminalFilter,
    /// How TLS ends here; `None`: it does not.
    pub tls: Option<Arc<TlsTermination>>,
    /// The object that decided so, where it is not the service alone.
    pub config: Option<Shared<ConfigObject>>,
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
    pub protocol: DetectedProtocol,
}

/// What a connection speaks, as the listener filters find out.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum DetectedProtocol {
    /// Anything.
    #[default]
    Any,
    /// HTTP in plaintext.
    PlaintextHttp,
    /// Anything in plaintext.
    Plaintext,
    /// The mesh's own mutual TLS, by the protocols that only its proxies offer.
    MeshTls,
}

/// What a chain does with a connection.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum TerminalFilter {
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
        additional_addresses: inputs
            .additional_addresses
            .iter()
            .map(|ip| additional(*ip, inputs.port))
            .collect(),
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
            access_log: inputs.filters.access_log(AccessLogScope::Listener),
            listener_filters_timeout: None,
            continue_on_listener_filters_timeout: false,
            ..base
        },
        ListenerRole::VirtualInbound(source) => Listener {
            transparent: transparent(source),
            listener_filters: redirected(source).chain(inbound_filters(&inputs.chains)).collect(),
            filter_chains: chains(inputs),
            access_log: inputs.filters.access_log(AccessLogScope::Listener),
            traffic_direction: TrafficDirection::Inbound.into(),
            ..base
        },
        ListenerRole::BoundInbound => Listener {
            listener_filters: inbound_filters(&inputs.chains),
            filter_chains: chains(inputs),
            access_log: inputs.filters.access_log(AccessLogScope::Listener),
            traffic_direction: TrafficDirection::Inbound.into(),
            ..base
        },
        ListenerRole::Gateway(connections) => {
            let inspected = inputs.chains.iter().any(|chain| chain.tls.is_some() || chain.matches_sni());
            Listener {
                // The header comes first, before anything that others look at.
                listener_filters: (connections == ProxyProtocolHeader::Expected)
                    .then(proxied)
                    .into_iter()
                    .chain(inspected.then(tls_inspector))
                    .collect(),
                filter_chains: chains(inputs),
                access_log: inputs.filters.access_log(AccessLogScope::Listener),
                // Envoy's own limit, 15 s, keeps slow handshakes from piling up.
                listener_filters_timeout: None,
                continue_on_listener_filters_timeout: false,
                ..base
            }
        }
    }
}

fn transparent(source: RedirectMode) -> Option<pilot_proto::google::protobuf::BoolValue> {
    match source {
        RedirectMode::Redirect => None,
        RedirectMode::Tproxy => yes(),
    }
}

fn chains(inputs: &ListenerInputs) -> Vec<FilterChain> {
    inputs.chains.iter().map(|chain| filter_chain(chain, &inputs.filters)).collect()
}

/// Listener filters for what the chains ask about. Sniffing HTTP is the only thing that can wait for a client
/// that says nothing, so only it has a time limit.
fn inspected(listener: Listener, inputs: &ListenerInputs) -> Listener {
    let tls = inputs.chains.iter().any(FilterChainInputs::matches_sni);
    let http = inputs.chains.iter().any(|chain| chain.matches.protocol == DetectedProtocol::PlaintextHttp);
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
    let (all, some): (Vec<&FilterChainInputs>, Vec<&FilterChainInputs>) =
        inputs.chains.iter().partition(|chain| chain.matches == ChainMatch::default());
    let build = |chain: &FilterChainInputs| filter_chain(chain, &inputs.filters);
    let filter_chains: Vec<FilterChain> = some.into_iter().map(build).collect();
    let default = all.first().map(|chain| build(chain));
    match default {
        Some(only) if filter_chains.is_empty() => Listener { filter_chains: vec![only], ..listener },
        default_filter_chain => Listener { filter_chains, default_filter_chain, ..listener },
    }
}

fn filter_chain(chain: &FilterChainInputs, filters: &FilterSettings) -> FilterChain {
    FilterChain {
        name: chain.name.clone(),
        metadata: chain.config.as_deref().map(config_metadata),
        filter_chain_match: Some(chain.matches.to_proto())
            .filter(|matches| *matches != FilterChainMatch::default()),
        filters: match &chain.terminal_filter {
            TerminalFilter::Http(http) => vec![connection_manager(http, filters)],
            TerminalFilter::Tcp(tcp) => filters.tcp(tcp),
        },
        transport_socket: chain.tls.as_deref().map(TlsTermination::socket),
        transport_socket_connect_timeout: chain.tls.as_ref().and_then(|_| duration(HANDSHAKE)),
        ..FilterChain::default()
    }
}

fn additional(ip: IpAddr, port: u16) -> AdditionalAddress {
    AdditionalAddress { address: address(&ip.to_string(), port), ..AdditionalAddress::default() }
}

// === impl Bind ===

impl BindAddress {
    /// As `Sidecar`s and `Gateway`s write it: an IP address or `unix:///path`.
    pub fn parse(text: &str) -> Option<Self> {
        match text.strip_prefix("unix://") {
            Some(path) => Some(Self::Unix(path.to_owned())),
            None => text.parse().ok().map(Self::Ip),
        }
    }

    /// Whether it is every address of a family.
    pub const fn is_wildcard(&self) -> bool {
        matches!(self, Self::Ip(ip) if ip.is_unspecified())
    }

    /// Name of a listener there.
    pub fn listener_name(&self, port: u16) -> String {
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

impl From<IpAddr> for BindAddress {
    fn from(ip: IpAddr) -> Self {
        Self::Ip(ip)
    }
}

// === impl Chain ===

impl FilterChainInputs {
    /// Whether it makes a difference which name the client's TLS asks for.
    const fn matches_sni(&self) -> bool {
        !self.matches.server_names.is_empty()
            || matches!(&self.terminal_filter, TerminalFilter::Tcp(TcpChain { sni_port: Some(_), .. }))
    }
}

// === impl ChainMatch ===

impl ChainMatch {
    /// What this takes besides what `other` takes; `None` when that is nothing.
    ///
    /// A match without a network or a name does not count: Envoy prefers the more specific one.
    pub(in crate::generate) fn subtract(&self, other: &Self) -> Option<Self> {
        let apart = |mine: bool, theirs: bool, shared: bool| mine != theirs || (mine && !shared);
        let shares_network = self.networks.iter().any(|network| other.networks.contains(network));
        let shares_name = self.server_names.iter().any(|name| other.server_names.contains(name));
        if (self.port, self.protocol) != (other.port, other.protocol)
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
        let (transport, protocols): (_, &[&str]) = match self.protocol {
            DetectedProtocol::Any => ("", &[]),
            DetectedProtocol::PlaintextHttp => ("raw_buffer", &["http/1.1", "h2c"]),
            DetectedProtocol::Plaintext => ("raw_buffer", &[]),
            DetectedProtocol::MeshTls => {
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
        let speaking = |protocol| ChainMatch { protocol, ..ChainMatch::default() };
        let anything = ChainMatch::default();
        for (mine, theirs, left) in [
            (anything.clone(), anything.clone(), None),
            (
                speaking(DetectedProtocol::PlaintextHttp),
                anything.clone(),
                Some(speaking(DetectedProtocol::PlaintextHttp)),
            ),
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
            assert_eq!(mine.subtract(&theirs), left, "{mine:?} without {theirs:?}");
        }
    }
}
