//! The routes of servers of a gateway: which virtual hosts they have, by the rules that are bound to their `Gateway`s.
//!
//! A host is served when a server names it and a rule does; it has the rules of all objects that do, in their order. Hosts
//! that have the same rules are one virtual host: it would be sent once for each of them.

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

/// Everything the routes of some servers depend on.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct GatewayRouteInputs {
    /// Their name.
    pub name: Arc<str>,
    /// The servers; none when there are none any more, and the listener is not gone yet.
    pub servers: Vec<RoutedServer>,
    /// What the mesh tries again where no rule says it; `None`: Istio's default.
    pub retries: Option<Arc<HttpRetry>>,
    /// What upstreams are told of requests.
    pub informational_headers: InformationalHeaders,
}

/// A server, as far as routes depend on it.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct RoutedServer {
    /// `<namespace>/<name>` of the `Gateway`.
    pub gateway: String,
    /// The port that it declares.
    pub port: u16,
    /// What its clients speak.
    pub scheme: Scheme,
    /// The hosts it serves.
    pub hosts: Vec<Hostname>,
    /// What happens to requests in plaintext.
    pub plaintext: HttpsRedirect,
    /// The rules for it, and the hosts that they have in common with it.
    pub rules: Vec<(HttpRules, BTreeSet<Hostname>)>,
}

/// What happens to requests in plaintext.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum HttpsRedirect {
    /// They are served.
    Disabled,
    /// Clients are sent to HTTPS.
    Enabled,
}

/// A virtual host in the making: the rules it has, by their place.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
struct HostRoutes {
    rules: Vec<usize>,
    redirected: bool,
}

/// The routes.
pub fn gateway_routes(inputs: &GatewayRouteInputs) -> (RouteConfiguration, Vec<Rejected>) {
    let mut rejected = Vec::new();
    let mut translated: Vec<Vec<Route>> = Vec::new();
    let mut hosts: BTreeMap<Hostname, HostRoutes> = BTreeMap::new();
    for server in &inputs.servers {
        let redirected = server.plaintext == HttpsRedirect::Enabled;
        let at = RouteContext {
            gateway: &server.gateway,
            port: server.port,
            scheme: server.scheme,
            retries: inputs.retries.as_deref(),
            informational_headers: inputs.informational_headers,
        };
        for (rules, common) in &server.rules {
            let mut made = http_routes(rules, &at);
            rejected.append(&mut made.rejected);
            translated.push(made.routes);
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
    let made = RouteConfiguration {
        name: inputs.name.to_string(),
        virtual_hosts,
        validate_clusters: no(),
        ignore_port_in_host_matching: true,
        max_direct_response_body_size_bytes: number(MAX_BODY),
        ..RouteConfiguration::default()
    };
    (made, rejected)
}

/// Hosts with the same rules are one, under the name of the first.
fn virtual_hosts(
    hosts: BTreeMap<Hostname, HostRoutes>,
    (translated, informational_headers): (&[Vec<Route>], InformationalHeaders),
    port: u16,
) -> Vec<VirtualHost> {
    let mut alike: BTreeMap<HostRoutes, Vec<Hostname>> = BTreeMap::new();
    for (host, made) in hosts {
        alike.entry(made).or_default().push(host);
    }
    let mut virtual_hosts: Vec<VirtualHost> = alike
        .into_iter()
        .filter_map(|(made, hosts)| {
            let routes = made.rules.iter().filter_map(|at| translated.get(*at)).flatten();
            // What takes every request comes last, whosever rule it is; the order of the rest is that of the rules.
            let (all, some): (Vec<Route>, Vec<Route>) =
                routes.cloned().partition(|route| route.r#match.as_ref().is_some_and(matches_every_request));
            let require_tls =
                if made.redirected { TlsRequirementType::All } else { TlsRequirementType::None };
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
    /// A server with the rules for it.
    pub fn of(at: &GatewayServer, inputs: &GatewayInputs) -> Self {
        let gateway = at.name();
        let rules = inputs.routings(&gateway).filter(|routing| !routing.spec.http.is_empty());
        let rules = rules.filter_map(|routing| {
            let common = at.common_hosts(routing);
            (!common.is_empty()).then(|| (HttpRules::of(routing, &inputs.scope), common))
        });
        let redirects = at.server.tls.as_ref().is_some_and(|tls| tls.https_redirect);
        Self {
            port: at.declared_port,
            scheme: if at.protocol.is_http() { Scheme::Http } else { Scheme::Https },
            hosts: at.hosts.iter().map(|served| served.host.clone()).collect(),
            plaintext: if redirects { HttpsRedirect::Enabled } else { HttpsRedirect::Disabled },
            rules: rules.collect(),
            gateway,
        }
    }
}
