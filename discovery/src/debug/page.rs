//! Common parts of the pages: parameters, lookup of a proxy, JSON.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Instant, SystemTime};

use axum::extract::Query;
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse as _, Response};
use serde::Serialize;

use crate::ads::Client;
use crate::inspect::RunningState;

/// Query parameters.
pub(super) type Params = Query<BTreeMap<String, String>>;

/// Istio's message for an unknown proxy.
const NOT_CONNECTED: &str =
    "Proxy not connected to this Pilot instance. It may be connected to another instance.\n";

/// Returns JSON in one line, or indented with `?pretty`.
pub(super) fn page(params: &Params, value: &impl Serialize) -> Response {
    if params.contains_key("pretty") {
        return pretty(value);
    }
    json(serde_json::to_string(value))
}

/// Returns indented JSON.
pub(super) fn pretty(value: &impl Serialize) -> Response {
    json(serde_json::to_string_pretty(value))
}

fn json(text: serde_json::Result<String>) -> Response {
    match text {
        Ok(text) => ([(header::CONTENT_TYPE, "application/json")], text).into_response(),
        Err(error) => refuse(StatusCode::INTERNAL_SERVER_ERROR, &format!("print the page: {error}\n")),
    }
}

/// Returns an error as a line of text.
pub(super) fn refuse(status: StatusCode, why: &str) -> Response {
    (status, why.to_owned()).into_response()
}

/// Returns a parameter that is not empty.
pub(super) fn given<'a>(params: &'a Params, name: &str) -> Option<&'a str> {
    params.get(name).map(String::as_str).filter(|value| !value.is_empty())
}

/// Returns the proxy of `?proxyID=`.
pub(super) fn named(state: &RunningState, params: &Params) -> Result<Arc<Client>, Box<Response>> {
    let Some(wanted) = given(params, "proxyID") else {
        let text = "You must provide a proxyID in the query string\n";
        return Err(Box::new(refuse(StatusCode::BAD_REQUEST, text)));
    };
    find(state, wanted).ok_or_else(|| Box::new(refuse(StatusCode::NOT_FOUND, NOT_CONNECTED)))
}

/// Returns the latest connection with this id, with the id `<pod>.<namespace>` or with this node id; else, as in Istio, one with
/// an id that contains the text.
pub(super) fn find(state: &RunningState, wanted: &str) -> Option<Arc<Client>> {
    let mut clients = state.ads.hub.clients();
    clients.reverse();
    let exact = |client: &&Arc<Client>| {
        client.proxy.id.id == wanted || client.id == wanted || client.proxy.id.to_string() == wanted
    };
    let found = clients.iter().find(exact);
    found.or_else(|| clients.iter().find(|client| client.id.contains(wanted))).cloned()
}

/// Formats a time as RFC 3339.
pub(super) fn time(time: SystemTime) -> String {
    prost_types::Timestamp::from(time).to_string()
}

/// Converts an instant to the time of the wall clock.
pub(super) fn wall(then: Instant) -> SystemTime {
    let now = SystemTime::now();
    now.checked_sub(then.elapsed()).unwrap_or(now)
}
