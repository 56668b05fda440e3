//! Where requests go, in which shares, and what the destination is told.

use super::*;

#[test]
fn destination() {
    for (said, expected) in [
        ("{host: b}", "80||b"),
        ("{host: b.default.svc.cluster.local}", "80||b"),
        ("{host: b, subset: v1}", "80|v1|b (missing)"),
        ("{host: both, port: {number: 8080}}", "8080||both"),
        // The only port of the service, the one that was asked for.
        ("{host: far}", "8080||far"),
        ("{host: both}", "80||both"),
        // Nobody declared it: Envoy answers 503.
        ("{host: nobody.com}", "80||nobody.com (missing)"),
        ("{host: b, port: {number: 99}}", "99||b (missing)"),
    ] {
        check(&format!("[{{route: [{{destination: {said}}}]}}]"), &[("http://a/", expected)]);
    }
}

#[test]
fn an_alias_as_destination_is_what_it_stands_for() {
    let mut services = services();
    services.push(kubernetes("alias.default").alias_of("far.default.svc.cluster.local").port("http", 80));
    let rules = virtual_service("a", "hosts: [a]\nhttp: [{route: [{destination: {host: alias}}]}]");
    check_in(&Mesh::of(services, &rules), &[("http://a/", "8080||far")]);
}

#[test]
fn weights() {
    let to = |host: &str, weight: u32| format!("{{destination: {{host: {host}}}, weight: {weight}}}");
    for (said, expected) in [
        (vec![to("a", 80), to("b", 20)], "80% 80||a + 20% 80||b"),
        (vec![to("a", 1), to("b", 3)], "25% 80||a + 75% 80||b"),
        (vec![to("a", 100), to("b", 0)], "80||a"),
        (vec![to("a", 10), to("b", 0), to("c", 30)], "25% 80||a + 75% 80||c"),
        // The only one gets all.
        (vec![to("a", 0)], "80||a"),
        (vec![to("a", 7)], "80||a"),
    ] {
        check(&format!("[{{route: [{}]}}]", said.join(", ")), &[("http://a/", expected)]);
    }
}

/// Rules for host `a`, a call, and the request as it leaves the proxy.
fn check_request(http: &str, line: &str, expected: &str) {
    let trace = client(&rules_for_a(http)).ask(line);
    let request = trace.request().unwrap_or_else(|| panic!("{line}: {trace}"));
    let headers = request.headers.iter().filter(|(name, _)| !name.starts_with("x-envoy"));
    let headers: Vec<String> = headers.map(|(name, value)| format!(" {name}={value}")).collect();
    let found = format!("{} {} {}{}", request.method, request.authority, request.path, headers.concat());
    assert_eq!(found, expected, "{http} {line}");
}

#[test]
fn rewrite() {
    let at = |uri: &str, said: &str| format!("[{{match: [{{uri: {uri}}}], rewrite: {said}, {TO_B}}}]");
    for (rules, line, expected) in [
        (at("{prefix: /x}", "{uri: /y}"), "http://a/x/z?q=1", "GET a /y/z?q=1"),
        (at("{exact: /x}", "{uri: /y}"), "http://a/x?q=1", "GET a /y?q=1"),
        (at("{regex: '/x.*'}", "{uri: /y}"), "http://a/x/z", "GET a /y"),
        (at("{prefix: /x/}", "{uri: /}"), "http://a/x/z", "GET a /z"),
        (at("{prefix: /}", "{authority: b.com}"), "http://a/x", "GET b.com /x"),
        (at("{prefix: /x}", "{uri: /y, authority: b.com}"), "http://a/x", "GET b.com /y"),
        (
            at("{prefix: /}", "{uriRegexRewrite: {match: '/id/(\\d+)/(.*)', rewrite: '/\\2/\\1'}}"),
            "http://a/id/7/name",
            "GET a /name/7",
        ),
    ] {
        check_request(&rules, line, expected);
    }
}

#[test]
fn header_operations() {
    let rule = |said: &str, own: &str| {
        format!("[{{headers: {said}, route: [{{destination: {{host: b}}, headers: {own}}}]}}]")
    };
    for (rules, line, expected) in [
        (rule("{request: {set: {x: '2'}}}", "{}"), "http://a/ | x: 1", "GET a / x=2"),
        (rule("{request: {add: {x: '2'}}}", "{}"), "http://a/ | x: 1", "GET a / x=1 x=2"),
        (rule("{request: {remove: [x]}}", "{}"), "http://a/ | x: 1 | y: 2", "GET a / y=2"),
        (rule("{}", "{request: {set: {x: '2'}}}"), "http://a/", "GET a / x=2"),
        // A host is rewritten, not added; what the rule says of it counts before what its destination says.
        (rule("{request: {set: {Host: b.com}}}", "{}"), "http://a/", "GET b.com /"),
        (rule("{request: {set: {':authority': b.com}}}", "{}"), "http://a/", "GET b.com /"),
        (rule("{}", "{request: {set: {host: c.com}}}"), "http://a/", "GET c.com /"),
        (
            rule("{request: {set: {host: b.com}}}", "{request: {set: {host: c.com}}}"),
            "http://a/",
            "GET b.com /",
        ),
    ] {
        check_request(&rules, line, expected);
    }
}

#[test]
fn header_operations_of_one_destination_of_several_are_for_its_requests() {
    let rules = "[{route: [{destination: {host: b}, weight: 1, headers: {request: {set: {x: b, host: b.com}}}}, \
                 {destination: {host: c}, weight: 1}]}]";
    let trace = client(&rules_for_a(rules)).ask("http://a/");
    let said: Vec<_> = trace.shares().iter().filter_map(|share| share.request.as_ref()).collect();
    assert_eq!(said[0].header("x").as_deref(), Some("b"));
    assert_eq!((said[0].authority.as_str(), said[1].authority.as_str()), ("b.com", "a"));
    assert_eq!(said[1].header("x"), None);
}
