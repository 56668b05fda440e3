//! One type on one stream: what the client was told, what it is owed, and how it took the last response.
//!
//! Knows versions and nonces; does not know which variant of the protocol carries them.

use std::collections::BTreeSet;
use std::sync::Arc;

use imbl::ordmap::DiffItem;
use pilot_proto::ResourceType;

use super::receipts::Receipts;
use super::response::{Nonce, Response};
use super::subscription::{Change, Subscription, WILDCARD};
use super::{Codec, ResourceMap};
use crate::model::Resource;

/// How the client took the last response of a type.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Delivery {
    /// No response was sent.
    NotSent,
    /// Sent, and neither accepted nor rejected.
    Waiting,
    /// Sent; the caller no longer waits for an answer.
    Waived,
    /// Accepted.
    Acked,
    /// Rejected.
    Nacked,
}

/// One type on one stream.
#[derive(Debug)]
pub(super) struct Watch {
    pub(super) subscription: Subscription,
    /// The set the client was last told about, as far as it subscribed to it. Shared with every other stream
    /// that was told the same.
    told: ResourceMap,
    owed: Owed,
    receipts: Receipts,
    pub(super) delivery: Delivery,
    pub(super) nonce_sent: Option<Nonce>,
    pub(super) nonce_acked: Option<Nonce>,
    pub(super) last_error: Option<Arc<str>>,
}

/// What is sent even if it has not changed.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Owed {
    Names(BTreeSet<Arc<str>>),
    Everything,
}

/// Which response the nonce of a request speaks of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Receipt {
    /// None: the client speaks on its own account.
    Spontaneous,
    /// The last one.
    Current,
    /// An earlier one, or one of another stream.
    Stale,
}

/// What a client does not know yet.
#[derive(Debug, Default)]
pub(super) struct News {
    /// Resources that it shall have.
    pub(super) changed: Vec<Resource>,
    /// Names that it shall drop.
    pub(super) gone: Vec<Arc<str>>,
}

// === impl Watch ===

impl Watch {
    /// A client that was told nothing.
    pub(super) fn new(kind: ResourceType) -> Self {
        Self {
            subscription: Subscription::new(kind),
            told: ResourceMap::new(),
            owed: Owed::nothing(),
            receipts: Receipts::default(),
            delivery: Delivery::NotSent,
            nonce_sent: None,
            nonce_acked: None,
            last_error: None,
        }
    }

    /// The client names versions that it holds from an earlier stream. They have no body here: they are compared,
    /// never sent.
    pub(super) fn holds(&mut self, name: Arc<str>, version: &str) {
        let resource = Resource { name: name.clone(), version: version.into(), body: bytes::Bytes::new() };
        self.told.insert(name, resource);
    }

    /// Which response a nonce speaks of.
    fn receipt(&self, nonce: &str) -> Receipt {
        match &self.nonce_sent {
            _ if nonce.is_empty() => Receipt::Spontaneous,
            Some(sent) if sent.as_str() == nonce => Receipt::Current,
            _ => Receipt::Stale,
        }
    }

    /// The client accepted a response; which one it was.
    pub(super) fn ack(&mut self, nonce: &str) -> Receipt {
        let receipt = self.receipt(nonce);
        if receipt == Receipt::Current {
            self.delivery = Delivery::Acked;
            self.nonce_acked.clone_from(&self.nonce_sent);
            self.last_error = None;
        }
        self.receipts.accept(nonce);
        receipt
    }

    /// The client rejected a response; which one it was.
    pub(super) fn nack(&mut self, nonce: &str, message: &str) -> Receipt {
        let receipt = self.receipt(nonce);
        self.last_error = Some(message.into());
        if receipt == Receipt::Current {
            self.delivery = Delivery::Nacked;
        }
        let owed = self.receipts.reject(nonce);
        self.owe(owed);
        self.release();
        receipt
    }

    fn release(&mut self) {
        let owed = self.receipts.release(|name| self.subscription.includes(name));
        self.owe(owed);
    }

    /// These will be sent even if they have not changed.
    pub(super) fn owe(&mut self, names: impl IntoIterator<Item = Arc<str>>) {
        if let Owed::Names(owed) = &mut self.owed {
            owed.extend(names);
        }
    }

