//! `ROUTE_CONFIGURATION`, `VIRTUAL_HOST` and `HTTP_ROUTE`.

use pilot_proto::envoy::config::listener::v3::Listener;
use pilot_proto::envoy::config::route::v3::RouteConfiguration;
use pilot_proto::envoy::extensions::filters::network::http_connection_manager::v3::HttpConnectionManager;

use super::*;

fn applied(context: Context, config_patches: &Value, before: &Value) -> (Value, Vec<Verdict>) {
    let set = set(context, config_patches);
    let ports = GatewayPorts::from([(8080, [80, 81].into())]);
    let mut outcomes = Outcomes::default();
    let before: RouteConfiguration = from_value(before).unwrap();
    let after = route_configuration(set.routes(), (context, &ports), before, &mut outcomes);
    (to_value(&after).unwrap(), verdicts(&set, &outcomes))
}

#[test]
fn route_configurations_are_told_apart_by_their_names() {
    use Context::{Gateway, SidecarInbound, SidecarOutbound};
    const HTTPS: &str = "https.443.tls-port.web.shop";
    for (context, name, wanted, concerned) in [
        (SidecarOutbound, "80", json!({}), true),
        (SidecarOutbound, "80", json!({"portNumber": 80}), true),
        (SidecarOutbound, "80", json!({"portNumber": 81}), false),
        (SidecarOutbound, "80", json!({"name": "80"}), true),
        (SidecarOutbound, "80", json!({"name": "81"}), false),
        (SidecarOutbound, "http_proxy", json!({"name": "http_proxy"}), true),
        (SidecarOutbound, "http_proxy", json!({"portNumber": 80}), false),
        // Conditions for gateways do not apply to sidecars.
        (SidecarOutbound, "80", json!({"gateway": "shop/web", "portName": "x"}), true),
        (SidecarInbound, "inbound|8080||", json!({"portNumber": 8080}), true),
        (SidecarInbound, "inbound|8080||", json!({"portNumber": 80}), false),
        (Gateway, "http.8080", json!({"portNumber": 80}), true),
        (Gateway, "http.8080", json!({"portNumber": 81}), true),
        (Gateway, "http.8080", json!({"portNumber": 8080}), false),
        (Gateway, "http.9090", json!({"portNumber": 9090}), true),
        (Gateway, "http.8080", json!({"name": "http.8080"}), true),
        (Gateway, "http.8080", json!({"gateway": "shop/web"}), false),
        (Gateway, HTTPS, json!({"gateway": "shop/web", "portName": "tls-port", "portNumber": 443}), true),
        (Gateway, HTTPS, json!({"gateway": "web/shop"}), false),
        (Gateway, HTTPS, json!({"portName": "https"}), false),
        (Gateway, "https.443.a.b.c.d", json!({"portNumber": 443}), false),
    ] {
        let about = json!({"routeConfiguration": wanted});
        let patch = change(
            "ROUTE_CONFIGURATION",
            &about,
            "MERGE",
            &json!({"most_specific_header_mutations_wins": true}),
        );
        let (after, verdicts) = applied(context, &patch, &json!({"name": name}));
        let case = format!("{wanted} of {name}");
        assert_eq!(after.get("most_specific_header_mutations_wins").is_some(), concerned, "{case}");
        assert_eq!(verdicts, [if concerned { Verdict::Applied } else { Verdict::NotMatched }], "{case}");
    }
}

#[test]
fn route_configurations_are_merged() {
    let before =
        json!({"name": "80", "request_headers_to_remove": ["a"], "max_direct_response_body_size_bytes": 9});
    let value = json!({"request_headers_to_remove": ["b"], "max_direct_response_body_size_bytes": 0});
    for (operation, headers) in [("MERGE", json!(["a", "b"])), ("MERGE_AND_REPLACE_LIST", json!(["b"]))] {
        let patch = change("ROUTE_CONFIGURATION", &json!({}), operation, &value);
        let expected = json!({"name": "80", "request_headers_to_remove": headers, "max_direct_response_body_size_bytes": 0});
        assert_eq!(applied(Context::SidecarOutbound, &patch, &before).0, expected, "{operation}");
    }
}

