//! Introspection of the control plane: debug pages, Istio's debug types as requested by `istioctl`, client status discovery,
//! push history, metrics.

use std::net::SocketAddr;
use std::process::Command;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use futures_util::Stream;
use pilot_proto::ResourceType::{Cluster, Endpoint};
use pilot_proto::envoy::config::core::v3::Node;
use pilot_proto::envoy::service::discovery::v3::aggregated_discovery_service_client::AggregatedDiscoveryServiceClient;
use pilot_proto::envoy::service::discovery::v3::{
    DeltaDiscoveryRequest, DeltaDiscoveryResponse, DiscoveryRequest, DiscoveryResponse,
};
use pilot_proto::envoy::service::status::v3::client_status_discovery_service_client::ClientStatusDiscoveryServiceClient;
use pilot_proto::envoy::service::status::v3::{ClientConfig, ClientStatusRequest, ConfigStatus};
use pilot_proto::google::protobuf::Any;
use pilot_proto::node::NodeMetadata;
use pilot_tests::ads::{Sotw, sidecar};
use pilot_tests::manifest::{Folder, Port, endpoint_slice, service};
use pilot_tests::mesh::Discovery;
use pilot_tests::net::{free_port, get, get_ok, local, loopback, post_ok};
use pilot_tests::process::Process;
use pilot_tests::programs::programs;
use pilot_tests::wait::eventually;
use prost::Message as _;
use serde_json::{Value, json};
use tokio::sync::mpsc::Sender;
use tonic::transport::Channel;

const TIMEOUT: Duration = Duration::from_secs(10);

const WEB: &str = "outbound|80||web.default.svc.cluster.local";
const SYNCZ: &str = "istio.io/debug/syncz";

struct ControlPlane {
    discovery: Discovery,
    folder: Folder,
    _dir: tempfile::TempDir,
}

async fn plane() -> Result<ControlPlane> {
    let dir = tempfile::tempdir()?;
    let folder = Folder::of_web(dir.path())?;
    let discovery = Discovery::start_with(dir.path(), &folder, &[]).await?;
    Ok(ControlPlane { discovery, folder, _dir: dir })
}

impl ControlPlane {
    /// Adds a service with an endpoint.
    fn add(&self, name: &str) -> Result<()> {
        let ports = [Port::new("http", 81, 8081)];
        let objects = [service(name, "10.0.0.2", &ports), endpoint_slice(name, &ports, &[loopback(3)])];
        self.folder.write(&format!("{name}.yaml"), &objects)
    }

    async fn page(&self, page: &str) -> Result<Value> {
        let text = get_ok(self.discovery.http, &format!("/debug/{page}")).await?;
        serde_json::from_str(&text).with_context(|| format!("/debug/{page}: {text}"))
    }

    /// Returns the status of a proxy's clusters as shown by `istioctl proxy-status`.
    async fn status(&self, proxy: &str) -> Result<(ConfigStatus, String)> {
        let response = istioctl(self.discovery.grpc, SYNCZ, &[]).await?;
        for any in &response.resources {
            let config = ClientConfig::decode(any.value.clone())?;
            if config.node.as_ref().is_some_and(|node| node.id == proxy) {
                let line = config.generic_xds_configs.iter().find(|line| line.type_url == Cluster.type_url());
                let line = line.context("clusters are not among the types")?;
                let why = line.error_state.as_ref().map(|error| error.details.clone()).unwrap_or_default();
                return Ok((line.config_status(), why));
            }
        }
        anyhow::bail!("{proxy} is not among {:?}", response.resources)
    }

    /// Waits until `istioctl` shows this status, and returns the error detail.
    async fn wait_for_status(&self, proxy: &str, expected: ConfigStatus) -> Result<String> {
        eventually(TIMEOUT, &format!("{proxy} is {expected:?}"), async || {
            let (status, why) = self.status(proxy).await?;
            ensure!(status == expected, "it is {status:?}: {why}");
            Ok(why)
        })
        .await
    }
}

