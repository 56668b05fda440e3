//! One response, and its bytes.
//!
//! The bodies are encoded already; what is written here is the envelope. A response is two chunks: a head of its own
//! (version, nonce) and a block of resources and removals, which is one and the same for every stream that is told
//! the same. Protobuf does not mind the order of fields. Knows no subscriptions and no gRPC framing.

use std::fmt;
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
    /// Type of the resources.
    pub kind: ResourceType,
    /// Version of the snapshot it was generated from.
    pub version: Arc<str>,
    /// What the client's answer will carry.
    pub nonce: Nonce,
    /// Who we are.
    pub control_plane: Arc<str>,
    /// What it says, shared with every stream that is told the same.
    pub block: Arc<Block>,
}

/// What a response says.
#[derive(Debug, PartialEq, Eq)]
pub struct Block {
    codec: Codec,
    resources: Vec<Resource>,
    removed: Vec<Arc<str>>,
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
    /// What the client shall have.
    pub fn resources(&self) -> &[Resource] {
        &self.block.resources
    }

    /// What the client shall drop; always empty in `SotW`.
    pub fn removed(&self) -> &[Arc<str>] {
        &self.block.removed
    }

    /// The protobuf message, without gRPC's length prefix, as chunks to be written one after the other.
    pub fn encode(&self) -> [Bytes; 2] {
        [self.head(), self.block.bytes.clone()]
    }

    /// What no other stream can share.
    fn head(&self) -> Bytes {
        let version = self.version.as_ref().to_owned();
        let type_url = self.kind.type_url().to_owned();
        let nonce = self.nonce.0.as_ref().to_owned();
        let control_plane = Some(ControlPlane { identifier: self.control_plane.as_ref().to_owned() });
        match self.block.codec {
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
                ..Default::default()
            }
            .encode_to_vec(),
        }
        .into()
    }
}

// === impl Block ===

impl Block {
    pub(super) fn new(codec: Codec, resources: Vec<Resource>, removed: Vec<Arc<str>>) -> Self {
        let bytes = encode(codec, &resources, &removed);
        Self { codec, resources, removed, bytes }
    }

    pub(super) const fn bytes(&self) -> &Bytes {
        &self.bytes
    }
}

/// Everything in one piece: a chunk a resource would be a frame a resource.
fn encode(codec: Codec, resources: &[Resource], removed: &[Arc<str>]) -> Bytes {
    /// Room for tags and lengths.
    const ENVELOPE: usize = 24;
    let room = |resource: &Resource| match codec {
        Codec::Sotw => ENVELOPE + resource.body.len(),
        Codec::Delta => ENVELOPE + resource.name.len() + resource.version.len() + resource.body.len(),
    };
    let gone: usize = removed.iter().map(|name| ENVELOPE + name.len()).sum();
    let mut block = BytesMut::with_capacity(resources.iter().map(room).sum::<usize>() + gone);
    for resource in resources {
        match codec {
            Codec::Sotw => put_field(&mut block, RESOURCES, &[&resource.body]),
            Codec::Delta => {
                let named = discovery::Resource {
                    name: resource.name.as_ref().to_owned(),
                    version: resource.version.as_ref().to_owned(),
                    ..Default::default()
                };
                let mut envelope = BytesMut::from(named.encode_to_vec().as_slice());
                put_field_head(&mut envelope, RESOURCES, resource.body.len());
                put_field(&mut block, RESOURCES, &[&envelope, &resource.body]);
            }
        }
    }
    for name in removed {
        put_field(&mut block, REMOVED, &[name.as_bytes()]);
    }
    block.freeze()
}

/// `DiscoveryResponse.resources`, `DeltaDiscoveryResponse.resources` and `Resource.resource` alike.
const RESOURCES: u32 = 2;

/// `DeltaDiscoveryResponse.removed_resources`.
const REMOVED: u32 = 6;

fn put_field(buffer: &mut BytesMut, field: u32, parts: &[&[u8]]) {
    put_field_head(buffer, field, parts.iter().map(|part| part.len()).sum());
    for part in parts {
        buffer.put_slice(part);
    }
}

fn put_field_head(buffer: &mut BytesMut, field: u32, length: usize) {
    encode_key(field, WireType::LengthDelimited, buffer);
    encode_varint(length as u64, buffer);
}
