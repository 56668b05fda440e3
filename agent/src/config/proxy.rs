//! The effective `ProxyConfig`: layers merged, the few annotations and flags that outrank them, checked.

use std::net::ToSocketAddrs;

use pilot_proto::mesh::MeshConfig;
use pilot_proto::mesh::proxy_config::{self, Layer, ProxyConfig};
use serde_json::Value;

use super::address::HostPort;
use super::env::Variables;
use super::fault::Faults;
use super::files::{Pod, Root};
use super::yaml;
use crate::cli::ProxyFlags;

const CONFIG: &str = "proxy.istio.io/config";
const DISCOVERY_ADDRESS: &str = "sidecar.istio.io/discoveryAddress";
const STATUS_PORT: &str = "status.sidecar.istio.io/port";

/// Merges and checks; `None` after a mistake. Mistakes go to `faults`; what is odd but works, to `warnings`.
pub(super) fn read(
    (flags, variables, pod, root): (&ProxyFlags, &Variables, &Pod, &Root),
    faults: &mut Faults,
    warnings: &mut Vec<String>,
) -> Option<ProxyConfig> {
    let before = faults.count();
    let layers = [
        mesh_file(&flags.mesh_config, root, faults),
        yaml_layer("PROXY_CONFIG", &variables.proxy_config, faults),
        yaml_layer(CONFIG, pod.annotations.get(CONFIG).map_or("", String::as_str), faults),
    ];
    let mut config = proxy_config::merged(&layers).unwrap_or_else(|errors| {
        for error in errors {
            let field = if error.field.is_empty() { String::new() } else { format!("{}: ", error.field) };
            faults.configuration(error.source_name, format!("{field}{}", error.problem));
        }
        ProxyConfig::defaults()
    });
    warnings
        .extend(config.unknown.keys().map(|name| format!("ProxyConfig: unknown field {name} is ignored")));

    if config.service_cluster.as_deref() == Some("") {
        config.service_cluster = Some(flags.service_cluster.clone());
    }
    if let Some(address) = pod.annotations.get(DISCOVERY_ADDRESS) {
        config.discovery_address.clone_from(address);
    }
    if let Some(text) = pod.annotations.get(STATUS_PORT) {
        match text.parse() {
            Ok(port) => config.status_port = port,
            Err(_) => faults.configuration(STATUS_PORT, format!("{text:?} is not a port")),
        }
    }
    check(&config, faults);
    if faults.count() > before {
        return None;
    }
    resolve_statsd(&mut config, warnings);
    Some(config)
}

fn mesh_file(path: &str, root: &Root, faults: &mut Faults) -> Layer {
    let mesh = root.yaml(path, faults);
    let written = ["defaultConfig", "default_config"].into_iter().find_map(|name| mesh.get(name).cloned());
    if let Err(error) = MeshConfig::from_value(mesh) {
        faults.configuration(path, error);
    }
    Layer { source: format!("{path}: defaultConfig"), config: written.unwrap_or_default() }
}

fn yaml_layer(source: &str, text: &str, faults: &mut Faults) -> Layer {
    let config = yaml::read(text).unwrap_or_else(|problem| {
        faults.configuration(source, problem);
        Value::Null
    });
    Layer { source: source.into(), config }
}

/// Checks Istio's rules, and values that Envoy would reject.
fn check(config: &ProxyConfig, faults: &mut Faults) {
    let mut fault =
        |field: &str, problem: &str| faults.configuration("ProxyConfig", format!("{field}: {problem}"));
    for (field, text) in [("configPath", &config.config_path), ("binaryPath", &config.binary_path)] {
        if text.is_empty() {
            fault(field, "is empty");
        }
    }
    if config.drain_duration.is_none_or(|drain| drain.is_zero() || drain.subsec_nanos() != 0) {
        fault("drainDuration", "is not a whole number of seconds above 0");
    }
    if config.proxy_admin_port == 0 {
        fault("proxyAdminPort", "is 0");
    }
    let tracing = config.tracing.clone().unwrap_or_default();
    let tracer = |tracer: Option<proxy_config::Collector>| tracer.map(|collector| collector.address);
    let service = |service: &Option<proxy_config::RemoteService>| {
        service.as_ref().map(|service| service.address.clone()).filter(|address| !address.is_empty())
    };
    if tracing.stackdriver.is_some() {
        fault("tracing.stackdriver", "needs Google's metadata server, which this agent does not ask");
    }
    if tracing.lightstep.as_ref().is_some_and(|lightstep| lightstep.access_token.is_empty()) {
        fault("tracing.lightstep.accessToken", "is empty");
    }
    for (field, address) in [
        ("discoveryAddress", Some(config.discovery_address.clone())),
        ("statsdUdpAddress", Some(config.statsd_udp_address.clone()).filter(|address| !address.is_empty())),
        ("tracing.zipkin.address", tracer(tracing.zipkin)),
        ("tracing.lightstep.address", tracer(tracing.lightstep)),
        ("tracing.datadog.address", tracer(tracing.datadog)),
        ("envoyMetricsService.address", service(&config.envoy_metrics_service)),
        ("envoyAccessLogService.address", service(&config.envoy_access_log_service)),
    ] {
        if let Some(Err(error)) = address.map(|address| address.parse::<HostPort>()) {
            fault(field, &error.to_string());
        }
    }
}

/// Envoy's statsd sink takes an address, not a name. A collector of statistics that cannot be found is no
/// reason to keep the application down.
fn resolve_statsd(config: &mut ProxyConfig, warnings: &mut Vec<String>) {
    let Ok(address) = config.statsd_udp_address.parse::<HostPort>() else { return };
    if address.ip().is_some() {
        return;
    }
    let found: Vec<_> = config.statsd_udp_address.to_socket_addrs().into_iter().flatten().collect();
    if let Some(found) = found.iter().find(|found| found.is_ipv4()).or(found.first()) {
        config.statsd_udp_address = found.to_string();
    } else {
        warnings.push(format!("statsdUdpAddress: {address} is not found; no statistics are sent"));
        config.statsd_udp_address.clear();
    }
}
