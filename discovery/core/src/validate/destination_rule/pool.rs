//! Validation of `connectionPool`, of a `DestinationRule` and of a `Sidecar`.

use std::time::Duration;

use super::super::findings::{At, Findings};
use crate::api::destination_rule::{ConnectionPool, H2Upgrade, HttpSettings, TcpSettings};

/// Checks limits and timeouts.
pub(in crate::validate) fn check(out: &mut Findings, at: At<'_>, pool: &ConnectionPool) {
    if pool.http.is_none() && pool.tcp.is_none() {
        out.error(at, "says nothing");
    }
    if let Some(settings) = &pool.http {
        http(out, at.of("http"), settings);
    }
    if let Some(settings) = &pool.tcp {
        tcp(out, at.of("tcp"), settings);
    }
}

fn http(out: &mut Findings, at: At<'_>, http: &HttpSettings) {
    for (field, number) in [
        ("http1MaxPendingRequests", http.http1_max_pending_requests),
        ("http2MaxRequests", http.http2_max_requests),
        ("maxRequestsPerConnection", http.max_requests_per_connection),
        ("maxRetries", http.max_retries),
        ("maxConcurrentStreams", http.max_concurrent_streams),
    ] {
        out.not_negative(at.of(field), number);
    }
    out.duration(at.of("idleTimeout"), http.idle_timeout);
    if http.h2_upgrade_policy == H2Upgrade::Upgrade && http.use_client_protocol {
        out.error(at.of("useClientProtocol"), "contradicts h2UpgradePolicy UPGRADE");
    }
    if let Some(keepalive) = &http.http2_keep_alive {
        let at = at.of("http2KeepAlive");
        for (field, duration) in [("interval", keepalive.interval), ("timeout", keepalive.timeout)] {
            if duration.is_none() {
                out.error(at.of(field), "is missing");
            }
            out.duration(at.of(field), duration);
        }
    }
}

fn tcp(out: &mut Findings, at: At<'_>, tcp: &TcpSettings) {
    out.not_negative(at.of("maxConnections"), tcp.max_connections);
    out.duration(at.of("connectTimeout"), tcp.connect_timeout);
    out.duration(at.of("maxConnectionDuration"), tcp.max_connection_duration);
    // 0: no timeout.
    out.duration(
        at.of("idleTimeout"),
        tcp.idle_timeout.filter(|timeout| *timeout >= Duration::from_millis(1)),
    );
    if let Some(keepalive) = &tcp.tcp_keepalive {
        let at = at.of("tcpKeepalive");
        out.duration(at.of("time"), keepalive.time);
        out.duration(at.of("interval"), keepalive.interval);
    }
}
