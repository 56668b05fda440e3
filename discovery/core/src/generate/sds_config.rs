//! Where a proxy gets certificates from, and whose they may be.

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

/// Istio's name for the workload's own certificate.
pub(super) const DEFAULT: &str = "default";
/// Istio's name for the roots of the mesh.
pub(super) const ROOT: &str = "ROOTCA";
/// Follows the name of a secret whose roots are meant.
pub(super) const ROOTS_SUFFIX: &str = "-cacert";

/// From the agent beside the proxy, over the cluster `sds-grpc` of the bootstrap.
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
            // Without a certificate no connection of the mesh succeeds: waiting is the better failure.
            initial_fetch_timeout: duration(Duration::ZERO),
            resource_api_version: ApiVersion::V3.into(),
            config_source_specifier: Some(config_source::ConfigSourceSpecifier::ApiConfigSource(agent)),
            ..ConfigSource::default()
        }),
    }
}

/// From the control plane: a `credentialName`, a Kubernetes secret unless it says what else it is.
pub(super) fn credential_secret(credential: &str) -> SdsSecretConfig {
    let spelled = ["kubernetes://", "kubernetes-gateway://", "configmap://"];
    let name = if spelled.iter().any(|scheme| credential.starts_with(scheme)) {
        credential.to_owned()
    } else {
        format!("kubernetes://{credential}")
    };
    SdsSecretConfig {
        name,
        sds_config: Some(ConfigSource {
            // There may be no such secret: what needs it fails, after Envoy's 15 s, and nothing waits for it.
            resource_api_version: ApiVersion::V3.into(),
            config_source_specifier: Some(config_source::ConfigSourceSpecifier::Ads(
                AggregatedConfigSource {},
            )),
            ..ConfigSource::default()
        }),
    }
}

/// Envoy wants to know what kind of name it is; the name itself tells.
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

/// A file that Envoy reads.
pub(super) fn file(path: &str) -> DataSource {
    DataSource { specifier: Some(data_source::Specifier::Filename(path.to_owned())), ..DataSource::default() }
}
