//! Patches of one proxy, in order of application, by type of resource.
//!
//! Each part is compared by the identity of its patches: a changed `EnvoyFilter` for clusters leaves the part for routes equal,
//! and with it all resources that were generated from it.

use std::collections::BTreeMap;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::sync::Arc;

use pilot_proto::envoy::config::core::v3::TypedExtensionConfig;
use pilot_proto::node::NodeType;

use super::proxy::Said;
use super::{Context, Patch, Patches};
use crate::api::envoy_filter::{ApplyTo, PatchOperation};
use crate::model::{Direction, Namespace, Proxy, selects};

/// Label of the gateways of Kubernetes' Gateway API: name of the `Gateway`.
const GATEWAY_NAME: &str = "gateway.networking.k8s.io/gateway-name";

/// Patches of a proxy's resources. Compared by identity of the patches.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct PatchSet {
    clusters: ClusterPatches,
    listeners: ListenerPatches,
    routes: RoutePatches,
    extensions: ExtensionPatches,
}

/// Ordered patches. Cheap to clone, compare and hash.
#[derive(Clone, Debug, Default)]
struct PatchList {
    patches: Arc<[Arc<Patch>]>,
    mark: u64,
}

macro_rules! parts {
    ($($(#[$doc:meta])* $name:ident)*) => {
        $(
            $(#[$doc])*
            #[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
            pub struct $name(PatchList);

            impl $name {
                /// Returns `true` if there are none.
                pub fn is_empty(&self) -> bool {
                    self.0.patches.is_empty()
                }

                /// Returns the patches in order of application.
                pub fn iter(&self) -> impl Iterator<Item = &Arc<Patch>> {
                    self.0.patches.iter()
                }
            }
        )*
    };
}

parts! {
    /// Patches of clusters.
    ClusterPatches
    /// Patches of listeners and their parts, except routes.
    ListenerPatches
    /// Patches of route configurations and their parts.
    RoutePatches
    /// Added extension configurations (ECDS).
    ExtensionPatches
}

// === impl PatchSet ===

impl PatchSet {
    /// Selects the patches for a proxy with these labels. Only objects in its own namespace and in the root namespace apply.
    ///
    /// The order is Istio's: by priority; then the root namespace first; then by age; then by name.
    pub fn select<'a>(
        all: impl IntoIterator<Item = &'a Patches>,
        root: &Namespace,
        proxy: &Proxy,
        labels: &BTreeMap<String, String>,
    ) -> Self {
        let namespaces = [root, &proxy.namespace];
        let mut chosen: Vec<&Patches> = all
            .into_iter()
            .filter(|patches| namespaces.contains(&&patches.object.namespace))
            .filter(|patches| patches.attach_to(proxy, labels))
            .collect();
        chosen.sort_by_cached_key(|patches| {
            let object = &patches.object;
            let name = format!("{}.{}", object.name, object.namespace);
            (patches.priority, object.namespace != *root, patches.created, name)
        });
        let said = Said::new(&proxy.metadata);
        let contexts = contexts(proxy.node_type());
        let patches: Vec<&Arc<Patch>> = chosen
            .iter()
            .flat_map(|patches| &patches.listed)
            .filter(|patch| contexts.iter().any(|context| patch.is_for(*context)) && patch.proxy.holds(&said))
            .collect();
        let part = |kinds: &[ApplyTo]| {
            patches
                .iter()
                .filter(|patch| kinds.contains(&patch.apply_to))
                .map(|patch| Arc::clone(patch))
                .collect()
        };
        Self {
            clusters: ClusterPatches(part(&[ApplyTo::Cluster])),
            listeners: ListenerPatches(part(&[
                ApplyTo::Listener,
                ApplyTo::ListenerFilter,
                ApplyTo::FilterChain,
                ApplyTo::NetworkFilter,
                ApplyTo::HttpFilter,
            ])),
            routes: RoutePatches(part(&[
                ApplyTo::RouteConfiguration,
                ApplyTo::VirtualHost,
                ApplyTo::HttpRoute,
            ])),
            extensions: ExtensionPatches(part(&[ApplyTo::ExtensionConfig])),
        }
    }

    /// Returns the patches of clusters.
    pub const fn clusters(&self) -> &ClusterPatches {
        &self.clusters
    }

    /// Returns the patches of listeners, filter chains and filters.
    pub const fn listeners(&self) -> &ListenerPatches {
        &self.listeners
    }

    /// Returns the patches of route configurations, virtual hosts and routes.
    pub const fn routes(&self) -> &RoutePatches {
        &self.routes
    }

    /// Returns the added extension configurations.
    pub const fn extensions(&self) -> &ExtensionPatches {
        &self.extensions
    }

    /// Returns all patches; those of one type of resource in their order.
    pub fn iter(&self) -> impl Iterator<Item = &Arc<Patch>> {
        self.clusters
            .iter()
            .chain(self.listeners.iter())
            .chain(self.routes.iter())
            .chain(self.extensions.iter())
    }
}

fn contexts(node_type: NodeType) -> Vec<Context> {
    [Direction::Inbound, Direction::Outbound]
        .into_iter()
        .filter_map(|direction| Context::of(node_type, direction))
        .collect()
}

// === impl ExtensionPatches ===

impl ExtensionPatches {
    /// Returns the extension configurations of this name. As in Istio, for any context.
    pub fn named<'a>(&'a self, name: &'a str) -> impl Iterator<Item = &'a TypedExtensionConfig> {
        self.iter()
            .filter(|patch| patch.operation == PatchOperation::Add)
            .filter_map(|patch| patch.brings::<TypedExtensionConfig>())
            .filter(move |added| added.name == name)
    }
}

// === impl Patches ===

impl Patches {
    /// Returns `true` if it is for a workload with these labels; namespaces are not compared. `targetRefs` refer to gateways of
    /// the Gateway API in the object's own namespace only.
    fn attach_to(&self, proxy: &Proxy, labels: &BTreeMap<String, String>) -> bool {
        if self.targets.is_empty() {
            return self.selector.as_ref().is_none_or(|selector| selects(selector, labels));
        }
        let Some(gateway) = labels.get(GATEWAY_NAME) else { return false };
        let namespace = &self.object.namespace;
        *namespace == proxy.namespace
            && self.targets.iter().any(|target| {
                target.group == "gateway.networking.k8s.io"
                    && target.kind == "Gateway"
                    && target.name == *gateway
                    && (target.namespace.is_empty() || target.namespace == namespace.as_str())
            })
    }
}

// === impl PatchList ===

impl FromIterator<Arc<Patch>> for PatchList {
    fn from_iter<I: IntoIterator<Item = Arc<Patch>>>(patches: I) -> Self {
        let patches: Arc<[Arc<Patch>]> = patches.into_iter().collect();
        if patches.is_empty() {
            return Self::default();
        }
        let mut hasher = DefaultHasher::new();
        patches.iter().for_each(|patch| Arc::as_ptr(patch).hash(&mut hasher));
        Self { patches, mark: hasher.finish() }
    }
}

impl PartialEq for PatchList {
    fn eq(&self, other: &Self) -> bool {
        let (mine, theirs) = (&self.patches, &other.patches);
        let each = || mine.iter().zip(theirs.iter()).all(|(mine, theirs)| Arc::ptr_eq(mine, theirs));
        Arc::ptr_eq(mine, theirs) || (self.mark == other.mark && mine.len() == theirs.len() && each())
    }
}

impl Eq for PatchList {}

impl Hash for PatchList {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.mark.hash(state);
    }
}
