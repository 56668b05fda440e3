//! The immutable snapshot that all resources are generated from.
//!
//! Maps are persistent: a snapshot costs a few pointer copies, shares unchanged parts with the previous one, and stays as it is
//! while streams read it. Derived indexes ([`Routings`], [`Rules`], [`Selectors`]) are updated in the same way: only changed
//! objects, and objects that refer to them, are read again.

mod delegate;
mod routing;
mod rules;
mod selectors;
mod targets;
#[cfg(test)]
mod tests;

use std::collections::BTreeSet;
use std::net::IpAddr;
use std::sync::Arc;

use imbl::ordmap::DiffItem;
use imbl::{OrdMap, OrdSet};
use pilot_proto::mesh::MeshConfig;
use pilot_proto::mesh::networks::MeshNetworks;

pub use routing::{MESH, ObjectName, Routing, Routings};
pub use rules::{Rule, Rules};
pub use selectors::Selectors;
pub use targets::ServiceTarget;

use crate::model::{
    ChangeKind, ConfigKey, ConfigKind, ConfigObject, ConfigSpec, Endpoint, ExportTo, Hostname, Labels,
    Locality, Namespace, Proxy, Service, Shared, Workload,
};
use crate::patch::{PatchSet, Patches};
use crate::world::World;
use routing::Defaults;

pub use crate::world::ServiceKey;

/// All configuration objects.
pub type Configs = OrdMap<(ConfigKind, Namespace, Arc<str>), Arc<ConfigObject>>;

/// Snapshot of the mesh (Istio's `PushContext`).
#[derive(Clone, Debug, Default)]
pub struct PushContext {
    /// Number of the snapshot; a proxy that was pushed `version` has all changes up to it.
    pub version: u64,
    /// Identity of this snapshot, as key of values that are computed from it.
    pub moment: Shared<()>,
    /// Identity of everything that scopes depend on: snapshots that share it have equal scopes.
    pub shape: Shared<()>,
    /// Identity of everything that scopes depend on except services.
    pub frame: Shared<()>,
    /// Mesh-wide settings.
    pub mesh: Arc<MeshConfig>,
    /// Networks and their gateways (`MeshNetworks`).
    pub networks: Arc<MeshNetworks>,
    /// `cluster.local`
    pub domain_suffix: Arc<str>,
    /// All services.
    pub services: OrdMap<ServiceKey, Arc<Service>>,
    /// Host names by namespace.
    pub in_namespace: OrdMap<Namespace, OrdSet<Hostname>>,
    /// Endpoints of each service, of all ports and sources, sorted.
    pub endpoints: OrdMap<ServiceKey, Arc<[Endpoint]>>,
    /// Pods and `WorkloadEntry`s by address.
    pub workloads: OrdMap<IpAddr, Arc<Workload>>,
    /// Services that have an endpoint at this address.
    pub served_at: OrdMap<IpAddr, OrdSet<ServiceKey>>,
    /// All configuration objects.
    pub configs: Configs,
    /// Resolved `VirtualService`s.
    pub routings: Routings,
    /// Merged `DestinationRule`s.
    pub rules: Rules,
    /// Parsed `EnvoyFilter`s, by namespace and name.
    pub filters: OrdMap<ObjectName, Arc<Patches>>,
    /// Workload selectors of all objects.
    pub selectors: Selectors,
}

// === impl PushContext ===

impl PushContext {
    /// Returns the snapshot that follows `self`; `PushContext::default()` is that of an empty world.
    #[must_use]
    pub fn next(&self, world: &World) -> Self {
        let mut next = Self {
            version: self.version + 1,
            moment: Arc::new(()).into(),
            shape: self.shape.clone(),
            frame: self.frame.clone(),
            mesh: world.mesh().clone(),
            networks: world.networks().clone(),
            domain_suffix: world.domain_suffix().clone(),
            services: world.services().clone(),
            in_namespace: world.in_namespace().clone(),
            endpoints: world.endpoints().clone(),
            workloads: world.at_address().clone(),
            served_at: world.served_at().clone(),
            configs: world.configs().clone(),
            routings: self.routings.clone(),
            rules: self.rules.clone(),
            filters: self.filters.clone(),
            selectors: self.selectors.clone(),
        };
        next.read(self);
        next
    }

