//! `VirtualService`: where requests and connections to some hosts go.
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
    /// Hosts it is for; none: it is a delegate of others.
    pub hosts: Vec<String>,
    /// `[<namespace>/]<name>` of `Gateway`s, and `mesh` for sidecars; empty: sidecars.
    pub gateways: Vec<String>,
    /// Rules for requests; the first that matches counts.
    pub http: Vec<HttpRoute>,
    /// Rules for TLS that is not opened.
    pub tls: Vec<TlsRoute>,
    /// Rules for bytes.
    pub tcp: Vec<TcpRoute>,
    /// Who may see it.
    pub export_to: Vec<String>,
}

/// A port of a service, or of a subset of it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash, Deserialize, Serialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Destination {
    /// Host name; a short one is completed with the namespace of the object.
    pub host: String,
    /// Subset of a `DestinationRule`; empty: the whole service.
    pub subset: String,
    /// Absent: the only port of the service, or the one that was asked for.
    pub port: Option<PortSelector>,
}

/// One rule for requests.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash, Deserialize, Serialize)]
#[serde(rename_all = "camelCase", default)]
pub struct HttpRoute {
    /// Its name, for logs.
    pub name: String,
    /// Requests it is for: one of these; none: all.
    pub r#match: Vec<HttpMatch>,
    /// Where they go.
    pub route: Vec<HttpDestination>,
    /// They are redirected.
    pub redirect: Option<HttpRedirect>,
    /// They are answered.
    pub direct_response: Option<DirectResponse>,
    /// Another object decides.
    pub delegate: Option<Delegate>,
    /// What is rewritten on the way.
    pub rewrite: Option<HttpRewrite>,
    /// How long an answer may take; 0 and absent: as long as it takes.
    #[serde(with = "duration")]
    pub timeout: Option<Duration>,
    /// What is tried again.
    pub retries: Option<HttpRetry>,
    /// What is made to fail.
    pub fault: Option<FaultInjection>,
    /// Where copies go.
    pub mirror: Option<Destination>,
    /// Where copies go, with a share each.
    pub mirrors: Vec<MirrorPolicy>,
    /// Deprecated share of `mirror`.
    pub mirror_percent: Option<u32>,
    /// Share of `mirror`; absent: all.
    pub mirror_percentage: Option<Percent>,
    /// Cross-origin requests.
    pub cors_policy: Option<CorsPolicy>,
    /// Headers that are changed.
    pub headers: Option<Headers>,
}

/// Names a `VirtualService` that decides further.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash, Deserialize, Serialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Delegate {
    /// Its name.
    pub name: String,
    /// Its namespace; empty: the same.
    pub namespace: String,
}

/// Headers that are changed.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash, Deserialize, Serialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Headers {
    /// Of requests.
    pub request: Option<HeaderOperations>,
    /// Of responses.
    pub response: Option<HeaderOperations>,
}

/// How headers are changed.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash, Deserialize, Serialize)]
#[serde(rename_all = "camelCase", default)]
pub struct HeaderOperations {
    /// Overwritten.
    pub set: Map,
    /// Appended.
    pub add: Map,
    /// Removed.
    pub remove: Vec<String>,
}

/// One rule for TLS that is not opened.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash, Deserialize, Serialize)]
#[serde(rename_all = "camelCase", default)]
pub struct TlsRoute {
    /// Connections it is for: one of these.
    pub r#match: Vec<TlsMatch>,
    /// Where they go.
    pub route: Vec<RouteDestination>,
}

/// One rule for bytes.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash, Deserialize, Serialize)]
#[serde(rename_all = "camelCase", default)]
pub struct TcpRoute {
    /// Connections it is for: one of these; none: all.
    pub r#match: Vec<L4Match>,
    /// Where they go.
    pub route: Vec<RouteDestination>,
}

/// Some requests: all that is said here holds for them.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash, Deserialize, Serialize)]
#[serde(rename_all = "camelCase", default)]
pub struct HttpMatch {
    /// Its name, for logs.
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
    /// Port that was asked for; 0: any.
    pub port: u32,
    /// Labels of the client.
    pub source_labels: Map,
    /// Gateways, instead of those of the object.
    pub gateways: Vec<String>,
    /// Parameters of the query.
    pub query_params: BTreeMap<String, StringMatch>,
    /// Upper and lower case of the path are the same.
    pub ignore_uri_case: bool,
    /// Headers that must not be like this.
    pub without_headers: BTreeMap<String, StringMatch>,
    /// Namespace of the client.
    pub source_namespace: String,
    /// Prefix of the statistics of the route.
    pub stat_prefix: String,
}

/// Where requests go.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash, Deserialize, Serialize)]
#[serde(rename_all = "camelCase", default)]
pub struct HttpDestination {
    /// Where.
    pub destination: Option<Destination>,
    /// How many of them, in relation to the others.
    pub weight: i32,
    /// Headers that are changed for them.
    pub headers: Option<Headers>,
}

/// Where connections go.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash, Deserialize, Serialize)]
#[serde(rename_all = "camelCase", default)]
pub struct RouteDestination {
    /// Where.
    pub destination: Option<Destination>,
    /// How many of them, in relation to the others.
    pub weight: i32,
}

