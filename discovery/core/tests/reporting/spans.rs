//! Where spans go, and what they say.

use std::collections::BTreeMap;

use pilot_core::model::Proxy;
use serde_json::{Value, json};

use crate::fixture::*;
use crate::{HTTP, client, filters, listeners, mesh_of, telemetry};

/// `tracing` of HTTP that leaves and that arrives.
fn traces(config: &str, objects: &str, proxy: &Proxy) -> [Value; 2] {
    let found = listeners(&mesh_of(config, objects).push(), proxy);
    ["0.0.0.0_80", "virtualInbound"].map(|name| filters(&found[name], HTTP)[0]["tracing"].clone())
}

#[test]
fn spans_go_where_they_are_told() {
    let object = |spec: &str| telemetry("istio-system/mesh", &format!("{{tracing: [{spec}]}}"));
    let of = |name: &str| {
        let [client, server] = traces("", &object(&format!("{{providers: [{{name: {name}}}]}}")), &client());
        assert_eq!(client, server);
        client
    };
    let cluster = |port: u16| format!("outbound|{port}||spans.infra.svc.cluster.local");
    let zipkin = of("zipkin");
    let config = &zipkin["provider"]["typed_config"];
    assert_eq!(
        (&config["collector_cluster"], &config["collector_endpoint"]),
        (&json!(cluster(9411)), &json!("/api/v2/spans"))
    );
    assert_eq!((&config["trace_id_128bit"], &zipkin["max_path_tag_length"]), (&json!(true), &json!(64)));
    assert_eq!(
        (&zipkin["random_sampling"], &zipkin["client_sampling"]),
        (&json!({"value": 1.0}), &json!({"value": 100.0}))
    );
    let posted = &of("posted")["provider"]["typed_config"]["collector_service"];
    assert_eq!(
        posted["http_uri"],
        json!({"uri": "http://spans.infra.svc.cluster.local/api/v2/spans", "cluster": cluster(9411), "timeout": "2s"})
    );
    assert_eq!(posted["request_headers_to_add"][0]["header"], json!({"key": "k", "value": "v"}));
    let otlp = &of("otlp")["provider"]["typed_config"];
    assert_eq!(otlp["grpc_service"]["envoy_grpc"]["cluster_name"], json!(cluster(4317)));
    assert_eq!(otlp["service_name"], "shop.default");
    let http = &of("otlphttp")["provider"]["typed_config"]["http_service"]["http_uri"];
    assert_eq!(
        http,
        &json!({"uri": "spans.infra.svc.cluster.local/v1/traces", "cluster": cluster(9411), "timeout": "10s"})
    );
    assert_eq!(of("dog")["provider"]["typed_config"]["collector_cluster"], json!(cluster(9411)));
    assert_eq!(of("sky")["spawn_upstream_span"], json!(true));
    for nowhere in ["lost", "nobody", "file"] {
        assert_eq!(of(nowhere), Value::Null, "{nowhere}");
    }
    let [off, on] = traces(
        "defaultProviders: {tracing: [zipkin]}",
        &object("{match: {mode: CLIENT}, disableSpanReporting: true}"),
        &client(),
    );
    assert_eq!((off, on["provider"]["name"].as_str()), (Value::Null, Some("envoy.tracers.zipkin")));
}

#[test]
fn spans_say_who_they_are_of_and_what_users_want() {
    let tags = "{literal: {literal: {value: l}}, env: {environment: {name: E, defaultValue: d}}, head: {header: {name: h}}, form: {formatter: {value: '%PROTOCOL%'}}}";
    let object = telemetry(
        "istio-system/mesh",
        &format!(
            "{{tracing: [{{providers: [{{name: zipkin}}], customTags: {tags}, randomSamplingPercentage: 12.5, useRequestIdForTraceSampling: false, disableContextPropagation: true}}]}}"
        ),
    );
    let mut proxy = client();
    proxy.metadata.mesh_id = Some("m".into());
    proxy.metadata.labels.insert("service.istio.io/canonical-name".into(), "web".into());
    let [found, _] = traces("", &object, &proxy);
    let tags: BTreeMap<String, String> = found["custom_tags"]
        .as_array()
        .unwrap()
        .iter()
        .map(|tag| {
            let mut rest = tag.as_object().unwrap().clone();
            let name = rest.remove("tag").unwrap();
            (name.as_str().unwrap().to_owned(), Value::Object(rest).to_string())
        })
        .collect();
    let literal = |value: &str| json!({"literal": {"value": value}}).to_string();
    for (name, said) in [
        ("istio.canonical_revision", literal("latest")),
        ("istio.canonical_service", literal("web")),
        ("istio.cluster_id", literal("unknown")),
        ("istio.mesh_id", literal("m")),
        ("istio.namespace", literal("default")),
        ("literal", literal("l")),
        ("env", json!({"environment": {"name": "E", "default_value": "d"}}).to_string()),
        ("head", json!({"request_header": {"name": "h"}}).to_string()),
        ("form", json!({"value": "%PROTOCOL%"}).to_string()),
    ] {
        assert_eq!(tags.get(name), Some(&said), "{name}");
    }
    assert_eq!(tags.len(), 9);
    assert_eq!(
        (&found["random_sampling"], &found["no_context_propagation"]),
        (&json!({"value": 12.5}), &json!(true))
    );
    let all = listeners(&mesh_of("", &object).push(), &proxy);
    let manager = filters(&all["0.0.0.0_80"], HTTP)[0];
    let by_id = texts(&manager["request_id_extension"], "@type");
    assert_eq!(
        manager["request_id_extension"]["typed_config"]["use_request_id_for_trace_sampling"],
        json!(false),
        "{by_id:?}"
    );
}

#[test]
fn the_tracer_of_the_bootstrap_is_used_where_there_is_one() {
    // Tags tell proxies apart: without a tracer they would only keep them from sharing listeners.
    assert_eq!(traces("", "", &client()), [Value::Null, Value::Null]);
    let mut proxy = client();
    proxy.metadata.proxy_config = Some(json!({"tracing": {
        "zipkin": {"address": "zipkin:9411"}, "sampling": 40, "maxPathTagLength": 99, "enableIstioTags": false,
        "customTags": {"a": {"header": {"name": "x-a", "defaultValue": "none"}}},
    }}));
    let [client, server] = traces("", "", &proxy);
    assert_eq!(client, server);
    assert_eq!(
        client,
        json!({
            "client_sampling": {"value": 100.0}, "random_sampling": {"value": 40.0}, "overall_sampling": {"value": 100.0},
            "max_path_tag_length": 99,
            "custom_tags": [{"tag": "a", "request_header": {"name": "x-a", "default_value": "none"}}],
        })
    );
    assert_eq!(traces("enableTracing: false", "", &proxy), [Value::Null, Value::Null]);
    assert_eq!(
        traces("defaultConfig: {tracing: {sampling: 7}}", "", &self::client())[0]["random_sampling"],
        json!({"value": 7.0})
    );
}
