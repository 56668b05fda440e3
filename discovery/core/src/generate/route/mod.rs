//! RDS: virtual hosts and routes.
//!
//! A host without rules has one route, to the cluster of its port.
//!
//! ```text
//! RouteInputs ─▶ virtual_hosts (domains and their owners) ─▶ http_routes ─▶ matches, headers, per_filter_config
//!                                                                └─▶ route_action (destination, retry), redirect
//!                                                                    or direct_response
//! ```

mod context;
mod destination;
mod direct_response;
mod domains;
mod hash_policy;
mod headers;
mod http_routes;
mod inbound;
mod matches;
mod per_filter_config;
mod redirect;
mod retry;
mod route_action;
#[cfg(test)]
mod tests;
mod virtual_hosts;

use std::sync::Arc;

use pilot_proto::envoy::config::route::v3::{
    Decorator, DirectResponseAction, Route, RouteAction, RouteConfiguration, VirtualHost, route,
};

pub use context::{HttpRules, InformationalHeaders, RouteContext, Scheme};
pub use hash_policy::HashPolicies;
pub use http_routes::{TranslatedRoutes, http_routes};
pub use inbound::InboundRoute;
pub(super) use inbound::inbound_route;
pub(super) use matches::matches_every_request;

use super::cluster::BLACK_HOLE;
use super::proto::{no, number};
use super::{IpFamilies, Rejected};
use crate::api::virtual_service::HttpRetry;
use crate::model::{Hostname, Protocol, Service, Shared};
use crate::push::Routing;
use crate::push::context::ObjectName;
use crate::scope::{Scope, Visible};

/// Name of the route configuration of the HTTP proxy port.
pub const HTTP_PROXY: &str = "http_proxy";

/// Maximum length of the body of a direct response, in bytes; Istio's value.
pub(super) const MAX_BODY: u32 = 1024 * 1024;

/// Inputs of a route configuration, and its cache key.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct RouteInputs {
    /// Name of the route configuration.
    pub name: Arc<str>,
    /// Selection of the virtual hosts.
    pub hosts: HostSet,
    /// Services, oldest first.
    pub services: Arc<[RoutedService]>,
    /// Rules for hosts without a service, in order of precedence.
    pub host_only: Arc<[HostOnlyRules]>,
    /// Rules that have no effect on these hosts; they are reported.
    pub shadowed: Arc<[ShadowedRules]>,
    /// DNS domain of the client.
    pub dns_domain: Arc<str>,
    /// IP families of the client.
    pub families: IpFamilies,
    /// Cluster of all other hosts; with [`BLACK_HOLE`] requests to them are answered with 502.
    pub fallback_cluster: Arc<str>,
    /// Retry policy of rules without one (`defaultHttpRetryPolicy`); `None`: Istio's default.
    pub retries: Option<Arc<HttpRetry>>,
    /// Headers that describe the request to the upstream.
    pub informational_headers: InformationalHeaders,
}

/// Selection of the virtual hosts of a route configuration.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum HostSet {
    /// Hosts with this port.
    OnPort(u16),
    /// One service with this port. The listener has the address of the service, so every domain leads to it.
    Only(u16),
    /// All hosts with all their ports.
    All,
    /// One service with this port, for a gRPC library.
    Target(u16),
}

/// Service of a virtual host.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct RoutedService {
    /// The service.
    pub service: Shared<Service>,
    /// Aliases of the hostname.
    pub aliases: Arc<[Hostname]>,
    /// Ports of the service that belong to the route configuration.
    pub ports: Vec<u16>,
    /// Hash policies of requests without a rule.
    pub hash_policies: HashPolicies,
    /// HTTP rules of the `VirtualService` for the host.
    pub rules: Option<HttpRules>,
}

/// HTTP rules for hosts without a service.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct HostOnlyRules {
    /// The hosts.
    pub hosts: Vec<Hostname>,
    /// The rules.
    pub rules: HttpRules,
}

/// `VirtualService` that has no effect on a host because another one takes precedence.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct ShadowedRules {
    /// The host.
    pub host: Hostname,
    /// Name of the `VirtualService`.
    pub object: ObjectName,
}

