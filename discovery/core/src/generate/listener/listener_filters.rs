//! Listener filters: they inspect a connection before Envoy selects a filter chain.

use std::collections::BTreeMap;
use std::time::Duration;

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

use super::model::{DetectedProtocol, FilterChainInputs, RedirectMode};
use crate::generate::http_connection_manager::ProxyProtocolHeader;
use crate::generate::proto::{any, number};

/// Returns the listener filters of an outbound listener, and their timeout.
///
/// Only the HTTP inspector can wait for a client that sends nothing, so only it has a timeout.
pub(super) fn outbound(
    chains: &[FilterChainInputs],
    detection_timeout: Duration,
) -> (Vec<ListenerFilter>, Duration) {
    let tls = chains.iter().any(FilterChainInputs::matches_sni);
    let http = chains.iter().any(detects_http);
    let filters = tls.then(tls_inspector).into_iter().chain(http.then(http_inspector)).collect();
    (filters, if http { detection_timeout } else { Duration::ZERO })
}

/// Returns the HTTP inspector if the protocol of some port must be detected. It is disabled for all other ports: with a
/// server-first protocol client and server would wait for each other.
pub(super) fn inbound(chains: &[FilterChainInputs]) -> Option<ListenerFilter> {
    let mut detected: BTreeMap<u16, bool> = BTreeMap::new();
    for chain in chains {
        *detected.entry(chain.matches.port).or_default() |= detects_http(chain);
    }
    detected.values().any(|detected| *detected).then(|| {
        let declared = detected.iter().filter(|(_, detected)| !**detected).map(|(port, _)| *port).collect();
        ListenerFilter { filter_disabled: destination_ports(declared), ..http_inspector() }
    })
}

/// Returns the listener filters of a gateway. The PROXY protocol header precedes all other bytes, so its filter is the first.
pub(super) fn gateway(chains: &[FilterChainInputs], header: ProxyProtocolHeader) -> Vec<ListenerFilter> {
    let tls = chains.iter().any(|chain| chain.tls.is_some() || chain.matches_sni());
    let proxy_protocol = (header == ProxyProtocolHeader::Expected).then(proxy_protocol);
    proxy_protocol.into_iter().chain(tls.then(tls_inspector)).collect()
}

/// Returns the filters that restore the original destination of a redirected connection, and with `TPROXY` its source.
pub(super) fn original_address(mode: RedirectMode) -> impl Iterator<Item = ListenerFilter> {
    // iptables rules exclude connections of the proxy by this mark.
    let config = OriginalSrc { mark: 1337, ..OriginalSrc::default() };
    let source = (mode == RedirectMode::Tproxy)
        .then(|| listener_filter("envoy.filters.listener.original_src", &config));
    [listener_filter("envoy.filters.listener.original_dst", &OriginalDst {})].into_iter().chain(source)
}

fn detects_http(chain: &FilterChainInputs) -> bool {
    chain.matches.protocol == DetectedProtocol::PlaintextHttp
}

/// Matches connections to one of `ports`.
fn destination_ports(ports: Vec<u16>) -> Option<ListenerFilterChainMatchPredicate> {
    let mut rules: Vec<ListenerFilterChainMatchPredicate> = ports
        .into_iter()
        .map(|port| {
            let start = i32::from(port);
            let range = predicate::Rule::DestinationPortRange(Int32Range { start, end: start + 1 });
            ListenerFilterChainMatchPredicate { rule: Some(range) }
        })
        .collect();
    match rules.len() {
        // Envoy rejects a set of one rule.
        0 | 1 => rules.pop(),
        _ => Some(ListenerFilterChainMatchPredicate {
            rule: Some(predicate::Rule::OrMatch(predicate::MatchSet { rules })),
        }),
    }
}

fn proxy_protocol() -> ListenerFilter {
    listener_filter("envoy.filters.listener.proxy_protocol", &ProxyProtocol::default())
}

fn tls_inspector() -> ListenerFilter {
    let config = TlsInspector { initial_read_buffer_size: number(512), ..TlsInspector::default() };
    listener_filter("envoy.filters.listener.tls_inspector", &config)
}

fn http_inspector() -> ListenerFilter {
    listener_filter("envoy.filters.listener.http_inspector", &HttpInspector::default())
}

fn listener_filter<M: Message + Name>(name: &str, config: &M) -> ListenerFilter {
    ListenerFilter {
        name: name.to_owned(),
        config_type: any(config).map(listener_filter::ConfigType::TypedConfig),
        ..ListenerFilter::default()
    }
}
