//! What `Telemetry` objects mean together, for one side of connections.
//!
//! Objects come in levels, each with more to say than the one before: root namespace, namespace, workload. A rule that names
//! no provider is for those that hold so far, at first the mesh's defaults. What is said of one side says nothing of the
//! other: Istio has a rule without providers mean those of the rule before it, even if that one was for the other side.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use pilot_proto::networking::CustomTag;

use super::Side;
use crate::api::telemetry::{AccessLogging, ProviderRef, Tracing, WorkloadMode};
use crate::api::values::Double;

/// What a provider is told of accesses.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum LogRule {
    /// Those that this CEL expression is true of; `None`: all.
    Logs(Option<Arc<str>>),
    /// Nothing.
    Silent,
}

/// How requests are traced, as far as somebody said.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TraceRule<'a> {
    /// Where spans go; `None`: nowhere.
    pub provider: Option<&'a str>,
    /// Requests that are traced, of a hundred.
    pub sampling: Option<Double>,
    /// Tags that spans get.
    pub tags: Option<&'a BTreeMap<String, CustomTag>>,
    /// The request id tells whether a request is traced.
    pub by_request_id: bool,
    /// Istio's own tags.
    pub istio_tags: bool,
    /// Upstreams are told of the trace.
    pub passed_on: bool,
}

/// What each provider is told of accesses.
pub fn logging<'a>(
    levels: &[&'a [AccessLogging]],
    defaults: &'a [String],
    side: Side,
) -> BTreeMap<&'a str, LogRule> {
    if levels.is_empty() {
        return defaults.iter().map(|name| (name.as_str(), LogRule::Logs(None))).collect();
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
    let mut said: BTreeMap<&str, LogRule> = BTreeMap::new();
    for (rule, providers) in &told {
        // Istio forgets a filter where no provider is named beside it.
        if !rule.providers.is_empty() || rule.filter.is_some() {
            said.extend(providers.iter().map(|name| (*name, LogRule::of(rule))));
        }
    }
    let mut rules = BTreeMap::new();
    for (rule, providers) in told {
        for name in providers.into_iter().filter(|name| meant.contains(name)) {
            let silent = rule.disabled == Some(true);
            let last = || said.get(name).cloned().unwrap_or(LogRule::Logs(None));
            rules.insert(name, if silent { LogRule::Silent } else { last() });
        }
    }
    rules
}

/// How requests are traced; `None`: no object says anything of it, nor does the mesh by default.
pub fn tracing<'a>(
    rules: impl IntoIterator<Item = &'a Tracing>,
    default: Option<&'a str>,
    side: Side,
) -> Option<TraceRule<'a>> {
    let mut rules = rules.into_iter().peekable();
    if rules.peek().is_none() && default.is_none() {
        return None;
    }
    let mut made = TraceRule {
        provider: default,
        sampling: None,
        tags: None,
        by_request_id: true,
        istio_tags: true,
        passed_on: true,
    };
    let mut disabled = false;
    for rule in rules.filter(|rule| side.is_meant(rule.r#match.map(|of| of.mode))) {
        made.provider = names(&rule.providers).next().or(made.provider);
        disabled = rule.disable_span_reporting.unwrap_or(disabled);
        made.sampling = rule.random_sampling_percentage.or(made.sampling);
        made.tags = Some(&rule.custom_tags).filter(|tags| !tags.is_empty()).or(made.tags);
        made.by_request_id = rule.use_request_id_for_trace_sampling.unwrap_or(made.by_request_id);
        made.istio_tags = rule.enable_istio_tags.unwrap_or(made.istio_tags);
        made.passed_on = rule.disable_context_propagation.map_or(made.passed_on, |disabled| !disabled);
    }
    made.provider = made.provider.filter(|_| !disabled);
    Some(made)
}

fn names(providers: &[ProviderRef]) -> impl Iterator<Item = &str> {
    providers.iter().map(|provider| provider.name.as_str())
}

// === impl LogRule ===

impl LogRule {
    fn of(rule: &AccessLogging) -> Self {
        let expression = rule.filter.as_ref().map(|filter| filter.expression.as_str());
        Self::Logs(expression.filter(|expression| !expression.is_empty()).map(Arc::from))
    }
}

// === impl Side ===

impl Side {
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
        for (side, expected) in [(Side::Client, client), (Side::Server, server)] {
            let found = logging(&levels, &defaults, side);
            let found: Vec<String> = found
                .into_iter()
                .map(|(name, rule)| match rule {
                    LogRule::Silent => format!("{name}!"),
                    LogRule::Logs(None) => name.to_owned(),
                    LogRule::Logs(Some(expression)) => format!("{name}({expression})"),
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
        let client = tracing(&rules, Some("d"), Side::Client).unwrap();
        assert_eq!((client.provider, client.sampling), (Some("a"), Some(Double(0.0))));
        assert_eq!(client.tags.unwrap().len(), 1);
        assert!(client.by_request_id && !client.istio_tags && !client.passed_on);
        let server = tracing(&rules, Some("d"), Side::Server).unwrap();
        assert_eq!((server.provider, server.sampling), (None, Some(Double(10.0))));
        assert!(!server.by_request_id && server.istio_tags && server.passed_on);
        assert_eq!(tracing([], None, Side::Client), None);
        assert_eq!(tracing([], Some("d"), Side::Client).unwrap().provider, Some("d"));
    }
}
