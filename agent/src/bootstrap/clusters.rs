//! Static clusters: Envoy itself, the agent, the control plane.

use serde_json::{Value, json};

use super::{set, tls};
use crate::config::Config;
use crate::config::xds::{XdsSecurity, XdsTransport};

/// Folder of the SDS socket.
const SDS_FOLDER: &str = "./var/run/secrets/workload-spiffe-uds";
const HTTP: &str = "type.googleapis.com/envoy.extensions.upstreams.http.v3.HttpProtocolOptions";

/// Envoy's admin, the agent, its SDS server, the control plane.
pub(super) fn own(config: &Config) -> Vec<Value> {
    let localhost = config.family.localhost();
    vec![
        loopback("prometheus_stats", localhost, config.proxy.proxy_admin_port),
        loopback("agent", localhost, config.proxy.status_port),
        sds(&config.variables.workload_identity_socket),
        xds(config),
    ]
}

/// The proxy's own service, for routing by zone.
pub(super) fn local() -> Value {
    json!({
        "name": "local_cluster",
        "alt_stat_name": "local_cluster;",
        "type": "EDS",
        "connect_timeout": "1s",
        "load_balancing_policy": {"policies": [{"typed_extension_config": {
            "name": "envoy.load_balancing_policies.least_request",
            "typed_config": {
                "@type": "type.googleapis.com/envoy.extensions.load_balancing_policies.least_request.v3.LeastRequest",
                "locality_lb_config": {"zone_aware_lb_config": {"min_cluster_size": "1"}},
            },
        }}]},
        "eds_cluster_config": {
            "eds_config": {"ads": {}, "resource_api_version": "V3"},
            "service_name": "local_cluster",
        },
    })
}

/// A load assignment of one endpoint.
pub(super) fn one_endpoint(cluster: &str, address: &Value) -> Value {
    json!({
        "cluster_name": cluster,
        "endpoints": [{"lb_endpoints": [{"endpoint": {"address": address}}]}],
    })
}

/// HTTP/2 towards a cluster, whatever the downstream speaks.
pub(super) fn http2(options: &Value) -> Value {
    json!({"envoy.extensions.upstreams.http.v3.HttpProtocolOptions": {
        "@type": HTTP, "explicit_http_config": {"http2_protocol_options": options},
    }})
}

fn loopback(name: &str, localhost: &str, port: u16) -> Value {
    let address = json!({"socket_address": {"protocol": "TCP", "address": localhost, "port_value": port}});
    json!({
        "name": name,
        "alt_stat_name": format!("{name};"),
        "type": "STATIC",
        "connect_timeout": "0.250s",
        "lb_policy": "ROUND_ROBIN",
        "load_assignment": one_endpoint(name, &address),
    })
}

fn sds(socket: &str) -> Value {
    let address = json!({"pipe": {"path": format!("{SDS_FOLDER}/{socket}")}});
    json!({
        "name": tls::SDS_CLUSTER,
        "alt_stat_name": format!("{};", tls::SDS_CLUSTER),
        "type": "STATIC",
        "typed_extension_protocol_options": http2(&json!({})),
        "connect_timeout": "1s",
        "lb_policy": "ROUND_ROBIN",
        "load_assignment": one_endpoint(tls::SDS_CLUSTER, &address),
    })
}

fn xds(config: &Config) -> Value {
    const NAME: &str = "xds-grpc";
    let much = |priority: &str| {
        json!({
            "priority": priority, "max_connections": 100_000, "max_pending_requests": 100_000,
            "max_requests": 100_000,
        })
    };
    let mut cluster = json!({
        "name": NAME,
        "alt_stat_name": format!("{NAME};"),
        "connect_timeout": "1s",
        "lb_policy": "ROUND_ROBIN",
        "circuit_breakers": {"thresholds": [much("DEFAULT"), much("HIGH")]},
        "upstream_connection_options": {"tcp_keepalive": {"keepalive_time": 300}},
        "max_requests_per_connection": 1,
    });
    match &config.xds {
        XdsTransport::Socket(path) => {
            set(&mut cluster, "type", "STATIC");
            set(&mut cluster, "load_assignment", one_endpoint(NAME, &json!({"pipe": {"path": path}})));
            set(&mut cluster, "typed_extension_protocol_options", http2(&json!({})));
        }
        XdsTransport::Direct { address, security } => {
            let socket = json!({"socket_address": {"address": address.host, "port_value": address.port}});
            set(&mut cluster, "load_assignment", one_endpoint(NAME, &socket));
            // A control plane that vanished without a FIN is noticed within 40 s, as Istio's agent does.
            let ping = json!({"connection_keepalive": {"interval": "30s", "timeout": "10s"}});
            set(&mut cluster, "typed_extension_protocol_options", http2(&ping));
            if address.ip().is_some() {
                set(&mut cluster, "type", "STATIC");
            } else {
                set(&mut cluster, "type", "STRICT_DNS");
                set(&mut cluster, "respect_dns_ttl", true);
                set(&mut cluster, "dns_lookup_family", config.family.dns_lookup_family());
            }
            if let XdsSecurity::Tls(xds_tls) = security {
                set(&mut cluster, "transport_socket", tls::towards_control_plane(xds_tls, address));
            }
        }
    }
    cluster
}
