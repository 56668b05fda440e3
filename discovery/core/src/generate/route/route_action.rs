//! Requests that go on: to which clusters, in which shares, with what changed, for how long.
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

use super::destination::{cluster, hashed_by};
use super::headers::HeaderMutations;
use super::http_routes::{HttpRules, RouteContext, RuleError};
use super::matches::regex;
use super::per_filter_config::{hundredths, share};
use super::retry::{HostSelection, retry_policy};
use crate::api::values::Percent;
use crate::api::virtual_service::{Destination, HttpDestination, HttpRewrite, HttpRoute};
use crate::generate::proto::{duration, no, number};

/// To a cluster, without a time limit of ours: Envoy's own 15 s would cut off what was fine without a proxy.
pub(super) fn to(cluster: &str) -> RouteAction {
    RouteAction {
        cluster_specifier: Some(ClusterSpecifier::Cluster(cluster.to_owned())),
        ..within(Duration::ZERO)
    }
}

/// Where a rule sends requests. `authority` is what the rule makes of the host; what it does to headers of its only
/// destination is added to the route.
pub(super) fn forward(
    rules: &HttpRules,
    rule: &HttpRoute,
    authority: Option<String>,
    at: &RouteContext<'_>,
    route: &mut Route,
) -> Result<RouteAction, RuleError> {
    let mut action = within(rule.timeout.unwrap_or_default());
    let rewritten = rule.rewrite.as_ref().and_then(|said| rewrite(said, &mut action));
    let authority = rewritten.or(authority);

    let destinations = destinations(&rule.route)?;
    let mut endpoint = HostSelection::Any;
    if let [(said, destination)] = destinations.as_slice() {
        let name = cluster(rules, destination, at);
        let own = HeaderMutations::of(said.headers.as_ref()).apply(route);
        action.host_rewrite_specifier =
            authority.or(own).filter(|host| !host.is_empty()).map(HostRewriteSpecifier::HostRewriteLiteral);
        action.hash_policy.extend(hashed_by(rules, destination, &name));
        if !action.hash_policy.is_empty() {
            endpoint = HostSelection::Hashed;
        }
        action.cluster_specifier = Some(ClusterSpecifier::Cluster(name.to_string()));
    } else {
        action.host_rewrite_specifier =
            authority.filter(|host| !host.is_empty()).map(HostRewriteSpecifier::HostRewriteLiteral);
        let mut clusters = Vec::new();
        for (said, destination) in destinations {
            let (part, hash) = part(rules, said, destination, at);
            clusters.push(part);
            // Every policy is asked for every cluster; twice the same says nothing more.
            action.hash_policy.extend(hash.filter(|hash| !action.hash_policy.contains(hash)));
        }
        action.cluster_specifier = Some(ClusterSpecifier::WeightedClusters(WeightedCluster {
            clusters,
            ..WeightedCluster::default()
        }));
    }
    action.append_x_forwarded_host = at.informational_headers.host && action.host_rewrite_specifier.is_some();
    action.request_mirror_policies =
        mirrors(rule).map(|(to, share)| mirror(cluster(rules, to, at).to_string(), share)).collect();
    action.retry_policy = retry_policy(rule.retries.as_ref().or(at.retries), endpoint);
    Ok(action)
}

/// The cluster, if all requests go to the same one.
pub(super) fn only_cluster(action: &RouteAction) -> Option<&str> {
    match &action.cluster_specifier {
        Some(ClusterSpecifier::Cluster(name)) => Some(name),
        _ => None,
    }
}

/// An action with a time limit; zero: none but the one that a gRPC request says itself.
fn within(limit: Duration) -> RouteAction {
    let unlimited = MaxStreamDuration {
        max_stream_duration: duration(Duration::ZERO),
        grpc_timeout_header_max: duration(Duration::ZERO),
        grpc_timeout_header_offset: None,
    };
    RouteAction {
        timeout: duration(limit),
        // Beside it Envoy 1.40 does not look at the time limit at all; and of what Istio has in its place, `max_grpc_timeout`,
        // Envoy warns in its log for each route. So the deadline of a gRPC request is left to its client, within the limit.
        max_stream_duration: limit.is_zero().then_some(unlimited),
        ..RouteAction::default()
    }
}

/// What the path becomes; returns what the host does.
fn rewrite(said: &HttpRewrite, action: &mut RouteAction) -> Option<String> {
    match &said.uri_regex_rewrite {
        Some(by) => {
            action.regex_rewrite = Some(RegexMatchAndSubstitute {
                pattern: Some(regex(&by.r#match)),
                substitution: by.rewrite.clone(),
            });
        }
        // Of a path that matched as a whole, or by an expression, the prefix is the whole.
        None => action.prefix_rewrite.clone_from(&said.uri),
    }
    Some(said.authority.clone()).filter(|host| !host.is_empty())
}

/// The destinations that get a share. The only one gets all, whatever its weight says.
fn destinations(said: &[HttpDestination]) -> Result<Vec<(&HttpDestination, &Destination)>, RuleError> {
    if said.is_empty() {
        return Err("it has neither route nor redirect nor directResponse");
    }
    let with_share = said.iter().filter(|one| said.len() == 1 || one.weight > 0);
    let found: Vec<_> = with_share.filter_map(|one| Some((one, one.destination.as_ref()?))).collect();
    // Envoy refuses the whole table for shares of nothing.
    if found.is_empty() { Err("no destination has a weight") } else { Ok(found) }
}

/// One of several destinations.
fn part(
    rules: &HttpRules,
    said: &HttpDestination,
    destination: &Destination,
    at: &RouteContext<'_>,
) -> (ClusterWeight, Option<HashPolicy>) {
    let name = cluster(rules, destination, at);
    let mut made = ClusterWeight {
        name: name.to_string(),
        weight: number(said.weight.unsigned_abs()),
        ..ClusterWeight::default()
    };
    made.host_rewrite_specifier = HeaderMutations::of(said.headers.as_ref())
        .apply_to_weight(&mut made)
        .filter(|host| !host.is_empty())
        .map(cluster_weight::HostRewriteSpecifier::HostRewriteLiteral);
    (made, hashed_by(rules, destination, &name))
}

/// Where copies go, and of which share of the requests; shares of nothing are left out.
fn mirrors(rule: &HttpRoute) -> impl Iterator<Item = (&Destination, FractionalPercent)> {
    let percent = |said: Option<Percent>| said.map_or_else(|| hundredths(100), share);
    let whole = match (rule.mirror_percentage, rule.mirror_percent) {
        (None, Some(percent)) => hundredths(percent),
        (said, _) => percent(said),
    };
    let first = rule.mirror.iter().map(move |to| (to, whole));
    let more = rule
        .mirrors
        .iter()
        .filter_map(move |said| Some((said.destination.as_ref()?, percent(said.percentage))));
    first.chain(more).filter(|(_, share)| share.numerator > 0)
}

fn mirror(cluster: String, share: FractionalPercent) -> RequestMirrorPolicy {
    RequestMirrorPolicy {
        cluster,
        runtime_fraction: Some(RuntimeFractionalPercent {
            default_value: Some(share),
            ..RuntimeFractionalPercent::default()
        }),
        // A trace is of the request, not of its copies.
        trace_sampled: no(),
        // The copy asks for the same host: with Envoy's `-shadow` behind it nobody would know it.
        disable_shadow_host_suffix_append: true,
        ..RequestMirrorPolicy::default()
    }
}
