//! Settings of the registry, and the lookups that conversion makes in it.

use std::net::IpAddr;
use std::sync::Arc;

use crate::source::objects::{NamespacedName, Node, Pod};

/// Settings of the registry.
#[derive(Clone, Debug)]
pub(crate) struct RegistryOptions {
    /// `cluster.local` in `reviews.default.svc.cluster.local`.
    pub(crate) domain_suffix: String,
    /// First part of every identity.
    pub(crate) trust_domain: String,
    /// Id of the cluster of the objects; empty if there is only one.
    pub(crate) cluster_id: String,
    /// Namespace with the `topology.istio.io/network` label that applies to all.
    pub(crate) system_namespace: String,
    /// Treatment of endpoints that reference an unknown pod.
    pub(crate) pending_pods: PendingPods,
}

/// Treatment of endpoints that reference an unknown pod.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum PendingPods {
    /// The endpoint is held back until the pod arrives, which has its identity and labels.
    Hold,
    /// The endpoint is used: files need not declare pods.
    Pass,
}

/// Lookup of objects that endpoints and workloads refer to.
pub(super) trait ClusterLookup {
    /// Returns the settings of the registry.
    fn options(&self) -> &RegistryOptions;
    /// Returns a pod by name.
    fn pod(&self, name: &NamespacedName) -> Option<&Pod>;
    /// Returns the pod of a namespace that has an address, if there is exactly one.
    fn pod_at(&self, namespace: &str, ip: IpAddr) -> Option<&Pod>;
    /// Returns a node by name.
    fn node(&self, name: &str) -> Option<&Node>;
    /// Returns the network that the system namespace declares.
    fn system_network(&self) -> &Arc<str>;
}
