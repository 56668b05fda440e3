//! `Gateway`: servers of the proxies at the edge of the mesh.
//! <https://istio.io/latest/docs/reference/config/networking/gateway/>

use serde::{Deserialize, Serialize};

use super::values::Map;

/// `Gateway.spec`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash, Deserialize, Serialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Gateway {
    /// Servers.
    pub servers: Vec<Server>,
    /// Labels of the gateway proxies, in any namespace; empty: all gateways.
    pub selector: Map,
}

/// Hosts of one port.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash, Deserialize, Serialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Server {
    /// The port.
    pub port: Option<Port>,
    /// Address to bind, or `unix:///path`; empty: all.
    pub bind: String,
    /// `[<namespace>/]<host>`; the namespace may be `*` or `.`, the host may begin with `*`.
    pub hosts: Vec<String>,
    /// TLS settings.
    pub tls: Option<ServerTls>,
    /// Without effect.
    pub default_endpoint: String,
    /// Unique name of the server.
    pub name: String,
}

/// A port of a `Gateway`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash, Deserialize, Serialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Port {
    /// 1 to 65535.
    pub number: u32,
    /// HTTP, HTTPS, GRPC, GRPC-WEB, HTTP2, MONGO, TCP, TLS.
    pub protocol: String,
    /// Name of the port.
    pub name: String,
    /// Deprecated and without effect.
    pub target_port: u32,
}

/// TLS settings of a server.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash, Deserialize, Serialize)]
#[serde(rename_all = "camelCase", default)]
pub struct ServerTls {
    /// Redirects plaintext requests to the HTTPS port (301).
    pub https_redirect: bool,
    /// TLS mode.
    pub mode: ServerTlsMode,
    /// Path of the certificate.
    pub server_certificate: String,
    /// Path of its private key.
    pub private_key: String,
    /// Path of the CA certificates that verify clients.
    pub ca_certificates: String,
    /// Path of the certificate revocation list.
    pub ca_crl: String,
    /// Secret with certificate, key and CA certificates.
    pub credential_name: String,
    /// Secrets of several certificates, for clients with different algorithms.
    pub credential_names: Vec<String>,
    /// Secret with the CA certificates only.
    pub ca_cert_credential_name: String,
    /// Paths of several certificates.
    pub tls_certificates: Vec<TlsCertificate>,
    /// Accepted names of client certificates.
    pub subject_alt_names: Vec<String>,
    /// Base64 SHA-256 of the public keys of accepted client certificates.
    pub verify_certificate_spki: Vec<String>,
    /// Hexadecimal SHA-256 of accepted client certificates.
    pub verify_certificate_hash: Vec<String>,
    /// Minimum version of TLS; automatic: 1.2.
    pub min_protocol_version: TlsProtocol,
    /// Maximum version of TLS.
    pub max_protocol_version: TlsProtocol,
    /// Cipher suites of TLS 1.2, in OpenSSL's spelling; empty: Envoy's defaults.
    pub cipher_suites: Vec<String>,
    /// Curves of ECDH; empty: Envoy's defaults.
    pub ecdh_curves: Vec<String>,
    /// Requests client certificates without verifying them.
    pub insecure_skip_verify: Option<bool>,
}

/// Paths of a certificate.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash, Deserialize, Serialize)]
#[serde(rename_all = "camelCase", default)]
pub struct TlsCertificate {
    /// Path of the certificate.
    pub server_certificate: String,
    /// Path of its private key.
    pub private_key: String,
    /// Path of the CA certificates.
    pub ca_certificates: String,
}

/// TLS mode of a server.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Deserialize, Serialize)]
#[serde(rename_all = "SCREAMING_SNAKE_CASE")]
pub enum ServerTlsMode {
    /// Routes by SNI according to `VirtualService`s, without terminating TLS.
    #[default]
    Passthrough,
    /// Terminates TLS.
    Simple,
    /// Terminates TLS, and requires client certificates.
    Mutual,
    /// Routes by SNI to the service that the SNI names, without terminating TLS.
    AutoPassthrough,
    /// Terminates Istio's mutual TLS, with the certificates of the mesh.
    IstioMutual,
    /// Terminates TLS, and accepts client certificates.
    OptionalMutual,
}

/// Version of TLS.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Deserialize, Serialize)]
pub enum TlsProtocol {
    /// Default of the proxy.
    #[default]
    #[serde(rename = "TLS_AUTO")]
    Auto,
    /// 1.0
    #[serde(rename = "TLSV1_0")]
    V1_0,
    /// 1.1
    #[serde(rename = "TLSV1_1")]
    V1_1,
    /// 1.2
    #[serde(rename = "TLSV1_2")]
    V1_2,
    /// 1.3
    #[serde(rename = "TLSV1_3")]
    V1_3,
}
