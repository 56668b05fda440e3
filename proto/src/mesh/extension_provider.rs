//! Extension providers that `Telemetry` and other objects name. Providers that affect proxies are parsed; others are kept as
//! JSON.

mod collector;

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

pub use collector::{
    Datadog, EnvoyHttpAls, EnvoyOtelAls, EnvoyTcpAls, GrpcExport, Header, HttpExport, OpenTelemetry,
    OtelLogFormat, SkyWalking, TraceContext, Zipkin,
};

/// An extension provider: a name and exactly one of the other fields.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct ExtensionProvider {
    /// Name of the provider.
    pub name: String,
    /// File access log.
    pub envoy_file_access_log: Option<EnvoyFileAccessLog>,
    /// Metrics at `/stats/prometheus`; it has no settings.
    pub prometheus: Option<Value>,
    /// External authorization over HTTP.
    pub envoy_ext_authz_http: Option<Value>,
    /// External authorization over gRPC.
    pub envoy_ext_authz_grpc: Option<Value>,
    /// Access log service for HTTP requests.
    pub envoy_http_als: Option<EnvoyHttpAls>,
    /// Access log service for TCP connections.
    pub envoy_tcp_als: Option<EnvoyTcpAls>,
    /// `OpenTelemetry` access log service.
    pub envoy_otel_als: Option<EnvoyOtelAls>,
    /// Zipkin tracer.
    pub zipkin: Option<Zipkin>,
    /// Tracer.
    pub lightstep: Option<Value>,
    /// Tracer.
    pub datadog: Option<Datadog>,
    /// Stackdriver: traces, metrics and logs.
    pub stackdriver: Option<Value>,
    /// Tracer.
    pub opencensus: Option<Value>,
    /// Tracer.
    pub skywalking: Option<SkyWalking>,
    /// Tracer.
    pub opentelemetry: Option<OpenTelemetry>,
    /// Secret provider.
    pub sds: Option<Value>,
}

/// File access log.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct EnvoyFileAccessLog {
    /// The file; empty: `/dev/stdout`.
    pub path: String,
    /// Log format; absent: Istio's.
    pub log_format: Option<LogFormat>,
    /// Operators without a value are omitted.
    pub omit_empty_values: bool,
}

/// Log format with Envoy's command operators. At most one field is set.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(default)]
pub struct LogFormat {
    /// A line; a newline at its end is added.
    pub text: Option<String>,
    /// The fields of an object; none: Istio's.
    pub labels: Option<Value>,
}

/// Providers used without `Telemetry`, by name.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct DefaultProviders {
    /// For traces.
    pub tracing: Vec<String>,
    /// For metrics.
    pub metrics: Vec<String>,
    /// For access logs.
    pub access_logging: Vec<String>,
}

// === impl ExtensionProvider ===

impl ExtensionProvider {
    /// Returns Istio's built-in providers.
    pub(super) fn defaults() -> Vec<Self> {
        let nothing = || Some(Value::Object(Map::new()));
        let stdout = EnvoyFileAccessLog { path: "/dev/stdout".into(), ..EnvoyFileAccessLog::default() };
        vec![
            Self { name: "prometheus".into(), prometheus: nothing(), ..Self::default() },
            Self { name: "stackdriver".into(), stackdriver: nothing(), ..Self::default() },
            Self { name: "envoy".into(), envoy_file_access_log: Some(stdout), ..Self::default() },
        ]
    }

    /// Returns the built-in providers, replaced by the user's of the same name, and the user's others.
    pub(super) fn with_defaults(written: Vec<Self>) -> Vec<Self> {
        let mut providers = Self::defaults();
        for provider in written {
            match providers.iter_mut().find(|known| known.name == provider.name) {
                Some(known) => *known = provider,
                None => providers.push(provider),
            }
        }
        providers
    }
}
