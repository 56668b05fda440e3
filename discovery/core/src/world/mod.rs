//! The mutable state (Istio's `Environment`): declarations of all sources, resolved to services and endpoints.
//!
//! ```text
//! SourceEvent ──▶ apply ──▶ services and endpoints of registries ───┐
//!                   │                                               ├─▶ precedence, merged endpoints, indexes ──▶ Changes
//!                   └─────▶ ServiceEntry × WorkloadEntry × pods ────┘        (persistent maps)
//! ```
//!
//! `apply` is synchronous and pure, and its cost follows the event: a workload is matched against the selectors of its own
//! namespace, nothing is rebuilt as a whole. Values are never changed in place; snapshots share them.
//!
//! Connected proxies are not known here: the effect of a change on them is decided in `push`.

mod changes;
mod entries;
mod merge;
mod resolve;
mod resync;
#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::sync::Arc;

use imbl::{OrdMap, OrdSet};
use pilot_proto::mesh::MeshConfig;
use pilot_proto::mesh::networks::MeshNetworks;

pub use changes::Changes;
use resync::{DeclarationKey, ResyncTracker};

use crate::model::{
    Change, ConfigKind, ConfigObject, ConfigSpec, Endpoint, EndpointAddress, Health, Hostname, Namespace,
    Service, SourceEvent, SourceId, Workload, WorkloadKind,
};

/// Host and namespace of a service. Two namespaces may declare the same host.
pub type ServiceKey = (Hostname, Namespace);

/// Origin of a declaration. Its order is the last criterion of precedence.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Origin {
    /// A registry.
    Registry(SourceId),
    /// The `ServiceEntry` of this name in the namespace of the service.
    Entry(Arc<str>),
    /// `WorkloadEntry`s that a Kubernetes service selects.
    SelectedWorkloads,
}

type ConfigName = (ConfigKind, Namespace, Arc<str>);
type WorkloadName = (WorkloadKind, Namespace, Arc<str>);

/// Declarations of all sources, and their resolution.
#[derive(Clone, Debug, Default)]
pub struct World {
    mesh: Arc<MeshConfig>,
    networks: Arc<MeshNetworks>,
    domain_suffix: Arc<str>,
    sources: BTreeMap<SourceId, ResyncTracker>,

    // As declared.
    declared_services: BTreeMap<ServiceKey, BTreeMap<Origin, Arc<Service>>>,
    declared_endpoints: BTreeMap<ServiceKey, BTreeMap<Origin, Arc<[Endpoint]>>>,
    declared_configs: BTreeMap<ConfigName, BTreeMap<SourceId, Arc<ConfigObject>>>,
    declared_workloads: BTreeMap<WorkloadName, BTreeMap<SourceId, Arc<Workload>>>,

    // As resolved; shared with snapshots.
    services: OrdMap<ServiceKey, Arc<Service>>,
    in_namespace: OrdMap<Namespace, OrdSet<Hostname>>,
    endpoints: OrdMap<ServiceKey, Arc<[Endpoint]>>,
    served_at: OrdMap<IpAddr, OrdSet<ServiceKey>>,
    configs: OrdMap<ConfigName, Arc<ConfigObject>>,
    workloads: OrdMap<WorkloadName, Arc<Workload>>,
    at_address: OrdMap<IpAddr, Arc<Workload>>,
    /// Workloads that claim an address.
    claims: BTreeMap<IpAddr, BTreeSet<WorkloadName>>,
    workloads_in: BTreeMap<Namespace, BTreeSet<WorkloadName>>,
    /// `ServiceEntry`s with a selector, by namespace.
    entries_in: BTreeMap<Namespace, BTreeSet<Arc<str>>>,
    /// Hosts of each `ServiceEntry`.
    hosts_of_entry: BTreeMap<(Namespace, Arc<str>), Vec<Hostname>>,
}

// === impl World ===

impl World {
    /// Creates an empty world that waits for these sources.
    pub fn new(domain_suffix: &str, sources: impl IntoIterator<Item = SourceId>) -> Self {
        Self {
            domain_suffix: domain_suffix.into(),
            sources: sources.into_iter().map(|source| (source, ResyncTracker::default())).collect(),
            ..Self::default()
        }
    }

    /// Returns `true` if every source has sent its complete state at least once.
    pub fn is_synced(&self) -> bool {
        self.sources.values().all(ResyncTracker::is_synced)
    }

    /// Applies an event of a source.
    pub fn apply(&mut self, source: &SourceId, event: SourceEvent) -> Changes {
        let mut changes = Changes::default();
        match event {
            SourceEvent::Resync => {
                let declared = self.declarations_of(source);
                self.sources.entry(source.clone()).or_default().begin(declared);
            }
            SourceEvent::Synced => {
                for declaration in self.sources.entry(source.clone()).or_default().end() {
                    self.change(source, declaration.removal(), &mut changes);
                }
            }
            SourceEvent::Change(change) => {
                self.sources.entry(source.clone()).or_default().mention(&change);
                self.change(source, change, &mut changes);
            }
        }
        changes
    }

