//! `EnvoyFilter`: changes to what was generated, in Envoy's own words.
//! <https://istio.io/latest/docs/reference/config/networking/envoy-filter/>

use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::selector::{PolicyTargetReference, WorkloadSelector};
use super::values::Map;

/// `EnvoyFilter.spec`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash, Deserialize, Serialize)]
#[serde(rename_all = "camelCase", default)]
pub struct EnvoyFilter {
    /// For which workloads; absent: all of the namespace, or of the mesh in the root namespace.
    pub workload_selector: Option<WorkloadSelector>,
    /// For which gateways.
    pub target_refs: Vec<PolicyTargetReference>,
    /// What is changed, in this order.
    pub config_patches: Vec<ConfigPatch>,
    /// Lower ones go first.
    pub priority: i32,
}

/// One change.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash, Deserialize, Serialize)]
#[serde(rename_all = "camelCase", default)]
pub struct ConfigPatch {
    /// To what kind of thing.
    pub apply_to: ApplyTo,
    /// To which of them.
    pub r#match: Option<ObjectMatch>,
    /// What is done.
    pub patch: Option<Patch>,
}

/// What kind of thing a patch is applied to.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Deserialize, Serialize)]
#[serde(rename_all = "SCREAMING_SNAKE_CASE")]
pub enum ApplyTo {
    /// None: an error.
    #[default]
    Invalid,
    /// A listener.
    Listener,
    /// A filter chain of a listener.
    FilterChain,
    /// A filter of a filter chain.
    NetworkFilter,
    /// A filter of an HTTP connection manager.
    HttpFilter,
    /// A route configuration.
    RouteConfiguration,
    /// A virtual host of a route configuration.
    VirtualHost,
    /// A route of a virtual host.
    HttpRoute,
    /// A cluster.
    Cluster,
    /// A resource of ECDS.
    ExtensionConfig,
    /// The bootstrap.
    Bootstrap,
    /// A listener filter.
    ListenerFilter,
}

/// Where a proxy stands when a patch applies.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Deserialize, Serialize)]
#[serde(rename_all = "SCREAMING_SNAKE_CASE")]
pub enum PatchContext {
    /// Anywhere.
    #[default]
    Any,
    /// What comes to a workload.
    SidecarInbound,
    /// What leaves it.
    SidecarOutbound,
    /// A gateway.
    Gateway,
    /// A waypoint of an ambient mesh.
    Waypoint,
}

/// Which things a patch is applied to: one of the last four.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash, Deserialize, Serialize)]
#[serde(rename_all = "camelCase", default)]
pub struct ObjectMatch {
    /// Where.
    pub context: PatchContext,
    /// Of which proxies.
    pub proxy: Option<ProxyMatch>,
    /// In which listeners.
    pub listener: Option<ListenerMatch>,
    /// In which route configurations.
    pub route_configuration: Option<RouteConfigurationMatch>,
    /// Which clusters.
    pub cluster: Option<ClusterMatch>,
    /// In which waypoints.
    pub waypoint: Option<WaypointMatch>,
}

/// Which proxies.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash, Deserialize, Serialize)]
#[serde(rename_all = "camelCase", default)]
pub struct ProxyMatch {
    /// Regular expression of `ISTIO_VERSION`.
    pub proxy_version: String,
    /// Node metadata, equal to these.
    pub metadata: Map,
}

/// Which clusters.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash, Deserialize, Serialize)]
#[serde(rename_all = "camelCase", default)]
pub struct ClusterMatch {
    /// Service port outbound, target port inbound; 0: any.
    pub port_number: u32,
    /// Host name of the service; empty: any.
    pub service: String,
    /// Subset; empty: any.
    pub subset: String,
    /// Exact name; empty: any.
    pub name: String,
}

/// Which route configurations.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash, Deserialize, Serialize)]
#[serde(rename_all = "camelCase", default)]
pub struct RouteConfigurationMatch {
    /// Port of the service or of the gateway's server; 0: any.
    pub port_number: u32,
    /// Name of the port of the gateway's server; empty: any.
    pub port_name: String,
    /// `<namespace>/<name>` of the `Gateway`; empty: any.
    pub gateway: String,
    /// Which virtual hosts.
    pub vhost: Option<VirtualHostMatch>,
    /// Exact name; empty: any.
    pub name: String,
}

