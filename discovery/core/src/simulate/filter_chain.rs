//! Selection of a listener's filter chain.
//!
//! Envoy applies the criteria in order. Each keeps only the chains with the most specific match;
//! dropped chains are not reconsidered.
//! <https://www.envoyproxy.io/docs/envoy/latest/api-v3/config/listener/v3/listener_components.proto#config-listener-v3-filterchainmatch>

use std::net::IpAddr;

use pilot_proto::envoy::config::listener::v3::filter_chain_match::ConnectionSourceType;
use pilot_proto::envoy::config::listener::v3::{FilterChain, FilterChainMatch, Listener};

use super::call::Call;
use super::listener::ConnectionInfo;
use super::matching::longest;

/// Specificity of a match; greater is more specific. `None`: no match.
type Rank = Option<usize>;

/// Criteria in Envoy's order.
const CRITERIA: [fn(&FilterChainMatch, &Call, &ConnectionInfo) -> Rank; 9] = [
    |wanted, call, _| match (&wanted.destination_port, call.to.port()) {
        (None, _) => Some(0),
        (Some(wanted), Some(port)) => (wanted.value == u32::from(port)).then_some(1),
        (Some(_), None) => None,
    },
    |wanted, call, _| networks(&wanted.prefix_ranges, call.to.ip()),
    |wanted, _, seen| server_names(&wanted.server_names, &seen.server_name),
    |wanted, _, seen| match wanted.transport_protocol.as_str() {
        "" => Some(0),
        protocol => (protocol == seen.transport).then_some(1),
    },
    |wanted, _, seen| applications(&wanted.application_protocols, &seen.applications),
    |wanted, call, _| networks(&wanted.direct_source_prefix_ranges, call.from.map(|from| from.ip())),
    |wanted, call, _| match wanted.source_type() {
        ConnectionSourceType::Any => Some(0),
        ConnectionSourceType::SameIpOrLoopback => is_local(call).then_some(1),
        ConnectionSourceType::External => (!is_local(call)).then_some(1),
    },
    |wanted, call, _| networks(&wanted.source_prefix_ranges, call.from.map(|from| from.ip())),
    |wanted, call, _| match wanted.source_ports.as_slice() {
        [] => Some(0),
        ports => call.from.is_some_and(|from| ports.contains(&u32::from(from.port()))).then_some(1),
    },
];

/// Selects the filter chain of a connection.
pub(super) fn chain<'a>(
    listener: &'a Listener,
    call: &Call,
    seen: &ConnectionInfo,
) -> Option<&'a FilterChain> {
    let unconditional = FilterChainMatch::default();
    let mut left: Vec<&FilterChain> = listener.filter_chains.iter().collect();
    for criterion in CRITERIA {
        let rank = |chain: &FilterChain| {
            criterion(chain.filter_chain_match.as_ref().unwrap_or(&unconditional), call, seen)
        };
        let best = left.iter().filter_map(|chain| rank(chain)).max();
        left.retain(|chain| best.is_some() && rank(chain) == best);
    }
    left.first().copied().or(listener.default_filter_chain.as_ref())
}

fn networks(ranges: &[pilot_proto::envoy::config::core::v3::CidrRange], ip: Option<IpAddr>) -> Rank {
    match (ranges, ip) {
        ([], _) => Some(0),
        (ranges, Some(ip)) => longest(ranges, ip),
        (_, None) => None,
    }
}

/// An exact name is most specific, then the longest wildcard. `*.example.com` does not match `example.com`.
fn server_names(wanted: &[String], name: &str) -> Rank {
    if wanted.is_empty() {
        return Some(0);
    }
    let ranks = wanted.iter().filter_map(|wanted| match wanted.strip_prefix('*') {
        None => (wanted == name && !name.is_empty()).then_some(usize::MAX),
        Some(suffix) => (name.len() > suffix.len() && name.ends_with(suffix)).then_some(wanted.len()),
    });
    ranks.max()
}

/// The order of the client's protocols decides.
fn applications(wanted: &[String], offered: &[String]) -> Rank {
    if wanted.is_empty() {
        return Some(0);
    }
    let first = offered.iter().position(|offer| wanted.contains(offer));
    first.map(|first| usize::MAX - first)
}

/// Returns `true` for local connections, as Envoy's `isSameIpOrLoopback`.
fn is_local(call: &Call) -> bool {
    match (call.from, call.to.ip()) {
        (Some(from), to) => from.ip().is_loopback() || Some(from.ip()) == to,
        // A Unix socket.
        (None, to) => to.is_none(),
    }
}
