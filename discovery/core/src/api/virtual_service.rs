//! `VirtualService`: routing of requests and connections to some hosts.
//! <https://istio.io/latest/docs/reference/config/networking/virtual-service/>

use std::collections::BTreeMap;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::values::{Map, Percent, PortSelector, StringMatch, duration};

pub use pilot_proto::networking::HttpRetry;

/// `VirtualService.spec`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash, Deserialize, Serialize)]
#[serde(rename_all = "camelCase", default)]
pub struct VirtualService {
    /// Hosts that it is for; empty: it is a delegate.
    pub hosts: Vec<String>,
    /// `[<namespace>/]<name>` of `Gateway`s, and `mesh` for sidecars; empty: sidecars.
    pub gateways: Vec<String>,
    /// Routes of requests; the first match applies.
    pub http: Vec<HttpRoute>,
    /// Routes of TLS connections that are not terminated.
    pub tls: Vec<TlsRoute>,
    /// Routes of TCP connections.
    pub tcp: Vec<TcpRoute>,
    /// Namespaces that can use it.
    pub export_to: Vec<String>,
}

/// Port of a service, or of a subset of it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash, Deserialize, Serialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Destination {
    /// Host name; a short one is completed with the namespace of the object.
    pub host: String,
    /// Subset of a `DestinationRule`; empty: the whole service.
    pub subset: String,
    /// Port; absent: the only port of the service, or that of the request.
    pub port: Option<PortSelector>,
}

/// Route of requests.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash, Deserialize, Serialize)]
#[serde(rename_all = "camelCase", default)]
pub struct HttpRoute {
    /// Name, for logs.
    pub name: String,
    /// Conditions, of which one must match; empty: all requests.
    pub r#match: Vec<HttpMatch>,
    /// Destinations with weights.
    pub route: Vec<HttpDestination>,
    /// Redirect response.
    pub redirect: Option<HttpRedirect>,
    /// Direct response.
    pub direct_response: Option<DirectResponse>,
    /// Delegate `VirtualService` with the routes.
    pub delegate: Option<Delegate>,
    /// Rewrite of path and host.
    pub rewrite: Option<HttpRewrite>,
    /// Timeout of the response; 0 and absent: none.
    #[serde(with = "duration")]
    pub timeout: Option<Duration>,
    /// Retry policy.
    pub retries: Option<HttpRetry>,
    /// Fault injection.
    pub fault: Option<FaultInjection>,
    /// Destination of mirrored requests.
    pub mirror: Option<Destination>,
    /// Destinations of mirrored requests, each with a percentage.
    pub mirrors: Vec<MirrorPolicy>,
    /// Deprecated percentage of `mirror`.
    pub mirror_percent: Option<u32>,
    /// Percentage of `mirror`; absent: all.
    pub mirror_percentage: Option<Percent>,
    /// CORS policy.
    pub cors_policy: Option<CorsPolicy>,
    /// Header operations.
    pub headers: Option<Headers>,
}

/// Reference to a delegate `VirtualService`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash, Deserialize, Serialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Delegate {
    /// Name of the delegate.
    pub name: String,
    /// Namespace of the delegate; empty: the same.
    pub namespace: String,
}

/// Header operations.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash, Deserialize, Serialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Headers {
    /// Operations on request headers.
    pub request: Option<HeaderOperations>,
    /// Operations on response headers.
    pub response: Option<HeaderOperations>,
}

/// Operations on headers.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash, Deserialize, Serialize)]
#[serde(rename_all = "camelCase", default)]
pub struct HeaderOperations {
    /// Headers to set.
    pub set: Map,
    /// Headers to append.
    pub add: Map,
    /// Headers to remove.
    pub remove: Vec<String>,
}

/// Route of TLS connections that are not terminated.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash, Deserialize, Serialize)]
#[serde(rename_all = "camelCase", default)]
pub struct TlsRoute {
    /// Conditions, of which one must match.
    pub r#match: Vec<TlsMatch>,
    /// Destinations with weights.
    pub route: Vec<RouteDestination>,
}

