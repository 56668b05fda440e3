//! `LocalityLbEndpoints` messages.

use std::collections::BTreeMap;

use pilot_proto::envoy::config::core::v3::{self as core, Metadata};
use pilot_proto::envoy::config::endpoint::v3::{
    self as envoy, LbEndpoint, LocalityLbEndpoints, lb_endpoint::HostIdentifier,
};
use pilot_proto::google::protobuf::Struct;

use super::{LbHost, LbTarget, LocalityGroup, TlsModeMetadata, accepts_mutual_tls};
use crate::generate::proto::{address, number, object, pipe, string};
use crate::model::{Endpoint, EndpointAddress, Health, TlsMode};

pub(super) fn group(group: &LocalityGroup<'_>, tls_mode_metadata: TlsModeMetadata) -> LocalityLbEndpoints {
    LocalityLbEndpoints {
        // Always set: gRPC libraries reject a group without a locality.
        locality: Some(core::Locality {
            region: group.locality.region.to_string(),
            zone: group.locality.zone.to_string(),
            sub_zone: group.locality.sub_zone.to_string(),
        }),
        lb_endpoints: group.hosts.iter().map(|host| endpoint(host, tls_mode_metadata)).collect(),
        load_balancing_weight: number(group.weight()),
        priority: group.priority,
        ..LocalityLbEndpoints::default()
    }
}

fn endpoint(host: &LbHost<'_>, tls_mode_metadata: TlsModeMetadata) -> LbEndpoint {
    let mut filters = BTreeMap::new();
    let (endpoint_address, port, health, mutual_tls) = match host.target {
        LbTarget::Endpoint(endpoint) => {
            filters.extend(workload(endpoint).map(|workload| ("istio".to_owned(), workload)));
            (
                &endpoint.address,
                endpoint.port,
                status(endpoint.health),
                accepts_mutual_tls(endpoint, tls_mode_metadata),
            )
        }
        LbTarget::Gateway(gateway) => (&gateway.address, gateway.port, core::HealthStatus::Unknown, true),
    };
    if mutual_tls {
        let mode = object([("tlsMode", string(TlsMode::Istio.as_str()))]);
        filters.insert("envoy.transport_socket_match".to_owned(), mode);
    }
    let address = match endpoint_address {
        EndpointAddress::Ip(ip) => address(&ip.to_string(), port),
        EndpointAddress::Dns(host) => address(host, port),
        EndpointAddress::Unix(path) => pipe(path),
    };
    LbEndpoint {
        health_status: health.into(),
        metadata: (!filters.is_empty()).then(|| Metadata { filter_metadata: filters, ..Metadata::default() }),
        load_balancing_weight: number(host.weight),
        host_identifier: Some(HostIdentifier::Endpoint(envoy::Endpoint {
            address,
            ..envoy::Endpoint::default()
        })),
    }
}

const fn status(health: Health) -> core::HealthStatus {
    match health {
        Health::Healthy => core::HealthStatus::Healthy,
        Health::Unhealthy => core::HealthStatus::Unhealthy,
        Health::Draining | Health::Terminating => core::HealthStatus::Draining,
    }
}

/// Workload metadata for access logs and telemetry: `name;namespace;canonical name;canonical revision;cluster`.
fn workload(endpoint: &Endpoint) -> Option<Struct> {
    if endpoint.workload.is_empty() && endpoint.namespace.as_str().is_empty() {
        return None;
    }
    let label = |keys: &[&str]| keys.iter().find_map(|key| endpoint.labels.get(*key)).map(String::as_str);
    let name = label(&["service.istio.io/canonical-name", "app.kubernetes.io/name", "app"]);
    let revision = label(&["service.istio.io/canonical-revision", "app.kubernetes.io/version", "version"]);
    let text = format!(
        "{};{};{};{};{}",
        endpoint.workload,
        endpoint.namespace,
        name.unwrap_or(&endpoint.workload),
        revision.unwrap_or("latest"),
        endpoint.cluster().unwrap_or_default()
    );
    Some(object([("workload", string(&text))]))
}
