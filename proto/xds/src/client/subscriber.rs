//! One type on the client side: names, accepted resources, and the requests that are due.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::Arc;

use pilot_proto::ResourceType;
use pilot_proto::envoy::service::discovery::v3::{DeltaDiscoveryRequest, DiscoveryRequest};
use pilot_proto::google::rpc::Status;

use super::super::resource::{Resource, ResourceSet};
use super::super::response::Codec;
use super::super::subscription::WILDCARD;

/// `google.rpc.Code.INVALID_ARGUMENT`, which Envoy sends with a NACK.
const INVALID_ARGUMENT: i32 = 3;

/// Subscriptions to one type and the resources accepted of it.
#[derive(Debug, Default)]
pub(super) struct Subscriber {
    names: BTreeSet<Arc<str>>,
    wildcard: bool,
    accepted: ResourceSet,
    /// Version of the last response that was accepted on this stream; state of the world repeats it.
    version: String,
    /// Nonce of the last response on this stream.
    nonce: String,
    sent: Sent,
    /// Changes of the subscription that were not sent; of a name, the last one counts.
    unsent: BTreeMap<Arc<str>, Change>,
    /// Names that requests in state of the world have dropped on this stream.
    dropped: BTreeSet<Arc<str>>,
    /// The next request in state of the world has no nonce, so that it is answered in full.
    restarts: bool,
    answers: VecDeque<Answer>,
}

/// Requests of a type on this stream.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
enum Sent {
    #[default]
    Nothing,
    Wildcard,
    /// Names. From then on an empty list of names no longer means the wildcard.
    Names,
}

/// Change of the subscription to one name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Change {
    Subscribe,
    Unsubscribe,
}

/// ACK or NACK of one response.
#[derive(Debug)]
pub(super) struct Answer {
    pub(super) nonce: String,
    /// Version of the response if it was accepted.
    pub(super) version: Option<String>,
    /// Reason of a rejection.
    pub(super) error: Option<String>,
}

// === impl Subscriber ===

impl Subscriber {
    pub(super) const fn accepted(&self) -> &ResourceSet {
        &self.accepted
    }

    pub(super) fn is_subscribed(&self) -> bool {
        self.wildcard || !self.names.is_empty()
    }

    pub(super) fn connect(&mut self) {
        self.sent = Sent::Nothing;
        self.restarts = false;
        self.dropped.clear();
        self.nonce.clear();
        self.version.clear();
        self.unsent.clear();
        self.answers.clear();
    }

    pub(super) fn subscribe(&mut self, name: Arc<str>) {
        // A server ignores the names of a request that crosses a response, and would not know that the name was dropped.
        self.restarts |= self.dropped.remove(&name);
        self.names.insert(name.clone());
        self.unsent.insert(name, Change::Subscribe);
    }

    pub(super) fn subscribe_wildcard(&mut self) {
        if !self.wildcard {
            self.wildcard = true;
            self.unsent.insert(WILDCARD.into(), Change::Subscribe);
        }
    }

    /// Removes a name. In state of the world the resource stays until the names are sent: a name that is subscribed again before
    /// that was never dropped.
    pub(super) fn unsubscribe(&mut self, name: &str, codec: Codec) {
        if name == WILDCARD {
            self.wildcard = false;
        } else if !self.names.remove(name) {
            return;
        }
        self.unsent.insert(name.into(), Change::Unsubscribe);
        if codec == Codec::Delta {
            self.drop_unsubscribed();
        }
    }

    /// Drops the accepted resources that are not subscribed.
    fn drop_unsubscribed(&mut self) {
        if self.wildcard {
            return;
        }
        let accepted = self.accepted.iter().map(|resource| &resource.name);
        let unsubscribed: Vec<_> = accepted.filter(|name| !self.names.contains(*name)).cloned().collect();
        for name in &unsubscribed {
            self.accepted.remove(name);
        }
    }

    /// Notes the nonce of a response, which later requests in state of the world repeat.
    pub(super) fn received(&mut self, nonce: &str) {
        nonce.clone_into(&mut self.nonce);
    }

