//! TLS that ends at a listener.
//!
//! Certificates are files, or secrets that the proxy asks for by name: from the control plane (`kubernetes://<name>`), or,
//! the mesh's own, from the agent beside it (`default`, `ROOTCA`).

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

/// How TLS ends.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct TlsTermination {
    /// What the server says.
    pub settings: ServerTls,
    /// What is inside.
    pub payload: TlsPayload,
    /// What the mesh says where the server says nothing.
    pub defaults: MeshTls,
}

/// What is inside TLS.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum TlsPayload {
    /// HTTP.
    Http,
    /// Anything.
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
        let demands = matches!(mode, ServerTlsMode::Mutual | ServerTlsMode::IstioMutual);
        let verifies = demands || mode == ServerTlsMode::OptionalMutual;
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
                validation_context_type: verifies.then(|| self.validation()),
                ..CommonTlsContext::default()
            }),
            require_client_certificate: Some(BoolValue { value: demands }),
            ..DownstreamTlsContext::default()
        }
    }

    fn params(&self) -> Option<TlsParameters> {
        let settings = &self.settings;
        // With the mesh's own certificates the mesh's own rules hold.
        let inherits = settings.mode != ServerTlsMode::IstioMutual;
        let nothing = MeshTls::default();
        let defaults = if inherits { &self.defaults } else { &nothing };
        let oldest = match settings.min_protocol_version {
            TlsProtocol::Auto => oldest(defaults.min_protocol_version),
            said => version(said),
        };
        let suites =
            if settings.cipher_suites.is_empty() { &defaults.cipher_suites } else { &settings.cipher_suites };
        let curves =
            if settings.ecdh_curves.is_empty() { &defaults.ecdh_curves } else { &settings.ecdh_curves };
        let params = TlsParameters {
            tls_minimum_protocol_version: oldest.into(),
            tls_maximum_protocol_version: version(settings.max_protocol_version).into(),
            cipher_suites: only(suites, is_cipher_suite),
            ecdh_curves: only(curves, is_ecdh_curve),
            ..TlsParameters::default()
        };
        Some(params).filter(|params| *params != TlsParameters::default())
    }

    /// Whether secrets are asked for by name.
    fn is_by_name(&self) -> bool {
        let settings = &self.settings;
        settings.mode == ServerTlsMode::IstioMutual
            || !settings.credential_name.is_empty()
            || !settings.credential_names.is_empty()
    }

    fn certificates(&self) -> Vec<TlsCertificate> {
        if self.is_by_name() {
            return Vec::new();
        }
        let settings = &self.settings;
        let one = (!settings.server_certificate.is_empty())
            .then_some((&settings.server_certificate, &settings.private_key));
        let several = settings
            .tls_certificates
            .iter()
            .map(|certificate| (&certificate.server_certificate, &certificate.private_key));
        let paths = one.into_iter().chain(several);
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
        let several = settings.credential_names.iter();
        let one = Some(&settings.credential_name).filter(|name| several.len() == 0 && !name.is_empty());
        one.into_iter().chain(several).map(|name| sds_config::credential_secret(name)).collect()
    }

    fn validation(&self) -> common_tls_context::ValidationContextType {
        use common_tls_context::ValidationContextType as Kind;
        let settings = &self.settings;
        let roots = |path: &str| (!path.is_empty()).then(|| sds_config::file(path));
        let untrusted = settings.insecure_skip_verify == Some(true);
        let trust = if untrusted { Trust::AcceptUntrusted } else { Trust::VerifyTrustChain };
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
        let named = if settings.mode == ServerTlsMode::IstioMutual {
            Some(sds_config::workload_secret(sds_config::ROOT))
        } else if !settings.ca_cert_credential_name.is_empty() {
            Some(sds_config::credential_secret(&settings.ca_cert_credential_name))
        } else {
            let several = settings.credential_names.first();
            let name = several.or(Some(&settings.credential_name)).filter(|name| !name.is_empty());
            name.map(|name| sds_config::credential_secret(&format!("{name}{}", sds_config::ROOTS_SUFFIX)))
        };
        match named {
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

fn only(list: &[String], is_known: fn(&str) -> bool) -> Vec<String> {
    list.iter().filter(|name| is_known(name)).cloned().collect()
}

const fn oldest(version: MeshTlsProtocol) -> Version {
    match version {
        MeshTlsProtocol::Auto => Version::TlsAuto,
        MeshTlsProtocol::V1_2 => Version::TlSv12,
        MeshTlsProtocol::V1_3 => Version::TlSv13,
    }
}

/// Envoy's own minimum is 1.2.
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
    fn only_what_envoy_has_is_asked_of_it() {
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
    fn certificates_of_clients_are_verified_unless_somebody_says_otherwise() {
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
