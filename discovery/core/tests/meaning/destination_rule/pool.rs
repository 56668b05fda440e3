//! Connection pools and outlier detection.

use super::*;

pub(super) const TABLES: Tables =
    &[limits, lives, keepalive, protocols, outliers, outliers_kinds, retry_budget, bytes, inbound];

fn tcp(said: &str) -> Client {
    policy(&format!("{{connectionPool: {{tcp: {said}}}}}"))
}

fn http(said: &str) -> Client {
    policy(&format!("{{connectionPool: {{http: {said}}}}}"))
}

#[test]
fn limits() {
    check_each(
        Look::Settings("at most"),
        "http://b/",
        policy,
        &[
            ("there is no limit where none is said: Envoy's would be 1024", "{tls: {mode: DISABLE}}", ""),
            (
                "connections are limited",
                "{connectionPool: {tcp: {maxConnections: 100}}}",
                "at most 100 connections",
            ),
            (
                "requests that wait are limited",
                "{connectionPool: {http: {http1MaxPendingRequests: 7}}}",
                "at most 7 pending",
            ),
            (
                "requests at a time are limited",
                "{connectionPool: {http: {http2MaxRequests: 8}}}",
                "at most 8 requests",
            ),
            (
                "retries at a time are limited",
                "{connectionPool: {http: {maxRetries: 3}}}",
                "at most 3 retries",
            ),
            (
                "requests of one connection are limited",
                "{connectionPool: {http: {maxRequestsPerConnection: 1}}}",
                "at most 1 requests of a connection",
            ),
            ("a limit of 0 is none", "{connectionPool: {tcp: {maxConnections: 0}}}", ""),
        ],
    );
}

#[test]
fn lives() {
    check_each(
        Look::Settings("connects"),
        "http://b/",
        tcp,
        &[("how long connecting may take", "{connectTimeout: 3s}", "connects within 3s")],
    );
    check_each(
        Look::Settings("lives"),
        "http://b/",
        tcp,
        &[("how long a connection may live", "{maxConnectionDuration: 60s}", "lives for 60s")],
    );
    check_each(
        Look::Settings("idles"),
        "http://b/",
        policy,
        &[
            (
                "how long a connection may be idle",
                "{connectionPool: {http: {idleTimeout: 5s}}}",
                "idles for 5s",
            ),
            (
                "how long a connection may be idle TCP may say too",
                "{connectionPool: {tcp: {idleTimeout: 6s}}}",
                "idles for 6s",
            ),
            (
                "of two times to be idle the one of HTTP wins",
                "{connectionPool: {tcp: {idleTimeout: 6s}, http: {idleTimeout: 5s}}}",
                "idles for 5s",
            ),
        ],
    );
}

#[test]
fn keepalive() {
    check_each(
        Look::Settings("keeps"),
        "http://b/",
        tcp,
        &[
            ("the kernel probes nothing by itself", "{}", ""),
            (
                "the kernel probes if it is told to",
                "{tcpKeepalive: {probes: 3, time: 7200s, interval: 75s}}",
                "keeps alive 3 probes after 7200s every 75s",
            ),
            (
                "what is not said of probes is the kernel's",
                "{tcpKeepalive: {time: 60s}}",
                "keeps alive after 60s",
            ),
        ],
    );
}

#[test]
fn protocols() {
    check_each(
        Look::Settings("speaks"),
        "http://b/",
        http,
        &[
            ("HTTP/1.1 needs no word", "{}", ""),
            ("UPGRADE makes HTTP/1.1 HTTP/2", "{h2UpgradePolicy: UPGRADE}", "speaks HTTP/2"),
            ("DO_NOT_UPGRADE leaves HTTP/1.1", "{h2UpgradePolicy: DO_NOT_UPGRADE}", ""),
            ("what the client speaks is spoken on", "{useClientProtocol: true}", "speaks as its client"),
        ],
    );
    check_each(
        Look::Settings("speaks"),
        "http://rpc:90/",
        |said| ruled("rpc", &format!("trafficPolicy: {{connectionPool: {{http: {said}}}}}")),
        &[
            ("a port of gRPC speaks HTTP/2", "{}", "speaks HTTP/2"),
            (
                "a port of gRPC speaks HTTP/2 whatever is said of upgrades",
                "{h2UpgradePolicy: DO_NOT_UPGRADE}",
                "speaks HTTP/2",
            ),
        ],
    );
    check_each(
        Look::Settings("at most"),
        "http://rpc:90/",
        |said| ruled("rpc", &format!("trafficPolicy: {{connectionPool: {{http: {said}}}}}")),
        &[("streams of one connection are limited", "{maxConcurrentStreams: 9}", "at most 9 streams")],
    );
}

