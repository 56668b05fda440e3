//! `Telemetry`: what proxies report of the traffic that passes them.
//! <https://istio.io/latest/docs/reference/config/telemetry/>

use std::collections::BTreeMap;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::selector::{MatchLabels, PolicyTargetReference};
use super::values::{Double, duration};

pub use pilot_proto::networking::{CustomTag, TagSource, TagText};

/// `Telemetry.spec`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash, Deserialize, Serialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Telemetry {
    /// For which workloads; absent: all of the namespace, or of the mesh in the root namespace.
    pub selector: Option<MatchLabels>,
    /// Deprecated: the first of `targetRefs`.
    pub target_ref: Option<PolicyTargetReference>,
    /// For which gateways and services.
    pub target_refs: Vec<PolicyTargetReference>,
    /// Traces.
    pub tracing: Vec<Tracing>,
    /// Metrics.
    pub metrics: Vec<Metrics>,
    /// Access logs.
    pub access_logging: Vec<AccessLogging>,
}

/// Names an extension provider of the mesh.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash, Deserialize, Serialize)]
#[serde(rename_all = "camelCase", default)]
pub struct ProviderRef {
    /// Its name.
    pub name: String,
}

/// Which side of a connection a rule is for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Deserialize, Serialize)]
#[serde(rename_all = "SCREAMING_SNAKE_CASE")]
pub enum WorkloadMode {
    /// Both.
    #[default]
    ClientAndServer,
    /// Outbound.
    Client,
    /// Inbound.
    Server,
}

/// A side of a connection.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Deserialize, Serialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Side {
    /// Which.
    pub mode: WorkloadMode,
}

/// Traces.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash, Deserialize, Serialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Tracing {
    /// Which side.
    pub r#match: Option<Side>,
    /// Where spans go; one at most.
    pub providers: Vec<ProviderRef>,
    /// Requests that are traced, of a hundred.
    pub random_sampling_percentage: Option<Double>,
    /// Spans are made and not sent.
    pub disable_span_reporting: Option<bool>,
    /// Tags that spans get.
    pub custom_tags: BTreeMap<String, CustomTag>,
    /// The request id decides what is traced.
    pub use_request_id_for_trace_sampling: Option<bool>,
    /// Istio's own tags.
    pub enable_istio_tags: Option<bool>,
    /// Trace headers are not passed on.
    pub disable_context_propagation: Option<bool>,
}

/// Metrics.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash, Deserialize, Serialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Metrics {
    /// Where they go.
    pub providers: Vec<ProviderRef>,
    /// What is different from Istio's own.
    pub overrides: Vec<MetricsOverrides>,
    /// How often they are sent.
    #[serde(with = "duration")]
    pub reporting_interval: Option<Duration>,
}

/// What is different about some metrics.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash, Deserialize, Serialize)]
#[serde(rename_all = "camelCase", default)]
pub struct MetricsOverrides {
    /// Which.
    pub r#match: Option<MetricSelector>,
    /// They are not kept.
    pub disabled: Option<bool>,
    /// Their tags.
    pub tag_overrides: BTreeMap<String, TagOverride>,
}

/// Some metrics: one of the first two.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash, Deserialize, Serialize)]
#[serde(rename_all = "camelCase", default)]
pub struct MetricSelector {
    /// One of Istio's.
    pub metric: Option<IstioMetric>,
    /// Another one.
    pub custom_metric: Option<String>,
    /// Which side.
    pub mode: WorkloadMode,
}

/// One of Istio's metrics.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Deserialize, Serialize)]
#[serde(rename_all = "SCREAMING_SNAKE_CASE")]
pub enum IstioMetric {
    /// All of them.
    #[default]
    AllMetrics,
    /// `istio_requests_total`
    RequestCount,
    /// `istio_request_duration_milliseconds`
    RequestDuration,
    /// `istio_request_bytes`
    RequestSize,
    /// `istio_response_bytes`
    ResponseSize,
    /// `istio_tcp_connections_opened_total`
    TcpOpenedConnections,
    /// `istio_tcp_connections_closed_total`
    TcpClosedConnections,
    /// `istio_tcp_sent_bytes_total`
    TcpSentBytes,
    /// `istio_tcp_received_bytes_total`
    TcpReceivedBytes,
    /// `istio_request_messages_total`
    GrpcRequestMessages,
    /// `istio_response_messages_total`
    GrpcResponseMessages,
}

/// What becomes of a tag.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash, Deserialize, Serialize)]
#[serde(rename_all = "camelCase", default)]
pub struct TagOverride {
    /// Set or removed.
    pub operation: TagOperation,
    /// The value: an expression.
    pub value: String,
}

/// Set or removed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Deserialize, Serialize)]
#[serde(rename_all = "SCREAMING_SNAKE_CASE")]
pub enum TagOperation {
    /// Set.
    #[default]
    Upsert,
    /// Removed.
    Remove,
}

/// Access logs.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash, Deserialize, Serialize)]
#[serde(rename_all = "camelCase", default)]
pub struct AccessLogging {
    /// Which side.
    pub r#match: Option<Side>,
    /// Where they go.
    pub providers: Vec<ProviderRef>,
    /// There is none.
    pub disabled: Option<bool>,
    /// What is logged.
    pub filter: Option<LogFilter>,
}

/// What is logged.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash, Deserialize, Serialize)]
#[serde(rename_all = "camelCase", default)]
pub struct LogFilter {
    /// A CEL expression.
    pub expression: String,
}
