//! What rules of `VirtualService`s for requests promise to the clients beside whom a proxy stands, field by field: the call in a
//! line, and where it ends.

#![allow(
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    clippy::unwrap_used,
    reason = "helpers of tests fail as tests do"
)]

mod fixture;

use std::collections::BTreeMap;
use std::sync::Arc;

use fixture::*;
use pilot_core::api::read;
use pilot_core::cache::{Cache, resources};
use pilot_core::model::{Change, ConfigMeta, ConfigObject, ConfigSpec, ResourceSet, SourceEvent, SourceId};
use pilot_core::push::PushContext;
use pilot_core::scope::{Scope, ScopeKey};
use pilot_core::simulate::Trace;
use pilot_core::world::World;
use pilot_proto::ResourceType;

/// Clusters of a service in this namespace are written `<port>|<subset>|<name>`.
fn short(text: &str) -> String {
    text.replace(".default.svc.cluster.local", "").replace("outbound|", "")
}

/// Services `a`, `b` and `c`, each with one port 80; `far` with one port 8080; `both` with 80 and 8080.
fn services() -> Vec<Declared> {
    let one = |name: &str, port: u16, last: u8| {
        let declared = kubernetes(&format!("{name}.default")).port("http", port);
        declared.vip(&format!("10.0.0.{last}")).on(&format!("10.1.0.{last}"))
    };
    let both = kubernetes("both.default").port("http", 80).port("http-alt", 8080);
    vec![
        one("a", 80, 1),
        one("b", 80, 2),
        one("c", 80, 3),
        one("far", 8080, 4),
        both.vip("10.0.0.5").on("10.1.0.5"),
    ]
}

/// A `VirtualService` of namespace `default`.
fn virtual_service(name: &str, spec: &str) -> String {
    let spec = spec.replace('\n', "\n  ");
    format!(
        "\n---\napiVersion: networking.istio.io/v1\nkind: VirtualService\nmetadata: {{name: {name}}}\nspec:\n  {spec}\n"
    )
}

/// A `DestinationRule` of namespace `default`.
fn destination_rule(name: &str, spec: &str) -> String {
    virtual_service(name, spec).replace("VirtualService", "DestinationRule")
}

/// The mesh with these rules for host `a`.
fn rules_for_a(http: &str) -> Mesh {
    Mesh::of(services(), &virtual_service("a", &format!("hosts: [a]\nhttp: {http}")))
}

fn client(mesh: &Mesh) -> Client {
    mesh.sidecar("default", "app=web")
}

/// Rules for host `a`, calls, and where they end.
fn check(http: &str, calls: &[(&str, &str)]) {
    check_in(&rules_for_a(http), calls);
}

fn check_in(mesh: &Mesh, calls: &[(&str, &str)]) {
    let client = client(mesh);
    for (line, expected) in calls {
        let trace = client.ask(line);
        assert_eq!(short(&trace.verdict.to_string()), *expected, "{line}\n{:#?}", trace.steps);
    }
}

const TO_B: &str = "route: [{destination: {host: b}}]";
const TO_A: &str = "route: [{destination: {host: a}}]";

// === match ===

#[test]
fn uri() {
    let rules = |uri: &str| format!("[{{match: [{{uri: {uri}}}], {TO_B}}}, {{{TO_A}}}]");
    check(
        &rules("{exact: /x}"),
        &[
            ("http://a/x", "80||b"),
            ("http://a/x?q=1", "80||b"),
            ("http://a/x/", "80||a"),
            ("http://a/X", "80||a"),
        ],
    );
    check(
        &rules("{prefix: /x}"),
        &[
            ("http://a/x", "80||b"),
            ("http://a/x/y", "80||b"),
            ("http://a/xy", "80||b"),
            ("http://a/y/x", "80||a"),
        ],
    );
    check(
        &rules("{regex: '/[a-z]+/\\d'}"),
        &[("http://a/x/1", "80||b"), ("http://a/x/1/", "80||a"), ("http://a/1", "80||a")],
    );
    check(&rules("{prefix: /}"), &[("http://a/", "80||b"), ("http://a/y", "80||b")]);
}

