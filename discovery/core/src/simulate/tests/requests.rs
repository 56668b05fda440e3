//! Virtual hosts, routes, actions, HTTP filters. Expectations of this file were tried with Envoy 1.40, all but those of policies.

use super::*;

/// A listener of HTTP on 127.0.0.1:80 with these virtual hosts and more to say about the manager and its routes.
fn served(hosts: &str, manager: &str, routes: &str) -> ProxyConfigView {
    told(&format!(
        r#"
listeners:
- name: l
  address: {{socket_address: {{address: 127.0.0.1, port_value: 80}}}}
  filter_chains:
  - filters:
    - name: http
      typed_config:
        "@type": type.googleapis.com/envoy.extensions.filters.network.http_connection_manager.v3.HttpConnectionManager
        stat_prefix: x
        rds: {{route_config_name: r}}
        http_filters:
        - {{name: fault, typed_config: {{"@type": type.googleapis.com/envoy.extensions.filters.http.fault.v3.HTTPFault}}}}
        - {{name: cors, typed_config: {{"@type": type.googleapis.com/envoy.extensions.filters.http.cors.v3.Cors}}}}
        - {{name: router, typed_config: {{"@type": type.googleapis.com/envoy.extensions.filters.http.router.v3.Router}}}}
        {manager}
routes:
- {{name: r, virtual_hosts: [{hosts}]{routes}}}
clusters:
- {{name: up, type: ORIGINAL_DST}}
"#
    ))
}

/// One virtual host for everything, with these routes.
fn routed(routes: &str) -> ProxyConfigView {
    served(&format!("{{name: h, domains: ['*'], routes: [{routes}]}}"), "", "")
}

fn call(request: Request) -> Call {
    to(CallDirection::Gateway, "127.0.0.1:80").with_request(request)
}

fn get(path: &str) -> Call {
    call(Request::get("h", path))
}

const DIRECT: &str = "direct_response: {status: 200}";

#[test]
fn the_nearest_domain_answers() {
    let domains =
        ["*.foo.com", "*-bar.foo.com", "foo.*", "foo-*", "*o.com", "UPPER.com", "ported.com:81", "dot.com"];
    let hosts: Vec<String> = domains
        .iter()
        .map(|domain| {
            format!(
                "{{name: '{domain}', domains: ['{domain}'], routes: [{{match: {{prefix: /}}, {DIRECT}}}]}}"
            )
        })
        .collect();
    let check = |manager: &str, routes: &str, table: &[(&str, &str)]| {
        let told = served(&hosts.join(", "), manager, routes);
        for (host, expected) in table {
            let found = told.call(&call(Request::get(host, "/"))).virtual_host;
            assert_eq!(found.as_deref().unwrap_or("none"), *expected, "{host} {manager} {routes}");
        }
    };
    check(
        "",
        "",
        &[
            ("a.foo.com", "*.foo.com"),
            ("x-bar.foo.com", "*-bar.foo.com"),
            // A star stands for something.
            (".foo.com", "*o.com"),
            ("foo.com", "*o.com"),
            ("foo.x", "foo.*"),
            ("foo-x.foo.com", "*.foo.com"),
            ("foo-a", "foo-*"),
            ("foo-", "none"),
            ("foo.", "none"),
            ("upper.COM", "UPPER.com"),
            ("ported.com:81", "ported.com:81"),
            ("ported.com", "none"),
            ("dot.com.", "none"),
            ("nobody", "none"),
        ],
    );
    check(
        "",
        ", ignore_port_in_host_matching: true",
        &[
            ("ported.com:81", "none"),
            ("a.foo.com:77", "*.foo.com"),
            ("dot.com:", "dot.com"),
            ("dot.com:x", "dot.com"),
        ],
    );
    check(
        "strip_trailing_host_dot: true\n        strip_any_host_port: true",
        "",
        &[
            ("dot.com.", "dot.com"),
            ("dot.com.:80", "dot.com"),
            ("dot.com:80", "dot.com"),
            ("dot.com:x", "none"),
        ],
    );
    check("strip_matching_host_port: true", "", &[("dot.com:80", "dot.com"), ("dot.com:81", "none")]);
    check("", ", vhost_header: x-host", &[("dot.com", "none")]);
    let told = served(&hosts.join(", "), "", ", vhost_header: x-host");
    let found = told.call(&call(Request::get("nobody", "/").with("x-host", "dot.com"))).virtual_host;
    assert_eq!(found.as_deref(), Some("dot.com"));
}