/// Two hosts of these routes each.
fn hosts() -> Value {
    let route = |name: &str, action: (&str, Value)| json!({"name": name, "match": {"prefix": "/"}, action.0: action.1});
    let routes = json!([
        route("to", ("route", json!({"cluster": "c"}))),
        route("away", ("redirect", json!({"path_redirect": "/"}))),
        route("no", ("direct_response", json!({"status": 403}))),
    ]);
    json!({"name": "80", "virtual_hosts": [
        {"name": "a:80", "domains": ["a", "a:80"], "routes": routes},
        {"name": "b:80", "domains": ["b"], "routes": routes},
    ]})
}

/// `a:80[to away no] b:80[...]`
fn outline(routes: &Value) -> String {
    let routes: RouteConfiguration = from_value(routes).unwrap();
    let host = |host: &pilot_proto::envoy::config::route::v3::VirtualHost| {
        format!("{}[{}]", host.name, names(host.routes.iter().map(|route| &route.name)))
    };
    routes.virtual_hosts.iter().map(host).collect::<Vec<_>>().join(" ")
}

fn check(apply_to: &str, cases: &[(&str, Value, &str)]) {
    for (operation, vhost, expected) in cases {
        let value = match (*operation, apply_to) {
            ("REMOVE", _) => Value::Null,
            (_, "HTTP_ROUTE") => json!({"name": "new", "match": {"prefix": "/new"}}),
            _ => json!({"name": "new", "domains": ["new"]}),
        };
        let patch = change(apply_to, &json!({"routeConfiguration": {"vhost": vhost}}), operation, &value);
        let (after, verdicts) = applied(Context::SidecarOutbound, &patch, &hosts());
        let case = format!("{operation} {vhost}");
        if expected.is_empty() {
            assert_eq!(
                (after, verdicts),
                (normal::<RouteConfiguration>(&hosts()), vec![Verdict::NotMatched]),
                "{case}"
            );
        } else {
            assert_eq!((outline(&after).as_str(), verdicts), (*expected, vec![Verdict::Applied]), "{case}");
        }
    }
}

#[test]
fn virtual_hosts_come_go_and_change() {
    check(
        "VIRTUAL_HOST",
        &[
            ("ADD", json!({}), "a:80[to away no] b:80[to away no] new[]"),
            ("INSERT_FIRST", json!({}), "a:80[to away no] b:80[to away no] new[]"),
            ("REMOVE", json!({"name": "a:80"}), "b:80[to away no]"),
            ("REMOVE", json!({"domainName": "b"}), "a:80[to away no]"),
            ("REMOVE", json!({}), ""),
            ("REPLACE", json!({"name": "a:80"}), "new[] b:80[to away no]"),
            ("MERGE", json!({"name": "b:80"}), "a:80[to away no] new[to away no]"),
            ("MERGE_AND_REPLACE_LIST", json!({"name": "b:80"}), "a:80[to away no] new[to away no]"),
            ("REMOVE", json!({"name": "c:80"}), ""),
            ("REPLACE", json!({"domainName": "a", "name": "b:80"}), ""),
            ("MERGE", json!({"domainName": "c"}), ""),
        ]
        .into_iter()
        .filter(|(operation, vhost, _)| (*operation, vhost) != ("REMOVE", &json!({})))
        .collect::<Vec<_>>(),
    );

    let domains = |operation: &str| {
        let about = json!({"routeConfiguration": {"vhost": {"name": "b:80"}}});
        let patch = change("VIRTUAL_HOST", &about, operation, &json!({"domains": ["c"]}));
        applied(Context::SidecarOutbound, &patch, &hosts()).0["virtual_hosts"][1]["domains"].clone()
    };
    assert_eq!((domains("MERGE"), domains("MERGE_AND_REPLACE_LIST")), (json!(["b", "c"]), json!(["c"])));
    let all = change("VIRTUAL_HOST", &json!({}), "REMOVE", &Value::Null);
    assert_eq!(applied(Context::SidecarOutbound, &all, &hosts()).0, json!({"name": "80"}));
}

