//! TLS termination of a listener.
//!
//! Certificates are files or SDS secrets. Credentials come from the control plane (`kubernetes://<name>`), certificates of
//! the mesh from the agent (`default`, `ROOTCA`).

use pilot_proto::envoy::config::core::v3::{TransportSocket, transport_socket};
use pilot_proto::envoy::extensions::transport_sockets::tls::v3::{
    CertificateValidationContext, CommonTlsContext, DownstreamTlsContext, SdsSecretConfig, TlsCertificate,
    TlsParameters, certificate_validation_context::TrustChainVerification as Trust, common_tls_context,
    tls_parameters::TlsProtocol as Version,
};
use pilot_proto::google::protobuf::BoolValue;
use pilot_proto::mesh::{MeshTls, MeshTlsProtocol};

use super::proto::any;
use super::sds_config;
use crate::api::gateway::{ServerTls, ServerTlsMode, TlsProtocol};
use crate::validate::values::{is_cipher_suite, is_ecdh_curve};

/// TLS termination of a filter chain.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct TlsTermination {
    /// Settings of the server.
    pub settings: ServerTls,
    /// Protocol inside TLS.
    pub payload: TlsPayload,
    /// Defaults of the mesh (`tlsDefaults`).
    pub defaults: MeshTls,
}

/// Protocol inside TLS.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum TlsPayload {
    /// HTTP.
    Http,
    /// Any protocol.
    Tcp,
}

// === impl TlsTermination ===

impl TlsTermination {
    pub(super) fn socket(&self) -> TransportSocket {
        let config = any(&self.context()).map(transport_socket::ConfigType::TypedConfig);
        TransportSocket { name: "envoy.transport_sockets.tls".into(), config_type: config }
    }

    fn context(&self) -> DownstreamTlsContext {
        let mode = self.settings.mode;
        let requires_certificate = matches!(mode, ServerTlsMode::Mutual | ServerTlsMode::IstioMutual);
        let validates = requires_certificate || mode == ServerTlsMode::OptionalMutual;
        let alpn: &[&str] = match self.payload {
            TlsPayload::Tcp if mode == ServerTlsMode::IstioMutual => {
                &["istio-peer-exchange", "h2", "http/1.1"]
            }
            _ => &["h2", "http/1.1"],
        };
        DownstreamTlsContext {
            common_tls_context: Some(CommonTlsContext {
                alpn_protocols: alpn.iter().map(|&name| name.to_owned()).collect(),
                tls_params: self.params(),
                tls_certificates: self.certificates(),
                tls_certificate_sds_secret_configs: self.secrets(),
                validation_context_type: validates.then(|| self.validation()),
                ..CommonTlsContext::default()
            }),
            require_client_certificate: Some(BoolValue { value: requires_certificate }),
            ..DownstreamTlsContext::default()
        }
    }

    fn params(&self) -> Option<TlsParameters> {
        let settings = &self.settings;
        // `ISTIO_MUTUAL` does not use the defaults for external TLS.
        let inherits = settings.mode != ServerTlsMode::IstioMutual;
        let no_defaults = MeshTls::default();
        let defaults = if inherits { &self.defaults } else { &no_defaults };
        let minimum_version = match settings.min_protocol_version {
            TlsProtocol::Auto => minimum_version(defaults.min_protocol_version),
            configured => version(configured),
        };
        let suites =
            if settings.cipher_suites.is_empty() { &defaults.cipher_suites } else { &settings.cipher_suites };
        let curves =
            if settings.ecdh_curves.is_empty() { &defaults.ecdh_curves } else { &settings.ecdh_curves };
        let params = TlsParameters {
            tls_minimum_protocol_version: minimum_version.into(),
            tls_maximum_protocol_version: version(settings.max_protocol_version).into(),
            cipher_suites: supported(suites, is_cipher_suite),
            ecdh_curves: supported(curves, is_ecdh_curve),
            ..TlsParameters::default()
        };
        Some(params).filter(|params| *params != TlsParameters::default())
    }

    /// Returns true if certificates are SDS secrets.
    fn uses_sds(&self) -> bool {
        let settings = &self.settings;
        settings.mode == ServerTlsMode::IstioMutual
            || !settings.credential_name.is_empty()
            || !settings.credential_names.is_empty()
    }

    fn certificates(&self) -> Vec<TlsCertificate> {
        if self.uses_sds() {
            return Vec::new();
        }
        let settings = &self.settings;
        let single = (!settings.server_certificate.is_empty())
            .then_some((&settings.server_certificate, &settings.private_key));
        let list = settings
            .tls_certificates
            .iter()
            .map(|certificate| (&certificate.server_certificate, &certificate.private_key));
        let paths = single.into_iter().chain(list);
        paths
            .map(|(certificate, key)| TlsCertificate {
                certificate_chain: Some(sds_config::file(certificate)),
                private_key: Some(sds_config::file(key)),
                ..TlsCertificate::default()
            })
            .collect()
    }

