//! `node.cluster`: the name a proxy goes by in spans and in statistics about it.

use std::collections::BTreeMap;

use pilot_proto::mesh::proxy_config::{ProxyConfig, TracingServiceName};
use pilot_proto::node::NodeMetadata;

/// A proxy that nothing names.
const UNNAMED: &str = "istio-proxy";
/// In this order since Istio 1.0; users have dashboards over it.
const APP: [&str; 3] = ["app", "app.kubernetes.io/name", CANONICAL_NAME];
/// The canonical service's own order.
const CANONICAL: [&str; 3] = [CANONICAL_NAME, "app.kubernetes.io/name", "app"];
const CANONICAL_NAME: &str = "service.istio.io/canonical-name";

/// Returns the name of the proxy's cluster, by the rule of its `ProxyConfig`.
pub(super) fn name(proxy: &ProxyConfig, metadata: &NodeMetadata) -> String {
    let namespace = metadata.namespace.as_deref().unwrap_or_default();
    let canonical = || {
        let workload = metadata.workload_name.as_deref().filter(|name| !name.is_empty());
        first(&metadata.labels, CANONICAL).or(workload).unwrap_or(UNNAMED)
    };
    match proxy.tracing_service_name {
        None => or_default(proxy.service_cluster.as_deref().unwrap_or_default(), metadata, namespace),
        Some(TracingServiceName::AppLabelAndNamespace) => or_default(UNNAMED, metadata, namespace),
        Some(TracingServiceName::CanonicalNameAndNamespace) if !namespace.is_empty() => {
            format!("{}.{namespace}", canonical())
        }
        Some(TracingServiceName::CanonicalNameOnly | TracingServiceName::CanonicalNameAndNamespace) => {
            or_default(canonical(), metadata, namespace)
        }
    }
}

fn or_default(name: &str, metadata: &NodeMetadata, namespace: &str) -> String {
    if !name.is_empty() && name != UNNAMED {
        return name.to_owned();
    }
    let workload = metadata.workload_name.as_deref().filter(|name| !name.is_empty());
    match first(&metadata.labels, APP).or(workload) {
        Some(name) => format!("{name}.{namespace}"),
        None if namespace.is_empty() => UNNAMED.to_owned(),
        None => format!("{UNNAMED}.{namespace}"),
    }
}

fn first<'a>(labels: &'a BTreeMap<String, String>, keys: [&str; 3]) -> Option<&'a str> {
    keys.into_iter().find_map(|key| labels.get(key)).map(String::as_str)
}

#[cfg(test)]
mod tests {
    use TracingServiceName::{AppLabelAndNamespace, CanonicalNameAndNamespace, CanonicalNameOnly};
    use serde_json::json;

    use super::*;

    #[test]
    fn the_rule_decides() {
        let app = json!({"app": "app", "service.istio.io/canonical-name": "canonical"});
        for (service_cluster, rule, labels, workload, namespace, name) in [
            ("", None, json!({}), "", "", "istio-proxy"),
            ("mine", None, app.clone(), "workload", "ns", "mine"),
            ("istio-proxy", None, app.clone(), "workload", "ns", "app.ns"),
            ("istio-proxy", None, json!({"service.istio.io/canonical-name": "c"}), "workload", "ns", "c.ns"),
            ("istio-proxy", None, json!({}), "workload", "ns", "workload.ns"),
            ("istio-proxy", None, json!({}), "", "ns", "istio-proxy.ns"),
            ("", Some(AppLabelAndNamespace), app.clone(), "workload", "ns", "app.ns"),
            ("", Some(CanonicalNameOnly), app.clone(), "workload", "ns", "canonical"),
            ("", Some(CanonicalNameOnly), json!({}), "workload", "ns", "workload"),
            ("", Some(CanonicalNameOnly), json!({}), "", "ns", "istio-proxy.ns"),
            ("", Some(CanonicalNameAndNamespace), app.clone(), "workload", "ns", "canonical.ns"),
            ("", Some(CanonicalNameAndNamespace), app, "", "", "canonical"),
            ("", Some(CanonicalNameAndNamespace), json!({}), "", "ns", "istio-proxy.ns"),
        ] {
            let proxy = ProxyConfig {
                service_cluster: Some(service_cluster.into()),
                tracing_service_name: rule,
                ..ProxyConfig::default()
            };
            let metadata: NodeMetadata = serde_json::from_value(
                json!({"LABELS": labels, "WORKLOAD_NAME": workload, "NAMESPACE": namespace}),
            )
            .unwrap();
            assert_eq!(super::name(&proxy, &metadata), name, "{rule:?} {labels}");
        }
    }
}