/// Returns the node that `istioctl` sends (istio.io/istio/pkg/adsc).
fn istioctl_node() -> Node {
    let metadata = NodeMetadata {
        generator: Some("event".into()),
        istio_version: Some("65536.65536.65536".into()),
        ..NodeMetadata::default()
    };
    let id = "sidecar~127.0.0.1~test-1.default~default.svc.cluster.local".to_owned();
    Node { id, metadata: Some(metadata.to_struct()), ..Node::default() }
}

async fn channel(to: SocketAddr) -> Result<Channel> {
    Ok(tonic::transport::Endpoint::from_shared(format!("http://{to}"))?.connect().await?)
}

async fn client(to: SocketAddr) -> Result<AggregatedDiscoveryServiceClient<Channel>> {
    Ok(AggregatedDiscoveryServiceClient::new(channel(to).await?).max_decoding_message_size(usize::MAX))
}

/// Returns a stream with one request that stays open until the sender is dropped.
async fn only<T: Send + 'static>(request: T) -> Result<(Sender<T>, impl Stream<Item = T>)> {
    let (sender, mut receiver) = tokio::sync::mpsc::channel(1);
    sender.send(request).await.ok().context("the request stream is closed")?;
    Ok((sender, futures_util::stream::poll_fn(move |context| receiver.poll_recv(context))))
}

/// Sends a request like `istioctl --xds-address --plaintext`: one request with the time of day as its nonce, the first response of
/// that type, no ACK, the end.
async fn istioctl(to: SocketAddr, type_url: &str, names: &[&str]) -> Result<DiscoveryResponse> {
    let request = DiscoveryRequest {
        node: Some(istioctl_node()),
        type_url: type_url.to_owned(),
        resource_names: names.iter().map(ToString::to_string).collect(),
        response_nonce: "2026-11-23 05:40:31.000000001 +0000 UTC m=+0.1".to_owned(),
        ..DiscoveryRequest::default()
    };
    let (_open, requests) = only(request).await?;
    let mut responses = client(to).await?.stream_aggregated_resources(requests).await?.into_inner();
    let response = tokio::time::timeout(TIMEOUT, responses.message()).await??.context("the stream ended")?;
    ensure!(response.type_url == type_url, "{response:?}");
    // Exactly one response to one request.
    let more = tokio::time::timeout(Duration::from_millis(300), responses.message()).await;
    ensure!(more.is_err(), "{more:?}");
    Ok(response)
}

/// Sends the same request over delta.
async fn delta_istioctl(to: SocketAddr, type_url: &str) -> Result<DeltaDiscoveryResponse> {
    let request = DeltaDiscoveryRequest {
        node: Some(istioctl_node()),
        type_url: type_url.to_owned(),
        ..DeltaDiscoveryRequest::default()
    };
    let (_open, requests) = only(request).await?;
    let mut responses = client(to).await?.delta_aggregated_resources(requests).await?.into_inner();
    tokio::time::timeout(TIMEOUT, responses.message()).await??.context("the stream ended")
}

