//! Messages of Istio's networking API that the mesh's configuration has too: its own are what objects fall back on.
//! <https://istio.io/latest/docs/reference/config/networking/>

use std::collections::BTreeMap;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::duration;

/// What is tried again.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash, Deserialize, Serialize)]
#[serde(rename_all = "camelCase", default)]
pub struct HttpRetry {
    /// How often; 0: never.
    pub attempts: i32,
    /// How long one try may take; absent: as long as the whole.
    #[serde(with = "duration::maybe")]
    pub per_try_timeout: Option<Duration>,
    /// Envoy's conditions, and status codes, with commas.
    pub retry_on: String,
    /// Other localities are tried too.
    pub retry_remote_localities: Option<bool>,
    /// Hosts that were tried are not tried again; absent: they are not.
    pub retry_ignore_previous_hosts: Option<bool>,
    /// How long the first pause is; absent: 25 ms.
    #[serde(with = "duration::maybe")]
    pub backoff: Option<Duration>,
}

/// Near endpoints first. Of the three ways at most one.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash, Deserialize, Serialize)]
#[serde(rename_all = "camelCase", default)]
pub struct LocalityLb {
    /// Shares by locality.
    pub distribute: Vec<Distribute>,
    /// Which region takes over from which.
    pub failover: Vec<Failover>,
    /// Labels that near endpoints have in common with the client, the most important first.
    pub failover_priority: Vec<String>,
    /// Absent: yes.
    pub enabled: Option<bool>,
}

/// Shares of the traffic of one locality.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash, Deserialize, Serialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Distribute {
    /// `region/zone/sub-zone` of the client, may end in `*`.
    pub from: String,
    /// Share by locality; together 100.
    pub to: BTreeMap<String, u32>,
}

/// Which region takes over.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash, Deserialize, Serialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Failover {
    /// From this one.
    pub from: String,
    /// This one.
    pub to: String,
}

/// How many connections and requests.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash, Deserialize, Serialize)]
#[serde(rename_all = "camelCase", default)]
pub struct ConnectionPool {
    /// Of connections.
    pub tcp: Option<TcpSettings>,
    /// Of requests.
    pub http: Option<HttpSettings>,
}

/// Settings of connections.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash, Deserialize, Serialize)]
#[serde(rename_all = "camelCase", default)]
pub struct TcpSettings {
    /// At a time; 0: without limit.
    pub max_connections: i32,
    /// How long one may take to be made; absent: what the mesh says.
    #[serde(with = "duration::maybe")]
    pub connect_timeout: Option<Duration>,
    /// Keepalive.
    pub tcp_keepalive: Option<TcpKeepalive>,
    /// How long one lives; absent: as long as it is used.
    #[serde(with = "duration::maybe")]
    pub max_connection_duration: Option<Duration>,
    /// How long one lives without traffic; absent: Envoy's hour.
    #[serde(with = "duration::maybe")]
    pub idle_timeout: Option<Duration>,
}

/// Keepalive of the kernel.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash, Deserialize, Serialize)]
#[serde(rename_all = "camelCase", default)]
pub struct TcpKeepalive {
    /// Probes without an answer that end a connection; 0: the kernel's.
    pub probes: u32,
    /// Silence before the first one.
    #[serde(with = "duration::maybe")]
    pub time: Option<Duration>,
    /// Time between two.
    #[serde(with = "duration::maybe")]
    pub interval: Option<Duration>,
}

