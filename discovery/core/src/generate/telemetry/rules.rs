//! Access log and tracing rules of `Telemetry` objects, merged for one side of connections.
//!
//! Levels in order of increasing precedence are root namespace, namespace, workload. A rule without providers applies to the
//! providers in effect, initially the defaults of the mesh. The sides are independent: unlike here, in Istio a rule without
//! providers applies to those of the preceding rule even if that rule was for the other side.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use pilot_proto::networking::CustomTag;

use super::TrafficSide;
use crate::api::telemetry::{AccessLogging, ProviderRef, Tracing, WorkloadMode};
use crate::api::values::Double;

/// Access log rule of a provider.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum AccessLogRule {
    /// Entries that match the CEL expression; `None`: all.
    Enabled(Option<Arc<str>>),
    /// No entries.
    Disabled,
}

/// Merged tracing rule.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TracingRule<'a> {
    /// Name of the provider; `None`: disabled.
    pub provider: Option<&'a str>,
    /// Sampling percentage.
    pub sampling: Option<Double>,
    /// Custom tags of spans.
    pub tags: Option<&'a BTreeMap<String, CustomTag>>,
    /// The request id determines sampling.
    pub use_request_id: bool,
    /// Adds Istio's tags.
    pub istio_tags: bool,
    /// Trace headers are sent upstream.
    pub context_propagation: bool,
}

/// Returns the access log rule of each provider.
pub fn access_log_rules<'a>(
    levels: &[&'a [AccessLogging]],
    defaults: &'a [String],
    side: TrafficSide,
) -> BTreeMap<&'a str, AccessLogRule> {
    if levels.is_empty() {
        return defaults.iter().map(|name| (name.as_str(), AccessLogRule::Enabled(None))).collect();
    }
    // The providers of a level replace those of the preceding level.
    let mut effective: BTreeSet<&str> = defaults.iter().map(String::as_str).collect();
    let mut applicable: Vec<(&AccessLogging, Vec<&str>)> = Vec::new();
    for level in levels {
        let mut level_providers = BTreeSet::new();
        let mut preceding: Vec<&str> = effective.iter().copied().collect();
        for rule in level.iter().filter(|rule| side.applies(rule.r#match.map(|of| of.mode))) {
            if !rule.providers.is_empty() {
                preceding = names(&rule.providers).collect();
            }
            level_providers.extend(names(&rule.providers));
            applicable.push((rule, preceding.clone()));
        }
        if !level_providers.is_empty() {
            effective = level_providers;
        }
    }
    let mut filters: BTreeMap<&str, AccessLogRule> = BTreeMap::new();
    for (rule, providers) in &applicable {
        // A rule without providers sets the filter as well; Istio ignores the filter of such a rule.
        if !rule.providers.is_empty() || rule.filter.is_some() {
            filters.extend(providers.iter().map(|name| (*name, AccessLogRule::of(rule))));
        }
    }
    let mut rules = BTreeMap::new();
    for (rule, providers) in applicable {
        for name in providers.into_iter().filter(|name| effective.contains(name)) {
            let disabled = rule.disabled == Some(true);
            let last = || filters.get(name).cloned().unwrap_or(AccessLogRule::Enabled(None));
            rules.insert(name, if disabled { AccessLogRule::Disabled } else { last() });
        }
    }
    rules
}

/// Merges the tracing rules; `None`: neither an object nor the mesh configures tracing.
pub fn tracing_rule<'a>(
    rules: impl IntoIterator<Item = &'a Tracing>,
    default: Option<&'a str>,
    side: TrafficSide,
) -> Option<TracingRule<'a>> {
    let mut rules = rules.into_iter().peekable();
    if rules.peek().is_none() && default.is_none() {
        return None;
    }
    let mut merged = TracingRule {
        provider: default,
        sampling: None,
        tags: None,
        use_request_id: true,
        istio_tags: true,
        context_propagation: true,
    };
    let mut disabled = false;
    for rule in rules.filter(|rule| side.applies(rule.r#match.map(|of| of.mode))) {
        merged.provider = names(&rule.providers).next().or(merged.provider);
        disabled = rule.disable_span_reporting.unwrap_or(disabled);
        merged.sampling = rule.random_sampling_percentage.or(merged.sampling);
        merged.tags = Some(&rule.custom_tags).filter(|tags| !tags.is_empty()).or(merged.tags);
        merged.use_request_id = rule.use_request_id_for_trace_sampling.unwrap_or(merged.use_request_id);
        merged.istio_tags = rule.enable_istio_tags.unwrap_or(merged.istio_tags);
        merged.context_propagation =
            rule.disable_context_propagation.map_or(merged.context_propagation, |disabled| !disabled);
    }
    merged.provider = merged.provider.filter(|_| !disabled);
    Some(merged)
}

fn names(providers: &[ProviderRef]) -> impl Iterator<Item = &str> {
    providers.iter().map(|provider| provider.name.as_str())
}

// === impl AccessLogRule ===

impl AccessLogRule {
    fn of(rule: &AccessLogging) -> Self {
        let expression = rule.filter.as_ref().map(|filter| filter.expression.as_str());
        Self::Enabled(expression.filter(|expression| !expression.is_empty()).map(Arc::from))
    }
}

// === impl TrafficSide ===