// === impl RoutedService ===

impl RoutedService {
    /// Selects the ports of a service and resolves its rules.
    pub fn of(visible: &Visible, hosts: HostSet, routing: Option<&Shared<Routing>>, scope: &Scope) -> Self {
        let http = routing.filter(|routing| !routing.spec.http.is_empty());
        Self {
            service: visible.service.clone(),
            aliases: visible.aliases.clone(),
            ports: hosts.ports(visible),
            hash_policies: visible.rule.as_ref().map(|rule| HashPolicies::of(rule)).unwrap_or_default(),
            rules: http.map(|routing| HttpRules::of(routing, scope)),
        }
    }
}

// === impl HostSet ===

impl HostSet {
    /// Returns the distinct ports of a service that belong to the route configuration.
    fn ports(self, visible: &Visible) -> Vec<u16> {
        let mut numbers: Vec<u16> = Vec::new();
        for port in visible.ports() {
            let selected = match self {
                Self::OnPort(number) | Self::Only(number) | Self::Target(number) => port.port == number,
                Self::All => true,
            };
            // A gRPC library requests the routes of its target whatever the protocol of the port.
            let is_http =
                port.protocol.is_http() || port.protocol == Protocol::Auto || matches!(self, Self::Target(_));
            let is_http = is_http && visible.service.is_proxied_at(port);
            if selected && is_http && !numbers.contains(&port.port) {
                numbers.push(port.port);
            }
        }
        numbers
    }
}

/// Generates a route configuration.
pub fn route(inputs: &RouteInputs) -> (RouteConfiguration, Vec<Rejected>) {
    let (mut hosts, rejected) = virtual_hosts::virtual_hosts(inputs);
    hosts.sort_by(|a, b| a.name.cmp(&b.name));
    match inputs.hosts {
        HostSet::OnPort(_) | HostSet::All => hosts.push(fallback(inputs)),
        HostSet::Only(_) => hosts.iter_mut().for_each(|host| host.domains = vec!["*".to_owned()]),
        HostSet::Target(_) => {
            let config = RouteConfiguration {
                name: inputs.name.to_string(),
                virtual_hosts: hosts,
                ..RouteConfiguration::default()
            };
            return (config, rejected);
        }
    }
    let config = RouteConfiguration {
        name: inputs.name.to_string(),
        virtual_hosts: hosts,
        // A route may arrive before its cluster. Envoy then answers 503 instead of rejecting the route configuration.
        validate_clusters: no(),
        max_direct_response_body_size_bytes: number(MAX_BODY),
        // On an HTTP proxy port the port in the host distinguishes services with the same hostname.
        ignore_port_in_host_matching: inputs.hosts != HostSet::All,
        ..RouteConfiguration::default()
    };
    (config, rejected)
}

/// Returns the route of a host without rules.
fn default_route(action: RouteAction, host: &str, port: u16) -> Route {
    Route {
        name: "default".into(),
        r#match: Some(matches::every_request()),
        decorator: Some(Decorator { operation: format!("{host}:{port}/*"), ..Decorator::default() }),
        action: Some(route::Action::Route(action)),
        ..Route::default()
    }
}

/// Returns the virtual host of all hosts that no other virtual host matches.
fn fallback(inputs: &RouteInputs) -> VirtualHost {
    let fallback_cluster = &*inputs.fallback_cluster;
    let (name, action) = if fallback_cluster == BLACK_HOLE {
        let response = DirectResponseAction { status: 502, ..DirectResponseAction::default() };
        ("block_all", route::Action::DirectResponse(response))
    } else {
        ("allow_any", route::Action::Route(route_action::to_cluster(fallback_cluster)))
    };
    VirtualHost {
        name: name.into(),
        domains: vec!["*".into()],
        routes: vec![Route {
            name: name.into(),
            r#match: Some(matches::every_request()),
            action: Some(action),
            ..Route::default()
        }],
        include_request_attempt_count: inputs.informational_headers.attempt_count,
        ..VirtualHost::default()
    }
}
