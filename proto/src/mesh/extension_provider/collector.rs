//! Services that receive access logs and spans from proxies.
//!
//! A service is named by `[<namespace>/]<host>` and a port. Its existence is not checked here.

use std::time::Duration;

use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::duration;

/// Access log service for HTTP requests.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct EnvoyHttpAls {
    /// Service.
    pub service: String,
    /// Port.
    pub port: u32,
    /// Log name; empty: `http_envoy_accesslog`.
    pub log_name: String,
    /// Filter state objects to send; empty: the identities of both peers.
    pub filter_state_objects_to_log: Vec<String>,
    /// Request headers to send.
    pub additional_request_headers_to_log: Vec<String>,
    /// Response headers to send.
    pub additional_response_headers_to_log: Vec<String>,
    /// Response trailers to send.
    pub additional_response_trailers_to_log: Vec<String>,
}

/// Access log service for TCP connections.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct EnvoyTcpAls {
    /// Service.
    pub service: String,
    /// Port.
    pub port: u32,
    /// Log name; empty: `tcp_envoy_accesslog`.
    pub log_name: String,
    /// Filter state objects to send; empty: the identities of both peers.
    pub filter_state_objects_to_log: Vec<String>,
}

/// `OpenTelemetry` access log service.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct EnvoyOtelAls {
    /// Service.
    pub service: String,
    /// Port.
    pub port: u32,
    /// Log name; empty: `otel_envoy_accesslog`.
    pub log_name: String,
    /// Log format; absent: Istio's text.
    pub log_format: Option<OtelLogFormat>,
}

/// Log format with Envoy's command operators.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(default)]
pub struct OtelLogFormat {
    /// Body; empty: Istio's.
    pub text: String,
    /// Attributes.
    pub labels: Option<Value>,
}

/// Zipkin collector.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Zipkin {
    /// Service.
    pub service: String,
    /// Port.
    pub port: u32,
    /// Longest path in a tag; 0: the setting of the proxy.
    pub max_tag_length: u32,
    /// Trace ids have 64 bits.
    pub enable_64bit_trace_id: bool,
    /// Path of the collector; empty: `/api/v2/spans`.
    pub path: String,
    /// Header formats of the trace context.
    pub trace_context_option: TraceContext,
    /// Timeout of a report; absent: 5 s.
    #[serde(with = "duration::maybe")]
    pub timeout: Option<Duration>,
    /// Headers of reports.
    pub headers: Vec<Header>,
}

/// Header formats of the trace context.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "SCREAMING_SNAKE_CASE")]
pub enum TraceContext {
    /// B3.
    #[default]
    #[serde(rename = "USE_B3")]
    B3,
    /// B3 and W3C.
    #[serde(rename = "USE_B3_WITH_W3C_PROPAGATION")]
    B3AndW3c,
}

/// Datadog agent.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Datadog {
    /// Service.
    pub service: String,
    /// Port.
    pub port: u32,
    /// Longest path in a tag; 0: the setting of the proxy.
    pub max_tag_length: u32,
}

/// `SkyWalking` collector.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct SkyWalking {
    /// Service.
    pub service: String,
    /// Port.
    pub port: u32,
    /// Access token; as in Istio, it is read and not sent.
    pub access_token: String,
}

/// `OpenTelemetry` collector.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct OpenTelemetry {
    /// Service.
    pub service: String,
    /// Port.
    pub port: u32,
    /// Longest path in a tag; 0: the setting of the proxy.
    pub max_tag_length: u32,
    /// Spans are sent over HTTP; absent: over gRPC.
    pub http: Option<HttpExport>,
    /// gRPC export.
    pub grpc: Option<GrpcExport>,
    /// Resource detectors, unparsed.
    pub resource_detectors: Option<Value>,
    /// Naming of the proxy's service, unparsed.
    pub service_attribute_enrichment: Option<Value>,
    /// Sampler, unparsed.
    pub dynatrace_sampler: Option<Value>,
}

/// HTTP export.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(default)]
pub struct HttpExport {
    /// Path of the collector.
    pub path: String,
    /// Timeout.
    #[serde(with = "duration::maybe")]
    pub timeout: Option<Duration>,
    /// Headers.
    pub headers: Vec<Header>,
}

/// gRPC export.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct GrpcExport {
    /// Timeout.
    #[serde(with = "duration::maybe")]
    pub timeout: Option<Duration>,
    /// Initial metadata.
    pub initial_metadata: Vec<Header>,
}

/// A header.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Header {
    /// Name.
    pub name: String,
    /// Value.
    pub value: Option<String>,
    /// Environment variable of the control plane that contains the value, unparsed.
    pub env_name: Option<String>,
}
