//! Inputs of a listener: bind address, role, filter chains and their matches.
//!
//! `outbound`, `inbound` and `gateway` decide which chains a listener has.

use std::net::{IpAddr, Ipv6Addr};
use std::sync::Arc;
use std::time::Duration;

use crate::generate::IpFamilies;
use crate::generate::downstream_tls::TlsTermination;
use crate::generate::http_connection_manager::{HttpChain, ProxyProtocolHeader};
use crate::generate::network_filters::{FilterSettings, TcpChain};
use crate::model::{ConfigObject, Shared, Vip};

/// Inputs of a listener, and its cache key.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct ListenerInputs {
    /// Name of the listener.
    pub name: String,
    /// Primary bind address.
    pub bind: BindAddress,
    /// Bind addresses in other IP families.
    pub additional_addresses: Vec<IpAddr>,
    /// Bind port; 0 for Unix sockets.
    pub port: u16,
    /// The way connections reach the listener.
    pub role: ListenerRole,
    /// Filter chains in order of precedence; their matches are distinct.
    pub chains: Vec<FilterChainInputs>,
    /// Timeout of protocol detection (`protocolDetectionTimeout`); zero: no timeout.
    pub detection_timeout: Duration,
    /// Settings that all filters of the proxy share.
    pub filters: Arc<FilterSettings>,
}

/// Bind address of a listener (`bind` of `Sidecar` and `Gateway`).
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum BindAddress {
    /// IP address.
    Ip(IpAddr),
    /// Path of a Unix domain socket.
    Unix(String),
}

/// The way connections reach a listener.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum ListenerRole {
    /// The virtual outbound listener hands over connections by their original destination; `bind_to_port` is false.
    Outbound,
    /// Applications connect to the bound port.
    Bound,
    /// iptables redirects all outbound connections to it.
    VirtualOutbound(RedirectMode),
    /// iptables redirects all inbound connections to it.
    VirtualInbound(RedirectMode),
    /// Clients of the workload connect to the bound port.
    BoundInbound,
    /// Clients outside the mesh connect to the bound port of a gateway.
    Gateway(ProxyProtocolHeader),
}

/// iptables target that redirects connections to the proxy.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum RedirectMode {
    /// `REDIRECT`: the server sees the address of the proxy as the source.
    Redirect,
    /// `TPROXY`: the server sees the address of the client as the source.
    Tproxy,
}

/// Inputs of a filter chain.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct FilterChainInputs {
    /// Name of the chain; empty for chains of one service.
    pub name: String,
    /// Connections that the chain accepts.
    pub matches: ChainMatch,
    /// Filter that handles the connections.
    pub terminal_filter: TerminalFilter,
    /// TLS termination; `None`: connections are not decrypted.
    pub tls: Option<Arc<TlsTermination>>,
    /// Configuration object that defines the chain; `None`: the service alone does.
    pub config: Option<Shared<ConfigObject>>,
}

/// Match criteria of a filter chain. Envoy rejects a listener in which two chains have equal criteria.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct ChainMatch {
    /// Destination port; 0: any.
    pub port: u16,
    /// Destination networks, sorted and masked; empty: any.
    pub networks: Vec<Vip>,
    /// SNI of the TLS handshake, sorted; empty: any.
    pub server_names: Vec<String>,
    /// Protocol that listener filters detect.
    pub protocol: DetectedProtocol,
}

/// Protocol of a connection as listener filters detect it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum DetectedProtocol {
    /// Any protocol.
    #[default]
    Any,
    /// HTTP in plaintext.
    PlaintextHttp,
    /// Any protocol in plaintext.
    Plaintext,
    /// Mutual TLS of the mesh, by the ALPN protocols that only its proxies offer.
    MeshTls,
}

/// Last network filter of a chain.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum TerminalFilter {
    /// HTTP connection manager.
    Http(HttpChain),
    /// TCP proxy.
    Tcp(TcpChain),
}

// === impl BindAddress ===

