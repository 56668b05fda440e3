//! One stream in a small world, driven by bytes, and what must hold of its responses whatever the client says.
//!
//! Bytes are read as steps: a change of the world, a client that is no longer waited for, or a request. A request is a protobuf
//! message as it stands; its type and nonce are replaced by sensible ones more often than not, or no request would ever matter.
//! The whole of the protocol is held by the properties in `xds/tests/traces`; here it is that nothing panics, hangs or lies.

use std::collections::{BTreeMap, BTreeSet};

use pilot_core::model::{Resource, ResourceSet};
use pilot_xds::{Codec, Response, Stream, RequestOutcome, RequestedNames, SendMode};
use pilot_proto::ResourceType;
use prost::Message;
use prost::bytes::Bytes;

const NAMES: [&str; 4] = ["a", "b", "c", "outbound|80||a.default.svc.cluster.local"];

/// Which type and nonce a request gets instead of its own.
pub struct Mark {
    kind: Option<ResourceType>,
    nonce: Option<String>,
}

/// A client's stream and all that it was told.
struct Life {
    stream: Stream,
    codec: Codec,
    world: BTreeMap<ResourceType, BTreeMap<&'static str, u8>>,
    nonces: BTreeMap<ResourceType, String>,
    told: BTreeSet<String>,
    /// Every resource there ever was.
    offered: BTreeSet<(ResourceType, String, String)>,
    waiting: BTreeMap<ResourceType, String>,
}

/// The steps in the bytes.
struct Steps<'a>(&'a [u8]);

/// Lives through the steps in `data`; `request` hands one request to the stream.
pub fn live<M: Message + Default>(
    codec: Codec,
    data: &[u8],
    request: impl Fn(&mut Stream, &Mark, &mut M) -> RequestOutcome,
) {
    let mut life = Life::new(codec);
    let mut steps = Steps(data);
    while let Some(step) = steps.byte() {
        let kind = ResourceType::ALL[usize::from(step >> 2) % ResourceType::ALL.len()];
        match step & 3 {
            0 => {
                let change = steps.byte().unwrap_or_default();
                life.change(kind, NAMES[usize::from(change) % NAMES.len()], change >> 2 & 3);
            }
            1 if step >> 6 == 3 => {
                life.stream.ack_timed_out(kind);
                life.waiting.remove(&kind);
            }
            _ => {
                let length = usize::from(steps.byte().unwrap_or_default());
                let Ok(mut message) = M::decode(steps.take(length)) else { continue };
                life.hear(kind, step, |stream, mark| request(stream, mark, &mut message));
            }
        }
        life.drain();
    }
    life.end();
}

// === impl Mark ===

impl Mark {
    /// Replaces what the request says.
    pub fn put(&self, type_url: &mut String, nonce: &mut String) {
        if let Some(kind) = self.kind {
            kind.type_url().clone_into(type_url);
        }
        if let Some(ours) = &self.nonce {
            ours.clone_into(nonce);
        }
    }
}

// === impl Steps ===

impl<'a> Steps<'a> {
    fn byte(&mut self) -> Option<u8> {
        let (first, rest) = self.0.split_first()?;
        self.0 = rest;
        Some(*first)
    }

    fn take(&mut self, length: usize) -> &'a [u8] {
        let (taken, rest) = self.0.split_at(length.min(self.0.len()));
        self.0 = rest;
        taken
    }
}

// === impl Life ===

impl Life {
    fn new(codec: Codec) -> Self {
        let first = |kind| (kind, BTreeMap::from([("a", 1), ("b", 1)]));
        Self {
            stream: Stream::new(codec, "fuzz".into()),
            codec,
            world: ResourceType::ALL.into_iter().map(first).collect(),
            nonces: BTreeMap::new(),
            told: BTreeSet::new(),
            offered: BTreeSet::new(),
            waiting: BTreeMap::new(),
        }
    }

    fn change(&mut self, kind: ResourceType, name: &'static str, version: u8) {
        let world = self.world.entry(kind).or_default();
        match version {
            0 => world.remove(name),
            version => world.insert(name, version),
        };
        self.stream.push([kind]);
    }

