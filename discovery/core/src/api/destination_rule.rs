//! `DestinationRule`: traffic policy and subsets of a host.
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
    /// Host name; may begin with `*`; a short name is completed with the namespace of the object.
    pub host: String,
    /// Policy of the whole host.
    pub traffic_policy: Option<TrafficPolicy>,
    /// Subsets of the host.
    pub subsets: Vec<Subset>,
    /// Namespaces that can use it.
    pub export_to: Vec<String>,
    /// Clients of the namespace that it is for; absent: all.
    pub workload_selector: Option<MatchLabels>,
}

/// Subset of a host.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash, Deserialize, Serialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Subset {
    /// Name of the subset.
    pub name: String,
    /// Labels of the endpoints.
    pub labels: Map,
    /// Policy of the subset; unset fields come from the host.
    pub traffic_policy: Option<TrafficPolicy>,
}

/// Traffic policy of connections to a host.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash, Deserialize, Serialize)]
#[serde(rename_all = "camelCase", default)]
pub struct TrafficPolicy {
    /// Load balancing.
    pub load_balancer: Option<LoadBalancer>,
    /// Limits on connections and requests.
    pub connection_pool: Option<ConnectionPool>,
    /// Ejection of failing endpoints.
    pub outlier_detection: Option<OutlierDetection>,
    /// TLS of connections.
    pub tls: Option<ClientTls>,
    /// Policies of single ports; they inherit nothing.
    pub port_level_settings: Vec<PortTrafficPolicy>,
    /// Tunnel through another proxy.
    pub tunnel: Option<Tunnel>,
    /// PROXY protocol towards the server.
    pub proxy_protocol: Option<ProxyProtocol>,
    /// Limit on concurrent retries.
    pub retry_budget: Option<RetryBudget>,
}

/// Traffic policy of one port.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash, Deserialize, Serialize)]
#[serde(rename_all = "camelCase", default)]
pub struct PortTrafficPolicy {
    /// The port.
    pub port: Option<PortSelector>,
    /// Load balancing.
    pub load_balancer: Option<LoadBalancer>,
    /// Limits on connections and requests.
    pub connection_pool: Option<ConnectionPool>,
    /// Ejection of failing endpoints.
    pub outlier_detection: Option<OutlierDetection>,
    /// TLS of connections.
    pub tls: Option<ClientTls>,
}

/// Tunnel by `CONNECT` or `POST`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash, Deserialize, Serialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Tunnel {
    /// `CONNECT` or `POST`; empty: `CONNECT`.
    pub protocol: String,
    /// Target host of the tunnel.
    pub target_host: String,
    /// Target port of the tunnel.
    pub target_port: u32,
}

/// `HAProxy`'s PROXY protocol.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Deserialize, Serialize)]
#[serde(rename_all = "camelCase", default)]
pub struct ProxyProtocol {
    /// Version of the protocol.
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

/// Limit on concurrent retries.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash, Deserialize, Serialize)]
#[serde(rename_all = "camelCase", default)]
pub struct RetryBudget {
    /// Percentage of active requests; absent: 20 %.
    pub percent: Option<Double>,
    /// Minimum of the limit; 0: 3.
    pub min_retry_concurrency: u32,
    /// Interval in which requests are counted.
    #[serde(with = "duration")]
    pub budget_interval: Option<Duration>,
}

/// Load balancing. At most one of `simple` and `consistentHash` is set.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash, Deserialize, Serialize)]
#[serde(rename_all = "camelCase", default)]
pub struct LoadBalancer {
    /// A policy without settings.
    pub simple: Option<SimpleLb>,
    /// Session affinity by a hash.
    pub consistent_hash: Option<ConsistentHash>,
    /// Locality load balancing.
    pub locality_lb_setting: Option<LocalityLb>,
    /// Zone-aware routing.
    pub zone_aware_lb_setting: Option<ZoneAwareLb>,
    /// Deprecated: the duration of `warmup`.
    #[serde(with = "duration")]
    pub warmup_duration_secs: Option<Duration>,
    /// Slow start of new endpoints.
    pub warmup: Option<Warmup>,
    /// Weights by load reports of endpoints.
    pub backend_utilization: Option<BackendUtilization>,
}

/// Weights by load reports of endpoints (ORCA).
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash, Deserialize, Serialize)]
#[serde(rename_all = "camelCase", default)]
pub struct BackendUtilization {
    /// Metrics of the utilization.
    pub metric_names_for_computing_utilization: Vec<String>,
    /// Penalty for errors, in percent of the utilization.
    pub error_utilization_penalty_percent: u32,
    /// Time in which the first reports of an endpoint are ignored.
    #[serde(with = "duration")]
    pub weight_stabilization_period: Option<Duration>,
    /// Time after which the last report of an endpoint expires.
    #[serde(with = "duration")]
    pub weight_expiration_period: Option<Duration>,
    /// Interval between updates of weights.
    #[serde(with = "duration")]
    pub weight_update_period: Option<Duration>,
}

