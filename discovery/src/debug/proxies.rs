//! Pages about connected proxies: sent and ACKed versions, forced pushes and disconnects.

use std::collections::BTreeMap;
use std::time::Instant;

use axum::extract::State;
use axum::response::{IntoResponse as _, Response};
use pilot_core::model::NameSet;
use pilot_core::push::{PushRequest, Reason, Urgency};
use pilot_proto::ResourceType;
use pilot_proto::node::NodeMetadata;
use serde::{Serialize, Serializer};
use tracing::info;

use super::page::{Params, given, named, page, time};
use super::{Arc, RunningState};
use crate::ads::{Client, TypeStatus};

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Clients<T> {
    total_clients: usize,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    clients: Vec<T>,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Connection<'a> {
    #[serde(rename = "connectionId")]
    id: &'a str,
    connected_at: String,
    address: String,
    /// Variant of the protocol. Not in Istio.
    protocol: &'static str,
}

#[derive(Serialize)]
struct AdsClient<'a> {
    #[serde(flatten)]
    connection: Connection<'a>,
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    labels: &'a BTreeMap<String, String>,
    metadata: &'a NodeMetadata,
    locality: Locality<'a>,
    watches: BTreeMap<&'static str, Names>,
}

#[derive(Serialize)]
struct Locality<'a> {
    #[serde(skip_serializing_if = "str::is_empty")]
    region: &'a str,
    #[serde(skip_serializing_if = "str::is_empty")]
    zone: &'a str,
    #[serde(skip_serializing_if = "str::is_empty")]
    sub_zone: &'a str,
}

/// Requested names. They are serialized in place: many proxies with many names would be large copies.
struct Names(Option<NameSet>);

/// `/debug/adsz[?proxyID=]`; `?push=true` triggers a full push to all proxies.
pub(super) async fn adsz(State(state): State<Arc<RunningState>>, params: Params) -> Response {
    if given(&params, "push").is_some() {
        return push_all(&state).into_response();
    }
    let clients = if given(&params, "proxyID").is_some() {
        match named(&state, &params) {
            Ok(client) => vec![client],
            Err(answer) => return *answer,
        }
    } else {
        state.ads.hub.clients()
    };
    let clients: Vec<AdsClient<'_>> = clients.iter().map(|client| ads_client(client)).collect();
    page(&params, &Clients { total_clients: clients.len(), clients })
}

fn push_all(state: &RunningState) -> String {
    let now = Instant::now();
    let request = PushRequest { start: Some(now), ..PushRequest::forced(Reason::Debug) };
    let snapshot = state.ads.snapshot();
    let proxies = state.ads.hub.push(&Arc::new(request), Urgency::Normal, (&snapshot, &snapshot), now);
    info!(proxies, "full push to all proxies by /debug/adsz");
    format!("Pushed to {proxies} servers\n")
}

fn ads_client(client: &Client) -> AdsClient<'_> {
    let locality = &client.proxy.locality;
    AdsClient {
        connection: connection(client),
        labels: &client.proxy.metadata.labels,
        metadata: &client.proxy.metadata,
        locality: Locality { region: &locality.region, zone: &locality.zone, sub_zone: &locality.sub_zone },
        watches: client
            .types()
            .into_iter()
            .map(|(kind, known)| (kind.type_url(), Names(known.names)))
            .collect(),
    }
}

/// `/debug/connections`
pub(super) async fn connections(State(state): State<Arc<RunningState>>, params: Params) -> Response {
    let clients = state.ads.hub.clients();
    let clients: Vec<Connection<'_>> = clients.iter().map(|client| connection(client)).collect();
    page(&params, &Clients { total_clients: clients.len(), clients })
}

fn connection(client: &Client) -> Connection<'_> {
    Connection {
        id: &client.id,
        connected_at: time(client.connected),
        address: client.peer.map(|peer| peer.to_string()).unwrap_or_default(),
        protocol: client.codec,
    }
}

/// `/debug/syncz[?namespace=]`
pub(super) async fn syncz(State(state): State<Arc<RunningState>>, params: Params) -> Response {
    let namespace = given(&params, "namespace");
    let clients = state.ads.hub.clients();
    let shown =
        clients.iter().filter(|client| namespace.is_none_or(|name| name == client.proxy.namespace.as_str()));
    page(&params, &shown.map(|client| sync_status(client)).collect::<Vec<_>>())
}

/// Returns Istio's fields as a map, because their names contain those of the types; empty ones are left out.
fn sync_status(client: &Client) -> BTreeMap<String, serde_json::Value> {
    let types = client.types();
    let metadata = &client.proxy.metadata;
    let text = |text: Option<&str>| text.unwrap_or_default().to_owned();
    let mut fields = vec![
        ("cluster_id".to_owned(), text(metadata.cluster_id.as_deref())),
        ("proxy".to_owned(), client.proxy.id.id.clone()),
        ("proxy_type".to_owned(), client.proxy.node_type().as_str().to_owned()),
        ("istio_version".to_owned(), text(metadata.istio_version.as_deref())),
    ];
    for (kind, name) in [
        (ResourceType::Cluster, "cluster"),
        (ResourceType::Listener, "listener"),
        (ResourceType::Route, "route"),
        (ResourceType::Endpoint, "endpoint"),
        (ResourceType::Extension, "extensionconfig"),
    ] {
        if let Some(known) = types.get(&kind) {
            fields.push((format!("{name}_sent"), print(known.nonce_sent.as_ref())));
            fields.push((format!("{name}_acked"), print(known.nonce_acked.as_ref())));
        }
    }
    let mut status: BTreeMap<String, serde_json::Value> = said(fields);
    let resources: serde_json::Map<String, serde_json::Value> =
        types.iter().map(|(kind, known)| (kind.type_url().to_owned(), resource_status(known))).collect();
    if !resources.is_empty() {
        status.insert("resources".to_owned(), resources.into());
    }
    status
}

fn resource_status(known: &TypeStatus) -> serde_json::Value {
    said([
        ("sent".to_owned(), print(known.nonce_sent.as_ref())),
        ("acked".to_owned(), print(known.nonce_acked.as_ref())),
        ("sentTime".to_owned(), known.sent.map(time).unwrap_or_default()),
        ("lastError".to_owned(), print(known.last_error.as_ref())),
    ])
}

fn print(value: Option<&impl ToString>) -> String {
    value.map(ToString::to_string).unwrap_or_default()
}

fn said<M: FromIterator<(String, serde_json::Value)>>(
    fields: impl IntoIterator<Item = (String, String)>,
) -> M {
    let fields = fields.into_iter().filter(|(_, value)| !value.is_empty());
    fields.map(|(key, value)| (key, value.into())).collect()
}

/// `POST /debug/force_disconnect?proxyID=`: closes the stream; the proxy connects again, possibly to another instance.
pub(super) async fn force_disconnect(State(state): State<Arc<RunningState>>, params: Params) -> Response {
    match named(&state, &params) {
        Ok(client) => {
            info!(node = %client.id, "disconnected by /debug/force_disconnect");
            client.dismissed.cancel();
            "OK".into_response()
        }
        Err(answer) => *answer,
    }
}

// === impl Names ===

impl Serialize for Names {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_seq(self.0.iter().flatten())
    }
}
