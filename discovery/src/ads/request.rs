//! What clients say: requests in either variant of the protocol, and the introduction that the first one must be.

use std::time::Duration;

use pilot_core::model::Proxy;
use pilot_core::xds::Codec;
use pilot_proto::envoy::config::core::v3::Node;
use pilot_proto::envoy::service::discovery::v3::{DeltaDiscoveryRequest, DiscoveryRequest};
use prost::Message as _;
use tonic::{Status, Streaming};
use tracing::warn;

use crate::server::Shared;

/// How long a client may take to introduce itself.
const INTRODUCTION: Duration = Duration::from_secs(30);

/// The requests of a stream, in either variant.
pub(super) enum Requests {
    Sotw(Streaming<DiscoveryRequest>),
    Delta(Streaming<DeltaDiscoveryRequest>),
}

/// One request.
pub(super) enum Request {
    Sotw(DiscoveryRequest),
    Delta(DeltaDiscoveryRequest),
}

/// The first request, which must say who the client is.
pub(super) async fn introduce(shared: &Shared, requests: &mut Requests) -> Result<(Request, Proxy), Status> {
    let first = tokio::select! {
        () = shared.draining.cancelled() => return Err(Status::unavailable("shutting down")),
        first = tokio::time::timeout(INTRODUCTION, requests.next()) => first,
    };
    let first = first.map_err(|_| Status::deadline_exceeded("no request came"))??;
    let first = first.ok_or_else(|| Status::ok(""))?;
    let node = first.node().filter(|node| !node.id.is_empty());
    let node = node.ok_or_else(|| Status::invalid_argument("missing node information"))?;
    let proxy = Proxy::from_node(node).map_err(|error| {
        warn!(node = %node.id, %error, "refused");
        Status::invalid_argument(error.to_string())
    })?;
    Ok((first, proxy))
}

// === impl Requests ===

impl Requests {
    pub(super) async fn next(&mut self) -> Result<Option<Request>, Status> {
        match self {
            Self::Sotw(stream) => Ok(stream.message().await?.map(Request::Sotw)),
            Self::Delta(stream) => Ok(stream.message().await?.map(Request::Delta)),
        }
    }

    pub(super) const fn codec(&self) -> Codec {
        match self {
            Self::Sotw(_) => Codec::Sotw,
            Self::Delta(_) => Codec::Delta,
        }
    }

    pub(super) const fn spelling(&self) -> &'static str {
        match self {
            Self::Sotw(_) => "GRPC",
            Self::Delta(_) => "DELTA_GRPC",
        }
    }
}

impl Request {
    const fn node(&self) -> Option<&Node> {
        match self {
            Self::Sotw(request) => request.node.as_ref(),
            Self::Delta(request) => request.node.as_ref(),
        }
    }

    pub(super) const fn codec(&self) -> Codec {
        match self {
            Self::Sotw(_) => Codec::Sotw,
            Self::Delta(_) => Codec::Delta,
        }
    }

    /// Its bytes on the wire.
    pub(super) fn size(&self) -> usize {
        match self {
            Self::Sotw(request) => request.encoded_len(),
            Self::Delta(request) => request.encoded_len(),
        }
    }

    /// Which response it speaks of.
    pub(super) fn nonce(&self) -> &str {
        match self {
            Self::Sotw(request) => &request.response_nonce,
            Self::Delta(request) => &request.response_nonce,
        }
    }

    /// What it names.
    pub(super) fn names(&self) -> &[String] {
        match self {
            Self::Sotw(request) => &request.resource_names,
            Self::Delta(request) => &request.resource_names_subscribe,
        }
    }

    pub(super) fn error_code(&self) -> i32 {
        match self {
            Self::Sotw(request) => request.error_detail.as_ref(),
            Self::Delta(request) => request.error_detail.as_ref(),
        }
        .map_or(0, |detail| detail.code)
    }
}