#[test]
fn the_first_route_that_matches_counts() {
    let told = routed(&format!(
        "{{name: one, match: {{prefix: /a, headers: [{{name: x, string_match: {{exact: '1'}}}}]}}, {DIRECT}}}, \
         {{name: two, match: {{prefix: /a}}, {DIRECT}}}, {{name: three, match: {{prefix: /}}, {DIRECT}}}"
    ));
    let route = |request| told.call(&call(request)).route.unwrap().name;
    assert_eq!(route(Request::get("h", "/ab").with("X", "1")), "one");
    assert_eq!(route(Request::get("h", "/ab")), "two");
    assert_eq!(route(Request::get("h", "/b")), "three");
    assert_eq!(end(&routed(""), &get("/")), "404");
}

/// Checks if a route with this condition is selected.
fn matches(wanted: &str, request: Request) -> bool {
    let told = routed(&format!("{{match: {{{wanted}}}, {DIRECT}}}"));
    end(&told, &call(request)) == "200"
}

#[test]
fn paths() {
    let check = |wanted: &str, yes: &[&str], no: &[&str]| {
        for (paths, expected) in [(yes, true), (no, false)] {
            for path in paths {
                assert_eq!(matches(wanted, Request::get("h", path)), expected, "{wanted} {path}");
            }
        }
    };
    check("path: /a", &["/a", "/a?x"], &["/A", "/a/b", "/ab", "/a;x"]);
    check("path: /a, case_sensitive: false", &["/a", "/A", "/a?b"], &["/a/b"]);
    check("prefix: /a", &["/a", "/a?x", "/a/b", "/ab"], &["/A", "/"]);
    check("prefix: '/a?b'", &[], &["/a?b"]);
    check("path_separated_prefix: /a", &["/a", "/a?x", "/a/b"], &["/A", "/ab", "/a12?x", "/a;x"]);
    check("path_separated_prefix: /a, case_sensitive: false", &["/A/b"], &["/ab"]);
    check("safe_regex: {regex: '/a\\d+'}", &["/a12", "/a12?x"], &["/a", "/a12/", "/x/a12"]);
    check("safe_regex: {regex: /a}, case_sensitive: false", &["/a"], &["/A"]);
    check("connect_matcher: {}", &[], &["/"]);
}

#[test]
fn headers() {
    let check = |wanted: &str, table: [bool; 5]| {
        let wanted = format!("prefix: /, headers: [{{name: X, {wanted}}}]");
        for (value, expected) in [None, Some("1"), Some(""), Some("abc"), Some("ABC")].into_iter().zip(table)
        {
            let request = Request::get("h", "/");
            let request = match value {
                Some(value) => request.with("x", value),
                None => request,
            };
            assert_eq!(matches(&wanted, request), expected, "{wanted} {value:?}");
        }
    };
    //                                                                     none   1      empty  abc    ABC
    check("string_match: {exact: '1'}", [false, true, false, false, false]);
    check("string_match: {exact: '1'}, invert_match: true", [false, false, true, true, true]);
    check(
        "string_match: {exact: '1'}, invert_match: true, treat_missing_header_as_empty: true",
        [true, false, true, true, true],
    );
    check("string_match: {exact: ''}", [false, false, true, false, false]);
    check(
        "string_match: {exact: ''}, treat_missing_header_as_empty: true",
        [true, false, true, false, false],
    );
    check("string_match: {prefix: ab}", [false, false, false, true, false]);
    check("string_match: {suffix: bc, ignore_case: true}", [false, false, false, true, true]);
    check("string_match: {contains: B, ignore_case: true}", [false, false, false, true, true]);
    check("string_match: {safe_regex: {regex: a.c}}", [false, false, false, true, false]);
    check("range_match: {start: 0, end: 10}", [false, true, false, false, false]);
    check("range_match: {start: 0, end: 1}", [false, false, false, false, false]);
    check("range_match: {start: 0, end: 10}, invert_match: true", [false, false, true, true, true]);
    check(
        "range_match: {start: 0, end: 10}, invert_match: true, treat_missing_header_as_empty: true",
        [true, false, true, true, true],
    );
    check("present_match: true", [false, true, true, true, true]);
    check("present_match: false", [true, false, false, false, false]);
    check("present_match: true, invert_match: true", [true, false, false, false, false]);
    check("present_match: false, invert_match: true", [false, true, true, true, true]);
    check("present_match: true, treat_missing_header_as_empty: true", [true, true, true, true, true]);
    check("present_match: false, treat_missing_header_as_empty: true", [false; 5]);
    check("invert_match: false", [false, true, true, true, true]);
    check("exact_match: ''", [false, true, true, true, true]);
    check("exact_match: abc", [false, false, false, true, false]);
    check("prefix_match: A", [false, false, false, false, true]);
    check("suffix_match: c", [false, false, false, true, false]);
    check("contains_match: b", [false, false, false, true, false]);
    check("safe_regex_match: {regex: '[a-z]+'}", [false, false, false, true, false]);

    let several = Request::get("h", "/").with("x", "a").with("x", "b");
    assert!(matches("prefix: /, headers: [{name: x, string_match: {exact: 'a,b'}}]", several));
    for (name, value) in
        [(":method", "GET"), (":authority", "h"), ("host", "h"), (":path", "/p?q"), (":scheme", "http")]
    {
        let wanted = format!("prefix: /, headers: [{{name: '{name}', string_match: {{exact: '{value}'}}}}]");
        assert!(matches(&wanted, Request::get("h", "/p?q")), "{name}");
    }
}

