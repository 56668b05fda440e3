use std::fmt::Write;

use pilot_core::model::{
    ConfigKind, ConfigObject, Endpoint, Health, Hostname, Locality, Resolution, Service as ModelService,
    TargetPort, TlsMode, Workload,
};

use super::*;
use crate::source::kubernetes::PendingPods;
use crate::source::objects::{Decoded, decode};

mod history;

fn options(pending_pods: PendingPods) -> RegistryOptions {
    RegistryOptions {
        domain_suffix: "cluster.local".into(),
        trust_domain: "td".into(),
        cluster_id: "c1".into(),
        system_namespace: "istio-system".into(),
        pending_pods,
    }
}

fn registry() -> ObservedRegistry {
    ObservedRegistry::new(PendingPods::Pass)
}

fn objects(yaml: &str) -> Vec<Object> {
    let documents: Vec<serde_json::Value> = serde_saphyr::from_multiple(yaml).unwrap();
    let items = documents.into_iter().flat_map(decode);
    items
        .map(|item| match item.decoded {
            Decoded::Object(object) => object,
            other => panic!("{other:?}"),
        })
        .collect()
}

fn upsert(object: Object) -> ObjectChange {
    ObjectChange::Updated(object)
}

/// Registry, and the state that its changes amount to.
struct ObservedRegistry {
    registry: Registry,
    state: ObservedState,
}

impl ObservedRegistry {
    fn new(pending_pods: PendingPods) -> Self {
        Self { registry: Registry::new(options(pending_pods)), state: ObservedState::default() }
    }

    /// Returns the changes that change the state.
    fn upsert(&mut self, yaml: &str) -> Vec<Change> {
        let changes = self.registry.apply(objects(yaml).into_iter().map(upsert));
        changes.into_iter().filter(|change| self.state.apply(change.clone())).collect()
    }

    fn delete(&mut self, yaml: &str) -> Vec<Change> {
        let deleted = objects(yaml).into_iter().map(|object| ObjectChange::Deleted(object.key()));
        let changes = self.registry.apply(deleted);
        changes.into_iter().filter(|change| self.state.apply(change.clone())).collect()
    }
}

/// Services, endpoints, workloads and configuration after all changes.
#[derive(Debug, Default, PartialEq)]
struct ObservedState {
    services: BTreeMap<Hostname, Arc<ModelService>>,
    endpoints: BTreeMap<Hostname, Vec<Endpoint>>,
    workloads: BTreeMap<Arc<str>, Arc<Workload>>,
    configs: BTreeMap<Arc<str>, Arc<ConfigObject>>,
}

impl ObservedState {
    /// Applies a change. Returns false if it changes nothing.
    fn apply(&mut self, change: Change) -> bool {
        match change {
            Change::Service(service) => {
                self.services.insert(service.hostname.clone(), service.clone()) != Some(service)
            }
            Change::ServiceGone(_, host) => self.services.remove(&host).is_some(),
            Change::Endpoints(_, host, list) if list.is_empty() => self.endpoints.remove(&host).is_some(),
            Change::Endpoints(_, host, list) => self.endpoints.insert(host, list.clone()) != Some(list),
            Change::Workload(pod) => self.workloads.insert(pod.name.clone(), pod.clone()) != Some(pod),
            Change::WorkloadGone(_, _, name) => self.workloads.remove(&name).is_some(),
            Change::Config(object) => {
                self.configs.insert(object.meta.name.clone(), object.clone()) != Some(object)
            }
            Change::ConfigGone(_, _, name) => self.configs.remove(&name).is_some(),
        }
    }
}

/// Returns the changes as text, such as `service web, endpoints [10.1.0.1:8080]`.
fn text_of(changes: &[Change]) -> String {
    let mut text = String::new();
    for change in changes {
        let separator = if text.is_empty() { "" } else { ", " };
        text.push_str(separator);
        match change {
            Change::Service(service) => write!(text, "service {}", service.name),
            Change::ServiceGone(_, host) => write!(text, "no service {host}"),
            Change::Endpoints(_, _, endpoints) => {
                let places =
                    endpoints.iter().map(|endpoint| format!("{}:{}", endpoint.address, endpoint.port));
                write!(text, "endpoints [{}]", places.collect::<Vec<_>>().join(" "))
            }
            Change::Workload(workload) => write!(text, "workload {}", workload.name),
            Change::WorkloadGone(_, _, name) => write!(text, "no workload {name}"),
            Change::Config(object) => write!(text, "config {}", object.meta.name),
            Change::ConfigGone(_, _, name) => write!(text, "no config {name}"),
        }
        .unwrap();
    }
    text
}

