//! What Kubernetes objects mean in the model: the rules, without memory. `registry` decides when they apply.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::sync::Arc;

use pilot_core::model::{
    Endpoint, EndpointAddress, ExportTo, Health, Hostname, Labels, Locality, Location, Protocol, Registry,
    Resolution, Service, ServicePort, TargetPort, TlsMode, Vip, Workload, WorkloadKind,
};
use pilot_proto::identity::SpiffeId;

use super::dependencies::Fact;
use super::objects::{
    self, AddressType, EndpointConditions, EndpointSlice, Endpoints, IntOrString, InternalTrafficPolicy,
    Metadata, NamespacedName, Node, Pod, PodPhase, ServiceType, TargetRef, Transport,
};
use super::registry::{PendingPods, RegistryOptions};

const EXPORT_TO: &str = "networking.istio.io/exportTo";
const CANONICAL_ACCOUNTS: &str = "alpha.istio.io/canonical-serviceaccounts";
const KUBERNETES_ACCOUNTS: &str = "alpha.istio.io/kubernetes-serviceaccounts";
const TLS_MODE: &str = "security.istio.io/tlsMode";
const SUBZONE: &str = "topology.istio.io/subzone";
const CLUSTER: &str = "topology.istio.io/cluster";
const REGION: [&str; 2] = ["topology.kubernetes.io/region", "failure-domain.beta.kubernetes.io/region"];
const ZONE: [&str; 2] = ["topology.kubernetes.io/zone", "failure-domain.beta.kubernetes.io/zone"];
const LOCALITY: [&str; 2] = ["topology.istio.io/locality", "istio-locality"];
const HOSTNAME: &str = "kubernetes.io/hostname";
/// Names the network of a pod, or of everything when the system namespace has it.
pub(super) const NETWORK: &str = "topology.istio.io/network";
/// Either of them on a service: endpoints that shut down keep the sessions they have.
const PERSISTENT_SESSION: [&str; 2] = ["istio.io/persistent-session", "istio.io/persistent-session-header"];

/// What endpoints and workloads are looked up in.
pub(super) trait Surroundings {
    /// The registry's options.
    fn options(&self) -> &RegistryOptions;
    /// The pod of this name.
    fn pod(&self, name: &NamespacedName) -> Option<&Pod>;
    /// The one pod of this namespace that has this address.
    fn pod_at(&self, namespace: &str, ip: IpAddr) -> Option<&Pod>;
    /// The node of this name.
    fn node(&self, name: &str) -> Option<&Node>;
    /// The network that the system namespace declares.
    fn system_network(&self) -> &Arc<str>;
}

/// Surroundings that remember what was asked of them.
struct Lookup<'a, S> {
    surroundings: &'a S,
    facts: &'a mut BTreeSet<Fact>,
}

// === services ===

/// The host name clients use for a service.
pub(super) fn hostname(name: &NamespacedName, options: &RegistryOptions) -> Hostname {
    format!("{}.{}.svc.{}", name.name, name.namespace, options.domain_suffix).into()
}

/// A Kubernetes service in the model.
pub(super) fn service(service: &objects::Service, options: &RegistryOptions) -> Service {
    let (metadata, spec) = (&service.metadata, &service.spec);
    let (resolution, location) = match spec.kind {
        ServiceType::ExternalName => {
            let target = spec.external_name.trim_end_matches('.').to_ascii_lowercase();
            (Resolution::Alias(target.into()), Location::MeshExternal)
        }
        _ if spec.cluster_ip == "None" => (Resolution::Passthrough, Location::MeshInternal),
        _ => (Resolution::ClientSideLb, Location::MeshInternal),
    };
    Service {
        hostname: hostname(&metadata.id(), options),
        namespace: (*metadata.namespace).into(),
        name: metadata.name.clone(),
        registry: Registry::Kubernetes,
        ports: spec.ports.iter().map(service_port).collect(),
        addresses: addresses(spec),
        resolution,
        location,
        export_to: annotated(metadata, EXPORT_TO).map(ExportTo::parse).collect(),
        labels: (*metadata.labels).clone(),
        selector: spec.selector.clone(),
        service_accounts: annotated(metadata, CANONICAL_ACCOUNTS)
            .map(str::to_owned)
            .chain(
                annotated(metadata, KUBERNETES_ACCOUNTS)
                    .map(|account| identity(options, &metadata.namespace, account)),
            )
            .collect(),
        created: metadata.creation_timestamp.0,
        node_local: spec.internal_traffic_policy == InternalTrafficPolicy::Local,
    }
}

fn service_port(port: &objects::ServicePort) -> ServicePort {
    let transport = match port.protocol {
        Transport::Udp => "UDP",
        Transport::Tcp | Transport::Sctp => "TCP",
    };
    ServicePort {
        name: port.name.clone(),
        port: port.port,
        protocol: Protocol::select(transport, port.app_protocol.as_deref(), &port.name, port.port),
        target: match &port.target_port {
            None => TargetPort::Number(port.port),
            Some(IntOrString::Number(number)) => TargetPort::Number(*number),
            Some(IntOrString::Name(name)) => TargetPort::Name(name.clone()),
        },
    }
}

