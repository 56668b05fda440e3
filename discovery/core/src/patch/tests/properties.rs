//! Properties of all patches.

use pilot_proto::envoy::config::listener::v3::Listener;
use pilot_proto::envoy::config::route::v3::RouteConfiguration;
use pilot_proto::envoy::extensions::filters::network::http_connection_manager::v3::HttpConnectionManager;
use proptest::prelude::*;

use super::*;

const OPERATIONS: [&str; 8] = [
    "ADD",
    "REMOVE",
    "MERGE",
    "MERGE_AND_REPLACE_LIST",
    "INSERT_BEFORE",
    "INSERT_AFTER",
    "INSERT_FIRST",
    "REPLACE",
];
const NAMES: [&str; 4] = ["a", "b", "c", MANAGER];

fn full() -> (Listener, RouteConfiguration) {
    let routes = json!({"name": "80", "virtual_hosts": [
        {"name": "a", "domains": ["a"], "routes": [{"name": "a"}, {"name": "b"}]}, {"name": "b", "domains": ["b"]},
    ]});
    let manager = json!({"@type": format!("type.googleapis.com/{}", HttpConnectionManager::full_name()),
        "stat_prefix": "s", "http_filters": named("a b c"), "route_config": routes});
    let listener = json!({"name": "a", "listener_filters": named("a b"), "filter_chains": [
        {"name": "a", "filters": named("a b")},
        {"name": "b", "filters": [{"name": MANAGER, "typed_config": manager}]},
    ], "default_filter_chain": {"name": "c", "filters": named("c")}});
    (from_value(&listener).unwrap(), from_value(&routes).unwrap())
}

fn patch() -> impl Strategy<Value = Value> {
    let name = || prop::sample::select(NAMES.as_slice());
    let kinds = [
        "LISTENER",
        "LISTENER_FILTER",
        "FILTER_CHAIN",
        "NETWORK_FILTER",
        "HTTP_FILTER",
        "ROUTE_CONFIGURATION",
        "VIRTUAL_HOST",
        "HTTP_ROUTE",
    ];
    (prop::sample::select(kinds.to_vec()), prop::sample::select(OPERATIONS.as_slice()), name(), name(), name(), 0..4_usize)
        .prop_map(|(kind, operation, outer, inner, brought, said)| {
            let about = match (kind, said) {
                (_, 0) => json!({}),
                ("ROUTE_CONFIGURATION", _) => json!({"routeConfiguration": {"name": "80"}}),
                ("VIRTUAL_HOST" | "HTTP_ROUTE", 1) => json!({"routeConfiguration": {"vhost": {"name": outer}}}),
                ("VIRTUAL_HOST" | "HTTP_ROUTE", _) => json!({"routeConfiguration": {"vhost": {"route": {"name": inner}}}}),
                ("LISTENER_FILTER", _) => json!({"listener": {"listenerFilter": outer}}),
                ("LISTENER" | "FILTER_CHAIN", 1) => json!({"listener": {"name": outer}}),
                (_, 1) => json!({"listener": {"filterChain": {"name": outer}}}),
                (_, 2) => json!({"listener": {"filterChain": {"filter": {"name": outer}}}}),
                _ => json!({"listener": {"filterChain": {"filter": {"name": MANAGER, "subFilter": {"name": inner}}}}}),
            };
            let value = match kind {
                "LISTENER_FILTER" | "NETWORK_FILTER" | "HTTP_FILTER" => named(brought)[0].clone(),
                _ => json!({"name": brought}),
            };
            change(kind, &about, operation, &value)[0].clone()
        })
}

fn apply(patches: &PatchSet) -> (Option<Listener>, RouteConfiguration, Outcomes) {
    let (before, routes) = full();
    let context = Context::SidecarInbound;
    let mut outcomes = Outcomes::default();
    let inlined = inline_routes(patches.routes(), context, before, &mut outcomes);
    let after = listener(patches.listeners(), context, inlined, &mut outcomes);
    let routes =
        route_configuration(patches.routes(), (context, &GatewayPorts::new()), routes, &mut outcomes);
    (after, routes, outcomes)
}

#[test]
fn no_patches_change_nothing() {
    let (before, routes) = full();
    assert_eq!(apply(&PatchSet::default()), (Some(before), routes, Outcomes::default()));
}

proptest! {
    #[test]
    fn equal_patches_do_equal_things(written in prop::collection::vec(patch(), 0..6)) {
        let written = Value::Array(written);
        let (first, second) = (set(Context::SidecarInbound, &written), set(Context::SidecarInbound, &written));
        let ((listener, routes, outcomes), again) = (apply(&first), apply(&second));
        prop_assert_eq!(verdicts(&first, &outcomes), verdicts(&second, &again.2));
        let bytes = |listener: &Option<Listener>| listener.as_ref().map(Message::encode_to_vec);
        prop_assert_eq!(bytes(&listener), bytes(&again.0));
        prop_assert_eq!(routes.encode_to_vec(), again.1.encode_to_vec());

        // Without an applied patch the resource is unchanged.
        if outcomes.applied().count() == 0 {
            let (before, untouched) = full();
            prop_assert_eq!((listener, routes), (Some(before), untouched));
        }
    }
}
