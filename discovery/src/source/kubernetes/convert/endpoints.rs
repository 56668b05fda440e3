//! Endpoints of a service, from slices or from `Endpoints`.

use std::collections::BTreeSet;

use pilot_core::model::{Endpoint, EndpointAddress, Health, Labels};

use super::Lookup;
use crate::source::kubernetes::dependencies::DependencyKey;
use crate::source::kubernetes::options::ClusterLookup;
use crate::source::objects::{
    AddressType, EndpointConditions, EndpointSlice, Endpoints, Service, ServiceType,
};

/// Labels of services with persistent sessions: terminating endpoints keep their sessions.
const PERSISTENT_SESSION: [&str; 2] = ["istio.io/persistent-session", "istio.io/persistent-session-header"];

/// Returns the endpoints of a service, sorted and unique, and their dependencies.
///
/// Slices take precedence over `Endpoints` of the same service, which Kubernetes mirrors into slices.
pub(in crate::source::kubernetes) fn endpoints<'a>(
    service: &Service,
    slices: impl Iterator<Item = &'a EndpointSlice>,
    legacy: Option<&Endpoints>,
    cluster: &impl ClusterLookup,
) -> (Vec<Endpoint>, BTreeSet<DependencyKey>) {
    let mut keys = BTreeSet::new();
    let mut lookup = Lookup { cluster, keys: &mut keys, labels: Labels::default() };
    let mut found = Vec::new();
    let mut slices = slices.peekable();
    if service.spec.kind == ServiceType::ExternalName {
        // An alias: the target has the endpoints.
    } else if slices.peek().is_some() {
        slices.for_each(|slice| of_slice(service, slice, &mut lookup, &mut found));
    } else if let Some(legacy) = legacy {
        of_endpoints(service, legacy, &mut lookup, &mut found);
    }
    // While an endpoint moves from one slice to another it may be in both; the healthier one is kept.
    found.sort_by(|a, b| (identity_of(a), a.health).cmp(&(identity_of(b), b.health)).then_with(|| a.cmp(b)));
    found.dedup_by(|later, earlier| identity_of(later) == identity_of(earlier));
    (found, keys)
}

fn identity_of(endpoint: &Endpoint) -> (&EndpointAddress, u16, &str) {
    (&endpoint.address, endpoint.port, &endpoint.port_name)
}

fn of_slice(
    service: &Service,
    slice: &EndpointSlice,
    lookup: &mut Lookup<'_, impl ClusterLookup>,
    found: &mut Vec<Endpoint>,
) {
    if slice.address_type == AddressType::Fqdn {
        return;
    }
    for endpoint in &slice.endpoints {
        let health = health(service, endpoint.conditions);
        for ip in endpoint.addresses.iter().filter_map(|address| address.parse().ok()) {
            let Some(base) = lookup.endpoint(
                &slice.metadata.namespace,
                ip,
                endpoint.target_ref.as_ref(),
                endpoint.node_name.as_ref(),
            ) else {
                continue;
            };
            found.extend(slice.ports.iter().filter_map(|port| {
                Some(Endpoint { port: port.port?, port_name: port.name.clone(), health, ..base.clone() })
            }));
        }
    }
}

fn of_endpoints(
    service: &Service,
    endpoints: &Endpoints,
    lookup: &mut Lookup<'_, impl ClusterLookup>,
    found: &mut Vec<Endpoint>,
) {
    for subset in &endpoints.subsets {
        let ready = subset.addresses.iter().map(|address| (address, Some(true)));
        let not_ready = subset.not_ready_addresses.iter().map(|address| (address, Some(false)));
        for (address, ready) in ready.chain(not_ready) {
            let health = health(service, EndpointConditions { ready, ..EndpointConditions::default() });
            let Some(base) = lookup.endpoint(
                &endpoints.metadata.namespace,
                address.ip,
                address.target_ref.as_ref(),
                address.node_name.as_ref(),
            ) else {
                continue;
            };
            found.extend(subset.ports.iter().map(|port| Endpoint {
                port: port.port,
                port_name: port.name.clone(),
                health,
                ..base.clone()
            }));
        }
    }
}

/// Returns the health. Absent conditions have the defaults of the API: ready, `serving` as `ready`, not terminating.
fn health(service: &Service, conditions: EndpointConditions) -> Health {
    let ready = conditions.ready.unwrap_or(true);
    let serving = conditions.serving.unwrap_or(ready);
    let terminating = conditions.terminating.unwrap_or(false);
    let keeps_sessions = PERSISTENT_SESSION.iter().any(|label| service.metadata.label(label).is_some());
    match (ready, serving, terminating) {
        (true, _, _) => Health::Healthy,
        (false, true, true) if keeps_sessions => Health::Draining,
        (false, _, true) => Health::Terminating,
        (false, _, false) if service.spec.publish_not_ready_addresses => Health::Healthy,
        (false, _, false) => Health::Unhealthy,
    }
}
