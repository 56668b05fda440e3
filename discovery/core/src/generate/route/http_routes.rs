//! Routes of one `VirtualService`.
//!
//! Rules and their matches keep their order. A match for another gateway, port or class of clients is skipped, and the
//! translation stops after the first route that matches every request. `virtual_hosts` decides which domains the routes
//! belong to.
//! <https://istio.io/latest/docs/reference/config/networking/virtual-service/#HTTPRoute>

use pilot_proto::envoy::config::core::v3::Metadata;
use pilot_proto::envoy::config::route::v3::{Decorator, Route, RouteMatch, route, route_match};

use super::context::{HttpRules, RouteContext, RuleError};
use super::direct_response::direct_response;
use super::headers::HeaderMutations;
use super::matches::{matches_every_request, route_match};
use super::per_filter_config::per_filter_config;
use super::redirect::redirect;
use super::route_action;
use crate::api::virtual_service::{HttpMatch, HttpRoute};
use crate::generate::proto::{object, string};
use crate::generate::{RejectReason, Rejected};
use crate::model::ClusterName;
use crate::push::Routing;

/// Result of the translation of HTTP rules.
#[derive(Debug, Default)]
pub struct TranslatedRoutes {
    /// Routes in order of precedence; empty if no rule applies.
    pub routes: Vec<Route>,
    /// Rules, or parts of them, that cannot be used.
    pub rejected: Vec<Rejected>,
}

/// Translates the rules for a route context.
pub fn http_routes(rules: &HttpRules, context: &RouteContext<'_>) -> TranslatedRoutes {
    let routing = rules.routing();
    let mut translated = TranslatedRoutes::default();
    for (rule_index, rule) in routing.spec.http.iter().enumerate() {
        let mut reject = |error| {
            translated.rejected.push(Rejected {
                subject: format!("{}/{} http[{rule_index}]", routing.namespace, routing.name),
                service: routing.hosts.first().cloned().unwrap_or_else(|| "".into()),
                reason: RejectReason::Unusable(error),
            });
        };
        if rule.r#match.is_empty() {
            match translate(rules, rule, None, context, &mut reject) {
                Ok(route) => translated.routes.push(route),
                Err(error) => reject(error),
            }
            // A rule without matches applies to every request, even if it cannot be used.
            break;
        }
        for (match_index, matches) in rule.r#match.iter().enumerate() {
            if !rules.applies((rule_index, match_index), matches, context) {
                continue;
            }
            match translate(rules, rule, Some(matches), context, &mut reject) {
                Ok(route) => {
                    let last = route.r#match.as_ref().is_some_and(matches_every_request);
                    translated.routes.push(route);
                    if last {
                        return translated;
                    }
                }
                Err(error) => reject(error),
            }
        }
    }
    translated
}

/// Translates one match of a rule. An error in a part of the rule is passed to `reject`; the route is generated without
/// that part.
fn translate(
    rules: &HttpRules,
    rule: &HttpRoute,
    matches: Option<&HttpMatch>,
    context: &RouteContext<'_>,
    reject: &mut impl FnMut(RuleError),
) -> Result<Route, RuleError> {
    let mutations = HeaderMutations::of(rule.headers.as_ref());
    let mut route = Route {
        name: match matches {
            Some(matches) if !matches.name.is_empty() => format!("{}.{}", rule.name, matches.name),
            _ => rule.name.clone(),
        },
        r#match: Some(route_match(matches)),
        stat_prefix: matches.map(|matches| matches.stat_prefix.clone()).unwrap_or_default(),
        metadata: Some(config_metadata(rules.routing())),
        typed_per_filter_config: per_filter_config(rule, reject),
        ..Route::default()
    };
    let authority = mutations.apply(&mut route);
    route.action = Some(if let Some(spec) = &rule.redirect {
        route::Action::Redirect(redirect(spec, context)?)
    } else if let Some(response) = &rule.direct_response {
        route::Action::DirectResponse(direct_response(response)?)
    } else {
        route::Action::Route(route_action::route_action(rules, rule, authority, context, &mut route)?)
    });
    route.decorator =
        Some(Decorator { operation: operation(&route, rules, context), ..Decorator::default() });
    Ok(route)
}

/// Returns the metadata that names the `VirtualService`, as Istio writes it.
fn config_metadata(routing: &Routing) -> Metadata {
    let path = format!(
        "/apis/networking.istio.io/v1/namespaces/{}/virtual-service/{}",
        routing.namespace, routing.name
    );
    let istio = object([("config", string(&path))]);
    Metadata { filter_metadata: [("istio".to_owned(), istio)].into(), ..Metadata::default() }
}

/// Returns the operation name of spans: the only destination, else the `VirtualService`, followed by the path.
fn operation(route: &Route, rules: &HttpRules, context: &RouteContext<'_>) -> String {
    use route_match::PathSpecifier as Path;
    let path = match route.r#match.as_ref().and_then(|matches: &RouteMatch| matches.path_specifier.as_ref()) {
        Some(Path::Prefix(prefix)) => format!("{prefix}*"),
        Some(Path::Path(path)) => path.clone(),
        Some(Path::SafeRegex(regex)) => regex.regex.clone(),
        _ => "/*".to_owned(),
    };
    let cluster = match &route.action {
        Some(route::Action::Route(action)) => route_action::only_cluster(action),
        _ => None,
    };
    match cluster.and_then(|name| name.parse::<ClusterName>().ok()) {
        Some(name) => format!("{}:{}{path}", name.host, name.port),
        None => format!("{}:{}{path}", rules.routing().name, context.port),
    }
}
