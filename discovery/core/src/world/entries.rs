//! `ServiceEntry` and `WorkloadEntry`: services and endpoints of declared hosts and machines.
//!
//! A `ServiceEntry` is one service for each of its hosts. Its endpoints are listed in it, or are the pods and `WorkloadEntry`s of
//! its namespace that its selector matches; a Kubernetes service selects `WorkloadEntry`s likewise.
//! <https://istio.io/latest/docs/reference/config/networking/service-entry/>

use std::collections::BTreeMap;
use std::sync::Arc;

use pilot_proto::identity::SpiffeId;

use super::{Changes, Origin, ServiceKey, World};
use crate::api::service_entry::{ServiceEntryLocation, ServiceEntryPort, ServiceEntryResolution};
use crate::api::{ServiceEntry, WorkloadEntry};
use crate::model::{
    ConfigKind, ConfigMeta, ConfigObject, ConfigSpec, Distribution, Endpoint, EndpointAddress, ExportTo,
    Health, Hostname, Labels, Locality, Location, Namespace, Protocol, Registry, Resolution, Service,
    ServicePort, TargetPort, TlsMode, Vip, Workload, WorkloadKind, selects,
};

// === impl World ===

impl World {
    /// Updates the declarations of a `ServiceEntry`; `None`: it was removed.
    pub(super) fn entry_changed(
        &mut self,
        namespace: &Namespace,
        name: &Arc<str>,
        object: Option<&ConfigObject>,
        changes: &mut Changes,
    ) {
        let origin = Origin::Entry(name.clone());
        let entry = object.and_then(|object| match &object.spec {
            ConfigSpec::ServiceEntry(entry) => Some((&object.meta, entry)),
            _ => None,
        });
        let names = self.entries_in.entry(namespace.clone()).or_default();
        match entry {
            Some((_, entry)) if entry.workload_selector.is_some() => names.insert(name.clone()),
            _ => names.remove(name),
        };
        if names.is_empty() {
            self.entries_in.remove(namespace);
        }
        let services = entry.map(|(meta, entry)| services(meta, entry)).unwrap_or_default();
        let id = (namespace.clone(), name.clone());
        for host in self.hosts_of_entry.remove(&id).unwrap_or_default() {
            if !services.iter().any(|service| service.hostname == host) {
                let key = (host, namespace.clone());
                self.declare_endpoints(&key, origin.clone(), Vec::new(), changes);
                self.declare_service(&key, origin.clone(), None, changes);
            }
        }
        if !services.is_empty() {
            self.hosts_of_entry.insert(id, services.iter().map(|service| service.hostname.clone()).collect());
        }
        for service in services {
            let key = (service.hostname.clone(), namespace.clone());
            self.declare_service(&key, origin.clone(), Some(service), changes);
        }
        if let Some((meta, entry)) = entry {
            self.declare_entry_endpoints(meta, entry, changes);
        }
    }

    fn declare_entry_endpoints(&mut self, meta: &ConfigMeta, entry: &ServiceEntry, changes: &mut Changes) {
        let workloads: Vec<Arc<Workload>> = match &entry.workload_selector {
            None => listed(meta, entry, &self.mesh.trust_domain),
            Some(selector) => self
                .workloads_of(&meta.namespace)
                .filter(|workload| serves(workload) && selects(&selector.labels, &workload.labels))
                .cloned()
                .collect(),
        };
        for host in &entry.hosts {
            let endpoints = endpoints(host, entry, &workloads, &meta.namespace);
            let key = (Hostname::from(host.as_str()), meta.namespace.clone());
            self.declare_endpoints(&key, Origin::Entry(meta.name.clone()), endpoints, changes);
        }
    }

    /// Updates the services with a selector that matches one of the versions of a changed workload.
    pub(super) fn reselect(
        &mut self,
        namespace: &Namespace,
        versions: &[Option<Arc<Workload>>; 2],
        changes: &mut Changes,
    ) {
        let picked = |selector: &BTreeMap<String, String>| {
            versions.iter().flatten().any(|workload| selects(selector, &workload.labels))
        };
        let objects: Vec<Arc<ConfigObject>> = self
            .entries_in
            .get(namespace)
            .into_iter()
            .flatten()
            .filter_map(|name| {
                self.configs.get(&(ConfigKind::ServiceEntry, namespace.clone(), name.clone())).cloned()
            })
            .collect();
        for object in objects {
            if let ConfigSpec::ServiceEntry(entry) = &object.spec
                && entry.workload_selector.as_ref().is_some_and(|selector| picked(&selector.labels))
            {
                self.declare_entry_endpoints(&object.meta, entry, changes);
            }
        }
        if versions.iter().flatten().any(|workload| workload.kind == WorkloadKind::WorkloadEntry) {
            let keys: Vec<ServiceKey> = self
                .in_namespace
                .get(namespace)
                .into_iter()
                .flatten()
                .map(|host| (host.clone(), namespace.clone()))
                .filter(|key| self.services.get(key).is_some_and(|service| picked(&service.selector)))
                .collect();
            for key in keys {
                self.select_workload_entries(&key, changes);
            }
        }
    }