#[test]
fn ignore_uri_case() {
    for (uri, path) in [("exact: /Shop", "/sHOP"), ("prefix: /Shop", "/SHOP/x")] {
        for (ignored, expected) in [("true", "80||b"), ("false", "80||a")] {
            let rules =
                format!("[{{match: [{{uri: {{{uri}}}, ignoreUriCase: {ignored}}}], {TO_B}}}, {{{TO_A}}}]");
            check(&rules, &[(&format!("http://a{path}"), expected)]);
        }
    }
}

#[test]
fn method_scheme_and_authority() {
    let rules = |said: &str| format!("[{{match: [{{{said}}}], {TO_B}}}, {{{TO_A}}}]");
    check(
        &rules("method: {exact: POST}"),
        &[("POST http://a/", "80||b"), ("GET http://a/", "80||a"), ("POSTS http://a/", "80||a")],
    );
    check(&rules("method: {regex: 'P.*'}"), &[("PUT http://a/", "80||b"), ("GET http://a/", "80||a")]);
    check(&rules("scheme: {exact: http}"), &[("http://a/", "80||b")]);
    check(&rules("scheme: {exact: https}"), &[("http://a/", "80||a")]);
    check(
        &rules("authority: {prefix: a.}"),
        &[("http://a.default/", "80||b"), ("http://a/", "80||a"), ("http://a.default.svc/", "80||b")],
    );
}

#[test]
fn headers() {
    let rules = |said: &str| format!("[{{match: [{{headers: {said}}}], {TO_B}}}, {{{TO_A}}}]");
    check(
        &rules("{end-user: {exact: jason}}"),
        &[
            ("http://a/ | end-user: jason", "80||b"),
            ("http://a/ | end-user: jasons", "80||a"),
            ("http://a/", "80||a"),
        ],
    );
    check(
        &rules("{cookie: {regex: '^(.*?;)?(user=jason)(;.*)?$'}}"),
        &[("http://a/ | cookie: x=1;user=jason", "80||b"), ("http://a/ | cookie: user=jasons", "80||a")],
    );
    check(&rules("{x: {prefix: v}}"), &[("http://a/ | x: v2", "80||b"), ("http://a/ | x: 2v", "80||a")]);
    // Nothing was said of it: it is there.
    check(&rules("{x: {}}"), &[("http://a/ | x: 1", "80||b"), ("http://a/", "80||a")]);
    // All of them together.
    check(
        &rules("{x: {exact: '1'}, y: {exact: '2'}}"),
        &[("http://a/ | x: 1 | y: 2", "80||b"), ("http://a/ | x: 1", "80||a"), ("http://a/ | y: 2", "80||a")],
    );
}

#[test]
fn without_headers() {
    let rules = |said: &str| format!("[{{match: [{{withoutHeaders: {said}}}], {TO_B}}}, {{{TO_A}}}]");
    check(
        &rules("{end-user: {exact: jason}}"),
        &[
            ("http://a/ | end-user: jason", "80||a"),
            ("http://a/ | end-user: jasons", "80||b"),
            // What is not there is not like this.
            ("http://a/", "80||b"),
        ],
    );
    check(&rules("{x: {}}"), &[("http://a/ | x: 1", "80||a"), ("http://a/", "80||b")]);
}

#[test]
fn query_params() {
    let rules = |said: &str| format!("[{{match: [{{queryParams: {said}}}], {TO_B}}}, {{{TO_A}}}]");
    check(
        &rules("{q: {exact: 'yes'}}"),
        &[("http://a/?q=yes", "80||b"), ("http://a/?q=no", "80||a"), ("http://a/", "80||a")],
    );
    check(&rules("{q: {prefix: v}}"), &[("http://a/?p=1&q=v2", "80||b"), ("http://a/?q=2", "80||a")]);
    check(&rules("{q: {regex: '\\d+$'}}"), &[("http://a/?q=12", "80||b"), ("http://a/?q=x", "80||a")]);
}

#[test]
fn port_is_the_one_that_was_asked_for() {
    let mesh = Mesh::of(
        services(),
        &virtual_service(
            "both",
            "hosts: [both]\nhttp: [{match: [{port: 8080}], route: [{destination: {host: b}}]}, {route: [{destination: {host: both}}]}]",
        ),
    );
    check_in(&mesh, &[("http://both/", "80||both"), ("http://both:8080/", "80||b")]);
}

