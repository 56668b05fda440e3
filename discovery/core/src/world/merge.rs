//! Merge of several declarations of one service.
//!
//! `ServiceEntry`s of the same host and namespace with the same properties are one service with all their ports. Ports are
//! identified by number; endpoints refer to them by name. If two entries use the same name for different ports, or different
//! names for the same port, the service has names of its own.

use std::collections::BTreeSet;
use std::sync::Arc;

use crate::model::{Endpoint, Resolution, Service, ServicePort};

/// Returns the first declaration, with ports and identities of compatible ones.
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

/// Returns the endpoints of all declarations in order of precedence, each with its declaration. With a resolution to a single
/// address there is one endpoint for each port: the first.
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

/// Returns `true` if another declaration of a host is merged into the first. Services of Kubernetes are not merged.
fn is_more_of(first: &Service, other: &Service) -> bool {
    first.registry.merges_declarations()
        && first.registry == other.registry
        && first.resolution == other.resolution
        && first.labels == other.labels
        && first.selector == other.selector
        && first.export_to == other.export_to
}

/// Returns the name of a port, or one that no other port has.
fn free_name(whole: &Service, port: &ServicePort) -> Arc<str> {
    let is_taken = whole.ports.iter().any(|own| own.name == port.name);
    if is_taken { format!("{}-{}", port.name, port.port).into() } else { port.name.clone() }
}

/// Returns the name in the merged service of the port of an endpoint.
fn name_within<'a>(whole: &'a Service, own: &Service, endpoint: &Endpoint) -> Option<&'a Arc<str>> {
    if !whole.registry.merges_declarations() {
        return None;
    }
    let number = own.ports.iter().find(|port| port.name == endpoint.port_name)?.port;
    whole.ports.iter().find(|port| port.port == number).map(|port| &port.name)
}
