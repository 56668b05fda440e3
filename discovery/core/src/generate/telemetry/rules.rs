//! What `Telemetry` objects mean together, for one side of connections.
//!
//! Objects come in levels, each with more to say than the one before: root namespace, namespace, workload. A rule that names
//! no provider is for those that hold so far, at first the mesh's defaults. What is said of one side says nothing of the
//! other: Istio has a rule without providers mean those of the rule before it, even if that one was for the other side.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use pilot_proto::networking::CustomTag;

use super::TrafficSide;
use crate::api::telemetry::{AccessLogging, ProviderRef, Tracing, WorkloadMode};
use crate::api::values::Double;

/// What a provider is told of accesses.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum AccessLogRule {
    /// Those that this CEL expression is true of; `None`: all.
    Enabled(Option<Arc<str>>),
    /// Nothing.
    Disabled,
}

/// How requests are traced, as far as somebody said.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TracingRule<'a> {
    /// Where spans go; `None`: nowhere.
    pub provider: Option<&'a str>,
    /// Requests that are traced, of a hundred.
    pub sampling: Option<Double>,
    /// Tags that spans get.
    pub tags: Option<&'a BTreeMap<String, CustomTag>>,
    /// The request id tells whether a request is traced.
    pub use_request_id: bool,
    /// Istio's own tags.
    pub istio_tags: bool,
    /// Upstreams are told of the trace.
    pub context_propagation: bool,
}

/// What each provider is told of accesses.
pub fn access_log_rules<'a>(
    levels: &[&'a [AccessLogging]],
    defaults: &'a [String],
    side: TrafficSide,
) -> BTreeMap<&'a str, AccessLogRule> {
    if levels.is_empty() {
        return defaults.iter().map(|name| (name.as_str(), AccessLogRule::Enabled(None))).collect();
    }
    // A level that names providers names all of them.
    let mut meant: BTreeSet<&str> = defaults.iter().map(String::as_str).collect();
    let mut told: Vec<(&AccessLogging, Vec<&str>)> = Vec::new();
    for level in levels {
        let mut named = BTreeSet::new();
        let mut before: Vec<&str> = meant.iter().copied().collect();
        for rule in level.iter().filter(|rule| side.is_meant(rule.r#match.map(|of| of.mode))) {
            if !rule.providers.is_empty() {
                before = names(&rule.providers).collect();
            }
            named.extend(names(&rule.providers));
            told.push((rule, before.clone()));
        }
        if !named.is_empty() {
            meant = named;
        }
    }
    let mut said: BTreeMap<&str, AccessLogRule> = BTreeMap::new();
    for (rule, providers) in &told {
        // Istio forgets a filter where no provider is named beside it.
        if !rule.providers.is_empty() || rule.filter.is_some() {
            said.extend(providers.iter().map(|name| (*name, AccessLogRule::of(rule))));
        }
    }
    let mut rules = BTreeMap::new();
    for (rule, providers) in told {
        for name in providers.into_iter().filter(|name| meant.contains(name)) {
            let silent = rule.disabled == Some(true);
            let last = || said.get(name).cloned().unwrap_or(AccessLogRule::Enabled(None));
            rules.insert(name, if silent { AccessLogRule::Disabled } else { last() });
        }
    }
    rules
}

