//! Several declarations of one service: what they come to.
//!
//! `ServiceEntry`s of one host and namespace that are alike are one service, with the ports of all of them. Ports are told
//! apart by number; endpoints know theirs by name, so where two entries call different ports the same, or the same port by
//! different names, the service has names of its own.

use std::collections::BTreeSet;
use std::sync::Arc;

use crate::model::{Endpoint, Resolution, Service, ServicePort};

/// The first declaration, with the ports and the identities of those that are alike.
pub(super) fn services(declared: &[&Arc<Service>]) -> Option<Arc<Service>> {
    let (first, others) = declared.split_first()?;
    let mut whole = Arc::clone(first);
    for other in others.iter().filter(|other| is_more_of(first, other)) {
        for port in &other.ports {
            if !whole.ports.iter().any(|own| own.port == port.port) {
                let name = free_name(&whole, port);
                Arc::make_mut(&mut whole).ports.push(ServicePort { name, ..port.clone() });
            }
        }
        for account in &other.service_accounts {
            if !whole.service_accounts.contains(account) {
                Arc::make_mut(&mut whole).service_accounts.push(account.clone());
            }
        }
    }
    Some(whole)
}

/// The endpoints of all declarations, those that count first at the front, each with its declaration. Of names that are
/// resolved to one answer at a time there can be but one for each port: the one that was said first.
pub(super) fn endpoints<'a>(
    whole: &Service,
    declared: impl Iterator<Item = (&'a Service, &'a [Endpoint])>,
) -> Vec<Endpoint> {
    let renamed = declared.flat_map(|(own, endpoints)| {
        endpoints.iter().map(|endpoint| {
            let name = name_within(whole, own, endpoint);
            Endpoint { port_name: name.unwrap_or(&endpoint.port_name).clone(), ..endpoint.clone() }
        })
    });
    if whole.resolution != Resolution::DnsRoundRobin {
        return renamed.collect();
    }
    let mut ports = BTreeSet::new();
    renamed.filter(|endpoint| ports.insert(endpoint.port_name.clone())).collect()
}

/// Whether another declaration of a host says more of the same service, and not of another one. Those of Kubernetes are
/// whole.
fn is_more_of(first: &Service, other: &Service) -> bool {
    first.registry.merges_declarations()
        && first.registry == other.registry
        && first.resolution == other.resolution
        && first.labels == other.labels
        && first.selector == other.selector
        && first.export_to == other.export_to
}

/// The name of a port, or one that no other port has.
fn free_name(whole: &Service, port: &ServicePort) -> Arc<str> {
    let is_taken = whole.ports.iter().any(|own| own.name == port.name);
    if is_taken { format!("{}-{}", port.name, port.port).into() } else { port.name.clone() }
}

/// What the whole service calls the port of an endpoint of one of its declarations.
fn name_within<'a>(whole: &'a Service, own: &Service, endpoint: &Endpoint) -> Option<&'a Arc<str>> {
    if !whole.registry.merges_declarations() {
        return None;
    }
    let number = own.ports.iter().find(|port| port.name == endpoint.port_name)?.port;
    whole.ports.iter().find(|port| port.port == number).map(|port| &port.name)
}
