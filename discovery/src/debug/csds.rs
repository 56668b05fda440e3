//! Envoy's client status discovery service (CSDS): state of the proxies, as the control plane sees it.
//! <https://www.envoyproxy.io/docs/envoy/latest/api-v3/service/status/v3/csds.proto>
//!
//! With `exclude_resource_contents` each type of a proxy is one entry, for any number of proxies. Otherwise each resource is an
//! entry, with its version and its content as generated now, and `node_matchers` must select a few proxies: the configuration of
//! a thousand is gigabytes.

use std::pin::Pin;
use std::sync::Arc;

use futures_util::{Stream, StreamExt as _};
use pilot_proto::envoy::config::core::v3::Node;
use pilot_proto::envoy::service::status::v3::client_config::GenericXdsConfig;
use pilot_proto::envoy::service::status::v3::client_status_discovery_service_server::{
    ClientStatusDiscoveryService, ClientStatusDiscoveryServiceServer,
};
use pilot_proto::envoy::service::status::v3::{ClientConfig, ClientStatusRequest, ClientStatusResponse};
use tonic::{Request, Response, Status, Streaming};

use super::{RunningState, access, dump, matcher, status};
use crate::ads::{Client, TypeStatus};
use crate::transport::Peer;
use pilot_proto::ResourceType;

/// Maximum number of proxies with resource contents in one response.
const DETAILED: usize = 16;

/// The service.
pub(crate) struct Csds {
    state: Arc<RunningState>,
}

/// Returns the service for gRPC's router.
pub(crate) fn service(state: Arc<RunningState>) -> ClientStatusDiscoveryServiceServer<Csds> {
    ClientStatusDiscoveryServiceServer::new(Csds::new(state))
}

type Answers = Pin<Box<dyn Stream<Item = Result<ClientStatusResponse, Status>> + Send>>;

#[tonic::async_trait]
impl ClientStatusDiscoveryService for Csds {
    type StreamClientStatusStream = Answers;

    async fn stream_client_status(
        &self,
        request: Request<Streaming<ClientStatusRequest>>,
    ) -> Result<Response<Answers>, Status> {
        self.check(&request)?;
        let state = self.state.clone();
        let peer = request.extensions().get::<Arc<Peer>>().cloned();
        let peer = peer.ok_or_else(|| Status::internal("a request without a connection"))?;
        let end = peer.ended();
        let answers = request.into_inner().then(move |question| {
            let state = state.clone();
            async move { answer(&state, question?).await }
        });
        Ok(Response::new(Box::pin(answers.take_until(end))))
    }

    async fn fetch_client_status(
        &self,
        request: Request<ClientStatusRequest>,
    ) -> Result<Response<ClientStatusResponse>, Status> {
        self.check(&request)?;
        Ok(Response::new(answer(&self.state, request.into_inner()).await?))
    }
}

// === impl Csds ===

impl Csds {
    /// Creates the service.
    pub(super) const fn new(state: Arc<RunningState>) -> Self {
        Self { state }
    }

    /// Checks access as for the debug pages.
    fn check<T>(&self, request: &Request<T>) -> Result<(), Status> {
        let peer = request.extensions().get::<Arc<Peer>>().map(|peer| peer.address.ip());
        access::check(self.state.debug, peer).map_err(|denied| Status::unauthenticated(denied.to_string()))
    }
}

async fn answer(state: &RunningState, question: ClientStatusRequest) -> Result<ClientStatusResponse, Status> {
    let clients = state.ads.hub.clients();
    let mut meant = Vec::new();
    for client in &clients {
        let (id, metadata) = (client.proxy.id.to_string(), client.proxy.metadata.to_struct());
        let is_meant = matcher::any(&question.node_matchers, &id, &metadata)
            .map_err(|error| Status::invalid_argument(error.to_string()))?;
        if is_meant {
            meant.push((client, Node { id, metadata: Some(metadata), ..Node::default() }));
        }
    }
    if !question.exclude_resource_contents && meant.len() > DETAILED {
        return Err(Status::resource_exhausted(format!(
            "{} proxies match: name at most {DETAILED} in node_matchers, or set exclude_resource_contents",
            meant.len()
        )));
    }
    let mut config = Vec::with_capacity(meant.len());
    for (client, node) in meant {
        let types = client.types();
        let generic_xds_configs = if question.exclude_resource_contents {
            types.iter().map(|(kind, known)| status::of_type(*kind, known)).collect()
        } else {
            let mut resources = Vec::new();
            for (kind, known) in &types {
                resources.extend(of_resources(state, client, *kind, known).await?);
            }
            resources
        };
        config.push(ClientConfig { node: Some(node), generic_xds_configs, ..ClientConfig::default() });
    }
    Ok(ClientStatusResponse { config })
}

/// Returns the resources of a type. Each has the status of its type: a proxy accepts or rejects a response as a whole.
async fn of_resources(
    state: &RunningState,
    client: &Client,
    kind: ResourceType,
    known: &TypeStatus,
) -> Result<Vec<GenericXdsConfig>, Status> {
    let internal = |error: anyhow::Error| Status::internal(format!("{error:#}"));
    let resources = dump::generated(state, client, kind).await.map_err(internal)?;
    let of_type = status::of_type(kind, known);
    let entry = |resource: &pilot_core::model::Resource| {
        Ok(GenericXdsConfig {
            name: resource.name.to_string(),
            version_info: resource.version.to_string(),
            xds_config: Some(dump::readable(resource).map_err(internal)?),
            ..of_type.clone()
        })
    };
    resources.iter().map(entry).collect()
}
