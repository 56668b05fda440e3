//! Conditions on requests, and order of routes.

use super::*;

pub(super) const TABLES: Tables = &[
    uri,
    ignore_uri_case,
    method_scheme_and_authority,
    headers,
    without_headers,
    query_params,
    port_is_the_one_that_was_asked_for,
    source_labels_and_namespace,
    several_conditions,
    several_rules,
];

/// Returns a route to `b` with this condition, and one to `a` for other requests.
fn matching(said: &str) -> String {
    format!("[{{match: [{{{said}}}], {TO_B}}}, {{{TO_A}}}]")
}

#[test]
fn uri() {
    check_rules(
        &matching("uri: {exact: /x}"),
        &[
            ("an exact path is the whole path", "http://a/x", "80||b"),
            ("the query is no part of a path", "http://a/x?q=1", "80||b"),
            ("a longer path is another one", "http://a/x/", "80||a"),
            ("paths are told apart by case", "http://a/X", "80||a"),
        ],
    );
    check_rules(
        &matching("uri: {prefix: /x}"),
        &[
            ("a prefix is a path itself", "http://a/x", "80||b"),
            ("a prefix begins longer paths", "http://a/x/y", "80||b"),
            ("a prefix may end within a word", "http://a/xy", "80||b"),
            ("a prefix is where the path begins", "http://a/y/x", "80||a"),
        ],
    );
    check_rules(
        &matching("uri: {regex: '/[a-z]+/\\d'}"),
        &[
            ("a pattern may match a path", "http://a/x/1", "80||b"),
            ("a pattern is for the whole path", "http://a/x/1/", "80||a"),
            ("a pattern is for the path's beginning too", "http://a/1", "80||a"),
        ],
    );
    check_rules(
        &matching("uri: {prefix: /}"),
        &[
            ("the shortest prefix is for the shortest path", "http://a/", "80||b"),
            ("the shortest prefix is for every path", "http://a/y", "80||b"),
        ],
    );
}

#[test]
fn ignore_uri_case() {
    let said = |uri: &str| ruled(&matching(uri));
    check_each(
        Look::Verdict,
        "http://a/sHOP",
        said,
        &[
            ("an exact path of any case", "uri: {exact: /Shop}, ignoreUriCase: true", "80||b"),
            ("an exact path of its own case", "uri: {exact: /Shop}, ignoreUriCase: false", "80||a"),
            ("a prefix of any case", "uri: {prefix: /Sh}, ignoreUriCase: true", "80||b"),
            ("a prefix of its own case", "uri: {prefix: /Sh}, ignoreUriCase: false", "80||a"),
        ],
    );
}

#[test]
fn method_scheme_and_authority() {
    check_rules(
        &matching("method: {exact: POST}"),
        &[
            ("a method is matched", "POST http://a/", "80||b"),
            ("another method is not", "GET http://a/", "80||a"),
            ("a method is matched whole", "POSTS http://a/", "80||a"),
        ],
    );
    check_rules(
        &matching("method: {regex: 'P.*'}"),
        &[
            ("a pattern may match methods", "PUT http://a/", "80||b"),
            ("a pattern for methods is for no other", "GET http://a/", "80||a"),
        ],
    );
    check_each(
        Look::Verdict,
        "http://a/",
        |said| ruled(&matching(said)),
        &[
            ("plaintext has scheme http", "scheme: {exact: http}", "80||b"),
            ("plaintext has not scheme https", "scheme: {exact: https}", "80||a"),
        ],
    );
    check_rules(
        &matching("authority: {prefix: a.}"),
        &[
            ("the authority is what the client says", "http://a.default/", "80||b"),
            ("the authority is not what a name means", "http://a/", "80||a"),
            ("each way to say a host is an authority of its own", "http://a.default.svc/", "80||b"),
        ],
    );
}

#[test]
fn headers() {
    check_rules(
        &matching("headers: {end-user: {exact: jason}}"),
        &[
            ("a header is matched", "http://a/ | end-user: jason", "80||b"),
            ("a header is matched whole", "http://a/ | end-user: jasons", "80||a"),
            ("a header has to be there", "http://a/", "80||a"),
        ],
    );
    check_rules(
        &matching("headers: {cookie: {regex: '^(.*?;)?(user=jason)(;.*)?$'}}"),
        &[
            ("a pattern may match a header", "http://a/ | cookie: x=1;user=jason", "80||b"),
            ("a pattern is for the whole header", "http://a/ | cookie: user=jasons", "80||a"),
        ],
    );
    check_rules(
        &matching("headers: {x: {prefix: v}}"),
        &[
            ("a header may begin with something", "http://a/ | x: v2", "80||b"),
            ("a header that only ends with it does not match", "http://a/ | x: 2v", "80||a"),
        ],
    );
    check_rules(
        &matching("headers: {x: {}}"),
        &[
            ("of a header of which nothing is said any value will do", "http://a/ | x: 1", "80||b"),
            ("a header of which nothing is said has to be there", "http://a/", "80||a"),
        ],
    );
    check_rules(
        &matching("headers: {x: {exact: '1'}, y: {exact: '2'}}"),
        &[
            ("several headers hold together", "http://a/ | x: 1 | y: 2", "80||b"),
            ("the first header alone is not enough", "http://a/ | x: 1", "80||a"),
            ("the second header alone is not enough", "http://a/ | y: 2", "80||a"),
        ],
    );
    check_each(
        Look::Verdict,
        "PUT http://a/x?q | x: 1",
        |said| ruled(&matching(&format!("headers: {said}"))),
        &[
            ("names of headers have no case", "{X: {exact: '1'}}", "80||b"),
            ("values of headers have", "{x: {exact: 'V'}}", "80||a"),
            ("`.*` is a header that is there", "{x: {regex: '.*'}}", "80||b"),
            ("`.*` is no header that is not", "{y: {regex: '.*'}}", "80||a"),
        ],
    );
}

