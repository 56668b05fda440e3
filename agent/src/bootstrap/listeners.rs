//! Static listeners for metrics and health, which work without the control plane.
//!
//! They ignore the connection limit and the overload manager: a proxy under load must stay observable.

use serde_json::{Value, json};

use super::{set, tls};
use crate::config::Config;
use crate::config::env::Switch;

const COMPRESSED: [&str; 4] = [
    "text/plain",
    "application/vnd.google.protobuf",
    "application/openmetrics-text",
    "application/openmetrics-protobuf",
];
/// In the order of preference among those a client accepts alike.
const COMPRESSORS: [(&str, &str); 3] = [
    ("brotli", "type.googleapis.com/envoy.extensions.compression.brotli.compressor.v3.Brotli"),
    ("zstd", "type.googleapis.com/envoy.extensions.compression.zstd.compressor.v3.Zstd"),
    ("gzip", "type.googleapis.com/envoy.extensions.compression.gzip.compressor.v3.Gzip"),
];

/// An address and perhaps the other family's.
struct Bind {
    address: &'static str,
    additional: Option<&'static str>,
}

/// All of them.
pub(super) fn render(config: &Config) -> Vec<Value> {
    let (family, variables) = (config.family, &config.variables);
    let everywhere = || Bind { address: family.wildcard(), additional: family.additional_wildcard() };
    let local =
        config.proxy.proxy_metadata.get("METRICS_LOCALHOST_ACCESS_ONLY").is_some_and(|only| only == "true");
    let metrics = if local {
        Bind { address: family.localhost(), additional: family.additional_localhost() }
    } else {
        everywhere()
    };
    let compressors = match config.proxy.stats_compression {
        None | Some(true) => COMPRESSORS.iter().map(compressor).collect(),
        Some(false) => Vec::new(),
    };
    let admin = route("/stats/prometheus", "prometheus_stats");
    let of_admin = connection_manager("stats", std::slice::from_ref(&admin), compressors);
    let mut listeners = vec![listener(&metrics, variables.envoy_prometheus_port, &of_admin)];
    let merged = [route("/stats/prometheus", "agent"), route("/metrics", "agent")];
    for (port, prefix, routes) in [
        (variables.secure_metrics_port, "secure_stats", &[admin][..]),
        (variables.secure_merged_metrics_port, "secure_merged_stats", &merged),
    ] {
        if port != 0 {
            listeners.push(for_mesh(family.wildcard(), port, prefix, routes));
        }
    }
    let health = connection_manager("agent", &[route("/healthz/ready", "agent")], Vec::new());
    let mut health = listener(&everywhere(), variables.envoy_status_port, &health);
    if variables.is_on(Switch::StatusPortProxyProtocol) {
        set(
            &mut health,
            "listener_filters",
            json!([{"name": "envoy.filters.listener.proxy_protocol", "typed_config": {
                "@type": "type.googleapis.com/envoy.extensions.filters.listener.proxy_protocol.v3.ProxyProtocol",
                "allow_requests_without_proxy_protocol": true,
            }}]),
        );
    }
    listeners.push(health);
    listeners
}

fn listener(bind: &Bind, port: u16, filter: &Value) -> Value {
    let mut listener = json!({
        "name": format!("{}_{port}", bind.address),
        "address": tcp(bind.address, port),
        "ignore_global_conn_limit": true,
        "bypass_overload_manager": true,
        "filter_chains": [{"filters": [filter]}],
    });
    if let Some(additional) = bind.additional {
        set(&mut listener, "additional_addresses", json!([{"address": tcp(additional, port)}]));
    }
    listener
}

/// A listener for workloads of the mesh alone.
fn for_mesh(address: &'static str, port: u16, prefix: &str, routes: &[Value]) -> Value {
    let filter = connection_manager(prefix, routes, Vec::new());
    let mut listener = listener(&Bind { address, additional: None }, port, &filter);
    set(
        &mut listener,
        "listener_filters",
        json!([{"name": "envoy.filters.listener.tls_inspector", "typed_config": {
            "@type": "type.googleapis.com/envoy.extensions.filters.listener.tls_inspector.v3.TlsInspector",
        }}]),
    );
    set(
        &mut listener,
        "filter_chains",
        json!([{
            "filter_chain_match": {"transport_protocol": "tls"},
            "transport_socket": tls::for_mesh(),
            "filters": [filter],
        }]),
    );
    listener
}

fn tcp(address: &str, port: u16) -> Value {
    json!({"socket_address": {"protocol": "TCP", "address": address, "port_value": port}})
}

fn route(prefix: &str, cluster: &str) -> Value {
    json!({"match": {"prefix": prefix}, "route": {"cluster": cluster}})
}

fn connection_manager(stat_prefix: &str, routes: &[Value], mut filters: Vec<Value>) -> Value {
    filters.push(json!({"name": "envoy.filters.http.router", "typed_config": {
        "@type": "type.googleapis.com/envoy.extensions.filters.http.router.v3.Router",
    }}));
    json!({"name": "envoy.filters.network.http_connection_manager", "typed_config": {
        "@type": "type.googleapis.com/envoy.extensions.filters.network.http_connection_manager.v3.HttpConnectionManager",
        "codec_type": "AUTO",
        "stat_prefix": stat_prefix,
        "route_config": {"virtual_hosts": [{"name": "backend", "domains": ["*"], "routes": routes}]},
        "http_filters": filters,
    }})
}

fn compressor((name, library): &(&str, &str)) -> Value {
    json!({"name": format!("envoy.filters.http.compressor.{name}"), "typed_config": {
        "@type": "type.googleapis.com/envoy.extensions.filters.http.compressor.v3.Compressor",
        "compressor_library": {"name": format!("stats_{name}"), "typed_config": {"@type": library}},
        "response_direction_config": {"common_config": {"content_type": COMPRESSED}},
    }})
}
