//! Messages of Istio's networking API that `MeshConfig` also contains as defaults of objects.
//! <https://istio.io/latest/docs/reference/config/networking/>

use std::collections::BTreeMap;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::duration;

/// Retry policy.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash, Deserialize, Serialize)]
#[serde(rename_all = "camelCase", default)]
pub struct HttpRetry {
    /// Number of retries; 0: none.
    pub attempts: i32,
    /// Timeout per try; absent: that of the route.
    #[serde(with = "duration::maybe")]
    pub per_try_timeout: Option<Duration>,
    /// Envoy's retry conditions and status codes, separated by commas.
    pub retry_on: String,
    /// Retries may use other localities.
    pub retry_remote_localities: Option<bool>,
    /// Hosts that were tried are excluded; absent: included.
    pub retry_ignore_previous_hosts: Option<bool>,
    /// Initial backoff; absent: 25 ms.
    #[serde(with = "duration::maybe")]
    pub backoff: Option<Duration>,
}

/// Locality load balancing. At most one of the three methods is set.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash, Deserialize, Serialize)]
#[serde(rename_all = "camelCase", default)]
pub struct LocalityLb {
    /// Distribution by locality.
    pub distribute: Vec<Distribute>,
    /// Failover between regions.
    pub failover: Vec<Failover>,
    /// Labels for failover priority, the most important first.
    pub failover_priority: Vec<String>,
    /// Enabled; absent: yes.
    pub enabled: Option<bool>,
}

/// Distribution of the traffic of one client locality.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash, Deserialize, Serialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Distribute {
    /// `region/zone/sub-zone` of the client, may end in `*`.
    pub from: String,
    /// Weight by endpoint locality; the sum is 100.
    pub to: BTreeMap<String, u32>,
}

/// Failover between regions.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash, Deserialize, Serialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Failover {
    /// Failed region.
    pub from: String,
    /// Region that takes over.
    pub to: String,
}

/// Connection pool limits.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash, Deserialize, Serialize)]
#[serde(rename_all = "camelCase", default)]
pub struct ConnectionPool {
    /// TCP settings.
    pub tcp: Option<TcpSettings>,
    /// HTTP settings.
    pub http: Option<HttpSettings>,
}

/// TCP settings of a connection pool.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash, Deserialize, Serialize)]
#[serde(rename_all = "camelCase", default)]
pub struct TcpSettings {
    /// Maximum number of connections; 0: unlimited.
    pub max_connections: i32,
    /// Connect timeout; absent: that of the mesh.
    #[serde(with = "duration::maybe")]
    pub connect_timeout: Option<Duration>,
    /// Keepalive.
    pub tcp_keepalive: Option<TcpKeepalive>,
    /// Maximum lifetime of a connection; absent: unlimited.
    #[serde(with = "duration::maybe")]
    pub max_connection_duration: Option<Duration>,
    /// Idle timeout; absent: Envoy's default of 1 h.
    #[serde(with = "duration::maybe")]
    pub idle_timeout: Option<Duration>,
}

/// TCP keepalive.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash, Deserialize, Serialize)]
#[serde(rename_all = "camelCase", default)]
pub struct TcpKeepalive {
    /// Unanswered probes before the connection is closed; 0: the kernel's default.
    pub probes: u32,
    /// Idle time before the first probe.
    #[serde(with = "duration::maybe")]
    pub time: Option<Duration>,
    /// Time between probes.
    #[serde(with = "duration::maybe")]
    pub interval: Option<Duration>,
}

