//! Route actions: clusters and weights, rewrites, mirrors, timeouts and retries of forwarded requests.
//! <https://istio.io/latest/docs/reference/config/networking/virtual-service/#HTTPRouteDestination>

use std::time::Duration;

use pilot_proto::envoy::config::core::v3::RuntimeFractionalPercent;
use pilot_proto::envoy::config::route::v3::route_action::{
    ClusterSpecifier, HashPolicy, HostRewriteSpecifier, MaxStreamDuration, RequestMirrorPolicy,
};
use pilot_proto::envoy::config::route::v3::weighted_cluster::{ClusterWeight, cluster_weight};
use pilot_proto::envoy::config::route::v3::{Route, RouteAction, WeightedCluster};
use pilot_proto::envoy::r#type::matcher::v3::RegexMatchAndSubstitute;
use pilot_proto::envoy::r#type::v3::FractionalPercent;

use super::context::{HttpRules, RouteContext, RuleError};
use super::destination::{cluster, hash_policy};
use super::headers::HeaderMutations;
use super::matches::regex;
use super::per_filter_config::{fractional_percent, whole_percent};
use super::retry::{HostSelection, retry_policy};
use crate::api::values::Percent;
use crate::api::virtual_service::{Destination, HttpDestination, HttpRewrite, HttpRoute};
use crate::generate::proto::{duration, no, number};

/// Returns an action for one cluster without a timeout. Envoy's default of 15 s would abort requests that succeed without
/// a proxy.
pub(super) fn to_cluster(cluster: &str) -> RouteAction {
    RouteAction {
        cluster_specifier: Some(ClusterSpecifier::Cluster(cluster.to_owned())),
        ..with_timeout(Duration::ZERO)
    }
}

/// Translates the destinations of a rule. `authority` is the host that its header operations set. Header operations of a
/// single destination are added to `route`.
pub(super) fn route_action(
    rules: &HttpRules,
    rule: &HttpRoute,
    authority: Option<String>,
    context: &RouteContext<'_>,
    route: &mut Route,
) -> Result<RouteAction, RuleError> {
    let mut action = with_timeout(rule.timeout.unwrap_or_default());
    let rewritten = rule.rewrite.as_ref().and_then(|spec| rewrite(spec, &mut action));
    let authority = rewritten.or(authority);

    let destinations = destinations(&rule.route)?;
    let mut endpoint = HostSelection::Any;
    if let [(spec, destination)] = destinations.as_slice() {
        let name = cluster(rules, destination, context);
        let destination_authority = HeaderMutations::of(spec.headers.as_ref()).apply(route);
        action.host_rewrite_specifier = authority
            .or(destination_authority)
            .filter(|host| !host.is_empty())
            .map(HostRewriteSpecifier::HostRewriteLiteral);
        action.hash_policy.extend(hash_policy(rules, destination, &name));
        if !action.hash_policy.is_empty() {
            endpoint = HostSelection::Hashed;
        }
        action.cluster_specifier = Some(ClusterSpecifier::Cluster(name.to_string()));
    } else {
        action.host_rewrite_specifier =
            authority.filter(|host| !host.is_empty()).map(HostRewriteSpecifier::HostRewriteLiteral);
        let mut clusters = Vec::new();
        for (spec, destination) in destinations {
            let (weight, hash) = cluster_weight(rules, spec, destination, context);
            clusters.push(weight);
            // Envoy evaluates all hash policies for every cluster; duplicates have no effect.
            action.hash_policy.extend(hash.filter(|hash| !action.hash_policy.contains(hash)));
        }
        action.cluster_specifier = Some(ClusterSpecifier::WeightedClusters(WeightedCluster {
            clusters,
            ..WeightedCluster::default()
        }));
    }
    action.append_x_forwarded_host =
        context.informational_headers.forwarded_host && action.host_rewrite_specifier.is_some();
    action.request_mirror_policies =
        mirrors(rule).map(|(to, percent)| mirror(cluster(rules, to, context).to_string(), percent)).collect();
    action.retry_policy = retry_policy(rule.retries.as_ref().or(context.retries), endpoint);
    Ok(action)
}

/// Returns the cluster of an action without weighted clusters.
pub(super) fn only_cluster(action: &RouteAction) -> Option<&str> {
    match &action.cluster_specifier {
        Some(ClusterSpecifier::Cluster(name)) => Some(name),
        _ => None,
    }
}

