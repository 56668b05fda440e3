//! Resources as users' `EnvoyFilter`s leave them.
//!
//! The patches that are for a proxy are a part of what its resources are remembered by. Where there are none, which is
//! nearly everywhere, they cost nothing and everybody shares.

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

/// Inputs of a generator, and what users change of what it makes.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) struct Patched<I, P> {
    pub(super) inputs: I,
    by: Option<(Context, P)>,
}

/// Patches of listeners, and of the routes inside them.
pub(super) type InListeners = (ListenerPatches, RoutePatches);

/// Patches of routes, and the ports that a gateway's are known by.
pub(super) type InRoutes = (RoutePatches, GatewayPorts);

// === impl View ===

impl View<'_> {
    /// Inputs of a cluster.
    pub(super) fn patched_cluster<I>(self, inputs: I, direction: Direction) -> Patched<I, ClusterPatches> {
        let patches = self.patches.clusters();
        Patched { inputs, by: self.by(direction, (!patches.is_empty()).then_some(patches)) }
    }

    /// Inputs of a listener.
    pub(super) fn patched_listener<I>(self, inputs: I, direction: Direction) -> Patched<I, InListeners> {
        let patches = (self.patches.listeners().clone(), self.patches.routes().clone());
        let some = !patches.0.is_empty() || !patches.1.is_empty();
        Patched { inputs, by: self.by(direction, some.then_some(&patches)) }
    }

    /// Inputs of routes.
    pub(super) fn patched_routes<I>(self, inputs: I, ports: &GatewayPorts) -> Patched<I, InRoutes> {
        let some = !self.patches.routes().is_empty();
        let patches = some.then(|| (self.patches.routes().clone(), ports.clone()));
        Patched { inputs, by: self.by(Direction::Outbound, patches.as_ref()) }
    }

    fn by<P: Clone>(self, direction: Direction, patches: Option<&P>) -> Option<(Context, P)> {
        Some((Context::of(self.proxy.node_type(), direction)?, patches?.clone()))
    }

    /// The clusters that users add.
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

    /// The listeners that users add.
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

    /// The configurations of filters that users add under these names. Of several of one name the first one counts, as it
    /// does for Envoy.
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
    /// A cluster, of a workload's services if it is inbound.
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
    /// A listener.
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
    /// Routes.
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

/// Patches that did not fit: the resource is as it was.
fn failures(name: &str, outcomes: &Outcomes) -> impl Iterator<Item = Rejected> {
    outcomes.failed().map(|(patch, why)| Rejected {
        subject: name.to_owned(),
        service: patch.to_string().into(),
        reason: RejectReason::Patch(why.into()),
    })
}

/// Which way traffic of a cluster goes.
pub(super) const fn direction_of_cluster(role: &ClusterRole) -> Direction {
    match role {
        ClusterRole::Inbound(_) | ClusterRole::InboundPassthrough(_) => Direction::Inbound,
        ClusterRole::Outbound(_)
        | ClusterRole::BlackHole
        | ClusterRole::Passthrough
        | ClusterRole::Proxyless(_) => Direction::Outbound,
    }
}

/// Which way traffic of a listener goes.
pub(super) const fn direction_of_listener(role: ListenerRole) -> Direction {
    match role {
        ListenerRole::VirtualInbound(_) | ListenerRole::BoundInbound => Direction::Inbound,
        ListenerRole::Outbound
        | ListenerRole::Bound
        | ListenerRole::VirtualOutbound(_)
        | ListenerRole::Gateway(_) => Direction::Outbound,
    }
}
