//! `connectionPool` and `retryBudget`: circuit breakers, keepalive, timeouts and HTTP/2 upgrade.

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

/// Sets the connection pool settings of the policy.
pub(super) fn apply(cluster: &mut Cluster, http: &mut HttpOptions, policy: &MergedTrafficPolicy) {
    let (tcp, requests) = settings(policy);
    cluster.connect_timeout = duration(tcp.connect_timeout.unwrap_or(policy.mesh.connect_timeout));
    cluster.circuit_breakers = Some(CircuitBreakers {
        thresholds: vec![limits(&tcp, &requests, policy.retry_budget.as_ref())],
        ..CircuitBreakers::default()
    });
    cluster.upstream_connection_options =
        keepalive([policy.mesh.tcp_keepalive.as_ref(), tcp.tcp_keepalive.as_ref()]);
    lifetimes(http, &tcp, &requests);
    if requests.use_client_protocol {
        http.protocol = UpstreamHttp::UseDownstream;
    }
}

/// Upgrades HTTP/1.1 to HTTP/2 (`h2UpgradePolicy`). A policy of a host applies to any protocol, that of the mesh only to ports
/// declared as HTTP.
pub(super) fn upgrade(http: &mut HttpOptions, protocol: Protocol, policy: &MergedTrafficPolicy) {
    let (_, requests) = settings(policy);
    let upgrade = match requests.h2_upgrade_policy {
        _ if requests.use_client_protocol => false,
        H2Upgrade::Upgrade => true,
        H2Upgrade::DoNotUpgrade => false,
        H2Upgrade::Default => protocol.is_http() && policy.mesh.h2_upgrade == H2Upgrade::Upgrade,
    };
    if upgrade && http.protocol == UpstreamHttp::Http1 {
        http.protocol = UpstreamHttp::Http2;
    }
}

fn settings(policy: &MergedTrafficPolicy) -> (TcpSettings, HttpSettings) {
    let pool: ConnectionPool = policy.connection_pool.clone().unwrap_or_default();
    (pool.tcp.unwrap_or_default(), pool.http.unwrap_or_default())
}

/// Returns the circuit breakers. Without configured limits there are none, instead of Envoy's default of 1024.
fn limits(tcp: &TcpSettings, http: &HttpSettings, budget: Option<&RetryBudget>) -> Thresholds {
    let limit = |setting: i32| number(positive(setting).unwrap_or(u32::MAX));
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
                setting => setting,
            }),
        }),
        track_remaining: true,
        ..Thresholds::default()
    }
}

/// Merges keepalive settings, the last one with a value takes precedence; `None`: keepalive is off.
fn keepalive(setting: [Option<&TcpKeepalive>; 2]) -> Option<UpstreamConnectionOptions> {
    let seconds = |time: Duration| u32::try_from(time.as_secs()).unwrap_or(u32::MAX);
    let mut merged: Option<Keepalive> = None;
    for setting in setting.into_iter().flatten() {
        let keepalive_settings = merged.get_or_insert_default();
        if setting.probes > 0 {
            keepalive_settings.keepalive_probes = number(setting.probes);
        }
        if let Some(time) = setting.time {
            keepalive_settings.keepalive_time = number(seconds(time));
        }
        if let Some(interval) = setting.interval {
            keepalive_settings.keepalive_interval = number(seconds(interval));
        }
    }
    let options = |tcp_keepalive| UpstreamConnectionOptions {
        tcp_keepalive: Some(tcp_keepalive),
        ..UpstreamConnectionOptions::default()
    };
    merged.map(options)
}

/// Sets timeouts, request limits and HTTP/2 options.
fn lifetimes(http: &mut HttpOptions, tcp: &TcpSettings, requests: &HttpSettings) {
    let idle = requests.idle_timeout.or(tcp.idle_timeout);
    let max_requests_per_connection = positive(requests.max_requests_per_connection);
    let streams = positive(requests.max_concurrent_streams);
    if let Some(idle) = idle {
        http.common.get_or_insert_default().idle_timeout = duration(idle);
    }
    if let Some(max_duration) = tcp.max_connection_duration {
        http.common.get_or_insert_default().max_connection_duration = duration(max_duration);
    }
    if let Some(max_requests) = max_requests_per_connection {
        http.common.get_or_insert_default().max_requests_per_connection = number(max_requests);
    }
    http.http2.max_concurrent_streams = streams.map(|value| UInt32Value { value });
    http.http2.connection_keepalive = requests.http2_keep_alive.as_ref().map(|pings| KeepaliveSettings {
        interval: pings.interval.and_then(duration),
        timeout: pings.timeout.and_then(duration),
        ..KeepaliveSettings::default()
    });
}

fn positive(setting: i32) -> Option<u32> {
    u32::try_from(setting).ok().filter(|number| *number > 0)
}
