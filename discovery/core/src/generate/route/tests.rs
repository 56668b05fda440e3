//! HTTP rules and the resulting fields of routes, in Envoy's JSON.

#![expect(clippy::needless_pass_by_value, reason = "a table of JSON reads better without a `&` before each")]

use pilot_proto::proto3_json::to_value;
use serde_json::{Value, json};

use super::*;
use crate::api::VirtualService;
use crate::api::de;
use crate::model::Namespace;
use crate::push::PushContext;
use crate::push::context::MESH;
use crate::scope::ScopeKey;
use pilot_proto::node::NodeType;

/// Translates rules in a mesh without services.
fn translated(http: Value) -> TranslatedRoutes {
    let read = de::message::<VirtualService>("spec", &json!({"http": http})).unwrap();
    assert_eq!(read.unknown, Vec::<String>::new());
    let routing = Routing {
        name: "rules".into(),
        namespace: "shop".into(),
        created: 0,
        hosts: vec!["a.com".into()],
        gateways: vec![MESH.into()],
        export_to: Vec::new(),
        spec: read.value,
        sources: Vec::new(),
    };
    let key = ScopeKey {
        namespace: Namespace::from("shop"),
        node_type: NodeType::Sidecar,
        selected: Arc::default(),
    };
    let scope = Scope::of(&PushContext::default(), key, None);
    let rules = HttpRules::of(&Shared::from(Arc::new(routing)), &scope);
    http_routes(
        &rules,
        &RouteContext {
            gateway: MESH,
            port: 80,
            scheme: Scheme::Http,
            retries: None,
            informational_headers: InformationalHeaders::default(),
        },
    )
}

/// Returns a rule with the destination `b.com` and further fields.
fn rule(more: Value) -> Value {
    let mut rule = json!({"route": [{"destination": {"host": "b.com"}}]});
    for (field, value) in more.as_object().unwrap() {
        rule[field] = value.clone();
    }
    json!([rule])
}

/// Checks the field at a JSON pointer of the only route.
fn check(http: Value, pointer: &str, expected: Value) {
    let translated = translated(http.clone());
    assert!(translated.rejected.is_empty(), "{http}: {:?}", translated.rejected);
    let [route] = translated.routes.as_slice() else { panic!("{http}: {:?}", translated.routes) };
    let route = to_value(route).unwrap();
    assert_eq!(route.pointer(pointer).unwrap_or(&Value::Null), &expected, "{http}: {route:#}");
}

fn check_match(matches: Value, pointer: &str, expected: Value) {
    check(rule(json!({"match": [matches]})), &format!("/match{pointer}"), expected);
}

/// Checks the number of routes and the reason of the rejection.
fn check_rejected(http: Value, routes: usize, why: &str) {
    let translated = translated(http.clone());
    let reasons: Vec<String> =
        translated.rejected.iter().map(|rejected| rejected.reason.to_string()).collect();
    assert_eq!((translated.routes.len(), reasons), (routes, vec![why.to_owned()]), "{http}");
}

#[test]
fn header_match_has_the_kind_of_the_string_match() {
    for (value, expected) in [
        (json!({"exact": "1"}), json!({"name": "x", "string_match": {"exact": "1"}})),
        (json!({"prefix": "1"}), json!({"name": "x", "string_match": {"prefix": "1"}})),
        (json!({"regex": "1|2"}), json!({"name": "x", "string_match": {"safe_regex": {"regex": "1|2"}}})),
        // Envoy rejects these expressions; they mean any value.
        (json!({"regex": ""}), json!({"name": "x", "string_match": {"safe_regex": {"regex": "^$"}}})),
        (json!({"regex": "*"}), json!({"name": "x", "present_match": true})),
        (json!({"prefix": ""}), json!({"name": "x", "present_match": true})),
        (json!({}), json!({"name": "x", "present_match": true})),
    ] {
        check_match(json!({"headers": {"x": value}}), "/headers", json!([expected]));
    }
}

#[test]
fn without_headers_match_treats_missing_header_as_empty() {
    check_match(
        json!({"withoutHeaders": {"x": {"exact": "1"}}}),
        "/headers/0",
        json!({"name": "x", "string_match": {"exact": "1"}, "invert_match": true, "treat_missing_header_as_empty": true}),
    );
    // Envoy rejects the combination with a presence match.
    check_match(
        json!({"withoutHeaders": {"x": {}}}),
        "/headers/0",
        json!({"name": "x", "present_match": true, "invert_match": true}),
    );
}

