use super::*;

fn service(value: &Value, expected: &[&str]) {
    check(ConfigKind::VirtualService, value, expected);
}

/// One rule for requests, in an object that is right otherwise.
fn route(rule: &Value, expected: &[&str]) {
    let mut rule = rule.clone();
    let ends = ["route", "redirect", "directResponse", "delegate"];
    if ends.iter().all(|end| rule.get(end).is_none()) {
        rule["route"] = json!([{"destination": {"host": "a"}}]);
    }
    service(&json!({"hosts": ["a"], "http": [rule]}), expected);
}

#[test]
fn an_object_is_for_hosts_that_it_can_be_for() {
    let to_a = json!([{"route": [{"destination": {"host": "a"}}]}]);
    for (value, expected) in [
        (json!({"hosts": ["a", "b.c", "*.d", "10.0.0.1"], "http": to_a}), &[][..]),
        (json!({"hosts": ["*"], "gateways": ["g"], "http": to_a}), &[]),
        (json!({"hosts": ["*"], "http": to_a}), &["spec.hosts[0]: \"*\" is for gateways alone"]),
        (json!({"hosts": ["*"], "gateways": ["g", "mesh"], "http": to_a}), &["spec.hosts[0]: \"*\" is for"]),
        (json!({"hosts": ["a_b"], "http": to_a}), &["spec.hosts[0]: \"a_b\" is no host name"]),
        (
            json!({"hosts": ["a.b", "c", "*.b"], "http": to_a}),
            &["spec.hosts[2]: \"*.b\" overlaps with \"a.b\""],
        ),
        (json!({"hosts": ["a", "a"], "http": to_a}), &["spec.hosts[1]: \"a\" overlaps with \"a\""]),
        (json!({"hosts": ["a"]}), &["spec: needs http, tls or tcp"]),
        (json!({"http": to_a}), &[]),
        (json!({"http": to_a, "gateways": ["g"]}), &["spec.gateways: is not for an object without hosts"]),
        (
            json!({"hosts": ["a"], "http": to_a, "exportTo": ["*", "."]}),
            &["spec.exportTo: \"*\" is all namespaces"],
        ),
        (
            json!({"hosts": ["a"], "http": to_a, "exportTo": ["default", "."]}),
            &["spec.exportTo[1]: \"default\" is"],
        ),
        (json!({"hosts": ["a"], "http": to_a, "exportTo": ["~"]}), &["spec.exportTo[0]: only services"]),
        (json!({"hosts": ["a"], "http": to_a, "gateways": ["n/g", "mesh"]}), &[]),
        (json!({"hosts": ["a"], "http": to_a, "gateways": ["n/"]}), &["spec.gateways[0]: is missing"]),
        (
            json!({"hosts": ["a"], "http": to_a, "gateways": ["g.n.svc"]}),
            &["warning spec.gateways[0]: the form n/g"],
        ),
        (json!({"hosts": ["a"], "http": to_a, "gateways": ["g_"]}), &["spec.gateways[0]: \"g_\" is no name"]),
    ] {
        service(&value, expected);
    }
}

#[test]
fn a_request_comes_to_one_end() {
    for (rule, expected) in [
        (json!({"redirect": {"uri": "/b"}}), &[][..]),
        (json!({"directResponse": {"status": 503, "body": {"string": "no"}}}), &[]),
        (json!({"delegate": {"name": "d"}}), &[]),
        (json!({"route": []}), &["spec.http[0]: needs one of route, redirect, directResponse"]),
        (
            json!({"redirect": {"uri": "/b"}, "directResponse": {"status": 200}, "fault": {"delay": {"fixedDelay": "1s"}}}),
            &["spec.http[0]: has redirect and directResponse", "spec.http[0].fault: excludes redirect"],
        ),
        (
            json!({"delegate": {"name": "d"}, "redirect": {"uri": "/"}}),
            &["spec.http[0].redirect: excludes delegate"],
        ),
        (
            json!({"mirror": {"host": "b"}, "mirrors": [{"destination": {"host": "c"}}]}),
            &["spec.http[0]: has mirror and mirrors"],
        ),
        (
            json!({"route": [{"destination": {"host": "a"}, "weight": 0}, {"destination": {"host": "b"}}]}),
            &["spec.http[0].route: the sum of the weights is 0"],
        ),
        (
            json!({"route": [{"weight": -1}, {"destination": {"host": "*", "subset": "A.b", "port": {"number": 0}}, "weight": 2}]}),
            &[
                "spec.http[0].route[0].destination: is missing",
                "spec.http[0].route[0].weight: -1 is less than 0",
                "spec.http[0].route[1].destination.host: \"*\" is no destination",
                "spec.http[0].route[1].destination.subset: \"A.b\" is not a single DNS label",
                "spec.http[0].route[1].destination.port.number: 0 is no port",
            ],
        ),
        (json!({"route": [{"destination": {}}]}), &["spec.http[0].route[0].destination.host: is missing"]),
        (json!({"timeout": "0s"}), &["spec.http[0].timeout: 0ns is too short"]),
        (json!({"timeout": "1.5s"}), &[]),
        (json!({"timeout": "0.0015s"}), &["spec.http[0].timeout: 1.5ms is no whole number"]),
    ] {
        route(&rule, expected);
    }
    service(
        &json!({"http": [{"delegate": {"name": "d"}}]}),
        &["spec.http[0].delegate: an object that is delegated to does not"],
    );
}

