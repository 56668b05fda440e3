//! `EnvoyFilter`: patches of generated configuration, in terms of Envoy's API.
//!
//! ```text
//!  EnvoyFilter ── Patches::parse ──▶ Arc<Patch>, Findings        once for each object
//!  Patches of root and own namespace, a proxy ── PatchSet::select ──▶ clusters │ listeners │ routes │ extensions
//!  a generated resource, its patches, its Context ── cluster, listener, route_configuration ──▶ resource, Outcomes
//! ```
//!
//! Decides which proxies and objects a patch applies to, and applies it. `validate` checks the object; generation and caching are
//! elsewhere. Configuration without patches is not decoded; a patch that cannot be applied leaves its resource unchanged and is
//! reported. The rules are those of Istio's `pilot/pkg/networking/core/envoyfilter`; differences are documented.

use std::sync::Arc;

use pilot_proto::node::NodeType;

use crate::api::envoy_filter::{
    ApplyTo, ClusterMatch, FilterClass, ListenerMatch, PatchContext, PatchOperation, RouteConfigurationMatch,
};
use crate::model::{ConfigKey, ConfigObject, ConfigSpec, Direction};
use crate::validate::Finding;

mod cluster;
mod edit;
mod filter;
mod filter_name;
mod http;
mod listener;
mod outcome;
mod parse;
mod proxy;
mod route;
mod set;
#[cfg(test)]
mod tests;
mod value;

pub use cluster::{added_clusters, cluster};
pub use http::inline_routes;
pub use listener::{added_listeners, listener};
pub use outcome::{Outcomes, Verdict};
pub use parse::Patches;
pub use route::{GatewayPorts, route_configuration};
pub use set::{ClusterPatches, ExtensionPatches, ListenerPatches, PatchSet, RoutePatches};

use proxy::ProxyCondition;
use value::{Merge, Value};

/// Parsed entry of `configPatches` of an `EnvoyFilter`.
#[derive(Debug)]
pub struct Patch {
    /// The `EnvoyFilter`.
    pub object: ConfigKey,
    /// Index in `configPatches`, from 0.
    pub index: usize,
    /// Type of the patched objects.
    pub apply_to: ApplyTo,
    /// Operation; valid for this type.
    pub operation: PatchOperation,
    class: FilterClass,
    context: PatchContext,
    proxy: ProxyCondition,
    listener: Option<ListenerMatch>,
    routes: Option<RouteConfigurationMatch>,
    cluster: Option<ClusterMatch>,
    /// Value; `None` for `REMOVE`.
    value: Option<Value>,
    /// Merge plan of operations that merge.
    merge: Option<Merge>,
}

/// Context of a generated resource (Istio's `PatchContext`).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Context {
    /// Inbound traffic of a sidecar.
    SidecarInbound,
    /// Outbound traffic of a sidecar.
    SidecarOutbound,
    /// A gateway.
    Gateway,
}

/// Returns the findings about the patches of an object; none for other kinds.
pub fn findings(object: &ConfigObject) -> Vec<Finding> {
    match &object.spec {
        ConfigSpec::EnvoyFilter(filter) => Patches::parse(&object.meta, filter).1,
        _ => Vec::new(),
    }
}

// === impl Patch ===

impl Patch {
    /// Returns the label `patch` of Istio's metric `pilot_envoy_filter_status`.
    pub const fn label(&self) -> &'static str {
        match self.apply_to {
            ApplyTo::Cluster => "cluster",
            ApplyTo::Listener => "listener",
            ApplyTo::ListenerFilter => "listenerfilter",
            ApplyTo::FilterChain => "filterchain",
            ApplyTo::NetworkFilter => "networkfilter",
            ApplyTo::HttpFilter => "httpfilter",
            ApplyTo::RouteConfiguration | ApplyTo::HttpRoute => "route",
            ApplyTo::VirtualHost => "vhost",
            // Istio counts none of these; `ecds` is its name for resources of the first.
            ApplyTo::ExtensionConfig | ApplyTo::Bootstrap | ApplyTo::Invalid => "ecds",
        }
    }

    fn is_for(&self, context: Context) -> bool {
        match self.context {
            PatchContext::Any => true,
            PatchContext::SidecarInbound => context == Context::SidecarInbound,
            PatchContext::SidecarOutbound => context == Context::SidecarOutbound,
            PatchContext::Gateway => context == Context::Gateway,
            PatchContext::Waypoint => false,
        }
    }

    /// Returns `true` if it adds a cluster or a listener in this context. A patch for any context is added once, although a
    /// sidecar has two.
    fn adds_in(&self, context: Context) -> bool {
        let once = self.context != PatchContext::Any || context != Context::SidecarInbound;
        self.operation == PatchOperation::Add && self.is_for(context) && once
    }

    const fn merges(&self) -> bool {
        matches!(self.operation, PatchOperation::Merge | PatchOperation::MergeAndReplaceList)
    }
}

impl std::fmt::Display for Patch {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}/{} configPatches[{}]", self.object.namespace, self.object.name, self.index)
    }
}

// === impl Context ===

impl Context {
    /// Returns the context of resources of this direction in a proxy of this type; `None` for other types.
    pub const fn of(node_type: NodeType, direction: Direction) -> Option<Self> {
        match (node_type, direction) {
            (NodeType::Sidecar, Direction::Inbound) => Some(Self::SidecarInbound),
            (NodeType::Sidecar, Direction::Outbound) => Some(Self::SidecarOutbound),
            (NodeType::Router, _) => Some(Self::Gateway),
            (NodeType::Waypoint | NodeType::Ztunnel, _) => None,
        }
    }
}

/// Returns the patches for a context.
fn within<'a>(patches: impl Iterator<Item = &'a Arc<Patch>>, context: Context) -> Vec<&'a Arc<Patch>> {
    patches.filter(|patch| patch.is_for(context)).collect()
}

/// Returns the patches of a type of objects.
fn of_kind<'a>(patches: &[&'a Arc<Patch>], kind: ApplyTo) -> impl Iterator<Item = &'a Arc<Patch>> {
    patches.iter().copied().filter(move |patch| patch.apply_to == kind)
}
