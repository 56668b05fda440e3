//! Inbound listeners: the virtual inbound listener with filter chains for each port of the workload.
//!
//! The chains are those of Istio's mTLS mode DISABLE: TLS is passed to the workload without termination. The TLS chains of
//! PERMISSIVE need certificates, and without an SDS server the listener would not finish warming.
//!
//! Without interception there are no inbound listeners: the workload binds its ports itself. The ingress listeners of a
//! `Sidecar` replace the ports of the services.

use std::collections::{BTreeMap, BTreeSet};

use pilot_proto::mesh::MeshConfig;

use super::cluster::{BLACK_HOLE, INBOUND_PASSTHROUGH};
use super::http_connection_manager::{HttpChain, RequestTarget, RouteSource};
use super::listener::{
    BindAddress, ChainMatch, DetectedProtocol, FilterChainInputs, ListenerInputs, ListenerRole,
    TerminalFilter,
};
use super::network_filters::TcpChain;
use super::outbound::{Interception, ListenerSettings, PrivilegedPorts};
use super::route::InboundRoute;
use super::stat_name::StatNameVariables;
use super::{RejectReason, Rejected};
use crate::api::Sidecar;
use crate::api::sidecar::{CaptureMode, IngressListener};
use crate::model::{ClusterName, ConfigObject, ConfigSpec, Protocol, Shared};
use crate::push::ServiceTarget;

/// Services by port of the workload; the first service of a port takes precedence.
pub type Targets<'a> = BTreeMap<u16, Vec<&'a ServiceTarget>>;

/// Groups services by port of the workload, without reserved ports.
pub fn targets<'a>(
    all: &'a [ServiceTarget],
    interception: &Interception,
    reserved_ports: &BTreeSet<u16>,
) -> (Targets<'a>, Vec<Rejected>) {
    let mut by_port = Targets::new();
    let mut rejected = Vec::new();
    if matches!(interception, Interception::Off { .. }) {
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
        if reserved_ports.contains(&target.target_port) {
            reject(RejectReason::ReservedPort);
            continue;
        }
        let services = by_port.entry(target.target_port).or_default();
        if let Some(first) = services.first()
            && first.port.protocol != target.port.protocol
            && first.service.hostname != target.service.hostname
        {
            reject(RejectReason::InboundProtocol { existing: first.service.hostname.clone() });
        }
        services.push(target);
    }
    (by_port, rejected)
}

/// Port of the workload that the proxy serves.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct InboundPort {
    /// Port number.
    pub number: u16,
    /// Bind address of a listener of its own; `None`: iptables redirects connections.
    pub bound: Option<BindAddress>,
    /// Protocol of the port.
    pub protocol: Protocol,
    /// Hostname of the service, for traces.
    pub host: String,
    /// Port of the service, for traces.
    pub service_port: u16,
    /// Statistics prefix of TCP connections; `None`: the name of the cluster.
    pub stat_name: Option<String>,
    /// `Sidecar` that defines the port.
    pub config: Option<Shared<ConfigObject>>,
}

/// Returns the ports that the proxy serves: those of the `Sidecar`, else those of the services.
pub fn ports(
    targets: &Targets<'_>,
    sidecar: Option<&Shared<ConfigObject>>,
    settings: &ListenerSettings,
) -> (Vec<InboundPort>, Vec<Rejected>) {
    if let Some(object) = sidecar
        && let ConfigSpec::Sidecar(Sidecar { ingress, .. }) = &object.spec
        && !ingress.is_empty()
    {
        return ingress_ports(object, ingress, settings);
    }
    let ports = targets.iter().filter_map(|(number, services)| {
        let first = services.first()?;
        let (service, port) = (&*first.service, &first.port);
        let stat_name_variables = StatNameVariables { service, port, subset: "", target: Some(*number) };
        Some(InboundPort {
            number: *number,
            bound: None,
            protocol: first.port.protocol,
            host: first.service.hostname.to_string(),
            service_port: first.port.port,
            stat_name: stat_name_variables.expand(&settings.filters.stat_name),
            config: None,
        })
    });
    (ports.collect(), Vec::new())
}

/// Returns the ports of the ingress listeners of a `Sidecar`.
fn ingress_ports(
    object: &Shared<ConfigObject>,
    ingress: &[IngressListener],
    settings: &ListenerSettings,
) -> (Vec<InboundPort>, Vec<Rejected>) {
    let mut ports: BTreeMap<u16, InboundPort> = BTreeMap::new();
    let mut rejected = Vec::new();
    let host = format!("{}.{}", object.meta.name, object.meta.namespace);
    for listener in ingress {
        let Some(port) = &listener.port else { continue };
        let Ok(number) = u16::try_from(port.number) else { continue };
        let bound = match (listener.capture_mode, &settings.interception) {
            (CaptureMode::None, _) | (CaptureMode::Default, Interception::Off { .. }) => Some(
                BindAddress::parse(&listener.bind).unwrap_or_else(|| settings.families.wildcard().into()),
            ),
            _ => None,
        };
        let privileged_forbidden = matches!(
            &settings.interception,
            Interception::Off { privileged_ports: PrivilegedPorts::Forbidden, .. }
        );
        let reason = if settings.reserved_ports.contains(&number) {
            Some(RejectReason::ReservedPort)
        } else if bound.is_some() && privileged_forbidden && number < 1024 {
            Some(RejectReason::PrivilegedPort)
        } else {
            ports
                .get(&number)
                .map(|first| RejectReason::InboundProtocol { existing: first.host.as_str().into() })
        };
        if let Some(reason) = reason {
            let subject = ClusterName::inbound(number).to_string();
            rejected.push(Rejected { subject, service: host.as_str().into(), reason });
            continue;
        }
        let protocol = Protocol::parse(&port.protocol);
        let (host, config) = (host.clone(), Some(object.clone()));
        // A port of a `Sidecar` does not belong to a service.
        let stat_name = None;
        let port = InboundPort { number, bound, protocol, host, service_port: number, stat_name, config };
        ports.insert(number, port);
    }
    (ports.into_values().collect(), rejected)
}

