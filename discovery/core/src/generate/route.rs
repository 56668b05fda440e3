//! RDS: which cluster a request goes to, by its host.
//!
//! Without a `VirtualService` every path of a host leads to the one cluster of its port.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use pilot_proto::envoy::config::route::v3::{
    Decorator, DirectResponseAction, RetryPolicy, Route, RouteAction, RouteConfiguration, RouteMatch,
    VirtualHost, retry_policy, route, route_action, route_match,
};
use pilot_proto::envoy::extensions::retry::host::previous_hosts::v3::PreviousHostsPredicate;
use pilot_proto::mesh::OutboundTrafficMode;

use super::cluster::PASSTHROUGH;
use super::domains::{Domain, Origin, Ports, domains};
use super::proto::{any, duration, no, number};
use super::{Families, Reason, Rejected};
use crate::model::{ClusterName, Hostname, Protocol, ServicePort};
use crate::scope::Visible;

/// Name of the routes of the proxy port.
pub const HTTP_PROXY: &str = "http_proxy";

/// Everything a route configuration depends on.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct RouteInputs {
    /// Its name.
    pub name: Arc<str>,
    /// Which hosts it knows.
    pub hosts: Hosts,
    /// The services it leads to, oldest first.
    pub services: Arc<[Visible]>,
    /// DNS domain of the client.
    pub dns_domain: Arc<str>,
    /// Address families of the client.
    pub families: Families,
    /// What happens to every other host.
    pub unknown: OutboundTrafficMode,
}

/// Which hosts a route configuration knows.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Hosts {
    /// All that have this port.
    OnPort(u16),
    /// One service's, whatever a request calls it: the listener is that service's address.
    Only(u16),
    /// All, each with its ports.
    All,
    /// One service's with this port, for a gRPC library.
    Target(u16),
}

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

/// A route configuration.
pub fn route(inputs: &RouteInputs) -> (RouteConfiguration, Vec<Rejected>) {
    let (mut hosts, rejected) = virtual_hosts(inputs);
    hosts.sort_by(|a, b| a.name.cmp(&b.name));
    match inputs.hosts {
        Hosts::OnPort(_) | Hosts::All => hosts.push(everything_else(inputs.unknown)),
        Hosts::Only(_) => hosts.iter_mut().for_each(|host| host.domains = vec!["*".to_owned()]),
        Hosts::Target(_) => {
            let made = RouteConfiguration {
                name: inputs.name.to_string(),
                virtual_hosts: hosts,
                ..RouteConfiguration::default()
            };
            return (made, rejected);
        }
    }
    let made = RouteConfiguration {
        name: inputs.name.to_string(),
        virtual_hosts: hosts,
        // A route may arrive before its cluster; Envoy answers 503 meanwhile instead of refusing the whole table.
        validate_clusters: no(),
        max_direct_response_body_size_bytes: number(1024 * 1024),
        // At a proxy port only the port tells services of one host apart.
        ignore_port_in_host_matching: inputs.hosts != Hosts::All,
        ..RouteConfiguration::default()
    };
    (made, rejected)
}