    /// Sets the mesh configuration. An equal one changes nothing.
    pub fn set_mesh(&mut self, mesh: Arc<MeshConfig>) -> Changes {
        let mut changes = Changes::default();
        if *self.mesh != *mesh {
            let trust_domain_moved = self.mesh.trust_domain != mesh.trust_domain;
            self.mesh = mesh;
            changes.mesh();
            if trust_domain_moved {
                // Identities of `WorkloadEntry`s contain the trust domain.
                for (kind, namespace, name) in self.configs.keys().cloned().collect::<Vec<_>>() {
                    self.config_changed(kind, &namespace, &name, &mut changes);
                }
            }
        }
        changes
    }

    /// Sets the networks. Equal ones change nothing.
    pub fn set_networks(&mut self, networks: Arc<MeshNetworks>) -> Changes {
        let mut changes = Changes::default();
        if *self.networks != *networks {
            self.networks = networks;
            changes.mesh();
        }
        changes
    }

    /// Returns the networks.
    pub fn networks(&self) -> &Arc<MeshNetworks> {
        &self.networks
    }

    /// Returns the mesh configuration.
    pub fn mesh(&self) -> &Arc<MeshConfig> {
        &self.mesh
    }

    /// `cluster.local`
    pub fn domain_suffix(&self) -> &Arc<str> {
        &self.domain_suffix
    }

    /// Returns the resolved services.
    pub fn services(&self) -> &OrdMap<ServiceKey, Arc<Service>> {
        &self.services
    }

    /// Returns the hosts of each namespace.
    pub fn in_namespace(&self) -> &OrdMap<Namespace, OrdSet<Hostname>> {
        &self.in_namespace
    }

    /// Returns the endpoints of each service, of all ports and sources, sorted.
    pub fn endpoints(&self) -> &OrdMap<ServiceKey, Arc<[Endpoint]>> {
        &self.endpoints
    }

    /// Returns the services that have an endpoint at an address.
    pub fn served_at(&self) -> &OrdMap<IpAddr, OrdSet<ServiceKey>> {
        &self.served_at
    }

    /// Returns pods and `WorkloadEntry`s by address.
    pub fn at_address(&self) -> &OrdMap<IpAddr, Arc<Workload>> {
        &self.at_address
    }

    /// Returns the configuration objects.
    pub fn configs(&self) -> &OrdMap<(ConfigKind, Namespace, Arc<str>), Arc<ConfigObject>> {
        &self.configs
    }

    /// Returns the keys of everything that a source declares.
    fn declarations_of(&self, source: &SourceId) -> BTreeSet<DeclarationKey> {
        let origin = Origin::Registry(source.clone());
        let services = self.declared_services.iter().filter(|(_, declared)| declared.contains_key(&origin));
        let services =
            services.map(|((host, namespace), _)| DeclarationKey::Service(namespace.clone(), host.clone()));
        let endpoints = self.declared_endpoints.iter().filter(|(_, declared)| declared.contains_key(&origin));
        let endpoints = endpoints
            .map(|((host, namespace), _)| DeclarationKey::Endpoints(namespace.clone(), host.clone()));
        let workloads = self.declared_workloads.iter().filter(|(_, declared)| declared.contains_key(source));
        let workloads = workloads.map(|((kind, namespace, name), _)| {
            DeclarationKey::Workload(*kind, namespace.clone(), name.clone())
        });
        let configs = self.declared_configs.iter().filter(|(_, declared)| declared.contains_key(source));
        let configs = configs.map(|((kind, namespace, name), _)| {
            DeclarationKey::Config(*kind, namespace.clone(), name.clone())
        });
        services.chain(endpoints).chain(workloads).chain(configs).collect()
    }

    /// Applies a change, unless it restates what the source has declared.
    fn change(&mut self, source: &SourceId, change: Change, changes: &mut Changes) {
        let registry = Origin::Registry(source.clone());
        match change {
            Change::Service(service) => {
                let key = (service.hostname.clone(), service.namespace.clone());
                self.declare_service(&key, registry, Some(service), changes);
            }
            Change::ServiceGone(namespace, host) => {
                self.declare_service(&(host, namespace), registry, None, changes);
            }
            Change::Endpoints(namespace, host, endpoints) => {
                self.declare_endpoints(&(host, namespace), registry, endpoints, changes);
            }
            Change::Workload(workload) => {
                let name = (workload.kind, workload.namespace.clone(), workload.name.clone());
                self.declared_workloads.entry(name.clone()).or_default().insert(source.clone(), workload);
                self.resolve_workload(&name, changes);
            }
            Change::WorkloadGone(kind, namespace, name) => {
                let name = (kind, namespace, name);
                forget(&mut self.declared_workloads, &name, source);
                self.resolve_workload(&name, changes);
            }
            Change::Config(object) => {
                let name = (object.spec.kind(), object.meta.namespace.clone(), object.meta.name.clone());
                self.declared_configs.entry(name.clone()).or_default().insert(source.clone(), object);
                self.resolve_config(&name, changes);
            }
            Change::ConfigGone(kind, namespace, name) => {
                let name = (kind, namespace, name);
                forget(&mut self.declared_configs, &name, source);
                self.resolve_config(&name, changes);
            }
        }
    }

