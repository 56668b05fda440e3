//! Scripted xDS client: subscribes, acknowledges and rejects as the test says, and records every response.

use std::net::SocketAddr;
use std::time::Duration;

use anyhow::{Context, Result, bail};
use futures_util::Stream;
use pilot_proto::ResourceType;
use pilot_proto::envoy::config::core::v3::Node;
use pilot_proto::envoy::service::cluster::v3::cluster_discovery_service_client::ClusterDiscoveryServiceClient;
use pilot_proto::envoy::service::discovery::v3::aggregated_discovery_service_client::AggregatedDiscoveryServiceClient;
use pilot_proto::envoy::service::discovery::v3::{
    DeltaDiscoveryRequest, DeltaDiscoveryResponse, DiscoveryRequest, DiscoveryResponse,
};
use pilot_proto::envoy::service::endpoint::v3::endpoint_discovery_service_client::EndpointDiscoveryServiceClient;
use pilot_proto::envoy::service::listener::v3::listener_discovery_service_client::ListenerDiscoveryServiceClient;
use pilot_proto::envoy::service::route::v3::route_discovery_service_client::RouteDiscoveryServiceClient;
use pilot_proto::google::rpc::Status;
use tokio::sync::mpsc;
use tonic::Streaming;
use tonic::transport::{Channel, Endpoint};

/// Time limit for one response.
const TIMEOUT: Duration = Duration::from_secs(10);

/// gRPC status `INVALID_ARGUMENT`, which Envoy sends in a NACK.
const INVALID_ARGUMENT: i32 = 3;

/// The gRPC service of a stream.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Service {
    /// `AggregatedDiscoveryService`: every type on one stream.
    Aggregated,
    /// The service of this type alone: `ClusterDiscoveryService` and so on.
    Of(ResourceType),
}

/// One stream: requests of one kind go out, responses of another come in.
pub struct Ads<Request, Response> {
    node: Option<Node>,
    requests: mpsc::Sender<Request>,
    responses: Streaming<Response>,
    /// Every response received so far, in order.
    pub received: Vec<Response>,
}

/// State of the world: each response has all resources of its type.
pub type Sotw = Ads<DiscoveryRequest, DiscoveryResponse>;

/// Incremental: each response has the resources that changed.
pub type Delta = Ads<DeltaDiscoveryRequest, DeltaDiscoveryResponse>;

/// The node of a sidecar in the namespace `default`.
pub fn sidecar(pod: &str) -> Node {
    Node { id: format!("sidecar~127.0.0.1~{pod}.default~default.svc.cluster.local"), ..Node::default() }
}

/// Both directions of a stream.
struct Wire<Request, Response> {
    requests: mpsc::Sender<Request>,
    responses: Streaming<Response>,
}

impl<Request: Send + 'static, Response> Ads<Request, Response> {
    fn over(wire: Wire<Request, Response>, node: Node) -> Self {
        Self { node: Some(node), requests: wire.requests, responses: wire.responses, received: Vec::new() }
    }

    async fn send(&self, request: Request) -> Result<()> {
        self.requests.send(request).await.ok().context("the stream is closed")
    }
}

impl<Request, Response: Clone> Ads<Request, Response> {
    /// Returns the next response. It is an error if none arrives in time.
    pub async fn next(&mut self) -> Result<Response> {
        match self.next_within(TIMEOUT).await? {
            Some(response) => Ok(response),
            None => bail!("no response within {TIMEOUT:?}"),
        }
    }

    /// Returns the next response, or `None` if the server sends nothing within this time.
    pub async fn next_within(&mut self, within: Duration) -> Result<Option<Response>> {
        let Ok(message) = tokio::time::timeout(within, self.responses.message()).await else {
            return Ok(None);
        };
        let response = message.context("the stream broke")?.context("the server ended the stream")?;
        self.received.push(response.clone());
        Ok(Some(response))
    }
}

/// Returns the requests as a stream that tonic can send.
fn outgoing<T: Send + 'static>() -> (mpsc::Sender<T>, impl Stream<Item = T> + Send + 'static) {
    let (sender, mut receiver) = mpsc::channel(64);
    (sender, futures_util::stream::poll_fn(move |context| receiver.poll_recv(context)))
}

async fn connect(to: SocketAddr) -> Result<Channel> {
    let endpoint = Endpoint::from_shared(format!("http://{to}"))?.connect_timeout(TIMEOUT);
    endpoint.connect().await.with_context(|| format!("connect to {to}"))
}

/// Opens a stream on any of the services, which differ in their names only.
macro_rules! stream {
    ($channel:ident, $service:ident, $stream:ident, [$aggregated:ident, $clusters:ident, $endpoints:ident, $listeners:ident, $routes:ident]) => {
        match $service {
            Service::Aggregated => stream!(AggregatedDiscoveryServiceClient, $channel, $aggregated, $stream),
            Service::Of(ResourceType::Cluster) => {
                stream!(ClusterDiscoveryServiceClient, $channel, $clusters, $stream)
            }
            Service::Of(ResourceType::Endpoint) => {
                stream!(EndpointDiscoveryServiceClient, $channel, $endpoints, $stream)
            }
            Service::Of(ResourceType::Listener) => {
                stream!(ListenerDiscoveryServiceClient, $channel, $listeners, $stream)
            }
            Service::Of(ResourceType::Route) => {
                stream!(RouteDiscoveryServiceClient, $channel, $routes, $stream)
            }
            Service::Of(kind @ (ResourceType::Secret | ResourceType::Extension)) => {
                bail!("{kind} has no service of its own here")
            }
        }
    };
    ($client:ident, $channel:ident, $method:ident, $stream:ident) => {
        $client::new($channel).max_decoding_message_size(usize::MAX).$method($stream).await
    };
}

