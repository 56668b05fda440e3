//! The messages inside a `ProxyConfig` that the agent acts on. Fields that only the control plane acts on
//! are kept as they came.

use std::collections::BTreeMap;
use std::time::Duration;

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use super::field::{self, is_zero};

/// How `node.cluster`, the service name of spans, is made.
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

/// How the connection to the control plane is secured.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "SCREAMING_SNAKE_CASE")]
pub enum AuthenticationPolicy {
    /// Not at all.
    #[default]
    None,
    /// TLS both ways.
    MutualTls,
}

/// How connections reach the proxy. As [`crate::node::InterceptionMode`], with protobuf's zero.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "UPPERCASE")]
pub enum InterceptionMode {
    /// iptables REDIRECT.
    #[default]
    Redirect,
    /// iptables TPROXY.
    Tproxy,
    /// Not at all.
    None,
}

/// Where spans go. At most one tracer: a layer's `tracing` replaces the one below it as a whole.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Tracing {
    /// Zipkin or what speaks like it.
    #[serde(skip_serializing_if = "is_zero")]
    pub zipkin: Option<Collector>,
    /// Lightstep.
    #[serde(skip_serializing_if = "is_zero")]
    pub lightstep: Option<Collector>,
    /// Datadog's agent.
    #[serde(skip_serializing_if = "is_zero")]
    pub datadog: Option<Collector>,
    /// Google's.
    #[serde(skip_serializing_if = "is_zero")]
    pub stackdriver: Option<Map<String, Value>>,
    /// TLS towards the collector.
    #[serde(skip_serializing_if = "is_zero")]
    pub tls_settings: Option<ClientTls>,
    /// What the control plane acts on: sampling, custom tags.
    #[serde(flatten)]
    pub rest: BTreeMap<String, Value>,
}

/// A collector of spans.
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

/// A gRPC service that Envoy reports to.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct RemoteService {
    /// `host:port`.
    #[serde(skip_serializing_if = "is_zero")]
    pub address: String,
    /// TLS towards it.
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
    /// Unanswered probes before the connection is given up.
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
    /// Whether and how.
    #[serde(skip_serializing_if = "is_zero")]
    pub mode: TlsMode,
    /// File of the client's certificate.
    #[serde(skip_serializing_if = "is_zero")]
    pub client_certificate: String,
    /// File of the client's key.
    #[serde(skip_serializing_if = "is_zero")]
    pub private_key: String,
    /// File of the roots the server is verified with.
    #[serde(skip_serializing_if = "is_zero")]
    pub ca_certificates: String,
    /// File of revoked certificates.
    #[serde(skip_serializing_if = "is_zero")]
    pub ca_crl: String,
    /// Secret that holds certificate and key; gateways only.
    #[serde(skip_serializing_if = "is_zero")]
    pub credential_name: String,
    /// Names of the server, one of which it must prove.
    #[serde(skip_serializing_if = "is_zero")]
    pub subject_alt_names: Vec<String>,
    /// Name the client asks for.
    #[serde(skip_serializing_if = "is_zero")]
    pub sni: String,
    /// Whether the server is not verified.
    #[serde(skip_serializing_if = "is_zero")]
    pub insecure_skip_verify: Option<bool>,
}

/// Whether and how a client uses TLS.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "SCREAMING_SNAKE_CASE")]
pub enum TlsMode {
    /// Plaintext.
    #[default]
    Disable,
    /// The server proves itself.
    Simple,
    /// Both do, with files.
    Mutual,
    /// Both do, with the mesh's certificates.
    IstioMutual,
}

/// Which statistics are kept besides those that Istio needs.
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
    /// How many downstream connections Envoy accepts over all listeners.
    #[serde(deserialize_with = "field::wrapped_number", skip_serializing_if = "is_zero")]
    pub global_downstream_connection_limit: Option<i32>,
    /// What the control plane acts on.
    #[serde(flatten)]
    pub rest: BTreeMap<String, Value>,
}
