//! The client side of the protocol: one stream at a time, in either variant, with all resource types.
//!
//! ```text
//!   subscribe, unsubscribe ─┐            ┌─▶ next_request   (subscriptions, ACKs and NACKs, in push order)
//!                           ├─▶ Client ──┤
//!   DiscoveryResponse ──────┘            └─▶ Update ──▶ accept │ reject   (the caller decides)
//! ```
//!
//! The caller's loop: call [`Client::connect`] when a stream opens; then write [`Client::next_request`] until it returns `None`,
//! pass in a response, and answer its [`Update`] with [`Client::accept`] or [`Client::reject`]. Every response is answered
//! exactly once; a response that cannot be read is rejected without the caller.
//!
//! A client keeps the accepted resources when the stream ends. In the incremental variant it names their versions on the next
//! stream, so that an equal resource is not sent again.
//! <https://www.envoyproxy.io/docs/envoy/latest/api-docs/xds_protocol>

mod response;
mod subscriber;
#[cfg(test)]
mod tests;

use std::collections::BTreeMap;
use std::sync::Arc;

use pilot_proto::ResourceType;
use pilot_proto::envoy::config::core::v3::Node;
use pilot_proto::envoy::service::discovery::v3::{
    DeltaDiscoveryRequest, DeltaDiscoveryResponse, DiscoveryRequest, DiscoveryResponse,
};

pub use response::ResponseError;
use subscriber::{Answer, Subscriber};

use super::resource::{Resource, ResourceSet};
use super::response::Codec;

/// Client side of one xDS stream, and the resources accepted on it and on earlier ones.
#[derive(Debug)]
pub struct Client {
    codec: Codec,
    node: Node,
    types: BTreeMap<ResourceType, Subscriber>,
    /// The node was sent on this stream; servers take it from the first request.
    introduced: bool,
}

/// Changes that one response makes to the resources of a type. It takes effect with [`Client::accept`].
#[derive(Clone, Debug, PartialEq, Eq)]
#[must_use = "each response must be accepted or rejected"]
pub struct Update {
    /// Type of the resources.
    pub kind: ResourceType,
    /// Resources that are new or have another version, in the order of the response.
    pub changed: Vec<Resource>,
    /// Names of resources that the client holds and the server has removed.
    pub removed: Vec<Arc<str>>,
    version: String,
    nonce: String,
}

/// Request in the variant of the stream.
#[derive(Clone, Debug, PartialEq)]
pub enum ClientRequest {
    /// State of the world.
    Sotw(Box<DiscoveryRequest>),
    /// Incremental.
    Delta(Box<DeltaDiscoveryRequest>),
}

// === impl Client ===

impl Client {
    /// Creates a client without subscriptions. The node is sent with the first request of each stream.
    pub fn new(codec: Codec, node: Node) -> Self {
        Self { codec, node, types: BTreeMap::new(), introduced: false }
    }

    /// Begins a stream: all subscriptions are requested again, responses of an earlier stream have no answer.
    pub fn connect(&mut self) {
        self.introduced = false;
        self.types.retain(|_, subscriber| subscriber.is_subscribed());
        self.types.values_mut().for_each(Subscriber::connect);
    }

    /// Subscribes to resources by name. A name that is subscribed already is requested again.
    pub fn subscribe(&mut self, kind: ResourceType, names: impl IntoIterator<Item = Arc<str>>) {
        let subscriber = self.types.entry(kind).or_default();
        names.into_iter().for_each(|name| subscriber.subscribe(name));
    }

    /// Subscribes to all resources of a type.
    pub fn subscribe_wildcard(&mut self, kind: ResourceType) {
        self.types.entry(kind).or_default().subscribe_wildcard();
    }

