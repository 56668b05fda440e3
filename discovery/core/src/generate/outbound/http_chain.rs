//! What a listener does with what it can read, and with what nobody wants.

use super::bind::{ServiceBind, Sharing};
use super::{ListenerPort, ListenerSettings};
use crate::generate::http_connection_manager::{HttpChain, RequestTarget, RouteSource};
use crate::generate::listener::{
    BindAddress, ChainMatch, DetectedProtocol, FilterChainInputs, TerminalFilter,
};
use crate::generate::network_filters::TcpChain;
use crate::model::Protocol;
use crate::scope::Visible;

/// How a port is read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum ProtocolMode {
    Http,
    Tcp,
    Auto,
}

/// Where what no service wants goes.
pub(super) fn fallback(settings: &ListenerSettings) -> FilterChainInputs {
    FilterChainInputs {
        name: "PassthroughFilterChain".into(),
        matches: ChainMatch::default(),
        terminal_filter: TerminalFilter::Tcp(TcpChain::to(&*settings.fallback_cluster, Protocol::Tcp)),
        tls: None,
        config: None,
    }
}

pub(super) fn http_chain(
    visible: &Visible,
    listener_port: &ListenerPort<'_>,
    service_bind: &ServiceBind,
) -> FilterChainInputs {
    let routes = match (&service_bind.bind, service_bind.whose) {
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
            // Only gRPC-Web changes how requests are read, and all services of the listener are read alike.
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

// === impl ProtocolMode ===

impl ProtocolMode {
    pub(super) fn of(protocol: Protocol) -> Option<Self> {
        match protocol {
            Protocol::Udp => None,
            Protocol::Auto => Some(Self::Auto),
            Protocol::Hbone => Some(Self::Http),
            protocol if protocol.is_http() => Some(Self::Http),
            _ => Some(Self::Tcp),
        }
    }
}
