//! `HTTP_FILTER` and `NETWORK_FILTER`: what becomes of the order and of the configuration of filters.

use pilot_proto::envoy::config::listener::v3::Listener;
use pilot_proto::envoy::extensions::filters::network::http_connection_manager::v3::HttpConnectionManager;

use super::*;

/// Returns a listener with one chain and these HTTP filters.
fn with_http_filters(filters: &Value) -> Value {
    json!({"name": "0.0.0.0_80", "filter_chains": chains(&json!([
        {"name": MANAGER, "typed_config": {
            "@type": format!("type.googleapis.com/{}", HttpConnectionManager::full_name()),
            "stat_prefix": "s", "http_filters": filters,
        }},
    ]))})
}

fn applied(config_patches: &Value, before: &Value) -> (Value, Vec<Verdict>) {
    let set = set(Context::SidecarOutbound, config_patches);
    let mut outcomes = Outcomes::default();
    let before: Listener = from_value(before).unwrap();
    let after = listener(set.listeners(), Context::SidecarOutbound, before, &mut outcomes).unwrap();
    (to_value(&after).unwrap(), verdicts(&set, &outcomes))
}

fn http_filters(listener: &Value) -> &Value {
    &listener["filter_chains"][0]["filters"][0]["typed_config"]["http_filters"]
}

fn names_of(filters: &Value) -> String {
    let names = filters.as_array().unwrap().iter().map(|filter| filter["name"].as_str().unwrap());
    names.collect::<Vec<_>>().join(" ")
}

/// About the HTTP filter of this name, or about any.
fn about(filter: &str) -> Value {
    let mut manager = json!({"name": MANAGER});
    if !filter.is_empty() {
        manager["subFilter"] = json!({"name": filter});
    }
    json!({"listener": {"filterChain": {"filter": manager}}})
}

#[test]
fn http_filters_come_and_go_where_the_operation_says() {
    let router = "envoy.filters.http.router";
    for (operation, anchor, expected) in [
        ("ADD", "", "cors fault envoy.filters.http.router new"),
        ("INSERT_FIRST", "", "new cors fault envoy.filters.http.router"),
        ("INSERT_FIRST", "absent", "new cors fault envoy.filters.http.router"),
        ("INSERT_BEFORE", router, "cors fault new envoy.filters.http.router"),
        ("INSERT_BEFORE", "envoy.router", "cors fault new envoy.filters.http.router"),
        ("INSERT_BEFORE", "", "new cors fault envoy.filters.http.router"),
        ("INSERT_AFTER", "cors", "cors new fault envoy.filters.http.router"),
        ("INSERT_AFTER", router, "cors fault envoy.filters.http.router new"),
        ("INSERT_AFTER", "", "cors fault envoy.filters.http.router new"),
        ("REPLACE", "fault", "cors new envoy.filters.http.router"),
        ("REMOVE", "fault", "cors envoy.filters.http.router"),
        // Not matched: the anchor does not exist, or is not set.
        ("INSERT_BEFORE", "absent", ""),
        ("INSERT_AFTER", "absent", ""),
        ("REPLACE", "absent", ""),
        ("REPLACE", "", ""),
        ("REMOVE", "absent", ""),
        ("REMOVE", "", ""),
    ] {
        let before = with_http_filters(&named("cors fault envoy.filters.http.router"));
        let value = if operation == "REMOVE" { Value::Null } else { named("new")[0].clone() };
        let (after, verdicts) = applied(&change("HTTP_FILTER", &about(anchor), operation, &value), &before);
        let case = format!("{operation} {anchor}");
        if expected.is_empty() {
            assert_eq!((after, verdicts), (normal::<Listener>(&before), vec![Verdict::NotMatched]), "{case}");
        } else {
            assert_eq!(names_of(http_filters(&after)), expected, "{case}");
            assert_eq!(verdicts, [Verdict::Applied], "{case}");
        }
    }
}