/// Route of TCP connections.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash, Deserialize, Serialize)]
#[serde(rename_all = "camelCase", default)]
pub struct TcpRoute {
    /// Conditions, of which one must match; empty: all connections.
    pub r#match: Vec<L4Match>,
    /// Destinations with weights.
    pub route: Vec<RouteDestination>,
}

/// Conditions on requests, which must all match.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash, Deserialize, Serialize)]
#[serde(rename_all = "camelCase", default)]
pub struct HttpMatch {
    /// Name, for logs.
    pub name: String,
    /// Path.
    pub uri: Option<StringMatch>,
    /// Scheme.
    pub scheme: Option<StringMatch>,
    /// Method.
    pub method: Option<StringMatch>,
    /// Host.
    pub authority: Option<StringMatch>,
    /// Headers, by lower-case name.
    pub headers: BTreeMap<String, StringMatch>,
    /// Destination port of the request; 0: any.
    pub port: u32,
    /// Labels of the client.
    pub source_labels: Map,
    /// Gateways, instead of those of the object.
    pub gateways: Vec<String>,
    /// Query parameters.
    pub query_params: BTreeMap<String, StringMatch>,
    /// Matches the path case-insensitively.
    pub ignore_uri_case: bool,
    /// Headers that must not match.
    pub without_headers: BTreeMap<String, StringMatch>,
    /// Namespace of the client.
    pub source_namespace: String,
    /// Prefix of the statistics of the route.
    pub stat_prefix: String,
}

/// Destination of requests.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash, Deserialize, Serialize)]
#[serde(rename_all = "camelCase", default)]
pub struct HttpDestination {
    /// The destination.
    pub destination: Option<Destination>,
    /// Weight relative to the others.
    pub weight: i32,
    /// Header operations for this destination.
    pub headers: Option<Headers>,
}

/// Destination of connections.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash, Deserialize, Serialize)]
#[serde(rename_all = "camelCase", default)]
pub struct RouteDestination {
    /// The destination.
    pub destination: Option<Destination>,
    /// Weight relative to the others.
    pub weight: i32,
}

/// Conditions on connections, which must all match.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash, Deserialize, Serialize)]
#[serde(rename_all = "camelCase", default)]
pub struct L4Match {
    /// Networks of the destination address, of which one must match.
    pub destination_subnets: Vec<String>,
    /// Destination port; 0: any.
    pub port: u32,
    /// Without effect, as in Istio.
    pub source_subnet: String,
    /// Labels of the client.
    pub source_labels: Map,
    /// Gateways, instead of those of the object.
    pub gateways: Vec<String>,
    /// Namespace of the client.
    pub source_namespace: String,
}

/// Conditions on TLS connections, which must all match.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash, Deserialize, Serialize)]
#[serde(rename_all = "camelCase", default)]
pub struct TlsMatch {
    /// Server names, of which one must match; each within the hosts of the object.
    pub sni_hosts: Vec<String>,
    /// Networks of the destination address, of which one must match.
    pub destination_subnets: Vec<String>,
    /// Destination port; 0: any.
    pub port: u32,
    /// Labels of the client.
    pub source_labels: Map,
    /// Gateways, instead of those of the object.
    pub gateways: Vec<String>,
    /// Namespace of the client.
    pub source_namespace: String,
}

/// Redirect. At most one of `port` and `derivePort` is set.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash, Deserialize, Serialize)]
#[serde(rename_all = "camelCase", default)]
pub struct HttpRedirect {
    /// New path; empty: unchanged.
    pub uri: String,
    /// New host; empty: unchanged.
    pub authority: String,
    /// New port.
    pub port: Option<u32>,
    /// Derivation of the new port.
    pub derive_port: Option<RedirectPort>,
    /// New scheme; empty: unchanged.
    pub scheme: String,
    /// 301, 302, 303, 307 or 308; 0: 301.
    pub redirect_code: u32,
    /// Replacement of the matched prefix; empty: unchanged.
    pub prefix_rewrite: String,
}

/// Derivation of the port of a redirect.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Deserialize, Serialize)]
#[serde(rename_all = "SCREAMING_SNAKE_CASE")]
pub enum RedirectPort {
    /// 80 or 443, by the scheme.
    #[default]
    FromProtocolDefault,
    /// The port of the request.
    FromRequestPort,
}

