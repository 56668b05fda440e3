//! `Telemetry`: metrics, traces and access logs of proxies.
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
    /// Workloads that it is for; absent: all of the namespace, or of the mesh in the root namespace.
    pub selector: Option<MatchLabels>,
    /// Deprecated: the first of `targetRefs`.
    pub target_ref: Option<PolicyTargetReference>,
    /// Gateways and services that it is for.
    pub target_refs: Vec<PolicyTargetReference>,
    /// Traces.
    pub tracing: Vec<Tracing>,
    /// Metrics.
    pub metrics: Vec<Metrics>,
    /// Access logs.
    pub access_logging: Vec<AccessLogging>,
}

/// Reference to an extension provider of the mesh.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash, Deserialize, Serialize)]
#[serde(rename_all = "camelCase", default)]
pub struct ProviderRef {
    /// Name of the provider.
    pub name: String,
}

/// Side of a connection.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Deserialize, Serialize)]
#[serde(rename_all = "SCREAMING_SNAKE_CASE")]
pub enum WorkloadMode {
    /// Both sides.
    #[default]
    ClientAndServer,
    /// Outbound.
    Client,
    /// Inbound.
    Server,
}

/// Condition on the side of a connection.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Deserialize, Serialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Side {
    /// The side.
    pub mode: WorkloadMode,
}

/// Tracing settings.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash, Deserialize, Serialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Tracing {
    /// Side of connections.
    pub r#match: Option<Side>,
    /// Tracing provider; at most one.
    pub providers: Vec<ProviderRef>,
    /// Percentage of traced requests.
    pub random_sampling_percentage: Option<Double>,
    /// Creates spans without sending them.
    pub disable_span_reporting: Option<bool>,
    /// Additional tags of spans.
    pub custom_tags: BTreeMap<String, CustomTag>,
    /// Samples by the request id.
    pub use_request_id_for_trace_sampling: Option<bool>,
    /// Adds Istio's tags.
    pub enable_istio_tags: Option<bool>,
    /// Does not forward trace headers.
    pub disable_context_propagation: Option<bool>,
}

/// Metrics settings.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash, Deserialize, Serialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Metrics {
    /// Metrics providers.
    pub providers: Vec<ProviderRef>,
    /// Overrides of Istio's metrics.
    pub overrides: Vec<MetricsOverrides>,
    /// Interval of reports.
    #[serde(with = "duration")]
    pub reporting_interval: Option<Duration>,
}

/// Override of some metrics.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash, Deserialize, Serialize)]
#[serde(rename_all = "camelCase", default)]
pub struct MetricsOverrides {
    /// Metrics that it is for.
    pub r#match: Option<MetricSelector>,
    /// Disables the metrics.
    pub disabled: Option<bool>,
    /// Overrides of tags, by name.
    pub tag_overrides: BTreeMap<String, TagOverride>,
}

/// Selector of metrics; at most one of the first two is set.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash, Deserialize, Serialize)]
#[serde(rename_all = "camelCase", default)]
pub struct MetricSelector {
    /// One of Istio's metrics.
    pub metric: Option<IstioMetric>,
    /// Another metric.
    pub custom_metric: Option<String>,
    /// Side of connections.
    pub mode: WorkloadMode,
}

/// Metric of Istio.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Deserialize, Serialize)]
#[serde(rename_all = "SCREAMING_SNAKE_CASE")]
pub enum IstioMetric {
    /// All metrics.
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

/// Override of a tag.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash, Deserialize, Serialize)]
#[serde(rename_all = "camelCase", default)]
pub struct TagOverride {
    /// Operation on the tag.
    pub operation: TagOperation,
    /// Value, an expression.
    pub value: String,
}

/// Operation on a tag.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Deserialize, Serialize)]
#[serde(rename_all = "SCREAMING_SNAKE_CASE")]
pub enum TagOperation {
    /// Sets the tag.
    #[default]
    Upsert,
    /// Removes the tag.
    Remove,
}

/// Access log settings.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash, Deserialize, Serialize)]
#[serde(rename_all = "camelCase", default)]
pub struct AccessLogging {
    /// Side of connections.
    pub r#match: Option<Side>,
    /// Access log providers.
    pub providers: Vec<ProviderRef>,
    /// Disables access logs.
    pub disabled: Option<bool>,
    /// Condition on logged requests.
    pub filter: Option<LogFilter>,
}

/// Condition on logged requests.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash, Deserialize, Serialize)]
#[serde(rename_all = "camelCase", default)]
pub struct LogFilter {
    /// Expression in CEL.
    pub expression: String,
}
