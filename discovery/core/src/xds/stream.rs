//! One client: its watches, what is due to it, and the rules between types.
//!
//! - Types go out in push order: clusters, endpoints, listeners, routes, secrets, extensions.
//! - A type has one response under way. What changes meanwhile is remembered as one flag, so the next response
//!   says where things stand then; nothing queues up behind a slow client.
//! - A cluster that is sent waits for its endpoints, changed or not.
//! - Clusters leave last: not while listeners or routes that may still name them are under way.
//!
//! Knows no sockets and no clock: how long to wait for an answer is the caller's business ([`Stream::waive`]).

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use pilot_proto::ResourceType;

use super::pool::Pool;
use super::quarantine::Refusal;
use super::response::{Codec, Nonce, Response};
use super::stale::{Regenerate, StaleResources};
use super::step::Losses;
use super::subscription::{Change, WILDCARD};
use super::verdict::{Status, Wanted, Why};
use super::watch::{Delivery, Receipt, Watch};
use crate::model::{NameSet, ResourceSet};

/// One stream with one client.
#[derive(Debug)]
pub struct Stream {
    codec: Codec,
    client: Client,
    control_plane: Arc<str>,
    watches: BTreeMap<ResourceType, Watch>,
    /// Types that may have news, in push order.
    pending: BTreeSet<ResourceType>,
    stale: StaleResources,
    /// Whether clusters that are gone are still to be taken from the client.
    leaving: bool,
    /// Clusters that were sent before the client asked for any endpoints.
    warming: NameSet,
    /// What is kept back from this client, of types that it does not watch yet.
    refused: BTreeMap<ResourceType, Vec<Refusal>>,
    responses: u64,
    pool: Arc<Pool>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Client {
    Envoy,
    Proxyless,
}

// === impl Stream ===

impl Stream {
    /// A client that has not said anything yet. `control_plane` is how we introduce ourselves in each response.
    pub fn new(codec: Codec, control_plane: Arc<str>) -> Self {
        Self {
            codec,
            client: Client::Envoy,
            control_plane,
            watches: BTreeMap::new(),
            pending: BTreeSet::new(),
            stale: StaleResources::default(),
            leaving: false,
            warming: NameSet::default(),
            refused: BTreeMap::new(),
            responses: 0,
            pool: Arc::default(),
        }
    }

    /// Shares what it can with all other streams of this pool.
    #[must_use]
    pub fn sharing(mut self, pool: Arc<Pool>) -> Self {
        self.pool = pool;
        self
    }

    /// What the client rejected on an earlier stream is kept back on this one, until it is another version.
    pub fn refuse(&mut self, kind: ResourceType, refusals: impl IntoIterator<Item = Refusal>) {
        match self.watches.get_mut(&kind) {
            Some(watch) => refusals.into_iter().for_each(|refusal| watch.quarantine.refuse(refusal)),
            None => self.refused.entry(kind).or_default().extend(refusals),
        }
    }

    /// What is kept back from the client, of a type.
    pub fn refused(&self, kind: ResourceType) -> impl Iterator<Item = &Refusal> {
        self.watch(kind).into_iter().flat_map(|watch| watch.quarantine.refused())
    }

    /// For a gRPC library: with `SotW` it wants every route and endpoint it named, whenever it names one more.
    #[must_use]
    pub fn proxyless(mut self) -> Self {
        self.client = Client::Proxyless;
        self
    }

    /// What the client wants of a type.
    pub fn wanted(&self, kind: ResourceType) -> Wanted<'_> {
        self.watch(kind).map_or(Wanted::Nothing, wanted)
    }

    /// What was last offered of a type; empty before the first response. Whoever generates only what changed puts it
    /// into a copy of this and offers that.
    pub fn offered(&self, kind: ResourceType) -> ResourceSet {
        self.watch(kind).map(|watch| watch.offered().clone()).unwrap_or_default()
    }

