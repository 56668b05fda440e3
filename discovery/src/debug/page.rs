//! What all pages have in common: their parameters, the proxy that one names, and how JSON is printed.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Instant, SystemTime};

use axum::extract::Query;
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse as _, Response};
use serde::Serialize;

use crate::ads::Client;
use crate::inspect::RunningState;

/// What stands behind the `?`.
pub(super) type Params = Query<BTreeMap<String, String>>;

/// What Istio says of a proxy that it does not know.
const NOT_CONNECTED: &str =
    "Proxy not connected to this Pilot instance. It may be connected to another instance.\n";

/// JSON in a line, or for people with `?pretty`.
pub(super) fn page(params: &Params, value: &impl Serialize) -> Response {
    if params.contains_key("pretty") {
        return pretty(value);
    }
    json(serde_json::to_string(value))
}

/// JSON for people.
pub(super) fn pretty(value: &impl Serialize) -> Response {
    json(serde_json::to_string_pretty(value))
}

fn json(text: serde_json::Result<String>) -> Response {
    match text {
        Ok(text) => ([(header::CONTENT_TYPE, "application/json")], text).into_response(),
        Err(error) => refuse(StatusCode::INTERNAL_SERVER_ERROR, &format!("print the page: {error}\n")),
    }
}

/// A line of text that says why there is no page.
pub(super) fn refuse(status: StatusCode, why: &str) -> Response {
    (status, why.to_owned()).into_response()
}

/// A parameter that says something.
pub(super) fn given<'a>(params: &'a Params, name: &str) -> Option<&'a str> {
    params.get(name).map(String::as_str).filter(|value| !value.is_empty())
}

/// The proxy that `?proxyID=` names.
pub(super) fn named(state: &RunningState, params: &Params) -> Result<Arc<Client>, Box<Response>> {
    let Some(wanted) = given(params, "proxyID") else {
        let text = "You must provide a proxyID in the query string\n";
        return Err(Box::new(refuse(StatusCode::BAD_REQUEST, text)));
    };
    find(state, wanted).ok_or_else(|| Box::new(refuse(StatusCode::NOT_FOUND, NOT_CONNECTED)))
}

/// The latest connection with this id, of the proxy `<pod>.<namespace>` or with this whole node id; else, as Istio
/// has it, one whose id has this in it.
pub(super) fn find(state: &RunningState, wanted: &str) -> Option<Arc<Client>> {
    let mut clients = state.ads.hub.clients();
    clients.reverse();
    let exact = |client: &&Arc<Client>| {
        client.proxy.id.id == wanted || client.id == wanted || client.proxy.id.to_string() == wanted
    };
    let found = clients.iter().find(exact);
    found.or_else(|| clients.iter().find(|client| client.id.contains(wanted))).cloned()
}

/// RFC 3339.
pub(super) fn time(time: SystemTime) -> String {
    prost_types::Timestamp::from(time).to_string()
}

/// What the wall clock showed then.
pub(super) fn wall(then: Instant) -> SystemTime {
    let now = SystemTime::now();
    now.checked_sub(then.elapsed()).unwrap_or(now)
}