/// Policy without settings.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Deserialize, Serialize)]
#[serde(rename_all = "SCREAMING_SNAKE_CASE")]
pub enum SimpleLb {
    /// Istio's default: `LEAST_REQUEST`.
    #[default]
    Unspecified,
    /// Deprecated name of `LEAST_REQUEST`.
    LeastConn,
    /// Random endpoint.
    Random,
    /// Original destination of the connection.
    Passthrough,
    /// Endpoints in turn.
    RoundRobin,
    /// The endpoint with fewer active requests, of two random ones.
    LeastRequest,
}

/// Session affinity: one key, one algorithm.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash, Deserialize, Serialize)]
#[serde(rename_all = "camelCase", default)]
pub struct ConsistentHash {
    /// Hash of a header.
    pub http_header_name: Option<String>,
    /// Hash of a cookie.
    pub http_cookie: Option<HashCookie>,
    /// Hash of the client's address.
    pub use_source_ip: Option<bool>,
    /// Hash of a query parameter.
    pub http_query_parameter_name: Option<String>,
    /// Ring hash.
    pub ring_hash: Option<RingHash>,
    /// Maglev.
    pub maglev: Option<Maglev>,
    /// Deprecated size of the ring; 0: 1024.
    pub minimum_ring_size: u64,
}

/// Cookie that is hashed.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash, Deserialize, Serialize)]
#[serde(rename_all = "camelCase", default)]
pub struct HashCookie {
    /// Name of the cookie.
    pub name: String,
    /// Path of the cookie.
    pub path: String,
    /// Lifetime of generated cookies; absent: none is generated; 0: session cookie.
    #[serde(with = "duration")]
    pub ttl: Option<Duration>,
    /// Attributes of generated cookies.
    pub attributes: Vec<CookieAttribute>,
}

/// Attribute of a cookie.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash, Deserialize, Serialize)]
#[serde(rename_all = "camelCase", default)]
pub struct CookieAttribute {
    /// Name, such as `SameSite`.
    pub name: String,
    /// Value.
    pub value: String,
}

/// Settings of ring hash.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Deserialize, Serialize)]
#[serde(rename_all = "camelCase", default)]
pub struct RingHash {
    /// Minimum size of the ring; 0: 1024.
    pub minimum_ring_size: u64,
}

/// Settings of Maglev.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Deserialize, Serialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Maglev {
    /// Size of the table, a prime; 0: 65537.
    pub table_size: u64,
}

/// Slow start of new endpoints.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash, Deserialize, Serialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Warmup {
    /// Duration.
    #[serde(with = "duration")]
    pub duration: Option<Duration>,
    /// Initial percentage of the weight; absent: 10 %.
    pub minimum_percent: Option<Double>,
    /// Exponent of the growth; absent: 1, linear.
    pub aggression: Option<Double>,
}

/// TLS of connections to a host.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash, Deserialize, Serialize)]
#[serde(rename_all = "camelCase", default)]
pub struct ClientTls {
    /// TLS mode.
    pub mode: ClientTlsMode,
    /// Path of the client certificate.
    pub client_certificate: String,
    /// Path of its private key.
    pub private_key: String,
    /// Path of the CA certificates that verify servers; empty: those of the system.
    pub ca_certificates: String,
    /// Secret with certificate, key and CA certificates.
    pub credential_name: String,
    /// Accepted names of server certificates.
    pub subject_alt_names: Vec<String>,
    /// SNI.
    pub sni: String,
    /// Does not verify server certificates.
    pub insecure_skip_verify: Option<bool>,
    /// Path of the certificate revocation list.
    pub ca_crl: String,
}

/// TLS mode of connections to a host.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Deserialize, Serialize)]
#[serde(rename_all = "SCREAMING_SNAKE_CASE")]
pub enum ClientTlsMode {
    /// Plaintext.
    #[default]
    Disable,
    /// TLS.
    Simple,
    /// TLS with a client certificate.
    Mutual,
    /// Istio's mutual TLS, with the certificates of the mesh.
    IstioMutual,
}
