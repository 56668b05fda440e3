//! The routes of an inbound filter chain: everything goes to the workload.

use pilot_proto::envoy::config::route::v3::{RetryPolicy, RouteConfiguration, VirtualHost};

use super::{default_route, route_action};
use crate::generate::proto::{no, number};
use crate::model::Protocol;

/// The one route of an inbound filter chain.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct InboundRoute {
    /// Cluster of the workload's port.
    pub cluster: String,
    /// Name of the service, for traces; empty when no service declares the port.
    pub host: String,
    /// Port of the service; 0 when no service declares it.
    pub port: u16,
    /// What is spoken there.
    pub protocol: Protocol,
}

/// Everything that comes in goes to the workload, and takes as long as it takes.
pub(in crate::generate) fn inbound_route(inbound: &InboundRoute) -> RouteConfiguration {
    let mut action = route_action::to(&inbound.cluster);
    if inbound.protocol != Protocol::Grpc {
        action.retry_policy = Some(RetryPolicy {
            // The workload never saw such a request; gRPC streams would be held back for it.
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
