//! Resources of proxies as a server generates them: with cached scopes and cached resources.

use std::collections::BTreeMap;
use std::sync::Arc;

use pilot_core::cache::{Cache, Generated, resources};
use pilot_core::model::{NameSet, Proxy, ResourceSet, Shared, SourceEvent, SourceId};
use pilot_core::push::PushContext;
use pilot_core::scope::{Scope, ScopeKey};
use pilot_core::world::{Changes, World};
use pilot_proto::ResourceType;
use pilot_proto::envoy::config::listener::v3 as lds;

use crate::KINDS;
use crate::fixture::*;
use crate::statements::Statement;

/// World with its current snapshot.
#[derive(Debug)]
pub(crate) struct Living {
    pub(crate) world: World,
    pub(crate) push: PushContext,
}

/// Resources of one type for a proxy.
#[derive(Debug, PartialEq)]
pub(crate) struct Answer {
    /// Requested names; `None`: all.
    pub(crate) names: Option<NameSet>,
    pub(crate) made: Generated,
}

/// Scopes of classes of proxies, each with the shape of its snapshot.
#[derive(Debug, Default)]
pub(crate) struct Scopes(BTreeMap<ScopeKey, (Shared<()>, Arc<Scope>)>);

/// Returns a proxy of every kind with different resources.
pub(crate) fn proxies() -> Vec<Proxy> {
    let id = |kind: &str, ip: &str, namespace: &str| {
        format!("{kind}~{ip}~pod.{namespace}~{namespace}.svc.cluster.local")
    };
    vec![
        introduced(&id("sidecar", "10.1.0.1", "default"), "{LABELS: {app: web}, NETWORK: n1}", "r1/z1"),
        introduced(&id("sidecar", "10.9.0.1", "shop"), "{LABELS: {app: a}}", "r2/z1"),
        introduced(&id("sidecar", "10.1.0.2", "default"), "{INTERCEPTION_MODE: NONE}", ""),
        introduced(&id("sidecar", "10.1.0.3", "default"), "{GENERATOR: grpc}", ""),
        introduced(&id("router", "10.9.0.9", "istio-system"), "{LABELS: {istio: edge}}", "r1/z1"),
    ]
}

// === impl Living ===

impl Living {
    pub(crate) fn new() -> Self {
        Self { world: World::new("cluster.local", [SourceId("test".into())]), push: PushContext::default() }
    }

    /// Creates the world of all these events.
    pub(crate) fn of<'a>(statements: impl IntoIterator<Item = &'a Statement>) -> Self {
        let mut living = Self::new();
        for statement in statements {
            drop(living.say(statement));
        }
        living.look();
        living
    }

    pub(crate) fn say(&mut self, statement: &Statement) -> Changes {
        match statement {
            Statement::Change(change) => {
                self.world.apply(&SourceId("test".into()), SourceEvent::Change(change.clone()))
            }
            Statement::Mesh(mesh) => self.world.set_mesh(mesh.clone()),
            Statement::Networks(networks) => self.world.set_networks(networks.clone()),
        }
    }

    /// Takes a snapshot of the current state.
    pub(crate) fn look(&mut self) {
        self.push = self.push.next(&self.world);
    }
}

// === impl Scopes ===

impl Scopes {
    pub(crate) fn of(&mut self, push: &PushContext, proxy: &Proxy) -> Arc<Scope> {
        let key = ScopeKey::of(push, proxy);
        let known = self.0.get(&key);
        if let Some((shape, scope)) = known
            && *shape == push.shape
        {
            return scope.clone();
        }
        let scope = Scope::of(push, key.clone(), known.map(|(_, scope)| scope));
        self.0.insert(key, (push.shape.clone(), scope.clone()));
        scope
    }

    /// Returns the resources of a type for a proxy, with the cache.
    pub(crate) fn tell(
        &mut self,
        cache: &Cache,
        push: &PushContext,
        proxy: &Proxy,
        kind: ResourceType,
        names: Option<&NameSet>,
    ) -> Generated {
        let scope = self.of(push, proxy);
        resources(cache, push, &scope, proxy, kind, names)
    }
}

/// Returns everything that a proxy would request, by type, generated without a cache.
pub(crate) fn everything(push: &PushContext, proxy: &Proxy) -> BTreeMap<ResourceType, Answer> {
    let (cache, scope) = (Cache::new(1000), Scope::of(push, ScopeKey::of(push, proxy), None));
    let ask = |kind, names: Option<NameSet>| {
        let made = resources(&cache, push, &scope, proxy, kind, names.as_ref());
        Answer { names, made }
    };
    let (clusters, listeners) = (ask(ResourceType::Cluster, None), ask(ResourceType::Listener, None));
    let endpoints = ask(ResourceType::Endpoint, Some(names_of(&clusters.made)));
    let routes = if proxy.is_proxyless() { names_of(&clusters.made) } else { routes_of(&listeners.made) };
    let routes = ask(ResourceType::Route, Some(routes));
    KINDS.into_iter().zip([clusters, endpoints, listeners, routes]).collect()
}

fn names_of(made: &Generated) -> NameSet {
    made.resources.iter().map(|resource| resource.name.clone()).collect()
}

/// Returns the names of routes that listeners refer to.
fn routes_of(made: &Generated) -> NameSet {
    texts_in(decoded::<lds::Listener>(made).values(), "route_config_name")
}

/// Returns the differences between two sets, by name.
pub(crate) fn difference(one: &ResourceSet, other: &ResourceSet) -> Vec<String> {
    let version = |set: &ResourceSet, name: &str| set.get(name).map(|resource| resource.version.clone());
    let names = one.iter().chain(other.iter()).map(|resource| resource.name.to_string());
    let mut names: Vec<String> = names.filter(|name| version(one, name) != version(other, name)).collect();
    names.sort();
    names.dedup();
    names
}