#[tokio::test(flavor = "multi_thread")]
async fn istioctl_proxy_status_shows_synced_stale_and_error() -> Result<()> {
    let plane = plane().await?;
    let mut proxy = Sotw::open(plane.discovery.grpc, sidecar("shown")).await?;
    proxy.subscribe(Cluster, &[]).await?;
    let first = proxy.next().await?;
    plane.wait_for_status("shown.default", ConfigStatus::Stale).await?;
    proxy.ack(&first, &[]).await?;
    plane.wait_for_status("shown.default", ConfigStatus::Synced).await?;

    plane.add("late")?;
    let second = proxy.next().await?;
    plane.wait_for_status("shown.default", ConfigStatus::Stale).await?;
    proxy.nack(&second, &first.version_info, &[], "unknown extension").await?;
    let why = plane.wait_for_status("shown.default", ConfigStatus::Error).await?;
    ensure!(why == "unknown extension", "{why}");
    let push_status = plane.page("push_status").await?;
    let message = &push_status["pilot_total_xds_rejects"]["cds/shown.default-1"]["message"];
    ensure!(message == "unknown extension", "{push_status}");

    plane.add("later")?;
    let third = proxy.next().await?;
    proxy.ack(&third, &[]).await?;
    plane.wait_for_status("shown.default", ConfigStatus::Synced).await?;

    let delta = delta_istioctl(plane.discovery.grpc, SYNCZ).await?;
    ensure!(delta.resources.iter().any(|resource| resource.name == "shown.default"), "{delta:?}");
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn istioctl_config_dump_has_the_resources_of_a_proxy() -> Result<()> {
    let plane = plane().await?;
    let mut proxy = Sotw::open(plane.discovery.grpc, sidecar("dumped")).await?;
    proxy.subscribe(Cluster, &[]).await?;
    let first = proxy.next().await?;
    proxy.ack(&first, &[]).await?;

    let response = istioctl(plane.discovery.grpc, SYNCZ, &[]).await?;
    let identifier = response.control_plane.context("no control plane")?.identifier;
    let component: Value = serde_json::from_str(&identifier)?;
    ensure!(component["Component"] == "istiod" && component["ID"].is_string(), "{component}");
    for field in ["version", "revision", "golang_version", "status", "tag"] {
        ensure!(component["Info"][field].is_string(), "{field} of {component}");
    }
    let dump = istioctl(plane.discovery.grpc, "istio.io/debug/config_dump", &["dumped.default"]).await?;
    let message = |any: &Any| any.type_url.rsplit('.').next().unwrap_or_default().to_owned();
    let parts: Vec<String> = dump.resources.iter().map(message).collect();
    ensure!(parts.iter().any(|part| part == "ClustersConfigDump"), "{parts:?}");
    ensure!(parts.iter().any(|part| part == "RoutesConfigDump"), "{parts:?}");
    let dump = pilot_proto::envoy::admin::v3::ConfigDump { configs: dump.resources };
    let dump = pilot_proto::proto3_json::to_value(&dump)?;
    ensure!(dump.to_string().contains(WEB), "{dump}");
    let unknown = istioctl(plane.discovery.grpc, "istio.io/debug/config_dump", &["nobody.default"]).await?;
    ensure!(unknown.resources.is_empty(), "{unknown:?}");
    let page = istioctl(plane.discovery.grpc, "istio.io/debug", &["connections"]).await?;
    let page: Value = serde_json::from_slice(&page.resources[0].value)?;
    ensure!(page["clients"][0]["connectionId"] == "dumped.default-1", "{page}");
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn client_status_discovery_reports_each_resource() -> Result<()> {
    let plane = plane().await?;
    let mut proxy = Sotw::open(plane.discovery.grpc, sidecar("looked-at")).await?;
    proxy.subscribe(Cluster, &[]).await?;
    let first = proxy.next().await?;
    proxy.ack(&first, &[]).await?;
    proxy.subscribe(Endpoint, &[WEB]).await?;
    let second = proxy.next().await?;
    proxy.ack(&second, &[WEB]).await?;
    plane.wait_for_status("looked-at.default", ConfigStatus::Synced).await?;

    let mut client = ClientStatusDiscoveryServiceClient::new(channel(plane.discovery.grpc).await?);
    let question: ClientStatusRequest = pilot_proto::proto3_json::from_value(
        &json!({"node_matchers": [{"node_id": {"contains": "~looked-at."}}]}),
    )?;
    let fetched = client.fetch_client_status(question.clone()).await?.into_inner();
    ensure!(fetched.config.len() == 1, "{fetched:?}");
    for kind in [Cluster, Endpoint] {
        let lines = &fetched.config[0].generic_xds_configs;
        let line = lines.iter().find(|line| line.type_url == kind.type_url() && line.name == WEB);
        let line = line.with_context(|| format!("no {kind} in {lines:?}"))?;
        ensure!(line.config_status() == ConfigStatus::Synced && line.xds_config.is_some(), "{line:?}");
        ensure!(!line.version_info.is_empty() && line.last_updated.is_some(), "{line:?}");
    }
    let mut stream = client.stream_client_status(futures_util::stream::iter([question])).await?.into_inner();
    let streamed = tokio::time::timeout(TIMEOUT, stream.message()).await??.context("the stream ended")?;
    ensure!(streamed.config.len() == 1, "{streamed:?}");
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn push_history_names_changed_objects_and_acks() -> Result<()> {
    let plane = plane().await?;
    let mut proxy = Sotw::open(plane.discovery.grpc, sidecar("pushed")).await?;
    proxy.subscribe(Cluster, &[]).await?;
    let first = proxy.next().await?;
    proxy.ack(&first, &[]).await?;
    plane.add("late")?;
    let second = proxy.next().await?;
    proxy.ack(&second, &[]).await?;
    let pushes = eventually(TIMEOUT, "the ACK is in the history", async || {
        let pushes = plane.page("pushes?proxyID=pushed.default").await?;
        ensure!(pushes[0]["responses"][0]["answer"] == "ACK", "{pushes}");
        Ok(pushes)
    })
    .await?;
    let (last, before) = (&pushes[0], &pushes[1]);
    let object = "ServiceEntry/default/late.default.svc.cluster.local";
    ensure!(last["objects"].as_array().is_some_and(|objects| objects.contains(&json!(object))), "{last}");
    ensure!(last["reasons"]["service"].is_number() && last["event"].is_string(), "{last}");
    let sent = &last["responses"][0];
    ensure!(
        sent["type"] == "cds" && sent["resources"] == second.resources.len() && sent["removed"] == 0,
        "{last}"
    );
    ensure!(sent["bytes"].as_u64().is_some_and(|bytes| bytes > 100), "{last}");
    for seconds in ["generated", "sent", "answered"] {
        ensure!(
            sent[seconds].as_f64().is_some_and(|seconds| (0.0..60.0).contains(&seconds)),
            "{seconds} of {last}"
        );
    }
    ensure!(
        before["reasons"] == json!({"proxyrequest": 1}) && before["responses"][0]["answer"] == "ACK",
        "{before}"
    );

    let metrics = get_ok(plane.discovery.monitoring, "/metrics").await?;
    let value = |name: &str| -> Option<f64> {
        let line = metrics.lines().find(|line| line.starts_with(name))?;
        line.rsplit(' ').next()?.parse().ok()
    };
    for (name, at_least) in [
        ("pilot_propagation_time_seconds_count{type=\"cds\"}", 1.0),
        ("pilot_proxy_convergence_time_count", 1.0),
        ("pilot_push_triggers{type=\"service\"}", 1.0),
        ("pilot_xds_pushes{type=\"cds\"}", 2.0),
        ("pilot_xds_recv_max", 50.0),
        ("pilot_inbound_updates{type=\"svc\"}", 1.0),
        ("pilot_k8s_reg_events{type=\"Services\",event=\"add\"}", 1.0),
        ("xds_cache_reads{type=\"miss\"}", 1.0),
        ("xds_cache_size", 1.0),
        ("pilot_endpoint_not_ready", 0.0),
    ] {
        ensure!(
            value(name).is_some_and(|value| value >= at_least),
            "{name}: {:?} of\n{metrics}",
            value(name)
        );
    }
    let url = format!("pilot_xds_config_size_bytes_count{{type=\"{}\"}}", Cluster.type_url());
    ensure!(value(&url).is_some_and(|count| count >= 2.0), "{metrics}");
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn adsz_push_sends_every_resource_again() -> Result<()> {
    let plane = plane().await?;
    let mut proxy = Sotw::open(plane.discovery.grpc, sidecar("again")).await?;
    proxy.subscribe(Cluster, &[]).await?;
    let first = proxy.next().await?;
    proxy.ack(&first, &[]).await?;
    ensure!(get_ok(plane.discovery.http, "/debug/adsz?push=true").await? == "Pushed to 1 servers\n");
    let second = proxy.next().await?;
    proxy.ack(&second, &[]).await?;
    ensure!(second.resources == first.resources, "{second:?}");
    let pushes = plane.page("pushes?proxyID=again.default").await?;
    ensure!(pushes[0]["forced"] == true && pushes[0]["reasons"] == json!({"debug": 1}), "{pushes}");

    // After the cache is cleared, the resources are generated again and are equal.
    post_ok(plane.discovery.http, "/debug/cachez?clear=true").await?;
    let names = plane.page("cachez").await?;
    ensure!(
        names.as_object().is_some_and(|types| types.values().all(|names| names == &json!([]))),
        "{names}"
    );
    get_ok(plane.discovery.http, "/debug/adsz?push=true").await?;
    ensure!(proxy.next().await?.resources == first.resources);
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn debug_pages_of_a_proxy_have_its_endpoints_scope_and_watches() -> Result<()> {
    let plane = plane().await?;
    let mut proxy = Sotw::open(plane.discovery.grpc, sidecar("seen")).await?;
    proxy.subscribe(Cluster, &[]).await?;
    let first = proxy.next().await?;
    proxy.ack(&first, &[]).await?;
    proxy.subscribe(Endpoint, &[WEB]).await?;
    proxy.next().await?;

    let edsz = plane.page("edsz?proxyID=seen.default").await?;
    let assignment = &edsz["configs"][0];
    ensure!(assignment["@type"] == Endpoint.type_url() && assignment["cluster_name"] == WEB, "{edsz}");
    ensure!(assignment.to_string().contains("127.0.0.2"), "{edsz}");
    let dump = plane.page("config_dump?proxyID=seen.default&include_eds").await?;
    ensure!(
        dump.to_string().contains("EndpointsConfigDump") && dump.to_string().contains("127.0.0.2"),
        "{dump}"
    );
    let scope = plane.page("sidecarz?proxyID=seen.default").await?;
    ensure!(scope["servicesByHostname"]["web.default.svc.cluster.local"].is_object(), "{scope}");
    let shards = plane.page("endpointShardz").await?;
    let shard = &shards["web.default.svc.cluster.local"]["default"]["Shards"]["Kubernetes/Kubernetes"];
    ensure!(shard[0]["Addresses"] == json!(["127.0.0.2"]), "{shards}");
    let adsz = plane.page("adsz?proxyID=seen.default").await?;
    ensure!(adsz["clients"][0]["watches"][Endpoint.type_url()] == json!([WEB]), "{adsz}");
    let instances = plane.page("instancesz").await?;
    ensure!(instances["seen.default"].is_array(), "{instances}");
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn force_disconnect_ends_the_stream_if_admin_endpoints_are_enabled() -> Result<()> {
    let dir = tempfile::tempdir()?;
    let folder = Folder::of_web(dir.path())?;
    let (grpc, http) = (local(free_port()?), local(free_port()?));
    let mut command = Command::new(&programs()?.discovery);
    command.args(["discovery", "--monitoringAddr", "", "--configDir"]).arg(folder.path());
    command.args(["--grpcAddr", &grpc.to_string(), "--httpAddr", &http.to_string()]);
    command.env("UNSAFE_ENABLE_ADMIN_ENDPOINTS", "true").current_dir(dir.path());
    let mut process = Process::spawn("discovery", &mut command, dir.path())?;
    let ready =
        eventually(TIMEOUT, "pilot-discovery is ready", async || get_ok(http, "/ready").await.map(drop));
    ready.await.with_context(|| process.tail(30))?;
    process.check()?;

    let mut proxy = Sotw::open(grpc, sidecar("unwanted")).await?;
    proxy.subscribe(Cluster, &[]).await?;
    proxy.next().await?;
    let path = "/debug/force_disconnect?proxyID=unwanted.default";
    let (status, _) = get(http, path).await?;
    ensure!(status == 405, "GET: {status}");
    ensure!(post_ok(http, path).await? == "OK");
    let error = proxy.next().await.err().context("the stream is still open")?;
    ensure!(format!("{error:#}").contains("the server ended the stream"), "{error:#}");
    Ok(())
}
