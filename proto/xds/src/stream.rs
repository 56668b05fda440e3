//! One stream: its types, the order of their responses, and the rules between types.
//!
//! - Types are sent in push order: clusters, endpoints, listeners, routes, secrets, extensions.
//! - A type has one response in flight. Later changes are one flag, so the next response has the state of then; nothing
//!   queues up behind a slow client.
//! - A cluster that is sent is followed by its endpoints, changed or not.
//! - Clusters are removed last: not while listeners or routes that may refer to them are due or in flight.
//!
//! The caller owns sockets and clocks, and decides how long to wait for an ACK ([`Stream::ack_timed_out`]).

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use pilot_proto::ResourceType;

use super::diff::Removals;
use super::diff_cache::StreamCache;
use super::interner::Interner;
use super::name_set::NameSet;
use super::outcome::{SendMode, TypeStatus};
use super::quarantine::RejectedVersion;
use super::resource::ResourceSet;
use super::response::{Codec, Nonce, Response};
use super::stale::{Regenerate, StaleResources};
use super::subscription::{RequestedNames, SubscriptionChange, WILDCARD};
use super::watch::{NonceMatch, Watch};

/// Server side of one xDS stream.
#[derive(Debug)]
pub struct Stream {
    codec: Codec,
    client: ClientKind,
    control_plane: Arc<str>,
    watches: BTreeMap<ResourceType, Watch>,
    /// Types that may have changes to send, in push order.
    due: BTreeSet<ResourceType>,
    stale: StaleResources,
    /// `true` if the client still has clusters that no longer exist.
    removes_clusters: bool,
    /// Clusters that were sent before the client subscribed to any endpoints.
    warming: NameSet,
    /// Versions to withhold, of types that the client does not subscribe to yet.
    withheld: BTreeMap<ResourceType, Vec<RejectedVersion>>,
    /// Number of responses sent.
    responses: u64,
    cache: Arc<StreamCache>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum ClientKind {
    Envoy,
    Proxyless,
}

// === impl Stream ===

impl Stream {
    /// Creates the state of a new stream. `control_plane` is the identifier in each response.
    pub fn new(codec: Codec, control_plane: Arc<str>) -> Self {
        Self {
            codec,
            client: ClientKind::Envoy,
            control_plane,
            watches: BTreeMap::new(),
            due: BTreeSet::new(),
            stale: StaleResources::default(),
            removes_clusters: false,
            warming: NameSet::default(),
            withheld: BTreeMap::new(),
            responses: 0,
            cache: Arc::default(),
        }
    }

    /// Shares sets and differences with the other streams of this cache.
    #[must_use]
    pub fn with_cache(mut self, cache: Arc<StreamCache>) -> Self {
        self.cache = cache;
        self
    }

    /// Serves a gRPC client. In state of the world it expects all routes and endpoints that it has named whenever it names
    /// another one.
    #[must_use]
    pub fn proxyless(mut self) -> Self {
        self.client = ClientKind::Proxyless;
        self
    }

    /// Withholds versions that the client rejected on an earlier stream, until they change.
    pub fn withhold(&mut self, kind: ResourceType, rejected: impl IntoIterator<Item = RejectedVersion>) {
        match self.watches.get_mut(&kind) {
            Some(watch) => rejected.into_iter().for_each(|rejected| watch.quarantine.withhold(rejected)),
            None => self.withheld.entry(kind).or_default().extend(rejected),
        }
    }

    /// Returns the versions of a type that are withheld from the client.
    pub fn withheld(&self, kind: ResourceType) -> impl Iterator<Item = &RejectedVersion> {
        self.watch(kind).into_iter().flat_map(|watch| watch.quarantine.rejected())
    }

    /// Returns the resources of a type that the client has requested.
    pub fn requested(&self, kind: ResourceType) -> RequestedNames<'_> {
        self.watch(kind).map_or(RequestedNames::None, |watch| watch.subscription.requested())
    }

    /// Returns the resources that were last passed to [`Stream::respond`]; empty before the first response. A caller that
    /// generates only what is stale updates a copy of this set.
    pub fn desired(&self, kind: ResourceType) -> ResourceSet {
        self.watch(kind).map(|watch| watch.desired().clone()).unwrap_or_default()
    }

