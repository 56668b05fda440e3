//! Selection of the listener, and the results of its listener filters.
//!
//! ```text
//! workload ─▶ virtualOutbound ─ original destination ─▶ listener of that address ─ else ─▶ of that port on any address ─ else ─▶ itself
//! world ─▶ virtualInbound
//! loopback, Unix sockets, no interception, gateways ─▶ the listener that binds it
//! ```

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use pilot_proto::envoy::config::core::v3::{Address, TrafficDirection, address, socket_address};
use pilot_proto::envoy::config::listener::v3::ListenerFilterChainMatchPredicate as Predicate;
use pilot_proto::envoy::config::listener::v3::listener_filter_chain_match_predicate::Rule;
use pilot_proto::envoy::config::listener::v3::{Listener, listener_filter};

use super::call::{Call, CallDirection, Destination, Payload};
use super::proxy_config_view::ProxyConfigView;

/// Properties of a connection for filter chain matching.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct ConnectionInfo {
    /// SNI, if a TLS inspector ran.
    pub(super) server_name: String,
    /// `tls`, or `raw_buffer` without a TLS inspector.
    pub(super) transport: &'static str,
    /// ALPN protocols in the client's order, or the detected HTTP version.
    pub(super) applications: Vec<String>,
}

/// The accepting listener and the listener that serves the connection.
#[derive(Clone, Copy, Debug)]
pub(super) struct SelectedListener<'a> {
    /// Listener that accepts the connection.
    pub(super) accepted: &'a Listener,
    /// Listener that serves the connection; the same one unless the original destination selects another.
    pub(super) serves: &'a Listener,
}

// === impl ProxyConfigView ===

impl ProxyConfigView {
    /// Selects the listener of a connection.
    pub(super) fn listener(&self, call: &Call) -> Option<SelectedListener<'_>> {
        let accepted = match self.interceptor(call) {
            Some(interceptor) => interceptor,
            None => self.at(&call.to, is_bound)?,
        };
        if !accepted.use_original_dst.as_ref().is_some_and(|on| on.value) {
            return Some(SelectedListener { accepted, serves: accepted });
        }
        let serves = self.at(&call.to, |_| true).unwrap_or(accepted);
        Some(SelectedListener { accepted, serves })
    }

    /// Returns the listener that intercepts connections of this direction. Redirection does not apply to
    /// connections to loopback addresses.
    fn interceptor(&self, call: &Call) -> Option<&Listener> {
        let direction = match call.direction {
            CallDirection::Outbound => TrafficDirection::Outbound,
            CallDirection::Inbound => TrafficDirection::Inbound,
            CallDirection::Gateway => return None,
        };
        if call.to.ip().is_none_or(|ip| ip.is_loopback()) {
            return None;
        }
        self.listeners.values().find(|listener| {
            is_bound(listener)
                && listener.traffic_direction() == direction
                && (listener.use_original_dst.as_ref().is_some_and(|on| on.value)
                    || listener.listener_filters.iter().any(|filter| filter.name.ends_with("original_dst")))
        })
    }

    /// Returns the listener of an address: an exact match, or the wildcard address with the same port, as in Envoy's
    /// `ConnectionHandlerImpl::findByAddress`.
    fn at(&self, to: &Destination, fits: impl Fn(&Listener) -> bool) -> Option<&Listener> {
        let of = |wanted: &Destination, compatible: Families| {
            self.listeners
                .values()
                .filter(|listener| fits(listener))
                .find(|listener| addresses(listener).any(|address| is_at(address, wanted, compatible)))
        };
        let exact = of(to, Families::Same);
        let (Some(ip), Some(port)) = (to.ip(), to.port()) else { return exact };
        let any: IpAddr = match ip {
            IpAddr::V4(_) => Ipv4Addr::UNSPECIFIED.into(),
            IpAddr::V6(_) => Ipv6Addr::UNSPECIFIED.into(),
        };
        let any = Destination::Socket((any, port).into());
        exact.or_else(|| of(&any, Families::Same)).or_else(|| {
            let both = Destination::Socket((Ipv6Addr::UNSPECIFIED, port).into());
            if ip.is_ipv4() { of(&both, Families::Ipv4Too) } else { None }
        })
    }
}

