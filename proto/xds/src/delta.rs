//! Requests of the incremental variant: each has the names that are added and removed.
//!
//! The first rule that applies decides:
//!
//! 1. an error: NACK; the response is not sent again;
//! 2. the first request of a type: its names are sent, except versions that the client already has (of endpoints, only if it
//!    has requested clusters before);
//! 3. changed names: the added ones, and those that are requested again, are sent;
//! 4. the nonce of another response: stale;
//! 5. otherwise: ACK.
//!
//! Names count whatever the request is otherwise, because they are sent once: "The server must honor changes to the
//! subscription state even if the nonce is stale."
//! <https://www.envoyproxy.io/docs/envoy/latest/api-docs/xds_protocol#incremental-xds>

use std::collections::BTreeSet;

use pilot_proto::ResourceType;
use pilot_proto::envoy::service::discovery::v3::DeltaDiscoveryRequest;

use super::outcome::RequestOutcome;
use super::stream::Stream;
use super::subscription::{SubscriptionChange, WILDCARD};
use super::watch::{NonceMatch, Watch};

impl Stream {
    /// Applies a `DeltaDiscoveryRequest`.
    pub fn on_delta_request(&mut self, request: &DeltaDiscoveryRequest) -> RequestOutcome {
        let Some(kind) = ResourceType::from_type_url(&request.type_url) else {
            return RequestOutcome::UnknownType { type_url: request.type_url.clone() };
        };
        if let Some(error) = &request.error_detail {
            let (_, rejected) = self.nack(kind, &request.response_nonce, &error.message);
            let change = self.update_names(kind, request);
            return RequestOutcome::Nack {
                kind,
                message: error.message.clone(),
                rejected,
                added: change.added,
            };
        }
        let Some(matched) = self.ack(kind, &request.response_nonce) else { return self.first(kind, request) };
        let change = self.update_names(kind, request);
        match matched {
            _ if !change.is_empty() => RequestOutcome::of_change(kind, change),
            NonceMatch::Stale => RequestOutcome::StaleNonce { kind },
            NonceMatch::Current | NonceMatch::Absent => RequestOutcome::Ack { kind },
        }
    }

    fn first(&mut self, kind: ResourceType, request: &DeltaDiscoveryRequest) -> RequestOutcome {
        let interner = self.interner();
        let mut watch = Watch::new(kind);
        let (subscribe, unsubscribe) =
            (&request.resource_names_subscribe, &request.resource_names_unsubscribe);
        let mut change = watch.subscription.update(subscribe, unsubscribe, interner);
        let initial = &request.initial_resource_versions;
        // A client subscribes to the resources that it holds, of a type without wildcard.
        if !kind.is_wildcard() && !initial.is_empty() {
            let unsubscribed: BTreeSet<&String> = unsubscribe.iter().collect();
            let names = initial.keys().filter(|name| !unsubscribed.contains(name)).map(String::as_str);
            let names = interner.names(names);
            watch.subscription.add(&names, interner);
            change.added = change.added.union(&names);
        }
        // Resources that it holds and does not subscribe to are dropped, and sent when it subscribes to them.
        let subscribed = |(name, _): &(&String, &String)| watch.subscription.includes(name);
        let versions =
            initial.iter().filter(subscribed).map(|(name, version)| (name.as_str(), version.as_str()));
        let versions = interner.versions(versions);
        watch.set_initial_versions(versions);
        // An Envoy whose clusters warm sends no request for clusters until it has their endpoints, including those that it has
        // from an earlier stream: a client that requests endpoints first is answered in full.
        let warms = kind == ResourceType::Endpoint && self.watch(ResourceType::Cluster).is_none();
        let waits_for = |name: &str| name != WILDCARD && (warms || !initial.contains_key(name));
        watch.must_send(&change.added.filtered(waits_for));
        self.insert(kind, watch);
        self.mark_added(kind, &change);
        RequestOutcome::of_change(kind, change)
    }

    /// Changes the names that the client subscribes to; returns the change.
    fn update_names(&mut self, kind: ResourceType, request: &DeltaDiscoveryRequest) -> SubscriptionChange {
        let Some((watch, interner)) = self.watch_and_interner(kind) else {
            return SubscriptionChange::default();
        };
        let (subscribe, unsubscribe) =
            (&request.resource_names_subscribe, &request.resource_names_unsubscribe);
        let change = watch.subscription.update(subscribe, unsubscribe, interner);
        if !change.is_empty() {
            watch.apply_change(&change);
            self.make_due_if_must_send(kind);
            self.mark_added(kind, &change);
        }
        change
    }
}