#[test]
fn source_labels_and_namespace() {
    let rules = |said: &str| format!("[{{match: [{{{said}}}], {TO_B}}}, {{{TO_A}}}]");
    for (said, namespace, labels, expected) in [
        ("sourceLabels: {app: web}", "default", "app=web,version=v1", "80||b"),
        ("sourceLabels: {app: web, version: v2}", "default", "app=web,version=v1", "80||a"),
        ("sourceLabels: {app: web}", "default", "app=other", "80||a"),
        ("sourceNamespace: shop", "default", "app=web", "80||a"),
        ("sourceNamespace: shop", "shop", "app=web", "80||b"),
        ("sourceNamespace: shop, sourceLabels: {app: web}", "shop", "app=other", "80||a"),
        // Where gateways are named, nothing is asked of clients.
        ("sourceLabels: {app: web}, gateways: [mesh]", "default", "app=other", "80||b"),
        ("gateways: [edge]", "default", "app=web", "80||a"),
    ] {
        let trace =
            rules_for_a(&rules(said)).sidecar(namespace, labels).ask("http://a.default.svc.cluster.local/");
        assert_eq!(short(&trace.verdict.to_string()), expected, "{said} from {labels} in {namespace}");
    }
}

#[test]
fn conditions_of_one_match_hold_together_and_of_several_one_is_enough() {
    let all = format!("[{{match: [{{uri: {{prefix: /x}}, method: {{exact: PUT}}}}], {TO_B}}}, {{{TO_A}}}]");
    check(&all, &[("PUT http://a/x", "80||b"), ("GET http://a/x", "80||a"), ("PUT http://a/", "80||a")]);
    let either =
        format!("[{{match: [{{uri: {{prefix: /x}}}}, {{method: {{exact: PUT}}}}], {TO_B}}}, {{{TO_A}}}]");
    check(&either, &[("GET http://a/x", "80||b"), ("PUT http://a/", "80||b"), ("GET http://a/", "80||a")]);
}

// === order ===

#[test]
fn the_first_rule_that_matches_counts_and_what_follows_a_rule_for_all_does_not() {
    check(
        &format!(
            "[{{match: [{{uri: {{prefix: /x/y}}}}], {TO_B}}}, {{match: [{{uri: {{prefix: /x}}}}], {TO_A}}}, \
             {{route: [{{destination: {{host: c}}}}]}}, {{match: [{{uri: {{prefix: /z}}}}], {TO_B}}}]"
        ),
        &[
            ("http://a/x/y", "80||b"),
            ("http://a/x/z", "80||a"),
            ("http://a/", "80||c"),
            ("http://a/z", "80||c"),
        ],
    );
}

#[test]
fn what_no_rule_matches_is_not_found() {
    check(
        &format!("[{{match: [{{uri: {{prefix: /x}}}}], {TO_B}}}]"),
        &[("http://a/x", "80||b"), ("http://a/y", "404")],
    );
}

#[test]
fn rules_that_are_all_for_others_say_nothing() {
    check(&format!("[{{match: [{{sourceLabels: {{app: nobody}}}}], {TO_B}}}]"), &[("http://a/", "80||a")]);
}

// === route ===

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

// === what the destination is told ===

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

// === what is asked of the proxy besides ===

/// Rules for host `a`, and what a call is promised.
fn promised(http: &str) -> Vec<String> {
    let trace = client(&rules_for_a(http)).ask("http://a/");
    trace.policy.iter().map(|said| short(said)).collect()
}

#[test]
fn timeout() {
    let limits = |said: &str| {
        let said = promised(&format!("[{{{said}{TO_B}}}]"));
        said.into_iter()
            .filter(|said| said.contains("timeout") || said.starts_with("stream"))
            .collect::<Vec<_>>()
    };
    // Envoy looks at only one of the two.
    assert_eq!(limits("timeout: 1.5s, "), ["timeout 1.5s"]);
    assert_eq!(limits(""), ["no timeout", "stream at most 0s"]);
}