#[test]
fn matches_are_of_what_can_be_matched() {
    for (rule, expected) in [
        (json!({"uri": {"prefix": ""}, "headers": {"x": {}, ":method": {"exact": "GET"}}}), &[][..]),
        (json!({"withoutHeaders": {"x": {"regex": "*"}}}), &[]),
        (
            json!({"uri": {"regex": "a("}}),
            &["spec.http[0].match[0].uri.regex: \"a(\" is no regular expression: unclosed group"],
        ),
        (json!({"uri": {"regex": ""}}), &["spec.http[0].match[0].uri.regex: an empty expression"]),
        (json!({"method": {"prefix": ""}}), &["spec.http[0].match[0].method.prefix: an empty prefix"]),
        (
            json!({"headers": {"x y": {"regex": "(?=a)"}}}),
            &[
                "spec.http[0].match[0].headers.x y: \"x y\" is no name",
                "spec.http[0].match[0].headers.x y.regex: \"(?=a)\" is no regular expression",
            ],
        ),
        (
            json!({"queryParams": {"q": {"regex": "x".repeat(1025)}}}),
            &["spec.http[0].match[0].queryParams.q.regex: is 1025"],
        ),
        (
            json!({"port": 70000, "sourceNamespace": "a.b", "sourceLabels": {"a/b/c": "d e"}}),
            &[
                "spec.http[0].match[0].port: 70000 is no port",
                "spec.http[0].match[0].sourceLabels: \"a/b/c\" is no name",
                "spec.http[0].match[0].sourceLabels.a/b/c: \"d e\" is no value",
                "spec.http[0].match[0].sourceNamespace: \"a.b\" is no namespace",
            ],
        ),
        (
            json!({"headers": {"@request.auth.claims.a": {"exact": "b"}}}),
            &["spec.http[0].match[0].headers.@request.auth.claims.a: claims of JWTs are for gateways alone"],
        ),
    ] {
        route(&json!({"match": [rule]}), expected);
    }
    let claims = json!([{"match": [{"headers": {"@request.auth.claims.a": {"exact": "b"}}}], "redirect": {"uri": "/"}}]);
    service(&json!({"hosts": ["a"], "gateways": ["g"], "http": claims}), &[]);
}

