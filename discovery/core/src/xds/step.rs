//! What a client is told next: a pure function of what it holds, what it shall hold and what it asked for.
//!
//! Equal inputs make the same step, so it is computed once for all streams that stand at the same point, and its
//! bytes are encoded once. Knows neither nonces nor whether an answer is awaited.

use std::sync::Arc;

use bytes::Bytes;
use pilot_proto::ResourceType;

use super::response::{Block, Codec};
use super::subscription::Subscription;
use super::{delta, sotw};
use crate::model::name_set::merged;
use crate::model::{Difference, Fingerprint, NameSet, Resource, ResourceSet};

/// What is sent even if it has not changed.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Owed {
    /// These, and be it that there are none.
    pub(super) names: NameSet,
    /// All that there is.
    pub(super) everything: bool,
}

/// Whether the client may lose what is no longer offered.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) enum Losses {
    /// It may.
    Told,
    /// Not yet: something under way may still refer to it.
    Kept,
}

/// Whether the client waits for a response even if there is nothing to put into it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) enum Silence {
    Allowed,
    /// A client that starts is not ready before it has heard of its clusters and listeners, and be it that there
    /// are none.
    Forbidden,
}

/// Where a client stands and where it shall go.
#[derive(Clone, Copy, Debug)]
pub(super) struct Position<'a> {
    pub(super) codec: Codec,
    pub(super) kind: ResourceType,
    pub(super) subscription: &'a Subscription,
    /// What the client was last told about.
    pub(super) told: &'a ResourceSet,
    /// All it could want.
    pub(super) offered: &'a ResourceSet,
    pub(super) owed: &'a Owed,
    pub(super) losses: Losses,
    pub(super) silence: Silence,
}

/// A [`Position`] in a few words.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) struct StepKey {
    codec: Codec,
    kind: ResourceType,
    subscription: (Fingerprint, bool),
    told: (Fingerprint, usize, usize),
    offered: (Fingerprint, usize, usize),
    owed: (Fingerprint, usize, bool),
    losses: Losses,
    silence: Silence,
}

/// One step of a client.
#[derive(Clone, Debug)]
pub(super) struct Step {
    /// What it knows then.
    pub(super) told: ResourceSet,
    /// Whether it keeps something that is no longer offered.
    pub(super) keeps: bool,
    /// What it is sent; nothing when it knows everything.
    pub(super) block: Option<Arc<Block>>,
    /// What that is news of.
    pub(super) news: NameSet,
    /// What of it the client shall have.
    pub(super) changed: NameSet,
}

/// What a client does not know yet.
#[derive(Debug, Default)]
pub(super) struct News {
    /// Resources that it shall have.
    pub(super) changed: Vec<Resource>,
    /// Names that it shall drop.
    pub(super) gone: Vec<Arc<str>>,
}

// === impl Position ===

impl Position<'_> {
    pub(super) fn key(&self) -> StepKey {
        StepKey {
            codec: self.codec,
            kind: self.kind,
            subscription: self.subscription.fingerprint(),
            told: self.told.identity(),
            offered: self.offered.identity(),
            owed: (self.owed.names.fingerprint(), self.owed.names.len(), self.owed.everything),
            losses: self.losses,
            silence: self.silence,
        }
    }

    pub(super) fn step(&self) -> Step {
        let lossless = if self.losses == Losses::Kept { self.without_losses() } else { None };
        let keeps = lossless.is_some();
        let told = self.asked_for(lossless.unwrap_or_else(|| self.offered.clone()));
        let news = self.news(&told);
        let content = if self.subscription.is_empty() {
            None
        } else {
            match self.codec {
                Codec::Sotw => sotw::content(self, &news, &told),
                Codec::Delta => delta::content(self, &news),
            }
        };
        let block = content.map(|(resources, removed)| Arc::new(Block::new(self.codec, resources, removed)));
        if block.is_none() {
            return Step { told, keeps, block, news: NameSet::default(), changed: NameSet::default() };
        }
        let changed: NameSet = news.changed.iter().map(|resource| resource.name.clone()).collect();
        let news = changed.union(&news.gone.into_iter().collect());
        Step { told, keeps, block, news, changed }
    }

    /// What of `set` can be sent.
    pub(super) fn sendable(set: &ResourceSet) -> Vec<Resource> {
        set.iter().filter(|resource| !resource.body.is_empty()).cloned().collect()
    }

    /// What of `set` the client asked for.
    fn asked_for(&self, set: ResourceSet) -> ResourceSet {
        let wanted = || self.subscription.among(set.iter(), |resource| &resource.name);
        if wanted().count() == set.len() {
            return set;
        }
        wanted().cloned().collect()
    }

    /// What is offered plus what the client has and would lose by it; nothing when it would lose nothing.
    fn without_losses(&self) -> Option<ResourceSet> {
        let mut lossless = self.offered.clone();
        for difference in self.told.differences(self.offered) {
            if let Difference::Removed(resource) = difference
                && self.subscription.includes(&resource.name)
            {
                lossless.insert(resource.clone());
            }
        }
        (lossless.len() > self.offered.len()).then_some(lossless)
    }

    /// What of `set` is news to the client.
    fn news(&self, set: &ResourceSet) -> News {
        let differing = self.told.differences(set).map(Difference::name);
        let everything = set.iter().map(|resource| &resource.name).take_while(|_| self.owed.everything);
        let owed = merged(self.owed.names.iter(), everything);
        let wanted = self.subscription.among(merged(differing, owed), |name| name);
        let mut news = News::default();
        for name in wanted {
            match set.get(name) {
                // The client holds it from an earlier stream, and it is kept there for a moment longer.
                Some(held) if held.body.is_empty() => {}
                Some(resource) => news.changed.push(resource.clone()),
                None => news.gone.push(name.clone()),
            }
        }
        news
    }
}

// === impl Step ===

impl Step {
    /// Bytes that are kept for its sake.
    pub(super) fn size(&self) -> usize {
        /// A step without content is not for nothing.
        const LEAST: usize = 256;
        /// What a set keeps of each resource besides its body.
        const ENTRY: usize = 128;
        self.block.as_ref().map_or(0, |block| Bytes::len(block.bytes())) + self.told.len() * ENTRY + LEAST
    }
}

// === impl News ===

impl News {
    /// Whether there is none.
    pub(super) fn is_empty(&self) -> bool {
        self.changed.is_empty() && self.gone.is_empty()
    }
}
