//! `delegate`: routes in other objects.

use super::*;

pub(super) const TABLES: Tables = &[delegate, several_delegates];

/// Creates a mesh with a root for host `a` that delegates the routes below `/x`.
fn delegating(root: &str, delegates: &[String]) -> Mesh {
    let root = virtual_service("a", &format!("hosts: [a]\nhttp: [{root}, {{{TO_A}}}]"));
    delegates.iter().fold(Mesh::of(services(), &root), |mesh, delegate| mesh.and(delegate))
}

const ROOT: &str = "{match: [{uri: {prefix: /x}}], timeout: 3s, delegate: {name: own}}";

#[test]
fn delegate() {
    let to_b = format!("http: [{{match: [{{uri: {{prefix: /x/y}}}}], {TO_B}}}]");
    let mesh = |delegate: &str| delegating(ROOT, &[virtual_service("own", delegate)]);
    check_in(
        &mesh(&to_b),
        &[
            ("a delegate decides within what its root matches", "http://a/x/y", "80||b"),
            ("what it does not match is for the rules that follow", "http://a/x/z", "80||a"),
            ("what its root does not match is none of its business", "http://a/", "80||a"),
        ],
    );
    check(
        &client(&mesh(&to_b)),
        Look::Policy("timeout"),
        &[("what a delegate does not say its root says", "http://a/x/y", "timeout 3s")],
    );
    check(
        &client(&mesh(&format!("http: [{{timeout: 1s, {TO_B}}}]"))),
        Look::Policy("timeout"),
        &[("what a delegate says wins", "http://a/x", "timeout 1s")],
    );
    check_each(
        Look::Verdict,
        "http://a/x/y",
        |said| client(&mesh(said)),
        &[
            (
                "a delegate that matches more than its root is left out",
                "http: [{match: [{uri: {prefix: /}}], route: [{destination: {host: b}}]}]",
                "80||a",
            ),
            (
                "a delegate adds conditions to those of its root",
                "http: [{match: [{headers: {x: {exact: '1'}}}], route: [{destination: {host: b}}]}]",
                "80||a",
            ),
            (
                "a delegate without conditions has those of its root",
                "http: [{route: [{destination: {host: b}}]}]",
                "80||b",
            ),
            ("a delegate may answer by itself", "http: [{redirect: {uri: /}}]", "301 http://a/"),
        ],
    );
}

#[test]
fn several_delegates() {
    let elsewhere = "{match: [{uri: {prefix: /x}}], delegate: {name: own, namespace: shop}}";
    let in_shop = |more: &str| {
        let spec =
            format!("{more}http: [{{route: [{{destination: {{host: b.default.svc.cluster.local}}}}]}}]");
        [object("VirtualService", "own.shop", &spec)]
    };
    check_each(
        Look::Verdict,
        "http://a/x",
        |said| client(&delegating(elsewhere, &in_shop(said))),
        &[
            ("a delegate may be in another namespace", "", "80||b"),
            (
                "a delegate elsewhere has to be exported to the namespace of its root",
                "exportTo: [default]\n",
                "80||b",
            ),
            ("a delegate that is not exported to its root is none", "exportTo: ['.']\n", "80||a"),
        ],
    );
    let two = format!(
        "{ROOT}, {{match: [{{uri: {{prefix: /y}}}}], delegate: {{name: other}}}}, {{match: [{{uri: {{prefix: /z}}}}], delegate: {{name: nobody}}}}"
    );
    let to = |name: &str, host: &str| {
        virtual_service(name, &format!("http: [{{route: [{{destination: {{host: {host}}}}}]}}]"))
    };
    check_in(
        &delegating(&two, &[to("own", "b"), to("other", "c")]),
        &[
            ("each rule has a delegate of its own", "http://a/x", "80||b"),
            ("the second rule too", "http://a/y", "80||c"),
            ("a delegate that is not there leaves its rule out", "http://a/z", "80||a"),
        ],
    );
}
