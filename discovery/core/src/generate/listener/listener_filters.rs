//! Listener filters: what looks at a connection before a chain is chosen for it.

use std::collections::BTreeMap;

use pilot_proto::envoy::config::listener::v3::{
    ListenerFilter, ListenerFilterChainMatchPredicate, listener_filter,
    listener_filter_chain_match_predicate as predicate,
};
use pilot_proto::envoy::extensions::filters::listener::{
    http_inspector::v3::HttpInspector, original_dst::v3::OriginalDst, original_src::v3::OriginalSrc,
    proxy_protocol::v3::ProxyProtocol, tls_inspector::v3::TlsInspector,
};
use pilot_proto::envoy::r#type::v3::Int32Range;
use prost::{Message, Name};

use super::{DetectedProtocol, FilterChainInputs, RedirectMode};
use crate::generate::proto::{any, number};

/// What tells where a redirected connection was going, and where from.
pub(super) fn redirected(source: RedirectMode) -> impl Iterator<Item = ListenerFilter> {
    // The mark by which iptables rules know the proxy's own connections.
    let keep = OriginalSrc { mark: 1337, ..OriginalSrc::default() };
    let source = (source == RedirectMode::Tproxy)
        .then(|| listener_filter("envoy.filters.listener.original_src", &keep));
    [listener_filter("envoy.filters.listener.original_dst", &OriginalDst {})].into_iter().chain(source)
}

pub(super) fn inbound_filters(chains: &[FilterChainInputs]) -> Vec<ListenerFilter> {
    let mut filters = Vec::new();
    let mut sniffed: BTreeMap<u16, bool> = BTreeMap::new();
    for chain in chains {
        *sniffed.entry(chain.matches.port).or_default() |=
            chain.matches.protocol == DetectedProtocol::PlaintextHttp;
    }
    if sniffed.values().any(|sniffed| *sniffed) {
        // A server that speaks first would wait for ever for a client that is being sniffed.
        let declared = sniffed.iter().filter(|(_, sniffed)| !**sniffed).map(|(port, _)| *port).collect();
        filters.push(ListenerFilter { filter_disabled: going_to(declared), ..http_inspector() });
    }
    filters
}

/// Connections to one of these ports.
fn going_to(ports: Vec<u16>) -> Option<ListenerFilterChainMatchPredicate> {
    let mut rules: Vec<ListenerFilterChainMatchPredicate> = ports
        .into_iter()
        .map(|port| {
            let start = i32::from(port);
            let range = predicate::Rule::DestinationPortRange(Int32Range { start, end: start + 1 });
            ListenerFilterChainMatchPredicate { rule: Some(range) }
        })
        .collect();
    match rules.len() {
        // Envoy refuses a set of one.
        0 | 1 => rules.pop(),
        _ => Some(ListenerFilterChainMatchPredicate {
            rule: Some(predicate::Rule::OrMatch(predicate::MatchSet { rules })),
        }),
    }
}

/// What takes the PROXY header that a connection begins with.
pub(super) fn proxied() -> ListenerFilter {
    listener_filter("envoy.filters.listener.proxy_protocol", &ProxyProtocol::default())
}

pub(super) fn tls_inspector() -> ListenerFilter {
    let small = TlsInspector { initial_read_buffer_size: number(512), ..TlsInspector::default() };
    listener_filter("envoy.filters.listener.tls_inspector", &small)
}

pub(super) fn http_inspector() -> ListenerFilter {
    listener_filter("envoy.filters.listener.http_inspector", &HttpInspector::default())
}

fn listener_filter<M: Message + Name>(name: &str, config: &M) -> ListenerFilter {
    ListenerFilter {
        name: name.to_owned(),
        config_type: any(config).map(listener_filter::ConfigType::TypedConfig),
        ..ListenerFilter::default()
    }
}
