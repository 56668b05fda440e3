//! Workload: a pod or a `WorkloadEntry`.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::{EndpointAddress, Health, Labels, Locality, Namespace, TlsMode};

/// Kind of a workload.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum WorkloadKind {
    /// A Kubernetes pod.
    Pod,
    /// An Istio `WorkloadEntry`: a machine outside Kubernetes.
    WorkloadEntry,
}

/// A pod or a `WorkloadEntry`. A `ServiceEntry` may select pods, and a Kubernetes service may select `WorkloadEntry`s.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Workload {
    /// Kind of the declaring object.
    pub kind: WorkloadKind,
    /// Namespace of the object.
    pub namespace: Namespace,
    /// Name of the object.
    pub name: Arc<str>,
    /// Addresses, the primary one first.
    pub addresses: Vec<EndpointAddress>,
    /// Labels.
    pub labels: Labels,
    /// Container ports by name (pods), or service port name to number (`WorkloadEntry.ports`).
    pub ports: BTreeMap<String, u16>,
    /// SPIFFE id; empty if unknown.
    pub service_account: Arc<str>,
    /// Network of the workload; empty for the default network.
    pub network: Arc<str>,
    /// Locality of the workload.
    pub locality: Locality,
    /// Weight; 1 if not declared.
    pub weight: u32,
    /// Health.
    pub health: Health,
    /// TLS mode.
    pub tls_mode: TlsMode,
    /// Kubernetes node; empty if unknown.
    pub node: Arc<str>,
}
