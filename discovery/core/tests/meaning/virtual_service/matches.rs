//! Which requests a rule is for, and which rule is first.

use super::*;

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
