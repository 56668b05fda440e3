//! Outbound listeners of a class of proxies, and the services that share each of them.
//!
//! ```text
//!            no entry         Tcp                    Sniffed
//! HTTP       Sniffed          merge ─▶ Sniffed       unchanged
//! TCP        Tcp              merge                  merge
//! undeclared Sniffed          merge ─▶ Sniffed       merge its TCP
//! ```
//!
//! "Merge" succeeds if the chain matches of the services differ. Otherwise the older service keeps the match and the other
//! one is reported. A listener in state `Sniffed` detects HTTP connections.
//!
//! With interception, HTTP services share a listener on the wildcard address, and their routes distinguish them by host. A
//! service with another protocol has a listener on its own address. Without interception (`NONE`) all listeners bind to
//! loopback. A `Sidecar` can define a port and bind address; only services of that egress listener use them.

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
use bind::{ProtocolMode, bind_error, service_binds};
use http_chain::passthrough_chain;
use merge::ListenerMerger;

/// Inputs of the outbound listener plan, and its cache key.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct PlanInputs {
    /// Services visible to the proxy.
    pub scope: Shared<Scope>,
    /// Endpoints of headless services, in the order of [`Scope::met_at_members`]; their addresses are bind addresses.
    pub headless_endpoints: Vec<Shared<[Endpoint]>>,
    /// Settings of the proxy.
    pub settings: ListenerSettings,
}

/// Settings of a proxy that its listeners depend on.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct ListenerSettings {
    /// IP families of the proxy.
    pub families: IpFamilies,
    /// Traffic interception.
    pub interception: Interception,
    /// Ports of the proxy and its agent.
    pub reserved_ports: BTreeSet<u16>,
    /// Cluster of connections to unknown destinations (`outboundTrafficPolicy`).
    pub fallback_cluster: Arc<str>,
    /// Timeout of protocol detection; zero: no timeout.
    pub detection_timeout: Duration,
    /// Settings that all filters share.
    pub filters: Arc<FilterSettings>,
}

/// Traffic interception of a proxy.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Interception {
    /// iptables redirects connections to the virtual listeners; no other listener binds to its port.
    Iptables(RedirectMode),
    /// Disabled (`NONE`): applications connect to listeners on loopback.
    Off {
        /// Permission to bind ports below 1024.
        privileged_ports: PrivilegedPorts,
        /// Ports of the workload. The proxy must not bind them, or the workload fails to.
        workload_ports: BTreeSet<u16>,
    },
}

/// Permission to bind ports below 1024.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum PrivilegedPorts {
    /// Granted.
    Allowed,
    /// Denied, because the pod is unprivileged.
    Forbidden,
}

/// Listener of the plan.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PlannedListener {
    /// The listener.
    pub inputs: Arc<ListenerInputs>,
    /// Bind address if it is an endpoint of a headless service. The proxy of this endpoint does not receive the
    /// listener: connections of a workload to itself are not outbound.
    pub endpoint_address: Option<IpAddr>,
}

/// Port of a listener, and the egress listener that requests it.
struct ListenerPort<'a> {
    egress: &'a Egress,
    /// Rules of the egress listener with TLS or TCP routes.
    tcp_rules: &'a [&'a Shared<Routing>],
    /// 0 for Unix sockets.
    number: u16,
    protocol: Protocol,
    /// The listener binds to the port; applications connect to it.
    bound: bool,
}

/// Plans the outbound listeners of all services.
pub fn plan(inputs: &PlanInputs) -> (Vec<PlannedListener>, Vec<Rejected>) {
    let mut merger = ListenerMerger::new(inputs);
    let headless = inputs.scope.met_at_members().iter().map(|visible| &visible.service.hostname);
    let endpoints: HashMap<&Hostname, &[Endpoint]> =
        headless.zip(inputs.headless_endpoints.iter().map(|endpoints| &**endpoints)).collect();
    for egress in inputs.scope.egress().iter() {
        let tcp_rules: Vec<&Shared<Routing>> = egress
            .routings
            .iter()
            .filter(|routing| !routing.spec.tls.is_empty() || !routing.spec.tcp.is_empty())
            .collect();
        let bound = matches!(inputs.settings.interception, Interception::Off { .. })
            || egress.capture == CaptureMode::None
            || egress.bind.starts_with("unix://");
        let listener_port =
            |number, protocol| ListenerPort { egress, tcp_rules: &tcp_rules, number, protocol, bound };
        match &egress.port {
            Some(port) => {
                let listener_port =
                    listener_port(u16::try_from(port.number).unwrap_or_default(), protocol(port));
                for visible in egress.services.iter() {
                    add(&mut merger, &listener_port, visible, &[]);
                }
            }
            None => {
                merger.lock();
                for visible in egress.services.iter() {
                    let endpoints = endpoints.get(&visible.service.hostname).copied().unwrap_or_default();
                    for port in visible.ports().filter(|port| visible.service.is_proxied_at(port)) {
                        add(&mut merger, &listener_port(port.port, port.protocol), visible, endpoints);
                    }
                }
            }
        }
    }
    merger.finish()
}

fn add(
    merger: &mut ListenerMerger<'_>,
    listener_port: &ListenerPort<'_>,
    visible: &Visible,
    endpoints: &[Endpoint],
) {
    let Some(protocol_mode) = ProtocolMode::of(listener_port.protocol) else { return };
    for service_bind in
        service_binds(merger.settings(), &visible.service, listener_port, protocol_mode, endpoints)
    {
        match bind_error(merger.settings(), &service_bind, listener_port) {
            Some(reason) => merger.reject(&service_bind, visible, listener_port, reason),
            None => merger.add(visible, listener_port, protocol_mode, &service_bind),
        }
    }
}

/// Returns the protocol of a `Sidecar` port; a proxy port accepts HTTP.
fn protocol(port: &SidecarPort) -> Protocol {
    if port.protocol.eq_ignore_ascii_case("HTTP_PROXY") {
        Protocol::Http
    } else {
        Protocol::parse(&port.protocol)
    }
}

/// Returns the listener that iptables redirects outbound connections to. Its catch-all chain handles unknown destinations.
pub fn virtual_outbound(mesh: &MeshConfig, settings: &ListenerSettings) -> Option<ListenerInputs> {
    let Interception::Iptables(mode) = &settings.interception else { return None };
    let port = mesh.proxy_listen_port;
    // A connection to the port of this listener would loop.
    let blackhole = FilterChainInputs {
        name: "virtualOutbound-blackhole".into(),
        matches: ChainMatch { port, ..ChainMatch::default() },
        terminal_filter: TerminalFilter::Tcp(TcpChain::to(BLACK_HOLE, Protocol::Tcp)),
        tls: None,
        config: None,
    };
    let bind = BindAddress::from(settings.families.wildcard());
    let catch_all =
        FilterChainInputs { name: "virtualOutbound-catchall-tcp".into(), ..passthrough_chain(settings) };
    Some(ListenerInputs {
        name: "virtualOutbound".into(),
        additional_addresses: bind.additional_addresses(settings.families),
        bind,
        port,
        role: ListenerRole::VirtualOutbound(*mode),
        chains: vec![blackhole, catch_all],
        detection_timeout: settings.detection_timeout,
        filters: settings.filters.clone(),
    })
}

/// Returns the listener for applications with an HTTP proxy setting (`HTTP_PROXY`).
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
