//! One type on one stream: the resources that were sent, ACKed and are desired, and the state of the last response.
//!
//! The protocol variant is an argument; versions and nonces are all that matters here.

use std::sync::Arc;

use pilot_proto::ResourceType;

use super::diff::{Diff, DiffInput, EmptyResponse, MustSend, Removals};
use super::diff_cache::StreamCache;
use super::in_flight::{InFlight, SentResponse};
use super::name_set::NameSet;
use super::outcome::{AckState, TypeStatus};
use super::quarantine::{Coverage, Quarantine, RejectedResponse, RejectedVersion};
use super::resource::{Difference, Resource, ResourceSet};
use super::response::{Codec, Nonce};
use super::subscription::{Subscription, SubscriptionChange, WILDCARD};

/// One type on one stream.
#[derive(Debug)]
pub(crate) struct Watch {
    kind: ResourceType,
    pub(crate) subscription: Subscription,
    /// Resources of the client if it accepts everything that was sent. Shared with all streams that were sent the same.
    sent: ResourceSet,
    /// Resources that the client has ACKed: its state if it NACKs the response in flight.
    acked: ResourceSet,
    /// Names that `acked` does not contain, and of which the client may have a version all the same: it has unsubscribed from
    /// them and subscribed again while a response with them was in flight.
    uncertain: NameSet,
    /// Resources that the caller last passed; the client may not have been sent all of them.
    desired: ResourceSet,
    must_send: MustSend,
    /// `true` if resources of a rejected response are to be sent again without the bad ones.
    resend: bool,
    in_flight: InFlight,
    pub(crate) quarantine: Quarantine,
    ack_state: AckState,
    nonce_sent: Option<Nonce>,
    nonce_acked: Option<Nonce>,
    last_error: Option<Arc<str>>,
}

/// Response that the nonce of a request refers to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum NonceMatch {
    /// None: the request has no nonce.
    Absent,
    /// The last response.
    Current,
    /// An earlier response, or one of another stream.
    Stale,
}

// === impl Watch ===

impl Watch {
    /// Creates the state of a type of which nothing was sent.
    pub(crate) fn new(kind: ResourceType) -> Self {
        Self {
            kind,
            subscription: Subscription::new(kind),
            sent: ResourceSet::default(),
            acked: ResourceSet::default(),
            uncertain: NameSet::default(),
            desired: ResourceSet::default(),
            must_send: MustSend::default(),
            resend: false,
            in_flight: InFlight::default(),
            quarantine: Quarantine::default(),
            ack_state: AckState::NotSent,
            nonce_sent: None,
            nonce_acked: None,
            last_error: None,
        }
    }

    /// Takes the quarantine into a new state of the same client, which has sent a request without a nonce.
    pub(crate) fn restart(&mut self) -> Self {
        let quarantine = std::mem::take(&mut self.quarantine);
        Self { subscription: self.subscription.restarted(), quarantine, ..Self::new(self.kind) }
    }

    /// Sets the versions that the client holds from an earlier stream. They may have no body.
    pub(crate) fn set_initial_versions(&mut self, versions: ResourceSet) {
        self.sent = versions.clone();
        self.acked = versions;
    }