/// Returns the listeners of ports with a bind address of their own.
pub fn bound_listeners<'a>(
    ports: &'a [InboundPort],
    settings: &'a ListenerSettings,
) -> impl Iterator<Item = ListenerInputs> + 'a {
    ports.iter().filter_map(|port| {
        let bind = port.bound.clone()?;
        Some(ListenerInputs {
            name: bind.listener_name(port.number),
            additional_addresses: bind.additional_addresses(settings.families),
            port: port.number,
            role: ListenerRole::BoundInbound,
            chains: port_chains(port, &bind),
            bind,
            detection_timeout: settings.detection_timeout,
            filters: settings.filters.clone(),
        })
    })
}

/// Returns the listener that iptables redirects inbound connections to.
pub fn virtual_inbound(
    ports: &[InboundPort],
    mesh: &MeshConfig,
    settings: &ListenerSettings,
) -> Option<ListenerInputs> {
    let Interception::Iptables(source) = &settings.interception else { return None };
    let port = mesh.proxy_inbound_listen_port;
    let bind = BindAddress::from(settings.families.wildcard());
    // A connection to the port of this listener would loop.
    let mut chains = vec![FilterChainInputs {
        name: "virtualInbound-blackhole".into(),
        matches: ChainMatch { port, ..ChainMatch::default() },
        terminal_filter: TerminalFilter::Tcp(TcpChain::to(BLACK_HOLE, Protocol::Tcp)),
        tls: None,
        config: None,
    }];
    chains.extend(catch_all_chains());
    for served in ports.iter().filter(|port| port.bound.is_none()) {
        chains.extend(port_chains(served, &bind));
    }
    Some(ListenerInputs {
        name: "virtualInbound".into(),
        additional_addresses: bind.additional_addresses(settings.families),
        bind,
        port,
        role: ListenerRole::VirtualInbound(*source),
        chains,
        detection_timeout: settings.detection_timeout,
        filters: settings.filters.clone(),
    })
}

/// Returns the chains of ports without a service, such as health checks and metrics.
fn catch_all_chains() -> [FilterChainInputs; 2] {
    let route = InboundRoute {
        cluster: INBOUND_PASSTHROUGH.into(),
        host: String::new(),
        port: 0,
        protocol: Protocol::Auto,
    };
    let [http, tcp] = sniffed_chains(0, route, format!("{INBOUND_PASSTHROUGH};"), None);
    [
        FilterChainInputs { name: "virtualInbound-catchall-http".into(), ..http },
        FilterChainInputs { name: "virtualInbound".into(), ..tcp },
    ]
}

fn port_chains(port: &InboundPort, bind: &BindAddress) -> Vec<FilterChainInputs> {
    let name = bind.listener_name(port.number);
    let route = InboundRoute {
        cluster: ClusterName::inbound(port.number).to_string(),
        host: port.host.clone(),
        port: port.service_port,
        protocol: port.protocol,
    };
    let prefix = format!("inbound_{name};");
    let chains: Vec<FilterChainInputs> = match port.protocol {
        Protocol::Auto => sniffed_chains(port.number, route, prefix, port.stat_name.as_deref()).into(),
        protocol if protocol.is_http() || protocol == Protocol::Hbone => {
            vec![http(port.number, DetectedProtocol::Plaintext, route, prefix)]
        }
        _ => vec![tcp(port.number, &route, port.stat_name.as_deref())],
    };
    let with_config = |chain| FilterChainInputs { name: name.clone(), config: port.config.clone(), ..chain };
    chains.into_iter().map(with_config).collect()
}

fn sniffed_chains(
    port: u16,
    route: InboundRoute,
    stat_prefix: String,
    stat_name: Option<&str>,
) -> [FilterChainInputs; 2] {
    let bytes = tcp(port, &route, stat_name);
    [http(port, DetectedProtocol::PlaintextHttp, route, stat_prefix), bytes]
}

fn http(
    port: u16,
    protocol: DetectedProtocol,
    route: InboundRoute,
    stat_prefix: String,
) -> FilterChainInputs {
    FilterChainInputs {
        name: String::new(),
        matches: ChainMatch { port, protocol, ..ChainMatch::default() },
        terminal_filter: TerminalFilter::Http(HttpChain {
            stat_prefix,
            protocol: route.protocol,
            routes: RouteSource::Inline(route),
            request_target: RequestTarget::OriginForm,
            topology: None,
        }),
        tls: None,
        config: None,
    }
}

fn tcp(port: u16, route: &InboundRoute, stat_name: Option<&str>) -> FilterChainInputs {
    let to = TcpChain::to(route.cluster.clone(), route.protocol);
    FilterChainInputs {
        name: String::new(),
        matches: ChainMatch { port, protocol: DetectedProtocol::Plaintext, ..ChainMatch::default() },
        terminal_filter: TerminalFilter::Tcp(match stat_name {
            Some(named) => TcpChain { stat_prefix: named.to_owned(), ..to },
            None => to,
        }),
        tls: None,
        config: None,
    }
}
