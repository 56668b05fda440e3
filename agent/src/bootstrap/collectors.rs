//! Collectors of spans, metrics and access logs.

use pilot_proto::mesh::proxy_config::{Collector, RemoteService, TcpKeepalive, Tracing};
use serde_json::{Map, Value, json};

use super::clusters::{http2, one_endpoint};
use super::tls::{self, Alpn};
use super::{SideFile, beside};
use crate::config::Config;
use crate::config::address::HostPort;

/// Lightstep's token, beside the bootstrap.
const LIGHTSTEP_TOKEN: &str = "lightstep_access_token.txt";
const METRICS: &str = "envoy_metrics_service";
const ACCESS_LOG: &str = "envoy_accesslog_service";

/// The parts of a bootstrap that collectors make.
pub(super) struct Collectors {
    pub(super) clusters: Vec<Value>,
    pub(super) tracing: Option<Value>,
    pub(super) sinks: Vec<Value>,
    pub(super) files: Vec<SideFile>,
}

/// All of them.
pub(super) fn render(config: &Config) -> Collectors {
    let mut collectors =
        Collectors { clusters: Vec::new(), tracing: None, sinks: Vec::new(), files: Vec::new() };
    if let Some(tracing) = &config.proxy.tracing {
        collectors.add_tracing(tracing, config);
    }
    if let Some(service) = &config.proxy.envoy_metrics_service
        && let Some(cluster) = remote_service(METRICS, service, config)
    {
        collectors.clusters.push(cluster);
        collectors.sinks.push(json!({"name": "envoy.stat_sinks.metrics_service", "typed_config": {
            "@type": "type.googleapis.com/envoy.config.metrics.v3.MetricsServiceConfig",
            "transport_api_version": "V3",
            "grpc_service": {"envoy_grpc": {"cluster_name": METRICS}},
        }}));
    }
    if let Some(service) = &config.proxy.envoy_access_log_service {
        collectors.clusters.extend(remote_service(ACCESS_LOG, service, config));
    }
    if let Some(address) = socket_address(&config.proxy.statsd_udp_address, config) {
        collectors.sinks.push(json!({"name": "envoy.stat_sinks.statsd", "typed_config": {
            "@type": "type.googleapis.com/envoy.config.metrics.v3.StatsdSink", "address": address,
        }}));
    }
    collectors
}

impl Collectors {
    fn add_tracing(&mut self, tracing: &Tracing, config: &Config) {
        let mut add = |name: &str, collector: &Collector, alpn, more: Value, tracer: &str, typed: Value| {
            let Some(address) = socket_address(&collector.address, config) else { return };
            let mut cluster = dns_cluster(name, &address, config);
            cluster.extend(more.as_object().cloned().unwrap_or_default());
            let tls = tracing.tls_settings.as_ref();
            if let Some(socket) =
                tls.and_then(|tls| tls::towards_collector(tls, "tracer", alpn, &config.node))
            {
                cluster.insert("transport_socket".into(), socket);
            }
            self.clusters.push(Value::Object(cluster));
            self.tracing = Some(json!({"http": {"name": tracer, "typed_config": typed}}));
        };
        if let Some(zipkin) = &tracing.zipkin {
            let typed = json!({
                "@type": "type.googleapis.com/envoy.config.trace.v3.ZipkinConfig",
                "collector_cluster": "zipkin",
                "collector_endpoint": "/api/v2/spans",
                "collector_endpoint_version": "HTTP_JSON",
                "trace_id_128bit": true,
                "shared_span_context": false,
            });
            let more = json!({"dns_refresh_rate": "30s"});
            add("zipkin", zipkin, Alpn::Silent, more, "envoy.tracers.zipkin", typed);
        } else if let Some(lightstep) = &tracing.lightstep {
            let token = beside(&config.proxy.config_path, LIGHTSTEP_TOKEN);
            let typed = json!({
                "@type": "type.googleapis.com/envoy.config.trace.v3.LightstepConfig",
                "collector_cluster": "lightstep",
                "access_token_file": token.display().to_string(),
            });
            let more = json!({"typed_extension_protocol_options": http2(&json!({}))});
            add("lightstep", lightstep, Alpn::Http2, more, "envoy.tracers.lightstep", typed);
            self.files.push(SideFile { path: token, contents: lightstep.access_token.clone() });
        } else if let Some(datadog) = &tracing.datadog {
            let typed = json!({
                "@type": "type.googleapis.com/envoy.config.trace.v3.DatadogConfig",
                "collector_cluster": "datadog_agent",
                "service_name": config.node.cluster,
            });
            add("datadog_agent", datadog, Alpn::Silent, json!({}), "envoy.tracers.datadog", typed);
        }
    }
}

fn remote_service(name: &str, service: &RemoteService, config: &Config) -> Option<Value> {
    let mut cluster = dns_cluster(name, &socket_address(&service.address, config)?, config);
    cluster.insert("typed_extension_protocol_options".into(), http2(&json!({})));
    let tls = service.tls_settings.as_ref();
    if let Some(socket) = tls.and_then(|tls| tls::towards_collector(tls, name, Alpn::Http2, &config.node)) {
        cluster.insert("transport_socket".into(), socket);
    }
    if let Some(keepalive) = service.tcp_keepalive {
        cluster.insert("upstream_connection_options".into(), json!({"tcp_keepalive": probes(keepalive)}));
    }
    Some(Value::Object(cluster))
}

fn dns_cluster(name: &str, address: &Value, config: &Config) -> Map<String, Value> {
    Map::from_iter([
        ("name".to_owned(), name.into()),
        ("alt_stat_name".into(), format!("{name};").into()),
        ("type".into(), "STRICT_DNS".into()),
        ("respect_dns_ttl".into(), true.into()),
        ("dns_lookup_family".into(), config.family.dns_lookup_family().into()),
        ("connect_timeout".into(), "1s".into()),
        ("lb_policy".into(), "ROUND_ROBIN".into()),
        ("load_assignment".into(), one_endpoint(name, address)),
    ])
}

/// Only what is set: Envoy's own values for the rest.
fn probes(keepalive: TcpKeepalive) -> Map<String, Value> {
    let seconds = |time: Option<std::time::Duration>| time.unwrap_or_default().as_secs();
    [
        ("keepalive_probes", u64::from(keepalive.probes)),
        ("keepalive_time", seconds(keepalive.time)),
        ("keepalive_interval", seconds(keepalive.interval)),
    ]
    .into_iter()
    .filter(|(_, value)| *value > 0)
    .map(|(name, value)| (name.to_owned(), value.into()))
    .collect()
}

/// The address, with `$(HOST_IP)` replaced; `None` if there is none.
fn socket_address(text: &str, config: &Config) -> Option<Value> {
    let address: HostPort = text.parse().ok()?;
    let address = address.with_host_ip(config.variables.host_ip.as_deref());
    Some(json!({"socket_address": {"address": address.host, "port_value": address.port}}))
}
