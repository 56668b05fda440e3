//! What of a `ProxyConfig` the control plane acts on: headers that proxies write, what stands in front of gateways, spans.

use std::collections::BTreeMap;

use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::networking::CustomTag;
use crate::read::{self, Wrong};

/// What of a proxy's `ProxyConfig` the control plane acts on.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Steering {
    /// Headers that it writes.
    pub headers: ProxyHeaders,
    /// What stands in front of it.
    pub topology: Topology,
    /// What its bootstrap says of spans; `None`: nothing.
    pub spans: Option<Spans>,
    /// Its bootstrap has a cluster that takes access logs over gRPC.
    pub has_log_service: bool,
}

/// `proxyHeaders`
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct ProxyHeaders {
    /// What becomes of `x-forwarded-client-cert` on its way in; a gateway's is in [`Topology`].
    pub forwarded_client_cert: ForwardClientCert,
    /// What it says of the client's certificate.
    pub set_current_client_cert_details: ClientCertDetails,
    /// `x-request-id`
    pub request_id: Unless,
    /// `server`
    pub server: ServerHeader,
    /// `x-envoy-attempt-count`
    pub attempt_count: Unless,
    /// Other headers of Envoy's own.
    pub envoy_debug_headers: Unless,
    /// Names keep their case in HTTP/1.1.
    pub preserve_http1_header_case: Option<bool>,
    /// `x-forwarded-host`
    pub x_forwarded_host: If,
    /// `x-forwarded-port`
    pub x_forwarded_port: If,
}

/// A header that is written unless somebody says otherwise.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(default)]
pub struct Unless {
    /// It is not written.
    pub disabled: Option<bool>,
}

/// A header that is written if somebody says so.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(default)]
pub struct If {
    /// It is written.
    pub enabled: Option<bool>,
}

/// `server`
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(default)]
pub struct ServerHeader {
    /// The upstream's is passed on.
    pub disabled: Option<bool>,
    /// What it says; empty: Istio's.
    pub value: String,
}

/// What is said of the client's certificate.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(default)]
pub struct ClientCertDetails {
    /// Its subject; absent: said.
    pub subject: Option<bool>,
    /// All of it; absent: not said.
    pub cert: Option<bool>,
    /// All of its chain; absent: not said.
    pub chain: Option<bool>,
    /// Its DNS names; absent: said.
    pub dns: Option<bool>,
    /// Its URI; absent: said.
    pub uri: Option<bool>,
}

/// What becomes of `x-forwarded-client-cert`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "SCREAMING_SNAKE_CASE")]
pub enum ForwardClientCert {
    /// Nobody said.
    #[default]
    Undefined,
    /// It is removed.
    Sanitize,
    /// It is passed on if the connection is mutual TLS.
    ForwardOnly,
    /// It is added to if the connection is mutual TLS.
    AppendForward,
    /// It is written anew if the connection is mutual TLS.
    SanitizeSet,
    /// It is passed on.
    AlwaysForwardOnly,
}

/// `gatewayTopology`
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Topology {
    /// Trusted proxies between the client and the gateway.
    pub num_trusted_proxies: u32,
    /// What becomes of `x-forwarded-client-cert`.
    pub forward_client_cert_details: ForwardClientCert,
    /// Connections begin with a PROXY header; it has no settings.
    pub proxy_protocol: Option<Value>,
}

/// `tracing`
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Spans {
    /// Tags that spans get.
    pub custom_tags: BTreeMap<String, CustomTag>,
    /// The longest path in a tag; 0: Envoy's.
    pub max_path_tag_length: u32,
    /// Requests that are traced, of a hundred; 0: Istio's.
    pub sampling: f64,
    /// Istio's own tags; absent: they are there.
    pub enable_istio_tags: Option<bool>,
}

/// The fields, as they are written.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct Written {
    proxy_headers: Option<Value>,
    gateway_topology: Option<Value>,
    tracing: Option<Value>,
    envoy_access_log_service: Option<Value>,
}

// === impl Steering ===

impl Steering {
    /// What a proxy says of itself, and where it says nothing, what the mesh says of every proxy. A field that cannot be read
    /// says nothing.
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

    /// What cannot be read of a `ProxyConfig`.
    pub fn faults(config: &Value) -> Vec<Wrong> {
        let written = match read::message::<Written>("", config) {
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
        read::message("", config).map(|read| read.value).unwrap_or_default()
    }
}

fn first<T: DeserializeOwned>(name: &str, own: Option<&Value>, mesh: Option<&Value>) -> Option<T> {
    let readable = |value| said(name, value).ok().flatten();
    readable(own).or_else(|| readable(mesh))
}

fn said<T: DeserializeOwned>(name: &str, value: Option<&Value>) -> Result<Option<T>, Wrong> {
    value.map(|value| read::message(name, value).map(|read| read.value)).transpose()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_proxys_own_words_come_before_the_meshs_field_by_field() {
        let mesh = json!({"proxy_headers": {"server": {"value": "mesh"}}, "tracing": {"sampling": 5}});
        let own = json!({"proxyHeaders": {"requestId": {"disabled": true}}, "gatewayTopology": {"numTrustedProxies": 2}});
        let found = Steering::of(Some(&own), &mesh);
        assert_eq!(
            (found.headers.server.value.as_str(), found.headers.request_id.disabled),
            ("", Some(true))
        );
        assert_eq!(found.topology.num_trusted_proxies, 2);
        assert_eq!(found.spans.map(|spans| spans.sampling), Some(5.0));
        assert_eq!(Steering::of(None, &mesh).headers.server.value, "mesh");
    }

    #[test]
    fn what_cannot_be_read_says_nothing_and_is_named() {
        let wrong = json!({"proxyHeaders": {"server": 5}, "gatewayTopology": {"numTrustedProxies": 1}, "tracing": {"sampling": "x"}});
        let mesh = json!({"proxyHeaders": {"server": {"value": "mesh"}}});
        let found = Steering::of(Some(&wrong), &mesh);
        assert_eq!((found.headers.server.value.as_str(), found.topology.num_trusted_proxies), ("mesh", 1));
        let fields: Vec<String> = Steering::faults(&wrong).into_iter().map(|wrong| wrong.field).collect();
        assert_eq!(fields, ["proxyHeaders.server", "tracing.sampling"]);
        assert_eq!(Steering::of(Some(&json!(5)), &json!([])), Steering::default());
    }
}
