//! `EnvoyFilter`: what is made of what was generated, in Envoy's own words.

use pilot_core::simulate::Stage;

use crate::Tables;
use crate::fixture::*;
use crate::table::*;

pub(crate) const TABLES: Tables = &[
    clusters,
    clusters_that_match,
    contexts,
    listeners,
    filter_chains,
    network_filters,
    http_filters,
    route_configurations,
    virtual_hosts,
    routes,
    listener_filters,
    who_is_meant,
    proxies_that_match,
    order,
    what_does_not_fit,
];

/// `a` for requests, which `v1` is a part of; `db` for bytes; `c` for requests, which rules lead to `added.com`.
fn mesh() -> Mesh {
    let service = |name: &str, port: &str, number: u16, last: u8| {
        let declared = kubernetes(&format!("{name}.default")).port(port, number);
        declared.vip(&format!("10.0.0.{last}")).on(&format!("10.1.0.{last}"))
    };
    let services = [service("a", "http", 80, 1), service("db", "tcp", 5432, 2), service("c", "http", 80, 3)];
    let subset = object("DestinationRule", "a", "host: a\nsubsets: [{name: v1}]");
    let rules = object(
        "VirtualService",
        "a",
        "hosts: [a]\nhttp: [{name: v1, match: [{uri: {prefix: /v1}}], route: [{destination: {host: a, subset: v1}}]}, {name: all, route: [{destination: {host: a}}]}]",
    );
    let added = object(
        "VirtualService",
        "c",
        "hosts: [c]\nhttp: [{route: [{destination: {host: added.com, port: {number: 80}}}]}]",
    );
    Mesh::of(services, &subset).and(&rules).and(&added)
}

/// The mesh with these patches.
fn with(patches: &str) -> Mesh {
    mesh().and(&object("EnvoyFilter", "filter", &format!("configPatches: [{patches}]")))
}

fn client(patches: &str) -> Client {
    with(patches).sidecar("default", "app=web,version=v1")
}

/// What comes to `a` itself.
fn server(patches: &str) -> Client {
    with(patches).proxy(sidecar("10.1.0.1", "default")).arriving()
}

/// One change to a kind of thing.
fn patch(apply_to: &str, matches: &str, change: &str) -> String {
    format!("{{applyTo: {apply_to}, match: {{{matches}}}, patch: {{{change}}}}}")
}

const SLOW: &str = "operation: MERGE, value: {connect_timeout: 99s}";

#[test]
fn clusters() {
    let change =
        |said: &str| client(&patch("CLUSTER", "cluster: {service: a.default.svc.cluster.local}", said));
    check_each(
        Look::Settings("connects"),
        "http://a/",
        change,
        &[("MERGE changes what it says", SLOW, "connects within 99s")],
    );
    check_each(
        Look::Upstream,
        "http://a/",
        change,
        &[
            ("and nothing else of a cluster", SLOW, "10.1.0.1:80"),
            ("REMOVE takes a cluster away", "operation: REMOVE", "is not there"),
        ],
    );
    let added = "operation: ADD, value: {name: 'outbound|80||added.com', type: STATIC, load_assignment: {cluster_name: x, endpoints: [{lb_endpoints: [{endpoint: {address: {socket_address: {address: 192.0.2.7, port_value: 80}}}}]}]}}";
    check_each(
        Look::Upstream,
        "http://c/",
        |said| client(&patch("CLUSTER", "context: SIDECAR_OUTBOUND", said)),
        &[("ADD adds a cluster", added, "192.0.2.7:80")],
    );
}

#[test]
fn clusters_that_match() {
    check_each(
        Look::Settings("connects"),
        "http://a/",
        |said| client(&patch("CLUSTER", said, SLOW)),
        &[
            ("a match that says nothing is for every cluster", "", "connects within 99s"),
            (
                "a cluster is known by its service",
                "cluster: {service: a.default.svc.cluster.local}",
                "connects within 99s",
            ),
            (
                "a cluster of another service is not meant",
                "cluster: {service: db.default.svc.cluster.local}",
                "connects within 10s",
            ),
            ("a cluster is known by its port", "cluster: {portNumber: 80}", "connects within 99s"),
            ("a cluster of another port is not meant", "cluster: {portNumber: 81}", "connects within 10s"),
            (
                "a cluster is known by its name",
                "cluster: {name: 'outbound|80||a.default.svc.cluster.local'}",
                "connects within 99s",
            ),
            (
                "a cluster is known by its subset, and the whole has none",
                "cluster: {subset: v1}",
                "connects within 10s",
            ),
        ],
    );
    check_each(
        Look::Settings("connects"),
        "http://a/v1",
        |said| client(&patch("CLUSTER", said, SLOW)),
        &[("a subset is a cluster of its own", "cluster: {subset: v1}", "connects within 99s")],
    );
}

