//! Istio's debug types on an ADS stream, for `istioctl proxy-status` and `istioctl x internal-debug`.
//!
//! ```text
//!  istio.io/debug/syncz                        ──▶ every proxy as an envoy.service.status.v3.ClientConfig
//!  istio.io/debug/config_dump   ["pod.ns"]     ──▶ the parts of that proxy's config dump
//!  istio.io/debug               ["syncz?..."]  ──▶ the page /debug/syncz?..., as its bytes
//! ```
//!
//! A request gets one response; nothing is subscribed. Access is as over HTTP: loopback callers only. Over plaintext Istio
//! refuses all callers on xDS, because none is authenticated.

use std::sync::Arc;

use axum::body::Body;
use axum::http::Request;
use futures_util::FutureExt as _;
use futures_util::future::BoxFuture;
use http_body_util::BodyExt as _;
use pilot_proto::envoy::service::discovery::v3::Resource;
use pilot_proto::google::protobuf::Any;
use serde_json::json;
use tonic::Status;
use tower::Service as _;
use tracing::{debug, warn};

use super::dump::{Endpoints, sections};
use super::page::find;
use super::{RunningState, access, pages, status};
use crate::ads::{Client, DebugRequests, DebugResponse};
use crate::config::debug::Switch;
use crate::version::VERSION;

/// Type of pages, and prefix of the other debug types.
const DEBUG: &str = "istio.io/debug";

/// Handler of debug requests on xDS streams.
pub(crate) struct XdsDebug(pub(crate) Arc<RunningState>);

impl DebugRequests for XdsDebug {
    fn respond<'a>(
        &'a self,
        client: &'a Client,
        type_url: &'a str,
        names: &'a [String],
    ) -> BoxFuture<'a, Option<Result<DebugResponse, Status>>> {
        answer(&self.0, client, type_url, names).boxed()
    }
}

/// Returns the response to a request, or `None` if the type is not a debug type. An error ends the stream, as in Istio.
pub(super) async fn answer(
    state: &Arc<RunningState>,
    caller: &Client,
    type_url: &str,
    names: &[String],
) -> Option<Result<DebugResponse, Status>> {
    let rest = type_url.strip_prefix(DEBUG)?;
    if !rest.is_empty() && !rest.starts_with('/') {
        return None;
    }
    if let Err(denied) = access::check(state.debug, caller.peer.map(|peer| peer.ip())) {
        warn!(node = %caller.id, type_url, %denied, "debug request refused");
        return Some(Err(Status::unauthenticated(denied.to_string())));
    }
    debug!(node = %caller.id, type_url, ?names, "debug request");
    let resources = match rest {
        "" => page(state, names).await,
        "/syncz" => Ok(syncz(state)),
        "/config_dump" => config_dump(state, names).await,
        // As in Istio for an unknown debug type.
        _ => Ok(Vec::new()),
    };
    Some(resources.map(|resources| DebugResponse { resources, control_plane: control_plane(state) }))
}

fn syncz(state: &RunningState) -> Vec<Resource> {
    let clients = state.ads.hub.clients();
    let configs = clients.iter().filter_map(|client| status::of_client(client));
    let named = |config: pilot_proto::envoy::service::status::v3::ClientConfig| {
        let name = config.node.as_ref().map(|node| node.id.clone()).unwrap_or_default();
        resource(name, pilot_proto::any(&config))
    };
    configs.map(named).collect()
}

/// Returns the config dump of a proxy; empty for an unknown one, which may be connected to another instance.
async fn config_dump(state: &RunningState, names: &[String]) -> Result<Vec<Resource>, Status> {
    let [name] = names else { return Ok(Vec::new()) };
    let Some(client) = find(state, name) else { return Ok(Vec::new()) };
    let dump = sections(state, &client, Endpoints::Without).await;
    let dump = dump.map_err(|error| Status::internal(format!("{error:#}")))?;
    Ok(dump.into_iter().map(|section| resource(String::new(), section)).collect())
}

async fn page(state: &Arc<RunningState>, names: &[String]) -> Result<Vec<Resource>, Status> {
    let [name] = names else {
        return Err(Status::invalid_argument("exactly one debug request is required"));
    };
    let request = Request::get(format!("/debug/{name}")).body(Body::empty());
    let request = request.map_err(|error| Status::invalid_argument(format!("{name:?}: {error}")))?;
    // Endpoints that require POST cannot be called here, so nothing is left out.
    let mut pages = pages(Switch::Off).with_state(state.clone());
    let Ok(response) = pages.call(request).await;
    let body = response.into_body().collect().await;
    let value = body.map_err(|error| Status::internal(format!("{name:?}: {error}")))?.to_bytes();
    Ok(vec![resource(name.clone(), Any { type_url: DEBUG.to_owned(), value })])
}

fn resource(name: String, any: Any) -> Resource {
    Resource { name, resource: Some(any), ..Resource::default() }
}

/// Returns Istio's `IstioControlPlaneInstance`, with fields in Go's spelling.
fn control_plane(state: &RunningState) -> String {
    json!({
        "Component": "istiod",
        "ID": state.ads.instance,
        "Info": {
            "version": VERSION, "revision": "", "golang_version": "", "status": "Clean", "tag": VERSION,
        },
    })
    .to_string()
}