    fn resolve_workload(&mut self, name: &WorkloadName, changes: &mut Changes) {
        let now = self.declared_workloads.get(name).and_then(|declared| declared.values().next().cloned());
        self.workload_changed(name, now, changes);
    }

    fn workload_changed(&mut self, name: &WorkloadName, now: Option<Arc<Workload>>, changes: &mut Changes) {
        let before = self.workloads.get(name).cloned();
        if before == now {
            return;
        }
        let (_, namespace, _) = name;
        match &now {
            Some(workload) => {
                self.workloads_in.entry(namespace.clone()).or_default().insert(name.clone());
                self.workloads.insert(name.clone(), workload.clone());
            }
            None => {
                self.workloads.remove(name);
                if let Some(names) = self.workloads_in.get_mut(namespace) {
                    names.remove(name);
                    if names.is_empty() {
                        self.workloads_in.remove(namespace);
                    }
                }
            }
        }
        let claimed = |workload: &Option<Arc<Workload>>| -> BTreeSet<IpAddr> {
            workload.iter().flat_map(|workload| addresses(workload)).collect()
        };
        let (had, has) = (claimed(&before), claimed(&now));
        for ip in &had | &has {
            changes.proxy(ip);
            let claims = self.claims.entry(ip).or_default();
            if has.contains(&ip) {
                claims.insert(name.clone());
            } else {
                claims.remove(name);
            }
            self.resolve_address(ip);
        }
        self.reselect(namespace, &[before, now], changes);
    }

    /// Resolves the workload of an address. If several claim it (a pod that has ended keeps its address, which may be in use
    /// again), a healthy one takes precedence, then a pod, then the lowest name; the order of arrival does not matter.
    fn resolve_address(&mut self, ip: IpAddr) {
        let claims = self.claims.get(&ip).into_iter().flatten();
        let known = claims.filter_map(|name| Some((name, self.workloads.get(name)?)));
        let first = known.min_by_key(|(name, workload)| (workload.health != Health::Healthy, *name));
        match first.map(|(_, workload)| workload.clone()) {
            Some(workload) => _ = self.at_address.insert(ip, workload),
            None => {
                self.at_address.remove(&ip);
                self.claims.remove(&ip);
            }
        }
    }

    fn resolve_config(&mut self, name: &ConfigName, changes: &mut Changes) {
        let now = self.declared_configs.get(name).and_then(|declared| declared.values().next().cloned());
        if self.configs.get(name) == now.as_ref() {
            return;
        }
        match now {
            Some(object) => self.configs.insert(name.clone(), object),
            None => self.configs.remove(name),
        };
        let (kind, namespace, name) = name;
        self.config_changed(*kind, namespace, name, changes);
    }

    fn config_changed(
        &mut self,
        kind: ConfigKind,
        namespace: &Namespace,
        name: &Arc<str>,
        changes: &mut Changes,
    ) {
        let object = self.configs.get(&(kind, namespace.clone(), name.clone())).cloned();
        match kind {
            ConfigKind::ServiceEntry => self.entry_changed(namespace, name, object.as_deref(), changes),
            ConfigKind::WorkloadEntry => {
                changes.config(kind, namespace, name);
                let workload = object.as_deref().and_then(|object| match &object.spec {
                    ConfigSpec::WorkloadEntry(entry) => {
                        Some(Arc::new(entries::workload(&object.meta, entry, &self.mesh.trust_domain)))
                    }
                    _ => None,
                });
                let name = (WorkloadKind::WorkloadEntry, namespace.clone(), name.clone());
                self.workload_changed(&name, workload, changes);
            }
            ConfigKind::WorkloadGroup
            | ConfigKind::VirtualService
            | ConfigKind::DestinationRule
            | ConfigKind::Gateway
            | ConfigKind::Sidecar
            | ConfigKind::EnvoyFilter
            | ConfigKind::ProxyConfig
            | ConfigKind::Telemetry => changes.config(kind, namespace, name),
        }
    }
}

fn addresses(workload: &Workload) -> impl Iterator<Item = IpAddr> {
    workload.addresses.iter().filter_map(|address| match address {
        EndpointAddress::Ip(ip) => Some(*ip),
        _ => None,
    })
}

fn forget<K: Ord + Clone, O: Ord, V>(map: &mut BTreeMap<K, BTreeMap<O, V>>, key: &K, origin: &O) {
    if let Some(declared) = map.get_mut(key) {
        declared.remove(origin);
        if declared.is_empty() {
            map.remove(key);
        }
    }
}
