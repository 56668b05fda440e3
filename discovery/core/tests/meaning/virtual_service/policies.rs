//! Policies of routes: timeouts, retries, mirrors, hash policies.

use pilot_core::simulate::Stage;

use super::*;

pub(super) const TABLES: Tables =
    &[timeout, retries, retries_of_the_mesh, mirrors, consistent_hash, consistent_hash_and_retries, names];

/// Returns the client of a route for all requests with this policy.
fn asked(said: &str) -> Client {
    ruled(&format!("[{{{said}{}{TO_B}}}]", if said.is_empty() { "" } else { ", " }))
}

#[test]
fn timeout() {
    check_each(
        Look::Policy("timeout"),
        "http://a/",
        asked,
        &[("a timeout is what it is", "timeout: 1.5s", "timeout 1.5s")],
    );
    check_each(
        Look::Policy("no timeout"),
        "http://a/",
        asked,
        &[("where none is said there is none: Envoy's would be 15 s", "", "no timeout")],
    );
}

const DEFAULT: &str =
    "retry 2 on connect-failure,refused-stream,unavailable,cancelled,retriable-status-codes previous_hosts";

#[test]
fn retries() {
    check_each(
        Look::Policy("retry"),
        "http://a/",
        asked,
        &[
            ("where nothing is said what is safe is tried again", "", DEFAULT),
            ("no attempts are no policy", "retries: {attempts: 0}", ""),
            (
                "conditions are Envoy's",
                "retries: {attempts: 5, retryOn: 'gateway-error,reset'}",
                "retry 5 on gateway-error,reset previous_hosts",
            ),
            (
                "a number among conditions is a status",
                "retries: {attempts: 3, perTryTimeout: 2s, retryOn: '503,reset'}",
                "retry 3 on reset,retriable-status-codes status 503 each 2s previous_hosts",
            ),
            (
                "time between attempts",
                "retries: {attempts: 1, retryOn: reset, backoff: 0.1s}",
                "retry 1 on reset after 0.1s previous_hosts",
            ),
            (
                "hosts that failed may be asked again",
                "retries: {attempts: 1, retryOn: reset, retryIgnorePreviousHosts: false}",
                "retry 1 on reset",
            ),
        ],
    );
}

#[test]
fn retries_of_the_mesh() {
    let mesh = |rule: &'static str| {
        move |said: &str| {
            let mesh = rules_for_a(&format!("[{{{rule}{TO_B}}}]"));
            client(&mesh.config(&format!("defaultHttpRetryPolicy: {said}")))
        }
    };
    let said = "{attempts: 7, retryOn: reset}";
    check_each(
        Look::Policy("retry"),
        "http://a/",
        mesh(""),
        &[
            ("the mesh's default holds for rules that are silent", said, "retry 7 on reset previous_hosts"),
            ("the mesh may try nothing again in rules", "{attempts: 0}", ""),
        ],
    );
    check_each(
        Look::Policy("retry"),
        "http://b/",
        mesh(""),
        &[
            ("the mesh's default holds where no rule is", said, "retry 7 on reset previous_hosts"),
            ("the mesh may try nothing again without rules", "{attempts: 0}", ""),
        ],
    );
    check_each(
        Look::Policy("retry"),
        "http://a/",
        mesh("retries: {attempts: 1, retryOn: cancelled}, "),
        &[("a rule wins over the mesh", said, "retry 1 on cancelled previous_hosts")],
    );
}

#[test]
fn mirrors() {
    check_each(
        Look::Policy("mirror"),
        "http://a/",
        asked,
        &[
            ("a mirror hears everything", "mirror: {host: c}", "mirror 100% 80||c"),
            (
                "a mirror hears a share",
                "mirror: {host: c}, mirrorPercentage: {value: 12.5}",
                "mirror 12.5% 80||c",
            ),
            ("a share as it was said once", "mirror: {host: c}, mirrorPercent: 30", "mirror 30% 80||c"),
            ("a mirror of nothing is none", "mirror: {host: c}, mirrorPercentage: {value: 0}", ""),
            ("a mirror is at the only port of its service", "mirror: {host: far}", "mirror 100% 8080||far"),
            (
                "several mirrors have shares of their own",
                "mirrors: [{destination: {host: c}, percentage: {value: 57.3}}, {destination: {host: a, subset: v2}}]",
                "mirror 57.3% 80||c; mirror 100% 80|v2|a",
            ),
        ],
    );
}

