//! Translates pods to workloads.

use std::collections::{BTreeMap, BTreeSet};

use pilot_core::model::{EndpointAddress, Health, Labels, TlsMode, Workload, WorkloadKind};

use super::{Lookup, TLS_MODE, account};
use crate::source::kubernetes::dependencies::DependencyKey;
use crate::source::kubernetes::options::ClusterLookup;
use crate::source::objects::{Pod, PodPhase, Transport};

/// Translates a pod. Returns `None` if it has no address yet or has ended.
pub(in crate::source::kubernetes) fn workload(
    pod: &Pod,
    cluster: &impl ClusterLookup,
) -> Option<(Workload, BTreeSet<DependencyKey>)> {
    let addresses: Vec<EndpointAddress> = pod.ips().map(EndpointAddress::Ip).collect();
    if addresses.is_empty() || matches!(pod.status.phase, PodPhase::Succeeded | PodPhase::Failed) {
        return None;
    }
    let mut keys = BTreeSet::new();
    let mut lookup = Lookup { cluster, keys: &mut keys, labels: Labels::default() };
    let workload = Workload {
        kind: WorkloadKind::Pod,
        namespace: (*pod.metadata.namespace).into(),
        name: pod.metadata.name.clone(),
        addresses,
        labels: pod.metadata.labels.clone(),
        ports: container_ports(pod),
        service_account: account(pod, cluster.options()),
        network: lookup.network(Some(pod)),
        locality: lookup.locality(Some(pod), &pod.spec.node_name),
        weight: 1,
        health: pod_health(pod),
        tls_mode: TlsMode::from_label(pod.metadata.label(TLS_MODE)),
        node: pod.spec.node_name.clone(),
    };
    Some((workload, keys))
}

/// Returns the health. The kubelet always sets `Ready`; a manifest without it means a ready pod.
fn pod_health(pod: &Pod) -> Health {
    let ready = pod.status.conditions.iter().find(|condition| condition.kind == "Ready");
    match ready {
        _ if pod.metadata.deletion_timestamp.is_some() => Health::Terminating,
        Some(condition) if condition.status != "True" => Health::Unhealthy,
        _ => Health::Healthy,
    }
}

/// Returns the named TCP ports of containers and of sidecars. The first port of a name wins, as in Kubernetes.
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
