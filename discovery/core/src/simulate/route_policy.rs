//! Summary of a route's settings besides the destination as text: timeouts, retries, mirrors, hash policies.

use pilot_proto::envoy::config::route::v3::route_action::{ClusterSpecifier, hash_policy::PolicySpecifier};
use pilot_proto::envoy::config::route::v3::{RetryPolicy, Route, RouteAction, VirtualHost, route};
use pilot_proto::envoy::extensions::filters::network::tcp_proxy::v3::TcpProxy;
use pilot_proto::envoy::r#type::v3::{HashPolicy, hash_policy::PolicySpecifier as OfBytes};
use pilot_proto::google::protobuf::Duration;

use super::matching::{MILLION, default_millionths};

/// Returns the settings of a route that differ from Envoy's defaults.
pub(super) fn policy(host: &VirtualHost, route: &Route) -> Vec<String> {
    let Some(route::Action::Route(action)) = &route.action else { return Vec::new() };
    let mut said = Vec::new();
    if let Some(timeout) = &action.timeout {
        said.push(if is_zero(timeout) {
            "no timeout".to_owned()
        } else {
            format!("timeout {}", seconds(timeout))
        });
    }
    let stream = action.max_stream_duration.as_ref().and_then(|stream| stream.max_stream_duration.as_ref());
    if let Some(limit) = stream.filter(|limit| !is_zero(limit)) {
        said.push(format!("stream at most {}", seconds(limit)));
    }
    if let Some(retry) = action.retry_policy.as_ref().or(host.retry_policy.as_ref()) {
        said.push(retries(retry));
    }
    said.extend(mirrors(host, action));
    said.extend(hashes(action));
    said.extend(action.upgrade_configs.iter().map(|upgrade| format!("upgrade {}", upgrade.upgrade_type)));
    said
}

/// Returns the settings of a TCP proxy.
pub(super) fn of_bytes(tcp: &TcpProxy) -> Vec<String> {
    let idle = tcp.idle_timeout.as_ref().map(|limit| format!("idle {}", seconds(limit)));
    let life = tcp.max_downstream_connection_duration.as_ref();
    let life = life.map(|limit| format!("connection at most {}", seconds(limit)));
    let by_source = |hash: &HashPolicy| matches!(hash.policy_specifier, Some(OfBytes::SourceIp(_)));
    let hash = tcp.hash_policy.iter().any(by_source).then(|| "hash source".to_owned());
    [idle, life, hash].into_iter().flatten().collect()
}

fn retries(retry: &RetryPolicy) -> String {
    let times = retry.num_retries.as_ref().map_or(1, |times| times.value);
    let mut said = vec![format!("retry {times} on {}", retry.retry_on)];
    if !retry.retriable_status_codes.is_empty() {
        let codes: Vec<String> = retry.retriable_status_codes.iter().map(ToString::to_string).collect();
        said.push(format!("status {}", codes.join(",")));
    }
    if let Some(limit) = &retry.per_try_timeout {
        said.push(format!("each {}", seconds(limit)));
    }
    if let Some(base) = retry.retry_back_off.as_ref().and_then(|back_off| back_off.base_interval.as_ref()) {
        said.push(format!("after {}", seconds(base)));
    }
    let hosts = retry.retry_host_predicate.iter();
    said.extend(hosts.filter_map(|predicate| predicate.name.rsplit('.').next().map(str::to_owned)));
    said.join(" ")
}

/// Returns the mirrors of the route, or those of its virtual host.
fn mirrors<'a>(host: &'a VirtualHost, action: &'a RouteAction) -> impl Iterator<Item = String> + 'a {
    let own = &action.request_mirror_policies;
    let mirrors = if own.is_empty() { &host.request_mirror_policies } else { own };
    mirrors.iter().map(|mirror| {
        let part = mirror.runtime_fraction.as_ref().map_or(MILLION, default_millionths);
        let to = if mirror.cluster.is_empty() { &mirror.cluster_header } else { &mirror.cluster };
        format!("mirror {}% {to}", f64::from(part) / 10_000.0)
    })
}

fn hashes(action: &RouteAction) -> impl Iterator<Item = String> + '_ {
    action.hash_policy.iter().filter_map(|hash| {
        let by = match hash.policy_specifier.as_ref()? {
            PolicySpecifier::Header(header) => format!("header {}", header.header_name),
            PolicySpecifier::Cookie(cookie) => {
                let life = cookie.ttl.as_ref().map(|ttl| format!(" {}", seconds(ttl))).unwrap_or_default();
                format!("cookie {}{}{life}", cookie.name, cookie.path)
            }
            PolicySpecifier::ConnectionProperties(_) => "source".to_owned(),
            PolicySpecifier::QueryParameter(parameter) => format!("parameter {}", parameter.name),
            PolicySpecifier::FilterState(state) => format!("state {}", state.key),
        };
        Some(format!("hash {by}{}", if hash.terminal { " terminal" } else { "" }))
    })
}

/// Returns the clusters that a route names.
pub(super) fn cluster_names(route: &Route) -> Vec<String> {
    let Some(route::Action::Route(action)) = &route.action else { return Vec::new() };
    match &action.cluster_specifier {
        Some(ClusterSpecifier::Cluster(name)) => vec![name.clone()],
        Some(ClusterSpecifier::WeightedClusters(split)) => {
            split.clusters.iter().map(|part| part.name.clone()).collect()
        }
        _ => Vec::new(),
    }
}

const fn is_zero(duration: &Duration) -> bool {
    duration.seconds == 0 && duration.nanos == 0
}

/// Formats a duration in the shortest form, `1.5s`.
pub(super) fn seconds(duration: &Duration) -> String {
    let fraction = format!("{:09}", duration.nanos);
    let text = format!("{}.{}", duration.seconds, fraction.trim_end_matches('0'));
    format!("{}s", text.trim_end_matches('.'))
}
