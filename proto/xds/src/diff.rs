//! The difference between what a client has and what it should have: a pure function.
//!
//! Equal inputs give equal differences, so one is computed for all streams in the same state, and its bytes are encoded
//! once. Nonces and acknowledgements are not part of the input.

use std::sync::Arc;

use bytes::Bytes;
use pilot_proto::ResourceType;

use super::name_set::{Fingerprint, NameSet, merged};
use super::resource::{Difference, Resource, ResourceSet};
use super::response::{Block, Codec};
use super::subscription::Subscription;

/// Resources to send even if they have not changed.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct MustSend {
    /// These names; in delta also that a resource does not exist.
    pub(crate) names: NameSet,
    /// All resources of the type.
    pub(crate) everything: bool,
}

/// Treatment of resources that the client has and should no longer have.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Removals {
    /// The response removes them.
    Sent,
    /// The client keeps them for now: resources that refer to them may be on their way.
    Deferred,
}

/// Treatment of a difference without content.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum EmptyResponse {
    /// Nothing is sent.
    Omitted,
    /// An empty response is sent: Envoy does not finish starting until it has received clusters and listeners.
    Required,
}

/// State of a client and of what it should have.
#[derive(Clone, Copy, Debug)]
pub(crate) struct DiffInput<'a> {
    pub(crate) codec: Codec,
    pub(crate) kind: ResourceType,
    pub(crate) subscription: &'a Subscription,
    /// Resources that were last sent.
    pub(crate) sent: &'a ResourceSet,
    /// All resources of the type that the client could subscribe to.
    pub(crate) desired: &'a ResourceSet,
    pub(crate) must_send: &'a MustSend,
    pub(crate) removals: Removals,
    pub(crate) empty_response: EmptyResponse,
}

/// Fingerprint of a [`DiffInput`].
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) struct DiffKey {
    codec: Codec,
    kind: ResourceType,
    subscription: (Fingerprint, bool),
    sent: (Fingerprint, usize, usize),
    desired: (Fingerprint, usize, usize),
    must_send: (Fingerprint, usize, bool),
    removals: Removals,
    empty_response: EmptyResponse,
}

/// Content to send to a client, and the state that this brings it to.
#[derive(Clone, Debug)]
pub(crate) struct Diff {
    /// Resources of the client after it.
    pub(crate) state: ResourceSet,
    /// `true` if the state still has resources whose removal is deferred.
    pub(crate) defers_removals: bool,
    /// Content of the response; `None` if nothing is to be sent.
    pub(crate) block: Option<Arc<Block>>,
    /// Names of all resources that the response updates or removes.
    pub(crate) names: NameSet,
    /// Names of the resources that it updates.
    pub(crate) updated: NameSet,
}

/// Changes of a client's resources.
#[derive(Debug, Default)]
struct ResourceChanges {
    updated: Vec<Resource>,
    removed: Vec<Arc<str>>,
}

/// Resources and removed names of a response.
type Content = (Vec<Resource>, Vec<Arc<str>>);

// === impl DiffInput ===