/// Returns the client of a route to this destination, whose host has this `DestinationRule`.
fn hashed(destination: &str, rule: &str) -> Client {
    let mesh = rules_for_a(&format!("[{{route: [{{destination: {destination}}}]}}]"));
    client(&mesh.and(&destination_rule("b", &format!("host: b\n{rule}"))))
}

#[test]
fn consistent_hash() {
    let by = |header: &str| format!("loadBalancer: {{consistentHash: {{httpHeaderName: {header}}}}}");
    let at_port = |header: &str| format!("portLevelSettings: [{{port: {{number: 80}}, {}}}]", by(header));
    let all = format!("trafficPolicy: {{{}}}", by("all"));
    let port = format!("trafficPolicy: {{{}, {}}}", by("all"), at_port("port"));
    let subset = format!("{port}\nsubsets: [{{name: v1, trafficPolicy: {{{}}}}}]", by("subset"));
    let subset_port = format!(
        "{port}\nsubsets: [{{name: v1, trafficPolicy: {{{}, {}}}}}]",
        by("subset"),
        at_port("subset-port")
    );
    check_each(
        Look::Policy("hash"),
        "http://a/",
        |said| hashed("{host: b}", said),
        &[
            ("what is hashed is what the destination's rule says", &all, "hash header all"),
            ("what is said for its port wins", &port, "hash header port"),
            ("what is said for a subset is for that alone", &subset, "hash header port"),
            (
                "by address",
                "trafficPolicy: {loadBalancer: {consistentHash: {useSourceIp: true}}}",
                "hash source",
            ),
            (
                "by a parameter",
                "trafficPolicy: {loadBalancer: {consistentHash: {httpQueryParameterName: user}}}",
                "hash parameter user",
            ),
            (
                "by a cookie, which is made where there is none",
                "trafficPolicy: {loadBalancer: {consistentHash: {httpCookie: {name: user, path: /p, ttl: 60s}}}}",
                "hash cookie user/p 60s",
            ),
            (
                "by a cookie that is never made",
                "trafficPolicy: {loadBalancer: {consistentHash: {httpCookie: {name: user}}}}",
                "hash cookie user",
            ),
        ],
    );
    check_each(
        Look::Policy("hash"),
        "http://a/",
        |said| hashed("{host: b, subset: v1}", said),
        &[
            ("what is said for a subset wins over the host's port", &subset, "hash header subset"),
            ("what is said for the port of a subset wins over all", &subset_port, "hash header subset-port"),
        ],
    );
    check_each(
        Look::Policy("hash"),
        "http://b/",
        |said| client(&Mesh::of(services(), &destination_rule("b", &format!("host: b\n{said}")))),
        &[("it is hashed without rules for requests too", &all, "hash header all")],
    );
}

#[test]
fn consistent_hash_and_retries() {
    check_each(
        Look::Policy("retry"),
        "http://a/",
        |said| hashed("{host: b}", said),
        &[(
            "where requests are hashed another host knows the client no better",
            "trafficPolicy: {loadBalancer: {consistentHash: {useSourceIp: true}}}",
            "retry 2 on connect-failure,refused-stream,unavailable,cancelled,retriable-status-codes",
        )],
    );
}

#[test]
fn names() {
    let named = |said: &str| ruled(&format!("[{{{said}, {TO_B}}}]"));
    check_each(
        Look::Route,
        "http://a/",
        named,
        &[
            (
                "a route has the name of its rule and of its match",
                "name: first, match: [{name: all}]",
                "first.all",
            ),
            ("a rule alone has its own name", "name: first", "first"),
        ],
    );
    check_each(
        Look::Origins(Stage::Route),
        "http://a/",
        named,
        &[("a route names the object that it was made from", "name: first", "VirtualService/default/a")],
    );
}
