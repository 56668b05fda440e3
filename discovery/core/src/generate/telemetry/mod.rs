//! What proxies report of the traffic that passes them: access logs and spans.
//!
//! ```text
//! Telemetry objects, mesh ─▶ rules: who is told what, by side ─▶ log, trace: the sinks ─▶ a proxy's filters
//! ```
//!
//! What a sink is told is put into Envoy's words once for a proxy and repeated in each of its filters. Metrics are not
//! among it: Istio's are kept by `istio.stats`, a filter of its own build that a stock Envoy refuses.

mod format;
mod log;
mod rules;
mod trace;

use std::collections::BTreeMap;
use std::sync::Arc;

use pilot_proto::google::protobuf::Any;
use pilot_proto::networking::CustomTag;

pub use log::{file_of_mesh, log};
pub use rules::{LogRule, TraceRule, logging, tracing};
pub use trace::{istio_tags, tracer};

use crate::api::values::Double;

/// Which side of a connection a proxy is on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Side {
    /// It connects: what leaves a workload, and what enters by a gateway.
    Client,
    /// It is connected to: what arrives at a workload.
    Server,
}

/// A place that access is logged to.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Log {
    /// The place.
    pub sink: LogSink,
    /// What is logged, in CEL; `None`: everything.
    pub expression: Option<Arc<str>>,
}

/// A place that access is logged to.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum LogSink {
    /// An access logger of Envoy's, with its configuration.
    Logger(&'static str, Any),
    /// The gRPC service of the bootstrap.
    OfBootstrap,
}

/// How requests are traced.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Traces {
    /// Where spans go; `None`: where the bootstrap says.
    pub tracer: Option<Tracer>,
    /// Requests that are traced, of a hundred.
    pub sampling: Double,
    /// Tags that spans get.
    pub tags: BTreeMap<String, CustomTag>,
    /// The longest path in a tag; 0: Envoy's.
    pub longest_path: u32,
    /// The request id tells whether a request is traced.
    pub by_request_id: bool,
    /// Upstreams are told of the trace.
    pub passed_on: bool,
}

/// Where spans go.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Tracer {
    /// A tracer of Envoy's.
    pub name: &'static str,
    /// Its configuration.
    pub config: Any,
    /// A request to an upstream has a span of its own.
    pub spans_upstreams: bool,
    /// The longest path in a tag; 0: what the proxy says.
    pub longest_path: u32,
}

/// A service that takes reports.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Collector {
    /// Its host.
    pub host: String,
    /// Its cluster.
    pub cluster: String,
}

/// Finds the service of a provider, by `[<namespace>/]<host>` and port, if the proxy knows it.
pub type Find<'a> = &'a dyn Fn(&str, u32) -> Option<Collector>;

/// Why a provider is not reported to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Unusable {
    /// It takes something else.
    OtherKind,
    /// Its service is not there, or the proxy does not see it.
    NoService,
}
