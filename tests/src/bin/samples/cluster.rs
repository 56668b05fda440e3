//! The cluster that Kubernetes would create from applied manifests: a pod for each deployment, addresses for each service,
//! endpoint slices; and the ingress gateway of an Istio installation.

use std::collections::BTreeMap;
use std::path::Path;

use anyhow::{Context, Result, ensure};
use pilot_tests::net::free_port;
use serde_json::{Value, json};

use crate::sets::{Gateway, Set, is_read, kind, objects};

/// Default namespace, and the namespace of every workload.
const NAMESPACE: &str = "default";

/// Namespace and name of the gateway.
pub(crate) const GATEWAY: (&str, &str) = ("istio-system", "istio-ingressgateway");

/// Applied objects and the objects derived from them.
pub(crate) struct Cluster {
    /// Objects by kind, namespace and name.
    objects: BTreeMap<[String; 3], Value>,
    /// Number of applied objects that the control plane reads.
    read: usize,
    /// Pods with a proxy.
    pub(crate) workloads: Vec<ProxiedPod>,
}

/// A pod with a proxy.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct ProxiedPod {
    pub(crate) namespace: String,
    pub(crate) name: String,
    /// Last byte of the address in 127.0.0.0/8 and in `fd00::/8`.
    number: u8,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Family {
    IPv4,
    IPv6,
}

// === impl Cluster ===

impl Cluster {
    /// Applies the files of a set one after the other; later objects replace earlier ones.
    pub(crate) fn apply(folder: &Path, set: &Set, gateway: Gateway) -> Result<Self> {
        let mut cluster = Self { objects: BTreeMap::new(), read: 0, workloads: Vec::new() };
        for file in &set.files {
            for object in objects(folder, file)? {
                cluster.put(object);
            }
        }
        cluster.read = cluster.objects.values().filter(|object| is_read(object)).count();
        let deployments: Vec<Value> = cluster.of_kind("Deployment").cloned().collect();
        for deployment in &deployments {
            ensure!(namespace(deployment) == NAMESPACE, "a deployment in {}", namespace(deployment));
            cluster.run(ProxiedPod::of(deployment)?, deployment.pointer("/spec/template"))?;
        }
        if gateway == Gateway::Present {
            cluster.add_gateway()?;
        }
        cluster.serve();
        Ok(cluster)
    }

    /// Returns the number of applied objects that the control plane reads.
    pub(crate) const fn read(&self) -> usize {
        self.read
    }

    /// Returns the manifests for the control plane.
    pub(crate) fn manifests(&self) -> Vec<Value> {
        self.objects.values().filter(|object| is_read(object)).cloned().collect()
    }

    fn put(&mut self, object: Value) {
        let key = [kind(&object), namespace(&object), name(&object)].map(str::to_owned);
        self.objects.insert(key, object);
    }

    fn of_kind<'a>(&'a self, kind_name: &'a str) -> impl Iterator<Item = &'a Value> {
        self.objects.values().filter(move |object| kind(object) == kind_name)
    }

    /// Creates a pod from this template.
    fn run(&mut self, workload: ProxiedPod, template: Option<&Value>) -> Result<()> {
        let template = template.context("a deployment without a template")?;
        let other = self.workloads.iter().find(|other| other.number == workload.number);
        ensure!(other.is_none(), "{workload:?} has the address of {other:?}");
        let metadata = template.get("metadata").and_then(Value::as_object);
        let mut metadata = metadata.cloned().unwrap_or_default();
        metadata.insert("name".to_owned(), workload.name.clone().into());
        metadata.insert("namespace".to_owned(), workload.namespace.clone().into());
        let [v4, v6] = [Family::IPv4, Family::IPv6].map(|family| workload.address(family));
        self.put(json!({
            "apiVersion": "v1",
            "kind": "Pod",
            "metadata": metadata,
            "spec": template.get("spec"),
            "status": {
                "phase": "Running",
                "podIP": v4,
                "podIPs": [{"ip": v4}, {"ip": v6}],
                "conditions": [{"type": "Ready", "status": "True"}],
            },
        }));
        self.workloads.push(workload);
        Ok(())
    }

    /// Adds Istio's gateway. Its service has each port of a `Gateway`, with a free target port on this machine.
    fn add_gateway(&mut self) -> Result<()> {
        let (namespace, name) = GATEWAY;
        let servers =
            self.of_kind("Gateway").filter_map(|gateway| gateway.pointer("/spec/servers")?.as_array());
        let mut numbers: Vec<u64> =
            servers.flatten().filter_map(|server| server.pointer("/port/number")?.as_u64()).collect();
        numbers.sort_unstable();
        numbers.dedup();
        let mut ports = vec![json!({"name": "status-port", "port": 15021, "targetPort": 15021})];
        for number in numbers {
            ports.push(json!({"name": format!("port-{number}"), "port": number, "targetPort": free_port()?}));
        }
        let labels = json!({"app": name, "istio": "ingressgateway"});
        self.put(json!({
            "apiVersion": "v1",
            "kind": "Service",
            "metadata": {"name": name, "namespace": namespace},
            "spec": {"selector": labels, "ports": ports},
        }));
        let workload = ProxiedPod { namespace: namespace.to_owned(), name: name.to_owned(), number: 9 };
        self.run(workload, Some(&json!({"metadata": {"labels": labels}, "spec": {"containers": []}})))
    }

