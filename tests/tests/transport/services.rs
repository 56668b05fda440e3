//! gRPC services besides ADS: one for each type, health, reflection.

use anyhow::{Context, Result, ensure};
use futures_util::stream;
use pilot_proto::ResourceType::{self, Cluster, Endpoint, Listener, Route};
use pilot_proto::envoy::service::cluster::v3::cluster_discovery_service_client::ClusterDiscoveryServiceClient;
use pilot_proto::envoy::service::discovery::v3::{DeltaDiscoveryRequest, DiscoveryRequest};
use pilot_proto::envoy::service::endpoint::v3::endpoint_discovery_service_client::EndpointDiscoveryServiceClient;
use pilot_proto::envoy::service::listener::v3::listener_discovery_service_client::ListenerDiscoveryServiceClient;
use pilot_proto::envoy::service::route::v3::route_discovery_service_client::RouteDiscoveryServiceClient;
use pilot_tests::ads::sidecar;
use tonic::transport::{Channel, Endpoint as Target};
use tonic::{Code, Request};
use tonic_health::pb::HealthCheckRequest;
use tonic_health::pb::health_client::HealthClient;
use tonic_reflection::pb::{v1, v1alpha};

use super::control_plane::{ControlPlane, ControlPlaneOptions};

const WEB: &str = "outbound|80||web.default.svc.cluster.local";

/// `SERVING`, `NOT_SERVING`
const SERVING: [i32; 2] = [1, 2];

async fn channel(plane: &ControlPlane) -> Result<Channel> {
    Ok(Target::from_shared(format!("http://{}", plane.grpc))?.connect().await?)
}

fn sotw(type_url: &str, name: &str) -> DiscoveryRequest {
    let resource_names = Vec::from_iter((!name.is_empty()).then(|| name.to_owned()));
    DiscoveryRequest {
        node: Some(sidecar("single")),
        type_url: type_url.to_owned(),
        resource_names,
        ..Default::default()
    }
}

fn delta(name: &str) -> DeltaDiscoveryRequest {
    DeltaDiscoveryRequest {
        node: Some(sidecar("single")),
        resource_names_subscribe: vec![name.to_owned()],
        ..Default::default()
    }
}

/// Returns a request stream that stays open after the request.
fn open<T: Send + 'static>(request: T) -> impl stream::Stream<Item = T> + Send + 'static {
    use futures_util::StreamExt as _;
    stream::iter([request]).chain(stream::pending())
}

/// Checks one service: both streams answer for their type, with and without a type URL; other types and polling are rejected.
macro_rules! serves {
    ($channel:expr, $client:ident, $stream:ident, $delta:ident, $fetch:ident, $kind:expr, $name:expr) => {{
        let mut client = $client::new($channel.clone());
        let kind: ResourceType = $kind;
        for type_url in ["", kind.type_url()] {
            let mut answers = client.$stream(open(sotw(type_url, $name))).await?.into_inner();
            let answer = answers.message().await?.context("no answer")?;
            ensure!(answer.type_url == kind.type_url(), "{answer:?}");
        }
        let mut answers = client.$delta(open(delta($name))).await?.into_inner();
        let answer = answers.message().await?.context("no answer")?;
        ensure!(answer.type_url == kind.type_url() && !answer.nonce.is_empty(), "{answer:?}");

        let other = "type.googleapis.com/envoy.extensions.transport_sockets.tls.v3.Secret";
        let mut answers = client.$stream(open(sotw(other, "x"))).await?.into_inner();
        let refused = answers.message().await.err().context("another type was accepted")?;
        ensure!(
            refused.code() == Code::InvalidArgument && refused.message().contains("type_url"),
            "{refused}"
        );
        let refused = client.$fetch(sotw("", $name)).await.err().context("polling was answered")?;
        ensure!(refused.code() == Code::Unimplemented && !refused.message().is_empty(), "{refused}");
    }};
}