#[test]
fn routes_come_and_go_where_the_operation_says() {
    const REST: &str = "b:80[to away no]";
    let about = |route: Value| json!({"name": "a:80", "route": route});
    let named = |name: &str| about(json!({"name": name}));
    let expected: Vec<(&str, Value, String)> = [
        ("ADD", json!({"name": "a:80"}), "to away no new"),
        ("INSERT_FIRST", json!({"name": "a:80"}), "new to away no"),
        ("INSERT_FIRST", named("no"), "new to away no"),
        ("INSERT_BEFORE", named("no"), "to away new no"),
        ("INSERT_BEFORE", json!({"name": "a:80"}), "new to away no"),
        ("INSERT_AFTER", named("to"), "to new away no"),
        ("INSERT_AFTER", json!({"name": "a:80"}), "to away no new"),
        ("INSERT_AFTER", about(json!({"action": "REDIRECT"})), "to away new no"),
        ("INSERT_AFTER", about(json!({})), "to new away no"),
        ("REMOVE", about(json!({"action": "ROUTE"})), "away no"),
        ("REMOVE", about(json!({"action": "DIRECT_RESPONSE"})), "to away"),
        ("REMOVE", named("away"), "to no"),
        ("REMOVE", json!({"name": "a:80"}), ""),
        ("MERGE", named("away"), "to new no"),
    ]
    .into_iter()
    .map(|(operation, vhost, routes)| (operation, vhost, format!("a:80[{routes}] {REST}")))
    .collect();
    let expected: Vec<(&str, Value, &str)> = expected
        .iter()
        .map(|(operation, vhost, outline)| (*operation, vhost.clone(), outline.as_str()))
        .collect();
    check("HTTP_ROUTE", &expected);

    let absent = || named("absent");
    check(
        "HTTP_ROUTE",
        &[
            ("INSERT_FIRST", absent(), ""),
            ("INSERT_BEFORE", absent(), ""),
            ("INSERT_AFTER", absent(), ""),
            ("REMOVE", absent(), ""),
            ("MERGE", absent(), ""),
            ("MERGE_AND_REPLACE_LIST", about(json!({"name": "to", "action": "REDIRECT"})), ""),
            ("ADD", json!({"name": "c:80"}), ""),
        ],
    );
}

#[test]
fn a_route_is_merged_with_what_it_does() {
    let about = json!({"routeConfiguration": {"vhost": {"name": "a:80", "route": {"name": "to"}}}});
    for (operation, retried) in [("MERGE", json!([503, 504])), ("MERGE_AND_REPLACE_LIST", json!([504]))] {
        let mut before = hosts();
        before["virtual_hosts"][0]["routes"][0]["route"]["retry_policy"] =
            json!({"retriable_status_codes": [503]});
        let value = json!({"route": {"timeout": "0s", "retry_policy": {"retriable_status_codes": [504]}}});
        let (after, verdicts) =
            applied(Context::SidecarOutbound, &change("HTTP_ROUTE", &about, operation, &value), &before);
        let expected =
            json!({"cluster": "c", "timeout": "0s", "retry_policy": {"retriable_status_codes": retried}});
        assert_eq!(after["virtual_hosts"][0]["routes"][0]["route"], expected, "{operation}");
        assert_eq!(after["virtual_hosts"][1], normal::<RouteConfiguration>(&before)["virtual_hosts"][1]);
        assert_eq!(verdicts, [Verdict::Applied]);
    }
}

#[test]
fn routes_inside_an_inbound_listener_are_patched_there() {
    let inbound = |routes: &Value| {
        let manager = json!({"@type": format!("type.googleapis.com/{}", HttpConnectionManager::full_name()),
            "stat_prefix": "s", "route_config": routes});
        let tcp = json!({"name": "envoy.filters.network.tcp_proxy", "typed_config": text("t")});
        json!({"name": "virtualInbound", "filter_chains": [
            {"name": "tcp", "filters": [tcp]}, {"name": "http", "filters": [tcp, {"name": MANAGER, "typed_config": manager}]},
        ]})
    };
    let mut routes = hosts();
    routes["name"] = json!("inbound|8080||");
    let before: Listener = from_value(&inbound(&routes)).unwrap();
    for (port, concerned) in [(8080, true), (80, false)] {
        let about = json!({"context": "SIDECAR_INBOUND", "routeConfiguration": {"portNumber": port, "vhost": {"name": "b:80"}}});
        let set = set(Context::SidecarInbound, &change("VIRTUAL_HOST", &about, "REMOVE", &Value::Null));
        let mut outcomes = Outcomes::default();
        let after = inline_routes(set.routes(), Context::SidecarInbound, before.clone(), &mut outcomes);
        let mut expected = routes.clone();
        if concerned {
            expected["virtual_hosts"].as_array_mut().unwrap().pop();
        }
        assert_eq!(to_value(&after).unwrap(), normal::<Listener>(&inbound(&expected)), "port {port}");
        assert_eq!(outcomes.applied().count(), usize::from(concerned));
    }
}
