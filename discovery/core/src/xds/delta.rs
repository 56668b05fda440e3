//! Incremental: requests and responses carry what changed.
//!
//! The verdicts in order; the first that fits decides:
//!
//! 1. an error: rejected, never answered;
//! 2. the first request of a type: what it names is answered, except versions that the client already has (of
//!    endpoints, if it has asked for clusters before);
//! 3. names changed: new ones, and those that are asked for once more, are answered;
//! 4. the nonce of another response: stale;
//! 5. otherwise: accepted.
//!
//! Names are honoured whatever else a request says: they are said once. "The server must honor changes to the
//! subscription state even if the nonce is stale."
//! <https://www.envoyproxy.io/docs/envoy/latest/api-docs/xds_protocol#incremental-xds>

use std::collections::BTreeSet;
use std::sync::Arc;

use pilot_proto::ResourceType;
use pilot_proto::envoy::service::discovery::v3::DeltaDiscoveryRequest;

use super::step::{News, Position, Silence};
use super::stream::Stream;
use super::subscription::{Change, WILDCARD};
use super::verdict::Verdict;
use super::watch::{Receipt, Watch};
use crate::model::Resource;

impl Stream {
    /// What a `DeltaDiscoveryRequest` means, given what this stream last sent.
    pub fn on_delta_request(&mut self, request: &DeltaDiscoveryRequest) -> Verdict {
        let Some(kind) = ResourceType::from_type_url(&request.type_url) else {
            return Verdict::Unknown { type_url: request.type_url.clone() };
        };
        if let Some(error) = &request.error_detail {
            let (_, refused) = self.nack(kind, &request.response_nonce, &error.message);
            let change = self.resubscribe(kind, request);
            return Verdict::Nack { kind, message: error.message.clone(), refused, added: change.added };
        }
        let Some(receipt) = self.ack(kind, &request.response_nonce) else { return self.first(kind, request) };
        let change = self.resubscribe(kind, request);
        match receipt {
            _ if !change.is_empty() => Verdict::on_change(kind, change),
            Receipt::Stale => Verdict::Stale { kind },
            Receipt::Current | Receipt::Spontaneous => Verdict::Ack { kind },
        }
    }

    fn first(&mut self, kind: ResourceType, request: &DeltaDiscoveryRequest) -> Verdict {
        let pool = self.pool().clone();
        let mut watch = Watch::new(kind);
        let (subscribe, unsubscribe) =
            (&request.resource_names_subscribe, &request.resource_names_unsubscribe);
        let mut change = watch.subscription.change(subscribe, unsubscribe, &pool);
        let held = &request.initial_resource_versions;
        // What a client holds of a type without wildcard it also wants.
        if !kind.is_wildcard() && !held.is_empty() {
            let unsubscribed: BTreeSet<&String> = unsubscribe.iter().collect();
            let wanted = held.keys().filter(|name| !unsubscribed.contains(name)).map(String::as_str);
            let wanted = pool.names(wanted);
            watch.subscription.keep(&wanted, &pool);
            change.added = change.added.union(&wanted);
        }
        // What it holds and does not want it drops, and shall be told when it asks for it.
        let wanted = |(name, _): &(&String, &String)| watch.subscription.includes(name);
        let kept = held.iter().filter(wanted).map(|(name, version)| (name.as_str(), version.as_str()));
        let kept = pool.held(kept);
        watch.holds(kept);
        // An Envoy whose clusters warm says nothing of clusters before it has their endpoints, those that it has from
        // an earlier stream as well: who asks for endpoints first is answered in full.
        let warms = kind == ResourceType::Endpoint && self.watch(ResourceType::Cluster).is_none();
        watch.owe(&change.added.filtered(|name| name != WILDCARD && (warms || !held.contains_key(name))));
        self.insert(kind, watch);
        self.subscribed(kind, &change);
        Verdict::on_change(kind, change)
    }

    /// Changes the names that the client subscribes to; returns the change.
    fn resubscribe(&mut self, kind: ResourceType, request: &DeltaDiscoveryRequest) -> Change {
        let pool = self.pool().clone();
        let Some(watch) = self.watch_mut(kind) else { return Change::default() };
        let (subscribe, unsubscribe) =
            (&request.resource_names_subscribe, &request.resource_names_unsubscribe);
        let change = watch.subscription.change(subscribe, unsubscribe, &pool);
        if !change.is_empty() {
            watch.owe_change(&change);
            self.note_owed(kind);
            self.subscribed(kind, &change);
        }
        change
    }
}

/// What a response carries; nothing when none is needed.
pub(super) fn content(position: &Position<'_>, news: &News) -> Option<(Vec<Resource>, Vec<Arc<str>>)> {
    let removed = match position.kind {
        // Envoy drops a filter's configuration under listeners that still use it: it is left to expire with the
        // last of them. https://github.com/envoyproxy/envoy/issues/32823
        ResourceType::Extension => Vec::new(),
        ResourceType::Cluster
        | ResourceType::Endpoint
        | ResourceType::Listener
        | ResourceType::Route
        | ResourceType::Secret => news.gone.clone(),
    };
    let silent = news.changed.is_empty() && removed.is_empty();
    if silent && !(position.kind.is_wildcard() && position.silence == Silence::Forbidden) {
        return None;
    }
    Some((news.changed.clone(), removed))
}
