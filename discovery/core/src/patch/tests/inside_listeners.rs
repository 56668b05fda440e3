//! `LISTENER`, `LISTENER_FILTER` and `FILTER_CHAIN`, and which listeners and chains a patch is about.

use pilot_proto::envoy::config::listener::v3::Listener;

use super::*;

fn applied(context: Context, config_patches: &Value, before: &Value) -> (Option<Value>, Vec<Verdict>) {
    let set = set(context, config_patches);
    let mut outcomes = Outcomes::default();
    let before: Listener = from_value(before).unwrap();
    let after = listener(set.listeners(), context, before, &mut outcomes);
    (after.map(|after| to_value(&after).unwrap()), verdicts(&set, &outcomes))
}

fn on(port: u32) -> Value {
    json!({"socket_address": {"address": "0.0.0.0", "port_value": port}})
}

#[test]
fn listeners_are_merged_and_removed() {
    let before = json!({"name": "l", "address": on(80), "listener_filters_timeout": "5s",
        "additional_addresses": [{"address": on(81)}]});
    let value = json!({"listener_filters_timeout": "0s", "additional_addresses": [{"address": on(82)}]});
    let expected = |addresses: Value| json!({"name": "l", "address": on(80), "listener_filters_timeout": "0s", "additional_addresses": addresses});
    for (operation, expected) in [
        ("MERGE", Some(expected(json!([{"address": on(81)}, {"address": on(82)}])))),
        ("MERGE_AND_REPLACE_LIST", Some(expected(json!([{"address": on(82)}])))),
        ("REMOVE", None),
    ] {
        let here = change("LISTENER", &json!({"listener": {"portNumber": 80}}), operation, &value);
        let (after, verdicts) = applied(Context::SidecarOutbound, &here, &before);
        let expected = expected.map(|value| normal::<Listener>(&value));
        assert_eq!((after, verdicts), (expected, vec![Verdict::Applied]), "{operation}");

        let elsewhere = change("LISTENER", &json!({"listener": {"portNumber": 81}}), operation, &value);
        let (after, verdicts) = applied(Context::SidecarOutbound, &elsewhere, &before);
        assert_eq!(
            (after, verdicts),
            (Some(normal::<Listener>(&before)), vec![Verdict::NotMatched]),
            "{operation}"
        );
    }
}

#[test]
fn listeners_are_added_once() {
    use Context::{Gateway, SidecarInbound, SidecarOutbound};
    for (context, added_in) in [
        ("ANY", [Gateway, SidecarOutbound].as_slice()),
        ("SIDECAR_INBOUND", &[SidecarInbound]),
        ("SIDECAR_OUTBOUND", &[SidecarOutbound]),
        ("GATEWAY", &[Gateway]),
    ] {
        for operation in ["ADD", "INSERT_FIRST", "INSERT_BEFORE"] {
            let patch = change("LISTENER", &json!({"context": context}), operation, &json!({"name": "new"}));
            for tried in [Gateway, SidecarInbound, SidecarOutbound] {
                let (set, mut outcomes) = (set(tried, &patch), Outcomes::default());
                let added = added_listeners(set.listeners(), tried, &mut outcomes);
                let expected = if added_in.contains(&tried) { "new" } else { "" };
                assert_eq!(names(added.iter().map(|added| &added.name)), expected, "{context} {tried:?}");
                assert_eq!(outcomes.applied().count(), added.len());
            }
            let before = json!({"name": "l"});
            let (after, _) = applied(SidecarOutbound, &patch, &before);
            assert_eq!(after, Some(before), "what is added changes no other");
        }
    }
}

#[test]
fn listener_filters_come_and_go_where_the_operation_says() {
    for (operation, anchor, expected) in [
        ("ADD", "", "a b new"),
        ("INSERT_FIRST", "", "new a b"),
        ("INSERT_BEFORE", "b", "a new b"),
        ("INSERT_BEFORE", "", "new a b"),
        ("INSERT_AFTER", "a", "a new b"),
        ("INSERT_AFTER", "", "a b new"),
        ("REPLACE", "a", "new b"),
        ("REMOVE", "a", "b"),
        ("MERGE", "a", "new b"),
        ("INSERT_BEFORE", "absent", ""),
        ("INSERT_AFTER", "absent", ""),
        ("REPLACE", "absent", ""),
        ("REPLACE", "", ""),
        ("REMOVE", "", ""),
        ("MERGE", "absent", ""),
        ("MERGE", "", ""),
    ] {
        let before = json!({"name": "l", "listener_filters": named("a b")});
        let value = if operation == "REMOVE" { Value::Null } else { named("new")[0].clone() };
        let about = json!({"listener": {"listenerFilter": anchor}});
        let patch = change("LISTENER_FILTER", &about, operation, &value);
        let (after, verdicts) = applied(Context::SidecarInbound, &patch, &before);
        let (expected, verdict) =
            if expected.is_empty() { ("a b", Verdict::NotMatched) } else { (expected, Verdict::Applied) };
        let after: Listener = from_value(&after.unwrap()).unwrap();
        let filters = names(after.listener_filters.iter().map(|filter| &filter.name));
        assert_eq!((filters.as_str(), verdicts), (expected, vec![verdict]), "{operation} {anchor}");
    }
}

