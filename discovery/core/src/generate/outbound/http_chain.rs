//! HTTP filter chain of an outbound listener, and the passthrough chain.

use super::bind::{ServiceBind, Sharing};
use super::{ListenerPort, ListenerSettings};
use crate::generate::http_connection_manager::{HttpChain, RequestTarget, RouteSource};
use crate::generate::listener::{
    BindAddress, ChainMatch, DetectedProtocol, FilterChainInputs, TerminalFilter,
};
use crate::generate::network_filters::TcpChain;
use crate::model::Protocol;
use crate::scope::Visible;

/// Returns the chain of connections that no service matches.
pub(super) fn passthrough_chain(settings: &ListenerSettings) -> FilterChainInputs {
    FilterChainInputs {
        name: "PassthroughFilterChain".into(),
        matches: ChainMatch::default(),
        terminal_filter: TerminalFilter::Tcp(TcpChain::to(&*settings.fallback_cluster, Protocol::Tcp)),
        tls: None,
        config: None,
    }
}

/// Returns the HTTP chain of a service.
pub(super) fn http_chain(
    visible: &Visible,
    listener_port: &ListenerPort<'_>,
    service_bind: &ServiceBind,
) -> FilterChainInputs {
    let routes = match (&service_bind.bind, service_bind.sharing) {
        (bind @ BindAddress::Unix(_), _) => bind.listener_name(listener_port.number),
        (_, Sharing::Shared) => listener_port.number.to_string(),
        (_, Sharing::Service | Sharing::Endpoint) => {
            format!("{}:{}", visible.service.hostname, listener_port.number)
        }
    };
    FilterChainInputs {
        name: String::new(),
        matches: ChainMatch { protocol: DetectedProtocol::PlaintextHttp, ..ChainMatch::default() },
        terminal_filter: TerminalFilter::Http(HttpChain {
            stat_prefix: format!("outbound_{};", service_bind.bind.listener_name(listener_port.number)),
            routes: RouteSource::Rds(routes),
            // Only gRPC-Web needs another filter, and all services of the listener share one connection manager.
            protocol: if listener_port.protocol == Protocol::GrpcWeb {
                Protocol::GrpcWeb
            } else {
                Protocol::Http
            },
            request_target: if listener_port.egress.is_http_proxy() {
                RequestTarget::AbsoluteForm
            } else {
                RequestTarget::OriginForm
            },
            topology: None,
        }),
        tls: None,
        config: None,
    }
}
