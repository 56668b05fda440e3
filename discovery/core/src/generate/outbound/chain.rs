//! What a listener does with the connections of one service.

use super::ListenerSettings;
use super::place::{Place, Whose};
use crate::generate::cluster::{BLACK_HOLE, PASSTHROUGH};
use crate::generate::http::{HttpChain, Requests, Routes};
use crate::generate::listener::{Chain, ChainMatch, Speaks, Then};
use crate::model::{ClusterName, Protocol, ServicePort};
use crate::scope::Visible;
use pilot_proto::mesh::OutboundTrafficMode;

/// How a port is read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Reading {
    Http,
    Tcp,
    Either,
}

/// Where what no service wants goes.
pub(super) fn fallback(settings: &ListenerSettings) -> Chain {
    let cluster = match settings.unknown {
        OutboundTrafficMode::AllowAny => PASSTHROUGH,
        OutboundTrafficMode::RegistryOnly => BLACK_HOLE,
    };
    Chain {
        name: "PassthroughFilterChain".into(),
        matches: ChainMatch::default(),
        then: Then::Tcp { cluster: cluster.into(), protocol: Protocol::Tcp },
    }
}

pub(super) fn tcp_chain(seen: &Visible, port: &ServicePort, place: &Place) -> Chain {
    let host = &seen.service.hostname;
    let tls = matches!(port.protocol, Protocol::Https | Protocol::Tls);
    // On an address that others use too, the name a TLS client asks for tells whom it wants.
    let mut server_names: Vec<String> = match place.whose {
        Whose::Everyones if tls => {
            std::iter::once(host).chain(seen.aliases.iter()).map(ToString::to_string).collect()
        }
        _ => Vec::new(),
    };
    server_names.retain(|name| name != "*");
    server_names.sort();
    Chain {
        name: String::new(),
        matches: ChainMatch { networks: place.networks.clone(), server_names, ..ChainMatch::default() },
        then: Then::Tcp {
            cluster: ClusterName::outbound(port.port, host).to_string(),
            protocol: port.protocol,
        },
    }
}

pub(super) fn http_chain(listener: &str, seen: &Visible, port: &ServicePort, place: &Place) -> Chain {
    let routes = match place.whose {
        Whose::Everyones => port.port.to_string(),
        Whose::Services | Whose::Members => format!("{}:{}", seen.service.hostname, port.port),
    };
    Chain {
        name: String::new(),
        matches: ChainMatch { speaks: Speaks::PlainHttp, ..ChainMatch::default() },
        then: Then::Http(HttpChain {
            stat_prefix: format!("outbound_{listener};"),
            routes: Routes::Discovered(routes),
            // Only gRPC-Web changes how requests are read, and all services of the listener are read alike.
            protocol: if port.protocol == Protocol::GrpcWeb { Protocol::GrpcWeb } else { Protocol::Http },
            requests: Requests::ToOrigin,
        }),
    }
}

// === impl Reading ===

impl Reading {
    pub(super) fn of(protocol: Protocol) -> Option<Self> {
        match protocol {
            Protocol::Udp => None,
            Protocol::Auto => Some(Self::Either),
            Protocol::Hbone => Some(Self::Http),
            protocol if protocol.is_http() => Some(Self::Http),
            _ => Some(Self::Tcp),
        }
    }
}
