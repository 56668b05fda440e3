//! Resources with the patches of `EnvoyFilter`s.
//!
//! The patches of a proxy are a part of the key of its resources. Without patches they cost nothing, and all proxies share.

use pilot_proto::envoy::config::cluster::v3::Cluster;
use pilot_proto::envoy::config::listener::v3::Listener;
use pilot_proto::envoy::config::route::v3::RouteConfiguration;

use super::{Generated, Made, View};
use crate::generate::cluster::ClusterRole;
use crate::generate::listener::ListenerRole;
use crate::generate::{RejectReason, Rejected};
use crate::model::{Direction, Hostname, NameSet};
use crate::patch::{
    self, ClusterPatches, Context, GatewayPorts, ListenerPatches, Outcomes, RoutePatches, added_clusters,
    added_listeners,
};

/// Inputs of a generator, and the patches of its output.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) struct Patched<I, P> {
    pub(super) inputs: I,
    by: Option<(Context, P)>,
}

/// Patches of listeners and of their inline routes.
pub(super) type InListeners = (ListenerPatches, RoutePatches);

/// Patches of routes, and the ports that identify those of a gateway.
pub(super) type InRoutes = (RoutePatches, GatewayPorts);

// === impl View ===

impl View<'_> {
    /// Adds patches to the inputs of a cluster.
    pub(super) fn patched_cluster<I>(self, inputs: I, direction: Direction) -> Patched<I, ClusterPatches> {
        let patches = self.patches.clusters();
        Patched { inputs, by: self.by(direction, (!patches.is_empty()).then_some(patches)) }
    }

    /// Adds patches to the inputs of a listener.
    pub(super) fn patched_listener<I>(self, inputs: I, direction: Direction) -> Patched<I, InListeners> {
        let patches = (self.patches.listeners().clone(), self.patches.routes().clone());
        let some = !patches.0.is_empty() || !patches.1.is_empty();
        Patched { inputs, by: self.by(direction, some.then_some(&patches)) }
    }

    /// Adds patches to the inputs of routes.
    pub(super) fn patched_routes<I>(self, inputs: I, ports: &GatewayPorts) -> Patched<I, InRoutes> {
        let some = !self.patches.routes().is_empty();
        let patches = some.then(|| (self.patches.routes().clone(), ports.clone()));
        Patched { inputs, by: self.by(Direction::Outbound, patches.as_ref()) }
    }

    fn by<P: Clone>(self, direction: Direction, patches: Option<&P>) -> Option<(Context, P)> {
        Some((Context::of(self.proxy.node_type(), direction)?, patches?.clone()))
    }

    /// Adds the clusters of `EnvoyFilter`s.
    pub(super) fn add_clusters(self, generated: &mut Generated) {
        let patches = self.patches.clusters();
        if patches.is_empty() {
            return;
        }
        for context in self.contexts() {
            for cluster in added_clusters(patches, context, &mut Outcomes::default()) {
                generated.take(&Made::run(&cluster.name.clone(), || (Some(cluster), Vec::new())));
            }
        }
    }

    /// Adds the listeners of `EnvoyFilter`s.
    pub(super) fn add_listeners(self, generated: &mut Generated) {
        let patches = self.patches.listeners();
        if patches.is_empty() {
            return;
        }
        for context in self.contexts() {
            for listener in added_listeners(patches, context, &mut Outcomes::default()) {
                generated.take(&Made::run(&listener.name.clone(), || (Some(listener), Vec::new())));
            }
        }
    }

    /// Returns the extension configurations of `EnvoyFilter`s with these names. Of several with the same name the first one is
    /// used, as in Envoy.
    pub(super) fn extensions(self, names: &NameSet) -> Generated {
        let patches = self.patches.extensions();
        let mut generated = Generated::default();
        if patches.is_empty() {
            return generated;
        }
        for name in names {
            generated.take(
                &self.cache.extensions.get(&(name.clone(), patches.clone()), |(name, patches)| {
                    Made::run(name, || (patches.named(name).next().cloned(), Vec::new()))
                }),
            );
        }
        generated
    }

    fn contexts(self) -> Vec<Context> {
        let node_type = self.proxy.node_type();
        let both =
            [Direction::Inbound, Direction::Outbound].map(|direction| Context::of(node_type, direction));
        let mut contexts: Vec<Context> = both.into_iter().flatten().collect();
        contexts.dedup();
        contexts
    }
}

// === impl Patched ===

impl<I> Patched<I, ClusterPatches> {
    /// Patches a cluster, with the workload's services if it is inbound.
    pub(super) fn cluster(
        &self,
        hosts: &[Hostname],
        made: (Option<Cluster>, Vec<Rejected>),
    ) -> (Option<Cluster>, Vec<Rejected>) {
        let (Some(cluster), mut rejected) = made else { return made };
        let Some((context, patches)) = &self.by else { return (Some(cluster), rejected) };
        let mut outcomes = Outcomes::default();
        let name = cluster.name.clone();
        let left = patch::cluster(patches, (*context, hosts), cluster, &mut outcomes);
        rejected.extend(failures(&name, &outcomes));
        (left, rejected)
    }
}

impl<I> Patched<I, InListeners> {
    /// Patches a listener.
    pub(super) fn listener(&self, listener: Listener) -> (Option<Listener>, Vec<Rejected>) {
        let Some((context, (listeners, routes))) = &self.by else { return (Some(listener), Vec::new()) };
        let mut outcomes = Outcomes::default();
        let name = listener.name.clone();
        let inside = patch::inline_routes(routes, *context, listener, &mut outcomes);
        let patched = patch::listener(listeners, *context, inside, &mut outcomes);
        (patched, failures(&name, &outcomes).collect())
    }
}

impl<I> Patched<I, InRoutes> {
    /// Patches routes.
    pub(super) fn routes(
        &self,
        (routes, mut rejected): (RouteConfiguration, Vec<Rejected>),
    ) -> (Option<RouteConfiguration>, Vec<Rejected>) {
        let Some((context, (patches, ports))) = &self.by else { return (Some(routes), rejected) };
        let mut outcomes = Outcomes::default();
        let name = routes.name.clone();
        let left = patch::route_configuration(patches, (*context, ports), routes, &mut outcomes);
        rejected.extend(failures(&name, &outcomes));
        (Some(left), rejected)
    }
}

/// Returns the findings about patches that could not be applied; the resource stays without them.
fn failures(name: &str, outcomes: &Outcomes) -> impl Iterator<Item = Rejected> {
    outcomes.failed().map(|(patch, why)| Rejected {
        subject: name.to_owned(),
        service: patch.to_string().into(),
        reason: RejectReason::Patch(why.into()),
    })
}

/// Returns the traffic direction of a cluster.
pub(super) const fn direction_of_cluster(role: &ClusterRole) -> Direction {
    match role {
        ClusterRole::Inbound(_) | ClusterRole::InboundPassthrough(_) => Direction::Inbound,
        ClusterRole::Outbound(_)
        | ClusterRole::BlackHole
        | ClusterRole::Passthrough
        | ClusterRole::Proxyless(_) => Direction::Outbound,
    }
}

/// Returns the traffic direction of a listener.
pub(super) const fn direction_of_listener(role: ListenerRole) -> Direction {
    match role {
        ListenerRole::VirtualInbound(_) | ListenerRole::BoundInbound => Direction::Inbound,
        ListenerRole::Outbound
        | ListenerRole::Bound
        | ListenerRole::VirtualOutbound(_)
        | ListenerRole::Gateway(_) => Direction::Outbound,
    }
}
