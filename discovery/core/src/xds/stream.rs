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

use super::response::{Codec, Nonce, Response};
use super::verdict::{Status, Wanted, Why};
use super::watch::{Delivery, Receipt, Watch};
use super::{ResourceMap, delta, sotw};

/// One stream with one client.
#[derive(Debug)]
pub struct Stream {
    codec: Codec,
    client: Client,
    control_plane: Arc<str>,
    watches: BTreeMap<ResourceType, Watch>,
    /// Types that may have news, in push order.
    pending: BTreeSet<ResourceType>,
    /// Whether clusters that are gone are still to be taken from the client.
    leaving: bool,
    /// Clusters that were sent before the client asked for any endpoints.
    warming: Vec<Arc<str>>,
    responses: u64,
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
            leaving: false,
            warming: Vec::new(),
            responses: 0,
        }
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

    /// What the client was last told about; may have more than it asked for. Whoever generates only what changed
    /// puts it into a copy of this and offers that. What a client named in its first request as held from an
    /// earlier stream has no body here until it was offered once.
    pub fn told(&self, kind: ResourceType) -> Option<&ResourceMap> {
        self.watch(kind).map(Watch::told)
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

    /// A push touches these types. Those that the client does not want are forgotten.
    pub fn push(&mut self, kinds: impl IntoIterator<Item = ResourceType>) {
        for kind in kinds {
            if self.wanted(kind) != Wanted::Nothing {
                self.pending.insert(kind);
            }
        }
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
        }
    }

    /// The response that tells the client what it does not know of `offered`: all it could want of the type, at
    /// snapshot `version`. Nothing when it knows everything, or when another response is under way; then the type
    /// stays due.
    pub fn respond(
        &mut self,
        kind: ResourceType,
        version: &Arc<str>,
        offered: &ResourceMap,
        why: Why,
    ) -> Option<Response> {
        let keeps = kind == ResourceType::Cluster && self.keeps_clusters();
        let watch = self.watches.get_mut(&kind)?;
        if why == Why::Forced {
            watch.owe_everything();
        }
        if watch.delivery == Delivery::Waiting {
            self.pending.insert(kind);
            return None;
        }
        self.pending.remove(&kind);
        let kept = if keeps { watch.without_losses(offered) } else { None };
        if kind == ResourceType::Cluster {
            self.leaving = kept.is_some();
        }
        let offered = kept.unwrap_or_else(|| offered.clone());
        let news = watch.news(&offered);
        let content = if watch.subscription.is_empty() {
            None
        } else {
            match self.codec {
                Codec::Sotw => sotw::content(kind, watch, &news, &offered),
                Codec::Delta => delta::content(kind, watch, &news),
            }
        };
        watch.set_told(offered);
        let (resources, removed) = content?;
        self.responses += 1;
        let response = Response {
            codec: self.codec,
            kind,
            version: version.clone(),
            nonce: Nonce::new(version, self.responses),
            control_plane: self.control_plane.clone(),
            resources,
            removed,
        };
        watch.sent(&response);
        if kind == ResourceType::Cluster {
            // A cluster that Envoy takes in warms until it gets endpoints, and Envoy does not ask for those it
            // already has. https://github.com/envoyproxy/envoy/issues/33607
            self.owe_endpoints(news.changed.into_iter().map(|cluster| cluster.name));
        }
        Some(response)
    }

    /// Whether listeners or routes are under way that may still name a cluster that is gone.
    fn keeps_clusters(&self) -> bool {
        [ResourceType::Listener, ResourceType::Route]
            .into_iter()
            .any(|kind| self.pending.contains(&kind) || self.is_waiting(kind))
    }

    fn owe_endpoints(&mut self, clusters: impl Iterator<Item = Arc<str>>) {
        if let Some(watch) = self.watches.get_mut(&ResourceType::Endpoint) {
            let subscription = &watch.subscription;
            let names: Vec<Arc<str>> = clusters.filter(|name| subscription.includes(name)).collect();
            watch.owe(names);
            self.note_owed(ResourceType::Endpoint);
        } else {
            self.warming.extend(clusters);
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

    /// A watch begins, or begins anew.
    pub(super) fn insert(&mut self, kind: ResourceType, watch: Watch) {
        self.watches.insert(kind, watch);
        self.push([kind]);
        if kind == ResourceType::Endpoint {
            // A client that reconnects says what endpoints it has before it learns that a cluster changed.
            let warming = std::mem::take(&mut self.warming);
            self.owe_endpoints(warming.into_iter());
        }
    }

    pub(super) fn forget(&mut self, kind: ResourceType) {
        self.watches.remove(&kind);
        self.pending.remove(&kind);
    }

    /// Which response was rejected, if the client watches the type at all.
    pub(super) fn nack(&mut self, kind: ResourceType, nonce: &str, message: &str) -> Option<Receipt> {
        let receipt = self.watch_mut(kind).map(|watch| watch.nack(nonce, message));
        self.note_owed(kind);
        receipt
    }

    pub(super) fn owe_everything(&mut self, kind: ResourceType) {
        if let Some(watch) = self.watch_mut(kind) {
            watch.owe_everything();
            self.push([kind]);
        }
    }

    /// Makes a type due if its client waits for something of it.
    pub(super) fn note_owed(&mut self, kind: ResourceType) {
        if self.watch(kind).is_some_and(Watch::owes) {
            self.push([kind]);
        }
    }
}

fn wanted(watch: &Watch) -> Wanted<'_> {
    match &watch.subscription {
        subscription if subscription.is_wildcard() => Wanted::All,
        subscription if subscription.is_empty() => Wanted::Nothing,
        subscription => Wanted::Names(subscription.names()),
    }
}
