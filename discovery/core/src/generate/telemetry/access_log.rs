//! Access loggers of extension providers.

use pilot_proto::envoy::config::accesslog::v3::{
    AccessLog, AccessLogFilter, AndFilter, ExtensionFilter, ResponseFlagFilter, access_log,
    access_log_filter::FilterSpecifier, extension_filter,
};
use pilot_proto::envoy::config::core::v3::{ApiVersion, GrpcService, SubstitutionFormatString, grpc_service};
use pilot_proto::envoy::extensions::access_loggers::file::v3::{
    FileAccessLog, file_access_log::AccessLogFormat,
};
use pilot_proto::envoy::extensions::access_loggers::filters::cel::v3::ExpressionFilter;
use pilot_proto::envoy::extensions::access_loggers::grpc::v3::{
    CommonGrpcAccessLogConfig, HttpGrpcAccessLogConfig, TcpGrpcAccessLogConfig,
};
use pilot_proto::envoy::extensions::access_loggers::open_telemetry::v3::OpenTelemetryAccessLogConfig;
use pilot_proto::google::protobuf::Any;
use pilot_proto::mesh::extension_provider::{EnvoyFileAccessLog, EnvoyHttpAls, EnvoyOtelAls, EnvoyTcpAls};
use pilot_proto::mesh::{AccessLogEncoding, ExtensionProvider, MeshConfig};
use pilot_proto::opentelemetry::proto::common::v1::{AnyValue, KeyValue, KeyValueList, any_value};
use serde_json::Value;

use super::log_format::{self, EmptyValue, TEXT};
use super::{AccessLogScope, AccessLogSink, AccessLogger, Collector, FindCollector, ProviderError};
use crate::generate::proto::any;

/// Name of Istio's built-in provider: it sets the path, the mesh configuration the format.
const BUILT_IN: &str = "envoy";
/// Bootstrap cluster of `envoyAccessLogService`.
const BOOTSTRAP_CLUSTER: &str = "envoy_accesslog_service";
/// Filter state of the peers. Only filters of Istio's build set it; in other builds it is empty.
const PEERS: [&str; 2] = ["upstream_peer", "downstream_peer"];

const FILE: &str = "envoy.access_loggers.file";
const HTTP: &str = "envoy.access_loggers.http_grpc";
const TCP: &str = "envoy.access_loggers.tcp_grpc";
const OTEL: &str = "envoy.access_loggers.open_telemetry";

/// Returns the access log sink of a provider.
pub fn access_log_sink(
    provider: &ExtensionProvider,
    mesh: &MeshConfig,
    find: FindCollector<'_>,
) -> Result<AccessLogSink, ProviderError> {
    let find_service = |service: &str, port| find(service, port).ok_or(ProviderError::ServiceNotFound);
    if let Some(file) = &provider.envoy_file_access_log {
        let default_format = file.log_format.is_none() && !file.omit_empty_values;
        return Ok(if provider.name == BUILT_IN && default_format {
            mesh_access_log_file(&file.path, mesh)
        } else {
            file_at(&file.path, format_of(file))
        });
    }
    if let Some(http) = &provider.envoy_http_als {
        return find_service(&http.service, http.port).map(|collector| http_als(http, &collector));
    }
    if let Some(tcp) = &provider.envoy_tcp_als {
        return find_service(&tcp.service, tcp.port).map(|collector| tcp_als(tcp, &collector));
    }
    if let Some(otel) = &provider.envoy_otel_als {
        return find_service(&otel.service, otel.port).map(|collector| otel_als(otel, &collector));
    }
    Err(ProviderError::UnsupportedKind)
}

/// Returns a file sink with the format of the mesh configuration.
pub fn mesh_access_log_file(path: &str, mesh: &MeshConfig) -> AccessLogSink {
    let format = match mesh.access_log_encoding {
        AccessLogEncoding::Text => log_format::text(&mesh.access_log_format, EmptyValue::Dashed),
        AccessLogEncoding::Json => {
            // Text that is not an object is ignored; validation of the mesh configuration reports it.
            let written: Option<Value> = serde_json::from_str(&mesh.access_log_format).ok();
            log_format::object(written.as_ref().and_then(Value::as_object), EmptyValue::Dashed)
        }
    };
    file_at(path, format)
}

fn file_at(path: &str, format: SubstitutionFormatString) -> AccessLogSink {
    let path = if path.is_empty() { "/dev/stdout" } else { path };
    let config =
        FileAccessLog { path: path.to_owned(), access_log_format: Some(AccessLogFormat::LogFormat(format)) };
    AccessLogSink::Logger(FILE, pilot_proto::any(&config))
}

fn format_of(file: &EnvoyFileAccessLog) -> SubstitutionFormatString {
    let empty = if file.omit_empty_values { EmptyValue::Omitted } else { EmptyValue::Dashed };
    let format = file.log_format.as_ref();
    match (format.and_then(|format| format.text.as_ref()), format.and_then(|format| format.labels.as_ref())) {
        (None, Some(labels)) => log_format::object(labels.as_object(), empty),
        (text, _) => log_format::text(text.map_or("", String::as_str), empty),
    }
}

fn http_als(http: &EnvoyHttpAls, collector: &Collector) -> AccessLogSink {
    let config = HttpGrpcAccessLogConfig {
        common_config: Some(CommonGrpcAccessLogConfig {
            filter_state_objects_to_log: or_peers(&http.filter_state_objects_to_log),
            ..common(or(&http.log_name, "http_envoy_accesslog"), collector)
        }),
        additional_request_headers_to_log: http.additional_request_headers_to_log.clone(),
        additional_response_headers_to_log: http.additional_response_headers_to_log.clone(),
        additional_response_trailers_to_log: http.additional_response_trailers_to_log.clone(),
    };
    AccessLogSink::Logger(HTTP, pilot_proto::any(&config))
}