fn refusal(message: &str) -> Status {
    Status { code: INVALID_ARGUMENT, message: message.to_owned(), ..Status::default() }
}

// === impl Sotw ===

impl Sotw {
    /// Opens an ADS stream. The node is sent with the first request.
    pub async fn open(to: SocketAddr, node: Node) -> Result<Self> {
        Self::open_on(Service::Aggregated, to, node).await
    }

    /// Opens a stream on this service.
    pub async fn open_on(service: Service, to: SocketAddr, node: Node) -> Result<Self> {
        let ((requests, stream), channel) = (outgoing(), connect(to).await?);
        let opened = stream!(
            channel,
            service,
            stream,
            [stream_aggregated_resources, stream_clusters, stream_endpoints, stream_listeners, stream_routes]
        );
        Ok(Self::over(Wire { requests, responses: opened?.into_inner() }, node))
    }

    /// Subscribes to resources by name, or to all of them when no name is given.
    pub async fn subscribe(&mut self, kind: ResourceType, names: &[&str]) -> Result<()> {
        let resource_names = names.iter().map(ToString::to_string).collect();
        let node = self.node.take();
        self.send(DiscoveryRequest {
            node,
            resource_names,
            type_url: kind.type_url().to_owned(),
            ..Default::default()
        })
        .await
    }

    /// Acknowledges a response, with these names as the subscription.
    pub async fn ack(&mut self, response: &DiscoveryResponse, names: &[&str]) -> Result<()> {
        self.send(DiscoveryRequest {
            version_info: response.version_info.clone(),
            response_nonce: response.nonce.clone(),
            type_url: response.type_url.clone(),
            resource_names: names.iter().map(ToString::to_string).collect(),
            ..Default::default()
        })
        .await
    }

    /// Rejects a response. `version` is the last accepted version.
    pub async fn nack(
        &mut self,
        response: &DiscoveryResponse,
        version: &str,
        names: &[&str],
        why: &str,
    ) -> Result<()> {
        self.send(DiscoveryRequest {
            version_info: version.to_owned(),
            response_nonce: response.nonce.clone(),
            type_url: response.type_url.clone(),
            resource_names: names.iter().map(ToString::to_string).collect(),
            error_detail: Some(refusal(why)),
            ..Default::default()
        })
        .await
    }
}

// === impl Delta ===

impl Delta {
    /// Opens an ADS stream. The node is sent with the first request.
    pub async fn open(to: SocketAddr, node: Node) -> Result<Self> {
        Self::open_on(Service::Aggregated, to, node).await
    }

    /// Opens a stream on this service.
    pub async fn open_on(service: Service, to: SocketAddr, node: Node) -> Result<Self> {
        let ((requests, stream), channel) = (outgoing(), connect(to).await?);
        let opened = stream!(
            channel,
            service,
            stream,
            [delta_aggregated_resources, delta_clusters, delta_endpoints, delta_listeners, delta_routes]
        );
        Ok(Self::over(Wire { requests, responses: opened?.into_inner() }, node))
    }

    /// Adds and removes names. `*` stands for all resources.
    pub async fn subscribe(&mut self, kind: ResourceType, add: &[&str], drop: &[&str]) -> Result<()> {
        self.resume(kind, add, drop, &[]).await
    }

    /// Adds and removes names, and sends the versions held from an earlier stream as `initial_resource_versions`.
    pub async fn resume(
        &mut self,
        kind: ResourceType,
        add: &[&str],
        drop: &[&str],
        versions: &[(&str, &str)],
    ) -> Result<()> {
        let node = self.node.take();
        self.send(DeltaDiscoveryRequest {
            node,
            type_url: kind.type_url().to_owned(),
            resource_names_subscribe: add.iter().map(ToString::to_string).collect(),
            resource_names_unsubscribe: drop.iter().map(ToString::to_string).collect(),
            initial_resource_versions: versions
                .iter()
                .map(|(name, version)| ((*name).into(), (*version).into()))
                .collect(),
            ..Default::default()
        })
        .await
    }

    /// Acknowledges a response.
    pub async fn ack(&mut self, response: &DeltaDiscoveryResponse) -> Result<()> {
        self.answer(response, None).await
    }

    /// Rejects a response.
    pub async fn nack(&mut self, response: &DeltaDiscoveryResponse, why: &str) -> Result<()> {
        self.answer(response, Some(refusal(why))).await
    }

    async fn answer(
        &mut self,
        response: &DeltaDiscoveryResponse,
        error_detail: Option<Status>,
    ) -> Result<()> {
        self.send(DeltaDiscoveryRequest {
            type_url: response.type_url.clone(),
            response_nonce: response.nonce.clone(),
            error_detail,
            ..Default::default()
        })
        .await
    }
}
