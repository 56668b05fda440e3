//! Between declarations: which one of a service counts, what all its endpoints are, and who has to know.

use std::collections::BTreeSet;
use std::net::IpAddr;
use std::sync::Arc;

use super::{Changes, Origin, ServiceKey, World, forget};
use crate::model::{Endpoint, EndpointAddress, Registry, Resolution, Service, ServicePort};

// === impl World ===

impl World {
    pub(super) fn declare_service(
        &mut self,
        key: &ServiceKey,
        origin: Origin,
        service: Option<Arc<Service>>,
        changes: &mut Changes,
    ) {
        match service {
            Some(service) => {
                self.declared_services.entry(key.clone()).or_default().insert(origin, service);
            }
            None => forget(&mut self.declared_services, key, &origin),
        }
        let declared: Vec<&Arc<Service>> =
            self.precedence(key).into_iter().map(|(_, service)| service).collect();
        let (before, now) = (self.services.get(key).cloned(), merged(&declared));
        if before != now {
            self.replace_service(key, now.clone(), changes);
        }
        if [before, now].iter().flatten().any(|service| has_one_answer(service)) {
            self.resolve_endpoints(key, changes);
        }
    }

    fn replace_service(&mut self, key: &ServiceKey, now: Option<Arc<Service>>, changes: &mut Changes) {
        changes.service(key);
        let (host, namespace) = key;
        match now {
            Some(service) => {
                self.in_namespace.entry(namespace.clone()).or_default().insert(host.clone());
                self.services.insert(key.clone(), service);
            }
            None => {
                self.services.remove(key);
                if let Some(hosts) = self.in_namespace.get_mut(namespace) {
                    hosts.remove(host);
                    if hosts.is_empty() {
                        self.in_namespace.remove(namespace);
                    }
                }
            }
        }
        self.select_workload_entries(key, changes);
        self.name_affected_proxies(key, changes);
    }

    /// The declarations of a service, the one that counts first: Kubernetes wins for a host it knows, then the oldest, then
    /// the first by name.
    fn precedence(&self, key: &ServiceKey) -> Vec<(&Origin, &Arc<Service>)> {
        let mut declared: Vec<_> = self.declared_services.get(key).into_iter().flatten().collect();
        declared.sort_by_key(|(origin, service)| {
            (service.registry != Registry::Kubernetes, service.created, *origin)
        });
        declared
    }

    pub(super) fn declare_endpoints(
        &mut self,
        key: &ServiceKey,
        origin: Origin,
        endpoints: Vec<Endpoint>,
        changes: &mut Changes,
    ) {
        if endpoints.is_empty() {
            forget(&mut self.declared_endpoints, key, &origin);
        } else {
            self.declared_endpoints.entry(key.clone()).or_default().insert(origin, endpoints.into());
        }
        self.resolve_endpoints(key, changes);
    }

    fn resolve_endpoints(&mut self, key: &ServiceKey, changes: &mut Changes) {
        let merged = self.merged_endpoints(key);
        let before = self.endpoints.get(key).cloned().unwrap_or_default();
        if *before == *merged {
            return;
        }
        changes.endpoints(key, self.services.get(key).map(|service| &service.resolution), &before, &merged);
        self.index_addresses(key, &before, &merged, changes);
        if merged.is_empty() {
            self.endpoints.remove(key);
        } else {
            self.endpoints.insert(key.clone(), merged.into());
        }
    }

    /// What all declarations say of where a service is served. Of names that are resolved to one answer at a time there can
    /// be but one for each port: the one that was said first.
    fn merged_endpoints(&self, key: &ServiceKey) -> Vec<Endpoint> {
        let declared = self.declared_endpoints.get(key);
        let all = || declared.into_iter().flatten().flat_map(|(_, endpoints)| endpoints.iter().cloned());
        let mut merged: Vec<Endpoint> = if self.services.get(key).is_some_and(|it| has_one_answer(it)) {
            let mut ports = BTreeSet::new();
            let first = self.precedence(key).into_iter().filter_map(|(origin, _)| declared?.get(origin));
            let first = first.flat_map(|endpoints| endpoints.iter());
            first.filter(|endpoint| ports.insert(endpoint.port_name.clone())).cloned().collect()
        } else {
            all().collect()
        };
        merged.sort();
        merged.dedup();
        merged
    }