/// Some connections: all that is said here holds for them.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash, Deserialize, Serialize)]
#[serde(rename_all = "camelCase", default)]
pub struct L4Match {
    /// Networks of the address that was asked for: one of these.
    pub destination_subnets: Vec<String>,
    /// Port that was asked for; 0: any.
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

/// Some TLS connections: all that is said here holds for them.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash, Deserialize, Serialize)]
#[serde(rename_all = "camelCase", default)]
pub struct TlsMatch {
    /// The name that is asked for: one of these; each within the hosts of the object.
    pub sni_hosts: Vec<String>,
    /// Networks of the address that was asked for: one of these.
    pub destination_subnets: Vec<String>,
    /// Port that was asked for; 0: any.
    pub port: u32,
    /// Labels of the client.
    pub source_labels: Map,
    /// Gateways, instead of those of the object.
    pub gateways: Vec<String>,
    /// Namespace of the client.
    pub source_namespace: String,
}

/// A redirect. Of `port` and `derivePort` at most one.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash, Deserialize, Serialize)]
#[serde(rename_all = "camelCase", default)]
pub struct HttpRedirect {
    /// The new path; empty: the same.
    pub uri: String,
    /// The new host; empty: the same.
    pub authority: String,
    /// The new port.
    pub port: Option<u32>,
    /// How the new port is found.
    pub derive_port: Option<RedirectPort>,
    /// The new scheme; empty: the same.
    pub scheme: String,
    /// 301, 302, 303, 307 or 308; 0: 301.
    pub redirect_code: u32,
    /// What the matched prefix becomes; empty: what it was.
    pub prefix_rewrite: String,
}

/// How the port of a redirect is found.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Deserialize, Serialize)]
#[serde(rename_all = "SCREAMING_SNAKE_CASE")]
pub enum RedirectPort {
    /// 80 or 443.
    #[default]
    FromProtocolDefault,
    /// It stays.
    FromRequestPort,
}

/// An answer.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash, Deserialize, Serialize)]
#[serde(rename_all = "camelCase", default)]
pub struct DirectResponse {
    /// Its status.
    pub status: u32,
    /// Its body.
    pub body: Option<HttpBody>,
}

/// A body: one of these.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash, Deserialize, Serialize)]
#[serde(rename_all = "camelCase", default)]
pub struct HttpBody {
    /// Text.
    pub string: Option<String>,
    /// Base64.
    pub bytes: Option<String>,
}

/// What is rewritten.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash, Deserialize, Serialize)]
#[serde(rename_all = "camelCase", default)]
pub struct HttpRewrite {
    /// What the path, or the prefix that matched, becomes; empty: what it was.
    pub uri: String,
    /// What the host becomes; empty: what it was.
    pub authority: String,
    /// What the path becomes by a regular expression.
    pub uri_regex_rewrite: Option<RegexRewrite>,
}

/// A replacement by a regular expression.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash, Deserialize, Serialize)]
#[serde(rename_all = "camelCase", default)]
pub struct RegexRewrite {
    /// RE2.
    pub r#match: String,
    /// May refer to groups: `\1`.
    pub rewrite: String,
}

/// Cross-origin requests.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash, Deserialize, Serialize)]
#[serde(rename_all = "camelCase", default)]
pub struct CorsPolicy {
    /// Deprecated: exact origins.
    pub allow_origin: Vec<String>,
    /// Origins that are allowed: one of these.
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
    /// What happens to preflight requests of other origins.
    pub unmatched_preflights: UnmatchedPreflights,
}

/// What happens to preflight requests of origins that are not allowed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Deserialize, Serialize)]
#[serde(rename_all = "SCREAMING_SNAKE_CASE")]
pub enum UnmatchedPreflights {
    /// As `FORWARD`.
    #[default]
    Unspecified,
    /// The workload answers.
    Forward,
    /// The proxy answers, without allowing anything.
    Ignore,
}

/// What is made to fail.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash, Deserialize, Serialize)]
#[serde(rename_all = "camelCase", default)]
pub struct FaultInjection {
    /// Late.
    pub delay: Option<Delay>,
    /// Not at all.
    pub abort: Option<Abort>,
}

/// Requests that are held up: one of the two delays.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash, Deserialize, Serialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Delay {
    /// Deprecated share.
    pub percent: i32,
    /// For so long.
    #[serde(with = "duration")]
    pub fixed_delay: Option<Duration>,
    /// Never implemented by Istio.
    #[serde(with = "duration")]
    pub exponential_delay: Option<Duration>,
    /// How many of them.
    pub percentage: Option<Percent>,
}

/// Requests that are answered with an error: one of the first three.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash, Deserialize, Serialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Abort {
    /// Status.
    pub http_status: Option<i32>,
    /// `UNAVAILABLE` and the like.
    pub grpc_status: Option<String>,
    /// Never implemented by Istio.
    pub http2_error: Option<String>,
    /// How many of them; absent: none.
    pub percentage: Option<Percent>,
}

/// Where copies go.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash, Deserialize, Serialize)]
#[serde(rename_all = "camelCase", default)]
pub struct MirrorPolicy {
    /// Where.
    pub destination: Option<Destination>,
    /// Of how many requests; absent: all.
    pub percentage: Option<Percent>,
}