#[test]
fn what_is_done_with_a_request_can_be_done() {
    let rule = |field: &str, value: Value| json!({field: value});
    for (rule, expected) in [
        (
            rule(
                "redirect",
                json!({"port": 80, "derivePort": "FROM_REQUEST_PORT", "scheme": "ftp", "redirectCode": 200}),
            ),
            &[
                "spec.http[0].redirect: has port and derivePort",
                "spec.http[0].redirect.redirectCode: 200 is no redirect",
                "spec.http[0].redirect.scheme: \"ftp\" is neither",
            ][..],
        ),
        (rule("redirect", json!({})), &["spec.http[0].redirect: leads where"]),
        (
            rule("redirect", json!({"uri": "/", "redirectCode": 304})),
            &["warning spec.http[0].redirect.redirectCode: 304"],
        ),
        (
            rule("redirect", json!({"uri": "/", "prefixRewrite": "/"})),
            &["spec.http[0].redirect: has uri and prefixRewrite"],
        ),
        (
            json!({"redirect": {"prefixRewrite": "/"}, "match": [{"uri": {"exact": "/"}}]}),
            &["spec.http[0].redirect.prefixRewrite: needs"],
        ),
        (json!({"redirect": {"prefixRewrite": "/"}, "match": [{"uri": {"prefix": "/"}}, {"port": 1}]}), &[]),
        (
            rule("directResponse", json!({"status": 600, "body": {"string": "", "bytes": "a b"}})),
            &[
                "spec.http[0].directResponse.status: 600 is no status",
                "spec.http[0].directResponse.body: has string and bytes",
                "spec.http[0].directResponse.body.bytes: is no base64",
            ],
        ),
        (
            rule("directResponse", json!({"status": 200, "body": {"string": "x".repeat(200_000)}})),
            &["warning spec.http[0].directResponse.body: is 200000"],
        ),
        (
            rule("directResponse", json!({"status": 200, "body": {"string": "x".repeat(2_000_000)}})),
            &["spec.http[0].directResponse.body: is 2000000"],
        ),
        (rule("rewrite", json!({})), &["spec.http[0].rewrite: rewrites nothing"]),
        (
            rule("rewrite", json!({"uri": "/", "uriRegexRewrite": {"match": "["}})),
            &[
                "spec.http[0].rewrite: has uri and uriRegexRewrite",
                "spec.http[0].rewrite.uriRegexRewrite.rewrite: is missing",
                "spec.http[0].rewrite.uriRegexRewrite.match: \"[\" is no regular expression",
            ],
        ),
        (rule("retries", json!({"attempts": 3, "retryOn": "5xx,503,reset", "perTryTimeout": "1s"})), &[]),
        (rule("retries", json!({"attempts": 0})), &[]),
        (rule("retries", json!({"retryOn": "5xx"})), &["spec.http[0].retries.attempts: 0 is no retries"]),
        (
            rule("retries", json!({"attempts": -1, "retryOn": "5xx, 503,599"})),
            &[
                "spec.http[0].retries.attempts: -1 is less",
                "spec.http[0].retries.retryOn: \" 503\" is neither",
                "spec.http[0].retries.retryOn: \"599\" is neither",
            ],
        ),
        (
            rule(
                "corsPolicy",
                json!({"allowOrigins": [{"exact": "x"}, {}, {"regex": "("}], "allowMethods": ["GET", "get"],
            "allowHeaders": ["*", "x y"], "maxAge": "1.5s"}),
            ),
            &[
                "spec.http[0].corsPolicy.allowOrigins[1]: allows no origin",
                "spec.http[0].corsPolicy.allowOrigins[2].regex: \"(\" is no regular",
                "spec.http[0].corsPolicy.allowMethods[1]: \"get\" is no method",
                "spec.http[0].corsPolicy.allowHeaders[1]: \"x y\" is no name",
                "spec.http[0].corsPolicy.maxAge: is a whole number",
            ],
        ),
        (
            json!({"mirror": {"host": "b"}, "mirrorPercent": 101, "mirrorPercentage": {"value": -1}}),
            &[
                "warning spec.http[0].mirrorPercent: is deprecated",
                "spec.http[0].mirrorPercent: 101 is no share",
                "spec.http[0].mirrorPercentage.value: -1 is no share",
            ],
        ),
        (
            rule("mirrors", json!([{"percentage": {"value": 100.5}}])),
            &[
                "spec.http[0].mirrors[0].destination: is missing",
                "spec.http[0].mirrors[0].percentage.value: 100.5 is no share",
            ],
        ),
        (rule("fault", json!({})), &["spec.http[0].fault: needs delay or abort"]),
        (
            rule(
                "fault",
                json!({"delay": {"fixedDelay": "1s", "percentage": {"value": 0.00001}}, "abort": {"httpStatus": 99}}),
            ),
            &[
                "spec.http[0].fault.delay.percentage.value: 0.00001 is less than",
                "spec.http[0].fault.abort.httpStatus: 99 is no status",
            ],
        ),
        (
            rule("fault", json!({"abort": {"grpcStatus": "NOT_THERE"}})),
            &["spec.http[0].fault.abort.grpcStatus: \"NOT_THERE\""],
        ),
        (
            rule("fault", json!({"abort": {"percentage": {"value": 1}}})),
            &["warning spec.http[0].fault.abort: has no effect"],
        ),
        (
            rule("fault", json!({"delay": {"exponentialDelay": "1s"}})),
            &["spec.http[0].fault.delay.exponentialDelay: no version"],
        ),
        (
            rule(
                "headers",
                json!({"request": {"set": {":authority": "x", "a": "%NOPE"}, "remove": ["host"]},
            "response": {"add": {"host": "x", ":path": "y", "": "z", "b": "c\u{1}"}}}),
            ),
            &[
                "spec.http[0].headers.request.set.a: \"%NOPE\" is no format",
                "spec.http[0].headers.request.remove[0]: the host cannot",
                "spec.http[0].headers.response.add.: a header without a name",
                "spec.http[0].headers.response.add.:path: \":path\" is a pseudo header",
                "spec.http[0].headers.response.add.b: has control characters",
                "spec.http[0].headers.response.add.host: the host cannot",
            ],
        ),
        (
            json!({"rewrite": {"authority": "a"}, "headers": {"request": {"set": {"Host": "x"}}}}),
            &["spec.http[0].headers: the host is rewritten more than once"],
        ),
    ] {
        route(&rule, expected);
    }
}