/// The names of the chains that a patch about filter chains changes; the last one is the default.
fn concerned(name: &str, listener: &Value) -> String {
    let chain = |name: &str, matching: Value| json!({"name": name, "filter_chain_match": matching, "filters": named("f")});
    let before = json!({"name": name, "address": on(15006), "filter_chains": [
        chain("80", json!({"destination_port": 80})),
        chain("80tls", json!({"destination_port": 80, "transport_protocol": "tls"})),
        {"name": "ends", "filters": named("f"), "filter_chain_match": {"source_ports": [1]}, "transport_socket": {"name": "tls"}},
        chain("sni", json!({"server_names": ["a.com", "b.com"]})),
        chain("http", json!({"transport_protocol": "raw_buffer", "application_protocols": ["http/1.1", "h2c"]})),
        {"name": "any", "filters": named("f")},
    ], "default_filter_chain": {"name": "default", "filters": named("f")}});
    let patch = change("FILTER_CHAIN", &json!({"listener": listener}), "REMOVE", &Value::Null);
    let (after, _) = applied(Context::SidecarInbound, &patch, &before);
    let after: Listener = from_value(&after.unwrap()).unwrap();
    let left: Vec<&String> =
        after.filter_chains.iter().chain(&after.default_filter_chain).map(|chain| &chain.name).collect();
    let all = ["80", "80tls", "ends", "sni", "http", "any", "default"];
    all.into_iter().filter(|name| !left.iter().any(|left| left == name)).collect::<Vec<_>>().join(" ")
}

#[test]
fn chains_are_told_apart_by_what_they_match() {
    const ALL: &str = "80 80tls ends sni http any default";
    for (name, listener, expected) in [
        ("l", json!({}), ALL),
        ("l", json!({"name": "l"}), ALL),
        ("l", json!({"name": "m"}), ""),
        // Of a listener of its own, the port is the listener's; of a virtual one, the chain's.
        ("l", json!({"portNumber": 15006}), ALL),
        ("l", json!({"portNumber": 80}), ""),
        ("virtualInbound", json!({"portNumber": 80}), "80 80tls"),
        ("virtualOutbound", json!({"portNumber": 80}), "80 80tls"),
        ("virtualInbound", json!({"portNumber": 15006}), ""),
        ("virtualInbound", json!({"portNumber": 80, "filterChain": {"transportProtocol": "tls"}}), "80tls"),
        ("l", json!({"filterChain": {}}), ALL),
        ("l", json!({"filterChain": {"name": "any"}}), "any"),
        ("l", json!({"filterChain": {"name": "default"}}), "default"),
        ("l", json!({"filterChain": {"sni": "b.com"}}), "sni"),
        ("l", json!({"filterChain": {"sni": "c.com"}}), ""),
        ("l", json!({"filterChain": {"transportProtocol": "raw_buffer"}}), "http"),
        ("l", json!({"filterChain": {"transportSocket": "tls"}}), "ends"),
        ("l", json!({"filterChain": {"transportSocket": "raw_buffer"}}), ""),
        ("l", json!({"filterChain": {"applicationProtocols": "h2c"}}), "http"),
        ("l", json!({"filterChain": {"applicationProtocols": "h2c,http/1.1"}}), "http"),
        ("l", json!({"filterChain": {"applicationProtocols": "h2c,h2"}}), ""),
        ("l", json!({"filterChain": {"destinationPort": 80}}), "80 80tls"),
        ("l", json!({"filterChain": {"destinationPort": 81}}), ""),
    ] {
        assert_eq!(concerned(name, &listener), expected, "{listener} in {name}");
    }
}

#[test]
fn the_port_of_a_virtual_listener_itself_is_its_own() {
    let before = json!({"name": "virtualInbound", "address": on(15006)});
    for (port, expected) in [(15006, None), (80, Some(before.clone()))] {
        let patch = change("LISTENER", &json!({"listener": {"portNumber": port}}), "REMOVE", &Value::Null);
        assert_eq!(applied(Context::SidecarInbound, &patch, &before).0, expected);
    }
    let pipe = json!({"name": "l", "address": {"pipe": {"path": "/p"}}});
    let patch = change("LISTENER", &json!({"listener": {"portNumber": 80}}), "REMOVE", &Value::Null);
    assert_eq!(applied(Context::SidecarInbound, &patch, &pipe).0, Some(pipe), "a pipe has no port");
}

