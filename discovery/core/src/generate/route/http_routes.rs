//! The rules of one `VirtualService` for requests, as Envoy's routes.
//!
//! Rules stay in their order, the matches of each too, and nothing comes after the first that takes every request. A match
//! for other gateways, ports or clients is left out. For which hosts the routes are is not decided here.
//! <https://istio.io/latest/docs/reference/config/networking/virtual-service/#HTTPRoute>

use std::collections::BTreeMap;

use pilot_proto::envoy::config::core::v3::Metadata;
use pilot_proto::envoy::config::route::v3::{Decorator, Route, RouteMatch, route, route_match};

use super::destination::{ResolvedDestination, hosts_of};
use super::headers::HeaderMutations;
use super::matches::{route_match, takes_every_request};
use super::per_filter_config::per_filter_config;
use super::{InformationalHeaders, redirect, route_action};
use crate::api::virtual_service::{HttpMatch, HttpRetry, HttpRoute};
use crate::generate::proto::{object, string};
use crate::generate::{RejectReason, Rejected};
use crate::model::{ClusterName, Hostname, Shared};
use crate::push::Routing;
use crate::scope::Scope;

/// The rules of one `VirtualService`, and all that routes depend on besides: which of its matches are for a class of
/// clients, and what the hosts that it sends to mean to them. Classes with the same answers have equal rules.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct HttpRules {
    routing: Shared<Routing>,
    /// Matches for clients of other labels or another namespace: the rule, and the match of it.
    foreign: Vec<(usize, usize)>,
    meanings: BTreeMap<Hostname, ResolvedDestination>,
}

/// Where requests come in.
#[derive(Clone, Copy, Debug)]
pub struct RouteContext<'a> {
    /// `<namespace>/<name>` of the `Gateway`, or [`MESH`](crate::push::context::MESH).
    pub gateway: &'a str,
    /// The port that clients ask for.
    pub port: u16,
    /// What clients speak.
    pub scheme: Scheme,
    /// What is tried again where a rule does not say; `None`: what Istio's default says.
    pub retries: Option<&'a HttpRetry>,
    /// What upstreams are told of requests.
    pub informational_headers: InformationalHeaders,
}

/// What clients speak.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Scheme {
    /// Plain text.
    Http,
    /// TLS that ends at the proxy.
    Https,
}

/// What became of rules.
#[derive(Debug, Default)]
pub struct TranslatedRoutes {
    /// Routes, the first that matches counts; empty when no rule is for this place.
    pub routes: Vec<Route>,
    /// What could not be used.
    pub rejected: Vec<Rejected>,
}

/// Why something in a rule cannot be used, in words.
pub(super) type RuleError = &'static str;

// === impl HttpRules ===

impl HttpRules {
    /// The rules as a class of clients has them.
    pub fn of(routing: &Shared<Routing>, scope: &Scope) -> Self {
        let key = scope.key();
        let mut foreign = Vec::new();
        for (at, rule) in routing.spec.http.iter().enumerate() {
            for (nth, matches) in rule.r#match.iter().enumerate() {
                // Where gateways are named, nothing is asked of clients.
                let ours = !matches.gateways.is_empty()
                    || (key.is_selected(&matches.source_labels)
                        && (matches.source_namespace.is_empty()
                            || matches.source_namespace == key.namespace.as_str()));
                if !ours {
                    foreign.push((at, nth));
                }
            }
        }
        let meanings = routing.spec.http.iter().flat_map(hosts_of).filter_map(|host| {
            let meaning = ResolvedDestination::of(host, scope)?;
            Some((host.into(), meaning))
        });
        Self { routing: routing.clone(), foreign, meanings: meanings.collect() }
    }

    /// The object.
    pub const fn routing(&self) -> &Shared<Routing> {
        &self.routing
    }

    pub(super) fn meaning(&self, host: &str) -> Option<&ResolvedDestination> {
        self.meanings.get(host)
    }

    fn is_for(&self, (rule, nth): (usize, usize), matches: &HttpMatch, at: &RouteContext<'_>) -> bool {
        (matches.port == 0 || matches.port == u32::from(at.port))
            && (matches.gateways.is_empty() || matches.gateways.iter().any(|own| own == at.gateway))
            && !self.foreign.contains(&(rule, nth))
    }
}

