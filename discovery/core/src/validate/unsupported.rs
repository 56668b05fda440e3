//! What can be written and has no effect, because nothing here acts on it.
//!
//! One table, of what is to be taken out of it as it comes to have an effect. What has none in Istio either is in it too.

use serde_json::Value;

use super::findings::{At, Findings};
use crate::model::{ConfigSpec, Kind};

/// Kind, and the field in `spec`: `[]` is any element of a list, `{}` any entry of a map.
const UNSUPPORTED: &[(Kind, &str)] = &[
    (Kind::DestinationRule, "trafficPolicy.tunnel"),
    (Kind::DestinationRule, "subsets[].trafficPolicy.tunnel"),
    (Kind::Gateway, "servers[].defaultEndpoint"),
    (Kind::VirtualService, "tcp[].match[].sourceSubnet"),
    // Machines do not register themselves here.
    (Kind::WorkloadGroup, "template"),
    (Kind::WorkloadGroup, "probe"),
    // Read by whoever injects sidecars, which nobody does here.
    (Kind::ProxyConfig, "concurrency"),
    (Kind::ProxyConfig, "environmentVariables"),
    (Kind::ProxyConfig, "image"),
    (Kind::Telemetry, "tracing"),
    (Kind::Telemetry, "metrics"),
];

/// Warns of what is set and in the table.
pub(super) fn check(out: &mut Findings, at: At<'_>, spec: &ConfigSpec) {
    let patterns: Vec<&str> =
        UNSUPPORTED.iter().filter(|(kind, _)| *kind == spec.kind()).map(|(_, pattern)| *pattern).collect();
    if patterns.is_empty() {
        return;
    }
    let written = match spec {
        ConfigSpec::ServiceEntry(spec) => serde_json::to_value(spec),
        ConfigSpec::WorkloadEntry(spec) => serde_json::to_value(spec),
        ConfigSpec::WorkloadGroup(spec) => serde_json::to_value(spec),
        ConfigSpec::VirtualService(spec) => serde_json::to_value(spec),
        ConfigSpec::DestinationRule(spec) => serde_json::to_value(spec),
        ConfigSpec::Gateway(spec) => serde_json::to_value(spec),
        ConfigSpec::Sidecar(spec) => serde_json::to_value(spec),
        ConfigSpec::EnvoyFilter(spec) => serde_json::to_value(spec),
        ConfigSpec::ProxyConfig(spec) => serde_json::to_value(spec),
        ConfigSpec::Telemetry(spec) => serde_json::to_value(spec),
    };
    // Texts, numbers and maps by text: nothing that JSON could not hold.
    let Ok(written) = written else { return };
    for pattern in patterns {
        find(out, at, &written, pattern);
    }
}

fn find(out: &mut Findings, at: At<'_>, value: &Value, pattern: &str) {
    if pattern.is_empty() {
        if is_set(value) {
            out.warning(at, "is not supported yet and has no effect");
        }
        return;
    }
    let pattern = pattern.strip_prefix('.').unwrap_or(pattern);
    if let Some(rest) = pattern.strip_prefix("[]") {
        for (index, element) in value.as_array().into_iter().flatten().enumerate() {
            find(out, at.nth(index), element, rest);
        }
    } else if let Some(rest) = pattern.strip_prefix("{}") {
        for (key, entry) in value.as_object().into_iter().flatten() {
            find(out, at.of(key), entry, rest);
        }
    } else {
        let end = pattern.find(['.', '[', '{']).unwrap_or(pattern.len());
        let (name, rest) = pattern.split_at(end);
        if let Some(field) = value.get(name) {
            find(out, at.of(name), field, rest);
        }
    }
}

/// What is absent is written as its default, but for messages, which are null then.
fn is_set(value: &Value) -> bool {
    match value {
        Value::Null => false,
        Value::Bool(value) => *value,
        Value::Number(number) => number.as_f64() != Some(0.0),
        Value::String(text) => !text.is_empty(),
        Value::Array(elements) => !elements.is_empty(),
        Value::Object(fields) => !fields.is_empty(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A pattern that leads nowhere would keep silent for ever.
    #[test]
    fn every_pattern_is_a_field_of_its_kind() {
        let all = serde_json::json!({
            "DestinationRule": {"trafficPolicy": {"tunnel": {}}, "subsets": [{"trafficPolicy": {"tunnel": {}}}]},
            "Gateway": {"servers": [{"defaultEndpoint": "x"}]},
            "VirtualService": {"tcp": [{"match": [{"sourceSubnet": "x"}]}]},
            "WorkloadGroup": {"template": {}, "probe": {}},
            "ProxyConfig": {"concurrency": 1, "environmentVariables": {"A": "b"}, "image": {}},
            "Telemetry": {"tracing": [{}], "metrics": [{}]},
        });
        for (kind, pattern) in UNSUPPORTED {
            let mut out = Findings::default();
            let spec = super::super::tests::spec(*kind, &all[kind.as_str()]);
            check(&mut out, At::Root("spec"), &spec);
            let flat = |field: &str| field.replace("[0]", "[]").replace("spec.", "");
            let found = out.into_inner();
            assert!(found.iter().any(|finding| flat(&finding.field) == *pattern), "{pattern}: {found:?}");
        }
    }
}