#[test]
fn query_parameters() {
    let check = |wanted: &str, yes: &[&str], no: &[&str]| {
        let wanted = format!("prefix: /, query_parameters: [{{name: q, {wanted}}}]");
        for (paths, expected) in [(yes, true), (no, false)] {
            for path in paths {
                assert_eq!(matches(&wanted, Request::get("h", path)), expected, "{wanted} {path}");
            }
        }
    };
    // Nothing is unescaped, and the first of several counts.
    check("string_match: {exact: a b}", &[], &["/?q=a%20b", "/?q=a+b"]);
    check("string_match: {exact: 'a%20b'}", &["/?q=a%20b"], &["/?q=a+b"]);
    check("string_match: {exact: '1'}", &["/?q=1&q=2", "/?x=1&q=1"], &["/", "/?Q=1"]);
    check("string_match: {exact: '2'}", &[], &["/?q=1&q=2"]);
    check("string_match: {exact: ''}", &["/?q", "/?q="], &["/", "/?q=1"]);
    check("present_match: true", &["/?q", "/?a&q=1"], &["/", "/?a"]);
    check("present_match: false", &["/", "/?Q=1"], &["/?q"]);
}

#[test]
fn other_criteria() {
    let plain = || Request::get("h", "/");
    let grpc = "prefix: /, grpc: {}";
    assert!(matches(grpc, plain().with("content-type", "application/grpc")));
    assert!(matches(grpc, plain().with("content-type", "application/grpc+proto")));
    assert!(!matches(grpc, plain().with("content-type", "application/grpc-web")));
    assert!(!matches(grpc, plain()));
    assert!(!matches("prefix: /, runtime_fraction: {default_value: {numerator: 0}}", plain()));
    assert!(matches(
        "prefix: /, runtime_fraction: {default_value: {numerator: 1, denominator: MILLION}}",
        plain()
    ));
    let metadata = "prefix: /, dynamic_metadata: [{filter: f, path: [{key: k}], value: {present_match: true}";
    assert!(!matches(&format!("{metadata}}}]"), plain()));
    assert!(matches(&format!("{metadata}, invert: true}}]"), plain()));
    assert!(!matches("prefix: /, tls_context: {presented: true}", plain()));
    assert!(matches("prefix: /, tls_context: {presented: false}", plain()));
}

