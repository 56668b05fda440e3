//! Rules that translate Kubernetes objects to the model. Stateless; `registry` decides when they are applied.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::sync::Arc;

use pilot_core::model::{Endpoint, EndpointAddress, Health, Labels, Locality, TlsMode};
use pilot_proto::identity::SpiffeId;

pub(super) use self::endpoints::endpoints;
pub(super) use self::service::{hostname, service};
pub(super) use self::workload::workload;
use super::dependencies::DependencyKey;
use super::options::{ClusterLookup, PendingPods, RegistryOptions};
use crate::source::objects::{NamespacedName, Pod, TargetRef};

mod endpoints;
mod service;
mod workload;

const TLS_MODE: &str = "security.istio.io/tlsMode";
const SUBZONE: &str = "topology.istio.io/subzone";
const CLUSTER: &str = "topology.istio.io/cluster";
const REGION: [&str; 2] = ["topology.kubernetes.io/region", "failure-domain.beta.kubernetes.io/region"];
const ZONE: [&str; 2] = ["topology.kubernetes.io/zone", "failure-domain.beta.kubernetes.io/zone"];
const LOCALITY: [&str; 2] = ["topology.istio.io/locality", "istio-locality"];
const HOSTNAME: &str = "kubernetes.io/hostname";
/// Label with the network of a pod, or on the system namespace with that of the cluster.
pub(super) const NETWORK: &str = "topology.istio.io/network";

/// Lookup that records the dependencies of what is being built.
struct Lookup<'a, S> {
    cluster: &'a S,
    keys: &'a mut BTreeSet<DependencyKey>,
    /// Labels of the previous endpoint, which the next one often shares.
    labels: Labels,
}

// === impl Lookup ===

impl<S: ClusterLookup> Lookup<'_, S> {
    /// Returns the endpoint of an address, without port. `None` while its pod is pending.
    fn endpoint(
        &mut self,
        namespace: &Arc<str>,
        ip: IpAddr,
        target: Option<&TargetRef>,
        node: Option<&Arc<str>>,
    ) -> Option<Endpoint> {
        let cluster = self.cluster;
        let options = cluster.options();
        let target = target.filter(|target| target.kind == "Pod" && !target.name.is_empty());
        let pod = if let Some(target) = target {
            let namespace = if target.namespace.is_empty() { namespace } else { &target.namespace };
            let name = NamespacedName { namespace: namespace.clone(), name: target.name.clone() };
            let pod = cluster.pod(&name);
            self.keys.insert(DependencyKey::Pod(name));
            if pod.is_none() && options.pending_pods == PendingPods::Hold {
                return None;
            }
            pod
        } else {
            self.keys.insert(DependencyKey::PodAt(ip));
            cluster.pod_at(namespace, ip)
        };
        let node = match pod {
            Some(pod) => pod.spec.node_name.clone(),
            None => node.cloned().unwrap_or_default(),
        };
        let network = self.network(pod);
        let locality = self.locality(pod, &node);
        let labels = augmented(pod, &locality, &network, &node, options);
        if *self.labels != labels {
            self.labels = Arc::new(labels);
        }
        Some(Endpoint {
            address: EndpointAddress::Ip(ip),
            port: 0,
            port_name: "".into(),
            labels: self.labels.clone(),
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
        self.keys.insert(DependencyKey::SystemNetwork);
        self.cluster.system_network().clone()
    }

    /// Returns the locality of the pod, or else of its node.
    fn locality(&mut self, pod: Option<&Pod>, node: &Arc<str>) -> Locality {
        let label = pod.and_then(|pod| LOCALITY.iter().find_map(|label| pod.metadata.label(label)));
        if let Some(label) = label {
            return Locality::parse(label);
        }
        if node.is_empty() {
            return Locality::default();
        }
        self.keys.insert(DependencyKey::Node(node.clone()));
        let Some(node) = self.cluster.node(node) else { return Locality::default() };
        let label = |names: &[&str]| -> Arc<str> {
            names.iter().find_map(|name| node.metadata.label(name)).unwrap_or_default().into()
        };
        Locality { region: label(&REGION), zone: label(&ZONE), sub_zone: label(&[SUBZONE]) }
    }
}

/// Returns the labels of the pod, with locality, cluster, node and network: subsets may select by either.
fn augmented(
    pod: Option<&Pod>,
    locality: &Locality,
    network: &Arc<str>,
    node: &Arc<str>,
    options: &RegistryOptions,
) -> BTreeMap<String, String> {
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
    labels
}

fn account(pod: &Pod, options: &RegistryOptions) -> Arc<str> {
    let name = match pod.spec.service_account_name.as_str() {
        "" => "default",
        name => name,
    };
    identity(options, &pod.metadata.namespace, name).into()
}

fn identity(options: &RegistryOptions, namespace: &str, account: &str) -> String {
    SpiffeId {
        trust_domain: options.trust_domain.clone(),
        namespace: namespace.to_owned(),
        service_account: account.to_owned(),
    }
    .to_string()
}
