//! What is other in our bootstraps than in Istio's, and why ours is right. Everything else is a fault.

use serde_json::Value;

use crate::difference::Difference;

/// One difference, in every case that has it.
pub(crate) struct AcceptedDifference {
    /// Where, as [`Difference`] spells it.
    pub(crate) path: &'static str,
    /// What Istio has there, in JSON.
    pub(crate) golden: Option<&'static str>,
    /// What ours has there, in JSON.
    pub(crate) ours: Option<&'static str>,
    /// Why ours is right.
    pub(crate) why: &'static str,
}

/// All of them.
pub(crate) const ACCEPTED: [AcceptedDifference; 4] = [
    AcceptedDifference {
        path: "application_log_config",
        golden: Some(
            r#"{"log_format": {"text_format": "%Y-%m-%dT%T.%fZ\t%l\tenvoy %n %g:%#\t%v\tthread=%t"}}"#,
        ),
        ours: None,
        why: "the format is on Envoy's command line, where it also holds for what Envoy says before it has read its bootstrap; the \
              agent reads those lines and writes them out in its own form. Envoy refuses to start with both.",
    },
    AcceptedDifference {
        path: "stats_config.stats_matcher.inclusion_list.patterns[]",
        golden: None,
        ours: Some(
            r#"{"safe_regex": {"regex": "(http|listener)\\..*\\.downstream_(cx|rq)_(active|total)"}}"#,
        ),
        why: "a drain ends when no request is active and none begins, which these counters say; Istio's waits for a time instead.",
    },
    AcceptedDifference {
        path: "node.metadata.PROXY_CONFIG.customConfigFile",
        golden: Some(r#""envoy_bootstrap.json""#),
        ours: None,
        why: "Istio's test has to say where Istio's template is; ours is no file.",
    },
    AcceptedDifference {
        path: "node.metadata.PROXY_CONFIG.terminationDrainDuration",
        golden: None,
        ours: Some(r#""5s""#),
        why: "Istio's test takes a ProxyConfig without the defaults below it; in a pod Istio's has these 5 s too.",
    },
];

/// Extensions that Istio's Envoy has and Envoy's own releases have not, and the case that needs them.
pub(crate) const UNKNOWN_TO_ENVOY: [(&str, &str); 2] =
    [("ambient", "metadata_discovery"), ("tracing_lightstep", "envoy.tracers.lightstep")];

/// Which of [`ACCEPTED`] this is.
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
    fn a_difference_is_accepted_with_both_its_values_or_not_at_all() {
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
    fn every_value_here_is_json() {
        let values = ACCEPTED.iter().flat_map(|accepted| accepted.golden.iter().chain(&accepted.ours));
        for value in values {
            assert!(serde_json::from_str::<Value>(value).is_ok(), "{value}");
        }
    }
}
