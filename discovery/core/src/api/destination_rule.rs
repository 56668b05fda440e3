//! `DestinationRule`: how connections to a host are made, and what parts the host has.
//! <https://istio.io/latest/docs/reference/config/networking/destination-rule/>

use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::selector::MatchLabels;
use super::values::{Double, Map, PortSelector, duration};

pub use pilot_proto::networking::{
    ConnectionPool, Distribute, Failover, H2Upgrade, Http2Keepalive, HttpSettings, LocalityLb,
    OutlierDetection, TcpKeepalive, TcpSettings, ZoneAwareLb,
};

/// `DestinationRule.spec`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash, Deserialize, Serialize)]
#[serde(rename_all = "camelCase", default)]
pub struct DestinationRule {
    /// Host name, may begin with `*`; a short one is completed with the namespace of the object.
    pub host: String,
    /// For all of it.
    pub traffic_policy: Option<TrafficPolicy>,
    /// Its parts.
    pub subsets: Vec<Subset>,
    /// Who may see it.
    pub export_to: Vec<String>,
    /// For which clients of the namespace; absent: all.
    pub workload_selector: Option<MatchLabels>,
}

/// A part of a service.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash, Deserialize, Serialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Subset {
    /// Its name.
    pub name: String,
    /// Labels that its endpoints have.
    pub labels: Map,
    /// What is different for it.
    pub traffic_policy: Option<TrafficPolicy>,
}

/// How connections are made.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash, Deserialize, Serialize)]
#[serde(rename_all = "camelCase", default)]
pub struct TrafficPolicy {
    /// To which endpoint.
    pub load_balancer: Option<LoadBalancer>,
    /// How many.
    pub connection_pool: Option<ConnectionPool>,
    /// Which endpoints are left alone for a while.
    pub outlier_detection: Option<OutlierDetection>,
    /// How they are secured.
    pub tls: Option<ClientTls>,
    /// What is different for some ports; nothing is inherited.
    pub port_level_settings: Vec<PortTrafficPolicy>,
    /// Through another proxy.
    pub tunnel: Option<Tunnel>,
    /// The server is told who the client is.
    pub proxy_protocol: Option<ProxyProtocol>,
    /// How many retries at a time.
    pub retry_budget: Option<RetryBudget>,
}

/// How connections to one port are made.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash, Deserialize, Serialize)]
#[serde(rename_all = "camelCase", default)]
pub struct PortTrafficPolicy {
    /// The port.
    pub port: Option<PortSelector>,
    /// To which endpoint.
    pub load_balancer: Option<LoadBalancer>,
    /// How many.
    pub connection_pool: Option<ConnectionPool>,
    /// Which endpoints are left alone for a while.
    pub outlier_detection: Option<OutlierDetection>,
    /// How they are secured.
    pub tls: Option<ClientTls>,
}

/// A tunnel by `CONNECT` or `POST`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash, Deserialize, Serialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Tunnel {
    /// `CONNECT` or `POST`; empty: `CONNECT`.
    pub protocol: String,
    /// Host at the other end.
    pub target_host: String,
    /// Port at the other end.
    pub target_port: u32,
}

/// `HAProxy`'s PROXY protocol.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Deserialize, Serialize)]
#[serde(rename_all = "camelCase", default)]
pub struct ProxyProtocol {
    /// Which version.
    pub version: ProxyProtocolVersion,
}

/// Version of the PROXY protocol.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Deserialize, Serialize)]
pub enum ProxyProtocolVersion {
    /// Text.
    #[default]
    V1,
    /// Binary.
    V2,
}

/// How many retries there may be at a time.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash, Deserialize, Serialize)]
#[serde(rename_all = "camelCase", default)]
pub struct RetryBudget {
    /// Share of the requests under way; absent: 20 %.
    pub percent: Option<Double>,
    /// So many at least; 0: 3.
    pub min_retry_concurrency: u32,
    /// Over which time requests are counted.
    #[serde(with = "duration")]
    pub budget_interval: Option<Duration>,
}

/// Which endpoint a request goes to. Of `simple` and `consistentHash` at most one.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash, Deserialize, Serialize)]
#[serde(rename_all = "camelCase", default)]
pub struct LoadBalancer {
    /// A policy without settings.
    pub simple: Option<SimpleLb>,
    /// The same endpoint for the same client.
    pub consistent_hash: Option<ConsistentHash>,
    /// Near ones first.
    pub locality_lb_setting: Option<LocalityLb>,
    /// Near ones first, as far as they suffice.
    pub zone_aware_lb_setting: Option<ZoneAwareLb>,
    /// Deprecated: the duration of `warmup`.
    #[serde(with = "duration")]
    pub warmup_duration_secs: Option<Duration>,
    /// New ones get less at first.
    pub warmup: Option<Warmup>,
    /// Less busy ones get more, by what they say of themselves.
    pub backend_utilization: Option<BackendUtilization>,
}

