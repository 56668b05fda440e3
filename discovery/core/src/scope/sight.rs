//! Visibility of services in a namespace by its `Sidecar`s. A change of a service that no `Sidecar` imports and no
//! `VirtualService` of theirs routes to does not affect the namespace.
//!
//! All `Sidecar`s of a namespace count, whichever proxies they are for.

use std::collections::BTreeMap;

use pilot_proto::node::NodeType;

use super::imports::Imports;
use super::{egress_proxy, spec_of};
use crate::api::Sidecar;
use crate::model::{ConfigKey, ConfigKind, Hostname, Namespace};
use crate::push::context::MESH;
use crate::push::{PushContext, PushRequest};

/// Visibility before a change and after it; `None`: all services are visible.
#[derive(Debug)]
pub(super) struct Sights<'a>([Option<Sight<'a>>; 2]);

/// Visibility in a snapshot, by namespace; computed once for each namespace that is looked up.
#[derive(Debug)]
struct Sight<'a> {
    push: &'a PushContext,
    root: Namespace,
    of: BTreeMap<Namespace, Option<Named>>,
}

/// Imports of the `Sidecar`s of a namespace.
#[derive(Debug)]
struct Named {
    imports: Vec<Imports>,
    /// Hosts of egress proxies (`outboundTrafficPolicy.egressProxy`).
    proxies: Vec<Hostname>,
}

/// Above this number of changes, imports are not checked: one of the changes is certainly imported.
const SCRUTINIZED: usize = 256;

// === impl Sights ===

impl<'a> Sights<'a> {
    pub(super) fn of(request: &PushRequest, before: &'a PushContext, after: &'a PushContext) -> Self {
        let few = request.updated.len() <= SCRUTINIZED;
        Self([before, after].map(|push| if few { Sight::of(push) } else { None }))
    }

    /// Returns `true` if all exported services are visible everywhere.
    pub(super) const fn are_unlimited(&self) -> bool {
        matches!(self.0, [None, _] | [_, None])
    }

    /// Returns `true` if proxies of a namespace see a service, or did, regardless of its export list. Proxies of its own
    /// namespace may be beside its workloads.
    pub(super) fn show(&mut self, node_type: NodeType, viewer: &Namespace, service: &ConfigKey) -> bool {
        node_type != NodeType::Sidecar || *viewer == service.namespace || {
            let host = Hostname::from(&*service.name);
            self.0.iter_mut().any(|sight| match sight {
                Some(sight) => sight.shows(viewer, &host, &service.namespace),
                None => true,
            })
        }
    }
}

// === impl Sight ===

impl<'a> Sight<'a> {
    /// Creates the visibility of a snapshot; `None`: without `Sidecar`s all services are visible.
    fn of(push: &'a PushContext) -> Option<Self> {
        push.configs_of(ConfigKind::Sidecar).next()?;
        let root = Namespace::from(&*push.mesh.root_namespace);
        Some(Self { push, root, of: BTreeMap::new() })
    }

    /// Returns `true` if sidecars of a namespace see a service, regardless of its export list.
    fn shows(&mut self, viewer: &Namespace, host: &Hostname, namespace: &Namespace) -> bool {
        let (push, root) = (self.push, &self.root);
        let named = self.of.entry(viewer.clone()).or_insert_with(|| Named::of(push, root, viewer));
        let Some(named) = named else { return true };
        named.imports.iter().any(|imports| imports.service(namespace, host))
            || named.proxies.contains(host)
            || push.routings.to(host).any(|routing| {
                let imported = |imports: &Imports| {
                    routing.hosts.iter().any(|host| imports.rules_for(&routing.namespace, host))
                };
                routing.is_for(MESH) && routing.is_visible_from(viewer) && named.imports.iter().any(imported)
            })
    }
}

// === impl Named ===

impl Named {
    /// Returns the imports of the `Sidecar`s that can apply in a namespace; `None`: all services.
    fn of(push: &PushContext, root: &Namespace, viewer: &Namespace) -> Option<Self> {
        let within =
            |namespace| push.configs_in(ConfigKind::Sidecar, namespace).filter_map(|object| spec_of(object));
        let for_all = |spec: &&Sidecar| spec.workload_selector.is_none();
        let mut specs: Vec<&Sidecar> = within(viewer).collect();
        if !specs.iter().any(for_all) {
            let before = specs.len();
            specs.extend(within(root).filter(for_all));
            if specs.len() == before {
                return None;
            }
        }
        if specs.iter().any(|spec| spec.egress.is_empty()) {
            return None;
        }
        let listeners = specs.iter().flat_map(|spec| &spec.egress);
        let imports =
            listeners.map(|listener| Imports::of(listener.hosts.iter().map(String::as_str), viewer));
        let proxies = specs.iter().filter_map(|spec| {
            let proxy = spec.outbound_traffic_policy.as_ref()?.egress_proxy.as_ref()?;
            Some(egress_proxy(proxy, viewer, &push.domain_suffix).host.as_str().into())
        });
        Some(Self { imports: imports.collect(), proxies: proxies.collect() })
    }
}
