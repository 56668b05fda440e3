//! `/debug/pushes?proxyID=`: recent pushes of a proxy with reasons and results. Not in Istio, which logs them.

use std::collections::BTreeMap;
use std::time::Duration;

use axum::extract::State;
use axum::response::Response;
use serde::Serialize;

use super::page::{Params, named, page, time, wall};
use super::{Arc, RunningState};
use crate::ads::history::{Answer, Pushed, Told};

/// Maximum number of listed objects of one push.
const OBJECTS: usize = 20;

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Shown {
    /// Time of the oldest change.
    #[serde(skip_serializing_if = "Option::is_none")]
    event: Option<String>,
    /// Start of the proxy's turn.
    started: String,
    /// Number of changes by reason.
    reasons: BTreeMap<&'static str, u32>,
    /// `true` if everything was generated again.
    forced: bool,
    /// Number of changed objects.
    changed: usize,
    /// First changed objects, `<kind>/<namespace>/<name>`.
    objects: Vec<String>,
    /// Sent responses. Empty: the proxy had all resources.
    responses: Vec<Line>,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Line {
    r#type: &'static str,
    resources: u32,
    removed: u32,
    bytes: u32,
    /// Seconds to generate it.
    generated: f64,
    /// Seconds from the start of the push until it was sent.
    sent: f64,
    /// `ACK` or `NACK`; `None` until then.
    #[serde(skip_serializing_if = "Option::is_none")]
    answer: Option<&'static str>,
    /// Seconds from sending until the answer.
    #[serde(skip_serializing_if = "Option::is_none")]
    answered: Option<f64>,
}

/// `/debug/pushes?proxyID=`: the last push first.
pub(super) async fn pushes(State(state): State<Arc<RunningState>>, params: Params) -> Response {
    match named(&state, &params) {
        Ok(client) => page(&params, &client.history.pushes().iter().map(show).collect::<Vec<_>>()),
        Err(answer) => *answer,
    }
}

fn show(push: &Pushed) -> Shown {
    let request = &push.request;
    Shown {
        event: request.start.map(|event| time(wall(event))),
        started: time(wall(push.started)),
        reasons: request.reasons.iter().map(|(reason, count)| (reason.as_str(), *count)).collect(),
        forced: request.forced,
        changed: request.updated.len(),
        objects: request.updated.iter().take(OBJECTS).map(ToString::to_string).collect(),
        responses: push.responses.iter().map(line).collect(),
    }
}

fn line(told: &Told) -> Line {
    let answer = match told.answer {
        Answer::None => None,
        Answer::Ack => Some("ACK"),
        Answer::Nack => Some("NACK"),
    };
    Line {
        r#type: told.kind.short(),
        resources: told.resources,
        removed: told.removed,
        bytes: told.bytes,
        generated: told.generated.as_secs_f64(),
        sent: told.sent.as_secs_f64(),
        answer,
        answered: answer.map(|_| told.answered).as_ref().map(Duration::as_secs_f64),
    }
}
