//! On which addresses a service is listened for, and where the proxy must not listen.

use std::collections::BTreeSet;
use std::net::IpAddr;

use super::chain::Reading;
use super::{Capture, ListenerSettings, LowPorts, Spot};
use crate::generate::listener::Bind;
use crate::generate::proto::masked;
use crate::generate::{Families, Reason};
use crate::model::{Endpoint, EndpointAddress, Registry, Service, Vip};

/// Where a listener of a service stands.
pub(super) struct Place {
    pub(super) bind: Bind,
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
    spot: &Spot<'_>,
    reading: Reading,
    endpoints: &[Endpoint],
) -> Vec<Place> {
    let families = settings.families;
    if let Some(bind) = Bind::parse(&spot.egress.bind) {
        return vec![Place { bind, networks: Vec::new(), whose: Whose::Everyones }];
    }
    if spot.bound {
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
            && !endpoints.iter().any(|endpoint| serves(endpoint, service, spot));
        if !service.is_met_at_members() || anywhere {
            return vec![Place::everyones(families.wildcard())];
        }
        return members(endpoints, service, spot, families);
    }
    // What a ServiceEntry declares need not be routable, so it is matched whatever the proxy's families.
    let usable = |vip: &&Vip| service.registry == Registry::External || families.contain(vip.ip);
    let (hosts, networks): (Vec<Vip>, Vec<Vip>) =
        declared.filter(usable).copied().partition(|vip| vip.is_host());
    let networks: BTreeSet<Vip> =
        networks.into_iter().map(|vip| Vip { ip: masked(vip), prefix: vip.prefix }).collect();
    let mut places: Vec<Place> = hosts
        .into_iter()
        .map(|vip| Place { bind: vip.ip.into(), networks: Vec::new(), whose: Whose::Services })
        .collect();
    if !networks.is_empty() {
        let networks = networks.into_iter().collect();
        places.push(Place { networks, ..Place::everyones(families.wildcard()) });
    }
    places
}

/// Why no listener can stand there, if so.
pub(super) fn unusable(settings: &ListenerSettings, place: &Place, spot: &Spot<'_>) -> Option<Reason> {
    let port = spot.number;
    if matches!(place.bind, Bind::Unix(_)) {
        return None;
    }
    if !spot.bound {
        let taken = place.bind.is_everywhere() && settings.reserved.contains(&port);
        return taken.then_some(Reason::ReservedPort);
    }
    if settings.reserved.contains(&port) {
        return Some(Reason::ReservedPort);
    }
    let Capture::Bound { low_ports, workload } = &settings.capture else { return None };
    if *low_ports == LowPorts::Forbidden && port < 1024 {
        Some(Reason::PrivilegedPort)
    } else if workload.contains(&port) {
        Some(Reason::WorkloadPort)
    } else {
        None
    }
}

fn members(endpoints: &[Endpoint], service: &Service, spot: &Spot<'_>, families: Families) -> Vec<Place> {
    let ips: BTreeSet<IpAddr> = endpoints
        .iter()
        .filter(|endpoint| serves(endpoint, service, spot))
        .filter_map(|endpoint| match endpoint.address {
            EndpointAddress::Ip(ip) => Some(ip),
            EndpointAddress::Unix(_) | EndpointAddress::Dns(_) => None,
        })
        .filter(|ip| families.contain(*ip))
        .collect();
    ips.into_iter().map(|ip| Place { bind: ip.into(), networks: Vec::new(), whose: Whose::Members }).collect()
}

/// Whether an endpoint serves the port of the service.
fn serves(endpoint: &Endpoint, service: &Service, spot: &Spot<'_>) -> bool {
    let mut ports = service.ports.iter().filter(|port| port.port == spot.number);
    ports.any(|port| port.name == endpoint.port_name)
}

// === impl Place ===

impl Place {
    const fn everyones(ip: IpAddr) -> Self {
        Self { bind: Bind::Ip(ip), networks: Vec::new(), whose: Whose::Everyones }
    }
}