#[test]
fn contexts() {
    let slow = |context: &str| patch("CLUSTER", &format!("context: {context}"), SLOW);
    check_each(
        Look::Settings("connects"),
        "http://a/",
        |context| client(&slow(context)),
        &[
            ("SIDECAR_OUTBOUND is what leaves a workload", "SIDECAR_OUTBOUND", "connects within 99s"),
            ("SIDECAR_INBOUND is not", "SIDECAR_INBOUND", "connects within 10s"),
            ("GATEWAY is no sidecar", "GATEWAY", "connects within 10s"),
            ("ANY is what leaves a workload too", "ANY", "connects within 99s"),
        ],
    );
    check_each(
        Look::Settings("connects"),
        "http://a:80/",
        |context| server(&slow(context)),
        &[
            ("SIDECAR_INBOUND is what comes to one", "SIDECAR_INBOUND", "connects within 99s"),
            ("SIDECAR_OUTBOUND does not come to one", "SIDECAR_OUTBOUND", "connects within 10s"),
        ],
    );
    check_each(
        Look::Settings("connects"),
        "http://192.0.2.1/ | host: x.com",
        |context| {
            let edge = object(
                "Gateway",
                "edge",
                "servers: [{port: {number: 80, name: http, protocol: HTTP}, hosts: ['*']}]",
            );
            let rules = object(
                "VirtualService",
                "x",
                "hosts: [x.com]\ngateways: [edge]\nhttp: [{route: [{destination: {host: a}}]}]",
            );
            with(&slow(context)).and(&edge).and(&rules).gateway("default", "app=edge")
        },
        &[
            ("GATEWAY is a gateway", "GATEWAY", "connects within 99s"),
            ("which SIDECAR_OUTBOUND is not", "SIDECAR_OUTBOUND", "connects within 10s"),
        ],
    );
}

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

/// A network filter that is only named.
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

/// The names of HTTP filters that a request passes and the simulation does not know.
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

#[test]
fn route_configurations() {
    check_each(
        Look::Request,
        "http://a/",
        |said| {
            client(&patch(
                "ROUTE_CONFIGURATION",
                said,
                "operation: MERGE, value: {request_headers_to_add: [{header: {key: x, value: '1'}}]}",
            ))
        },
        &[
            ("MERGE changes the routes of a port", "routeConfiguration: {name: '80'}", "GET a / x=1"),
            ("MERGE does not change those of another port", "routeConfiguration: {name: '81'}", "GET a /"),
            ("a port is known by its number too", "routeConfiguration: {portNumber: 80}", "GET a / x=1"),
        ],
    );
}

#[test]
fn virtual_hosts() {
    let host = |name: &str| format!("routeConfiguration: {{vhost: {{name: '{name}'}}}}");
    let a = host("a.default.svc.cluster.local:80");
    let gone = "{match: {prefix: /}, direct_response: {status: 410}}";
    check_each(
        Look::Verdict,
        "http://a/",
        |said| client(&patch("VIRTUAL_HOST", &a, said)),
        &[
            ("REMOVE takes a virtual host away", "operation: REMOVE", "PassthroughCluster"),
            (
                "MERGE adds to its lists: what is there comes first",
                &format!("operation: MERGE, value: {{routes: [{gone}]}}"),
                "80||a",
            ),
            (
                "REPLACE puts another virtual host in its place",
                &format!("operation: REPLACE, value: {{name: own, domains: [a], routes: [{gone}]}}"),
                "410",
            ),
        ],
    );
    check_each(
        Look::Verdict,
        "http://x.com/",
        |said| client(&patch("VIRTUAL_HOST", "routeConfiguration: {name: '80'}", said)),
        &[(
            "ADD adds a virtual host",
            &format!("operation: ADD, value: {{name: own, domains: [x.com], routes: [{gone}]}}"),
            "410",
        )],
    );
}

