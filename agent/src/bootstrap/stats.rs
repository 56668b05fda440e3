//! Statistics: which ones Envoy keeps, which parts of their names are tags, how often they are flushed.
//!
//! The tags are those that Istio's dashboards query. A cluster's name ends with `;` in statistics, so that a
//! name with dots can be cut out.

use std::collections::BTreeMap;
use std::time::Duration;

use pilot_proto::duration;
use serde_json::{Value, json};

use super::{Discovery, set};
use crate::config::Config;
use crate::config::env::Switch;
use crate::config::node::Node;

/// Envoy's own.
const FLUSH: Duration = Duration::from_secs(5);

/// Tags before the user's.
const TAGS: [(&str, &str); 9] = [
    ("cluster_name", r"^cluster(\.(.+);)"),
    ("http_conn_manager_prefix", r"^http\.(((?:[_.[:digit:]\w]*|[_\[\]aAbBcCdDeEfF[:digit:]\w\:]*));\.)"),
    ("thread_name", r"^server(\.(.+))\.watchdog"),
    ("tcp_prefix", r"^tcp\.((.*?)\.)\w+?$"),
    ("response_code", r"_rq(_(\d{3}))$"),
    ("response_code_class", r"_rq(_(\dxx))$"),
    (
        "http_conn_manager_listener_prefix",
        r"^listener(?=\.).*?\.http\.(((?:[_.[:digit:]]*|[_\[\]aAbBcCdDeEfF[:digit:]]*))\.)",
    ),
    ("listener_address", r"^listener\.(((?:[_.[:digit:]]*|[_\[\]aAbBcCdDeEfF[:digit:]]*))\.)"),
    ("mongo_prefix", r"^mongo\.(.+?)\.(collection|cmd|cx_|op_|delays_|decoding_)(.*?)$"),
];
/// Tags after them.
const LAST_TAGS: [(&str, &str); 7] = [
    ("cache", r"(cache\.(.+?)\.)"),
    ("component", r"(component\.(.+?)\.)"),
    ("tag", r"(tag\.(.+?);\.)"),
    ("wasm_filter", r"(wasm_filter\.(.+?)\.)"),
    ("authz_enforce_result", r"rbac(\.(allowed|denied))"),
    ("authz_dry_run_action", r"(\.istio_dry_run_(allow|deny)_)"),
    ("authz_dry_run_result", r"(\.shadow_(allowed|denied))"),
];

/// Readiness and `istioctl` read these.
const PREFIXES: [&str; 5] = ["cluster_manager", "listener_manager", "server", "cluster.xds-grpc", "wasm"];
const SUFFIXES: [&str; 4] = ["rbac.allowed", "rbac.denied", "shadow_allowed", "shadow_denied"];
/// A drain that ends with the last connection reads this.
const ACTIVE_CONNECTIONS: &str = "downstream_cx_active";
/// Every drain reads these: it ends when no request is active and none begins. A few per listener.
const ACTIVITY: &str = r"(http|listener)\..*\.downstream_(cx|rq)_(active|total)";
/// `stat_prefix` of a virtual service's route.
const ROUTES: &str = r"vhost\..*\.route\..*";

/// Intervals of flushing statistics and evicting unused ones; `None`: Envoy's defaults.
pub(super) struct Intervals {
    pub(super) flush: Option<String>,
    pub(super) eviction: Option<String>,
}

/// The intervals that annotations ask for.
pub(super) fn intervals(node: &Node, warnings: &mut Vec<String>) -> Intervals {
    let mut read = |annotation: &str| {
        let text = node.metadata.annotations.get(annotation)?;
        let interval = duration::parse(text).ok().filter(|interval| !interval.is_zero());
        if interval.is_none() {
            warnings.push(format!("{annotation}: {text:?} is not a duration; ignored"));
        }
        interval
    };
    let flush = read("sidecar.istio.io/statsFlushInterval");
    let eviction = read("sidecar.istio.io/statsEvictionInterval");
    let every = flush.unwrap_or(FLUSH);
    // Envoy refuses anything else.
    let multiple = |eviction: &Duration| eviction.as_nanos().is_multiple_of(every.as_nanos());
    if eviction.is_some_and(|eviction| !multiple(&eviction)) {
        warnings.push(format!(
            "sidecar.istio.io/statsEvictionInterval: is not a multiple of the flush interval {}; ignored",
            duration::print(every)
        ));
    }
    Intervals { flush: flush.map(duration::print), eviction: eviction.filter(multiple).map(duration::print) }
}