impl DiffInput<'_> {
    pub(crate) fn key(&self) -> DiffKey {
        DiffKey {
            codec: self.codec,
            kind: self.kind,
            subscription: self.subscription.fingerprint(),
            sent: self.sent.identity(),
            desired: self.desired.identity(),
            must_send: (
                self.must_send.names.fingerprint(),
                self.must_send.names.len(),
                self.must_send.everything,
            ),
            removals: self.removals,
            empty_response: self.empty_response,
        }
    }

    pub(crate) fn diff(&self) -> Diff {
        let with_removals_deferred =
            if self.removals == Removals::Deferred { self.defer_removals() } else { None };
        let defers_removals = with_removals_deferred.is_some();
        let state = self.subscribed(with_removals_deferred.unwrap_or_else(|| self.desired.clone()));
        let changes = self.changes(&state);
        let content = if self.subscription.is_empty() {
            None
        } else {
            match self.codec {
                Codec::Sotw => self.sotw_content(&changes, &state),
                Codec::Delta => self.delta_content(&changes),
            }
        };
        let block = content.map(|(resources, removed)| Arc::new(Block::new(self.codec, resources, removed)));
        if block.is_none() {
            return Diff {
                state,
                defers_removals,
                block,
                names: NameSet::default(),
                updated: NameSet::default(),
            };
        }
        let updated: NameSet = changes.updated.iter().map(|resource| resource.name.clone()).collect();
        let names = updated.union(&changes.removed.into_iter().collect());
        Diff { state, defers_removals, block, names, updated }
    }

    /// Returns the resources of `set` that the client subscribes to.
    fn subscribed(&self, set: ResourceSet) -> ResourceSet {
        let subscribed = || self.subscription.among(set.iter(), |resource| &resource.name);
        if subscribed().count() == set.len() {
            return set;
        }
        subscribed().cloned().collect()
    }

    /// Returns the desired resources plus those of the client that are not desired; `None` if there are no such resources.
    fn defer_removals(&self) -> Option<ResourceSet> {
        let mut deferred = self.desired.clone();
        for difference in self.sent.differences(self.desired) {
            if let Difference::Removed(resource) = difference
                && self.subscription.includes(&resource.name)
            {
                deferred.insert(resource.clone());
            }
        }
        (deferred.len() > self.desired.len()).then_some(deferred)
    }

    /// Returns what changes for the client if its resources are those of `state`.
    fn changes(&self, state: &ResourceSet) -> ResourceChanges {
        let differing = self.sent.differences(state).map(Difference::name);
        let everything =
            state.iter().map(|resource| &resource.name).take_while(|_| self.must_send.everything);
        let must_send = merged(self.must_send.names.iter(), everything);
        let mut changes = ResourceChanges::default();
        for name in self.subscription.among(merged(differing, must_send), |name| name) {
            match state.get(name) {
                // The client has it from an earlier stream, and its removal is deferred.
                Some(resource) if resource.body.is_empty() => {}
                Some(resource) => changes.updated.push(resource.clone()),
                None => changes.removed.push(name.clone()),
            }
        }
        changes
    }

    /// Returns the content of a state-of-the-world response; `None` if no response is needed.
    fn sotw_content(&self, changes: &ResourceChanges, state: &ResourceSet) -> Option<Content> {
        let resources = match (self.kind.is_wildcard(), changes.is_empty()) {
            (true, true) if self.empty_response == EmptyResponse::Omitted => return None,
            // Clusters and listeners: the response is the complete list, and removes all that it does not contain.
            (true, _) => state.iter().filter(|resource| !resource.body.is_empty()).cloned().collect(),
            // Other types: resources that the response does not contain are unchanged.
            (false, _) if changes.updated.is_empty() => return None,
            (false, _) => changes.updated.clone(),
        };
        Some((resources, Vec::new()))
    }

    /// Returns the content of a delta response; `None` if no response is needed.
    fn delta_content(&self, changes: &ResourceChanges) -> Option<Content> {
        let removed = match self.kind {
            // Envoy removes the configuration of a filter while listeners still use it, so it is never removed explicitly and
            // ends with the last of these listeners. https://github.com/envoyproxy/envoy/issues/32823
            ResourceType::Extension => Vec::new(),
            ResourceType::Cluster
            | ResourceType::Endpoint
            | ResourceType::Listener
            | ResourceType::Route
            | ResourceType::Secret => changes.removed.clone(),
        };
        let empty = changes.updated.is_empty() && removed.is_empty();
        if empty && !(self.kind.is_wildcard() && self.empty_response == EmptyResponse::Required) {
            return None;
        }
        Some((changes.updated.clone(), removed))
    }
}

// === impl Diff ===

impl Diff {
    /// Returns the memory that a cached difference takes, in bytes.
    pub(crate) fn size(&self) -> usize {
        /// Minimum, for a difference without content.
        const MIN: usize = 256;
        /// Memory of one resource besides its body.
        const ENTRY: usize = 128;
        self.block.as_ref().map_or(0, |block| Bytes::len(block.bytes())) + self.state.len() * ENTRY + MIN
    }
}

// === impl ResourceChanges ===

impl ResourceChanges {
    fn is_empty(&self) -> bool {
        self.updated.is_empty() && self.removed.is_empty()
    }
}
