//! Which outbound listeners a class of proxies has, and which services share one.
//!
//! ```text
//!            no entry yet     Tcp                    Sniffed
//! HTTP       Sniffed          merge ─▶ Sniffed       has it already
//! TCP        Tcp              merge                  merge
//! undeclared Sniffed          merge ─▶ Sniffed       merge its TCP
//! ```
//!
//! "Merge" succeeds when something in a connection tells the services apart; otherwise the older service keeps
//! what it has and the other one is reported. A sniffed listener finds out which connections are HTTP.
//!
//! With interception, HTTP of all services meets on the wildcard address and is told apart by host; everything
//! else listens on the service's own address. Without interception (`NONE`) everything meets on loopback. A `Sidecar` may
//! name ports and addresses of its own; what listens there is touched by nothing that it does not name.

mod chain;
mod l4;
mod merge;
mod place;

use std::collections::{BTreeSet, HashMap};
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use pilot_proto::mesh::MeshConfig;

use super::cluster::BLACK_HOLE;
use super::filter::{FilterSettings, TcpChain};
use super::http::{HttpChain, Requests, Routes};
use super::listener::{Bind, Chain, ChainMatch, ListenerInputs, ListenerRole, Source, Then};
use super::route::HTTP_PROXY;
use super::{Families, Rejected};
use crate::api::sidecar::{CaptureMode, SidecarPort};
use crate::model::{Endpoint, Hostname, Protocol, Shared};
use crate::push::Routing;
use crate::scope::{Egress, Scope, Visible};
use chain::{Reading, fallback};
use merge::Merge;
use place::{places, unusable};

/// Everything a plan depends on.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct PlanInputs {
    /// The services.
    pub scope: Shared<Scope>,
    /// Endpoints of those services whose addresses are their endpoints', in the scope's order: see
    /// [`Scope::met_at_members`].
    pub members: Vec<Shared<[Endpoint]>>,
    /// The rest.
    pub settings: ListenerSettings,
}

/// What the listeners of a proxy depend on besides services.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct ListenerSettings {
    /// Address families of the proxy.
    pub families: Families,
    /// How connections reach it.
    pub capture: Capture,
    /// Ports that the proxy and its agent listen on themselves.
    pub reserved: BTreeSet<u16>,
    /// Where connections to nobody's address go.
    pub unknown: Arc<str>,
    /// How long a listener sniffs; zero: as long as it takes.
    pub detection_timeout: Duration,
    /// What filters say alike.
    pub filters: Arc<FilterSettings>,
}

/// How connections reach a proxy.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Capture {
    /// iptables redirects them to the virtual listeners; no other listener binds.
    Redirected(Source),
    /// Clients connect to loopback themselves, where every listener binds.
    Bound {
        /// Whether ports below 1024 can be bound.
        low_ports: LowPorts,
        /// Ports of the workload: whoever binds second, the proxy or the workload, would fail.
        workload: BTreeSet<u16>,
    },
}

/// Whether ports below 1024 can be bound.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum LowPorts {
    /// Yes.
    Free,
    /// No: the pod is unprivileged.
    Forbidden,
}

/// A listener of the plan.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Planned {
    /// The listener.
    pub inputs: Arc<ListenerInputs>,
    /// The endpoint whose address it listens on. That endpoint's own proxy must not have it: what a workload
    /// sends to itself does not leave.
    pub member: Option<IpAddr>,
}

/// A port of a listener in the making.
struct Spot<'a> {
    egress: &'a Egress,
    /// The rules for bytes among those of the egress listener.
    l4: &'a [&'a Shared<Routing>],
    /// 0 for Unix sockets.
    number: u16,
    protocol: Protocol,
    /// Whether clients connect to it themselves.
    bound: bool,
}

