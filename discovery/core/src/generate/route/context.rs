//! Inputs of the translation of one `VirtualService`: its rules, the destinations they resolve to, and the route context.

use std::collections::BTreeMap;

use super::hash_policy::HashPolicies;
use crate::api::virtual_service::{HttpMatch, HttpRetry, HttpRoute};
use crate::model::{Hostname, Shared};
use crate::push::Routing;
use crate::scope::{Scope, Visible};

/// Reason why a rule, or a part of it, cannot be translated.
pub(super) type RuleError = &'static str;

/// HTTP rules of one `VirtualService` and everything else their routes depend on: the matches that exclude a class of
/// clients, and the destinations as that class resolves them. Classes with equal results have equal rules.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct HttpRules {
    routing: Shared<Routing>,
    /// Matches for clients with other labels or in another namespace: index of the rule, index of the match.
    excluded: Vec<(usize, usize)>,
    destinations: BTreeMap<Hostname, ResolvedDestination>,
}

/// Service of a destination host as a class of clients resolves it.
///
/// Nothing else of a service or `DestinationRule` is kept, so no other change of them changes a route.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) struct ResolvedDestination {
    /// Hostname of the service; an alias in the rule resolves to it.
    pub(super) host: Hostname,
    /// Port of the service if it has exactly one.
    pub(super) only_port: Option<u16>,
    pub(super) hash_policies: HashPolicies,
}

/// Listener, gateway and defaults that routes are translated for.
#[derive(Clone, Copy, Debug)]
pub struct RouteContext<'a> {
    /// `<namespace>/<name>` of the `Gateway`, or [`MESH`](crate::push::context::MESH).
    pub gateway: &'a str,
    /// Destination port of the requests.
    pub port: u16,
    /// Scheme of the requests.
    pub scheme: Scheme,
    /// Retry policy of rules without one (`defaultHttpRetryPolicy`); `None`: Istio's default.
    pub retries: Option<&'a HttpRetry>,
    /// Headers that describe the request to the upstream.
    pub informational_headers: InformationalHeaders,
}

/// Scheme of downstream requests.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Scheme {
    /// Plaintext.
    Http,
    /// TLS, terminated by the proxy.
    Https,
}

/// Headers that describe a request to the upstream (`proxyHeaders` of the `ProxyConfig`).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct InformationalHeaders {
    /// Adds `x-envoy-attempt-count`.
    pub attempt_count: bool,
    /// Adds `x-forwarded-host` if a rule rewrites the host.
    pub forwarded_host: bool,
}

// === impl HttpRules ===

impl HttpRules {
    /// Resolves the rules for a class of clients.
    pub fn of(routing: &Shared<Routing>, scope: &Scope) -> Self {
        let key = scope.key();
        let mut excluded = Vec::new();
        for (rule_index, rule) in routing.spec.http.iter().enumerate() {
            for (match_index, matches) in rule.r#match.iter().enumerate() {
                // Source criteria do not apply to a match with gateways.
                let applies = !matches.gateways.is_empty()
                    || (key.is_selected(&matches.source_labels)
                        && (matches.source_namespace.is_empty()
                            || matches.source_namespace == key.namespace.as_str()));
                if !applies {
                    excluded.push((rule_index, match_index));
                }
            }
        }
        let destinations = routing.spec.http.iter().flat_map(destination_hosts).filter_map(|host| {
            let destination = ResolvedDestination::of(host, scope)?;
            Some((host.into(), destination))
        });
        Self { routing: routing.clone(), excluded, destinations: destinations.collect() }
    }

    /// Returns the `VirtualService`.
    pub const fn routing(&self) -> &Shared<Routing> {
        &self.routing
    }

    pub(super) fn destination(&self, host: &str) -> Option<&ResolvedDestination> {
        self.destinations.get(host)
    }

    /// Returns true if a match applies to the clients, the port and the gateway.
    pub(super) fn applies(
        &self,
        (rule, index): (usize, usize),
        matches: &HttpMatch,
        context: &RouteContext<'_>,
    ) -> bool {
        (matches.port == 0 || matches.port == u32::from(context.port))
            && (matches.gateways.is_empty() || matches.gateways.iter().any(|name| name == context.gateway))
            && !self.excluded.contains(&(rule, index))
    }
}

/// Returns the destination hosts of a rule, including those of mirrors.
fn destination_hosts(rule: &HttpRoute) -> impl Iterator<Item = &str> {
    let routes = rule.route.iter().filter_map(|route| route.destination.as_ref());
    let mirrors = rule.mirrors.iter().filter_map(|mirror| mirror.destination.as_ref());
    routes.chain(&rule.mirror).chain(mirrors).map(|destination| destination.host.as_str())
}

// === impl ResolvedDestination ===

impl ResolvedDestination {
    /// Resolves a host; `None`: no service declares it.
    fn of(host: &str, scope: &Scope) -> Option<Self> {
        let has_alias = |visible: &&Visible| visible.aliases.iter().any(|alias| alias.as_str() == host);
        let visible = scope.by_host(host).or_else(|| scope.services().iter().find(has_alias))?;
        Some(Self {
            host: visible.service.hostname.clone(),
            only_port: match visible.service.ports.as_slice() {
                [port] => Some(port.port),
                _ => None,
            },
            hash_policies: visible.rule.as_ref().map(|rule| HashPolicies::of(rule)).unwrap_or_default(),
        })
    }
}

// === impl InformationalHeaders ===

impl Default for InformationalHeaders {
    /// Istio's defaults.
    fn default() -> Self {
        Self { attempt_count: true, forwarded_host: false }
    }
}
