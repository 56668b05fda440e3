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
    /// Metadata.
    pub(crate) metadata: Metadata,
    /// Specification.
    pub(crate) spec: ServiceSpec,
}

/// `Service.spec`
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub(crate) struct ServiceSpec {
    /// Type.
    #[serde(rename = "type")]
    pub(crate) kind: ServiceType,
    /// Virtual address, `None` for a headless service, or empty if not assigned.
    #[serde(rename = "clusterIP")]
    pub(crate) cluster_ip: String,
    /// Virtual addresses of a dual-stack service.
    #[serde(rename = "clusterIPs")]
    pub(crate) cluster_ips: Vec<String>,
    /// Target of a service of type `ExternalName`.
    pub(crate) external_name: String,
    /// Ports.
    pub(crate) ports: Vec<ServicePort>,
    /// Labels of the pods.
    pub(crate) selector: BTreeMap<String, String>,
    /// Policy for traffic from inside the cluster.
    pub(crate) internal_traffic_policy: InternalTrafficPolicy,
    /// Preference among endpoints.
    pub(crate) traffic_distribution: Option<String>,
    /// Endpoints receive traffic before they are ready.
    pub(crate) publish_not_ready_addresses: bool,
}

/// `Service.spec.type`
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
pub(crate) enum ServiceType {
    /// Virtual address inside the cluster.
    #[default]
    #[serde(rename = "ClusterIP")]
    ClusterIp,
    /// Also a port of every node.
    NodePort,
    /// Also an external load balancer.
    LoadBalancer,
    /// DNS alias of another host.
    ExternalName,
}

/// `Service.spec.internalTrafficPolicy`
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
pub(crate) enum InternalTrafficPolicy {
    /// All endpoints are used.
    #[default]
    Cluster,
    /// Only endpoints on the client's node are used.
    Local,
}

/// `Service.spec.ports[]`
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct ServicePort {
    /// Name; may be empty if there is one port.
    #[serde(default)]
    pub(crate) name: Arc<str>,
    /// Service port number.
    #[serde(deserialize_with = "port_number")]
    pub(crate) port: u16,
    /// Transport protocol.
    #[serde(default)]
    pub(crate) protocol: Transport,
    /// Application protocol.
    #[serde(default)]
    pub(crate) app_protocol: Option<String>,
    /// Port of the pods; absent: the service port.
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
