//! Subsets, and policies of ports.

use super::*;

pub(super) const TABLES: Tables = &[endpoints, policies, ports];

/// Returns a client with three endpoints of `b`, routes to subset `v1`, and a `DestinationRule`.
fn subset(spec: &str) -> Client {
    let labelled = |text: &'static str| {
        move |it: &mut pilot_core::model::Endpoint| {
            let labels = text.split(',').filter_map(|pair| pair.split_once('='));
            it.labels = std::sync::Arc::new(labels.map(|(key, value)| (key.into(), value.into())).collect());
        }
    };
    let b = kubernetes("b.default").port("http", 80).vip("10.0.0.2");
    let b = b
        .endpoint("10.1.0.1", labelled("app=b,version=v1"))
        .endpoint("10.1.0.2", labelled("app=b,version=v2"))
        .endpoint("10.1.0.3", labelled("app=b,version=v1,canary=yes"));
    let rules =
        object("VirtualService", "b", "hosts: [b]\nhttp: [{route: [{destination: {host: b, subset: v1}}]}]");
    let rule = object("DestinationRule", "b", &format!("host: b\n{spec}"));
    Mesh::of([b], &rules).and(&rule).sidecar("default", "app=web")
}

#[test]
fn endpoints() {
    check_each(
        Look::Upstream,
        "http://b/",
        |said| subset(&format!("subsets: [{said}]")),
        &[
            (
                "a subset has the endpoints with its labels",
                "{name: v1, labels: {version: v1}}",
                "10.1.0.1:80, 10.1.0.3:80",
            ),
            (
                "a subset has the endpoints with all of its labels",
                "{name: v1, labels: {version: v1, canary: 'yes'}}",
                "10.1.0.3:80",
            ),
            (
                "a subset without labels has all endpoints",
                "{name: v1}",
                "10.1.0.1:80, 10.1.0.2:80, 10.1.0.3:80",
            ),
            ("a subset may have nobody", "{name: v1, labels: {version: v9}}", "has no endpoints"),
            ("a subset that is not declared is not there", "{name: v2}", "is not there"),
        ],
    );
}

#[test]
fn policies() {
    let pool = |most: u32| format!("connectionPool: {{tcp: {{maxConnections: {most}}}}}");
    let (one, two) = (pool(1), pool(2));
    let tls = "tls: {mode: SIMPLE, sni: x.com}";
    let both = |all: &str, own: &str| format!("trafficPolicy: {{{all}}}\nsubsets: [{{name: v1, {own}}}]");
    check_each(
        Look::Settings("at most"),
        "http://b/",
        subset,
        &[
            (
                "a subset has the policy of its host",
                &format!("trafficPolicy: {{{one}}}\nsubsets: [{{name: v1}}]"),
                "at most 1 connections",
            ),
            (
                "what a subset says itself wins",
                &both(&one, &format!("trafficPolicy: {{{two}}}")),
                "at most 2 connections",
            ),
            (
                "what a subset does not say it has from its host",
                &both(&one, &format!("trafficPolicy: {{{tls}}}")),
                "at most 1 connections",
            ),
        ],
    );
    check_each(
        Look::Upstream,
        "http://b/",
        subset,
        &[(
            "the TLS of a subset is beside the limits of its host",
            &both(&one, &format!("labels: {{version: v2}}, trafficPolicy: {{{tls}}}")),
            "10.1.0.2:80 tls:x.com",
        )],
    );
}

#[test]
fn ports() {
    let port = |number: u16, most: u32| {
        format!(
            "portLevelSettings: [{{port: {{number: {number}}}, connectionPool: {{tcp: {{maxConnections: {most}}}}}}}]"
        )
    };
    let all = "connectionPool: {tcp: {maxConnections: 1, connectTimeout: 5s}}";
    let policy_of = |said: &str| policy(&format!("{{{all}, {said}}}"));
    check_each(
        Look::Settings("at most"),
        "http://b/",
        policy_of,
        &[
            ("what is said for a port is for it", &port(80, 7), "at most 7 connections"),
            ("what is said for another port is not", &port(81, 7), "at most 1 connections"),
        ],
    );
    check_each(
        Look::Settings("connects"),
        "http://b/",
        policy_of,
        &[("a port inherits nothing", &port(80, 7), "connects within 10s")],
    );
    check_each(
        Look::Settings("at most"),
        "http://b/",
        subset,
        &[
            (
                "what a subset says for a port wins over all",
                &format!(
                    "trafficPolicy: {{{all}, {}}}\nsubsets: [{{name: v1, trafficPolicy: {{{}}}}}]",
                    port(80, 7),
                    port(80, 9)
                ),
                "at most 9 connections",
            ),
            (
                "what a subset says wins over what its host says for the port",
                &format!(
                    "trafficPolicy: {{{}}}\nsubsets: [{{name: v1, trafficPolicy: {{connectionPool: {{tcp: {{maxConnections: 8}}}}}}}}]",
                    port(80, 7)
                ),
                "at most 8 connections",
            ),
        ],
    );
}