    /// Everything will be sent even if it has not changed.
    pub(super) fn owe_everything(&mut self) {
        self.owed = Owed::Everything;
    }

    /// What a change of the subscription makes the client wait for.
    pub(super) fn owe_change(&mut self, change: &Change) {
        if change.added.iter().any(|name| name.as_ref() == WILDCARD) {
            self.owe_everything();
        }
        self.owe(change.added.iter().cloned());
        // Whoever has the wildcard and drops a name does not know whether the wildcard still covers it.
        if self.subscription.is_wildcard() {
            self.owe(change.dropped.iter().cloned());
        }
        self.release();
    }

    /// Whether the client waits for something that need not have changed.
    pub(super) fn owes(&self) -> bool {
        match &self.owed {
            Owed::Names(names) => names.iter().any(|name| self.subscription.includes(name)),
            Owed::Everything => true,
        }
    }

    /// Whether the client waits for a response even if there is nothing to put into it: a client that starts
    /// is not ready before it has heard of its clusters and listeners, and be it that there are none.
    pub(super) fn must_answer(&self) -> bool {
        self.nonce_sent.is_none() || self.owed == Owed::Everything
    }

    /// What the client was last told about.
    pub(super) const fn told(&self) -> &ResourceMap {
        &self.told
    }

    /// What of `offered` the client asked for.
    pub(super) fn selected(&self, offered: &ResourceMap) -> Vec<Resource> {
        if self.subscription.is_wildcard() {
            return offered.values().cloned().collect();
        }
        self.subscription.names().iter().filter_map(|name| offered.get(name)).cloned().collect()
    }

    /// `offered` plus what the client has and would lose by it; nothing when it would lose nothing.
    pub(super) fn without_losses(&self, offered: &ResourceMap) -> Option<ResourceMap> {
        let mut lossless = offered.clone();
        for item in self.told.diff(offered) {
            if let DiffItem::Remove(name, resource) = item
                && self.subscription.includes(name)
            {
                lossless.insert(name.clone(), resource.clone());
            }
        }
        (lossless.len() > offered.len()).then_some(lossless)
    }

    /// What of `offered` is news to the client.
    pub(super) fn news(&self, offered: &ResourceMap) -> News {
        let wanted = |name: &&Arc<str>| self.subscription.includes(name);
        let differing = self.told.diff(offered).filter_map(|item| match item {
            DiffItem::Update { old: (_, old), new: (_, new) } if old.version == new.version => None,
            DiffItem::Add(name, _) | DiffItem::Remove(name, _) | DiffItem::Update { new: (name, _), .. } => {
                Some(name)
            }
        });
        let mut names: BTreeSet<Arc<str>> = differing.filter(wanted).cloned().collect();
        match &self.owed {
            Owed::Names(owed) => names.extend(owed.iter().filter(wanted).cloned()),
            Owed::Everything => {
                names.extend(self.selected(offered).into_iter().map(|resource| resource.name));
            }
        }
        names.extend(self.receipts.rejected_with(&names));
        let mut news = News::default();
        for name in names {
            match offered.get(&name) {
                // The client holds it from an earlier stream, and it is kept there for a moment longer.
                Some(held) if held.body.is_empty() => {}
                Some(resource) => news.changed.push(resource.clone()),
                None => news.gone.push(name),
            }
        }
        news
    }

    /// The client now knows of `offered` all that it asked for.
    pub(super) fn set_told(&mut self, offered: ResourceMap) {
        self.told = offered;
        self.owed = Owed::nothing();
    }

    /// A response was sent.
    pub(super) fn sent(&mut self, response: &Response) {
        self.nonce_sent = Some(response.nonce.clone());
        self.delivery = Delivery::Waiting;
        // A response with the whole world in it repeats by itself what was rejected.
        if response.codec == Codec::Sotw && response.kind.is_wildcard() {
            return;
        }
        let names = response.resources.iter().map(|resource| &resource.name).chain(&response.removed);
        self.receipts.sent(response.nonce.clone(), names.cloned().collect());
    }
}

// === impl Owed ===

impl Owed {
    const fn nothing() -> Self {
        Self::Names(BTreeSet::new())
    }
}

// === impl News ===

impl News {
    /// Whether there is none.
    pub(super) fn is_empty(&self) -> bool {
        self.changed.is_empty() && self.gone.is_empty()
    }
}
