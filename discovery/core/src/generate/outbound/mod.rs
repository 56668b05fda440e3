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

mod bind;
mod http_chain;
mod merge;
mod tcp_chains;

use std::collections::{BTreeSet, HashMap};
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use pilot_proto::mesh::MeshConfig;

use super::cluster::BLACK_HOLE;
use super::http_connection_manager::{HttpChain, RequestTarget, RouteSource};
use super::listener::{
    BindAddress, ChainMatch, FilterChainInputs, ListenerInputs, ListenerRole, RedirectMode, TerminalFilter,
};
use super::network_filters::{FilterSettings, TcpChain};
use super::route::HTTP_PROXY;
use super::{IpFamilies, Rejected};
use crate::api::sidecar::{CaptureMode, SidecarPort};
use crate::model::{Endpoint, Hostname, Protocol, Shared};
use crate::push::Routing;
use crate::scope::{Egress, Scope, Visible};
use bind::{service_binds, unusable};
use http_chain::{ProtocolMode, fallback};
use merge::ListenerMerger;

/// Everything a plan depends on.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct PlanInputs {
    /// The services.
    pub scope: Shared<Scope>,
    /// Endpoints of those services whose addresses are their endpoints', in the scope's order: see
    /// [`Scope::met_at_members`].
    pub headless_endpoints: Vec<Shared<[Endpoint]>>,
    /// The rest.
    pub settings: ListenerSettings,
}

/// What the listeners of a proxy depend on besides services.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct ListenerSettings {
    /// Address families of the proxy.
    pub families: IpFamilies,
    /// How connections reach it.
    pub interception: Interception,
    /// Ports that the proxy and its agent listen on themselves.
    pub reserved_ports: BTreeSet<u16>,
    /// Where connections to nobody's address go.
    pub fallback_cluster: Arc<str>,
    /// How long a listener sniffs; zero: as long as it takes.
    pub detection_timeout: Duration,
    /// What filters say alike.
    pub filters: Arc<FilterSettings>,
}

/// How connections reach a proxy.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Interception {
    /// iptables redirects them to the virtual listeners; no other listener binds.
    Iptables(RedirectMode),
    /// Clients connect to loopback themselves, where every listener binds.
    Off {
        /// Whether ports below 1024 can be bound.
        privileged_ports: PrivilegedPorts,
        /// Ports of the workload: whoever binds second, the proxy or the workload, would fail.
        workload_ports: BTreeSet<u16>,
    },
}

/// Whether ports below 1024 can be bound.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum PrivilegedPorts {
    /// Yes.
    Allowed,
    /// No: the pod is unprivileged.
    Forbidden,
}

/// A listener of the plan.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PlannedListener {
    /// The listener.
    pub inputs: Arc<ListenerInputs>,
    /// The endpoint whose address it listens on. That endpoint's own proxy must not have it: what a workload
    /// sends to itself does not leave.
    pub endpoint_address: Option<IpAddr>,
}

/// A port of a listener in the making.
struct ListenerPort<'a> {
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
pub fn plan(inputs: &PlanInputs) -> (Vec<PlannedListener>, Vec<Rejected>) {
    let mut merge = ListenerMerger::new(inputs);
    let with_members = inputs.scope.met_at_members().iter().map(|visible| &visible.service.hostname);
    let members: HashMap<&Hostname, &[Endpoint]> =
        with_members.zip(inputs.headless_endpoints.iter().map(|members| &**members)).collect();
    for egress in inputs.scope.egress().iter() {
        let l4: Vec<&Shared<Routing>> = egress
            .routings
            .iter()
            .filter(|routing| !routing.spec.tls.is_empty() || !routing.spec.tcp.is_empty())
            .collect();
        let bound = matches!(inputs.settings.interception, Interception::Off { .. })
            || egress.capture == CaptureMode::None
            || egress.bind.starts_with("unix://");
        let listener_port = |number, protocol| ListenerPort { egress, l4: &l4, number, protocol, bound };
        match &egress.port {
            Some(port) => {
                let listener_port =
                    listener_port(u16::try_from(port.number).unwrap_or_default(), protocol(port));
                for visible in egress.services.iter() {
                    add(&mut merge, &listener_port, visible, &[]);
                }
            }
            None => {
                merge.lock();
                for visible in egress.services.iter() {
                    let members = members.get(&visible.service.hostname).copied().unwrap_or_default();
                    for port in visible.ports().filter(|port| visible.service.is_proxied_at(port)) {
                        add(&mut merge, &listener_port(port.port, port.protocol), visible, members);
                    }
                }
            }
        }
    }
    merge.finish()
}

fn add(
    merge: &mut ListenerMerger<'_>,
    listener_port: &ListenerPort<'_>,
    visible: &Visible,
    members: &[Endpoint],
) {
    let Some(reading) = ProtocolMode::of(listener_port.protocol) else { return };
    for service_bind in service_binds(merge.settings(), &visible.service, listener_port, reading, members) {
        match unusable(merge.settings(), &service_bind, listener_port) {
            Some(reason) => merge.reject(&service_bind, visible, listener_port, reason),
            None => merge.add(visible, listener_port, reading, &service_bind),
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
    let Interception::Iptables(source) = &settings.interception else { return None };
    let port = mesh.proxy_listen_port;
    // A connection to the listener's own port would be passed on to itself.
    let loops = FilterChainInputs {
        name: "virtualOutbound-blackhole".into(),
        matches: ChainMatch { port, ..ChainMatch::default() },
        terminal_filter: TerminalFilter::Tcp(TcpChain::to(BLACK_HOLE, Protocol::Tcp)),
        tls: None,
        config: None,
    };
    let bind = BindAddress::from(settings.families.wildcard());
    let rest = FilterChainInputs { name: "virtualOutbound-catchall-tcp".into(), ..fallback(settings) };
    Some(ListenerInputs {
        name: "virtualOutbound".into(),
        additional_addresses: bind.additional_addresses(settings.families),
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
    let bind = BindAddress::from(settings.families.loopback());
    let name = bind.listener_name(port);
    let http = HttpChain {
        stat_prefix: format!("outbound_{name};"),
        routes: RouteSource::Rds(HTTP_PROXY.into()),
        protocol: Protocol::Http,
        request_target: RequestTarget::AbsoluteForm,
        topology: None,
    };
    ListenerInputs {
        name,
        additional_addresses: bind.additional_addresses(settings.families),
        bind,
        port,
        role: ListenerRole::Bound,
        chains: vec![FilterChainInputs {
            name: String::new(),
            matches: ChainMatch::default(),
            terminal_filter: TerminalFilter::Http(http),
            tls: None,
            config: None,
        }],
        detection_timeout: settings.detection_timeout,
        filters: settings.filters.clone(),
    }
}
