//! What is asked of the proxy besides: how long, how often, who else hears it, which endpoint; and what it answers itself.

use pilot_core::simulate::Trace;

use super::*;

/// Rules for host `a`, and what a call is promised.
fn promised(http: &str) -> Vec<String> {
    let trace = client(&rules_for_a(http)).ask("http://a/");
    trace.policy.iter().map(|said| short(said)).collect()
}

#[test]
fn timeout() {
    for (said, expected) in [("timeout: 1.5s, ", "timeout 1.5s"), ("", "no timeout")] {
        let found = promised(&format!("[{{{said}{TO_B}}}]"));
        assert_eq!(found[0], expected, "{found:?}");
    }
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