#[test]
fn chains_are_added_and_merged() {
    let about = json!({"listener": {"filterChain": {"name": "a"}}});
    let before = json!({"name": "l", "filter_chains": [
        {"name": "a", "filters": named("f")}, {"name": "b", "filters": named("f")},
    ]});
    let added = change("FILTER_CHAIN", &json!({}), "ADD", &json!({"name": "c", "filters": named("g")}));
    let (after, verdicts) = applied(Context::SidecarOutbound, &added, &before);
    let mut expected = before.clone();
    expected["filter_chains"].as_array_mut().unwrap().push(json!({"name": "c", "filters": named("g")}));
    assert_eq!((after, verdicts), (Some(normal::<Listener>(&expected)), vec![Verdict::Applied]));

    for (operation, filters) in [("MERGE", "f g"), ("MERGE_AND_REPLACE_LIST", "g")] {
        let merged = change(
            "FILTER_CHAIN",
            &about,
            operation,
            &json!({"transport_socket_connect_timeout": "2s", "filters": named("g")}),
        );
        let (after, verdicts) = applied(Context::SidecarOutbound, &merged, &before);
        let mut expected = before.clone();
        expected["filter_chains"][0] =
            json!({"name": "a", "transport_socket_connect_timeout": "2s", "filters": named(filters)});
        assert_eq!(
            (after, verdicts),
            (Some(normal::<Listener>(&expected)), vec![Verdict::Applied]),
            "{operation}"
        );
    }
}

#[test]
fn a_transport_socket_is_merged_into_that_of_its_name() {
    let socket = |name: &str, tls: Value| {
        let mut config = json!({"@type": "type.googleapis.com/envoy.extensions.transport_sockets.tls.v3.DownstreamTlsContext"});
        config.as_object_mut().unwrap().extend(tls.as_object().unwrap().clone());
        json!({"name": name, "typed_config": config})
    };
    let before = json!({"name": "l", "filter_chains": [{"name": "a", "filters": named("f"),
        "transport_socket": socket("tls", json!({"require_sni": true, "session_timeout": "1.500s"}))}]});
    for (value, expected) in [
        (
            json!({"name": "b", "transport_socket": socket("tls", json!({"session_timeout": "2s", "require_sni": false}))}),
            json!({"name": "b", "transport_socket": socket("tls", json!({"session_timeout": "2s", "require_sni": false}))}),
        ),
        (
            json!({"transport_socket": socket("other", json!({}))}),
            json!({"name": "a", "transport_socket": socket("other", json!({}))}),
        ),
        (
            json!({"transport_socket": {"name": "tls"}}),
            json!({"name": "a", "transport_socket": before["filter_chains"][0]["transport_socket"]}),
        ),
    ] {
        let patch = change("FILTER_CHAIN", &json!({}), "MERGE", &value);
        let (after, _) = applied(Context::SidecarInbound, &patch, &before);
        let mut chain = expected;
        chain["filters"] = named("f");
        assert_eq!(
            after,
            Some(normal::<Listener>(&json!({"name": "l", "filter_chains": [chain]}))),
            "{value}"
        );
    }
    let other_type = json!({"name": "c", "transport_socket": {"name": "tls", "typed_config": text("?")}});
    let patch = change("FILTER_CHAIN", &json!({}), "MERGE", &other_type);
    let (after, verdicts) = applied(Context::SidecarInbound, &patch, &before);
    assert_eq!(after, Some(normal::<Listener>(&before)), "nothing of it is merged");
    assert!(matches!(verdicts.as_slice(), [Verdict::Failed(_)]), "{verdicts:?}");
}

#[test]
fn patches_see_what_earlier_ones_did() {
    let patches = json!([
        {"applyTo": "NETWORK_FILTER", "patch": {"operation": "ADD", "value": named("x")[0]}},
        {"applyTo": "NETWORK_FILTER", "match": {"listener": {"filterChain": {"filter": {"name": "x"}}}},
            "patch": {"operation": "INSERT_AFTER", "value": named("y")[0]}},
        {"applyTo": "FILTER_CHAIN", "patch": {"operation": "ADD", "value": {"name": "added"}}},
        {"applyTo": "FILTER_CHAIN", "match": {"listener": {"filterChain": {"name": "added"}}},
            "patch": {"operation": "REMOVE"}},
    ]);
    let before = json!({"name": "l", "filter_chains": [{"name": "a", "filters": named("f")}]});
    let (after, verdicts) = applied(Context::SidecarOutbound, &patches, &before);
    let expected =
        json!({"name": "l", "filter_chains": [{"name": "a", "filters": named("f x y")}, {"name": "added"}]});
    assert_eq!(after, Some(normal::<Listener>(&expected)), "what is added comes last and is not changed");
    let [applied, not] = [Verdict::Applied, Verdict::NotMatched];
    assert_eq!(verdicts, [applied.clone(), applied.clone(), applied, not]);
}
