//! By which names clients ask for a service.
//!
//! A client says `reviews`, `reviews.default`, `reviews.default.svc` or the whole name, as its `resolv.conf`
//! allows; all of them must lead to the same virtual host.

use std::net::IpAddr;

use crate::generate::IpFamilies;
use crate::model::{Hostname, Registry, Service};

/// One name, and whether somebody declared it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Domain {
    /// As it stands in `:authority`.
    pub(super) text: String,
    /// Where it comes from.
    pub(super) origin: DomainOrigin,
}

/// Where a domain comes from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum DomainOrigin {
    /// It is the service's own name or address.
    Declared,
    /// We shortened it: it must not hide a service that really is called so.
    Shortened,
}

/// Whether names also appear with their port.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum DomainPorts {
    /// No: Envoy is told to ignore ports.
    Ignored,
    /// Yes: gRPC libraries compare the whole target, and a proxy port serves all ports at once.
    Named(u16),
}

/// All domains of a service on one port, for a client whose DNS domain this is.
pub(super) fn domains(
    service: &Service,
    aliases: &[Hostname],
    ports: DomainPorts,
    dns_domain: &str,
    families: IpFamilies,
) -> Vec<Domain> {
    let mut found = Vec::new();
    for host in std::iter::once(&service.hostname).chain(aliases) {
        let host = host.as_str();
        push(&mut found, host, ports, DomainOrigin::Declared);
        if host.parse::<IpAddr>().is_err() && !host.starts_with('*') {
            push(&mut found, &format!("{host}."), ports, DomainOrigin::Shortened);
        }
        for short in shortened(host, dns_domain) {
            push(&mut found, &short, ports, DomainOrigin::Shortened);
        }
    }
    if service.is_headless() {
        // Members of a stateful set are called `<pod>.<service>`.
        let members: Vec<Domain> = found
            .iter()
            .map(|domain| Domain { text: format!("*.{}", domain.text), origin: domain.origin })
            .collect();
        found.extend(members);
    }
    for vip in reachable(service, families) {
        push(&mut found, &vip.to_string(), ports, DomainOrigin::Declared);
    }
    found
}

/// The domains of a host that is nothing but its name.
pub(super) fn bare(host: &str, ports: DomainPorts) -> Vec<Domain> {
    let mut found = Vec::new();
    push(&mut found, host, ports, DomainOrigin::Declared);
    found
}

/// Addresses of the service that a proxy with these families may see. A declared `ServiceEntry` address is
/// matched whatever its family: it need not be routable.
fn reachable(service: &Service, families: IpFamilies) -> impl Iterator<Item = IpAddr> + '_ {
    let declared = service.registry == Registry::External;
    service
        .addresses
        .iter()
        .filter(|vip| vip.is_host() && !vip.ip.is_unspecified())
        .map(|vip| vip.ip)
        .filter(move |ip| declared || families.contains(*ip))
}

fn push(found: &mut Vec<Domain>, host: &str, ports: DomainPorts, origin: DomainOrigin) {
    let host = if host.contains(':') { format!("[{host}]") } else { host.to_owned() };
    if let DomainPorts::Named(port) = ports {
        found.push(Domain { text: format!("{host}:{port}"), origin });
    }
    found.push(Domain { text: host, origin });
}

/// What a resolver in `dns_domain` (`<namespace>.svc.<suffix>`) completes to `host`.
fn shortened(host: &str, dns_domain: &str) -> Vec<String> {
    let Some((own, suffix)) = dns_domain.split_once(".svc.") else {
        return shared_suffix(host, dns_domain);
    };
    let Some(prefix) = host.strip_suffix(suffix).and_then(|rest| rest.strip_suffix(".svc.")) else {
        return Vec::new();
    };
    let mut names = vec![prefix.to_owned(), format!("{prefix}.svc")];
    if let Some((name, namespace)) = prefix.split_once('.')
        && namespace == own
    {
        names.push(name.to_owned());
    }
    names
}

/// Outside Kubernetes: the host without what it shares with the client's domain.
fn shared_suffix(host: &str, dns_domain: &str) -> Vec<String> {
    let theirs: Vec<&str> = host.split('.').collect();
    let shared = theirs.iter().rev().zip(dns_domain.split('.').rev()).take_while(|(a, b)| *a == b).count();
    let unique = theirs.get(..theirs.len() - shared).unwrap_or_default();
    if shared == 0 || unique.is_empty() {
        return Vec::new();
    }
    let short = unique.join(".");
    match (unique.len(), theirs.get(unique.len())) {
        (2, Some(next)) => vec![short.clone(), format!("{short}.{next}")],
        _ => vec![short],
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_host_is_shortened_as_resolvers_complete_it() {
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
