//! Summary of a cluster's settings as text: load balancing, connection limits, TLS,
//! timeouts, outlier detection.

use pilot_proto::envoy::config::cluster::v3::circuit_breakers::Thresholds;
use pilot_proto::envoy::config::cluster::v3::cluster::common_lb_config::LocalityConfigSpecifier;
use pilot_proto::envoy::config::cluster::v3::cluster::{
    ClusterDiscoveryType, DiscoveryType, LbConfig, LbPolicy, SlowStartConfig,
};
use pilot_proto::envoy::config::cluster::v3::{Cluster, OutlierDetection};
use pilot_proto::envoy::config::core::v3::TransportSocket;
use pilot_proto::envoy::config::core::v3::proxy_protocol_config::Version;
use pilot_proto::envoy::extensions::upstreams::http::v3::HttpProtocolOptions;
use pilot_proto::envoy::extensions::upstreams::http::v3::http_protocol_options::{
    UpstreamProtocolOptions, explicit_http_config::ProtocolConfig,
};
use pilot_proto::google::protobuf::{Duration, UInt32Value};

use super::proxy_config_view::{ProxyConfigView, unpack};
use super::route_policy::seconds;
use super::tls_summary;
use super::upstream::{proxied, tls};

// === impl ProxyConfigView ===

impl ProxyConfigView {
    /// Returns the settings of a cluster that differ from Envoy's defaults; empty if there is no such cluster.
    pub(super) fn settings(&self, name: &str) -> Vec<String> {
        self.clusters.get(name).map(of).unwrap_or_default()
    }
}

fn of(cluster: &Cluster) -> Vec<String> {
    let mut said = vec![format!("balances by {}", balancer(cluster))];
    said.extend(slow_start(cluster).map(warm_up));
    said.extend(places(cluster));
    said.extend(cluster.connect_timeout.as_ref().map(|limit| format!("connects within {}", seconds(limit))));
    let thresholds = cluster.circuit_breakers.iter().flat_map(|breakers| &breakers.thresholds);
    said.extend(thresholds.flat_map(limits));
    said.extend(keepalive(cluster));
    said.extend(cluster.outlier_detection.iter().flat_map(outliers));
    said.extend(
        cluster.typed_extension_protocol_options.values().filter_map(unpack).flat_map(|it| http(&it)),
    );
    said.extend(cluster.transport_socket.iter().flat_map(transport));
    said.extend(dns(cluster));
    let bind = cluster.upstream_bind_config.as_ref().and_then(|bind| bind.source_address.as_ref());
    said.extend(bind.map(|source| format!("from {}", source.address)));
    said
}

fn balancer(cluster: &Cluster) -> String {
    match (cluster.lb_policy(), &cluster.lb_config) {
        (LbPolicy::RingHash, Some(LbConfig::RingHashLbConfig(ring))) => {
            let size = ring.minimum_ring_size.as_ref().map_or(1024, |size| size.value);
            format!("ring hash of {size}")
        }
        (LbPolicy::Maglev, Some(LbConfig::MaglevLbConfig(table))) => {
            let size = table.table_size.as_ref().map_or(65_537, |size| size.value);
            format!("maglev of {size}")
        }
        (policy, _) => policy.as_str_name().to_ascii_lowercase().replace('_', " "),
    }
}

const fn slow_start(cluster: &Cluster) -> Option<&SlowStartConfig> {
    match &cluster.lb_config {
        Some(LbConfig::LeastRequestLbConfig(config)) => config.slow_start_config.as_ref(),
        Some(LbConfig::RoundRobinLbConfig(config)) => config.slow_start_config.as_ref(),
        _ => None,
    }
}

fn warm_up(slow: &SlowStartConfig) -> String {
    let window = slow.slow_start_window.as_ref().map_or_else(String::new, seconds);
    let least = slow.min_weight_percent.as_ref().map(|percent| format!(" from {}%", percent.value));
    let growth = slow.aggression.as_ref().map(|growth| format!(" by {}", growth.default_value));
    format!("warms up for {window}{}{}", least.unwrap_or_default(), growth.unwrap_or_default())
}

fn places(cluster: &Cluster) -> Vec<String> {
    let Some(common) = &cluster.common_lb_config else { return Vec::new() };
    let places = match &common.locality_config_specifier {
        Some(LocalityConfigSpecifier::LocalityWeightedLbConfig(_)) => Some("localities by weight".to_owned()),
        Some(LocalityConfigSpecifier::ZoneAwareLbConfig(zones)) => {
            let off = zones.routing_enabled.as_ref().is_some_and(|percent| percent.value == 0.0);
            let least = zones.min_cluster_size.as_ref().map(|size| format!(" from {} endpoints", size.value));
            let zones = if off { "no zones" } else { "near zones first" };
            Some(format!("{zones}{}", least.unwrap_or_default()))
        }
        None => None,
    };
    let panic = common.healthy_panic_threshold.as_ref().map(|share| format!("panics below {}%", share.value));
    places.into_iter().chain(panic).collect()
}

/// Omits unlimited values.
fn limits(limits: &Thresholds) -> Vec<String> {
    let limit = |name: &str, said: &Option<UInt32Value>| {
        let said = said.as_ref().map(|said| said.value).filter(|most| *most != u32::MAX)?;
        Some(format!("at most {said} {name}"))
    };
    let budget = limits.retry_budget.as_ref().map(|budget| {
        let share = budget.budget_percent.as_ref().map_or(20.0, |share| share.value);
        let least = budget.min_retry_concurrency.as_ref().map_or(3, |least| least.value);
        let time = budget.budget_interval.as_ref().map(|time| format!(" in {}", seconds(time)));
        format!("retries {share}% at least {least}{}", time.unwrap_or_default())
    });
    [
        limit("connections", &limits.max_connections),
        limit("pending", &limits.max_pending_requests),
        limit("requests", &limits.max_requests),
        limit("retries", &limits.max_retries),
        budget,
    ]
    .into_iter()
    .flatten()
    .collect()
}

