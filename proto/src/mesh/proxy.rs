//! `ProxyConfig`: what one proxy is told about itself.
//!
//! `Default` is protobuf's empty message; [`ProxyConfig::defaults`] is what Istio starts from. The JSON a
//! `ProxyConfig` prints is protobuf's: fields that are zero are left out, so that what is printed is read
//! back as it was. Where a value came from, and which value wins, is `layer`'s matter; whether an
//! address can be reached or a file exists is not decided here.
//! <https://istio.io/latest/docs/reference/config/istio.mesh.v1alpha1/#ProxyConfig>

mod field;
mod layer;
mod message;
mod steering;
#[cfg(test)]
mod tests;

use std::collections::BTreeMap;
use std::time::Duration;

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use field::is_zero;
pub use layer::{FieldError, Layer, merged};
pub use message::{
    AuthenticationPolicy, ClientTls, Collector, ConnectionSettings, InterceptionMode, RemoteService,
    StatsMatcher, TcpKeepalive, TlsMode, Tracing, TracingServiceName,
};
pub use steering::{
    ClientCertDetails, ForwardClientCert, If, ProxyHeaders, ServerHeader, Spans, Steering, Topology, Unless,
};

/// What one proxy is told about itself.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct ProxyConfig {
    /// Folder of the rendered bootstrap and of the agent's sockets.
    #[serde(skip_serializing_if = "is_zero")]
    pub config_path: String,
    /// Envoy.
    #[serde(skip_serializing_if = "is_zero")]
    pub binary_path: String,
    /// `node.cluster` by name. One of two: a layer that sets [`Self::tracing_service_name`] unsets it.
    #[serde(skip_serializing_if = "is_zero")]
    pub service_cluster: Option<String>,
    /// `node.cluster` by rule.
    #[serde(skip_serializing_if = "is_zero")]
    pub tracing_service_name: Option<TracingServiceName>,
    /// How long Envoy drains the listeners it is told to drop.
    #[serde(with = "field::duration", skip_serializing_if = "is_zero")]
    pub drain_duration: Option<Duration>,
    /// How long the agent waits between the start of the drain and the end of Envoy.
    #[serde(with = "field::duration", skip_serializing_if = "is_zero")]
    pub termination_drain_duration: Option<Duration>,
    /// How long the parent of a hot restart may live on. Istio dropped the field with hot restarts.
    #[serde(with = "field::duration", skip_serializing_if = "is_zero")]
    pub parent_shutdown_duration: Option<Duration>,
    /// `host:port` of the control plane.
    #[serde(skip_serializing_if = "is_zero")]
    pub discovery_address: String,
    /// `host:port` that statsd listens on.
    #[serde(skip_serializing_if = "is_zero")]
    pub statsd_udp_address: String,
    /// Port of Envoy's admin.
    #[serde(deserialize_with = "field::number", skip_serializing_if = "is_zero")]
    pub proxy_admin_port: u16,
    /// Port of the agent's status server; 0: none.
    #[serde(deserialize_with = "field::number", skip_serializing_if = "is_zero")]
    pub status_port: u16,
    /// How the connection to the control plane is secured.
    #[serde(skip_serializing_if = "is_zero")]
    pub control_plane_auth_policy: AuthenticationPolicy,
    /// A bootstrap to use instead of the rendered one.
    #[serde(skip_serializing_if = "is_zero")]
    pub custom_config_file: String,
    /// The same, of lower rank.
    #[serde(skip_serializing_if = "is_zero")]
    pub proxy_bootstrap_template_path: String,
    /// Longest name of a statistic. Envoy has had no such limit since 1.8.
    #[serde(deserialize_with = "field::number", skip_serializing_if = "is_zero")]
    pub stat_name_length: i32,
    /// Worker threads; 0: one per core.
    #[serde(deserialize_with = "field::wrapped_number", skip_serializing_if = "is_zero")]
    pub concurrency: Option<u32>,
    /// How connections reach the proxy.
    #[serde(skip_serializing_if = "is_zero")]
    pub interception_mode: InterceptionMode,
    /// Where spans go.
    #[serde(skip_serializing_if = "is_zero")]
    pub tracing: Option<Tracing>,
    /// Where access logs go over gRPC.
    #[serde(skip_serializing_if = "is_zero")]
    pub envoy_access_log_service: Option<RemoteService>,
    /// Where metrics go over gRPC.
    #[serde(skip_serializing_if = "is_zero")]
    pub envoy_metrics_service: Option<RemoteService>,
    /// Environment of the proxy; keys that start with `ISTIO_META_` become node metadata.
    #[serde(skip_serializing_if = "is_zero")]
    pub proxy_metadata: BTreeMap<String, String>,
    /// Envoy's runtime flags.
    #[serde(skip_serializing_if = "is_zero")]
    pub runtime_values: BTreeMap<String, String>,
    /// Tags of Istio's statistics that the proxy extracts besides its own.
    #[serde(skip_serializing_if = "is_zero")]
    pub extra_stat_tags: Vec<String>,
    /// Which statistics are kept besides those that Istio needs.
    #[serde(skip_serializing_if = "is_zero")]
    pub proxy_stats_matcher: Option<StatsMatcher>,
    /// Mesh that the proxy belongs to.
    #[serde(skip_serializing_if = "is_zero")]
    pub mesh_id: String,
    /// Roots of trust besides the control plane's.
    #[serde(skip_serializing_if = "is_zero")]
    pub ca_certificates_pem: Vec<String>,
    /// How often log files are flushed.
    #[serde(with = "field::duration", skip_serializing_if = "is_zero")]
    pub file_flush_interval: Option<Duration>,
    /// How much log makes a flush.
    #[serde(deserialize_with = "field::number", skip_serializing_if = "is_zero")]
    pub file_flush_min_size_kb: u32,
    /// Whether the Prometheus listener compresses; unset: it does.
    #[serde(skip_serializing_if = "is_zero")]
    pub stats_compression: Option<bool>,
    /// Limits and timeouts of connections.
    #[serde(skip_serializing_if = "is_zero")]
    pub connection_settings: Option<ConnectionSettings>,
    /// Whether the application waits for the proxy; the injector's matter.
    #[serde(skip_serializing_if = "is_zero")]
    pub hold_application_until_proxy_starts: Option<bool>,
    /// Which headers the proxy adds; the control plane's matter.
    #[serde(skip_serializing_if = "is_zero")]
    pub proxy_headers: Option<Map<String, Value>>,
    /// What stands in front of a gateway; the control plane's matter.
    #[serde(skip_serializing_if = "is_zero")]
    pub gateway_topology: Option<Map<String, Value>>,
    /// How a workload that is not a pod is probed.
    #[serde(skip_serializing_if = "is_zero")]
    pub readiness_probe: Option<Map<String, Value>>,
    /// Image of the proxy; the injector's matter.
    #[serde(skip_serializing_if = "is_zero")]
    pub image: Option<Map<String, Value>>,
    /// Hardware that signs; the control plane's matter.
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
    /// What is none of the above: kept so that it can be named in a warning, never printed.
    #[serde(flatten, skip_serializing)]
    pub unknown: BTreeMap<String, Value>,
}

// === impl ProxyConfig ===

impl ProxyConfig {
    /// What Istio starts from.
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

    /// Protobuf's JSON, as the node metadata `PROXY_CONFIG` carries it.
    pub fn to_json(&self) -> Map<String, Value> {
        match serde_json::to_value(self) {
            Ok(Value::Object(fields)) => fields,
            // A struct of strings, numbers and maps with string keys serialises to an object.
            _ => Map::new(),
        }
    }
}