#[test]
fn outliers() {
    check_each(
        Look::Settings("ejects"),
        "http://b/",
        |said| policy(&format!("{{outlierDetection: {said}}}")),
        &[
            (
                "endpoints are ejected after errors in a row",
                "{consecutive5xxErrors: 7}",
                "ejects after 7 5xx",
            ),
            (
                "endpoints are ejected after errors of the gateway's kind",
                "{consecutiveGatewayErrors: 3}",
                "ejects after 3 gateway errors",
            ),
            ("a number of 0 turns a count off", "{consecutive5xxErrors: 0}", "ejects never for 5xx"),
            (
                "endpoints are ejected so often, for so long, so many",
                "{consecutive5xxErrors: 7, interval: 5s, baseEjectionTime: 60s, maxEjectionPercent: 50}",
                "ejects after 7 5xx; ejects every 5s; ejects for 60s; ejects at most 50%",
            ),
            (
                "errors of our own making count apart if asked for",
                "{splitExternalLocalOriginErrors: true, consecutiveLocalOriginFailures: 4}",
                "ejects after 4 local errors",
            ),
        ],
    );
}

#[test]
fn outliers_kinds() {
    check_each(
        Look::Settings("panics"),
        "http://b/",
        policy,
        &[
            (
                "endpoints that are bad are never used for want of others",
                "{tls: {mode: DISABLE}}",
                "panics below 0%",
            ),
            (
                "bad endpoints are used where fewer than a share are left, if that is said",
                "{outlierDetection: {consecutive5xxErrors: 5, minHealthPercent: 40}}",
                "panics below 40%",
            ),
        ],
    );
}

#[test]
fn retry_budget() {
    check_each(
        Look::Settings("retries"),
        "http://b/",
        |said| policy(&format!("{{retryBudget: {said}}}")),
        &[
            ("retries may be a fifth of the requests", "{}", "retries 20% at least 3"),
            (
                "retries may be another share of the requests",
                "{percent: 50, minRetryConcurrency: 9}",
                "retries 50% at least 9",
            ),
        ],
    );
}

#[test]
fn bytes() {
    check_each(
        Look::Policy(""),
        "tcp://b:81",
        tcp,
        &[
            ("a listener closes idle connections of bytes", "{idleTimeout: 6s}", "idle 6s"),
            (
                "a listener closes old connections of bytes",
                "{maxConnectionDuration: 60s}",
                "connection at most 60s",
            ),
        ],
    );
    check_each(
        Look::Settings("at most"),
        "tcp://b:81",
        tcp,
        &[("limits are for bytes too", "{maxConnections: 5}", "at most 5 connections")],
    );
}

#[test]
fn inbound() {
    let server = |said: &str| {
        let rule = object("DestinationRule", "b", &format!("host: b\ntrafficPolicy: {said}"));
        Mesh::of(services(), &rule).proxy(sidecar("10.1.0.2", "default")).arriving()
    };
    check_each(
        Look::Settings("at most"),
        "http://b:80/",
        server,
        &[(
            "limits hold at the server too",
            "{connectionPool: {tcp: {maxConnections: 5}}}",
            "at most 5 connections",
        )],
    );
    check_each(
        Look::Upstream,
        "http://b:80/",
        server,
        &[(
            "how clients secure connections is nothing to it",
            "{tls: {mode: ISTIO_MUTUAL}}",
            "leads on to where the client wanted",
        )],
    );
}
