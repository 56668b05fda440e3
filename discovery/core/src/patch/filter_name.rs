//! Names of Envoy's filters: deprecated names from before Envoy 1.14, and Istio's classes.
//!
//! Generated filters have current names. A patch that matches a deprecated name applies to the current one.

use crate::api::envoy_filter::FilterClass;

/// Name of the filter that contains HTTP filters.
pub(super) const CONNECTION_MANAGER: &str = "envoy.filters.network.http_connection_manager";

/// Level of a filter. A deprecated name can exist on several levels.
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

/// Returns the current name of a filter with a deprecated name.
pub(super) fn successor(level: Level, name: &str) -> Option<&'static str> {
    let names = match level {
        Level::Listener => LISTENER,
        Level::Network => NETWORK,
        Level::Http => HTTP,
    };
    names.iter().find(|(old, _)| *old == name).map(|(_, today)| *today)
}

/// Returns the class of a generated filter.
pub(super) fn class(name: &str) -> FilterClass {
    match name {
        name if AUTHN.contains(&name) => FilterClass::Authn,
        name if AUTHZ.contains(&name) => FilterClass::Authz,
        name if STATS.contains(&name) => FilterClass::Stats,
        _ => FilterClass::Unspecified,
    }
}
