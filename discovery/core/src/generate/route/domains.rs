//! Domains of the virtual host of a service.
//!
//! A client may send the host `reviews`, `reviews.default`, `reviews.default.svc` or the full name, depending on the search
//! domains in its `resolv.conf`. All of them belong to the same virtual host.

use std::net::IpAddr;

use crate::generate::IpFamilies;
use crate::model::{Hostname, Registry, Service};

/// Domain of a virtual host.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct VirtualHostDomain {
    /// Value of `:authority`.
    pub(super) text: String,
    /// Origin of the domain.
    pub(super) origin: DomainOrigin,
}

/// Origin of a domain.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum DomainOrigin {
    /// Hostname or address of the service.
    Declared,
    /// Short form of the hostname. A service with this hostname takes precedence.
    Shortened,
}

/// Ports in domains.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum DomainPorts {
    /// Without port; `ignore_port_in_host_matching` is set.
    Ignored,
    /// With and without this port. gRPC libraries compare the whole target, and a proxy port serves all ports.
    Named(u16),
}

/// Returns the domains of a service on one port for a client in `dns_domain`.
pub(super) fn service_domains(
    service: &Service,
    aliases: &[Hostname],
    ports: DomainPorts,
    dns_domain: &str,
    families: IpFamilies,
) -> Vec<VirtualHostDomain> {
    let mut domains = Vec::new();
    for host in std::iter::once(&service.hostname).chain(aliases) {
        let host = host.as_str();
        push(&mut domains, host, ports, DomainOrigin::Declared);
        if host.parse::<IpAddr>().is_err() && !host.starts_with('*') {
            push(&mut domains, &format!("{host}."), ports, DomainOrigin::Shortened);
        }
        for short in shortened(host, dns_domain) {
            push(&mut domains, &short, ports, DomainOrigin::Shortened);
        }
    }
    if service.is_headless() {
        // Pods of a StatefulSet have the host `<pod>.<service>`.
        let pods: Vec<VirtualHostDomain> = domains
            .iter()
            .map(|domain| VirtualHostDomain { text: format!("*.{}", domain.text), origin: domain.origin })
            .collect();
        domains.extend(pods);
    }
    for vip in reachable(service, families) {
        push(&mut domains, &vip.to_string(), ports, DomainOrigin::Declared);
    }
    domains
}

/// Returns the domains of a host without a service.
pub(super) fn host_domains(host: &str, ports: DomainPorts) -> Vec<VirtualHostDomain> {
    let mut domains = Vec::new();
    push(&mut domains, host, ports, DomainOrigin::Declared);
    domains
}

/// Returns the addresses of the service in the IP families of the proxy. Addresses of a `ServiceEntry` need not be routable
/// and are included regardless of their family.
fn reachable(service: &Service, families: IpFamilies) -> impl Iterator<Item = IpAddr> + '_ {
    let declared = service.registry == Registry::External;
    service
        .addresses
        .iter()
        .filter(|vip| vip.is_host() && !vip.ip.is_unspecified())
        .map(|vip| vip.ip)
        .filter(move |ip| declared || families.contains(*ip))
}

fn push(domains: &mut Vec<VirtualHostDomain>, host: &str, ports: DomainPorts, origin: DomainOrigin) {
    let host = if host.contains(':') { format!("[{host}]") } else { host.to_owned() };
    if let DomainPorts::Named(port) = ports {
        domains.push(VirtualHostDomain { text: format!("{host}:{port}"), origin });
    }
    domains.push(VirtualHostDomain { text: host, origin });
}

/// Returns the short names that a resolver in `dns_domain` (`<namespace>.svc.<suffix>`) completes to `host`.
fn shortened(host: &str, dns_domain: &str) -> Vec<String> {
    let Some((client_namespace, suffix)) = dns_domain.split_once(".svc.") else {
        return shared_suffix(host, dns_domain);
    };
    let Some(prefix) = host.strip_suffix(suffix).and_then(|rest| rest.strip_suffix(".svc.")) else {
        return Vec::new();
    };
    let mut names = vec![prefix.to_owned(), format!("{prefix}.svc")];
    if let Some((name, namespace)) = prefix.split_once('.')
        && namespace == client_namespace
    {
        names.push(name.to_owned());
    }
    names
}

/// Returns short names outside Kubernetes: the host without the suffix it shares with the domain of the client.
fn shared_suffix(host: &str, dns_domain: &str) -> Vec<String> {
    let labels: Vec<&str> = host.split('.').collect();
    let shared = labels.iter().rev().zip(dns_domain.split('.').rev()).take_while(|(a, b)| *a == b).count();
    let unique = labels.get(..labels.len() - shared).unwrap_or_default();
    if shared == 0 || unique.is_empty() {
        return Vec::new();
    }
    let short = unique.join(".");
    match (unique.len(), labels.get(unique.len())) {
        (2, Some(next)) => vec![short.clone(), format!("{short}.{next}")],
        _ => vec![short],
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn short_domains_are_those_that_resolvers_complete_to_the_host() {
        let check = |host, domain, expected: &[&str]| {
            assert_eq!(shortened(host, domain), expected, "{host} {domain}");
        };
        check(
            "reviews.default.svc.cluster.local",
            "default.svc.cluster.local",
            &["reviews.default", "reviews.default.svc", "reviews"],
        );
        check(
            "reviews.shop.svc.cluster.local",
            "default.svc.cluster.local",
            &["reviews.shop", "reviews.shop.svc"],
        );
        check("reviews.default.svc.other.local", "default.svc.cluster.local", &[]);
        check("example.com", "default.svc.cluster.local", &[]);
        check("svc.cluster.local", "default.svc.cluster.local", &[]);
        check("foo.local.campus.net", "local.campus.net", &["foo"]);
        check("foo.local.campus.net", "remote.campus.net", &["foo.local", "foo.local.campus"]);
        check("foo.example.com", "campus.net", &[]);
        check("foo.example.com", "", &[]);
        check("campus.net", "campus.net", &[]);
    }
}
