//! `ProxyConfig`: the configuration of one proxy.
//!
//! `Default` is protobuf's empty message; [`ProxyConfig::defaults`] are Istio's defaults. Serialization follows
//! protobuf's JSON mapping: zero fields are left out, so that the output parses to the same value. Precedence of
//! layers is decided in `layer`; reachability of addresses and existence of files are not checked
//! here.
//! <https://istio.io/latest/docs/reference/config/istio.mesh.v1alpha1/#ProxyConfig>

mod control_plane_options;
mod field;
mod layer;
mod message;
#[cfg(test)]
mod tests;

use std::collections::BTreeMap;
use std::time::Duration;

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use crate::node::InterceptionMode;
pub use control_plane_options::{
    ClientCertDetails, ControlPlaneOptions, ForwardClientCert, If, ProxyHeaders, ServerHeader, Spans,
    Topology, Unless,
};
use field::is_zero;
pub use layer::{FieldError, Layer, merged};
pub use message::{
    AuthenticationPolicy, ClientTls, Collector, ConnectionSettings, RemoteService, StatsMatcher,
    TcpKeepalive, TlsMode, Tracing, TracingServiceName,
};

/// The configuration of one proxy.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct ProxyConfig {
    /// Folder of the rendered bootstrap and of the agent's sockets.
    #[serde(skip_serializing_if = "is_zero")]
    pub config_path: String,
    /// Path of the Envoy binary.
    #[serde(skip_serializing_if = "is_zero")]
    pub binary_path: String,
    /// `node.cluster` by name. One of two: a layer that sets [`Self::tracing_service_name`] unsets it.
    #[serde(skip_serializing_if = "is_zero")]
    pub service_cluster: Option<String>,
    /// `node.cluster` by rule.
    #[serde(skip_serializing_if = "is_zero")]
    pub tracing_service_name: Option<TracingServiceName>,
    /// Drain time of listeners that Envoy removes.
    #[serde(with = "field::duration", skip_serializing_if = "is_zero")]
    pub drain_duration: Option<Duration>,
    /// Time between the start of the drain and the end of Envoy.
    #[serde(with = "field::duration", skip_serializing_if = "is_zero")]
    pub termination_drain_duration: Option<Duration>,
    /// Lifetime of the parent after a hot restart. Istio dropped the field with hot restarts.
    #[serde(with = "field::duration", skip_serializing_if = "is_zero")]
    pub parent_shutdown_duration: Option<Duration>,
    /// `host:port` of the control plane.
    #[serde(skip_serializing_if = "is_zero")]
    pub discovery_address: String,
    /// `host:port` of statsd.
    #[serde(skip_serializing_if = "is_zero")]
    pub statsd_udp_address: String,
    /// Port of Envoy's admin.
    #[serde(deserialize_with = "field::number", skip_serializing_if = "is_zero")]
    pub proxy_admin_port: u16,
    /// Port of the agent's status server; 0: none.
    #[serde(deserialize_with = "field::number", skip_serializing_if = "is_zero")]
    pub status_port: u16,
    /// Authentication of the connection to the control plane.
    #[serde(skip_serializing_if = "is_zero")]
    pub control_plane_auth_policy: AuthenticationPolicy,
    /// Path of a custom bootstrap, used instead of the rendered one.
    #[serde(skip_serializing_if = "is_zero")]
    pub custom_config_file: String,
    /// Path of a custom bootstrap, of lower precedence.
    #[serde(skip_serializing_if = "is_zero")]
    pub proxy_bootstrap_template_path: String,
    /// Longest name of a statistic. Envoy has had no such limit since 1.8.
    #[serde(deserialize_with = "field::number", skip_serializing_if = "is_zero")]
    pub stat_name_length: i32,
    /// Worker threads; 0: one per core.
    #[serde(deserialize_with = "field::wrapped_number", skip_serializing_if = "is_zero")]
    pub concurrency: Option<u32>,
    /// Traffic interception mode.
    #[serde(skip_serializing_if = "is_zero")]
    pub interception_mode: InterceptionMode,
    /// Tracing.
    #[serde(skip_serializing_if = "is_zero")]
    pub tracing: Option<Tracing>,
    /// Access log service (gRPC).
    #[serde(skip_serializing_if = "is_zero")]
    pub envoy_access_log_service: Option<RemoteService>,
    /// Metrics service (gRPC).
    #[serde(skip_serializing_if = "is_zero")]
    pub envoy_metrics_service: Option<RemoteService>,
    /// Environment of the proxy; keys that start with `ISTIO_META_` become node metadata.
    #[serde(skip_serializing_if = "is_zero")]
    pub proxy_metadata: BTreeMap<String, String>,
    /// Envoy's runtime flags.
    #[serde(skip_serializing_if = "is_zero")]
    pub runtime_values: BTreeMap<String, String>,
    /// Tags extracted from Istio's statistics in addition to the default ones.
    #[serde(skip_serializing_if = "is_zero")]
    pub extra_stat_tags: Vec<String>,
    /// Statistics kept in addition to those that Istio needs.
    #[serde(skip_serializing_if = "is_zero")]
    pub proxy_stats_matcher: Option<StatsMatcher>,
    /// Mesh that the proxy belongs to.
    #[serde(skip_serializing_if = "is_zero")]
    pub mesh_id: String,
    /// Additional root certificates.
    #[serde(skip_serializing_if = "is_zero")]
    pub ca_certificates_pem: Vec<String>,
    /// Flush interval of log files.
    #[serde(with = "field::duration", skip_serializing_if = "is_zero")]
    pub file_flush_interval: Option<Duration>,
    /// Buffer size that triggers a flush of log files.
    #[serde(deserialize_with = "field::number", skip_serializing_if = "is_zero")]
    pub file_flush_min_size_kb: u32,
    /// Compression by the Prometheus listener; unset: enabled.
    #[serde(skip_serializing_if = "is_zero")]
    pub stats_compression: Option<bool>,
    /// Limits and timeouts of connections.
    #[serde(skip_serializing_if = "is_zero")]
    pub connection_settings: Option<ConnectionSettings>,
    /// Start of the application after the proxy is ready; used by the injector.
    #[serde(skip_serializing_if = "is_zero")]
    pub hold_application_until_proxy_starts: Option<bool>,
    /// Headers added by the proxy; used by the control plane.
    #[serde(skip_serializing_if = "is_zero")]
    pub proxy_headers: Option<Map<String, Value>>,
    /// Proxies in front of a gateway; used by the control plane.
    #[serde(skip_serializing_if = "is_zero")]
    pub gateway_topology: Option<Map<String, Value>>,
    /// Readiness probe of a workload outside Kubernetes.
    #[serde(skip_serializing_if = "is_zero")]
    pub readiness_probe: Option<Map<String, Value>>,
    /// Image of the proxy; used by the injector.
    #[serde(skip_serializing_if = "is_zero")]
    pub image: Option<Map<String, Value>>,
    /// Private key provider; used by the control plane.
    #[serde(skip_serializing_if = "is_zero")]
    pub private_key_provider: Option<Map<String, Value>>,
    /// Deprecated.
    #[serde(skip_serializing_if = "is_zero")]
    pub sds: Option<Map<String, Value>>,
    /// Deprecated.
    #[serde(with = "field::duration", skip_serializing_if = "is_zero")]
    pub discovery_refresh_delay: Option<Duration>,
    /// Deprecated.
    #[serde(skip_serializing_if = "is_zero")]
    pub zipkin_address: String,
    /// Deprecated.
    #[serde(skip_serializing_if = "is_zero")]
    pub envoy_metrics_service_address: String,
    /// Deprecated.
    #[serde(skip_serializing_if = "is_zero")]
    pub availability_zone: String,
    /// Unknown fields, kept for a warning and never serialized.
    #[serde(flatten, skip_serializing)]
    pub unknown: BTreeMap<String, Value>,
}

// === impl ProxyConfig ===

impl ProxyConfig {
    /// Returns Istio's defaults.
    pub fn defaults() -> Self {
        Self {
            config_path: "./etc/istio/proxy".into(),
            binary_path: "/usr/local/bin/envoy".into(),
            service_cluster: Some("istio-proxy".into()),
            drain_duration: Some(Duration::from_secs(45)),
            termination_drain_duration: Some(Duration::from_secs(5)),
            proxy_admin_port: 15000,
            control_plane_auth_policy: AuthenticationPolicy::MutualTls,
            discovery_address: "istiod.istio-system.svc:15012".into(),
            stat_name_length: 189,
            status_port: 15020,
            ..Self::default()
        }
    }

    /// Returns protobuf's JSON, as in the node metadata `PROXY_CONFIG`.
    pub fn to_json(&self) -> Map<String, Value> {
        match serde_json::to_value(self) {
            Ok(Value::Object(fields)) => fields,
            // A struct of strings, numbers and maps with string keys serialises to an object.
            _ => Map::new(),
        }
    }
}