fn endpoints(changes: &[Change]) -> Vec<Endpoint> {
    let mut lists = changes.iter().rev().filter_map(|change| match change {
        Change::Endpoints(_, _, endpoints) => Some(endpoints.clone()),
        _ => None,
    });
    lists.next().unwrap()
}

fn workload(changes: &[Change]) -> Workload {
    let mut workloads = changes.iter().rev().filter_map(|change| match change {
        Change::Workload(workload) => Some((**workload).clone()),
        _ => None,
    });
    workloads.next().unwrap()
}

const SERVICE: &str = "{apiVersion: v1, kind: Service, metadata: {name: web}, spec: {clusterIP: 10.0.0.1, ports: [{name: http, port: 80}]}}";
const SLICE: &str = "{apiVersion: discovery.k8s.io/v1, kind: EndpointSlice, addressType: IPv4,
  metadata: {name: web-1, labels: {kubernetes.io/service-name: web}}, ports: [{name: http, port: 8080}],
  endpoints: [{addresses: [10.1.0.1], targetRef: {kind: Pod, name: web-a}, nodeName: n1}]}";
const POD: &str = "{apiVersion: v1, kind: Pod, metadata: {name: web-a, labels: {app: web, security.istio.io/tlsMode: istio}},
  spec: {serviceAccountName: web, nodeName: n1, containers: [{ports: [{name: http, containerPort: 8080}]}]},
  status: {podIP: 10.1.0.1, phase: Running}}";
const NODE: &str = "{apiVersion: v1, kind: Node, metadata: {name: n1, labels:
  {topology.kubernetes.io/region: eu, failure-domain.beta.kubernetes.io/zone: eu-1, topology.istio.io/subzone: rack}}}";

// === services ===

#[test]
fn service_type_decides_resolution_and_addresses() {
    let service = |spec: &str| {
        let yaml = format!("{{apiVersion: v1, kind: Service, metadata: {{name: a}}, spec: {spec}}}");
        match registry().upsert(&yaml).remove(0) {
            Change::Service(service) => (*service).clone(),
            other => panic!("{other:?}"),
        }
    };
    let addresses =
        |service: &ModelService| service.addresses.iter().map(ToString::to_string).collect::<Vec<_>>();

    let plain = service("{clusterIP: 10.0.0.1, clusterIPs: [10.0.0.1, 'fd00::1']}");
    assert_eq!(plain.hostname.as_str(), "a.default.svc.cluster.local");
    assert_eq!(plain.resolution, Resolution::ClientSideLb);
    assert_eq!(addresses(&plain), ["10.0.0.1", "fd00::1"]);

    let headless = service("{clusterIP: None, clusterIPs: [None]}");
    assert!(headless.is_headless() && headless.addresses.is_empty());

    let alias = service("{type: ExternalName, externalName: Example.com.}");
    assert_eq!(alias.resolution, Resolution::Alias("example.com".into()));

    let local = service("{internalTrafficPolicy: Local}");
    assert!(local.node_local && !plain.node_local);

    let ports = service(
        "{ports: [{name: a, port: 1}, {name: b, port: 2, targetPort: 20}, {name: c, port: 3, targetPort: web}]}",
    );
    let targets: Vec<_> = ports.ports.iter().map(|port| port.target.clone()).collect();
    assert_eq!(targets, [TargetPort::Number(1), TargetPort::Number(20), TargetPort::Name("web".into())]);
}

#[test]
fn annotations_set_export_to_and_service_accounts() {
    let changes = registry().upsert(
        "{apiVersion: v1, kind: Service, metadata: {name: a, namespace: ns, creationTimestamp: '1970-01-01T00:01:00Z',
          annotations: {networking.istio.io/exportTo: ' ., other,', alpha.istio.io/canonical-serviceaccounts: 'x@y',
          alpha.istio.io/kubernetes-serviceaccounts: 'one, two'}}}",
    );
    let Change::Service(service) = &changes[0] else { panic!("{changes:?}") };
    let export_to: Vec<_> = service.export_to.iter().map(|target| format!("{target:?}")).collect();
    assert_eq!(export_to, ["Private", "To(\"other\")"]);
    assert_eq!(service.service_accounts, ["x@y", "spiffe://td/ns/ns/sa/one", "spiffe://td/ns/ns/sa/two"]);
    assert_eq!(service.created, 60);
}

