//! Access logs and tracing.
//!
//! ```text
//! Telemetry objects, mesh ─▶ rules (providers by side) ─▶ access_log, tracing (sinks) ─▶ filters of a proxy
//! ```
//!
//! A sink is translated once for a proxy and used by each of its filters. Istio's metrics are not generated: they need
//! `istio.stats`, a filter of Istio's build that any other Envoy rejects.

mod access_log;
mod log_format;
mod rules;
mod tracing;

use std::collections::BTreeMap;
use std::sync::Arc;

use pilot_proto::google::protobuf::Any;
use pilot_proto::networking::CustomTag;

pub use access_log::{access_log_sink, mesh_access_log_file};
pub use rules::{AccessLogRule, TracingRule, access_log_rules, tracing_rule};
pub use tracing::{istio_tags, tracing_provider};

use crate::api::values::Double;

/// Side of a connection that a proxy is on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TrafficSide {
    /// Client: outbound traffic of a workload, and traffic of a gateway.
    Client,
    /// Server: inbound traffic of a workload.
    Server,
}

/// Access logger of the filters of a proxy.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct AccessLogger {
    /// Sink of the log.
    pub sink: AccessLogSink,
    /// CEL expression that selects entries; `None`: all.
    pub expression: Option<Arc<str>>,
}

/// Sink of an access log.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum AccessLogSink {
    /// Name and configuration of Envoy's access logger.
    Logger(&'static str, Any),
    /// Access log service of the bootstrap (`envoyAccessLogService`).
    Bootstrap,
}

/// Tracing of a proxy.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct TracingSettings {
    /// Tracing provider; `None`: that of the bootstrap.
    pub provider: Option<TracingProvider>,
    /// Sampling percentage.
    pub sampling: Double,
    /// Custom tags of spans.
    pub tags: BTreeMap<String, CustomTag>,
    /// Maximum length of a path in a tag; 0: Envoy's default.
    pub max_path_tag_length: u32,
    /// The request id determines sampling.
    pub use_request_id: bool,
    /// Trace headers are sent upstream.
    pub context_propagation: bool,
}

/// Provider that receives spans.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct TracingProvider {
    /// Name of Envoy's tracer.
    pub name: &'static str,
    /// Configuration of the tracer.
    pub config: Any,
    /// Upstream requests have their own spans.
    pub spawn_upstream_span: bool,
    /// Maximum length of a path in a tag; 0: that of the proxy.
    pub max_path_tag_length: u32,
}

/// Service that receives logs or spans.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Collector {
    /// Hostname.
    pub host: String,
    /// Name of the cluster.
    pub cluster: String,
}

/// Filter or listener that writes an access log.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum AccessLogScope {
    /// HTTP connection manager: all requests.
    Http,
    /// TCP proxy: all connections.
    Tcp,
    /// Listener: connections that no filter chain matches, which no filter can log.
    Listener,
}

/// Finds the service of a provider by `[<namespace>/]<host>` and port; `None`: it is not visible to the proxy.
pub type FindCollector<'a> = &'a dyn Fn(&str, u32) -> Option<Collector>;

/// Reason why a provider cannot be used.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ProviderError {
    /// The provider does not support this kind of telemetry.
    UnsupportedKind,
    /// The service does not exist or is not visible to the proxy.
    ServiceNotFound,
}