#[test]
fn rewrites() {
    let check = |wanted: &str, action: &str, path: &str, expected: &str| {
        let told = routed(&format!("{{match: {{{wanted}}}, route: {{cluster: up, {action}}}}}"));
        let trace = told.call(&call(Request::get("h", path).with("x", "hdr")));
        let request = trace.request().unwrap();
        assert_eq!(format!("{} {}", request.authority, request.path), expected, "{wanted} {action}");
    };
    check("prefix: /a/", "prefix_rewrite: /", "/a/b?x", "h /b?x");
    check("prefix: /a", "prefix_rewrite: /b", "/a/b", "h /b/b");
    check("prefix: /a", "prefix_rewrite: /b", "/ab", "h /bb");
    check("path: /a", "prefix_rewrite: /b", "/a?x", "h /b?x");
    check("prefix: /aA, case_sensitive: false", "prefix_rewrite: /b", "/aa/c", "h /b/c");
    check("safe_regex: {regex: /a.*}", "prefix_rewrite: /b", "/abc?x", "h /b?x");
    check("path_separated_prefix: /a", "prefix_rewrite: /b", "/a/c?d", "h /b/c?d");
    check(
        "prefix: /",
        r"regex_rewrite: {pattern: {regex: '/a(.)'}, substitution: '/\1x\0\\'}",
        "/ab/ac?/ad",
        r"h /bx/ab\/cx/ac\?/ad",
    );
    check("prefix: /", "host_rewrite_literal: n.com", "/", "n.com /");
    check("prefix: /", "host_rewrite_header: x", "/", "hdr /");
    check("prefix: /", "host_rewrite_header: none", "/", "h /");
    check(
        "prefix: /",
        r"host_rewrite_path_regex: {pattern: {regex: '^/(.+)/.+$'}, substitution: '\1'}",
        "/one/two?/x/y",
        "one /one/two?/x/y",
    );
    let told = routed(
        "{match: {prefix: /}, route: {cluster: up, host_rewrite_literal: n.com, append_x_forwarded_host: true}}",
    );
    let trace = told.call(&get("/"));
    assert_eq!(trace.request().unwrap().header("x-forwarded-host").as_deref(), Some("h"));
}

#[test]
fn redirects() {
    let check = |wanted: &str, action: &str, host: &str, path: &str, expected: &str| {
        let told = routed(&format!("{{match: {{{wanted}}}, redirect: {{{action}}}}}"));
        assert_eq!(end(&told, &call(Request::get(host, path))), expected, "{action} {host} {path}");
        told
    };
    let all = "prefix: /";
    check(all, "https_redirect: true", "h", "/a/b?x=1", "301 https://h/a/b?x=1");
    check(all, "https_redirect: true", "h:80", "/", "301 https://h/");
    check(all, "https_redirect: true", "h:8080", "/", "301 https://h:8080/");
    check(all, "https_redirect: true, port_redirect: 443", "h:80", "/", "301 https://h:443/");
    check(all, "host_redirect: n.com", "h:8080", "/a?x", "301 http://n.com/a?x");
    check(all, "host_redirect: n.com, port_redirect: 81", "h", "/a", "301 http://n.com:81/a");
    check(all, "port_redirect: 8080", "h:80", "/a", "301 http://h:8080/a");
    check(all, "port_redirect: 8080", "[fd00::1]:80", "/a", "301 http://[fd00::1]:8080/a");
    check(all, "path_redirect: /new", "h", "/a?x=1", "301 http://h/new?x=1");
    check(all, "path_redirect: /new", "h:80", "/a", "301 http://h:80/new");
    check(all, "path_redirect: '/new?z=1', strip_query: true", "h", "/a?x", "301 http://h/new?z=1");
    check(all, "path_redirect: /new, strip_query: true", "h", "/a?x", "301 http://h/new");
    check(all, "host_redirect: n.com, strip_query: true", "h", "/a?x", "301 http://n.com/a");
    check("prefix: /a/", "prefix_rewrite: /b/", "h", "/a/b?x=1", "301 http://h/b/b?x=1");
    check("prefix: /a/", "prefix_rewrite: /b/, strip_query: true", "h", "/a/b?x=1", "301 http://h/b/b");
    check(all, "regex_rewrite: {pattern: {regex: a}, substitution: b}", "h", "/a?a", "301 http://h/b?a");
    check("path: /a", "prefix_rewrite: /b", "h", "/a", "301 http://h/b");
    for (code, status) in
        [("FOUND", 302), ("SEE_OTHER", 303), ("TEMPORARY_REDIRECT", 307), ("PERMANENT_REDIRECT", 308)]
    {
        check(all, &format!("response_code: {code}"), "h", "/", &format!("{status} http://h/"));
    }
    let told = check(all, "scheme_redirect: http", "h", "/", "301 http://h/");
    let secure = Request::get("h:443", "/").with("x-forwarded-proto", "https");
    assert_eq!(end(&told, &call(secure)), "301 http://h/");
}

