//! Requests of a stream in either variant, within their limits, and the node of the first one.

use std::time::{Duration, Instant};

use pilot_core::model::Proxy;
use pilot_proto::ResourceType;
use pilot_proto::envoy::config::core::v3::Node;
use pilot_proto::envoy::service::discovery::v3::{DeltaDiscoveryRequest, DiscoveryRequest};
use pilot_xds::Codec;
use pilot_xds::grpc::MessageDecoder;
use prost::Message as _;
use tonic::body::Body;
use tonic::{Code, Status};
use tracing::warn;

use super::context::Context;
use super::limits::Refusal;
use crate::config::Limits;
use crate::transport::{Bucket, Peer, Verdict};

/// Time limit for the first request.
const INTRODUCTION: Duration = Duration::from_secs(10);

/// Sustained requests per second on one stream: twenty times the rate of a proxy that is pushed to ten times a second.
const RATE: f64 = 500.0;

/// Burst of requests: a gRPC client may subscribe to one name per request.
const BURST: f64 = 10_000.0;

/// Requests of a stream, in either variant.
pub(super) struct Requests {
    stream: Stream,
    only: Option<ResourceType>,
    limits: Limits,
    bucket: Bucket,
}

enum Stream {
    Sotw(MessageDecoder<DiscoveryRequest>),
    Delta(MessageDecoder<DeltaDiscoveryRequest>),
}

/// One request.
pub(super) enum Request {
    Sotw(DiscoveryRequest),
    Delta(DeltaDiscoveryRequest),
}

/// Reads the first request, which must contain the node.
pub(super) async fn introduce(
    context: &Context,
    peer: &Peer,
    requests: &mut Requests,
) -> Result<(Request, Proxy), Status> {
    let first = tokio::select! {
        end = peer.ended() => return Err(end),
        first = tokio::time::timeout(INTRODUCTION, requests.next(context)) => first,
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
    /// Reads state-of-the-world requests; `only`: of this type.
    pub(super) fn sotw(body: Body, only: Option<ResourceType>, limits: Limits) -> Self {
        Self::over(Stream::Sotw(MessageDecoder::new(body, limits.message)), only, limits)
    }

    /// Reads incremental requests; `only`: of this type.
    pub(super) fn delta(body: Body, only: Option<ResourceType>, limits: Limits) -> Self {
        Self::over(Stream::Delta(MessageDecoder::new(body, limits.message)), only, limits)
    }

    fn over(stream: Stream, only: Option<ResourceType>, limits: Limits) -> Self {
        Self { stream, only, limits, bucket: Bucket::new(RATE, BURST, Instant::now()) }
    }

    /// Returns the next request; `None` at the end of the stream. An error ends the stream. Cancel safe.
    pub(super) async fn next(&mut self, context: &Context) -> Result<Option<Request>, Status> {
        let request = match &mut self.stream {
            Stream::Sotw(messages) => messages.next().await.map(|request| request.map(Request::Sotw)),
            Stream::Delta(messages) => messages.next().await.map(|request| request.map(Request::Delta)),
        };
        let checked = match request {
            // gRPC has another code for a message that is too long.
            Err(status) if status.code() == Code::OutOfRange => {
                Err(Refusal::Message(status.message().to_owned()))
            }
            Err(status) => return Err(status),
            Ok(None) => return Ok(None),
            Ok(Some(request)) => self.admit(request),
        };
        checked.map(Some).map_err(|refusal| {
            warn!(%refusal, "request refused");
            context.metrics.transport.refused(refusal.reason());
            refusal.into()
        })
    }

    fn admit(&mut self, mut request: Request) -> Result<Request, Refusal> {
        if self.bucket.take(Instant::now(), Duration::ZERO) != Verdict::Now {
            return Err(Refusal::Flood(RATE));
        }
        request.check(&self.limits)?;
        if let Some(only) = self.only {
            request.restrict(only)?;
        }
        Ok(request)
    }

    pub(super) const fn codec(&self) -> Codec {
        match self.stream {
            Stream::Sotw(_) => Codec::Sotw,
            Stream::Delta(_) => Codec::Delta,
        }
    }

    pub(super) const fn spelling(&self) -> &'static str {
        match self.stream {
            Stream::Sotw(_) => "GRPC",
            Stream::Delta(_) => "DELTA_GRPC",
        }
    }
}

// === impl Request ===

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

    /// Returns the size on the wire in bytes.
    pub(super) fn size(&self) -> usize {
        match self {
            Self::Sotw(request) => request.encoded_len(),
            Self::Delta(request) => request.encoded_len(),
        }
    }

    /// Returns the nonce of the response that it answers.
    pub(super) fn nonce(&self) -> &str {
        match self {
            Self::Sotw(request) => &request.response_nonce,
            Self::Delta(request) => &request.response_nonce,
        }
    }

    /// Returns the names.
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