    /// Updates the endpoints of a Kubernetes service with a selector from the `WorkloadEntry`s that it matches.
    pub(super) fn select_workload_entries(&mut self, key: &ServiceKey, changes: &mut Changes) {
        let service = self.services.get(key).filter(|service| {
            service.registry.has_pods()
                && service.resolution == Resolution::ClientSideLb
                && !service.selector.is_empty()
        });
        let endpoints = service.cloned().map_or_else(Vec::new, |service| {
            self.workloads_of(&key.1)
                .filter(|workload| workload.kind == WorkloadKind::WorkloadEntry)
                .filter(|workload| selects(&service.selector, &workload.labels))
                .flat_map(|workload| {
                    service.ports.iter().filter_map(|port| {
                        let number = workload.ports.get(&*port.name).copied().or(match port.target {
                            TargetPort::Number(number) => Some(number),
                            TargetPort::Name(_) => None,
                        })?;
                        endpoint(workload, port.name.clone(), number)
                    })
                })
                .collect()
        });
        let known = self
            .declared_endpoints
            .get(key)
            .is_some_and(|declared| declared.contains_key(&Origin::SelectedWorkloads));
        if known || !endpoints.is_empty() {
            self.declare_endpoints(key, Origin::SelectedWorkloads, endpoints, changes);
        }
    }

    fn workloads_of(&self, namespace: &Namespace) -> impl Iterator<Item = &Arc<Workload>> {
        self.workloads_in.get(namespace).into_iter().flatten().filter_map(|name| self.workloads.get(name))
    }
}

/// Returns `true` if a selector can match the workload. A pod that is not ready is left out, as in Istio, where it is not in the
/// registry; the readiness of a declared machine is not known.
fn serves(workload: &Workload) -> bool {
    workload.kind == WorkloadKind::WorkloadEntry || workload.health == Health::Healthy
}

/// Returns the services of a `ServiceEntry`, one for each host.
fn services(meta: &ConfigMeta, entry: &ServiceEntry) -> Vec<Arc<Service>> {
    let ports: Vec<ServicePort> = entry.ports.iter().filter_map(service_port).collect();
    let resolution = match entry.resolution {
        ServiceEntryResolution::None => Resolution::Passthrough,
        ServiceEntryResolution::Static => Resolution::ClientSideLb,
        ServiceEntryResolution::Dns => Resolution::Dns,
        ServiceEntryResolution::DnsRoundRobin => Resolution::DnsRoundRobin,
        ServiceEntryResolution::DynamicDns => Resolution::DynamicDns,
    };
    let service = |host: &String| {
        Arc::new(Service {
            hostname: host.as_str().into(),
            namespace: meta.namespace.clone(),
            name: meta.name.clone(),
            registry: Registry::External,
            ports: ports.clone(),
            addresses: entry.addresses.iter().filter_map(|address| Vip::parse(address)).collect(),
            resolution: resolution.clone(),
            location: match entry.location {
                ServiceEntryLocation::MeshExternal => Location::MeshExternal,
                ServiceEntryLocation::MeshInternal => Location::MeshInternal,
            },
            export_to: entry.export_to.iter().map(|target| ExportTo::parse(target)).collect(),
            labels: meta.labels.clone(),
            selector: entry
                .workload_selector
                .as_ref()
                .map(|selector| selector.labels.clone())
                .unwrap_or_default(),
            service_accounts: entry.subject_alt_names.clone(),
            created: meta.created,
            node_local: false,
            distribution: Distribution::of(
                None,
                meta.annotations.get(Distribution::ANNOTATION).map(String::as_str),
            ),
        })
    };
    entry.hosts.iter().map(service).collect()
}

/// Converts a port. Ports out of range are rejected with the object; one that comes here is left out.
fn service_port(port: &ServiceEntryPort) -> Option<ServicePort> {
    let number = u16::try_from(port.number).ok().filter(|number| *number > 0)?;
    let target = u16::try_from(port.target_port).ok().filter(|number| *number > 0).unwrap_or(number);
    let protocol = match port.protocol.as_str() {
        "" => Protocol::select("TCP", None, &port.name, number),
        declared => Protocol::select(declared, Some(declared), &port.name, number),
    };
    Some(ServicePort {
        name: port.name.as_str().into(),
        port: number,
        protocol,
        target: TargetPort::Number(target),
    })
}

/// Returns the endpoints of a `ServiceEntry` as unnamed `WorkloadEntry`s. With DNS resolution and without endpoints, the host is
/// the endpoint.
fn listed(meta: &ConfigMeta, entry: &ServiceEntry, trust_domain: &str) -> Vec<Arc<Workload>> {
    let workload = |(index, listed): (usize, &WorkloadEntry)| {
        let meta = ConfigMeta {
            namespace: meta.namespace.clone(),
            name: format!("{}-{index}", meta.name).into(),
            labels: BTreeMap::new(),
            annotations: BTreeMap::new(),
            created: meta.created,
        };
        Arc::new(self::workload(&meta, listed, trust_domain))
    };
    entry.endpoints.iter().enumerate().map(workload).collect()
}

