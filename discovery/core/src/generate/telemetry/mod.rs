//! What proxies report of the traffic that passes them: access logs and spans.
//!
//! ```text
//! Telemetry objects, mesh ─▶ rules: who is told what, by side ─▶ log, trace: the sinks ─▶ a proxy's filters
//! ```
//!
//! What a sink is told is put into Envoy's words once for a proxy and repeated in each of its filters. Metrics are not
//! among it: Istio's are kept by `istio.stats`, a filter of its own build that a stock Envoy refuses.

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

/// Which side of a connection a proxy is on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TrafficSide {
    /// It connects: what leaves a workload, and what enters by a gateway.
    Client,
    /// It is connected to: what arrives at a workload.
    Server,
}

/// A place that access is logged to.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct AccessLogger {
    /// The place.
    pub sink: AccessLogSink,
    /// What is logged, in CEL; `None`: everything.
    pub expression: Option<Arc<str>>,
}

/// A place that access is logged to.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum AccessLogSink {
    /// An access logger of Envoy's, with its configuration.
    Logger(&'static str, Any),
    /// The gRPC service of the bootstrap.
    Bootstrap,
}

/// How requests are traced.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct TracingSettings {
    /// Where spans go; `None`: where the bootstrap says.
    pub provider: Option<TracingProvider>,
    /// Requests that are traced, of a hundred.
    pub sampling: Double,
    /// Tags that spans get.
    pub tags: BTreeMap<String, CustomTag>,
    /// The longest path in a tag; 0: Envoy's.
    pub max_path_tag_length: u32,
    /// The request id tells whether a request is traced.
    pub use_request_id: bool,
    /// Upstreams are told of the trace.
    pub context_propagation: bool,
}

/// Where spans go.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct TracingProvider {
    /// A tracer of Envoy's.
    pub name: &'static str,
    /// Its configuration.
    pub config: Any,
    /// A request to an upstream has a span of its own.
    pub spawn_upstream_span: bool,
    /// The longest path in a tag; 0: what the proxy says.
    pub max_path_tag_length: u32,
}

/// A service that takes reports.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Collector {
    /// Its host.
    pub host: String,
    /// Its cluster.
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

/// Finds the service of a provider, by `[<namespace>/]<host>` and port, if the proxy knows it.
pub type FindCollector<'a> = &'a dyn Fn(&str, u32) -> Option<Collector>;

/// Why a provider is not reported to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ProviderError {
    /// It takes something else.
    UnsupportedKind,
    /// Its service is not there, or the proxy does not see it.
    ServiceNotFound,
}