#[test]
fn network_filters_come_and_go_where_the_operation_says() {
    let about = |filter: &str| match filter {
        "" => json!({"listener": {"filterChain": {}}}),
        name => json!({"listener": {"filterChain": {"filter": {"name": name}}}}),
    };
    for (operation, anchor, expected) in [
        ("ADD", "", "a b new"),
        ("ADD", "absent", "a b new"),
        ("INSERT_FIRST", "b", "new a b"),
        ("INSERT_BEFORE", "b", "a new b"),
        ("INSERT_BEFORE", "", "new a b"),
        ("INSERT_AFTER", "a", "a new b"),
        ("INSERT_AFTER", "", "a b new"),
        ("REPLACE", "a", "new b"),
        ("REMOVE", "a", "b"),
        ("INSERT_BEFORE", "absent", ""),
        ("INSERT_AFTER", "absent", ""),
        ("REPLACE", "absent", ""),
        ("REPLACE", "", ""),
        ("REMOVE", "absent", ""),
        ("REMOVE", "", ""),
    ] {
        let before = json!({"name": "l", "filter_chains": chains(&named("a b"))});
        let value = if operation == "REMOVE" { Value::Null } else { named("new")[0].clone() };
        let (after, verdicts) =
            applied(&change("NETWORK_FILTER", &about(anchor), operation, &value), &before);
        let case = format!("{operation} {anchor}");
        let (expected, verdict) =
            if expected.is_empty() { ("a b", Verdict::NotMatched) } else { (expected, Verdict::Applied) };
        assert_eq!(names_of(&after["filter_chains"][0]["filters"]), expected, "{case}");
        assert_eq!(verdicts, [verdict], "{case}");
    }
}

#[test]
fn a_filter_of_a_class_finds_its_place_among_the_generated_ones() {
    let jwt = "envoy.filters.http.jwt_authn";
    let rbac = "envoy.filters.http.rbac";
    let stats = "envoy.filters.http.grpc_stats";
    let all = format!("{jwt} {rbac} {stats} cors router");
    for (class, before, expected) in [
        ("AUTHN", all.clone(), format!("{jwt} new1 new2 {rbac} {stats} cors router")),
        ("AUTHZ", all.clone(), format!("{jwt} {rbac} new1 new2 {stats} cors router")),
        ("STATS", all.clone(), format!("{jwt} {rbac} new1 new2 {stats} cors router")),
        ("UNSPECIFIED", all, format!("{jwt} {rbac} {stats} cors router new1 new2")),
        ("AUTHN", "cors router".into(), "new1 new2 cors router".into()),
        ("AUTHZ", format!("{jwt} router"), format!("{jwt} new1 new2 router")),
        ("STATS", "cors router".into(), "cors new1 new2 router".into()),
        ("STATS", String::new(), "new1 new2".into()),
    ] {
        let adding = |name: &str| {
            let patch = json!({"operation": "ADD", "filterClass": class, "value": named(name)[0]});
            json!({"applyTo": "HTTP_FILTER", "match": about(""), "patch": patch})
        };
        let patches = json!([adding("new1"), adding("new2")]);
        let (after, _) = applied(&patches, &with_http_filters(&named(&before)));
        assert_eq!(names_of(http_filters(&after)), expected, "{class} among {before}");
    }
}

#[test]
fn a_configuration_is_merged_into_that_of_the_same_type() {
    let fault = |extra: &Value| {
        let mut fault =
            json!({"@type": "type.googleapis.com/envoy.extensions.filters.http.fault.v3.HTTPFault"});
        fault.as_object_mut().unwrap().extend(extra.as_object().unwrap().clone());
        json!([{"name": "fault", "typed_config": fault}])
    };
    let before = fault(&json!({"max_active_faults": 1, "upstream_cluster": "u", "downstream_nodes": ["a"],
        "delay": {"fixed_delay": "1.500s", "percentage": {"numerator": 3}}}));
    let overlay =
        fault(&json!({"max_active_faults": 0, "downstream_nodes": ["b"], "delay": {"fixed_delay": "2s"}}));
    let merged = |nodes: Value| {
        fault(&json!({"max_active_faults": 0, "upstream_cluster": "u", "downstream_nodes": nodes,
            "delay": {"fixed_delay": "2s", "percentage": {"numerator": 3}}}))
    };
    for (operation, expected) in
        [("MERGE", merged(json!(["a", "b"]))), ("MERGE_AND_REPLACE_LIST", merged(json!(["b"])))]
    {
        let patch = change("HTTP_FILTER", &about("fault"), operation, &overlay[0]);
        let (after, verdicts) = applied(&patch, &with_http_filters(&before));
        assert_eq!(verdicts, [Verdict::Applied]);
        assert_eq!(after, normal::<Listener>(&with_http_filters(&expected)), "{operation}");
    }

    let renamed = change("HTTP_FILTER", &about("fault"), "MERGE", &json!({"name": "other"}));
    let mut expected = before.clone();
    expected[0]["name"] = json!("other");
    assert_eq!(
        applied(&renamed, &with_http_filters(&before)).0,
        normal::<Listener>(&with_http_filters(&expected))
    );
}

