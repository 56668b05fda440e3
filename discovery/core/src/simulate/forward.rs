//! Forwarding to the clusters of a route, with the rewritten request.

use pilot_proto::envoy::config::route::v3::RouteAction;
use pilot_proto::envoy::config::route::v3::route_action::ClusterSpecifier;
use pilot_proto::envoy::config::route::v3::weighted_cluster::{ClusterWeight, cluster_weight};

use super::call::Request;
use super::proxy_config_view::ProxyConfigView;
use super::request_state::{MatchedRoute, RequestState};
use super::rewrite::{HeaderChanges, change_headers, levels, rewrite_host, rewritten_path};
use super::trace::{Share, Trace, Verdict};

/// A cluster that the route can select.
struct Choice<'a> {
    cluster: String,
    weight: u32,
    /// Settings of the weighted cluster.
    part: Option<&'a ClusterWeight>,
}

// === impl ProxyConfigView ===

impl ProxyConfigView {
    /// Forwards a request to the clusters of a route.
    pub(super) fn forward(
        &self,
        found: MatchedRoute<'_>,
        action: &RouteAction,
        asked: &RequestState,
        trace: &mut Trace,
    ) -> Verdict {
        let named_by = |header: &str| asked.header(header).unwrap_or_default();
        let choices: Vec<Choice<'_>> = match &action.cluster_specifier {
            Some(ClusterSpecifier::Cluster(name)) => {
                vec![Choice { cluster: name.clone(), weight: 1, part: None }]
            }
            Some(ClusterSpecifier::ClusterHeader(header)) => {
                vec![Choice { cluster: named_by(header), weight: 1, part: None }]
            }
            Some(ClusterSpecifier::WeightedClusters(split)) => {
                let parts = split.clusters.iter().map(|part| Choice {
                    cluster: if part.name.is_empty() {
                        named_by(&part.cluster_header)
                    } else {
                        part.name.clone()
                    },
                    weight: part.weight.as_ref().map_or(0, |weight| weight.value),
                    part: Some(part),
                });
                parts.filter(|choice| choice.weight > 0).collect()
            }
            Some(ClusterSpecifier::ClusterSpecifierPlugin(name)) => return Verdict::Unknown(name.clone()),
            Some(ClusterSpecifier::InlineClusterSpecifierPlugin(_)) | None => {
                return Verdict::Unknown("a plugin chooses the cluster".to_owned());
            }
        };
        let shares = choices.into_iter().map(|choice| {
            let (upstream, step) = self.upstream(&choice.cluster);
            trace.steps.push(step);
            let request = self.leaving(found, action, &choice, asked);
            let settings = self.settings(&choice.cluster);
            Share {
                cluster: choice.cluster,
                weight: choice.weight,
                request: Some(request),
                upstream,
                settings,
            }
        });
        Verdict::Forwarded(shares.collect())
    }

    /// Returns the upstream request.
    fn leaving(
        &self,
        found: MatchedRoute<'_>,
        action: &RouteAction,
        choice: &Choice<'_>,
        asked: &RequestState,
    ) -> Request {
        let mut request = asked.request.clone();
        let of_part = choice.part.map(|part| HeaderChanges {
            add: &part.request_headers_to_add,
            remove: &part.request_headers_to_remove,
        });
        for changes in levels(found, of_part) {
            change_headers(&mut request, changes);
        }
        let hostname = self.hostname(&choice.cluster);
        rewrite_host(&mut request, action, hostname.as_deref());
        if let Some(cluster_weight::HostRewriteSpecifier::HostRewriteLiteral(host)) =
            choice.part.and_then(|part| part.host_rewrite_specifier.as_ref())
        {
            request.authority.clone_from(host);
        }
        let pattern = action.regex_rewrite.as_ref();
        if let Some(path) = rewritten_path(&request.path, found.matched, &action.prefix_rewrite, pattern) {
            request.path = path;
        }
        request
    }
}
