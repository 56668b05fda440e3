//! What the mesh says of traffic: the small messages of `MeshConfig`.

use serde::{Deserialize, Serialize};

use crate::networking::{ConnectionPool, OutlierDetection};

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

/// Where traffic to the workload goes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(default)]
pub struct InboundTrafficPolicy {
    /// The policy.
    pub mode: InboundTrafficMode,
}

/// Where the workload listens.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "SCREAMING_SNAKE_CASE")]
pub enum InboundTrafficMode {
    /// At the address of the pod.
    #[default]
    Passthrough,
    /// At 127.0.0.1.
    Localhost,
}

/// Whether HTTP/1.1 becomes HTTP/2.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "SCREAMING_SNAKE_CASE")]
pub enum H2UpgradePolicy {
    /// No.
    #[default]
    DoNotUpgrade,
    /// Yes.
    Upgrade,
}

/// What clusters have whose rules say nothing of it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct DefaultTrafficPolicy {
    /// Limits; a rule's replace all of them.
    pub connection_pool: Option<ConnectionPool>,
    /// Which endpoints are left alone for a while; a rule's replaces all of it.
    pub outlier_detection: Option<OutlierDetection>,
}

/// How paths of requests are put in order.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(default)]
pub struct PathNormalization {
    /// How far.
    pub normalization: Normalization,
}

/// How far a path is put in order.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "SCREAMING_SNAKE_CASE")]
pub enum Normalization {
    /// `BASE`.
    #[default]
    Default,
    /// Not at all.
    None,
    /// `/a/../b` is `/b`.
    Base,
    /// And `/a//b` is `/a/b`.
    MergeSlashes,
    /// And `/a%2fb` is `/a/b`.
    DecodeAndMergeSlashes,
}

/// How a line of the access log is written.
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

/// What can be set for a service.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Settings {
    /// Its endpoints in other clusters are not used.
    pub cluster_local: bool,
}

/// TLS of connections.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct MeshTls {
    /// Oldest version; automatic: 1.2.
    pub min_protocol_version: MeshTlsProtocol,
    /// Curves of ECDH; empty: Envoy's.
    pub ecdh_curves: Vec<String>,
    /// Suites of TLS 1.2, as OpenSSL spells them; empty: Istio's.
    pub cipher_suites: Vec<String>,
}

/// A version of TLS that the mesh may ask for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum MeshTlsProtocol {
    /// Whatever is best.
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
