//! Validation of `Telemetry`.

use std::time::Duration;

use super::findings::{At, Findings};
use crate::api::Telemetry;
use crate::api::telemetry::{
    CustomTag, Metrics, MetricsOverrides, ProviderRef, TagOperation, TagOverride, Tracing,
};

pub(super) fn check(out: &mut Findings, at: At<'_>, telemetry: &Telemetry) {
    out.at_most_one(
        at,
        &[
            ("selector", telemetry.selector.is_some()),
            ("targetRef", telemetry.target_ref.is_some()),
            ("targetRefs", !telemetry.target_refs.is_empty()),
        ],
    );
    out.match_labels(at.of("selector"), telemetry.selector.as_ref());
    if let Some(target) = &telemetry.target_ref {
        out.target_ref(at.of("targetRef"), target);
    }
    out.target_refs(at.of("targetRefs"), &telemetry.target_refs);
    let (traces, logs) = (at.of("tracing"), at.of("accessLogging"));
    if telemetry.tracing.len() > 1 {
        out.warning(traces, "later ones prevail over earlier ones");
    }
    for (index, rule) in telemetry.tracing.iter().enumerate() {
        tracing(out, traces.nth(index), rule);
    }
    for (index, rule) in telemetry.metrics.iter().enumerate() {
        metrics(out, at.of("metrics").nth(index), rule);
    }
    for (index, rule) in telemetry.access_logging.iter().enumerate() {
        let at = logs.nth(index);
        providers(out, at.of("providers"), &rule.providers);
        if let Some(filter) = &rule.filter {
            expression(out, at.of("filter").of("expression"), &filter.expression);
        }
    }
}

/// Checks the quotes and brackets of an expression: Envoy rejects the whole listener for an invalid one.
fn expression(out: &mut Findings, at: At<'_>, text: &str) {
    out.present(at, text);
    // Raw and multi-line texts and comments have other rules for quotes; they are not checked.
    if ["r'", "r\"", "R'", "R\"", "'''", "\"\"\"", "//"].iter().any(|own| text.contains(own)) {
        return;
    }
    let mut open = Vec::new();
    let mut quote = None;
    let mut letters = text.chars();
    while let Some(letter) = letters.next() {
        match (quote, letter) {
            (Some(_), '\\') => _ = letters.next(),
            (Some(end), _) if letter == end => quote = None,
            (None, '"' | '\'') => quote = Some(letter),
            (None, '(') => open.push(')'),
            (None, '[') => open.push(']'),
            (None, '{') => open.push('}'),
            (None, ')' | ']' | '}') if open.pop() != Some(letter) => {
                return out.error(at, format!("is no CEL expression: {letter} closes nothing"));
            }
            _ => {}
        }
    }
    if let Some(missing) = quote.or(open.pop()) {
        out.error(at, format!("is no CEL expression: {missing} is missing at its end"));
    }
}

fn providers(out: &mut Findings, at: At<'_>, providers: &[ProviderRef]) {
    for (index, provider) in providers.iter().enumerate() {
        out.present(at.nth(index).of("name"), &provider.name);
    }
}

fn tracing(out: &mut Findings, at: At<'_>, tracing: &Tracing) {
    if tracing.providers.len() > 1 {
        out.warning(at.of("providers"), "only the first has an effect");
    }
    providers(out, at.of("providers"), &tracing.providers);
    if let Some(percent) = tracing.random_sampling_percentage
        && !(0.0..=100.0).contains(&percent.0)
    {
        out.error(at.of("randomSamplingPercentage"), format!("{} is no share: 0 to 100", percent.0));
    }
    for (name, tag) in &tracing.custom_tags {
        let field = at.of("customTags");
        out.present(field, name);
        custom_tag(out, field.of(name), tag);
    }
}

fn custom_tag(out: &mut Findings, at: At<'_>, tag: &CustomTag) {
    out.at_most_one(
        at,
        &[
            ("literal", tag.literal.is_some()),
            ("environment", tag.environment.is_some()),
            ("header", tag.header.is_some()),
            ("formatter", tag.formatter.is_some()),
        ],
    );
    for (field, text) in [("literal", &tag.literal), ("formatter", &tag.formatter)] {
        if let Some(text) = text {
            out.present(at.of(field).of("value"), &text.value);
        }
    }
    for (field, source) in [("environment", &tag.environment), ("header", &tag.header)] {
        if let Some(source) = source {
            out.present(at.of(field).of("name"), &source.name);
        }
    }
}

fn metrics(out: &mut Findings, at: At<'_>, metrics: &Metrics) {
    providers(out, at.of("providers"), &metrics.providers);
    for (index, change) in metrics.overrides.iter().enumerate() {
        overrides(out, at.of("overrides").nth(index), change);
    }
    if let Some(interval) = metrics.reporting_interval
        && interval < Duration::from_millis(1)
    {
        out.error(at.of("reportingInterval"), format!("{interval:?} is too short: 1 ms at least"));
    }
}

fn overrides(out: &mut Findings, at: At<'_>, overrides: &MetricsOverrides) {
    if let Some(selector) = &overrides.r#match {
        let at = at.of("match");
        out.at_most_one(
            at,
            &[("metric", selector.metric.is_some()), ("customMetric", selector.custom_metric.is_some())],
        );
        if let Some(name) = &selector.custom_metric {
            out.present(at.of("customMetric"), name);
        }
    }
    for (name, change) in &overrides.tag_overrides {
        let field = at.of("tagOverrides");
        if name.is_empty() {
            out.warning(field, "a tag without a name");
        }
        tag_override(out, field.of(name).of("value"), change);
    }
}

fn tag_override(out: &mut Findings, at: At<'_>, change: &TagOverride) {
    match (change.operation, change.value.is_empty()) {
        (TagOperation::Upsert, true) => out.error(at, "is missing"),
        (TagOperation::Remove, false) => out.error(at, "a tag that is removed has none"),
        _ => {}
    }
}
