//! Cluster and hash policy of a destination.

use pilot_proto::envoy::config::route::v3::route_action::HashPolicy;

use super::context::{HttpRules, RouteContext};
use crate::api::virtual_service::Destination;
use crate::model::{ClusterName, Direction};

/// Returns the cluster of a destination. The cluster may not exist; Envoy then answers 503.
///
/// Without a port in the destination it is the only port of the service, else the port of the request.
pub(super) fn cluster(
    rules: &HttpRules,
    destination: &Destination,
    context: &RouteContext<'_>,
) -> ClusterName {
    let resolved = rules.destination(&destination.host);
    let port = destination.port.and_then(|port| u16::try_from(port.number).ok()).filter(|port| *port != 0);
    ClusterName {
        direction: Direction::Outbound,
        port: port.or_else(|| resolved?.only_port).unwrap_or(context.port),
        subset: destination.subset.clone(),
        host: resolved.map_or_else(|| destination.host.clone(), |resolved| resolved.host.to_string()),
    }
}

/// Returns the hash policy of requests to a destination.
pub(super) fn hash_policy(
    rules: &HttpRules,
    destination: &Destination,
    cluster: &ClusterName,
) -> Option<HashPolicy> {
    rules.destination(&destination.host)?.hash_policies.policy(&cluster.subset, cluster.port)
}
