//! `/debug/*`: what the control plane knows and told, in Istio's JSON.
//!
//! Loopback and whoever may reach the port see it all; nothing here holds keys.

mod dump;
mod proxies;
mod registry;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::SystemTime;

use axum::Router;
use axum::extract::{Query, State};
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use serde_json::{Value, json};

use crate::ads::Client;
use crate::server::Shared;

type Params = Query<BTreeMap<String, String>>;

/// The pages, by name below `/debug/`.
const PAGES: [&str; 10] = [
    "adsz",
    "config_dump",
    "configz",
    "connections",
    "endpointz",
    "mesh",
    "push_status",
    "registryz",
    "rejectedz",
    "syncz",
];

/// Routes of every page.
pub(crate) fn routes() -> Router<Arc<Shared>> {
    Router::new()
        .route("/debug", get(index))
        .route("/debug/list", get(|| async { page(&json!(PAGES)) }))
        .route("/debug/adsz", get(proxies::adsz))
        .route("/debug/syncz", get(proxies::syncz))
        .route("/debug/connections", get(proxies::connections))
        .route("/debug/push_status", get(proxies::push_status))
        .route("/debug/config_dump", get(dump::config_dump))
        .route("/debug/registryz", get(registry::registryz))
        .route("/debug/endpointz", get(registry::endpointz))
        .route("/debug/configz", get(registry::configz))
        .route("/debug/mesh", get(registry::mesh))
        .route("/debug/rejectedz", get(registry::rejectedz))
}

async fn index() -> impl IntoResponse {
    let link = |name: &&str| format!("<li><a href=\"/debug/{name}\">/debug/{name}</a></li>");
    let links: String = PAGES.iter().map(link).collect();
    let head = "<!DOCTYPE html><title>Pilot debug</title><h1>Debug endpoints</h1>";
    ([(header::CONTENT_TYPE, "text/html; charset=utf-8")], format!("{head}<ul>{links}</ul>"))
}

/// JSON as Istio prints it.
fn page(value: &Value) -> Response {
    match serde_json::to_string_pretty(value) {
        Ok(text) => ([(header::CONTENT_TYPE, "application/json")], text).into_response(),
        Err(error) => (StatusCode::INTERNAL_SERVER_ERROR, format!("{error}\n")).into_response(),
    }
}

/// The proxy that `?proxyID=` names: its id, `<pod>.<namespace>`, or the id of one connection.
fn named(shared: &Shared, Query(params): &Params) -> Result<Arc<Client>, Box<Response>> {
    let Some(wanted) = params.get("proxyID").filter(|id| !id.is_empty()) else {
        let text = "You must provide a proxyID in the query string\n";
        return Err(Box::new((StatusCode::BAD_REQUEST, text).into_response()));
    };
    let found = shared
        .hub
        .clients()
        .into_iter()
        .rev()
        .find(|client| client.proxy.id.id == *wanted || client.id == *wanted);
    found.ok_or_else(|| {
        let text = "Proxy not connected to this Pilot instance. It may be connected to another instance.\n";
        Box::new((StatusCode::NOT_FOUND, text).into_response())
    })
}

/// RFC 3339.
fn time(time: SystemTime) -> String {
    prost_types::Timestamp::from(time).to_string()
}