/// Which virtual hosts.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash, Deserialize, Serialize)]
#[serde(rename_all = "camelCase", default)]
pub struct VirtualHostMatch {
    /// `<host>:<port>`; empty: any.
    pub name: String,
    /// One of its domains; empty: any.
    pub domain_name: String,
    /// Which routes.
    pub route: Option<RouteMatch>,
}

/// Which routes.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash, Deserialize, Serialize)]
#[serde(rename_all = "camelCase", default)]
pub struct RouteMatch {
    /// Name; empty: any.
    pub name: String,
    /// What they do.
    pub action: RouteAction,
}

/// What a route does.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Deserialize, Serialize)]
#[serde(rename_all = "SCREAMING_SNAKE_CASE")]
pub enum RouteAction {
    /// Anything.
    #[default]
    Any,
    /// Sends requests to a cluster.
    Route,
    /// Redirects.
    Redirect,
    /// Answers.
    DirectResponse,
}

/// Which listeners.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash, Deserialize, Serialize)]
#[serde(rename_all = "camelCase", default)]
pub struct ListenerMatch {
    /// Port of the listener, or destination port of chains of `virtualInbound`; 0: any.
    pub port_number: u32,
    /// Without effect, as in Istio.
    pub port_name: String,
    /// Which filter chains.
    pub filter_chain: Option<FilterChainMatch>,
    /// Name of a listener filter; empty: any.
    pub listener_filter: String,
    /// Exact name; empty: any.
    pub name: String,
}

/// Which filter chains.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash, Deserialize, Serialize)]
#[serde(rename_all = "camelCase", default)]
pub struct FilterChainMatch {
    /// Name; empty: any.
    pub name: String,
    /// One of their server names; empty: any.
    pub sni: String,
    /// `raw_buffer` or `tls`; empty: any.
    pub transport_protocol: String,
    /// Name of their transport socket; empty: any.
    pub transport_socket: String,
    /// Comma-separated, all of them; empty: any.
    pub application_protocols: String,
    /// A filter they have.
    pub filter: Option<FilterMatch>,
    /// Port that connections go to; 0: any.
    pub destination_port: u32,
}

/// A filter.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash, Deserialize, Serialize)]
#[serde(rename_all = "camelCase", default)]
pub struct FilterMatch {
    /// Name.
    pub name: String,
    /// A filter inside it.
    pub sub_filter: Option<SubFilterMatch>,
}

/// A filter inside an HTTP connection manager.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash, Deserialize, Serialize)]
#[serde(rename_all = "camelCase", default)]
pub struct SubFilterMatch {
    /// Name.
    pub name: String,
}

/// In which waypoints; there are none here.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash, Deserialize, Serialize)]
#[serde(rename_all = "camelCase", default)]
pub struct WaypointMatch {
    /// Port.
    pub port_number: u32,
    /// Route.
    pub route: Option<SubFilterMatch>,
    /// Filter.
    pub filter: Option<FilterMatch>,
}

/// What is done.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash, Deserialize, Serialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Patch {
    /// How.
    pub operation: PatchOperation,
    /// With what, as protobuf's JSON of the thing that is patched.
    pub value: Option<Value>,
    /// Where among filters of certain classes it is put.
    pub filter_class: FilterClass,
}

/// How a patch is done.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Deserialize, Serialize)]
#[serde(rename_all = "SCREAMING_SNAKE_CASE")]
pub enum PatchOperation {
    /// Not at all: an error.
    #[default]
    Invalid,
    /// Merged into what is there; lists grow.
    Merge,
    /// Added.
    Add,
    /// Removed.
    Remove,
    /// Put before what matches.
    InsertBefore,
    /// Put after what matches.
    InsertAfter,
    /// Put before all others.
    InsertFirst,
    /// Put in place of what matches.
    Replace,
    /// Merged into what is there; lists are replaced.
    MergeAndReplaceList,
}

/// Where a filter is put.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Deserialize, Serialize)]
#[serde(rename_all = "SCREAMING_SNAKE_CASE")]
pub enum FilterClass {
    /// By the operation alone.
    #[default]
    Unspecified,
    /// After Istio's authentication filters.
    Authn,
    /// After Istio's authorization filters.
    Authz,
    /// Before Istio's statistics filters.
    Stats,
}
