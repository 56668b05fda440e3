//! Kubernetes objects in, statements about services, endpoints and workloads out, as few as possible.
//!
//! The view is a function of the objects and not of the order in which they came: an event marks who is concerned
//! (`dependencies`), those are built again (`convert`), and what comes out different is said. The registry does
//! not know where objects come from, and resolves nothing that needs another source: `ServiceEntry`, aliases
//! and named target ports are the world's.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::net::IpAddr;
use std::sync::Arc;

use pilot_core::model::{Change, Distribution, Namespace, WorkloadKind};

use super::convert;
use super::dependencies::{Dependencies, Fact, Subject};
use super::options::{ClusterLookup, RegistryOptions};
use crate::source::objects::{
    EndpointSlice, Endpoints, NamespacedName, Node, Object, ObjectChange, ObjectKey, ObjectKind, Pod, Service,
};

/// All objects, and what was said about them.
#[derive(Debug)]
pub(crate) struct Registry {
    options: RegistryOptions,
    services: HashMap<NamespacedName, Arc<Service>>,
    endpoints: HashMap<NamespacedName, Arc<Endpoints>>,
    /// By the service they belong to, then by their own name.
    slices: HashMap<NamespacedName, BTreeMap<Arc<str>, Arc<EndpointSlice>>>,
    service_of_slice: HashMap<NamespacedName, NamespacedName>,
    pods: HashMap<NamespacedName, Arc<Pod>>,
    pods_by_ip: HashMap<IpAddr, BTreeSet<NamespacedName>>,
    nodes: HashMap<Arc<str>, Arc<Node>>,
    /// Which endpoints come first for services of a namespace that do not say, as it writes it.
    distributions: HashMap<Arc<str>, String>,
    system_network: Arc<str>,
    dependencies: Dependencies,
}

const SERVICE_NAME: &str = "kubernetes.io/service-name";

// === impl Registry ===

impl Registry {
    /// A registry that has seen nothing.
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

    /// Takes events in and tells what is different now. However many of the events concern a service, it is
    /// built once.
    pub(crate) fn apply(&mut self, events: impl IntoIterator<Item = ObjectChange>) -> Vec<Change> {
        let mut concerned = BTreeSet::new();
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
                            self.collect_concerned(&key, &mut concerned);
                            self.insert(key.clone(), object);
                            self.collect_concerned(&key, &mut concerned);
                        }
                    }
                }
                ObjectChange::Deleted(key) => {
                    self.collect_concerned(&key, &mut concerned);
                    self.remove(&key);
                }
            }
        }
        changes.extend(self.rebuild(concerned));
        changes
    }

    fn rebuild(&mut self, affected: BTreeSet<Subject>) -> Vec<Change> {
        let mut changes = Vec::new();
        for subject in affected {
            match &subject {
                Subject::Workload(name) => self.rebuild_workload(&subject, name, &mut changes),
                Subject::Service(name) => self.rebuild_service(&subject, name, &mut changes),
            }
        }
        changes
    }

    /// Replaces the trust domain. Returns the services, endpoints and workloads whose identities change.
    pub(crate) fn set_trust_domain(&mut self, trust_domain: &str) -> Vec<Change> {
        if self.options.trust_domain == trust_domain {
            return Vec::new();
        }
        trust_domain.clone_into(&mut self.options.trust_domain);
        let services = self.services.keys().cloned().map(Subject::Service);
        let affected = services.chain(self.pods.keys().cloned().map(Subject::Workload)).collect();
        self.rebuild(affected)
    }

    /// Everything that is or should be built from the object as it is known now.
    fn collect_concerned(&self, key: &ObjectKey, concerned: &mut BTreeSet<Subject>) {
        let name = &key.name;
        let mut facts = Vec::new();
        match key.kind {
            ObjectKind::Service | ObjectKind::Endpoints => {
                concerned.insert(Subject::Service(name.clone()));
            }
            ObjectKind::EndpointSlice => {
                concerned.extend(self.service_of_slice.get(name).cloned().map(Subject::Service));
            }
            ObjectKind::Pod => {
                concerned.insert(Subject::Workload(name.clone()));
                facts.push(Fact::Pod(name.clone()));
                facts.extend(self.pods.get(name).into_iter().flat_map(|pod| pod.ips()).map(Fact::PodAt));
            }
            ObjectKind::Node => facts.push(Fact::Node(name.name.clone())),
            ObjectKind::Namespace => {
                facts.push(Fact::Namespace(name.name.clone()));
                if *name.name == *self.options.system_namespace {
                    facts.push(Fact::SystemNetwork);
                }
            }
            ObjectKind::Config(_) => {}
        }
        concerned.extend(facts.iter().flat_map(|fact| self.dependencies.on(fact)).cloned());
    }

    fn insert(&mut self, key: ObjectKey, object: Object) {
        match object {
            Object::Service(service) => drop(self.services.insert(key.name, service)),
            Object::Endpoints(endpoints) => drop(self.endpoints.insert(key.name, endpoints)),
            Object::Node(node) => drop(self.nodes.insert(key.name.name, node)),
            Object::EndpointSlice(slice) => {
                // It may belong to another service than before.
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
                    Some(said) => drop(self.distributions.insert(key.name.name, said.clone())),
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
    fn rebuild_service(&mut self, subject: &Subject, name: &NamespacedName, changes: &mut Vec<Change>) {
        let namespace: Namespace = (*name.namespace).into();
        let hostname = convert::hostname(name, &self.options);
        let Some(service) = self.services.get(name) else {
            self.dependencies.set(subject, BTreeSet::new());
            changes.push(Change::Endpoints(namespace.clone(), hostname.clone(), Vec::new()));
            changes.push(Change::ServiceGone(namespace, hostname));
            return;
        };
        let slices = self.slices.get(name).into_iter().flat_map(BTreeMap::values).map(Arc::as_ref);
        let legacy = self.endpoints.get(name).map(Arc::as_ref);
        let (endpoints, mut facts) = convert::endpoints(service, slices, legacy, self);
        facts.insert(Fact::Namespace(name.namespace.clone()));
        let distribution = self.distributions.get(&name.namespace).map(String::as_str);
        let service = convert::service(service, distribution, &self.options);
        self.dependencies.set(subject, facts);
        changes.push(Change::Service(Arc::new(service)));
        changes.push(Change::Endpoints(namespace, hostname, endpoints));
    }

    /// Builds the workload of a pod.
    fn rebuild_workload(&mut self, subject: &Subject, name: &NamespacedName, changes: &mut Vec<Change>) {
        let built = self.pods.get(name).and_then(|pod| convert::workload(pod, self));
        let (change, facts) = match built {
            Some((workload, facts)) => (Change::Workload(Arc::new(workload)), facts),
            None => {
                let (namespace, name) = ((*name.namespace).into(), name.name.clone());
                (Change::WorkloadGone(WorkloadKind::Pod, namespace, name), BTreeSet::new())
            }
        };
        self.dependencies.set(subject, facts);
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

    /// Pods on the host's network share its address: when several have it, none is meant.
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
