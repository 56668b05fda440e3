//! Small messages of `MeshConfig` about traffic.

use serde::{Deserialize, Serialize};

use crate::networking::{ConnectionPool, OutlierDetection};

/// Policy for traffic to undeclared hosts.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(default)]
pub struct OutboundTrafficPolicy {
    /// The policy.
    pub mode: OutboundTrafficMode,
}

/// Modes of the outbound traffic policy.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "SCREAMING_SNAKE_CASE")]
pub enum OutboundTrafficMode {
    /// Traffic goes to `BlackHoleCluster`.
    RegistryOnly,
    /// Traffic goes to `PassthroughCluster`.
    #[default]
    AllowAny,
}

/// Destination address of inbound traffic.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(default)]
pub struct InboundTrafficPolicy {
    /// The policy.
    pub mode: InboundTrafficMode,
}

/// Bind addresses of the application.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "SCREAMING_SNAKE_CASE")]
pub enum InboundTrafficMode {
    /// The address of the pod.
    #[default]
    Passthrough,
    /// 127.0.0.1
    Localhost,
}

/// Upgrade of HTTP/1.1 to HTTP/2.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "SCREAMING_SNAKE_CASE")]
pub enum H2UpgradePolicy {
    /// No upgrade.
    #[default]
    DoNotUpgrade,
    /// Upgrade.
    Upgrade,
}

/// Defaults of clusters for fields that no `DestinationRule` sets.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct DefaultTrafficPolicy {
    /// Connection pool limits; a rule's limits replace all of them.
    pub connection_pool: Option<ConnectionPool>,
    /// Outlier detection; a rule's message replaces all of it.
    pub outlier_detection: Option<OutlierDetection>,
}

/// Normalization of request paths.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(default)]
pub struct PathNormalization {
    /// Degree of normalization.
    pub normalization: Normalization,
}

/// Degrees of path normalization; each includes the one before.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "SCREAMING_SNAKE_CASE")]
pub enum Normalization {
    /// `BASE`.
    #[default]
    Default,
    /// No normalization.
    None,
    /// `/a/../b` becomes `/b`.
    Base,
    /// `/a//b` becomes `/a/b`.
    MergeSlashes,
    /// `/a%2fb` becomes `/a/b`.
    DecodeAndMergeSlashes,
}

/// Encodings of the access log.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "SCREAMING_SNAKE_CASE")]
pub enum AccessLogEncoding {
    /// As text.
    #[default]
    Text,
    /// As JSON.
    Json,
}

/// Settings of some services.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(default)]
pub struct ServiceSettings {
    /// The settings.
    pub settings: Settings,
    /// Host names, may begin with `*`.
    pub hosts: Vec<String>,
}

/// Settings that apply to services.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Settings {
    /// Endpoints in other clusters are not used.
    pub cluster_local: bool,
}

/// TLS of connections.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct MeshTls {
    /// Oldest TLS version; automatic: 1.2.
    pub min_protocol_version: MeshTlsProtocol,
    /// Curves of ECDH; empty: Envoy's.
    pub ecdh_curves: Vec<String>,
    /// Suites of TLS 1.2, as OpenSSL spells them; empty: Istio's.
    pub cipher_suites: Vec<String>,
}

/// TLS versions.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum MeshTlsProtocol {
    /// Envoy's default.
    #[default]
    #[serde(rename = "TLS_AUTO")]
    Auto,
    /// 1.2
    #[serde(rename = "TLSV1_2")]
    V1_2,
    /// 1.3
    #[serde(rename = "TLSV1_3")]
    V1_3,
}