    /// Returns the state of a type; `None` if the client has not requested it.
    pub fn status(&self, kind: ResourceType) -> Option<TypeStatus<'_>> {
        self.watch(kind).map(Watch::status)
    }

    /// Marks all resources of these types as changed. Types that the client does not subscribe to are ignored.
    pub fn push(&mut self, kinds: impl IntoIterator<Item = ResourceType>) {
        for kind in kinds {
            if self.make_due(kind) {
                self.stale.mark_all(kind);
            }
        }
    }

    /// Marks these resources of a type as changed.
    pub fn push_names(&mut self, kind: ResourceType, names: &NameSet) {
        if self.make_due(kind) {
            self.stale.mark(kind, names);
        }
    }

    /// Returns the resources of a type to generate before [`Stream::respond`], and counts them as generated.
    pub fn regenerate(&mut self, kind: ResourceType) -> Regenerate {
        let watch = self.watches.get(&kind);
        self.stale.take(kind, watch.map_or(RequestedNames::None, |watch| watch.subscription.requested()))
    }

    /// Returns the type to respond with next, if any is due now.
    pub fn next_due(&self) -> Option<ResourceType> {
        let due = self.due.iter().copied().find(|kind| !self.awaits_ack(*kind));
        let removals = self.removes_clusters
            && !self.defers_cluster_removals()
            && !self.awaits_ack(ResourceType::Cluster);
        due.or(removals.then_some(ResourceType::Cluster))
    }

    /// Returns `true` if a response of this type is in flight.
    pub fn awaits_ack(&self, kind: ResourceType) -> bool {
        self.watch(kind).is_some_and(Watch::awaits_ack)
    }

    /// Stops waiting for the ACK of the last response of a type: a client that takes long to warm a cluster must not miss the
    /// next change because of it.
    pub fn ack_timed_out(&mut self, kind: ResourceType) {
        if let Some(watch) = self.watch_mut(kind).filter(|watch| watch.awaits_ack()) {
            watch.ack_timed_out();
            self.make_due_if_must_send(kind);
        }
    }

    /// Returns the response that brings the client to `desired`: all resources of the type that it could subscribe to, at
    /// snapshot `version`. `None` if it has them all, or if another response is in flight; then the type stays due.
    pub fn respond(
        &mut self,
        kind: ResourceType,
        version: &Arc<str>,
        desired: &ResourceSet,
        mode: SendMode,
    ) -> Option<Response> {
        let deferred = kind == ResourceType::Cluster && self.defers_cluster_removals();
        let removals = if deferred { Removals::Deferred } else { Removals::Sent };
        let watch = self.watches.get_mut(&kind)?;
        watch.set_desired(desired.clone());
        if mode == SendMode::All {
            watch.must_send_everything();
        }
        if watch.awaits_ack() {
            self.due.insert(kind);
            return None;
        }
        self.due.remove(&kind);
        let nonce = Nonce::new(version, self.responses + 1);
        let diff = loop {
            let diff = watch.next_diff(self.codec, removals, &self.cache, &nonce);
            // No response is as good as an ACK: the next group of suspects follows.
            if diff.block.is_some() || !watch.release_suspects() {
                break diff;
            }
        };
        if kind == ResourceType::Cluster {
            self.removes_clusters = diff.defers_removals;
        }
        let block = diff.block?;
        self.responses += 1;
        if kind == ResourceType::Cluster {
            // A cluster that Envoy adds or updates warms until it gets endpoints, and Envoy does not request those that it
            // already has. https://github.com/envoyproxy/envoy/issues/33607
            self.must_send_endpoints(&diff.updated);
        }
        let (version, control_plane) = (version.clone(), self.control_plane.clone());
        Some(Response { kind, version, nonce, control_plane, block })
    }

    /// Returns `true` while listeners or routes that may refer to a removed cluster are due or in flight.
    fn defers_cluster_removals(&self) -> bool {
        [ResourceType::Listener, ResourceType::Route]
            .into_iter()
            .any(|kind| self.due.contains(&kind) || self.awaits_ack(kind))
    }

    fn must_send_endpoints(&mut self, clusters: &NameSet) {
        if let Some(watch) = self.watches.get_mut(&ResourceType::Endpoint) {
            watch.must_send(clusters);
            self.make_due_if_must_send(ResourceType::Endpoint);
        } else {
            self.warming = self.warming.union(clusters);
        }
    }

    /// Makes a type due if the client subscribes to any resource of it; returns `true` if it does.
    fn make_due(&mut self, kind: ResourceType) -> bool {
        let subscribes = self.requested(kind) != RequestedNames::None;
        if subscribes {
            self.due.insert(kind);
        }
        subscribes
    }
}