#[test]
fn unchanged_services_and_endpoints_are_no_change() {
    let mut registry = registry();
    assert_eq!(text_of(&registry.upsert(SERVICE)), "service web");
    assert_eq!(text_of(&registry.upsert(SERVICE)), "");
    assert_eq!(text_of(&registry.upsert(SLICE)), "endpoints [10.1.0.1:8080]");
    assert_eq!(text_of(&registry.upsert(SLICE)), "");
    // A field nobody reads.
    let annotated = SERVICE.replace("{name: web}", "{name: web, annotations: {a: b}, resourceVersion: '7'}");
    assert_eq!(text_of(&registry.upsert(&annotated)), "");
    assert_eq!(text_of(&registry.upsert(&SERVICE.replace("10.0.0.1", "10.0.0.2"))), "service web");
    assert_eq!(text_of(&registry.delete(SERVICE)), "endpoints [], no service web.default.svc.cluster.local");
    assert_eq!(text_of(&registry.delete(SERVICE)), "");
    // The slices were there all the time.
    assert_eq!(text_of(&registry.upsert(SERVICE)), "service web, endpoints [10.1.0.1:8080]");
}

#[test]
fn unchanged_configuration_is_no_change() {
    let entry =
        "{apiVersion: networking.istio.io/v1, kind: ServiceEntry, metadata: {name: e}, spec: {hosts: [a.b]}}";
    let workload = "{apiVersion: networking.istio.io/v1, kind: WorkloadEntry, metadata: {name: w}, spec: {address: 1.1.1.1}}";
    let mut registry = registry();
    assert_eq!(text_of(&registry.upsert(entry)), "config e");
    assert_eq!(text_of(&registry.upsert(entry)), "");
    assert_eq!(text_of(&registry.upsert(workload)), "config w");
    assert_eq!(text_of(&registry.delete(entry)), "no config e");
    assert_eq!(text_of(&registry.delete(entry)), "");
    assert_eq!(
        registry.delete(workload),
        [Change::ConfigGone(ConfigKind::WorkloadEntry, "default".into(), "w".into())]
    );
}

// === endpoints ===

#[test]
fn endpoint_slices_take_precedence_over_endpoints() {
    let legacy = "{apiVersion: v1, kind: Endpoints, metadata: {name: web}, subsets:
        [{addresses: [{ip: 10.9.0.1}], notReadyAddresses: [{ip: 10.9.0.2}], ports: [{name: http, port: 8080}]}]}";
    let mut registry = registry();
    registry.upsert(SERVICE);
    let changes = registry.upsert(legacy);
    assert_eq!(text_of(&changes), "endpoints [10.9.0.1:8080 10.9.0.2:8080]");
    let health: Vec<_> = endpoints(&changes).iter().map(|endpoint| endpoint.health).collect();
    assert_eq!(health, [Health::Healthy, Health::Unhealthy]);
    assert_eq!(text_of(&registry.upsert(SLICE)), "endpoints [10.1.0.1:8080]");
    assert_eq!(text_of(&registry.delete(legacy)), "");
    assert_eq!(text_of(&registry.upsert(legacy)), "");
    assert_eq!(text_of(&registry.delete(SLICE)), "endpoints [10.9.0.1:8080 10.9.0.2:8080]");
}

#[test]
fn endpoint_slices_of_a_service_are_merged() {
    let mut registry = registry();
    registry.upsert(SERVICE);
    registry.upsert(SLICE);
    let moving =
        SLICE.replace("web-1", "web-2").replace("targetRef", "conditions: {ready: false}, targetRef");
    // In both slices for a moment: the ready statement stands, whichever slice comes first.
    assert_eq!(text_of(&registry.upsert(&moving)), "");
    let second = moving.replace("10.1.0.1", "10.1.0.2").replace("web-a", "web-b");
    assert_eq!(text_of(&registry.upsert(&second)), "endpoints [10.1.0.1:8080 10.1.0.2:8080]");
    // A slice that is given to another service leaves the first one.
    let stolen = second.replace("service-name: web", "service-name: other");
    assert_eq!(text_of(&registry.upsert(&stolen)), "endpoints [10.1.0.1:8080]");
    assert_eq!(text_of(&registry.delete(SLICE)), "endpoints []");
}

