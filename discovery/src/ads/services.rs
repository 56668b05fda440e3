//! The xDS services: ADS, and one for each type. Streams of one type accept no other.
//!
//! Written by hand, inside tonic's router: see `wire` for why.

use std::convert::Infallible;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use http::{HeaderValue, Request, Response, header};
use pilot_proto::ResourceType;
use tonic::Status;
use tonic::body::Body;
use tonic::service::Routes;
use tracing::debug;

use super::connection;
use super::debug_request::DebugRequests;
use super::limits::Refusal;
use super::request::Requests;
use crate::transport::Peer;
use pilot_xds::grpc::response_body;

/// Definition of one service.
struct Definition {
    name: &'static str,
    /// The type of its streams; `None`: any.
    only: Option<ResourceType>,
    stream: &'static str,
    delta: &'static str,
    /// Unary method for xDS over REST, answered with UNIMPLEMENTED; ADS has none.
    fetch: &'static str,
}

static SERVICES: [Definition; 5] = [
    Definition {
        name: "envoy.service.discovery.v3.AggregatedDiscoveryService",
        only: None,
        stream: "StreamAggregatedResources",
        delta: "DeltaAggregatedResources",
        fetch: "",
    },
    Definition {
        name: "envoy.service.cluster.v3.ClusterDiscoveryService",
        only: Some(ResourceType::Cluster),
        stream: "StreamClusters",
        delta: "DeltaClusters",
        fetch: "FetchClusters",
    },
    Definition {
        name: "envoy.service.endpoint.v3.EndpointDiscoveryService",
        only: Some(ResourceType::Endpoint),
        stream: "StreamEndpoints",
        delta: "DeltaEndpoints",
        fetch: "FetchEndpoints",
    },
    Definition {
        name: "envoy.service.listener.v3.ListenerDiscoveryService",
        only: Some(ResourceType::Listener),
        stream: "StreamListeners",
        delta: "DeltaListeners",
        fetch: "FetchListeners",
    },
    Definition {
        name: "envoy.service.route.v3.RouteDiscoveryService",
        only: Some(ResourceType::Route),
        stream: "StreamRoutes",
        delta: "DeltaRoutes",
        fetch: "FetchRoutes",
    },
];

/// Returns the names of the services.
pub(crate) fn names() -> impl Iterator<Item = &'static str> {
    SERVICES.iter().map(|service| service.name)
}

/// Returns the services as routes, to which others can be added.
pub(crate) fn routes(context: &Arc<super::Context>, debug_requests: &Arc<dyn DebugRequests>) -> Routes {
    let ours = SERVICES.iter().fold(axum::Router::new(), |ours, definition| {
        let service =
            Service { context: context.clone(), debug_requests: debug_requests.clone(), definition };
        ours.route_service(&format!("/{}/{{method}}", definition.name), service)
    });
    // Its fallback is gRPC's UNIMPLEMENTED.
    let mut routes = Routes::default();
    let served = routes.axum_router_mut();
    *served = std::mem::take(served).merge(ours);
    routes
}

#[derive(Clone)]
struct Service {
    context: Arc<super::Context>,
    debug_requests: Arc<dyn DebugRequests>,
    definition: &'static Definition,
}

// === impl Service ===

impl tower::Service<Request<axum::body::Body>> for Service {
    type Response = Response<Body>;
    type Error = Infallible;
    type Future = Pin<Box<dyn Future<Output = Result<Response<Body>, Infallible>> + Send>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Request<axum::body::Body>) -> Self::Future {
        let service = self.clone();
        Box::pin(async move { Ok(service.open(request).await.unwrap_or_else(Status::into_http)) })
    }
}

impl Service {
    async fn open(&self, request: Request<axum::body::Body>) -> Result<Response<Body>, Status> {
        let Self { context, definition, .. } = self;
        let content = request.headers().get(header::CONTENT_TYPE).map(HeaderValue::as_bytes);
        if !content.is_some_and(|content| content.starts_with(b"application/grpc")) {
            let mut response = Response::new(Body::empty());
            *response.status_mut() = http::StatusCode::UNSUPPORTED_MEDIA_TYPE;
            return Ok(response);
        }
        let peer = request.extensions().get::<Arc<Peer>>().cloned();
        let peer = peer.ok_or_else(|| Status::internal("a request without a connection"))?;
        let method = request.uri().path().rsplit('/').next().unwrap_or_default().to_owned();
        let requests = |body| {
            let limits = context.limits;
            if method == definition.stream {
                Ok(Requests::sotw(body, definition.only, limits))
            } else if method == definition.delta {
                Ok(Requests::delta(body, definition.only, limits))
            } else if method == definition.fetch {
                let Definition { stream, delta, .. } = definition;
                Err(Status::unimplemented(format!("{method} is xDS by polling; use {stream} or {delta}")))
            } else {
                Err(Status::unimplemented(format!("{} has no method {method}", definition.name)))
            }
        };
        let requests = requests(Body::new(request.into_body()))?;
        if let Some(why) = context.health.not_ready() {
            return Err(Status::unavailable(why));
        }
        // The cheap check first: a flood from one address does not take admission from others.
        let stream = context.connections.open(&peer, context.limits.streams_per_address);
        let stream = stream.map_err(|why| self.refuse(&peer, Refusal::Address(why)))?;
        context.admission.turn().await.map_err(|why| self.refuse(&peer, Refusal::Crowded(why)))?;

        let (outbox, body) = response_body(stream);
        connection::spawn(context.clone(), self.debug_requests.clone(), requests, outbox, peer);
        let mut response = Response::new(Body::new(body));
        response.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static("application/grpc"));
        Ok(response)
    }

    fn refuse(&self, peer: &Peer, refusal: Refusal) -> Status {
        debug!(peer = %peer.address, %refusal, "stream refused");
        self.context.metrics.transport.refused(refusal.reason());
        refusal.into()
    }
}