/// `clusterIPs` repeats `clusterIP` and adds the second family.
fn addresses(spec: &objects::ServiceSpec) -> Vec<Vip> {
    let first = std::iter::once(&spec.cluster_ip);
    let mut found = Vec::new();
    for vip in first.chain(&spec.cluster_ips).filter_map(|ip| ip.parse().ok()).map(Vip::host) {
        if !found.contains(&vip) {
            found.push(vip);
        }
    }
    found
}

/// Elements of an annotation that holds a list with commas.
fn annotated<'a>(metadata: &'a Metadata, annotation: &str) -> impl Iterator<Item = &'a str> {
    let list = metadata.annotations.get(annotation).map(String::as_str).unwrap_or_default();
    list.split(',').map(str::trim).filter(|element| !element.is_empty())
}

fn identity(options: &RegistryOptions, namespace: &str, account: &str) -> String {
    SpiffeId {
        trust_domain: options.trust_domain.clone(),
        namespace: namespace.to_owned(),
        service_account: account.to_owned(),
    }
    .to_string()
}

// === endpoints ===

/// Everything that serves a service, in order and without repetition, and what that depends on.
///
/// Slices win over `Endpoints` of the same service, which the control plane of Kubernetes mirrors into slices.
pub(super) fn endpoints<'a>(
    service: &objects::Service,
    slices: impl Iterator<Item = &'a EndpointSlice>,
    legacy: Option<&Endpoints>,
    surroundings: &impl Surroundings,
) -> (Vec<Endpoint>, BTreeSet<Fact>) {
    let mut facts = BTreeSet::new();
    let mut lookup = Lookup { surroundings, facts: &mut facts };
    let mut found = Vec::new();
    let mut slices = slices.peekable();
    if service.spec.kind == ServiceType::ExternalName {
        // Another name for a host that has its own endpoints.
    } else if slices.peek().is_some() {
        slices.for_each(|slice| of_slice(service, slice, &mut lookup, &mut found));
    } else if let Some(legacy) = legacy {
        of_endpoints(service, legacy, &mut lookup, &mut found);
    }
    // While an endpoint moves from one slice to another it may be in both; the healthier statement stands.
    found.sort_by(|a, b| (place(a), a.health).cmp(&(place(b), b.health)).then_with(|| a.cmp(b)));
    found.dedup_by(|later, earlier| place(later) == place(earlier));
    (found, facts)
}

fn place(endpoint: &Endpoint) -> (&EndpointAddress, u16, &str) {
    (&endpoint.address, endpoint.port, &endpoint.port_name)
}