#[test]
fn routes() {
    let route = |name: &str| {
        format!(
            "routeConfiguration: {{vhost: {{name: 'a.default.svc.cluster.local:80', route: {{name: {name}}}}}}}"
        )
    };
    let gone = "value: {name: own, match: {prefix: /v}, direct_response: {status: 410}}";
    check_each(
        Look::Verdict,
        "http://a/v1",
        |said| {
            let (name, change) = said.split_once(" | ").unwrap();
            client(&patch("HTTP_ROUTE", &route(name), change))
        },
        &[
            ("REMOVE takes a route away", "v1 | operation: REMOVE", "80||a"),
            ("REMOVE takes no other route away", "all | operation: REMOVE", "80|v1|a"),
            (
                "INSERT_FIRST puts a route before all",
                &format!("all | operation: INSERT_FIRST, {gone}"),
                "410",
            ),
            (
                "INSERT_BEFORE puts a route before another",
                &format!("v1 | operation: INSERT_BEFORE, {gone}"),
                "410",
            ),
            (
                "INSERT_AFTER puts a route after another",
                &format!("v1 | operation: INSERT_AFTER, {gone}"),
                "80|v1|a",
            ),
            ("ADD puts a route after all", &format!("all | operation: ADD, {gone}"), "80|v1|a"),
        ],
    );
    check_each(
        Look::Policy("timeout"),
        "http://a/",
        |name| client(&patch("HTTP_ROUTE", &route(name), "operation: MERGE, value: {route: {timeout: 7s}}")),
        &[("MERGE changes a route", "all", "timeout 7s"), ("MERGE changes no other route", "v1", "")],
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

/// Where the filter is, for whom it is, and who asks.
fn meant(said: &str) -> Client {
    let (filter, who) = said.split_once(" | ").unwrap();
    let (namespace, selector) = filter.split_once(' ').unwrap_or((filter, ""));
    let (place, labels) = who.split_once(' ').unwrap();
    let spec = format!("{selector}\nconfigPatches: [{}]", patch("CLUSTER", "", SLOW));
    mesh()
        .and(&object("EnvoyFilter", &format!("filter.{namespace}"), spec.trim_start()))
        .sidecar(place, labels)
}

#[test]
fn who_is_meant() {
    let slow = "connects within 99s";
    let not = "connects within 10s";
    check_each(
        Look::Settings("connects"),
        "http://a.default/",
        meant,
        &[
            ("a filter is for the workloads of its namespace", "default | default app=web", slow),
            ("a filter is for no other namespace", "shop | default app=web", not),
            ("a filter of the root namespace is for all", "istio-system | default app=web", slow),
            (
                "a selector is for those with its labels",
                "default workloadSelector: {labels: {app: web}} | default app=web",
                slow,
            ),
            (
                "a selector is for no others",
                "default workloadSelector: {labels: {app: web}} | default app=db",
                not,
            ),
            (
                "in the root namespace it selects in every namespace",
                "istio-system workloadSelector: {labels: {app: web}} | shop app=web",
                slow,
            ),
        ],
    );
}

#[test]
fn proxies_that_match() {
    let says = |metadata: &'static str| {
        move |said: &str| {
            let patches = patch("CLUSTER", &format!("proxy: {said}"), SLOW);
            with(&patches).proxy(introduced(
                "sidecar~10.9.0.1~pod.default~default.svc.cluster.local",
                metadata,
                "",
            ))
        }
    };
    check_each(
        Look::Settings("connects"),
        "http://a/",
        says("{ISTIO_VERSION: 1.29.3, CLUSTER_ID: east}"),
        &[
            ("a version is a pattern", "{proxyVersion: '^1\\.29.*'}", "connects within 99s"),
            ("another version does not match", "{proxyVersion: '^1\\.3.*'}", "connects within 10s"),
            ("metadata is equal", "{metadata: {CLUSTER_ID: east}}", "connects within 99s"),
            ("other metadata does not match", "{metadata: {CLUSTER_ID: west}}", "connects within 10s"),
        ],
    );
    check_each(
        Look::Settings("connects"),
        "http://a/",
        says("{}"),
        &[("who tells no version matches none", "{proxyVersion: '.*'}", "connects within 10s")],
    );
}

#[test]
fn order() {
    let filter = |name: &str, more: &str, seconds: u32| {
        let change = format!("operation: MERGE, value: {{connect_timeout: {seconds}s}}");
        object("EnvoyFilter", name, &format!("{more}configPatches: [{}]", patch("CLUSTER", "", &change)))
    };
    let two = |first: (&str, &str), second: (&str, &str)| {
        mesh().and(&filter(first.0, first.1, 1)).and(&filter(second.0, second.1, 2)).sidecar("default", "")
    };
    check_each(
        Look::Settings("connects"),
        "http://a/",
        |said| match said {
            "age" => two(("one", ""), ("two", "")),
            "root" => two(("one", ""), ("two.istio-system", "")),
            "priority" => two(("one", "priority: 5\n"), ("two", "")),
            _ => client(&format!(
                "{}, {}",
                patch("CLUSTER", "", "operation: MERGE, value: {connect_timeout: 3s}"),
                patch("CLUSTER", "", "operation: MERGE, value: {connect_timeout: 4s}")
            )),
        },
        &[
            ("the younger filter comes later, and has the last word", "age", "connects within 2s"),
            ("filters of the root namespace come before all", "root", "connects within 1s"),
            ("a greater priority comes later than age", "priority", "connects within 1s"),
            ("patches of one filter are in their order", "patches", "connects within 4s"),
        ],
    );
}

#[test]
fn what_does_not_fit() {
    let bad = patch(
        "NETWORK_FILTER",
        "listener: {filterChain: {filter: {name: envoy.filters.network.http_connection_manager}}}",
        "operation: MERGE, value: {typed_config: {'@type': type.googleapis.com/envoy.extensions.filters.network.tcp_proxy.v3.TcpProxy, cluster: BlackHoleCluster}}",
    );
    check_each(
        Look::Verdict,
        "http://a/",
        client,
        &[("a patch of another type than its filter changes nothing of it", &bad, "80||a")],
    );
    let good = patch("CLUSTER", "", SLOW);
    check_each(
        Look::Settings("connects"),
        "http://a/",
        client,
        &[("and the patches beside it do what they do", &format!("{bad}, {good}"), "connects within 99s")],
    );
}
