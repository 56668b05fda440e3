//! Envoy's `Listener` message from [`ListenerInputs`].

use std::time::Duration;

use pilot_proto::envoy::config::core::v3::{Address, TrafficDirection};
use pilot_proto::envoy::config::listener::v3::{AdditionalAddress, FilterChain, FilterChainMatch, Listener};
use pilot_proto::google::protobuf::BoolValue;

use super::listener_filters;
use super::model::{
    BindAddress, ChainMatch, DetectedProtocol, FilterChainInputs, ListenerInputs, ListenerRole, RedirectMode,
    TerminalFilter,
};
use crate::generate::downstream_tls::TlsTermination;
use crate::generate::http_connection_manager::connection_manager;
use crate::generate::network_filters::FilterSettings;
use crate::generate::proto::{address, cidr, config_metadata, duration, no, number, pipe, yes};
use crate::generate::telemetry::AccessLogScope;

/// Time limit of a TLS handshake. Pending handshakes hold memory, so a client must not keep them open.
const HANDSHAKE_TIMEOUT: Duration = Duration::from_secs(15);

/// Generates a listener.
pub fn listener(inputs: &ListenerInputs) -> Listener {
    let additional = inputs.additional_addresses.iter().map(|ip| AdditionalAddress {
        address: address(&ip.to_string(), inputs.port),
        ..AdditionalAddress::default()
    });
    let base = Listener {
        name: inputs.name.clone(),
        address: bind_address(&inputs.bind, inputs.port),
        additional_addresses: additional.collect(),
        listener_filters_timeout: duration(inputs.detection_timeout),
        continue_on_listener_filters_timeout: true,
        traffic_direction: TrafficDirection::Outbound.into(),
        ..Listener::default()
    };
    match inputs.role {
        ListenerRole::Outbound => Listener { bind_to_port: no(), ..outbound(base, inputs) },
        ListenerRole::Bound => outbound(base, inputs),
        ListenerRole::VirtualOutbound(mode) => Listener {
            use_original_dst: yes(),
            transparent: transparent(mode),
            filter_chains: filter_chains(inputs),
            access_log: inputs.filters.access_log(AccessLogScope::Listener),
            listener_filters_timeout: None,
            continue_on_listener_filters_timeout: false,
            ..base
        },
        ListenerRole::VirtualInbound(mode) => Listener {
            transparent: transparent(mode),
            listener_filters: listener_filters::original_address(mode)
                .chain(listener_filters::inbound(&inputs.chains))
                .collect(),
            filter_chains: filter_chains(inputs),
            access_log: inputs.filters.access_log(AccessLogScope::Listener),
            traffic_direction: TrafficDirection::Inbound.into(),
            ..base
        },
        ListenerRole::BoundInbound => Listener {
            listener_filters: listener_filters::inbound(&inputs.chains).into_iter().collect(),
            filter_chains: filter_chains(inputs),
            access_log: inputs.filters.access_log(AccessLogScope::Listener),
            traffic_direction: TrafficDirection::Inbound.into(),
            ..base
        },
        ListenerRole::Gateway(header) => Listener {
            listener_filters: listener_filters::gateway(&inputs.chains, header),
            filter_chains: filter_chains(inputs),
            access_log: inputs.filters.access_log(AccessLogScope::Listener),
            // Envoy's default, 15 s, bounds the number of slow handshakes.
            listener_filters_timeout: None,
            continue_on_listener_filters_timeout: false,
            ..base
        },
    }
}

const fn transparent(mode: RedirectMode) -> Option<BoolValue> {
    match mode {
        RedirectMode::Redirect => None,
        RedirectMode::Tproxy => Some(BoolValue { value: true }),
    }
}

/// Adds listener filters and filter chains of an outbound listener.
///
/// The chain without criteria becomes the default chain. As one of `filter_chains` it would lose connections: Envoy
/// selects by the most specific criterion first and does not backtrack when a later criterion fails.
fn outbound(listener: Listener, inputs: &ListenerInputs) -> Listener {
    let (listener_filters, timeout) = listener_filters::outbound(&inputs.chains, inputs.detection_timeout);
    let listener = Listener { listener_filters, listener_filters_timeout: duration(timeout), ..listener };
    let (unconditional, conditional): (Vec<&FilterChainInputs>, Vec<&FilterChainInputs>) =
        inputs.chains.iter().partition(|chain| chain.matches == ChainMatch::default());
    let filter_chain = |chain: &FilterChainInputs| filter_chain(chain, &inputs.filters);
    let filter_chains: Vec<FilterChain> = conditional.into_iter().map(filter_chain).collect();
    let default = unconditional.first().map(|chain| filter_chain(chain));
    match default {
        Some(only) if filter_chains.is_empty() => Listener { filter_chains: vec![only], ..listener },
        default_filter_chain => Listener { filter_chains, default_filter_chain, ..listener },
    }
}

fn filter_chains(inputs: &ListenerInputs) -> Vec<FilterChain> {
    inputs.chains.iter().map(|chain| filter_chain(chain, &inputs.filters)).collect()
}

fn filter_chain(chain: &FilterChainInputs, filters: &FilterSettings) -> FilterChain {
    FilterChain {
        name: chain.name.clone(),
        metadata: chain.config.as_deref().map(config_metadata),
        filter_chain_match: Some(filter_chain_match(&chain.matches))
            .filter(|matches| *matches != FilterChainMatch::default()),
        filters: match &chain.terminal_filter {
            TerminalFilter::Http(http) => vec![connection_manager(http, filters)],
            TerminalFilter::Tcp(tcp) => filters.tcp(tcp),
        },
        transport_socket: chain.tls.as_deref().map(TlsTermination::socket),
        transport_socket_connect_timeout: chain.tls.as_ref().and_then(|_| duration(HANDSHAKE_TIMEOUT)),
        ..FilterChain::default()
    }
}

fn filter_chain_match(matches: &ChainMatch) -> FilterChainMatch {
    let (transport, protocols): (_, &[&str]) = match matches.protocol {
        DetectedProtocol::Any => ("", &[]),
        DetectedProtocol::PlaintextHttp => ("raw_buffer", &["http/1.1", "h2c"]),
        DetectedProtocol::Plaintext => ("raw_buffer", &[]),
        DetectedProtocol::MeshTls => {
            ("", &["istio-peer-exchange", "istio", "istio-http/1.0", "istio-http/1.1", "istio-h2"])
        }
    };
    FilterChainMatch {
        destination_port: Some(matches.port).filter(|port| *port != 0).and_then(|port| number(port.into())),
        prefix_ranges: matches.networks.iter().map(|network| cidr(*network)).collect(),
        server_names: matches.server_names.clone(),
        transport_protocol: transport.to_owned(),
        application_protocols: protocols.iter().map(|&protocol| protocol.to_owned()).collect(),
        ..FilterChainMatch::default()
    }
}

fn bind_address(bind: &BindAddress, port: u16) -> Option<Address> {
    match bind {
        BindAddress::Ip(ip) => address(&ip.to_string(), port),
        BindAddress::Unix(path) => pipe(path),
    }
}
