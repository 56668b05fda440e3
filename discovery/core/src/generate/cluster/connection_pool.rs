//! `connectionPool` and `retryBudget`: how many connections and requests, and how long they live.

use std::time::Duration;

use pilot_proto::envoy::config::cluster::v3::circuit_breakers::{Thresholds, thresholds};
use pilot_proto::envoy::config::cluster::v3::{CircuitBreakers, Cluster, UpstreamConnectionOptions};
use pilot_proto::envoy::config::core::v3::{KeepaliveSettings, TcpKeepalive as Keepalive};
use pilot_proto::envoy::r#type::v3::Percent;
use pilot_proto::google::protobuf::UInt32Value;

use super::http_options::{HttpOptions, UpstreamHttp};
use crate::api::destination_rule::{
    ConnectionPool, H2Upgrade, HttpSettings, RetryBudget, TcpKeepalive, TcpSettings,
};
use crate::generate::proto::{duration, number};
use crate::generate::traffic_policy::MergedTrafficPolicy;
use crate::model::Protocol;

/// Sets what the policy says about connections.
pub(super) fn apply(cluster: &mut Cluster, http: &mut HttpOptions, policy: &MergedTrafficPolicy) {
    let (tcp, requests) = settings(policy);
    cluster.connect_timeout = duration(tcp.connect_timeout.unwrap_or(policy.mesh.connect_timeout));
    cluster.circuit_breakers = Some(CircuitBreakers {
        thresholds: vec![limits(&tcp, &requests, policy.retry_budget.as_ref())],
        ..CircuitBreakers::default()
    });
    cluster.upstream_connection_options =
        keepalive([policy.mesh.tcp_keepalive.as_ref(), tcp.tcp_keepalive.as_ref()]);
    lives(http, &tcp, &requests);
    if requests.use_client_protocol {
        http.protocol = UpstreamHttp::UseDownstream;
    }
}

/// HTTP/1.1 becomes HTTP/2 where somebody wants it. Who says so for a host knows what its port speaks; the mesh does
/// not, and means only ports that are declared as HTTP.
pub(super) fn upgrade(http: &mut HttpOptions, protocol: Protocol, policy: &MergedTrafficPolicy) {
    let (_, requests) = settings(policy);
    let wanted = match requests.h2_upgrade_policy {
        _ if requests.use_client_protocol => false,
        H2Upgrade::Upgrade => true,
        H2Upgrade::DoNotUpgrade => false,
        H2Upgrade::Default => protocol.is_http() && policy.mesh.h2_upgrade == H2Upgrade::Upgrade,
    };
    if wanted && http.protocol == UpstreamHttp::Http1 {
        http.protocol = UpstreamHttp::Http2;
    }
}

fn settings(policy: &MergedTrafficPolicy) -> (TcpSettings, HttpSettings) {
    let pool: ConnectionPool = policy.connection_pool.clone().unwrap_or_default();
    (pool.tcp.unwrap_or_default(), pool.http.unwrap_or_default())
}

/// Envoy's own limits (1024 of everything) are a surprise to whoever meets them; who wants limits says so.
fn limits(tcp: &TcpSettings, http: &HttpSettings, budget: Option<&RetryBudget>) -> Thresholds {
    let limit = |said: i32| number(positive(said).unwrap_or(u32::MAX));
    Thresholds {
        max_connections: limit(tcp.max_connections),
        max_pending_requests: limit(http.http1_max_pending_requests),
        max_requests: limit(http.http2_max_requests),
        max_retries: limit(http.max_retries),
        retry_budget: budget.map(|budget| thresholds::RetryBudget {
            budget_percent: Some(Percent { value: budget.percent.map_or(20.0, |percent| percent.0) }),
            budget_interval: budget.budget_interval.and_then(duration),
            min_retry_concurrency: number(match budget.min_retry_concurrency {
                0 => 3,
                said => said,
            }),
        }),
        track_remaining: true,
        ..Thresholds::default()
    }
}

/// Each setting of its own from the last one that says it. Nothing said: the kernel probes nothing.
fn keepalive(said: [Option<&TcpKeepalive>; 2]) -> Option<UpstreamConnectionOptions> {
    let seconds = |time: Duration| u32::try_from(time.as_secs()).unwrap_or(u32::MAX);
    let mut found: Option<Keepalive> = None;
    for said in said.into_iter().flatten() {
        let made = found.get_or_insert_default();
        if said.probes > 0 {
            made.keepalive_probes = number(said.probes);
        }
        if let Some(time) = said.time {
            made.keepalive_time = number(seconds(time));
        }
        if let Some(interval) = said.interval {
            made.keepalive_interval = number(seconds(interval));
        }
    }
    let options = |tcp_keepalive| UpstreamConnectionOptions {
        tcp_keepalive: Some(tcp_keepalive),
        ..UpstreamConnectionOptions::default()
    };
    found.map(options)
}

fn lives(http: &mut HttpOptions, tcp: &TcpSettings, requests: &HttpSettings) {
    let idle = requests.idle_timeout.or(tcp.idle_timeout);
    let most_requests = positive(requests.max_requests_per_connection);
    let streams = positive(requests.max_concurrent_streams);
    if let Some(idle) = idle {
        http.common.get_or_insert_default().idle_timeout = duration(idle);
    }
    if let Some(longest) = tcp.max_connection_duration {
        http.common.get_or_insert_default().max_connection_duration = duration(longest);
    }
    if let Some(most) = most_requests {
        http.common.get_or_insert_default().max_requests_per_connection = number(most);
    }
    http.http2.max_concurrent_streams = streams.map(|value| UInt32Value { value });
    http.http2.connection_keepalive = requests.http2_keep_alive.as_ref().map(|pings| KeepaliveSettings {
        interval: pings.interval.and_then(duration),
        timeout: pings.timeout.and_then(duration),
        ..KeepaliveSettings::default()
    });
}

fn positive(said: i32) -> Option<u32> {
    u32::try_from(said).ok().filter(|number| *number > 0)
}