fn of_slice(
    service: &objects::Service,
    slice: &EndpointSlice,
    lookup: &mut Lookup<'_, impl Surroundings>,
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
    service: &objects::Service,
    endpoints: &Endpoints,
    lookup: &mut Lookup<'_, impl Surroundings>,
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

/// Absent conditions mean what the API says they mean: ready, serving as `ready`, not terminating.
fn health(service: &objects::Service, conditions: EndpointConditions) -> Health {
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

// === workloads ===

/// A pod in the model, unless it has no address (yet) or has ended.
pub(super) fn workload(pod: &Pod, surroundings: &impl Surroundings) -> Option<(Workload, BTreeSet<Fact>)> {
    let addresses: Vec<EndpointAddress> = pod.ips().map(EndpointAddress::Ip).collect();
    if addresses.is_empty() || matches!(pod.status.phase, PodPhase::Succeeded | PodPhase::Failed) {
        return None;
    }
    let mut facts = BTreeSet::new();
    let mut lookup = Lookup { surroundings, facts: &mut facts };
    let workload = Workload {
        kind: WorkloadKind::Pod,
        namespace: (*pod.metadata.namespace).into(),
        name: pod.metadata.name.clone(),
        addresses,
        labels: pod.metadata.labels.clone(),
        ports: container_ports(pod),
        service_account: account(pod, surroundings.options()),
        network: lookup.network(Some(pod)),
        locality: lookup.locality(Some(pod), &pod.spec.node_name),
        weight: 1,
        health: pod_health(pod),
        tls_mode: TlsMode::from_label(pod.metadata.label(TLS_MODE)),
        node: pod.spec.node_name.clone(),
    };
    Some((workload, facts))
}

/// The kubelet always states `Ready`; a manifest written by hand that leaves it out means a pod that works.
fn pod_health(pod: &Pod) -> Health {
    let ready = pod.status.conditions.iter().find(|condition| condition.kind == "Ready");
    match ready {
        _ if pod.metadata.deletion_timestamp.is_some() => Health::Terminating,
        Some(condition) if condition.status != "True" => Health::Unhealthy,
        _ => Health::Healthy,
    }
}

/// Named TCP ports of everything that runs for as long as the pod. The first of a name wins, as in Kubernetes.
fn container_ports(pod: &Pod) -> BTreeMap<String, u16> {
    let sidecars = pod.spec.init_containers.iter().filter(|container| container.restart_policy == "Always");
    let mut ports = BTreeMap::new();
    for port in pod.spec.containers.iter().chain(sidecars).flat_map(|container| &container.ports) {
        if !port.name.is_empty() && port.protocol == Transport::Tcp {
            ports.entry(port.name.clone()).or_insert(port.number);
        }
    }
    ports
}

fn account(pod: &Pod, options: &RegistryOptions) -> Arc<str> {
    let name = match pod.spec.service_account_name.as_str() {
        "" => "default",
        name => name,
    };
    identity(options, &pod.metadata.namespace, name).into()
}

// === impl Lookup ===

impl<S: Surroundings> Lookup<'_, S> {
    /// What is the same for every port of an address; `None` while it waits for its pod.
    fn endpoint(
        &mut self,
        namespace: &Arc<str>,
        ip: IpAddr,
        target: Option<&TargetRef>,
        node: Option<&Arc<str>>,
    ) -> Option<Endpoint> {
        let surroundings = self.surroundings;
        let options = surroundings.options();
        let target = target.filter(|target| target.kind == "Pod" && !target.name.is_empty());
        let pod = if let Some(target) = target {
            let namespace = if target.namespace.is_empty() { namespace } else { &target.namespace };
            let name = NamespacedName { namespace: namespace.clone(), name: target.name.clone() };
            let pod = surroundings.pod(&name);
            self.facts.insert(Fact::Pod(name));
            if pod.is_none() && options.pending_pods == PendingPods::Hold {
                return None;
            }
            pod
        } else {
            self.facts.insert(Fact::PodAt(ip));
            surroundings.pod_at(namespace, ip)
        };
        let node = match pod {
            Some(pod) => pod.spec.node_name.clone(),
            None => node.cloned().unwrap_or_default(),
        };
        let network = self.network(pod);
        let locality = self.locality(pod, &node);
        Some(Endpoint {
            address: EndpointAddress::Ip(ip),
            port: 0,
            port_name: "".into(),
            labels: augmented(pod, &locality, &network, &node, options),
            service_account: pod.map(|pod| account(pod, options)).unwrap_or_default(),
            tls_mode: TlsMode::from_label(pod.and_then(|pod| pod.metadata.label(TLS_MODE))),
            namespace: (**pod.map_or(namespace, |pod| &pod.metadata.namespace)).into(),
            workload: match (pod, target) {
                (Some(pod), _) => pod.metadata.name.clone(),
                (None, Some(target)) => target.name.clone(),
                (None, None) => "".into(),
            },
            weight: 1,
            health: Health::Healthy,
            network,
            locality,
            node,
        })
    }

    fn network(&mut self, pod: Option<&Pod>) -> Arc<str> {
        if let Some(network) = pod.and_then(|pod| pod.metadata.label(NETWORK)) {
            return network.into();
        }
        self.facts.insert(Fact::SystemNetwork);
        self.surroundings.system_network().clone()
    }

    /// What the pod says, else what its node says.
    fn locality(&mut self, pod: Option<&Pod>, node: &Arc<str>) -> Locality {
        let own = pod.and_then(|pod| LOCALITY.iter().find_map(|label| pod.metadata.label(label)));
        if let Some(own) = own {
            return Locality::parse(own);
        }
        if node.is_empty() {
            return Locality::default();
        }
        self.facts.insert(Fact::Node(node.clone()));
        let Some(node) = self.surroundings.node(node) else { return Locality::default() };
        let label = |names: &[&str]| -> Arc<str> {
            names.iter().find_map(|name| node.metadata.label(name)).unwrap_or_default().into()
        };
        Locality { region: label(&REGION), zone: label(&ZONE), sub_zone: label(&[SUBZONE]) }
    }
}

/// The pod's labels and where it runs: subsets may select by either.
fn augmented(
    pod: Option<&Pod>,
    locality: &Locality,
    network: &Arc<str>,
    node: &Arc<str>,
    options: &RegistryOptions,
) -> Labels {
    let [region, zone] = [REGION, ZONE].map(|[label, _]| label);
    let place = [
        (region, &*locality.region),
        (zone, &*locality.zone),
        (SUBZONE, &*locality.sub_zone),
        (CLUSTER, &*options.cluster_id),
        (HOSTNAME, &**node),
        (NETWORK, &**network),
    ];
    let mut labels = pod.map(|pod| (*pod.metadata.labels).clone()).unwrap_or_default();
    for (label, value) in place {
        if !value.is_empty() {
            labels.insert(label.to_owned(), value.to_owned());
        }
    }
    Arc::new(labels)
}
