//! One type on one stream: what the client was told, what it is owed, and how it took the last response.
//!
//! Knows versions and nonces; does not know which variant of the protocol carries them.

use std::sync::Arc;

use pilot_proto::ResourceType;

use super::Codec;
use super::pool::Pool;
use super::quarantine::{Extent, Quarantine, Refusal, Rejected};
use super::receipts::{Receipts, Sent};
use super::response::Nonce;
use super::step::{Losses, Owed, Position, Silence, Step};
use super::subscription::{Change, Subscription, WILDCARD};
use crate::model::{Difference, NameSet, Resource, ResourceSet};

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
    kind: ResourceType,
    pub(super) subscription: Subscription,
    /// The set the client was last told about, as far as it subscribed to it. Shared with every other stream
    /// that was told the same.
    told: ResourceSet,
    /// What of it the client accepted; what it has after it rejects the rest.
    accepted: ResourceSet,
    /// The set the caller last offered; the client may have been told less.
    offered: ResourceSet,
    owed: Owed,
    /// Something that was rejected along with others is to be sent without them.
    again: bool,
    receipts: Receipts,
    pub(super) quarantine: Quarantine,
    pub(super) delivery: Delivery,
    pub(super) nonce_sent: Option<Nonce>,
    pub(super) nonce_acked: Option<Nonce>,
    pub(super) last_error: Option<Arc<str>>,
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

// === impl Watch ===

impl Watch {
    /// A client that was told nothing.
    pub(super) fn new(kind: ResourceType) -> Self {
        Self {
            kind,
            subscription: Subscription::new(kind),
            told: ResourceSet::default(),
            accepted: ResourceSet::default(),
            offered: ResourceSet::default(),
            owed: Owed::default(),
            again: false,
            receipts: Receipts::default(),
            quarantine: Quarantine::default(),
            delivery: Delivery::NotSent,
            nonce_sent: None,
            nonce_acked: None,
            last_error: None,
        }
    }

    /// The client begins once more.
    pub(super) fn anew(&mut self) -> Self {
        let quarantine = std::mem::take(&mut self.quarantine);
        Self { subscription: self.subscription.anew(), quarantine, ..Self::new(self.kind) }
    }

    /// The client names versions that it holds from an earlier stream. They may have no body here: they are
    /// compared, never sent.
    pub(super) fn holds(&mut self, held: ResourceSet) {
        self.told = held.clone();
        self.accepted = held;
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
        if let Some(sent) = self.answered(nonce) {
            self.keep(sent);
            self.try_next();
        }
        receipt
    }

    /// The client rejected a response; which one it was, and what it has against what.
    pub(super) fn nack(&mut self, nonce: &str, message: &str) -> (Receipt, Vec<Refusal>) {
        let receipt = self.receipt(nonce);
        self.last_error = Some(message.into());
        if receipt == Receipt::Current {
            self.delivery = Delivery::Nacked;
        }
        let Some(Sent { news, after, extent, .. }) = self.answered(nonce) else {
            return (receipt, Vec::new());
        };
        let names = match extent {
            Extent::News => news,
            // It is news to the client until it has accepted it.
            Extent::Everything => {
                let unaccepted = self.accepted.differences(&after).map(Difference::name).cloned();
                news.union(&unaccepted.collect())
            }
        };
        let current = names.filtered(|name| !self.receipts.speak_of(name));
        // Removals alone are not repeated: nothing in them can be found bad, and the same would be rejected for ever.
        if !names.iter().any(|name| after.get(name).is_some()) {
            self.try_next();
            return (receipt, Vec::new());
        }
        // The client is where it was before.
        self.told.adopt(&current, &self.accepted);
        let (names, current, before, after) = (&names, &current, &self.accepted, &after);
        let outcome = self.quarantine.reject(Rejected { names, current, before, after, extent, message });
        self.again |= !outcome.again.is_empty();
        // A version that was accepted before and is withheld now must not come back as what the client has.
        for name in current.iter().filter(|name| !outcome.again.contains(name)) {
            let unchanged = before
                .get(name)
                .is_some_and(|had| after.get(name).is_some_and(|sent| sent.version == had.version));
            if unchanged {
                self.told.insert(Resource::held(name.clone(), "".into()));
            }
        }
        // The client waits for these although it had them: it is told so once more.
        let version = |set: &ResourceSet, name: &str| set.get(name).map(|resource| resource.version.clone());
        let repeated =
            |name: &str| version(before, name).is_some_and(|old| version(after, name) == Some(old));
        self.owe(&outcome.again.filtered(repeated));
        if outcome.again.is_empty() {
            // What was tried is convicted: the next suspects have their trial.
            self.try_next();
        }
        // A client that has not accepted any list yet may have anything from an earlier stream, and loses by a list what is
        // not in it, be it that the list is empty. Another list may be on its way.
        if extent == Extent::Everything && self.nonce_acked.is_none() && self.receipts.is_empty() {
            self.owe_everything();
        }
        (receipt, outcome.refused)
    }

