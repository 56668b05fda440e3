//! What `Telemetry` and others may name: extension providers. Those that proxies are told of are read; others are kept as they
//! were written.

mod collector;

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

pub use collector::{
    Datadog, EnvoyHttpAls, EnvoyOtelAls, EnvoyTcpAls, GrpcExport, Header, HttpExport, OpenTelemetry,
    OtelLogFormat, SkyWalking, TraceContext, Zipkin,
};

/// One provider: a name and one of the rest.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct ExtensionProvider {
    /// By which it is named.
    pub name: String,
    /// A file that proxies write their access log to.
    pub envoy_file_access_log: Option<EnvoyFileAccessLog>,
    /// Metrics at `/stats/prometheus`; it has no settings.
    pub prometheus: Option<Value>,
    /// Who authorizes, by HTTP.
    pub envoy_ext_authz_http: Option<Value>,
    /// Who authorizes, by gRPC.
    pub envoy_ext_authz_grpc: Option<Value>,
    /// Who takes access logs of requests.
    pub envoy_http_als: Option<EnvoyHttpAls>,
    /// Who takes access logs of connections.
    pub envoy_tcp_als: Option<EnvoyTcpAls>,
    /// Who takes access logs as `OpenTelemetry` has them.
    pub envoy_otel_als: Option<EnvoyOtelAls>,
    /// Who takes traces.
    pub zipkin: Option<Zipkin>,
    /// Who takes traces.
    pub lightstep: Option<Value>,
    /// Who takes traces.
    pub datadog: Option<Datadog>,
    /// Who takes traces, metrics and logs.
    pub stackdriver: Option<Value>,
    /// Who takes traces.
    pub opencensus: Option<Value>,
    /// Who takes traces.
    pub skywalking: Option<SkyWalking>,
    /// Who takes traces.
    pub opentelemetry: Option<OpenTelemetry>,
    /// Who has secrets.
    pub sds: Option<Value>,
}

/// A file that proxies write their access log to.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct EnvoyFileAccessLog {
    /// The file; empty: `/dev/stdout`.
    pub path: String,
    /// What is written; absent: Istio's format.
    pub log_format: Option<LogFormat>,
    /// What has no value is left out.
    pub omit_empty_values: bool,
}

/// What is written: one of these, with Envoy's command operators.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(default)]
pub struct LogFormat {
    /// A line; a newline at its end is added.
    pub text: Option<String>,
    /// The fields of an object; none: Istio's.
    pub labels: Option<Value>,
}

/// What is used where no `Telemetry` says anything: names of providers.
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
    /// Istio's own.
    pub(super) fn defaults() -> Vec<Self> {
        let nothing = || Some(Value::Object(Map::new()));
        let stdout = EnvoyFileAccessLog { path: "/dev/stdout".into(), ..EnvoyFileAccessLog::default() };
        vec![
            Self { name: "prometheus".into(), prometheus: nothing(), ..Self::default() },
            Self { name: "stackdriver".into(), stackdriver: nothing(), ..Self::default() },
            Self { name: "envoy".into(), envoy_file_access_log: Some(stdout), ..Self::default() },
        ]
    }

    /// Istio's own, each replaced by the user's of its name, and the user's others.
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