#[test]
fn endpoint_conditions_decide_health() {
    let sessions = "labels: {istio.io/persistent-session: cookie}";
    for (conditions, metadata, spec, expected) in [
        ("{}", "", "", Health::Healthy),
        ("{ready: true, terminating: true}", "", "", Health::Healthy),
        ("{ready: false}", "", "", Health::Unhealthy),
        ("{ready: false}", "", "publishNotReadyAddresses: true", Health::Healthy),
        ("{ready: false, terminating: true}", "", "publishNotReadyAddresses: true", Health::Terminating),
        ("{ready: false, serving: true, terminating: true}", "", "", Health::Terminating),
        ("{ready: false, serving: true, terminating: true}", sessions, "", Health::Draining),
        ("{ready: false, serving: false, terminating: true}", sessions, "", Health::Terminating),
        ("{ready: false, serving: true}", sessions, "", Health::Unhealthy),
    ] {
        let mut registry = registry();
        registry.upsert(&format!(
            "{{apiVersion: v1, kind: Service, metadata: {{name: web, {metadata}}}, spec: {{{spec}}}}}"
        ));
        let changes =
            registry.upsert(&SLICE.replace("targetRef", &format!("conditions: {conditions}, targetRef")));
        assert_eq!(endpoints(&changes)[0].health, expected, "{conditions} {metadata} {spec}");
    }
}

#[test]
fn endpoint_has_identity_and_locality_of_pod_and_node() {
    let mut registry = registry();
    registry.upsert(SERVICE);
    let alone = endpoints(&registry.upsert(SLICE)).remove(0);
    assert_eq!((&*alone.workload, &*alone.service_account, &*alone.node), ("web-a", "", "n1"));
    assert_eq!((alone.tls_mode, alone.locality), (TlsMode::Disabled, Locality::default()));

    let with_pod = endpoints(&registry.upsert(POD)).remove(0);
    assert_eq!(&*with_pod.service_account, "spiffe://td/ns/default/sa/web");
    assert_eq!(with_pod.tls_mode, TlsMode::Istio);
    assert_eq!((with_pod.weight, with_pod.port, &*with_pod.port_name), (1, 8080, "http"));

    let with_node = endpoints(&registry.upsert(NODE)).remove(0);
    assert_eq!(with_node.locality, Locality::parse("eu/eu-1/rack"));
    let labels: Vec<_> = with_node.labels.iter().map(|(key, value)| format!("{key}={value}")).collect();
    assert_eq!(
        labels,
        [
            "app=web",
            "kubernetes.io/hostname=n1",
            "security.istio.io/tlsMode=istio",
            "topology.istio.io/cluster=c1",
            "topology.istio.io/subzone=rack",
            "topology.kubernetes.io/region=eu",
            "topology.kubernetes.io/zone=eu-1",
        ]
    );

    let own =
        POD.replace("{app: web,", "{app: web, istio-locality: us.us-1.row, topology.istio.io/network: vpn,");
    let placed = endpoints(&registry.upsert(&own)).remove(0);
    assert_eq!((placed.locality, &*placed.network), (Locality::parse("us/us-1/row"), "vpn"));
}

#[test]
fn system_namespace_sets_the_network() {
    let mut registry = registry();
    registry.upsert(&[SERVICE, SLICE, POD].join("\n---\n"));
    let system = "{apiVersion: v1, kind: Namespace, metadata: {name: istio-system, labels: {topology.istio.io/network: net}}}";
    let changes = registry.upsert(system);
    assert_eq!(text_of(&changes), "workload web-a, endpoints [10.1.0.1:8080]");
    assert_eq!((&*endpoints(&changes)[0].network, &*workload(&changes).network), ("net", "net"));
    assert_eq!(text_of(&registry.upsert(&system.replace("istio-system", "other"))), "");
    assert_eq!(&*endpoints(&registry.delete(system))[0].network, "");
}

#[test]
fn traffic_distribution_of_service_or_namespace() {
    let annotated =
        |value: &str| format!("annotations: {{networking.istio.io/traffic-distribution: {value}}}");
    let service = |metadata: &str, spec: &str| {
        format!("{{apiVersion: v1, kind: Service, metadata: {{name: a, {metadata}}}, spec: {{{spec}}}}}")
    };
    let namespace = |metadata: &str| {
        format!("{{apiVersion: v1, kind: Namespace, metadata: {{name: default, {metadata}}}}}")
    };
    let distribution_of = |changes: &[Change]| match changes {
        [Change::Service(service)] => Some(service.distribution),
        _ => None,
    };
    let mut registry = registry();
    let mut distribution = |yaml: &str| distribution_of(&registry.upsert(yaml));
    assert_eq!(distribution(&service("", "")), Some(Distribution::Any));
    assert_eq!(distribution(&namespace(&annotated("PreferClose"))), Some(Distribution::SameZone));
    assert_eq!(distribution(&service(&annotated("PreferSameNode"), "")), Some(Distribution::SameNode));
    assert_eq!(distribution(&namespace("")), None, "the setting of the service takes precedence");
    assert_eq!(
        distribution(&service(&annotated("PreferSameNode"), "trafficDistribution: PreferClose")),
        Some(Distribution::SameZone)
    );
    assert_eq!(distribution(&service("", "")), Some(Distribution::Any));
    assert_eq!(distribution(&namespace(&annotated("prefersamezone"))), Some(Distribution::SameZone));
    assert_eq!(distribution_of(&registry.delete(&namespace(""))), Some(Distribution::Any));
}

