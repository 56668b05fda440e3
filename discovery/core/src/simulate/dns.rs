//! Name resolution of an application: the result of the cluster's DNS, or of the proxy's DNS if enabled.
//!
//! No query is sent. An undeclared name resolves to a fixed external address, because all external addresses are equivalent.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use crate::model::{EndpointAddress, Hostname, Proxy, Resolution, Service};
use crate::push::PushContext;

/// Stand-ins for all external addresses, from the documentation ranges (RFC 5737, RFC 3849).
const ELSEWHERE: (Ipv4Addr, Ipv6Addr) =
    (Ipv4Addr::new(203, 0, 113, 1), Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, 1));
/// Limit of alias chains; longer ones count as cycles.
const MAX_ALIASES: u8 = 8;

/// A resolved name.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ResolvedName {
    /// Address.
    pub ip: IpAddr,
    /// Declared host that matched; `None`: the name is undeclared or an address.
    pub host: Option<Hostname>,
}

/// Resolves a name for an application beside this proxy.
pub fn resolve(push: &PushContext, proxy: &Proxy, name: &str) -> ResolvedName {
    if let Ok(ip) = name.parse() {
        return ResolvedName { ip, host: None };
    }
    if name == "localhost" {
        return ResolvedName {
            ip: pick(proxy, &[Ipv4Addr::LOCALHOST.into(), Ipv6Addr::LOCALHOST.into()]),
            host: None,
        };
    }
    let found = completed(&proxy.id.dns_domain, &name.to_ascii_lowercase())
        .into_iter()
        .find_map(|candidate| Some((declared(push, proxy, &candidate, MAX_ALIASES)?, candidate)));
    match found {
        Some((ip, host)) => ResolvedName { ip, host: Some(host.into()) },
        None => ResolvedName { ip: elsewhere(proxy), host: None },
    }
}

fn elsewhere(proxy: &Proxy) -> IpAddr {
    pick(proxy, &[ELSEWHERE.0.into(), ELSEWHERE.1.into()])
}

/// Returns the names to try, in the order of a pod's `resolv.conf`: namespace, services, cluster, then the name itself.
fn completed(dns_domain: &str, name: &str) -> Vec<String> {
    if let Some(absolute) = name.strip_suffix('.') {
        return vec![absolute.to_owned()];
    }
    let mut names = Vec::new();
    if let Some((_, suffix)) = dns_domain.split_once(".svc.") {
        names.extend([dns_domain, &format!("svc.{suffix}"), suffix].map(|domain| format!("{name}.{domain}")));
    }
    names.push(name.to_owned());
    names
}

/// Returns the address of a declared host; an external one if only other DNS servers know it.
fn declared(push: &PushContext, proxy: &Proxy, host: &str, aliases: u8) -> Option<IpAddr> {
    let of_host = push.services.values().filter(|service| service.hostname.as_str() == host);
    // Kubernetes' own services are what its DNS knows.
    let best = of_host.min_by_key(|service| (service.registry.rank(), service.created));
    if let Some(service) = best {
        return address(push, proxy, service, aliases);
    }
    if let Some(ip) = member(push, proxy, host) {
        return Some(ip);
    }
    let (_, parent) = host.split_once('.')?;
    let covers = |service: &&std::sync::Arc<Service>| {
        service.hostname.is_wildcard() && service.hostname.includes(&Hostname::from(host))
    };
    let wildcard =
        push.services.values().filter(covers).max_by_key(|service| service.hostname.as_str().len());
    if parent.is_empty() { None } else { address(push, proxy, wildcard?, aliases) }
}

fn address(push: &PushContext, proxy: &Proxy, service: &Service, aliases: u8) -> Option<IpAddr> {
    if let Resolution::Alias(target) = &service.resolution {
        let next = aliases.checked_sub(1)?;
        return declared(push, proxy, target.as_str(), next).or_else(|| Some(elsewhere(proxy)));
    }
    let own: Vec<IpAddr> =
        service.addresses.iter().map(|vip| vip.ip).filter(|ip| !ip.is_unspecified()).collect();
    if !own.is_empty() {
        return Some(pick(proxy, &own));
    }
    if service.is_headless() {
        let endpoints = push.endpoints_of(service);
        let ips: Vec<IpAddr> = endpoints.iter().filter_map(|endpoint| ip(&endpoint.address)).collect();
        // Without endpoints there is no such name.
        return (!ips.is_empty()).then(|| pick(proxy, &ips));
    }
    Some(elsewhere(proxy))
}

/// Resolves `web-0.web...`: an endpoint of a headless service by the name of its workload.
fn member(push: &PushContext, proxy: &Proxy, host: &str) -> Option<IpAddr> {
    let (workload, parent) = host.split_once('.')?;
    let service = push
        .services
        .values()
        .find(|service| service.hostname.as_str() == parent && service.is_headless())?;
    let endpoints = push.endpoints_of(service);
    let of_workload = endpoints.iter().filter(|endpoint| &*endpoint.workload == workload);
    let ips: Vec<IpAddr> = of_workload.filter_map(|endpoint| ip(&endpoint.address)).collect();
    (!ips.is_empty()).then(|| pick(proxy, &ips))
}

const fn ip(address: &EndpointAddress) -> Option<IpAddr> {
    match address {
        EndpointAddress::Ip(ip) => Some(*ip),
        EndpointAddress::Unix(_) | EndpointAddress::Dns(_) => None,
    }
}

/// Returns the first address of a family that the proxy supports.
fn pick(proxy: &Proxy, ips: &[IpAddr]) -> IpAddr {
    let usable = ips.iter().find(|ip| if ip.is_ipv4() { proxy.has_ipv4() } else { proxy.has_ipv6() });
    usable.or(ips.first()).copied().unwrap_or(IpAddr::V4(ELSEWHERE.0))
}