    fn hear(&mut self, kind: ResourceType, step: u8, request: impl FnOnce(&mut Stream, &Mark) -> RequestOutcome) {
        let mark = match step >> 6 {
            0 => Mark { kind: None, nonce: None },
            1 => Mark { kind: Some(kind), nonce: None },
            2 => Mark { kind: Some(kind), nonce: Some(String::new()) },
            _ => Mark { kind: Some(kind), nonce: Some(self.nonces.get(&kind).cloned().unwrap_or_default()) },
        };
        request(&mut self.stream, &mark);
        // Whether it was an answer, and to which type, is for the stream to say; it may not answer what it waits for.
        let stream = &self.stream;
        self.waiting.retain(|kind, _| stream.awaits_ack(*kind));
    }

    fn offer(&mut self, kind: ResourceType) -> ResourceSet {
        let world = self.world.get(&kind).into_iter().flatten();
        let resource = |(name, version): (&&str, &u8)| {
            let body = Bytes::from(format!("\n\0\x12\x03{name:.1}={version}"));
            Resource::new((*name).into(), version.to_string().into(), body)
        };
        let set: ResourceSet = world.map(resource).collect();
        let named =
            set.iter().map(|resource| (kind, resource.name.to_string(), resource.version.to_string()));
        self.offered.extend(named);
        set
    }

    /// Everything that is due. A type each, clusters and endpoints once more: it must come to an end.
    fn drain(&mut self) {
        for _ in 0..4 * ResourceType::ALL.len() {
            let Some(kind) = self.stream.next_due() else { return };
            let offered = self.offer(kind);
            if let Some(response) = self.stream.respond(kind, &"v".into(), &offered, SendMode::Changed) {
                self.holds(kind, &response);
                self.nonces.insert(kind, response.nonce.to_string());
                assert_eq!(
                    self.waiting.insert(kind, response.nonce.to_string()),
                    None,
                    "two at once: {kind}"
                );
            }
        }
        panic!("the stream never falls silent");
    }

    fn holds(&mut self, kind: ResourceType, response: &Response) {
        assert_eq!(response.kind, kind);
        assert!(self.told.insert(response.nonce.to_string()), "nonce {} once more", response.nonce);
        let wants = |name: &str| match self.stream.requested(kind) {
            RequestedNames::None => false,
            RequestedNames::Wildcard => true,
            RequestedNames::Names(names) => names.contains(name),
        };
        let world = &self.world[&kind];
        let mut names = BTreeSet::new();
        for resource in response.resources() {
            assert!(wants(&resource.name), "{kind} {} is not wanted", resource.name);
            assert!(names.insert(&resource.name), "{kind} {} twice", resource.name);
            // A cluster that is gone stays while listeners may name it, and what was rejected stays as it was before.
            let known =
                self.offered.contains(&(kind, resource.name.to_string(), resource.version.to_string()));
            assert!(known, "{kind} {} is a lie", resource.name);
        }
        for name in response.removed() {
            assert!(wants(name) && names.insert(name), "{kind} {name} is removed and not subscribed");
            let refused = self.stream.withheld(kind).any(|refusal| refusal.name == *name);
            assert!(refused || !world.contains_key(name.as_ref()), "{kind} {name} is there");
        }
        assert!(self.codec == Codec::Delta || response.removed().is_empty());
        let bytes: Vec<u8> = response.encode().concat();
        match self.codec {
            Codec::Sotw => {
                let read = pilot_proto::envoy::service::discovery::v3::DiscoveryResponse::decode(&*bytes);
                assert_eq!(read.map(|read| read.resources.len()), Ok(response.resources().len()));
            }
            Codec::Delta => {
                let read =
                    pilot_proto::envoy::service::discovery::v3::DeltaDiscoveryResponse::decode(&*bytes);
                assert_eq!(read.map(|read| read.resources.len()), Ok(response.resources().len()));
            }
        }
    }

    /// Delivers all ACKs: then a push without changes sends nothing.
    fn end(&mut self) {
        for _ in 0..4 * ResourceType::ALL.len() {
            let waiting: Vec<ResourceType> = std::mem::take(&mut self.waiting).into_keys().collect();
            if waiting.is_empty() {
                break;
            }
            waiting.into_iter().for_each(|kind| self.stream.ack_timed_out(kind));
            self.drain();
        }
        assert!(self.waiting.is_empty(), "the stream never comes to an end");
        self.stream.push(ResourceType::ALL);
        self.drain();
        assert!(self.waiting.is_empty(), "a push without news is sent: {:?}", self.waiting);
    }
}
