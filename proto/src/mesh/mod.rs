//! `MeshConfig` and `ProxyConfig` with Istio's field names, defaults and merge rules.
//! <https://istio.io/latest/docs/reference/config/istio.mesh.v1alpha1/>

pub mod extension_provider;
pub mod networks;
pub mod proxy_config;
mod traffic_policy;

use std::time::Duration;

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use crate::duration;
use crate::networking::{HttpRetry, LocalityLb, TcpKeepalive, ZoneAwareLb};
use crate::proto3_json::de::{self, InvalidField, Read};

pub use extension_provider::{DefaultProviders, ExtensionProvider};
pub use traffic_policy::{
    AccessLogEncoding, DefaultTrafficPolicy, H2UpgradePolicy, InboundTrafficMode, InboundTrafficPolicy,
    MeshTls, MeshTlsProtocol, Normalization, OutboundTrafficMode, OutboundTrafficPolicy, PathNormalization,
    ServiceSettings, Settings,
};

/// Configuration of the whole mesh. Fields without a counterpart here are kept in `unread`: a mesh file written for
/// Istio is accepted as a whole.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
#[expect(clippy::struct_excessive_bools, reason = "as many as Istio's message has")]
pub struct MeshConfig {
    /// Port of the `virtualOutbound` listener.
    pub proxy_listen_port: u16,
    /// Port of the `virtualInbound` listener.
    pub proxy_inbound_listen_port: u16,
    /// Port of the `http_proxy` listener; 0: none.
    pub proxy_http_port: u16,
    /// Timeout of upstream connection attempts.
    #[serde(with = "duration::text")]
    pub connect_timeout: Duration,
    /// Timeout of protocol detection on ports without a declared protocol.
    #[serde(with = "duration::text")]
    pub protocol_detection_timeout: Duration,
    /// Keepalive of upstream connections; absent: none.
    pub tcp_keepalive: Option<TcpKeepalive>,
    /// Interval of DNS resolution in DNS clusters.
    #[serde(with = "duration::text")]
    pub dns_refresh_rate: Duration,
    /// Policy for traffic to undeclared hosts.
    pub outbound_traffic_policy: OutboundTrafficPolicy,
    /// Bind address of the application that inbound traffic is sent to.
    pub inbound_traffic_policy: InboundTrafficPolicy,
    /// Upgrade of outbound HTTP/1.1 to HTTP/2.
    pub h2_upgrade_policy: H2UpgradePolicy,
    /// Retries of routes that configure none; absent: Istio's defaults.
    pub default_http_retry_policy: Option<HttpRetry>,
    /// Locality load balancing of clusters without a setting of their own.
    pub locality_lb_setting: Option<LocalityLb>,
    /// Zone-aware load balancing; takes precedence over `localityLbSetting`.
    pub zone_aware_lb_setting: Option<ZoneAwareLb>,
    /// Defaults of clusters for fields that no `DestinationRule` sets.
    pub default_traffic_policy: Option<DefaultTrafficPolicy>,
    /// Normalization of request paths.
    pub path_normalization: PathNormalization,
    /// Access log of every proxy; empty: none.
    pub access_log_file: String,
    /// Format of the access log in its encoding; empty: Istio's.
    pub access_log_format: String,
    /// Encoding of access log lines.
    pub access_log_encoding: AccessLogEncoding,
    /// Access is logged to the gRPC service that proxies' `envoyAccessLogService` names.
    pub enable_envoy_access_log_service: bool,
    /// Connections that no filter chain matches are not logged.
    pub disable_envoy_listener_log: bool,
    /// Without `Telemetry`, spans are sent to the tracer of the proxies' `tracing`.
    pub enable_tracing: bool,
    /// Extension providers that `Telemetry` may name. Istio's built-in ones are present unless a provider of the same name replaces them.
    pub extension_providers: Vec<ExtensionProvider>,
    /// Providers used without `Telemetry`.
    pub default_providers: DefaultProviders,
    /// Name of statistics of inbound clusters, with `%SERVICE%` and the like; empty: the cluster's.
    pub inbound_cluster_stat_name: String,
    /// Name of statistics of outbound clusters, with `%SERVICE%` and the like; empty: the cluster's.
    pub outbound_cluster_stat_name: String,
    /// Trust domain of the mesh.
    pub trust_domain: String,
    /// Additional trusted trust domains.
    pub trust_domain_aliases: Vec<String>,
    /// Root namespace: its configuration applies to all namespaces.
    pub root_namespace: String,
    /// Automatic mutual TLS where both sides support it.
    pub enable_auto_mtls: bool,
    /// TLS between workloads of the mesh.
    #[serde(rename = "meshMTLS")]
    pub mesh_mtls: Option<MeshTls>,
    /// TLS with peers outside the mesh.
    pub tls_defaults: Option<MeshTls>,
    /// Verification of external servers with the system's roots if a rule names none; absent: enabled.
    pub verify_certificate_at_client: Option<bool>,
    /// `exportTo` of services that have none.
    pub default_service_export_to: Vec<String>,
    /// `exportTo` of `VirtualService`s that have none.
    pub default_virtual_service_export_to: Vec<String>,
    /// `exportTo` of `DestinationRule`s that have none.
    pub default_destination_rule_export_to: Vec<String>,
    /// Settings of some services.
    pub service_settings: Vec<ServiceSettings>,
    /// Selectors of the namespaces that are read, as written.
    pub discovery_selectors: Vec<Value>,
    /// `ProxyConfig` of every proxy, as written; see [`proxy_config`].
    pub default_config: Value,
    /// All other fields.
    #[serde(flatten, skip_deserializing)]
    pub unread: Map<String, Value>,
    /// Paths of unknown fields inside known ones; their values are not kept.
    #[serde(skip)]
    pub unknown: Vec<String>,
}

