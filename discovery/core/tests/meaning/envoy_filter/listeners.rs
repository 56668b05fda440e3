//! Patches of listeners, filter chains and filters.

use pilot_core::simulate::Stage;

use super::*;

pub(super) const TABLES: Tables =
    &[listeners, filter_chains, listener_filters, network_filters, http_filters];

#[test]
fn listeners() {
    let echo = "operation: ADD, value: {name: own, address: {socket_address: {address: 127.0.0.1, port_value: 7777}}, filter_chains: [{filters: [{name: tcp, typed_config: {'@type': type.googleapis.com/envoy.extensions.filters.network.tcp_proxy.v3.TcpProxy, stat_prefix: x, cluster: 'outbound|5432||db.default.svc.cluster.local'}}]}]}";
    check_each(
        Look::End,
        "tcp://127.0.0.1:7777",
        |said| client(&patch("LISTENER", "context: SIDECAR_OUTBOUND", said)),
        &[("ADD adds a listener", echo, "own outbound|5432||db.default.svc.cluster.local")],
    );
    check_each(
        Look::End,
        "tcp://db:5432",
        |said| client(&patch("LISTENER", said, "operation: REMOVE")),
        &[
            (
                "REMOVE takes a listener away, known by its port",
                "listener: {portNumber: 5432}",
                "virtualOutbound PassthroughCluster",
            ),
            (
                "REMOVE takes a listener away, known by its name",
                "listener: {name: 10.0.0.2_5432}",
                "virtualOutbound PassthroughCluster",
            ),
            (
                "REMOVE takes no listener of another port away",
                "listener: {portNumber: 80}",
                "10.0.0.2_5432 outbound|5432||db.default.svc.cluster.local",
            ),
        ],
    );
}

#[test]
fn filter_chains() {
    let chain = "operation: ADD, value: {name: own, filter_chain_match: {source_prefix_ranges: [{address_prefix: 10.255.255.1, prefix_len: 32}]}, filters: [{name: tcp, typed_config: {'@type': type.googleapis.com/envoy.extensions.filters.network.tcp_proxy.v3.TcpProxy, stat_prefix: x, cluster: BlackHoleCluster}}]}";
    check_each(
        Look::Verdict,
        "tcp://db:5432",
        |said| client(&patch("FILTER_CHAIN", "listener: {portNumber: 5432}", said)),
        &[
            ("ADD adds a chain to a listener", chain, "BlackHoleCluster"),
            (
                "REMOVE takes chains away, and where none is left nobody is served",
                "operation: REMOVE",
                "closed",
            ),
        ],
    );
}

#[test]
fn listener_filters() {
    let tls = object(
        "ServiceEntry",
        "x",
        "hosts: [x.com]\nports: [{number: 443, name: tls, protocol: TLS}]\nresolution: DNS",
    );
    check_each(
        Look::Verdict,
        "tls://x.com | @192.0.2.1:443",
        |said| with(&patch("LISTENER_FILTER", said, "operation: REMOVE")).and(&tls).sidecar("default", ""),
        &[
            (
                "without the filter that looks for names no name is known",
                "listener: {portNumber: 443, listenerFilter: envoy.filters.listener.tls_inspector}",
                "PassthroughCluster",
            ),
            (
                "a filter that is not there cannot be removed",
                "listener: {portNumber: 443, listenerFilter: nobody}",
                "443||x.com",
            ),
        ],
    );
}

/// Value of a patch with a network filter.
const NAMED: &str = "value: {name: own, typed_config: {'@type': type.googleapis.com/envoy.extensions.filters.network.rbac.v3.RBAC, stat_prefix: x}}";

