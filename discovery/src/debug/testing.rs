//! Test hub with proxies in a given state.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::Arc;

use pilot_core::model::{
    Change, ExportTo, Location, Protocol, Proxy, Registry, Resolution, Resource, ResourceSet, Service,
    ServicePort, SourceEvent, TargetPort,
};
use pilot_core::push::PushContext;
use pilot_core::world::World;
use pilot_proto::ResourceType;
use pilot_proto::envoy::config::core::v3::Node;
use pilot_proto::envoy::service::discovery::v3::DiscoveryRequest;
use pilot_proto::google::rpc::Status;
use pilot_xds::{Codec, SendMode, Stream};

use crate::ads::{Client, TypeStatus};
use crate::config::debug::DebugConfig;
use crate::inspect::RunningState;
use crate::source::RegistryKind;

/// Event on a stream that subscribes to clusters.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Said {
    /// A new response is sent.
    Response,
    /// The proxy ACKs the last response.
    Ack,
    /// The proxy NACKs the last response with the message `no`.
    Nack,
}

/// Adds a proxy `<pod>.<namespace>` at 127.0.0.1 without requests.
pub(crate) fn join(state: &RunningState, pod: &str, namespace: &str) -> Arc<Client> {
    let id = format!("sidecar~10.0.0.1~{pod}.{namespace}~{namespace}.svc.cluster.local");
    let proxy = Proxy::from_node(&Node { id, ..Node::default() }).unwrap();
    let peer = SocketAddr::from(([127, 0, 0, 1], 40_000));
    let (client, _turns) = state.ads.hub.join(Arc::new(proxy), Some(peer), "GRPC");
    client
}

/// Creates a service of one HTTP port, exported to these namespaces.
pub(crate) fn service(
    name: &str,
    namespace: &str,
    resolution: Resolution,
    export_to: &[ExportTo],
) -> Arc<Service> {
    Arc::new(Service {
        hostname: format!("{name}.example.com").into(),
        namespace: namespace.into(),
        name: name.into(),
        registry: Registry::External,
        ports: vec![ServicePort {
            name: "http".into(),
            port: 80,
            protocol: Protocol::Http,
            target: TargetPort::Number(8080),
        }],
        addresses: Vec::new(),
        resolution,
        location: Location::MeshExternal,
        export_to: export_to.to_vec(),
        labels: BTreeMap::new(),
        selector: BTreeMap::new(),
        service_accounts: Vec::new(),
        created: 0,
        node_local: false,
        distribution: pilot_core::model::Distribution::Any,
    })
}

/// Creates a snapshot of a mesh with these services.
pub(crate) fn mesh(services: &[Arc<Service>]) -> PushContext {
    let source = RegistryKind::File.source_id();
    let mut world = World::new("cluster.local", [source.clone()]);
    for service in services {
        world.apply(&source, SourceEvent::Change(Change::Service(service.clone())));
    }
    PushContext::default().next(&world)
}

/// Subscribes a client to clusters and applies these events.
pub(crate) fn tell(client: &Client, story: &[Said]) {
    let mut stream = Stream::new(Codec::Sotw, "istiod-1".into());
    let kind = ResourceType::Cluster;
    let request = |nonce: &str, error: Option<&str>| DiscoveryRequest {
        type_url: kind.type_url().to_owned(),
        response_nonce: nonce.to_owned(),
        error_detail: error.map(|message| Status { message: message.to_owned(), ..Status::default() }),
        ..DiscoveryRequest::default()
    };
    stream.on_sotw_request(&request("", None));
    client.note(kind, stream.status(kind));
    let mut nonce = String::new();
    for (step, said) in story.iter().enumerate() {
        match said {
            Said::Response => {
                let version: Arc<str> = step.to_string().into();
                let body = bytes::Bytes::from_static(b"x");
                let resource = Resource::new("c".into(), version.clone(), body);
                stream.push([kind]);
                let offered = ResourceSet::from_iter([resource]);
                let response = stream.respond(kind, &version, &offered, SendMode::All).unwrap();
                nonce = response.nonce.to_string();
                client.sent(kind);
            }
            Said::Ack => drop(stream.on_sotw_request(&request(&nonce, None))),
            Said::Nack => {
                stream.on_sotw_request(&request(&nonce, Some("no")));
                client.refused(kind, 13);
            }
        }
        client.note(kind, stream.status(kind));
    }
}

/// Returns the state of clusters after these events.
pub(crate) fn told(story: &[Said]) -> TypeStatus {
    let state = RunningState::with(PushContext::default(), DebugConfig::default());
    let client = join(&state, "pod", "default");
    tell(&client, story);
    client.types().remove(&ResourceType::Cluster).unwrap()
}