impl Default for MeshConfig {
    /// Istio's defaults.
    fn default() -> Self {
        let everybody = || vec!["*".to_owned()];
        Self {
            proxy_listen_port: 15001,
            proxy_inbound_listen_port: 15006,
            proxy_http_port: 0,
            connect_timeout: Duration::from_secs(10),
            protocol_detection_timeout: Duration::ZERO,
            tcp_keepalive: None,
            dns_refresh_rate: Duration::from_mins(1),
            outbound_traffic_policy: OutboundTrafficPolicy::default(),
            inbound_traffic_policy: InboundTrafficPolicy::default(),
            h2_upgrade_policy: H2UpgradePolicy::default(),
            default_http_retry_policy: None,
            locality_lb_setting: Some(LocalityLb { enabled: Some(true), ..LocalityLb::default() }),
            zone_aware_lb_setting: None,
            default_traffic_policy: None,
            path_normalization: PathNormalization::default(),
            access_log_file: String::new(),
            access_log_format: String::new(),
            access_log_encoding: AccessLogEncoding::default(),
            enable_envoy_access_log_service: false,
            disable_envoy_listener_log: false,
            enable_tracing: true,
            extension_providers: ExtensionProvider::defaults(),
            default_providers: DefaultProviders::default(),
            inbound_cluster_stat_name: String::new(),
            outbound_cluster_stat_name: String::new(),
            trust_domain: "cluster.local".into(),
            trust_domain_aliases: Vec::new(),
            root_namespace: "istio-system".into(),
            enable_auto_mtls: true,
            mesh_mtls: None,
            tls_defaults: None,
            verify_certificate_at_client: None,
            default_service_export_to: everybody(),
            default_virtual_service_export_to: everybody(),
            default_destination_rule_export_to: everybody(),
            service_settings: Vec::new(),
            discovery_selectors: Vec::new(),
            default_config: Value::Object(Map::new()),
            unread: Map::new(),
            unknown: Vec::new(),
        }
    }
}