#[test]
fn retries() {
    const DEFAULT: &str = "connect-failure,refused-stream,unavailable,cancelled,retriable-status-codes";
    let default = format!("retry 2 on {DEFAULT} previous_hosts");
    for (said, expected) in [
        ("", Some(default.as_str())),
        ("retries: {attempts: 0}, ", None),
        (
            "retries: {attempts: 5, retryOn: 'gateway-error,reset'}, ",
            Some("retry 5 on gateway-error,reset previous_hosts"),
        ),
        (
            "retries: {attempts: 3, perTryTimeout: 2s, retryOn: '503,reset'}, ",
            Some("retry 3 on reset,retriable-status-codes status 503 each 2s previous_hosts"),
        ),
        (
            "retries: {attempts: 1, retryOn: reset, backoff: 0.1s}, ",
            Some("retry 1 on reset after 0.1s previous_hosts"),
        ),
        (
            "retries: {attempts: 1, retryOn: reset, retryIgnorePreviousHosts: false}, ",
            Some("retry 1 on reset"),
        ),
    ] {
        let found = promised(&format!("[{{{said}{TO_B}}}]"));
        let found = found.iter().find(|said| said.starts_with("retry")).map(String::as_str);
        assert_eq!(found, expected, "{said}");
    }
}

#[test]
fn what_the_mesh_tries_again_holds_where_no_rule_says_it() {
    for (mesh, rule, expected) in [
        ("{attempts: 7, retryOn: reset}", "", Some("retry 7 on reset previous_hosts")),
        ("{attempts: 0}", "", None),
        (
            "{attempts: 7, retryOn: reset}",
            "retries: {attempts: 1, retryOn: cancelled}, ",
            Some("retry 1 on cancelled previous_hosts"),
        ),
    ] {
        let mesh =
            rules_for_a(&format!("[{{{rule}{TO_B}}}]")).config(&format!("defaultHttpRetryPolicy: {mesh}"));
        let hosts: &[&str] = if rule.is_empty() { &["a", "b"] } else { &["a"] };
        for host in hosts {
            let trace = client(&mesh).ask(&format!("http://{host}/"));
            let found = trace.policy.iter().find(|said| said.starts_with("retry")).map(String::as_str);
            assert_eq!(found, expected, "{host} {rule}");
        }
    }
}

#[test]
fn mirrors() {
    for (said, expected) in [
        ("mirror: {host: c}", &["mirror 100% 80||c"][..]),
        ("mirror: {host: c}, mirrorPercentage: {value: 12.5}", &["mirror 12.5% 80||c"]),
        ("mirror: {host: c}, mirrorPercent: 30", &["mirror 30% 80||c"]),
        ("mirror: {host: c}, mirrorPercentage: {value: 0}", &[]),
        ("mirror: {host: far}", &["mirror 100% 8080||far"]),
        (
            "mirrors: [{destination: {host: c}, percentage: {value: 57.3}}, {destination: {host: a, subset: v2}}]",
            &["mirror 57.3% 80||c", "mirror 100% 80|v2|a"],
        ),
    ] {
        let found = promised(&format!("[{{{said}, {TO_B}}}]"));
        let found: Vec<&String> = found.iter().filter(|said| said.starts_with("mirror")).collect();
        assert_eq!(found, expected, "{said}");
    }
}

#[test]
fn consistent_hash_is_that_of_the_destination() {
    let by = |header: &str| format!("{{loadBalancer: {{consistentHash: {{httpHeaderName: {header}}}}}}}");
    let at_port = |header: &str| {
        format!(
            "portLevelSettings: [{{port: {{number: 80}}, loadBalancer: {{consistentHash: {{httpHeaderName: {header}}}}}}}]"
        )
    };
    let all = format!("trafficPolicy: {}", by("all"));
    let port = format!(
        "trafficPolicy: {{loadBalancer: {{consistentHash: {{httpHeaderName: all}}}}, {}}}",
        at_port("port")
    );
    let subset = format!("{port}\nsubsets: [{{name: v1, trafficPolicy: {}}}]", by("subset"));
    let subset_port = format!(
        "{port}\nsubsets: [{{name: v1, trafficPolicy: {{loadBalancer: {{consistentHash: {{httpHeaderName: subset}}}}, {}}}}}]",
        at_port("subset-port")
    );
    let kinds = |said: &str| format!("trafficPolicy: {{loadBalancer: {{consistentHash: {{{said}}}}}}}");
    for (rule, destination, expected) in [
        (all.clone(), "{host: b}", "hash header all"),
        (port, "{host: b}", "hash header port"),
        (subset.clone(), "{host: b, subset: v1}", "hash header subset"),
        (subset, "{host: b}", "hash header port"),
        (subset_port, "{host: b, subset: v1}", "hash header subset-port"),
        (kinds("useSourceIp: true"), "{host: b}", "hash source"),
        (kinds("httpQueryParameterName: user"), "{host: b}", "hash parameter user"),
        (kinds("httpCookie: {name: user, path: /p, ttl: 60s}"), "{host: b}", "hash cookie user/p 60s"),
    ] {
        let mesh = rules_for_a(&format!("[{{route: [{{destination: {destination}}}]}}]"))
            .and(&destination_rule("b", &format!("host: b\n{rule}")));
        let said = client(&mesh).ask("http://a/").policy;
        assert!(said.iter().any(|said| said == expected), "{rule} {said:?}");
        let retry = said.iter().find(|said| said.starts_with("retry")).unwrap();
        assert!(!retry.contains("previous_hosts"), "another host knows the client no better: {retry}");
    }
    // Without rules for requests too.
    let mesh = Mesh::of(services(), &destination_rule("b", &format!("host: b\n{all}")));
    assert!(client(&mesh).ask("http://b/").policy.contains(&"hash header all".to_owned()));
}