#[test]
fn header_matches_are_sorted_with_pseudo_headers_last() {
    let matches = json!({
        "scheme": {"exact": "http"}, "authority": {"exact": "a.com"}, "method": {"exact": "GET"},
        "headers": {"b": {}, "d": {}}, "withoutHeaders": {"a": {}, "c": {}},
    });
    let translated = translated(rule(json!({"match": [matches]})));
    let headers = &translated.routes[0].r#match.as_ref().unwrap().headers;
    let names: Vec<&str> = headers.iter().map(|header| header.name.as_str()).collect();
    assert_eq!(names, ["a", "b", "c", "d", ":method", ":authority", ":scheme"]);
}

#[test]
fn jwt_claim_match_becomes_dynamic_metadata_match() {
    for (name, keys) in [
        ("@request.auth.claims.group", vec!["payload", "group"]),
        ("@request.auth.claims.group.id", vec!["payload", "group", "id"]),
        ("@request.auth.claims[group][a.b]", vec!["payload", "group", "a.b"]),
        ("@Request.Auth.Claims.group", vec!["payload", "group"]),
    ] {
        let path: Vec<Value> = keys.iter().map(|key| json!({"key": key})).collect();
        for (field, invert) in [("headers", Value::Null), ("withoutHeaders", json!(true))] {
            let matches = json!({field: {name: {"exact": "admin"}}});
            check_match(matches.clone(), "/dynamic_metadata/0/path", json!(path));
            check_match(matches.clone(), "/dynamic_metadata/0/invert", invert);
            check_match(matches.clone(), "/dynamic_metadata/0/filter", json!("envoy.filters.http.jwt_authn"));
            let claim_value = json!({"string_match": {"exact": "admin"}});
            let either = json!([{"list_match": {"one_of": claim_value}}, claim_value]);
            check_match(matches.clone(), "/dynamic_metadata/0/value/or_match/value_matchers", either);
            check_match(matches, "/headers", Value::Null);
        }
    }
    for name in ["@request.auth.claims", "@request.auth.claims.", "@request.auth.claims[]", "@request.auth"] {
        check_match(json!({"headers": {name: {}}}), "/headers/0/name", json!(name));
    }
}

#[test]
fn rule_with_jwt_claims_does_not_match_every_request() {
    let translated = translated(json!([
        {"match": [{"headers": {"@request.auth.claims.a": {"exact": "1"}}}], "route": [{"destination": {"host": "b.com"}}]},
        {"route": [{"destination": {"host": "c.com"}}]},
    ]));
    assert_eq!(translated.routes.len(), 2);
}

#[test]
fn no_route_follows_one_that_matches_every_request() {
    for (matches, last) in [
        (json!([]), true),
        (json!([{}]), true),
        (json!([{"name": "all"}]), true),
        (json!([{"uri": {"prefix": "/"}}]), true),
        (json!([{"uri": {"regex": ".*"}}]), true),
        (json!([{"uri": {"prefix": "/x"}}]), false),
        (json!([{"uri": {"exact": "/"}}]), false),
        (json!([{"uri": {"prefix": "/"}, "method": {"exact": "GET"}}]), false),
        (json!([{"queryParams": {"q": {}}}]), false),
        (json!([{"uri": {"prefix": "/"}}, {"uri": {"prefix": "/x"}}]), true),
    ] {
        let to = |host: &str| json!([{"destination": {"host": host}}]);
        let translated =
            translated(json!([{"match": matches, "route": to("b.com")}, {"route": to("c.com")}])).routes;
        assert_eq!(translated.len(), if last { 1 } else { 2 }, "{matches}");
    }
}

#[test]
fn route_name_combines_rule_and_match_names() {
    for (rule_name, match_name, expected) in
        [("r", "m", json!("r.m")), ("r", "", json!("r")), ("", "m", json!(".m")), ("", "", Value::Null)]
    {
        check(rule(json!({"name": rule_name, "match": [{"name": match_name}]})), "/name", expected);
    }
    check(rule(json!({"match": [{"statPrefix": "shop"}]})), "/stat_prefix", json!("shop"));
}