#[tokio::test(flavor = "multi_thread")]
async fn each_type_has_a_service_that_rejects_other_types() -> Result<()> {
    let plane = ControlPlane::start(ControlPlaneOptions::default()).await?;
    let channel = channel(&plane).await?;
    serves!(
        channel,
        ClusterDiscoveryServiceClient,
        stream_clusters,
        delta_clusters,
        fetch_clusters,
        Cluster,
        ""
    );
    serves!(
        channel,
        EndpointDiscoveryServiceClient,
        stream_endpoints,
        delta_endpoints,
        fetch_endpoints,
        Endpoint,
        WEB
    );
    serves!(
        channel,
        ListenerDiscoveryServiceClient,
        stream_listeners,
        delta_listeners,
        fetch_listeners,
        Listener,
        ""
    );
    serves!(channel, RouteDiscoveryServiceClient, stream_routes, delta_routes, fetch_routes, Route, "80");
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn grpc_health_follows_readiness() -> Result<()> {
    let mut plane = ControlPlane::start(ControlPlaneOptions {
        flags: &["--shutdownDuration", "5s"],
        ..ControlPlaneOptions::default()
    })
    .await?;
    let mut client = HealthClient::new(channel(&plane).await?);
    let ads = "envoy.service.discovery.v3.AggregatedDiscoveryService";
    for service in ["", ads, "envoy.service.route.v3.RouteDiscoveryService"] {
        let answer = client.check(HealthCheckRequest { service: service.to_owned() }).await?.into_inner();
        ensure!(answer.status == SERVING[0], "{service:?}: {answer:?}");
    }
    let unknown = client.check(HealthCheckRequest { service: "unknown".to_owned() }).await;
    ensure!(
        unknown.err().is_some_and(|status| status.code() == Code::NotFound),
        "an unknown service has a health status"
    );

    let mut watch = client.watch(HealthCheckRequest { service: ads.to_owned() }).await?.into_inner();
    ensure!(watch.message().await?.is_some_and(|answer| answer.status == SERVING[0]), "not serving");
    plane.process.signal(nix::sys::signal::Signal::SIGTERM)?;
    ensure!(watch.message().await?.is_some_and(|answer| answer.status == SERVING[1]), "still serving");
    drop((watch, client));
    let status = plane.process.exit(pilot_tests::mesh::END).await?;
    ensure!(status.code() == Some(0), "it ended with {status}");
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn grpc_reflection_lists_services_in_both_versions() -> Result<()> {
    use v1::server_reflection_request::MessageRequest;
    use v1::server_reflection_response::MessageResponse;
    let plane = ControlPlane::start(ControlPlaneOptions::default()).await?;
    let channel = channel(&plane).await?;
    let list = MessageRequest::ListServices(String::new());
    let request = v1::ServerReflectionRequest { host: String::new(), message_request: Some(list) };
    let mut client = v1::server_reflection_client::ServerReflectionClient::new(channel.clone());
    let mut answers = client.server_reflection_info(Request::new(open(request))).await?.into_inner();
    let answer = answers.message().await?.and_then(|answer| answer.message_response);
    let Some(MessageResponse::ListServicesResponse(list)) = answer else { anyhow::bail!("{answer:?}") };
    let names: Vec<&str> = list.service.iter().map(|service| service.name.as_str()).collect();
    for name in [
        "envoy.service.discovery.v3.AggregatedDiscoveryService",
        "envoy.service.endpoint.v3.EndpointDiscoveryService",
        "grpc.health.v1.Health",
        "grpc.reflection.v1.ServerReflection",
    ] {
        ensure!(names.contains(&name), "{names:?}");
    }

    let symbol =
        v1alpha::server_reflection_request::MessageRequest::FileContainingSymbol(names[0].to_owned());
    let request = v1alpha::ServerReflectionRequest { host: String::new(), message_request: Some(symbol) };
    let mut client = v1alpha::server_reflection_client::ServerReflectionClient::new(channel);
    let mut answers = client.server_reflection_info(Request::new(open(request))).await?.into_inner();
    let answer = answers.message().await?.and_then(|answer| answer.message_response);
    let file = match answer {
        Some(v1alpha::server_reflection_response::MessageResponse::FileDescriptorResponse(file)) => file,
        other => anyhow::bail!("{other:?}"),
    };
    let text = String::from_utf8_lossy(&file.file_descriptor_proto[0]).into_owned();
    ensure!(text.contains("StreamAggregatedResources"), "{text}");
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn unsupported_service_is_unimplemented() -> Result<()> {
    use pilot_proto::envoy::service::secret::v3::secret_discovery_service_client::SecretDiscoveryServiceClient;
    let plane = ControlPlane::start(ControlPlaneOptions::default()).await?;
    let mut client = SecretDiscoveryServiceClient::new(channel(&plane).await?);
    let refused = client.stream_secrets(open(sotw("", "x"))).await.err().context("SDS is served")?;
    ensure!(refused.code() == Code::Unimplemented, "{refused}");
    Ok(())
}