// === what the proxy answers ===

#[test]
fn redirect() {
    let at = |uri: &str, said: &str| format!("[{{match: [{{uri: {uri}}}], redirect: {said}}}]");
    for (rules, line, expected) in [
        (at("{prefix: /}", "{uri: /y}"), "http://a/x", "301 http://a/y"),
        (at("{prefix: /}", "{authority: b.com}"), "http://a/x?q=1", "301 http://b.com/x?q=1"),
        (at("{prefix: /}", "{scheme: https}"), "http://a/x", "301 https://a/x"),
        (
            at("{prefix: /}", "{authority: b.com, port: 8443, scheme: https}"),
            "http://a/x",
            "301 https://b.com:8443/x",
        ),
        (at("{prefix: /}", "{authority: b.com, port: 80}"), "http://a/x", "301 http://b.com/x"),
        (at("{prefix: /}", "{scheme: https, port: 443}"), "http://a/x", "301 https://a/x"),
        (
            at("{prefix: /}", "{authority: b.com, derivePort: FROM_REQUEST_PORT}"),
            "http://a/x",
            "301 http://b.com/x",
        ),
        (
            at("{prefix: /}", "{scheme: https, derivePort: FROM_REQUEST_PORT}"),
            "http://a/x",
            "301 https://a:80/x",
        ),
        (
            at("{prefix: /}", "{authority: b.com, derivePort: FROM_PROTOCOL_DEFAULT}"),
            "http://a/x",
            "301 http://b.com/x",
        ),
        (at("{prefix: /x}", "{prefixRewrite: /y}"), "http://a/x/z", "301 http://a/y/z"),
        (at("{prefix: /}", "{uri: /y, redirectCode: 308}"), "http://a/x", "308 http://a/y"),
        (at("{prefix: /}", "{uri: /y, redirectCode: 307}"), "http://a/x", "307 http://a/y"),
        (at("{prefix: /}", "{uri: /y, redirectCode: 303}"), "http://a/x", "303 http://a/y"),
        (at("{prefix: /}", "{uri: /y, redirectCode: 302}"), "http://a/x", "302 http://a/y"),
    ] {
        check(&rules, &[(line, expected)]);
    }
}

#[test]
fn direct_response() {
    check("[{directResponse: {status: 503, body: {string: gone}}}]", &[("http://a/", "503")]);
    check("[{directResponse: {status: 201}}]", &[("http://a/", "201")]);
}

#[test]
fn fault() {
    let rules = |said: &str| format!("[{{fault: {said}, {TO_B}}}]");
    check(&rules("{abort: {httpStatus: 418, percentage: {value: 100}}}"), &[("http://a/", "418 (fault)")]);
    // The API: "If not specified, no request will be aborted."
    check(&rules("{abort: {httpStatus: 418}}"), &[("http://a/", "80||b")]);
    let said = |said: &str| {
        let trace: Trace = client(&rules_for_a(&rules(said))).ask("http://a/");
        let steps = trace.steps.iter().map(|step| step.what.clone());
        steps.filter(|what| what.contains("delays") || what.contains("aborts")).collect::<Vec<_>>()
    };
    for (rule, expected) in [
        ("{delay: {fixedDelay: 2s, percentage: {value: 0.1}}}", "delays 0.1% by 2s"),
        ("{delay: {fixedDelay: 2s, percent: 10}}", "delays 10% by 2s"),
        ("{abort: {httpStatus: 500, percentage: {value: 50}}}", "aborts 50% with 500"),
        ("{abort: {grpcStatus: UNAVAILABLE, percentage: {value: 50}}}", "aborts 50% with grpc-status 14"),
    ] {
        assert!(said(rule).iter().any(|what| what.contains(expected)), "{rule}: {:?}", said(rule));
    }
}

