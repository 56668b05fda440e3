//! Tracing providers and tags of spans.

use std::collections::BTreeMap;
use std::time::Duration;

use pilot_proto::envoy::config::core::v3::{
    GrpcService, HeaderValue, HeaderValueOption, HttpService, HttpUri,
    header_value_option::HeaderAppendAction, http_uri::HttpUpstreamType,
};
use pilot_proto::envoy::config::trace::v3::{
    DatadogConfig, OpenTelemetryConfig, SkyWalkingConfig, ZipkinConfig,
    tracing::{Http as Provider, http::ConfigType},
    zipkin_config::{CollectorEndpointVersion, TraceContextOption},
};
use pilot_proto::envoy::extensions::filters::network::http_connection_manager::v3::http_connection_manager::Tracing;
use pilot_proto::envoy::r#type::tracing::v3::{CustomTag as Tag, custom_tag};
use pilot_proto::envoy::r#type::v3::Percent;
use pilot_proto::google::protobuf::UInt32Value;
use pilot_proto::mesh::ExtensionProvider;
use pilot_proto::mesh::extension_provider::{Header, OpenTelemetry, TraceContext, Zipkin};
use pilot_proto::networking::{CustomTag, TagText};

use super::{Collector, FindCollector, ProviderError, TracingProvider, TracingSettings};
use crate::generate::proto::{duration, no, yes};
use crate::model::{Labels, Proxy};

/// Timeout of requests to a collector; Envoy requires one.
const COLLECTOR_TIMEOUT: Duration = Duration::from_secs(5);

/// Returns the tracer of a provider. Upstream requests of a gateway have their own spans, because the gateway starts the
/// trace.
pub fn tracing_provider(
    provider: &ExtensionProvider,
    proxy: &Proxy,
    find: FindCollector<'_>,
) -> Result<TracingProvider, ProviderError> {
    let find_service = |service: &str, port| find(service, port).ok_or(ProviderError::ServiceNotFound);
    let gateway = proxy.node_type() == pilot_proto::node::NodeType::Router;
    if let Some(settings) = &provider.zipkin {
        let config = zipkin(settings, &find_service(&settings.service, settings.port)?);
        return Ok(TracingProvider {
            name: "envoy.tracers.zipkin",
            config: pilot_proto::any(&config),
            spawn_upstream_span: gateway,
            max_path_tag_length: settings.max_tag_length,
        });
    }
    if let Some(settings) = &provider.opentelemetry {
        let config = opentelemetry(settings, &find_service(&settings.service, settings.port)?, proxy);
        return Ok(TracingProvider {
            name: "envoy.tracers.opentelemetry",
            config: pilot_proto::any(&config),
            spawn_upstream_span: gateway,
            max_path_tag_length: settings.max_tag_length,
        });
    }
    if let Some(settings) = &provider.datadog {
        let collector = find_service(&settings.service, settings.port)?;
        let config = DatadogConfig {
            collector_cluster: collector.cluster,
            collector_hostname: collector.host,
            service_name: proxy.service_cluster.clone(),
            ..DatadogConfig::default()
        };
        return Ok(TracingProvider {
            name: "envoy.tracers.datadog",
            config: pilot_proto::any(&config),
            spawn_upstream_span: gateway,
            max_path_tag_length: settings.max_tag_length,
        });
    }
    if let Some(settings) = &provider.skywalking {
        let collector = find_service(&settings.service, settings.port)?;
        let config = SkyWalkingConfig { grpc_service: Some(collector.grpc()), ..SkyWalkingConfig::default() };
        return Ok(TracingProvider {
            name: "envoy.tracers.skywalking",
            config: pilot_proto::any(&config),
            spawn_upstream_span: true,
            max_path_tag_length: 0,
        });
    }
    Err(ProviderError::UnsupportedKind)
}

/// Returns Istio's tags of a workload.
pub fn istio_tags(proxy: &Proxy, labels: &Labels) -> impl Iterator<Item = (String, CustomTag)> {
    let label = |name: &str| labels.get(name).map(String::as_str);
    let metadata = &proxy.metadata;
    let tags_of_workload = [
        ("istio.canonical_revision", label("service.istio.io/canonical-revision"), "latest"),
        ("istio.canonical_service", label("service.istio.io/canonical-name"), "unknown"),
        ("istio.cluster_id", metadata.cluster_id.as_deref(), "unknown"),
        ("istio.mesh_id", metadata.mesh_id.as_deref(), "unknown"),
        ("istio.namespace", metadata.namespace.as_deref(), "default"),
    ];
    let tag = |(name, tags_of_workload, default): (&str, Option<&str>, &str)| {
        let value = tags_of_workload
            .filter(|tags_of_workload| !tags_of_workload.is_empty())
            .unwrap_or(default)
            .to_owned();
        (name.to_owned(), CustomTag { literal: Some(TagText { value }), ..CustomTag::default() })
    };
    tags_of_workload.map(tag).into_iter()
}

