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
    /// Who.
    pub(crate) metadata: Metadata,
    /// What is wanted.
    pub(crate) spec: PodSpec,
    /// What is.
    pub(crate) status: PodStatus,
}

/// `Pod.spec`
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub(crate) struct PodSpec {
    /// Whose identity it has.
    pub(crate) service_account_name: String,
    /// Where it runs.
    pub(crate) node_name: Arc<str>,
    /// What runs.
    pub(crate) containers: Vec<Container>,
    /// What runs before; with `restartPolicy: Always` also beside.
    pub(crate) init_containers: Vec<Container>,
}

/// `Pod.spec.containers[]`
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub(crate) struct Container {
    /// Where it listens, as far as declared.
    pub(crate) ports: Vec<ContainerPort>,
    /// `Always` on an init container makes it a sidecar.
    pub(crate) restart_policy: String,
}

/// `Pod.spec.containers[].ports[]`
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct ContainerPort {
    /// What `targetPort` may refer to.
    #[serde(default)]
    pub(crate) name: String,
    /// Where it listens.
    #[serde(rename = "containerPort", deserialize_with = "port_number")]
    pub(crate) number: u16,
    /// What is spoken above it.
    #[serde(default)]
    pub(crate) protocol: Transport,
}

/// `Pod.status`
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub(crate) struct PodStatus {
    /// How far it is.
    pub(crate) phase: PodPhase,
    /// Its first address.
    #[serde(rename = "podIP", deserialize_with = "address")]
    pub(crate) pod_ip: Option<IpAddr>,
    /// All its addresses.
    #[serde(rename = "podIPs")]
    pub(crate) pod_ips: Vec<PodIp>,
    /// `Ready` and others.
    pub(crate) conditions: Vec<Condition>,
}

/// `Pod.status.podIPs[]`
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
pub(crate) struct PodIp {
    /// The address.
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
    /// Ended well.
    Succeeded,
    /// Ended badly.
    Failed,
    /// Not known.
    Unknown,
}

/// `status.conditions[]`
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(default)]
pub(crate) struct Condition {
    /// For example `Ready`.
    #[serde(rename = "type")]
    pub(crate) kind: String,
    /// `True`, `False` or `Unknown`.
    pub(crate) status: String,
}

// === impl Pod ===

impl Pod {
    /// Its addresses, the first one first.
    pub(crate) fn ips(&self) -> impl Iterator<Item = IpAddr> {
        let others = self.status.pod_ips.iter().map(|entry| entry.ip);
        self.status.pod_ip.into_iter().chain(others.filter(move |ip| Some(*ip) != self.status.pod_ip))
    }
}
