//! Selection of patches for a proxy, their order, and equality of sets.

use super::*;
use crate::model::Namespace;

/// An `EnvoyFilter` that removes the cluster of its own name.
fn filter(namespace: &str, name: &str, spec: &Value) -> Patches {
    filter_of(namespace, (name, 0), spec)
}

fn filter_of(namespace: &str, (name, created): (&str, i64), spec: &Value) -> Patches {
    let mut spec = spec.clone();
    if spec.get("configPatches").is_none() {
        spec["configPatches"] =
            change("CLUSTER", &json!({"cluster": {"name": name}}), "REMOVE", &Value::Null);
    }
    Patches::parse(&meta(namespace, name, created), &serde_json::from_value(spec).unwrap()).0
}

fn select(all: &[Patches], proxy: &Proxy, labels: &[(&str, &str)]) -> PatchSet {
    let labels = labels.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect();
    PatchSet::select(all, &Namespace::from("istio-system"), proxy, &labels)
}

fn order(set: &PatchSet) -> String {
    set.iter().map(|patch| patch.object.name.to_string()).collect::<Vec<_>>().join(" ")
}

#[test]
fn priority_then_root_then_age_then_name() {
    let all = [
        filter_of("shop", ("own-b", 5), &json!({})),
        filter_of("shop", ("own-a", 5), &json!({})),
        filter_of("shop", ("own-old", 3), &json!({})),
        filter_of("shop", ("own-first", 9), &json!({"priority": -10})),
        filter_of("istio-system", ("root", 7), &json!({})),
        filter_of("istio-system", ("root-last", 1), &json!({"priority": 10})),
        filter_of("other", ("elsewhere", 1), &json!({})),
    ];
    let sidecar = proxy("sidecar", &json!({}));
    let expected = "own-first root own-old own-a own-b root-last";
    assert_eq!(order(&select(&all, &sidecar, &[])), expected);
    let reversed: Vec<Patches> = all.into_iter().rev().collect();
    assert_eq!(order(&select(&reversed, &sidecar, &[])), expected, "whatever the order they come in");
}

#[test]
fn workloads_are_chosen_by_labels_and_gateways_by_name() {
    let gateway = |name: &str, namespace: &str| json!({"targetRefs": [{"group": "gateway.networking.k8s.io", "kind": "Gateway", "name": name, "namespace": namespace}]});
    let all = [
        filter("shop", "all", &json!({})),
        filter("shop", "none-said", &json!({"workloadSelector": {}})),
        filter("shop", "a", &json!({"workloadSelector": {"labels": {"app": "a"}}})),
        filter(
            "istio-system",
            "a-v1",
            &json!({"workloadSelector": {"labels": {"app": "a", "version": "v1"}}}),
        ),
        filter("shop", "web", &gateway("web", "")),
        filter("shop", "web-here", &gateway("web", "shop")),
        filter("shop", "web-there", &gateway("web", "other")),
        filter("istio-system", "web-root", &gateway("web", "")),
    ];
    let name = "gateway.networking.k8s.io/gateway-name";
    for (labels, expected) in [
        ([].as_slice(), "all none-said"),
        (&[("app", "a")], "a all none-said"),
        (&[("app", "a"), ("version", "v1")], "a-v1 a all none-said"),
        (&[("app", "b")], "all none-said"),
        (&[(name, "web")], "all none-said web-here web"),
        (&[(name, "other")], "all none-said"),
    ] {
        assert_eq!(order(&select(&all, &proxy("router", &json!({})), labels)), expected, "{labels:?}");
    }
}

#[test]
fn proxies_are_matched_by_what_they_said() {
    let said = json!({"ISTIO_VERSION": "1.24.3", "CLUSTER_ID": "c1", "CUSTOM": "x", "COUNT": 3, "LABELS": {"app": "a"}});
    for (wanted, matched) in [
        (json!({}), true),
        (json!({"proxyVersion": r"^1\.24.*"}), true),
        (json!({"proxyVersion": "24"}), true),
        (json!({"proxyVersion": r"^1\.25.*"}), false),
        (json!({"proxyVersion": "1".repeat(1025)}), false),
        (json!({"metadata": {"CLUSTER_ID": "c1"}}), true),
        (json!({"metadata": {"CUSTOM": "x", "CLUSTER_ID": "c1"}}), true),
        (json!({"metadata": {"CUSTOM": "x", "CLUSTER_ID": "c2"}}), false),
        (json!({"metadata": {"ABSENT": "x"}}), false),
        (json!({"metadata": {"COUNT": "3"}}), false),
        (json!({"metadata": {"CUSTOM": "x"}, "proxyVersion": "^2"}), false),
    ] {
        let patches = change("CLUSTER", &json!({"proxy": wanted}), "REMOVE", &Value::Null);
        let all = [filter("shop", "f", &json!({"configPatches": patches}))];
        let set = select(&all, &proxy("sidecar", &said), &[]);
        assert_eq!(!set.clusters().is_empty(), matched, "{wanted}");
    }
    let patches = change("CLUSTER", &json!({"proxy": {"proxyVersion": ".*"}}), "REMOVE", &Value::Null);
    let all = [filter("shop", "f", &json!({"configPatches": patches}))];
    assert_eq!(select(&all, &proxy("sidecar", &json!({})), &[]), PatchSet::default(), "it said no version");
}

#[test]
fn a_proxy_has_only_what_can_be_for_its_type() {
    for (context, types) in [
        ("ANY", "sidecar router"),
        ("SIDECAR_INBOUND", "sidecar"),
        ("SIDECAR_OUTBOUND", "sidecar"),
        ("GATEWAY", "router"),
    ] {
        let patches = change("CLUSTER", &json!({"context": context}), "REMOVE", &Value::Null);
        let all = [filter("shop", "f", &json!({"configPatches": patches}))];
        for node_type in ["sidecar", "router", "waypoint", "ztunnel"] {
            let set = select(&all, &proxy(node_type, &json!({})), &[]);
            assert_eq!(!set.clusters().is_empty(), types.contains(node_type), "{context} {node_type}");
        }
    }
}

#[test]
fn parts_that_are_the_same_are_equal_whatever_else_changes() {
    fn hash(value: &impl std::hash::Hash) -> u64 {
        use std::hash::{DefaultHasher, Hasher as _};
        let mut hasher = DefaultHasher::new();
        value.hash(&mut hasher);
        hasher.finish()
    }
    let routes = |name: &str| {
        let patches = change("HTTP_ROUTE", &json!({}), "MERGE", &json!({"name": name}));
        filter("shop", "routes", &json!({"configPatches": patches}))
    };
    let clusters = filter("shop", "clusters", &json!({}));
    let sidecar = proxy("sidecar", &json!({}));
    let before = select(&[clusters.clone(), routes("a")], &sidecar, &[]);
    let after = select(&[routes("b"), clusters.clone()], &sidecar, &[("app", "other")]);
    assert_eq!((before.clusters(), hash(before.clusters())), (after.clusters(), hash(after.clusters())));
    assert_eq!(before.listeners(), after.listeners());
    assert!(before.listeners().is_empty() && before.extensions().is_empty());
    assert_ne!(before.routes(), after.routes());
    assert_ne!(before, after);
    let more = select(&[clusters, filter("shop", "more", &json!({}))], &sidecar, &[]);
    assert_ne!(before.clusters(), more.clusters());
    assert_ne!(
        select(&[filter("shop", "clusters", &json!({}))], &sidecar, &[]).clusters(),
        before.clusters(),
        "read anew"
    );
}
