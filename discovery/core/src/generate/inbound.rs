//! What arrives at the workload: one listener, a set of chains for each port of the workload.
//!
//! Everything is plaintext here: what Istio calls PERMISSIVE has a TLS half that needs certificates, and without
//! an SDS server beside the proxy that half would keep the listener from warming. So the chains are those of
//! DISABLE, and TLS from clients reaches the workload unopened.
//!
//! Without interception there are none: the workload itself listens on its ports, and a second listener there
//! would keep it from starting.

use std::collections::BTreeMap;

use pilot_proto::mesh::MeshConfig;

use super::cluster::{BLACK_HOLE, INBOUND_PASSTHROUGH};
use super::http::{HttpChain, Requests, Routes};
use super::listener::{Chain, ChainMatch, ListenerInputs, ListenerRole, Speaks, Then};
use super::outbound::{Capture, ListenerSettings};
use super::route::InboundRoute;
use super::{Reason, Rejected};
use crate::model::{ClusterName, Protocol};
use crate::push::ServiceTarget;

/// The services on one port of the workload; the first one decides.
pub type Targets<'a> = BTreeMap<u16, Vec<&'a ServiceTarget>>;

/// Ports of the workload that the proxy serves, and what it could not.
pub fn targets<'a>(all: &'a [ServiceTarget], settings: &ListenerSettings) -> (Targets<'a>, Vec<Rejected>) {
    let mut by_port = Targets::new();
    let mut rejected = Vec::new();
    if matches!(settings.capture, Capture::Bound { .. }) {
        return (by_port, rejected);
    }
    for target in all.iter().filter(|target| target.port.protocol != Protocol::Udp) {
        let mut reject = |reason| {
            rejected.push(Rejected {
                subject: ClusterName::inbound(target.target_port).to_string(),
                service: target.service.hostname.clone(),
                reason,
            });
        };
        if settings.reserved.contains(&target.target_port) {
            reject(Reason::ReservedPort);
            continue;
        }
        let services = by_port.entry(target.target_port).or_default();
        if let Some(first) = services.first()
            && first.port.protocol != target.port.protocol
            && first.service.hostname != target.service.hostname
        {
            reject(Reason::InboundProtocol { existing: first.service.hostname.clone() });
        }
        services.push(target);
    }
    (by_port, rejected)
}

/// The listener that iptables redirects everything inbound to.
pub fn virtual_inbound(
    targets: &Targets<'_>,
    mesh: &MeshConfig,
    settings: &ListenerSettings,
) -> Option<ListenerInputs> {
    let Capture::Redirected(source) = &settings.capture else { return None };
    let port = mesh.proxy_inbound_listen_port;
    let address = settings.families.wildcard().to_string();
    // A connection to the listener's own port would be passed on to itself.
    let mut chains = vec![Chain {
        name: "virtualInbound-blackhole".into(),
        matches: ChainMatch { port, ..ChainMatch::default() },
        then: Then::Tcp { cluster: BLACK_HOLE.into(), protocol: Protocol::Tcp },
    }];
    chains.extend(undeclared());
    for (target_port, services) in targets {
        if let Some(first) = services.first() {
            chains.extend(declared(*target_port, first, &address));
        }
    }
    Some(ListenerInputs {
        name: "virtualInbound".into(),
        address,
        port,
        role: ListenerRole::VirtualInbound(*source),
        chains,
        detection_timeout: settings.detection_timeout,
        filters: settings.filters.clone(),
    })
}

/// Ports that no service declares are served too: health checks, metrics, whatever the workload has.
fn undeclared() -> [Chain; 2] {
    let route = InboundRoute {
        cluster: INBOUND_PASSTHROUGH.into(),
        host: String::new(),
        port: 0,
        protocol: Protocol::Auto,
    };
    let [http, tcp] = either(0, route, format!("{INBOUND_PASSTHROUGH};"));
    [
        Chain { name: "virtualInbound-catchall-http".into(), ..http },
        Chain { name: "virtualInbound".into(), ..tcp },
    ]
}

fn declared(target_port: u16, first: &ServiceTarget, address: &str) -> Vec<Chain> {
    let name = format!("{address}_{target_port}");
    let route = InboundRoute {
        cluster: ClusterName::inbound(target_port).to_string(),
        host: first.service.hostname.to_string(),
        port: first.port.port,
        protocol: first.port.protocol,
    };
    let prefix = format!("inbound_{name};");
    let chains: Vec<Chain> = match first.port.protocol {
        Protocol::Auto => either(target_port, route, prefix).into(),
        protocol if protocol.is_http() || protocol == Protocol::Hbone => {
            vec![http(target_port, Speaks::Plain, route, prefix)]
        }
        _ => vec![tcp(target_port, &route)],
    };
    chains.into_iter().map(|chain| Chain { name: name.clone(), ..chain }).collect()
}

fn either(port: u16, route: InboundRoute, stat_prefix: String) -> [Chain; 2] {
    let bytes = tcp(port, &route);
    [http(port, Speaks::PlainHttp, route, stat_prefix), bytes]
}

fn http(port: u16, speaks: Speaks, route: InboundRoute, stat_prefix: String) -> Chain {
    Chain {
        name: String::new(),
        matches: ChainMatch { port, speaks, ..ChainMatch::default() },
        then: Then::Http(HttpChain {
            stat_prefix,
            protocol: route.protocol,
            routes: Routes::Inbound(route),
            requests: Requests::ToOrigin,
        }),
    }
}

fn tcp(port: u16, route: &InboundRoute) -> Chain {
    Chain {
        name: String::new(),
        matches: ChainMatch { port, speaks: Speaks::Plain, ..ChainMatch::default() },
        then: Then::Tcp { cluster: route.cluster.clone(), protocol: route.protocol },
    }
}