    /// Keeps `served_at`. An address that a service came to or left is a proxy whose own services changed.
    fn index_addresses(
        &mut self,
        key: &ServiceKey,
        before: &[Endpoint],
        after: &[Endpoint],
        changes: &mut Changes,
    ) {
        let places = |endpoints: &[Endpoint]| -> BTreeSet<(IpAddr, Arc<str>, u16)> {
            endpoints
                .iter()
                .filter_map(|endpoint| match endpoint.address {
                    EndpointAddress::Ip(ip) => Some((ip, endpoint.port_name.clone(), endpoint.port)),
                    _ => None,
                })
                .collect()
        };
        let (before, after) = (places(before), places(after));
        let touched: BTreeSet<IpAddr> = before.symmetric_difference(&after).map(|(ip, ..)| *ip).collect();
        let serving: BTreeSet<IpAddr> = after.iter().map(|(ip, ..)| *ip).collect();
        for ip in touched {
            changes.proxy(ip);
            if serving.contains(&ip) {
                self.served_at.entry(ip).or_default().insert(key.clone());
            } else if let Some(keys) = self.served_at.get_mut(&ip) {
                keys.remove(key);
                if keys.is_empty() {
                    self.served_at.remove(&ip);
                }
            }
        }
    }

    /// A service that changed changes what its own proxies listen to.
    fn name_affected_proxies(&self, key: &ServiceKey, changes: &mut Changes) {
        for endpoint in self.endpoints.get(key).into_iter().flat_map(|endpoints| endpoints.iter()) {
            if let EndpointAddress::Ip(ip) = endpoint.address {
                changes.proxy(ip);
            }
        }
    }
}

/// What several declarations come to: the first one, with the ports and the identities of those that are alike.
fn merged(declared: &[&Arc<Service>]) -> Option<Arc<Service>> {
    let (first, others) = declared.split_first()?;
    let mut whole = Arc::clone(first);
    for other in others.iter().filter(|other| is_more_of(first, other)) {
        let known = |port: &ServicePort| whole.ports.iter().any(|own| own.port == port.port);
        let ports: Vec<ServicePort> = other.ports.iter().filter(|port| !known(port)).cloned().collect();
        let known = |account: &String| whole.service_accounts.contains(account);
        let accounts: Vec<String> =
            other.service_accounts.iter().filter(|account| !known(account)).cloned().collect();
        if !ports.is_empty() || !accounts.is_empty() {
            let whole = Arc::make_mut(&mut whole);
            whole.ports.extend(ports);
            whole.service_accounts.extend(accounts);
        }
    }
    Some(whole)
}

/// Whether the proxy uses one answer of DNS at a time.
fn has_one_answer(service: &Service) -> bool {
    service.resolution == Resolution::DnsRoundRobin
}

/// Whether another declaration of a host says more of the same service, and not of another one. Those of Kubernetes are
/// whole.
fn is_more_of(first: &Service, other: &Service) -> bool {
    first.registry != Registry::Kubernetes
        && first.registry == other.registry
        && first.resolution == other.resolution
        && first.labels == other.labels
        && first.selector == other.selector
        && first.export_to == other.export_to
}

/// Whether proxies learn the endpoints of such a service from anything but EDS, so that a change of endpoints
/// is a change of the service to them.
pub(super) fn endpoints_are_config(resolution: &Resolution) -> bool {
    match resolution {
        // Inline in the cluster; or one listener for each endpoint of a headless service.
        Resolution::Dns | Resolution::DnsRoundRobin | Resolution::Passthrough => true,
        Resolution::ClientSideLb | Resolution::DynamicDns | Resolution::Alias(_) => false,
    }
}
