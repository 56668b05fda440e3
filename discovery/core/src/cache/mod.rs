//! Cache of generated resources, encoded once.
//!
//! Two levels: single resources by their inputs, and sets of resources by what a class of proxies has in common. A change is
//! generated once, and the set of a class is built once. The cache is shared by all streams and locks its shards (`memo`).

mod clusters;
mod endpoints;
mod envoy;
mod gateway;
mod grpc;
mod inbound;
mod memo;
mod origin;
mod patched;
mod policies;
mod routes;
mod settings;
mod telemetry;

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;

use pilot_proto::ResourceType;
use pilot_proto::mesh::MeshConfig;
use pilot_proto::mesh::networks::MeshNetworks;
use prost::{Message, Name};

pub use memo::Stats;
pub use origin::origins;

use crate::generate::cluster::ClusterInputs;
use crate::generate::endpoint::{AssignmentInputs, ClusterLocalHosts, NetworkGateways};
use crate::generate::gateway::{GatewayInputs, GatewayRouteInputs};
use crate::generate::grpc::GrpcListener;
use crate::generate::listener::ListenerInputs;
use crate::generate::outbound::PlanInputs;
use crate::generate::route::RouteInputs;
use crate::generate::traffic_policy::MeshPolicy;
use crate::generate::{RejectReason, Rejected, Report};
use crate::model::{Hostname, NameSet, Proxy, Resource, ResourceSet, Shared};
use crate::patch::{ClusterPatches, ExtensionPatches, PatchSet};
use crate::push::PushContext;
use crate::scope::Scope;
use clusters::ClusterSet;
use envoy::Named;
use memo::{Answer, Memo};
use patched::{InListeners, InRoutes, Patched};
use policies::{Ruled, Wants};

/// Recently generated resources, shared by all streams (Istio's `XdsCache`).
#[derive(Debug)]
pub struct Cache {
    clusters: Memo<Patched<ClusterInputs, ClusterPatches>, Made>,
    cluster_sets: Memo<Patched<ClusterSet, ClusterPatches>, Arc<Set>>,
    assignments: Memo<AssignmentInputs, Made>,
    listeners: Memo<Patched<Arc<ListenerInputs>, InListeners>, Made>,
    plans: Memo<Patched<PlanInputs, InListeners>, Arc<Set>>,
    routes: Memo<Patched<RouteInputs, InRoutes>, Made>,
    grpc_listeners: Memo<GrpcListener, Made>,
    extensions: Memo<(Arc<str>, ExtensionPatches), Made>,
    named: Memo<Named, Generated>,
    gateways: Memo<Patched<GatewayInputs, InListeners>, Arc<Set>>,
    gateway_routes: Memo<Patched<GatewayRouteInputs, InRoutes>, Made>,
    mesh_policies: Memo<Shared<MeshConfig>, Arc<MeshPolicy>>,
    wants: Memo<Ruled, Arc<Wants>>,
    networks: Memo<Shared<MeshNetworks>, Arc<NetworkGateways>>,
    local_hosts: Memo<(Shared<MeshConfig>, Arc<str>), Arc<ClusterLocalHosts>>,
}

/// Resources of one type for one proxy.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Generated {
    /// The resources.
    pub resources: ResourceSet,
    /// Findings about resources that could not be generated, or only in part.
    pub report: Arc<Report>,
}

/// Result of one generator.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Made {
    resource: Option<Resource>,
    rejected: Arc<[Rejected]>,
}

/// Resources that a class of proxies has in common.
#[derive(Debug, Default, PartialEq, Eq)]
struct Set {
    generated: Generated,
    /// Names that a proxy at an address does not get.
    unless: BTreeMap<IpAddr, Vec<Arc<str>>>,
}

