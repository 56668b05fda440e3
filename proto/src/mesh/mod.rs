//! `MeshConfig` and `ProxyConfig` with Istio's field names, defaults and merge rules.
//! <https://istio.io/latest/docs/reference/config/istio.mesh.v1alpha1/>

pub mod proxy;

use std::time::Duration;

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use crate::duration;

/// What holds for the whole mesh. Fields we do not act on are kept in `rest`: a mesh file written for
/// Istio is accepted whole.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct MeshConfig {
    /// Port of the `virtualOutbound` listener.
    pub proxy_listen_port: u16,
    /// Port of the `virtualInbound` listener.
    pub proxy_inbound_listen_port: u16,
    /// Port of the `http_proxy` listener; 0: none.
    pub proxy_http_port: u16,
    /// How long an upstream connection may take to be made.
    #[serde(with = "duration::text")]
    pub connect_timeout: Duration,
    /// How long a listener waits to find out the protocol of a port without one.
    #[serde(with = "duration::text")]
    pub protocol_detection_timeout: Duration,
    /// How often DNS clusters are resolved.
    #[serde(with = "duration::text")]
    pub dns_refresh_rate: Duration,
    /// What happens to traffic to hosts nobody declared.
    pub outbound_traffic_policy: OutboundTrafficPolicy,
    /// Access log of every proxy; empty: none.
    pub access_log_file: String,
    /// Trust domain of the mesh.
    pub trust_domain: String,
    /// Namespace whose configuration holds for every namespace.
    pub root_namespace: String,
    /// Mutual TLS wherever both sides can.
    pub enable_auto_mtls: bool,
    /// `exportTo` of services that have none.
    pub default_service_export_to: Vec<String>,
    /// `exportTo` of `VirtualService`s that have none.
    pub default_virtual_service_export_to: Vec<String>,
    /// `exportTo` of `DestinationRule`s that have none.
    pub default_destination_rule_export_to: Vec<String>,
    /// `ProxyConfig` of every proxy, as written; see [`proxy`].
    pub default_config: Value,
    /// Everything else.
    #[serde(flatten)]
    pub rest: Map<String, Value>,
}

/// What happens to traffic to hosts nobody declared.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(default)]
pub struct OutboundTrafficPolicy {
    /// The policy.
    pub mode: OutboundTrafficMode,
}

/// Pass it on or refuse it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "SCREAMING_SNAKE_CASE")]
pub enum OutboundTrafficMode {
    /// It goes to `BlackHoleCluster`.
    RegistryOnly,
    /// It goes to `PassthroughCluster`.
    #[default]
    AllowAny,
}

impl Default for MeshConfig {
    /// Istio's defaults.
    fn default() -> Self {
        Self {
            proxy_listen_port: 15001,
            proxy_inbound_listen_port: 15006,
            proxy_http_port: 0,
            connect_timeout: Duration::from_secs(10),
            protocol_detection_timeout: Duration::ZERO,
            dns_refresh_rate: Duration::from_mins(1),
            outbound_traffic_policy: OutboundTrafficPolicy::default(),
            access_log_file: String::new(),
            trust_domain: "cluster.local".into(),
            root_namespace: "istio-system".into(),
            enable_auto_mtls: true,
            default_service_export_to: vec!["*".into()],
            default_virtual_service_export_to: vec!["*".into()],
            default_destination_rule_export_to: vec!["*".into()],
            default_config: Value::Object(Map::new()),
            rest: Map::new(),
        }
    }
}

impl MeshConfig {
    /// Reads a mesh file that was parsed as YAML. The error names the field.
    pub fn from_value(value: Value) -> Result<Self, serde_json::Error> {
        // An empty file is a mesh of defaults, as in Istio.
        if value.is_null() { Ok(Self::default()) } else { serde_json::from_value(value) }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn an_empty_mesh_is_istios() {
        assert_eq!(MeshConfig::from_value(json!({})).unwrap(), MeshConfig::default());
        assert_eq!(MeshConfig::from_value(Value::Null).unwrap(), MeshConfig::default());
    }

    #[test]
    fn fields_are_read_and_unknown_ones_kept() {
        let mesh = MeshConfig::from_value(json!({
            "connectTimeout": "1s", "outboundTrafficPolicy": {"mode": "REGISTRY_ONLY"}, "extensionProviders": [],
        }))
        .unwrap();
        assert_eq!(mesh.connect_timeout, Duration::from_secs(1));
        assert_eq!(mesh.outbound_traffic_policy.mode, OutboundTrafficMode::RegistryOnly);
        assert!(mesh.rest.contains_key("extensionProviders"));
    }

    #[test]
    fn a_wrong_value_is_an_error() {
        for value in [
            json!({"connectTimeout": "soon"}),
            json!({"outboundTrafficPolicy": {"mode": "MAYBE"}}),
            json!([]),
        ] {
            assert!(MeshConfig::from_value(value.clone()).is_err(), "{value}");
        }
    }
}
