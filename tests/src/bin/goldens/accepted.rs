//! Accepted differences between our bootstraps and Istio's, with the reason for each. Every other difference is a fault.

use serde_json::Value;

use crate::difference::Difference;

/// An accepted difference, in every case that has it.
pub(crate) struct AcceptedDifference {
    /// Path of the field, as in [`Difference`].
    pub(crate) path: &'static str,
    /// Istio's value in JSON.
    pub(crate) golden: Option<&'static str>,
    /// Our value in JSON.
    pub(crate) ours: Option<&'static str>,
    /// Reason for the difference.
    pub(crate) why: &'static str,
}

/// All accepted differences.
pub(crate) const ACCEPTED: [AcceptedDifference; 4] = [
    AcceptedDifference {
        path: "application_log_config",
        golden: Some(
            r#"{"log_format": {"text_format": "%Y-%m-%dT%T.%fZ\t%l\tenvoy %n %g:%#\t%v\tthread=%t"}}"#,
        ),
        ours: None,
        why: "the format is on Envoy's command line, where it also applies to lines that Envoy logs before it has read its bootstrap; \
              the agent parses those lines and writes them in its own format. Envoy does not start with both.",
    },
    AcceptedDifference {
        path: "stats_config.stats_matcher.inclusion_list.patterns[]",
        golden: None,
        ours: Some(
            r#"{"safe_regex": {"regex": "(http|listener)\\..*\\.downstream_(cx|rq)_(active|total)"}}"#,
        ),
        why: "a drain ends when no request is active and none begins, which these counters show; Istio's drain waits for a fixed time.",
    },
    AcceptedDifference {
        path: "node.metadata.PROXY_CONFIG.customConfigFile",
        golden: Some(r#""envoy_bootstrap.json""#),
        ours: None,
        why: "Istio's test sets the path of Istio's template; ours is compiled in.",
    },
    AcceptedDifference {
        path: "node.metadata.PROXY_CONFIG.terminationDrainDuration",
        golden: None,
        ours: Some(r#""5s""#),
        why: "Istio's test takes a ProxyConfig without the defaults; in a pod Istio's has these 5 s too.",
    },
];

/// Extensions of Istio's Envoy that are missing in Envoy's own releases, and the cases that need them.
pub(crate) const UNKNOWN_TO_ENVOY: [(&str, &str); 2] =
    [("ambient", "metadata_discovery"), ("tracing_lightstep", "envoy.tracers.lightstep")];

/// Returns the index in [`ACCEPTED`] of this difference.
pub(crate) fn find(difference: &Difference) -> Option<usize> {
    let is = |text: Option<&str>, value: &Option<Value>| {
        text.map(|text| serde_json::from_str(text).unwrap_or(Value::Null)) == *value
    };
    ACCEPTED.iter().position(|accepted| {
        accepted.path == difference.path
            && is(accepted.golden, &difference.golden)
            && is(accepted.ours, &difference.ours)
    })
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_difference_is_accepted_only_with_both_values() {
        let check = |path: &str, golden: Option<Value>, ours: Option<Value>, accepted: bool| {
            let difference = Difference { path: path.into(), golden, ours };
            assert_eq!(find(&difference).is_some(), accepted, "{difference}");
        };
        let drain = "node.metadata.PROXY_CONFIG.terminationDrainDuration";
        check(drain, None, Some(json!("5s")), true);
        check(drain, None, Some(json!("6s")), false);
        check(drain, Some(json!("5s")), None, false);
        check(drain, Some(json!("4s")), Some(json!("5s")), false);
        check("node.metadata.PROXY_CONFIG.drainDuration", None, Some(json!("5s")), false);
    }

    #[test]
    fn accepted_values_are_json() {
        let values = ACCEPTED.iter().flat_map(|accepted| accepted.golden.iter().chain(&accepted.ours));
        for value in values {
            assert!(serde_json::from_str::<Value>(value).is_ok(), "{value}");
        }
    }
}
