//! Route configurations of gateways, from the `VirtualService`s bound to their `Gateway`s.
//!
//! A host has a virtual host if both a server and a `VirtualService` name it. It has the rules of all such objects in their
//! order. Hosts with equal rules share a virtual host, so that their routes are sent once.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use pilot_proto::envoy::config::route::v3::{
    Route, RouteConfiguration, VirtualHost, virtual_host::TlsRequirementType,
};

use super::{GatewayInputs, GatewayServer};
use crate::api::virtual_service::HttpRetry;
use crate::generate::Rejected;
use crate::generate::proto::{no, number};
use crate::generate::route::{
    HttpRules, InformationalHeaders, MAX_BODY, RouteContext, Scheme, http_routes, matches_every_request,
};
use crate::model::Hostname;

/// Inputs of a route configuration of a gateway, and its cache key.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct GatewayRouteInputs {
    /// Name of the route configuration.
    pub name: Arc<str>,
    /// Servers; empty if they were removed and the listener still refers to the routes.
    pub servers: Vec<RoutedServer>,
    /// Retry policy of rules without one (`defaultHttpRetryPolicy`); `None`: Istio's default.
    pub retries: Option<Arc<HttpRetry>>,
    /// Headers that describe the request to the upstream.
    pub informational_headers: InformationalHeaders,
}

/// Properties of a server that its routes depend on.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct RoutedServer {
    /// `<namespace>/<name>` of the `Gateway`.
    pub gateway: String,
    /// Declared port.
    pub port: u16,
    /// Scheme of the requests.
    pub scheme: Scheme,
    /// Hosts of the server.
    pub hosts: Vec<Hostname>,
    /// Redirect of plaintext requests.
    pub https_redirect: HttpsRedirect,
    /// HTTP rules, with the hosts they have in common with the server.
    pub rules: Vec<(HttpRules, BTreeSet<Hostname>)>,
}

/// Redirect of plaintext requests (`httpsRedirect`).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum HttpsRedirect {
    /// Requests are served.
    Disabled,
    /// Clients are redirected to HTTPS.
    Enabled,
}

/// Virtual host under construction: indexes of its translated rules.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
struct HostRoutes {
    rules: Vec<usize>,
    redirected: bool,
}

/// Generates a route configuration.
pub fn gateway_routes(inputs: &GatewayRouteInputs) -> (RouteConfiguration, Vec<Rejected>) {
    let mut rejected = Vec::new();
    let mut translated: Vec<Vec<Route>> = Vec::new();
    let mut hosts: BTreeMap<Hostname, HostRoutes> = BTreeMap::new();
    for server in &inputs.servers {
        let redirected = server.https_redirect == HttpsRedirect::Enabled;
        let context = RouteContext {
            gateway: &server.gateway,
            port: server.port,
            scheme: server.scheme,
            retries: inputs.retries.as_deref(),
            informational_headers: inputs.informational_headers,
        };
        for (rules, common) in &server.rules {
            let mut host_routes = http_routes(rules, &context);
            rejected.append(&mut host_routes.rejected);
            translated.push(host_routes.routes);
            for host in common {
                let host = hosts.entry(host.clone()).or_default();
                host.rules.push(translated.len() - 1);
                host.redirected |= redirected;
            }
        }
        if redirected {
            for host in &server.hosts {
                hosts.entry(host.clone()).or_default().redirected = true;
            }
        }
    }
    let port = inputs.servers.first().map_or(0, |server| server.port);
    let mut virtual_hosts = virtual_hosts(hosts, (&translated, inputs.informational_headers), port);
    if virtual_hosts.is_empty() && !inputs.servers.is_empty() {
        virtual_hosts.push(VirtualHost {
            name: format!("blackhole:{port}"),
            domains: vec!["*".into()],
            ..VirtualHost::default()
        });
    }
    let host_routes = RouteConfiguration {
        name: inputs.name.to_string(),
        virtual_hosts,
        validate_clusters: no(),
        ignore_port_in_host_matching: true,
        max_direct_response_body_size_bytes: number(MAX_BODY),
        ..RouteConfiguration::default()
    };
    (host_routes, rejected)
}

/// Combines hosts with equal rules; the virtual host has the name of the first.
fn virtual_hosts(
    hosts: BTreeMap<Hostname, HostRoutes>,
    (translated, informational_headers): (&[Vec<Route>], InformationalHeaders),
    port: u16,
) -> Vec<VirtualHost> {
    let mut by_routes: BTreeMap<HostRoutes, Vec<Hostname>> = BTreeMap::new();
    for (host, host_routes) in hosts {
        by_routes.entry(host_routes).or_default().push(host);
    }
    let mut virtual_hosts: Vec<VirtualHost> = by_routes
        .into_iter()
        .filter_map(|(host_routes, hosts)| {
            let routes = host_routes.rules.iter().filter_map(|context| translated.get(*context)).flatten();
            // Routes that match every request are last, whichever object defines them; the others keep their order.
            let (all, some): (Vec<Route>, Vec<Route>) =
                routes.cloned().partition(|route| route.r#match.as_ref().is_some_and(matches_every_request));
            let require_tls =
                if host_routes.redirected { TlsRequirementType::All } else { TlsRequirementType::None };
            Some(VirtualHost {
                name: format!("{}:{port}", hosts.first()?),
                domains: hosts.iter().map(ToString::to_string).collect(),
                routes: some.into_iter().chain(all).collect(),
                require_tls: require_tls.into(),
                include_request_attempt_count: informational_headers.attempt_count,
                ..VirtualHost::default()
            })
        })
        .collect();
    virtual_hosts.sort_by(|a, b| a.name.cmp(&b.name));
    virtual_hosts
}

// === impl RoutedServer ===

impl RoutedServer {
    /// Resolves the rules of a server.
    pub fn of(context: &GatewayServer, inputs: &GatewayInputs) -> Self {
        let gateway = context.name();
        let rules = inputs.routings(&gateway).filter(|routing| !routing.spec.http.is_empty());
        let rules = rules.filter_map(|routing| {
            let common = context.common_hosts(routing);
            (!common.is_empty()).then(|| (HttpRules::of(routing, &inputs.scope), common))
        });
        let redirects = context.server.tls.as_ref().is_some_and(|tls| tls.https_redirect);
        Self {
            port: context.declared_port,
            scheme: if context.protocol.is_http() { Scheme::Http } else { Scheme::Https },
            hosts: context.hosts.iter().map(|served| served.host.clone()).collect(),
            https_redirect: if redirects { HttpsRedirect::Enabled } else { HttpsRedirect::Disabled },
            rules: rules.collect(),
            gateway,
        }
    }
}
