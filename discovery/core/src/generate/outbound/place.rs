//! On which addresses a service is listened for, and where the proxy must not listen.

use std::collections::BTreeSet;
use std::net::IpAddr;

use super::chain::Reading;
use super::{Capture, ListenerSettings, LowPorts};
use crate::generate::proto::masked;
use crate::generate::{Families, Reason};
use crate::model::{Endpoint, EndpointAddress, Registry, Service, ServicePort, Vip};

/// Where a listener of a service stands.
pub(super) struct Place {
    pub(super) ip: IpAddr,
    pub(super) networks: Vec<Vip>,
    pub(super) whose: Whose,
}

/// Who uses an address.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Whose {
    /// Every service.
    Everyones,
    /// This service alone.
    Services,
    /// This service's endpoint alone.
    Members,
}

/// Where listeners for a port of a service stand.
pub(super) fn places(
    settings: &ListenerSettings,
    service: &Service,
    port: &ServicePort,
    reading: Reading,
    endpoints: &[Endpoint],
) -> Vec<Place> {
    let families = settings.families;
    if matches!(settings.capture, Capture::Bound { .. }) {
        return vec![Place::everyones(families.loopback())];
    }
    if reading == Reading::Http {
        return vec![Place::everyones(families.wildcard())];
    }
    let mut declared = service.addresses.iter().filter(|vip| !vip.ip.is_unspecified()).peekable();
    if declared.peek().is_none() {
        // A plain ServiceEntry without addresses: the application has resolved the name, to anything.
        let anywhere = service.registry != Registry::Kubernetes
            && service.selector.is_empty()
            && !endpoints.iter().any(|endpoint| endpoint.port_name == port.name);
        if !service.is_met_at_members() || anywhere {
            return vec![Place::everyones(families.wildcard())];
        }
        return members(endpoints, port, families);
    }
    // What a ServiceEntry declares need not be routable, so it is matched whatever the proxy's families.
    let usable = |vip: &&Vip| service.registry == Registry::External || families.contain(vip.ip);
    let (hosts, networks): (Vec<Vip>, Vec<Vip>) =
        declared.filter(usable).copied().partition(|vip| vip.is_host());
    let networks: BTreeSet<Vip> =
        networks.into_iter().map(|vip| Vip { ip: masked(vip), prefix: vip.prefix }).collect();
    let mut places: Vec<Place> = hosts
        .into_iter()
        .map(|vip| Place { ip: vip.ip, networks: Vec::new(), whose: Whose::Services })
        .collect();
    if !networks.is_empty() {
        let networks = networks.into_iter().collect();
        places.push(Place { networks, ..Place::everyones(families.wildcard()) });
    }
    places
}

/// Why no listener can stand there, if so.
pub(super) fn unusable(settings: &ListenerSettings, place: &Place, port: u16) -> Option<Reason> {
    match &settings.capture {
        Capture::Redirected(_) => {
            (place.ip.is_unspecified() && settings.reserved.contains(&port)).then_some(Reason::ReservedPort)
        }
        Capture::Bound { low_ports, workload } => {
            if settings.reserved.contains(&port) {
                Some(Reason::ReservedPort)
            } else if *low_ports == LowPorts::Forbidden && port < 1024 {
                Some(Reason::PrivilegedPort)
            } else if workload.contains(&port) {
                Some(Reason::WorkloadPort)
            } else {
                None
            }
        }
    }
}

fn members(endpoints: &[Endpoint], port: &ServicePort, families: Families) -> Vec<Place> {
    let ips: BTreeSet<IpAddr> = endpoints
        .iter()
        .filter(|endpoint| endpoint.port_name == port.name)
        .filter_map(|endpoint| match endpoint.address {
            EndpointAddress::Ip(ip) => Some(ip),
            EndpointAddress::Unix(_) | EndpointAddress::Dns(_) => None,
        })
        .filter(|ip| families.contain(*ip))
        .collect();
    ips.into_iter().map(|ip| Place { ip, networks: Vec::new(), whose: Whose::Members }).collect()
}

// === impl Place ===

impl Place {
    const fn everyones(ip: IpAddr) -> Self {
        Self { ip, networks: Vec::new(), whose: Whose::Everyones }
    }

    pub(super) fn listener(&self, port: u16) -> String {
        format!("{}_{port}", self.ip)
    }
}