fn zipkin(settings: &Zipkin, collector: &Collector) -> ZipkinConfig {
    let path = if settings.path.is_empty() { "/api/v2/spans" } else { &settings.path };
    let base = ZipkinConfig {
        collector_endpoint_version: CollectorEndpointVersion::HttpJson.into(),
        trace_id_128bit: !settings.enable_64bit_trace_id,
        shared_span_context: no(),
        trace_context_option: match settings.trace_context_option {
            TraceContext::B3 => TraceContextOption::UseB3,
            TraceContext::B3AndW3c => TraceContextOption::UseB3WithW3cPropagation,
        }
        .into(),
        ..ZipkinConfig::default()
    };
    if settings.timeout.is_none() && settings.headers.is_empty() {
        // All versions of Envoy support these fields; older versions do not have `collector_service`.
        return ZipkinConfig {
            collector_cluster: collector.cluster.clone(),
            collector_endpoint: path.to_owned(),
            collector_hostname: collector.host.clone(),
            ..base
        };
    }
    let uri = format!("http://{}{path}", collector.host);
    ZipkinConfig { collector_service: Some(collector.http(uri, settings.timeout, &settings.headers)), ..base }
}

fn opentelemetry(settings: &OpenTelemetry, collector: &Collector, proxy: &Proxy) -> OpenTelemetryConfig {
    let base =
        OpenTelemetryConfig { service_name: proxy.service_cluster.clone(), ..OpenTelemetryConfig::default() };
    match (&settings.http, &settings.grpc) {
        (Some(http), _) => {
            let uri = format!("{}/{}", collector.host, http.path.trim_start_matches('/'));
            let service = collector.http(uri, http.timeout, &http.headers);
            OpenTelemetryConfig { http_service: Some(service), ..base }
        }
        (None, grpc) => {
            let grpc = grpc.clone().unwrap_or_default();
            let initial_metadata = grpc.initial_metadata.iter().map(header).collect();
            let service = GrpcService {
                timeout: grpc.timeout.and_then(duration),
                initial_metadata,
                ..collector.grpc()
            };
            OpenTelemetryConfig { grpc_service: Some(service), ..base }
        }
    }
}

fn header(header: &Header) -> HeaderValue {
    let value = header.value.clone().unwrap_or_default();
    HeaderValue { key: header.name.clone(), value, ..HeaderValue::default() }
}

// === impl Collector ===

impl Collector {
    fn http(&self, uri: String, timeout: Option<Duration>, headers: &[Header]) -> HttpService {
        HttpService {
            http_uri: Some(HttpUri {
                uri,
                timeout: duration(timeout.unwrap_or(COLLECTOR_TIMEOUT)),
                http_upstream_type: Some(HttpUpstreamType::Cluster(self.cluster.clone())),
            }),
            request_headers_to_add: headers
                .iter()
                .map(|settings| HeaderValueOption {
                    header: Some(header(settings)),
                    append_action: HeaderAppendAction::OverwriteIfExistsOrAdd.into(),
                    ..HeaderValueOption::default()
                })
                .collect(),
            ..HttpService::default()
        }
    }
}

// === impl TracingSettings ===

impl TracingSettings {
    pub(in crate::generate) fn message(&self) -> Tracing {
        let share = |value| Some(Percent { value });
        let tracer = self.provider.as_ref();
        let longest = tracer.map(|tracer| tracer.max_path_tag_length).filter(|longest| *longest > 0);
        let longest = longest.unwrap_or(self.max_path_tag_length);
        Tracing {
            // A client can force tracing.
            client_sampling: share(100.0),
            random_sampling: share(self.sampling.0),
            overall_sampling: share(100.0),
            max_path_tag_length: (longest > 0).then_some(UInt32Value { value: longest }),
            custom_tags: tags(&self.tags),
            provider: tracer.map(|tracer| Provider {
                name: tracer.name.to_owned(),
                config_type: Some(ConfigType::TypedConfig(tracer.config.clone())),
            }),
            spawn_upstream_span: tracer.filter(|tracer| tracer.spawn_upstream_span).and_then(|_| yes()),
            no_context_propagation: !self.context_propagation,
            ..Tracing::default()
        }
    }
}

fn tags(tags: &BTreeMap<String, CustomTag>) -> Vec<Tag> {
    let custom_tags = tags.iter().filter_map(|(name, tag)| {
        let kind = kind(tag)?;
        Some(Tag { tag: name.clone(), r#type: Some(kind) })
    });
    custom_tags.collect()
}

/// Returns the source of a tag; `None`: it is empty, and Envoy would reject it.
fn kind(tag: &CustomTag) -> Option<custom_tag::Type> {
    if let Some(text) = &tag.literal {
        return Some(custom_tag::Type::Literal(custom_tag::Literal { value: text.value.clone() }));
    }
    if let Some(settings) = tag.environment.clone() {
        let (name, default_value) = (settings.name, settings.default_value);
        return Some(custom_tag::Type::Environment(custom_tag::Environment { name, default_value }));
    }
    if let Some(settings) = tag.header.clone() {
        let (name, default_value) = (settings.name, settings.default_value);
        return Some(custom_tag::Type::RequestHeader(custom_tag::Header { name, default_value }));
    }
    tag.formatter.as_ref().map(|text| custom_tag::Type::Value(text.value.clone()))
}
