//! Istio's debug types on an ADS stream: what `istioctl proxy-status` and `istioctl x internal-debug` ask for.
//!
//! ```text
//!  istio.io/debug/syncz                        ──▶ every proxy as an envoy.service.status.v3.ClientConfig
//!  istio.io/debug/config_dump   ["pod.ns"]     ──▶ the parts of that proxy's config dump
//!  istio.io/debug               ["syncz?..."]  ──▶ the page /debug/syncz?..., as its bytes
//! ```
//!
//! One answer to one request; nothing is watched. Whoever may use the pages over HTTP may ask here, and nobody else:
//! over plaintext Istio refuses everybody, because nobody has proved who he is; we let loopback in, as both do on HTTP.

use std::sync::Arc;

use axum::body::Body;
use axum::http::Request;
use bytes::Bytes;
use http_body_util::BodyExt as _;
use pilot_proto::envoy::config::core::v3::ControlPlane;
use pilot_proto::envoy::service::discovery::v3::{DeltaDiscoveryResponse, DiscoveryResponse, Resource};
use pilot_proto::google::protobuf::Any;
use pilot_xds::Codec;
use prost::Message as _;
use serde_json::json;
use tonic::Status;
use tower::Service as _;
use tracing::{debug, warn};

use super::dump::{Endpoints, sections};
use super::page::find;
use super::{Shared, access, pages, status};
use crate::ads::Client;
use crate::config::debug::Switch;
use crate::version::VERSION;

/// Type of every page, and what the other debug types begin with.
const DEBUG: &str = "istio.io/debug";

/// The answer to one question.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct DebugAnswer {
    /// What was asked for. Only what is of one proxy, or is a page, has a name.
    pub(crate) resources: Vec<Resource>,
    /// Who answers: JSON, as `istioctl` reads it.
    pub(crate) control_plane: String,
}

/// Answers a request of this type; nothing if it is not a debug type. An error ends the stream, as in Istio.
pub(crate) async fn answer(
    shared: &Arc<Shared>,
    caller: &Client,
    type_url: &str,
    names: &[String],
) -> Option<Result<DebugAnswer, Status>> {
    let rest = type_url.strip_prefix(DEBUG)?;
    if !rest.is_empty() && !rest.starts_with('/') {
        return None;
    }
    if let Err(denied) = access::check(shared.debug, caller.peer.map(|peer| peer.ip())) {
        warn!(node = %caller.id, type_url, %denied, "debug request refused");
        return Some(Err(Status::unauthenticated(denied.to_string())));
    }
    debug!(node = %caller.id, type_url, ?names, "debug request");
    let resources = match rest {
        "" => page(shared, names).await,
        "/syncz" => Ok(syncz(shared)),
        "/config_dump" => config_dump(shared, names).await,
        // Istio's answer to a debug type that it does not have.
        _ => Ok(Vec::new()),
    };
    Some(resources.map(|resources| DebugAnswer { resources, control_plane: control_plane(shared) }))
}

fn syncz(shared: &Shared) -> Vec<Resource> {
    let clients = shared.hub.clients();
    let configs = clients.iter().filter_map(|client| status::of_client(client));
    let named = |config: pilot_proto::envoy::service::status::v3::ClientConfig| {
        let name = config.node.as_ref().map(|node| node.id.clone()).unwrap_or_default();
        resource(name, pilot_proto::any(&config))
    };
    configs.map(named).collect()
}

/// A proxy that is not known has no dump, and that is an answer: another instance may know it.
async fn config_dump(shared: &Shared, names: &[String]) -> Result<Vec<Resource>, Status> {
    let [name] = names else { return Ok(Vec::new()) };
    let Some(client) = find(shared, name) else { return Ok(Vec::new()) };
    let dump = sections(shared, &client, Endpoints::Without).await;
    let dump = dump.map_err(|error| Status::internal(format!("{error:#}")))?;
    Ok(dump.into_iter().map(|section| resource(String::new(), section)).collect())
}

async fn page(shared: &Arc<Shared>, names: &[String]) -> Result<Vec<Resource>, Status> {
    let [name] = names else {
        return Err(Status::invalid_argument("exactly one debug request is required"));
    };
    let request = Request::get(format!("/debug/{name}")).body(Body::empty());
    let request = request.map_err(|error| Status::invalid_argument(format!("{name:?}: {error}")))?;
    // What has to be POSTed is not for a GET to do, so nothing is left out here.
    let mut pages = pages(Switch::Off).with_state(shared.clone());
    let Ok(response) = pages.call(request).await;
    let body = response.into_body().collect().await;
    let value = body.map_err(|error| Status::internal(format!("{name:?}: {error}")))?.to_bytes();
    Ok(vec![resource(name.clone(), Any { type_url: DEBUG.to_owned(), value })])
}

fn resource(name: String, any: Any) -> Resource {
    Resource { name, resource: Some(any), ..Resource::default() }
}

/// Istio's `IstioControlPlaneInstance`, its fields in Go's spelling.
fn control_plane(shared: &Shared) -> String {
    json!({
        "Component": "istiod",
        "ID": shared.instance,
        "Info": {
            "version": VERSION, "revision": "", "golang_version": "", "status": "Clean", "tag": VERSION,
        },
    })
    .to_string()
}

// === impl DebugAnswer ===

impl DebugAnswer {
    /// The response, without gRPC's length prefix. Nobody acknowledges it, so its version does for a nonce.
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
