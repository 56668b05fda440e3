//! TLS that ends at a listener.
//!
//! Certificates are files, or secrets that the proxy asks for by name: from the control plane (`kubernetes://<name>`), or,
//! the mesh's own, from the agent beside it (`default`, `ROOTCA`).

use pilot_proto::envoy::config::core::v3::{
    ApiConfigSource, ApiVersion, ConfigSource, DataSource, GrpcService, TransportSocket, api_config_source,
    config_source, data_source, grpc_service, transport_socket,
};
use pilot_proto::envoy::extensions::transport_sockets::tls::v3::{
    CertificateValidationContext, CommonTlsContext, DownstreamTlsContext, SdsSecretConfig,
    SubjectAltNameMatcher, TlsCertificate, TlsParameters, common_tls_context,
    subject_alt_name_matcher::SanType, tls_parameters::TlsProtocol as Version,
};
use pilot_proto::envoy::r#type::matcher::v3::{StringMatcher, string_matcher::MatchPattern};
use pilot_proto::google::protobuf::BoolValue;

use super::proto::{ads, any};
use crate::api::gateway::{ServerTls, ServerTlsMode, TlsProtocol};

/// How TLS ends.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Termination {
    /// What the server says.
    pub settings: ServerTls,
    /// What is inside.
    pub inside: Inside,
}

/// What is inside TLS.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Inside {
    /// HTTP.
    Http,
    /// Anything.
    Bytes,
}

/// Cluster of the agent beside the proxy, in its bootstrap.
const AGENT: &str = "sds-grpc";

// === impl Termination ===

impl Termination {
    pub(super) fn socket(&self) -> TransportSocket {
        let config = any(&self.context()).map(transport_socket::ConfigType::TypedConfig);
        TransportSocket { name: "envoy.transport_sockets.tls".into(), config_type: config }
    }

    fn context(&self) -> DownstreamTlsContext {
        let mode = self.settings.mode;
        let demands = matches!(mode, ServerTlsMode::Mutual | ServerTlsMode::IstioMutual);
        let verifies = demands || mode == ServerTlsMode::OptionalMutual;
        let alpn: &[&str] = match self.inside {
            Inside::Bytes if mode == ServerTlsMode::IstioMutual => &["istio-peer-exchange", "h2", "http/1.1"],
            _ => &["h2", "http/1.1"],
        };
        DownstreamTlsContext {
            common_tls_context: Some(CommonTlsContext {
                alpn_protocols: alpn.iter().map(|&name| name.to_owned()).collect(),
                tls_params: self.params(),
                tls_certificates: self.certificates(),
                tls_certificate_sds_secret_configs: self.secrets(),
                validation_context_type: verifies.then(|| self.validation()).flatten(),
                ..CommonTlsContext::default()
            }),
            require_client_certificate: Some(BoolValue { value: demands }),
            ..DownstreamTlsContext::default()
        }
    }

    fn params(&self) -> Option<TlsParameters> {
        let settings = &self.settings;
        let params = TlsParameters {
            tls_minimum_protocol_version: version(settings.min_protocol_version).into(),
            tls_maximum_protocol_version: version(settings.max_protocol_version).into(),
            cipher_suites: settings.cipher_suites.clone(),
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
                certificate_chain: Some(file(certificate)),
                private_key: Some(file(key)),
                ..TlsCertificate::default()
            })
            .collect()
    }

    fn secrets(&self) -> Vec<SdsSecretConfig> {
        let settings = &self.settings;
        if settings.mode == ServerTlsMode::IstioMutual {
            return vec![of_agent("default")];
        }
        let several = settings.credential_names.iter();
        let one = Some(&settings.credential_name).filter(|name| several.len() == 0 && !name.is_empty());
        one.into_iter().chain(several).map(|name| of_control_plane(name, "")).collect()
    }

    fn validation(&self) -> Option<common_tls_context::ValidationContextType> {
        use common_tls_context::ValidationContextType as Kind;
        let settings = &self.settings;
        let roots = |path: &str| (!path.is_empty()).then(|| file(path));
        let context = CertificateValidationContext {
            match_typed_subject_alt_names: settings
                .subject_alt_names
                .iter()
                .flat_map(|name| exactly(name))
                .collect(),
            verify_certificate_spki: settings.verify_certificate_spki.clone(),
            verify_certificate_hash: settings.verify_certificate_hash.clone(),
            crl: roots(&settings.ca_crl),
            ..CertificateValidationContext::default()
        };
        let named = if settings.mode == ServerTlsMode::IstioMutual {
            Some(of_agent("ROOTCA"))
        } else if !settings.ca_cert_credential_name.is_empty() {
            Some(of_control_plane(&settings.ca_cert_credential_name, ""))
        } else {
            let several = settings.credential_names.first();
            let name = several.or(Some(&settings.credential_name)).filter(|name| !name.is_empty());
            name.map(|name| of_control_plane(name, "-cacert"))
        };
        match named {
            Some(secret) => Some(Kind::CombinedValidationContext(
                common_tls_context::CombinedCertificateValidationContext {
                    default_validation_context: Some(context),
                    validation_context_sds_secret_config: Some(secret),
                    ..common_tls_context::CombinedCertificateValidationContext::default()
                },
            )),
            None => Some(Kind::ValidationContext(CertificateValidationContext {
                trusted_ca: roots(&settings.ca_certificates),
                ..context
            })),
        }
    }
}

/// A name may be of a host or of an identity; Envoy asks which.
fn exactly(name: &str) -> [SubjectAltNameMatcher; 2] {
    [SanType::Uri, SanType::Dns].map(|kind| SubjectAltNameMatcher {
        san_type: kind.into(),
        matcher: Some(StringMatcher {
            match_pattern: Some(MatchPattern::Exact(name.to_owned())),
            ..StringMatcher::default()
        }),
        ..SubjectAltNameMatcher::default()
    })
}

fn file(path: &str) -> DataSource {
    DataSource { specifier: Some(data_source::Specifier::Filename(path.to_owned())), ..DataSource::default() }
}

fn of_control_plane(name: &str, suffix: &str) -> SdsSecretConfig {
    let known =
        ["kubernetes://", "kubernetes-gateway://", "configmap://", "builtin://", "file-cert:", "file-root:"];
    let name = if known.iter().any(|scheme| name.starts_with(scheme)) {
        format!("{name}{suffix}")
    } else {
        format!("kubernetes://{name}{suffix}")
    };
    SdsSecretConfig { name, sds_config: ads() }
}

/// The agent serves the mesh's own certificates on a socket that only its proxy is told of.
fn of_agent(name: &str) -> SdsSecretConfig {
    let service = GrpcService {
        target_specifier: Some(grpc_service::TargetSpecifier::EnvoyGrpc(grpc_service::EnvoyGrpc {
            cluster_name: AGENT.into(),
            ..grpc_service::EnvoyGrpc::default()
        })),
        ..GrpcService::default()
    };
    let source = ApiConfigSource {
        api_type: api_config_source::ApiType::Grpc.into(),
        transport_api_version: ApiVersion::V3.into(),
        grpc_services: vec![service],
        set_node_on_first_message_only: true,
        ..ApiConfigSource::default()
    };
    SdsSecretConfig {
        name: name.into(),
        sds_config: Some(ConfigSource {
            resource_api_version: ApiVersion::V3.into(),
            config_source_specifier: Some(config_source::ConfigSourceSpecifier::ApiConfigSource(source)),
            ..ConfigSource::default()
        }),
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
