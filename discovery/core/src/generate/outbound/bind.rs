//! On which addresses a service is listened for, and where the proxy must not listen.

use std::collections::BTreeSet;
use std::net::IpAddr;

use super::http_chain::ProtocolMode;
use super::{Interception, ListenerPort, ListenerSettings, PrivilegedPorts};
use crate::generate::listener::BindAddress;
use crate::generate::proto::masked;
use crate::generate::{IpFamilies, RejectReason};
use crate::model::{Endpoint, EndpointAddress, Registry, Service, Vip};

/// Where a listener of a service stands.
pub(super) struct ServiceBind {
    pub(super) bind: BindAddress,
    pub(super) networks: Vec<Vip>,
    pub(super) whose: Sharing,
}

/// Who uses an address.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Sharing {
    /// Every service.
    Shared,
    /// This service alone.
    Service,
    /// This service's endpoint alone.
    Endpoint,
}

/// Where listeners for a port of a service stand.
pub(super) fn service_binds(
    settings: &ListenerSettings,
    service: &Service,
    listener_port: &ListenerPort<'_>,
    reading: ProtocolMode,
    endpoints: &[Endpoint],
) -> Vec<ServiceBind> {
    let families = settings.families;
    if let Some(bind) = BindAddress::parse(&listener_port.egress.bind) {
        return vec![ServiceBind { bind, networks: Vec::new(), whose: Sharing::Shared }];
    }
    if listener_port.bound {
        return vec![ServiceBind::everyones(families.loopback())];
    }
    if reading == ProtocolMode::Http {
        return vec![ServiceBind::everyones(families.wildcard())];
    }
    let mut declared = service.addresses.iter().filter(|vip| !vip.ip.is_unspecified()).peekable();
    if declared.peek().is_none() {
        // A plain ServiceEntry without addresses: the application has resolved the name, to anything.
        let anywhere = !service.registry.has_pods()
            && service.selector.is_empty()
            && !endpoints.iter().any(|endpoint| serves(endpoint, service, listener_port));
        if !service.is_met_at_members() || anywhere {
            return vec![ServiceBind::everyones(families.wildcard())];
        }
        return members(endpoints, service, listener_port, families);
    }
    // What a ServiceEntry declares need not be routable, so it is matched whatever the proxy's families.
    let usable = |vip: &&Vip| service.registry == Registry::External || families.contains(vip.ip);
    let (hosts, networks): (Vec<Vip>, Vec<Vip>) =
        declared.filter(usable).copied().partition(|vip| vip.is_host());
    let networks: BTreeSet<Vip> =
        networks.into_iter().map(|vip| Vip { ip: masked(vip), prefix: vip.prefix }).collect();
    let mut service_binds: Vec<ServiceBind> = hosts
        .into_iter()
        .map(|vip| ServiceBind { bind: vip.ip.into(), networks: Vec::new(), whose: Sharing::Service })
        .collect();
    if !networks.is_empty() {
        let networks = networks.into_iter().collect();
        service_binds.push(ServiceBind { networks, ..ServiceBind::everyones(families.wildcard()) });
    }
    service_binds
}

/// Why no listener can stand there, if so.
pub(super) fn unusable(
    settings: &ListenerSettings,
    service_bind: &ServiceBind,
    listener_port: &ListenerPort<'_>,
) -> Option<RejectReason> {
    let port = listener_port.number;
    if matches!(service_bind.bind, BindAddress::Unix(_)) {
        return None;
    }
    if !listener_port.bound {
        let taken = service_bind.bind.is_wildcard() && settings.reserved_ports.contains(&port);
        return taken.then_some(RejectReason::ReservedPort);
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

fn members(
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
        .map(|ip| ServiceBind { bind: ip.into(), networks: Vec::new(), whose: Sharing::Endpoint })
        .collect()
}

/// Whether an endpoint serves the port of the service.
fn serves(endpoint: &Endpoint, service: &Service, listener_port: &ListenerPort<'_>) -> bool {
    let mut ports = service.ports.iter().filter(|port| port.port == listener_port.number);
    ports.any(|port| port.name == endpoint.port_name)
}

// === impl ServiceBind ===

impl ServiceBind {
    const fn everyones(ip: IpAddr) -> Self {
        Self { bind: BindAddress::Ip(ip), networks: Vec::new(), whose: Sharing::Shared }
    }
}