#[test]
fn what_does_not_fit_changes_nothing_and_is_told() {
    let lua = json!({"name": "new", "typed_config": {"@type": "type.googleapis.com/envoy.extensions.filters.http.lua.v3.Lua"}});
    let before = with_http_filters(&named("cors"));
    let (after, verdicts) = applied(&change("HTTP_FILTER", &about("cors"), "MERGE", &lua), &before);
    assert_eq!(after, normal::<Listener>(&before));
    let reason = "envoy.extensions.filters.http.lua.v3.Lua cannot be merged into google.protobuf.StringValue";
    assert_eq!(verdicts, [Verdict::Failed(reason.into())]);

    // Found elsewhere, by configuration discovery: there is nothing to merge into.
    let discovered = with_http_filters(&json!([{"name": "cors", "config_discovery": {"type_urls": ["x"]}}]));
    let (after, verdicts) = applied(&change("HTTP_FILTER", &about("cors"), "MERGE", &lua), &discovered);
    assert_eq!((after, verdicts), (normal::<Listener>(&discovered), vec![Verdict::NotMatched]));

    // A manager that is none.
    let odd =
        json!({"name": "l", "filter_chains": chains(&json!([{"name": MANAGER, "typed_config": text("?")}]))});
    let (after, verdicts) = applied(&change("HTTP_FILTER", &about(""), "INSERT_FIRST", &lua), &odd);
    assert_eq!(after, normal::<Listener>(&odd));
    assert!(
        matches!(verdicts.as_slice(), [Verdict::Failed(reason)] if reason.contains("HttpConnectionManager"))
    );
}

#[test]
fn a_connection_manager_is_merged_as_the_network_filter_that_it_is() {
    let about = json!({"listener": {"filterChain": {"filter": {"name": "envoy.http_connection_manager"}}}});
    let value = json!({"typed_config": {
        "@type": format!("type.googleapis.com/{}", HttpConnectionManager::full_name()),
        "request_timeout": "5s", "use_remote_address": false, "http_filters": named("c"),
    }});
    let (after, verdicts) =
        applied(&change("NETWORK_FILTER", &about, "MERGE", &value), &with_http_filters(&named("a b")));
    assert_eq!(verdicts, [Verdict::Applied]);
    let manager = &after["filter_chains"][0]["filters"][0]["typed_config"];
    assert_eq!((&manager["request_timeout"], &manager["use_remote_address"]), (&json!("5s"), &json!(false)));
    assert_eq!(
        (manager["stat_prefix"].as_str(), names_of(&manager["http_filters"]).as_str()),
        (Some("s"), "a b c")
    );
}

#[test]
fn http_filters_of_other_chains_and_filters_are_left_alone() {
    let before = with_http_filters(&named("router"));
    for elsewhere in [
        json!({"listener": {"portNumber": 81}}),
        json!({"listener": {"name": "0.0.0.0_81"}}),
        json!({"listener": {"filterChain": {"filter": {"name": "envoy.filters.network.tcp_proxy"}}}}),
        json!({"listener": {"filterChain": {"name": "other"}}}),
        json!({"context": "SIDECAR_INBOUND"}),
        json!({"context": "GATEWAY"}),
    ] {
        let patch = change("HTTP_FILTER", &elsewhere, "INSERT_FIRST", &named("new")[0]);
        let set = set(Context::SidecarOutbound, &patch);
        let mut outcomes = Outcomes::default();
        let listener_before: Listener = from_value(&before).unwrap();
        let after =
            listener(set.listeners(), Context::SidecarOutbound, listener_before.clone(), &mut outcomes);
        assert_eq!((after, outcomes), (Some(listener_before), Outcomes::default()), "{elsewhere}");
    }
}

#[test]
fn a_manager_that_no_patch_is_about_is_not_looked_into() {
    let mut before: Listener = from_value(&with_http_filters(&named("router"))).unwrap();
    let unreadable = pilot_proto::google::protobuf::Any {
        type_url: HttpConnectionManager::type_url(),
        value: vec![0xff].into(),
    };
    before.filter_chains[0].filters[0].config_type =
        Some(pilot_proto::envoy::config::listener::v3::filter::ConfigType::TypedConfig(unreadable));
    let elsewhere = json!({"listener": {"filterChain": {"name": "other"}}});
    for (about, failed) in [(elsewhere, 0), (json!({}), 1)] {
        let set =
            set(Context::SidecarOutbound, &change("HTTP_FILTER", &about, "INSERT_FIRST", &named("new")[0]));
        let mut outcomes = Outcomes::default();
        let after = listener(set.listeners(), Context::SidecarOutbound, before.clone(), &mut outcomes);
        assert_eq!((after.as_ref(), outcomes.failed().count()), (Some(&before), failed), "{about}");
    }
}
