use serde_json::json;

use super::*;

fn layer(source: &str, config: Value) -> Layer {
    Layer { source: source.into(), config }
}

fn read(layers: &[Value]) -> ProxyConfig {
    let layers: Vec<_> = layers.iter().map(|config| layer("test", config.clone())).collect();
    merged(&layers).unwrap()
}

#[test]
fn nothing_written_is_istios_defaults() {
    for layers in [vec![], vec![Value::Null], vec![json!({})], vec![json!({"proxyMetadata": null})]] {
        assert_eq!(read(&layers), ProxyConfig::defaults(), "{layers:?}");
    }
}

#[test]
fn the_upper_layer_wins_field_by_field() {
    let file = json!({"discoveryAddress": "file:1", "drainDuration": "1s", "extraStatTags": ["a", "b"]});
    let environment = json!({"discoveryAddress": "environment:1", "concurrency": 0});
    let annotation = json!({"discovery_address": "annotation:1", "extraStatTags": ["c"]});
    let config = read(&[file, environment, annotation]);
    assert_eq!(config.discovery_address, "annotation:1");
    assert_eq!(config.drain_duration, Some(Duration::from_secs(1)));
    assert_eq!(config.extra_stat_tags, ["c"]);
    assert_eq!(config.concurrency, Some(0));
    assert_eq!(config.proxy_admin_port, 15000);
}

#[test]
fn messages_are_replaced_but_metadata_and_headers_merged() {
    let config = read(&[
        json!({
            "tracing": {"zipkin": {"address": "zipkin:1"}, "sampling": 5}, "runtimeValues": {"a": "1"},
            "proxyMetadata": {"A": "file", "B": "file"},
            "proxyHeaders": {"server": {"value": "x"}, "requestId": {"disabled": true}},
        }),
        json!({
            "tracing": {"datadog": {"address": "datadog:1"}}, "runtimeValues": {"b": "1"},
            "proxyMetadata": {"B": "above"}, "proxyHeaders": {"server": {"disabled": true}},
        }),
    ]);
    let datadog = Collector { address: "datadog:1".into(), ..Collector::default() };
    assert_eq!(config.tracing, Some(Tracing { datadog: Some(datadog), ..Tracing::default() }));
    assert_eq!(json!(config.runtime_values), json!({"b": "1"}));
    assert_eq!(json!(config.proxy_metadata), json!({"A": "file", "B": "above"}));
    let headers = json!({"server": {"disabled": true}, "requestId": {"disabled": true}});
    assert_eq!(json!(config.proxy_headers), headers);
}

#[test]
fn the_name_of_the_cluster_is_one_of_two() {
    let rule = json!({"tracingServiceName": "CANONICAL_NAME_ONLY"});
    let by_rule = read(std::slice::from_ref(&rule));
    assert_eq!(by_rule.service_cluster, None);
    assert_eq!(by_rule.tracing_service_name, Some(TracingServiceName::CanonicalNameOnly));
    let by_name = read(&[rule, json!({"serviceCluster": "mine"})]);
    assert_eq!((by_name.service_cluster.as_deref(), by_name.tracing_service_name), (Some("mine"), None));
}

#[test]
fn keys_of_maps_are_not_field_names() {
    let config = read(&[json!({"proxy_metadata": {"a_b": "c_d"}, "runtime_values": {"re2.max_size": "1"}})]);
    assert_eq!(json!(config.proxy_metadata), json!({"a_b": "c_d"}));
    assert_eq!(json!(config.runtime_values), json!({"re2.max_size": "1"}));
}

#[test]
fn what_is_printed_is_read_back() {
    let written = json!({
        "drainDuration": "2.500s", "controlPlaneAuthPolicy": "NONE", "statNameLength": 0, "statusPort": "15999",
        "concurrency": 0, "statsCompression": false, "tracing": {}, "meshId": "",
        "envoyMetricsService": {"address": "m:1", "tlsSettings": {"mode": "MUTUAL"}, "tcpKeepalive": {"time": "5s"}},
        "connectionSettings": {"globalDownstreamConnectionLimit": 7, "httpIdleTimeout": "1s"},
        "gatewayTopology": {"num_trusted_proxies": 1},
    });
    let config = read(&[written]);
    let printed = config.to_json();
    assert_eq!(
        Value::Object(printed.clone()),
        json!({
            "binaryPath": "/usr/local/bin/envoy", "configPath": "./etc/istio/proxy", "serviceCluster": "istio-proxy",
            "discoveryAddress": "istiod.istio-system.svc:15012", "proxyAdminPort": 15000,
            "terminationDrainDuration": "5s",
            "drainDuration": "2.500s", "statusPort": 15999, "concurrency": 0, "statsCompression": false, "tracing": {},
            "envoyMetricsService": {"address": "m:1", "tlsSettings": {"mode": "MUTUAL"}, "tcpKeepalive": {"time": "5s"}},
            "connectionSettings": {"globalDownstreamConnectionLimit": 7, "httpIdleTimeout": "1s"},
            "gatewayTopology": {"numTrustedProxies": 1},
        })
    );
    assert_eq!(serde_json::from_value::<ProxyConfig>(Value::Object(printed)).unwrap(), config);
}

#[test]
fn an_unknown_field_is_kept_for_a_warning_and_not_printed() {
    let config = read(&[json!({"consulAddress": "c:1"})]);
    assert_eq!(config.unknown.keys().collect::<Vec<_>>(), ["consulAddress"]);
    assert!(!config.to_json().contains_key("consulAddress"));
}

#[test]
fn every_wrong_field_is_named_with_its_layer() {
    let errors = merged(&[
        layer("mesh file", json!({"proxyAdminPort": 70000, "drainDuration": "soon", "meshId": "ok"})),
        layer(
            "PROXY_CONFIG",
            json!({"tracing": {"tls_settings": {"mode": "MAYBE"}}, "proxyMetadata": {"A": true}}),
        ),
        layer("annotation", json!(["a"])),
    ])
    .unwrap_err();
    let mut named: Vec<_> = errors.iter().map(|e| (e.source_name.as_str(), e.field.as_str())).collect();
    named.sort_unstable();
    assert_eq!(
        named,
        [
            ("PROXY_CONFIG", "proxyMetadata.A"),
            ("PROXY_CONFIG", "tracing.tlsSettings.mode"),
            ("annotation", ""),
            ("mesh file", "drainDuration"),
            ("mesh file", "proxyAdminPort"),
        ]
    );
    let port = errors.iter().find(|e| e.field == "proxyAdminPort").unwrap();
    assert_eq!(port.to_string(), "mesh file: proxyAdminPort: 70000 is not a whole number in range");
}

#[test]
fn what_is_no_config_at_all_is_refused() {
    for config in [json!("text"), json!(3), json!(true), json!([])] {
        assert!(merged(&[layer("x", config.clone())]).is_err(), "{config}");
    }
}