#[test]
fn cors() {
    let rules = |said: &str| format!("[{{corsPolicy: {said}, {TO_B}}}]");
    let preflight = "OPTIONS http://a/ | access-control-request-method: PUT | origin: ";
    for (said, origin, expected) in [
        ("{allowOrigins: [{exact: 'http://x.com'}], allowMethods: [PUT]}", "http://x.com", "200 (preflight)"),
        ("{allowOrigins: [{prefix: 'http://x'}]}", "http://x.org", "200 (preflight)"),
        ("{allowOrigins: [{regex: '.*'}]}", "http://y.com", "200 (preflight)"),
        ("{allowOrigin: ['http://x.com']}", "http://x.com", "200 (preflight)"),
        // Who is not allowed is answered by the workload, unless the rule says otherwise.
        ("{allowOrigins: [{exact: 'http://x.com'}]}", "http://y.com", "80||b"),
        ("{allowOrigins: [{exact: 'http://x.com'}], unmatchedPreflights: FORWARD}", "http://y.com", "80||b"),
        (
            "{allowOrigins: [{exact: 'http://x.com'}], unmatchedPreflights: IGNORE}",
            "http://y.com",
            "200 (preflight)",
        ),
    ] {
        check(&rules(said), &[(&format!("{preflight}{origin}"), expected)]);
    }
}

// === hosts ===

#[test]
fn a_rule_is_for_every_name_of_its_service() {
    let calls = ["a", "a.default", "a.default.svc", "a.default.svc.cluster.local", "10.0.0.1"];
    for host in calls {
        check(&format!("[{{{TO_B}}}]"), &[(&format!("http://{host}/"), "80||b")]);
    }
}

#[test]
fn the_most_specific_host_counts_and_of_equal_ones_the_oldest_object() {
    let to = |host: &str, to: &str| {
        format!("hosts: ['{host}']\nhttp: [{{route: [{{destination: {{host: {to}}}}}]}}]")
    };
    let wide = virtual_service("wide", &to("*.default.svc.cluster.local", "c"));
    let narrow = virtual_service("narrow", &to("a.default.svc.cluster.local", "b"));
    let later = virtual_service("later", &to("a.default.svc.cluster.local", "both"));
    let mesh = Mesh::of(services(), &wide).and(&narrow).and(&later);
    check_in(&mesh, &[("http://a/", "80||b"), ("http://b/", "80||c"), ("http://c/", "80||c")]);
    let push = mesh.push();
    let report = generate(&push, &client(&mesh).0.proxy, ResourceType::Route, Some(&names(["80"]))).report;
    assert_eq!(report.counters()["pilot_vservice_dup_domain"], 1, "{:?}", report.rejected);
}

#[test]
fn hosts_that_no_service_has_are_known_at_port_80_and_where_their_rules_serve_services() {
    let elsewhere =
        services().into_iter().chain([kubernetes("other.default").port("http", 8080).vip("10.0.0.9")]);
    let rules =
        virtual_service("x", "hosts: [x.com, '*.y.com', far]\nhttp: [{route: [{destination: {host: b}}]}]");
    let mesh = Mesh::of(elsewhere, &rules)
        .and(&virtual_service("z", "hosts: [z.com]\nhttp: [{route: [{destination: {host: b}}]}]"));
    let through = |host: &str, port: u16| format!("http://{host}:{port}/ | @10.9.9.9:{port}");
    for (host, port, expected) in [
        ("x.com", 80, "80||b"),
        ("any.y.com", 80, "80||b"),
        ("z.com", 80, "80||b"),
        ("x.com", 8080, "80||b"),
        ("z.com", 8080, "PassthroughCluster"),
        ("y.com", 80, "PassthroughCluster"),
    ] {
        check_in(&mesh, &[(&through(host, port), expected)]);
    }
}

