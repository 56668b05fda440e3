//! What a rule says, and what Envoy is told: one field of a route at a time, as Envoy's JSON spells it.

#![expect(clippy::needless_pass_by_value, reason = "a table of JSON reads better without a `&` before each")]

use pilot_proto::json::to_value;
use serde_json::{Value, json};

use super::*;
use crate::api::VirtualService;
use crate::api::read;
use crate::model::Namespace;
use crate::push::PushContext;
use crate::push::context::MESH;
use crate::scope::ScopeKey;
use pilot_proto::node::NodeType;

/// The routes of rules in a mesh without services.
fn translated(http: Value) -> TranslatedRoutes {
    let read = read::message::<VirtualService>("spec", &json!({"http": http})).unwrap();
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

/// A rule that sends to `b.com`, with more in it.
fn rule(more: Value) -> Value {
    let mut rule = json!({"route": [{"destination": {"host": "b.com"}}]});
    for (field, value) in more.as_object().unwrap() {
        rule[field] = value.clone();
    }
    json!([rule])
}

/// What stands at a place of the only route.
fn check(http: Value, place: &str, expected: Value) {
    let made = translated(http.clone());
    assert!(made.rejected.is_empty(), "{http}: {:?}", made.rejected);
    let [route] = made.routes.as_slice() else { panic!("{http}: {:?}", made.routes) };
    let route = to_value(route).unwrap();
    assert_eq!(route.pointer(place).unwrap_or(&Value::Null), &expected, "{http}: {route:#}");
}

fn check_match(matches: Value, place: &str, expected: Value) {
    check(rule(json!({"match": [matches]})), &format!("/match{place}"), expected);
}

/// What is wrong with a rule; it is left out or not.
fn check_rejected(http: Value, routes: usize, why: &str) {
    let made = translated(http.clone());
    let said: Vec<String> = made.rejected.iter().map(|rejected| rejected.reason.to_string()).collect();
    assert_eq!((made.routes.len(), said), (routes, vec![why.to_owned()]), "{http}");
}

#[test]
fn a_match_of_headers_says_how() {
    for (value, expected) in [
        (json!({"exact": "1"}), json!({"name": "x", "string_match": {"exact": "1"}})),
        (json!({"prefix": "1"}), json!({"name": "x", "string_match": {"prefix": "1"}})),
        (json!({"regex": "1|2"}), json!({"name": "x", "string_match": {"safe_regex": {"regex": "1|2"}}})),
        // What Envoy would refuse the whole table for, and what is meant by it.
        (json!({"regex": ""}), json!({"name": "x", "string_match": {"safe_regex": {"regex": "^$"}}})),
        (json!({"regex": "*"}), json!({"name": "x", "present_match": true})),
        (json!({"prefix": ""}), json!({"name": "x", "present_match": true})),
        (json!({}), json!({"name": "x", "present_match": true})),
    ] {
        check_match(json!({"headers": {"x": value}}), "/headers", json!([expected]));
    }
}

#[test]
fn headers_that_must_not_be_there_may_be_missing() {
    check_match(
        json!({"withoutHeaders": {"x": {"exact": "1"}}}),
        "/headers/0",
        json!({"name": "x", "string_match": {"exact": "1"}, "invert_match": true, "treat_missing_header_as_empty": true}),
    );
    // Envoy refuses the two together.
    check_match(
        json!({"withoutHeaders": {"x": {}}}),
        "/headers/0",
        json!({"name": "x", "present_match": true, "invert_match": true}),
    );
}

#[test]
fn headers_are_in_order_and_those_of_the_request_line_behind_them() {
    let matches = json!({
        "scheme": {"exact": "http"}, "authority": {"exact": "a.com"}, "method": {"exact": "GET"},
        "headers": {"b": {}, "d": {}}, "withoutHeaders": {"a": {}, "c": {}},
    });
    let made = translated(rule(json!({"match": [matches]})));
    let headers = &made.routes[0].r#match.as_ref().unwrap().headers;
    let names: Vec<&str> = headers.iter().map(|header| header.name.as_str()).collect();
    assert_eq!(names, ["a", "b", "c", "d", ":method", ":authority", ":scheme"]);
}

#[test]
fn claims_of_a_token_are_metadata() {
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
            let wanted = json!({"string_match": {"exact": "admin"}});
            let either = json!([{"list_match": {"one_of": wanted}}, wanted]);
            check_match(matches.clone(), "/dynamic_metadata/0/value/or_match/value_matchers", either);
            check_match(matches, "/headers", Value::Null);
        }
    }
    for name in ["@request.auth.claims", "@request.auth.claims.", "@request.auth.claims[]", "@request.auth"] {
        check_match(json!({"headers": {name: {}}}), "/headers/0/name", json!(name));
    }
}

#[test]
fn a_rule_for_certain_claims_is_not_for_everybody() {
    let made = translated(json!([
        {"match": [{"headers": {"@request.auth.claims.a": {"exact": "1"}}}], "route": [{"destination": {"host": "b.com"}}]},
        {"route": [{"destination": {"host": "c.com"}}]},
    ]));
    assert_eq!(made.routes.len(), 2);
}