/// The outbound listeners of all services.
pub fn plan(inputs: &PlanInputs) -> (Vec<Planned>, Vec<Rejected>) {
    let mut merge = Merge::new(inputs);
    let with_members = inputs.scope.met_at_members().iter().map(|seen| &seen.service.hostname);
    let members: HashMap<&Hostname, &[Endpoint]> =
        with_members.zip(inputs.members.iter().map(|members| &**members)).collect();
    for egress in inputs.scope.egress().iter() {
        let l4: Vec<&Shared<Routing>> = egress
            .routings
            .iter()
            .filter(|routing| !routing.spec.tls.is_empty() || !routing.spec.tcp.is_empty())
            .collect();
        let bound = matches!(inputs.settings.capture, Capture::Bound { .. })
            || egress.capture == CaptureMode::None
            || egress.bind.starts_with("unix://");
        let spot = |number, protocol| Spot { egress, l4: &l4, number, protocol, bound };
        match &egress.port {
            Some(port) => {
                let spot = spot(u16::try_from(port.number).unwrap_or_default(), protocol(port));
                for seen in egress.services.iter() {
                    add(&mut merge, &spot, seen, &[]);
                }
            }
            None => {
                merge.lock();
                for seen in egress.services.iter() {
                    let members = members.get(&seen.service.hostname).copied().unwrap_or_default();
                    for port in seen.ports().filter(|port| seen.service.is_proxied_at(port)) {
                        add(&mut merge, &spot(port.port, port.protocol), seen, members);
                    }
                }
            }
        }
    }
    merge.finish()
}

fn add(merge: &mut Merge<'_>, spot: &Spot<'_>, seen: &Visible, members: &[Endpoint]) {
    let Some(reading) = Reading::of(spot.protocol) else { return };
    for place in places(merge.settings(), &seen.service, spot, reading, members) {
        match unusable(merge.settings(), &place, spot) {
            Some(reason) => merge.reject(&place, seen, spot, reason),
            None => merge.add(seen, spot, reading, &place),
        }
    }
}

/// What is spoken at a port of a `Sidecar`. At a proxy port it is HTTP, whatever the services speak.
fn protocol(port: &SidecarPort) -> Protocol {
    if port.protocol.eq_ignore_ascii_case("HTTP_PROXY") {
        Protocol::Http
    } else {
        Protocol::parse(&port.protocol)
    }
}

/// The listener that takes what iptables redirects and passes on what no other listener wants.
pub fn virtual_outbound(mesh: &MeshConfig, settings: &ListenerSettings) -> Option<ListenerInputs> {
    let Capture::Redirected(source) = &settings.capture else { return None };
    let port = mesh.proxy_listen_port;
    // A connection to the listener's own port would be passed on to itself.
    let loops = Chain {
        name: "virtualOutbound-blackhole".into(),
        matches: ChainMatch { port, ..ChainMatch::default() },
        then: Then::Tcp(TcpChain::to(BLACK_HOLE, Protocol::Tcp)),
        tls: None,
        decided_by: None,
    };
    let bind = settings.families.wildcard().into();
    let rest = Chain { name: "virtualOutbound-catchall-tcp".into(), ..fallback(settings) };
    Some(ListenerInputs {
        name: "virtualOutbound".into(),
        also: settings.families.beside(&bind),
        bind,
        port,
        role: ListenerRole::VirtualOutbound(*source),
        chains: vec![loops, rest],
        detection_timeout: settings.detection_timeout,
        filters: settings.filters.clone(),
    })
}

/// The listener for applications that are told to use a proxy (`HTTP_PROXY`).
pub fn http_proxy(port: u16, settings: &ListenerSettings) -> ListenerInputs {
    let bind = Bind::from(settings.families.loopback());
    let name = bind.listener(port);
    let http = HttpChain {
        stat_prefix: format!("outbound_{name};"),
        routes: Routes::Discovered(HTTP_PROXY.into()),
        protocol: Protocol::Http,
        requests: Requests::ToProxy,
        edge: None,
    };
    ListenerInputs {
        name,
        also: settings.families.beside(&bind),
        bind,
        port,
        role: ListenerRole::Bound,
        chains: vec![Chain {
            name: String::new(),
            matches: ChainMatch::default(),
            then: Then::Http(http),
            tls: None,
            decided_by: None,
        }],
        detection_timeout: settings.detection_timeout,
        filters: settings.filters.clone(),
    }
}
