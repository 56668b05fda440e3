//! Pages about errors: failed generation, rejections by proxies, rejected objects.

use std::collections::{BTreeMap, BTreeSet};

use axum::extract::State;
use axum::response::Response;
use pilot_core::generate::Report;
use serde::Serialize;
use serde_json::{Value, json};

use super::page::{Params, page, pretty, time};
use super::{Arc, RunningState};
use crate::ads::{Client, Refused};
use crate::source::SourceStatus;

/// Error of one subject, in the form of Istio's `ProxyPushStatus`.
#[derive(Debug, PartialEq, Eq, Serialize)]
pub(crate) struct Trouble {
    /// One of the proxies that have it.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub(super) proxy: String,
    /// Description.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub(super) message: String,
}

/// Errors by Istio's metric, then by subject.
pub(crate) type Troubles = BTreeMap<&'static str, BTreeMap<String, Trouble>>;

/// Resources that proxies rejected, by type and name, until they change.
const KEPT_BACK: &str = "pilot_xds_quarantined_resources";

/// Errors without a metric in Istio.
const REJECTED_RESOURCES: &str = "pilot_rejected_resources";

/// `/debug/push_status`: always indented, as in Istio.
pub(super) async fn push_status(State(state): State<Arc<RunningState>>) -> Response {
    let mut troubles = troubles(&state.ads.hub.clients());
    for (proxy, kind, Refused { refusal, origins }) in state.ads.quarantine.all() {
        let serves =
            if refusal.last_good.is_some() { "the last good version serves" } else { "nothing serves" };
        let objects = origins.join(", ");
        let message = format!("made from {objects}; kept back, {serves}: {}", refusal.error);
        let kept_back = troubles.entry(KEPT_BACK).or_default();
        kept_back.insert(format!("{kind}/{}", refusal.name), Trouble { proxy, message });
    }
    pretty(&troubles)
}

/// Returns the errors of these proxies.
pub(crate) fn troubles(clients: &[Arc<Client>]) -> Troubles {
    let mut troubles = Troubles::new();
    // Proxies may share a report.
    let mut seen: BTreeSet<*const Report> = BTreeSet::new();
    for client in clients {
        let proxy = &client.proxy.id.id;
        for (kind, known) in client.types() {
            if seen.insert(Arc::as_ptr(&known.report)) {
                for rejected in &known.report.rejected {
                    let metric = rejected.reason.metric().unwrap_or(REJECTED_RESOURCES);
                    let trouble = Trouble { proxy: proxy.clone(), message: rejected.to_string() };
                    troubles.entry(metric).or_default().insert(rejected.subject.clone(), trouble);
                }
            }
            if let Some(error) = &known.last_error {
                let trouble = Trouble { proxy: proxy.clone(), message: error.to_string() };
                let rejects = troubles.entry("pilot_total_xds_rejects").or_default();
                rejects.insert(format!("{kind}/{}", client.id), trouble);
            }
        }
    }
    troubles
}

/// `/debug/rejectedz`: rejected objects with reasons, and warnings about accepted ones. Not in Istio, which reports them by
/// webhook and status.
pub(super) async fn rejectedz(State(state): State<Arc<RunningState>>, params: Params) -> Response {
    let problems = state.sources.iter().flat_map(|source| source.problems());
    let problems: Vec<String> = problems.map(|problem| problem.to_string()).collect();
    page(&params, &problems)
}

/// `/debug/sourcez`: status of every source.
pub(super) async fn sourcez(State(state): State<Arc<RunningState>>, params: Params) -> Response {
    let sources: Vec<Value> = state.sources.iter().map(|source| source_json(source)).collect();
    page(&params, &sources)
}

fn source_json(source: &SourceStatus) -> Value {
    let objects = source.objects().into_iter().map(|(kind, count)| (kind.as_str(), count));
    let error = source.last_error().map(|error| json!({"time": time(error.time), "message": error.message}));
    json!({
        "id": source.id().to_string(),
        "synced": source.is_synced(),
        "objects": objects.collect::<BTreeMap<_, _>>(),
        "rejected": source.rejected(),
        "lastEvent": source.last_event().map(time),
        "lastError": error,
    })
}
