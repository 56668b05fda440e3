//! `v1 Service`

use std::collections::BTreeMap;
use std::sync::Arc;

use serde::Deserialize;

use super::metadata::Metadata;
use super::values::{IntOrString, port_number};

/// A service.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(default)]
pub(crate) struct Service {
    /// Who.
    pub(crate) metadata: Metadata,
    /// What is wanted.
    pub(crate) spec: ServiceSpec,
}

/// `Service.spec`
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub(crate) struct ServiceSpec {
    /// How it is reached.
    #[serde(rename = "type")]
    pub(crate) kind: ServiceType,
    /// An address, `None` (headless) or nothing yet.
    #[serde(rename = "clusterIP")]
    pub(crate) cluster_ip: String,
    /// The same for dual stack.
    #[serde(rename = "clusterIPs")]
    pub(crate) cluster_ips: Vec<String>,
    /// The host that this name stands for.
    pub(crate) external_name: String,
    /// What clients connect to.
    pub(crate) ports: Vec<ServicePort>,
    /// Labels of its pods.
    pub(crate) selector: BTreeMap<String, String>,
    /// Whether clients stay on their node.
    pub(crate) internal_traffic_policy: InternalTrafficPolicy,
    /// Which endpoints come first.
    pub(crate) traffic_distribution: Option<String>,
    /// Endpoints take traffic before they are ready.
    pub(crate) publish_not_ready_addresses: bool,
}

/// `Service.spec.type`
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
pub(crate) enum ServiceType {
    /// Inside the cluster.
    #[default]
    #[serde(rename = "ClusterIP")]
    ClusterIp,
    /// On a port of every node, too.
    NodePort,
    /// Behind a load balancer, too.
    LoadBalancer,
    /// Only another name.
    ExternalName,
}

/// `Service.spec.internalTrafficPolicy`
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
pub(crate) enum InternalTrafficPolicy {
    /// Every endpoint.
    #[default]
    Cluster,
    /// Those on the client's node.
    Local,
}

/// `Service.spec.ports[]`
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct ServicePort {
    /// Empty when there is one port.
    #[serde(default)]
    pub(crate) name: Arc<str>,
    /// What clients connect to.
    #[serde(deserialize_with = "port_number")]
    pub(crate) port: u16,
    /// What is spoken above it.
    #[serde(default)]
    pub(crate) protocol: Transport,
    /// What is spoken there.
    #[serde(default)]
    pub(crate) app_protocol: Option<String>,
    /// Where it leads; the same number when absent.
    #[serde(default)]
    pub(crate) target_port: Option<IntOrString>,
}

/// `protocol` of a port.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Deserialize)]
#[serde(rename_all = "UPPERCASE")]
pub(crate) enum Transport {
    /// TCP.
    #[default]
    Tcp,
    /// UDP.
    Udp,
    /// SCTP.
    Sctp,
}
