//! Fields of `ProxyConfig` for the control plane: headers added by proxies, gateway topology, tracing.

use std::collections::BTreeMap;

use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::networking::CustomTag;
use crate::proto3_json::de::{self, InvalidField};

/// Fields of a proxy's `ProxyConfig` that the control plane uses.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct ControlPlaneOptions {
    /// Headers added by the proxy.
    pub headers: ProxyHeaders,
    /// Proxies in front of the gateway.
    pub topology: Topology,
    /// Tracing of the bootstrap; `None`: not configured.
    pub spans: Option<Spans>,
    /// The bootstrap has an access log service cluster.
    pub has_log_service: bool,
}

/// `proxyHeaders`
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct ProxyHeaders {
    /// Handling of an inbound `x-forwarded-client-cert`; that of a gateway is in [`Topology`].
    pub forwarded_client_cert: ForwardClientCert,
    /// Details of the client's certificate in `x-forwarded-client-cert`.
    pub set_current_client_cert_details: ClientCertDetails,
    /// `x-request-id`
    pub request_id: Unless,
    /// `server`
    pub server: ServerHeader,
    /// `x-envoy-attempt-count`
    pub attempt_count: Unless,
    /// Other headers with the prefix `x-envoy-`.
    pub envoy_debug_headers: Unless,
    /// HTTP/1.1 header names keep their case.
    pub preserve_http1_header_case: Option<bool>,
    /// `x-forwarded-host`
    pub x_forwarded_host: If,
    /// `x-forwarded-port`
    pub x_forwarded_port: If,
}

/// A header that is added unless disabled.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(default)]
pub struct Unless {
    /// The header is not added.
    pub disabled: Option<bool>,
}

/// A header that is added if enabled.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(default)]
pub struct If {
    /// The header is added.
    pub enabled: Option<bool>,
}

/// `server`
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(default)]
pub struct ServerHeader {
    /// The upstream's header is passed on.
    pub disabled: Option<bool>,
    /// Value of the header; empty: Istio's.
    pub value: String,
}

/// Details of the client's certificate in `x-forwarded-client-cert`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(default)]
pub struct ClientCertDetails {
    /// Subject; absent: included.
    pub subject: Option<bool>,
    /// Full certificate; absent: not included.
    pub cert: Option<bool>,
    /// Full chain; absent: not included.
    pub chain: Option<bool>,
    /// DNS names; absent: included.
    pub dns: Option<bool>,
    /// URI; absent: included.
    pub uri: Option<bool>,
}

/// Handling of `x-forwarded-client-cert`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "SCREAMING_SNAKE_CASE")]
pub enum ForwardClientCert {
    /// Not configured.
    #[default]
    Undefined,
    /// The header is removed.
    Sanitize,
    /// The header is forwarded if the connection uses mutual TLS.
    ForwardOnly,
    /// The certificate is appended if the connection uses mutual TLS.
    AppendForward,
    /// The header is replaced if the connection uses mutual TLS.
    SanitizeSet,
    /// The header is always forwarded.
    AlwaysForwardOnly,
}

/// `gatewayTopology`
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Topology {
    /// Trusted proxies between the client and the gateway.
    pub num_trusted_proxies: u32,
    /// Handling of `x-forwarded-client-cert`.
    pub forward_client_cert_details: ForwardClientCert,
    /// Connections start with a PROXY protocol header; the message has no fields.
    pub proxy_protocol: Option<Value>,
}

/// `tracing`
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Spans {
    /// Custom tags of spans.
    pub custom_tags: BTreeMap<String, CustomTag>,
    /// Longest path in a tag; 0: Envoy's default.
    pub max_path_tag_length: u32,
    /// Percentage of traced requests; 0: Istio's default.
    pub sampling: f64,
    /// Istio's tags; absent: enabled.
    pub enable_istio_tags: Option<bool>,
}

/// The fields as JSON.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct Written {
    proxy_headers: Option<Value>,
    gateway_topology: Option<Value>,
    tracing: Option<Value>,
    envoy_access_log_service: Option<Value>,
}

