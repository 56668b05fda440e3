//! Whether the sidecars of a namespace see a service at all, by what `Sidecar`s say. A change of a service that none of them
//! imports, and that no rule of theirs sends to, is none of their business.
//!
//! Which of a namespace's `Sidecar`s holds for which proxy is not asked: what one of them lets through counts.

use std::collections::BTreeMap;

use pilot_proto::node::NodeType;

use super::imports::Imports;
use super::{egress_proxy, spec_of};
use crate::api::Sidecar;
use crate::model::{ConfigKey, ConfigKind, Hostname, Namespace};
use crate::push::context::MESH;
use crate::push::{PushContext, PushRequest};

/// What sidecars see before a change and after it; `None`: everything.
#[derive(Debug)]
pub(super) struct Sights<'a>([Option<Sight<'a>>; 2]);

/// What sidecars see in a snapshot, by namespace; found out once for each that is asked about.
#[derive(Debug)]
struct Sight<'a> {
    push: &'a PushContext,
    root: Namespace,
    of: BTreeMap<Namespace, Option<Named>>,
}

/// What the `Sidecar`s of a namespace name.
#[derive(Debug)]
struct Named {
    imports: Vec<Imports>,
    /// Where they send what nobody declared.
    proxies: Vec<Hostname>,
}

/// Of more changes nobody asks whether `Sidecar`s import what changed: somebody imports something.
const SCRUTINIZED: usize = 256;

// === impl Sights ===

impl<'a> Sights<'a> {
    pub(super) fn of(request: &PushRequest, before: &'a PushContext, after: &'a PushContext) -> Self {
        let few = request.updated.len() <= SCRUTINIZED;
        Self([before, after].map(|push| if few { Sight::of(push) } else { None }))
    }

    /// Whether everybody sees whatever is exported.
    pub(super) const fn are_unlimited(&self) -> bool {
        matches!(self.0, [None, _] | [_, None])
    }

    /// Whether proxies of a namespace may see a service, or could, whoever it is exported to. Those of its own namespace may
    /// stand beside its workloads.
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
    /// That of a snapshot; `None`: without `Sidecar`s everybody sees everything.
    fn of(push: &'a PushContext) -> Option<Self> {
        push.configs_of(ConfigKind::Sidecar).next()?;
        let root = Namespace::from(&*push.mesh.root_namespace);
        Some(Self { push, root, of: BTreeMap::new() })
    }

    /// Whether sidecars of a namespace may see a service, whoever it is exported to.
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
    /// What those that can hold in a namespace name; `None`: everything.
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
