//! Requests of the state-of-the-world variant: each lists all names that the client subscribes to.
//!
//! The first rule that applies decides:
//!
//! 1. an error: NACK; the response is not sent again;
//! 2. no names, of a type without wildcard: unsubscribes;
//! 3. no nonce, or no response was sent yet: a new subscription, answered in full;
//! 4. the nonce of another response: stale, ignored (the client repeats the names when it acknowledges the last response);
//! 5. changed names: the added ones are sent;
//! 6. otherwise: ACK.

use pilot_proto::ResourceType;
use pilot_proto::envoy::service::discovery::v3::DiscoveryRequest;

use super::outcome::RequestOutcome;
use super::stream::Stream;
use super::subscription::SubscriptionChange;
use super::watch::{NonceMatch, Watch};

impl Stream {
    /// Applies a `DiscoveryRequest`.
    pub fn on_sotw_request(&mut self, request: &DiscoveryRequest) -> RequestOutcome {
        let Some(kind) = ResourceType::from_type_url(&request.type_url) else {
            return RequestOutcome::UnknownType { type_url: request.type_url.clone() };
        };
        let names = &request.resource_names;
        if let Some(error) = &request.error_detail {
            let (matched, rejected) = self.nack(kind, &request.response_nonce, &error.message);
            // The names are those that the client subscribes to now, as in an ACK.
            let current = matched == Some(NonceMatch::Current);
            let change =
                if current { self.replace_names(kind, names) } else { SubscriptionChange::default() };
            return RequestOutcome::Nack {
                kind,
                message: error.message.clone(),
                rejected,
                added: change.added,
            };
        }
        if names.is_empty() && !kind.is_wildcard() {
            self.remove(kind);
            return RequestOutcome::Unsubscribe { kind };
        }
        let has_response = self.watch(kind).is_some_and(Watch::has_response);
        let matched = if has_response { self.ack(kind, &request.response_nonce) } else { None };
        match matched {
            None | Some(NonceMatch::Absent) => self.start(kind, names),
            Some(NonceMatch::Stale) => RequestOutcome::StaleNonce { kind },
            Some(NonceMatch::Current) => match self.replace_names(kind, names) {
                change if change.is_empty() => RequestOutcome::Ack { kind },
                change => RequestOutcome::of_change(kind, change),
            },
        }
    }

    fn start(&mut self, kind: ResourceType, names: &[String]) -> RequestOutcome {
        let mut watch = self.watch_mut(kind).map_or_else(|| Watch::new(kind), Watch::restart);
        let change = watch.subscription.replace(names, self.interner());
        watch.must_send_everything();
        self.insert(kind, watch);
        self.mark_added(kind, &change);
        // After a reconnect Envoy requests endpoints first, then clusters, and the clusters that it gets then wait for
        // endpoints that Envoy does not request again. https://github.com/envoyproxy/envoy/issues/13009
        if kind == ResourceType::Cluster {
            self.must_send_everything(ResourceType::Endpoint);
        }
        RequestOutcome::of_change(kind, change)
    }

    /// Replaces the names that the client subscribes to; returns the change.
    fn replace_names(&mut self, kind: ResourceType, names: &[String]) -> SubscriptionChange {
        let proxyless = self.is_proxyless();
        let Some((watch, interner)) = self.watch_and_interner(kind) else {
            return SubscriptionChange::default();
        };
        let change = watch.subscription.replace(names, interner);
        if change.is_empty() {
            return change;
        }
        if kind.is_wildcard() || (proxyless && !change.added.is_empty()) {
            watch.must_send_everything();
        } else {
            watch.apply_change(&change);
        }
        self.make_due_if_must_send(kind);
        self.mark_added(kind, &change);
        change
    }
}