impl TrafficSide {
    fn applies(self, mode: Option<WorkloadMode>) -> bool {
        match mode.unwrap_or_default() {
            WorkloadMode::ClientAndServer => true,
            WorkloadMode::Client => self == Self::Client,
            WorkloadMode::Server => self == Self::Server,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::api::Telemetry;

    fn telemetry(json: &serde_json::Value) -> Telemetry {
        let spec = pilot_proto::proto3_json::de::message("", json).unwrap();
        assert_eq!(spec.unknown, Vec::<String>::new());
        spec.value
    }

    /// Checks levels of access log rules against `provider`, `provider!` (disabled) or `provider(expression)` per side.
    fn check(levels: &serde_json::Value, defaults: &[&str], client: &str, server: &str) {
        let levels: Vec<Telemetry> = levels
            .as_array()
            .unwrap()
            .iter()
            .map(|level| telemetry(&serde_json::json!({"accessLogging": level})))
            .collect();
        let levels: Vec<&[AccessLogging]> = levels.iter().map(|level| &*level.access_logging).collect();
        let defaults: Vec<String> = defaults.iter().map(|&name| name.to_owned()).collect();
        for (side, expected) in [(TrafficSide::Client, client), (TrafficSide::Server, server)] {
            let rules = access_log_rules(&levels, &defaults, side);
            let rules: Vec<String> = rules
                .into_iter()
                .map(|(name, rule)| match rule {
                    AccessLogRule::Disabled => format!("{name}!"),
                    AccessLogRule::Enabled(None) => name.to_owned(),
                    AccessLogRule::Enabled(Some(expression)) => format!("{name}({expression})"),
                })
                .collect();
            assert_eq!(rules.join(" "), expected, "{side:?} of {levels:?}");
        }
    }

    #[test]
    fn access_log_levels_override_preceding_levels() {
        use serde_json::json;
        let level_providers = |name: &str| json!({"providers": [{"name": name}]});
        let of = |mode: &str, rule: serde_json::Value| {
            let mut rule = rule;
            rule["match"] = json!({"mode": mode});
            rule
        };
        let off = json!({"disabled": true});
        check(&json!([]), &[], "", "");
        check(&json!([]), &["b", "a"], "a b", "a b");
        check(&json!([[level_providers("a")]]), &["d"], "a", "a");
        check(&json!([[{}]]), &["d"], "d", "d");
        check(&json!([[off]]), &["d"], "d!", "d!");
        check(&json!([[off]]), &[], "", "");
        // Disabled in the mesh, enabled in a namespace; enabled for one side.
        check(&json!([[off], [{"disabled": false}]]), &["d"], "d", "d");
        check(&json!([[level_providers("a")], [level_providers("b")]]), &[], "b", "b");
        check(&json!([[level_providers("a")], [of("SERVER", off.clone())]]), &[], "a", "a!");
        check(
            &json!([[of("CLIENT", level_providers("a")), of("SERVER", level_providers("b"))]]),
            &[],
            "a",
            "b",
        );
        check(&json!([[level_providers("a"), level_providers("b")]]), &[], "a b", "a b");
        check(
            &json!([[of("CLIENT", level_providers("a")), of("SERVER", level_providers("b"))], [off]]),
            &[],
            "a!",
            "b!",
        );
        check(&json!([[level_providers("a"), level_providers("b")], [off]]), &[], "a! b!", "a! b!");
        check(&json!([[level_providers("a"), level_providers("b"), off]]), &[], "a b!", "a b!");
        // A rule without providers keeps the filter of the provider.
        let some = json!({"providers": [{"name": "a"}], "filter": {"expression": "x"}});
        check(&json!([[some]]), &[], "a(x)", "a(x)");
        check(&json!([[some], [{}]]), &[], "a(x)", "a(x)");
        check(&json!([[some], [level_providers("a")]]), &[], "a", "a");
        check(&json!([[{"filter": {"expression": "x"}}]]), &["d"], "d(x)", "d(x)");
        check(&json!([[some], [of("CLIENT", off)]]), &[], "a!", "a(x)");
    }

    #[test]
    fn tracing_rules_override_preceding_rules() {
        use serde_json::json;
        let rules = telemetry(&json!({"tracing": [
            {"providers": [{"name": "a"}], "randomSamplingPercentage": 10, "customTags": {"t": {"literal": {"value": "v"}}}},
            {"match": {"mode": "SERVER"}, "disableSpanReporting": true, "useRequestIdForTraceSampling": false},
            {"match": {"mode": "CLIENT"}, "randomSamplingPercentage": 0, "enableIstioTags": false, "disableContextPropagation": true},
        ]}))
        .tracing;
        let client = tracing_rule(&rules, Some("d"), TrafficSide::Client).unwrap();
        assert_eq!((client.provider, client.sampling), (Some("a"), Some(Double(0.0))));
        assert_eq!(client.tags.unwrap().len(), 1);
        assert!(client.use_request_id && !client.istio_tags && !client.context_propagation);
        let server = tracing_rule(&rules, Some("d"), TrafficSide::Server).unwrap();
        assert_eq!((server.provider, server.sampling), (None, Some(Double(10.0))));
        assert!(!server.use_request_id && server.istio_tags && server.context_propagation);
        assert_eq!(tracing_rule([], None, TrafficSide::Client), None);
        assert_eq!(tracing_rule([], Some("d"), TrafficSide::Client).unwrap().provider, Some("d"));
    }
}