fn keepalive(cluster: &Cluster) -> Option<String> {
    let options = cluster.upstream_connection_options.as_ref()?.tcp_keepalive.as_ref()?;
    let number = |word: &str, said: &Option<UInt32Value>, unit: &str| {
        said.as_ref().map(|said| format!(" {word}{}{unit}", said.value)).unwrap_or_default()
    };
    let probes = number("", &options.keepalive_probes, " probes");
    let after = number("after ", &options.keepalive_time, "s");
    let every = number("every ", &options.keepalive_interval, "s");
    Some(format!("keeps alive{probes}{after}{every}"))
}

fn outliers(said: &OutlierDetection) -> Vec<String> {
    let count = |name: &str, errors: &Option<UInt32Value>, enforced: &Option<UInt32Value>| {
        let errors = errors.as_ref()?.value;
        let off = enforced.as_ref().is_some_and(|share| share.value == 0);
        Some(if off { format!("ejects never for {name}") } else { format!("ejects after {errors} {name}") })
    };
    let time =
        |word: &str, time: &Option<Duration>| time.as_ref().map(|time| format!("{word} {}", seconds(time)));
    let most = said.max_ejection_percent.as_ref().map(|most| format!("ejects at most {}%", most.value));
    [
        count("5xx", &said.consecutive_5xx, &said.enforcing_consecutive_5xx),
        count(
            "gateway errors",
            &said.consecutive_gateway_failure,
            &said.enforcing_consecutive_gateway_failure,
        ),
        count(
            "local errors",
            &said.consecutive_local_origin_failure,
            &said.enforcing_consecutive_local_origin_failure,
        ),
        time("ejects every", &said.interval),
        time("ejects for", &said.base_ejection_time),
        most,
    ]
    .into_iter()
    .flatten()
    .collect()
}

fn http(options: &HttpProtocolOptions) -> Vec<String> {
    let mut said = Vec::new();
    match &options.upstream_protocol_options {
        Some(UpstreamProtocolOptions::ExplicitHttpConfig(explicit)) => match &explicit.protocol_config {
            Some(ProtocolConfig::Http2ProtocolOptions(http2)) => {
                said.push("speaks HTTP/2".to_owned());
                let streams = http2.max_concurrent_streams.as_ref();
                said.extend(streams.map(|most| format!("at most {} streams", most.value)));
                let pings = http2.connection_keepalive.as_ref().and_then(|pings| pings.interval.as_ref());
                said.extend(pings.map(|every| format!("pings every {}", seconds(every))));
            }
            Some(ProtocolConfig::HttpProtocolOptions(_)) => said.push("speaks HTTP/1.1".to_owned()),
            Some(ProtocolConfig::Http3ProtocolOptions(_)) => said.push("speaks HTTP/3".to_owned()),
            None => {}
        },
        Some(UpstreamProtocolOptions::UseDownstreamProtocolConfig(_)) => {
            said.push("speaks as its client".to_owned());
        }
        Some(UpstreamProtocolOptions::AutoConfig(_)) => said.push("speaks what ALPN says".to_owned()),
        None => {}
    }
    if let Some(common) = &options.common_http_protocol_options {
        said.extend(common.idle_timeout.as_ref().map(|limit| format!("idles for {}", seconds(limit))));
        let life = common.max_connection_duration.as_ref();
        said.extend(life.map(|limit| format!("lives for {}", seconds(limit))));
        let most = common.max_requests_per_connection.as_ref();
        said.extend(most.map(|most| format!("at most {} requests of a connection", most.value)));
    }
    if let Some(names) = &options.upstream_http_protocol_options {
        said.extend(names.auto_sni.then(|| "asks for the host of the request".to_owned()));
        said.extend(names.auto_san_validation.then(|| "expects the host of the request".to_owned()));
    }
    said.extend(options.outlier_detection.as_ref().map(|_| "ejects for some statuses only".to_owned()));
    said
}

fn transport(socket: &TransportSocket) -> Vec<String> {
    let (proxied, inner) = proxied(socket);
    let version = proxied.map(|config| match config.version() {
        Version::V1 => "sends PROXY protocol version 1",
        Version::V2 => "sends PROXY protocol version 2",
    });
    let mut said: Vec<String> = version.map(str::to_owned).into_iter().collect();
    let context = tls(inner.as_ref().unwrap_or(socket)).and_then(|tls| tls.common_tls_context);
    said.extend(context.iter().flat_map(tls_summary::words));
    said
}

/// Returns the DNS settings of clusters that resolve names.
#[expect(deprecated, reason = "configuration may still say it so")]
fn dns(cluster: &Cluster) -> Option<String> {
    let Some(ClusterDiscoveryType::Type(kind)) = &cluster.cluster_discovery_type else { return None };
    let answers = match DiscoveryType::try_from(*kind) {
        Ok(DiscoveryType::StrictDns) => "all answers",
        Ok(DiscoveryType::LogicalDns) => "the first answer",
        _ => return None,
    };
    let every = cluster.dns_refresh_rate.as_ref().map(|every| format!(" every {}", seconds(every)));
    let family = cluster.dns_lookup_family().as_str_name().to_ascii_lowercase().replace('_', " ");
    Some(format!("takes {answers} of DNS{}, {family}", every.unwrap_or_default()))
}