// === impl ControlPlaneOptions ===

impl ControlPlaneOptions {
    /// Returns the options of a proxy, with those of the mesh for unset fields. A field that cannot be
    /// parsed counts as unset.
    pub fn of(own: Option<&Value>, mesh: &Value) -> Self {
        let (own, mesh) = (own.map(Written::of).unwrap_or_default(), Written::of(mesh));
        Self {
            headers: first("proxyHeaders", own.proxy_headers.as_ref(), mesh.proxy_headers.as_ref())
                .unwrap_or_default(),
            topology: first("gatewayTopology", own.gateway_topology.as_ref(), mesh.gateway_topology.as_ref())
                .unwrap_or_default(),
            spans: first("tracing", own.tracing.as_ref(), mesh.tracing.as_ref()),
            has_log_service: own.envoy_access_log_service.or(mesh.envoy_access_log_service).is_some(),
        }
    }

    /// Returns the fields of a `ProxyConfig` that cannot be parsed.
    pub fn faults(config: &Value) -> Vec<InvalidField> {
        let written = match de::message::<Written>("", config) {
            Ok(read) => read.value,
            Err(wrong) => return vec![wrong],
        };
        let headers = said::<ProxyHeaders>("proxyHeaders", written.proxy_headers.as_ref()).err();
        let topology = said::<Topology>("gatewayTopology", written.gateway_topology.as_ref()).err();
        let spans = said::<Spans>("tracing", written.tracing.as_ref()).err();
        [headers, topology, spans].into_iter().flatten().collect()
    }
}

// === impl Written ===

impl Written {
    fn of(config: &Value) -> Self {
        de::message("", config).map(|read| read.value).unwrap_or_default()
    }
}

fn first<T: DeserializeOwned>(name: &str, own: Option<&Value>, mesh: Option<&Value>) -> Option<T> {
    let readable = |value| said(name, value).ok().flatten();
    readable(own).or_else(|| readable(mesh))
}

fn said<T: DeserializeOwned>(name: &str, value: Option<&Value>) -> Result<Option<T>, InvalidField> {
    value.map(|value| de::message(name, value).map(|read| read.value)).transpose()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_proxys_own_words_come_before_the_meshs_field_by_field() {
        let mesh = json!({"proxy_headers": {"server": {"value": "mesh"}}, "tracing": {"sampling": 5}});
        let own = json!({"proxyHeaders": {"requestId": {"disabled": true}}, "gatewayTopology": {"numTrustedProxies": 2}});
        let found = ControlPlaneOptions::of(Some(&own), &mesh);
        assert_eq!(
            (found.headers.server.value.as_str(), found.headers.request_id.disabled),
            ("", Some(true))
        );
        assert_eq!(found.topology.num_trusted_proxies, 2);
        assert_eq!(found.spans.map(|spans| spans.sampling), Some(5.0));
        assert_eq!(ControlPlaneOptions::of(None, &mesh).headers.server.value, "mesh");
    }

    #[test]
    fn what_cannot_be_read_says_nothing_and_is_named() {
        let wrong = json!({"proxyHeaders": {"server": 5}, "gatewayTopology": {"numTrustedProxies": 1}, "tracing": {"sampling": "x"}});
        let mesh = json!({"proxyHeaders": {"server": {"value": "mesh"}}});
        let found = ControlPlaneOptions::of(Some(&wrong), &mesh);
        assert_eq!((found.headers.server.value.as_str(), found.topology.num_trusted_proxies), ("mesh", 1));
        let fields: Vec<String> =
            ControlPlaneOptions::faults(&wrong).into_iter().map(|wrong| wrong.field).collect();
        assert_eq!(fields, ["proxyHeaders.server", "tracing.sampling"]);
        assert_eq!(ControlPlaneOptions::of(Some(&json!(5)), &json!([])), ControlPlaneOptions::default());
    }
}
