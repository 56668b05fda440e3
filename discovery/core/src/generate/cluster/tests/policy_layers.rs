//! Layers of traffic policies, and subsets.

use super::*;

#[test]
fn later_policy_layers_take_precedence() {
    let policy = json!({
        "connectionPool": {"tcp": {"maxConnections": 1}},
        "outlierDetection": {"consecutive5xxErrors": 1},
        "loadBalancer": {"simple": "RANDOM"},
        "proxyProtocol": {},
        "retryBudget": {},
        "portLevelSettings": [{"port": {"number": 81}, "loadBalancer": {"simple": "ROUND_ROBIN"}}],
    });
    let on_port = json!([{"port": {"number": 80}, "connectionPool": {"tcp": {"maxConnections": 2}}}]);
    let subset = json!({"outlierDetection": {"consecutive5xxErrors": 3}});
    let of_subset_port =
        json!({"portLevelSettings": [{"port": {"number": 80}, "loadBalancer": {"simple": "RANDOM"}}]});
    let mut with_port = policy.clone();
    with_port["portLevelSettings"] = on_port;
    // Fields of port-level settings, then those without: PROXY protocol, retry budget.
    for (rule, top, of_subset, expected) in [
        ("a port that is not this one says nothing", &policy, None, "1 1 RANDOM true true"),
        ("a port's settings are all there is", &with_port, None, "2 - LEAST_REQUEST false false"),
        ("a subset without a policy has the host's", &policy, Some(json!(null)), "1 1 RANDOM true true"),
        ("a subset's blocks win", &policy, Some(subset.clone()), "1 3 RANDOM true true"),
        ("over those of the host's port", &with_port, Some(subset), "2 3 LEAST_REQUEST false false"),
        (
            "a subset's port is all there is, but for what ports cannot say",
            &policy,
            Some(of_subset_port),
            "- - RANDOM true true",
        ),
    ] {
        let rendered = case().with(|it| {
            it.rule.traffic_policy = Some(serde_json::from_value(top.clone()).unwrap());
            let part = of_subset.as_ref().map(|policy| Subset {
                name: "v1".into(),
                traffic_policy: serde_json::from_value(policy.clone()).unwrap(),
                ..Subset::default()
            });
            it.rule.subsets = part.into_iter().collect();
        });
        let rendered = printed(&rendered.outbound(of_subset.as_ref().map(|_| "v1")));
        let limit = at(&rendered, "/circuit_breakers/thresholds/0/max_connections").as_u64().unwrap();
        let limit = if limit == u64::from(u32::MAX) { "-".to_owned() } else { limit.to_string() };
        let errors = at(&rendered, "/outlier_detection/consecutive_5xx").as_u64();
        let actual = format!(
            "{limit} {} {} {} {}",
            errors.map_or("-".to_owned(), |errors| errors.to_string()),
            at(&rendered, "/lb_policy").as_str().unwrap_or("ROUND_ROBIN"),
            !at(&rendered, "/transport_socket").is_null(),
            !at(&rendered, "/circuit_breakers/thresholds/0/retry_budget").is_null(),
        );
        assert_eq!(actual, expected, "{rule}");
    }
}

#[test]
fn subset_cluster_has_subset_metadata() {
    let rendered =
        case().with(|it| it.rule.subsets = vec![Subset { name: "v1".into(), ..Subset::default() }]);
    let rendered = printed(&rendered.outbound(Some("v1")));
    for (path, expected) in [
        ("/name", json!("outbound|80|v1|web.shop")),
        ("/eds_cluster_config/service_name", json!("outbound|80|v1|web.shop")),
        ("/metadata/filter_metadata/istio/subset", json!("v1")),
        (
            "/metadata/filter_metadata/istio/config",
            json!("/apis/networking.istio.io/v1/namespaces/shop/destination-rule/rule"),
        ),
    ] {
        assert_eq!(at(&rendered, path), &expected, "{path}");
    }
}