fn tcp_als(tcp: &EnvoyTcpAls, collector: &Collector) -> AccessLogSink {
    let config = TcpGrpcAccessLogConfig {
        common_config: Some(CommonGrpcAccessLogConfig {
            filter_state_objects_to_log: or_peers(&tcp.filter_state_objects_to_log),
            ..common(or(&tcp.log_name, "tcp_envoy_accesslog"), collector)
        }),
    };
    AccessLogSink::Logger(TCP, pilot_proto::any(&config))
}

#[expect(deprecated, reason = "the successors of commonConfig are unknown to older proxies")]
fn otel_als(otel: &EnvoyOtelAls, collector: &Collector) -> AccessLogSink {
    let format = otel.log_format.as_ref();
    let body = format.map_or("", |format| &*format.text);
    let labels = format.and_then(|format| format.labels.as_ref()).and_then(Value::as_object);
    let attribute = |(key, value): (&String, &Value)| KeyValue {
        key: key.clone(),
        value: Some(text(value.as_str().unwrap_or_default())),
        ..KeyValue::default()
    };
    let written = labels.into_iter().flatten().filter_map(|(_, value)| value.as_str());
    let config = OpenTelemetryAccessLogConfig {
        common_config: Some(common(or(&otel.log_name, "otel_envoy_accesslog"), collector)),
        disable_builtin_labels: true,
        body: Some(text(or(body, TEXT))),
        attributes: labels.filter(|labels| !labels.is_empty()).map(|labels| {
            let mut values: Vec<KeyValue> = labels.iter().map(attribute).collect();
            values.sort_by(|a, b| a.key.cmp(&b.key));
            KeyValueList { values }
        }),
        formatters: log_format::formatters(written.chain([body])),
        ..OpenTelemetryAccessLogConfig::default()
    };
    AccessLogSink::Logger(OTEL, pilot_proto::any(&config))
}

fn text(text: &str) -> AnyValue {
    AnyValue { value: Some(any_value::Value::StringValue(text.to_owned())) }
}

fn or<'a>(configured: &'a str, default: &'a str) -> &'a str {
    if configured.is_empty() { default } else { configured }
}

fn or_peers(configured: &[String]) -> Vec<String> {
    if configured.is_empty() { PEERS.map(str::to_owned).into() } else { configured.to_vec() }
}

fn common(name: &str, collector: &Collector) -> CommonGrpcAccessLogConfig {
    CommonGrpcAccessLogConfig {
        log_name: name.to_owned(),
        grpc_service: Some(collector.grpc()),
        transport_api_version: ApiVersion::V3.into(),
        filter_state_objects_to_log: PEERS.map(str::to_owned).into(),
        ..CommonGrpcAccessLogConfig::default()
    }
}

// === impl Collector ===

impl Collector {
    pub(super) fn grpc(&self) -> GrpcService {
        GrpcService {
            target_specifier: Some(grpc_service::TargetSpecifier::EnvoyGrpc(grpc_service::EnvoyGrpc {
                cluster_name: self.cluster.clone(),
                authority: self.host.clone(),
                ..grpc_service::EnvoyGrpc::default()
            })),
            ..GrpcService::default()
        }
    }
}

// === impl AccessLogger ===

impl AccessLogger {
    pub(in crate::generate) fn message(&self, scope: AccessLogScope) -> AccessLog {
        let no_route = (scope == AccessLogScope::Listener)
            .then(|| FilterSpecifier::ResponseFlagFilter(ResponseFlagFilter { flags: vec!["NR".into()] }));
        let expression = self.expression.as_deref().map(|expression| {
            let config =
                ExpressionFilter { expression: expression.to_owned(), ..ExpressionFilter::default() };
            FilterSpecifier::ExtensionFilter(ExtensionFilter {
                name: "envoy.access_loggers.extension_filters.cel".into(),
                config_type: any(&config).map(extension_filter::ConfigType::TypedConfig),
            })
        });
        let filter = |specifier| AccessLogFilter { filter_specifier: Some(specifier) };
        let (name, config) = self.sink.logger(scope);
        AccessLog {
            name: name.to_owned(),
            filter: match (no_route, expression) {
                (Some(one), Some(other)) => {
                    let filters = vec![filter(one), filter(other)];
                    Some(filter(FilterSpecifier::AndFilter(AndFilter { filters })))
                }
                (one, other) => one.or(other).map(filter),
            },
            config_type: Some(access_log::ConfigType::TypedConfig(config)),
        }
    }
}

// === impl AccessLogSink ===

impl AccessLogSink {
    fn logger(&self, scope: AccessLogScope) -> (&'static str, Any) {
        let bootstrap = || Collector { host: String::new(), cluster: BOOTSTRAP_CLUSTER.to_owned() };
        let tcp = |log_name: &str| {
            let als = EnvoyTcpAls { log_name: log_name.to_owned(), ..EnvoyTcpAls::default() };
            tcp_als(&als, &bootstrap())
        };
        let sink = match (self, scope) {
            (Self::Logger(name, config), _) => return (name, config.clone()),
            (Self::Bootstrap, AccessLogScope::Http) => http_als(&EnvoyHttpAls::default(), &bootstrap()),
            (Self::Bootstrap, AccessLogScope::Tcp) => tcp("tcp_envoy_accesslog"),
            (Self::Bootstrap, AccessLogScope::Listener) => tcp("listener_envoy_accesslog"),
        };
        sink.logger(scope)
    }
}
