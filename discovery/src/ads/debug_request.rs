//! Requests on an xDS stream for types that are no xDS resources, such as `istioctl`'s `istio.io/debug/syncz`.
//!
//! The stream passes such a request to a handler and sends its response once; nothing is subscribed to.

use bytes::Bytes;
use futures_util::future::BoxFuture;
use pilot_proto::envoy::config::core::v3::ControlPlane;
use pilot_proto::envoy::service::discovery::v3::{DeltaDiscoveryResponse, DiscoveryResponse, Resource};
use pilot_xds::Codec;
use prost::Message as _;
use tonic::Status;

use super::Client;

/// Handler of requests for debug types.
pub(crate) trait DebugRequests: Send + Sync {
    /// Returns the response to a request, or `None` if the type is not a debug type. An error ends the stream.
    fn respond<'a>(
        &'a self,
        client: &'a Client,
        type_url: &'a str,
        names: &'a [String],
    ) -> BoxFuture<'a, Option<Result<DebugResponse, Status>>>;
}

/// Response to one debug request.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct DebugResponse {
    /// Resources of the response. Only pages and resources of one proxy have a name.
    pub(crate) resources: Vec<Resource>,
    /// Description of this control plane as JSON, read by `istioctl`.
    pub(crate) control_plane: String,
}

// === impl DebugResponse ===

impl DebugResponse {
    /// Encodes the response without gRPC's length prefix. It is not acknowledged, so the version is also the nonce.
    pub(crate) fn encode(self, codec: Codec, type_url: &str, version: &str) -> Bytes {
        let (type_url, nonce) = (type_url.to_owned(), version.to_owned());
        let control_plane = Some(ControlPlane { identifier: self.control_plane });
        match codec {
            Codec::Sotw => DiscoveryResponse {
                version_info: version.to_owned(),
                type_url,
                nonce,
                control_plane,
                resources: self.resources.into_iter().filter_map(|named| named.resource).collect(),
                ..DiscoveryResponse::default()
            }
            .encode_to_vec(),
            Codec::Delta => DeltaDiscoveryResponse {
                system_version_info: version.to_owned(),
                type_url,
                nonce,
                control_plane,
                resources: self.resources,
                ..DeltaDiscoveryResponse::default()
            }
            .encode_to_vec(),
        }
        .into()
    }
}
