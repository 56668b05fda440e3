//! Patches of route configurations, virtual hosts and routes.

use super::*;

pub(super) const TABLES: Tables = &[route_configurations, virtual_hosts, routes];

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