    /// Where a type stands; nothing if the client does not watch it.
    pub fn status(&self, kind: ResourceType) -> Option<Status<'_>> {
        self.watch(kind).map(|watch| Status {
            wanted: wanted(watch),
            delivery: watch.delivery,
            nonce_sent: watch.nonce_sent.as_ref(),
            nonce_acked: watch.nonce_acked.as_ref(),
            last_error: watch.last_error.as_deref(),
        })
    }

    /// A push affects these types: all their resources are stale. Types that the client does not subscribe to are ignored.
    pub fn push(&mut self, kinds: impl IntoIterator<Item = ResourceType>) {
        for kind in kinds {
            if self.make_due(kind) {
                self.stale.mark_all(kind);
            }
        }
    }

    /// A push affects these resources of a type.
    pub fn push_names(&mut self, kind: ResourceType, names: &NameSet) {
        if self.make_due(kind) {
            self.stale.mark(kind, names);
        }
    }

    /// Returns the resources of a type to generate before it is offered, and counts them as generated.
    pub fn regenerate(&mut self, kind: ResourceType) -> Regenerate {
        let subscribed = self.watches.get(&kind).map_or(Wanted::Nothing, wanted);
        self.stale.take(kind, subscribed)
    }

    /// The type to generate and respond with next, if any is due now.
    pub fn next_due(&self) -> Option<ResourceType> {
        let due = self.pending.iter().copied().find(|kind| !self.is_waiting(*kind));
        let leaves = self.leaving && !self.keeps_clusters() && !self.is_waiting(ResourceType::Cluster);
        due.or(leaves.then_some(ResourceType::Cluster))
    }

    /// Whether a response of this type is under way.
    pub fn is_waiting(&self, kind: ResourceType) -> bool {
        self.watch(kind).is_some_and(|watch| watch.delivery == Delivery::Waiting)
    }

    /// Gives up waiting for the answer to the last response of a type: a client that takes too long to warm a
    /// cluster shall not miss the next change for it.
    pub fn waive(&mut self, kind: ResourceType) {
        if let Some(watch) = self.watch_mut(kind).filter(|watch| watch.delivery == Delivery::Waiting) {
            watch.delivery = Delivery::Waived;
            // Nor do those wait any longer who were to be tried after what is not answered.
            watch.try_next();
            self.note_owed(kind);
        }
    }

    /// The response that tells the client what it does not know of `offered`: all it could want of the type, at
    /// snapshot `version`. Nothing when it knows everything, or when another response is under way; then the type
    /// stays due.
    pub fn respond(
        &mut self,
        kind: ResourceType,
        version: &Arc<str>,
        offered: &ResourceSet,
        why: Why,
    ) -> Option<Response> {
        let keeps = kind == ResourceType::Cluster && self.keeps_clusters();
        let losses = if keeps { Losses::Kept } else { Losses::Told };
        let watch = self.watches.get_mut(&kind)?;
        watch.offer(offered.clone());
        if why == Why::Forced {
            watch.owe_everything();
        }
        if watch.delivery == Delivery::Waiting {
            self.pending.insert(kind);
            return None;
        }
        self.pending.remove(&kind);
        let nonce = Nonce::new(version, self.responses + 1);
        let step = loop {
            let step = watch.step(self.codec, losses, &self.pool, &nonce);
            // Nothing to send is as good as accepted: the next suspects have their trial.
            if step.block.is_some() || !watch.try_next() {
                break step;
            }
        };
        if kind == ResourceType::Cluster {
            self.leaving = step.keeps;
        }
        let block = step.block?;
        self.responses += 1;
        if kind == ResourceType::Cluster {
            // A cluster that Envoy takes in warms until it gets endpoints, and Envoy does not ask for those it
            // already has. https://github.com/envoyproxy/envoy/issues/33607
            self.owe_endpoints(&step.changed);
        }
        let (version, control_plane) = (version.clone(), self.control_plane.clone());
        Some(Response { kind, version, nonce, control_plane, block })
    }

    /// Whether listeners or routes are under way that may still name a cluster that is gone.
    fn keeps_clusters(&self) -> bool {
        [ResourceType::Listener, ResourceType::Route]
            .into_iter()
            .any(|kind| self.pending.contains(&kind) || self.is_waiting(kind))
    }

    fn owe_endpoints(&mut self, clusters: &NameSet) {
        if let Some(watch) = self.watches.get_mut(&ResourceType::Endpoint) {
            watch.owe(clusters);
            self.note_owed(ResourceType::Endpoint);
        } else {
            self.warming = self.warming.union(clusters);
        }
    }
}