    /// Ends subscriptions by name. The resources are dropped, unless the wildcard may cover them: then the server sends their
    /// removal or the resource.
    pub fn unsubscribe<'a>(&mut self, kind: ResourceType, names: impl IntoIterator<Item = &'a str>) {
        if let Some(subscriber) = self.types.get_mut(&kind) {
            names.into_iter().for_each(|name| subscriber.unsubscribe(name, self.codec));
        }
    }

    /// Returns the accepted resources of a type, of this stream and of earlier ones.
    pub fn accepted(&self, kind: ResourceType) -> Option<&ResourceSet> {
        self.types.get(&kind).map(Subscriber::accepted)
    }

    /// Returns the next request to send, if any is due: types in push order, answers in the order of the responses.
    pub fn next_request(&mut self) -> Option<ClientRequest> {
        let (codec, introduced) = (self.codec, self.introduced);
        let mut request = self.types.iter_mut().find_map(|(kind, subscriber)| match codec {
            Codec::Sotw => subscriber.next_sotw(*kind).map(|request| ClientRequest::Sotw(request.into())),
            Codec::Delta => subscriber.next_delta(*kind).map(|request| ClientRequest::Delta(request.into())),
        })?;
        if !introduced {
            self.introduced = true;
            match &mut request {
                ClientRequest::Sotw(request) => request.node = Some(self.node.clone()),
                ClientRequest::Delta(request) => request.node = Some(self.node.clone()),
            }
        }
        Some(request)
    }

    /// Reads a `DiscoveryResponse`.
    ///
    /// # Errors
    ///
    /// If it is invalid. Then it is rejected, unless its type is unknown or was never subscribed: such a response has no answer.
    pub fn on_sotw_response(&mut self, response: DiscoveryResponse) -> Result<Update, ResponseError> {
        let kind = self.kind_of(&response.type_url)?;
        let (version, nonce) = (response.version_info, response.nonce);
        let resources = response::read_sotw(kind, &version, &response.resources);
        self.update(kind, version, nonce, resources.map(|resources| (resources, None)))
    }

    /// Reads a `DeltaDiscoveryResponse`.
    ///
    /// # Errors
    ///
    /// As [`Client::on_sotw_response`].
    pub fn on_delta_response(&mut self, response: DeltaDiscoveryResponse) -> Result<Update, ResponseError> {
        let kind = self.kind_of(&response.type_url)?;
        let (version, nonce) = (response.system_version_info, response.nonce);
        let resources = response::read_delta(kind, &response.resources, &response.removed_resources);
        self.update(
            kind,
            version,
            nonce,
            resources.map(|resources| (resources, Some(response.removed_resources))),
        )
    }

    /// Applies an update and acknowledges its response. Resources that were unsubscribed meanwhile are left out.
    pub fn accept(&mut self, update: Update) {
        let Some(subscriber) = self.types.get_mut(&update.kind) else { return };
        subscriber.apply(update.changed, &update.removed);
        subscriber.answer(Answer { nonce: update.nonce, version: Some(update.version), error: None });
    }

    /// Rejects the response of an update. The accepted resources stay as they are.
    pub fn reject(&mut self, update: Update, message: impl Into<String>) {
        let Some(subscriber) = self.types.get_mut(&update.kind) else { return };
        subscriber.answer(Answer { nonce: update.nonce, version: None, error: Some(message.into()) });
    }

    fn kind_of(&self, type_url: &str) -> Result<ResourceType, ResponseError> {
        ResourceType::from_type_url(type_url)
            .filter(|kind| self.types.contains_key(kind))
            .ok_or_else(|| ResponseError::UnexpectedType { type_url: type_url.to_owned() })
    }

    /// Returns the difference between the accepted resources and those of a response; `removed` is `None` in state of the world.
    fn update(
        &mut self,
        kind: ResourceType,
        version: String,
        nonce: String,
        content: Result<(Vec<Resource>, Option<Vec<String>>), ResponseError>,
    ) -> Result<Update, ResponseError> {
        let codec = self.codec;
        let subscriber = self.types.entry(kind).or_default();
        subscriber.received(&nonce);
        let (mut changed, removed) = match content {
            Ok(content) => content,
            Err(error) => {
                subscriber.answer(Answer { nonce, version: None, error: Some(error.to_string()) });
                return Err(error);
            }
        };
        let removed = match removed {
            Some(names) => subscriber.held(names.iter().map(String::as_str)),
            // A response has all clusters or listeners, and any number of other resources.
            None if kind.is_wildcard() => subscriber.missing(&changed),
            None => Vec::new(),
        };
        changed.retain(|resource| subscriber.differs(resource, codec));
        Ok(Update { kind, changed, removed, version, nonce })
    }
}