// Operations of the two codecs.
impl Stream {
    pub(crate) fn is_proxyless(&self) -> bool {
        self.client == ClientKind::Proxyless
    }

    pub(crate) fn watch(&self, kind: ResourceType) -> Option<&Watch> {
        self.watches.get(&kind)
    }

    pub(crate) fn watch_mut(&mut self, kind: ResourceType) -> Option<&mut Watch> {
        self.watches.get_mut(&kind)
    }

    /// Returns a watch of the stream together with the interner.
    pub(crate) fn watch_and_interner(&mut self, kind: ResourceType) -> Option<(&mut Watch, &Interner)> {
        let interner = self.cache.interner();
        self.watches.get_mut(&kind).map(|watch| (watch, interner))
    }

    pub(crate) fn interner(&self) -> &Interner {
        self.cache.interner()
    }

    /// Starts or restarts a watch.
    pub(crate) fn insert(&mut self, kind: ResourceType, watch: Watch) {
        self.watches.insert(kind, watch);
        let withheld = self.withheld.remove(&kind).unwrap_or_default();
        self.withhold(kind, withheld);
        self.make_due(kind);
        if kind == ResourceType::Endpoint {
            // A client that reconnects names the endpoints that it has before it learns that a cluster changed.
            let warming = std::mem::take(&mut self.warming);
            self.must_send_endpoints(&warming);
        }
    }

    pub(crate) fn remove(&mut self, kind: ResourceType) {
        self.watches.remove(&kind);
        self.due.remove(&kind);
        self.stale.clear(kind);
    }

    /// Applies a NACK. Returns the response that it refers to, if the client subscribes to the type, and the resources that
    /// it proves to be bad.
    pub(crate) fn nack(
        &mut self,
        kind: ResourceType,
        nonce: &str,
        message: &str,
    ) -> (Option<NonceMatch>, Vec<RejectedVersion>) {
        let Some(watch) = self.watch_mut(kind) else { return (None, Vec::new()) };
        let (matched, rejected) = watch.nack(nonce, message);
        self.make_due_if_must_send(kind);
        (Some(matched), rejected)
    }

    /// Applies an ACK; suspects that waited for it may be due now.
    pub(crate) fn ack(&mut self, kind: ResourceType, nonce: &str) -> Option<NonceMatch> {
        let matched = self.watch_mut(kind)?.ack(nonce);
        self.make_due_if_must_send(kind);
        Some(matched)
    }

    pub(crate) fn must_send_everything(&mut self, kind: ResourceType) {
        if let Some(watch) = self.watch_mut(kind) {
            watch.must_send_everything();
            self.make_due(kind);
        }
    }

    /// Makes a type due if its client waits for a resource that need not have changed.
    pub(crate) fn make_due_if_must_send(&mut self, kind: ResourceType) {
        if self.watch(kind).is_some_and(Watch::has_must_send) {
            self.make_due(kind);
        }
    }

    /// Marks the resources that a change of the subscription adds: they have not been generated for this client.
    pub(crate) fn mark_added(&mut self, kind: ResourceType, change: &SubscriptionChange) {
        if change.added.is_empty() {
            return;
        }
        if kind.is_wildcard() && !self.is_proxyless() {
            self.stale.mark_all(kind);
        } else {
            self.stale.mark(kind, &change.added.filtered(|name| name != WILDCARD));
        }
    }
}
