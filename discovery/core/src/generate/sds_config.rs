//! SDS configs and subject alternative names of TLS contexts.

use std::net::IpAddr;
use std::time::Duration;

use pilot_proto::envoy::config::core::v3::{
    AggregatedConfigSource, ApiConfigSource, ApiVersion, ConfigSource, DataSource, GrpcService,
    api_config_source, config_source, data_source, grpc_service,
};
use pilot_proto::envoy::extensions::transport_sockets::tls::v3::{
    SdsSecretConfig, SubjectAltNameMatcher, subject_alt_name_matcher::SanType,
};
use pilot_proto::envoy::r#type::matcher::v3::{StringMatcher, string_matcher::MatchPattern};

use super::proto::duration;

/// Istio's secret name of the workload certificate.
pub(super) const DEFAULT: &str = "default";
/// Istio's secret name of the mesh root certificates.
pub(super) const ROOT: &str = "ROOTCA";
/// Suffix of secret names for the CA certificates of a credential.
pub(super) const ROOTS_SUFFIX: &str = "-cacert";

/// Secret from the agent, through the bootstrap cluster `sds-grpc`.
pub(super) fn workload_secret(name: &str) -> SdsSecretConfig {
    let target = grpc_service::TargetSpecifier::EnvoyGrpc(grpc_service::EnvoyGrpc {
        cluster_name: "sds-grpc".into(),
        ..grpc_service::EnvoyGrpc::default()
    });
    let agent = ApiConfigSource {
        api_type: api_config_source::ApiType::Grpc.into(),
        set_node_on_first_message_only: true,
        transport_api_version: ApiVersion::V3.into(),
        grpc_services: vec![GrpcService { target_specifier: Some(target), ..GrpcService::default() }],
        ..ApiConfigSource::default()
    };
    SdsSecretConfig {
        name: name.to_owned(),
        sds_config: Some(ConfigSource {
            // No fetch timeout: without a certificate every mesh connection would fail.
            initial_fetch_timeout: duration(Duration::ZERO),
            resource_api_version: ApiVersion::V3.into(),
            config_source_specifier: Some(config_source::ConfigSourceSpecifier::ApiConfigSource(agent)),
            ..ConfigSource::default()
        }),
    }
}

/// Secret from the control plane, by `credentialName`; a Kubernetes secret unless a scheme says otherwise.
pub(super) fn credential_secret(credential: &str) -> SdsSecretConfig {
    let schemes = ["kubernetes://", "kubernetes-gateway://", "configmap://"];
    let name = if schemes.iter().any(|scheme| credential.starts_with(scheme)) {
        credential.to_owned()
    } else {
        format!("kubernetes://{credential}")
    };
    SdsSecretConfig {
        name,
        sds_config: Some(ConfigSource {
            // The secret may not exist. After Envoy's fetch timeout of 15 s connections that need it fail and warming ends.
            resource_api_version: ApiVersion::V3.into(),
            config_source_specifier: Some(config_source::ConfigSourceSpecifier::Ads(
                AggregatedConfigSource {},
            )),
            ..ConfigSource::default()
        }),
    }
}

/// Exact match of a subject alternative name; its type follows from the syntax.
pub(super) fn exact_san(name: &str) -> SubjectAltNameMatcher {
    let kind = if name.contains("://") {
        SanType::Uri
    } else if name.parse::<IpAddr>().is_ok() {
        SanType::IpAddress
    } else if name.contains('@') {
        SanType::Email
    } else {
        SanType::Dns
    };
    SubjectAltNameMatcher {
        san_type: kind.into(),
        matcher: Some(StringMatcher {
            match_pattern: Some(MatchPattern::Exact(name.to_owned())),
            ..StringMatcher::default()
        }),
        ..SubjectAltNameMatcher::default()
    }
}

/// Data source that reads a file.
pub(super) fn file(path: &str) -> DataSource {
    DataSource { specifier: Some(data_source::Specifier::Filename(path.to_owned())), ..DataSource::default() }
}