#[test]
fn route_has_config_metadata_and_decorator_operation() {
    let origin = json!("/apis/networking.istio.io/v1/namespaces/shop/virtual-service/rules");
    check(rule(json!({})), "/metadata/filter_metadata/istio/config", origin);
    let two = json!([{"destination": {"host": "b.com"}, "weight": 1}, {"destination": {"host": "c.com"}, "weight": 1}]);
    for (more, expected) in [
        (json!({}), "b.com:80/*"),
        (json!({"match": [{"uri": {"prefix": "/x"}}]}), "b.com:80/x*"),
        (json!({"match": [{"uri": {"exact": "/x"}}]}), "b.com:80/x"),
        (json!({"match": [{"uri": {"regex": "/x.*"}}]}), "b.com:80/x.*"),
        (json!({"route": two}), "rules:80/*"),
        (json!({"redirect": {"uri": "/y"}}), "rules:80/*"),
    ] {
        check(rule(more), "/decorator/operation", json!(expected));
    }
}

#[test]
fn header_operations_skip_pseudo_headers_and_host() {
    let operations = json!({
        "set": {"x": "1", ":path": "/", "Host": "b.com"}, "add": {"y": "2"}, "remove": ["z", "host", ":method"],
    });
    let added = json!([
        {"header": {"key": "x", "value": "1"}, "append_action": "OVERWRITE_IF_EXISTS_OR_ADD"},
        {"header": {"key": "y", "value": "2"}},
    ]);
    for (of, add, remove) in [
        ("request", "/request_headers_to_add", "/request_headers_to_remove"),
        ("response", "/response_headers_to_add", "/response_headers_to_remove"),
    ] {
        let headers = json!({"headers": {of: operations}});
        check(rule(headers.clone()), add, added.clone());
        check(rule(headers), remove, json!(["z"]));
    }
    let host = |of: &str| rule(json!({"headers": {of: operations}}));
    check(host("request"), "/route/host_rewrite_literal", json!("b.com"));
    check(host("response"), "/route/host_rewrite_literal", Value::Null);
}

#[test]
fn host_rewrite_takes_precedence_over_host_header() {
    let more = json!({"rewrite": {"authority": "c.com"}, "headers": {"request": {"set": {"host": "b.com"}}}});
    check(rule(more), "/route/host_rewrite_literal", json!("c.com"));
}

/// With `max_stream_duration` Envoy 1.40 ignores `timeout`.
#[test]
fn route_has_timeout_or_unlimited_stream_duration() {
    let none = json!({"max_stream_duration": "0s", "grpc_timeout_header_max": "0s"});
    for (more, limit, stream) in [
        (json!({"timeout": "1.5s"}), json!("1.500s"), Value::Null),
        (json!({"timeout": "0s"}), json!("0s"), none.clone()),
        (json!({}), json!("0s"), none),
    ] {
        check(rule(more.clone()), "/route/timeout", limit);
        check(rule(more), "/route/max_stream_duration", stream);
    }
}

#[test]
fn mirror_keeps_host_and_is_not_traced() {
    let mirror = json!({"mirror": {"host": "c.com", "subset": "v1"}, "mirrorPercentage": {"value": 33.3}});
    check(
        rule(mirror),
        "/route/request_mirror_policies",
        json!([{
            "cluster": "outbound|80|v1|c.com",
            "runtime_fraction": {"default_value": {"numerator": 333_000, "denominator": "MILLION"}},
            "trace_sampled": false,
            "disable_shadow_host_suffix_append": true,
        }]),
    );
}

#[test]
fn retry_remote_localities_sets_previous_priorities() {
    let name = "envoy.retry_priorities.previous_priorities";
    for (value, expected) in [(json!(true), json!(name)), (json!(false), Value::Null)] {
        let more = json!({"retries": {"attempts": 1, "retryRemoteLocalities": value}});
        check(rule(more), "/route/retry_policy/retry_priority/name", expected);
    }
}

#[test]
fn retry_on_splits_into_conditions_and_status_codes() {
    for (value, names, codes) in [
        ("503", "retriable-status-codes", json!([503])),
        (" 5xx , 429,", "5xx,retriable-status-codes", json!([429])),
        ("retriable-status-codes,503", "retriable-status-codes", json!([503])),
        ("reset", "reset", Value::Null),
        // Not an HTTP status code.
        ("700", "700", Value::Null),
    ] {
        let more = || rule(json!({"retries": {"attempts": 1, "retryOn": value}}));
        check(more(), "/route/retry_policy/retry_on", json!(names));
        check(more(), "/route/retry_policy/retriable_status_codes", codes);
    }
}

