//! Where a proxy gets certificates from that are not files of its own.

use pilot_proto::envoy::config::core::v3::{
    AggregatedConfigSource, ApiConfigSource, ApiVersion, ConfigSource, GrpcService, api_config_source,
    config_source, grpc_service,
};
use pilot_proto::envoy::extensions::transport_sockets::tls::v3::SdsSecretConfig;
use std::time::Duration;

use super::proto::duration;

/// Istio's name for the workload's own certificate.
pub(super) const DEFAULT: &str = "default";
/// Istio's name for the roots of the mesh.
pub(super) const ROOT: &str = "ROOTCA";
/// Follows the name of a secret whose roots are meant.
pub(super) const ROOTS_SUFFIX: &str = "-cacert";

/// From the agent beside the proxy, over the cluster `sds-grpc` of the bootstrap.
pub(super) fn of_workload(name: &str) -> SdsSecretConfig {
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
pub(super) fn of_mesh(credential: &str) -> SdsSecretConfig {
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
