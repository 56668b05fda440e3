//! Reports of load as JSON.

use std::collections::BTreeMap;

use pilot_tests::load::{ClientState, FailureKind, Report};
use pilot_tests::solo::Solo;
use pilot_tests::statistics::millis;
use serde_json::{Value, json};

/// Returns the totals of all classes, and the failures of each class that has any.
pub(crate) fn summary(reports: &BTreeMap<String, Report>) -> Value {
    let all = Report::merge(reports.values().cloned());
    let count = |fault| all.failures.iter().filter(|failure| failure.kind == fault).count();
    let losers: BTreeMap<_, _> = reports
        .iter()
        .filter(|(_, report)| !report.failures.is_empty())
        .map(|(name, report)| {
            let faults: BTreeMap<_, _> =
                report.failures_by_kind().into_iter().map(|(fault, n)| (format!("{fault:?}"), n)).collect();
            let first = report.failures.first().map(|failure| failure.reason.clone());
            (name, json!({"failed": report.failures.len(), "faults": faults, "first": first}))
        })
        .collect();
    let worst: BTreeMap<_, _> =
        reports.iter().map(|(name, report)| (name, report.longest().map(millis))).collect();
    let ends = all.ends.len();
    let (reset, waiting) = (
        all.ends.iter().filter(|end| end.how == FailureKind::Reset).count(),
        all.ends.iter().filter(|end| end.client == ClientState::Waiting).count(),
    );
    json!({
        "answers": all.answers.len(),
        "failed": all.failures.len(),
        "resets": count(FailureKind::Reset),
        "refused": count(FailureKind::Refused),
        "losers": losers,
        "worst_ms": worst,
        "held_connections_ended": {"all": ends, "reset": reset, "while_asked": waiting},
    })
}

/// Adds the reports of one run to those of others.
pub(crate) fn add(all: &mut BTreeMap<String, Report>, reports: BTreeMap<String, Report>) {
    for (name, report) in reports {
        let before = all.remove(&name).unwrap_or_default();
        all.insert(name, Report::merge([before, report]));
    }
}

/// Prints the first failure in one line, and the agent's log below it.
pub(crate) fn with_log(error: &anyhow::Error, solo: &Solo) -> anyhow::Error {
    anyhow::anyhow!("{error:#}\n{}", solo.log())
}

/// Merges two JSON objects.
pub(crate) fn with(mut figures: Value, more: Value) -> Value {
    if let (Some(figures), Value::Object(more)) = (figures.as_object_mut(), more) {
        figures.extend(more);
    }
    figures
}