#[test]
fn nothing_follows_what_takes_every_request() {
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
        let made =
            translated(json!([{"match": matches, "route": to("b.com")}, {"route": to("c.com")}])).routes;
        assert_eq!(made.len(), if last { 1 } else { 2 }, "{matches}");
    }
}

#[test]
fn names_are_of_the_rule_and_of_the_match() {
    for (rule_name, match_name, expected) in
        [("r", "m", json!("r.m")), ("r", "", json!("r")), ("", "m", json!(".m")), ("", "", Value::Null)]
    {
        check(rule(json!({"name": rule_name, "match": [{"name": match_name}]})), "/name", expected);
    }
    check(rule(json!({"match": [{"statPrefix": "shop"}]})), "/stat_prefix", json!("shop"));
}

#[test]
fn a_route_says_where_it_comes_from_and_what_traces_call_it() {
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
fn changes_of_headers_leave_alone_what_envoy_does_not_let_change() {
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
fn a_rewritten_host_counts_before_a_header() {
    let more = json!({"rewrite": {"authority": "c.com"}, "headers": {"request": {"set": {"host": "b.com"}}}});
    check(rule(more), "/route/host_rewrite_literal", json!("c.com"));
}

/// Beside the limit of a stream Envoy 1.40 does not look at the one of a request.
#[test]
fn a_request_has_a_limit_or_its_stream_none() {
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
fn a_copy_asks_for_the_same_host_and_is_not_traced() {
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
fn remote_localities_are_tried_too_where_a_rule_says_so() {
    let name = "envoy.retry_priorities.previous_priorities";
    for (said, expected) in [(json!(true), json!(name)), (json!(false), Value::Null)] {
        let more = json!({"retries": {"attempts": 1, "retryRemoteLocalities": said}});
        check(rule(more), "/route/retry_policy/retry_priority/name", expected);
    }
}

#[test]
fn conditions_of_retries_are_names_and_codes() {
    for (said, names, codes) in [
        ("503", "retriable-status-codes", json!([503])),
        (" 5xx , 429,", "5xx,retriable-status-codes", json!([429])),
        ("retriable-status-codes,503", "retriable-status-codes", json!([503])),
        ("reset", "reset", Value::Null),
        // No status code of HTTP.
        ("700", "700", Value::Null),
    ] {
        let more = || rule(json!({"retries": {"attempts": 1, "retryOn": said}}));
        check(more(), "/route/retry_policy/retry_on", json!(names));
        check(more(), "/route/retry_policy/retriable_status_codes", codes);
    }
}

#[test]
fn bodies_are_texts_or_bytes() {
    let respond = |body: Value| json!([{"directResponse": {"status": 200, "body": body}}]);
    let place = "/direct_response/body";
    check(respond(json!({"string": "hello"})), place, json!({"inline_string": "hello"}));
    check(respond(json!({"string": ""})), place, Value::Null);
    for text in ["aGVsbG8_Pz8+", "aGVsbG8/Pz8-"] {
        check(respond(json!({"bytes": text})), place, json!({"inline_bytes": "aGVsbG8/Pz8+"}));
    }
    for (text, padded) in [("aA", "aA=="), ("aGk=", "aGk=")] {
        check(respond(json!({"bytes": text})), place, json!({"inline_bytes": padded}));
    }
}

#[test]
fn faults_and_cross_origin_requests_are_told_to_their_filters() {
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

/// Envoy refuses a whole table for one of these; validation lets none of them through, and yet.
#[test]
fn what_envoy_would_refuse_everything_for_is_left_out() {
    for (http, why) in [
        (json!([{}]), "it has neither route nor redirect nor directResponse"),
        (
            json!([{"route": [{"destination": {"host": "b"}, "weight": 0}, {"destination": {"host": "c"}, "weight": -1}]}]),
            "no destination has a weight",
        ),
        (json!([{"route": [{}]}]), "no destination has a weight"),
        (json!([{"redirect": {"redirectCode": 304}}]), "redirectCode is not 301, 302, 303, 307 or 308"),
        (json!([{"redirect": {"port": 70_000}}]), "redirect.port is beyond 65535"),
        (json!([{"directResponse": {"status": 100}}]), "directResponse.status is not 200 to 599"),
        (
            json!([{"directResponse": {"status": 200, "body": {"bytes": "?"}}}]),
            "directResponse.body.bytes is no base64",
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
        (json!({"abort": {"grpcStatus": "GONE"}}), "fault.abort.grpcStatus is no status of gRPC"),
        (json!({"abort": {"http2Error": "x"}}), "fault.abort has neither httpStatus nor grpcStatus"),
    ] {
        check_rejected(rule(json!({"fault": fault})), 1, why);
    }
}

#[test]
fn a_rule_that_cannot_be_used_gives_its_requests_to_nobody_else() {
    let made = translated(json!([
        {"redirect": {"redirectCode": 304}},
        {"route": [{"destination": {"host": "b.com"}}]},
    ]));
    assert_eq!((made.routes.len(), made.rejected.len()), (0, 1));
}
