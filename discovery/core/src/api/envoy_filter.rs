//! `EnvoyFilter`: patches of generated configuration, in terms of Envoy's API.
//! <https://istio.io/latest/docs/reference/config/networking/envoy-filter/>

use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::selector::{PolicyTargetReference, WorkloadSelector};
use super::values::Map;

/// `EnvoyFilter.spec`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash, Deserialize, Serialize)]
#[serde(rename_all = "camelCase", default)]
pub struct EnvoyFilter {
    /// Workloads that it is for; absent: all of the namespace, or of the mesh in the root namespace.
    pub workload_selector: Option<WorkloadSelector>,
    /// Gateways that it is for.
    pub target_refs: Vec<PolicyTargetReference>,
    /// Patches, in order of application.
    pub config_patches: Vec<ConfigPatch>,
    /// Priority; lower ones are applied first.
    pub priority: i32,
}

/// One patch with its conditions.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash, Deserialize, Serialize)]
#[serde(rename_all = "camelCase", default)]
pub struct ConfigPatch {
    /// Type of the patched objects.
    pub apply_to: ApplyTo,
    /// Conditions on the patched objects.
    pub r#match: Option<ObjectMatch>,
    /// Operation and value.
    pub patch: Option<Patch>,
}

/// Type of object that a patch applies to.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Deserialize, Serialize)]
#[serde(rename_all = "SCREAMING_SNAKE_CASE")]
pub enum ApplyTo {
    /// Not set: an error.
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

/// Context in which a patch applies.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Deserialize, Serialize)]
#[serde(rename_all = "SCREAMING_SNAKE_CASE")]
pub enum PatchContext {
    /// All contexts.
    #[default]
    Any,
    /// Inbound traffic of a sidecar.
    SidecarInbound,
    /// Outbound traffic of a sidecar.
    SidecarOutbound,
    /// A gateway.
    Gateway,
    /// A waypoint of an ambient mesh.
    Waypoint,
}

/// Conditions on the patched objects; at most one of the last four is set.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash, Deserialize, Serialize)]
#[serde(rename_all = "camelCase", default)]
pub struct ObjectMatch {
    /// Context.
    pub context: PatchContext,
    /// Conditions on proxies.
    pub proxy: Option<ProxyMatch>,
    /// Conditions on listeners.
    pub listener: Option<ListenerMatch>,
    /// Conditions on route configurations.
    pub route_configuration: Option<RouteConfigurationMatch>,
    /// Conditions on clusters.
    pub cluster: Option<ClusterMatch>,
    /// Conditions on waypoints.
    pub waypoint: Option<WaypointMatch>,
}

/// Conditions on proxies.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash, Deserialize, Serialize)]
#[serde(rename_all = "camelCase", default)]
pub struct ProxyMatch {
    /// Regular expression of `ISTIO_VERSION`.
    pub proxy_version: String,
    /// Required node metadata.
    pub metadata: Map,
}

/// Conditions on clusters.
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

/// Conditions on route configurations.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash, Deserialize, Serialize)]
#[serde(rename_all = "camelCase", default)]
pub struct RouteConfigurationMatch {
    /// Port of the service or of the gateway's server; 0: any.
    pub port_number: u32,
    /// Name of the port of the gateway's server; empty: any.
    pub port_name: String,
    /// `<namespace>/<name>` of the `Gateway`; empty: any.
    pub gateway: String,
    /// Conditions on virtual hosts.
    pub vhost: Option<VirtualHostMatch>,
    /// Exact name; empty: any.
    pub name: String,
}

/// Conditions on virtual hosts.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash, Deserialize, Serialize)]
#[serde(rename_all = "camelCase", default)]
pub struct VirtualHostMatch {
    /// `<host>:<port>`; empty: any.
    pub name: String,
    /// One of its domains; empty: any.
    pub domain_name: String,
    /// Conditions on routes.
    pub route: Option<RouteMatch>,
}

/// Conditions on routes.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash, Deserialize, Serialize)]
#[serde(rename_all = "camelCase", default)]
pub struct RouteMatch {
    /// Name; empty: any.
    pub name: String,
    /// Action of the route.
    pub action: RouteAction,
}

/// Action of a route.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Deserialize, Serialize)]
#[serde(rename_all = "SCREAMING_SNAKE_CASE")]
pub enum RouteAction {
    /// Any action.
    #[default]
    Any,
    /// Forwards requests to a cluster.
    Route,
    /// Redirects requests.
    Redirect,
    /// Responds directly.
    DirectResponse,
}

/// Conditions on listeners.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash, Deserialize, Serialize)]
#[serde(rename_all = "camelCase", default)]
pub struct ListenerMatch {
    /// Port of the listener, or destination port of chains of `virtualInbound`; 0: any.
    pub port_number: u32,
    /// Without effect, as in Istio.
    pub port_name: String,
    /// Conditions on filter chains.
    pub filter_chain: Option<FilterChainMatch>,
    /// Name of a listener filter; empty: any.
    pub listener_filter: String,
    /// Exact name; empty: any.
    pub name: String,
}

/// Conditions on filter chains.
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
    /// Filter of the chain.
    pub filter: Option<FilterMatch>,
    /// Destination port of the chain; 0: any.
    pub destination_port: u32,
}

/// Condition on a network filter.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash, Deserialize, Serialize)]
#[serde(rename_all = "camelCase", default)]
pub struct FilterMatch {
    /// Name.
    pub name: String,
    /// Condition on an HTTP filter inside it.
    pub sub_filter: Option<SubFilterMatch>,
}

/// Condition on an HTTP filter inside an HTTP connection manager.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash, Deserialize, Serialize)]
#[serde(rename_all = "camelCase", default)]
pub struct SubFilterMatch {
    /// Name.
    pub name: String,
}

/// Conditions on waypoints, which are not supported.
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

/// Operation of a patch, with its value.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash, Deserialize, Serialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Patch {
    /// Operation.
    pub operation: PatchOperation,
    /// Value, as protobuf's JSON of the patched object.
    pub value: Option<Value>,
    /// Position among filters of these classes.
    pub filter_class: FilterClass,
}

/// Operation of a patch.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Deserialize, Serialize)]
#[serde(rename_all = "SCREAMING_SNAKE_CASE")]
pub enum PatchOperation {
    /// Not set: an error.
    #[default]
    Invalid,
    /// Merges into the object; lists are appended to.
    Merge,
    /// Adds an object.
    Add,
    /// Removes the object.
    Remove,
    /// Inserts before the matched object.
    InsertBefore,
    /// Inserts after the matched object.
    InsertAfter,
    /// Inserts before all others.
    InsertFirst,
    /// Replaces the matched object.
    Replace,
    /// Merges into the object; lists are replaced.
    MergeAndReplaceList,
}

/// Class of filters that determines a position.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Deserialize, Serialize)]
#[serde(rename_all = "SCREAMING_SNAKE_CASE")]
pub enum FilterClass {
    /// Position by the operation alone.
    #[default]
    Unspecified,
    /// After Istio's authentication filters.
    Authn,
    /// After Istio's authorization filters.
    Authz,
    /// Before Istio's statistics filters.
    Stats,
}