/// `stats_config`.
pub(super) fn config(config: &Config, discovery: Discovery, warnings: &mut Vec<String>) -> Value {
    let annotations = &config.node.metadata.annotations;
    let mut stats = json!({
        "use_all_default_tags": false,
        "stats_tags": tags(config),
        "stats_matcher": {"inclusion_list": {"patterns": patterns(config, discovery)}},
    });
    if let Some(text) = annotations.get("sidecar.istio.io/statsHistogramBuckets") {
        match serde_json::from_str::<BTreeMap<String, Vec<f64>>>(text) {
            Ok(buckets) => {
                let settings: Value = buckets
                    .iter()
                    .map(|(prefix, buckets)| json!({"match": {"prefix": prefix}, "buckets": buckets}))
                    .collect();
                set(&mut stats, "histogram_bucket_settings", settings);
            }
            Err(error) => {
                warnings.push(format!("sidecar.istio.io/statsHistogramBuckets: {error}; ignored"));
            }
        }
    }
    stats
}

fn tags(config: &Config) -> Vec<Value> {
    let annotation = config.node.metadata.annotations.get("sidecar.istio.io/extraStatTags");
    let annotated = annotation.into_iter().flat_map(|tags| tags.split(','));
    let mut extra: Vec<&str> = Vec::new();
    for tag in config.proxy.extra_stat_tags.iter().map(String::as_str).chain(annotated) {
        if !tag.is_empty() && !extra.contains(&tag) {
            extra.push(tag);
        }
    }
    let tag = |name: &str, regex: &str| json!({"tag_name": name, "regex": regex});
    let extra = extra.into_iter().map(|name| tag(name, &format!(r"({name}=\.=(.*?);\.;)")));
    let first = TAGS.iter().map(|(name, regex)| tag(name, regex));
    first.chain(extra).chain(LAST_TAGS.iter().map(|(name, regex)| tag(name, regex))).collect()
}

fn patterns(config: &Config, discovery: Discovery) -> Vec<Value> {
    let matcher = config.proxy.proxy_stats_matcher.clone().unwrap_or_default();
    let addresses = &config.node.metadata.instance_ips.0;
    let wanted = |annotation: &str, of_proxy: Vec<String>, needed: &[&str]| {
        // An annotation replaces what ProxyConfig has.
        let annotation = config.node.metadata.annotations.get(annotation).filter(|text| !text.is_empty());
        let wanted = match annotation {
            Some(text) => text.split(',').map(ToOwned::to_owned).collect(),
            None => of_proxy,
        };
        let all = wanted.into_iter().chain(needed.iter().map(ToString::to_string));
        all.flat_map(|pattern| with_pod_ip(pattern, addresses)).collect::<Vec<_>>()
    };
    let mut suffixes = SUFFIXES.to_vec();
    if config.variables.is_on(Switch::ExitOnZeroActiveConnections) {
        suffixes.push(ACTIVE_CONNECTIONS);
    }
    let prefixes = wanted("sidecar.istio.io/statsInclusionPrefixes", matcher.inclusion_prefixes, &PREFIXES);
    let suffixes = wanted("sidecar.istio.io/statsInclusionSuffixes", matcher.inclusion_suffixes, &suffixes);
    let regexes =
        wanted("sidecar.istio.io/statsInclusionRegexps", matcher.inclusion_regexps, &[ROUTES, ACTIVITY]);

    let prefix = |prefix: &str| json!({"prefix": prefix});
    let mut patterns = vec![prefix("reporter=")];
    if discovery == Discovery::Workloads {
        patterns.push(prefix("workload_discovery"));
    }
    patterns.extend(prefixes.iter().map(|text| prefix(text)));
    patterns.extend(suffixes.iter().map(|suffix| json!({"suffix": suffix})));
    patterns.extend(regexes.iter().map(|regex| json!({"safe_regex": {"regex": regex}})));
    patterns.extend([prefix("component"), prefix("istio")]);
    patterns
}

/// `http.{pod_ip}_` for each address of the pod: the inbound listener's statistics, and no others.
fn with_pod_ip(pattern: String, addresses: &[String]) -> Vec<String> {
    if pattern.contains("{pod_ip}") {
        addresses.iter().map(|address| pattern.replace("{pod_ip}", address)).collect()
    } else {
        vec![pattern]
    }
}
