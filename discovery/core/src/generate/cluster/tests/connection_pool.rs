//! Connection pools, HTTP versions and outlier detection.

use super::*;

#[test]
fn circuit_breakers_follow_connection_pool() {
    let limit = "/circuit_breakers/thresholds/0";
    let none = json!({
        "max_connections": u32::MAX, "max_pending_requests": u32::MAX, "max_requests": u32::MAX,
        "max_retries": u32::MAX, "track_remaining": true,
    });
    check("no limits without a word", json!({}), &[(limit, none)]);
    let pool = json!({"connectionPool": {
        "tcp": {"maxConnections": 1},
        "http": {"http1MaxPendingRequests": 2, "http2MaxRequests": 3, "maxRetries": 4},
    }});
    let all = json!({
        "max_connections": 1, "max_pending_requests": 2, "max_requests": 3, "max_retries": 4, "track_remaining": true,
    });
    check("limits", pool, &[(limit, all)]);
    for (budget, expected) in [
        (json!({}), json!({"budget_percent": {"value": 20.0}, "min_retry_concurrency": 3})),
        (
            json!({"percent": 50.0, "minRetryConcurrency": 9, "budgetInterval": "2s"}),
            json!({"budget_percent": {"value": 50.0}, "min_retry_concurrency": 9, "budget_interval": "2s"}),
        ),
    ] {
        check("retryBudget", json!({"retryBudget": budget}), &[(&format!("{limit}/retry_budget"), expected)]);
    }
}

#[test]
fn connection_timeouts_follow_connection_pool() {
    let common = format!("{HTTP}/common_http_protocol_options");
    let check = |pool: Value, expected: Value| {
        check("connectionPool", json!({"connectionPool": pool}), &[(&common, expected)]);
    };
    check(json!({"http": {"idleTimeout": "9s"}}), json!({"idle_timeout": "9s"}));
    check(json!({"tcp": {"idleTimeout": "8s"}}), json!({"idle_timeout": "8s"}));
    check(
        json!({"http": {"idleTimeout": "9s"}, "tcp": {"idleTimeout": "8s"}}),
        json!({"idle_timeout": "9s"}),
    );
    check(json!({"tcp": {"maxConnectionDuration": "7s"}}), json!({"max_connection_duration": "7s"}));
    check(json!({"http": {"maxRequestsPerConnection": 6}}), json!({"max_requests_per_connection": 6}));
    check(json!({"http": {"maxRequestsPerConnection": 0}}), Value::Null);
}

#[test]
fn upstream_http_version_follows_protocol_and_policy() {
    let h2 = |settings: Value| json!({"http2_protocol_options": settings});
    let streams = json!({"connectionPool": {"http": {
        "maxConcurrentStreams": 5, "http2KeepAlive": {"interval": "3s", "timeout": "2s"},
    }}});
    let limited =
        h2(json!({"max_concurrent_streams": 5, "connection_keepalive": {"interval": "3s", "timeout": "2s"}}));
    let upgrade = |policy: &str| json!({"connectionPool": {"http": {"h2UpgradePolicy": policy}}});
    let use_downstream =
        json!({"connectionPool": {"http": {"useClientProtocol": true, "h2UpgradePolicy": "UPGRADE"}}});
    for (protocol, client, policy, explicit, follows) in [
        (Protocol::Http, ClusterClient::Sidecar, json!({}), Value::Null, false),
        (Protocol::Http, ClusterClient::Sidecar, upgrade("UPGRADE"), h2(json!({})), false),
        (Protocol::Tcp, ClusterClient::Sidecar, upgrade("UPGRADE"), h2(json!({})), false),
        (Protocol::Http, ClusterClient::Sidecar, upgrade("DO_NOT_UPGRADE"), Value::Null, false),
        (Protocol::Http, ClusterClient::Sidecar, use_downstream.clone(), Value::Null, true),
        (Protocol::Grpc, ClusterClient::Sidecar, json!({}), h2(json!({})), false),
        (Protocol::Grpc, ClusterClient::Gateway, streams.clone(), limited, false),
        (Protocol::Grpc, ClusterClient::Sidecar, use_downstream, Value::Null, true),
        (Protocol::Auto, ClusterClient::Sidecar, json!({}), Value::Null, true),
        (Protocol::Auto, ClusterClient::Sidecar, upgrade("UPGRADE"), Value::Null, true),
        (Protocol::Auto, ClusterClient::Gateway, json!({}), Value::Null, false),
    ] {
        let rendered = case().with(|it| (it.protocol, it.client) = (protocol, client)).rendered(&policy);
        let actual = at(&rendered, &format!("{HTTP}/explicit_http_config"));
        let following = !at(&rendered, &format!("{HTTP}/use_downstream_protocol_config")).is_null();
        assert_eq!((actual, following), (&explicit, follows), "{protocol} {client:?} {policy}");
    }
}

#[test]
fn outlier_detection() {
    let check = |settings: Value, path: &str, expected: Value| {
        let policy = json!({"outlierDetection": settings});
        check("outlierDetection", policy, &[(&format!("/outlier_detection{path}"), expected)]);
    };
    check(json!({}), "", json!({"enforcing_success_rate": 0}));
    let stat_name_variables = json!({
        "enforcing_success_rate": 0,
        "consecutive_5xx": 3, "enforcing_consecutive_5xx": 100,
        "consecutive_gateway_failure": 0, "enforcing_consecutive_gateway_failure": 0,
    });
    check(json!({"consecutive5xxErrors": 3, "consecutiveGatewayErrors": 0}), "", stat_name_variables);
    let timed = json!({
        "enforcing_success_rate": 0, "interval": "1s", "base_ejection_time": "2s", "max_ejection_percent": 50,
    });
    check(json!({"interval": "1s", "baseEjectionTime": "2s", "maxEjectionPercent": 50}), "", timed);
    let split = json!({
        "enforcing_success_rate": 0, "split_external_local_origin_errors": true,
        "consecutive_local_origin_failure": 4, "enforcing_consecutive_local_origin_failure": 100,
        "enforcing_local_origin_success_rate": 0,
    });
    let local = json!({"splitExternalLocalOriginErrors": true, "consecutiveLocalOriginFailures": 4});
    check(local, "", split);
    check(json!({"consecutiveLocalOriginFailures": 4}), "", json!({"enforcing_success_rate": 0}));
}

#[test]
fn panic_threshold_is_set_only_by_min_health_percent() {
    for (policy, threshold) in [
        (json!({}), json!({})),
        (json!({"outlierDetection": {}}), json!({})),
        (json!({"outlierDetection": {"minHealthPercent": 30}}), json!({"value": 30.0})),
    ] {
        check("minHealthPercent", policy, &[("/common_lb_config/healthy_panic_threshold", threshold)]);
    }
}

#[test]
fn outlier_detection_http_error_codes() {
    let status = |code: &str| json!({"http_response_headers_match": {"headers": [{"name": ":status", "string_match": {"exact": code}}]}});
    for (codes, expected) in [
        (json!([]), Value::Null),
        (json!([503]), status("503")),
        (json!([429, 503]), json!({"or_match": {"rules": [status("429"), status("503")]}})),
    ] {
        let path = format!("{HTTP}/outlier_detection/error_matcher");
        let policy = json!({"outlierDetection": {"outlierDetectionHttpErrorCodes": codes}});
        check("outlierDetectionHttpErrorCodes", policy, &[(&path, expected)]);
    }
}
