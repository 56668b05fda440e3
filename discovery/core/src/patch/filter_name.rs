//! Names of Envoy's filters: those they had before Envoy 1.14, and which of them Istio puts into which class.
//!
//! Istio generates today's names, and so do we. A patch that matches by an old one means the filter of today.

use crate::api::envoy_filter::FilterClass;

/// The filter whose filters `HTTP_FILTER` is about.
pub(super) const CONNECTION_MANAGER: &str = "envoy.filters.network.http_connection_manager";

/// Where a filter stands. The same old name can mean one of each.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Level {
    Listener,
    Network,
    Http,
}

const LISTENER: &[(&str, &str)] = &[
    ("envoy.listener.http_inspector", "envoy.filters.listener.http_inspector"),
    ("envoy.listener.original_dst", "envoy.filters.listener.original_dst"),
    ("envoy.listener.original_src", "envoy.filters.listener.original_src"),
    ("envoy.listener.proxy_protocol", "envoy.filters.listener.proxy_protocol"),
    ("envoy.listener.tls_inspector", "envoy.filters.listener.tls_inspector"),
];

const NETWORK: &[(&str, &str)] = &[
    ("envoy.client_ssl_auth", "envoy.filters.network.client_ssl_auth"),
    ("envoy.ext_authz", "envoy.filters.network.ext_authz"),
    ("envoy.http_connection_manager", CONNECTION_MANAGER),
    ("envoy.mongo_proxy", "envoy.filters.network.mongo_proxy"),
    ("envoy.ratelimit", "envoy.filters.network.ratelimit"),
    ("envoy.redis_proxy", "envoy.filters.network.redis_proxy"),
    ("envoy.tcp_proxy", "envoy.filters.network.tcp_proxy"),
];

const HTTP: &[(&str, &str)] = &[
    ("envoy.buffer", "envoy.filters.http.buffer"),
    ("envoy.cors", "envoy.filters.http.cors"),
    ("envoy.csrf", "envoy.filters.http.csrf"),
    ("envoy.ext_authz", "envoy.filters.http.ext_authz"),
    ("envoy.fault", "envoy.filters.http.fault"),
    ("envoy.grpc_http1_bridge", "envoy.filters.http.grpc_http1_bridge"),
    ("envoy.grpc_json_transcoder", "envoy.filters.http.grpc_json_transcoder"),
    ("envoy.grpc_web", "envoy.filters.http.grpc_web"),
    ("envoy.gzip", "envoy.filters.http.gzip"),
    ("envoy.health_check", "envoy.filters.http.health_check"),
    ("envoy.http_dynamo_filter", "envoy.filters.http.dynamo"),
    ("envoy.ip_tagging", "envoy.filters.http.ip_tagging"),
    ("envoy.lua", "envoy.filters.http.lua"),
    ("envoy.rate_limit", "envoy.filters.http.ratelimit"),
    ("envoy.router", "envoy.filters.http.router"),
    ("envoy.squash", "envoy.filters.http.squash"),
];

const AUTHN: &[&str] = &["istio_authn", "envoy.filters.http.jwt_authn"];
const AUTHZ: &[&str] = &[
    "envoy.filters.http.ext_authz",
    "envoy.filters.http.rbac",
    "envoy.filters.network.ext_authz",
    "envoy.filters.network.rbac",
];
const STATS: &[&str] = &["istio.stats", "envoy.filters.http.grpc_stats"];

/// Today's name of a filter that is named by its old one.
pub(super) fn successor(level: Level, name: &str) -> Option<&'static str> {
    let names = match level {
        Level::Listener => LISTENER,
        Level::Network => NETWORK,
        Level::Http => HTTP,
    };
    names.iter().find(|(old, _)| *old == name).map(|(_, today)| *today)
}

/// Class of a filter that the control plane generates.
pub(super) fn class(name: &str) -> FilterClass {
    match name {
        name if AUTHN.contains(&name) => FilterClass::Authn,
        name if AUTHZ.contains(&name) => FilterClass::Authz,
        name if STATS.contains(&name) => FilterClass::Stats,
        _ => FilterClass::Unspecified,
    }
}
