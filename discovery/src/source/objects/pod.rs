//! `v1 Pod`

use std::net::IpAddr;
use std::sync::Arc;

use serde::Deserialize;

use super::metadata::Metadata;
use super::service::Transport;
use super::values::{address, port_number};

/// A pod.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(default)]
pub(crate) struct Pod {
    /// Metadata.
    pub(crate) metadata: Metadata,
    /// Specification.
    pub(crate) spec: PodSpec,
    /// Status.
    pub(crate) status: PodStatus,
}

/// `Pod.spec`
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub(crate) struct PodSpec {
    /// Name of the service account; empty: `default`.
    pub(crate) service_account_name: String,
    /// Name of the node.
    pub(crate) node_name: Arc<str>,
    /// Containers.
    pub(crate) containers: Vec<Container>,
    /// Init containers. One with `restartPolicy: Always` runs as long as the pod.
    pub(crate) init_containers: Vec<Container>,
}

/// `Pod.spec.containers[]`
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub(crate) struct Container {
    /// Declared ports.
    pub(crate) ports: Vec<ContainerPort>,
    /// `Always` on an init container makes it a sidecar.
    pub(crate) restart_policy: String,
}

/// `Pod.spec.containers[].ports[]`
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct ContainerPort {
    /// Name that `targetPort` may refer to.
    #[serde(default)]
    pub(crate) name: String,
    /// Port number.
    #[serde(rename = "containerPort", deserialize_with = "port_number")]
    pub(crate) number: u16,
    /// Transport protocol.
    #[serde(default)]
    pub(crate) protocol: Transport,
}

/// `Pod.status`
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub(crate) struct PodStatus {
    /// Phase of the life cycle.
    pub(crate) phase: PodPhase,
    /// First address.
    #[serde(rename = "podIP", deserialize_with = "address")]
    pub(crate) pod_ip: Option<IpAddr>,
    /// All addresses.
    #[serde(rename = "podIPs")]
    pub(crate) pod_ips: Vec<PodIp>,
    /// Conditions, such as `Ready`.
    pub(crate) conditions: Vec<Condition>,
}

/// `Pod.status.podIPs[]`
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
pub(crate) struct PodIp {
    /// Address.
    pub(crate) ip: IpAddr,
}

/// `Pod.status.phase`
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
pub(crate) enum PodPhase {
    /// Not started.
    Pending,
    /// Started.
    #[default]
    Running,
    /// All containers have exited with 0.
    Succeeded,
    /// A container has failed.
    Failed,
    /// The node does not report.
    Unknown,
}

/// `status.conditions[]`
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(default)]
pub(crate) struct Condition {
    /// Type, for example `Ready`.
    #[serde(rename = "type")]
    pub(crate) kind: String,
    /// `True`, `False` or `Unknown`.
    pub(crate) status: String,
}

// === impl Pod ===

impl Pod {
    /// Returns the addresses, beginning with `podIP`.
    pub(crate) fn ips(&self) -> impl Iterator<Item = IpAddr> {
        let others = self.status.pod_ips.iter().map(|entry| entry.ip);
        self.status.pod_ip.into_iter().chain(others.filter(move |ip| Some(*ip) != self.status.pod_ip))
    }
}