#[test]
fn direct_response_body_is_string_or_bytes() {
    let respond = |body: Value| json!([{"directResponse": {"status": 200, "body": body}}]);
    let pointer = "/direct_response/body";
    check(respond(json!({"string": "hello"})), pointer, json!({"inline_string": "hello"}));
    check(respond(json!({"string": ""})), pointer, Value::Null);
    for text in ["aGVsbG8_Pz8+", "aGVsbG8/Pz8-"] {
        check(respond(json!({"bytes": text})), pointer, json!({"inline_bytes": "aGVsbG8/Pz8+"}));
    }
    for (text, padded) in [("aA", "aA=="), ("aGk=", "aGk=")] {
        check(respond(json!({"bytes": text})), pointer, json!({"inline_bytes": padded}));
    }
}

#[test]
fn fault_and_cors_are_per_filter_config() {
    let config = |name: &str| format!("/typed_per_filter_config/envoy.filters.http.{name}");
    let fault = json!({"fault": {
        "delay": {"fixedDelay": "5s", "percentage": {"value": 0.01}}, "abort": {"grpcStatus": "NOT_FOUND", "percentage": {"value": 200.0}},
    }});
    check(
        rule(fault),
        &config("fault"),
        json!({
            "@type": "type.googleapis.com/envoy.extensions.filters.http.fault.v3.HTTPFault",
            "delay": {"fixed_delay": "5s", "percentage": {"numerator": 100, "denominator": "MILLION"}},
            "abort": {"grpc_status": 5, "percentage": {"numerator": 1_000_000, "denominator": "MILLION"}},
        }),
    );
    let cors = json!({"corsPolicy": {
        "allowOrigins": [{"exact": "http://x.com"}, {"regex": ".*\\.y\\.com"}, {}], "allowMethods": ["GET", "PUT"],
        "allowHeaders": ["a", "b"], "exposeHeaders": ["c"], "maxAge": "86400s", "allowCredentials": true,
    }});
    check(
        rule(cors),
        &config("cors"),
        json!({
            "@type": "type.googleapis.com/envoy.extensions.filters.http.cors.v3.CorsPolicy",
            "allow_origin_string_match":
                [{"exact": "http://x.com"}, {"safe_regex": {"regex": ".*\\.y\\.com"}}, {"safe_regex": {"regex": ".*"}}],
            "allow_methods": "GET,PUT",
            "allow_headers": "a,b",
            "expose_headers": "c",
            "max_age": "86400",
            "allow_credentials": true,
            "filter_enabled": {"default_value": {"numerator": 100}},
            "forward_not_matching_preflights": true,
        }),
    );
}

/// Envoy rejects a whole route configuration for one of these. Validation rejects them as well.
#[test]
fn rules_that_envoy_rejects_are_omitted() {
    for (http, why) in [
        (json!([{}]), "the rule has neither route nor redirect nor directResponse"),
        (
            json!([{"route": [{"destination": {"host": "b"}, "weight": 0}, {"destination": {"host": "c"}, "weight": -1}]}]),
            "no destination has a weight",
        ),
        (json!([{"route": [{}]}]), "no destination has a weight"),
        (json!([{"redirect": {"redirectCode": 304}}]), "redirectCode is not 301, 302, 303, 307 or 308"),
        (json!([{"redirect": {"port": 70_000}}]), "redirect.port is greater than 65535"),
        (json!([{"directResponse": {"status": 100}}]), "directResponse.status is not 200 to 599"),
        (
            json!([{"directResponse": {"status": 200, "body": {"bytes": "?"}}}]),
            "directResponse.body.bytes is not base64",
        ),
        (
            json!([{"directResponse": {"status": 200, "body": {"string": "x".repeat(1024 * 1024 + 1)}}}]),
            "directResponse.body is longer than 1 MiB",
        ),
    ] {
        check_rejected(http, 0, why);
    }
    for (fault, why) in [
        (json!({"delay": {"percent": 10}}), "fault.delay has no fixedDelay"),
        (json!({"abort": {"httpStatus": 42}}), "fault.abort.httpStatus is not 200 to 599"),
        (json!({"abort": {"grpcStatus": "GONE"}}), "fault.abort.grpcStatus is not a gRPC status"),
        (json!({"abort": {"http2Error": "x"}}), "fault.abort has neither httpStatus nor grpcStatus"),
    ] {
        check_rejected(rule(json!({"fault": fault})), 1, why);
    }
}

#[test]
fn unusable_rule_without_match_ends_the_routes() {
    let translated = translated(json!([
        {"redirect": {"redirectCode": 304}},
        {"route": [{"destination": {"host": "b.com"}}]},
    ]));
    assert_eq!((translated.routes.len(), translated.rejected.len()), (0, 1));
}