#[test]
fn without_headers() {
    check_rules(
        &matching("withoutHeaders: {end-user: {exact: jason}}"),
        &[
            ("a value that is to be missing is there", "http://a/ | end-user: jason", "80||a"),
            ("another value is there instead", "http://a/ | end-user: jasons", "80||b"),
            ("what is not there is not like this", "http://a/", "80||b"),
        ],
    );
    check_rules(
        &matching("withoutHeaders: {x: {}}"),
        &[
            ("a header that is to be missing is there", "http://a/ | x: 1", "80||a"),
            ("a header that is to be missing is not there", "http://a/", "80||b"),
        ],
    );
}

#[test]
fn query_params() {
    check_rules(
        &matching("queryParams: {q: {exact: 'yes'}}"),
        &[
            ("a parameter is matched", "http://a/?q=yes", "80||b"),
            ("another value of a parameter is not", "http://a/?q=no", "80||a"),
            ("a parameter has to be there", "http://a/", "80||a"),
        ],
    );
    check_rules(
        &matching("queryParams: {q: {prefix: v}}"),
        &[
            ("a parameter may begin with something", "http://a/?p=1&q=v2", "80||b"),
            ("a parameter that begins otherwise is not meant", "http://a/?q=2", "80||a"),
        ],
    );
    check_rules(
        &matching("queryParams: {q: {regex: '\\d+$'}}"),
        &[
            ("a pattern may match a parameter", "http://a/?q=12", "80||b"),
            ("a pattern for a parameter is for no other value", "http://a/?q=x", "80||a"),
        ],
    );
}

#[test]
fn port_is_the_one_that_was_asked_for() {
    let rules = "hosts: [both]\nhttp: [{match: [{port: 8080}], route: [{destination: {host: b}}]}, {route: [{destination: {host: both}}]}]";
    check_in(
        &Mesh::of(services(), &virtual_service("both", rules)),
        &[
            ("a rule for another port is not for this one", "http://both/", "80||both"),
            ("a rule for a port is for that one", "http://both:8080/", "80||b"),
        ],
    );
}

#[test]
fn source_labels_and_namespace() {
    let from = |namespace: &'static str, labels: &'static str| {
        move |said: &str| rules_for_a(&matching(said)).sidecar(namespace, labels)
    };
    let call = "http://a.default.svc.cluster.local/";
    check_each(
        Look::Verdict,
        call,
        from("default", "app=web,version=v1"),
        &[
            ("a client with the labels is meant", "sourceLabels: {app: web}", "80||b"),
            ("all labels are asked for", "sourceLabels: {app: web, version: v2}", "80||a"),
            ("a client of another namespace is not meant", "sourceNamespace: shop", "80||a"),
            ("rules for a gateway are not for sidecars", "gateways: [edge]", "80||a"),
            ("rules for the mesh and a gateway are for sidecars too", "gateways: [edge, mesh]", "80||b"),
        ],
    );
    check_each(
        Look::Verdict,
        call,
        from("default", "app=other"),
        &[
            ("a client without the labels is not meant", "sourceLabels: {app: web}", "80||a"),
            (
                "where gateways are named clients are not asked",
                "sourceLabels: {app: web}, gateways: [mesh]",
                "80||b",
            ),
        ],
    );
    check_each(
        Look::Verdict,
        call,
        from("shop", "app=other"),
        &[
            ("a client of the namespace is meant", "sourceNamespace: shop", "80||b"),
            (
                "labels and namespace hold together",
                "sourceNamespace: shop, sourceLabels: {app: web}",
                "80||a",
            ),
        ],
    );
}

#[test]
fn several_conditions() {
    check_rules(
        &matching("uri: {prefix: /x}, method: {exact: PUT}"),
        &[
            ("conditions of one match hold together", "PUT http://a/x", "80||b"),
            ("the path alone is not enough", "GET http://a/x", "80||a"),
            ("the method alone is not enough", "PUT http://a/", "80||a"),
        ],
    );
    check_rules(
        &matching("uri: {prefix: /x}}, {method: {exact: PUT}"),
        &[
            ("of several matches the first is enough", "GET http://a/x", "80||b"),
            ("of several matches the second is enough", "PUT http://a/", "80||b"),
            ("of several matches one has to hold", "GET http://a/", "80||a"),
        ],
    );
}

#[test]
fn several_rules() {
    check_rules(
        &format!(
            "[{{match: [{{uri: {{prefix: /x/y}}}}], {TO_B}}}, {{match: [{{uri: {{prefix: /x}}}}], {TO_A}}}, \
             {{route: [{{destination: {{host: c}}}}]}}, {{match: [{{uri: {{prefix: /z}}}}], {TO_B}}}]"
        ),
        &[
            ("the first rule that matches counts", "http://a/x/y", "80||b"),
            ("the next one has what is left", "http://a/x/z", "80||a"),
            ("a rule for all has all that is left", "http://a/", "80||c"),
            ("what follows a rule for all never counts", "http://a/z", "80||c"),
        ],
    );
    check_each(
        Look::Verdict,
        "http://a/",
        ruled,
        &[
            (
                "what no rule matches is not found",
                "[{match: [{uri: {prefix: /x}}], route: [{destination: {host: b}}]}]",
                "404",
            ),
            (
                "rules that are all for others say nothing",
                "[{match: [{sourceLabels: {app: nobody}}], route: [{destination: {host: b}}]}]",
                "80||a",
            ),
        ],
    );
}