/// Settings of requests.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash, Deserialize, Serialize)]
#[serde(rename_all = "camelCase", default)]
pub struct HttpSettings {
    /// That wait for a connection; 0: without limit.
    pub http1_max_pending_requests: i32,
    /// At a time; 0: without limit.
    pub http2_max_requests: i32,
    /// Of one connection; 0: without limit.
    pub max_requests_per_connection: i32,
    /// Retries at a time; 0: without limit.
    pub max_retries: i32,
    /// How long a connection lives without a request.
    #[serde(with = "duration::maybe")]
    pub idle_timeout: Option<Duration>,
    /// Whether HTTP/1.1 becomes HTTP/2.
    pub h2_upgrade_policy: H2Upgrade,
    /// The server is spoken to as the client speaks.
    pub use_client_protocol: bool,
    /// Streams of one connection; 0: without limit.
    pub max_concurrent_streams: i32,
    /// Keepalive of HTTP/2.
    pub http2_keep_alive: Option<Http2Keepalive>,
}

/// Whether HTTP/1.1 becomes HTTP/2.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Deserialize, Serialize)]
#[serde(rename_all = "SCREAMING_SNAKE_CASE")]
pub enum H2Upgrade {
    /// What the mesh says.
    #[default]
    Default,
    /// No.
    DoNotUpgrade,
    /// Yes.
    Upgrade,
}

/// Keepalive of HTTP/2.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash, Deserialize, Serialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Http2Keepalive {
    /// Time between two pings.
    #[serde(with = "duration::maybe")]
    pub interval: Option<Duration>,
    /// How long an answer may take.
    #[serde(with = "duration::maybe")]
    pub timeout: Option<Duration>,
}

/// Which endpoints are left alone for a while.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash, Deserialize, Serialize)]
#[serde(rename_all = "camelCase", default)]
pub struct OutlierDetection {
    /// Deprecated.
    pub consecutive_errors: i32,
    /// Errors on the way are counted apart from errors of the server.
    pub split_external_local_origin_errors: bool,
    /// Errors on the way, in a row.
    pub consecutive_local_origin_failures: Option<u32>,
    /// 502, 503, 504 in a row; 0: not counted.
    pub consecutive_gateway_errors: Option<u32>,
    /// 5xx in a row; 0: not counted. Absent: 5.
    pub consecutive_5xx_errors: Option<u32>,
    /// How often is looked; absent: 10 s.
    #[serde(with = "duration::maybe")]
    pub interval: Option<Duration>,
    /// For how long, times the number of times; absent: 30 s.
    #[serde(with = "duration::maybe")]
    pub base_ejection_time: Option<Duration>,
    /// Of how many at most, of a hundred; 0: 10.
    pub max_ejection_percent: i32,
    /// With fewer good ones than this, of a hundred, all are used.
    pub min_health_percent: i32,
    /// Statuses that count as errors, instead of 5xx.
    pub outlier_detection_http_error_codes: Vec<u32>,
}

/// Near endpoints first, as far as they suffice.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash, Deserialize, Serialize)]
#[serde(rename_all = "camelCase", default)]
pub struct ZoneAwareLb {
    /// Absent: yes.
    pub enabled: Option<bool>,
    /// Which region takes over from which.
    pub failover: Vec<Failover>,
    /// Labels that near endpoints have in common with the client.
    pub failover_priority: Vec<String>,
    /// Endpoints that a cluster has at least; absent: 6.
    pub min_cluster_size: Option<u64>,
}

/// A tag of spans: one of these.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash, Deserialize, Serialize)]
#[serde(rename_all = "camelCase", default)]
pub struct CustomTag {
    /// A text.
    pub literal: Option<TagText>,
    /// A variable of the proxy's environment.
    pub environment: Option<TagSource>,
    /// A header of the request.
    pub header: Option<TagSource>,
    /// Envoy's command operators.
    pub formatter: Option<TagText>,
}

/// A text.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash, Deserialize, Serialize)]
#[serde(rename_all = "camelCase", default)]
pub struct TagText {
    /// The text.
    pub value: String,
}

/// Where the value of a tag comes from.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash, Deserialize, Serialize)]
#[serde(rename_all = "camelCase", default)]
pub struct TagSource {
    /// Its name.
    pub name: String,
    /// The value where there is none.
    pub default_value: String,
}