/// HTTP settings of a connection pool.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash, Deserialize, Serialize)]
#[serde(rename_all = "camelCase", default)]
pub struct HttpSettings {
    /// Maximum number of requests that wait for a connection; 0: unlimited.
    pub http1_max_pending_requests: i32,
    /// Maximum number of concurrent requests; 0: unlimited.
    pub http2_max_requests: i32,
    /// Maximum number of requests per connection; 0: unlimited.
    pub max_requests_per_connection: i32,
    /// Maximum number of concurrent retries; 0: unlimited.
    pub max_retries: i32,
    /// Idle timeout of connections.
    #[serde(with = "duration::maybe")]
    pub idle_timeout: Option<Duration>,
    /// Upgrade of HTTP/1.1 to HTTP/2.
    pub h2_upgrade_policy: H2Upgrade,
    /// The upstream protocol is that of the downstream connection.
    pub use_client_protocol: bool,
    /// Maximum number of concurrent streams per connection; 0: unlimited.
    pub max_concurrent_streams: i32,
    /// Keepalive of HTTP/2.
    pub http2_keep_alive: Option<Http2Keepalive>,
}

/// Upgrade of HTTP/1.1 to HTTP/2.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Deserialize, Serialize)]
#[serde(rename_all = "SCREAMING_SNAKE_CASE")]
pub enum H2Upgrade {
    /// The setting of the mesh.
    #[default]
    Default,
    /// No upgrade.
    DoNotUpgrade,
    /// Upgrade.
    Upgrade,
}

/// Keepalive of HTTP/2.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash, Deserialize, Serialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Http2Keepalive {
    /// Interval of pings.
    #[serde(with = "duration::maybe")]
    pub interval: Option<Duration>,
    /// Timeout of a ping.
    #[serde(with = "duration::maybe")]
    pub timeout: Option<Duration>,
}

/// Outlier detection: temporary ejection of failing endpoints.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash, Deserialize, Serialize)]
#[serde(rename_all = "camelCase", default)]
pub struct OutlierDetection {
    /// Deprecated.
    pub consecutive_errors: i32,
    /// Local-origin errors are counted apart from server errors.
    pub split_external_local_origin_errors: bool,
    /// Consecutive local-origin errors.
    pub consecutive_local_origin_failures: Option<u32>,
    /// Consecutive 502, 503, 504; 0: not counted.
    pub consecutive_gateway_errors: Option<u32>,
    /// Consecutive 5xx; 0: not counted. Absent: 5.
    pub consecutive_5xx_errors: Option<u32>,
    /// Interval of the analysis; absent: 10 s.
    #[serde(with = "duration::maybe")]
    pub interval: Option<Duration>,
    /// Base ejection time, multiplied by the number of ejections; absent: 30 s.
    #[serde(with = "duration::maybe")]
    pub base_ejection_time: Option<Duration>,
    /// Maximum percentage of ejected endpoints; 0: 10.
    pub max_ejection_percent: i32,
    /// Minimum percentage of healthy endpoints; below it, ejected endpoints are used too.
    pub min_health_percent: i32,
    /// Status codes that count as errors, instead of 5xx.
    pub outlier_detection_http_error_codes: Vec<u32>,
}

/// Zone-aware load balancing.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash, Deserialize, Serialize)]
#[serde(rename_all = "camelCase", default)]
pub struct ZoneAwareLb {
    /// Enabled; absent: yes.
    pub enabled: Option<bool>,
    /// Failover between regions.
    pub failover: Vec<Failover>,
    /// Labels for failover priority.
    pub failover_priority: Vec<String>,
    /// Minimum number of endpoints of a cluster; absent: 6.
    pub min_cluster_size: Option<u64>,
}

/// A custom tag of spans. Exactly one field is set.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash, Deserialize, Serialize)]
#[serde(rename_all = "camelCase", default)]
pub struct CustomTag {
    /// A literal.
    pub literal: Option<TagText>,
    /// An environment variable of the proxy.
    pub environment: Option<TagSource>,
    /// A request header.
    pub header: Option<TagSource>,
    /// Envoy's command operators.
    pub formatter: Option<TagText>,
}

/// A literal tag value.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash, Deserialize, Serialize)]
#[serde(rename_all = "camelCase", default)]
pub struct TagText {
    /// The value.
    pub value: String,
}

/// Source of a tag value.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash, Deserialize, Serialize)]
#[serde(rename_all = "camelCase", default)]
pub struct TagSource {
    /// Name of the variable or header.
    pub name: String,
    /// Default value.
    pub default_value: String,
}
