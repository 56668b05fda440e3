//! Destinations, weights and header operations.

use super::*;

pub(super) const TABLES: Tables = &[
    destination,
    weights,
    rewrite,
    header_operations,
    header_operations_of_one_destination,
    response_headers,
];

#[test]
fn destination() {
    let to = |destination: &str| ruled(&format!("[{{route: [{{destination: {destination}}}]}}]"));
    check_each(
        Look::Verdict,
        "http://a/",
        to,
        &[
            ("a short host is one of the rule's namespace", "{host: b}", "80||b"),
            ("a full host is what it is", "{host: b.default.svc.cluster.local}", "80||b"),
            ("a subset that nobody declares is not there", "{host: b, subset: v1}", "80|v1|b (missing)"),
            ("a port is what it is", "{host: both, port: {number: 8080}}", "8080||both"),
            ("without a port it is the only one of the service", "{host: far}", "8080||far"),
            ("without a port it is, of several, the one that was asked for", "{host: both}", "80||both"),
            (
                "a host that nobody declares is not there: Envoy answers 503",
                "{host: nobody.com}",
                "80||nobody.com (missing)",
            ),
            ("a port that nobody declares is not there", "{host: b, port: {number: 99}}", "99||b (missing)"),
        ],
    );
    let mut services = services();
    services.push(kubernetes("alias.default").alias_of("far.default.svc.cluster.local").port("http", 80));
    let rules = virtual_service("a", "hosts: [a]\nhttp: [{route: [{destination: {host: alias}}]}]");
    check_in(&Mesh::of(services, &rules), &[("an alias is what it stands for", "http://a/", "8080||far")]);
}

#[test]
fn weights() {
    let shares = |said: &str| {
        let to = said.split(' ').map(|share| {
            let (host, weight) = share.split_once('=').unwrap();
            format!("{{destination: {{host: {host}}}, weight: {weight}}}")
        });
        ruled(&format!("[{{route: [{}]}}]", to.collect::<Vec<_>>().join(", ")))
    };
    check_each(
        Look::Verdict,
        "http://a/",
        shares,
        &[
            ("weights are shares", "a=80 b=20", "80% 80||a + 20% 80||b"),
            ("weights are shares of their sum, whatever it is", "a=1 b=3", "25% 80||a + 75% 80||b"),
            ("a destination without weight gets nothing", "a=100 b=0", "80||a"),
            ("what has no weight leaves the rest to others", "a=10 b=0 c=30", "25% 80||a + 75% 80||c"),
            ("the only one gets all, even of nothing", "a=0", "80||a"),
            ("the only one gets all, whatever its weight", "a=7", "80||a"),
        ],
    );
}

#[test]
fn rewrite() {
    let rewritten =
        |uri: &str, said: &str| ruled(&format!("[{{match: [{{uri: {uri}}}], rewrite: {said}, {TO_B}}}]"));
    let at = |uri: &'static str| move |said: &str| rewritten(uri, said);
    check_each(
        Look::Request,
        "http://a/x/z?q=1",
        at("{prefix: /x}"),
        &[
            ("of a prefix only the prefix is rewritten", "{uri: /y}", "GET a /y/z?q=1"),
            ("a host is rewritten", "{authority: b.com}", "GET b.com /x/z?q=1"),
            ("path and host are rewritten together", "{uri: /y, authority: b.com}", "GET b.com /y/z?q=1"),
            (
                "a pattern rewrites all but the query",
                "{uriRegexRewrite: {match: '/(\\w)/(\\w)', rewrite: '/\\2/\\1'}}",
                "GET a /z/x?q=1",
            ),
        ],
    );
    let path = |path: &'static str, uri: &'static str| (format!("http://a{path}"), at(uri));
    let (call, client) = path("/x?q=1", "{exact: /x}");
    check_each(
        Look::Request,
        &call,
        client,
        &[("an exact path is rewritten whole, but for the query", "{uri: /y}", "GET a /y?q=1")],
    );
    let (call, client) = path("/x/z", "{regex: '/x.*'}");
    check_each(
        Look::Request,
        &call,
        client,
        &[("what a pattern matched is rewritten whole", "{uri: /y}", "GET a /y")],
    );
    let (call, client) = path("/x/z", "{prefix: /x/}");
    check_each(
        Look::Request,
        &call,
        client,
        &[("a prefix that ends in a slash loses it with the rest", "{uri: /}", "GET a /z")],
    );
}

#[test]
fn header_operations() {
    let of_rule = |said: &str| ruled(&format!("[{{headers: {said}, {TO_B}}}]"));
    check_each(
        Look::Request,
        "http://a/ | x: 1 | y: 2",
        of_rule,
        &[
            ("set replaces", "{request: {set: {x: '3'}}}", "GET a / y=2 x=3"),
            ("add adds", "{request: {add: {x: '3'}}}", "GET a / x=1 y=2 x=3"),
            ("remove removes", "{request: {remove: [x]}}", "GET a / y=2"),
            ("a host is set, not added", "{request: {set: {Host: b.com}}}", "GET b.com / x=1 y=2"),
            ("a host has two names", "{request: {set: {':authority': b.com}}}", "GET b.com / x=1 y=2"),
        ],
    );
    let of_both = |said: &str| {
        let (rule, own) = said.split_once(" | ").unwrap();
        ruled(&format!("[{{headers: {rule}, route: [{{destination: {{host: b}}, headers: {own}}}]}}]"))
    };
    check_each(
        Look::Request,
        "http://a/",
        of_both,
        &[
            ("a destination may say it too", "{} | {request: {set: {x: '2'}}}", "GET a / x=2"),
            ("a destination may set the host", "{} | {request: {set: {host: c.com}}}", "GET c.com /"),
            (
                "what the rule says of the host counts before what its destination says",
                "{request: {set: {host: b.com}}} | {request: {set: {host: c.com}}}",
                "GET b.com /",
            ),
        ],
    );
}

#[test]
fn header_operations_of_one_destination() {
    let rules = "[{route: [{destination: {host: b}, weight: 1, headers: {request: {set: {x: b, host: b.com}}}}, \
                 {destination: {host: c}, weight: 1}]}]";
    check(
        &ruled(rules),
        Look::Request,
        &[(
            "operations of one destination are for its requests alone",
            "http://a/",
            "GET b.com / x=b + GET a /",
        )],
    );
}

/// Returns the operations on responses, as `<where>: <operation>`.
fn answered(said: &str) -> String {
    let route = ruled(said).ask("http://a/").route.unwrap();
    let add = route.response_headers_to_add.iter().filter_map(|option| {
        let header = option.header.as_ref()?;
        Some(format!("{:?} {}={}", option.append_action(), header.key, header.value))
    });
    let remove = route.response_headers_to_remove.iter().map(|name| format!("remove {name}"));
    add.chain(remove).collect::<Vec<_>>().join("; ")
}

#[test]
fn response_headers() {
    check_found(
        |said| answered(&format!("[{{headers: {{response: {said}}}, {TO_B}}}]")),
        &[
            ("set replaces in answers", "{set: {x: '1'}}", "OverwriteIfExistsOrAdd x=1"),
            ("add adds to answers", "{add: {x: '1'}}", "AppendIfExistsOrAdd x=1"),
            ("remove removes from answers", "{remove: [x]}", "remove x"),
        ],
    );
}