impl BindAddress {
    /// Parses `bind` of a `Sidecar` or `Gateway`: an IP address or `unix:///path`.
    pub fn parse(text: &str) -> Option<Self> {
        match text.strip_prefix("unix://") {
            Some(path) => Some(Self::Unix(path.to_owned())),
            None => text.parse().ok().map(Self::Ip),
        }
    }

    /// Returns true for the wildcard address of a family.
    pub const fn is_wildcard(&self) -> bool {
        matches!(self, Self::Ip(ip) if ip.is_unspecified())
    }

    /// Returns the name of a listener bound to this address.
    pub fn listener_name(&self, port: u16) -> String {
        match self {
            Self::Ip(ip) => format!("{ip}_{port}"),
            Self::Unix(path) => format!("unix://{path}"),
        }
    }

    /// Returns the addresses of the second IP family for a wildcard or loopback bind address of a dual-stack proxy.
    pub fn additional_addresses(&self, families: IpFamilies) -> Vec<IpAddr> {
        let second = match self {
            Self::Ip(ip) if *ip == families.wildcard() => IpAddr::V6(Ipv6Addr::UNSPECIFIED),
            Self::Ip(ip) if *ip == families.loopback() => IpAddr::V6(Ipv6Addr::LOCALHOST),
            Self::Ip(_) | Self::Unix(_) => return Vec::new(),
        };
        if families == IpFamilies::Both { vec![second] } else { Vec::new() }
    }
}

impl From<IpAddr> for BindAddress {
    fn from(ip: IpAddr) -> Self {
        Self::Ip(ip)
    }
}

// === impl FilterChainInputs ===

impl FilterChainInputs {
    /// Returns true if the chain depends on the SNI of the client.
    pub(super) const fn matches_sni(&self) -> bool {
        !self.matches.server_names.is_empty()
            || matches!(&self.terminal_filter, TerminalFilter::Tcp(TcpChain { sni_port: Some(_), .. }))
    }
}

// === impl ChainMatch ===

impl ChainMatch {
    /// Removes the connections that `other` accepts; `None`: no connections are left.
    ///
    /// A match without networks or server names overlaps none that has some: Envoy prefers the more specific match.
    pub(in crate::generate) fn subtract(&self, other: &Self) -> Option<Self> {
        let disjoint = |set: bool, other_set: bool, shared: bool| set != other_set || (set && !shared);
        let shares_network = self.networks.iter().any(|network| other.networks.contains(network));
        let shares_name = self.server_names.iter().any(|name| other.server_names.contains(name));
        if (self.port, self.protocol) != (other.port, other.protocol)
            || disjoint(!self.networks.is_empty(), !other.networks.is_empty(), shares_network)
            || disjoint(!self.server_names.is_empty(), !other.server_names.is_empty(), shares_name)
        {
            return Some(self.clone());
        }
        let mut rest = self.clone();
        if shares_network {
            rest.networks.retain(|network| !other.networks.contains(network));
            return (!rest.networks.is_empty()).then_some(rest);
        }
        rest.server_names.retain(|name| !other.server_names.contains(name));
        (!rest.server_names.is_empty()).then_some(rest)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn subtracted_chain_match_keeps_connections_of_no_other_match() {
        let networks = |list: &[&str]| ChainMatch {
            networks: list.iter().map(|text| Vip::parse(text).unwrap()).collect(),
            ..ChainMatch::default()
        };
        let named = |list: &[&str]| ChainMatch {
            server_names: list.iter().map(|&name| name.to_owned()).collect(),
            ..ChainMatch::default()
        };
        let detected = |protocol| ChainMatch { protocol, ..ChainMatch::default() };
        let anything = ChainMatch::default();
        for (one, other, rest) in [
            (anything.clone(), anything.clone(), None),
            (
                detected(DetectedProtocol::PlaintextHttp),
                anything.clone(),
                Some(detected(DetectedProtocol::PlaintextHttp)),
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
            assert_eq!(one.subtract(&other), rest, "{one:?} without {other:?}");
        }
    }
}