#[test]
fn network_filters() {
    let tcp = "listener: {portNumber: 5432, filterChain: {filter: {name: envoy.filters.network.tcp_proxy}}}";
    let passed = "own is passed; what it does is not imagined";
    check_each(
        Look::Said(Stage::Filter),
        "tcp://db:5432",
        |operation| client(&patch("NETWORK_FILTER", tcp, &format!("operation: {operation}, {NAMED}"))),
        &[
            ("INSERT_BEFORE puts a filter before another", "INSERT_BEFORE", passed),
            ("INSERT_FIRST puts a filter before all", "INSERT_FIRST", passed),
            ("INSERT_AFTER the last puts a filter where no connection comes", "INSERT_AFTER", ""),
        ],
    );
    check_each(
        Look::Verdict,
        "tcp://db:5432",
        |said| client(&patch("NETWORK_FILTER", tcp, said)),
        &[
            (
                "MERGE changes a filter's configuration",
                "operation: MERGE, value: {typed_config: {'@type': type.googleapis.com/envoy.extensions.filters.network.tcp_proxy.v3.TcpProxy, cluster: BlackHoleCluster}}",
                "BlackHoleCluster",
            ),
            (
                "REPLACE puts another network filter in its place",
                "operation: REPLACE, value: {name: own, typed_config: {'@type': type.googleapis.com/envoy.extensions.filters.network.echo.v3.Echo}}",
                "closed",
            ),
        ],
    );
    let manager = "listener: {filterChain: {filter: {name: envoy.filters.network.http_connection_manager}}}";
    check_each(
        Look::Verdict,
        "http10://a:80/",
        |said| server(&patch("NETWORK_FILTER", manager, said)),
        &[(
            "MERGE reaches what is inside a connection manager",
            "operation: MERGE, value: {typed_config: {'@type': type.googleapis.com/envoy.extensions.filters.network.http_connection_manager.v3.HttpConnectionManager, http_protocol_options: {accept_http_10: true}}}",
            "inbound|80||",
        )],
    );
}

/// Returns the names of HTTP filters of a request that the simulation does not know.
fn passed(client: &Client) -> String {
    let steps = client.ask("http://a/").steps;
    let filters = steps.iter().filter(|step| step.stage == Stage::HttpFilter);
    filters.map(|step| step.name.clone()).collect::<Vec<_>>().join(" ")
}

fn lua(name: &str) -> String {
    format!(
        "{{name: {name}, typed_config: {{'@type': type.googleapis.com/envoy.extensions.filters.http.lua.v3.Lua}}}}"
    )
}

#[test]
fn http_filters() {
    let at = |sub_filter: &str| {
        format!(
            "context: SIDECAR_OUTBOUND, listener: {{filterChain: {{filter: {{name: envoy.filters.network.http_connection_manager, subFilter: {{name: {sub_filter}}}}}}}}}"
        )
    };
    let router = at("envoy.filters.http.router");
    let insert = |operation: &str, name: &str, at: &str| {
        patch("HTTP_FILTER", at, &format!("operation: {operation}, value: {}", lua(name)))
    };
    let one = insert("INSERT_BEFORE", "one", &router);
    check_found(
        |said| passed(&client(said)),
        &[
            ("INSERT_BEFORE puts an HTTP filter before the router", &one, "one"),
            (
                "filters that are put before the same one are in their order",
                &format!("{one}, {}", insert("INSERT_BEFORE", "two", &router)),
                "one two",
            ),
            (
                "INSERT_FIRST puts an HTTP filter before all",
                &format!("{one}, {}", insert("INSERT_FIRST", "two", &router)),
                "two one",
            ),
            (
                "INSERT_AFTER puts an HTTP filter after another",
                &format!("{one}, {}", insert("INSERT_AFTER", "two", &at("one"))),
                "one two",
            ),
            (
                "REPLACE puts an HTTP filter in the place of another",
                &format!("{one}, {}", insert("REPLACE", "two", &at("one"))),
                "two",
            ),
            (
                "REMOVE takes an HTTP filter away",
                &format!("{one}, {}", patch("HTTP_FILTER", &at("one"), "operation: REMOVE")),
                "",
            ),
            (
                "a filter that is put beside one that is not there is nowhere",
                &insert("INSERT_BEFORE", "one", &at("nobody")),
                "",
            ),
        ],
    );
}
