//! A minimal server, and the guarantees of the protocol.

mod delta;
mod encoding;
mod harness;
mod quarantine;
mod sotw;
mod stale;
mod traces;
mod types;

use std::collections::BTreeMap;
use std::sync::Arc;

use bytes::{Buf, Bytes};
use pilot_proto::ResourceType;
use pilot_proto::envoy::service::discovery::v3::{
    DeltaDiscoveryRequest, DeltaDiscoveryResponse, DiscoveryRequest, DiscoveryResponse,
};
use pilot_proto::google::{protobuf::Any, rpc::Status as RpcStatus};
use prost::Message;

use super::*;

/// `a=1`: resource `a` at version 1. The body contains the same, so that received bytes are sufficient to check.
fn resource(text: &str) -> Resource {
    let (name, version) = text.split_once('=').unwrap();
    let any = Any { type_url: "type.googleapis.com/test".into(), value: text.to_owned().into() };
    Resource::new(name.into(), version.into(), any.encode_to_vec().into())
}

/// `a=1 b=2`
fn set(text: &str) -> ResourceSet {
    text.split_whitespace().map(resource).collect()
}

fn owned(names: &[&str]) -> Vec<String> {
    names.iter().map(|name| (*name).to_owned()).collect()
}

fn names(names: &[&str]) -> NameSet {
    names.iter().map(|name| Arc::from(*name)).collect()
}

fn error(message: &str) -> RpcStatus {
    RpcStatus { code: 13, message: message.into(), ..RpcStatus::default() }
}

/// Content of one response, read from its bytes.
#[derive(Clone, Debug, PartialEq, Eq)]
struct ReceivedResponse {
    kind: ResourceType,
    nonce: String,
    /// Name to version.
    has: BTreeMap<String, String>,
    gone: Vec<String>,
}

impl ReceivedResponse {
    fn read(codec: Codec, chunks: &[Bytes]) -> Self {
        let bytes = chunks.concat();
        let (type_url, nonce, bodies, gone) = match codec {
            Codec::Sotw => {
                let message = DiscoveryResponse::decode(bytes.as_slice()).unwrap();
                (message.type_url, message.nonce, message.resources, Vec::new())
            }
            Codec::Delta => {
                let message = DeltaDiscoveryResponse::decode(bytes.as_slice()).unwrap();
                let bodies =
                    message.resources.into_iter().map(|resource| resource.resource.unwrap()).collect();
                (message.type_url, message.nonce, bodies, message.removed_resources)
            }
        };
        let texts = bodies.into_iter().map(|body| String::from_utf8(body.value.chunk().to_vec()).unwrap());
        let has = texts.map(|text| text.split_once('=').map(|(k, v)| (k.to_owned(), v.to_owned())).unwrap());
        Self { kind: ResourceType::from_type_url(&type_url).unwrap(), nonce, has: has.collect(), gone }
    }
}

/// `cds a=1 b=2 -c`
impl std::fmt::Display for ReceivedResponse {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}", self.kind)?;
        self.has.iter().try_for_each(|(name, version)| write!(f, " {name}={version}"))?;
        self.gone.iter().try_for_each(|name| write!(f, " -{name}"))
    }
}

/// The caller of a [`Stream`], as the real one does it: requests in, then whatever is due out.
struct Server {
    stream: Stream,
    codec: Codec,
    version: u64,
    world: BTreeMap<ResourceType, ResourceSet>,
    /// The last nonce of each type, as a client would have it.
    nonces: BTreeMap<ResourceType, String>,
}

impl Server {
    fn new(codec: Codec) -> Self {
        let (version, world, nonces) = (1, BTreeMap::new(), BTreeMap::new());
        Self { stream: Stream::new(codec, "test".into()), codec, version, world, nonces }
    }

    /// A new stream of the same server.
    fn reconnect(&mut self) {
        self.stream = Stream::new(self.codec, "test".into());
        self.nonces.clear();
    }

    /// Sets the resources of a type without a push.
    fn with(mut self, kind: ResourceType, resources: &str) -> Self {
        self.world.insert(kind, set(resources));
        self
    }

    /// Replaces the resources of these types and pushes them.
    fn now(&mut self, worlds: &[(ResourceType, &str)]) -> Vec<String> {
        self.version += 1;
        self.world.extend(worlds.iter().map(|(kind, resources)| (*kind, set(resources))));
        self.stream.push(worlds.iter().map(|(kind, _)| *kind));
        self.drain()
    }

    /// Returns all responses that are due.
    fn hear(&mut self) -> Vec<ReceivedResponse> {
        let mut heard = Vec::new();
        while let Some(kind) = self.stream.next_due() {
            let offered = self.world.get(&kind).cloned().unwrap_or_default();
            let version = format!("v{}", self.version).into();
            if let Some(response) = self.stream.respond(kind, &version, &offered, SendMode::Changed) {
                heard.push(ReceivedResponse::read(self.codec, &response.encode()));
            }
        }
        self.nonces.extend(heard.iter().map(|heard| (heard.kind, heard.nonce.clone())));
        heard
    }

    fn drain(&mut self) -> Vec<String> {
        self.hear().iter().map(ToString::to_string).collect()
    }

    fn nonce(&self, kind: ResourceType) -> String {
        self.nonces.get(&kind).cloned().unwrap_or_default()
    }

    fn sotw(&mut self, kind: ResourceType, nonce: &str, names: &[&str]) -> (RequestOutcome, Vec<String>) {
        let verdict = self.stream.on_sotw_request(&sotw_request(kind, nonce, names));
        (verdict, self.drain())
    }

    /// Names, with the nonce of the last response: an ACK or a new subscription.
    fn names(&mut self, kind: ResourceType, names: &[&str]) -> (RequestOutcome, Vec<String>) {
        let nonce = self.nonce(kind);
        self.sotw(kind, &nonce, names)
    }

    fn delta(&mut self, request: &DeltaDiscoveryRequest) -> (RequestOutcome, Vec<String>) {
        let verdict = self.stream.on_delta_request(request);
        (verdict, self.drain())
    }

    fn subscribe(
        &mut self,
        kind: ResourceType,
        subscribe: &[&str],
        unsubscribe: &[&str],
    ) -> (RequestOutcome, Vec<String>) {
        self.delta(&delta_request(kind, "", subscribe, unsubscribe))
    }

    fn ack(&mut self, kind: ResourceType) -> (RequestOutcome, Vec<String>) {
        let nonce = self.nonce(kind);
        self.delta(&delta_request(kind, &nonce, &[], &[]))
    }
}

fn sotw_request(kind: ResourceType, nonce: &str, names: &[&str]) -> DiscoveryRequest {
    DiscoveryRequest {
        type_url: kind.type_url().into(),
        response_nonce: nonce.into(),
        resource_names: owned(names),
        ..DiscoveryRequest::default()
    }
}

fn delta_request(
    kind: ResourceType,
    nonce: &str,
    subscribe: &[&str],
    unsubscribe: &[&str],
) -> DeltaDiscoveryRequest {
    DeltaDiscoveryRequest {
        type_url: kind.type_url().into(),
        response_nonce: nonce.into(),
        resource_names_subscribe: owned(subscribe),
        resource_names_unsubscribe: owned(unsubscribe),
        ..DeltaDiscoveryRequest::default()
    }
}

fn subscribed(kind: ResourceType, added: &[&str]) -> RequestOutcome {
    RequestOutcome::Subscribe { kind, added: names(added) }
}

const NOTHING: [&str; 0] = [];
