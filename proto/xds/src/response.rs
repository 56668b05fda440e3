//! One response, and its bytes.
//!
//! The bodies of resources are encoded already; this module encodes the envelope. A response is two chunks: a head of its own
//! (version, nonce) and a block of resources and removals, which all streams share that are sent the same content. Protobuf
//! allows fields in any order.

use std::fmt;
use std::sync::Arc;

use bytes::{BufMut, Bytes, BytesMut};
use pilot_proto::ResourceType;
use pilot_proto::envoy::config::core::v3::ControlPlane;
use pilot_proto::envoy::service::discovery::v3 as discovery;
use prost::Message;
use prost::encoding::{WireType, encode_key, encode_varint};

use super::resource::Resource;

/// Variant of the protocol.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Codec {
    /// State of the world: `StreamAggregatedResources`.
    Sotw,
    /// Incremental: `DeltaAggregatedResources`.
    Delta,
}

/// Identifier of one response on its stream.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Nonce(Arc<str>);

/// One response to one client.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Response {
    /// Type of the resources.
    pub kind: ResourceType,
    /// Version of the snapshot it was generated from.
    pub version: Arc<str>,
    /// Nonce that the ACK or NACK refers to.
    pub nonce: Nonce,
    /// Identifier of the control plane.
    pub control_plane: Arc<str>,
    /// Content, shared with all streams that are sent the same.
    pub block: Arc<Block>,
}

/// Resources and removed names of a response, with their encoded form.
#[derive(Debug, PartialEq, Eq)]
pub struct Block {
    codec: Codec,
    resources: Vec<Resource>,
    removed: Vec<Arc<str>>,
    bytes: Bytes,
}

// === impl Nonce ===

impl Nonce {
    /// Creates the nonce of the `count`th response of a stream. The version distinguishes it from nonces of earlier streams.
    pub(crate) fn new(version: &str, count: u64) -> Self {
        Self(format!("{version}-{count}").into())
    }

    /// Returns the nonce as it is sent.
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
    /// Returns the resources.
    pub fn resources(&self) -> &[Resource] {
        &self.block.resources
    }

    /// Returns the names of removed resources; always empty in state of the world.
    pub fn removed(&self) -> &[Arc<str>] {
        &self.block.removed
    }

    /// Encodes the protobuf message, without the length prefix of gRPC, as two chunks to be written one after the other.
    pub fn encode(&self) -> [Bytes; 2] {
        [self.head(), self.block.bytes.clone()]
    }

    /// Encodes the part that no other stream can share.
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
    pub(crate) fn new(codec: Codec, resources: Vec<Resource>, removed: Vec<Arc<str>>) -> Self {
        let bytes = encode(codec, &resources, &removed);
        Self { codec, resources, removed, bytes }
    }

    pub(crate) const fn bytes(&self) -> &Bytes {
        &self.bytes
    }
}

/// Encodes all resources into one chunk: one chunk for each resource would be one HTTP/2 frame for each.
fn encode(codec: Codec, resources: &[Resource], removed: &[Arc<str>]) -> Bytes {
    /// Upper bound for tags and lengths.
    const ENVELOPE: usize = 24;
    let size = |resource: &Resource| match codec {
        Codec::Sotw => ENVELOPE + resource.body.len(),
        Codec::Delta => ENVELOPE + resource.name.len() + resource.version.len() + resource.body.len(),
    };
    let removals: usize = removed.iter().map(|name| ENVELOPE + name.len()).sum();
    let mut block = BytesMut::with_capacity(resources.iter().map(size).sum::<usize>() + removals);
    for resource in resources {
        match codec {
            Codec::Sotw => put_field(&mut block, RESOURCES, &[&resource.body]),
            Codec::Delta => {
                let message = discovery::Resource {
                    name: resource.name.as_ref().to_owned(),
                    version: resource.version.as_ref().to_owned(),
                    ..Default::default()
                };
                let mut envelope = BytesMut::from(message.encode_to_vec().as_slice());
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
