//! Requests of a client as gRPC-framed bytes, in either variant.

use pilot_proto::envoy::config::core::v3::Node;
use pilot_proto::envoy::service::discovery::v3::{DeltaDiscoveryRequest, DiscoveryRequest};
use pilot_proto::google::rpc::Status;
use prost::Message;

use super::orders::{Codec, Kind};

/// gRPC status `INVALID_ARGUMENT`, which Envoy sends in a NACK.
const INVALID_ARGUMENT: i32 = 3;

/// Answer to a response in a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Acknowledgement {
    /// None: the request is spontaneous.
    None,
    Ack,
    Nack,
}

/// One request, with the fields of both variants.
#[derive(Debug)]
pub(super) struct Request<'a> {
    pub(super) kind: Kind,
    pub(super) node: Option<Node>,
    pub(super) nonce: &'a str,
    pub(super) answer: Acknowledgement,
    /// Last accepted version; `SotW`.
    pub(super) version: &'a str,
    /// All names; `SotW`.
    pub(super) names: Vec<String>,
    /// Added names; delta.
    pub(super) add: Vec<String>,
    /// Removed names; delta.
    pub(super) drop: Vec<String>,
    /// `initial_resource_versions`; delta.
    pub(super) versions: Vec<(String, String)>,
}

// === impl Request ===

impl<'a> Request<'a> {
    /// Creates an empty request.
    pub(super) const fn new(kind: Kind, nonce: &'a str) -> Self {
        Self {
            kind,
            node: None,
            nonce,
            answer: Acknowledgement::None,
            version: "",
            names: Vec::new(),
            add: Vec::new(),
            drop: Vec::new(),
            versions: Vec::new(),
        }
    }

    /// Encodes the request for gRPC.
    pub(super) fn framed(self, codec: Codec) -> Vec<u8> {
        let type_url = self.kind.resource_type().type_url().to_owned();
        let error_detail = (self.answer == Acknowledgement::Nack).then(|| Status {
            code: INVALID_ARGUMENT,
            message: "rejected by order".to_owned(),
            ..Status::default()
        });
        match codec {
            Codec::Sotw => framed(&DiscoveryRequest {
                version_info: self.version.to_owned(),
                node: self.node,
                resource_names: self.names,
                type_url,
                response_nonce: self.nonce.to_owned(),
                error_detail,
                ..DiscoveryRequest::default()
            }),
            Codec::Delta => framed(&DeltaDiscoveryRequest {
                node: self.node,
                type_url,
                resource_names_subscribe: self.add,
                resource_names_unsubscribe: self.drop,
                initial_resource_versions: self.versions.into_iter().collect(),
                response_nonce: self.nonce.to_owned(),
                error_detail,
                ..DeltaDiscoveryRequest::default()
            }),
        }
    }
}

/// Encodes a message with gRPC's prefix: flag 0 (not compressed), length in four bytes.
pub(super) fn framed(message: &impl Message) -> Vec<u8> {
    let length = message.encoded_len();
    let mut framed = Vec::with_capacity(length + 5);
    framed.push(0);
    framed.extend(u32::try_from(length).unwrap_or(u32::MAX).to_be_bytes());
    // Encoding to a Vec cannot fail for lack of space.
    framed.extend(message.encode_to_vec());
    framed
}