#[test]
fn a_host_may_want_tls() {
    let told = served(
        &format!(
            "{{name: h, domains: ['*'], require_tls: ALL, routes: [{{match: {{prefix: /}}, {DIRECT}}}]}}"
        ),
        "",
        "",
    );
    assert_eq!(told.call(&call(Request::get("h:80", "/x?y"))).to_string(), "l [h] 301 https://h:80/x?y");
    assert_eq!(end(&told, &call(Request::get("h", "/").with("x-forwarded-proto", "https"))), "200");
}

#[test]
fn headers_change_from_the_most_specific_on() {
    let hosts = "{name: h, domains: ['*'], \
         request_headers_to_add: [{header: {key: x, value: host}}, {header: {key: w, value: host}, append_action: OVERWRITE_IF_EXISTS_OR_ADD}], \
         routes: [{match: {prefix: /}, route: {weighted_clusters: {clusters: [{name: up, weight: 1, \
           request_headers_to_add: [{header: {key: x, value: cluster}}], request_headers_to_remove: [YY]}]}}, \
           request_headers_to_add: [{header: {key: x, value: route}}, {header: {key: yy, value: route}, append_action: ADD_IF_ABSENT}, \
             {header: {key: z, value: route}, append_action: OVERWRITE_IF_EXISTS}, {header: {key: e, value: ''}}, \
             {header: {key: k, value: ''}, keep_empty_value: true}, {header: {key: v, value: route}, append: false}]}]}";
    let check = |routes: &str, request: Request, expected: &[(&str, &str)]| {
        let trace = served(hosts, "", routes).call(&call(request));
        let headers: Vec<(&str, &str)> =
            trace.request().unwrap().headers.iter().map(|(name, value)| (&**name, &**value)).collect();
        assert_eq!(headers, expected, "{routes}");
    };
    let sent = || Request::get("h", "/").with("x", "0").with("yy", "0").with("w", "0").with("v", "0");
    check(
        "",
        sent(),
        &[
            ("x", "0"),
            ("x", "cluster"),
            ("x", "route"),
            ("yy", "route"),
            ("k", ""),
            ("v", "route"),
            ("x", "host"),
            ("w", "host"),
        ],
    );
    check(
        ", most_specific_header_mutations_wins: true",
        sent(),
        &[
            ("x", "0"),
            ("x", "cluster"),
            ("x", "host"),
            ("w", "host"),
            ("x", "route"),
            ("yy", "route"),
            ("k", ""),
            ("v", "route"),
        ],
    );
    let trace = served(hosts, "", "").call(&call(Request::get("h", "/").with("z", "0")));
    assert_eq!(trace.request().unwrap().header("z").as_deref(), Some("route"));
}

#[test]
fn traffic_is_split_and_led_by_headers() {
    let split = routed(
        "{match: {prefix: /}, route: {weighted_clusters: {clusters: [{name: up, weight: 79}, {name: none, weight: 21}, {name: zero, weight: 0}]}}}",
    );
    assert_eq!(split.call(&get("/")).to_string(), "l [h] 79% up + 21% none (missing)");
    assert!(split.call(&get("/")).reaches());
    let thirds = routed(
        "{match: {prefix: /}, route: {weighted_clusters: {clusters: [{name: up, weight: 1}, {name: up, weight: 2}]}}}",
    );
    assert_eq!(end(&thirds, &get("/")), "33.33% up + 66.66% up");
    let led = routed("{match: {prefix: /}, route: {cluster_header: x}}");
    assert_eq!(end(&led, &call(Request::get("h", "/").with("x", "up"))), "up");
    let nowhere = led.call(&get("/"));
    assert_eq!(nowhere.verdict.to_string(), " (missing)");
    assert!(!nowhere.reaches());
}

