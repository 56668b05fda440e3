//! Incremental translation: changed objects in, changed services, endpoints and workloads out.
//!
//! The result depends on the objects and not on their order. A change marks the dependents of the object (`dependencies`),
//! and these are built again (`convert`). Results may equal the previous ones: the world drops changes that change nothing.
//! The world also resolves what needs another source: `ServiceEntry`, aliases, named target ports.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::net::IpAddr;
use std::sync::Arc;

use pilot_core::model::{Change, Distribution, Namespace, WorkloadKind};

use super::convert;
use super::dependencies::{Dependencies, DependencyKey, Dependent};
use super::options::{ClusterLookup, RegistryOptions};
use crate::source::objects::{
    EndpointSlice, Endpoints, NamespacedName, Node, Object, ObjectChange, ObjectKey, ObjectKind, Pod, Service,
};

/// Objects by name, and the indexes to build services and workloads.
#[derive(Debug)]
pub(crate) struct Registry {
    options: RegistryOptions,
    services: HashMap<NamespacedName, Arc<Service>>,
    endpoints: HashMap<NamespacedName, Arc<Endpoints>>,
    /// By service, then by name.
    slices: HashMap<NamespacedName, BTreeMap<Arc<str>, Arc<EndpointSlice>>>,
    service_of_slice: HashMap<NamespacedName, NamespacedName>,
    pods: HashMap<NamespacedName, Arc<Pod>>,
    pods_by_ip: HashMap<IpAddr, BTreeSet<NamespacedName>>,
    nodes: HashMap<Arc<str>, Arc<Node>>,
    /// Traffic distribution annotation by namespace, for services without one.
    distributions: HashMap<Arc<str>, String>,
    system_network: Arc<str>,
    dependencies: Dependencies,
}

const SERVICE_NAME: &str = "kubernetes.io/service-name";

// === impl Registry ===

impl Registry {
    /// Returns a registry without objects.
    pub(crate) fn new(options: RegistryOptions) -> Self {
        Self {
            options,
            services: HashMap::new(),
            endpoints: HashMap::new(),
            slices: HashMap::new(),
            service_of_slice: HashMap::new(),
            pods: HashMap::new(),
            pods_by_ip: HashMap::new(),
            nodes: HashMap::new(),
            distributions: HashMap::new(),
            system_network: "".into(),
            dependencies: Dependencies::default(),
        }
    }

    /// Applies changes of objects. Each affected service and workload is built once.
    pub(crate) fn apply(&mut self, events: impl IntoIterator<Item = ObjectChange>) -> Vec<Change> {
        let mut affected = BTreeSet::new();
        let mut changes = Vec::new();
        for event in events {
            match event {
                ObjectChange::Deleted(ObjectKey { kind: ObjectKind::Config(kind), name }) => {
                    changes.push(Change::ConfigGone(kind, (*name.namespace).into(), name.name));
                }
                ObjectChange::Added(object) | ObjectChange::Updated(object) => {
                    let key = object.key();
                    match object {
                        Object::Config(object) => {
                            changes.push(Change::Config(object));
                        }
                        object => {
                            self.collect_dependents(&key, &mut affected);
                            self.insert(key.clone(), object);
                            self.collect_dependents(&key, &mut affected);
                        }
                    }
                }
                ObjectChange::Deleted(key) => {
                    self.collect_dependents(&key, &mut affected);
                    self.remove(&key);
                }
            }
        }
        changes.extend(self.rebuild(affected));
        changes
    }

    fn rebuild(&mut self, affected: BTreeSet<Dependent>) -> Vec<Change> {
        let mut changes = Vec::new();
        for dependent in affected {
            match &dependent {
                Dependent::Workload(name) => self.rebuild_workload(&dependent, name, &mut changes),
                Dependent::Service(name) => self.rebuild_service(&dependent, name, &mut changes),
            }
        }
        changes
    }

    /// Replaces the trust domain. Returns all services, endpoints and workloads, with the new identities.
    pub(crate) fn set_trust_domain(&mut self, trust_domain: &str) -> Vec<Change> {
        if self.options.trust_domain == trust_domain {
            return Vec::new();
        }
        trust_domain.clone_into(&mut self.options.trust_domain);
        let services = self.services.keys().cloned().map(Dependent::Service);
        let affected = services.chain(self.pods.keys().cloned().map(Dependent::Workload)).collect();
        self.rebuild(affected)
    }

    /// Adds the dependents of an object in its current version.
    fn collect_dependents(&self, key: &ObjectKey, affected: &mut BTreeSet<Dependent>) {
        let name = &key.name;
        let mut keys = Vec::new();
        match key.kind {
            ObjectKind::Service | ObjectKind::Endpoints => {
                affected.insert(Dependent::Service(name.clone()));
            }
            ObjectKind::EndpointSlice => {
                affected.extend(self.service_of_slice.get(name).cloned().map(Dependent::Service));
            }
            ObjectKind::Pod => {
                affected.insert(Dependent::Workload(name.clone()));
                keys.push(DependencyKey::Pod(name.clone()));
                keys.extend(
                    self.pods.get(name).into_iter().flat_map(|pod| pod.ips()).map(DependencyKey::PodAt),
                );
            }
            ObjectKind::Node => keys.push(DependencyKey::Node(name.name.clone())),
            ObjectKind::Namespace => {
                keys.push(DependencyKey::Namespace(name.name.clone()));
                if *name.name == *self.options.system_namespace {
                    keys.push(DependencyKey::SystemNetwork);
                }
            }
            ObjectKind::Config(_) => {}
        }
        affected.extend(keys.iter().flat_map(|key| self.dependencies.on(key)).cloned());
    }