#[test]
fn endpoint_is_held_until_its_pod_arrives() {
    let mut registry = ObservedRegistry::new(PendingPods::Hold);
    assert_eq!(text_of(&registry.upsert(SERVICE)), "service web");
    assert_eq!(text_of(&registry.upsert(SLICE)), "");
    assert_eq!(text_of(&registry.upsert(POD)), "workload web-a, endpoints [10.1.0.1:8080]");
    assert_eq!(text_of(&registry.delete(POD)), "no workload web-a, endpoints []");
    // What names no pod has none to wait for.
    let free = SLICE.replace("targetRef: {kind: Pod, name: web-a}, ", "");
    assert_eq!(text_of(&registry.upsert(&free)), "endpoints [10.1.0.1:8080]");
}

#[test]
fn endpoint_without_target_ref_matches_its_pod_by_address() {
    let mut registry = registry();
    registry.upsert(SERVICE);
    registry.upsert(&SLICE.replace("targetRef: {kind: Pod, name: web-a}, ", ""));
    assert_eq!(&*endpoints(&registry.upsert(POD))[0].workload, "web-a");
    // Two pods on the host's network: neither.
    let twin = POD.replace("name: web-a", "name: web-b");
    assert_eq!(&*endpoints(&registry.upsert(&twin))[0].workload, "");
    assert_eq!(&*endpoints(&registry.upsert(&twin.replace("10.1.0.1", "10.1.0.9")))[0].workload, "web-a");
}

// === workloads ===

#[test]
fn running_pod_is_a_workload() {
    let mut registry = registry();
    let pod = workload(&registry.upsert(POD));
    assert_eq!((pod.health, pod.ports["http"], pod.weight), (Health::Healthy, 8080, 1));

    let with = |from: &str, to: &str| POD.replace(from, to);
    let not_ready = with("phase: Running", "conditions: [{type: Ready, status: 'False'}]");
    assert_eq!(workload(&registry.upsert(&not_ready)).health, Health::Unhealthy);
    let ending = with("{name: web-a,", "{name: web-a, deletionTimestamp: '2026-08-22T10:11:12Z',");
    assert_eq!(workload(&registry.upsert(&ending)).health, Health::Terminating);
    assert_eq!(text_of(&registry.upsert(&with("phase: Running", "phase: Failed"))), "no workload web-a");
    assert_eq!(text_of(&registry.upsert(POD)), "workload web-a");
    assert_eq!(text_of(&registry.upsert(&with("podIP: 10.1.0.1", "podIP: ''"))), "no workload web-a");
    assert_eq!(text_of(&registry.delete(POD)), "");
}

#[test]
fn named_ports_are_those_of_containers_and_sidecars() {
    let changes = registry().upsert(
        "{apiVersion: v1, kind: Pod, metadata: {name: a}, status: {podIP: 1.1.1.1, podIPs: [{ip: 1.1.1.1}, {ip: '::1'}]},
          spec: {containers: [{ports: [{name: a, containerPort: 1}, {name: u, containerPort: 2, protocol: UDP}, {containerPort: 3}]},
            {ports: [{name: a, containerPort: 4}]}],
          initContainers: [{ports: [{name: once, containerPort: 5}]}, {restartPolicy: Always, ports: [{name: beside, containerPort: 6}]}]}}",
    );
    let pod = workload(&changes);
    assert_eq!(pod.ports, BTreeMap::from([("a".into(), 1), ("beside".into(), 6)]));
    assert_eq!(pod.addresses.iter().map(ToString::to_string).collect::<Vec<_>>(), ["1.1.1.1", "::1"]);
    assert_eq!(&*pod.service_account, "spiffe://td/ns/default/sa/default");
}
