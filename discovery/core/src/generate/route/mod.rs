//! RDS: which cluster a request goes to, by its host and by the rules for it.
//!
//! Without rules every path of a host leads to the one cluster of its port.
//!
//! ```text
//! RouteInputs ─▶ hosts (domains, who has them) ─▶ rules (order) ─▶ matches, headers, filters
//!                                                      └─▶ forward (destination, retry) or answer
//! ```

mod destination;
mod domains;
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

pub use destination::HashPolicies;
pub use http_routes::{HttpRules, RouteContext, Scheme, TranslatedRoutes, http_routes};
pub use inbound::InboundRoute;
pub(super) use inbound::inbound_route;
pub(super) use matches::takes_every_request;

use super::cluster::BLACK_HOLE;
use super::proto::{no, number};
use super::{IpFamilies, Rejected};
use crate::api::virtual_service::HttpRetry;
use crate::model::{Hostname, Protocol, Service, Shared};
use crate::push::Routing;
use crate::push::context::ObjectName;
use crate::scope::{Scope, Visible};

/// Name of the routes of the proxy port.
pub const HTTP_PROXY: &str = "http_proxy";

/// The longest body of a direct response; Istio's.
pub(super) const MAX_BODY: u32 = 1024 * 1024;

/// Everything a route configuration depends on.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct RouteInputs {
    /// Its name.
    pub name: Arc<str>,
    /// Which hosts it knows.
    pub hosts: HostSet,
    /// The services it leads to, oldest first.
    pub services: Arc<[RoutedService]>,
    /// Hosts that no service has, the one that counts first.
    pub host_only: Arc<[HostOnlyRules]>,
    /// Rules that count for none of these hosts.
    pub shadowed: Arc<[ShadowedRules]>,
    /// DNS domain of the client.
    pub dns_domain: Arc<str>,
    /// Address families of the client.
    pub families: IpFamilies,
    /// The cluster of every other host; of [`BLACK_HOLE`] they are answered 502.
    pub fallback_cluster: Arc<str>,
    /// What the mesh tries again where no rule says it; `None`: Istio's default.
    pub retries: Option<Arc<HttpRetry>>,
    /// What upstreams are told of requests.
    pub informational_headers: InformationalHeaders,
}

/// What upstreams are told of requests.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct InformationalHeaders {
    /// How often one was tried (`x-envoy-attempt-count`).
    pub attempts: bool,
    /// Which host it asked for, where a rule makes it another (`x-forwarded-host`).
    pub host: bool,
}

/// Which hosts a route configuration knows.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum HostSet {
    /// All that have this port.
    OnPort(u16),
    /// One service's, whatever a request calls it: the listener is that service's address.
    Only(u16),
    /// All, each with its ports.
    All,
    /// One service's with this port, for a gRPC library.
    Target(u16),
}

/// A service that requests go to.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct RoutedService {
    /// The service.
    pub service: Shared<Service>,
    /// Its other names.
    pub aliases: Arc<[Hostname]>,
    /// The ports of it that take requests here.
    pub ports: Vec<u16>,
    /// What requests are hashed by that no rule is for.
    pub hashing: HashPolicies,
    /// The rules for it.
    pub rules: Option<HttpRules>,
}

/// Hosts that there are rules for, and no service.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct HostOnlyRules {
    /// The hosts.
    pub hosts: Vec<Hostname>,
    /// The rules.
    pub rules: HttpRules,
}

/// Rules for a host that others count for.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct ShadowedRules {
    /// The host.
    pub host: Hostname,
    /// The object.
    pub object: ObjectName,
}

// === impl Reached ===

impl RoutedService {
    /// A service as these routes know it, with the rules that are for it.
    pub fn of(visible: &Visible, hosts: HostSet, routing: Option<&Shared<Routing>>, scope: &Scope) -> Self {
        let http = routing.filter(|routing| !routing.spec.http.is_empty());
        Self {
            service: visible.service.clone(),
            aliases: visible.aliases.clone(),
            ports: hosts.ports(visible),
            hashing: visible.rule.as_ref().map(|rule| HashPolicies::of(rule)).unwrap_or_default(),
            rules: http.map(|routing| HttpRules::of(routing, scope)),
        }
    }
}

// === impl Hosts ===

impl HostSet {
    /// Ports of a service that take requests here, each once.
    fn ports(self, visible: &Visible) -> Vec<u16> {
        let mut numbers: Vec<u16> = Vec::new();
        for port in visible.ports() {
            let wanted = match self {
                Self::OnPort(number) | Self::Only(number) | Self::Target(number) => port.port == number,
                Self::All => true,
            };
            // A gRPC library asks for the routes of whatever it is pointed at.
            let takes =
                port.protocol.is_http() || port.protocol == Protocol::Auto || matches!(self, Self::Target(_));
            let takes = takes && visible.service.is_proxied_at(port);
            if wanted && takes && !numbers.contains(&port.port) {
                numbers.push(port.port);
            }
        }
        numbers
    }
}

// === impl Told ===

impl Default for InformationalHeaders {
    /// Istio's.
    fn default() -> Self {
        Self { attempts: true, host: false }
    }
}

/// A route configuration.
pub fn route(inputs: &RouteInputs) -> (RouteConfiguration, Vec<Rejected>) {
    let (mut hosts, rejected) = virtual_hosts::virtual_hosts(inputs);
    hosts.sort_by(|a, b| a.name.cmp(&b.name));
    match inputs.hosts {
        HostSet::OnPort(_) | HostSet::All => hosts.push(everything_else(inputs)),
        HostSet::Only(_) => hosts.iter_mut().for_each(|host| host.domains = vec!["*".to_owned()]),
        HostSet::Target(_) => {
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
        max_direct_response_body_size_bytes: number(MAX_BODY),
        // At a proxy port only the port tells services of one host apart.
        ignore_port_in_host_matching: inputs.hosts != HostSet::All,
        ..RouteConfiguration::default()
    };
    (made, rejected)
}

/// The route of a host without rules.
fn default_route(action: RouteAction, host: &str, port: u16) -> Route {
    Route {
        name: "default".into(),
        r#match: Some(matches::every_request()),
        decorator: Some(Decorator { operation: format!("{host}:{port}/*"), ..Decorator::default() }),
        action: Some(route::Action::Route(action)),
        ..Route::default()
    }
}

fn everything_else(inputs: &RouteInputs) -> VirtualHost {
    let fallback_cluster = &*inputs.fallback_cluster;
    let (name, action) = if fallback_cluster == BLACK_HOLE {
        let refused = DirectResponseAction { status: 502, ..DirectResponseAction::default() };
        ("block_all", route::Action::DirectResponse(refused))
    } else {
        ("allow_any", route::Action::Route(route_action::to(fallback_cluster)))
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
        include_request_attempt_count: inputs.informational_headers.attempts,
        ..VirtualHost::default()
    }
}