impl MeshConfig {
    /// Reads a mesh file that was parsed as YAML. The error names the field.
    pub fn from_value(value: Value) -> Result<Self, InvalidField> {
        // An empty file is a mesh of defaults, as in Istio.
        let Read { value: mut mesh, unknown } = de::message::<Self>("", &value)?;
        if let Value::Object(mut fields) = value {
            for name in unknown {
                match fields.remove(&name) {
                    Some(value) => _ = mesh.unread.insert(name, value),
                    None => mesh.unknown.push(name),
                }
            }
        }
        mesh.extension_providers = ExtensionProvider::with_defaults(mesh.extension_providers);
        Ok(mesh)
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
            "connectTimeout": "1s", "outboundTrafficPolicy": {"mode": "REGISTRY_ONLY"}, "ingressClass": "istio",
        }))
        .unwrap();
        assert_eq!(mesh.connect_timeout, Duration::from_secs(1));
        assert_eq!(mesh.outbound_traffic_policy.mode, OutboundTrafficMode::RegistryOnly);
        assert!(mesh.unread.contains_key("ingressClass"));
        let inside = json!({"extensionProviders": [{"name": "z", "zipkin": {"prot": 1}}], "pathNormalization": {"how": 1}});
        let mesh = MeshConfig::from_value(inside).unwrap();
        assert_eq!(mesh.unknown, ["extensionProviders[0].zipkin.prot", "pathNormalization.how"]);
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

    #[test]
    fn proto_names_are_names_too() {
        let mesh = MeshConfig::from_value(json!({
            "connect_timeout": "1s", "mesh_mTLS": {"min_protocol_version": "TLSV1_3"}, "ingress_class": "istio",
            "default_config": {"discovery_address": "x"}, "defaultHttpRetryPolicy": {"attempts": 0},
        }))
        .unwrap();
        assert_eq!(mesh.connect_timeout, Duration::from_secs(1));
        assert_eq!(mesh.mesh_mtls.unwrap().min_protocol_version, MeshTlsProtocol::V1_3);
        assert_eq!(mesh.default_http_retry_policy, Some(HttpRetry::default()));
        assert_eq!(mesh.default_config, json!({"discovery_address": "x"}));
        assert_eq!(mesh.unread, Map::from_iter([("ingress_class".to_owned(), json!("istio"))]));
    }

    #[test]
    fn providers_are_istios_and_the_users() {
        let path = |mesh: &MeshConfig, name: &str| {
            let mut providers = mesh.extension_providers.iter();
            let found = providers.find(|provider| provider.name == name);
            found.and_then(|provider| provider.envoy_file_access_log.as_ref()).map(|log| log.path.clone())
        };
        assert_eq!(path(&MeshConfig::default(), "envoy").as_deref(), Some("/dev/stdout"));
        let mesh = MeshConfig::from_value(json!({"extensionProviders": [
            {"name": "envoy", "envoyFileAccessLog": {"path": "/dev/stderr"}},
            {"name": "mine", "envoyFileAccessLog": {"path": "/log", "logFormat": {"labels": {"a_b": "%PROTOCOL%"}}}},
            {"name": "zipkin", "zipkin": {"service": "z", "port": 9411}},
        ]}))
        .unwrap();
        let names: Vec<&str> = mesh.extension_providers.iter().map(|provider| &*provider.name).collect();
        assert_eq!(names, ["prometheus", "stackdriver", "envoy", "mine", "zipkin"]);
        assert_eq!(
            (path(&mesh, "envoy"), path(&mesh, "mine")),
            (Some("/dev/stderr".into()), Some("/log".into()))
        );
        let zipkin = extension_provider::Zipkin {
            service: "z".into(),
            port: 9411,
            ..extension_provider::Zipkin::default()
        };
        assert_eq!(mesh.extension_providers[4].zipkin, Some(zipkin));
    }

    #[test]
    fn what_is_printed_is_read_back() {
        let written = json!({"connectTimeout": "3s", "serviceSettings": [{"settings": {"clusterLocal": true}, "hosts": ["*"]}],
            "pathNormalization": {"normalization": "MERGE_SLASHES"}, "tcpKeepalive": {"probes": 3}, "caCertificates": [{"pem": "x"}]});
        let mesh = MeshConfig::from_value(written).unwrap();
        assert_eq!(mesh.unread.len(), 1);
        assert_eq!(MeshConfig::from_value(serde_json::to_value(&mesh).unwrap()).unwrap(), mesh);
    }
}