/// The routes of rules at a place.
pub fn http_routes(rules: &HttpRules, at: &RouteContext<'_>) -> TranslatedRoutes {
    let mut made = TranslatedRoutes::default();
    for (number, rule) in rules.routing.spec.http.iter().enumerate() {
        let mut reject = |why| {
            made.rejected.push(Rejected {
                subject: format!("{}/{} http[{number}]", rules.routing.namespace, rules.routing.name),
                service: rules.routing.hosts.first().cloned().unwrap_or_else(|| "".into()),
                reason: RejectReason::Unusable(why),
            });
        };
        if rule.r#match.is_empty() {
            match translate(rules, rule, None, at, &mut reject) {
                Ok(route) => made.routes.push(route),
                Err(why) => reject(why),
            }
            // The rules below it never were for any request.
            break;
        }
        for (nth, matches) in rule.r#match.iter().enumerate() {
            if !rules.is_for((number, nth), matches, at) {
                continue;
            }
            match translate(rules, rule, Some(matches), at, &mut reject) {
                Ok(route) => {
                    let last = route.r#match.as_ref().is_some_and(takes_every_request);
                    made.routes.push(route);
                    if last {
                        return made;
                    }
                }
                Err(why) => reject(why),
            }
        }
    }
    made
}

/// One route. What is wrong with a part of it is told, what is wrong with all of it is an error.
fn translate(
    rules: &HttpRules,
    rule: &HttpRoute,
    matches: Option<&HttpMatch>,
    at: &RouteContext<'_>,
    tell: &mut impl FnMut(RuleError),
) -> Result<Route, RuleError> {
    let operations = HeaderMutations::of(rule.headers.as_ref());
    let mut made = Route {
        name: match matches {
            Some(matches) if !matches.name.is_empty() => format!("{}.{}", rule.name, matches.name),
            _ => rule.name.clone(),
        },
        r#match: Some(route_match(matches)),
        stat_prefix: matches.map(|matches| matches.stat_prefix.clone()).unwrap_or_default(),
        metadata: Some(origin(&rules.routing)),
        typed_per_filter_config: per_filter_config(rule, tell),
        ..Route::default()
    };
    let authority = operations.apply(&mut made);
    made.action = Some(if let Some(redirect) = &rule.redirect {
        route::Action::Redirect(redirect::redirect(redirect, at)?)
    } else if let Some(response) = &rule.direct_response {
        route::Action::DirectResponse(redirect::direct_response(response)?)
    } else {
        route::Action::Route(route_action::forward(rules, rule, authority, at, &mut made)?)
    });
    made.decorator = Some(Decorator { operation: operation(&made, rules, at), ..Decorator::default() });
    Ok(made)
}

/// The object that a route is made from, where Istio names it.
fn origin(routing: &Routing) -> Metadata {
    let path = format!(
        "/apis/networking.istio.io/v1/namespaces/{}/virtual-service/{}",
        routing.namespace, routing.name
    );
    let istio = object([("config", string(&path))]);
    Metadata { filter_metadata: [("istio".to_owned(), istio)].into(), ..Metadata::default() }
}

/// What traces call the route: its one destination, else its object, and the path.
fn operation(made: &Route, rules: &HttpRules, at: &RouteContext<'_>) -> String {
    use route_match::PathSpecifier as Path;
    let path = match made.r#match.as_ref().and_then(|matches: &RouteMatch| matches.path_specifier.as_ref()) {
        Some(Path::Prefix(prefix)) => format!("{prefix}*"),
        Some(Path::Path(path)) => path.clone(),
        Some(Path::SafeRegex(regex)) => regex.regex.clone(),
        _ => "/*".to_owned(),
    };
    let cluster = match &made.action {
        Some(route::Action::Route(action)) => route_action::only_cluster(action),
        _ => None,
    };
    match cluster.and_then(|name| name.parse::<ClusterName>().ok()) {
        Some(name) => format!("{}:{}{path}", name.host, name.port),
        None => format!("{}:{}{path}", rules.routing.name, at.port),
    }
}
