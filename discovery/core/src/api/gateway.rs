//! `Gateway`: what the proxies at the edge of the mesh listen to.
//! <https://istio.io/latest/docs/reference/config/networking/gateway/>

use serde::{Deserialize, Serialize};

use super::values::Map;

/// `Gateway.spec`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash, Deserialize, Serialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Gateway {
    /// What is served.
    pub servers: Vec<Server>,
    /// Labels of the proxies, of any namespace; empty: all gateways.
    pub selector: Map,
}

/// Hosts that are served at one port.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash, Deserialize, Serialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Server {
    /// The port.
    pub port: Option<Port>,
    /// Address to bind, or `unix:///path`; empty: all.
    pub bind: String,
    /// `[<namespace>/]<host>`; the namespace may be `*` or `.`, the host may begin with `*`.
    pub hosts: Vec<String>,
    /// TLS.
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
    /// Its name.
    pub name: String,
    /// Deprecated and without effect.
    pub target_port: u32,
}

/// TLS of a server.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash, Deserialize, Serialize)]
#[serde(rename_all = "camelCase", default)]
pub struct ServerTls {
    /// Plaintext requests are sent to the HTTPS port (301).
    pub https_redirect: bool,
    /// What is done with TLS.
    pub mode: ServerTlsMode,
    /// Path of the certificate.
    pub server_certificate: String,
    /// Path of its key.
    pub private_key: String,
    /// Path of the roots that clients' certificates lead to.
    pub ca_certificates: String,
    /// Path of the list of revoked certificates.
    pub ca_crl: String,
    /// Secret that holds certificate, key and roots.
    pub credential_name: String,
    /// Secrets of several certificates, for clients that differ in what they can verify.
    pub credential_names: Vec<String>,
    /// Secret that holds the roots alone.
    pub ca_cert_credential_name: String,
    /// Paths of several certificates.
    pub tls_certificates: Vec<TlsCertificate>,
    /// Names that clients' certificates may have.
    pub subject_alt_names: Vec<String>,
    /// Base64 SHA-256 of public keys of clients' certificates.
    pub verify_certificate_spki: Vec<String>,
    /// Hexadecimal SHA-256 of clients' certificates.
    pub verify_certificate_hash: Vec<String>,
    /// Oldest version of TLS; automatic: 1.2.
    pub min_protocol_version: TlsProtocol,
    /// Newest version of TLS.
    pub max_protocol_version: TlsProtocol,
    /// Suites of TLS 1.2, as OpenSSL spells them; empty: Envoy's.
    pub cipher_suites: Vec<String>,
    /// Curves of ECDH; empty: Envoy's.
    pub ecdh_curves: Vec<String>,
    /// Clients' certificates are asked for and not verified.
    pub insecure_skip_verify: Option<bool>,
}

/// Paths of a certificate.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash, Deserialize, Serialize)]
#[serde(rename_all = "camelCase", default)]
pub struct TlsCertificate {
    /// The certificate.
    pub server_certificate: String,
    /// Its key.
    pub private_key: String,
    /// The roots.
    pub ca_certificates: String,
}

/// What is done with TLS.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Deserialize, Serialize)]
#[serde(rename_all = "SCREAMING_SNAKE_CASE")]
pub enum ServerTlsMode {
    /// It is passed on by SNI, by what `VirtualService`s say.
    #[default]
    Passthrough,
    /// It ends here.
    Simple,
    /// It ends here, and clients show certificates.
    Mutual,
    /// It is passed on by SNI to the service whose cluster the SNI names.
    AutoPassthrough,
    /// It ends here with the mesh's own certificates on both sides.
    IstioMutual,
    /// It ends here, and clients may show certificates.
    OptionalMutual,
}

/// A version of TLS.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Deserialize, Serialize)]
pub enum TlsProtocol {
    /// Whatever is best.
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