/// Direct response.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash, Deserialize, Serialize)]
#[serde(rename_all = "camelCase", default)]
pub struct DirectResponse {
    /// HTTP status.
    pub status: u32,
    /// Body.
    pub body: Option<HttpBody>,
}

/// Body; one of these is set.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash, Deserialize, Serialize)]
#[serde(rename_all = "camelCase", default)]
pub struct HttpBody {
    /// Text.
    pub string: Option<String>,
    /// Base64.
    pub bytes: Option<String>,
}

/// Rewrite of path and host.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash, Deserialize, Serialize)]
#[serde(rename_all = "camelCase", default)]
pub struct HttpRewrite {
    /// Replacement of the path, or of the matched prefix; empty: unchanged.
    pub uri: String,
    /// New host; empty: unchanged.
    pub authority: String,
    /// Rewrite of the path by a regular expression.
    pub uri_regex_rewrite: Option<RegexRewrite>,
}

/// Replacement by a regular expression.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash, Deserialize, Serialize)]
#[serde(rename_all = "camelCase", default)]
pub struct RegexRewrite {
    /// Expression in RE2.
    pub r#match: String,
    /// Replacement; may refer to groups: `\1`.
    pub rewrite: String,
}

/// CORS policy.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash, Deserialize, Serialize)]
#[serde(rename_all = "camelCase", default)]
pub struct CorsPolicy {
    /// Deprecated: exact origins.
    pub allow_origin: Vec<String>,
    /// Allowed origins, of which one must match.
    pub allow_origins: Vec<StringMatch>,
    /// `Access-Control-Allow-Methods`
    pub allow_methods: Vec<String>,
    /// `Access-Control-Allow-Headers`
    pub allow_headers: Vec<String>,
    /// `Access-Control-Expose-Headers`
    pub expose_headers: Vec<String>,
    /// `Access-Control-Max-Age`
    #[serde(with = "duration")]
    pub max_age: Option<Duration>,
    /// `Access-Control-Allow-Credentials`
    pub allow_credentials: Option<bool>,
    /// Treatment of preflight requests from other origins.
    pub unmatched_preflights: UnmatchedPreflights,
}

/// Treatment of preflight requests from origins that are not allowed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Deserialize, Serialize)]
#[serde(rename_all = "SCREAMING_SNAKE_CASE")]
pub enum UnmatchedPreflights {
    /// As `FORWARD`.
    #[default]
    Unspecified,
    /// Forwards them to the workload.
    Forward,
    /// Responds from the proxy, without allowing anything.
    Ignore,
}

/// Fault injection.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash, Deserialize, Serialize)]
#[serde(rename_all = "camelCase", default)]
pub struct FaultInjection {
    /// Delay of requests.
    pub delay: Option<Delay>,
    /// Error responses.
    pub abort: Option<Abort>,
}

/// Delay of requests; one of the two delays is set.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash, Deserialize, Serialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Delay {
    /// Deprecated percentage.
    pub percent: i32,
    /// Delay.
    #[serde(with = "duration")]
    pub fixed_delay: Option<Duration>,
    /// Never implemented by Istio.
    #[serde(with = "duration")]
    pub exponential_delay: Option<Duration>,
    /// Percentage of delayed requests.
    pub percentage: Option<Percent>,
}

/// Error response; one of the first three is set.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash, Deserialize, Serialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Abort {
    /// HTTP status.
    pub http_status: Option<i32>,
    /// gRPC status, such as `UNAVAILABLE`.
    pub grpc_status: Option<String>,
    /// Never implemented by Istio.
    pub http2_error: Option<String>,
    /// Percentage of requests; absent: none.
    pub percentage: Option<Percent>,
}

/// Destination of mirrored requests.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash, Deserialize, Serialize)]
#[serde(rename_all = "camelCase", default)]
pub struct MirrorPolicy {
    /// The destination.
    pub destination: Option<Destination>,
    /// Percentage of mirrored requests; absent: all.
    pub percentage: Option<Percent>,
}
