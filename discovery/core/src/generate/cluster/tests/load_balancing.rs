//! Load balancing and mesh defaults.

use super::*;

#[test]
fn simple_load_balancing() {
    let check = |settings: Value, lb: Value, kind: &str| {
        check("simple", settings, &[("/lb_policy", lb), ("/type", json!(kind))]);
    };
    check(json!({}), json!("LEAST_REQUEST"), "EDS");
    for (simple, lb) in [
        ("UNSPECIFIED", json!("LEAST_REQUEST")),
        ("LEAST_CONN", json!("LEAST_REQUEST")),
        ("LEAST_REQUEST", json!("LEAST_REQUEST")),
        ("RANDOM", json!("RANDOM")),
        // Envoy's default is not printed.
        ("ROUND_ROBIN", Value::Null),
    ] {
        check(json!({"loadBalancer": {"simple": simple}}), lb, "EDS");
    }
    let passthrough = json!({"loadBalancer": {"simple": "PASSTHROUGH"}});
    check(passthrough.clone(), json!("CLUSTER_PROVIDED"), "ORIGINAL_DST");
    check_in(case(), "endpoints are not requested", &passthrough, &[("/eds_cluster_config", Value::Null)]);
}

#[test]
fn consistent_hashing() {
    let check = |hash: Value, lb: &str, ring: Value, table: Value| {
        let settings = json!({"loadBalancer": {"consistentHash": hash}});
        let expected = [
            ("/lb_policy", json!(lb)),
            ("/ring_hash_lb_config/minimum_ring_size", ring),
            ("/maglev_lb_config/table_size", table),
        ];
        check("consistentHash", settings, &expected);
    };
    check(json!({"useSourceIp": true}), "RING_HASH", json!("1024"), Value::Null);
    check(json!({"useSourceIp": true, "minimumRingSize": 7}), "RING_HASH", json!("7"), Value::Null);
    check(json!({"httpHeaderName": "x", "ringHash": {}}), "RING_HASH", Value::Null, Value::Null);
    check(json!({"ringHash": {"minimumRingSize": 9}}), "RING_HASH", json!("9"), Value::Null);
    check(json!({"maglev": {}}), "MAGLEV", Value::Null, Value::Null);
    check(json!({"maglev": {"tableSize": 11}}), "MAGLEV", Value::Null, json!("11"));
}

#[test]
fn slow_start_config_follows_warmup() {
    let warmup = json!({"duration": "30s"});
    let full = json!({"duration": "30s", "minimumPercent": 5.0, "aggression": 2.0});
    let slow = |percent: f64, aggression: f64| {
        json!({
            "slow_start_window": "30s",
            "min_weight_percent": {"value": percent},
            "aggression": {"default_value": aggression, "runtime_key": "("},
        })
    };
    for (lb, path, expected) in [
        (json!({"warmup": warmup}), "/least_request_lb_config", slow(10.0, 1.0)),
        (json!({"warmup": full, "simple": "ROUND_ROBIN"}), "/round_robin_lb_config", slow(5.0, 2.0)),
        (json!({"warmupDurationSecs": "7s"}), "/least_request_lb_config", json!({"slow_start_window": "7s"})),
        (json!({"warmup": warmup, "warmupDurationSecs": "7s"}), "/least_request_lb_config", slow(10.0, 1.0)),
        (json!({"warmup": warmup, "simple": "RANDOM"}), "/least_request_lb_config", Value::Null),
    ] {
        let path = format!("{path}{}", if expected.is_null() { "" } else { "/slow_start_config" });
        check("warmup", json!({"loadBalancer": lb}), &[(&path, expected)]);
    }
}

#[test]
fn locality_weights_apply_only_if_configured() {
    let outliers = json!({});
    let share = json!([{"from": "a/*", "to": {"a/*": 100}}]);
    for (setting, detects, expected) in [
        (json!({"distribute": share}), false, true),
        (json!({"distribute": share, "enabled": false}), false, false),
        (json!({"failover": [{"from": "a", "to": "b"}]}), false, false),
        (json!({"failover": [{"from": "a", "to": "b"}]}), true, true),
        (json!({"failoverPriority": ["app"]}), true, true),
        (json!({}), true, false),
    ] {
        let mut policy = json!({"loadBalancer": {"localityLbSetting": setting}});
        if detects {
            policy["outlierDetection"] = outliers.clone();
        }
        let weighted = if expected { json!({}) } else { Value::Null };
        check("localityLbSetting", policy, &[("/common_lb_config/locality_weighted_lb_config", weighted)]);
    }
    for (setting, expected) in [
        (json!({"minClusterSize": 3}), json!({"min_cluster_size": "3"})),
        (json!({"enabled": false}), json!({"routing_enabled": {}})),
    ] {
        let policy = json!({"loadBalancer": {"zoneAwareLbSetting": setting}});
        check("zoneAwareLbSetting", policy, &[("/common_lb_config/zone_aware_lb_config", expected)]);
    }
}

#[test]
fn mesh_defaults_apply_without_rules() {
    let share = json!({"distribute": [{"from": "a", "to": {"a": 100}}]});
    let mesh = json!({
        "connectTimeout": "3s",
        "tcpKeepalive": {"probes": 3, "time": "60s"},
        "h2UpgradePolicy": "UPGRADE",
        "localityLbSetting": share,
        "defaultTrafficPolicy": {
            "connectionPool": {"tcp": {"maxConnections": 5}}, "outlierDetection": {"consecutive5xxErrors": 9}
        },
    });
    let mesh = MeshPolicy::of(&pilot_proto::mesh::MeshConfig::from_value(mesh).unwrap());
    let meshed = || case().with(|it| it.mesh = mesh.clone());
    let h2 = format!("{HTTP}/explicit_http_config/http2_protocol_options");
    check_in(
        meshed(),
        "mesh",
        &json!({}),
        &[
            ("/connect_timeout", json!("3s")),
            ("/circuit_breakers/thresholds/0/max_connections", json!(5)),
            ("/outlier_detection/consecutive_5xx", json!(9)),
            (
                "/upstream_connection_options/tcp_keepalive",
                json!({"keepalive_probes": 3, "keepalive_time": 60}),
            ),
            ("/common_lb_config/locality_weighted_lb_config", json!({})),
            (&h2, json!({})),
        ],
    );
    let own = json!({
        "connectionPool": {
            "tcp": {"connectTimeout": "1s", "tcpKeepalive": {"probes": 4, "interval": "5.9s"}},
            "http": {"h2UpgradePolicy": "DO_NOT_UPGRADE"},
        },
        "outlierDetection": {"consecutive5xxErrors": 1},
        "loadBalancer": {"localityLbSetting": {"enabled": false}},
    });
    let keepalive = json!({"keepalive_probes": 4, "keepalive_time": 60, "keepalive_interval": 5});
    check_in(
        meshed(),
        "a rule wins, block by block; keepalive field by field",
        &own,
        &[
            ("/connect_timeout", json!("1s")),
            ("/circuit_breakers/thresholds/0/max_connections", json!(u32::MAX)),
            ("/outlier_detection/consecutive_5xx", json!(1)),
            ("/upstream_connection_options/tcp_keepalive", keepalive),
            ("/common_lb_config/locality_weighted_lb_config", Value::Null),
            (HTTP, Value::Null),
        ],
    );
    let bytes = meshed().with(|it| it.protocol = Protocol::Tcp);
    check_in(bytes, "the mesh upgrades what is HTTP", &json!({}), &[(HTTP, Value::Null)]);
}