    /// Updates the indexes with the configuration objects that have changed.
    fn read(&mut self, before: &Self) {
        let mut shapes_scopes = !Arc::ptr_eq(&before.mesh, &self.mesh);
        let mut routings = BTreeSet::new();
        let mut rules = BTreeSet::new();
        for item in before.configs.diff(&self.configs) {
            let (old, new) = match item {
                DiffItem::Add(_, new) => (None, Some(new)),
                DiffItem::Update { old: (_, old), new: (_, new) } => (Some(old), Some(new)),
                DiffItem::Remove(_, old) => (Some(old), None),
            };
            if let Some(old) = old {
                self.selectors.remove(old);
            }
            if let Some(new) = new {
                self.selectors.add(new);
            }
            let Some(object) = old.or(new) else { continue };
            if object.spec.kind() == ConfigKind::EnvoyFilter {
                self.filters.remove(&name(object));
            }
            if let Some(ConfigObject { meta, spec: ConfigSpec::EnvoyFilter(filter) }) = new.map(|new| &**new)
            {
                // Findings were reported by the source.
                let (patches, _) = Patches::parse(meta, filter);
                self.filters.insert((meta.namespace.clone(), meta.name.clone()), Arc::new(patches));
            }
            match object.spec.kind() {
                ConfigKind::VirtualService => _ = routings.insert(name(object)),
                ConfigKind::DestinationRule => _ = rules.insert(object.meta.namespace.clone()),
                _ => {}
            }
            shapes_scopes |= shapes(object.spec.kind());
        }
        let (was, is) =
            (before.defaults(ConfigKind::VirtualService), self.defaults(ConfigKind::VirtualService));
        if was != is {
            routings.extend(of_kind(&self.configs, ConfigKind::VirtualService).map(name));
        }
        self.routings.update(&routings, &self.configs, &is);
        let (was, is) =
            (before.defaults(ConfigKind::DestinationRule), self.defaults(ConfigKind::DestinationRule));
        if was != is {
            rules.extend(of_kind(&self.configs, ConfigKind::DestinationRule).map(|object| name(object).0));
        }
        self.rules.update(&rules, &self.configs, &is);
        if shapes_scopes {
            self.frame = Arc::new(()).into();
        }
        if shapes_scopes || !before.services.ptr_eq(&self.services) {
            self.shape = Arc::new(()).into();
        }
    }

    /// Returns the defaults of objects of a kind.
    fn defaults(&self, kind: ConfigKind) -> Defaults {
        let list = match kind {
            ConfigKind::VirtualService => &self.mesh.default_virtual_service_export_to,
            _ => &self.mesh.default_destination_rule_export_to,
        };
        Defaults {
            export_to: list.iter().map(|text| ExportTo::parse(text)).collect(),
            domain_suffix: self.domain_suffix.clone(),
        }
    }

    /// Returns the object of a key.
    pub fn config(&self, key: &ConfigKey) -> Option<&Arc<ConfigObject>> {
        let ChangeKind::Config(kind) = key.kind else { return None };
        self.configs.get(&(kind, key.namespace.clone(), key.name.clone()))
    }

