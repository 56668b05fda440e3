//! Services that proxies send access logs and spans to.
//!
//! Each is named by `[<namespace>/]<host>` and a port; whether it is there is not known here.

use std::time::Duration;

use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::duration;

/// Takes access logs of requests.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct EnvoyHttpAls {
    /// Its service.
    pub service: String,
    /// Its port.
    pub port: u32,
    /// Which log it is; empty: `http_envoy_accesslog`.
    pub log_name: String,
    /// Filter state that is sent; empty: who is at both ends.
    pub filter_state_objects_to_log: Vec<String>,
    /// Headers of requests that are sent.
    pub additional_request_headers_to_log: Vec<String>,
    /// Headers of responses that are sent.
    pub additional_response_headers_to_log: Vec<String>,
    /// Trailers of responses that are sent.
    pub additional_response_trailers_to_log: Vec<String>,
}

/// Takes access logs of connections.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct EnvoyTcpAls {
    /// Its service.
    pub service: String,
    /// Its port.
    pub port: u32,
    /// Which log it is; empty: `tcp_envoy_accesslog`.
    pub log_name: String,
    /// Filter state that is sent; empty: who is at both ends.
    pub filter_state_objects_to_log: Vec<String>,
}

/// Takes access logs as `OpenTelemetry` has them.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct EnvoyOtelAls {
    /// Its service.
    pub service: String,
    /// Its port.
    pub port: u32,
    /// Which log it is; empty: `otel_envoy_accesslog`.
    pub log_name: String,
    /// What is sent; absent: Istio's text.
    pub log_format: Option<OtelLogFormat>,
}

/// What is sent of one access, with Envoy's command operators.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(default)]
pub struct OtelLogFormat {
    /// The body; empty: Istio's.
    pub text: String,
    /// The attributes.
    pub labels: Option<Value>,
}

/// Takes spans as Zipkin has them.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Zipkin {
    /// Its service.
    pub service: String,
    /// Its port.
    pub port: u32,
    /// The longest path in a tag; 0: what the proxy says.
    pub max_tag_length: u32,
    /// Trace ids are half as long.
    pub enable_64bit_trace_id: bool,
    /// Where spans are posted to; empty: `/api/v2/spans`.
    pub path: String,
    /// In which headers traces are passed on.
    pub trace_context_option: TraceContext,
    /// How long a report may take; absent: 5 s.
    #[serde(with = "duration::maybe")]
    pub timeout: Option<Duration>,
    /// Headers of reports.
    pub headers: Vec<Header>,
}

/// In which headers traces are passed on.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "SCREAMING_SNAKE_CASE")]
pub enum TraceContext {
    /// B3's.
    #[default]
    #[serde(rename = "USE_B3")]
    B3,
    /// B3's and those of W3C.
    #[serde(rename = "USE_B3_WITH_W3C_PROPAGATION")]
    B3AndW3c,
}

/// Takes spans as Datadog has them.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Datadog {
    /// Its service.
    pub service: String,
    /// Its port.
    pub port: u32,
    /// The longest path in a tag; 0: what the proxy says.
    pub max_tag_length: u32,
}

/// Takes spans as `SkyWalking` has them.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct SkyWalking {
    /// Its service.
    pub service: String,
    /// Its port.
    pub port: u32,
    /// Istio reads it and does not send it either.
    pub access_token: String,
}

/// Takes spans as `OpenTelemetry` has them.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct OpenTelemetry {
    /// Its service.
    pub service: String,
    /// Its port.
    pub port: u32,
    /// The longest path in a tag; 0: what the proxy says.
    pub max_tag_length: u32,
    /// Spans are sent over HTTP; absent: over gRPC.
    pub http: Option<HttpExport>,
    /// How they are sent over gRPC.
    pub grpc: Option<GrpcExport>,
    /// What finds out about the proxy's resource, as written.
    pub resource_detectors: Option<Value>,
    /// What the proxy's service is called, as written.
    pub service_attribute_enrichment: Option<Value>,
    /// Who decides what is traced, as written.
    pub dynatrace_sampler: Option<Value>,
}

/// Reports over HTTP.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(default)]
pub struct HttpExport {
    /// Where they are posted to.
    pub path: String,
    /// How long one may take.
    #[serde(with = "duration::maybe")]
    pub timeout: Option<Duration>,
    /// Their headers.
    pub headers: Vec<Header>,
}

/// Reports over gRPC.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct GrpcExport {
    /// How long one may take.
    #[serde(with = "duration::maybe")]
    pub timeout: Option<Duration>,
    /// Their metadata.
    pub initial_metadata: Vec<Header>,
}

/// A header.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Header {
    /// Its name.
    pub name: String,
    /// Its value.
    pub value: Option<String>,
    /// The variable of the control plane's environment that has its value, as written.
    pub env_name: Option<String>,
}