    /// Returns the state for debug pages.
    pub(crate) fn status(&self) -> TypeStatus<'_> {
        TypeStatus {
            requested: self.subscription.requested(),
            ack_state: self.ack_state,
            nonce_sent: self.nonce_sent.as_ref(),
            nonce_acked: self.nonce_acked.as_ref(),
            last_error: self.last_error.as_deref(),
        }
    }

    /// Returns `true` if a response was sent.
    pub(crate) const fn has_response(&self) -> bool {
        self.nonce_sent.is_some()
    }

    /// Returns `true` if the last response is neither ACKed nor NACKed and its time has not run out.
    pub(crate) fn awaits_ack(&self) -> bool {
        self.ack_state == AckState::Pending
    }

    /// Stops waiting for the ACK of the last response.
    pub(crate) fn ack_timed_out(&mut self) {
        self.ack_state = AckState::TimedOut;
        // Suspects that wait for the same ACK are released, too.
        self.release_suspects();
    }

    fn match_nonce(&self, nonce: &str) -> NonceMatch {
        match &self.nonce_sent {
            _ if nonce.is_empty() => NonceMatch::Absent,
            Some(sent) if sent.as_str() == nonce => NonceMatch::Current,
            _ => NonceMatch::Stale,
        }
    }

    /// Applies an ACK; returns the response that it refers to.
    pub(crate) fn ack(&mut self, nonce: &str) -> NonceMatch {
        let matched = self.match_nonce(nonce);
        if matched == NonceMatch::Current {
            self.ack_state = AckState::Acked;
            self.nonce_acked.clone_from(&self.nonce_sent);
            self.last_error = None;
        }
        if let Some(response) = self.take_in_flight(nonce) {
            self.accept(response);
            self.release_suspects();
        }
        matched
    }

    /// Applies a NACK; returns the response that it refers to, and the resources that it proves to be bad.
    pub(crate) fn nack(&mut self, nonce: &str, message: &str) -> (NonceMatch, Vec<RejectedVersion>) {
        let matched = self.match_nonce(nonce);
        self.last_error = Some(message.into());
        if matched == NonceMatch::Current {
            self.ack_state = AckState::Nacked;
        }
        let Some(response) = self.take_in_flight(nonce) else { return (matched, Vec::new()) };
        let SentResponse { names, state: after, coverage, uncertain, .. } = response;
        let names = match coverage {
            Coverage::Changes => names,
            // A complete list is rejected with all in it that the client has not ACKed.
            Coverage::Complete => {
                let unacked = self.acked.differences(&after).map(Difference::name).cloned();
                names.union(&unacked.collect())
            }
        };
        let current = names.filtered(|name| !self.in_flight.covers(name));
        self.uncertain = self.uncertain.union(&uncertain.filtered(|name| current.contains(name)));
        // A response that only removes resources is not sent again: nothing in it can be bad, and it would be rejected again.
        if !names.iter().any(|name| after.get(name).is_some()) {
            self.release_suspects();
            return (matched, Vec::new());
        }
        // The client has what it had before.
        self.sent.adopt(&current, &self.acked);
        let (names, current, before, after) = (&names, &current, &self.acked, &after);
        let response = RejectedResponse { names, current, before, after, coverage, message };
        let isolation = self.quarantine.isolate(response);
        self.resend |= !isolation.resend.is_empty();
        let version = |set: &ResourceSet, name: &str| set.get(name).map(|resource| resource.version.clone());
        let unchanged =
            |name: &str| version(before, name).is_some_and(|old| version(after, name) == Some(old));
        // A version that the client had before and that is withheld now must not be sent again as part of a complete list.
        for name in current.iter().filter(|name| !isolation.resend.contains(name) && unchanged(name)) {
            self.sent.insert(Resource::without_body(name.clone(), "".into()));
        }
        // The client waits for the others even if it had the same version before.
        let unchanged = isolation.resend.filtered(unchanged);
        self.must_send(&unchanged);
        if isolation.resend.is_empty() {
            // The bad resources are found: the next group of suspects is sent.
            self.release_suspects();
        }
        // A client that has not ACKed any complete list may have anything from an earlier stream, and loses what is not in the
        // list, even if the list is empty. Another list may be in flight.
        if coverage == Coverage::Complete && self.nonce_acked.is_none() && self.in_flight.is_empty() {
            self.must_send_everything();
        }
        (matched, isolation.rejected)
    }

    /// Removes the response with this nonce from those in flight; the earlier ones count as accepted.
    fn take_in_flight(&mut self, nonce: &str) -> Option<SentResponse> {
        let (earlier, response) = self.in_flight.take(nonce)?;
        for response in earlier {
            self.accept(response);
        }
        Some(response)
    }

    fn accept(&mut self, SentResponse { names, state, coverage, unsubscribed, .. }: SentResponse) {
        let accepted = names.filtered(|name| !unsubscribed.contains(name));
        // A removal leaves nothing to be uncertain about: the client has no version, whether it takes the removal or not.
        let may_have = |name: &str| unsubscribed.contains(name) && state.get(name).is_some();
        let uncertain = names.filtered(|name| may_have(name) && self.subscription.includes(name));
        let decided = names.filtered(|name| !may_have(name));
        self.uncertain = self.uncertain.filtered(|name| !decided.contains(name)).union(&uncertain);
        let is_last = self.in_flight.is_empty() && unsubscribed.is_empty() && self.sent == state;
        if is_last || coverage == Coverage::Complete {
            self.acked = state;
        } else {
            self.acked.adopt(&accepted, &state);
        }
    }

    /// Releases the next group of suspects; returns `true` if there is one.
    pub(crate) fn release_suspects(&mut self) -> bool {
        let Some(unchanged) = self.quarantine.release_suspects() else { return false };
        self.must_send(&unchanged);
        self.resend = true;
        true
    }

    /// Sends these resources with the next response even if they have not changed.
    pub(crate) fn must_send(&mut self, names: &NameSet) {
        self.must_send.names = self.must_send.names.union(names);
    }

    /// Sends all resources with the next response even if they have not changed.
    pub(crate) fn must_send_everything(&mut self) {
        self.must_send.everything = true;
    }

    /// Records what a change of the subscription makes the client wait for, and what it no longer has.
    pub(crate) fn apply_change(&mut self, change: &SubscriptionChange) {
        if change.added.contains(WILDCARD) {
            self.must_send_everything();
        }
        let without_wildcard = |names: &NameSet| names.filtered(|name| name != WILDCARD);
        self.must_send(&without_wildcard(&change.added));
        self.forget_unsubscribed(&change.removed);
        // A client that subscribes to the wildcard and removes a name cannot know if the wildcard still covers it.
        if self.subscription.is_wildcard() {
            self.must_send(&without_wildcard(&change.removed));
        }
    }

    /// Removes resources that the client drops because it no longer subscribes to them; with the wildcard, all of them.
    fn forget_unsubscribed(&mut self, removed: &NameSet) {
        let all_names =
            |set: &ResourceSet| set.iter().map(|resource| resource.name.clone()).collect::<NameSet>();
        let removed = if removed.contains(WILDCARD) {
            removed.union(&all_names(&self.sent)).union(&all_names(&self.acked))
        } else {
            removed.clone()
        };
        let unsubscribed = removed.filtered(|name| !self.subscription.includes(name));
        for name in &unsubscribed {
            self.sent.remove(name);
            self.acked.remove(name);
        }
        self.uncertain = self.uncertain.filtered(|name| !unsubscribed.contains(name));
        self.quarantine.forget_last_good(&unsubscribed);
        self.in_flight.unsubscribe(&unsubscribed);
    }

    /// Returns `true` if the client waits for a resource that need not have changed.
    pub(crate) fn has_must_send(&self) -> bool {
        let by_name = || self.must_send.names.iter().any(|name| self.subscription.includes(name));
        self.resend || self.must_send.everything || by_name()
    }

    /// Returns the resources that the caller last passed.
    pub(crate) const fn desired(&self) -> &ResourceSet {
        &self.desired
    }

    /// Replaces the desired resources.
    pub(crate) fn set_desired(&mut self, desired: ResourceSet) {
        self.desired = desired;
    }

    /// Computes the next response; if there is one, it counts as sent with this nonce.
    pub(crate) fn next_diff(
        &mut self,
        codec: Codec,
        removals: Removals,
        cache: &StreamCache,
        nonce: &Nonce,
    ) -> Diff {
        let desired = self.quarantine.apply(&self.desired);
        // Their removal is sent although nothing was sent that it would remove.
        let removed = self.uncertain.filtered(|name| self.desired.get(name).is_none());
        self.must_send(&removed);
        let required = !self.has_response() || self.must_send.everything;
        let input = DiffInput {
            codec,
            kind: self.kind,
            subscription: &self.subscription,
            sent: &self.sent,
            desired: &desired,
            must_send: &self.must_send,
            removals,
            empty_response: if required { EmptyResponse::Required } else { EmptyResponse::Omitted },
        };
        let diff = cache.diff(input.key(), || {
            let diff = input.diff();
            Diff { state: cache.interner().intern(&diff.state), ..diff }
        });
        self.must_send = MustSend::default();
        self.resend = false;
        self.sent = diff.state.clone();
        if diff.block.is_some() {
            self.nonce_sent = Some(nonce.clone());
            self.ack_state = AckState::Pending;
            let complete = codec == Codec::Sotw && self.kind.is_wildcard();
            let coverage = if complete { Coverage::Complete } else { Coverage::Changes };
            let (names, state) = (diff.names.clone(), diff.state.clone());
            let (nonce, unsubscribed) = (nonce.clone(), NameSet::default());
            let uncertain = self.uncertain.filtered(|name| names.contains(name));
            self.uncertain = self.uncertain.filtered(|name| !names.contains(name));
            self.in_flight.push(SentResponse { nonce, names, state, coverage, unsubscribed, uncertain });
        }
        diff
    }
}