    /// Returns the objects of a kind in a namespace, by name.
    pub fn configs_in<'a>(
        &'a self,
        kind: ConfigKind,
        namespace: &Namespace,
    ) -> impl Iterator<Item = &'a Arc<ConfigObject>> {
        in_namespace(&self.configs, kind, namespace)
    }

    /// Returns the objects of a kind, by namespace and name.
    pub fn configs_of(&self, kind: ConfigKind) -> impl Iterator<Item = &Arc<ConfigObject>> {
        of_kind(&self.configs, kind)
    }

    /// Returns the `EnvoyFilter` patches of a proxy.
    pub fn patches_of(&self, proxy: &Proxy) -> PatchSet {
        if self.filters.is_empty() {
            return PatchSet::default();
        }
        let root = Namespace::from(&*self.mesh.root_namespace);
        let in_place = |namespace: &Namespace| -> Vec<&Patches> {
            let from = (namespace.clone(), Arc::from(""));
            let here = self.filters.range(from..).take_while(|((own, _), _)| own == namespace);
            here.map(|(_, patches)| &**patches).collect()
        };
        let mut all = in_place(&root);
        if root != proxy.namespace {
            all.extend(in_place(&proxy.namespace));
        }
        PatchSet::select(all, &root, proxy, &self.labels_of(proxy))
    }

    /// Returns the labels of the workload of a proxy: those from a source, or those that the proxy claims while no source has its
    /// workload.
    pub fn labels_of(&self, proxy: &Proxy) -> Labels {
        let told = self.workload_of(proxy);
        told.map_or_else(|| Arc::new(proxy.metadata.labels.clone()), |workload| workload.labels.clone())
    }

    /// Returns the locality of a proxy: that of its workload from a source, or that of its bootstrap while no source has one.
    pub fn locality_of(&self, proxy: &Proxy) -> Locality {
        let told = self.workload_of(proxy).map(|workload| &workload.locality);
        told.filter(|told| **told != Locality::default()).unwrap_or(&proxy.locality).clone()
    }

    fn workload_of(&self, proxy: &Proxy) -> Option<&Arc<Workload>> {
        proxy.ips.iter().find_map(|ip| self.workloads.get(ip))
    }

    /// Returns the service of a host in a namespace.
    pub fn service(&self, host: &Hostname, namespace: &Namespace) -> Option<&Arc<Service>> {
        self.services.get(&(host.clone(), namespace.clone()))
    }

    /// Returns the services of a host, by namespace.
    pub fn of_host<'a>(&'a self, host: &'a Hostname) -> impl Iterator<Item = &'a Arc<Service>> {
        let from = (host.clone(), Namespace::from(""));
        self.services.range(from..).take_while(move |((own, _), _)| own == host).map(|(_, service)| service)
    }

    /// Returns all endpoints of a service; empty if there are none.
    pub fn endpoints_of(&self, service: &Service) -> Arc<[Endpoint]> {
        let key = (service.hostname.clone(), service.namespace.clone());
        self.endpoints.get(&key).cloned().unwrap_or_default()
    }
}

/// Returns `true` if scopes depend on objects of a kind.
const fn shapes(kind: ConfigKind) -> bool {
    match kind {
        ConfigKind::VirtualService
        | ConfigKind::DestinationRule
        | ConfigKind::Gateway
        | ConfigKind::Sidecar
        | ConfigKind::EnvoyFilter
        | ConfigKind::Telemetry => true,
        // Services are compared themselves; the other kinds are not part of a scope.
        ConfigKind::ServiceEntry
        | ConfigKind::WorkloadEntry
        | ConfigKind::WorkloadGroup
        | ConfigKind::ProxyConfig => false,
    }
}

fn of_kind(configs: &Configs, kind: ConfigKind) -> impl Iterator<Item = &Arc<ConfigObject>> {
    let from = (kind, Namespace::from(""), Arc::from(""));
    configs.range(from..).take_while(move |((other, ..), _)| *other == kind).map(|(_, object)| object)
}

fn in_namespace<'a>(
    configs: &'a Configs,
    kind: ConfigKind,
    namespace: &Namespace,
) -> impl Iterator<Item = &'a Arc<ConfigObject>> {
    let from = (kind, namespace.clone(), Arc::from(""));
    let here =
        configs.range(from..).take_while(move |((other, place, _), _)| *other == kind && place == namespace);
    here.map(|(_, object)| object)
}

fn name(object: &Arc<ConfigObject>) -> ObjectName {
    (object.meta.namespace.clone(), object.meta.name.clone())
}
