//! State of the world: each request lists all names, and a response to clusters or listeners lists all resources.
//!
//! The verdicts in order; the first that fits decides:
//!
//! 1. an error: rejected, never answered;
//! 2. no names where silence is not a wildcard: unsubscribed;
//! 3. no nonce, or nothing was sent yet: a new watch, answered in full;
//! 4. the nonce of another response: stale, ignored (the client repeats itself when it answers the last one);
//! 5. names changed: new ones are answered;
//! 6. otherwise: accepted.

use std::sync::Arc;

use pilot_proto::ResourceType;
use pilot_proto::envoy::service::discovery::v3::DiscoveryRequest;

use super::step::{News, Position, Silence};
use super::stream::Stream;
use super::subscription::Change;
use super::verdict::Verdict;
use super::watch::{Receipt, Watch};
use crate::model::{Resource, ResourceSet};

impl Stream {
    /// What a `DiscoveryRequest` means, given what this stream last sent.
    pub fn on_sotw_request(&mut self, request: &DiscoveryRequest) -> Verdict {
        let Some(kind) = ResourceType::from_type_url(&request.type_url) else {
            return Verdict::Unknown { type_url: request.type_url.clone() };
        };
        if let Some(error) = &request.error_detail {
            let (receipt, refused) = self.nack(kind, &request.response_nonce, &error.message);
            // The response is not sent again, but the names are those that the client has now.
            let current = receipt == Some(Receipt::Current);
            let change = if current { self.rename(kind, &request.resource_names) } else { Change::default() };
            return Verdict::Nack { kind, message: error.message.clone(), refused, added: change.added };
        }
        if request.resource_names.is_empty() && !kind.is_wildcard() {
            self.forget(kind);
            return Verdict::Unsubscribe { kind };
        }
        let answered = self.watch(kind).is_some_and(|watch| watch.nonce_sent.is_some());
        let receipt = if answered { self.ack(kind, &request.response_nonce) } else { None };
        match receipt {
            None | Some(Receipt::Spontaneous) => self.begin(kind, &request.resource_names),
            Some(Receipt::Stale) => Verdict::Stale { kind },
            Some(Receipt::Current) => match self.rename(kind, &request.resource_names) {
                change if change.is_empty() => Verdict::Ack { kind },
                change => Verdict::on_change(kind, change),
            },
        }
    }

    fn begin(&mut self, kind: ResourceType, names: &[String]) -> Verdict {
        let mut watch = self.watch_mut(kind).map_or_else(|| Watch::new(kind), Watch::anew);
        let change = watch.subscription.replace(names, self.pool());
        watch.owe_everything();
        self.insert(kind, watch);
        self.subscribed(kind, &change);
        // After a reconnect Envoy asks for endpoints first, then for clusters, and the clusters that come then
        // wait for endpoints that Envoy does not ask for again. https://github.com/envoyproxy/envoy/issues/13009
        if kind == ResourceType::Cluster {
            self.owe_everything(ResourceType::Endpoint);
        }
        Verdict::on_change(kind, change)
    }

    /// Replaces the names that the client subscribes to; returns what that changes.
    fn rename(&mut self, kind: ResourceType, names: &[String]) -> Change {
        let (proxyless, pool) = (self.is_proxyless(), self.pool().clone());
        let Some(watch) = self.watch_mut(kind) else { return Change::default() };
        let change = watch.subscription.replace(names, &pool);
        if change.is_empty() {
            return change;
        }
        if kind.is_wildcard() || (proxyless && !change.added.is_empty()) {
            watch.owe_everything();
        } else {
            watch.owe_change(&change);
        }
        self.note_owed(kind);
        self.subscribed(kind, &change);
        change
    }
}

/// What a response carries; nothing when none is needed.
pub(super) fn content(
    position: &Position<'_>,
    news: &News,
    told: &ResourceSet,
) -> Option<(Vec<Resource>, Vec<Arc<str>>)> {
    let resources = match (position.kind.is_wildcard(), news.is_empty()) {
        (true, true) if position.silence == Silence::Allowed => return None,
        // What is missing from this list is gone.
        (true, _) => Position::sendable(told),
        // What is missing from this list is unchanged.
        (false, _) if news.changed.is_empty() => return None,
        (false, _) => news.changed.clone(),
    };
    Some((resources, Vec::new()))
}
