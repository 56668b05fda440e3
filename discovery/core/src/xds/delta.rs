//! Incremental: requests and responses carry what changed.
//!
//! The verdicts in order; the first that fits decides:
//!
//! 1. an error: rejected, never answered;
//! 2. the first request of a type: what it names is answered, except versions that the client already has;
//! 3. names changed: new ones, and those that are asked for once more, are answered;
//! 4. the nonce of another response: stale;
//! 5. otherwise: accepted.
//!
//! Names are honoured whatever else a request says: they are said once. "The server must honor changes to the
//! subscription state even if the nonce is stale."
//! <https://www.envoyproxy.io/docs/envoy/latest/api-docs/xds_protocol#incremental-xds>

use std::sync::Arc;

use pilot_proto::ResourceType;
use pilot_proto::envoy::service::discovery::v3::DeltaDiscoveryRequest;

use super::stream::Stream;
use super::subscription::WILDCARD;
use super::verdict::Verdict;
use super::watch::{News, Receipt, Watch};
use crate::model::Resource;

impl Stream {
    /// What a `DeltaDiscoveryRequest` means, given what this stream last sent.
    pub fn on_delta_request(&mut self, request: &DeltaDiscoveryRequest) -> Verdict {
        let Some(kind) = ResourceType::from_type_url(&request.type_url) else {
            return Verdict::Unknown { type_url: request.type_url.clone() };
        };
        if let Some(error) = &request.error_detail {
            self.nack(kind, &request.response_nonce, &error.message);
            self.resubscribe(kind, request);
            return Verdict::Nack { kind, message: error.message.clone() };
        }
        let Some(watch) = self.watch_mut(kind) else { return self.first(kind, request) };
        let receipt = watch.ack(&request.response_nonce);
        match (self.resubscribe(kind, request), receipt) {
            (Some(verdict), _) => verdict,
            (None, Receipt::Stale) => Verdict::Stale { kind },
            (None, Receipt::Current | Receipt::Spontaneous) => Verdict::Ack { kind },
        }
    }

    fn first(&mut self, kind: ResourceType, request: &DeltaDiscoveryRequest) -> Verdict {
        let mut watch = Watch::new(kind);
        let mut change =
            watch.subscription.change(&request.resource_names_subscribe, &request.resource_names_unsubscribe);
        for (name, version) in &request.initial_resource_versions {
            let name: Arc<str> = name.as_str().into();
            watch.holds(name.clone(), version);
            // What a client holds of a type without wildcard it also wants.
            if !kind.is_wildcard() && !request.resource_names_unsubscribe.iter().any(|gone| **gone == *name) {
                if !watch.subscription.includes(&name) {
                    change.added.push(name.clone());
                }
                watch.subscription.keep(name);
            }
        }
        let known = &request.initial_resource_versions;
        let unknown = |name: &&Arc<str>| name.as_ref() != WILDCARD && !known.contains_key(name.as_ref());
        watch.owe(change.added.iter().filter(unknown).cloned());
        self.insert(kind, watch);
        Verdict::on_change(kind, change)
    }

    /// The verdict on a change of names, if there was one.
    fn resubscribe(&mut self, kind: ResourceType, request: &DeltaDiscoveryRequest) -> Option<Verdict> {
        let watch = self.watch_mut(kind)?;
        let change =
            watch.subscription.change(&request.resource_names_subscribe, &request.resource_names_unsubscribe);
        if change.is_empty() {
            return None;
        }
        watch.owe_change(&change);
        self.note_owed(kind);
        Some(Verdict::on_change(kind, change))
    }
}

/// What a response carries; nothing when none is needed.
pub(super) fn content(
    kind: ResourceType,
    watch: &Watch,
    news: &News,
) -> Option<(Vec<Resource>, Vec<Arc<str>>)> {
    let removed = match kind {
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
    if silent && !(kind.is_wildcard() && watch.must_answer()) {
        return None;
    }
    Some((news.changed.clone(), removed))
}