/// Everything that comes in goes to the workload, and takes as long as it takes.
pub(super) fn inbound_route(inbound: &InboundRoute) -> RouteConfiguration {
    let mut action = forward(&inbound.cluster);
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

fn virtual_hosts(inputs: &RouteInputs) -> (Vec<VirtualHost>, Vec<Rejected>) {
    let declared: BTreeSet<String> =
        inputs.services.iter().map(|seen| seen.service.hostname.as_str().to_ascii_lowercase()).collect();
    // The domain of every other host is ours.
    let mut taken = BTreeMap::from([("*".to_owned(), Hostname::from("*"))]);
    let (mut hosts, mut rejected) = (Vec::new(), Vec::new());
    for seen in inputs.services.iter() {
        for port in ports(inputs.hosts, seen) {
            let host = &seen.service.hostname;
            let name = format!("{host}:{}", port.port);
            let mut kept = Vec::new();
            for domain in candidates(inputs, seen, port) {
                let key = domain.text.to_ascii_lowercase();
                let shadows = domain.origin == Origin::Shortened && declared.contains(&key);
                match taken.get(&key) {
                    None if shadows => (),
                    None => {
                        taken.insert(key, host.clone());
                        kept.push(domain.text);
                    }
                    Some(owner) if owner == host => (),
                    Some(_) => rejected.push(Rejected {
                        subject: format!("{} in {}", domain.text, inputs.name),
                        service: host.clone(),
                        reason: Reason::DuplicateDomain,
                    }),
                }
            }
            if !kept.is_empty() {
                let action = RouteAction {
                    retry_policy: Some(retries()),
                    ..forward(&ClusterName::outbound(port.port, host).to_string())
                };
                hosts.push(VirtualHost {
                    name,
                    domains: kept,
                    routes: vec![default_route(action, host.as_str(), port.port)],
                    include_request_attempt_count: true,
                    ..VirtualHost::default()
                });
            }
        }
    }
    (hosts, rejected)
}

/// Ports of a service that take requests here.
fn ports(hosts: Hosts, seen: &Visible) -> impl Iterator<Item = &ServicePort> {
    let wanted = move |port: &&ServicePort| match hosts {
        Hosts::OnPort(number) | Hosts::Only(number) | Hosts::Target(number) => port.port == number,
        Hosts::All => true,
    };
    // A gRPC library asks for the routes of whatever it is pointed at.
    let takes = move |port: &&ServicePort| {
        port.protocol.is_http() || port.protocol == Protocol::Auto || matches!(hosts, Hosts::Target(_))
    };
    let mut numbers = BTreeSet::new();
    seen.ports().filter(wanted).filter(takes).filter(move |port| numbers.insert(port.port))
}

fn candidates(inputs: &RouteInputs, seen: &Visible, port: &ServicePort) -> Vec<Domain> {
    let named = match inputs.hosts {
        Hosts::OnPort(_) | Hosts::Only(_) => Ports::Ignored,
        Hosts::All | Hosts::Target(_) => Ports::Named(port.port),
    };
    let mut found = domains(seen, named, &inputs.dns_domain, inputs.families);
    if inputs.hosts == Hosts::All && port.port != 80 {
        // At a proxy port a host without a port means port 80.
        found.retain(|domain| domain.text.ends_with(&format!(":{}", port.port)));
    }
    found
}

fn default_route(action: RouteAction, host: &str, port: u16) -> Route {
    Route {
        name: "default".into(),
        r#match: Some(every_path()),
        decorator: Some(Decorator { operation: format!("{host}:{port}/*"), ..Decorator::default() }),
        action: Some(route::Action::Route(action)),
        ..Route::default()
    }
}

fn every_path() -> RouteMatch {
    let path_specifier = Some(route_match::PathSpecifier::Prefix("/".into()));
    RouteMatch { path_specifier, ..RouteMatch::default() }
}

/// To a cluster, without a time limit of ours: Envoy's own 15 s would cut off what was fine without a proxy.
fn forward(cluster: &str) -> RouteAction {
    RouteAction {
        cluster_specifier: Some(route_action::ClusterSpecifier::Cluster(cluster.to_owned())),
        timeout: duration(Duration::ZERO),
        max_stream_duration: Some(route_action::MaxStreamDuration {
            max_stream_duration: duration(Duration::ZERO),
            grpc_timeout_header_max: duration(Duration::ZERO),
            grpc_timeout_header_offset: None,
        }),
        ..RouteAction::default()
    }
}

/// Retries that are safe for every request: the server did not see it, or asks for it.
fn retries() -> RetryPolicy {
    RetryPolicy {
        retry_on: "connect-failure,refused-stream,unavailable,cancelled,retriable-status-codes".into(),
        num_retries: number(2),
        retry_host_predicate: vec![retry_policy::RetryHostPredicate {
            name: "envoy.retry_host_predicates.previous_hosts".into(),
            config_type: any(&PreviousHostsPredicate {})
                .map(retry_policy::retry_host_predicate::ConfigType::TypedConfig),
        }],
        host_selection_retry_max_attempts: 5,
        ..RetryPolicy::default()
    }
}

fn everything_else(mode: OutboundTrafficMode) -> VirtualHost {
    let (name, action) = match mode {
        OutboundTrafficMode::AllowAny => ("allow_any", route::Action::Route(forward(PASSTHROUGH))),
        OutboundTrafficMode::RegistryOnly => (
            "block_all",
            route::Action::DirectResponse(DirectResponseAction {
                status: 502,
                ..DirectResponseAction::default()
            }),
        ),
    };
    VirtualHost {
        name: name.into(),
        domains: vec!["*".into()],
        routes: vec![Route {
            name: name.into(),
            r#match: Some(every_path()),
            action: Some(action),
            ..Route::default()
        }],
        include_request_attempt_count: true,
        ..VirtualHost::default()
    }
}
