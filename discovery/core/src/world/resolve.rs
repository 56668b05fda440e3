//! Resolution of several declarations of a service: precedence, all endpoints, affected keys.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::sync::Arc;

use super::{Changes, Origin, ServiceKey, World, forget, merge};
use crate::model::{Endpoint, EndpointAddress, Resolution, Service};

// === impl World ===

impl World {
    pub(super) fn declare_service(
        &mut self,
        key: &ServiceKey,
        origin: Origin,
        service: Option<Arc<Service>>,
        changes: &mut Changes,
    ) {
        let declared = self.declared_services.get(key);
        if declared.and_then(|declared| declared.get(&origin)) == service.as_ref() {
            return;
        }
        let before = declared.map_or(0, BTreeMap::len);
        match service {
            Some(service) => {
                self.declared_services.entry(key.clone()).or_default().insert(origin, service);
            }
            None => forget(&mut self.declared_services, key, &origin),
        }
        let declared: Vec<&Arc<Service>> =
            self.precedence(key).into_iter().map(|(_, service)| service).collect();
        let (several, now) = (before.max(declared.len()) > 1, merge::services(&declared));
        if self.services.get(key) != now.as_ref() {
            self.replace_service(key, now, changes);
        }
        if several {
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

    /// Returns the declarations of a service in order of precedence: the lowest rank of the registry, then the oldest, then the
    /// lowest name.
    fn precedence(&self, key: &ServiceKey) -> Vec<(&Origin, &Arc<Service>)> {
        let mut declared: Vec<_> = self.declared_services.get(key).into_iter().flatten().collect();
        declared.sort_by_key(|(origin, service)| (service.registry.rank(), service.created, *origin));
        declared
    }

    pub(super) fn declare_endpoints(
        &mut self,
        key: &ServiceKey,
        origin: Origin,
        endpoints: Vec<Endpoint>,
        changes: &mut Changes,
    ) {
        let declared = self.declared_endpoints.get(key).and_then(|declared| declared.get(&origin));
        if declared.is_some_and(|declared| **declared == *endpoints)
            || (declared.is_none() && endpoints.is_empty())
        {
            return;
        }
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
            // A single sorted declaration is its own resolution: both share the memory.
            let mut declared = self.declared_endpoints.get(key).into_iter().flat_map(BTreeMap::values);
            let shared = declared.find(|declared| ***declared == *merged).cloned();
            self.endpoints.insert(key.clone(), shared.unwrap_or_else(|| merged.into()));
        }
    }

    /// Returns the endpoints of all declarations of a service.
    fn merged_endpoints(&self, key: &ServiceKey) -> Vec<Endpoint> {
        let Some(declared) = self.declared_endpoints.get(key) else { return Vec::new() };
        let mut declarations = self.precedence(key);
        let mut merged: Vec<Endpoint> = match self.services.get(key).filter(|_| declarations.len() > 1) {
            Some(whole) => {
                let of_service = |origin: &Origin| declarations.iter().any(|(own, _)| *own == origin);
                let others = declared.keys().filter(|origin| !of_service(origin));
                let others: Vec<_> = others.map(|origin| (origin, whole)).collect();
                declarations.extend(others);
                let parts = declarations.into_iter();
                merge::endpoints(
                    whole,
                    parts.filter_map(|(origin, own)| Some((&**own, &**declared.get(origin)?))),
                )
            }
            None => declared.values().flat_map(|endpoints| endpoints.iter().cloned()).collect(),
        };
        merged.sort();
        merged.dedup();
        merged
    }

    /// Updates `served_at`. If a service begins or ceases to have an endpoint at an address, the services of the proxy there have
    /// changed.
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

    /// A changed service changes the listeners of the proxies of its workloads.
    fn name_affected_proxies(&self, key: &ServiceKey, changes: &mut Changes) {
        for endpoint in self.endpoints.get(key).into_iter().flat_map(|endpoints| endpoints.iter()) {
            if let EndpointAddress::Ip(ip) = endpoint.address {
                changes.proxy(ip);
            }
        }
    }
}

/// Returns `true` if proxies get the endpoints of such a service by other means than EDS; then a change of endpoints is a change
/// of the service.
pub(super) fn endpoints_are_config(resolution: &Resolution) -> bool {
    match resolution {
        // Inline in the cluster, or one listener for each endpoint of a headless service.
        Resolution::Dns | Resolution::DnsRoundRobin | Resolution::Passthrough => true,
        Resolution::ClientSideLb | Resolution::DynamicDns | Resolution::Alias(_) => false,
    }
}