    fn secrets(&self) -> Vec<SdsSecretConfig> {
        let settings = &self.settings;
        if settings.mode == ServerTlsMode::IstioMutual {
            return vec![sds_config::workload_secret(sds_config::DEFAULT)];
        }
        let list = settings.credential_names.iter();
        let single = Some(&settings.credential_name).filter(|name| list.len() == 0 && !name.is_empty());
        single.into_iter().chain(list).map(|name| sds_config::credential_secret(name)).collect()
    }

    fn validation(&self) -> common_tls_context::ValidationContextType {
        use common_tls_context::ValidationContextType as Kind;
        let settings = &self.settings;
        let roots = |path: &str| (!path.is_empty()).then(|| sds_config::file(path));
        let skips_verification = settings.insecure_skip_verify == Some(true);
        let trust = if skips_verification { Trust::AcceptUntrusted } else { Trust::VerifyTrustChain };
        let context = CertificateValidationContext {
            trust_chain_verification: trust.into(),
            match_typed_subject_alt_names: settings
                .subject_alt_names
                .iter()
                .map(|name| sds_config::exact_san(name))
                .collect(),
            verify_certificate_spki: settings.verify_certificate_spki.clone(),
            verify_certificate_hash: settings.verify_certificate_hash.clone(),
            crl: roots(&settings.ca_crl),
            ..CertificateValidationContext::default()
        };
        let secret_config = if settings.mode == ServerTlsMode::IstioMutual {
            Some(sds_config::workload_secret(sds_config::ROOT))
        } else if !settings.ca_cert_credential_name.is_empty() {
            Some(sds_config::credential_secret(&settings.ca_cert_credential_name))
        } else {
            let list = settings.credential_names.first();
            let name = list.or(Some(&settings.credential_name)).filter(|name| !name.is_empty());
            name.map(|name| sds_config::credential_secret(&format!("{name}{}", sds_config::ROOTS_SUFFIX)))
        };
        match secret_config {
            Some(secret) => {
                Kind::CombinedValidationContext(common_tls_context::CombinedCertificateValidationContext {
                    default_validation_context: Some(context),
                    validation_context_sds_secret_config: Some(secret),
                    ..common_tls_context::CombinedCertificateValidationContext::default()
                })
            }
            None => Kind::ValidationContext(CertificateValidationContext {
                trusted_ca: roots(&settings.ca_certificates),
                ..context
            }),
        }
    }
}

fn supported(list: &[String], is_known: fn(&str) -> bool) -> Vec<String> {
    list.iter().filter(|name| is_known(name)).cloned().collect()
}

const fn minimum_version(version: MeshTlsProtocol) -> Version {
    match version {
        MeshTlsProtocol::Auto => Version::TlsAuto,
        MeshTlsProtocol::V1_2 => Version::TlSv12,
        MeshTlsProtocol::V1_3 => Version::TlSv13,
    }
}

/// Converts a version; Envoy's default minimum is 1.2.
const fn version(version: TlsProtocol) -> Version {
    match version {
        TlsProtocol::Auto => Version::TlsAuto,
        TlsProtocol::V1_0 => Version::TlSv10,
        TlsProtocol::V1_1 => Version::TlSv11,
        TlsProtocol::V1_2 => Version::TlSv12,
        TlsProtocol::V1_3 => Version::TlSv13,
    }
}

#[cfg(test)]
mod tests {
    use common_tls_context::ValidationContextType as Kind;

    use super::*;

    fn context(settings: ServerTls) -> CommonTlsContext {
        TlsTermination { settings, payload: TlsPayload::Http, defaults: MeshTls::default() }
            .context()
            .common_tls_context
            .unwrap()
    }

    #[test]
    fn cipher_suites_and_curves_unknown_to_envoy_are_omitted() {
        let list = |names: &[&str]| names.iter().map(|&name| name.to_owned()).collect();
        let settings = ServerTls {
            cipher_suites: list(&["AES128-SHA", "RC4"]),
            ecdh_curves: list(&["P-1", "P-256"]),
            ..ServerTls::default()
        };
        let params = context(settings).tls_params.unwrap();
        assert_eq!((params.cipher_suites, params.ecdh_curves), (list(&["AES128-SHA"]), list(&["P-256"])));
        assert_eq!(
            context(ServerTls { cipher_suites: list(&["RC4"]), ..ServerTls::default() }).tls_params,
            None
        );
    }

    #[test]
    fn client_certificates_are_verified_unless_verification_is_skipped() {
        for (insecure_skip_verify, expected) in [
            (None, Trust::VerifyTrustChain),
            (Some(false), Trust::VerifyTrustChain),
            (Some(true), Trust::AcceptUntrusted),
        ] {
            for credential in ["", "secret"] {
                let settings = ServerTls {
                    mode: ServerTlsMode::Mutual,
                    credential_name: credential.into(),
                    insecure_skip_verify,
                    ..ServerTls::default()
                };
                let validation = match context(settings).validation_context_type {
                    Some(Kind::ValidationContext(context)) => context,
                    Some(Kind::CombinedValidationContext(both)) => both.default_validation_context.unwrap(),
                    other => panic!("{other:?}"),
                };
                assert_eq!(
                    validation.trust_chain_verification(),
                    expected,
                    "{insecure_skip_verify:?} {credential}"
                );
            }
        }
    }
}