/// How requests are traced; `None`: no object says anything of it, nor does the mesh by default.
pub fn tracing_rule<'a>(
    rules: impl IntoIterator<Item = &'a Tracing>,
    default: Option<&'a str>,
    side: TrafficSide,
) -> Option<TracingRule<'a>> {
    let mut rules = rules.into_iter().peekable();
    if rules.peek().is_none() && default.is_none() {
        return None;
    }
    let mut made = TracingRule {
        provider: default,
        sampling: None,
        tags: None,
        use_request_id: true,
        istio_tags: true,
        context_propagation: true,
    };
    let mut disabled = false;
    for rule in rules.filter(|rule| side.is_meant(rule.r#match.map(|of| of.mode))) {
        made.provider = names(&rule.providers).next().or(made.provider);
        disabled = rule.disable_span_reporting.unwrap_or(disabled);
        made.sampling = rule.random_sampling_percentage.or(made.sampling);
        made.tags = Some(&rule.custom_tags).filter(|tags| !tags.is_empty()).or(made.tags);
        made.use_request_id = rule.use_request_id_for_trace_sampling.unwrap_or(made.use_request_id);
        made.istio_tags = rule.enable_istio_tags.unwrap_or(made.istio_tags);
        made.context_propagation =
            rule.disable_context_propagation.map_or(made.context_propagation, |disabled| !disabled);
    }
    made.provider = made.provider.filter(|_| !disabled);
    Some(made)
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
    fn is_meant(self, mode: Option<WorkloadMode>) -> bool {
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
        let spec = pilot_proto::read::message("", json).unwrap();
        assert_eq!(spec.unknown, Vec::<String>::new());
        spec.value
    }

    /// Levels of rules for logs, and `provider`, `provider!` (silent) or `provider(expression)` for client and server.
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
            let found = access_log_rules(&levels, &defaults, side);
            let found: Vec<String> = found
                .into_iter()
                .map(|(name, rule)| match rule {
                    AccessLogRule::Disabled => format!("{name}!"),
                    AccessLogRule::Enabled(None) => name.to_owned(),
                    AccessLogRule::Enabled(Some(expression)) => format!("{name}({expression})"),
                })
                .collect();
            assert_eq!(found.join(" "), expected, "{side:?} of {levels:?}");
        }
    }

    #[test]
    fn each_level_of_logs_overrules_the_one_before() {
        use serde_json::json;
        let named = |name: &str| json!({"providers": [{"name": name}]});
        let of = |mode: &str, rule: serde_json::Value| {
            let mut rule = rule;
            rule["match"] = json!({"mode": mode});
            rule
        };
        let off = json!({"disabled": true});
        check(&json!([]), &[], "", "");
        check(&json!([]), &["b", "a"], "a b", "a b");
        check(&json!([[named("a")]]), &["d"], "a", "a");
        check(&json!([[{}]]), &["d"], "d", "d");
        check(&json!([[off]]), &["d"], "d!", "d!");
        check(&json!([[off]]), &[], "", "");
        // Off in the mesh, on in a namespace; on for a side.
        check(&json!([[off], [{"disabled": false}]]), &["d"], "d", "d");
        check(&json!([[named("a")], [named("b")]]), &[], "b", "b");
        check(&json!([[named("a")], [of("SERVER", off.clone())]]), &[], "a", "a!");
        check(&json!([[of("CLIENT", named("a")), of("SERVER", named("b"))]]), &[], "a", "b");
        check(&json!([[named("a"), named("b")]]), &[], "a b", "a b");
        check(&json!([[of("CLIENT", named("a")), of("SERVER", named("b"))], [off]]), &[], "a!", "b!");
        check(&json!([[named("a"), named("b")], [off]]), &[], "a! b!", "a! b!");
        check(&json!([[named("a"), named("b"), off]]), &[], "a b!", "a b!");
        // What is said of a provider is kept by a rule that names none.
        let some = json!({"providers": [{"name": "a"}], "filter": {"expression": "x"}});
        check(&json!([[some]]), &[], "a(x)", "a(x)");
        check(&json!([[some], [{}]]), &[], "a(x)", "a(x)");
        check(&json!([[some], [named("a")]]), &[], "a", "a");
        check(&json!([[{"filter": {"expression": "x"}}]]), &["d"], "d(x)", "d(x)");
        check(&json!([[some], [of("CLIENT", off)]]), &[], "a!", "a(x)");
    }

    #[test]
    fn each_rule_of_spans_overrules_the_one_before() {
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