#[test]
fn faults_end_what_they_hit_always() {
    let fault = |more: &str| {
        format!(
            "typed_per_filter_config: {{fault: {{'@type': type.googleapis.com/envoy.extensions.filters.http.fault.v3.HTTPFault, {more}}}}}"
        )
    };
    let with =
        |action: &str, more: &str| routed(&format!("{{match: {{prefix: /}}, {action}, {}}}", fault(more)));
    let all = "percentage: {numerator: 100}";
    let abort = format!("abort: {{http_status: 555, {all}}}");
    assert_eq!(end(&with("redirect: {host_redirect: x}", &abort), &get("/")), "555 (fault)");
    assert_eq!(end(&with(DIRECT, &format!("abort: {{grpc_status: 14, {all}}}")), &get("/")), "200 (fault)");
    let half = with("route: {cluster: up}", "abort: {http_status: 503, percentage: {numerator: 50}}");
    assert_eq!(end(&half, &get("/")), "up");
    assert_eq!(half.call(&get("/")).said(Stage::HttpFilter), ["fault aborts 50% with 503"]);
    let delay = with(
        "route: {cluster: up}",
        "delay: {fixed_delay: 1.5s, percentage: {numerator: 1, denominator: TEN_THOUSAND}}",
    );
    assert_eq!(delay.call(&get("/")).said(Stage::HttpFilter), ["fault delays 0.01% by 1.5s"]);
    let some = with("route: {cluster: up}", &format!("{abort}, headers: [{{name: x, present_match: true}}]"));
    assert_eq!(end(&some, &get("/")), "up");
    assert_eq!(end(&some, &call(Request::get("h", "/").with("x", ""))), "555 (fault)");
    let other = with("route: {cluster: up}", &format!("{abort}, upstream_cluster: other"));
    assert_eq!(end(&other, &get("/")), "up");
    let none = with("route: {cluster: up}", "abort: {http_status: 503}");
    assert_eq!(end(&none, &get("/")), "up");
}

#[test]
fn the_most_specific_place_configures_a_filter() {
    let kind = "'@type': type.googleapis.com/envoy.extensions.filters.http.fault.v3.HTTPFault";
    let abort =
        |status: u16| format!("{{{kind}, abort: {{http_status: {status}, percentage: {{numerator: 100}}}}}}");
    let off = "{'@type': type.googleapis.com/envoy.config.route.v3.FilterConfig, disabled: true}";
    let place = |config: &str| format!(", typed_per_filter_config: {{fault: {config}}}");
    let check = |of_route: &str, of_host: &str, expected: &str| {
        let hosts = format!(
            "{{name: h, domains: ['*']{of_host}, routes: [{{match: {{prefix: /}}, {DIRECT}{of_route}}}]}}"
        );
        assert_eq!(end(&served(&hosts, "", &place(&abort(503))), &get("/")), expected);
    };
    check("", "", "503 (fault)");
    check("", &place(&abort(502)), "502 (fault)");
    check(&place(&abort(501)), &place(&abort(502)), "501 (fault)");
    check(&place(off), &place(&abort(502)), "200");
    let wrapped = format!(
        "{{'@type': type.googleapis.com/envoy.config.route.v3.FilterConfig, config: {}}}",
        abort(500)
    );
    check(&place(&wrapped), "", "500 (fault)");
}

#[test]
fn preflights_are_answered_for_origins_that_are_allowed() {
    let policy = |more: &str| {
        format!(
            "typed_per_filter_config: {{cors: {{'@type': type.googleapis.com/envoy.extensions.filters.http.cors.v3.CorsPolicy, \
             allow_origin_string_match: [{{exact: 'http://o'}}]{more}}}}}"
        )
    };
    let with =
        |action: &str, more: &str| routed(&format!("{{match: {{prefix: /}}, {action}, {}}}", policy(more)));
    let options = |origin: &str| Request::get("h", "/").method("OPTIONS").with("origin", origin);
    let preflight = |origin: &str| call(options(origin).with("access-control-request-method", "GET"));
    let forwards = with("route: {cluster: up}", "");
    let turns_away = with("route: {cluster: up}", ", forward_not_matching_preflights: false");
    let off = with("route: {cluster: up}", ", filter_enabled: {default_value: {numerator: 0}}");
    for (told, request, expected) in [
        (&forwards, preflight("http://o"), "200 (preflight)"),
        (&forwards, preflight("http://p"), "up"),
        (&forwards, call(options("http://o")), "up"),
        (&forwards, get("/"), "up"),
        (&turns_away, preflight("http://p"), "200 (preflight)"),
        (&off, preflight("http://o"), "up"),
        // Only routes that forward have a policy.
        (&with(DIRECT, ""), preflight("http://o"), "200"),
    ] {
        assert_eq!(end(told, &request), expected, "{request:?}");
    }
}

