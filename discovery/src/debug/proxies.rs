//! Pages about proxies: who is connected, what each was sent and accepted, what could not be made for it.

use std::collections::BTreeMap;

use axum::extract::Query;
use axum::response::Response;
use pilot_proto::ResourceType;
use serde_json::Map;

use super::{Arc, Client, Params, Shared, State, Value, json, named, page, time};

/// `/debug/adsz[?proxyID=]`
pub(super) async fn adsz(State(shared): State<Arc<Shared>>, params: Params) -> Response {
    let clients = if params.0.contains_key("proxyID") {
        match named(&shared, &params) {
            Ok(client) => vec![client],
            Err(answer) => return *answer,
        }
    } else {
        shared.hub.clients()
    };
    page(&json!({
        "totalClients": clients.len(),
        "clients": clients.iter().map(|client| ads_client(client)).collect::<Vec<_>>(),
    }))
}

fn ads_client(client: &Client) -> Value {
    let watches: BTreeMap<&str, Vec<Arc<str>>> = client
        .types()
        .into_iter()
        .map(|(kind, status)| {
            (kind.type_url(), status.names.iter().flat_map(|names| names.iter()).cloned().collect())
        })
        .collect();
    let locality = &client.proxy.locality;
    json!({
        "connectionId": client.id,
        "connectedAt": time(client.connected),
        "address": client.peer.map(|peer| peer.to_string()).unwrap_or_default(),
        "labels": client.proxy.metadata.labels,
        "metadata": client.proxy.metadata,
        "locality": {"region": locality.region, "zone": locality.zone, "sub_zone": locality.sub_zone},
        "watches": watches,
    })
}

/// `/debug/connections`
pub(super) async fn connections(State(shared): State<Arc<Shared>>) -> Response {
    let clients = shared.hub.clients();
    let connection = |client: &Arc<Client>| {
        json!({
            "connectionId": client.id,
            "connectedAt": time(client.connected),
            "address": client.peer.map(|peer| peer.to_string()).unwrap_or_default(),
            "protocol": client.codec,
        })
    };
    let connected: Vec<Value> = clients.iter().map(connection).collect();
    page(&json!({"totalClients": clients.len(), "clients": connected}))
}

/// `/debug/syncz[?namespace=]`
pub(super) async fn syncz(State(shared): State<Arc<Shared>>, Query(params): Params) -> Response {
    let namespace = params.get("namespace").filter(|namespace| !namespace.is_empty());
    let clients = shared.hub.clients();
    let shown =
        clients.iter().filter(|client| namespace.is_none_or(|name| *name == client.proxy.namespace.as_str()));
    page(&shown.map(|client| sync_status(client)).collect())
}

fn sync_status(client: &Client) -> Value {
    let types = client.types();
    let mut status = Map::new();
    let mut put = |key: String, value: &str| {
        if !value.is_empty() {
            status.insert(key, value.into());
        }
    };
    let metadata = &client.proxy.metadata;
    put("cluster_id".into(), metadata.cluster_id.as_deref().unwrap_or_default());
    put("proxy".into(), &client.proxy.id.id);
    put("proxy_type".into(), client.proxy.node_type().as_str());
    put("istio_version".into(), metadata.istio_version.as_deref().unwrap_or_default());
    for (kind, name) in [
        (ResourceType::Cluster, "cluster"),
        (ResourceType::Listener, "listener"),
        (ResourceType::Route, "route"),
        (ResourceType::Endpoint, "endpoint"),
        (ResourceType::Extension, "extensionconfig"),
    ] {
        if let Some(known) = types.get(&kind) {
            put(format!("{name}_sent"), &known.nonce_sent);
            put(format!("{name}_acked"), &known.nonce_acked);
        }
    }
    let resources: BTreeMap<&str, Value> = types
        .iter()
        .map(|(kind, known)| {
            let fields = [
                ("sent", known.nonce_sent.clone()),
                ("acked", known.nonce_acked.clone()),
                ("sentTime", known.sent.map(time).unwrap_or_default()),
                ("lastError", known.last_error.clone()),
            ];
            let fields = fields.into_iter().filter(|(_, value)| !value.is_empty());
            (kind.type_url(), fields.map(|(key, value)| (key.to_owned(), Value::from(value))).collect())
        })
        .collect();
    status.insert("resources".into(), json!(resources));
    Value::Object(status)
}

/// `/debug/push_status`: what could not be made, by Istio's metric, then by resource.
pub(super) async fn push_status(State(shared): State<Arc<Shared>>) -> Response {
    let mut metrics: BTreeMap<&str, BTreeMap<String, Value>> = BTreeMap::new();
    for (client, rejected) in shared.hub.rejected() {
        let metric = rejected.reason.metric().unwrap_or("pilot_rejected_resources");
        let entry = json!({"proxy": client.proxy.id.id, "message": rejected.to_string()});
        metrics.entry(metric).or_default().insert(rejected.subject, entry);
    }
    page(&json!(metrics))
}