// What the two codecs do to a stream.
impl Stream {
    pub(super) fn is_proxyless(&self) -> bool {
        self.client == Client::Proxyless
    }

    pub(super) fn watch(&self, kind: ResourceType) -> Option<&Watch> {
        self.watches.get(&kind)
    }

    pub(super) fn watch_mut(&mut self, kind: ResourceType) -> Option<&mut Watch> {
        self.watches.get_mut(&kind)
    }

    pub(super) const fn pool(&self) -> &Arc<Pool> {
        &self.pool
    }

    /// A watch begins, or begins anew.
    pub(super) fn insert(&mut self, kind: ResourceType, watch: Watch) {
        self.watches.insert(kind, watch);
        let refused = self.refused.remove(&kind).unwrap_or_default();
        self.refuse(kind, refused);
        self.make_due(kind);
        if kind == ResourceType::Endpoint {
            // A client that reconnects says what endpoints it has before it learns that a cluster changed.
            let warming = std::mem::take(&mut self.warming);
            self.owe_endpoints(&warming);
        }
    }

    pub(super) fn forget(&mut self, kind: ResourceType) {
        self.watches.remove(&kind);
        self.pending.remove(&kind);
        self.stale.clear(kind);
    }

    /// Which response was rejected, if the client watches the type at all, and what is bad in it.
    pub(super) fn nack(
        &mut self,
        kind: ResourceType,
        nonce: &str,
        message: &str,
    ) -> (Option<Receipt>, Vec<Refusal>) {
        let Some(watch) = self.watch_mut(kind) else { return (None, Vec::new()) };
        let (receipt, refused) = watch.nack(nonce, message);
        self.note_owed(kind);
        (Some(receipt), refused)
    }

    /// A response was accepted; suspects that waited for that may be due now.
    pub(super) fn ack(&mut self, kind: ResourceType, nonce: &str) -> Option<Receipt> {
        let receipt = self.watch_mut(kind)?.ack(nonce);
        self.note_owed(kind);
        Some(receipt)
    }

    pub(super) fn owe_everything(&mut self, kind: ResourceType) {
        if let Some(watch) = self.watch_mut(kind) {
            watch.owe_everything();
            self.make_due(kind);
        }
    }

    /// Makes a type due if its client waits for something of it.
    pub(super) fn note_owed(&mut self, kind: ResourceType) {
        if self.watch(kind).is_some_and(Watch::owes) {
            self.make_due(kind);
        }
    }

    /// A request has changed the subscription: the resources that it adds have not been generated for this client.
    pub(super) fn subscribed(&mut self, kind: ResourceType, change: &Change) {
        if change.added.is_empty() {
            return;
        }
        if kind.is_wildcard() && !self.is_proxyless() {
            self.stale.mark_all(kind);
        } else {
            self.stale.mark(kind, &change.added.filtered(|name| name != WILDCARD));
        }
    }

    /// Makes a type due if the client subscribes to anything of it; returns whether it does.
    fn make_due(&mut self, kind: ResourceType) -> bool {
        let subscribes = self.wanted(kind) != Wanted::Nothing;
        if subscribes {
            self.pending.insert(kind);
        }
        subscribes
    }
}

fn wanted(watch: &Watch) -> Wanted<'_> {
    match &watch.subscription {
        subscription if subscription.is_wildcard() => Wanted::All,
        subscription if subscription.is_empty() => Wanted::Nothing,
        subscription => Wanted::Names(subscription.names()),
    }
}