#[test]
fn requests_must_be_what_is_read() {
    let hosts = format!("{{name: h, domains: ['*'], routes: [{{match: {{prefix: /}}, {DIRECT}}}]}}");
    let http = |version| call(Request::get("h", "/").version(version));
    let bytes = to(CallDirection::Gateway, "127.0.0.1:80");
    let auto = served(&hosts, "", "");
    let first =
        served(&hosts, "codec_type: HTTP1\n        http_protocol_options: {accept_http_10: true}", "");
    let second = served(&hosts, "codec_type: HTTP2", "");
    for (told, call, expected) in [
        (&auto, bytes.clone(), "400"),
        (&auto, bytes.clone().tls("a"), "400"),
        (&auto, http(Version::Http2), "200"),
        (&auto, http(Version::Http10), "426"),
        (&auto, call(Request::get("", "/")), "400"),
        (&auto, get("/x#y"), "400"),
        (&first, http(Version::Http10), "200"),
        (&first, http(Version::Http2), "400"),
        (&second, http(Version::Http11), "closed"),
        (&second, bytes, "closed"),
        (&second, http(Version::Http2), "200"),
    ] {
        assert_eq!(end(told, &call), expected, "{call:?}");
    }
}

#[test]
fn paths_are_made_normal_before_they_are_matched() {
    let hosts = "{name: h, domains: ['*'], routes: [{match: {prefix: /}, route: {cluster: up}}]}";
    let check = |manager: &str, path: &str, expected: &str| {
        let trace = served(hosts, manager, "").call(&get(path));
        let found = trace.request().map_or_else(|| trace.verdict.to_string(), |request| request.path.clone());
        assert_eq!(found, expected, "{manager} {path}");
    };
    check("", "/a/../b//c", "/a/../b//c");
    check("normalize_path: true", "/a/../b//c?/../d", "/b//c?/../d");
    check("normalize_path: true", "/a%00", "400");
    let strict =
        "normalize_path: true\n        merge_slashes: true\n        path_with_escaped_slashes_action: ";
    check(&format!("{strict}KEEP_UNCHANGED"), "/a%2Fb//c", "/a%2Fb/c");
    check(&format!("{strict}REJECT_REQUEST"), "/a%2Fb", "400");
    check(&format!("{strict}UNESCAPE_AND_FORWARD"), "/a%2f..%5cb", "/b");
    check(&format!("{strict}UNESCAPE_AND_REDIRECT"), "/a%2F%2Fb", "307 /a/b");
    check(&format!("{strict}UNESCAPE_AND_REDIRECT"), "/a", "/a");
}

#[test]
fn what_a_route_asks_for_besides_is_told() {
    let check = |action: &str, expected: &[&str]| {
        let told = routed(&format!("{{match: {{prefix: /}}, route: {{cluster: up, {action}}}}}"));
        assert_eq!(told.call(&get("/")).policy, expected, "{action}");
    };
    check("timeout: 0s", &["no timeout"]);
    check("max_stream_duration: {max_stream_duration: 0s}", &[]);
    check("max_stream_duration: {max_stream_duration: 9s}", &["stream at most 9s"]);
    check("timeout: 2.5s", &["timeout 2.5s"]);
    check(
        "retry_policy: {retry_on: '5xx,reset', num_retries: 3, per_try_timeout: 2s, retriable_status_codes: [503], \
         retry_back_off: {base_interval: 0.025s}, retry_host_predicate: [{name: envoy.retry_host_predicates.previous_hosts}]}",
        &["retry 3 on 5xx,reset status 503 each 2s after 0.025s previous_hosts"],
    );
    check(
        "request_mirror_policies: [{cluster: a}, {cluster: b, runtime_fraction: {default_value: {numerator: 5000, denominator: TEN_THOUSAND}}}]",
        &["mirror 100% a", "mirror 50% b"],
    );
    check(
        "hash_policy: [{header: {header_name: x}, terminal: true}, {cookie: {name: c, path: /p, ttl: 1s}}, \
         {connection_properties: {source_ip: true}}, {query_parameter: {name: q}}]",
        &["hash header x terminal", "hash cookie c/p 1s", "hash source", "hash parameter q"],
    );
    check("upgrade_configs: [{upgrade_type: websocket}]", &["upgrade websocket"]);
}
