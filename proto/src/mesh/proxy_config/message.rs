//! Messages inside a `ProxyConfig` that the agent uses. Fields that only the control plane uses
//! are kept as JSON.

use std::collections::BTreeMap;
use std::time::Duration;

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use super::field::{self, is_zero};

/// Rules for `node.cluster`, the service name of spans.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "SCREAMING_SNAKE_CASE")]
pub enum TracingServiceName {
    /// `app` label and namespace.
    #[default]
    AppLabelAndNamespace,
    /// Canonical service.
    CanonicalNameOnly,
    /// Canonical service and namespace.
    CanonicalNameAndNamespace,
}

/// Authentication of the connection to the control plane.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "SCREAMING_SNAKE_CASE")]
pub enum AuthenticationPolicy {
    /// No authentication.
    #[default]
    None,
    /// Mutual TLS.
    MutualTls,
}

/// Tracing. At most one tracer is set: a layer's `tracing` replaces the one below it as a whole.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Tracing {
    /// Zipkin or a compatible collector.
    #[serde(skip_serializing_if = "is_zero")]
    pub zipkin: Option<Collector>,
    /// Lightstep.
    #[serde(skip_serializing_if = "is_zero")]
    pub lightstep: Option<Collector>,
    /// Datadog's agent.
    #[serde(skip_serializing_if = "is_zero")]
    pub datadog: Option<Collector>,
    /// Google Cloud Trace.
    #[serde(skip_serializing_if = "is_zero")]
    pub stackdriver: Option<Map<String, Value>>,
    /// TLS to the collector.
    #[serde(skip_serializing_if = "is_zero")]
    pub tls_settings: Option<ClientTls>,
    /// Fields for the control plane: sampling, custom tags.
    #[serde(flatten)]
    pub rest: BTreeMap<String, Value>,
}

/// A span collector.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Collector {
    /// `host:port`; the host may be `$(HOST_IP)`.
    #[serde(skip_serializing_if = "is_zero")]
    pub address: String,
    /// Lightstep's token.
    #[serde(skip_serializing_if = "is_zero")]
    pub access_token: String,
}

/// A gRPC service that receives data from Envoy.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct RemoteService {
    /// `host:port`.
    #[serde(skip_serializing_if = "is_zero")]
    pub address: String,
    /// TLS to the service.
    #[serde(skip_serializing_if = "is_zero")]
    pub tls_settings: Option<ClientTls>,
    /// Keep-alive probes.
    #[serde(skip_serializing_if = "is_zero")]
    pub tcp_keepalive: Option<TcpKeepalive>,
}

/// Keep-alive probes of a connection.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct TcpKeepalive {
    /// Unanswered probes before the connection is closed.
    #[serde(deserialize_with = "field::number", skip_serializing_if = "is_zero")]
    pub probes: u32,
    /// Idle time before the first probe.
    #[serde(with = "field::duration", skip_serializing_if = "is_zero")]
    pub time: Option<Duration>,
    /// Time between probes.
    #[serde(with = "field::duration", skip_serializing_if = "is_zero")]
    pub interval: Option<Duration>,
}

/// TLS of a client.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct ClientTls {
    /// TLS mode.
    #[serde(skip_serializing_if = "is_zero")]
    pub mode: TlsMode,
    /// File of the client's certificate.
    #[serde(skip_serializing_if = "is_zero")]
    pub client_certificate: String,
    /// File of the client's key.
    #[serde(skip_serializing_if = "is_zero")]
    pub private_key: String,
    /// File of the roots that verify the server.
    #[serde(skip_serializing_if = "is_zero")]
    pub ca_certificates: String,
    /// File of the certificate revocation list.
    #[serde(skip_serializing_if = "is_zero")]
    pub ca_crl: String,
    /// Secret with certificate and key; gateways only.
    #[serde(skip_serializing_if = "is_zero")]
    pub credential_name: String,
    /// Accepted subject alternative names of the server.
    #[serde(skip_serializing_if = "is_zero")]
    pub subject_alt_names: Vec<String>,
    /// SNI.
    #[serde(skip_serializing_if = "is_zero")]
    pub sni: String,
    /// Server verification is disabled.
    #[serde(skip_serializing_if = "is_zero")]
    pub insecure_skip_verify: Option<bool>,
}

/// TLS modes of a client.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "SCREAMING_SNAKE_CASE")]
pub enum TlsMode {
    /// Plaintext.
    #[default]
    Disable,
    /// TLS with a server certificate.
    Simple,
    /// Mutual TLS with certificate files.
    Mutual,
    /// Mutual TLS with the mesh's certificates.
    IstioMutual,
}

/// Statistics kept in addition to those that Istio needs.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct StatsMatcher {
    /// By prefix.
    #[serde(skip_serializing_if = "is_zero")]
    pub inclusion_prefixes: Vec<String>,
    /// By suffix.
    #[serde(skip_serializing_if = "is_zero")]
    pub inclusion_suffixes: Vec<String>,
    /// By regular expression.
    #[serde(skip_serializing_if = "is_zero")]
    pub inclusion_regexps: Vec<String>,
}

/// Limits and timeouts of connections.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct ConnectionSettings {
    /// Limit of downstream connections over all listeners.
    #[serde(deserialize_with = "field::wrapped_number", skip_serializing_if = "is_zero")]
    pub global_downstream_connection_limit: Option<i32>,
    /// Fields for the control plane.
    #[serde(flatten)]
    pub rest: BTreeMap<String, Value>,
}
