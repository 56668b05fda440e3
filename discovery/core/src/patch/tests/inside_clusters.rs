//! `CLUSTER` and `EXTENSION_CONFIG`.

use pilot_proto::envoy::config::cluster::v3::Cluster;

use super::*;
use crate::model::Hostname;

fn applied(
    context: Context,
    hosts: &[&str],
    config_patches: &Value,
    before: &Value,
) -> (Option<Value>, Vec<Verdict>) {
    let set = set(context, config_patches);
    let hosts: Vec<Hostname> = hosts.iter().map(|host| (*host).into()).collect();
    let mut outcomes = Outcomes::default();
    let after = cluster(set.clusters(), (context, &hosts), from_value(before).unwrap(), &mut outcomes);
    (after.map(|after| to_value(&after).unwrap()), verdicts(&set, &outcomes))
}

#[test]
fn clusters_are_told_apart_by_their_names() {
    use Context::{SidecarInbound, SidecarOutbound};
    const REVIEWS: &str = "outbound|9080|v1|reviews.shop.svc.cluster.local";
    for (context, name, wanted, concerned) in [
        (SidecarOutbound, REVIEWS, json!({}), true),
        (SidecarOutbound, REVIEWS, json!({"service": "reviews.shop.svc.cluster.local"}), true),
        (SidecarOutbound, REVIEWS, json!({"service": "reviews"}), false),
        (SidecarOutbound, REVIEWS, json!({"subset": "v1", "portNumber": 9080}), true),
        (SidecarOutbound, REVIEWS, json!({"subset": "v2"}), false),
        (SidecarOutbound, REVIEWS, json!({"portNumber": 80}), false),
        (SidecarOutbound, REVIEWS, json!({"name": REVIEWS}), true),
        (SidecarOutbound, REVIEWS, json!({"name": REVIEWS, "portNumber": 80}), true),
        (SidecarOutbound, REVIEWS, json!({"name": "reviews"}), false),
        (
            SidecarOutbound,
            "outbound_.80_.v1_.a_b.c",
            json!({"portNumber": 80, "subset": "v1", "service": "a_b.c"}),
            true,
        ),
        (SidecarOutbound, "BlackHoleCluster", json!({}), true),
        (SidecarOutbound, "BlackHoleCluster", json!({"name": "BlackHoleCluster"}), true),
        (SidecarOutbound, "BlackHoleCluster", json!({"portNumber": 80}), false),
        (SidecarOutbound, "BlackHoleCluster", json!({"service": "a"}), false),
        (SidecarInbound, "inbound|8080||", json!({"portNumber": 8080}), true),
        (SidecarInbound, "inbound|8080||", json!({"portNumber": 80}), false),
        // The name does not contain the service; the generator passes it.
        (SidecarInbound, "inbound|8080||", json!({"service": "a"}), true),
        (SidecarInbound, "inbound|8080||", json!({"service": "b"}), true),
        (SidecarInbound, "inbound|8080||", json!({"service": "c"}), false),
    ] {
        let patch = change("CLUSTER", &json!({"cluster": wanted}), "REMOVE", &Value::Null);
        let (after, verdicts) = applied(context, &["a", "b"], &patch, &json!({"name": name}));
        let expected = if concerned { Verdict::Applied } else { Verdict::NotMatched };
        assert_eq!((after.is_none(), verdicts), (concerned, vec![expected]), "{wanted} of {name}");
    }
    let patch = change("CLUSTER", &json!({"context": "SIDECAR_INBOUND"}), "REMOVE", &Value::Null);
    assert!(applied(SidecarOutbound, &[], &patch, &json!({"name": "c"})).0.is_some(), "of another context");
}

#[test]
fn clusters_are_merged() {
    let limits = |limits: &[u32]| -> Value {
        let limits = limits.iter().map(|limit| json!({"max_requests": limit}));
        json!({"thresholds": limits.collect::<Vec<_>>()})
    };
    let before = json!({"name": "c", "connect_timeout": "10.500s", "circuit_breakers": limits(&[1])});
    let value = json!({"connect_timeout": "2s", "circuit_breakers": limits(&[2])});
    for (operation, expected) in [("MERGE", limits(&[1, 2])), ("MERGE_AND_REPLACE_LIST", limits(&[2]))] {
        let patch = change("CLUSTER", &json!({}), operation, &value);
        let expected = json!({"name": "c", "connect_timeout": "2s", "circuit_breakers": expected});
        let (after, verdicts) = applied(Context::Gateway, &[], &patch, &before);
        assert_eq!(
            (after, verdicts),
            (Some(normal::<Cluster>(&expected)), vec![Verdict::Applied]),
            "{operation}"
        );
        let elsewhere = change("CLUSTER", &json!({"cluster": {"name": "d"}}), operation, &value);
        assert_eq!(applied(Context::Gateway, &[], &elsewhere, &before).0, Some(normal::<Cluster>(&before)));
    }
}

