//! What a proxy gets: the resources of a type, generated or remembered, encoded once.
//!
//! Remembered at two levels: each resource by what it was made from, and whole sets by what all proxies of a class
//! have in common, so that a change is generated once and a class is put together once.

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

/// What was generated lately, shared by all streams.
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

/// The resources of one type for one proxy.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Generated {
    /// What there is.
    pub resources: ResourceSet,
    /// What is missing and why.
    pub report: Arc<Report>,
}

/// One generated resource, if it could be.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Made {
    resource: Option<Resource>,
    rejected: Arc<[Rejected]>,
}

/// What all proxies of a class have in common.
#[derive(Debug, Default, PartialEq, Eq)]
struct Set {
    generated: Generated,
    /// Names that the proxy at an address has not.
    unless: BTreeMap<IpAddr, Vec<Arc<str>>>,
}

/// The resources of a type for a proxy.
///
/// Clusters and listeners: those with these names, all when `names` is `None`. Endpoints and routes: exactly those
/// that are asked for. An unknown cluster has no endpoints, and that is an answer; an unknown route is none. Configurations of
/// single filters: those that users add, by their names.
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

/// What one answer is made of.
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
    /// Remembers about `entries` resources of each type.
    pub fn new(entries: usize) -> Self {
        // A set is of a whole class of proxies.
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

    /// How the cache does, by type.
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
    /// Forgets what no proxy was told and nobody has asked for since the last time.
    pub fn forget_unused(&self) {
        // Sets first: they hold resources.
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

    /// Forgets everything; what streams were told stays theirs.
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

    /// Name and bytes of every resource that is remembered, by type, in no order; a name once for each version of it.
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
    /// As many entries as Istio's.
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

    /// What of it is for the proxy at an address.
    fn seen_from(&self, own: Option<IpAddr>) -> Generated {
        let mut generated = self.generated.clone();
        for name in own.and_then(|own| self.unless.get(&own)).into_iter().flatten() {
            generated.resources.remove(name);
        }
        generated
    }
}

impl Answer for Arc<Set> {
    /// A set is put together from what lives: while its proxies are pushed to, it is asked for.
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
    /// Every set that a proxy was told has a share in its resources' names.
    fn is_held(&self) -> bool {
        self.resource.as_ref().is_some_and(|resource| Arc::strong_count(&resource.name) > 1)
    }
}

impl Made {
    /// Runs a generator. A defect in one costs its resource, not the proxy all the others.
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