#[test]
fn two_objects_for_one_host_without_service_are_told_apart_by_age() {
    let to = |to: &str| format!("hosts: [x.com]\nhttp: [{{route: [{{destination: {{host: {to}}}}}]}}]");
    let mesh = Mesh::of(services(), &virtual_service("old", &to("b"))).and(&virtual_service("new", &to("c")));
    check_in(&mesh, &[("http://x.com/ | @10.9.9.9:80", "80||b")]);
    let report =
        generate(&mesh.push(), &client(&mesh).0.proxy, ResourceType::Route, Some(&names(["80"]))).report;
    assert_eq!(report.counters()["pilot_vservice_dup_domain"], 1);
}

#[test]
fn a_route_names_the_object_that_it_was_made_from() {
    let trace =
        client(&rules_for_a(&format!("[{{name: first, match: [{{name: all}}], {TO_B}}}]"))).ask("http://a/");
    assert!(trace.origins().contains(&"VirtualService/default/a"), "{:?}", trace.origins());
    assert_eq!(trace.route.unwrap().name, "first.all");
}

// === where it is asked ===

#[test]
fn a_sniffed_port_has_the_rules_of_its_service() {
    let auto = kubernetes("auto.default").port("", 7000).vip("10.0.0.9").on("10.1.0.9");
    let rules = virtual_service(
        "auto",
        &format!("hosts: [auto]\nhttp: [{{match: [{{uri: {{prefix: /x}}}}], {TO_B}}}]"),
    );
    let mesh = Mesh::of(services().into_iter().chain([auto]), &rules);
    check_in(&mesh, &[("http://auto:7000/x", "80||b"), ("http://auto:7000/y", "404")]);
}

#[test]
fn a_proxy_port_has_the_rules_of_every_port() {
    let rules = virtual_service(
        "both",
        "hosts: [both]\nhttp: [{match: [{port: 8080}], route: [{destination: {host: b}}]}, {route: [{destination: {host: both}}]}]",
    );
    let alone = virtual_service("x", &format!("hosts: [x.com]\nhttp: [{{{TO_B}}}]"));
    let mesh = Mesh::of(services(), &rules).and(&alone).config("proxyHttpPort: 15080");
    for (host, expected) in
        [("both", "80||both"), ("both:8080", "80||b"), ("x.com", "80||b"), ("x.com:80", "80||b")]
    {
        check_in(&mesh, &[(&format!("http://{host}/ | @127.0.0.1:15080"), expected)]);
    }
}

#[test]
fn a_closed_mesh_follows_rules_and_nothing_else() {
    let mesh = rules_for_a(&format!("[{{{TO_B}}}]")).config("outboundTrafficPolicy: {mode: REGISTRY_ONLY}");
    check_in(&mesh, &[("http://a/", "80||b"), ("http://x.com/ | @10.9.9.9:80", "502")]);
}

#[test]
fn a_sidecars_own_listener_knows_its_hosts_and_where_the_rest_goes() {
    let sidecar = "\n---\napiVersion: networking.istio.io/v1\nkind: Sidecar\nmetadata: {name: own}\nspec:\n  \
                   outboundTrafficPolicy: {mode: ALLOW_ANY, egressProxy: {host: c.default.svc.cluster.local, port: {number: 80}}}\n  \
                   egress:\n  - {port: {number: 80, protocol: HTTP, name: http}, hosts: ['./b.default.svc.cluster.local', './c.default.svc.cluster.local']}\n  \
                   - {port: {number: 9999, protocol: HTTP, name: own}, hosts: ['*/x.com', './far.default.svc.cluster.local']}\n";
    let rules = virtual_service("x", &format!("hosts: [x.com]\nhttp: [{{{TO_B}}}]"));
    let mesh = Mesh::of(services(), sidecar).and(&rules);
    check_in(
        &mesh,
        &[
            ("http://b/", "80||b"),
            // It is not let through.
            ("http://a/", "80||c"),
            ("http://stranger.com/ | @10.9.9.9:80", "80||c"),
        ],
    );
}

// === what a change costs ===

/// A world that can change.
struct Changing {
    world: World,
    push: PushContext,
    cache: Cache,
    source: SourceId,
}

impl Changing {
    fn of(services: Vec<Declared>) -> Self {
        let source = SourceId("test".into());
        let world = World::new("cluster.local", [source.clone()]);
        let mut made = Self { world, push: PushContext::default(), cache: Cache::default(), source };
        for declared in services {
            made.say(Change::Service(Arc::new(declared.service)));
        }
        made
    }

    fn say(&mut self, change: Change) {
        drop(self.world.apply(&self.source, SourceEvent::Change(change)));
        self.push = self.push.next(&self.world);
    }