/// Returns an action with a timeout; zero: only the deadline in `grpc-timeout` applies.
fn with_timeout(timeout: Duration) -> RouteAction {
    let unlimited = MaxStreamDuration {
        max_stream_duration: duration(Duration::ZERO),
        grpc_timeout_header_max: duration(Duration::ZERO),
        grpc_timeout_header_offset: None,
    };
    RouteAction {
        timeout: duration(timeout),
        // With `max_stream_duration` Envoy 1.40 ignores `timeout`, and for `max_grpc_timeout`, which Istio sets, it logs a
        // deprecation warning per route. So the client sets the deadline of a gRPC request, bounded by the timeout.
        max_stream_duration: timeout.is_zero().then_some(unlimited),
        ..RouteAction::default()
    }
}

/// Sets the path rewrite and returns the rewritten host.
fn rewrite(spec: &HttpRewrite, action: &mut RouteAction) -> Option<String> {
    match &spec.uri_regex_rewrite {
        Some(regex_rewrite) => {
            action.regex_rewrite = Some(RegexMatchAndSubstitute {
                pattern: Some(regex(&regex_rewrite.r#match)),
                substitution: regex_rewrite.rewrite.clone(),
            });
        }
        // For an exact or regex match the whole path is the prefix.
        None => action.prefix_rewrite.clone_from(&spec.uri),
    }
    Some(spec.authority.clone()).filter(|host| !host.is_empty())
}

/// Returns the destinations with a weight. A single destination receives all requests regardless of its weight.
fn destinations(routes: &[HttpDestination]) -> Result<Vec<(&HttpDestination, &Destination)>, RuleError> {
    if routes.is_empty() {
        return Err("the rule has neither route nor redirect nor directResponse");
    }
    let weighted = routes.iter().filter(|route| routes.len() == 1 || route.weight > 0);
    let destinations: Vec<_> =
        weighted.filter_map(|route| Some((route, route.destination.as_ref()?))).collect();
    // Envoy rejects the whole route configuration if all weights are 0.
    if destinations.is_empty() { Err("no destination has a weight") } else { Ok(destinations) }
}

/// Translates one of several destinations.
fn cluster_weight(
    rules: &HttpRules,
    spec: &HttpDestination,
    destination: &Destination,
    context: &RouteContext<'_>,
) -> (ClusterWeight, Option<HashPolicy>) {
    let name = cluster(rules, destination, context);
    let mut weight = ClusterWeight {
        name: name.to_string(),
        weight: number(spec.weight.unsigned_abs()),
        ..ClusterWeight::default()
    };
    weight.host_rewrite_specifier = HeaderMutations::of(spec.headers.as_ref())
        .apply_to_weight(&mut weight)
        .filter(|host| !host.is_empty())
        .map(cluster_weight::HostRewriteSpecifier::HostRewriteLiteral);
    (weight, hash_policy(rules, destination, &name))
}

/// Returns mirror destinations with the share of requests each receives; shares of 0 are omitted.
fn mirrors(rule: &HttpRoute) -> impl Iterator<Item = (&Destination, FractionalPercent)> {
    let or_all = |percent: Option<Percent>| percent.map_or_else(|| whole_percent(100), fractional_percent);
    let single_mirror_percent = match (rule.mirror_percentage, rule.mirror_percent) {
        (None, Some(percent)) => whole_percent(percent),
        (percentage, _) => or_all(percentage),
    };
    let first = rule.mirror.iter().map(move |to| (to, single_mirror_percent));
    let more = rule
        .mirrors
        .iter()
        .filter_map(move |mirror| Some((mirror.destination.as_ref()?, or_all(mirror.percentage))));
    first.chain(more).filter(|(_, percent)| percent.numerator > 0)
}

fn mirror(cluster: String, percent: FractionalPercent) -> RequestMirrorPolicy {
    RequestMirrorPolicy {
        cluster,
        runtime_fraction: Some(RuntimeFractionalPercent {
            default_value: Some(percent),
            ..RuntimeFractionalPercent::default()
        }),
        // Only the original request is traced.
        trace_sampled: no(),
        // A mirrored request keeps its host: no virtual host matches Envoy's suffix `-shadow`.
        disable_shadow_host_suffix_append: true,
        ..RequestMirrorPolicy::default()
    }
}