/// Returns the resources of a type for a proxy.
///
/// Clusters and listeners: those of `names`, all if it is `None`. Endpoints and routes: exactly those of `names`. An unknown
/// cluster has an assignment without endpoints; an unknown route has none. Extension configurations: those that users add, by
/// name.
pub fn resources(
    cache: &Cache,
    push: &PushContext,
    scope: &Arc<Scope>,
    proxy: &Proxy,
    kind: ResourceType,
    names: Option<&NameSet>,
) -> Generated {
    let patches = push.patches_of(proxy);
    let view = View { cache, push, scope, proxy, patches: &patches };
    let asked = || names.cloned().unwrap_or_default();
    match (kind, proxy.is_proxyless()) {
        (ResourceType::Cluster, false) => view.clusters().only(names),
        (ResourceType::Listener, false) => view.listeners().only(names),
        (ResourceType::Route, false) => view.routes(&asked()),
        (ResourceType::Cluster, true) => view.grpc_clusters(names),
        (ResourceType::Listener, true) => view.grpc_listeners(names),
        (ResourceType::Route, true) => view.grpc_routes(&asked()),
        (ResourceType::Endpoint, _) => view.endpoints(&asked()),
        (ResourceType::Extension, _) => view.extensions(&asked()),
        (ResourceType::Secret, _) => Generated::default(),
    }
}

/// Inputs of one lookup.
#[derive(Clone, Copy)]
struct View<'a> {
    cache: &'a Cache,
    push: &'a PushContext,
    scope: &'a Arc<Scope>,
    proxy: &'a Proxy,
    patches: &'a PatchSet,
}

// === impl Cache ===

impl Cache {
    /// Creates a cache of about `entries` resources of each type.
    pub fn new(entries: usize) -> Self {
        // One set serves a whole class of proxies.
        let sets = entries.div_ceil(100);
        Self {
            clusters: Memo::new(entries),
            cluster_sets: Memo::new(sets),
            assignments: Memo::new(entries),
            listeners: Memo::new(entries),
            plans: Memo::new(sets),
            routes: Memo::new(entries),
            grpc_listeners: Memo::new(entries),
            extensions: Memo::new(sets),
            named: Memo::new(sets),
            gateways: Memo::new(sets),
            gateway_routes: Memo::new(entries),
            mesh_policies: Memo::new(sets),
            wants: Memo::new(sets),
            networks: Memo::new(sets),
            local_hosts: Memo::new(sets),
        }
    }

    /// Returns the counters by type.
    pub fn stats(&self) -> BTreeMap<ResourceType, Stats> {
        BTreeMap::from([
            (ResourceType::Cluster, self.clusters.stats()),
            (ResourceType::Endpoint, self.assignments.stats()),
            (ResourceType::Listener, self.listeners.stats() + self.grpc_listeners.stats()),
            (ResourceType::Route, self.routes.stats() + self.gateway_routes.stats()),
            (ResourceType::Extension, self.extensions.stats()),
        ])
    }
}

impl Cache {
    /// Evicts resources that no stream references and that were not used since the last sweep.
    pub fn forget_unused(&self) {
        // Sets first: they reference resources.
        self.cluster_sets.forget_unused();
        self.plans.forget_unused();
        self.named.forget_unused();
        self.gateways.forget_unused();
        self.gateway_routes.forget_unused();
        self.wants.forget_unused();
        self.networks.forget_unused();
        self.local_hosts.forget_unused();
        self.mesh_policies.forget_unused();
        self.clusters.forget_unused();
        self.assignments.forget_unused();
        self.listeners.forget_unused();
        self.routes.forget_unused();
        self.grpc_listeners.forget_unused();
        self.extensions.forget_unused();
    }

    /// Removes all entries; streams keep what they reference.
    pub fn clear(&self) {
        self.clusters.clear();
        self.cluster_sets.clear();
        self.assignments.clear();
        self.listeners.clear();
        self.plans.clear();
        self.routes.clear();
        self.grpc_listeners.clear();
        self.extensions.clear();
        self.named.clear();
        self.gateways.clear();
        self.gateway_routes.clear();
        self.wants.clear();
        self.networks.clear();
        self.local_hosts.clear();
        self.mesh_policies.clear();
    }