    /// The response that was answered; the client has what those before it brought.
    fn answered(&mut self, nonce: &str) -> Option<Sent> {
        let (before, sent) = self.receipts.answered(nonce)?;
        for earlier in before {
            self.keep(earlier);
        }
        Some(sent)
    }

    /// The client has what a response brought.
    fn keep(&mut self, Sent { news, after, extent, .. }: Sent) {
        let settled = self.receipts.is_empty() && self.told == after;
        if settled || extent == Extent::Everything {
            self.accepted = after;
            return;
        }
        self.accepted.adopt(&news, &after);
    }

    /// Offers the next suspects; whether there are any.
    pub(super) fn try_next(&mut self) -> bool {
        let Some(repeated) = self.quarantine.try_next() else { return false };
        self.owe(&repeated);
        self.again = true;
        true
    }

    /// These will be sent even if they have not changed.
    pub(super) fn owe(&mut self, names: &NameSet) {
        self.owed.names = self.owed.names.union(names);
    }

    /// Everything will be sent even if it has not changed.
    pub(super) fn owe_everything(&mut self) {
        self.owed.everything = true;
    }

    /// What a change of the subscription makes the client wait for.
    pub(super) fn owe_change(&mut self, change: &Change) {
        if change.added.contains(WILDCARD) {
            self.owe_everything();
        }
        let named = |names: &NameSet| names.filtered(|name| name != WILDCARD);
        self.owe(&named(&change.added));
        self.drop_unwanted(&change.dropped);
        // Whoever has the wildcard and drops a name does not know whether the wildcard still covers it.
        if self.subscription.is_wildcard() {
            self.owe(&named(&change.dropped));
        }
    }

    /// The client keeps nothing that it no longer wants: of what it dropped, which is everything with the wildcard.
    fn drop_unwanted(&mut self, dropped: &NameSet) {
        let known = |set: &ResourceSet| set.iter().map(|resource| resource.name.clone()).collect::<NameSet>();
        let dropped = if dropped.contains(WILDCARD) {
            dropped.union(&known(&self.told)).union(&known(&self.accepted))
        } else {
            dropped.clone()
        };
        let unwanted = dropped.filtered(|name| !self.subscription.includes(name));
        for name in &unwanted {
            self.told.remove(name);
            self.accepted.remove(name);
        }
        self.quarantine.lose(&unwanted);
        self.receipts.lose(&unwanted);
    }

    /// Whether the client waits for something that need not have changed.
    pub(super) fn owes(&self) -> bool {
        let named = || self.owed.names.iter().any(|name| self.subscription.includes(name));
        self.again || self.owed.everything || named()
    }

    /// What the caller last offered.
    pub(super) const fn offered(&self) -> &ResourceSet {
        &self.offered
    }

    /// The caller offers this from now on.
    pub(super) fn offer(&mut self, offered: ResourceSet) {
        self.offered = offered;
    }

    /// What the client is told next of what is offered, if anything, with this nonce. It counts as told from here on.
    pub(super) fn step(&mut self, codec: Codec, losses: Losses, pool: &Pool, nonce: &Nonce) -> Step {
        let offered = self.quarantine.masked(&self.offered);
        let waits = self.nonce_sent.is_none() || self.owed.everything;
        let position = Position {
            codec,
            kind: self.kind,
            subscription: &self.subscription,
            told: &self.told,
            offered: &offered,
            owed: &self.owed,
            losses,
            silence: if waits { Silence::Forbidden } else { Silence::Allowed },
        };
        let step = pool.step(position.key(), || {
            let step = position.step();
            Step { told: pool.share(&step.told), ..step }
        });
        self.owed = Owed::default();
        self.again = false;
        self.told = step.told.clone();
        if step.block.is_some() {
            self.nonce_sent = Some(nonce.clone());
            self.delivery = Delivery::Waiting;
            let whole = codec == Codec::Sotw && self.kind.is_wildcard();
            let extent = if whole { Extent::Everything } else { Extent::News };
            let (news, after) = (step.news.clone(), step.told.clone());
            self.receipts.sent(Sent { nonce: nonce.clone(), news, after, extent });
        }
        step
    }
}
