//! Route configuration of an inbound filter chain: all requests go to the workload.

use pilot_proto::envoy::config::route::v3::{RetryPolicy, RouteConfiguration, VirtualHost};

use super::{default_route, route_action};
use crate::generate::proto::{no, number};
use crate::model::Protocol;

/// Route of an inbound filter chain.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct InboundRoute {
    /// Cluster of the workload port.
    pub cluster: String,
    /// Hostname of the service, for traces; empty if no service declares the port.
    pub host: String,
    /// Port of the service; 0 if no service declares it.
    pub port: u16,
    /// Protocol of the port.
    pub protocol: Protocol,
}

/// Generates the route configuration. Requests have no timeout.
pub(in crate::generate) fn inbound_route(inbound: &InboundRoute) -> RouteConfiguration {
    let mut action = route_action::to_cluster(&inbound.cluster);
    if inbound.protocol != Protocol::Grpc {
        action.retry_policy = Some(RetryPolicy {
            // The workload did not receive such a request. Envoy buffers requests for a retry, which delays gRPC streams.
            retry_on: "reset-before-request".into(),
            num_retries: number(2),
            ..RetryPolicy::default()
        });
    }
    let host = VirtualHost {
        name: format!("inbound|http|{}", inbound.port),
        domains: vec!["*".into()],
        routes: vec![default_route(action, &inbound.host, inbound.port)],
        ..VirtualHost::default()
    };
    RouteConfiguration {
        name: inbound.cluster.clone(),
        virtual_hosts: vec![host],
        validate_clusters: no(),
        ..RouteConfiguration::default()
    }
}