    /// Returns name and size in bytes of every cached resource, by type, in no order; a name occurs once for each version.
    pub fn contents(&self) -> BTreeMap<ResourceType, Vec<(Arc<str>, usize)>> {
        let mut contents: BTreeMap<ResourceType, Vec<(Arc<str>, usize)>> = BTreeMap::new();
        let mut show = |kind, made: &Made| {
            let named = made.resource.iter().map(|resource| (resource.name.clone(), resource.body.len()));
            contents.entry(kind).or_default().extend(named);
        };
        self.clusters.each(|made| show(ResourceType::Cluster, made));
        self.assignments.each(|made| show(ResourceType::Endpoint, made));
        self.listeners.each(|made| show(ResourceType::Listener, made));
        self.grpc_listeners.each(|made| show(ResourceType::Listener, made));
        self.routes.each(|made| show(ResourceType::Route, made));
        self.gateway_routes.each(|made| show(ResourceType::Route, made));
        self.extensions.each(|made| show(ResourceType::Extension, made));
        contents
    }
}

impl Default for Cache {
    /// The number of entries of Istio's cache.
    fn default() -> Self {
        Self::new(60_000)
    }
}

// === impl Generated ===

impl Generated {
    fn take(&mut self, made: &Made) {
        self.reject(&made.rejected);
        if let Some(resource) = &made.resource {
            self.resources.insert(resource.clone());
        }
    }

    fn reject(&mut self, rejected: &[Rejected]) {
        if !rejected.is_empty() {
            Arc::make_mut(&mut self.report).absorb(rejected);
        }
    }

    fn only(mut self, names: Option<&NameSet>) -> Self {
        if let Some(names) = names {
            self.resources = names.iter().filter_map(|name| self.resources.get(name)).cloned().collect();
        }
        self
    }
}

// === impl Set ===

impl Set {
    fn take(&mut self, made: &Made, unless: Option<IpAddr>) {
        self.generated.take(made);
        if let (Some(ip), Some(resource)) = (unless, &made.resource) {
            self.unless.entry(ip).or_default().push(resource.name.clone());
        }
    }

    /// Returns the part of a set for the proxy at an address.
    fn seen_from(&self, own: Option<IpAddr>) -> Generated {
        let mut generated = self.generated.clone();
        for name in own.and_then(|own| self.unless.get(&own)).into_iter().flatten() {
            generated.resources.remove(name);
        }
        generated
    }
}

impl Answer for Arc<Set> {
    /// A set is not referenced elsewhere; it stays while it is used.
    fn is_held(&self) -> bool {
        false
    }
}

impl Answer for Generated {
    fn is_held(&self) -> bool {
        false
    }
}

// === impl Made ===

impl Answer for Made {
    /// Sets that were sent share the names of their resources.
    fn is_held(&self) -> bool {
        self.resource.as_ref().is_some_and(|resource| Arc::strong_count(&resource.name) > 1)
    }
}

impl Made {
    /// Runs a generator. A panic in it costs its resource only.
    fn run<M: Message + Name>(name: &str, generator: impl FnOnce() -> (Option<M>, Vec<Rejected>)) -> Self {
        let (message, rejected) = catch_unwind(AssertUnwindSafe(generator)).unwrap_or_else(|_| {
            let service = Hostname::from("");
            (None, vec![Rejected { subject: name.to_owned(), service, reason: RejectReason::Panicked }])
        });
        Self { resource: message.map(|message| encode(name, &message)), rejected: rejected.into() }
    }
}

fn encode<M: Message + Name>(name: &str, message: &M) -> Resource {
    let body = pilot_proto::any(message).encode_to_vec();
    let version = format!("{:032x}", fingerprint(&body));
    Resource::new(name.into(), version.into(), body.into())
}

/// FNV-1a, 128 bits: the same on every replica and in every build, so a proxy that changes replicas keeps what it
/// has. <http://www.isthe.com/chongo/tech/comp/fnv/>
fn fingerprint(bytes: &[u8]) -> u128 {
    const PRIME: u128 = 0x0000_0000_0100_0000_0000_0000_0000_013b;
    const BASIS: u128 = 0x6c62_272e_07bb_0142_62b8_2175_6295_c58d;
    bytes.iter().fold(BASIS, |hash, byte| (hash ^ u128::from(*byte)).wrapping_mul(PRIME))
}
