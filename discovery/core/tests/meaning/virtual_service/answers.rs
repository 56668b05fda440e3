//! Responses of the proxy: redirects, direct responses, faults, preflights.

use pilot_core::simulate::Stage;

use super::*;

pub(super) const TABLES: Tables = &[redirect, redirect_of_a_prefix, direct_response, fault, delays, cors];

#[test]
fn redirect() {
    let to = |said: &str| ruled(&format!("[{{match: [{{uri: {{prefix: /}}}}], redirect: {said}}}]"));
    check_each(
        Look::Verdict,
        "http://a/x?q=1",
        to,
        &[
            ("a path replaces the path and leaves the query", "{uri: /y}", "301 http://a/y?q=1"),
            ("a host leaves path and query", "{authority: b.com}", "301 http://b.com/x?q=1"),
            ("a scheme leaves the rest", "{scheme: https}", "301 https://a/x?q=1"),
            (
                "scheme, host and port together",
                "{authority: b.com, port: 8443, scheme: https}",
                "301 https://b.com:8443/x?q=1",
            ),
            (
                "the port of the scheme is not written",
                "{authority: b.com, port: 80}",
                "301 http://b.com/x?q=1",
            ),
            ("the port of the new scheme is not either", "{scheme: https, port: 443}", "301 https://a/x?q=1"),
            (
                "a port derived from the request is that",
                "{scheme: https, derivePort: FROM_REQUEST_PORT}",
                "301 https://a:80/x?q=1",
            ),
            (
                "a derived port that is the scheme's is not written",
                "{authority: b.com, derivePort: FROM_REQUEST_PORT}",
                "301 http://b.com/x?q=1",
            ),
            (
                "a port derived from the scheme is not written",
                "{authority: b.com, derivePort: FROM_PROTOCOL_DEFAULT}",
                "301 http://b.com/x?q=1",
            ),
            ("308 keeps the method", "{uri: /y, redirectCode: 308}", "308 http://a/y?q=1"),
            ("307 keeps it for now", "{uri: /y, redirectCode: 307}", "307 http://a/y?q=1"),
            ("303 asks for something else", "{uri: /y, redirectCode: 303}", "303 http://a/y?q=1"),
            ("302 is for now", "{uri: /y, redirectCode: 302}", "302 http://a/y?q=1"),
        ],
    );
}

#[test]
fn redirect_of_a_prefix() {
    check_rules(
        "[{match: [{uri: {prefix: /x}}], redirect: {prefixRewrite: /y}}]",
        &[("a prefix is replaced and the rest kept", "http://a/x/z", "301 http://a/y/z")],
    );
}

#[test]
fn direct_response() {
    check_each(
        Look::Verdict,
        "http://a/",
        |said| ruled(&format!("[{{directResponse: {said}}}]")),
        &[
            ("a status with a body", "{status: 503, body: {string: gone}}", "503"),
            ("a status without a body", "{status: 201}", "201"),
        ],
    );
}

/// Returns the client of a route with a fault.
fn faulty(said: &str) -> Client {
    ruled(&format!("[{{fault: {said}, {TO_B}}}]"))
}

#[test]
fn fault() {
    check_each(
        Look::Verdict,
        "http://a/",
        faulty,
        &[
            (
                "an abort of all requests",
                "{abort: {httpStatus: 418, percentage: {value: 100}}}",
                "418 (fault)",
            ),
            // The API: "If not specified, no request will be aborted."
            ("an abort without a share is none", "{abort: {httpStatus: 418}}", "80||b"),
            ("an abort of no request is none", "{abort: {httpStatus: 418, percentage: {value: 0}}}", "80||b"),
        ],
    );
}

#[test]
fn delays() {
    check_each(
        Look::Said(Stage::HttpFilter),
        "http://a/",
        faulty,
        &[
            (
                "a delay of a thousandth",
                "{delay: {fixedDelay: 2s, percentage: {value: 0.1}}}",
                "envoy.filters.http.fault delays 0.1% by 2s",
            ),
            (
                "a delay of whole percents, as it was said once",
                "{delay: {fixedDelay: 2s, percent: 10}}",
                "envoy.filters.http.fault delays 10% by 2s",
            ),
            ("a delay without a share is none", "{delay: {fixedDelay: 2s}}", ""),
            (
                "an abort of half of the requests",
                "{abort: {httpStatus: 500, percentage: {value: 50}}}",
                "envoy.filters.http.fault aborts 50% with 500",
            ),
            (
                "an abort in gRPC's words",
                "{abort: {grpcStatus: UNAVAILABLE, percentage: {value: 50}}}",
                "envoy.filters.http.fault aborts 50% with grpc-status 14",
            ),
            (
                "a delay and then an abort",
                "{delay: {fixedDelay: 1s, percentage: {value: 50}}, abort: {httpStatus: 500, percentage: {value: 50}}}",
                "envoy.filters.http.fault delays 50% by 1s > envoy.filters.http.fault aborts 50% with 500",
            ),
        ],
    );
}

#[test]
fn cors() {
    let client = |said: &str| ruled(&format!("[{{corsPolicy: {said}, {TO_B}}}]"));
    check_each(
        Look::Verdict,
        "OPTIONS http://a/ | access-control-request-method: PUT | origin: http://x.com",
        client,
        &[
            (
                "a preflight of a known origin is answered",
                "{allowOrigins: [{exact: 'http://x.com'}], allowMethods: [PUT]}",
                "200 (preflight)",
            ),
            (
                "an origin may be known by its beginning",
                "{allowOrigins: [{prefix: 'http://x'}]}",
                "200 (preflight)",
            ),
            ("an origin may be known by a pattern", "{allowOrigins: [{regex: '.*'}]}", "200 (preflight)"),
            ("origins may be listed as they were once", "{allowOrigin: ['http://x.com']}", "200 (preflight)"),
            (
                "another origin is the workload's business",
                "{allowOrigins: [{exact: 'http://y.com'}]}",
                "80||b",
            ),
            (
                "another origin is forwarded if the rule says so",
                "{allowOrigins: [{exact: 'http://y.com'}], unmatchedPreflights: FORWARD}",
                "80||b",
            ),
            (
                "another origin is answered if the rule says not to forward it",
                "{allowOrigins: [{exact: 'http://y.com'}], unmatchedPreflights: IGNORE}",
                "200 (preflight)",
            ),
        ],
    );
    check(
        &client("{allowOrigins: [{exact: 'http://x.com'}]}"),
        Look::Verdict,
        &[
            ("a request that is no preflight goes on", "http://a/ | origin: http://x.com", "80||b"),
            (
                "a preflight without an origin goes on",
                "OPTIONS http://a/ | access-control-request-method: PUT",
                "80||b",
            ),
        ],
    );
}