#[test]
fn connections_are_told_apart_by_what_they_show() {
    let to_a = json!([{"destination": {"host": "a"}}]);
    let tls = |hosts: Value, rule: Value, expected: &[&str]| {
        service(&json!({"hosts": hosts, "tls": [{"match": [rule], "route": to_a}]}), expected);
    };
    tls(
        json!(["*.b.c"]),
        json!({"sniHosts": ["a.b.c", "*.x.b.c"], "port": 443, "destinationSubnets": ["10.0.0.0/8"]}),
        &[],
    );
    tls(
        json!(["b.c"]),
        json!({"sniHosts": ["a.b.c"]}),
        &["spec.tls[0].match[0].sniHosts[0]: \"a.b.c\" is in none of"],
    );
    tls(
        json!(["b.c"]),
        json!({"sniHosts": ["10.0.0.1"]}),
        &["warning spec.tls[0].match[0].sniHosts[0]: an IP address"],
    );
    tls(
        json!(["b.c"]),
        json!({"sniHosts": ["b_c"]}),
        &["spec.tls[0].match[0].sniHosts[0]: \"b_c\" is no host"],
    );
    tls(
        json!(["b.c"]),
        json!({"destinationSubnets": ["10/8"]}),
        &[
            "spec.tls[0].match[0].sniHosts: is missing",
            "spec.tls[0].match[0].destinationSubnets[0]: \"10/8\" is neither",
        ],
    );
    let automatic = "outbound_.80_._.e2e.foobar.mesh";
    let through = json!([{"match": [{"sniHosts": [automatic]}], "route": to_a}]);
    service(&json!({"hosts": [automatic], "gateways": ["g"], "tls": through}), &[]);
    service(&json!({"hosts": [automatic], "tls": through}), &["spec.hosts[0]: "]);
    service(&json!({"hosts": ["a"], "tcp": [{}]}), &["spec.tcp[0].route: is missing"]);
    service(
        &json!({"hosts": ["a"], "tcp": [{"match": [{"sourceSubnet": "10.0.0.0/8"}], "route": to_a}]}),
        &["warning spec.tcp[0].match[0].sourceSubnet: is not supported yet and has no effect"],
    );
}

#[test]
fn a_rule_behind_one_that_takes_everything_is_never_used() {
    let to_a = json!([{"destination": {"host": "a"}}]);
    let rules = |matches: &[Value], expected: &[&str]| {
        let http: Vec<Value> =
            matches
                .iter()
                .map(|rule| {
                    if rule.is_null() {
                        json!({"route": to_a})
                    } else {
                        json!({"match": rule, "route": to_a})
                    }
                })
                .collect();
        service(&json!({"hosts": ["a"], "http": http}), expected);
    };
    let never = |rule: &str, by: &str| format!("warning spec.http{rule}: is never used: spec.http{by} takes");
    rules(&[json!([{"uri": {"exact": "/a"}}]), json!(null)], &[]);
    rules(&[json!(null), json!([{"port": 80}]), json!(null)], &[&never("[1]", "[0]"), &never("[2]", "[0]")]);
    let prefix = |prefix: &str| json!({"uri": {"prefix": prefix}});
    rules(&[json!([prefix("/a")]), json!([prefix("/b"), prefix("/a/b")])], &[&never("[1].match[1]", "[0]")]);
    rules(&[json!([prefix("/a/b")]), json!([prefix("/a")])], &[]);
    rules(&[json!([{"uri": {"prefix": "/"}, "ignoreUriCase": true}]), json!([prefix("/a")])], &[]);
    let method =
        |method: &str| json!([{"uri": {"prefix": "/"}, "method": {"exact": method}, "name": method}]);
    rules(&[method("GET"), method("POST"), json!([prefix("/")])], &[]);
    rules(
        &[method("GET"), json!([{"uri": {"exact": "/x"}, "method": {"exact": "GET"}, "port": 80}])],
        &[&never("[1].match[0]", "[0]")],
    );
    let tcp = json!([{"match": [{"port": 1}], "route": to_a}, {"match": [{"port": 1, "gateways": ["g"]}, {"port": 2}], "route": to_a}]);
    service(
        &json!({"hosts": ["a"], "tcp": tcp}),
        &["warning spec.tcp[1].match[0]: is never used: spec.tcp[0]"],
    );
}