    /// Returns the names of accepted resources among `names`.
    pub(super) fn held<'a>(&self, names: impl Iterator<Item = &'a str>) -> Vec<Arc<str>> {
        names.filter_map(|name| Some(self.accepted.get(name)?.name.clone())).collect()
    }

    /// Returns the names of accepted resources that a complete response does not contain.
    pub(super) fn missing(&self, complete: &[Resource]) -> Vec<Arc<str>> {
        let names: BTreeSet<&str> = complete.iter().map(|resource| &*resource.name).collect();
        let missing = self.accepted.iter().filter(|resource| !names.contains(&*resource.name));
        missing.map(|resource| resource.name.clone()).collect()
    }

    /// Returns `true` if the resource differs from the accepted one.
    pub(super) fn differs(&self, resource: &Resource, codec: Codec) -> bool {
        self.accepted.get(&resource.name).is_none_or(|accepted| match codec {
            // The version is that of the response.
            Codec::Sotw => accepted.body != resource.body,
            Codec::Delta => accepted != resource,
        })
    }

    pub(super) fn apply(&mut self, changed: Vec<Resource>, removed: &[Arc<str>]) {
        for name in removed {
            self.accepted.remove(name);
        }
        for resource in changed {
            if self.includes(&resource.name) {
                self.accepted.insert(resource);
            }
        }
    }

    pub(super) fn answer(&mut self, answer: Answer) {
        if let Some(version) = &answer.version {
            self.version.clone_from(version);
        }
        self.answers.push_back(answer);
    }

    /// Returns the next request in state of the world: an answer, or the names if they have changed.
    pub(super) fn next_sotw(&mut self, kind: ResourceType) -> Option<DiscoveryRequest> {
        let answer = self.answers.pop_front();
        let changed = !self.started() || !self.unsent.is_empty() || self.restarts;
        if answer.is_none() && !changed {
            return None;
        }
        // Servers may ignore the names of a NACK: they are sent again.
        let rejects = answer.as_ref().is_some_and(|answer| answer.error.is_some());
        if !rejects {
            let unsent = std::mem::take(&mut self.unsent).into_iter();
            let unsubscribed = unsent.filter(|(_, change)| *change == Change::Unsubscribe);
            self.dropped.extend(unsubscribed.map(|(name, _)| name));
            self.drop_unsubscribed();
        }
        if !self.started() && !self.is_subscribed() {
            return None;
        }
        self.note_sent();
        let (nonce, error) = match answer {
            Some(Answer { nonce, error, .. }) => (nonce, error),
            None if std::mem::take(&mut self.restarts) => (String::new(), None),
            None => (self.nonce.clone(), None),
        };
        Some(DiscoveryRequest {
            version_info: self.version.clone(),
            resource_names: self.sotw_names(),
            type_url: kind.type_url().to_owned(),
            response_nonce: nonce,
            error_detail: error.map(error_detail),
            ..DiscoveryRequest::default()
        })
    }

    /// Returns the next incremental request: an answer, changes of the subscription, or both.
    pub(super) fn next_delta(&mut self, kind: ResourceType) -> Option<DeltaDiscoveryRequest> {
        let answer = self.answers.pop_front();
        if answer.is_none() && self.started() && self.unsent.is_empty() {
            return None;
        }
        let unsent = std::mem::take(&mut self.unsent);
        if !self.started() && !self.is_subscribed() {
            return None;
        }
        let first = !self.started();
        self.note_sent();
        let mut request = DeltaDiscoveryRequest {
            type_url: kind.type_url().to_owned(),
            ..DeltaDiscoveryRequest::default()
        };
        if first {
            request.resource_names_subscribe = self.explicit_names();
            let held = self.accepted.iter();
            request.initial_resource_versions =
                held.map(|resource| (resource.name.to_string(), resource.version.to_string())).collect();
        } else {
            for (name, change) in unsent {
                match change {
                    Change::Subscribe => request.resource_names_subscribe.push(name.to_string()),
                    Change::Unsubscribe => request.resource_names_unsubscribe.push(name.to_string()),
                }
            }
        }
        if let Some(Answer { nonce, error, .. }) = answer {
            request.response_nonce = nonce;
            request.error_detail = error.map(error_detail);
        }
        Some(request)
    }

    fn started(&self) -> bool {
        self.sent != Sent::Nothing
    }

    fn note_sent(&mut self) {
        let sent = if self.names.is_empty() { Sent::Wildcard } else { Sent::Names };
        self.sent = self.sent.max(sent);
    }

    pub(super) fn includes(&self, name: &str) -> bool {
        self.wildcard || self.names.contains(name)
    }

    /// Returns the names of a request in state of the world. The wildcard alone is an empty list, as old servers require, but only
    /// until a name was sent on the stream: then an empty list subscribes to nothing.
    fn sotw_names(&self) -> Vec<String> {
        if self.names.is_empty() && self.sent != Sent::Names { Vec::new() } else { self.explicit_names() }
    }

    /// Returns the names of the subscription, with `*` for the wildcard.
    fn explicit_names(&self) -> Vec<String> {
        let wildcard = self.wildcard.then_some(WILDCARD);
        self.names.iter().map(|name| &**name).chain(wildcard).map(str::to_owned).collect()
    }
}

fn error_detail(message: String) -> Status {
    Status { code: INVALID_ARGUMENT, message, ..Status::default() }
}
