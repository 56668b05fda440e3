//! One response, and its bytes.
//!
//! The bodies are encoded already; what is written here is the envelope. A response is two chunks: a head of its own
//! (version, nonce, removals) and a block of resources, which is the same for every stream that is told the same and
//! can be shared through [`Blocks`]. Protobuf does not mind the order of fields, so the head holds every field but
//! the resources. Knows no subscriptions and no gRPC framing.

use std::collections::HashMap;
use std::fmt;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::sync::Arc;

use bytes::{BufMut, Bytes, BytesMut};
use pilot_proto::ResourceType;
use pilot_proto::envoy::config::core::v3::ControlPlane;
use pilot_proto::envoy::service::discovery::v3 as discovery;
use prost::Message;
use prost::encoding::{WireType, encode_key, encode_varint};

use crate::model::Resource;

/// Which of the two protocol variants a stream speaks.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Codec {
    /// State of the world: `StreamAggregatedResources`.
    Sotw,
    /// Incremental: `DeltaAggregatedResources`.
    Delta,
}

/// Names one response on its stream. Compared, never ordered.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Nonce(Arc<str>);

/// One response to one client.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Response {
    /// Which message it is.
    pub codec: Codec,
    /// Type of the resources.
    pub kind: ResourceType,
    /// Version of the snapshot it was generated from.
    pub version: Arc<str>,
    /// What the client's answer will carry.
    pub nonce: Nonce,
    /// Who we are.
    pub control_plane: Arc<str>,
    /// What the client shall have.
    pub resources: Vec<Resource>,
    /// What the client shall drop; always empty in `SotW`.
    pub removed: Vec<Arc<str>>,
}

/// Blocks of resources that were encoded, so that streams that are told the same share the bytes. Lives as long as
/// one push: a block is of use to streams that are at the same point.
#[derive(Debug)]
pub struct Blocks {
    capacity: usize,
    by_content: HashMap<u64, Block>,
}

#[derive(Debug)]
struct Block {
    codec: Codec,
    kind: ResourceType,
    resources: Vec<Resource>,
    bytes: Bytes,
}

// === impl Nonce ===

impl Nonce {
    /// The `count`th nonce of a stream. The version makes a nonce of an earlier stream another one.
    pub(super) fn new(version: &str, count: u64) -> Self {
        Self(format!("{version}-{count}").into())
    }

    /// As the wire carries it.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for Nonce {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

// === impl Response ===

impl Response {
    /// The protobuf message, without gRPC's length prefix, as chunks to be written one after the other.
    pub fn encode(&self) -> Vec<Bytes> {
        vec![self.head(), self.block()]
    }

    /// Everything but the resources: what no other stream can share.
    pub fn head(&self) -> Bytes {
        let version = self.version.as_ref().to_owned();
        let type_url = self.kind.type_url().to_owned();
        let nonce = self.nonce.0.as_ref().to_owned();
        let control_plane = Some(ControlPlane { identifier: self.control_plane.as_ref().to_owned() });
        match self.codec {
            Codec::Sotw => discovery::DiscoveryResponse {
                version_info: version,
                type_url,
                nonce,
                control_plane,
                ..Default::default()
            }
            .encode_to_vec(),
            Codec::Delta => discovery::DeltaDiscoveryResponse {
                system_version_info: version,
                type_url,
                nonce,
                control_plane,
                removed_resources: self.removed.iter().map(ToString::to_string).collect(),
                ..Default::default()
            }
            .encode_to_vec(),
        }
        .into()
    }

    /// The resources, copied into one piece: a chunk a resource would be a frame a resource.
    pub fn block(&self) -> Bytes {
        /// Room for a tag and a length; what the names and versions of delta take comes on top.
        const ENVELOPE: usize = 12;
        let bodies = self.resources.iter().map(|resource| ENVELOPE + resource.body.len()).sum();
        let mut block = BytesMut::with_capacity(bodies);
        for resource in &self.resources {
            match self.codec {
                Codec::Sotw => put_field(&mut block, &[&resource.body]),
                Codec::Delta => {
                    let named = discovery::Resource {
                        name: resource.name.as_ref().to_owned(),
                        version: resource.version.as_ref().to_owned(),
                        ..Default::default()
                    };
                    let mut envelope = BytesMut::from(named.encode_to_vec().as_slice());
                    put_field_head(&mut envelope, resource.body.len());
                    put_field(&mut block, &[&envelope, &resource.body]);
                }
            }
        }
        block.freeze()
    }

    fn content(&self) -> u64 {
        let mut hasher = DefaultHasher::new();
        (self.codec, self.kind).hash(&mut hasher);
        for resource in &self.resources {
            (&resource.name, &resource.version).hash(&mut hasher);
        }
        hasher.finish()
    }
}

/// `DiscoveryResponse.resources`, `DeltaDiscoveryResponse.resources` and `Resource.resource` alike.
const FIELD: u32 = 2;

fn put_field(buffer: &mut BytesMut, parts: &[&[u8]]) {
    put_field_head(buffer, parts.iter().map(|part| part.len()).sum());
    for part in parts {
        buffer.put_slice(part);
    }
}

fn put_field_head(buffer: &mut BytesMut, length: usize) {
    encode_key(FIELD, WireType::LengthDelimited, buffer);
    encode_varint(length as u64, buffer);
}

// === impl Blocks ===

impl Blocks {
    /// At most `capacity` blocks; with one more, all are forgotten.
    pub fn new(capacity: usize) -> Self {
        Self { capacity, by_content: HashMap::new() }
    }

    /// As [`Response::encode`], with the block of an earlier response that has the same resources.
    pub fn encode(&mut self, response: &Response) -> Vec<Bytes> {
        let content = response.content();
        if let Some(block) = self.by_content.get(&content)
            && (block.codec, block.kind) == (response.codec, response.kind)
            && same(&block.resources, &response.resources)
        {
            return vec![response.head(), block.bytes.clone()];
        }
        if self.by_content.len() >= self.capacity {
            self.by_content.clear();
        }
        let Response { codec, kind, ref resources, .. } = *response;
        let bytes = response.block();
        self.by_content
            .insert(content, Block { codec, kind, resources: resources.clone(), bytes: bytes.clone() });
        vec![response.head(), bytes]
    }
}

/// Equal names and versions are equal bodies; comparing those would read every byte of the configuration.
fn same(ours: &[Resource], theirs: &[Resource]) -> bool {
    ours.len() == theirs.len()
        && ours
            .iter()
            .zip(theirs)
            .all(|(ours, theirs)| (&ours.name, &ours.version) == (&theirs.name, &theirs.version))
}