    fn insert(&mut self, key: ObjectKey, object: Object) {
        match object {
            Object::Service(service) => drop(self.services.insert(key.name, service)),
            Object::Endpoints(endpoints) => drop(self.endpoints.insert(key.name, endpoints)),
            Object::Node(node) => drop(self.nodes.insert(key.name.name, node)),
            Object::EndpointSlice(slice) => {
                // The slice may have belonged to another service.
                self.remove(&key);
                let Some(service) = slice.metadata.label(SERVICE_NAME) else { return };
                let service = NamespacedName { namespace: key.name.namespace.clone(), name: service.into() };
                self.slices.entry(service.clone()).or_default().insert(key.name.name.clone(), slice);
                self.service_of_slice.insert(key.name, service);
            }
            Object::Pod(pod) => {
                self.remove(&key);
                for ip in pod.ips() {
                    self.pods_by_ip.entry(ip).or_default().insert(key.name.clone());
                }
                self.pods.insert(key.name, pod);
            }
            Object::Namespace(namespace) => {
                let metadata = &namespace.metadata;
                if *key.name.name == *self.options.system_namespace {
                    self.system_network = metadata.label(convert::NETWORK).unwrap_or_default().into();
                }
                match metadata.annotations.get(Distribution::ANNOTATION) {
                    Some(value) => drop(self.distributions.insert(key.name.name, value.clone())),
                    None => drop(self.distributions.remove(&key.name.name)),
                }
            }
            Object::Config(_) => {}
        }
    }

    fn remove(&mut self, key: &ObjectKey) {
        let name = &key.name;
        match key.kind {
            ObjectKind::Service => drop(self.services.remove(name)),
            ObjectKind::Endpoints => drop(self.endpoints.remove(name)),
            ObjectKind::Node => drop(self.nodes.remove(&name.name)),
            ObjectKind::EndpointSlice => {
                let Some(service) = self.service_of_slice.remove(name) else { return };
                if let Some(slices) = self.slices.get_mut(&service) {
                    slices.remove(&name.name);
                    if slices.is_empty() {
                        self.slices.remove(&service);
                    }
                }
            }
            ObjectKind::Pod => {
                for ip in self.pods.remove(name).iter().flat_map(|pod| pod.ips()) {
                    if let Some(pods) = self.pods_by_ip.get_mut(&ip) {
                        pods.remove(name);
                        if pods.is_empty() {
                            self.pods_by_ip.remove(&ip);
                        }
                    }
                }
            }
            ObjectKind::Namespace => {
                self.distributions.remove(&name.name);
                if *name.name == *self.options.system_namespace {
                    self.system_network = "".into();
                }
            }
            ObjectKind::Config(_) => {}
        }
    }

    /// Builds a service and its endpoints.
    fn rebuild_service(&mut self, dependent: &Dependent, name: &NamespacedName, changes: &mut Vec<Change>) {
        let namespace: Namespace = (*name.namespace).into();
        let hostname = convert::hostname(name, &self.options);
        let Some(service) = self.services.get(name) else {
            self.dependencies.set(dependent, BTreeSet::new());
            changes.push(Change::Endpoints(namespace.clone(), hostname.clone(), Vec::new()));
            changes.push(Change::ServiceGone(namespace, hostname));
            return;
        };
        let slices = self.slices.get(name).into_iter().flat_map(BTreeMap::values).map(Arc::as_ref);
        let legacy = self.endpoints.get(name).map(Arc::as_ref);
        let (endpoints, mut keys) = convert::endpoints(service, slices, legacy, self);
        keys.insert(DependencyKey::Namespace(name.namespace.clone()));
        let distribution = self.distributions.get(&name.namespace).map(String::as_str);
        let service = convert::service(service, distribution, &self.options);
        self.dependencies.set(dependent, keys);
        changes.push(Change::Service(Arc::new(service)));
        changes.push(Change::Endpoints(namespace, hostname, endpoints));
    }

    /// Builds the workload of a pod.
    fn rebuild_workload(&mut self, dependent: &Dependent, name: &NamespacedName, changes: &mut Vec<Change>) {
        let built = self.pods.get(name).and_then(|pod| convert::workload(pod, self));
        let (change, keys) = match built {
            Some((workload, keys)) => (Change::Workload(Arc::new(workload)), keys),
            None => {
                let (namespace, name) = ((*name.namespace).into(), name.name.clone());
                (Change::WorkloadGone(WorkloadKind::Pod, namespace, name), BTreeSet::new())
            }
        };
        self.dependencies.set(dependent, keys);
        changes.push(change);
    }
}

impl ClusterLookup for Registry {
    fn options(&self) -> &RegistryOptions {
        &self.options
    }

    fn pod(&self, name: &NamespacedName) -> Option<&Pod> {
        self.pods.get(name).map(Arc::as_ref)
    }

    /// Returns `None` if several pods have the address: pods on the host network share that of the node.
    fn pod_at(&self, namespace: &str, ip: IpAddr) -> Option<&Pod> {
        let mut names = self.pods_by_ip.get(&ip)?.iter().filter(|name| *name.namespace == *namespace);
        let name = names.next()?;
        if names.next().is_some() { None } else { self.pod(name) }
    }

    fn node(&self, name: &str) -> Option<&Node> {
        self.nodes.get(name).map(Arc::as_ref)
    }

    fn system_network(&self) -> &Arc<str> {
        &self.system_network
    }
}

#[cfg(test)]
mod tests;