    fn config(&mut self, name: &str, spec: ConfigSpec) {
        let meta = ConfigMeta {
            namespace: "default".into(),
            name: name.into(),
            labels: BTreeMap::new(),
            annotations: BTreeMap::new(),
            created: 0,
        };
        self.say(Change::Config(Arc::new(ConfigObject { meta, spec })));
    }

    fn rules(&mut self, name: &str, http: &serde_json::Value) {
        let spec = serde_json::json!({"hosts": [name], "http": http});
        self.config(name, ConfigSpec::VirtualService(read::message("spec", &spec).unwrap().value));
    }

    /// Routes of these names for a sidecar of namespace `default` with these labels.
    fn ask(&self, app: &str, asked: &[&str]) -> ResourceSet {
        let mut proxy = sidecar("10.9.0.1", "default");
        proxy.metadata.labels.insert("app".into(), app.into());
        let scope = Scope::of(&self.push, ScopeKey::of(&self.push, &proxy), None);
        let asked = names(asked.iter().copied());
        resources(&self.cache, &self.push, &scope, &proxy, ResourceType::Route, Some(&asked)).resources
    }

    /// How many routes were generated so far.
    fn made(&self) -> u64 {
        self.cache.stats()[&ResourceType::Route].misses
    }
}

/// A hundred services, each at a port of its own that is sniffed, ten of them at port 80 too.
fn a_hundred() -> (Changing, Vec<String>) {
    let service = |number: u16| {
        let declared = kubernetes(&format!("s{number}.default")).port("", 7000 + number);
        let declared = if number < 10 { declared.port("http", 80) } else { declared };
        declared.vip(&format!("10.0.0.{}", number + 1))
    };
    let own = (0..100).map(|number| format!("s{number}.default.svc.cluster.local:{}", 7000 + number));
    (Changing::of((0..100).map(service).collect()), own.chain(["80".to_owned()]).collect())
}

#[test]
fn changed_rules_cost_the_routes_of_their_services() {
    let (mut changing, asked) = a_hundred();
    let asked: Vec<&str> = asked.iter().map(String::as_str).collect();
    let to = |host: &str| serde_json::json!([{"route": [{"destination": {"host": host}}]}]);
    for number in 0..100 {
        changing.rules(&format!("s{number}"), &to("s1"));
    }
    assert_eq!(changing.ask("web", &asked).len(), 101);
    for (name, costs) in [("s5", 2), ("s50", 1)] {
        let before = changing.made();
        changing.rules(name, &to("s2"));
        changing.ask("web", &asked);
        assert_eq!(changing.made() - before, costs, "{name}");
    }

    // What does not concern requests costs no routes, and what they are hashed by costs those that lead there.
    let policy = |said: serde_json::Value| {
        let spec = serde_json::json!({"host": "s60", "trafficPolicy": said});
        ConfigSpec::DestinationRule(read::message("spec", &spec).unwrap().value)
    };
    let before = changing.made();
    changing.config("s60", policy(serde_json::json!({"connectionPool": {"tcp": {"maxConnections": 1}}})));
    changing.ask("web", &asked);
    assert_eq!(changing.made() - before, 0);
    changing.config(
        "s60",
        policy(serde_json::json!({"loadBalancer": {"consistentHash": {"useSourceIp": true}}})),
    );
    changing.ask("web", &asked);
    assert_eq!(changing.made() - before, 1);
}

#[test]
fn clients_that_rules_do_not_tell_apart_share_routes() {
    let (mut changing, _) = a_hundred();
    let rules = serde_json::json!([{"match": [{"sourceLabels": {"app": "web"}}], "route": [{"destination": {"host": "s1"}}]}]);
    changing.rules("s50", &rules);
    let (own, other) = ("s50.default.svc.cluster.local:7050", "s51.default.svc.cluster.local:7051");
    let asked = [own, other, "80"];
    let sets = ["web", "shop", "bank"].map(|app| changing.ask(app, &asked));
    assert_eq!(changing.made(), 4, "three, and one for the only ones who are told apart");
    let version = |set: &ResourceSet, name: &str| set.get(name).unwrap().version.clone();
    assert_ne!(version(&sets[0], own), version(&sets[1], own));
    assert_eq!(version(&sets[1], own), version(&sets[2], own));
    assert_eq!(version(&sets[0], "80"), version(&sets[2], "80"));
}