    /// Assigns addresses and endpoints to every service.
    fn serve(&mut self) {
        let services: Vec<Value> = self.of_kind("Service").cloned().collect();
        for (mut service, last) in services.into_iter().zip(1_u8..) {
            let families = families(&service);
            let addresses: Vec<String> = families.iter().map(|family| family.of_service(last)).collect();
            for family in families {
                let slice = self.slice(&service, family);
                self.put(slice);
            }
            if let Some(spec) = service.get_mut("spec").and_then(Value::as_object_mut) {
                spec.insert("clusterIP".to_owned(), addresses.first().cloned().into());
                spec.insert("clusterIPs".to_owned(), addresses.into());
            }
            self.put(service);
        }
    }

    /// Returns the endpoint slice of the pods that a service selects, in one address family.
    fn slice(&self, service: &Value, family: Family) -> Value {
        let (namespace, service_name) = (namespace(service), name(service));
        let selected: Vec<(&ProxiedPod, &Value)> = self
            .workloads
            .iter()
            .filter(|workload| workload.namespace == namespace)
            .filter_map(|workload| {
                let pod =
                    self.objects.get(&["Pod", &workload.namespace, &workload.name].map(str::to_owned))?;
                selects(service, pod).then_some((workload, pod))
            })
            .collect();
        let endpoint = |(workload, _): &(&ProxiedPod, &Value)| {
            json!({
                "addresses": [workload.address(family)],
                "conditions": {"ready": true},
                "targetRef": {"kind": "Pod", "name": workload.name, "namespace": workload.namespace},
            })
        };
        let port = |port: &Value| {
            let target = match port.get("targetPort") {
                None => port.get("port").cloned(),
                Some(Value::String(named)) => {
                    selected.first().and_then(|(_, pod)| container_port(pod, named))
                }
                Some(number) => Some(number.clone()),
            };
            json!({"name": port.get("name").cloned().unwrap_or_default(), "port": target, "protocol": "TCP"})
        };
        let ports = service.pointer("/spec/ports").and_then(Value::as_array);
        json!({
            "apiVersion": "discovery.k8s.io/v1",
            "kind": "EndpointSlice",
            "metadata": {
                "name": format!("{service_name}-{}", family.name().to_lowercase()),
                "namespace": namespace,
                "labels": {"kubernetes.io/service-name": service_name},
            },
            "addressType": family.name(),
            "ports": ports.into_iter().flatten().map(port).collect::<Vec<_>>(),
            "endpoints": selected.iter().map(endpoint).collect::<Vec<_>>(),
        })
    }
}

// === impl ProxiedPod ===

impl ProxiedPod {
    /// Returns the pod of a deployment. Its address is the same in every set, because its proxy keeps running.
    fn of(deployment: &Value) -> Result<Self> {
        let name = name(deployment);
        // 10 to 249.
        let number = name.bytes().fold(7_u32, |sum, byte| (sum * 31 + u32::from(byte)) % 9_973) % 240 + 10;
        let number = u8::try_from(number).context("an address")?;
        Ok(Self { namespace: namespace(deployment).to_owned(), name: name.to_owned(), number })
    }

    /// Returns the last byte of the address.
    pub(crate) const fn last_byte(&self) -> u8 {
        self.number
    }

    fn address(&self, family: Family) -> String {
        match family {
            Family::IPv4 => format!("127.0.0.{}", self.number),
            Family::IPv6 => format!("fd00::{:x}", self.number),
        }
    }
}

// === impl Family ===

impl Family {
    const fn name(self) -> &'static str {
        match self {
            Self::IPv4 => "IPv4",
            Self::IPv6 => "IPv6",
        }
    }

    fn of_service(self, last: u8) -> String {
        match self {
            Self::IPv4 => format!("10.96.0.{last}"),
            Self::IPv6 => format!("fd00:96::{last:x}"),
        }
    }
}

/// Returns the address families of a service, the primary one first.
fn families(service: &Value) -> Vec<Family> {
    let listed = service.pointer("/spec/ipFamilies").and_then(Value::as_array).into_iter().flatten();
    let mut families: Vec<Family> =
        listed.map(|family| if family == "IPv6" { Family::IPv6 } else { Family::IPv4 }).collect();
    let policy = service.pointer("/spec/ipFamilyPolicy").and_then(Value::as_str).unwrap_or("SingleStack");
    let all: &[Family] =
        if policy == "SingleStack" { &[Family::IPv4] } else { &[Family::IPv4, Family::IPv6] };
    if families.is_empty() || policy != "SingleStack" {
        let missing: Vec<Family> = all.iter().copied().filter(|family| !families.contains(family)).collect();
        families.extend(missing);
    }
    families
}

fn selects(service: &Value, pod: &Value) -> bool {
    let selector = service.pointer("/spec/selector").and_then(Value::as_object);
    selector.is_some_and(|selector| {
        let labels = pod.pointer("/metadata/labels");
        selector.iter().all(|(key, value)| labels.and_then(|labels| labels.get(key)) == Some(value))
    })
}

fn container_port(pod: &Value, named: &str) -> Option<Value> {
    let containers = pod.pointer("/spec/containers")?.as_array()?;
    let ports = containers.iter().filter_map(|container| container.get("ports")?.as_array()).flatten();
    let mut found = ports.filter(|port| port.get("name").is_some_and(|name| name == named));
    found.next()?.get("containerPort").cloned()
}

fn name(object: &Value) -> &str {
    object.pointer("/metadata/name").and_then(Value::as_str).unwrap_or_default()
}

fn namespace(object: &Value) -> &str {
    object.pointer("/metadata/namespace").and_then(Value::as_str).unwrap_or(NAMESPACE)
}
