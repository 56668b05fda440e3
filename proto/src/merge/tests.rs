use serde_json::{Value, json};

use super::*;
use crate::envoy::config::cluster::v3::Cluster;
use crate::envoy::config::listener::v3::FilterChain;
use crate::proto3_json::{encoded_to_value, from_value, to_value};

const PROXY: &str = "type.googleapis.com/envoy.extensions.filters.network.tcp_proxy.v3.TcpProxy";

fn merged(target: &Value, overlay: &Value, lists: Lists) -> Value {
    let overlay = Overlay::of(&from_value::<Cluster>(overlay).unwrap(), lists).unwrap();
    to_value(&overlay.onto(&from_value::<Cluster>(target).unwrap()).unwrap()).unwrap()
}

fn check([target, overlay, expected]: [Value; 3]) {
    let merged = merged(&target, &overlay, Lists::Append);
    assert_eq!(merged, expected, "{overlay} onto {target}");
}

#[test]
fn scalars_messages_and_maps() {
    check([json!({"name": "a"}), json!({}), json!({"name": "a"})]);
    check([json!({}), json!({"name": "a"}), json!({"name": "a"})]);
    check([
        json!({"name": "a", "alt_stat_name": "b"}),
        json!({"name": "c"}),
        json!({"name": "c", "alt_stat_name": "b"}),
    ]);
    check([
        json!({"upstream_connection_options": {"tcp_keepalive": {"keepalive_time": 1, "keepalive_probes": 2}}}),
        json!({"upstream_connection_options": {"tcp_keepalive": {"keepalive_time": 3, "keepalive_interval": 4}}}),
        json!({"upstream_connection_options": {"tcp_keepalive":
            {"keepalive_time": 3, "keepalive_probes": 2, "keepalive_interval": 4}}}),
    ]);
    check([
        json!({"metadata": {"filter_metadata": {"a": {"x": 1.0}, "b": {"y": 2.0}}}}),
        json!({"metadata": {"filter_metadata": {"a": {"z": 3.0}}}}),
        json!({"metadata": {"filter_metadata": {"a": {"z": 3.0}, "b": {"y": 2.0}}}}),
    ]);
}

#[test]
fn durations_wrappers_and_any_are_one_value() {
    check([
        json!({"connect_timeout": "10.250s"}),
        json!({"connect_timeout": "3s"}),
        json!({"connect_timeout": "3s"}),
    ]);
    check([
        json!({"connect_timeout": "10s"}),
        json!({"connect_timeout": "0.500s"}),
        json!({"connect_timeout": "0.500s"}),
    ]);
    check([
        json!({"outlier_detection": {"base_ejection_time": "9.100s", "max_ejection_percent": 10}}),
        json!({"outlier_detection": {"base_ejection_time": "2s", "max_ejection_percent": 0}}),
        json!({"outlier_detection": {"base_ejection_time": "2s", "max_ejection_percent": 0}}),
    ]);
    let named = |name: &str, value: Value| json!({"upstream_config": {"name": name, "typed_config": value}});
    let text =
        |value: &str| json!({"@type": "type.googleapis.com/google.protobuf.StringValue", "value": value});
    let nothing = json!({"@type": "type.googleapis.com/google.protobuf.Empty", "value": {}});
    check([named("a", text("x")), named("b", nothing.clone()), named("b", nothing)]);
}

#[test]
fn one_of_several_takes_the_place_of_another() {
    check([
        json!({"type": "EDS"}),
        json!({"cluster_type": {"name": "x"}}),
        json!({"cluster_type": {"name": "x"}}),
    ]);
    check([
        json!({"ring_hash_lb_config": {"minimum_ring_size": "7"}}),
        json!({"ring_hash_lb_config": {"maximum_ring_size": "9"}}),
        json!({"ring_hash_lb_config": {"minimum_ring_size": "7", "maximum_ring_size": "9"}}),
    ]);
}

#[test]
fn lists_grow_or_are_replaced() {
    let breakers = |limits: &[u32]| {
        let thresholds: Vec<Value> = limits.iter().map(|limit| json!({"max_requests": limit})).collect();
        json!({"circuit_breakers": {"thresholds": thresholds}, "name": "n"})
    };
    let (mine, theirs) = (breakers(&[1, 2]), breakers(&[3]));
    assert_eq!(merged(&mine, &theirs, Lists::Append), breakers(&[1, 2, 3]));
    assert_eq!(merged(&mine, &theirs, Lists::Replace), breakers(&[3]));
    assert_eq!(merged(&mine, &json!({"name": "n"}), Lists::Replace), mine);
}

#[test]
fn what_an_any_holds_is_merged_again_and_again() {
    let any = |value: Value| -> Any {
        let filter = json!({"filters": [{"name": "f", "typed_config": value}]});
        let chain: FilterChain = from_value(&filter).unwrap();
        let Some(crate::envoy::config::listener::v3::filter::ConfigType::TypedConfig(any)) =
            chain.filters[0].config_type.clone()
        else {
            panic!("{chain:?}")
        };
        any
    };
    let mut target =
        any(json!({"@type": PROXY, "stat_prefix": "s", "cluster": "c", "idle_timeout": "1.250s"}));
    for seconds in ["2s", "3s", "4.500s"] {
        let overlay = any(json!({"@type": PROXY, "idle_timeout": seconds, "max_connect_attempts": 3}));
        target = Overlay::of_any(&overlay, Lists::Append).unwrap().onto_any(&target).unwrap();
    }
    assert_eq!(
        encoded_to_value(full_name(&target), &target.value).unwrap(),
        json!({"stat_prefix": "s", "cluster": "c", "idle_timeout": "4.500s", "max_connect_attempts": 3}),
    );
    let other = any(json!({"@type": "type.googleapis.com/envoy.extensions.filters.network.echo.v3.Echo"}));
    let error = Overlay::of_any(&other, Lists::Append).unwrap().onto_any(&target).unwrap_err();
    assert_eq!(
        error.to_string(),
        "envoy.extensions.filters.network.echo.v3.Echo cannot be merged into envoy.extensions.filters.network.tcp_proxy.v3.TcpProxy",
    );
}

#[test]
fn bytes_that_are_no_message_are_an_error() {
    let mut chain =
        Any { type_url: "x/envoy.config.listener.v3.FilterChain".into(), value: vec![0x0a, 0x7f, 1].into() };
    let overlay: FilterChain = from_value(&json!({"filter_chain_match": {"destination_port": 3}})).unwrap();
    let overlay = Overlay::of(&overlay, Lists::Append).unwrap();
    assert!(overlay.onto_any(&chain).is_err());
    chain.value = vec![0x0a, 0x02, 0x42, 0x7f].into();
    assert!(overlay.onto_any(&chain).is_err(), "the field inside is cut short");
}
