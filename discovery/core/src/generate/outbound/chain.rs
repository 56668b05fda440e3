//! What a listener does with what it can read, and with what nobody wants.

use super::place::{Place, Whose};
use super::{ListenerSettings, Spot};
use crate::generate::filter::TcpChain;
use crate::generate::http::{HttpChain, Requests, Routes};
use crate::generate::listener::{Bind, Chain, ChainMatch, Speaks, Then};
use crate::model::Protocol;
use crate::scope::Visible;

/// How a port is read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Reading {
    Http,
    Tcp,
    Either,
}

/// Where what no service wants goes.
pub(super) fn fallback(settings: &ListenerSettings) -> Chain {
    Chain {
        name: "PassthroughFilterChain".into(),
        matches: ChainMatch::default(),
        then: Then::Tcp(TcpChain::to(&*settings.unknown, Protocol::Tcp)),
        tls: None,
        decided_by: None,
    }
}

pub(super) fn http_chain(seen: &Visible, spot: &Spot<'_>, place: &Place) -> Chain {
    let routes = match (&place.bind, place.whose) {
        (bind @ Bind::Unix(_), _) => bind.listener(spot.number),
        (_, Whose::Everyones) => spot.number.to_string(),
        (_, Whose::Services | Whose::Members) => format!("{}:{}", seen.service.hostname, spot.number),
    };
    Chain {
        name: String::new(),
        matches: ChainMatch { speaks: Speaks::PlainHttp, ..ChainMatch::default() },
        then: Then::Http(HttpChain {
            stat_prefix: format!("outbound_{};", place.bind.listener(spot.number)),
            routes: Routes::Discovered(routes),
            // Only gRPC-Web changes how requests are read, and all services of the listener are read alike.
            protocol: if spot.protocol == Protocol::GrpcWeb { Protocol::GrpcWeb } else { Protocol::Http },
            requests: if spot.egress.is_http_proxy() { Requests::ToProxy } else { Requests::ToOrigin },
            edge: None,
        }),
        tls: None,
        decided_by: None,
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
