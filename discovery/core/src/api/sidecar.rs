//! `Sidecar`: what the proxies of some workloads listen to and may see.
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
    /// For which workloads of the namespace; absent: all that no other one selects.
    pub workload_selector: Option<WorkloadSelector>,
    /// What is served; empty: what services say.
    pub ingress: Vec<IngressListener>,
    /// What can be reached; empty: everything.
    pub egress: Vec<EgressListener>,
    /// Limits of connections to the workload.
    pub inbound_connection_pool: Option<ConnectionPool>,
    /// What happens to traffic to hosts nobody declared; absent: what the mesh says.
    pub outbound_traffic_policy: Option<OutboundTrafficPolicy>,
}

/// A port that the proxy serves for the workload.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash, Deserialize, Serialize)]
#[serde(rename_all = "camelCase", default)]
pub struct IngressListener {
    /// The port.
    pub port: Option<SidecarPort>,
    /// Address to bind; empty: the workload's.
    pub bind: String,
    /// How connections reach it.
    pub capture_mode: CaptureMode,
    /// `127.0.0.1:<port>`, `0.0.0.0:<port>`, their IPv6 likes, or `unix:///path`; empty: the same port.
    pub default_endpoint: String,
    /// TLS of this port instead of the mesh's.
    pub tls: Option<ServerTls>,
    /// Limits of connections to the workload.
    pub connection_pool: Option<ConnectionPool>,
}

/// Hosts that can be reached, at one port or at all.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash, Deserialize, Serialize)]
#[serde(rename_all = "camelCase", default)]
pub struct EgressListener {
    /// The port; absent: every port of the hosts.
    pub port: Option<SidecarPort>,
    /// Address to bind, or `unix:///path`; empty: that of the service.
    pub bind: String,
    /// How connections reach it.
    pub capture_mode: CaptureMode,
    /// `<namespace>/<host>`; the namespace may be `*`, `.` or `~`, the host may begin with `*`.
    pub hosts: Vec<String>,
}

/// A port of a `Sidecar`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash, Deserialize, Serialize)]
#[serde(rename_all = "camelCase", default)]
pub struct SidecarPort {
    /// Its number; 0 for Unix sockets.
    pub number: u32,
    /// What is spoken there.
    pub protocol: String,
    /// Its name.
    pub name: String,
    /// Deprecated and without effect.
    pub target_port: u32,
}

/// How connections reach a listener.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Deserialize, Serialize)]
#[serde(rename_all = "SCREAMING_SNAKE_CASE")]
pub enum CaptureMode {
    /// As they reach all others of the proxy.
    #[default]
    Default,
    /// iptables redirects them.
    Iptables,
    /// Clients connect to it themselves.
    None,
}

/// What happens to traffic to hosts nobody declared.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash, Deserialize, Serialize)]
#[serde(rename_all = "camelCase", default)]
pub struct OutboundTrafficPolicy {
    /// Pass it on or refuse it.
    pub mode: OutboundTrafficMode,
    /// Where it is passed on to instead of where it was going.
    pub egress_proxy: Option<Destination>,
}

/// Pass it on or refuse it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Deserialize, Serialize)]
#[serde(rename_all = "SCREAMING_SNAKE_CASE")]
pub enum OutboundTrafficMode {
    /// It goes to `BlackHoleCluster` (the default of the message, not of the mesh).
    #[default]
    RegistryOnly,
    /// It goes to `PassthroughCluster`.
    AllowAny,
}
