//! `EnvoyFilter`: users' changes to what was generated, in Envoy's own words.
//!
//! ```text
//!  EnvoyFilter ── Patches::parse ──▶ Arc<Patch>, Findings        once for each object
//!  Patches of root and own namespace, a proxy ── PatchSet::select ──▶ clusters │ listeners │ routes │ extensions
//!  a generated resource, its patches, its Context ── cluster, listener, route_configuration ──▶ resource, Outcomes
//! ```
//!
//! Decides what a patch means, which proxies it is for, and what becomes of a resource. Does not know what may be written, which is `validate`'s, nor how resources are
//! generated, named or kept. What a patch does not concern is not decoded; a patch that does not fit leaves its resource as it was
//! and is reported. Rules are those of Istio's `pilot/pkg/networking/core/envoyfilter`; where it differs, it says so.

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

/// One change: an entry of an `EnvoyFilter`'s `configPatches`, understood.
#[derive(Debug)]
pub struct Patch {
    /// The `EnvoyFilter`.
    pub object: ConfigKey,
    /// Its place in `configPatches`, from 0.
    pub index: usize,
    /// What kind of thing it changes.
    pub apply_to: ApplyTo,
    /// What it does: one that has an effect on this kind of thing.
    pub operation: PatchOperation,
    class: FilterClass,
    context: PatchContext,
    proxy: ProxyCondition,
    listener: Option<ListenerMatch>,
    routes: Option<RouteConfigurationMatch>,
    cluster: Option<ClusterMatch>,
    /// Nothing for `REMOVE`.
    value: Option<Value>,
    /// Of operations that merge.
    merge: Option<Merge>,
}

/// Where a resource stands. Istio's `PatchContext` of something that was generated.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Context {
    /// What comes to a workload.
    SidecarInbound,
    /// What leaves it.
    SidecarOutbound,
    /// A gateway.
    Gateway,
}

/// What is wrong with the patches of an object, and what in them is doubtful; of objects of other kinds nothing.
pub fn findings(object: &ConfigObject) -> Vec<Finding> {
    match &object.spec {
        ConfigSpec::EnvoyFilter(filter) => Patches::parse(&object.meta, filter).1,
        _ => Vec::new(),
    }
}

// === impl Patch ===

impl Patch {
    /// Label `patch` of Istio's metric `pilot_envoy_filter_status`.
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
            // Istio counts none of these; its own word for the first one's resources.
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

    /// Whether it adds a cluster or a listener in this context. What is meant for any context is added once: a sidecar
    /// has two.
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
    /// Where resources of this direction stand in a proxy of this type; nowhere if it is not a proxy of ours.
    pub const fn of(node_type: NodeType, direction: Direction) -> Option<Self> {
        match (node_type, direction) {
            (NodeType::Sidecar, Direction::Inbound) => Some(Self::SidecarInbound),
            (NodeType::Sidecar, Direction::Outbound) => Some(Self::SidecarOutbound),
            (NodeType::Router, _) => Some(Self::Gateway),
            (NodeType::Waypoint | NodeType::Ztunnel, _) => None,
        }
    }
}

/// The patches for a context among these.
fn within<'a>(patches: impl Iterator<Item = &'a Arc<Patch>>, context: Context) -> Vec<&'a Arc<Patch>> {
    patches.filter(|patch| patch.is_for(context)).collect()
}

/// The patches of one kind among these.
fn of_kind<'a>(patches: &[&'a Arc<Patch>], kind: ApplyTo) -> impl Iterator<Item = &'a Arc<Patch>> {
    patches.iter().copied().filter(move |patch| patch.apply_to == kind)
}