/// Address families that a listener address must serve.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Families {
    /// Its own family.
    Same,
    /// IPv4 in addition to IPv6.
    Ipv4Too,
}

// === impl ConnectionInfo ===

impl ConnectionInfo {
    /// Returns the results of the listener filters along the connection.
    pub(super) fn through(taken: SelectedListener<'_>, call: &Call) -> Self {
        let mut seen = Self { transport: "raw_buffer", ..Self::default() };
        seen.inspect(taken.accepted, call);
        if !std::ptr::eq(taken.accepted, taken.serves) {
            seen.inspect(taken.serves, call);
        }
        seen
    }

    fn inspect(&mut self, listener: &Listener, call: &Call) {
        let enabled = listener.listener_filters.iter().filter(|filter| {
            !filter.filter_disabled.as_ref().is_some_and(|predicate| holds(predicate, call.to.port()))
        });
        for filter in enabled {
            let kind = match &filter.config_type {
                Some(listener_filter::ConfigType::TypedConfig(any)) => any.type_url.as_str(),
                _ => "",
            };
            if kind.ends_with(".TlsInspector") {
                let Some(tls) = &call.tls else { continue };
                self.transport = "tls";
                self.server_name = tls.sni.to_ascii_lowercase();
                self.applications.clone_from(&tls.alpn);
            } else if kind.ends_with(".HttpInspector") {
                // It looks at plaintext only, and at nothing that is known to be TLS.
                if let (None, Payload::Http(request)) = (&call.tls, &call.payload) {
                    self.applications = vec![request.version.inspected().to_owned()];
                }
            }
        }
    }
}

/// Returns `true` if a listener binds a socket.
fn is_bound(listener: &Listener) -> bool {
    #[expect(deprecated, reason = "configuration may still say it so")]
    let deprecated = listener.deprecated_v1.as_ref().and_then(|v1| v1.bind_to_port.as_ref());
    listener.bind_to_port.as_ref().or(deprecated).is_none_or(|bind| bind.value)
}

fn addresses(listener: &Listener) -> impl Iterator<Item = &Address> {
    let more = listener.additional_addresses.iter().filter_map(|more| more.address.as_ref());
    listener.address.iter().chain(more)
}

fn is_at(address: &Address, wanted: &Destination, families: Families) -> bool {
    match (&address.address, wanted) {
        (Some(address::Address::Pipe(pipe)), Destination::Pipe(path)) => pipe.path == *path,
        (Some(address::Address::SocketAddress(socket)), Destination::Socket(wanted)) => {
            socket.protocol() == socket_address::Protocol::Tcp
                && socket.address.parse() == Ok(wanted.ip())
                && socket.port_specifier
                    == Some(socket_address::PortSpecifier::PortValue(wanted.port().into()))
                && (families == Families::Same || socket.ipv4_compat)
        }
        _ => false,
    }
}

/// Evaluates a listener filter's predicate for a destination port.
fn holds(predicate: &Predicate, port: Option<u16>) -> bool {
    match &predicate.rule {
        Some(Rule::OrMatch(set)) => set.rules.iter().any(|rule| holds(rule, port)),
        Some(Rule::AndMatch(set)) => set.rules.iter().all(|rule| holds(rule, port)),
        Some(Rule::NotMatch(rule)) => !holds(rule, port),
        Some(Rule::AnyMatch(any)) => *any,
        Some(Rule::DestinationPortRange(range)) => {
            port.is_some_and(|port| (range.start..range.end).contains(&i32::from(port)))
        }
        None => false,
    }
}
