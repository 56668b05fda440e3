//! Bind addresses of the listeners of a service, and ports that the proxy must not bind.

use std::collections::BTreeSet;
use std::net::IpAddr;

use super::{Interception, ListenerPort, ListenerSettings, PrivilegedPorts};
use crate::generate::listener::BindAddress;
use crate::generate::proto::masked;
use crate::generate::{IpFamilies, RejectReason};
use crate::model::{Endpoint, EndpointAddress, Protocol, Registry, Service, Vip};

/// Bind address of a listener for a service.
pub(super) struct ServiceBind {
    pub(super) bind: BindAddress,
    /// Destination networks that the filter chains match; empty: any.
    pub(super) networks: Vec<Vip>,
    pub(super) sharing: Sharing,
}

/// Services that share a bind address.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Sharing {
    /// All services.
    Shared,
    /// One service.
    Service,
    /// One endpoint of a headless service.
    Endpoint,
}

/// Treatment of the protocol of a port.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum ProtocolMode {
    /// HTTP.
    Http,
    /// Any protocol that is not parsed.
    Tcp,
    /// Detected per connection.
    Auto,
}

/// Returns the bind addresses of the listeners for a port of a service.
pub(super) fn service_binds(
    settings: &ListenerSettings,
    service: &Service,
    listener_port: &ListenerPort<'_>,
    protocol_mode: ProtocolMode,
    endpoints: &[Endpoint],
) -> Vec<ServiceBind> {
    let families = settings.families;
    if let Some(bind) = BindAddress::parse(&listener_port.egress.bind) {
        return vec![ServiceBind { bind, networks: Vec::new(), sharing: Sharing::Shared }];
    }
    if listener_port.bound {
        return vec![ServiceBind::shared(families.loopback())];
    }
    if protocol_mode == ProtocolMode::Http {
        return vec![ServiceBind::shared(families.wildcard())];
    }
    let mut declared = service.addresses.iter().filter(|vip| !vip.ip.is_unspecified()).peekable();
    if declared.peek().is_none() {
        // The application resolves a ServiceEntry without addresses and endpoints; its connections may have any address.
        let any_address = !service.registry.has_pods()
            && service.selector.is_empty()
            && !endpoints.iter().any(|endpoint| serves(endpoint, service, listener_port));
        if !service.is_met_at_members() || any_address {
            return vec![ServiceBind::shared(families.wildcard())];
        }
        return endpoint_binds(endpoints, service, listener_port, families);
    }
    // Addresses of a ServiceEntry need not be routable, so the IP families of the proxy do not matter.
    let usable = |vip: &&Vip| service.registry == Registry::External || families.contains(vip.ip);
    let (hosts, networks): (Vec<Vip>, Vec<Vip>) =
        declared.filter(usable).copied().partition(|vip| vip.is_host());
    let networks: BTreeSet<Vip> =
        networks.into_iter().map(|vip| Vip { ip: masked(vip), prefix: vip.prefix }).collect();
    let mut service_binds: Vec<ServiceBind> = hosts
        .into_iter()
        .map(|vip| ServiceBind { bind: vip.ip.into(), networks: Vec::new(), sharing: Sharing::Service })
        .collect();
    if !networks.is_empty() {
        let networks = networks.into_iter().collect();
        service_binds.push(ServiceBind { networks, ..ServiceBind::shared(families.wildcard()) });
    }
    service_binds
}

/// Returns the reason why the proxy cannot bind the port, if there is one.
pub(super) fn bind_error(
    settings: &ListenerSettings,
    service_bind: &ServiceBind,
    listener_port: &ListenerPort<'_>,
) -> Option<RejectReason> {
    let port = listener_port.number;
    if matches!(service_bind.bind, BindAddress::Unix(_)) {
        return None;
    }
    if !listener_port.bound {
        let reserved = service_bind.bind.is_wildcard() && settings.reserved_ports.contains(&port);
        return reserved.then_some(RejectReason::ReservedPort);
    }
    if settings.reserved_ports.contains(&port) {
        return Some(RejectReason::ReservedPort);
    }
    let Interception::Off { privileged_ports, workload_ports } = &settings.interception else { return None };
    if *privileged_ports == PrivilegedPorts::Forbidden && port < 1024 {
        Some(RejectReason::PrivilegedPort)
    } else if workload_ports.contains(&port) {
        Some(RejectReason::WorkloadPort)
    } else {
        None
    }
}

/// Returns one bind address per endpoint of a headless service.
fn endpoint_binds(
    endpoints: &[Endpoint],
    service: &Service,
    listener_port: &ListenerPort<'_>,
    families: IpFamilies,
) -> Vec<ServiceBind> {
    let ips: BTreeSet<IpAddr> = endpoints
        .iter()
        .filter(|endpoint| serves(endpoint, service, listener_port))
        .filter_map(|endpoint| match endpoint.address {
            EndpointAddress::Ip(ip) => Some(ip),
            EndpointAddress::Unix(_) | EndpointAddress::Dns(_) => None,
        })
        .filter(|ip| families.contains(*ip))
        .collect();
    ips.into_iter()
        .map(|ip| ServiceBind { bind: ip.into(), networks: Vec::new(), sharing: Sharing::Endpoint })
        .collect()
}

/// Returns true if the endpoint serves the port of the service.
fn serves(endpoint: &Endpoint, service: &Service, listener_port: &ListenerPort<'_>) -> bool {
    let mut ports = service.ports.iter().filter(|port| port.port == listener_port.number);
    ports.any(|port| port.name == endpoint.port_name)
}

// === impl ServiceBind ===

impl ServiceBind {
    const fn shared(ip: IpAddr) -> Self {
        Self { bind: BindAddress::Ip(ip), networks: Vec::new(), sharing: Sharing::Shared }
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