/// How endpoints' own reports of their load (ORCA) are read.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash, Deserialize, Serialize)]
#[serde(rename_all = "camelCase", default)]
pub struct BackendUtilization {
    /// Metrics that tell how busy an endpoint is.
    pub metric_names_for_computing_utilization: Vec<String>,
    /// How much errors count, in percent of the load.
    pub error_utilization_penalty_percent: u32,
    /// How long the first reports of an endpoint are not believed.
    #[serde(with = "duration")]
    pub weight_stabilization_period: Option<Duration>,
    /// How long the last report of an endpoint counts.
    #[serde(with = "duration")]
    pub weight_expiration_period: Option<Duration>,
    /// How often weights are computed.
    #[serde(with = "duration")]
    pub weight_update_period: Option<Duration>,
}

/// A policy without settings.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Deserialize, Serialize)]
#[serde(rename_all = "SCREAMING_SNAKE_CASE")]
pub enum SimpleLb {
    /// Istio's choice: `LEAST_REQUEST`.
    #[default]
    Unspecified,
    /// Deprecated name of `LEAST_REQUEST`.
    LeastConn,
    /// Any.
    Random,
    /// Where the connection was going.
    Passthrough,
    /// One after the other.
    RoundRobin,
    /// The less busy one of two.
    LeastRequest,
}

/// The same endpoint for the same client: one key, one algorithm.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash, Deserialize, Serialize)]
#[serde(rename_all = "camelCase", default)]
pub struct ConsistentHash {
    /// By a header.
    pub http_header_name: Option<String>,
    /// By a cookie.
    pub http_cookie: Option<HashCookie>,
    /// By the address of the client.
    pub use_source_ip: Option<bool>,
    /// By a parameter of the query.
    pub http_query_parameter_name: Option<String>,
    /// By a ring.
    pub ring_hash: Option<RingHash>,
    /// By Maglev's table.
    pub maglev: Option<Maglev>,
    /// Deprecated size of the ring; 0: 1024.
    pub minimum_ring_size: u64,
}

/// A cookie that is hashed.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash, Deserialize, Serialize)]
#[serde(rename_all = "camelCase", default)]
pub struct HashCookie {
    /// Its name.
    pub name: String,
    /// Its path.
    pub path: String,
    /// How long a new one lives; absent: none is made; 0: as long as the session.
    #[serde(with = "duration")]
    pub ttl: Option<Duration>,
    /// Attributes of a new one.
    pub attributes: Vec<CookieAttribute>,
}

/// An attribute of a cookie.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash, Deserialize, Serialize)]
#[serde(rename_all = "camelCase", default)]
pub struct CookieAttribute {
    /// `SameSite` and the like.
    pub name: String,
    /// Its value.
    pub value: String,
}

/// A ring.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Deserialize, Serialize)]
#[serde(rename_all = "camelCase", default)]
pub struct RingHash {
    /// Its size at least; 0: 1024.
    pub minimum_ring_size: u64,
}

/// Maglev's table.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Deserialize, Serialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Maglev {
    /// Its size, a prime; 0: 65537.
    pub table_size: u64,
}

/// New endpoints get less at first.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash, Deserialize, Serialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Warmup {
    /// For so long.
    #[serde(with = "duration")]
    pub duration: Option<Duration>,
    /// Share at the beginning; absent: 10 %.
    pub minimum_percent: Option<Double>,
    /// How quickly it grows; absent: 1, evenly.
    pub aggression: Option<Double>,
}

/// How connections are secured.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash, Deserialize, Serialize)]
#[serde(rename_all = "camelCase", default)]
pub struct ClientTls {
    /// How.
    pub mode: ClientTlsMode,
    /// Path of the certificate.
    pub client_certificate: String,
    /// Path of its key.
    pub private_key: String,
    /// Path of the roots that servers' certificates lead to; empty: the system's.
    pub ca_certificates: String,
    /// Secret that holds them instead.
    pub credential_name: String,
    /// Names that servers' certificates may have.
    pub subject_alt_names: Vec<String>,
    /// Name that is asked for.
    pub sni: String,
    /// Servers' certificates are not verified.
    pub insecure_skip_verify: Option<bool>,
    /// Path of the list of revoked certificates.
    pub ca_crl: String,
}

/// How connections are secured.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Deserialize, Serialize)]
#[serde(rename_all = "SCREAMING_SNAKE_CASE")]
pub enum ClientTlsMode {
    /// Not at all.
    #[default]
    Disable,
    /// TLS.
    Simple,
    /// TLS, with a certificate of the client's.
    Mutual,
    /// TLS, with the mesh's own certificates on both sides.
    IstioMutual,
}