/// Returns the endpoints of one host of a `ServiceEntry` at these workloads.
fn endpoints(
    host: &str,
    entry: &ServiceEntry,
    workloads: &[Arc<Workload>],
    namespace: &Namespace,
) -> Vec<Endpoint> {
    let is_dns =
        matches!(entry.resolution, ServiceEntryResolution::Dns | ServiceEntryResolution::DnsRoundRobin);
    let ports = || entry.ports.iter().filter_map(service_port);
    let target = |port: &ServicePort| match port.target {
        TargetPort::Number(number) => number,
        TargetPort::Name(_) => port.port,
    };
    if is_dns && workloads.is_empty() && entry.workload_selector.is_none() {
        return ports().map(|port| synthetic(host, &port, target(&port), namespace)).collect();
    }
    ports()
        .flat_map(|port| {
            workloads.iter().filter_map(move |workload| {
                // Container ports of pods are not service ports: only the ports of declared machines are mapped by name.
                let mapped = workload.ports.get(&*port.name).copied();
                let number = mapped.filter(|_| workload.kind == WorkloadKind::WorkloadEntry);
                endpoint(workload, port.name.clone(), number.unwrap_or_else(|| target(&port)))
            })
        })
        .collect()
}

/// Returns the host itself as endpoint, for the proxy to resolve.
fn synthetic(host: &str, port: &ServicePort, number: u16, namespace: &Namespace) -> Endpoint {
    Endpoint {
        address: EndpointAddress::Dns(host.into()),
        port: number,
        port_name: port.name.clone(),
        labels: Labels::default(),
        service_account: "".into(),
        network: "".into(),
        locality: Locality::default(),
        weight: 1,
        health: Health::Healthy,
        tls_mode: TlsMode::Disabled,
        namespace: namespace.clone(),
        workload: "".into(),
        node: "".into(),
    }
}

fn endpoint(workload: &Workload, port_name: Arc<str>, number: u16) -> Option<Endpoint> {
    let address = workload.addresses.first()?.clone();
    let port = if matches!(address, EndpointAddress::Unix(_)) { 0 } else { number };
    Some(Endpoint {
        address,
        port,
        port_name,
        labels: workload.labels.clone(),
        service_account: workload.service_account.clone(),
        network: workload.network.clone(),
        locality: workload.locality.clone(),
        weight: workload.weight,
        health: workload.health,
        tls_mode: workload.tls_mode,
        namespace: workload.namespace.clone(),
        workload: workload.name.clone(),
        node: workload.node.clone(),
    })
}

/// Converts a `WorkloadEntry` to a workload. Labels of the object take precedence over those of its spec, and give the locality
/// if the spec has none; a machine with a service account has a sidecar unless its label says otherwise.
pub(super) fn workload(meta: &ConfigMeta, entry: &WorkloadEntry, trust_domain: &str) -> Workload {
    let mut labels = entry.labels.clone();
    labels.extend(meta.labels.clone());
    let tls_mode = match labels.get("security.istio.io/tlsMode") {
        Some(label) => TlsMode::from_label(Some(label)),
        None if entry.service_account.is_empty() => TlsMode::Disabled,
        None => TlsMode::Istio,
    };
    let locality = if entry.locality.is_empty() {
        labels
            .get("topology.istio.io/locality")
            .or_else(|| labels.get("istio-locality"))
            .map_or("", String::as_str)
    } else {
        &entry.locality
    };
    let service_account = if entry.service_account.is_empty() {
        String::new()
    } else {
        let (namespace, service_account) = (meta.namespace.to_string(), entry.service_account.clone());
        SpiffeId { trust_domain: trust_domain.to_owned(), namespace, service_account }.to_string()
    };
    let port = |(name, number): (&String, &u32)| Some((name.clone(), u16::try_from(*number).ok()?));
    Workload {
        kind: WorkloadKind::WorkloadEntry,
        namespace: meta.namespace.clone(),
        name: meta.name.clone(),
        addresses: address(&entry.address).into_iter().collect(),
        ports: entry.ports.iter().filter_map(port).collect(),
        service_account: service_account.into(),
        network: entry.network.as_str().into(),
        locality: Locality::parse(locality),
        weight: entry.weight.max(1),
        health: Health::Healthy,
        tls_mode,
        node: "".into(),
        labels: labels.into(),
    }
}

/// Parses `unix:///path`, an IP address, or a host name; `None` if empty.
fn address(text: &str) -> Option<EndpointAddress> {
    match text.strip_prefix("unix://") {
        Some(path) => Some(EndpointAddress::Unix(path.into())),
        None if text.is_empty() => None,
        None => Some(text.parse().map_or_else(|_| EndpointAddress::Dns(text.into()), EndpointAddress::Ip)),
    }
}
