//! `/debug/*`: state of the control plane in Istio's JSON, over HTTP and over xDS.
//!
//! ```text
//!  HTTP ──▶ access ────────────┐
//!  xDS  ──▶ xds ──▶ access ────┼──▶ pages ──▶ hub, snapshot, generation
//!  gRPC ──▶ csds ─▶ access ────┘
//! ```
//!
//! Pages only read. Endpoints that change state require POST, except `adsz?push=true`, which users of Istio type into a browser.
//! Nothing here holds keys; secrets in resources are redacted.

mod access;
mod cache;
mod csds;
mod dump;
mod matcher;
mod proxies;
mod pushes;
mod registry;
mod scope;
mod status;
#[cfg(test)]
pub(crate) mod testing;
#[cfg(test)]
mod tests;
mod troubles;
mod xds;

mod page;

use std::sync::Arc;

use axum::Router;
use axum::http::header;
use axum::middleware::from_fn_with_state;
use axum::response::IntoResponse;
use axum::routing::{get, post};

pub(crate) use csds::service as csds;
pub(crate) use troubles::troubles;
pub(crate) use xds::XdsDebug;

use crate::config::debug::Switch;
use crate::inspect::RunningState;

/// The only endpoint that is not a page.
const FORCE_DISCONNECT: &str = "force_disconnect";

/// Pages below `/debug/`, with their description.
const PAGES: [(&str, &str); 21] = [
    ("adsz", "Connected proxies with their subscriptions"),
    ("adsz?push=true", "Full push to all proxies"),
    ("cachez", "Resources in the cache"),
    ("cachez?sizes=true", "Size of the cache"),
    ("config_dump", "What ?proxyID= should have, as Envoy's own /config_dump"),
    ("configz", "Configuration objects"),
    ("connections", "Connected proxies"),
    ("edsz", "Endpoints that ?proxyID= should have"),
    ("endpointShardz", "Endpoints of every service, by registry"),
    ("endpointz", "Endpoints of every port of every service"),
    ("instancesz", "The services that each proxy's own workload serves"),
    ("mesh", "The mesh configuration"),
    ("push_status", "What could not be generated, and what proxies rejected"),
    ("pushes", "Why ?proxyID= was pushed lately, and what came of it"),
    ("registryz", "Every service"),
    ("rejectedz", "Objects that cannot be used"),
    ("resourcesz", "Kinds of configuration objects"),
    ("sidecarz", "What ?proxyID= may see, and why not the rest"),
    ("sourcez", "Status of every source"),
    ("syncz", "Which proxy has what it was sent"),
    (FORCE_DISCONNECT, "POST: ends the stream of ?proxyID="),
];

/// Returns the routes of all pages, with access rules.
pub(crate) fn routes(state: &Arc<RunningState>) -> Router<Arc<RunningState>> {
    match state.debug.http {
        Switch::Off => Router::new(),
        Switch::On => pages(state.debug.admin).route_layer(from_fn_with_state(state.clone(), access::guard)),
    }
}

/// Returns the routes of all pages, without access rules.
fn pages(admin: Switch) -> Router<Arc<RunningState>> {
    let list = async |params: page::Params| page::page(&params, &names());
    let mut pages = Router::new()
        .route("/debug", get(move || async move { index(admin) }))
        .route("/debug/list", get(list))
        .route("/debug/adsz", get(proxies::adsz).post(proxies::adsz))
        .route("/debug/syncz", get(proxies::syncz))
        .route("/debug/connections", get(proxies::connections))
        .route("/debug/push_status", get(troubles::push_status))
        .route("/debug/rejectedz", get(troubles::rejectedz))
        .route("/debug/sourcez", get(troubles::sourcez))
        .route("/debug/pushes", get(pushes::pushes))
        .route("/debug/config_dump", get(dump::config_dump))
        .route("/debug/edsz", get(dump::edsz))
        .route("/debug/sidecarz", get(scope::sidecarz))
        .route("/debug/instancesz", get(scope::instancesz))
        .route("/debug/cachez", get(cache::cachez).post(cache::clear))
        .route("/debug/registryz", get(registry::registryz))
        .route("/debug/endpointz", get(registry::endpointz))
        .route("/debug/endpointShardz", get(registry::endpoint_shardz))
        .route("/debug/configz", get(registry::configz))
        .route("/debug/resourcesz", get(registry::resourcesz))
        .route("/debug/mesh", get(registry::mesh));
    if admin == Switch::On {
        pages = pages.route("/debug/force_disconnect", post(proxies::force_disconnect));
    }
    pages
}

/// Returns the listed pages.
fn listed(admin: Switch) -> impl Iterator<Item = (&'static str, &'static str)> {
    PAGES.into_iter().filter(move |(name, _)| *name != FORCE_DISCONNECT || admin == Switch::On)
}

/// Returns the pages that a program may fetch. Istio lists `adsz?push=true` too: a program that fetches all pages triggers a full
/// push.
fn names() -> Vec<&'static str> {
    let reads = |name: &&str| !name.contains('?') && *name != FORCE_DISCONNECT;
    PAGES.into_iter().map(|(name, _)| name).filter(reads).collect()
}

fn index(admin: Switch) -> impl IntoResponse {
    let row = |(name, help)| format!("<tr><td><a href=\"/debug/{name}\">{name}</a></td><td>{help}</td></tr>");
    let rows: String = listed(admin).map(row).collect();
    let head =
        "<!DOCTYPE html><title>Pilot debug</title><h1>Debug endpoints</h1><p>With ?pretty for people.</p>";
    ([(header::CONTENT_TYPE, "text/html; charset=utf-8")], format!("{head}<table>{rows}</table>"))
}