#[test]
fn a_transport_socket_is_merged_where_it_fits() {
    let tls = |sni: &str, name: &str| {
        json!({"name": name, "typed_config": {
            "@type": "type.googleapis.com/envoy.extensions.transport_sockets.tls.v3.UpstreamTlsContext", "sni": sni,
            "max_session_keys": sni.len(),
        }})
    };
    let merged = |sni: &str, keys: u32, name: &str| {
        let mut socket = tls(sni, name);
        socket["typed_config"]["max_session_keys"] = json!(keys);
        socket
    };
    let matches = |first: Value| json!([{"name": "m", "transport_socket": first}, {"name": "n", "transport_socket": tls("n", "raw")}]);
    let overlay = json!({"name": "tls", "typed_config": {
        "@type": "type.googleapis.com/envoy.extensions.transport_sockets.tls.v3.UpstreamTlsContext", "max_session_keys": 0}});
    let value = json!({"alt_stat_name": "x", "transport_socket": overlay});
    for (before, expected) in [
        (json!({"transport_socket": tls("a", "tls")}), json!({"transport_socket": merged("a", 0, "tls")})),
        (json!({"transport_socket": tls("a", "other")}), json!({"transport_socket": overlay})),
        (json!({}), json!({"transport_socket": overlay})),
        (
            json!({"transport_socket_matches": matches(tls("a", "tls"))}),
            json!({"transport_socket_matches": matches(merged("a", 0, "tls"))}),
        ),
        (
            json!({"transport_socket_matches": matches(tls("a", "other"))}),
            json!({"transport_socket_matches": matches(tls("a", "other"))}),
        ),
    ] {
        let patch = change("CLUSTER", &json!({}), "MERGE", &value);
        let (after, verdicts) = applied(Context::SidecarOutbound, &[], &patch, &before);
        let mut expected = expected;
        expected["alt_stat_name"] = json!("x");
        assert_eq!(
            (after, verdicts),
            (Some(normal::<Cluster>(&expected)), vec![Verdict::Applied]),
            "{before}"
        );
    }
    let odd = json!({"alt_stat_name": "x", "transport_socket": {"name": "tls", "typed_config": text("?")}});
    let before = json!({"transport_socket": tls("a", "tls")});
    let (after, verdicts) =
        applied(Context::SidecarOutbound, &[], &change("CLUSTER", &json!({}), "MERGE", &odd), &before);
    assert_eq!(after, Some(normal::<Cluster>(&before)));
    assert!(matches!(verdicts.as_slice(), [Verdict::Failed(_)]), "{verdicts:?}");
}

#[test]
fn clusters_are_added_once() {
    use Context::{Gateway, SidecarInbound, SidecarOutbound};
    for (context, added_in) in [
        ("ANY", [Gateway, SidecarOutbound].as_slice()),
        ("SIDECAR_INBOUND", &[SidecarInbound]),
        ("GATEWAY", &[Gateway]),
    ] {
        let patches = json!([
            {"applyTo": "CLUSTER", "match": {"context": context}, "patch": {"operation": "ADD", "value": {"name": "new"}}},
            {"applyTo": "CLUSTER", "match": {"context": context}, "patch": {"operation": "INSERT_AFTER", "value": {"name": "newer"}}},
            {"applyTo": "CLUSTER", "match": {"cluster": {"name": "new"}}, "patch": {"operation": "REMOVE"}},
        ]);
        for tried in [Gateway, SidecarInbound, SidecarOutbound] {
            let (set, mut outcomes) = (set(tried, &patches), Outcomes::default());
            let added = added_clusters(set.clusters(), tried, &mut outcomes);
            let expected = if added_in.contains(&tried) { "new newer" } else { "" };
            assert_eq!(names(added.iter().map(|added| &added.name)), expected, "{context} {tried:?}");
        }
    }
}

#[test]
fn extensions_are_added_by_name() {
    let patches = json!([
        {"applyTo": "EXTENSION_CONFIG", "patch": {"operation": "ADD", "value": {"name": "a", "typed_config": text("1")}}},
        {"applyTo": "EXTENSION_CONFIG", "match": {"context": "SIDECAR_INBOUND"},
            "patch": {"operation": "ADD", "value": {"name": "b", "typed_config": text("2")}}},
        {"applyTo": "EXTENSION_CONFIG", "patch": {"operation": "MERGE", "value": {"name": "a"}}},
    ]);
    let set = set(Context::SidecarOutbound, &patches);
    let named = |name: &str| -> Vec<Value> {
        set.extensions()
            .named(name)
            .map(|added| to_value(added).unwrap()["typed_config"]["value"].clone())
            .collect()
    };
    assert_eq!((named("a"), named("b"), named("c")), (vec![json!("1")], vec![json!("2")], vec![]));
    assert_eq!(set.extensions().iter().count(), 2, "merging has no effect");
}
