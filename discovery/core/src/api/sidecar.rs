//! `Sidecar`: listeners of the proxies of some workloads, and the services that they can reach.
//! <https://istio.io/latest/docs/reference/config/networking/sidecar/>

use serde::{Deserialize, Serialize};

use super::destination_rule::ConnectionPool;
use super::gateway::ServerTls;
use super::selector::WorkloadSelector;
use super::virtual_service::Destination;

/// `Sidecar.spec`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash, Deserialize, Serialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Sidecar {
    /// Workloads of the namespace that it is for; absent: all that no other one selects.
    pub workload_selector: Option<WorkloadSelector>,
    /// Inbound listeners; empty: those of the services.
    pub ingress: Vec<IngressListener>,
    /// Outbound listeners; empty: one for all services.
    pub egress: Vec<EgressListener>,
    /// Limits on connections to the workload.
    pub inbound_connection_pool: Option<ConnectionPool>,
    /// Treatment of traffic to undeclared hosts; absent: that of the mesh.
    pub outbound_traffic_policy: Option<OutboundTrafficPolicy>,
}

/// Inbound listener of a `Sidecar`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash, Deserialize, Serialize)]
#[serde(rename_all = "camelCase", default)]
pub struct IngressListener {
    /// The port.
    pub port: Option<SidecarPort>,
    /// Address to bind; empty: that of the workload.
    pub bind: String,
    /// Capture mode of the listener.
    pub capture_mode: CaptureMode,
    /// `127.0.0.1:<port>`, `0.0.0.0:<port>`, the same in IPv6, or `unix:///path`; empty: the same port.
    pub default_endpoint: String,
    /// TLS of this port instead of that of the mesh.
    pub tls: Option<ServerTls>,
    /// Limits on connections to the workload.
    pub connection_pool: Option<ConnectionPool>,
}

/// Outbound listener of a `Sidecar`: hosts at one port or at all ports.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash, Deserialize, Serialize)]
#[serde(rename_all = "camelCase", default)]
pub struct EgressListener {
    /// The port; absent: all ports of the hosts.
    pub port: Option<SidecarPort>,
    /// Address to bind, or `unix:///path`; empty: that of the service.
    pub bind: String,
    /// Capture mode of the listener.
    pub capture_mode: CaptureMode,
    /// `<namespace>/<host>`; the namespace may be `*`, `.` or `~`, the host may begin with `*`.
    pub hosts: Vec<String>,
}

/// Port of a `Sidecar`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash, Deserialize, Serialize)]
#[serde(rename_all = "camelCase", default)]
pub struct SidecarPort {
    /// Port number; 0 for Unix sockets.
    pub number: u32,
    /// Protocol.
    pub protocol: String,
    /// Name of the port.
    pub name: String,
    /// Deprecated and without effect.
    pub target_port: u32,
}

/// Capture mode: how connections reach a listener.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Deserialize, Serialize)]
#[serde(rename_all = "SCREAMING_SNAKE_CASE")]
pub enum CaptureMode {
    /// As for the other listeners of the proxy.
    #[default]
    Default,
    /// Redirection by iptables.
    Iptables,
    /// Clients connect to it directly.
    None,
}

/// Treatment of traffic to undeclared hosts.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash, Deserialize, Serialize)]
#[serde(rename_all = "camelCase", default)]
pub struct OutboundTrafficPolicy {
    /// Passes it on or refuses it.
    pub mode: OutboundTrafficMode,
    /// Destination of passed-on traffic; absent: its original destination.
    pub egress_proxy: Option<Destination>,
}

/// Mode of the outbound traffic policy.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Deserialize, Serialize)]
#[serde(rename_all = "SCREAMING_SNAKE_CASE")]
pub enum OutboundTrafficMode {
    /// Refuses it: `BlackHoleCluster` (the default of the message, not of the mesh).
    #[default]
    RegistryOnly,
    /// Passes it on: `PassthroughCluster`.
    AllowAny,
}
