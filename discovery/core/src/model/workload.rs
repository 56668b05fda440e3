//! Something that runs: a pod or a declared `WorkloadEntry`.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::{EndpointAddress, Health, Labels, Locality, Namespace, TlsMode};

/// What declared the workload.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum WorkloadKind {
    /// A Kubernetes pod.
    Pod,
    /// An Istio `WorkloadEntry`: a machine outside Kubernetes.
    WorkloadEntry,
}

/// A pod or a `WorkloadEntry`. It is what registries exchange: a `ServiceEntry` may select pods, and a
/// Kubernetes service may select `WorkloadEntry`s.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Workload {
    /// What declared it.
    pub kind: WorkloadKind,
    /// Namespace of the object.
    pub namespace: Namespace,
    /// Name of the object.
    pub name: Arc<str>,
    /// Addresses, the first one first.
    pub addresses: Vec<EndpointAddress>,
    /// Labels that selectors see.
    pub labels: Labels,
    /// Container ports by name (pods), or service port name to number (`WorkloadEntry.ports`).
    pub ports: BTreeMap<String, u16>,
    /// SPIFFE id, empty when unknown.
    pub service_account: Arc<str>,
    /// Network it can be reached in, empty for the default one.
    pub network: Arc<str>,
    /// Where it runs.
    pub locality: Locality,
    /// Share of the traffic; 1 when not declared.
    pub weight: u32,
    /// Whether it should get traffic.
    pub health: Health,
    /// Whether it takes mutual TLS.
    pub tls_mode: TlsMode,
    /// Kubernetes node, empty when unknown.
    pub node: Arc<str>,
}
